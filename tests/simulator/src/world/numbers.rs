//! Somebody gets another phone number: the account, its LID and its groups stay.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::group::Group;
use super::{State, World};
use crate::SimulatorError;

/// There is an account with that number already, or devices are linked to the one that changes it.
const CONFLICT: u16 = 409;

impl World {
    /// The account gets another number. The other members of its groups are notified with `modify`.
    ///
    /// # Errors
    /// [`SimulatorError::Refused`] with 404 when no account has the number, and with 409 when the new one is taken or
    /// devices are linked: what happens to linked devices is not modelled.
    pub fn change_number(&self, from: &str, to: &str) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let account = state.accounts.get(from).ok_or(SimulatorError::Refused(404))?;
        if state.accounts.contains_key(to) || !account.devices.is_empty() {
            return Err(SimulatorError::Refused(CONFLICT));
        }
        let groups: Vec<String> = state.groups_of(from);
        // The account as the groups named it before: the author of the notification is still the old number.
        let before: Vec<_> = groups.iter().map(|id| state.author_of(id, from)).collect();
        state.renumber(from, to);
        for (id, author) in groups.iter().zip(before) {
            let action = state.modified(id, to);
            let others = state.groups.get(id).map(Group::phones).unwrap_or_default();
            let notice = action.and_then(|action| state.notice_by(id, author, others, action));
            state.publish(notice.as_slice(), None);
        }
        Ok(())
    }
}

impl State {
    fn groups_of(&self, phone: &str) -> Vec<String> {
        let mine = self.groups.values().filter(|group| group.members.contains_key(phone));
        mine.map(|group| group.id.clone()).collect()
    }

    fn renumber(&mut self, from: &str, to: &str) {
        let Some(mut account) = self.accounts.remove(from) else { return };
        self.phones_by_lid.insert(account.lid.clone(), to.to_owned());
        to.clone_into(&mut account.phone);
        self.accounts.insert(to.to_owned(), account);
        self.groups.values_mut().for_each(|group| group.renumber(from, to));
    }

    /// `<modify>` with the person's new ids, and the next version of the participant list.
    fn modified(&mut self, group_id: &str, phone: &str) -> Option<Node> {
        let group = self.groups.get_mut(group_id)?;
        let (version, previous) = group.next_participant_version();
        let person = group.participant(self.accounts.get(phone)?).build();
        let action = NodeBuilder::new("modify")
            .attr("v_id", version.to_string())
            .attr("prev_v_id", previous.to_string())
            .children([person]);
        Some(action.build())
    }
}

impl Group {
    fn renumber(&mut self, from: &str, to: &str) {
        if let Some(role) = self.members.remove(from) {
            self.members.insert(to.to_owned(), role);
        }
        if let Some(request) = self.join_requests.remove(from) {
            self.join_requests.insert(to.to_owned(), request);
        }
        if let Some(invitation) = self.invitations.remove(from) {
            self.invitations.insert(to.to_owned(), invitation);
        }
        if self.left.remove(from) {
            self.left.insert(to.to_owned());
        }
        let owner = self.description.as_mut().map(|description| &mut description.owner);
        let requestors = self.join_requests.values_mut().map(|request| &mut request.requestor);
        let named = [&mut self.creator, &mut self.subject_owner].into_iter().chain(owner).chain(requestors);
        named.filter(|phone| *phone == from).for_each(|phone| to.clone_into(phone));
    }
}
