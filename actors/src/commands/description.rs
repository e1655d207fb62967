//! Changing the description of a group.

use super::context::{field_finished, text_look};
use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange};
use crate::rate_limiter::Cost;
use rookery_engine::{EngineError, PreviousDescription};
use rookery_model::{GroupId, GroupRecord};

/// Changes a group's description.
///
/// # Errors
/// As every command that changes something ([`Command`]), [`CommandError::GroupNotFound`], [`CommandError::DescriptionConflict`].
pub struct SetDescription {
    /// The group.
    pub group: GroupId,
    /// Its new description; an empty one clears it.
    pub description: String,
}

impl Command for SetDescription {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let Self { group, description } = self;
        let context = session.admit(Cost::Write, Some(&group))?;
        let known = session.cache.record(&group).and_then(|record| record.description_id.clone());
        let before = known.clone();
        let text = Some(description).filter(|text| !text.is_empty());
        let change = PendingChange::Description(text.clone());
        let write = session.cache.begin_write(&group, change.clone());
        Ok(context.run(move |context| async move {
            let set = async |previous| context.engine.set_description(&group, text.as_deref(), &previous).await;
            let set_twice = async {
                match set(PreviousDescription::Known(known)).await {
                    Err(EngineError::DescriptionConflict) => set(PreviousDescription::Ask).await,
                    answer => answer,
                }
            };
            let judge = |now: &GroupRecord, heard: &Heard| {
                // A missing description has no token. So it cannot be told from a description that was set and deleted
                // again.
                let is_as_before = before == now.description_id && (before.is_some() || !heard.may_be_about_field());
                text_look(now.description == text, is_as_before)
            };
            let look = || context.look_into(&group, write, judge);
            let outcome = context.carry_out("Changing the description", set_twice, look).await;
            field_finished(group, write, change, outcome)
        }))
    }
}
