//! The daemon: the order in which everything starts and stops, and how a backup takes the place of its data. The only file that
//! knows all the parts.
//!
//! Start: data directory, address, store, keys, event log, sessions, webhooks, HTTP and sockets. Stop: HTTP and sockets (bounded), keys' use, calls whose clients
//! were told to come back (bounded), webhooks (bounded), sessions (bounded), the rest of the calls (bounded), the audit log, store.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rookery_actors::{Gateway, Running};
use rookery_model::{OperatorNotice, OperatorNoticeKind};
use rookery_store::{Batch, EventKey, EventLog, EventLogOptions, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, error, info, warn};

use crate::app::{App, Parts};
use crate::audit::{Audit, AuditEvent, Outcome};
use crate::auth::{ApiKeys, KeyLimits, KeysError, Pepper, Secret};
use crate::backup::control::{self, Control, RestoreOrder};
use crate::batches::Batches;
use crate::bootstrap_key;
use crate::clock::Clock;
use crate::config::{Config, is_whatsapp_url_allowed, whatsapp_url_rule};
use crate::data_dir;
use crate::data_dir::PEPPER_FILE;
use crate::detached_tasks::{LAST_TIME_MAX, TASK_TIME_MAX};
use crate::event_log;
use crate::files::write_secret;
use crate::http;
use crate::http::sockets::Sockets;
use crate::idempotency::{self, Idempotency};
use crate::media::Media;
use crate::picture::Pictures;
use crate::signals::{self, Signals};
use crate::store_key;
use crate::url_fetch::{Fetcher, Guard};
use crate::webhooks::{self, Webhooks};

/// How often the use of keys is written: rarely enough to cost nothing, often enough to be of use.
const USAGE_WRITE_INTERVAL: Duration = Duration::from_secs(60);
/// The audit log's last records are one commit.
const AUDITOR_TIME_MAX: Duration = Duration::from_secs(5);
/// How often expired idempotency keys are removed: they count for an hour more at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
const STOPPED_AT_ONCE: &str = "stopped at once by a second signal";
/// The file in the data directory that holds the first admin key.
const ADMIN_KEY_FILE: &str = "admin.key";
/// The file in the data directory that keeps our time for the next start.
const CLOCK_FILE: &str = "clock";
const PEPPER_RULE: &str = "the file `api-keys.pepper` in the data directory has to be the one that was there when they were \
                           made: put it back from a backup, or run `rookery reset-keys` to remove all API keys";

/// A running daemon; several fit into one process. Dropping it without [`Daemon::shutdown`] stops HTTP, but leaves the
/// sessions to themselves.
pub struct Daemon {
    address: SocketAddr,
    admin_key: Option<Secret>,
    admin_key_file: Option<PathBuf>,
    app: Arc<App>,
    running: Running,
    /// `None`: the file system of the data directory supports no sockets.
    control: Option<Control>,
    /// HTTP, sockets, and what is done now and then.
    tasks: [JoinHandle<()>; 4],
    auditor: JoinHandle<()>,
    /// Dropped to stop the tasks above.
    stop: watch::Sender<()>,
    lock: data_dir::Lock,
}

impl Daemon {
    /// Brings everything up; HTTP is served when this returns, and sessions that were started connect by themselves.
    ///
    /// # Errors
    /// In words for the operator: the address is in use, the data directory cannot be used or is another daemon's,
    /// the store cannot be read.
    pub async fn start(config: Config) -> Result<Self> {
        let data_dir = config.location.data_dir.clone();
        let locked = spawn_blocking(move || {
            data_dir::prepare(&data_dir)?;
            data_dir::Lock::take(&data_dir)
        });
        Self::start_with(locked.await.context("starting was cut short")??, config).await
    }

