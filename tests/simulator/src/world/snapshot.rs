//! The whole world as JSON, for tests in any language and for failure messages.

use serde_json::{Value, json};

use super::World;
use super::account::Account;

impl World {
    /// Everything that tests may want to see: accounts with devices and counts, groups, clients that wait to be linked.
    pub fn snapshot(&self) -> Value {
        let state = self.settled();
        let accounts: Vec<Value> = state.accounts.values().map(account).collect();
        let groups: Vec<Value> = state.groups.values().map(|group| json!(group.view(&state.accounts))).collect();
        json!({ "seed": state.seed, "accounts": accounts, "groups": groups, "unlinked_clients": state.links.len() })
    }
}

fn account(account: &Account) -> Value {
    let devices: Vec<Value> = account
        .devices
        .iter()
        .map(|(id, device)| {
            json!({
                "id": id,
                "connected": device.is_connected(),
                "waiting_stanzas": device.inbox.len(),
                "one_time_prekeys": device.keys.one_time.len(),
            })
        })
        .collect();
    json!({
        "phone": account.phone,
        "name": account.name,
        "lid": account.lid,
        "addable": account.addable,
        "number_hidden": account.number_hidden,
        "spellings": account.spellings,
        "reachout_lock": account.reachout_lock,
        "new_chats": account.new_chats,
        "is_available": account.is_available,
        "devices": devices,
        "live_connections": account.live_connections(),
        "live_connections_max": account.connections_max,
        "messages": account.messages.len(),
        "faults_waiting": account.faults.len(),
        "requests": account.requests,
    })
}
