//! Linking a phone: the QR, the pairing code, and the time for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SessionState;
use super::lifecycle::Fact;
use super::message::{Generation, SessionMsg};
use super::record::Link;
use crate::commands::read_error;
use crate::error::CommandError;
use crate::reply::{Permit, Reply};
use crate::supervisor::message::SupervisorMsg;
use rookery_engine::Engine;
use rookery_model::{EventKind, Linking, LinkingStep, PairingCode, ParticipantId, Qr, SessionStatus, Timestamp};
use rookery_store::{Health, StoreError};
use serde_json::json;

/// WhatsApp accepts a pairing code for about this long (the engine's own figure is 180 s).
const CODE_VALID: Duration = Duration::from_secs(160);

/// The end of linking waits this long, again and again, for a link with a passkey that is under way.
const LINK_UNDER_WAY: Duration = Duration::from_secs(10);

/// The QR and the code that a phone can use now. Secrets: never logged, never stored.
#[derive(Default)]
pub(super) struct Pairing {
    qr: Option<String>,
    code: Option<OpenCode>,
    /// A code is being asked for.
    asking: Option<Asking>,
    /// Counts the times linking was opened or closed, so that the end of an older time limit is recognised.
    start: u64,
    opened: bool,
    /// When linking is over.
    until: Option<Timestamp>,
    /// Another account than before may have the session.
    pub(super) account_change_allowed: bool,
    /// Counts the codes asked for.
    asked: u64,
}

struct OpenCode {
    phone: ParticipantId,
    code: String,
    made_at: Instant,
}

struct Asking {
    /// Tells this request from an earlier one for the same number.
    number: u64,
    phone: ParticipantId,
    waiting: Vec<(Permit, Reply<PairingCode>)>,
}

impl Pairing {
    /// Opens linking. Returns a number for its end; `None` when it is open already: new connections within its time do
    /// not prolong it.
    fn open(&mut self) -> Option<u64> {
        if std::mem::replace(&mut self.opened, true) {
            return None;
        }
        self.start += 1;
        Some(self.start)
    }

    /// Whether the time limit that is over belongs to the linking that is open now.
    fn is_over(&self, start: u64) -> bool {
        self.start == start
    }

    /// Closes linking: the next start opens it anew.
    pub(super) fn close(&mut self) {
        self.opened = false;
        self.start += 1;
    }

    /// Drops the QR and the code, and refuses those who wait for a code.
    pub(super) fn forget(&mut self) {
        self.qr = None;
        self.code = None;
        if let Some(asking) = self.asking.take() {
            asking.refuse("linking ended");
        }
    }

    pub(super) fn forget_code(&mut self) {
        self.code = None;
    }

    /// What linking waits for.
    pub(super) fn linking(&self, status: SessionStatus) -> Option<Linking> {
        let left = |open: &OpenCode| CODE_VALID.checked_sub(open.made_at.elapsed());
        let left = self.code.as_ref().and_then(left).and_then(|left| i64::try_from(left.as_millis()).ok());
        match (status, left) {
            (SessionStatus::QrReady, Some(left)) => {
                let expires_at = Some(Timestamp(Timestamp::now().0 + left));
                Some(Linking { step: LinkingStep::PairingCode, expires_at, code: None })
            }
            (SessionStatus::QrReady, None) => {
                Some(Linking { step: LinkingStep::Qr, expires_at: self.until, code: None })
            }
            _ => None,
        }
    }

    /// The QR that can be scanned now, or why there is none.
    fn qr(&self, status: SessionStatus, is_loaded: bool) -> Result<Qr, CommandError> {
        match &self.qr {
            Some(text) => Ok(Qr { text: text.clone(), status }),
            None if !is_loaded => Err(CommandError::NotStarted),
            None if is_linked(status) => Err(CommandError::NoQr("a phone is linked".into())),
            None => Err(CommandError::NoQr("it is not there yet, ask again in a moment".into())),
        }
    }

    /// Takes a caller who wants a code for this phone. Returns the number of the code that WhatsApp is to be asked for.
    /// `None`: the caller was answered, or waits for a code that WhatsApp was asked for already.
    fn ask(
        &mut self,
        phone: ParticipantId,
        now: Instant,
        permit: Permit,
        reply: Reply<PairingCode>,
        status: SessionStatus,
    ) -> Option<u64> {
        let is_open = |open: &&OpenCode| open.phone == phone && now.duration_since(open.made_at) < CODE_VALID;
        if let Some(open) = self.code.as_ref().filter(is_open) {
            let _ = reply.send(Ok(PairingCode { code: open.code.clone(), status }));
            return None;
        }
        if let Some(asking) = self.asking.as_mut().filter(|asking| asking.phone == phone) {
            asking.waiting.push((permit, reply));
            return None;
        }
        self.asked += 1;
        let asking = Asking { number: self.asked, phone, waiting: vec![(permit, reply)] };
        if let Some(replaced) = self.asking.replace(asking) {
            replaced.refuse("a code for another number was asked for");
        }
        self.code = None;
        Some(self.asked)
    }