    async fn start_with(lock: data_dir::Lock, config: Config) -> Result<Self> {
        if !is_whatsapp_url_allowed(&config.whatsapp_url) {
            bail!("the WhatsApp URL is `{}`, but must be {}", config.whatsapp_url, whatsapp_url_rule());
        }
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.with_context(|| format!("could not listen on {}", config.listen))?;
        let address = listener.local_addr().context("could not read the address listened on")?;

        let (location, clock) = (config.location.clone(), Clock::kept_in(config.location.data_dir.join(CLOCK_FILE)));
        let (store, store_key) = store_key::open(&location).await.context("could not open the store")?;
        let migrating = Arc::clone(&store);
        let migrated = spawn_blocking(move || bring_to_layout(&*migrating)).await.context("starting was cut short")?;
        migrated.context("could not bring the store to the layout of this version")?;
        let is_restored = put_back_pepper(&*store, &config.location.data_dir).await?;
        let pepper = pepper(&*store, &config.location.data_dir)?;
        let keys = ApiKeys::open(Arc::clone(&store), pepper, key_limits(&config), clock.clone()).await;
        let keys = keys.map_err(|error| {
            let rule = if matches!(error, KeysError::OtherPepper) { format!("; {PEPPER_RULE}") } else { String::new() };
            anyhow::Error::new(error).context(format!("could not read the API keys{rule}"))
        })?;
        let bootstrap = bootstrap_key::find(&config)?;
        let (admin_key, admin_key_file) = first_key(&keys, bootstrap, &config.location.data_dir).await?;
        let idempotency = open_idempotency(&store, clock.clone()).await?;
        let (audit, auditor) = Audit::open(Arc::clone(&store), config.retention(), clock.clone())
            .context("could not read the audit log")?;
        let guard = Guard::new(config.fetch_allow.clone());
        let (pictures, media) = prepare_fetching(&guard, &config)?;
        let webhook_options = config.webhooks(guard)?;
        if is_restored {
            audit.note(control::entry("restore", true)).await;
        }
        let (events, cursor_key, stored) =
            open_events(&store, &location.data_dir, config.event_log(clock.clone())).await?;
        let mut running = rookery_actors::start(config.session_options(), Arc::clone(&store), Arc::clone(&events))
            .await
            .context("could not start the sessions")?;

        let gateway = running.gateway.clone();
        let (keys, audit, batches) = (Arc::new(keys), Arc::new(audit), Batches::new(Arc::clone(&store)));
        let webhooks = Webhooks::open(stored, &store, &gateway, &media, &keys, &audit, webhook_options)?;
        let parts = Parts { gateway, keys, idempotency, audit, pictures, media, batches, webhooks, cursor_key };
        let app = http::bulk::resume(App::new(parts, config.http)).await;
        let control = Control::open(&app, &store, &events, location, store_key);
        let control = control.inspect_err(
            |error| warn!(%error, "no `control.sock`: backup and restore are for when the daemon is stopped"),
        );
        drop((store, events));
        let (stop, stopped) = watch::channel(());
        if let Some(notices) = running.take_notices() {
            tokio::spawn(audit_notices(Arc::clone(&app), notices, stopped.clone()));
        }
        let usage_writer = tokio::spawn(write_usage(Arc::clone(&app), stopped.clone()));
        let sweeper = tokio::spawn(sweep(Arc::clone(&app.idempotency), clock, stopped.clone()));
        let sockets = Arc::new(Sockets::new(&app));
        let router = http::router(&app, &sockets);
        let sockets = tokio::spawn(sockets.run(Arc::clone(&app), stopped.clone()));
        let server =
            tokio::spawn(http::serve(listener, router, Arc::clone(&app.http), signals::until_dropped(stopped)));
        info!(listen = %address, "serving");
        Ok(Self {
            address,
            admin_key,
            admin_key_file,
            app,
            running,
            control: control.ok(),
            tasks: [server, sockets, usage_writer, sweeper],
            auditor,
            stop,
            lock,
        })
    }

    /// The address where HTTP is served, with the actual port when port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// An admin key: the bootstrap key, or the one that was made in this start. `None` on a later start without a
    /// bootstrap key, as only hashes are kept.
    #[must_use]
    pub fn admin_key(&self) -> Option<&str> {
        self.admin_key.as_ref().map(Secret::reveal)
    }

    /// The file that holds the admin key, when it was made in this start.
    #[must_use]
    pub fn admin_key_file(&self) -> Option<&Path> {
        self.admin_key_file.as_deref()
    }

