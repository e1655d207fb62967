//! Sends messages in bulk: one task for each batch that is not over, from its beginning or from where it was when the daemon ended. A task sends
//! one message after the other, with the rights that the batch's key has at that moment, and waits for a session that is not ready and for limits.
//! `batches.rs` keeps everything; here is only which batches have a task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use rookery_actors::CommandError;
use rookery_model::{MessageSeed, OutgoingContent, SessionId, Timestamp};
use rookery_store::SessionNumber;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{AuditEvent, Outcome, SEND_ACTION};
use crate::auth::Role;
use crate::batches::{BatchEnd, BatchRecord, BatchResult, Batches};
use crate::detached_tasks::TASK_TIME_MAX;
use crate::http::error::ApiError;
use crate::http::handlers::batches::BatchMessage;
use crate::http::handlers::message_files::{FileToSend, send_given};
use crate::http::handlers::messages::{Sent, Written, mentioned, send};
use crate::http::middleware::authorization::find_session;
use crate::http::request::caller::Caller;
use crate::media::{MediaError, Said};
use crate::picture::BASE64;
use crate::shares::{Share, Shares, User};

/// Batches of one session that are being sent at once: each takes its turns with the others.
const OF_SESSION_MAX: usize = 16;
/// Batches of all sessions that are being sent at once, some 5 KiB each. A key may have one more as long as more are free than it has.
const ALL_MAX: usize = 4_096;
/// Batches of a session that are kept; the oldest that are over go first.
const KEPT_MAX: usize = 100;
/// For how long a batch is kept, and tried.
const KEPT_TIME_MS: i64 = 30 * 24 * 3_600_000;
/// The wait for a session that is not ready.
const NOT_READY_WAIT: Duration = Duration::from_secs(2);
/// Attempts at one message of which nobody knows whether it was sent, or that failed on WhatsApp's side.
const ATTEMPTS_MAX: u32 = 10;
/// How much longer a pause may be by chance.
const RANDOM_DELAY_MS: u64 = 2_000;

/// Why nothing can be done with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    /// There is no batch with this id.
    #[error("Batch '{0}' not found")]
    Unknown(String),
    /// The id is taken.
    #[error("Batch ID '{0}' already exists")]
    Exists(String),
    /// Nothing is left of it to be cancelled.
    #[error("Batch '{id}' is already {status}")]
    Over {
        /// The batch.
        id: String,
        /// How it ended.
        status: &'static str,
    },
    /// Too many batches are being sent.
    #[error("As many batches are being sent as this session or API key may have: wait for one to end, or cancel one")]
    TooMany,
}

/// Which batches have a task.
pub(crate) struct Bulk {
    batches: Batches,
    running: Mutex<HashMap<(SessionNumber, String), Running>>,
    shares: Arc<Shares<Uuid>>,
    tasks: TaskTracker,
    /// The daemon stops.
    stopping: CancellationToken,
}

struct Running {
    cancelled: CancellationToken,
    /// Cancelled when the task is over.
    over: CancellationToken,
    _share: Option<Share<Uuid>>,
}

/// A batch and what became of its messages.
pub(crate) struct Shown {
    pub(crate) record: BatchRecord,
    pub(crate) results: Vec<Option<BatchResult>>,
}

/// How many messages of a batch have come how far.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Progress {
    #[schema(example = 100)]
    total: usize,
    #[schema(example = 40)]
    sent: usize,
    #[schema(example = 1)]
    failed: usize,
    #[schema(example = 59)]
    pending: usize,
    #[schema(example = 0)]
    cancelled: usize,
}

impl Progress {
    pub(crate) fn of(results: &[Option<BatchResult>], is_over: bool) -> Self {
        let count = |wanted: fn(&BatchResult) -> bool| results.iter().flatten().filter(|result| wanted(result)).count();
        let sent = count(|result| matches!(result, BatchResult::Sent { .. }));
        let failed = count(|result| matches!(result, BatchResult::Failed { .. }));
        let left = results.len() - sent - failed;
        let (pending, cancelled) = if is_over { (0, left) } else { (left, 0) };
        Self { total: results.len(), sent, failed, pending, cancelled }
    }
}

