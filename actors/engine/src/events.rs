//! The engine's events, converted to our own: one match, no decisions.

use std::sync::Arc;

use wacore::iq::dirty::DirtyType;
use wacore::net::DisconnectReason;
use wacore::types::call::CallAction;
use wacore::types::events::{
    ConnectFailureReason, ContactUpdate, Event, EventHandler, EventInterest, EventKind, PictureUpdate,
};
use wacore_binary::Jid;

use super::acknowledgements::Acknowledgements;
use super::inbox::Delivery;
use super::network::connect_throttle::ConnectPermit;
use super::{ids, limits, notifications, passkey};
use rookery_model::{
    GroupAction, GroupEventKind, GroupNotification, NameSource, NewChats, ParticipantIds, ReachoutTimelock, Timestamp,
};

/// Something that happened to a session's engine or account.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// A QR to show; it replaces the one before.
    QrShown(String),
    /// No further QR comes while a pairing code is open.
    QrsUsedUp,
    /// A phone accepted: the account is linked, credentials are being saved.
    Paired(ParticipantIds),
    /// The phone accepted, but linking did not succeed.
    PairingFailed(String),
    /// The phone asks for the code to be requested again.
    PairingCodeExpired,
    /// WhatsApp asks for a passkey, with these `PublicKeyCredentialRequestOptions`.
    PasskeyRequested(String),
    /// The phone shows this code, to be compared. `is_known`: the phone knows this device, and nobody has to.
    PasskeyCodeShown {
        /// Eight characters with a hyphen.
        code: String,
        /// Whether the comparison is left out.
        is_known: bool,
    },
    /// The attempt with a passkey failed, for this reason in our own words.
    PasskeyFailed(String),
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
        /// When the ban ends.
        until: Timestamp,
    },
    /// WhatsApp wants a newer client.
    Outdated,
    /// WhatsApp refused the connection.
    Refused(i32),
    /// The account's own display name.
    PushName(String),
    /// The name of somebody.
    Named(ParticipantIds, String, NameSource),
    /// Somebody calls.
    Called(IncomingCall),
    /// As many reconnects failed in a row as the session's configuration allows.
    ReconnectsUsedUp(u32),
    /// WhatsApp changed whether the account may reach out to new people.
    TimelockTold(ReachoutTimelock),
    /// WhatsApp changed how many new chats the account may begin; `None`: there is no limit.
    NewChatsTold(Option<NewChats>),
    /// A change of a group.
    Group(GroupNotification),
    /// WhatsApp says that something about groups was missed.
    GroupsMissed,
}

impl EngineEvent {
    /// Whether the event says that the log-in is over for good.
    pub fn ends_log_in(&self) -> bool {
        use EngineEvent as E;
        matches!(self, E::LoggedOut(_) | E::Refused(_) | E::Replaced | E::Banned { .. } | E::Outdated)
    }

    /// Whether events of this kind may come in floods: only a bounded number of them may wait (L-1).
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Group(_) | Self::Named(..) | Self::Called(_))
    }
}

/// The ids that rejecting a call needs.
#[derive(Clone, PartialEq, Eq)]
pub struct IncomingCall {
    pub(super) id: String,
    pub(super) from: Jid,
    pub(super) creator: Jid,
}

/// Shows no ids: a log must not name the caller (P-1).
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

/// Receives the events: called from the engine's tasks, in no order.
pub type Report = Arc<dyn Fn(EngineEvent) + Send + Sync>;

/// The engine's event handler: hands every event on.
pub(super) struct Reporter {
    permit: Arc<ConnectPermit>,
    acknowledgements: Arc<Acknowledgements>,
    delivery: Arc<Delivery>,
    report: Report,
}

impl Reporter {
    pub(super) fn new(
        permit: Arc<ConnectPermit>,
        acknowledgements: Arc<Acknowledgements>,
        delivery: Arc<Delivery>,
        report: Report,
    ) -> Self {
        Self { permit, acknowledgements, delivery, report }
    }
}

