//! What the account does in chats beside writing: typing and read receipts, which others see, and what its own devices show (app state).

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use whatsapp_rust::{ChatStateError, ChatStateType};

use super::messages::jid_of;
use super::{Engine, EngineError, ids};
use rookery_model::{ChatChange, ChatId, ParticipantId, ParticipantIds, Typing};

impl Engine {
    /// Does something with a chat. To do so again does no harm. `is_by_lid`: the chat names people by LID. Typing and read receipts are sent and not
    /// confirmed.
    ///
    /// # Errors
    /// [`EngineError::Unanswered`] while the phone has not shared the keys of its settings; [`EngineError::ConnectionLost`].
    pub fn change_chat<'a>(
        &'a self,
        chat: &'a ChatId,
        is_by_lid: bool,
        change: &'a ChatChange,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        // The engine's futures are nested so deep that the compiler gives up otherwise.
        self.change_chat_unboxed(chat, is_by_lid, change).boxed()
    }

    async fn change_chat_unboxed(
        &self,
        chat: &ChatId,
        is_by_lid: bool,
        change: &ChatChange,
    ) -> Result<(), EngineError> {
        let (jid, actions) = (jid_of(chat), self.client.chat_actions());
        match change {
            ChatChange::Typing(typing) => {
                let state = match typing {
                    Typing::Composing => ChatStateType::Composing,
                    Typing::Recording => ChatStateType::Recording,
                    Typing::Paused => ChatStateType::Paused,
                };
                return self.client.chatstate().send(&jid, state).await.map_err(EngineError::from);
            }
            ChatChange::Read(messages) => {
                for (author, ids) in messages {
                    let author = if matches!(chat, ChatId::Group(_)) { named(author, is_by_lid) } else { None };
                    let author = author.map(ids::jid);
                    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    let sent = self.client.mark_as_read(&jid, author.as_ref(), &ids).await;
                    sent.map_err(|_| EngineError::ConnectionLost)?;
                }
                actions.mark_chat_as_read(&jid, true, None).await?;
            }
            ChatChange::Unread => actions.mark_chat_as_read(&jid, false, None).await?,
            ChatChange::Archived(true) => actions.archive_chat(&jid, None).await?,
            ChatChange::Archived(false) => actions.unarchive_chat(&jid, None).await?,
            ChatChange::Pinned(true) => actions.pin_chat(&jid).await?,
            ChatChange::Pinned(false) => actions.unpin_chat(&jid).await?,
            ChatChange::Muted(Some(until)) => actions.mute_chat_until(&jid, until.0).await?,
            ChatChange::Muted(None) => actions.unmute_chat(&jid).await?,
            ChatChange::Cleared => actions.clear_chat(&jid, true, true, None).await?,
            ChatChange::Deleted => actions.delete_chat(&jid, true, None).await?,
        }
        Ok(())
    }
}

fn named(person: &ParticipantIds, is_by_lid: bool) -> Option<ParticipantId> {
    let lid = person.lid.map(|digits| ParticipantId::Lid(digits.get()));
    let phone = person.phone.map(|digits| ParticipantId::Phone(digits.get()));
    if is_by_lid { lid.or(phone) } else { phone.or(lid) }
}

impl From<ChatStateError> for EngineError {
    fn from(_: ChatStateError) -> Self {
        Self::ConnectionLost
    }
}
