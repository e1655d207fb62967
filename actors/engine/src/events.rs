//! What the engine tells, as facts: one match, no decisions.

use std::sync::Arc;

use wacore::iq::dirty::DirtyType;
use wacore::net::DisconnectReason;
use wacore::types::call::CallAction;
use wacore::types::events::{
    ConnectFailureReason, ContactUpdate, Event, EventHandler, EventInterest, EventKind, InboundMessage, PictureUpdate,
};
use wacore_binary::Jid;

use super::convert;
use super::turns::Turn;
use rookery_model::{GroupAction, NameSource, Notice, Person};
use rookery_model::{GroupEventKind, Timestamp};

/// Something that happened to a session's engine or account.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineFact {
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
    /// The name of somebody.
    Named(Person, String, NameSource),
    /// Somebody calls.
    Called(IncomingCall),
    /// As many reconnects failed in a row as the session's configuration allows.
    ReconnectsUsedUp(u32),
    /// A change of a group.
    Group(Notice),
    /// WhatsApp says that something about groups was missed.
    GroupsMissed,
}

impl EngineFact {
    /// Whether it says that the log-in is over for good.
    pub fn ends_log_in(&self) -> bool {
        use EngineFact as F;
        matches!(self, F::LoggedOut(_) | F::Refused(_) | F::Replaced | F::Banned { .. } | F::Outdated)
    }

    /// Whether there may be floods of it: those wait in a bounded number (L-1).
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Group(_) | Self::Named(..) | Self::Called(_))
    }
}

/// What rejecting a call needs.
#[derive(Clone, PartialEq, Eq)]
pub struct IncomingCall {
    pub(super) id: String,
    pub(super) from: Jid,
    pub(super) creator: Jid,
}

/// Who calls is nobody's business in a log (P-1).
impl std::fmt::Debug for IncomingCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IncomingCall")
    }
}

/// Why a log-in is over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LogoutKind {
    /// The device was removed at the phone: its credentials are worthless.
    Removed,
    /// WhatsApp locked the account.
    Locked,
    /// Something else; the credentials may still be good.
    Other(i32),
}

/// Where facts go: called from the engine's tasks, in no order.
pub type Report = Arc<dyn Fn(EngineFact) + Send + Sync>;

/// The engine's event handler: hands every fact on.
pub(super) struct Reporter {
    turn: Arc<Turn>,
    report: Report,
}

impl Reporter {
    pub(super) fn new(turn: Arc<Turn>, report: Report) -> Self {
        Self { turn, report }
    }
}

impl EventHandler for Reporter {
    fn handle_event(&self, event: Arc<Event>) {
        self.turn.note(&event);
        match &*event {
            Event::Notification(node) => {
                if let Some((author, name)) = convert::named_author(node.get()) {
                    (self.report)(EngineFact::Named(author, name, NameSource::Push));
                }
                for change in convert::group_events(node.get()) {
                    (self.report)(EngineFact::Group(change));
                }
            }
            Event::Messages(batch) => batch.iter().filter_map(named_sender).for_each(|fact| (self.report)(fact)),
            event => {
                if let Some(fact) = fact(event) {
                    (self.report)(fact);
                }
            }
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
            EventKind::PictureUpdate,
            EventKind::ContactUpdate,
            EventKind::Messages,
            EventKind::IncomingCall,
        ])
    }
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
        Event::PictureUpdate(update) => EngineFact::Group(picture_notice(update)?),
        Event::ContactUpdate(update) => named_contact(update)?,
        Event::IncomingCall(call) => match &call.action {
            CallAction::Offer { call_id, call_creator, .. } => EngineFact::Called(IncomingCall {
                id: call_id.clone(),
                from: call.from.clone(),
                creator: call_creator.clone(),
            }),
            _ => return None,
        },
        _ => return None,
    })
}

fn picture_notice(update: &PictureUpdate) -> Option<Notice> {
    Some(Notice {
        group: convert::group_id(&update.jid)?,
        author: convert::person_of([update.author.as_ref(), None, None]),
        at: u64::try_from(update.timestamp.timestamp()).unwrap_or_default(),
        versions: None,
        action: GroupAction::Told(GroupEventKind::Picture, Vec::new()),
    })
}

/// A contact of the phone's address book; without a name it was removed.
fn named_contact(update: &ContactUpdate) -> Option<EngineFact> {
    let person = convert::person(&update.jid)?;
    let name = update.action.full_name.as_ref().or(update.action.first_name.as_ref()).cloned().unwrap_or_default();
    Some(EngineFact::Named(person, name, NameSource::Contact))
}

/// The name that the sender of a message goes by. Nothing else of a message is looked at.
fn named_sender(message: &InboundMessage) -> Option<EngineFact> {
    let (info, source) = (&message.info, &message.info.source);
    if info.push_name.is_empty() || source.is_from_me {
        return None;
    }
    let person = convert::person_of([Some(&source.sender), source.sender_alt.as_ref(), None])?;
    Some(EngineFact::Named(person, info.push_name.clone(), NameSource::Push))
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
