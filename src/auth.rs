//! The daemon's API keys, in memory and in the store. Knows neither HTTP nor which route needs which role. Only keyed
//! hashes are kept; a check takes no lock, writes nothing, and costs the same however many keys there are.

mod addresses;
mod client;
mod keys;
mod pepper;
mod rate;
mod restored;
mod roles;
mod secret;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rookery_actors::RateLimit;
use rookery_model::{GroupId, SessionId, Timestamp};
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, Store, StoreError};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use crate::clock::Clock;
pub use addresses::AddressRange;
pub(crate) use client::client_address;
pub(crate) use keys::{Key, KeyChange, KeyTerms, Throttle, Usage};
use keys::{KeyRecord, Previous};
use pepper::KeyHash;
pub(crate) use pepper::Pepper;
pub(crate) use rate::{FailedLogins, RateState, subscriber};
pub(crate) use roles::Role;
pub use secret::Secret;

/// Groups that one key may be limited to: more than most accounts are in; its record stays below 64 KiB.
pub(crate) const KEY_GROUPS_MAX: usize = 1_024;

type ByHash = HashMap<KeyHash, Arc<Key>>;

/// The limits of API keys.
#[derive(Copy, Clone, Debug)]
pub(crate) struct KeyLimits {
    /// Requests of one key; `None` is no limit.
    pub(crate) rate: Option<RateLimit>,
    /// Requests of one key that may be in flight at once.
    pub(crate) in_flight_max: usize,
    /// Streams of one key.
    pub(crate) streams_max: usize,
    /// Keys of the daemon: each is a record in memory and an entry of a response without pages.
    pub(crate) keys_max: usize,
}

/// All keys of the daemon.
pub(crate) struct ApiKeys {
    store: Arc<dyn Store>,
    pepper: Pepper,
    limits: KeyLimits,
    clock: Clock,
    /// Keys by the hash of each secret that works or worked: a key that is being rotated is here twice.
    by_hash: ArcSwap<ByHash>,
    /// Held while the store and then the map are changed, so that both change in the same order.
    writing: Mutex<()>,
    /// Told of every change of the map.
    changed: watch::Sender<()>,
}

/// The origin of a key.
#[derive(Copy, Clone, PartialEq, Eq)]
enum MadeBy {
    /// An admin, over HTTP.
    Admin,
    /// A start without a key that can manage others.
    FirstStart,
    /// The operator's configuration.
    Configuration,
}

/// Why a presented key is not accepted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Unknown, or a secret before a rotation whose time is over.
    Invalid,
    /// The key was revoked.
    Revoked,
    /// The key has expired.
    Expired,
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
    /// The key is from the configuration.
    #[error("the key comes from ROOKERY_BOOTSTRAP_KEY and is changed there")]
    Bootstrap,
    /// The key was revoked, and does not come back.
    #[error("the key was revoked")]
    Revoked,
    /// There are as many keys as there may be.
    #[error("there are {0} API keys already, as many as --api-keys-max allows: delete some, or have it raised")]
    TooMany(usize),
    /// The key is limited to the highest number of groups already.
    #[error("a key can be limited to {KEY_GROUPS_MAX} groups at most")]
    TooManyGroups,
    /// An admin narrowed the key meanwhile.
    #[error("the key was narrowed meanwhile")]
    Narrowed,
    /// A record is larger than allowed.
    #[error("a key's record is too large")]
    TooLarge,
    /// The store's keys were hashed with another pepper.
    #[error("the API keys in the store were made with another pepper")]
    OtherPepper,
    /// A record of the first version has no hash.
    #[error("an old key's record cannot be read")]
    OldRecord,
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

