//! The files of messages that the log has: found there, fetched from WhatsApp, and kept for a while where the operator wants that. Small ones are
//! put into the message's data for those who ask for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rookery_actors::commands::{BeginFetch, Recipient, Requested};
use rookery_actors::{CommandError, EncryptedFile, FileInMessage, Gateway, NoRoom, Room, StoredMessage, file_in};
use rookery_model::{ChatId, SessionId};
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::Media;
use crate::shares::User;

/// Bytes of a file that is put into a message's data: in base64, with the rest, it fits into a delivery.
pub(crate) const INCLUDED_BYTES_MAX: u64 = 1024 * 1024;

impl Media {
    /// Fetches the file of a message, unless it is kept.
    ///
    /// # Errors
    /// As [`BeginFetch`] and [`rookery_actors::commands::FileFetch::run`].
    pub(crate) async fn file_of(
        &self,
        gateway: &Gateway,
        user: User,
        chat: ChatId,
        (stored, found): (StoredMessage, &FileInMessage),
        until: Instant,
    ) -> Result<Arc<EncryptedFile>, CommandError> {
        if let Some(kept) = self.kept.get(user.session, &found.file.encrypted_sha256) {
            return Ok(kept);
        }
        let chat = match chat {
            ChatId::Person(person) => Recipient::Person(Requested::from(person)),
            ChatId::Group(group) => Recipient::Group(group),
        };
        let begin = BeginFetch { chat, message: stored.message, at: stored.at };
        let fetch = gateway.execute(user.session, begin).await?;
        let make_temp = || self.temp_file(user);
        let file = fetch.run(&found.file, self.bytes_max, &make_temp, until).await?;
        Ok(self.kept.keep(user.session, found.file.encrypted_sha256.clone(), file))
    }

    /// Puts the file of a message into the message's data, if it is small enough and comes in time; else the data stays as it is. Returns its
    /// bytes.
    pub(crate) async fn include(
        &self,
        gateway: &Gateway,
        user: User,
        data: &mut Map<String, Value>,
        until: Instant,
    ) -> u64 {
        let text = |field: &str| data.get(field).and_then(Value::as_str);
        let (Some(chat), Some(id)) = (text("chatId"), text("id")) else { return 0 };
        let described = data.get("media").and_then(|media| media.get("sizeBytes")).and_then(Value::as_u64);
        let (Ok(chat), Some(1..=INCLUDED_BYTES_MAX)) = (ChatId::parse_written(chat), described) else { return 0 };
        let content = tokio::time::timeout_at(until, self.content_of(gateway, user, chat, id.to_owned(), until)).await;
        let Ok(Some(content)) = content else { return 0 };
        let Some(Value::Object(media)) = data.get_mut("media") else { return 0 };
        media.remove("omitted");
        media.insert("data".to_owned(), json!(STANDARD.encode(&content)));
        content.len() as u64
    }

    async fn content_of(
        &self,
        gateway: &Gateway,
        user: User,
        chat: ChatId,
        id: String,
        until: Instant,
    ) -> Option<bytes::Bytes> {
        let _share = self.admit_fetch(user).ok()?;
        let events = gateway.events(user.session).await.ok()?;
        let stored = events.stored_message(chat.to_string(), id).await.ok()??;
        let found = file_in(&stored.content.as_ref()?.protocol)?;
        let file = self.file_of(gateway, user, chat, (stored, &found), until).await.ok()?;
        let length = usize::try_from(file.length()).ok().filter(|length| *length as u64 <= INCLUDED_BYTES_MAX)?;
        spawn_blocking(move || file.read(0, length)).await.ok()?.ok()
    }
}

/// Files that were fetched, so that they need not be fetched again; those that were wanted longest ago go first. They lie on disk, as all files
/// do, and are gone with the process.
pub(super) struct KeptFiles {
    bytes_max: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    files: HashMap<(SessionId, Vec<u8>), (u64, Arc<EncryptedFile>)>,
    bytes: u64,
    /// Counts what was wanted.
    clock: u64,
}

/// The room of a kept file, which [`KeptFiles`] counts itself.
struct CountedElsewhere;

impl Room for CountedElsewhere {
    fn widen(&mut self, _: u64) -> Result<(), NoRoom> {
        Ok(())
    }
}

impl KeptFiles {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file with this hash of its encrypted form, if this session has fetched it.
    fn get(&self, session: SessionId, hash: &[u8]) -> Option<Arc<EncryptedFile>> {
        let mut kept = self.kept();
        kept.clock += 1;
        let clock = kept.clock;
        let (wanted_at, file) = kept.files.get_mut(&(session, hash.to_vec()))?;
        *wanted_at = clock;
        Some(Arc::clone(file))
    }

    /// Keeps a file, if files are kept and it is no larger than a quarter of them all.
    fn keep(&self, session: SessionId, hash: Vec<u8>, file: EncryptedFile) -> Arc<EncryptedFile> {
        let length = file.length();
        if length > self.bytes_max / 4 {
            return Arc::new(file);
        }
        let file = Arc::new(file.in_room(Box::new(CountedElsewhere)));
        let mut kept = self.kept();
        kept.clock += 1;
        let entry = (kept.clock, Arc::clone(&file));
        let before = kept.files.insert((session, hash), entry);
        kept.bytes += length;
        kept.bytes -= before.map_or(0, |(_, before)| before.length());
        while kept.bytes > self.bytes_max {
            let oldest = kept.files.iter().min_by_key(|(_, (wanted_at, _))| *wanted_at).map(|(key, _)| key.clone());
            let Some((_, gone)) = oldest.and_then(|oldest| kept.files.remove(&oldest)) else { break };
            kept.bytes -= gone.length();
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_actors::{FileWriter, TempFile};
    use rookery_model::FileKind;

    fn file(length: usize) -> EncryptedFile {
        let temp = TempFile::new(tempfile::tempfile().unwrap(), Box::new(CountedElsewhere));
        let mut writer = FileWriter::new(FileKind::Document, temp, u64::MAX).unwrap();
        writer.write(&vec![0; length]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_wanted_longest_ago_goes_first_and_each_session_has_its_own() {
        let (kept, alice, bob) = (KeptFiles::new(1_000), SessionId::random(), SessionId::random());
        for hash in 0..4 {
            kept.keep(alice, vec![hash], file(250));
        }
        assert!(kept.get(alice, &[0]).is_some() && kept.get(bob, &[0]).is_none());
        kept.keep(alice, vec![4], file(250));
        let left: Vec<u8> = (0..5).filter(|hash| kept.get(alice, &[*hash]).is_some()).collect();
        assert_eq!(left, [0, 2, 3, 4]);
        kept.keep(alice, vec![4], file(200));
        kept.keep(alice, vec![5], file(251));
        assert!(kept.get(alice, &[5]).is_none(), "too large");
        let (bytes, count) = {
            let kept = kept.kept();
            (kept.bytes, kept.files.len())
        };
        assert_eq!((bytes, count), (950, 4));
        let none = KeptFiles::new(0);
        none.keep(alice, vec![1], file(1));
        assert!(none.get(alice, &[1]).is_none());
    }
}
