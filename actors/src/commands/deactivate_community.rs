//! Ending a community.

use super::context::Reconciliation;
use super::port::{GroupChange, GroupRead};
use super::read_community::check_community;
use super::whatsapp_codes::is_doubtful;
use super::{Command, CommandKind, Finished, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_model::GroupId;

/// Ends a community; its groups go on without it.
///
/// # Errors
/// As every command that changes something ([`Command`]), [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
pub struct DeactivateCommunity {
    /// The community.
    pub community: GroupId,
}

impl Command for DeactivateCommunity {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let Self { community } = self;
        check_community(session, &community)?;
        let context = session.admit(Cost::Write, Some(&community))?;
        Ok(context.run(move |context| async move {
            let judge = |read: &GroupRead| match &read.record {
                Some(record) if record.is_community => Reconciliation::NotApplied,
                _ => Reconciliation::Applied(()),
            };
            let look = || context.look_at(&community, None, judge);
            let call = context.engine.deactivate_community(&community);
            let answer = context.carry_out("Deactivating the community", call, look).await.result;
            let doubtful = match &answer {
                Ok(()) => !context.read_all().await,
                Err(error) => is_doubtful(error),
            };
            Finished::new(doubtful.then_some(GroupChange::Doubtful { group: community }), answer)
        }))
    }
}