impl Bulk {
    pub(crate) fn new(batches: Batches) -> Self {
        let (running, shares) = (Mutex::default(), Shares::new(ALL_MAX));
        Self { batches, running, shares, tasks: TaskTracker::new(), stopping: CancellationToken::new() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<(SessionNumber, String), Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins no further message, and waits for those that are on their way. The rest is sent after the next start.
    pub(crate) async fn close(&self) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(TASK_TIME_MAX, self.tasks.wait()).await.is_err() {
            warn!(batches = self.tasks.len(), "some messages in bulk were not sent in time");
        }
    }
}

/// The parts of the daemon, with tasks for all batches that were not over when it ended. Forgets the oldest batches.
pub(crate) async fn resume(app: App) -> Arc<App> {
    let app = Arc::new(app);
    go_on(&app).await;
    app
}

async fn go_on(app: &Arc<App>) {
    let batches = app.bulk.batches.clone();
    let all = tokio::task::spawn_blocking(move || batches.all()).await;
    let all = match all {
        Ok(Ok(all)) => all,
        Ok(Err(error)) => return warn!(%error, "batches of messages cannot be read: they go on after the next start"),
        Err(_) => return,
    };
    let sessions: HashMap<SessionNumber, SessionId> = app
        .gateway
        .sessions()
        .iter()
        .filter_map(|session| Some((app.gateway.number(session.id).ok()?, session.id)))
        .collect();
    let mut resumed = 0;
    for (number, record) in all {
        if is_old(&record) {
            if let Err(error) = app.bulk.batches.remove(number, &record.id).await {
                warn!(%error, "an old batch could not be removed");
            }
        } else if let (None, Some(session)) = (record.ended, sessions.get(&number)) {
            resumed += 1;
            let share = app.bulk.shares.take(record.key);
            start(app, (*session, number), record, share);
        }
    }
    if resumed > 0 {
        info!(batches = resumed, "messages in bulk go on");
    }
}

fn is_old(record: &BatchRecord) -> bool {
    Timestamp::now().0.saturating_sub(record.created_at.0) > KEPT_TIME_MS
}

/// Keeps a new batch and begins to send it.
///
/// # Errors
/// [`BatchError::Exists`], [`BatchError::TooMany`], and those of the store.
pub(crate) async fn begin(
    app: &Arc<App>,
    session: SessionId,
    caller: &Caller,
    record: BatchRecord,
    messages: Vec<Map<String, Value>>,
) -> Result<(), ApiError> {
    let number = number_of(caller)?;
    let bulk = &app.bulk;
    if bulk.batches.get(number, &record.id).await.map_err(CommandError::Store)?.is_some() {
        return Err(BatchError::Exists(record.id).into());
    }
    let share = bulk.shares.take(caller.key.id()).ok_or(BatchError::TooMany)?;
    let cancelled = {
        // Nobody else makes one of this id from here on.
        let mut running = bulk.running();
        if running.contains_key(&(number, record.id.clone())) {
            return Err(BatchError::Exists(record.id).into());
        }
        if running.keys().filter(|(of, _)| *of == number).count() >= OF_SESSION_MAX {
            return Err(BatchError::TooMany.into());
        }
        let entry =
            Running { cancelled: CancellationToken::new(), over: CancellationToken::new(), _share: Some(share) };
        running.entry((number, record.id.clone())).or_insert(entry).cancelled.clone()
    };
    forget_oldest(app, number).await;
    if let Err(error) = bulk.batches.create(number, &record, messages).await {
        bulk.running().remove(&(number, record.id));
        return Err(CommandError::Store(error).into());
    }
    spawn(app, (session, number), record, cancelled);
    Ok(())
}

/// Removes the oldest batches of a session that are over, so that one more has room.
async fn forget_oldest(app: &App, number: SessionNumber) {
    let mut records = app.bulk.batches.of_session(number).await.unwrap_or_default();
    records.sort_by_key(|record| record.created_at);
    let too_many = (records.len() + 1).saturating_sub(KEPT_MAX);
    for record in records.into_iter().filter(|record| record.ended.is_some()).take(too_many) {
        if let Err(error) = app.bulk.batches.remove(number, &record.id).await {
            warn!(%error, "an old batch could not be removed");
        }
    }
}

/// A batch that the caller may see: one that is limited to groups sees its own.
///
/// # Errors
/// [`BatchError::Unknown`], and those of the store.
pub(crate) async fn show(app: &App, caller: &Caller, id: &str) -> Result<Shown, ApiError> {
    let number = number_of(caller)?;
    let record = app.bulk.batches.get(number, id).await.map_err(CommandError::Store)?;
    let may_see = |record: &BatchRecord| !caller.key.is_limited_to_groups() || record.key == caller.key.id();
    let record = record.filter(may_see).ok_or_else(|| BatchError::Unknown(id.to_owned()))?;
    let results = app.bulk.batches.results(number, &record).await.map_err(CommandError::Store)?;
    Ok(Shown { record, results })
}

/// Ends a batch: no further message of it is begun. Waits for the one that is on its way.
///
/// # Errors
/// As [`show`].
pub(crate) async fn cancel(app: &App, caller: &Caller, id: &str) -> Result<Shown, ApiError> {
    let over = {
        let running = app.bulk.running();
        running.get(&(number_of(caller)?, id.to_owned())).map(|task| {
            task.cancelled.cancel();
            task.over.clone()
        })
    };
    if let Some(over) = over {
        over.cancelled().await;
    }
    show(app, caller, id).await
}

fn number_of(caller: &Caller) -> Result<SessionNumber, ApiError> {
    caller.session_number.ok_or_else(|| ApiError::Internal("a batch is of no session".into()))
}

/// Gives a batch its task.
fn start(app: &Arc<App>, of: (SessionId, SessionNumber), record: BatchRecord, share: Option<Share<Uuid>>) {
    let entry = Running { cancelled: CancellationToken::new(), over: CancellationToken::new(), _share: share };
    let cancelled = entry.cancelled.clone();
    app.bulk.running().insert((of.1, record.id.clone()), entry);
    spawn(app, of, record, cancelled);
}

fn spawn(
    app: &Arc<App>,
    (session, number): (SessionId, SessionNumber),
    record: BatchRecord,
    cancelled: CancellationToken,
) {
    let task = Task { app: Arc::clone(app), session, number, record, cancelled };
    app.bulk.tasks.spawn(async move {
        let (app, key) = (Arc::clone(&task.app), (number, task.record.id.clone()));
        task.run().await;
        if let Some(running) = app.bulk.running().remove(&key) {
            running.over.cancel();
        }
    });
}

/// The sending of one batch.
struct Task {
    app: Arc<App>,
    session: SessionId,
    number: SessionNumber,
    record: BatchRecord,
    cancelled: CancellationToken,
}

/// Why a task ends before its batch is over, or ends it.
enum Stop {
    /// The batch goes on after the next start.
    Daemon,
    /// Nobody wants the rest, or nobody may send it.
    Cancelled,
}

/// What an attempt came to.
enum Attempt {
    Over(BatchResult),
    /// It may be tried again after this time. `is_doubtful`: it may have been sent.
    Again {
        after: Duration,
        is_doubtful: bool,
    },
    /// Its key, its session or its account may not send it.
    NotAllowed,
}

impl Task {
    async fn run(mut self) {
        match self.send_all().await {
            Ok(end) => self.end(end).await,
            Err(Stop::Cancelled) => self.end(BatchEnd::Cancelled).await,
            Err(Stop::Daemon) => {}
        }
    }

