//! Who may call: the daemon's API keys, in memory and in the store. Knows neither HTTP nor what a role is asked for.
//! Only hashes are kept; a check takes no lock and writes nothing.

mod addresses;
mod keys;
mod roles;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rookery_actors::model::{SessionId, Timestamp};
use rookery_actors::store::{Batch, SessionNumber, Store, StoreError, Table};
use tokio::sync::Mutex;
use uuid::Uuid;

pub(crate) use addresses::AddressRange;
use keys::KeyHash;
pub use keys::Secret;
pub(crate) use keys::{Key, KeyRecord};
pub(crate) use roles::Role;

/// Records written in one batch when use is noted: well below the store's own limit of 128 operations.
const USAGE_BATCH_MAX: usize = 64;
/// Keys of one daemon: each is a record in memory and one entry of an answer that is not paged.
const KEYS_MAX: usize = 10_000;

type ByHash = HashMap<KeyHash, Arc<Key>>;

/// All keys of the daemon.
pub(crate) struct Keys {
    store: Arc<dyn Store>,
    by_hash: ArcSwap<ByHash>,
    /// Held while the store and then the map are changed, so that both change in the same order.
    writing: Mutex<()>,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    /// What its owner calls it.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// Where it may be used from; anywhere when empty.
    pub(crate) allowed_ips: Vec<AddressRange>,
    /// The sessions it may see and touch; all of them when empty.
    pub(crate) allowed_sessions: Vec<SessionId>,
    /// When it ends by itself.
    pub(crate) expires_at: Option<Timestamp>,
}

/// Why a presented key is not accepted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Unknown, revoked or expired.
    Invalid,
    /// Not allowed from the caller's address.
    Address,
}