    /// Takes WhatsApp's answer for the code with this number. `is_current`: the engine that asked for the code is the
    /// current one.
    fn made(
        &mut self,
        number: u64,
        code: &Result<String, CommandError>,
        is_current: bool,
        now: Instant,
        status: SessionStatus,
    ) {
        let Some(asking) = self.asking.take_if(|asking| asking.number == number).filter(|_| is_current) else { return };
        if let Ok(code) = code {
            self.code = Some(OpenCode { phone: asking.phone, code: code.clone(), made_at: now });
        }
        for (_, reply) in asking.waiting {
            let _ = reply.send(code.clone().map(|code| PairingCode { code, status }));
        }
    }
}

impl Asking {
    fn refuse(self, why: &str) {
        for (_, reply) in self.waiting {
            let _ = reply.send(Err(CommandError::NoPairingCode(why.into())));
        }
    }
}

fn is_linked(status: SessionStatus) -> bool {
    matches!(status, SessionStatus::Ready | SessionStatus::Authenticating)
}

impl SessionState {
    /// Opens linking for its time, from a start on.
    pub(super) fn open_linking(&mut self) {
        if let Some(start) = self.pairing.open() {
            let window = self.context.options.linking_window;
            let ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
            self.pairing.until = Some(Timestamp(Timestamp::now().0.saturating_add(ms)));
            self.myself.send_after(window, move || SessionMsg::LinkingDue { start });
        }
    }

    pub(super) fn linking_due(&mut self, start: u64) {
        if self.pairing.is_over(start) && self.passkey.is_some() {
            // The link under way has its own time.
            self.myself.send_after(LINK_UNDER_WAY, move || SessionMsg::LinkingDue { start });
        } else if self.pairing.is_over(start) && self.engine.is_loaded() && self.record.link == Link::None {
            self.apply(Fact::LinkingExpired);
        }
    }

    pub(super) fn qr_shown(&mut self, text: String) {
        self.apply(Fact::QrShown);
        if self.record.status == SessionStatus::QrReady {
            // The event has no QR in it: a QR is never stored.
            self.tell_with(EventKind::Qr, [("qrId", json!(Qr::id_of(&text)))]);
            self.pairing.qr = Some(text);
        }
    }

    /// WhatsApp gives new QRs to a new connection. But a new connection would end the open pairing code, so the code
    /// has its time first.
    pub(super) fn qrs_used_up(&mut self) {
        self.pairing.qr = None;
        let generation = self.engine.generation();
        self.myself.send_after(CODE_VALID, move || SessionMsg::QrRenewalDue { generation });
    }

    pub(super) fn qr_renewal_due(&mut self, generation: Generation) {
        let waits = self.engine.is_current(generation) && self.record.status == SessionStatus::QrReady;
        if waits && self.pairing.qr.is_none() {
            let _ = self.supervisor.send_message(SupervisorMsg::KillEngine { id: self.entry.id });
        }
    }

    pub(super) fn read_qr(&self, reply: Reply<Qr>) {
        if self.passkey.is_some() {
            return drop(
                reply.send(Err(CommandError::NoQr("a phone has scanned it: see linking in the session".into()))),
            );
        }
        let qr = self.pairing.qr(self.record.status, self.engine.is_loaded());
        let _ = reply.send(qr.and_then(|qr| self.check_room_for_link().map(|()| qr)));
    }

    /// Refuses to link a phone while the credentials cannot be saved.
    pub(super) fn check_room_for_link(&self) -> Result<(), CommandError> {
        match self.context.store.health() {
            Health::LowSpace { free_bytes, needed_bytes, .. } => {
                Err(StoreError::LowSpace { free_bytes, needed_bytes }.into())
            }
            Health::Ok | Health::Failed(_) => Ok(()),
        }
    }

