//! Creating a community.

use super::making::{made, make};
use super::port::{CommandQuestion, GroupChange};
use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_engine::{NewGroup, NewGroupPlace, PreviousDescription};
use rookery_model::{Community, NewCommunity};

/// Creates a community. Returns it as the cache has it, once all groups that came with it are there.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::NotMade`].
pub struct CreateCommunity {
    /// The new community's data.
    pub new: NewCommunity,
}

impl Command for CreateCommunity {
    type Output = Community;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Community>, CommandError> {
        let Self { new } = self;
        let context = session.admit(Cost::Create { participants: 0 }, None)?;
        let creation = session.creations.begin(session.cache, &new.name, true, None);
        Ok(context.run(move |context| async move {
            let group = NewGroup {
                subject: new.name.clone(),
                participants: Vec::new(),
                key: creation.key().to_owned(),
                place: NewGroupPlace::Community(Box::new(new.clone())),
            };
            let record = match make(&context, "Creating the community", group, &creation).await {
                Ok((record, _)) => record,
                Err(error) => return Err(error).into(),
            };
            let id = record.id.clone();
            let described = new.description.is_none() || record.description == new.description;
            let previous = PreviousDescription::Known(record.description_id.clone());
            context.tell(made(&creation, record));
            if !described {
                // Not every server takes the description with the request. An error is passed over: the answer shows
                // the community as it is.
                let set = context.engine.set_description(&id, new.description.as_deref(), &previous);
                let _ = context.ask("Changing the description", set).await;
            }
            // WhatsApp also creates the announcement group and the general chat.
            if !context.read_all().await {
                context.tell(GroupChange::Doubtful { group: id.clone() });
            }
            // The community is created. When the actor cannot show it, only the outcome is unknown.
            let community = context.ask_actor(|reply| CommandQuestion::KnownCommunity { community: id, reply }).await;
            community.map_err(|_| CommandError::OutcomeUnknown).into()
        }))
    }
}