    /// The handle to the sessions.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.app.gateway
    }

    /// Resolves when the sessions can no longer run, with what to do about it. The daemon is to be shut down then.
    pub async fn failed(&self) -> String {
        self.running.failed().await
    }

    /// Resolves when a backup has to replace this daemon's data: then the caller shuts the daemon down, carries out the
    /// order, and starts the daemon again.
    async fn restore_wanted(&self) -> RestoreOrder {
        match &self.control {
            Some(control) => control.restore_wanted().await,
            None => std::future::pending().await,
        }
    }

    /// Stops accepting, and lets requests in flight finish (10 s unless set otherwise). Waits for WhatsApp's responses
    /// to unfinished requests (until 26 s are over). Then closes the sessions' connections and writes everything to
    /// disk. The data directory is free when this returns.
    pub async fn shutdown(self) {
        drop(self.close().await);
    }

    /// As [`Self::shutdown`], but keeps the right to use the data directory.
    async fn close(self) -> data_dir::Lock {
        let begun = Instant::now();
        self.app.drain();
        drop((self.stop, self.control));
        self.app.bulk.close().await;
        for task in self.tasks {
            if let Err(error) = task.await {
                error!(%error, "a task ended badly");
            }
        }
        // A repeated call with the same idempotency key then gets the result of an unfinished call.
        self.app.calls.until_idle(TASK_TIME_MAX.saturating_sub(begun.elapsed())).await;
        // What the sessions still tell is delivered after the next start.
        self.app.webhooks.close().await;
        self.running.shutdown().await;
        self.app.calls.until_idle(LAST_TIME_MAX).await;
        // Closing the store blocks until what is queued is on disk.
        if spawn_blocking(move || drop(self.app)).await.is_err() {
            error!("could not close the store");
        }
        // The auditor holds the store, too. It ends when no call is left that could record anything.
        match tokio::time::timeout(AUDITOR_TIME_MAX, self.auditor).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "the audit log was not written to its end"),
            Err(_) => error!("a call still runs: what becomes of it is not in the audit log"),
        }
        info!("stopped");
        self.lock
    }
}

/// What fetches the files that callers name by URL.
fn prepare_fetching(guard: &Guard, config: &Config) -> Result<(Pictures, Arc<Media>)> {
    let fetcher = || Fetcher::new(guard.clone()).context("could not prepare fetching from URLs");
    let media = Media::new(&config.location.data_dir, &config.http.limits, fetcher()?);
    Ok((Pictures::new(fetcher()?), Arc::new(media)))
}

async fn open_idempotency(store: &Arc<dyn Store>, clock: Clock) -> Result<Arc<Idempotency>> {
    let store = Arc::clone(store);
    let opening = spawn_blocking(move || Idempotency::open(store, clock));
    opening.await.context("starting was cut short")?.context("could not read the idempotency keys")
}

/// The event log, the key that hides positions in it, and how far webhooks are.
async fn open_events(
    store: &Arc<dyn Store>,
    data_dir: &Path,
    options: EventLogOptions,
) -> Result<(Arc<EventLog>, EventKey, webhooks::Stored)> {
    let (store, data_dir) = (Arc::clone(store), data_dir.to_owned());
    let opening = spawn_blocking(move || {
        let log = event_log::open(&*store, &data_dir, options)?;
        let removals = webhooks::orphans(&*store)?.into_iter().map(|batch| store.commit(batch)).collect::<Vec<_>>();
        let stored = webhooks::read(&*store, &log)?;
        Ok::<_, anyhow::Error>((log, event_log::cursor_key(&*store)?, stored, removals))
    });
    let opened = opening.await.context("starting was cut short")?.context("could not open the event log")?;
    let (log, cursor_key, stored, removals) = opened;
    for removal in removals {
        removal.await.context("could not remove what is left of webhooks")?;
    }
    Ok((log, cursor_key, stored))
}

/// `rookery serve`: runs until a signal comes or the sessions fail.
///
/// # Errors
/// Why it could not start or had to stop, with what to do.
pub async fn serve(config: Config) -> Result<()> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    if cfg!(feature = "simulator") {
        warn!("built with the feature `simulator`, for tests and demos: connects to servers on loopback only");
    }
    let daemon = Daemon::start(config.clone()).await?;
    announce(&daemon);
    signals::tell_ready();
    keep_running(daemon, &config, &mut signals).await
}

