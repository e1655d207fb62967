//! The passkey that WhatsApp asks for while some accounts are linked: what is asked for, the answer, the code to compare,
//! and the time for each. An attempt that fails closes the engine, and linking begins anew.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::SessionState;
use super::lifecycle::{Fact, PasskeyWait};
use super::message::{Generation, SessionMsg};
use super::record::Link;
use crate::commands::read_error;
use crate::error::CommandError;
use crate::reply::Reply;
use rookery_engine::EngineError;
use rookery_model::{EventKind, Linking, LinkingStep, PasskeyAnswer, Session, Timestamp};

/// The time for the phone's part after an answer, and for comparing the code: WhatsApp's web client gives up after as
/// long.
const STEP_TIME_MAX: Duration = Duration::from_secs(120);
/// The time for the phone to accept the device at last.
const ACCEPT_TIME_MAX: Duration = Duration::from_secs(60);

/// The attempt that is under way.
pub(super) struct PasskeyAttempt {
    /// WhatsApp's `PublicKeyCredentialRequestOptions`.
    options: Value,
    step: Step,
    expires_at: Timestamp,
    /// Counts the steps: the end of an earlier step's time means nothing.
    number: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Somebody has to sign.
    Asked,
    /// The answer was sent: WhatsApp and the phone come next.
    Answered,
    /// Somebody has to compare the code.
    Comparing(String),
    /// The code was confirmed: the phone comes next.
    Confirmed(String),
}

impl PasskeyAttempt {
    fn linking(&self) -> Linking {
        let (step, code) = match &self.step {
            Step::Asked | Step::Answered => (LinkingStep::Passkey, None),
            Step::Comparing(code) | Step::Confirmed(code) => (LinkingStep::PasskeyConfirmation, Some(code.clone())),
        };
        Linking { step, expires_at: Some(self.expires_at), code }
    }
}

/// Time that WhatsApp gives for the answer, in its own words.
fn time_in(options: &Value) -> Option<Duration> {
    options["timeout"].as_u64().filter(|timeout| *timeout > 0).map(Duration::from_millis)
}

impl SessionState {
    /// How far the linking of a phone is.
    pub(super) fn linking(&self) -> Option<Linking> {
        match &self.passkey {
            Some(attempt) => Some(attempt.linking()),
            None => self.pairing.linking(self.record.status),
        }
    }

    /// WhatsApp asks for a passkey: a phone has scanned the QR, or has the code.
    pub(super) fn passkey_requested(&mut self, options: &str) {
        // A session that is linked has nothing to link.
        let Some(engine) = self.engine.staying().filter(|_| self.record.link == Link::None) else { return };
        let Some(options) = serde_json::from_str(options).ok().filter(Value::is_object) else {
            return self.apply(Fact::PasskeyFailed("WhatsApp asked for a passkey in a way that cannot be read".into()));
        };
        tokio::spawn(async move { engine.wait_for_passkey().await });
        let window = self.context.options.passkey_window;
        let time = time_in(&options).map_or(window, |time| time.min(window));
        self.begin_step(options, Step::Asked, time);
        self.apply(Fact::PasskeyWaits(PasskeyWait::Signature));
        self.tell_passkey();
    }

    fn begin_step(&mut self, options: Value, step: Step, time: Duration) {
        let number = self.passkeys_begun + 1;
        self.passkeys_begun = number;
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let expires_at = Timestamp(Timestamp::now().0.saturating_add(ms));
        self.passkey = Some(PasskeyAttempt { options, step, expires_at, number });
        self.myself.send_after(time, move || SessionMsg::PasskeyDue { number });
    }

    /// The time of a step is over.
    pub(super) fn passkey_due(&mut self, number: u64) {
        let Some(attempt) = self.passkey.as_ref().filter(|attempt| attempt.number == number) else { return };
        let reason = match attempt.step {
            Step::Asked => "nobody answered with the passkey in time",
            Step::Answered => "the phone did not go on after the passkey's answer",
            Step::Comparing(_) => "nobody confirmed the code in time",
            Step::Confirmed(_) => "the phone did not accept the device",
        };
        self.apply(Fact::PasskeyFailed(reason.into()));
    }

    /// What WhatsApp asks the passkey for.
    pub(super) fn read_passkey(&self, reply: Reply<Value>) {
        let asked = self.passkey.as_ref().filter(|attempt| attempt.step == Step::Asked);
        let _ = reply.send(asked.map(|attempt| attempt.options.clone()).ok_or(CommandError::NoPasskey));
    }

