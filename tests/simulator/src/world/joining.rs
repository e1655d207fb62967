//! Asking to be let into groups, and letting people in, both done elsewhere.

use super::World;
use super::changes::{published, refusal};
use super::group::group_user;
use super::view::JoinMethod;
use crate::SimulatorError;
use crate::groups::{Decision, Entered, decide_by_phone, enter, withdraw};

impl World {
    /// Somebody follows the invite link of a group where admins approve. A missing account is made. A person who waits
    /// already goes on waiting.
    ///
    /// Refused with 409 for a member, and with 405 when the group lets everybody in: nobody has to ask there.
    pub fn request_to_join(&self, gid: &str, phone: &str) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        state.ensure_account(phone);
        let id = group_user(gid);
        let group = state.groups.get(id).ok_or_else(|| SimulatorError::UnknownGroup(gid.to_owned()))?;
        if !group.asks_admins() {
            return Err(SimulatorError::Refused(405));
        }
        let entered = enter(&mut state, phone, id, JoinMethod::InviteLink).map_err(|code| refusal(gid, code))?;
        let (Entered::In(notices) | Entered::Pending(notices)) = entered;
        state.publish(&notices, None);
        Ok(())
    }

    /// Somebody takes its request back. Nothing happens when there is none.
    pub fn cancel_request(&self, gid: &str, phone: &str) -> Result<(), SimulatorError> {
        let waits = [phone.to_owned()];
        published(&mut self.lock(), gid, |state| {
            let group = state.groups.get(group_user(gid)).ok_or(404_u16)?;
            match group.join_requests.contains_key(phone) {
                true => Ok(withdraw(state, phone, group_user(gid), &waits)),
                false => Ok(vec![]),
            }
        })
    }

    /// `actor` lets people in who asked. A refused person makes the call an error, after the others were let in.
    pub fn approve_requests(&self, gid: &str, actor: &str, phones: &[&str]) -> Result<(), SimulatorError> {
        self.decide(gid, actor, Decision::Approve, phones)
    }

    /// `actor` rejects people who asked. A person who did not ask makes the call an error, after the others were
    /// rejected.
    pub fn reject_requests(&self, gid: &str, actor: &str, phones: &[&str]) -> Result<(), SimulatorError> {
        self.decide(gid, actor, Decision::Reject, phones)
    }

    /// All invitations to this group that came as messages, or could, are too old from now on.
    pub fn expire_invitations(&self, gid: &str) {
        if let Some(group) = self.lock().groups.get_mut(group_user(gid)) {
            group.invitations.values_mut().for_each(|invitation| invitation.expires_at = 0);
        }
    }

    fn decide(&self, gid: &str, actor: &str, decision: Decision, phones: &[&str]) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let (refused, notices) =
            decide_by_phone(&mut state, actor, group_user(gid), decision, phones).map_err(|code| refusal(gid, code))?;
        state.publish(&notices, None);
        refused.map_or(Ok(()), |code| Err(SimulatorError::Refused(code)))
    }
}
