//! A group's picture: where it is, setting and removing it.

use tokio::time::Instant;

use super::context::CommandContext;
use super::{Command, CommandKind, Finished, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_model::GroupId;

/// Sets a group's picture. [`crate::Gateway::count_picture`] has counted it against the session's limit.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct SetPicture {
    /// The group.
    pub group: GroupId,
    /// A square JPEG.
    pub jpeg: Vec<u8>,
    /// When the caller began to wait: the time for making the picture is taken from WhatsApp's time.
    pub begun: Instant,
}

/// Removes a group's picture, if it has one.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct RemovePicture {
    /// The group.
    pub group: GroupId,
}

/// Reads where a group's picture can be fetched; `None` when it has none.
///
/// # Errors
/// As every command that asks WhatsApp ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct ReadPicture {
    /// The group.
    pub group: GroupId,
}

impl Command for SetPicture {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let Self { group, jpeg, begun } = self;
        let mut context = session.admit(Cost::Counted, Some(&group))?;
        context.count_from(begun);
        Ok(context.run(|context| set(context, "Changing the picture", group, Some(jpeg))))
    }
}

impl Command for RemovePicture {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let context = session.admit(Cost::Write, Some(&self.group))?;
        Ok(context.run(|context| set(context, "Removing the picture", self.group, None)))
    }
}

async fn set(context: CommandContext, what: &'static str, group: GroupId, jpeg: Option<Vec<u8>>) -> Finished<()> {
    // A read cannot show which picture a group has, so the request is sent again.
    context.carry_out_again(what, || context.engine.set_picture(&group, jpeg.clone())).await.into()
}

impl Command for ReadPicture {
    type Output = Option<String>;

    fn kind(&self) -> CommandKind {
        CommandKind::Query
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        let context = session.admit(Cost::Query, Some(&self.group))?;
        Ok(context.run(|context| async move {
            context.question("Reading the picture", context.engine.picture_url(&self.group)).await.into()
        }))
    }
}
