//! Notices a connection that is open but silent. The engine checks its connection every 15 to 30 s, but reports no
//! result. A session is `ready` only while bytes arrive from WhatsApp.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use wacore::iq::keepalive::KeepaliveSpec;
use whatsapp_rust::Client;

use super::Report;
use super::network::connect_throttle::ConnectPermit;
use super::network::wire::Wire;

/// After this long without a byte from WhatsApp, a keepalive is sent: a little more than the longest interval between
/// two pings of the engine (30 s), so that a working connection rarely gets one.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// A keepalive is sent after this long without an answer to a write. WhatsApp answers requests within a second or two,
/// but does not answer receipts: silence after a write proves nothing yet.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);
/// WhatsApp's time to answer the keepalive. Together with [`SILENCE_MAX`] it is less than two intervals of the engine's
/// pings: no session stays `ready` for longer than that without a byte from WhatsApp.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Added to [`PROBE_TIMEOUT`], for an answer that has arrived but was not read because this process was suspended.
const READ_GRACE: Duration = Duration::from_millis(100);

/// Watches a client's connections for as long as it is polled.
pub(super) async fn watch(client: &Arc<Client>, wire: &Wire, permit: &ConnectPermit, report: &Report) {
    let mut asked_at: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let due =
            due_at(wire.heard_at(), wire.unanswered_since(), now).max(asked_at.map_or(now, |at| at + PROBE_TIMEOUT));
        if due > now {
            // A write during this sleep cannot make the keepalive due any earlier.
            sleep_until(due.min(now + UNANSWERED_MAX)).await;
            continue;
        }
        asked_at = Some(now);
        // Before the log-in the engine's own time limits apply, and a session without a connection knows that.
        if !client.is_logged_in() {
            continue;
        }
        permit.doubt(true);
        let is_heard = is_heard(client, wire, now).await;
        if is_heard {
            permit.doubt(false);
            continue;
        }
        let silence = wire.heard_at().map_or(SILENCE_MAX, |at| at.elapsed());
        permit.tell_lost(report, format!("nothing was heard from WhatsApp for {} s", silence.as_secs()));
        permit.doubt(false);
        client.reconnect_immediately().await;
    }
}

/// When a keepalive is due.
fn due_at(heard_at: Option<Instant>, unanswered_since: Option<Instant>, now: Instant) -> Instant {
    let silent = heard_at.unwrap_or(now) + SILENCE_MAX;
    unanswered_since.map_or(silent, |since| silent.min(since + UNANSWERED_MAX))
}

/// Sends a keepalive. Any byte that arrives meanwhile counts as an answer.
async fn is_heard(client: &Client, wire: &Wire, since: Instant) -> bool {
    if timeout(PROBE_TIMEOUT, client.execute(KeepaliveSpec::new())).await.is_err() {
        sleep(READ_GRACE).await;
    }
    wire.heard_at().is_some_and(|at| at >= since) || !client.is_logged_in()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine pings an idle connection at most this long after the last byte arrived.
    const PING_INTERVAL_MAX: Duration = wacore::protocol::keepalive::KEEP_ALIVE_INTERVAL_MAX;

    #[test]
    fn silence_is_looked_into_sooner_when_something_was_sent() {
        let heard = Instant::now();
        let second = Duration::from_secs(1);
        let now = heard + 20 * second;
        assert_eq!(due_at(None, None, now), now + SILENCE_MAX);
        assert_eq!(due_at(Some(heard), None, now), heard + SILENCE_MAX);
        assert_eq!(due_at(Some(heard), Some(heard + second), now), heard + second + UNANSWERED_MAX);
        let late = heard + 34 * second;
        assert_eq!(due_at(Some(heard), Some(late), late), heard + SILENCE_MAX);
    }

    #[test]
    fn a_session_is_ready_only_while_it_was_heard_within_two_pings() {
        assert!(SILENCE_MAX > PING_INTERVAL_MAX, "or a connection that works would be asked all the time");
        assert!(SILENCE_MAX + PROBE_TIMEOUT + READ_GRACE <= 2 * PING_INTERVAL_MAX);
    }
}
