//! What the engine tells, as facts: one match, no decisions.

use std::sync::Arc;

use wacore::iq::dirty::DirtyType;
use wacore::net::DisconnectReason;
use wacore::types::events::{ConnectFailureReason, Event, EventHandler, EventInterest, EventKind};

use super::convert;
use super::transport::Turn;
use crate::group_cache::{GroupEvent, Person};
use crate::model::Timestamp;

/// Something that happened to a session's engine or account.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EngineFact {
    /// A QR to show; it replaces the one before.
    QrShown(String),
    /// There is no further QR while a pairing code is open.
    QrsUsedUp,
    /// A phone accepted: the account is linked, credentials are being saved.
    Paired(Person),
    /// The phone accepted, but linking did not succeed.
    PairingFailed(String),
    /// The phone asks for the code to be requested again.
    PairingCodeExpired,
    /// Logged in with the stored credentials.
    LoggedIn,
    /// The connection is gone; the engine reconnects by itself.
    ConnectionLost(String),
    /// WhatsApp ended the log-in for good.
    LoggedOut(LogoutKind),
    /// Another client uses this device's credentials.
    Replaced,
    /// The account may not connect for a time.
    Banned {
        /// WhatsApp's number for the reason.
        code: i32,
        /// When it ends.
        until: Timestamp,
    },
    /// WhatsApp wants a newer client.
    Outdated,
    /// WhatsApp refused the connection.
    Refused(i32),
    /// The account's own display name.
    PushName(String),
    /// A change of a group.
    Group(GroupEvent),
    /// WhatsApp says that something about groups was missed.
    GroupsMissed,
}

/// Why a log-in is over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogoutKind {
    /// The device was removed at the phone: its credentials are worthless.
    Removed,
    /// WhatsApp locked the account.
    Locked,
    /// Something else; the credentials may still be good.
    Other(i32),
}

/// The engine's event handler: hands every fact on.
pub(super) struct Reporter<F> {
    turn: Arc<Turn>,
    report: F,
}

impl<F: Fn(EngineFact) + Send + Sync + 'static> Reporter<F> {
    pub(super) fn new(turn: Arc<Turn>, report: F) -> Self {
        Self { turn, report }
    }
}

impl<F: Fn(EngineFact) + Send + Sync + 'static> EventHandler for Reporter<F> {
    fn handle_event(&self, event: Arc<Event>) {
        if ends_turn(&event) {
            self.turn.end();
        }
        if let Event::Notification(node) = &*event {
            for change in convert::group_events(node.get()) {
                (self.report)(EngineFact::Group(change));
            }
        } else if let Some(fact) = fact(&event) {
            (self.report)(fact);
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::PairingQrCode,
            EventKind::PairSuccess,
            EventKind::PairError,
            EventKind::PairingCodeRefresh,
            EventKind::PairingQrCodesExhausted,
            EventKind::Connected,
            EventKind::Disconnected,
            EventKind::LoggedOut,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ClientOutdated,
            EventKind::ConnectFailure,
            EventKind::SelfPushNameUpdated,
            EventKind::Notification,
            EventKind::DirtyState,
        ])
    }
}

/// Whether the connect is over with this event, well or badly. After pairing the engine connects again in a new turn.
fn ends_turn(event: &Event) -> bool {
    !matches!(event, Event::Notification(_) | Event::DirtyState(_) | Event::SelfPushNameUpdated(_))
}

/// In our own words: a server's text can be anything (P-1).
fn lost_because(reason: &DisconnectReason) -> String {
    match reason {
        DisconnectReason::ServerClose { code: Some(code), .. } => format!("WhatsApp closed it (code {code})"),
        DisconnectReason::ServerClose { .. } => "WhatsApp closed it".into(),
        DisconnectReason::ReadError(_) => "it broke".into(),
        _ => "it ended".into(),
    }
}

fn fact(event: &Event) -> Option<EngineFact> {
    Some(match event {
        Event::PairingQrCode(qr) => EngineFact::QrShown(qr.code.clone()),
        Event::PairSuccess(pair) => {
            EngineFact::Paired(convert::person_of([Some(&pair.id), Some(&pair.lid), None]).unwrap_or_default())
        }
        Event::PairError(error) => EngineFact::PairingFailed(error.error.clone()),
        Event::PairingCodeRefresh(_) => EngineFact::PairingCodeExpired,
        Event::Connected(_) => EngineFact::LoggedIn,
        Event::Disconnected(lost) => EngineFact::ConnectionLost(lost_because(&lost.reason)),
        Event::LoggedOut(out) => EngineFact::LoggedOut(match &out.reason {
            ConnectFailureReason::LoggedOut => LogoutKind::Removed,
            ConnectFailureReason::AccountLocked => LogoutKind::Locked,
            other => LogoutKind::Other(other.code()),
        }),
        Event::StreamReplaced(_) => EngineFact::Replaced,
        Event::TemporaryBan(ban) => EngineFact::Banned {
            code: ban.code.code(),
            until: Timestamp(Timestamp::now().0.saturating_add(ban.expire.num_milliseconds())),
        },
        Event::ClientOutdated(_) => EngineFact::Outdated,
        // The engine goes on trying by itself after these.
        Event::ConnectFailure(failure) if failure.reason.should_reconnect() => {
            EngineFact::ConnectionLost(format!("WhatsApp is unavailable (code {})", failure.reason.code()))
        }
        Event::ConnectFailure(failure) => EngineFact::Refused(failure.reason.code()),
        Event::PairingQrCodesExhausted(end) if !end.disconnected => EngineFact::QrsUsedUp,
        Event::SelfPushNameUpdated(update) => EngineFact::PushName(update.new_name.clone()),
        Event::DirtyState(dirty) if dirty.dirty_type == DirtyType::Groups => EngineFact::GroupsMissed,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore::types::events::ConnectFailure;

    #[test]
    fn a_refusal_that_passes_by_itself_is_a_lost_connection() {
        let refused = |reason| fact(&Event::ConnectFailure(ConnectFailure::builder().reason(reason).build()));
        for reason in [ConnectFailureReason::ServiceUnavailable, ConnectFailureReason::InternalServerError] {
            assert!(matches!(refused(reason), Some(EngineFact::ConnectionLost(_))));
        }
        assert_eq!(refused(ConnectFailureReason::BadUserAgent), Some(EngineFact::Refused(409)));
    }
}
