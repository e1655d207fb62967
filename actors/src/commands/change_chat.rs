//! What the account does in a chat beside writing.

use super::send_message::Recipient;
use super::{Command, CommandKind, Participants, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_model::{ChatChange, ChatId};

/// Does something with a chat, or shows something in it. Typing and read receipts count as questions, the rest as changes.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`], [`CommandError::NotOnWhatsapp`].
pub struct ChangeChat {
    /// The chat.
    pub chat: Recipient,
    /// What is done.
    pub change: ChatChange,
}

impl Command for ChangeChat {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn participants(&mut self) -> Option<Participants<'_>> {
        self.chat.participants()
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        session.check_ready()?;
        let (chat, is_by_lid) = match &self.chat {
            Recipient::Person(person) => (ChatId::Person(person.account()?), false),
            Recipient::Group(group) => {
                let record = session.cache.record(group).ok_or_else(|| CommandError::GroupNotFound(group.clone()))?;
                (ChatId::Group(group.clone()), record.lid_addressing)
            }
        };
        let is_shown = matches!(self.change, ChatChange::Typing(_) | ChatChange::Read(_));
        let context = session.admit(if is_shown { Cost::Query } else { Cost::Write }, None)?;
        Ok(context.run(move |context| async move {
            let change = || context.engine.change_chat(&chat, is_by_lid, &self.change);
            context.carry_out_again("Changing the chat", change).await.into()
        }))
    }
}