/// Records in the audit log the events of sessions that no request caused.
async fn audit_notices(app: Arc<App>, mut notices: Receiver<OperatorNotice>, mut stopped: watch::Receiver<()>) {
    loop {
        let notice = tokio::select! {
            notice = notices.recv() => notice,
            _ = stopped.changed() => return,
        };
        match notice {
            Ok(OperatorNotice { session, kind }) => {
                let (action, outcome) = match kind {
                    OperatorNoticeKind::OtherAccountRefused => ("sessions.other_account", Outcome::Refused),
                    OperatorNoticeKind::AccountChanged => ("sessions.account_changed", Outcome::Done),
                    OperatorNoticeKind::Restricted => ("sessions.restricted", Outcome::Done),
                    OperatorNoticeKind::RestrictionLifted => ("sessions.restriction_lifted", Outcome::Done),
                    OperatorNoticeKind::DeviceLeft => ("sessions.device_left", Outcome::Failed),
                    OperatorNoticeKind::DeletionFinished => ("sessions.deletion_finished", Outcome::Done),
                };
                app.audit
                    .note(AuditEvent { session_id: Some(session), ..AuditEvent::of(action.into(), outcome) })
                    .await;
            }
            Err(RecvError::Lagged(missed)) => warn!(missed, "could not note all that happened to sessions"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Runs a daemon until a signal comes or it fails, through every restore of a backup; it is shut down when this returns.
pub(crate) async fn keep_running(mut daemon: Daemon, config: &Config, signals: &mut Signals) -> Result<()> {
    // The port that was found stays the same after a restore.
    let config = Config { listen: daemon.local_addr(), ..config.clone() };
    loop {
        let failure = tokio::select! {
            () = signals.next() => None,
            failure = daemon.failed() => Some(failure),
            order = daemon.restore_wanted() => {
                daemon = match restore(daemon, order, &config, signals).await? {
                    Some(restored) => restored,
                    None => return Ok(()),
                };
                continue;
            }
        };
        signals::tell_stopping();
        shut_down(daemon, signals).await?;
        return failure.map_or(Ok(()), |why| bail!("the sessions can no longer run: {why}"));
    }
}

/// Stops the daemon, replaces its data by a backup, and starts it again; `None`: a signal came before that.
async fn restore(
    daemon: Daemon,
    order: RestoreOrder,
    config: &Config,
    signals: &mut Signals,
) -> Result<Option<Daemon>> {
    info!("stopping to restore a backup");
    let mut closing = pin!(daemon.close());
    let closed = tokio::select! {
        lock = &mut closing => Some(lock),
        () = signals.next() => None,
    };
    let Some(lock) = closed else {
        signals::tell_stopping();
        return tokio::select! {
            _ = &mut closing => Ok(None),
            () = signals.next() => bail!(STOPPED_AT_ONCE),
        };
    };
    let restored = order.carry_out().await;
    let started = Daemon::start_with(lock, config.clone()).await;
    restored.answer(started.as_ref().err()).await;
    let daemon = started?;
    announce(&daemon);
    Ok(Some(daemon))
}

/// Shuts the daemon down; a second signal stops it at once.
pub(crate) async fn shut_down(daemon: Daemon, signals: &mut Signals) -> Result<()> {
    tokio::select! {
        () = daemon.shutdown() => Ok(()),
        () = signals.next() => bail!(STOPPED_AT_ONCE),
    }
}

/// Shows an admin key that was made in this start.
#[expect(clippy::print_stdout, reason = "the one location where the first admin key is shown")]
fn announce(daemon: &Daemon) {
    if let (Some(key), Some(file)) = (daemon.admin_key(), daemon.admin_key_file()) {
        println!("admin key (shown this once, also in {}): {key}", file.display());
    }
}

/// Ensures that somebody can manage keys: with the bootstrap key if there is one, else an existing admin key, else a
/// new one, as on the first start. A new key is written to its file first: a stored key that was never shown would lock
/// everybody out.
async fn first_key(
    keys: &ApiKeys,
    bootstrap: Option<Secret>,
    data_dir: &Path,
) -> Result<(Option<Secret>, Option<PathBuf>)> {
    keys.ensure_bootstrap(bootstrap.as_ref()).await.context("could not store the bootstrap key")?;
    if bootstrap.is_some() {
        return Ok((bootstrap, None));
    }
    if keys.has_lasting_admin() {
        return Ok((None, None));
    }
    let secret = Secret::generate().context("could not make the first admin key")?;
    let file = data_dir.join(ADMIN_KEY_FILE);
    write_secret(&file, secret.reveal()).with_context(|| format!("could not write `{}`", file.display()))?;
    keys.ensure_admin("first admin key", &secret).await.context("could not store the first admin key")?;
    Ok((Some(secret), Some(file)))
}

/// Moves the rows of older layouts to where this version has them.
fn bring_to_layout(store: &dyn Store) -> Result<(), StoreError> {
    rookery_store::mark_as_current(store)?;
    rookery_actors::migrate_sessions(store)?;
    idempotency::migrate(store, || rookery_actors::session_numbers(store))
}

/// Writes the pepper of a restored backup into its file; returns whether there was one.
async fn put_back_pepper(store: &dyn Store, data_dir: &Path) -> Result<bool> {
    let Some(pepper) = ApiKeys::restored_pepper(store).context("could not read the API keys")? else {
        return Ok(false);
    };
    let file = data_dir.join(PEPPER_FILE);
    pepper.write(&file).with_context(|| format!("could not write `{}`", file.display()))?;
    let mut batch = Batch::new();
    ApiKeys::keep_restored_pepper(&mut batch, None).context("could not change the API keys")?;
    store.commit(batch).await.context("could not change the API keys")?;
    Ok(true)
}

/// The pepper of this data directory, made when there are no keys that need an older one.
fn pepper(store: &dyn Store, data_dir: &Path) -> Result<Pepper> {
    let file = data_dir.join(PEPPER_FILE);
    let named = || format!("could not use `{}`", file.display());
    if let Some(pepper) = Pepper::read(&file).with_context(named)? {
        return Ok(pepper);
    }
    if ApiKeys::need_their_pepper(store).context("could not read the API keys")? {
        bail!("`{}` is missing, and without it no API key can be checked: {PEPPER_RULE}", file.display());
    }
    let pepper = Pepper::generate().with_context(named)?;
    pepper.write(&file).with_context(named)?;
    Ok(pepper)
}

fn key_limits(config: &Config) -> KeyLimits {
    let limits = &config.http.limits;
    KeyLimits {
        rate: limits.key_rate,
        in_flight_max: limits.requests_per_key_max,
        streams_max: limits.streams_per_key_max,
        keys_max: config.api_keys_max,
    }
}

async fn write_usage(app: Arc<App>, mut stopped: watch::Receiver<()>) {
    loop {
        let ended = tokio::time::timeout(USAGE_WRITE_INTERVAL, stopped.changed()).await.is_ok();
        if let Err(error) = app.keys.write_usage().await {
            warn!(%error, "could not write how often keys were used, will retry");
        }
        if ended {
            return;
        }
    }
}

/// Removes idempotency keys that have expired, and keeps the clock, until the end.
async fn sweep(idempotency: Arc<Idempotency>, clock: Clock, stopped: watch::Receiver<()>) {
    tokio::select! { () = remove_expired(idempotency, stopped) => {}, () = clock.run() => {} }
    clock.keep();
}

async fn remove_expired(idempotency: Arc<Idempotency>, mut stopped: watch::Receiver<()>) {
    while tokio::time::timeout(SWEEP_INTERVAL, stopped.changed()).await.is_err() {
        match idempotency.sweep().await {
            Ok(0) => {}
            Ok(removed) => debug!(removed, "removed idempotency keys that have expired"),
            Err(error) => warn!(%error, "could not remove idempotency keys that have expired, will retry"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::STOP_TIME_MAX;

    /// Closing the sessions takes no longer (`actors/src/supervisor/running.rs`: their connections, then the
    /// supervisor).
    const SESSIONS_TIME_MAX: Duration = Duration::from_secs(30);
    /// The store's last commit.
    const STORE_TIME_MAX: Duration = Duration::from_secs(5);

    #[test]
    fn systemd_waits_for_everything_that_a_stop_may_take() {
        let unit = include_str!("../deploy/rookery.service");
        let value = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
        let given = Duration::from_secs(value.parse().unwrap());
        let calls = TASK_TIME_MAX.max(STOP_TIME_MAX);
        let taken =
            calls + webhooks::STOP_TIME_MAX + SESSIONS_TIME_MAX + LAST_TIME_MAX + AUDITOR_TIME_MAX + STORE_TIME_MAX;
        assert!(given >= taken, "{given:?} are less than {taken:?}");
    }
}
