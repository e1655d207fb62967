//! The control socket for commands on a running daemon: HTTP over a Unix socket in the data directory (mode 0600). Its
//! users may read that directory's files anyway.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /backup` | | the backup |
//! | `POST /restore`, with [`FORCE_QUERY`] and [`KEEP_KEYS_QUERY`] in the query if wanted | the backup | [`Restored`] as JSON |
//!
//! Any other status code than 200 comes with a text for the operator.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use hex::FromHex as _;
use rookery_store::{EventLog, Store, StoreKey};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::restore::{self, NOTHING_CHANGED, Restored, Wish};
use super::transfer::{Spool, body_of};
use super::write;
use crate::app::App;
use crate::audit::{AuditEvent, Outcome};
use crate::config::DataLocation;

/// The socket in the data directory.
const SOCKET_FILE: &str = "control.sock";
/// The key of the backup, in hex, when it is not that of the store.
pub(super) const BACKUP_KEY_HEADER: &str = "x-backup-key";
/// The query of a restore that may replace sessions that are alive.
pub(super) const FORCE_QUERY: &str = "force=true";
/// The query of a restore that leaves the API keys as they are.
pub(super) const KEEP_KEYS_QUERY: &str = "keep-keys=true";
/// The status code of all failures.
const REFUSED: StatusCode = StatusCode::CONFLICT;
/// Time for a response to be taken, before a daemon that does not start exits.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted: there is one operator.
const BACKLOG: i32 = 8;

/// The open control socket; closes when dropped. Calls that are being answered go on.
pub(crate) struct Control {
    _stop: oneshot::Sender<()>,
    orders: Mutex<mpsc::Receiver<RestoreOrder>>,
    socket: PathBuf,
}

/// A backup is unpacked beside the store. The daemon's runner stops the daemon, carries out this order, and starts it
/// again.
pub(crate) struct RestoreOrder {
    location: DataLocation,
    key: StoreKey,
    unpacked: Restored,
    caller: Caller,
}

/// The caller of a restore, who waits for the result.
struct Caller {
    reply: oneshot::Sender<Result<Restored>>,
    /// Closes when every call was answered.
    answering: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

/// A restore that was carried out; its caller still waits.
pub(crate) struct CarriedOut {
    outcome: Result<Restored>,
    caller: Caller,
}

/// The state of the calls. The store is the daemon's: a call that waits must not keep it open.
#[derive(Clone)]
struct Door {
    app: Weak<App>,
    store: Weak<dyn Store>,
    events: Weak<EventLog>,
    location: DataLocation,
    key: StoreKey,
    orders: mpsc::Sender<RestoreOrder>,
    /// One call at a time reads the store for a backup, or makes another store beside it.
    busy: Arc<Semaphore>,
    answering: watch::Receiver<()>,
}

impl Control {
    /// Opens the control socket of this daemon. The store has to be open: it proves that an existing socket is
    /// nobody's.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn open(
        app: &Arc<App>,
        store: &Arc<dyn Store>,
        events: &Arc<EventLog>,
        location: DataLocation,
        key: StoreKey,
    ) -> io::Result<Self> {
        let listener = listen(&location.data_dir)?;
        let socket = location.data_dir.join(SOCKET_FILE);
        let (orders, ordered) = mpsc::channel(1);
        let busy = Arc::new(Semaphore::new(1));
        let (_stop, stopped) = oneshot::channel::<()>();
        let (answers, answering) = watch::channel(());
        let (app, store, events) = (Arc::downgrade(app), Arc::downgrade(store), Arc::downgrade(events));
        let door = Door { app, store, events, location, key, orders, busy, answering };
        let router = Router::new().route("/backup", post(backup)).route("/restore", post(restore)).with_state(door);
        tokio::spawn(async move {
            let until_dropped = async { drop(stopped.await) };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until_dropped).await {
                warn!(%error, "backup and restore are no longer answered while the daemon runs");
            }
            drop(answers);
        });
        Ok(Self { _stop, orders: Mutex::new(ordered), socket })
    }

    /// Waits for an order to restore a backup; waits for ever when none comes.
    pub(crate) async fn restore_wanted(&self) -> RestoreOrder {
        match self.orders.lock().await.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

impl RestoreOrder {
    /// Puts the unpacked backup into the store's place; the daemon must not run.
    pub(crate) async fn carry_out(self) -> CarriedOut {
        let Self { location, key, unpacked, caller } = self;
        let outcome = spawn_blocking(move || restore::replace(&location, &key, unpacked)).await;
        CarriedOut { outcome: outcome.unwrap_or_else(|error| Err(anyhow!("restoring was cut short: {error}"))), caller }
    }
}

impl CarriedOut {
    /// Reports to the caller that the daemon runs again, or why it does not. With a `failure`, returns only when the
    /// response is sent, or is not taken in time, as the daemon exits afterwards.
    pub(crate) async fn answer(self, failure: Option<&anyhow::Error>) {
        let outcome = match (self.outcome, failure) {
            (Ok(_), Some(failure)) => Err(anyhow!("it was restored, but the daemon does not start: {failure:#}")),
            (Err(error), Some(failure)) => Err(anyhow!("{error:#}; the daemon does not start: {failure:#}")),
            (outcome, None) => outcome,
        };
        let Caller { reply, mut answering, _permit } = self.caller;
        let _ = reply.send(outcome);
        if failure.is_some() {
            let _ = tokio::time::timeout(ANSWER_TIME_MAX, answering.changed()).await;
        }
    }
}

/// The socket's path: by way of the directory's descriptor, as the path itself may be longer than the 107 bytes that a
/// socket's name may have.
pub(super) fn socket_of(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET_FILE}", directory.as_raw_fd()).into()
}

