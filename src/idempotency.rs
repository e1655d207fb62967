//! Idempotency keys: the calls that run, and the responses of finished calls, for 24 hours and over restarts. Knows no
//! HTTP beyond a response's status, headers and bytes. Never decides which responses are kept.
//!
//! A key's life, with the store beside it:
//!
//! | state | in memory | on disk | the same call again |
//! |---|---|---|---|
//! | free | - | - | is carried out |
//! | running | a [`Execution`] | a mark | [`IdempotencyError::InUse`] |
//! | over | - | the answer | gets that answer |
//! | interrupted | - | a mark | [`IdempotencyError::Interrupted`]; with a seed, it is carried out once more |
//!
//! The mark is on disk before the call is carried out, and the answer before it is sent: a daemon that is killed
//! in between leaves a mark that nobody runs, and no call is carried out twice. A call that sends a message is the exception: its
//! mark has the message's seed, and WhatsApp shows a message that is sent twice with one seed once.

mod record;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rookery_model::{MessageSeed, SessionId, Timestamp};
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, delete_parts, get_parts, parts_in, put_parts,
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::clock::Clock;
pub(crate) use record::{Fingerprint, KeptResponse, Slot};
use record::{Hour, Moved, Record};

/// Keys of one session in 24 hours. An API key may use as many as it leaves free, so that others always get some. A
/// single API key gets 5,000: a write every 17 s all day, which WhatsApp would not allow.
const KEPT_PER_SESSION_MAX: usize = 10_000;
/// Keys of all sessions in 24 hours, shared in the same way: at about 1 KiB each they are 200 MiB of the disk.
const KEPT_MAX: usize = 200_000;
/// Bytes of one record. A result takes 110 bytes, or 200 with a message: 1,024 refused participants take 200 KiB at
/// most. The limit of one batch is far above.
pub(crate) const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Keys removed in one batch: each may take all the parts of a record and a row of the index.
const REMOVED_IN_BATCH_MAX: usize = BATCH_OPERATIONS_MAX / (parts_in(RECORD_BYTES_MAX) + 1);

/// All idempotency keys of the daemon.
pub(crate) struct Idempotency {
    store: Arc<dyn Store>,
    limits: Limits,
    clock: Clock,
    book: Mutex<Book>,
}

/// How many keys are kept.
#[derive(Copy, Clone)]
struct Limits {
    per_session: usize,
    all: usize,
}

/// The time, for two purposes.
#[derive(Copy, Clone)]
struct Times {
    /// The time by which records expire.
    ended: Timestamp,
    /// The time at which a new record is made.
    made: Timestamp,
}

/// The state that is known without reading the store. Records from before there were shares count for the nil API key.
#[derive(Default)]
struct Book {
    running: HashMap<Slot, Option<Fingerprint>>,
    /// Records that were kept before the start, and were not replayed since.
    from_before: HashSet<Slot>,
    by_session: HashMap<SessionNumber, usize>,
    by_user: HashMap<Uuid, usize>,
    by_user_and_session: HashMap<(Uuid, SessionNumber), usize>,
    kept_in_all: usize,
    /// The hours in which sessions made records that are still kept.
    hours: BTreeSet<(Hour, SessionNumber)>,
}

/// What to do with a call.
pub(crate) enum Start {
    /// The first call with its key: carry it out.
    First(Execution),
    /// The call was carried out before, with this response.
    Again(Replay),
}

/// A response that is given again.
pub(crate) struct Replay {
    pub(crate) answer: KeptResponse,
    /// The response was kept before this start, and is replayed for the first time since: it may never have been sent
    /// before.
    pub(crate) is_first_since_start: bool,
}

/// The right to carry a call out. Dropping it without [`Execution::keep`] or [`Execution::release`] leaves the key interrupted.
pub(crate) struct Execution {
    claim: Claim,
    /// The API key.
    user: Uuid,
    fingerprint: Fingerprint,
    created_at: Timestamp,
    /// Of the message that the call sends.
    seed: Option<MessageSeed>,
    /// The call was begun before, and may have done something then.
    is_resumed: bool,
}

/// A call that asks to be carried out.
#[derive(Copy, Clone)]
pub(crate) struct Call {
    /// Its API key.
    pub(crate) user: Uuid,
    pub(crate) fingerprint: Fingerprint,
    /// The seed of the message that it sends, unless it was begun before with another one.
    pub(crate) seed: Option<MessageSeed>,
}

