//! Communities: making one, and changes made elsewhere.

use super::changes::{published, refusal};
use super::group::{Community, group_user};
use super::view::GroupView;
use super::{CommunitySpec, State, World};
use crate::SimulatorError;
use crate::groups::{Notice, Orphans, Refusable, announce, deactivate, link, link_one, make_first_subgroups, unlink};

impl World {
    /// Makes a community with its announcement group, and accounts for those members who have none. Returns its id
    /// with `@g.us`. All its members' devices are notified, unless it is made quietly.
    pub fn add_community(&self, spec: CommunitySpec) -> String {
        let mut state = self.lock();
        let (owner, quiet) = (spec.group.owner.clone(), spec.group.quiet);
        let gid = state.add_group(spec.group);
        let id = group_user(&gid);
        if let Some(group) = state.groups.get_mut(id) {
            let members_create_groups = spec.members_create_groups;
            group.community = Some(Community { closed: spec.closed, members_create_groups });
        }
        let mut notices = announce(&mut state, &owner, id, None);
        notices.extend(make_first_subgroups(&mut state, &owner, id, spec.general_chat));
        for subgroup in &spec.subgroups {
            notices.extend(link_one(&mut state, &owner, id, group_user(subgroup)));
        }
        if !quiet {
            state.publish(&notices, None);
        }
        gid
    }

    /// The subgroups of a community as they are now, the announcement group included.
    pub fn subgroups(&self, community: &str) -> Vec<GroupView> {
        let state = self.lock();
        state.subgroups(group_user(community)).map(|group| group.view(&state.accounts)).collect()
    }

    /// `actor` links groups to a community. A refused group makes the call an error, after the others were linked.
    pub fn link(&self, community: &str, actor: &str, groups: &[&str]) -> Result<(), SimulatorError> {
        let groups = users(groups);
        self.change_links(community, |state| link(state, actor, group_user(community), &groups))
    }

    /// `actor` unlinks groups from a community. A refused group makes the call an error, after the others were
    /// unlinked.
    pub fn unlink(
        &self,
        community: &str,
        actor: &str,
        groups: &[&str],
        orphans: Orphans,
    ) -> Result<(), SimulatorError> {
        let groups = users(groups);
        self.change_links(community, |state| unlink(state, actor, group_user(community), &groups, orphans))
    }

    /// `actor` deactivates a community: it is gone, and its announcement group too; the other subgroups are unlinked.
    pub fn deactivate(&self, community: &str, actor: &str) -> Result<(), SimulatorError> {
        published(&mut self.lock(), community, |state| deactivate(state, actor, group_user(community)))
    }

    fn change_links(
        &self,
        community: &str,
        change: impl FnOnce(&mut State) -> Refusable<(Vec<(String, Option<u16>)>, Vec<Notice>)>,
    ) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let (results, notices) = change(&mut state).map_err(|code| refusal(community, code))?;
        state.publish(&notices, None);
        match results.into_iter().find_map(|(_, refused)| refused) {
            Some(code) => Err(SimulatorError::Refused(code)),
            None => Ok(()),
        }
    }
}

fn users(groups: &[&str]) -> Vec<String> {
    groups.iter().map(|gid| group_user(gid).to_owned()).collect()
}
