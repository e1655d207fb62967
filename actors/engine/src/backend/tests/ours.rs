//! Promises that only our backend makes: rows, durability, cancellation, sessions kept apart.

use std::sync::Mutex;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use wacore::store::traits::{MsgSecretEntry, MsgSecretStore, ProtocolStore, SignalStore};

use super::*;
use rookery_store::{Batch, Health, Row, StoreError, Ticket};

#[tokio::test]
async fn an_upload_of_812_keys_is_13_rows() {
    let store = open_memory();
    let backend = SessionBackend::new(Arc::clone(&store), ALICE);
    let upload: Vec<(u32, Bytes)> = (1..=812).map(|id| (id, Bytes::from(vec![0; 74]))).collect();
    backend.store_prekeys_batch(&upload, false).await.unwrap();
    assert_eq!(store.scan_prefix(ALICE, Table::PreKeys, b"").unwrap().len(), 13);
    for (id, _) in &upload {
        backend.remove_prekey(*id).await.unwrap();
    }
    assert!(store.scan_prefix(ALICE, Table::PreKeys, b"").unwrap().is_empty());
}

#[tokio::test]
async fn sessions_do_not_see_each_other() {
    let store = open_memory();
    let alice = SessionBackend::new(Arc::clone(&store), ALICE);
    let bob = SessionBackend::new(Arc::clone(&store), BOB);
    alice.put_session("x@c.us", b"alice").await.unwrap();
    bob.store_prekey(1, b"bob", false).await.unwrap();
    assert_eq!(bob.get_session("x@c.us").await.unwrap(), None);
    assert_eq!(alice.load_prekey(1).await.unwrap(), None);
    assert!(!bob.has_signal_state_for_user("x").await.unwrap());
}

#[tokio::test]
async fn what_returned_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let backend = SessionBackend::new(on_disk(directory.path()), ALICE);
    backend.store_prekey(7, b"key", false).await.unwrap();
    backend.put_group_metadata("g", &[5; 50_000]).await.unwrap();
    drop(backend);
    let backend = SessionBackend::new(on_disk(directory.path()), ALICE);
    assert_eq!(backend.load_prekey(7).await.unwrap().unwrap(), "key");
    assert_eq!(backend.get_group_metadata("g").await.unwrap().unwrap(), [5; 50_000]);
}

type Outcome = Result<(), StoreError>;

/// A store whose commits take effect only when asked, as when the disk is slow.
struct Held {
    rows: Arc<dyn Store>,
    waiting: Mutex<Vec<(Batch, oneshot::Sender<Outcome>)>>,
}

impl Held {
    fn new() -> Arc<Self> {
        Arc::new(Self { rows: open_memory(), waiting: Mutex::default() })
    }

    /// Lets all waiting batches take effect; returns their number.
    fn release(&self) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        let released = waiting.len();
        for (batch, done) in waiting {
            let outcome = self.rows.commit(batch).wait_blocking();
            let _ = done.send(outcome);
        }
        released
    }
}

impl Store for Held {
    fn commit(&self, batch: Batch) -> Ticket {
        let (done, ticket) = oneshot::channel();
        self.waiting.lock().unwrap().push((batch, done));
        Ticket::waiting(ticket)
    }

    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(session, table, key)
    }

    fn scan_prefix(&self, session: SessionNumber, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        self.rows.scan_prefix(session, table, prefix)
    }

    fn scan_all(&self, table: Table) -> Result<Vec<(SessionNumber, Row)>, StoreError> {
        self.rows.scan_all(table)
    }

    fn export(&self, _: &mut dyn std::io::Write) -> Result<(), StoreError> {
        unreachable!()
    }

    fn import(&self, _: &mut dyn std::io::Read) -> Result<(), StoreError> {
        unreachable!()
    }

    fn health(&self) -> Health {
        Health::Ok
    }
}

