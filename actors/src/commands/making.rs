//! Creating a group or community: the part that [`super::CreateGroup`] and [`super::CreateCommunity`] share.

use std::sync::Arc;

use super::context::{CommandContext, Reconciliation, WriteResult};
use super::creations::{Creation, Found};
use super::port::{CommandQuestion, GroupChange, ReadQuestion};
use crate::error::CommandError;
use rookery_engine::{NewGroup, ParticipantAnswer};
use rookery_model::{GroupRecord, Role};

/// The cache change of the group that was created.
pub(super) fn made(creation: &Creation, record: GroupRecord) -> GroupChange {
    GroupChange::Created { record: Box::new(record), key: creation.key().to_owned(), asked: creation.asked() }
}

/// Creates a group, and looks for it when WhatsApp does not answer. Everybody in the new group counts as added.
pub(super) async fn make(
    context: &CommandContext,
    what: &'static str,
    new: NewGroup,
    creation: &Arc<Creation>,
) -> Result<(GroupRecord, Vec<ParticipantAnswer>), CommandError> {
    let look = || async {
        let find = context
            .ask_actor(|reply| CommandQuestion::Read(ReadQuestion::FindCreated { creation: creation.clone(), reply }));
        match find.await {
            Ok(Found::Made(record)) => Reconciliation::Applied((*record, Vec::new())),
            Ok(Found::Nothing) => Reconciliation::NotApplied,
            // The notification about one of the groups may still come.
            Ok(Found::Unclear) => Reconciliation::NotYet,
            Err(error) => Reconciliation::because(&error),
        }
    };
    let WriteResult { result, read_back } = context.carry_out(what, context.engine.create_group(new), look).await;
    let (record, mut answers) = result.map_err(|error| match error {
        CommandError::Unanswered | CommandError::Refused { code: 500.., .. } => CommandError::NotMade,
        error => error,
    })?;
    let added = record.members.iter().filter(|member| !read_back || member.role != Role::SuperAdmin);
    answers.extend(added.map(|member| ParticipantAnswer {
        person: member.person,
        error: None,
        invitation: None,
        is_seen: read_back,
    }));
    Ok((record, answers))
}