    pub(super) fn request_pairing_code(&mut self, phone: ParticipantId, permit: Permit, reply: Reply<PairingCode>) {
        let engine = match self.engine_for_code(phone) {
            Ok(engine) => engine,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let Some(number) = self.pairing.ask(phone, Instant::now(), permit, reply, self.record.status) else { return };
        self.publish();
        let (myself, generation) = (self.myself.clone(), self.engine.generation());
        let timeout = self.context.options.whatsapp_timeout;
        tokio::spawn(async move {
            let code = match tokio::time::timeout(timeout, engine.pairing_code(phone)).await {
                Ok(code) => code.map_err(|error| read_error("The pairing code", error)),
                Err(_) => Err(CommandError::Unanswered),
            };
            let _ = myself.send_message(SessionMsg::PairingCodeMade { generation, number, code });
        });
    }

    /// The engine that can ask WhatsApp for a code, or why there is none.
    fn engine_for_code(&self, phone: ParticipantId) -> Result<Arc<Engine>, CommandError> {
        if !matches!(phone, ParticipantId::Phone(_)) {
            return Err(CommandError::NoPairingCode("a phone number is needed".into()));
        }
        if self.passkey.is_some() {
            return Err(CommandError::NoPairingCode("a phone is being linked: see linking in the session".into()));
        }
        match (self.engine.any(), self.record.status) {
            (Some(engine), SessionStatus::QrReady) => self.check_room_for_link().map(|()| engine),
            _ if !self.engine.is_loaded() => Err(CommandError::NotStarted),
            (_, status) if is_linked(status) => Err(CommandError::NoPairingCode("a phone is linked".into())),
            _ => Err(CommandError::NotConnected),
        }
    }

    pub(super) fn pairing_code_made(
        &mut self,
        generation: Generation,
        number: u64,
        code: &Result<String, CommandError>,
    ) {
        let is_current = self.engine.is_current(generation);
        self.pairing.made(number, code, is_current, Instant::now(), self.record.status);
        self.publish();
        self.myself.send_after(CODE_VALID, || SessionMsg::PairingCodeDue);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    type Code = oneshot::Receiver<Result<PairingCode, CommandError>>;

    const ALICE: ParticipantId = ParticipantId::Phone(15_550_100_001);
    const BOB: ParticipantId = ParticipantId::Phone(15_550_100_002);

    /// Asks for a code; returns the number of the code that WhatsApp is to be asked for, and the caller's answer.
    fn ask(pairing: &mut Pairing, phone: ParticipantId, now: Instant) -> (Option<u64>, Code) {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (reply, code) = oneshot::channel();
        (pairing.ask(phone, now, permit, reply, SessionStatus::QrReady), code)
    }

    fn made(pairing: &mut Pairing, number: u64, code: &str, now: Instant) {
        pairing.made(number, &Ok(code.to_owned()), true, now, SessionStatus::QrReady);
    }

    fn code_of(mut code: Code) -> Result<String, CommandError> {
        code.try_recv().expect("it is answered").map(|code| code.code)
    }

    #[test]
    fn all_who_ask_for_one_number_get_one_code_as_long_as_it_is_valid() {
        let (mut pairing, now) = (Pairing::default(), Instant::now());
        let (first, one) = ask(&mut pairing, ALICE, now);
        let (second, other) = ask(&mut pairing, ALICE, now);
        assert_eq!((first, second), (Some(1), None));
        made(&mut pairing, 1, "ABCD", now);
        assert_eq!((code_of(one), code_of(other)), (Ok("ABCD".into()), Ok("ABCD".into())));
        let (number, again) = ask(&mut pairing, ALICE, now + CODE_VALID - Duration::from_secs(1));
        assert_eq!((number, code_of(again)), (None, Ok("ABCD".into())));
        assert_eq!(ask(&mut pairing, ALICE, now + CODE_VALID).0, Some(2));
    }

    #[test]
    fn another_number_ends_the_code_before_and_a_late_code_is_nobodys() {
        let (mut pairing, now) = (Pairing::default(), Instant::now());
        let (_, alice) = ask(&mut pairing, ALICE, now);
        let (number, bob) = ask(&mut pairing, BOB, now);
        assert_eq!(number, Some(2));
        assert!(matches!(code_of(alice), Err(CommandError::NoPairingCode(_))));
        made(&mut pairing, 1, "LATE", now);
        made(&mut pairing, 2, "GOOD", now);
        assert_eq!(code_of(bob), Ok("GOOD".into()));
        pairing.forget();
        assert_eq!(ask(&mut pairing, BOB, now).0, Some(3), "it is forgotten");
    }

    #[test]
    fn linking_is_open_once_from_a_start_to_its_end() {
        let mut pairing = Pairing::default();
        let start = pairing.open().unwrap();
        assert_eq!(pairing.open(), None, "a new connection does not prolong it");
        assert!(pairing.is_over(start));
        pairing.close();
        assert!(!pairing.is_over(start), "the time of an earlier one");
        assert!(pairing.open().is_some_and(|next| next > start));
        let refused = |status, is_loaded| pairing.qr(status, is_loaded).map(|_| ()).unwrap_err();
        assert_eq!(refused(SessionStatus::Disconnected, false), CommandError::NotStarted);
        assert!(matches!(refused(SessionStatus::Ready, true), CommandError::NoQr(why) if why.contains("linked")));
        assert!(
            matches!(refused(SessionStatus::Initializing, true), CommandError::NoQr(why) if why.contains("moment"))
        );
    }
}