#[tokio::test]
async fn a_write_returns_only_after_its_ticket() {
    let store = Held::new();
    let backend = SessionBackend::new(Arc::clone(&store) as _, ALICE);
    let mut write = Box::pin(backend.put_session("x@c.us", b"session"));
    assert!(write.as_mut().now_or_never().is_none());
    assert_eq!(store.release(), 1);
    write.await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_does_not_lose_a_key_to_the_next_one() {
    let store = Held::new();
    let backend = SessionBackend::new(Arc::clone(&store) as _, ALICE);
    // The engine gives up on this call while its batch is on its way.
    assert!(backend.store_prekey(1, b"one", false).now_or_never().is_none());
    let mut second = Box::pin(backend.store_prekey(2, b"two", false));
    while second.as_mut().now_or_never().is_none() {
        assert!(store.release() > 0, "the second call waits for nothing");
    }
    assert_eq!(backend.load_prekey(1).await.unwrap().unwrap(), "one");
    assert_eq!(backend.load_prekey(2).await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn an_overlong_message_id_does_not_hold_up_the_others() {
    let backend = SessionBackend::new(open_memory(), ALICE);
    let entry = |id: String| MsgSecretEntry {
        chat: "c".into(),
        sender: "s".into(),
        msg_id: id.into(),
        secret: [1; 32],
        expires_at: 0,
        message_ts: 0,
    };
    backend.put_msg_secrets(vec![entry("x".repeat(5_000)), entry("good".to_owned())]).await.unwrap();
    assert!(backend.get_msg_secret("c", "s", "good").await.unwrap().is_some());
}

#[tokio::test]
async fn errors_name_the_table_and_nothing_else() {
    let store = open_memory();
    let backend = SessionBackend::new(Arc::clone(&store), ALICE);
    let mut batch = Batch::new();
    batch.put(ALICE, Table::SyncKeys, "kid", r#"{"key_data": "secret"}"#);
    batch.put(ALICE, Table::PreKeys, [0, 0, 0, 0], "broken");
    store.commit(batch).await.unwrap();
    let error = wacore::store::traits::AppSyncStore::get_sync_key(&backend, b"id").await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    let error = backend.load_prekey(1).await.unwrap_err();
    assert_eq!(error.to_string(), "data validation failed: a record in table `pre_keys` is unreadable");
}

/// M-1: what a decryption left of a message's keys is never on disk without the message, until the log has the message.
#[tokio::test]
async fn a_decrypted_message_is_on_disk_with_the_state_that_its_decryption_left() {
    let store = open_memory();
    let backend = SessionBackend::new(Arc::clone(&store), ALICE);
    let pending = |backend: &SessionBackend, id: &'static str| {
        let message = backend.get_pending_inbound("chat", "bob", id);
        message.now_or_never().unwrap().unwrap()
    };
    backend.store_pending_inbound("chat", "bob", "1", b"one").await.unwrap();
    backend.store_pending_inbound("chat", "bob", "2", b"two").await.unwrap();
    backend.delete_pending_inbound("chat", "bob", "1").await.unwrap();
    // As after a kill: nothing of the messages is there, and nothing of the keys either.
    assert_eq!(pending(&SessionBackend::new(store.clone(), ALICE), "2"), None);

    backend.put_sender_key("group::bob", b"state").await.unwrap();
    let after_kill = SessionBackend::new(store.clone(), ALICE);
    assert_eq!((pending(&after_kill, "1"), pending(&after_kill, "2")), (None, Some(b"two".to_vec())));
    backend.put_session("bob.0", b"state").await.unwrap();
    backend.delete_pending_inbound("chat", "bob", "2").await.unwrap();
    assert_eq!((pending(&backend, "2"), pending(&SessionBackend::new(store.clone(), ALICE), "2")), (None, None));

    // The state is about to be written while the message is on its way here.
    let message = backend.store_pending_inbound("chat", "bob", "3", b"three");
    let (state, message) = tokio::join!(backend.put_session("bob.0", b"next"), message);
    assert_eq!((state.is_ok(), message.is_ok()), (true, true));
    assert_eq!(pending(&SessionBackend::new(store, ALICE), "3"), Some(b"three".to_vec()));
}
