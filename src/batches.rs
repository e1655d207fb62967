//! Messages in bulk, as they are kept: what is to be sent, and what became of each. `http/bulk.rs` sends them. A batch outlives the process: the
//! random part of each of its messages follows from the batch's own secret and the message's place in it, which are on disk before anything is
//! sent. So a message that is sent again after a crash is the same one, which people see once.
//!
//! | table | key | value |
//! |---|---|---|
//! | [`Table::Batches`] | digest of the batch's id (16 bytes), 0 | [`BatchRecord`], as JSON, in parts |
//! | [`Table::Batches`] | digest, 1, place of the message (4, big-endian) | the message as it was given, as JSON, in parts |
//! | [`Table::Batches`] | digest, 2, place of the message | [`BatchResult`], as JSON, in parts |
//!
//! The record is written after the messages: without it, the rest is left over from a crash. All rows go with the session's account.

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rookery_model::{MessageSeed, Timestamp};
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, delete_parts, get_parts, put_parts,
    scan_parts_each,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tracing::warn;
use uuid::Uuid;

const DIGEST_BYTES: usize = 16;
const RECORD: u8 = 0;
const MESSAGE: u8 = 1;
const RESULT: u8 = 2;
const SECRET_BYTES: usize = 32;
/// Operations of one record at most: a record of the store's largest size.
const RECORD_OPERATIONS_MAX: usize = BATCH_OPERATIONS_MAX / 2;

/// A batch, whose messages have their own rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BatchRecord {
    /// As its caller named it, or as it was named here.
    pub(crate) id: String,
    /// The API key that sends it.
    pub(crate) key: Uuid,
    /// The epoch of the session's account when it was made.
    pub(crate) account_epoch: u32,
    /// Where each message goes, as it was written.
    pub(crate) chats: Vec<String>,
    pub(crate) options: BatchOptions,
    secret: BatchSecret,
    pub(crate) created_at: Timestamp,
    /// When the first message was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<Timestamp>,
    /// When nothing was left to do, and how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<(Timestamp, BatchEnd)>,
}

/// How a batch is sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchOptions {
    /// The pause between two messages.
    pub(crate) delay_ms: u32,
    /// The pause is up to two seconds longer, by chance.
    pub(crate) is_randomized: bool,
    /// The first message that cannot be sent is the last one that is tried.
    pub(crate) stops_on_error: bool,
}

/// How a batch ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BatchEnd {
    /// Every message was tried, and at least one was sent.
    Completed,
    /// None could be sent, or it was to stop at the first that could not.
    Failed,
    /// Somebody cancelled it, or its key or its account ended.
    Cancelled,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum BatchResult {
    /// WhatsApp has it.
    #[serde(rename_all = "camelCase")]
    Sent {
        /// Its id.
        message_id: String,
        at: Timestamp,
    },
    /// It cannot be sent.
    Failed {
        /// The error's code.
        code: String,
        /// What is wrong.
        message: String,
    },
}

/// From which the random parts of a batch's messages are made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct BatchSecret(#[serde(with = "hex::serde")] [u8; SECRET_BYTES]);

/// Shows nothing of it.
impl std::fmt::Debug for BatchSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BatchSecret")
    }
}

impl BatchRecord {
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn new(
        id: String,
        (key, account_epoch): (Uuid, u32),
        chats: Vec<String>,
        options: BatchOptions,
    ) -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        let (secret, created_at) = (BatchSecret(secret), Timestamp::now());
        Ok(Self { id, key, account_epoch, chats, options, secret, created_at, started_at: None, ended: None })
    }

    /// The random part of the message at this place: two blocks of HMAC-SHA256 with the batch's secret.
    pub(crate) fn seed(&self, place: usize) -> MessageSeed {
        let block = |number: u8| {
            let mac = Hmac::<Sha256>::new_from_slice(&self.secret.0).ok();
            mac.map(|mac| mac.chain_update((place as u64).to_be_bytes()).chain_update([number]).finalize().into_bytes())
        };
        let bytes: Vec<u8> = [block(0), block(1)].into_iter().flatten().flatten().collect();
        MessageSeed::from_bytes(std::array::from_fn(|index| bytes[index]))
    }
}

/// The batches of all sessions, on disk.
#[derive(Clone)]
pub(crate) struct Batches(Arc<dyn Store>);

type Digest = [u8; DIGEST_BYTES];

