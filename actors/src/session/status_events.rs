//! The events about a session's own status: what it is, why a connection ended, and that it ends over and over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::SessionState;
use super::lifecycle::Fact;
use super::record::SessionRecord;
use rookery_model::{EventKind, SessionStatus};

/// So many lost connections ...
const LOOP_LOSSES: usize = 5;
/// ... within this time are a loop, which is told once in this time.
const LOOP_WINDOW: Duration = Duration::from_secs(10 * 60);

/// The connections that were lost lately.
#[derive(Default)]
pub(super) struct LostConnections {
    lost_at: VecDeque<Instant>,
    told_at: Option<Instant>,
}

impl LostConnections {
    /// Notes a lost connection; whether that makes a loop that is to be told.
    fn note(&mut self, now: Instant) -> bool {
        self.lost_at.push_back(now);
        if self.lost_at.len() > LOOP_LOSSES {
            self.lost_at.pop_front();
        }
        let is_recent = |at: Instant| now.duration_since(at) < LOOP_WINDOW;
        let is_loop = self.lost_at.len() == LOOP_LOSSES && self.lost_at.front().copied().is_some_and(is_recent);
        let is_told = is_loop && !self.told_at.is_some_and(is_recent);
        if is_told {
            self.told_at = Some(now);
        }
        is_told
    }
}

impl SessionState {
    /// Adds the events of a fact that changed the session from what it was `before`. A session that is being deleted tells nothing of
    /// itself: WhatsApp's word for the end of its link is the same as for a log-out at the phone.
    pub(super) fn tell_change(&mut self, fact: &Fact, before: &SessionRecord) {
        if before.status == self.record.status || self.record.deleting {
            return;
        }
        let status = self.record.status.as_str();
        self.tell_with(EventKind::SessionStatus, [("status", json!(status))]);
        if self.record.status == SessionStatus::Ready {
            let phone = self.record.phone.map(|digits| digits.to_string());
            let names = [("phone", json!(phone)), ("pushName", json!(self.record.push_name))];
            self.tell_with(EventKind::Authenticated, names);
        }
        let was_connected = matches!(before.status, SessionStatus::Ready | SessionStatus::Authenticating);
        let is_connected = matches!(self.record.status, SessionStatus::Ready | SessionStatus::Authenticating);
        if was_connected && !is_connected {
            let reason = reason_of(fact, self.record.last_error.as_deref());
            self.tell_with(EventKind::Disconnected, [("reason", json!(reason))]);
        }
        if was_connected && matches!(fact, Fact::ConnectionLost(_)) && self.lost_connections.note(Instant::now()) {
            let figures = [("reconnects", json!(LOOP_LOSSES)), ("withinSeconds", json!(LOOP_WINDOW.as_secs()))];
            self.tell_with(EventKind::ReconnectLoop, figures);
        }
    }

    /// Adds an event of the session to the journal.
    pub(super) fn tell(&mut self, kind: EventKind) {
        self.tell_with(kind, []);
    }

    /// Adds an event of the session with more data to the journal.
    pub(super) fn tell_with<const N: usize>(&mut self, kind: EventKind, more: [(&str, Value); N]) {
        let mut data = Map::from_iter([("sessionId".to_owned(), json!(self.entry.id))]);
        data.extend(more.map(|(name, value)| (name.to_owned(), value)));
        self.journal.tell(kind, data);
    }
}

/// Why a connection ended, in words.
fn reason_of(fact: &Fact, last_error: Option<&str>) -> String {
    match fact {
        Fact::StopRequested => "the session was stopped".to_owned(),
        Fact::LoggedOut => "the account was logged out".to_owned(),
        Fact::StartRequested => "the daemon was stopped, or the session crashed".to_owned(),
        Fact::ProxyChanged => "the session connects another way".to_owned(),
        _ => last_error.unwrap_or("the connection ended").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_losses_within_ten_minutes_are_a_loop_and_told_once_in_that_time() {
        let (begin, mut lost) = (Instant::now(), LostConnections::default());
        let mut told = Vec::new();
        // Every two minutes, then every three, then every second.
        let times = (0..8).map(|nth| nth * 120).chain((0..8).map(|nth| 1_000 + nth * 180)).chain(3_000..3_020);
        for seconds in times {
            if lost.note(begin + Duration::from_secs(seconds)) {
                told.push(seconds);
            }
        }
        assert_eq!(told, [480, 1_180, 3_004]);
    }

    #[test]
    fn a_reason_is_in_words() {
        assert_eq!(reason_of(&Fact::StopRequested, None), "the session was stopped");
        assert_eq!(
            reason_of(&Fact::ConnectionLost("reset".into()), Some("connection lost: reset")),
            "connection lost: reset"
        );
        assert_eq!(reason_of(&Fact::ConnectionLost("reset".into()), None), "the connection ended");
    }
}