    pub(super) fn answer_passkey(&mut self, challenge: &str, answer: PasskeyAnswer, reply: Reply<Arc<Session>>) {
        let (Some(attempt), Some(engine)) = (&self.passkey, self.engine.staying()) else {
            return drop(reply.send(Err(CommandError::NoPasskey)));
        };
        if attempt.step != Step::Asked {
            return drop(reply.send(Err(CommandError::PasskeyTaken)));
        }
        let expected = attempt.options["challenge"].as_str().unwrap_or_default();
        if expected.trim_end_matches('=') != challenge.trim_end_matches('=') {
            return drop(reply.send(Err(CommandError::PasskeyOutdated)));
        }
        let options = attempt.options.clone();
        self.begin_step(options, Step::Answered, STEP_TIME_MAX.min(self.context.options.passkey_window));
        self.apply(Fact::PasskeyWaits(PasskeyWait::Phone));
        let (myself, generation, number) = (self.myself.clone(), self.engine.generation(), self.passkeys_begun);
        let limit = self.context.options.whatsapp_timeout;
        tokio::spawn(async move {
            let sent = tokio::time::timeout(limit, engine.answer_passkey(answer)).await;
            let sent = sent.unwrap_or_else(|_| Err(EngineError::Unanswered("no answer in time".into())));
            let _ = myself.send_message(SessionMsg::PasskeySent { generation, number, sent, reply });
        });
    }

    pub(super) fn confirm_passkey(&mut self, reply: Reply<Arc<Session>>) {
        let code = match self.passkey.as_ref().map(|attempt| &attempt.step) {
            Some(Step::Comparing(code)) => code.clone(),
            Some(Step::Confirmed(_)) => return drop(reply.send(Err(CommandError::PasskeyTaken))),
            Some(Step::Asked | Step::Answered) => return drop(reply.send(Err(CommandError::NoPasskeyCode))),
            None => return drop(reply.send(Err(CommandError::NoPasskey))),
        };
        self.confirm(code, Some(reply));
    }

    fn confirm(&mut self, code: String, reply: Option<Reply<Arc<Session>>>) {
        let reply = reply.unwrap_or_else(|| tokio::sync::oneshot::channel().0);
        let Some(engine) = self.engine.staying() else { return drop(reply.send(Err(CommandError::NoPasskey))) };
        self.begin_step(Value::Null, Step::Confirmed(code), ACCEPT_TIME_MAX.min(self.context.options.passkey_window));
        self.apply(Fact::PasskeyWaits(PasskeyWait::Acceptance));
        let (myself, generation, number) = (self.myself.clone(), self.engine.generation(), self.passkeys_begun);
        let limit = self.context.options.whatsapp_timeout;
        tokio::spawn(async move {
            let sent = tokio::time::timeout(limit, engine.confirm_passkey()).await;
            let sent = sent.unwrap_or_else(|_| Err(EngineError::Unanswered("no answer in time".into())));
            let _ = myself.send_message(SessionMsg::PasskeySent { generation, number, sent, reply });
        });
    }

    /// The answer or the confirmation was taken by WhatsApp, or not. `number`: the step that it was sent in.
    pub(super) fn passkey_sent(
        &mut self,
        generation: Generation,
        number: u64,
        sent: Result<(), EngineError>,
        reply: Reply<Arc<Session>>,
    ) {
        let step = self.passkey.as_ref().filter(|_| self.engine.is_current(generation)).map(|attempt| attempt.number);
        // WhatsApp took it, where the next step has begun.
        let is_taken = sent.is_ok() || step.is_some_and(|step| step != number);
        let answer = match sent {
            Err(error) if !is_taken => {
                if step.is_some() {
                    self.apply(Fact::PasskeyFailed(match &error {
                        EngineError::Refused { code, .. } => format!("WhatsApp refused the passkey (code {code})"),
                        _ => "WhatsApp did not answer to the passkey".into(),
                    }));
                }
                Err(read_error("The passkey", error))
            }
            _ => Ok(self.entry.session.load_full()),
        };
        let _ = reply.send(answer);
    }

    /// WhatsApp and the phone go on. `is_known`: the phone knows this device, and nobody has to compare the code.
    pub(super) fn passkey_code_shown(&mut self, code: String, is_known: bool) {
        if self.passkey.is_none() {
            return;
        }
        if is_known {
            return self.confirm(code, None);
        }
        let time = STEP_TIME_MAX.min(self.context.options.passkey_window);
        self.begin_step(Value::Null, Step::Comparing(code), time);
        self.apply(Fact::PasskeyWaits(PasskeyWait::Comparison));
        self.tell_passkey();
    }

    /// Tells a step that a person has to take.
    fn tell_passkey(&mut self) {
        let Some(linking) = self.linking() else { return };
        let id = self.entry.id;
        let data = serde_json::json!({ "sessionId": id, "step": linking.step, "expiresAt": linking.expires_at });
        if let Value::Object(data) = data {
            self.journal.tell(EventKind::Passkey, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_shows_its_code_and_whatsapps_time_counts_where_it_is_one() {
        let attempt = |step| PasskeyAttempt { options: json!({}), step, expires_at: Timestamp(7), number: 1 };
        let shown = |step| {
            let Linking { step, code, .. } = attempt(step).linking();
            (step, code)
        };
        assert_eq!(shown(Step::Answered), (LinkingStep::Passkey, None));
        assert_eq!(shown(Step::Confirmed("A".into())), (LinkingStep::PasskeyConfirmation, Some("A".into())));
        assert_eq!(time_in(&json!({ "timeout": 600_000 })), Some(Duration::from_secs(600)));
        for odd in [json!({}), json!({ "timeout": 0 }), json!({ "timeout": "soon" })] {
            assert_eq!(time_in(&odd), None, "{odd}");
        }
    }
}
