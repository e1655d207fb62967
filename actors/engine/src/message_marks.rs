//! What the account notes about messages for itself: its phone and its other devices show it, nobody else does (app state).

use whatsapp_rust::AppStateError;
use whatsapp_rust::request::IqError;

use super::messages::{author_of, jid_of};
use super::{Engine, EngineError};
use rookery_model::{ChatId, EarlierMessage, MessageMark, ParticipantIds, Timestamp};

/// A message of a chat that the account is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageInChat {
    /// The chat.
    pub chat: ChatId,
    /// The chat names people by LID.
    pub is_by_lid: bool,
    /// The message.
    pub message: EarlierMessage,
    /// When WhatsApp took it.
    pub at: Timestamp,
}

impl Engine {
    /// Marks a message. To do so again does no harm.
    ///
    /// # Errors
    /// [`EngineError::Unanswered`] while the phone has not shared the keys of these settings: it does within seconds after it was linked.
    pub async fn mark_message(&self, of: &MessageInChat, mark: MessageMark) -> Result<(), EngineError> {
        let (chat, id, is_from_me) = (jid_of(&of.chat), of.message.id.as_str(), of.message.is_from_me);
        let is_named = matches!(of.chat, ChatId::Group(_)) && !is_from_me;
        let author = author_of(&of.message, of.is_by_lid, &ParticipantIds::default()).filter(|_| is_named);
        let (author, actions) = (author.as_ref(), self.client.chat_actions());
        let marked = match mark {
            MessageMark::Starred => actions.star_message(&chat, author, id, is_from_me).await,
            MessageMark::NotStarred => actions.unstar_message(&chat, author, id, is_from_me).await,
            MessageMark::Deleted => {
                let at = of.at.0.div_euclid(1_000);
                actions.delete_message_for_me(&chat, author, id, is_from_me, true, Some(at)).await
            }
        };
        marked.map_err(EngineError::from)
    }
}

impl From<AppStateError> for EngineError {
    fn from(error: AppStateError) -> Self {
        match error {
            AppStateError::Internal(error) => match error.downcast::<IqError>() {
                Ok(error) => error.into(),
                // Not the error's own text: it can name people.
                Err(_) => Self::Unanswered("the setting could not be written".into()),
            },
            // What is asked for is checked before: the keys are missing.
            _ => Self::Unanswered("the phone has not shared the keys of its settings".into()),
        }
    }
}