/// Why the keys were not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// No key has this id.
    #[error("no such key")]
    NotFound,
    /// Without this key nobody could manage keys any more.
    #[error("the last active admin key cannot be removed")]
    LastAdmin,
    /// There are as many keys as there may be.
    #[error("there are {KEYS_MAX} keys already")]
    TooMany,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record in the store cannot be read.
    #[error("a key's record cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    /// The system has no randomness to give.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl Keys {
    /// Reads all keys from the store. Blocks for one scan.
    ///
    /// # Errors
    /// [`KeysError::Store`], [`KeysError::Record`].
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, KeysError> {
        let mut by_hash = ByHash::new();
        for (_, value) in store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[])? {
            let key = Key::new(serde_json::from_slice(&value)?);
            by_hash.insert(key.hash(), Arc::new(key));
        }
        Ok(Self { store, by_hash: ArcSwap::from_pointee(by_hash), writing: Mutex::default() })
    }

    /// Whether there is no key at all: the first start.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_hash.load().is_empty()
    }

    /// The key with this secret, if it may be used now and from this address; its use is noted. Never blocks.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub(crate) fn check(&self, secret: &str, address: IpAddr) -> Result<Arc<Key>, Refusal> {
        let now = Timestamp::now();
        let by_hash = self.by_hash.load();
        let key = by_hash.get(&KeyHash::of(secret)).filter(|key| key.is_usable(now)).ok_or(Refusal::Invalid)?;
        if !key.allows_address(address) {
            return Err(Refusal::Address);
        }
        key.note_use(now);
        Ok(Arc::clone(key))
    }

    /// Every key, oldest first.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<Arc<Key>> {
        let mut all: Vec<_> = self.by_hash.load().values().cloned().collect();
        all.sort_by_cached_key(|key| (key.record().created_at, key.id()));
        all
    }

    /// The key with this id.
    ///
    /// # Errors
    /// [`KeysError::NotFound`].
    pub(crate) fn get(&self, id: Uuid) -> Result<Arc<Key>, KeysError> {
        self.by_hash.load().values().find(|key| key.id() == id).cloned().ok_or(KeysError::NotFound)
    }

    /// Makes a key; it is on disk when this returns.
    ///
    /// # Errors
    /// [`KeysError::TooMany`], [`KeysError::Store`], [`KeysError::Randomness`].
    pub(crate) async fn create(&self, new: NewKey) -> Result<(Arc<Key>, Secret), KeysError> {
        let secret = Secret::generate()?;
        let key = self.insert(&secret, new, false).await?;
        Ok((key, secret))
    }

    /// Sees to it that this secret is an admin key without limits; nothing is written when it is one already.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub(crate) async fn ensure_admin(&self, name: &str, secret: &Secret) -> Result<(), KeysError> {
        self.ensure(name, secret, false).await
    }

    /// The same for the key of the configuration; one that was there before loses its rights.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub(crate) async fn ensure_bootstrap(&self, secret: &Secret) -> Result<(), KeysError> {
        self.ensure("bootstrap", secret, true).await?;
        let hash = KeyHash::of(secret.reveal());
        for key in self.list().iter().filter(|key| key.is_bootstrap() && key.hash() != hash) {
            self.delete_record(key).await?;
        }
        Ok(())
    }

    async fn ensure(&self, name: &str, secret: &Secret, is_bootstrap: bool) -> Result<(), KeysError> {
        let existing = self.by_hash.load().get(&KeyHash::of(secret.reveal())).cloned();
        if existing.as_ref().is_some_and(|key| key.is_lasting_admin(Timestamp::now())) {
            return Ok(());
        }
        if let Some(key) = existing {
            self.delete_record(&key).await?;
        }
        let (allowed_ips, allowed_sessions) = (Vec::new(), Vec::new());
        let new = NewKey { name: name.into(), role: Role::Admin, allowed_ips, allowed_sessions, expires_at: None };
        self.insert(secret, new, is_bootstrap).await.map(drop)
    }

    /// Removes a key; it is refused from now on, also after a restart.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::LastAdmin`], [`KeysError::Store`].
    pub(crate) async fn remove(&self, id: Uuid) -> Result<(), KeysError> {
        let _writing = self.writing.lock().await;
        let key = self.get(id)?;
        let now = Timestamp::now();
        let is_last = || !self.by_hash.load().values().any(|other| other.id() != id && other.is_lasting_admin(now));
        if key.can_manage_keys(now) && is_last() {
            return Err(KeysError::LastAdmin);
        }
        self.delete_locked(&key).await
    }

    /// Writes down how often each key was used since the last time. Called once a minute and at the end, never by a
    /// request.
    ///
    /// # Errors
    /// [`KeysError::Store`]; the next call tries again.
    pub(crate) async fn write_usage(&self) -> Result<(), KeysError> {
        let _writing = self.writing.lock().await;
        let used: Vec<_> = self.by_hash.load().values().filter(|key| key.has_unwritten_use()).cloned().collect();
        for keys in used.chunks(USAGE_BATCH_MAX) {
            let mut batch = Batch::new();
            let records: Vec<_> = keys.iter().map(|key| key.record()).collect();
            for record in &records {
                put(&mut batch, record)?;
            }
            self.store.commit(batch).await?;
            for (key, record) in keys.iter().zip(&records) {
                key.note_written(record.usage_count);
            }
        }
        Ok(())
    }

    async fn insert(&self, secret: &Secret, new: NewKey, is_bootstrap: bool) -> Result<Arc<Key>, KeysError> {
        let _writing = self.writing.lock().await;
        if self.by_hash.load().len() >= KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let record = KeyRecord {
            id: Uuid::new_v4(),
            name: new.name,
            prefix: secret.shown_prefix(),
            hash: KeyHash::of(secret.reveal()),
            role: new.role,
            allowed_ips: new.allowed_ips,
            allowed_sessions: new.allowed_sessions,
            is_active: true,
            is_bootstrap,
            expires_at: new.expires_at,
            created_at: Timestamp::now(),
            last_used_at: None,
            usage_count: 0,
        };
        let mut batch = Batch::new();
        put(&mut batch, &record)?;
        self.store.commit(batch).await?;
        let key = Arc::new(Key::new(record));
        self.change(|by_hash| by_hash.insert(key.hash(), Arc::clone(&key)));
        Ok(key)
    }

    async fn delete_record(&self, key: &Key) -> Result<(), KeysError> {
        let _writing = self.writing.lock().await;
        self.delete_locked(key).await
    }

    async fn delete_locked(&self, key: &Key) -> Result<(), KeysError> {
        let mut batch = Batch::new();
        batch.delete(SessionNumber::DAEMON, Table::Keys, key.id().as_bytes().as_slice());
        self.store.commit(batch).await?;
        self.change(|by_hash| by_hash.remove(&key.hash()));
        Ok(())
    }

    /// Puts a changed copy of the map in place of the old one. The caller holds `writing`.
    fn change<T>(&self, change: impl FnOnce(&mut ByHash) -> T) {
        let mut by_hash = ByHash::clone(&self.by_hash.load());
        change(&mut by_hash);
        self.by_hash.store(Arc::new(by_hash));
    }
}