/// Nobody else changes a slot's record while this lives.
struct Claim {
    owner: Arc<Idempotency>,
    slot: Slot,
}

/// Why a call with a key is not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdempotencyError {
    /// The first call with this key still runs.
    #[error("the first call with this key still runs")]
    InUse,
    /// The key was used for another call.
    #[error("the key was used for another call")]
    Reused,
    /// The first call was begun, and its result is not known.
    #[error("the first call with this key was cut off")]
    Interrupted,
    /// The API key used as many idempotency keys as it may in the last 24 hours.
    #[error("too many keys in 24 hours")]
    TooMany,
    /// A response is too large to be kept.
    #[error("an answer of {0} bytes is too large to be kept")]
    TooLarge(usize),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record in the store cannot be read.
    #[error("the record of a key cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    /// A task of ours died.
    #[error("reading the record of a key was cut short")]
    CutShort,
}

impl Idempotency {
    /// Reads which keys there are. Blocks for one scan.
    ///
    /// # Errors
    /// Why the store could not be read.
    pub(crate) fn open(store: Arc<dyn Store>, clock: Clock) -> Result<Arc<Self>, StoreError> {
        Self::with(store, Limits { per_session: KEPT_PER_SESSION_MAX, all: KEPT_MAX }, clock)
    }

    fn with(store: Arc<dyn Store>, limits: Limits, clock: Clock) -> Result<Arc<Self>, StoreError> {
        let mut book = Book::default();
        for (session, (key, user)) in store.scan_all(Table::IdempotentHours)? {
            if let Some((hour, slot)) = record::split_hour_key(session, &key) {
                book.note_kept(record::user_of(&user), slot.session(), hour);
                book.from_before.insert(slot);
            }
        }
        Ok(Arc::new(Self { store, limits, clock, book: Mutex::new(book) }))
    }

    /// Begins a call. A mark of it is on disk when this returns [`Start::First`]. Must not be
    /// dropped half way: that may leave a mark of a call that nobody carries out (`detached_tasks.rs` prevents it).
    ///
    /// # Errors
    /// Why the call is not carried out; nothing was changed then.
    pub(crate) async fn start(self: &Arc<Self>, slot: Slot, call: Call) -> Result<Start, IdempotencyError> {
        // A clock that is ahead for a while, or was ahead at a start, would let a call be carried out twice. So old
        // records expire by the earlier time, and a new record gets the later time.
        let times = Times { ended: self.clock.earliest(), made: self.clock.latest() };
        self.start_at(slot, call, times).await
    }

    async fn start_at(self: &Arc<Self>, slot: Slot, call: Call, times: Times) -> Result<Start, IdempotencyError> {
        let owner = Arc::clone(self);
        let looked = spawn_blocking(move || owner.look(slot, call, times)).await;
        let (execution, mark) = match looked.map_err(|_| IdempotencyError::CutShort)?? {
            LookedUp::Again(replay) => return Ok(Start::Again(replay)),
            LookedUp::Resumed(execution) => return Ok(Start::First(execution)),
            LookedUp::First { execution, mark } => (execution, mark),
        };
        if let Err(error) = self.store.commit(mark).await {
            self.book().note_removed(call.user, slot.session());
            return Err(error.into());
        }
        Ok(Start::First(execution))
    }

    fn replay(&self, slot: Slot, answer: KeptResponse) -> Replay {
        Replay { answer, is_first_since_start: self.book().from_before.remove(&slot) }
    }

    /// Removes the expired records; returns how many there were. Called by a timer, never by a request.
    ///
    /// # Errors
    /// [`IdempotencyError::Store`]; the next call goes on.
    pub(crate) async fn sweep(self: &Arc<Self>) -> Result<usize, IdempotencyError> {
        self.sweep_at(self.clock.earliest()).await
    }

    async fn sweep_at(self: &Arc<Self>, now: Timestamp) -> Result<usize, IdempotencyError> {
        let mut removed = 0;
        let expired: Vec<_> = self.book().hours.iter().copied().filter(|(hour, _)| hour.is_expired(now)).collect();
        for (hour, session) in expired {
            let slots = self.slots(session, record::hour_prefix(hour).to_vec()).await?;
            removed += self.remove(slots, Some(now)).await?;
            self.book().hours.remove(&(hour, session));
        }
        Ok(removed)
    }

