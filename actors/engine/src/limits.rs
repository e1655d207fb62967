//! What WhatsApp allows an account: the time lock on reaching out, the limit of new chats, and the account's presence.
//!
//! Questions and notifications are those of WhatsApp's web client; the shapes of the answers are from the public parsers
//! of it. Quotas and times come as numbers or as digits in a text.

use std::time::Duration;

use serde_json::{Value, json};
use wacore::iq::mex::MexDoc;
use wacore::iq::mex_operations::{fetch_new_chat_message_capping_info, fetch_reachout_timelock};
use wacore::types::events::MexNotification;
use whatsapp_rust::PresenceError;

use super::{Engine, EngineError, EngineEvent};
use rookery_model::{NewChats, ReachoutTimelock, Timestamp};

/// The name under which WhatsApp tells a change of the time lock.
const TIMELOCK_NOTIFICATION: &str = "NotificationUserReachoutTimelockUpdate";
/// The same for the limit of new chats.
const NEW_CHATS_NOTIFICATION: &str = "MessageCappingInfoNotification";

/// The last second of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;
/// Characters of WhatsApp's word for a reason: callers and logs see it. The longest one known has 42.
const REASON_CHARS_MAX: usize = 64;

/// What WhatsApp says of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountAnswer {
    /// `None`: the answer does not say.
    pub timelock: Option<ReachoutTimelock>,
    /// `None`: the answer does not say. `Some(None)`: there is no limit.
    pub new_chats: Option<Option<NewChats>>,
}

impl Engine {
    /// Asks what the account may do: two questions, each of which may stay without an answer for `time_max`.
    ///
    /// # Errors
    /// Both were refused or not answered.
    pub async fn account_limits(&self, time_max: Duration) -> Result<AccountAnswer, EngineError> {
        let lock = MexDoc { name: fetch_reachout_timelock::NAME, id: fetch_reachout_timelock::DOC_ID };
        let chats =
            MexDoc { name: fetch_new_chat_message_capping_info::NAME, id: fetch_new_chat_message_capping_info::DOC_ID };
        let (no_variables, of_chats) = (json!({}), json!({ "input": { "type": "INDIVIDUAL_NEW_CHAT_MSG" } }));
        let (lock, chats) = tokio::join!(
            answer_within(time_max, self.ask_mex(lock, &no_variables)),
            answer_within(time_max, self.ask_mex(chats, &of_chats)),
        );
        if let (Err(error), Err(_)) = (&lock, &chats) {
            return Err(error.clone());
        }
        Ok(AccountAnswer {
            timelock: lock.ok().and_then(|data| data.get("xwa2_fetch_account_reachout_timelock").and_then(timelock)),
            new_chats: chats.ok().map(|data| data.get("xwa2_message_capping_info").and_then(new_chats)),
        })
    }

    /// Shows the account as online or not. WhatsApp sends no answer.
    pub async fn set_presence(&self, is_available: bool) -> Result<(), EngineError> {
        let presence = self.client.presence();
        let sent = if is_available { presence.set_available().await } else { presence.set_unavailable().await };
        sent.map_err(|error| match error {
            PresenceError::PushNameEmpty => EngineError::Invalid("the account's own name is not known yet".into()),
            _ => EngineError::ConnectionLost,
        })
    }
}

async fn answer_within<T>(
    time_max: Duration,
    question: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let answer = tokio::time::timeout(time_max, question).await;
    answer.unwrap_or_else(|_| Err(EngineError::Unanswered("no answer in time".into())))
}

/// The event of a notification about the account; `None` for others.
pub(super) fn told(notification: &MexNotification) -> Option<EngineEvent> {
    // Some servers leave out the outer object.
    let data = notification.payload.get("data").unwrap_or(&notification.payload);
    match notification.op_name.as_str() {
        TIMELOCK_NOTIFICATION => {
            timelock(data.get("xwa2_notify_account_reachout_timelock")?).map(EngineEvent::TimelockTold)
        }
        NEW_CHATS_NOTIFICATION => {
            let told = data.get("xwa2_notify_new_chat_messages_capping_info_update")?;
            Some(EngineEvent::NewChatsTold(new_chats(told)))
        }
        _ => None,
    }
}

fn timelock(told: &Value) -> Option<ReachoutTimelock> {
    let is_active = told.get("is_active")?.as_bool()?;
    if !is_active {
        return Some(ReachoutTimelock::default());
    }
    let is_word = |reason: &&str| {
        (1..=REASON_CHARS_MAX).contains(&reason.len())
            && reason.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let reason = told.get("enforcement_type").and_then(Value::as_str).filter(is_word);
    let expires_at = told.get("time_enforcement_ends").and_then(seconds);
    Some(ReachoutTimelock { is_active, expires_at, reason: reason.map(Into::into) })
}

/// `None`: there is no limit.
fn new_chats(told: &Value) -> Option<NewChats> {
    let count = |name| told.get(name).and_then(number).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let limit = count("total_quota").filter(|limit| *limit > 0)?;
    let used = count("used_quota").unwrap_or_default().min(limit);
    Some(NewChats { used, limit, resets_at: told.get("cycle_end_timestamp").and_then(seconds) })
}

/// A time in seconds; 0 stands for none, and so does one beyond the year 9999.
fn seconds(value: &Value) -> Option<Timestamp> {
    let seconds = number(value).filter(|seconds| (1..=SECONDS_MAX).contains(seconds))?;
    Some(Timestamp(i64::try_from(seconds).ok()?.checked_mul(1_000)?))
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_with_and_without_its_end_and_reason() {
        let end = Some(Timestamp(1_788_414_761_000));
        let lock = |is_active, expires_at, reason: Option<&str>| {
            Some(ReachoutTimelock { is_active, expires_at, reason: reason.map(Into::into) })
        };
        let table = [
            (
                json!({"is_active": true, "time_enforcement_ends": "1788414761", "enforcement_type": "DEFAULT"}),
                lock(true, end, Some("DEFAULT")),
            ),
            (json!({"is_active": true, "time_enforcement_ends": 1_788_414_761}), lock(true, end, None)),
            (json!({"is_active": true, "time_enforcement_ends": "0", "enforcement_type": ""}), lock(true, None, None)),
            (
                json!({"is_active": true, "time_enforcement_ends": 1_u64 << 40, "enforcement_type": "a\u{202e}"}),
                lock(true, None, None),
            ),
            (json!({"is_active": false, "enforcement_type": "DEFAULT"}), lock(false, None, None)),
            (json!({"is_active": "yes"}), None),
            (json!(null), None),
        ];
        for (told, expected) in table {
            assert_eq!(timelock(&told), expected, "{told}");
        }
    }

    #[test]
    fn quotas_are_numbers_or_digits_and_none_is_no_limit() {
        let chats = |used, limit, resets_at| Some(NewChats { used, limit, resets_at });
        let table = [
            (
                json!({"total_quota": 50, "used_quota": 12, "cycle_end_timestamp": "1788414761"}),
                chats(12, 50, Some(Timestamp(1_788_414_761_000))),
            ),
            (json!({"total_quota": "50", "used_quota": "77"}), chats(50, 50, None)),
            (json!({"total_quota": 0, "used_quota": 0}), None),
            (json!({"capping_status": "NONE"}), None),
            (json!(null), None),
        ];
        for (told, expected) in table {
            assert_eq!(new_chats(&told), expected, "{told}");
        }
    }
}