fn listen(data_dir: &Path) -> io::Result<UnixListener> {
    let directory = File::open(data_dir)?;
    let path = socket_of(&directory);
    crate::files::remove_file(&path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&path)?)?;
    // Nobody can connect before `listen`.
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

async fn backup(State(door): State<Door>) -> Response {
    answer(door.spool_backup().await.map(|spool| body_of(spool).into_response()))
}

async fn restore(State(door): State<Door>, request: Request) -> Response {
    answer(door.restore(request).await.map(|restored| axum::Json(restored).into_response()))
}

fn answer(outcome: Result<Response>) -> Response {
    outcome.unwrap_or_else(|error| (REFUSED, format!("{error:#}")).into_response())
}

impl Door {
    /// The permit stays with the detached task: a caller who hangs up ends the call, not the work.
    fn permit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.busy)
            .try_acquire_owned()
            .ok()
            .context("another backup or restore is under way: try it again later")
    }

    fn app(&self) -> Result<Arc<App>> {
        self.app.upgrade().context("the daemon is stopping")
    }

    fn store(&self) -> Result<Arc<dyn Store>> {
        self.store.upgrade().context("the daemon is stopping")
    }

    /// Writes a backup into a file without a name. Not straight to the socket: commits wait until the backup is
    /// written, and the socket's reader may be slow.
    async fn spool_backup(self) -> Result<File> {
        let (permit, app, store) = (self.permit()?, self.app()?, self.store()?);
        let events = self.events.upgrade().context("the daemon is stopping")?;
        let DataLocation { data_dir, .. } = self.location;
        let (key, noted) = (self.key, Arc::clone(&app));
        let spooled = app.calls.carry_through(async move {
            let _permit = permit;
            let spooled = spawn_blocking(move || -> Result<File> {
                let to = BufWriter::new(Spool::begin(&data_dir)?);
                let written = write(&*store, Some(&*events), &data_dir, &key, to)?;
                Ok(written.into_inner().map_err(io::IntoInnerError::into_error)?.rewound()?)
            });
            let spooled = spooled.await.context("the backup was cut short")?;
            noted.audit.note(entry("backup", spooled.is_ok())).await;
            spooled
        });
        drop(app);
        let spooled = spooled.await.context("the backup was cut short")??;
        info!(bytes = spooled.metadata().map_or(0, |file| file.len()), "made a backup");
        Ok(spooled)
    }

    /// Unpacks the backup in the body, and orders the daemon's runner to restore it.
    async fn restore(self, request: Request) -> Result<Restored> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_asked = |wish: &str| query.split('&').any(|part| part == wish);
        let wish = Wish { force: is_asked(FORCE_QUERY), keep_keys: is_asked(KEEP_KEYS_QUERY) };
        let backup_key = request.headers().get(BACKUP_KEY_HEADER).cloned();
        let spool = Spool::receive(&self.location.data_dir, request.into_body()).await?;
        let backup_key =
            match backup_key.as_ref().map(|key| key.to_str().ok().and_then(|key| <[u8; 32]>::from_hex(key).ok())) {
                Some(key) => StoreKey::from_bytes(key.context("the key must be 64 hex digits")?),
                None => self.key.clone(),
            };
        let permit = self.permit()?;
        let (app, store, location, key) = (self.app()?, self.store()?, self.location.clone(), self.key.clone());
        let noted = Arc::clone(&app);
        let unpacked = app.calls.carry_through(async move {
            let unpack = move || restore::unpack(&location, &key, spool, &backup_key, Some(&*store), wish);
            let unpacked = spawn_blocking(unpack).await.context("restoring was cut short")?;
            if unpacked.is_err() {
                // A restore that goes well is recorded in the log of the restored store.
                noted.audit.note(entry("restore", false)).await;
            }
            Ok::<_, anyhow::Error>((unpacked.context(NOTHING_CHANGED)?, permit))
        });
        drop(app);
        let (unpacked, _permit) = unpacked.await.context("restoring was cut short")??;
        let (reply, restored) = oneshot::channel();
        let Self { location, key, orders, answering, .. } = self;
        let order = RestoreOrder { location, key, unpacked, caller: Caller { reply, answering, _permit } };
        orders.send(order).await.ok().context("the daemon is stopping")?;
        restored.await.context("the daemon was stopped before it restored anything")?
    }
}

/// The audit log's event of a command, which comes from no address and has no key.
pub(crate) fn entry(action: &str, is_done: bool) -> AuditEvent {
    let (outcome, status) = if is_done { (Outcome::Done, StatusCode::OK) } else { (Outcome::Failed, REFUSED) };
    AuditEvent { status_code: status.as_u16(), ..AuditEvent::of(action.into(), outcome) }
}