    async fn end(&mut self, end: BatchEnd) {
        self.record.ended = Some((Timestamp::now(), end));
        self.keep(None).await;
    }

    /// Writes the record, or what became of the message at a place, until it is written, unless the daemon stops or the session is gone.
    async fn keep(&self, result: Option<(usize, &BatchResult)>) {
        let batches = &self.app.bulk.batches;
        loop {
            let written = match result {
                None => batches.update(self.number, &self.record).await,
                Some((place, result)) => batches.keep_result(self.number, &self.record.id, place, result).await,
            };
            let Err(error) = written else { return };
            warn!(%error, "how far a batch is cannot be written, trying again");
            if self.app.gateway.session(self.session).is_err() || self.pause(NOT_READY_WAIT).await.is_err() {
                return;
            }
        }
    }

    async fn send_all(&mut self) -> Result<BatchEnd, Stop> {
        let results = self.app.bulk.batches.results(self.number, &self.record).await;
        let Ok(mut results) = results else { return Err(Stop::Daemon) };
        let mut next_at = Instant::now();
        for (place, slot) in results.iter_mut().enumerate() {
            if slot.is_some() {
                continue;
            }
            self.pause(next_at.saturating_duration_since(Instant::now())).await?;
            if self.record.started_at.is_none() {
                self.record.started_at = Some(Timestamp::now());
                self.keep(None).await;
            }
            let result = self.send_one(place).await?;
            next_at = Instant::now() + self.delay();
            self.keep(Some((place, &result))).await;
            let is_failed = matches!(result, BatchResult::Failed { .. });
            *slot = Some(result);
            if is_failed && self.record.options.stops_on_error {
                return Ok(BatchEnd::Failed);
            }
        }
        let is_sent = |result: &BatchResult| matches!(result, BatchResult::Sent { .. });
        Ok(if results.iter().flatten().any(is_sent) { BatchEnd::Completed } else { BatchEnd::Failed })
    }

