//! Faults: what goes wrong, for whom, at which request, how often.

use wacore_binary::Node;

use crate::groups::Outcome;
use crate::requests;
use crate::stanza::{self, failure, stream_conflict, stream_error};
use crate::world::account::{Account, DeviceRef};
use crate::world::{Outbound, State, World};

/// A temporary ban as WhatsApp reports it: its reason ("messages to people who do not know you") and its length.
const BAN_CODE: u16 = 101;
const BAN_EXPIRE_S: u32 = 3600;

/// Something that goes wrong for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Which requests it hits: the tag of their first child (`add`, `create`, `participating`, ...), a namespace, both
    /// as counted (`w:g2:add`), an operation of `w:mex` (`update_group_property`, or the number of its document),
    /// `w:profile:picture:set`, `:remove` or `:get`, or `message`. `None`: any request that changes a group. Without
    /// meaning for kinds that act at once.
    pub iq: Option<String>,
    /// How many requests it hits; for [`FaultKind::Ban`] and [`FaultKind::Fail`], how many logins.
    pub count: u32,
}

impl Fault {
    /// A fault that hits the next request that changes a group.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, iq: None, count: 1 }
    }

    /// The same fault, at other requests.
    pub fn at(mut self, iq: impl Into<String>) -> Self {
        self.iq = Some(iq.into());
        self
    }

    /// The same fault, more often.
    pub fn times(mut self, count: u32) -> Self {
        self.count = count;
        self
    }
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The connection is cut without a close.
    Drop {
        /// The request takes effect nevertheless.
        apply: bool,
        /// At once, instead of when a request arrives.
        now: bool,
    },
    /// A request gets no answer. If it takes effect, the acting device still gets the notification about it.
    Silence {
        /// It takes effect nevertheless.
        apply: bool,
    },
    /// A request is refused and has no effect.
    Refuse {
        /// With this code.
        code: u16,
        /// With the advice to retry after so many seconds.
        backoff_s: Option<u32>,
    },
    /// A request takes effect, notifications included, and is answered with an error all the same.
    BreakDown {
        /// With this code.
        code: u16,
    },
    /// At once: the stream ends with error 503.
    StreamError,
    /// At once: the phone has unlinked its devices; their logins are refused from now on.
    LoggedOut,
    /// At once: another client has taken the device over.
    Replaced,
    /// At once, and at the next logins: the account is banned for some time.
    Ban,
    /// At once, and at the next logins: the log-in fails with this code (403: locked, 406: banned for good).
    Fail {
        /// The code.
        code: u16,
    },
    /// A request takes effect at once, notifications included, and its answer comes late.
    Slow {
        /// How late.
        delay_ms: u64,
    },
}

impl FaultKind {
    /// Whether a request that the fault hits takes effect all the same.
    pub(crate) fn takes_effect(self) -> bool {
        !matches!(self, Self::Refuse { .. } | Self::Silence { apply: false } | Self::Drop { apply: false, .. })
    }

    /// What a login gets instead of success.
    fn login_failure(self) -> Option<Node> {
        match self {
            Self::Ban => {
                let ban = failure(402).attr("code", BAN_CODE.to_string());
                Some(ban.attr("expire", BAN_EXPIRE_S.to_string()).build())
            }
            Self::Fail { code } => Some(failure(code).build()),
            _ => None,
        }
    }

    fn hits_requests(self) -> bool {
        matches!(
            self,
            Self::Drop { now: false, .. }
                | Self::Silence { .. }
                | Self::Refuse { .. }
                | Self::BreakDown { .. }
                | Self::Slow { .. }
        )
    }
}

impl World {
    /// Adds a fault to an account. Faults that wait for a request are used up in the order they were added.
    pub fn add_fault(&self, phone: &str, fault: Fault) {
        if fault.kind == FaultKind::LoggedOut {
            return self.phone(phone).unlink_devices();
        }
        let mut state = self.lock();
        state.ensure_account(phone);
        let Some(account) = state.account_mut(phone) else { return };
        for device in account.devices.values_mut() {
            match fault.kind {
                FaultKind::Drop { now: true, .. } => device.cut(),
                FaultKind::StreamError => device.end(stream_error(503)),
                FaultKind::Replaced => device.end(stream_conflict("replaced")),
                FaultKind::Ban | FaultKind::Fail { .. } => {
                    if let Some(failure) = fault.kind.login_failure() {
                        device.end(failure);
                    }
                }
                _ => {}
            }
        }
        if fault.kind.hits_requests() || fault.kind.login_failure().is_some() {
            account.faults.push(fault);
        }
    }
}

impl World {
    /// Removes the faults of an account that have not happened yet.
    pub fn clear_faults(&self, phone: &str) {
        if let Some(account) = self.lock().account_mut(phone) {
            account.faults.clear();
        }
    }
}

impl Account {
    /// Uses up one hit of the first fault that `matches`.
    fn take_fault(&mut self, matches: impl Fn(&Fault) -> bool) -> Option<FaultKind> {
        let index = self.faults.iter().position(matches)?;
        let fault = &mut self.faults[index];
        let kind = fault.kind;
        fault.count = fault.count.saturating_sub(1);
        if fault.count == 0 {
            self.faults.remove(index);
        }
        Some(kind)
    }

    /// What a login gets instead of success.
    pub(crate) fn login_refusal(&mut self) -> Option<Node> {
        self.take_fault(|fault| fault.kind.login_failure().is_some())?.login_failure()
    }
}

impl State {
    /// The fault that hits this request; `names` are the names of the request.
    pub(crate) fn fault_at(&mut self, phone: &str, request: &Node, names: &[String]) -> Option<FaultKind> {
        let hit = |fault: &Fault| match &fault.iq {
            None => requests::changes_group(request),
            Some(iq) => names.contains(iq),
        };
        self.account_mut(phone)?.take_fault(|fault| fault.kind.hits_requests() && hit(fault))
    }

    /// Handles a request that a fault hits. `apply` does what the request asks for.
    pub(crate) fn run_into(
        &mut self,
        fault: FaultKind,
        me: &DeviceRef,
        request: &Node,
        apply: impl FnOnce(&mut Self) -> Outcome,
    ) {
        match fault {
            FaultKind::Refuse { code, backoff_s } => self.send(me, vec![stanza::refusal(request, code, backoff_s)]),
            FaultKind::BreakDown { code } => {
                let outcome = apply(self);
                self.conclude_silently(me, &outcome);
                self.send(me, vec![stanza::refusal(request, code, None)]);
            }
            FaultKind::Slow { delay_ms } => {
                let outcome = apply(self);
                self.conclude_silently(me, &outcome);
                let Some(outbox) = self.device_mut(me).and_then(|device| device.outbox()) else { return };
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(delay_ms)).await;
                    // The connection may be gone by now: then nobody waits for the answer.
                    let _ = outbox.send(Outbound::Stanzas(vec![outcome.answer]));
                });
            }
            FaultKind::Drop { apply: applied, .. } => {
                if let Some(device) = self.device_mut(me) {
                    device.cut();
                }
                if applied {
                    let outcome = apply(self);
                    self.conclude_silently(me, &outcome);
                }
            }
            FaultKind::Silence { apply: true } => {
                let outcome = apply(self);
                self.conclude_silently(me, &outcome);
            }
            _ => {}
        }
    }
}