    /// Removes all records of a session that is gone; the store may have wiped them already.
    ///
    /// # Errors
    /// [`IdempotencyError::Store`]; the remaining records go within 24 hours.
    pub(crate) async fn forget(self: &Arc<Self>, session: SessionNumber) -> Result<(), IdempotencyError> {
        let slots = self.slots(session, Vec::new()).await?;
        self.remove(slots, None).await?;
        self.book().forget(session);
        Ok(())
    }

    /// Looks the slot up, and claims it for a first call. Reads the store, so it blocks.
    fn look(self: &Arc<Self>, slot: Slot, call: Call, times: Times) -> Result<LookedUp, IdempotencyError> {
        let Call { user, fingerprint, seed } = call;
        if let Some(running) = self.book().running.get(&slot) {
            return Err(in_use(*running, fingerprint));
        }
        // Read without a claim, so that several calls may get the same response at once.
        let known = self.read(slot)?.filter(|record| !record.is_expired(times.ended));
        let known = known.filter(|record| record.fingerprint == fingerprint);
        if let Some(answer) = known.and_then(|record| record.answer) {
            return Ok(LookedUp::Again(self.replay(slot, answer)));
        }
        let claim = self.claim(slot, Some(fingerprint)).map_err(|running| in_use(running, fingerprint))?;
        // Nobody else changes the slot from here on: the record that is read now stays valid.
        let old = self.read(slot)?;
        match old.as_ref().filter(|record| !record.is_expired(times.ended)) {
            Some(record) if record.fingerprint != fingerprint => return Err(IdempotencyError::Reused),
            Some(Record { answer: Some(answer), .. }) => return Ok(LookedUp::Again(self.replay(slot, answer.clone()))),
            Some(Record { user, created_at, seed: Some(begun_with), .. }) if seed.is_some() => {
                let (user, created_at, seed) = (*user, *created_at, Some(*begun_with));
                return Ok(LookedUp::Resumed(Execution {
                    claim,
                    user,
                    fingerprint,
                    created_at,
                    seed,
                    is_resumed: true,
                }));
            }
            Some(Record { answer: None, .. }) => return Err(IdempotencyError::Interrupted),
            None => {}
        }

        let execution = Execution { claim, user, fingerprint, created_at: times.made, seed, is_resumed: false };
        let mut mark = Batch::new();
        if let Some(old) = &old {
            mark.delete(slot.session(), Table::IdempotentHours, slot.hour_key(Hour::of(old.created_at)));
        }
        self.put(&mut mark, slot, &execution.record(None))?;
        let mut book = self.book();
        if let Some(old) = &old {
            // The new record replaces the old one, which no longer counts.
            book.note_removed(old.user, slot.session());
        } else if !book.has_room(user, slot.session(), &self.limits) {
            return Err(IdempotencyError::TooMany);
        }
        book.note_kept(user, slot.session(), Hour::of(times.made));
        drop(book);
        Ok(LookedUp::First { execution, mark })
    }

    fn read(&self, slot: Slot) -> Result<Option<Record>, IdempotencyError> {
        let key = slot.record_key();
        let bytes = get_parts(&*self.store, slot.session(), Table::IdempotentAnswers, &key)?;
        Ok(bytes.map(|bytes| Record::of_bytes(&bytes)).transpose()?)
    }