    fn delay(&self) -> Duration {
        let options = &self.record.options;
        let by_chance = if options.is_randomized { getrandom::u64().unwrap_or_default() % RANDOM_DELAY_MS } else { 0 };
        Duration::from_millis(u64::from(options.delay_ms) + by_chance)
    }

    /// Waits, unless the batch or the daemon is to end.
    async fn pause(&self, time: Duration) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.app.bulk.stopping.cancelled() => Err(Stop::Daemon),
            () = self.cancelled.cancelled() => Err(Stop::Cancelled),
            () = sleep(time) => Ok(()),
        }
    }

    /// Sends a message, however long that has to wait.
    async fn send_one(&self, place: usize) -> Result<BatchResult, Stop> {
        let mut attempts = 0;
        loop {
            match self.attempt(place).await {
                Attempt::Over(result) => return Ok(result),
                Attempt::NotAllowed => return Err(Stop::Cancelled),
                Attempt::Again { .. } if is_old(&self.record) => return Err(Stop::Cancelled),
                Attempt::Again { is_doubtful: true, .. } if attempts >= ATTEMPTS_MAX => {
                    let message = "WhatsApp did not confirm it: it may have been sent".to_owned();
                    return Ok(BatchResult::Failed { code: "outcome_unknown".into(), message });
                }
                Attempt::Again { after, is_doubtful } => {
                    attempts += u32::from(is_doubtful);
                    self.pause(after).await?;
                }
            }
        }
    }

    async fn attempt(&self, place: usize) -> Attempt {
        let message = match self.app.bulk.batches.message(self.number, &self.record.id, place).await {
            Ok(Some(message)) => message,
            Ok(None) => return Attempt::Over(failed("internal_error", "The message is not kept any more")),
            Err(_) => return Attempt::Again { after: NOT_READY_WAIT, is_doubtful: false },
        };
        let caller = match self.caller() {
            Ok(caller) => caller,
            Err(ApiError::Command(CommandError::Restarting)) => {
                return Attempt::Again { after: NOT_READY_WAIT, is_doubtful: false };
            }
            Err(_) => return Attempt::NotAllowed,
        };
        let sent = self.send(&caller, self.record.seed(place), message).await;
        self.note(&caller, &sent);
        match sent {
            Ok(sent) => Attempt::Over(BatchResult::Sent { at: sent.at(), message_id: sent.message_id }),
            Err(error) => judged(&error),
        }
    }

    /// The batch's key as it is now, if it may send in this session, and the account is still the same.
    fn caller(&self) -> Result<Caller, ApiError> {
        let key = self.app.keys.get(self.record.key)?;
        let session = find_session(&self.app, &key, &self.session.to_string())?;
        let is_usable = key.is_usable(self.app.keys.now()) && key.role() >= Role::Operator;
        if !is_usable || session.account_epoch != self.record.account_epoch {
            return Err(BatchError::Unknown(self.record.id.clone()).into());
        }
        let account_epoch = session.account_epoch;
        Ok(Caller { key, session: Some(self.session), session_number: Some(self.number), account_epoch })
    }

    async fn send(&self, caller: &Caller, seed: MessageSeed, message: Map<String, Value>) -> Result<Sent, ApiError> {
        let app = &self.app;
        let message = BatchMessage::of(message)?;
        let mentions = mentioned(message.content.mentions.as_ref().map(|mentions| mentions.to_vec()));
        let (Some(kind), Some(file)) = (message.kind.file_kind(), message.file()) else {
            let text = message.content.text.unwrap_or_default();
            let written = Written { mentions, ..OutgoingContent::Text { text, preview: None }.into() };
            return send(app, self.session, caller, seed, message.chat_id, written).await;
        };
        let user = User { key: caller.key.id(), session: self.session };
        let _share = app.media.admit_send(user)?;
        let given = match &file.base64 {
            Some(data) => {
                let data = data.split_once(";base64,").map_or(data.as_str(), |(_, data)| data);
                let content = BASE64.decode(data.split_ascii_whitespace().collect::<String>());
                let sink = app.media.sink(kind, user).map_err(MediaError::File)?;
                let sink = sink.write(&content.map_err(|_| MediaError::Base64)?).await.map_err(MediaError::File)?;
                Some(sink.finish().await.map_err(MediaError::File)?)
            }
            None => None,
        };
        let said = Said {
            mimetype: file.mimetype.clone(),
            filename: file.filename.clone(),
            is_voice: file.ptt == Some(true),
            ..Said::default()
        };
        let file = FileToSend {
            kind,
            file: given,
            url: file.url.clone().unwrap_or_default(),
            said,
            caption: message.content.caption.clone(),
            mentions,
            quoted: None,
        };
        let until = Instant::now() + app.http.limits.file_time_max();
        send_given(app, self.session, caller, (seed, until), message.chat_id, file, || self.caller()).await
    }

    fn note(&self, caller: &Caller, sent: &Result<Sent, ApiError>) {
        let (status_code, code) = match sent {
            Ok(_) => (201, None),
            Err(error) => {
                let (status, code) = error.status_and_code();
                (status, Some(code.to_owned()))
            }
        };
        let outcome = if sent.is_ok() { Outcome::Done } else { Outcome::Failed };
        let entry = AuditEvent::of(SEND_ACTION.into(), outcome);
        let (api_key_id, session_id) = (Some(caller.key.id()), Some(self.session));
        self.app.audit.note_unchanged(AuditEvent { api_key_id, session_id, status_code, code, sends: true, ..entry });
    }
}

fn failed(code: &str, message: &str) -> BatchResult {
    BatchResult::Failed { code: code.into(), message: message.into() }
}

/// Whether a message that was not sent is to be tried again.
fn judged(error: &ApiError) -> Attempt {
    let wait = |after| Attempt::Again { after, is_doubtful: false };
    match error {
        ApiError::Command(CommandError::NotConnected | CommandError::NotStarted | CommandError::NotLoaded(_))
        | ApiError::SessionInactive(_)
        | ApiError::Media(MediaError::Busy) => return wait(NOT_READY_WAIT),
        ApiError::Access(_) => return Attempt::NotAllowed,
        _ => {}
    }
    let Some(seconds) = error.retry_after_s() else {
        let (_, code) = error.status_and_code();
        return Attempt::Over(failed(code, &error.to_string()));
    };
    let is_limit = matches!(
        error,
        ApiError::Command(
            CommandError::LimitReached { .. }
                | CommandError::RateLimited { .. }
                | CommandError::Restarting
                | CommandError::Busy
                | CommandError::Draining
                | CommandError::Store(_)
        )
    );
    Attempt::Again { after: Duration::from_secs(seconds.max(1).into()), is_doubtful: !is_limit }
}