impl Batches {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Keeps a new batch; it is on disk when this returns.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn create(
        &self,
        session: SessionNumber,
        record: &BatchRecord,
        messages: Vec<Map<String, Value>>,
    ) -> Result<(), StoreError> {
        let (store, digest, record) = (Arc::clone(&self.0), digest_of(&record.id), record.clone());
        let committed = blocking(move || {
            let mut batch = Batch::new();
            let mut tickets = Vec::new();
            for (place, message) in messages.iter().enumerate() {
                put_parts(
                    &*store,
                    &mut batch,
                    session,
                    Table::Batches,
                    &message_key(digest, place),
                    &to_json(message),
                )?;
                if batch.len() > RECORD_OPERATIONS_MAX {
                    tickets.push(store.commit(std::mem::take(&mut batch)));
                }
            }
            tickets.push(store.commit(batch));
            let mut batch = Batch::new();
            put_parts(&*store, &mut batch, session, Table::Batches, &record_key(digest), &to_json(&record))?;
            tickets.push(store.commit(batch));
            Ok(tickets)
        });
        for ticket in committed.await? {
            ticket.await?;
        }
        Ok(())
    }

    /// Changes the record of a batch; it is on disk when this returns.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn update(&self, session: SessionNumber, record: &BatchRecord) -> Result<(), StoreError> {
        self.put(session, record_key(digest_of(&record.id)), to_json(record)).await
    }

    /// Keeps what became of a message; it is on disk when this returns.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn keep_result(
        &self,
        session: SessionNumber,
        id: &str,
        place: usize,
        result: &BatchResult,
    ) -> Result<(), StoreError> {
        self.put(session, result_key(digest_of(id), place), to_json(result)).await
    }

    async fn put(&self, session: SessionNumber, key: Vec<u8>, record: Vec<u8>) -> Result<(), StoreError> {
        let store = Arc::clone(&self.0);
        let ticket = blocking(move || {
            let mut batch = Batch::new();
            put_parts(&*store, &mut batch, session, Table::Batches, &key, &record)?;
            Ok(store.commit(batch))
        });
        ticket.await?.await
    }

    /// The record of a batch; `None`: there is none with this id.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn get(&self, session: SessionNumber, id: &str) -> Result<Option<BatchRecord>, StoreError> {
        let (store, key) = (Arc::clone(&self.0), record_key(digest_of(id)));
        let json = blocking(move || get_parts(&*store, session, Table::Batches, &key)).await?;
        Ok(json.and_then(|json| readable(&json)))
    }

    /// What became of each message of a batch so far, by its place.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn results(
        &self,
        session: SessionNumber,
        record: &BatchRecord,
    ) -> Result<Vec<Option<BatchResult>>, StoreError> {
        let (store, digest, count) = (Arc::clone(&self.0), digest_of(&record.id), record.chats.len());
        blocking(move || {
            let mut results = vec![None; count];
            for (key, json) in scan_parts_each(&*store, session, Table::Batches, &kind_key(digest, RESULT))? {
                let place =
                    key.get(DIGEST_BYTES + 1..).and_then(|place| Some(u32::from_be_bytes(place.try_into().ok()?)));
                let slot = place.and_then(|place| results.get_mut(place as usize));
                if let Some(slot) = slot {
                    *slot = readable(&json?);
                }
            }
            Ok(results)
        })
        .await
    }

    /// A message of a batch; `None`: it cannot be read.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn message(
        &self,
        session: SessionNumber,
        id: &str,
        place: usize,
    ) -> Result<Option<Map<String, Value>>, StoreError> {
        let (store, key) = (Arc::clone(&self.0), message_key(digest_of(id), place));
        let json = blocking(move || get_parts(&*store, session, Table::Batches, &key)).await?;
        Ok(json.and_then(|json| readable(&json)))
    }

    /// The records of a session's batches.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn of_session(&self, session: SessionNumber) -> Result<Vec<BatchRecord>, StoreError> {
        let store = Arc::clone(&self.0);
        blocking(move || {
            let records = scan_parts_each(&*store, session, Table::Batches, &[])?.into_iter();
            let records = records.filter(|(key, _)| key.get(DIGEST_BYTES) == Some(&RECORD));
            Ok(records.filter_map(|(_, json)| readable(&json.ok()?)).collect())
        })
        .await
    }

    /// Removes a batch with its messages and results.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn remove(&self, session: SessionNumber, id: &str) -> Result<(), StoreError> {
        let (store, digest) = (Arc::clone(&self.0), digest_of(id));
        let tickets = blocking(move || removal(&*store, session, digest)).await?;
        for ticket in tickets {
            ticket.await?;
        }
        Ok(())
    }

    /// The records of all batches of all sessions. Removes what is left of batches without a record. Blocks.
    ///
    /// # Errors
    /// As the store.
    pub(crate) fn all(&self) -> Result<Vec<(SessionNumber, BatchRecord)>, StoreError> {
        let mut all: std::collections::BTreeMap<(SessionNumber, Digest), Option<BatchRecord>> = Default::default();
        for number in self
            .0
            .scan_all(Table::Batches)?
            .into_iter()
            .map(|(number, _)| number)
            .collect::<std::collections::BTreeSet<_>>()
        {
            for (key, json) in scan_parts_each(&*self.0, number, Table::Batches, &[])? {
                let Some(digest) = key.first_chunk::<DIGEST_BYTES>() else { continue };
                let record = all.entry((number, *digest)).or_default();
                if key.get(DIGEST_BYTES) == Some(&RECORD) {
                    *record = json.ok().and_then(|json| readable(&json));
                }
            }
        }
        let mut records = Vec::new();
        for ((number, digest), record) in all {
            match record {
                Some(record) => records.push((number, record)),
                None => drop(removal(&*self.0, number, digest)?),
            }
        }
        Ok(records)
    }
}