impl EventHandler for Reporter {
    fn handle_event(&self, event: Arc<Event>) {
        self.permit.note(&event);
        match &*event {
            Event::Notification(node) => {
                if let Some((author, name)) = notifications::named_author(node.get()) {
                    (self.report)(EngineEvent::Named(author, name, NameSource::Push));
                }
                for change in notifications::group_events(node.get()) {
                    (self.report)(EngineEvent::Group(change));
                }
            }
            Event::ServerAck(ack) => self.acknowledgements.acknowledged(ack),
            Event::Receipt(receipt) => {
                self.acknowledgements.received(receipt);
                self.delivery.see_receipt(receipt);
            }
            Event::Messages(batch) => self.delivery.see(batch),
            Event::UndecryptableMessage(message) => self.delivery.see_masked(message),
            event => {
                if let Some(event) = engine_event(event) {
                    (self.report)(event);
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
            EventKind::UndecryptableMessage,
            EventKind::ServerAck,
            EventKind::Receipt,
            EventKind::IncomingCall,
            EventKind::MexNotification,
            EventKind::PairPasskeyRequest,
            EventKind::PairPasskeyConfirmation,
            EventKind::PairPasskeyError,
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

fn engine_event(event: &Event) -> Option<EngineEvent> {
    Some(match event {
        Event::PairingQrCode(qr) => EngineEvent::QrShown(qr.code.clone()),
        Event::PairSuccess(pair) => {
            EngineEvent::Paired(ids::person_of([Some(&pair.id), Some(&pair.lid), None]).unwrap_or_default())
        }
        Event::PairError(error) => EngineEvent::PairingFailed(error.error.clone()),
        Event::PairingCodeRefresh(_) => EngineEvent::PairingCodeExpired,
        Event::PairPasskeyRequest(asked) => EngineEvent::PasskeyRequested(asked.request_options_json.clone()),
        Event::PairPasskeyConfirmation(shown) => {
            EngineEvent::PasskeyCodeShown { code: shown.code.clone(), is_known: shown.skip_handoff_ux }
        }
        Event::PairPasskeyError(failed) => EngineEvent::PasskeyFailed(match passkey::refusal_code(&failed.error) {
            Some(code) => format!("WhatsApp refused it (code {code})"),
            None => "WhatsApp's part of it could not be read, or did not come".into(),
        }),
        Event::Connected(_) => EngineEvent::LoggedIn,
        Event::Disconnected(lost) => EngineEvent::ConnectionLost(lost_because(&lost.reason)),
        Event::LoggedOut(out) => EngineEvent::LoggedOut(match &out.reason {
            ConnectFailureReason::LoggedOut => LogoutKind::Removed,
            ConnectFailureReason::AccountLocked => LogoutKind::Locked,
            other => LogoutKind::Other(other.code()),
        }),
        Event::StreamReplaced(_) => EngineEvent::Replaced,
        Event::TemporaryBan(ban) => EngineEvent::Banned {
            code: ban.code.code(),
            until: Timestamp(Timestamp::now().0.saturating_add(ban.expire.num_milliseconds())),
        },
        Event::ClientOutdated(_) => EngineEvent::Outdated,
        // The engine reconnects by itself after these failures.
        Event::ConnectFailure(failure) if failure.reason.should_reconnect() => {
            EngineEvent::ConnectionLost(format!("WhatsApp is unavailable (code {})", failure.reason.code()))
        }
        Event::ConnectFailure(failure) => EngineEvent::Refused(failure.reason.code()),
        Event::PairingQrCodesExhausted(end) if !end.disconnected => EngineEvent::QrsUsedUp,
        Event::SelfPushNameUpdated(update) => EngineEvent::PushName(update.new_name.clone()),
        Event::DirtyState(dirty) if dirty.dirty_type == DirtyType::Groups => EngineEvent::GroupsMissed,
        Event::PictureUpdate(update) => EngineEvent::Group(picture_notice(update)?),
        Event::ContactUpdate(update) => named_contact(update)?,
        Event::MexNotification(told) => limits::told(told)?,
        Event::IncomingCall(call) => match &call.action {
            CallAction::Offer { call_id, call_creator, .. } => EngineEvent::Called(IncomingCall {
                id: call_id.clone(),
                from: call.from.clone(),
                creator: call_creator.clone(),
            }),
            _ => return None,
        },
        _ => return None,
    })
}

fn picture_notice(update: &PictureUpdate) -> Option<GroupNotification> {
    Some(GroupNotification {
        group: ids::group_id(&update.jid)?,
        author: ids::person_of([update.author.as_ref(), None, None]),
        at: u64::try_from(update.timestamp.timestamp()).unwrap_or_default(),
        versions: None,
        action: GroupAction::Told(GroupEventKind::Picture, Vec::new()),
    })
}

/// A contact of the phone's address book; a contact without a name was removed from it.
fn named_contact(update: &ContactUpdate) -> Option<EngineEvent> {
    let person = ids::person(&update.jid)?;
    let name = update.action.full_name.as_ref().or(update.action.first_name.as_ref()).cloned().unwrap_or_default();
    Some(EngineEvent::Named(person, name, NameSource::Contact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore::types::events::ConnectFailure;

    #[test]
    fn a_refusal_that_passes_by_itself_is_a_lost_connection() {
        let refused = |reason| engine_event(&Event::ConnectFailure(ConnectFailure::builder().reason(reason).build()));
        for reason in [ConnectFailureReason::ServiceUnavailable, ConnectFailureReason::InternalServerError] {
            assert!(matches!(refused(reason), Some(EngineEvent::ConnectionLost(_))));
        }
        assert_eq!(refused(ConnectFailureReason::BadUserAgent), Some(EngineEvent::Refused(409)));
    }
}
