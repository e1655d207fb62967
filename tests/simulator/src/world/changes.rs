//! Changes of groups made elsewhere: by somebody whose phone or device is not under test.

use rand::RngExt as _;

use wacore_binary::builder::NodeBuilder;

use super::group::group_user;
use super::group::settings::Setting;
use super::{State, World};
use crate::SimulatorError;
use crate::groups::{Change, Notice, ParticipantChange, change_group, change_participants_by_phone, leave};
use crate::pictures;
use crate::stanza::{info, now};

impl World {
    /// `actor` adds, removes, promotes or demotes. The members' devices are notified. A refused person makes the call
    /// an error, after the others were changed.
    pub fn change_participants(
        &self,
        gid: &str,
        change: ParticipantChange,
        actor: &str,
        phones: &[&str],
    ) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let (refused, notices) = change_participants_by_phone(&mut state, actor, group_user(gid), change, phones)
            .map_err(|code| refusal(gid, code))?;
        state.publish(&notices, None);
        refused.map_or(Ok(()), |code| Err(SimulatorError::Refused(code)))
    }

    /// Many changes in a row whose notifications reach each device in one write. Stops at the first that is refused.
    pub fn burst(&self, gid: &str, actor: &str, changes: &[(ParticipantChange, &str)]) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let (mut notices, mut result) = (Vec::new(), Ok(()));
        for (change, phone) in changes {
            match change_participants_by_phone(&mut state, actor, group_user(gid), *change, &[phone]) {
                Ok((None, told)) => notices.extend(told),
                Ok((Some(code), _)) => result = Err(SimulatorError::Refused(code)),
                Err(code) => result = Err(refusal(gid, code)),
            }
            if result.is_err() {
                break;
            }
        }
        state.publish(&notices, None);
        result
    }

    /// `actor` changes the subject.
    pub fn change_subject(&self, gid: &str, actor: &str, subject: &str) -> Result<(), SimulatorError> {
        self.change(gid, actor, Change::Subject(subject.to_owned()))
    }

    /// `actor` changes the description, or deletes it with `None`.
    pub fn change_description(&self, gid: &str, actor: &str, body: Option<&str>) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let id = format!("{:08X}", state.rng.random::<u32>());
        let description = state.groups.get(group_user(gid)).and_then(|group| group.description.as_ref());
        let previous = description.map(|description| description.id.clone());
        let change = Change::Description { id, previous, body: body.map(str::to_owned) };
        published(&mut state, gid, |state| change_group(state, actor, group_user(gid), change))
    }

    /// `actor` changes a setting.
    pub fn change_setting(&self, gid: &str, actor: &str, setting: Setting) -> Result<(), SimulatorError> {
        self.change(gid, actor, Change::Setting(setting))
    }

    /// `actor` lets only admins send messages, or everybody.
    pub fn change_announce(&self, gid: &str, actor: &str, announce: bool) -> Result<(), SimulatorError> {
        self.change_setting(gid, actor, Setting::Announce(announce))
    }

    /// `actor` lets only admins change subject and description, or everybody.
    pub fn change_locked(&self, gid: &str, actor: &str, locked: bool) -> Result<(), SimulatorError> {
        self.change_setting(gid, actor, Setting::Locked(locked))
    }

    /// `actor` revokes the invite code; the group has a new one.
    pub fn revoke_invite(&self, gid: &str, actor: &str) -> Result<(), SimulatorError> {
        self.change(gid, actor, Change::Invite)
    }

    /// `actor` sets the picture to this JPEG file, or removes it with `None`.
    pub fn set_picture(&self, gid: &str, actor: &str, jpeg: Option<Vec<u8>>) -> Result<(), SimulatorError> {
        published(&mut self.lock(), gid, |state| {
            pictures::change(state, actor, group_user(gid), jpeg).map(|(_, notices)| notices)
        })
    }

    /// Somebody leaves the group. Leaving a community means leaving its subgroups too.
    pub fn leave(&self, gid: &str, phone: &str) -> Result<(), SimulatorError> {
        published(&mut self.lock(), gid, |state| leave(state, phone, group_user(gid)))
    }

    /// Tells the account's connected devices that what they know about its groups is out of date.
    pub fn mark_groups_dirty(&self, phone: &str) {
        let mut state = self.lock();
        for device in state.devices_of(phone) {
            let dirty = NodeBuilder::new("dirty").attr("type", "groups").attr("timestamp", now().to_string());
            state.send(&device, vec![info(dirty.build())]);
        }
    }

    fn change(&self, gid: &str, actor: &str, change: Change) -> Result<(), SimulatorError> {
        published(&mut self.lock(), gid, |state| change_group(state, actor, group_user(gid), change))
    }
}

pub(super) fn published(
    state: &mut State,
    gid: &str,
    change: impl FnOnce(&mut State) -> Result<Vec<Notice>, u16>,
) -> Result<(), SimulatorError> {
    let notices = change(state).map_err(|code| refusal(gid, code))?;
    state.publish(&notices, None);
    Ok(())
}

pub(super) fn refusal(gid: &str, code: u16) -> SimulatorError {
    match code {
        404 => SimulatorError::UnknownGroup(gid.to_owned()),
        code => SimulatorError::Refused(code),
    }
}
