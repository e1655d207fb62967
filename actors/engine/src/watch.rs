//! Notices a connection that is open and silent. The engine looks at its connection every 15 to 30 s and tells nobody what
//! it found; a session is `ready` only while WhatsApp is heard.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use wacore::iq::keepalive::KeepaliveSpec;
use whatsapp_rust::Client;

use super::Report;
use super::connect_throttle::ConnectPermit;
use super::wire::Wire;

/// After this long without a byte WhatsApp is asked for a sign of life: a little more than the longest interval between
/// two pings of the engine (30 s), so that a connection that works is rarely asked.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// WhatsApp answers whatever is asked within a second or two. It does not answer receipts, so that silence after
/// something was sent proves nothing yet.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);
/// WhatsApp's time for a sign of life. With [`SILENCE_MAX`] it stays within two of the engine's pings: longer than that no
/// session is `ready` without having been heard.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// After that, for an answer that is here already and was not read, because this process stood still.
const READ_GRACE: Duration = Duration::from_millis(100);

/// Watches a client's connections for as long as it is polled.
pub(super) async fn watch(client: &Arc<Client>, wire: &Wire, permit: &ConnectPermit, report: &Report) {
    let mut asked_at: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let due =
            due_at(wire.heard_at(), wire.unanswered_since(), now).max(asked_at.map_or(now, |at| at + PROBE_TIMEOUT));
        if due > now {
            // A write meanwhile cannot make it due any earlier than this.
            sleep_until(due.min(now + UNANSWERED_MAX)).await;
            continue;
        }
        asked_at = Some(now);
        // Before the log-in the engine's own time limits hold, and who is not connected knows it.
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

/// When a sign of life is to be asked for.
fn due_at(heard_at: Option<Instant>, unanswered_since: Option<Instant>, now: Instant) -> Instant {
    let silent = heard_at.unwrap_or(now) + SILENCE_MAX;
    unanswered_since.map_or(silent, |since| silent.min(since + UNANSWERED_MAX))
}

/// Asks for a sign of life. Anything that arrives meanwhile is one.
async fn is_heard(client: &Client, wire: &Wire, since: Instant) -> bool {
    if timeout(PROBE_TIMEOUT, client.execute(KeepaliveSpec::new())).await.is_err() {
        sleep(READ_GRACE).await;
    }
    wire.heard_at().is_some_and(|at| at >= since) || !client.is_logged_in()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine pings an idle connection at most this long after it was heard.
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