impl Key {
    /// Whether it can make and remove keys: an admin's, without a scope of sessions that it could widen.
    #[must_use]
    pub(crate) fn can_manage_keys(&self, now: Timestamp) -> bool {
        self.role() == Role::Admin && !self.is_scoped() && self.is_usable(now)
    }

    /// Whether it can do so from anywhere and for good: one of these has to be there always.
    #[must_use]
    pub(crate) fn is_lasting_admin(&self, now: Timestamp) -> bool {
        self.can_manage_keys(now) && !self.has_limits()
    }
}

fn put(batch: &mut Batch, record: &KeyRecord) -> Result<(), KeysError> {
    let value = serde_json::to_vec(record)?;
    batch.put(SessionNumber::DAEMON, Table::Keys, record.id.as_bytes().as_slice(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn new_key(role: Role) -> NewKey {
        let (allowed_ips, allowed_sessions) = (Vec::new(), Vec::new());
        NewKey { name: "alice".into(), role, allowed_ips, allowed_sessions, expires_at: None }
    }

    fn empty() -> (Keys, Arc<dyn Store>) {
        let store = rookery_actors::store::open_memory();
        (Keys::open(Arc::clone(&store)).unwrap(), store)
    }

    #[tokio::test]
    async fn a_key_is_accepted_until_it_is_removed_also_after_a_restart() {
        let (keys, store) = empty();
        let (_, admin) = keys.create(new_key(Role::Admin)).await.unwrap();
        let (key, secret) = keys.create(new_key(Role::Viewer)).await.unwrap();
        assert_eq!(keys.check(secret.reveal(), HERE).map(|key| key.role()), Ok(Role::Viewer));
        assert_eq!(keys.check("rk_unknown", HERE).map(drop), Err(Refusal::Invalid));

        let keys = Keys::open(Arc::clone(&store)).unwrap();
        assert!(keys.check(secret.reveal(), HERE).is_ok());
        keys.remove(key.id()).await.unwrap();
        for keys in [keys, Keys::open(store).unwrap()] {
            assert_eq!(keys.check(secret.reveal(), HERE).map(drop), Err(Refusal::Invalid));
            assert!(keys.check(admin.reveal(), HERE).is_ok());
        }
    }

    #[tokio::test]
    async fn another_bootstrap_key_takes_the_place_of_the_one_before() {
        let (keys, store) = empty();
        let (_, own) = keys.create(new_key(Role::Admin)).await.unwrap();
        let (old, new) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        keys.ensure_bootstrap(&old).await.unwrap();
        keys.ensure_bootstrap(&new).await.unwrap();
        for keys in [keys, Keys::open(store).unwrap()] {
            assert_eq!(keys.check(old.reveal(), HERE).map(drop), Err(Refusal::Invalid));
            assert!(keys.check(new.reveal(), HERE).is_ok() && keys.check(own.reveal(), HERE).is_ok());
        }
    }

    #[tokio::test]
    async fn an_admin_key_that_ends_does_not_count_as_the_last_one() {
        let (keys, _store) = empty();
        let (lasting, _) = keys.create(new_key(Role::Admin)).await.unwrap();
        let ends = NewKey { expires_at: Some(Timestamp(Timestamp::now().0 + 60_000)), ..new_key(Role::Admin) };
        let (ending, _) = keys.create(ends).await.unwrap();
        assert!(matches!(keys.remove(lasting.id()).await, Err(KeysError::LastAdmin)));
        keys.remove(ending.id()).await.unwrap();
    }

    #[tokio::test]
    async fn the_store_holds_no_secret() {
        let (keys, store) = empty();
        let (_, secret) = keys.create(new_key(Role::Admin)).await.unwrap();
        for (_, value) in store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[]).unwrap() {
            let text = String::from_utf8(value).unwrap();
            assert!(!text.contains(secret.reveal()) && text.contains("\"hash\""));
        }
    }

    #[tokio::test]
    async fn the_last_key_that_can_manage_keys_stays() {
        let (keys, _) = empty();
        let (first, _) = keys.create(new_key(Role::Admin)).await.unwrap();
        let scoped = NewKey { allowed_sessions: vec![SessionId::random()], ..new_key(Role::Admin) };
        let (scoped, _) = keys.create(scoped).await.unwrap();
        assert!(matches!(keys.remove(first.id()).await, Err(KeysError::LastAdmin)));
        keys.remove(scoped.id()).await.unwrap();
        keys.create(new_key(Role::Admin)).await.unwrap();
        keys.remove(first.id()).await.unwrap();
        assert!(matches!(keys.remove(first.id()).await, Err(KeysError::NotFound)));
    }

    #[tokio::test]
    async fn an_expired_key_or_a_foreign_address_is_refused() {
        let (keys, _) = empty();
        let ended = NewKey { expires_at: Some(Timestamp(Timestamp::now().0 - 1)), ..new_key(Role::Admin) };
        let (_, secret) = keys.create(ended).await.unwrap();
        assert_eq!(keys.check(secret.reveal(), HERE).map(drop), Err(Refusal::Invalid));

        let elsewhere = NewKey { allowed_ips: vec!["10.0.0.0/8".parse().unwrap()], ..new_key(Role::Admin) };
        let (_, secret) = keys.create(elsewhere).await.unwrap();
        assert_eq!(keys.check(secret.reveal(), HERE).map(drop), Err(Refusal::Address));
        assert!(keys.check(secret.reveal(), "10.1.2.3".parse().unwrap()).is_ok());
    }

    #[tokio::test]
    async fn use_is_counted_and_written_only_when_told() {
        let (keys, store) = empty();
        let (_, secret) = keys.create(new_key(Role::Viewer)).await.unwrap();
        for _ in 0..3 {
            keys.check(secret.reveal(), HERE).unwrap();
        }
        let count = |keys: &Keys| keys.list()[0].record().usage_count;
        assert_eq!((count(&keys), count(&Keys::open(Arc::clone(&store)).unwrap())), (3, 0));
        keys.write_usage().await.unwrap();
        assert_eq!(count(&Keys::open(store).unwrap()), 3);
        assert!(keys.list().iter().all(|key| !key.has_unwritten_use()));
    }

    #[tokio::test]
    async fn a_chosen_admin_key_is_made_once_and_restored_when_it_was_limited() {
        let (keys, store) = empty();
        let secret = Secret::from("0123456789abcdef0123456789abcdef");
        keys.insert(&secret, new_key(Role::Viewer), false).await.unwrap();
        for _ in 0..2 {
            keys.ensure_admin("bootstrap", &secret).await.unwrap();
        }
        assert_eq!(keys.list().len(), 1);
        assert_eq!(keys.check(secret.reveal(), HERE).map(|key| key.role()), Ok(Role::Admin));
        assert!(Keys::open(store).unwrap().check(secret.reveal(), HERE).is_ok());
    }
}