    /// Adds the record and its row in the index to the batch. Reads the store, so it blocks.
    fn put(&self, batch: &mut Batch, slot: Slot, record: &Record) -> Result<(), IdempotencyError> {
        let bytes = record.to_bytes()?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(IdempotencyError::TooLarge(bytes.len()));
        }
        let (session, hour) = (slot.session(), Hour::of(record.created_at));
        put_parts(&*self.store, batch, session, Table::IdempotentAnswers, &slot.record_key(), &bytes)?;
        batch.put(session, Table::IdempotentHours, slot.hour_key(hour), record.user.as_bytes().as_slice());
        Ok(())
    }

    /// Adds the removal of a record and its row in the index to the batch. Reads the store, so it blocks.
    fn delete(&self, batch: &mut Batch, slot: Slot, created_at: Timestamp) -> Result<(), IdempotencyError> {
        delete_parts(&*self.store, batch, slot.session(), Table::IdempotentAnswers, &slot.record_key())?;
        batch.delete(slot.session(), Table::IdempotentHours, slot.hour_key(Hour::of(created_at)));
        Ok(())
    }

    /// The slots of a session whose rows in the index begin with `prefix`.
    async fn slots(&self, session: SessionNumber, prefix: Vec<u8>) -> Result<Vec<Slot>, IdempotencyError> {
        let store = Arc::clone(&self.store);
        let scan = move || store.scan_prefix(session, Table::IdempotentHours, &prefix);
        let rows = spawn_blocking(scan).await.map_err(|_| IdempotencyError::CutShort)??;
        let slot = |(key, _): (Vec<u8>, Vec<u8>)| Some(record::split_hour_key(session, &key)?.1);
        Ok(rows.into_iter().filter_map(slot).collect())
    }

    /// Removes these records in batches, except those whose calls run. With `expired_at`, removes only records that
    /// have expired by then. Returns how many it removed.
    async fn remove(
        self: &Arc<Self>,
        slots: Vec<Slot>,
        expired_at: Option<Timestamp>,
    ) -> Result<usize, IdempotencyError> {
        let mut removed = 0;
        for slots in slots.chunks(REMOVED_IN_BATCH_MAX) {
            let claims: Vec<_> = slots.iter().filter_map(|slot| self.claim(*slot, None).ok()).collect();
            let owner = Arc::clone(self);
            let read = spawn_blocking(move || {
                let mut batch = Batch::new();
                let mut gone = Vec::new();
                for claim in claims {
                    let record = owner.read(claim.slot)?;
                    let due = record.filter(|record| expired_at.is_none_or(|now| record.is_expired(now)));
                    if let Some(record) = due {
                        owner.delete(&mut batch, claim.slot, record.created_at)?;
                        gone.push((claim, record.user));
                    }
                }
                Ok::<_, IdempotencyError>((batch, gone))
            });
            let (batch, gone) = read.await.map_err(|_| IdempotencyError::CutShort)??;
            self.store.commit(batch).await?;
            let mut book = self.book();
            for (claim, user) in &gone {
                book.note_removed(*user, claim.slot.session());
                book.from_before.remove(&claim.slot);
            }
            removed += gone.len();
            // Dropping a claim locks the book itself.
            drop(book);
        }
        Ok(removed)
    }

    /// Claims the slot, or returns the fingerprint of the call that has it.
    fn claim(self: &Arc<Self>, slot: Slot, fingerprint: Option<Fingerprint>) -> Result<Claim, Option<Fingerprint>> {
        let mut book = self.book();
        if let Some(running) = book.running.get(&slot) {
            return Err(*running);
        }
        book.running.insert(slot, fingerprint);
        Ok(Claim { owner: Arc::clone(self), slot })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of [`Idempotency::look`].
enum LookedUp {
    Again(Replay),
    /// The call was begun before, and its mark is there.
    Resumed(Execution),
    First {
        execution: Execution,
        mark: Batch,
    },
}

impl Execution {
    /// The seed of the message that the call sends: the same each time it is begun.
    pub(crate) fn seed(&self) -> Option<MessageSeed> {
        self.seed
    }

    /// Whether the call was begun before, and may have done something then.
    pub(crate) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Ends the call. Its response is on disk when this returns, and repeated calls get it.
    ///
    /// # Errors
    /// Why the response is not kept: the key then counts as interrupted, so that the call is still not carried out
    /// twice.
    pub(crate) async fn keep(self, answer: KeptResponse) -> Result<(), IdempotencyError> {
        self.end(move |owner, call| {
            let mut batch = Batch::new();
            owner.put(&mut batch, call.claim.slot, &call.record(Some(answer)))?;
            Ok(batch)
        })
        .await
        .map(drop)
    }

    /// Ends a call that did nothing: its key is free again, unless the call was begun before. Then it can be begun once more.
    ///
    /// # Errors
    /// Why the key is not free: it counts as interrupted.
    pub(crate) async fn release(self) -> Result<(), IdempotencyError> {
        if self.is_resumed {
            return Ok(());
        }
        let user = self.user;
        let deleted = self.end(|owner, call| {
            let mut batch = Batch::new();
            owner.delete(&mut batch, call.claim.slot, call.created_at)?;
            Ok(batch)
        });
        let claim = deleted.await?;
        claim.owner.book().note_removed(user, claim.slot.session());
        Ok(())
    }

    /// Commits the batch that `change` returns. Returns the claim, which ends when it is dropped.
    async fn end(
        self,
        change: impl FnOnce(&Idempotency, &Self) -> Result<Batch, IdempotencyError> + Send + 'static,
    ) -> Result<Claim, IdempotencyError> {
        let prepare = move || change(&self.claim.owner, &self).map(|batch| (batch, self.claim));
        let (batch, claim) = spawn_blocking(prepare).await.map_err(|_| IdempotencyError::CutShort)??;
        claim.owner.store.commit(batch).await?;
        Ok(claim)
    }

    fn record(&self, answer: Option<KeptResponse>) -> Record {
        let Self { user, fingerprint, created_at, seed, .. } = *self;
        Record { user, fingerprint, created_at, seed, answer }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.owner.book().running.remove(&self.slot);
    }
}

impl Book {
    /// Whether the API key may use one more: it may use as many as it leaves free, of the session's keys and of all.
    fn has_room(&self, user: Uuid, session: SessionNumber, limits: &Limits) -> bool {
        let of_session = self.by_session.get(&session).copied().unwrap_or_default();
        let own = self.by_user.get(&user).copied().unwrap_or_default();
        let own_of_session = self.by_user_and_session.get(&(user, session)).copied().unwrap_or_default();
        own_of_session < limits.per_session.saturating_sub(of_session)
            && own < limits.all.saturating_sub(self.kept_in_all)
    }

    fn note_kept(&mut self, user: Uuid, session: SessionNumber, hour: Hour) {
        *self.by_session.entry(session).or_default() += 1;
        *self.by_user.entry(user).or_default() += 1;
        *self.by_user_and_session.entry((user, session)).or_default() += 1;
        self.kept_in_all += 1;
        self.hours.insert((hour, session));
    }

    fn note_removed(&mut self, user: Uuid, session: SessionNumber) {
        self.kept_in_all = self.kept_in_all.saturating_sub(1);
        count_down(&mut self.by_session, session);
        count_down(&mut self.by_user, user);
        count_down(&mut self.by_user_and_session, (user, session));
    }

    /// Forgets a session that is gone, and all its records.
    fn forget(&mut self, session: SessionNumber) {
        let kept: Vec<(Uuid, usize)> = self
            .by_user_and_session
            .iter()
            .filter(|((_, of), _)| *of == session)
            .map(|((user, _), count)| (*user, *count))
            .collect();
        for (user, count) in kept {
            (0..count).for_each(|_| self.note_removed(user, session));
        }
        self.from_before.retain(|slot| slot.session() != session);
    }
}

/// Moves the rows that layout 1 kept for all sessions together to each session. Drops the rows of unknown sessions.
/// Blocks.
///
/// # Errors
/// Why the store could not be read or written; the next start goes on.
pub(crate) fn migrate(
    store: &dyn Store,
    numbers: impl FnOnce() -> Result<HashMap<SessionId, SessionNumber>, StoreError>,
) -> Result<(), StoreError> {
    let rows = store.scan_prefix(SessionNumber::DAEMON, Table::IdempotentAnswers, b"")?;
    let numbers = if rows.is_empty() { HashMap::new() } else { numbers()? };
    // Each row moves atomically, and the next start moves the rest: a record's parts may be in both places in between.
    for rows in rows.chunks(BATCH_OPERATIONS_MAX / 2) {
        let mut batch = Batch::new();
        for (key, value) in rows {
            batch.delete(SessionNumber::DAEMON, Table::IdempotentAnswers, key.as_slice());
            let (table, session, key) = match record::of_layout_1(key) {
                Some(Moved::Record { session, key }) => (Table::IdempotentAnswers, session, key),
                Some(Moved::Hour { session, key }) => (Table::IdempotentHours, session, key),
                None => continue,
            };
            if let Some(number) = numbers.get(&session) {
                batch.put(*number, table, key, value.as_slice());
            }
        }
        store.commit(batch).wait_blocking()?;
    }
    Ok(())
}

fn count_down<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The error of a second call while this one runs; `None`: the record is being removed.
fn in_use(running: Option<Fingerprint>, fingerprint: Fingerprint) -> IdempotencyError {
    match running {
        Some(running) if running != fingerprint => IdempotencyError::Reused,
        _ => IdempotencyError::InUse,
    }
}
