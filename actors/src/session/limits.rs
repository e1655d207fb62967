//! What WhatsApp allows the session's account: asking for it, showing a restriction, and the account's presence.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::SessionState;
use super::message::{Generation, SessionMsg};
use crate::error::CommandError;
use crate::known_limits::{ASKING_INTERVAL, ORDER_TIME};
use crate::reply::Reply;
use rookery_engine::{AccountAnswer, Engine, EngineError};
use rookery_model::{
    EventKind, OperatorNotice, OperatorNoticeKind, ReachoutTimelock, Restriction, RestrictionKind, Timestamp,
};

/// A lock whose end WhatsApp did not say is asked about again after this time.
const OPEN_LOCK_TIME: Duration = Duration::from_secs(600);

/// A lock that lasts longer is looked at in between: no timer is set for longer.
const TIMER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Whether the account's presence is being sent.
#[derive(Default)]
pub(super) struct PresenceSending {
    is_sending: bool,
    /// It changed since.
    is_due: bool,
}

impl SessionState {
    /// Begins with the lock that was known before the daemon's start.
    pub(super) fn restore_limits(&mut self) {
        let stored = self.record.restriction.as_ref().filter(|it| it.kind == RestrictionKind::ReachoutTimelock);
        if let (Some(stored), None) = (stored, self.entry.limits.timelock()) {
            let (expires_at, reason) = (stored.expires_at, Some(stored.code.clone()));
            self.entry.limits.learn_timelock(ReachoutTimelock { is_active: true, expires_at, reason });
        }
        self.show_timelock();
    }

    /// Asks WhatsApp what the account may do, unless that was done a short time ago.
    pub(super) fn ask_limits(&mut self) {
        if std::mem::take(&mut self.is_order_unclear) {
            self.entry.limits.forget_asking();
        }
        let Some(engine) = self.engine.staying().filter(|_| self.entry.limits.begin_asking()) else { return };
        let (myself, generation) = (self.myself.clone(), self.engine.generation());
        let limit = self.context.options.whatsapp_timeout;
        self.are_limits_asked = true;
        tokio::spawn(async move {
            let answer = engine.account_limits(limit).await;
            let _ = myself.send_message(SessionMsg::LimitsAnswered { generation, answer });
        });
    }

    pub(super) fn limits_answered(&mut self, generation: Generation, answer: Result<AccountAnswer, EngineError>) {
        if !self.engine.is_current(generation) {
            return;
        }
        match answer {
            // The account may be on its way out.
            Ok(answer) if self.engine.staying().is_some() => self.entry.limits.learn(answer),
            Ok(_) => {}
            Err(error) => {
                warn!(session.id = %self.entry.id, %error, "could not ask what the account may do");
                self.myself.send_after(ASKING_INTERVAL, || SessionMsg::LimitsDue);
            }
        }
        self.are_limits_asked = false;
        self.show_timelock();
        self.answer_timelock();
    }

    /// Tells a command whether the account is locked; it was refused, which may be the reason. `is_certain`: WhatsApp
    /// said that this is the reason.
    pub(super) fn read_timelock(&mut self, is_certain: bool, reply: Reply<Option<ReachoutTimelock>>) {
        if self.engine.staying().is_none() {
            return drop(reply.send(Ok(None)));
        }
        if is_certain && !self.entry.limits.timelock().is_some_and(|timelock| timelock.is_active) {
            // The end follows with the answer, or with a notification.
            self.entry.limits.learn_timelock(ReachoutTimelock { is_active: true, ..ReachoutTimelock::default() });
            self.show_timelock();
        }
        self.timelock_readers.push(reply);
        self.ask_limits();
        if !self.are_limits_asked {
            self.answer_timelock();
        }
    }

    fn answer_timelock(&mut self) {
        let timelock = self.entry.limits.timelock();
        for reply in self.timelock_readers.drain(..) {
            let _ = reply.send(Ok(timelock.clone()));
        }
    }

    /// The engine is gone: what it was asked is not answered any more.
    pub(super) fn end_asking_limits(&mut self) {
        self.are_limits_asked = false;
        self.answer_timelock();
    }

    /// Takes a change of the lock. Changes come in no order: after two within a short time, WhatsApp is asked which holds.
    pub(super) fn timelock_told(&mut self, timelock: ReachoutTimelock) {
        if self.entry.limits.learn_told_timelock(timelock) && !std::mem::replace(&mut self.is_order_unclear, true) {
            self.myself.send_after(ORDER_TIME, || SessionMsg::LimitsDue);
        }
        self.show_timelock();
    }

