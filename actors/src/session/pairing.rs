//! Linking a phone: the QR, the pairing code, and the time for it.

use std::time::{Duration, Instant};

use super::SessionState;
use super::lifecycle::Fact;
use super::message::{Generation, SessionMsg};
use super::record::Link;
use crate::commands::read_error;
use crate::error::CommandError;
use crate::reply::{Permit, Reply};
use crate::supervisor::message::SupervisorMsg;
use rookery_model::{PairingCode, ParticipantId, Qr, SessionStatus};
use rookery_store::{Health, StoreError};

/// WhatsApp accepts a pairing code for about this long (the engine's own figure is 180 s).
const CODE_VALID: Duration = Duration::from_secs(160);

/// What a phone can use now. Secrets: never logged, never stored.
#[derive(Default)]
pub(super) struct Pairing {
    qr: Option<String>,
    code: Option<OpenCode>,
    /// A code is being asked for: this number, and who waits.
    asking: Option<Asking>,
    /// Counts the times linking was opened: an older one's end says nothing about this one.
    start: u64,
    opened: bool,
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
    /// Tells it from an earlier one for the same number.
    number: u64,
    phone: ParticipantId,
    waiting: Vec<(Permit, Reply<PairingCode>)>,
}

impl Pairing {
    /// Drops what a phone could use; who waits for a code is told so by the dropped reply.
    pub(super) fn forget(&mut self) {
        self.qr = None;
        self.code = None;
        if let Some(asking) = self.asking.take() {
            for (_, reply) in asking.waiting {
                let _ = reply.send(Err(CommandError::NoPairingCode("linking ended".into())));
            }
        }
    }

    /// Linking is over: the next start opens it anew.
    pub(super) fn close(&mut self) {
        self.opened = false;
        self.start += 1;
    }

    pub(super) fn forget_code(&mut self) {
        self.code = None;
    }
}

impl SessionState {
    /// Linking is open from a start on, for its time; new connections within it do not prolong it.
    pub(super) fn open_linking(&mut self) {
        if std::mem::replace(&mut self.pairing.opened, true) {
            return;
        }
        self.pairing.start += 1;
        let start = self.pairing.start;
        self.myself.send_after(self.context.options.linking_window, move || SessionMsg::LinkingDue { start });
    }

    pub(super) fn linking_due(&mut self, start: u64) {
        if self.pairing.start == start && self.engine.is_loaded() && self.record.link == Link::None {
            self.apply(Fact::LinkingExpired);
        }
    }

    pub(super) fn qr_shown(&mut self, text: String) {
        self.apply(Fact::QrShown);
        if self.record.status == SessionStatus::QrReady {
            self.pairing.qr = Some(text);
        }
    }

    /// WhatsApp gives new QRs to a new connection, but that would end the open pairing code: it has its time first.
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
        let status = self.record.status;
        let answer = match &self.pairing.qr {
            Some(text) => self.check_room_for_link().map(|()| Qr { text: text.clone(), status }),
            None if !self.engine.is_loaded() => Err(CommandError::NotStarted),
            None if matches!(status, SessionStatus::Ready | SessionStatus::Authenticating) => {
                Err(CommandError::NoQr("a phone is linked".into()))
            }
            None => Err(CommandError::NoQr("it is not there yet, ask again in a moment".into())),
        };
        let _ = reply.send(answer);
    }

    /// Nobody links a phone while what comes of it cannot be saved.
    pub(super) fn check_room_for_link(&self) -> Result<(), CommandError> {
        match self.context.store.health() {
            Health::LowSpace { free_bytes, needed_bytes, .. } => {
                Err(StoreError::LowSpace { free_bytes, needed_bytes }.into())
            }
            Health::Ok | Health::Failed(_) => Ok(()),
        }
    }

    pub(super) fn request_pairing_code(&mut self, phone: ParticipantId, permit: Permit, reply: Reply<PairingCode>) {
        let refuse = |reply: Reply<PairingCode>, error| drop(reply.send(Err(error)));
        let ParticipantId::Phone(_) = phone else {
            return refuse(reply, CommandError::NoPairingCode("a phone number is needed".into()));
        };
        let engine = match (self.engine.any(), self.record.status) {
            (Some(engine), SessionStatus::QrReady) => match self.check_room_for_link() {
                Ok(()) => engine,
                Err(error) => return refuse(reply, error),
            },
            _ if !self.engine.is_loaded() => return refuse(reply, CommandError::NotStarted),
            (_, SessionStatus::Ready | SessionStatus::Authenticating) => {
                return refuse(reply, CommandError::NoPairingCode("a phone is linked".into()));
            }
            _ => return refuse(reply, CommandError::NotConnected),
        };
        let open = self.pairing.code.as_ref().filter(|open| open.phone == phone && open.made_at.elapsed() < CODE_VALID);
        if let Some(open) = open {
            let _ = reply.send(Ok(PairingCode { code: open.code.clone(), status: self.record.status }));
            return;
        }
        if let Some(asking) = self.pairing.asking.as_mut().filter(|asking| asking.phone == phone) {
            asking.waiting.push((permit, reply));
            return;
        }
        self.pairing.asked += 1;
        let number = self.pairing.asked;
        if let Some(replaced) = self.pairing.asking.replace(Asking { number, phone, waiting: vec![(permit, reply)] }) {
            for (_, reply) in replaced.waiting {
                refuse(reply, CommandError::NoPairingCode("a code for another number was asked for".into()));
            }
        }
        self.pairing.code = None;
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

    pub(super) fn pairing_code_made(
        &mut self,
        generation: Generation,
        number: u64,
        code: Result<String, CommandError>,
    ) {
        let Some(asking) = self.pairing.asking.take_if(|asking| asking.number == number) else { return };
        if !self.engine.is_current(generation) {
            return;
        }
        if let Ok(code) = &code {
            self.pairing.code = Some(OpenCode { phone: asking.phone, code: code.clone(), made_at: Instant::now() });
        }
        let status = self.record.status;
        for (_, reply) in asking.waiting {
            let _ = reply.send(code.clone().map(|code| PairingCode { code, status }));
        }
    }
}
