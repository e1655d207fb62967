//! Files of messages: the beginning of sending or fetching one. The transfer itself takes minutes and asks WhatsApp's media hosts, not the
//! session's connection. So it runs in its caller's task, and holds none of the session's permits.

use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::send_message::{Recipient, check_may_write};
use super::{Command, CommandKind, Participants, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_engine::{EncryptedFile, Engine, EngineError, FileError, MessageInChat, TempFile};
use rookery_model::{ChatId, EarlierMessage, StoredFile, Timestamp};

/// Begins to send a file. It is counted as a message; [`super::SendMessage`] does not count it again, and checks the chat once more.
///
/// # Errors
/// As every command that changes something ([`Command`]), and as [`super::SendMessage`] about the chat.
pub struct BeginUpload {
    /// Where it goes.
    pub chat: Recipient,
}

/// Begins to fetch the file of a message.
///
/// # Errors
/// As every command that asks WhatsApp ([`Command`]), and [`CommandError::NotOnWhatsapp`].
pub struct BeginFetch {
    /// The chat that the message is in.
    pub chat: Recipient,
    /// The message.
    pub message: EarlierMessage,
    /// When WhatsApp took it.
    pub at: Timestamp,
}

/// Sends a file to WhatsApp's media hosts. Dropping its future ends the transfer.
pub struct FileUpload {
    engine: Arc<Engine>,
}

/// Fetches a file from WhatsApp's media hosts. Dropping its future ends the transfer.
pub struct FileFetch {
    engine: Arc<Engine>,
    of: MessageInChat,
}

impl Command for BeginUpload {
    type Output = FileUpload;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn participants(&mut self) -> Option<Participants<'_>> {
        self.chat.participants()
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<FileUpload>, CommandError> {
        let engine = session.engine.clone()?;
        match &self.chat {
            Recipient::Person(person) => drop(person.account()?),
            Recipient::Group(group) => {
                let record = session.cache.record(group).ok_or_else(|| CommandError::GroupNotFound(group.clone()))?;
                check_may_write(&record, &session.me, false)?;
            }
        }
        session.rate_limiter.take(Cost::Message)?;
        Ok(Started::answered(FileUpload { engine }))
    }
}

impl Command for BeginFetch {
    type Output = FileFetch;

    fn kind(&self) -> CommandKind {
        CommandKind::Query
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<FileFetch>, CommandError> {
        let engine = session.engine.clone()?;
        let (chat, is_by_lid) = match &self.chat {
            Recipient::Person(person) => (ChatId::Person(person.account()?), false),
            // Files of a group that the account has left can still be there.
            Recipient::Group(group) => {
                let is_by_lid = session.cache.record(group).is_none_or(|record| record.lid_addressing);
                (ChatId::Group(group.clone()), is_by_lid)
            }
        };
        let of = MessageInChat { chat, is_by_lid, message: self.message, at: self.at };
        Ok(Started::answered(FileFetch { engine, of }))
    }
}

impl FileUpload {
    /// Uploads a file, and returns where it is.
    ///
    /// # Errors
    /// [`CommandError::Unanswered`], [`CommandError::Refused`], [`CommandError::File`]. Nothing was sent.
    pub async fn run(&self, file: &Arc<EncryptedFile>, until: Instant) -> Result<StoredFile, CommandError> {
        transfer("Uploading the file", until, self.engine.upload(file)).await
    }
}

impl FileFetch {
    /// Fetches a file of up to so many bytes into the place that `make_temp` makes.
    ///
    /// # Errors
    /// As [`FileUpload::run`].
    pub async fn run(
        &self,
        file: &StoredFile,
        bytes_max: u64,
        make_temp: &(dyn Fn() -> Result<TempFile, FileError> + Send + Sync),
        until: Instant,
    ) -> Result<EncryptedFile, CommandError> {
        transfer("Fetching the file", until, self.engine.fetch_file(&self.of, file, bytes_max, make_temp)).await
    }
}

async fn transfer<T>(
    what: &'static str,
    until: Instant,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, CommandError> {
    let done = timeout_at(until, work).await.map_err(|_| CommandError::Unanswered)?;
    done.map_err(|error| match error {
        EngineError::File(error) => CommandError::File(error),
        EngineError::Refused { code, backoff_s } => CommandError::Refused { what, code, retry_after_s: backoff_s },
        _ => CommandError::Unanswered,
    })
}
