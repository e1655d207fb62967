//! Invite codes of others: reading about their group, and joining it.

use std::collections::BTreeSet;

use super::context::{CommandContext, Reconciliation, WriteResult};
use super::port::GroupChange;
use super::{Command, CommandKind, Finished, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_engine::EngineError;
use rookery_model::{GroupId, JoinInfo, Joined};

/// WhatsApp's status code for somebody who is in the group, or whose request to be let in stands already.
const CONFLICT: u16 = 409;
/// WhatsApp's other status code for somebody who is in the group.
const ALREADY_MEMBER: u16 = 304;
/// WhatsApp's status code for the code of a link that was revoked.
const GONE: u16 = 410;

/// Reads what an invite code (not a link) shows about its group.
///
/// # Errors
/// As every command that asks WhatsApp ([`Command`]), and [`CommandError::InviteRevoked`].
pub struct ReadJoinInfo {
    /// The code.
    pub code: String,
}

/// Joins the group of an invite code (not a link).
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::InviteRevoked`].
pub struct JoinGroup {
    /// The code.
    pub code: String,
}

impl Command for ReadJoinInfo {
    type Output = JoinInfo;

    fn kind(&self) -> CommandKind {
        CommandKind::Query
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<JoinInfo>, CommandError> {
        let context = session.admit(Cost::Query, None)?;
        Ok(context.run(|context| async move {
            let answer = context.question("Reading the invite code", context.engine.join_info(self.code)).await;
            answer.map_err(understood).into()
        }))
    }
}

impl Command for JoinGroup {
    type Output = Joined;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Joined>, CommandError> {
        let Self { code } = self;
        let context = session.admit(Cost::Write, None)?;
        let known: BTreeSet<GroupId> = session.cache.ids().cloned().collect();
        Ok(context.run(move |context| async move {
            let look = || look(&context, &code);
            let WriteResult { result, read_back } =
                context.carry_out("Joining the group", context.engine.join(&code), look).await;
            let result = match result {
                Err(CommandError::Refused { code: ALREADY_MEMBER | CONFLICT, .. }) => {
                    joined_before(&context, &code, result).await
                }
                // Some servers answer a member like anybody else.
                Ok(joined) => Ok(Joined { already_member: known.contains(&joined.group), ..joined }),
                Err(error) => Err(understood(error)),
            };
            let mut doubtful = None;
            if let (Ok(Joined { group, pending_approval: false, .. }), false) = (&result, read_back) {
                // The next read has to show the group (G-2).
                doubtful = (!context.is_shown(group).await).then(|| GroupChange::Doubtful { group: group.clone() });
            }
            Finished::new(doubtful, result)
        }))
    }
}

/// Gives a revoked link an error of its own.
fn understood(error: CommandError) -> CommandError {
    match error {
        CommandError::Refused { code: GONE, .. } => CommandError::InviteRevoked,
        error => error,
    }
}

/// WhatsApp says that the account is in the group, or has asked to be let in. This reads which of both it is, and the
/// group. When that cannot be read, the refusal is the result.
async fn joined_before(
    context: &CommandContext,
    code: &str,
    refused: Result<Joined, CommandError>,
) -> Result<Joined, CommandError> {
    let info = context.question("Reading the invite code", context.engine.join_info(code.to_owned())).await;
    let Ok(JoinInfo { id: group, .. }) = info else { return refused };
    match context.read_back(&group, None).await {
        Ok(read) => {
            let already_member = read.record.is_some();
            Ok(Joined { group, pending_approval: !already_member, already_member })
        }
        Err(_) => refused,
    }
}

/// Whether the account is in the group of the code by now. Joining once more does no harm.
async fn look(context: &CommandContext, code: &str) -> Reconciliation<Joined> {
    let group = match context.look_up(context.engine.join_info(code.to_owned())).await {
        Ok(info) => info.id,
        Err(look) => return look,
    };
    let joined = |pending_approval| {
        Reconciliation::Applied(Joined { group: group.clone(), pending_approval, already_member: false })
    };
    match context.read_back(&group, None).await {
        Ok(read) if read.record.is_some() => return joined(false),
        Ok(_) => {}
        Err(error) => return Reconciliation::because(&error),
    }
    match context.engine.join(code).await.inspect_err(|error| context.observe_backoff(error)) {
        Ok(Joined { pending_approval: true, .. }) => joined(true),
        // The group is read once more, so that the cache has it.
        Ok(_) => Reconciliation::NotYet,
        Err(error) if error.is_unanswered() => Reconciliation::NotYet,
        // The first request took effect after all, or waits for an admin.
        Err(EngineError::Refused { code: CONFLICT, .. }) => match context.read_back(&group, None).await {
            Ok(read) => joined(read.record.is_none()),
            Err(error) => Reconciliation::because(&error),
        },
        Err(_) => Reconciliation::Unclear,
    }
}