impl ApiKeys {
    /// Reads all keys from the store. Blocks for two scans.
    ///
    /// # Errors
    /// [`KeysError::OtherPepper`], [`KeysError::Store`], [`KeysError::Record`], [`KeysError::OldRecord`].
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        pepper: Pepper,
        limits: KeyLimits,
        clock: Clock,
    ) -> Result<Self, KeysError> {
        let mut by_hash = ByHash::new();
        for (record, usage) in stored::read(&*store, &pepper).await? {
            insert(&mut by_hash, Arc::new(Key::new(record, usage, &limits)));
        }
        Ok(Self {
            store,
            pepper,
            limits,
            clock,
            by_hash: ArcSwap::from_pointee(by_hash),
            writing: Mutex::default(),
            changed: watch::Sender::new(()),
        })
    }

    /// Whether the store holds keys that can only be checked with the pepper they were made with.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub(crate) fn need_their_pepper(store: &dyn Store) -> Result<bool, KeysError> {
        stored::needs_its_pepper(store)
    }

    /// The pepper of a backup that was restored, until it is in its file.
    ///
    /// # Errors
    /// [`KeysError::Store`], [`KeysError::Record`].
    pub(crate) fn restored_pepper(store: &dyn Store) -> Result<Option<Pepper>, KeysError> {
        stored::restored_pepper(store)
    }

    /// Adds to a batch that this pepper comes with the keys, or (`None`) that it is in its file now.
    ///
    /// # Errors
    /// [`KeysError::Record`].
    pub(crate) fn keep_restored_pepper(batch: &mut Batch, pepper: Option<&Pepper>) -> Result<(), KeysError> {
        stored::keep_restored_pepper(batch, pepper)
    }

    /// Whether somebody can manage keys, now and later.
    #[must_use]
    pub(crate) fn has_lasting_admin(&self) -> bool {
        let now = self.now();
        self.by_hash.load().values().any(|key| key.record().is_lasting_admin(now))
    }

    /// The key with this secret, if it may be used now and from this address (`None`: the address is unknown). Counts
    /// the use. Never blocks.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub(crate) fn check(&self, secret: &str, address: Option<IpAddr>) -> Result<Arc<Key>, Refusal> {
        let key = self.check_again(secret, address)?;
        key.note_use(self.now());
        Ok(key)
    }

    /// As [`Self::check`], for a request whose use of the key was counted already: the key as it is now. Never blocks.
    ///
    /// # Errors
    /// Why it is not accepted any more.
    pub(crate) fn check_again(&self, secret: &str, address: Option<IpAddr>) -> Result<Arc<Key>, Refusal> {
        let (now, hash) = (self.now(), self.pepper.hash(secret));
        let by_hash = self.by_hash.load();
        let key = by_hash.get(&hash).ok_or(Refusal::Invalid)?;
        key.usable(hash, now)?;
        if key.allows_address(address) { Ok(Arc::clone(key)) } else { Err(Refusal::Address) }
    }

    /// Resolves after each change of any key.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The time by which keys expire. An expired key does not come back while the system's clock is behind.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.latest()
    }

    /// The key that has or had this secret, whether or not it may be used.
    pub(crate) fn known(&self, secret: &str) -> Option<Arc<Key>> {
        self.by_hash.load().get(&self.pepper.hash(secret)).cloned()
    }

    /// Every key, oldest first.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<Arc<Key>> {
        let by_hash = self.by_hash.load();
        let mut all: Vec<_> = by_hash
            .iter()
            .filter(|(hash, key)| key.record().keyed_hash == **hash)
            .map(|(_, key)| key.clone())
            .collect();
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
    pub(crate) async fn create(&self, terms: KeyTerms) -> Result<(Arc<Key>, Secret), KeysError> {
        let secret = Secret::generate()?;
        let key = self.make(&secret, terms, MadeBy::Admin).await?;
        Ok((key, secret))
    }

    /// Ensures that this secret is an admin key without limits; writes nothing when it is one already.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub(crate) async fn ensure_admin(&self, name: &str, secret: &Secret) -> Result<(), KeysError> {
        self.ensure(name, secret, false).await
    }

    /// As [`Self::ensure_admin`], for the key of the configuration (`None`: it has none). An earlier one loses its
    /// rights.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub(crate) async fn ensure_bootstrap(&self, secret: Option<&Secret>) -> Result<(), KeysError> {
        if let Some(secret) = secret {
            self.ensure("bootstrap", secret, true).await?;
        }
        let hash = secret.map(|secret| self.pepper.hash(secret.reveal()));
        for key in self.list().iter().filter(|key| key.record().is_bootstrap && Some(key.record().keyed_hash) != hash) {
            let _writing = self.writing.lock().await;
            self.delete_locked(key).await?;
        }
        Ok(())
    }

    async fn ensure(&self, name: &str, secret: &Secret, is_bootstrap: bool) -> Result<(), KeysError> {
        let existing = self.by_hash.load().get(&self.pepper.hash(secret.reveal())).cloned();
        let is_as_wanted =
            |key: &Key| key.record().is_lasting_admin(self.now()) && key.record().is_bootstrap == is_bootstrap;
        if existing.as_ref().is_some_and(|key| is_as_wanted(key)) {
            return Ok(());
        }
        if let Some(key) = existing {
            let _writing = self.writing.lock().await;
            self.delete_locked(&key).await?;
        }
        let terms = KeyTerms { role: Role::Admin, ..KeyTerms::named(name) };
        let made_by = if is_bootstrap { MadeBy::Configuration } else { MadeBy::FirstStart };
        self.make(secret, terms, made_by).await.map(drop)
    }

    /// Changes what a key is allowed. The change takes effect at once; the key's secret stays.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::Bootstrap`], [`KeysError::LastAdmin`], [`KeysError::Store`].
    pub(crate) async fn update(&self, id: Uuid, change: KeyChange) -> Result<Arc<Key>, KeysError> {
        self.change(id, |record| Ok(KeyRecord { terms: record.terms.clone().with(change), ..record.clone() })).await
    }

    /// Ends a key for good, but keeps its record.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::Bootstrap`], [`KeysError::LastAdmin`], [`KeysError::Store`].
    pub(crate) async fn revoke(&self, id: Uuid) -> Result<Arc<Key>, KeysError> {
        // Also where there is too little disk space for other changes.
        self.change_in(Batch::for_removal(), id, |record| {
            Ok(KeyRecord { is_active: false, previous: None, ..record.clone() })
        })
        .await
    }

    /// Gives a key a new secret. The current secret works for `grace` more. An older secret ends at once.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::Bootstrap`], [`KeysError::Revoked`], [`KeysError::Store`],
    /// [`KeysError::Randomness`].
    pub(crate) async fn rotate(&self, id: Uuid, grace: Duration) -> Result<(Arc<Key>, Secret), KeysError> {
        let secret = Secret::generate()?;
        let (keyed_hash, prefix) = (self.pepper.hash(secret.reveal()), secret.shown_prefix());
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let ends_at = Timestamp(self.clock.now().0.saturating_add(grace_ms));
        let rotated = self.change(id, |record| {
            if !record.is_active {
                return Err(KeysError::Revoked);
            }
            let previous = Some(Previous { keyed_hash: record.keyed_hash, ends_at });
            Ok(KeyRecord { keyed_hash, prefix, previous, ..record.clone() })
        });
        Ok((rotated.await?, secret))
    }

    /// Adds groups of a session to a key's scope. Does nothing for a key that is not limited to groups. An admin may
    /// have changed the key while the groups were made: a key that may not make groups any more, or not in this
    /// session, gets none.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::TooManyGroups`], [`KeysError::Narrowed`], [`KeysError::Store`].
    pub(crate) async fn add_groups(&self, id: Uuid, session: SessionId, groups: Vec<GroupId>) -> Result<(), KeysError> {
        let added = self.change(id, |record| {
            let terms = &record.terms;
            let has_session = terms.allowed_sessions.is_empty() || terms.allowed_sessions.contains(&session);
            let may_create = record.is_active && terms.role >= Role::Operator && terms.allow_group_creation;
            if terms.allowed_groups.is_some() && !(has_session && may_create) {
                return Err(KeysError::Narrowed);
            }
            let mut record = record.clone();
            if let Some(allowed) = &mut record.terms.allowed_groups {
                allowed.extend(groups);
                if allowed.len() > KEY_GROUPS_MAX {
                    return Err(KeysError::TooManyGroups);
                }
            }
            Ok(record)
        });
        added.await.map(drop)
    }

    /// Removes a group from a key's scope. Does nothing for a key that is not limited to groups.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::Store`].
    pub(crate) async fn remove_group(&self, id: Uuid, group: &GroupId) -> Result<(), KeysError> {
        let removed = self.change(id, |record| {
            let mut record = record.clone();
            if let Some(allowed) = &mut record.terms.allowed_groups {
                allowed.remove(group);
            }
            Ok(record)
        });
        removed.await.map(drop)
    }

    /// Removes a key; it is refused from now on, also after a restart.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::Bootstrap`], [`KeysError::LastAdmin`], [`KeysError::Store`].
    pub(crate) async fn remove(&self, id: Uuid) -> Result<(), KeysError> {
        let _writing = self.writing.lock().await;
        let key = self.get(id)?;
        self.refuse_loss(&key, None)?;
        self.delete_locked(&key).await
    }

    /// How the keys change when the store `next` replaces the store `now`, as lines for the operator. Blocks.
    ///
    /// # Errors
    /// [`KeysError::Store`], [`KeysError::Record`].
    pub(crate) fn differences(now: &dyn Store, next: &dyn Store) -> Result<Vec<String>, KeysError> {
        restored::differences(now, next, Timestamp::now())
    }

    /// Replaces the keys of the store `next` by those of the store `now`. Blocks.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub(crate) fn carry_over(now: &dyn Store, next: &dyn Store) -> Result<(), KeysError> {
        restored::carry_over(now, next)
    }

    /// Removes every key from a store that no daemon has open; returns how many there were.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub(crate) async fn remove_all(store: &dyn Store) -> Result<usize, KeysError> {
        stored::clear(store).await
    }

    /// Writes how often each key was used since the last write. Called once a minute and at the end, never by a
    /// request.
    ///
    /// # Errors
    /// [`KeysError::Store`]; the next call tries again.
    pub(crate) async fn write_usage(&self) -> Result<(), KeysError> {
        let _writing = self.writing.lock().await;
        let used: Vec<_> = self.list().into_iter().filter(|key| key.has_unwritten_use()).collect();
        for keys in used.chunks(BATCH_OPERATIONS_MAX) {
            let mut batch = Batch::new();
            let usages: Vec<_> = keys.iter().map(|key| key.usage()).collect();
            for (key, usage) in keys.iter().zip(&usages) {
                stored::put_usage(&mut batch, key.id(), *usage)?;
            }
            self.store.commit(batch).await?;
            for (key, usage) in keys.iter().zip(usages) {
                key.note_written(usage);
            }
        }
        Ok(())
    }

    /// `made_by`: the key's origin.
    async fn make(&self, secret: &Secret, terms: KeyTerms, made_by: MadeBy) -> Result<Arc<Key>, KeysError> {
        let (is_own, is_bootstrap) = (made_by != MadeBy::Admin, made_by == MadeBy::Configuration);
        let _writing = self.writing.lock().await;
        // Keys of the operator and of the first start ignore the limit: without them nobody could delete any key.
        if !is_own && self.list().len() >= self.limits.keys_max {
            return Err(KeysError::TooMany(self.limits.keys_max));
        }
        let record = KeyRecord {
            id: Uuid::new_v4(),
            prefix: secret.shown_prefix(),
            keyed_hash: self.pepper.hash(secret.reveal()),
            previous: None,
            terms,
            is_active: true,
            is_bootstrap,
            created_at: Timestamp::now(),
        };
        let mut batch = Batch::new();
        stored::put(&*self.store, &mut batch, &record)?;
        self.store.commit(batch).await?;
        let key = Arc::new(Key::new(record, Usage::default(), &self.limits));
        self.change_map(|by_hash| insert(by_hash, Arc::clone(&key)));
        Ok(key)
    }

    /// Puts a changed record in the place of the old one, on disk and then in memory.
    async fn change(
        &self,
        id: Uuid,
        change: impl FnOnce(&KeyRecord) -> Result<KeyRecord, KeysError>,
    ) -> Result<Arc<Key>, KeysError> {
        self.change_in(Batch::new(), id, change).await
    }

    async fn change_in(
        &self,
        mut batch: Batch,
        id: Uuid,
        change: impl FnOnce(&KeyRecord) -> Result<KeyRecord, KeysError>,
    ) -> Result<Arc<Key>, KeysError> {
        let _writing = self.writing.lock().await;
        let key = self.get(id)?;
        let record = change(key.record())?;
        self.refuse_loss(&key, Some(&record))?;
        stored::put(&*self.store, &mut batch, &record)?;
        self.store.commit(batch).await?;
        let changed = Arc::new(key.with(record));
        self.change_map(|by_hash| {
            remove(by_hash, &key);
            insert(by_hash, Arc::clone(&changed));
        });
        Ok(changed)
    }

    /// Refuses a change that leaves nobody to manage keys, or that the next start would undo. `after`: the key's new
    /// record.
    fn refuse_loss(&self, key: &Key, after: Option<&KeyRecord>) -> Result<(), KeysError> {
        if key.record().is_bootstrap {
            return Err(KeysError::Bootstrap);
        }
        let now = self.now();
        let by_hash = self.by_hash.load();
        let mut others = by_hash.values().filter(|other| other.id() != key.id());
        let is_kept = after.is_some_and(|record| record.is_lasting_admin(now))
            || others.any(|other| other.record().is_lasting_admin(now));
        if key.record().can_manage_keys(now) && !is_kept { Err(KeysError::LastAdmin) } else { Ok(()) }
    }

    async fn delete_locked(&self, key: &Key) -> Result<(), KeysError> {
        let mut batch = Batch::for_removal();
        stored::delete(&*self.store, &mut batch, key.id())?;
        self.store.commit(batch).await?;
        self.change_map(|by_hash| remove(by_hash, key));
        Ok(())
    }

    /// Puts a changed copy of the map in place of the old one. The caller holds `writing`.
    fn change_map(&self, change: impl FnOnce(&mut ByHash)) {
        let mut by_hash = ByHash::clone(&self.by_hash.load());
        change(&mut by_hash);
        self.by_hash.store(Arc::new(by_hash));
        self.changed.send_replace(());
    }
}

fn insert(by_hash: &mut ByHash, key: Arc<Key>) {
    if let Some(previous) = key.record().previous {
        by_hash.insert(previous.keyed_hash, Arc::clone(&key));
    }
    by_hash.insert(key.record().keyed_hash, key);
}

fn remove(by_hash: &mut ByHash, key: &Key) {
    by_hash.retain(|_, other| other.id() != key.id());
}