    /// A lock may be over by now. `timer`: of an earlier lock, unless it is the latest.
    pub(super) fn timelock_due(&mut self, timer: u64) {
        if timer != self.timelock_timers {
            return;
        }
        if self.entry.limits.timelock().is_some_and(|timelock| timelock.is_active && timelock.expires_at.is_none()) {
            self.ask_limits();
        }
        self.show_timelock();
    }

    /// Brings the session's restriction in line with the lock. One that keeps the account from connecting stays.
    pub(super) fn show_timelock(&mut self) {
        if self.record.restriction.as_ref().is_some_and(|it| it.kind == RestrictionKind::TosBlock) {
            return;
        }
        let timelock = self.entry.limits.timelock().unwrap_or_default();
        if timelock.is_active {
            let left = timelock.expires_at.map(|end| end.0.saturating_sub(Timestamp::now().0));
            let left = left.map(|left| Duration::from_millis(u64::try_from(left).unwrap_or_default()));
            self.timelock_timers += 1;
            let timer = self.timelock_timers;
            let wait = left.unwrap_or(OPEN_LOCK_TIME).min(TIMER_MAX);
            self.myself.send_after(wait, move || SessionMsg::TimelockDue { timer });
        }
        if self.set_restriction(timelock.restriction()) {
            self.record.updated_at = Timestamp::now();
            self.save_record();
            self.publish();
        }
    }

    /// Notes what WhatsApp forbids the account, and tells it; true when that is another thing than before.
    pub(super) fn set_restriction(&mut self, restriction: Option<Restriction>) -> bool {
        if self.record.restriction == restriction {
            return false;
        }
        let before = std::mem::replace(&mut self.record.restriction, restriction);
        let (is_active, now) = (self.record.restriction.is_some(), self.record.restriction.as_ref());
        let Some(shown) = now.or(before.as_ref()) else { return true };
        info!(session.id = %self.entry.id, restriction.kind = ?shown.kind, restriction.active = is_active, "restriction changed");
        let data = serde_json::json!({
            "sessionId": self.entry.id,
            "active": is_active,
            "kind": shown.kind,
            "code": shown.code,
            "expiresAt": shown.expires_at.filter(|_| is_active),
        });
        if let serde_json::Value::Object(data) = data {
            self.journal.tell(EventKind::Restriction, data);
        }
        let kind = if is_active { OperatorNoticeKind::Restricted } else { OperatorNoticeKind::RestrictionLifted };
        // There may be no listener.
        let _ = self.context.notices.send(OperatorNotice { session: self.entry.id, kind });
        true
    }

    /// Shows the account as online or not, from now on and after every reconnect.
    pub(super) fn set_presence(&mut self, is_available: bool, reply: Reply<()>) {
        let engine = match self.engine.ready(self.record.status) {
            Ok(engine) => engine,
            Err(error) => return drop(reply.send(Err(error))),
        };
        if self.record.push_name.is_none() {
            return drop(reply.send(Err(CommandError::NoPushName)));
        }
        if self.record.is_available != is_available {
            self.record.is_available = is_available;
            self.save_record();
        }
        self.send_presence(engine);
        self.answer_when_saved(vec![(reply, ())]);
    }

    /// Sends the presence again that the engine does not remember: it shows the account as online at every log-in, and
    /// when its name changes.
    pub(super) fn resend_presence(&mut self) {
        if let Some(engine) = self.engine.staying().filter(|_| !self.record.is_available) {
            self.send_presence(engine);
        }
    }

    /// One at a time: of two, the later one counts.
    fn send_presence(&mut self, engine: Arc<Engine>) {
        if std::mem::replace(&mut self.presence.is_sending, true) {
            self.presence.is_due = true;
            return;
        }
        let (myself, generation) = (self.myself.clone(), self.engine.generation());
        let (is_available, limit) = (self.record.is_available, self.context.options.whatsapp_timeout);
        tokio::spawn(async move {
            let sent = matches!(tokio::time::timeout(limit, engine.set_presence(is_available)).await, Ok(Ok(())));
            let _ = myself.send_message(SessionMsg::PresenceSent { generation, sent });
        });
    }

    pub(super) fn presence_sent(&mut self, generation: Generation, sent: bool) {
        if !self.engine.is_current(generation) {
            return;
        }
        if !sent {
            warn!(session.id = %self.entry.id, "could not send the account's presence, the next log-in does");
        }
        let is_due = std::mem::take(&mut self.presence).is_due;
        if let Some(engine) = self.engine.staying().filter(|_| is_due) {
            self.send_presence(engine);
        }
    }
}
