//! The task that looks after clients and delivers: it reads what came into the event log since it looked last, each event once however
//! many clients want it, and sends it to them. Reads nothing while nobody subscribed. Waits for no client.

use std::sync::Arc;
use std::time::Duration;

use rookery_actors::{AllEvents, AllEventsPage, CommandError, LogPlace};
use rookery_model::{Event, Session};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

use super::client::Placed;
use super::namespace::Namespace;
use crate::app::App;
use crate::event_data;

/// Events that are read at a time.
const READ_COUNT: usize = 128;
/// How long clients get to take what waits before there is more, or before it is tried again.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);
/// How often a key is looked at that ends by itself.
const EXPIRY_CHECK: Duration = Duration::from_millis(500);
/// How often clients that do not connect and sessions that are gone are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The wait after the log could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// How far events are delivered.
struct Reader {
    events: AllEvents,
    latest: watch::Receiver<u64>,
    keys: watch::Receiver<()>,
    place: LogPlace,
}

/// Delivers for as long as there is an event log, and looks after clients meanwhile.
pub(super) async fn run(app: &Arc<App>, namespace: &Arc<Namespace>) {
    tokio::select! {
        () = look_after(app, namespace) => {}
        () = read(app, namespace) => {}
    }
}

/// Ends what has to end: clients whose key did, transports whose clients do not connect, subscriptions to sessions that are gone.
async fn look_after(app: &App, namespace: &Namespace) {
    let (mut keys, mut expiries, mut sweeps) = (app.keys.changes(), interval(EXPIRY_CHECK), interval(SWEEP_INTERVAL));
    for ticks in [&mut expiries, &mut sweeps] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let (has_ending, is_empty) = (namespace.has_ending_keys(), namespace.table().is_empty());
        tokio::select! {
            biased;
            changed = keys.changed() => match changed {
                Ok(()) => namespace.check_keys(app, false),
                Err(_) => return,
            },
            _ = expiries.tick(), if has_ending => namespace.check_keys(app, true),
            _ = sweeps.tick(), if !is_empty => {
                namespace.end_late_strangers();
                namespace.end_subscriptions(app);
            }
            () = namespace.arrived.notified() => {}
        }
    }
}

/// Reads and delivers. Clients that are catching up get a moment before each page.
async fn read(app: &App, namespace: &Arc<Namespace>) {
    let events = app.gateway.all_events();
    let Ok(latest) = events.latest() else { return };
    let now = *latest.borrow();
    let keys = app.keys.changes();
    let mut reader = Reader { events, latest, keys, place: LogPlace { position: now, told: now } };
    let mut moments = interval(FLUSH_INTERVAL);
    moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut had_a_moment = false;
    loop {
        namespace.flush();
        let (is_behind, is_catching_up) = {
            let table = namespace.table();
            (table.is_behind(), table.is_catching_up())
        };
        tokio::select! {
            biased;
            is_open = reader.has_more(), if !is_catching_up || had_a_moment => {
                if !is_open {
                    return;
                }
                if let Err(error) = reader.deliver(app, namespace).await {
                    warn!(%error, "the event log cannot be read for sockets, will retry");
                    sleep(RETRY).await;
                }
                had_a_moment = false;
                moments.reset();
            }
            // Not made anew each time: whatever else happens, a moment ends.
            _ = moments.tick(), if is_behind => had_a_moment = true,
            () = namespace.fell_behind.notified() => {}
        }
    }
}

impl Reader {
    /// Resolves when there are events; false when the log is closed.
    async fn has_more(&mut self) -> bool {
        let position = self.place.position;
        self.latest.wait_for(|latest| *latest > position).await.is_ok()
    }

    /// Delivers the next events.
    async fn deliver(&mut self, app: &App, namespace: &Arc<Namespace>) -> Result<(), CommandError> {
        let latest = *self.latest.borrow_and_update();
        if !namespace.table().has_subscribers() {
            self.place = LogPlace { position: latest, told: latest };
            return Ok(());
        }
        let epoch = self.events.epoch();
        let (seen_by, wanted_by) = (Arc::clone(namespace), Arc::clone(namespace));
        let sees = move |session: &Session| seen_by.table().has_subscribers_of(session.id);
        let is_wanted = move |event: &Event| wanted_by.table().wants(event.session, event.kind);
        let AllEventsPage { events, seen, is_gap, .. } =
            self.events.page(self.place, READ_COUNT, sees, is_wanted).await?;
        for (at, event) in events {
            let data = event_data::shown(&app.gateway, &event).await;
            // Behind the wait: what a key may see is what it may see now.
            if self.keys.has_changed().unwrap_or_default() {
                self.keys.mark_unchanged();
                namespace.check_keys(app, false);
            }
            if let Ok(session) = app.gateway.session(event.session) {
                namespace.publish(app, &Placed { at, event: &event }, &session, epoch, &data);
            }
        }
        if is_gap {
            warn!("events are gone from the log before clients of sockets had them");
            self.place.told = latest;
        } else {
            self.place.position = if seen > self.place.position { seen } else { latest };
        }
        Ok(())
    }
}
