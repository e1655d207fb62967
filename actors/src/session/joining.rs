//! Following invite codes.

use std::collections::BTreeSet;

use super::command_context::{CommandContext, GroupChange, Outcome, Reconciliation};
use super::rate_limiter::Cost;
use super::{Permit, Reply, SessionState};
use crate::error::CommandError;
use rookery_engine::EngineError;
use rookery_model::{GroupId, JoinInfo, Joined};

/// WhatsApp's number for somebody who is in the group, or whose request to be let in stands already.
const CONFLICT: u16 = 409;
/// WhatsApp's other number for somebody who is in the group.
const ALREADY_MEMBER: u16 = 304;
/// WhatsApp's number for the code of a link that was revoked.
const GONE: u16 = 410;

impl SessionState {
    pub(super) fn read_join_info(&mut self, code: String, permit: Permit, reply: Reply<JoinInfo>) {
        let Some((work, reply)) = self.begin(Cost::Query, None, permit, reply) else { return };
        tokio::spawn(async move {
            let answer = work.question("Reading the invite code", work.engine.join_info(code)).await;
            work.finish(None, reply, answer.map_err(understood));
        });
    }

    pub(super) fn join_group(&mut self, code: String, permit: Permit, reply: Reply<Joined>) {
        let Some((work, reply)) = self.begin(Cost::Write, None, permit, reply) else { return };
        let known: BTreeSet<GroupId> = self.cache.ids().cloned().collect();
        tokio::spawn(async move {
            let look = || look(&work, &code);
            let Outcome { result, read_back } =
                work.carry_out("Joining the group", work.engine.join(&code), look).await;
            let result = match result {
                Err(CommandError::Refused { code: ALREADY_MEMBER | CONFLICT, .. }) => {
                    joined_before(&work, &code, result).await
                }
                // Some servers answer a member like anybody else.
                Ok(joined) => Ok(Joined { already_member: known.contains(&joined.group), ..joined }),
                Err(error) => Err(understood(error)),
            };
            let mut doubtful = None;
            if let (Ok(Joined { group, pending_approval: false, .. }), false) = (&result, read_back) {
                // The next read is to show it (G-2).
                doubtful = (!work.is_shown(group).await).then(|| GroupChange::Doubtful { group: group.clone() });
            }
            work.finish(doubtful, reply, result);
        });
    }
}

/// A code of a link that was revoked is told by name.
fn understood(error: CommandError) -> CommandError {
    match error {
        CommandError::Refused { code: GONE, .. } => CommandError::InviteRevoked,
        error => error,
    }
}

/// WhatsApp says that the account is in the group, or has asked to be let in: which of them, and what group it is. When that
/// cannot be read, its refusal stands.
async fn joined_before(
    work: &CommandContext,
    code: &str,
    refused: Result<Joined, CommandError>,
) -> Result<Joined, CommandError> {
    let info = work.question("Reading the invite code", work.engine.join_info(code.to_owned())).await;
    let Ok(JoinInfo { id: group, .. }) = info else { return refused };
    match work.read_back(&group, None).await {
        Ok(read) => {
            let already_member = read.record.is_some();
            Ok(Joined { group, pending_approval: !already_member, already_member })
        }
        Err(_) => refused,
    }
}

/// Whether the account is in the group of the code by now. Following the code again does no harm.
async fn look(work: &CommandContext, code: &str) -> Reconciliation<Joined> {
    let group = match work.look_up(work.engine.join_info(code.to_owned())).await {
        Ok(info) => info.id,
        Err(look) => return look,
    };
    let joined = |pending_approval| {
        Reconciliation::Applied(Joined { group: group.clone(), pending_approval, already_member: false })
    };
    match work.read_back(&group, None).await {
        Ok(read) if read.record.is_some() => return joined(false),
        Ok(_) => {}
        Err(error) => return Reconciliation::because(&error),
    }
    match work.engine.join(code).await.inspect_err(|error| work.observe_backoff(error)) {
        Ok(Joined { pending_approval: true, .. }) => joined(true),
        // Looked at once more, so that the cache has it.
        Ok(_) => Reconciliation::NotYet,
        Err(error) if error.is_unanswered() => Reconciliation::NotYet,
        // The first request took effect after all, or stands and waits for an admin.
        Err(EngineError::Refused { code: CONFLICT, .. }) => match work.read_back(&group, None).await {
            Ok(read) => joined(read.record.is_none()),
            Err(error) => Reconciliation::because(&error),
        },
        Err(_) => Reconciliation::Unclear,
    }
}
