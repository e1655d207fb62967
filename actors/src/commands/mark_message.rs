//! What the account notes about a message for itself: a star, or that it is deleted.

use super::send_message::Recipient;
use super::{Command, CommandKind, Participants, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_engine::MessageInChat;
use rookery_model::{ChatId, EarlierMessage, MessageMark, Timestamp};

/// Marks a message, for the account's own devices alone.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`], [`CommandError::NotOnWhatsapp`].
pub struct MarkMessage {
    /// The chat that it is in.
    pub chat: Recipient,
    /// The message.
    pub message: EarlierMessage,
    /// When WhatsApp took it.
    pub at: Timestamp,
    /// The mark.
    pub mark: MessageMark,
}

impl Command for MarkMessage {
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
        let of = MessageInChat { chat, is_by_lid, message: self.message, at: self.at };
        let context = session.admit(Cost::Write, None)?;
        Ok(context.run(move |context| async move {
            let mark = || context.engine.mark_message(&of, self.mark);
            context.carry_out_again("Marking the message", mark).await.into()
        }))
    }
}
