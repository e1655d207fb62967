//! What an account may not do: reach out to new people, begin more chats. What it is shown as.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{children, iq_error, now, server_jid};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// The code and the text of a refusal because of the lock.
const LOCKED: (u16, &str) = (463, "account_reachout_restricted");

/// The lock on reaching out to new people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachoutLock {
    /// When it ends, in seconds since the Unix epoch; `None`: WhatsApp does not say.
    #[serde(default)]
    pub ends: Option<u64>,
    /// WhatsApp's word for the reason.
    #[serde(default = "usual")]
    pub reason: String,
}

fn usual() -> String {
    "DEFAULT".into()
}

/// The limit of chats with new people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewChatLimit {
    /// How many may be begun in a cycle.
    pub total: u32,
    /// How many were.
    pub used: u32,
    /// When the cycle ends, in seconds since the Unix epoch.
    pub ends: u64,
}

impl World {
    /// Locks an account, or lifts the lock, and tells its devices. While it is locked, it makes no groups, adds nobody and
    /// joins no group.
    pub fn lock_reachout(&self, phone: &str, lock: Option<ReachoutLock>) {
        self.change_limits(phone, "NotificationUserReachoutTimelockUpdate", |account| {
            account.reachout_lock = lock;
            json!({ "xwa2_notify_account_reachout_timelock": timelock(account.reachout_lock.as_ref()) })
        });
    }

    /// Limits the new chats of an account, or lifts the limit, and tells its devices.
    pub fn limit_new_chats(&self, phone: &str, limit: Option<NewChatLimit>) {
        self.change_limits(phone, "MessageCappingInfoNotification", |account| {
            account.new_chats = limit;
            json!({ "xwa2_notify_new_chat_messages_capping_info_update": capping(limit) })
        });
    }

    fn change_limits(
        &self,
        phone: &str,
        name: &str,
        change: impl FnOnce(&mut crate::world::account::Account) -> Value,
    ) {
        let mut state = self.lock();
        state.ensure_account(phone);
        let Some(account) = state.account_mut(phone) else { return };
        let told = json!({ "data": change(account) }).to_string();
        for device in state.devices_of(phone) {
            let update = NodeBuilder::new("update").attr("op_name", name).string_content(told.clone());
            let notification = NodeBuilder::new("notification")
                .attr("from", server_jid())
                .attr("type", "mex")
                .attr("id", state.next_id().to_string())
                .attr("t", now().to_string())
                .children([update.build()]);
            state.deliver(&device, vec![notification.build()]);
        }
    }
}

fn timelock(lock: Option<&ReachoutLock>) -> Value {
    match lock {
        None => json!({ "is_active": false }),
        Some(lock) => json!({
            "is_active": true,
            "time_enforcement_ends": lock.ends.unwrap_or_default().to_string(),
            "enforcement_type": lock.reason,
        }),
    }
}

/// Quotas as numbers, times as texts.
fn capping(limit: Option<NewChatLimit>) -> Value {
    let Some(limit) = limit else { return json!({ "total_quota": 0, "used_quota": 0, "capping_status": "NONE" }) };
    let status = if limit.used >= limit.total { "CAPPED" } else { "NONE" };
    json!({
        "total_quota": limit.total,
        "used_quota": limit.used,
        "cycle_end_timestamp": limit.ends.to_string(),
        "capping_status": status,
    })
}

/// The data of the question for the lock.
pub(crate) fn timelock_data(state: &mut State, phone: &str) -> Value {
    let lock = state.account_mut(phone).and_then(|account| account.reachout_lock.as_ref());
    json!({ "xwa2_fetch_account_reachout_timelock": timelock(lock) })
}

/// The data of the question for the limit of new chats.
pub(crate) fn capping_data(state: &mut State, phone: &str) -> Value {
    let limit = state.account_mut(phone).and_then(|account| account.new_chats);
    json!({ "xwa2_message_capping_info": capping(limit) })
}

/// The refusal of a request that a locked account may not make.
pub(crate) fn refusal(state: &mut State, me: &DeviceRef, request: &Node) -> Option<Node> {
    let is_outreach = children(request)
        .first()
        .is_some_and(|child| matches!(child.tag.as_ref(), "create" | "add" | "invite" | "accept"));
    let is_locked = state.account_mut(&me.phone).is_some_and(|account| account.reachout_lock.is_some());
    (is_outreach && is_locked).then(|| {
        let mut answer = iq_error(request, LOCKED.0, None);
        let error = NodeBuilder::new("error").attr("code", LOCKED.0.to_string()).attr("text", LOCKED.1).build();
        answer.content = Some(wacore_binary::NodeContent::Nodes(vec![error]));
        answer
    })
}