fn removal(
    store: &dyn Store,
    session: SessionNumber,
    digest: Digest,
) -> Result<Vec<rookery_store::Ticket>, StoreError> {
    let mut tickets = Vec::new();
    let mut batch = Batch::for_removal();
    for (key, _) in scan_parts_each(store, session, Table::Batches, &digest)? {
        delete_parts(store, &mut batch, session, Table::Batches, &key)?;
        if batch.len() > RECORD_OPERATIONS_MAX {
            tickets.push(store.commit(std::mem::replace(&mut batch, Batch::for_removal())));
        }
    }
    tickets.push(store.commit(batch));
    Ok(tickets)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(StoreError::Busy))
}

fn digest_of(id: &str) -> Digest {
    let digest = Sha256::digest(id.as_bytes());
    std::array::from_fn(|index| digest[index])
}

fn kind_key(digest: Digest, kind: u8) -> Vec<u8> {
    [digest.as_slice(), &[kind]].concat()
}

fn record_key(digest: Digest) -> Vec<u8> {
    kind_key(digest, RECORD)
}

fn message_key(digest: Digest, place: usize) -> Vec<u8> {
    place_key(digest, MESSAGE, place)
}

fn result_key(digest: Digest, place: usize) -> Vec<u8> {
    place_key(digest, RESULT, place)
}

fn place_key(digest: Digest, kind: u8, place: usize) -> Vec<u8> {
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    [kind_key(digest, kind), place.to_be_bytes().to_vec()].concat()
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn readable<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(json);
    // Not the error's own text: it can hold what was written.
    read.inspect_err(|_| warn!("a row of a batch cannot be read, it is left out")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_store::open_memory;
    use serde_json::json;

    fn record(id: &str) -> BatchRecord {
        let options = BatchOptions { delay_ms: 1_000, is_randomized: false, stops_on_error: false };
        BatchRecord::new(id.into(), (Uuid::nil(), 0), vec!["a".into(), "b".into()], options).unwrap()
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[tokio::test]
    async fn a_batch_is_kept_with_its_messages_and_results_until_it_is_removed() {
        let (batches, number) = (Batches::new(open_memory()), SessionNumber(7));
        let record = record("first");
        let messages = vec![object(json!({ "text": "x".repeat(50_000) })), object(json!({ "text": "b" }))];
        batches.create(number, &record, messages.clone()).await.unwrap();
        batches.create(number, &self::record("second"), messages.clone()).await.unwrap();
        assert_eq!(batches.get(number, "first").await, Ok(Some(record.clone())));
        assert_eq!(batches.get(number, "other").await, Ok(None));
        assert_eq!(batches.message(number, "first", 0).await, Ok(Some(messages[0].clone())));
        let sent = BatchResult::Sent { message_id: "3EB0".into(), at: Timestamp(5) };
        batches.keep_result(number, "first", 1, &sent).await.unwrap();
        assert_eq!(batches.results(number, &record).await, Ok(vec![None, Some(sent)]));
        assert_eq!(batches.all().unwrap().len(), 2);
        batches.remove(number, "first").await.unwrap();
        let left: Vec<_> = batches.all().unwrap().into_iter().map(|(_, record)| record.id).collect();
        assert_eq!(left, ["second"]);
    }

    #[test]
    fn each_message_has_a_random_part_of_its_own_and_the_same_after_a_restart() {
        let record = record("a");
        let read: BatchRecord = serde_json::from_slice(&to_json(&record)).unwrap();
        assert_eq!(read.seed(3), record.seed(3));
        assert_ne!(record.seed(3), record.seed(4));
        assert_ne!(record.seed(3), self::record("a").seed(3), "another batch");
        assert!(!format!("{record:?}").contains(&hex::encode(record.secret.0)));
    }
}
