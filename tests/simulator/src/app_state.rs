//! App state: collections of encrypted settings that the phone shares with its devices.
//!
//! The server keeps opaque patches. The simulated phone writes its push name, in `critical_block`, and the names of its
//! contacts, in `critical_unblock_low`. It continues from the patches of its devices, of which it needs only the
//! hashes.

use std::collections::{BTreeMap, HashMap};

use rand::RngExt as _;
use rand::rngs::StdRng;
use wacore_appstate::hash::{HashState, generate_patch_mac};
use wacore_appstate::{encode_record, expand_app_state_keys};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::codec::{syncd_patch_decode, syncd_patch_to_vec};
use waproto::whatsapp as wa;

use crate::stanza::{attr, bytes, children, iq_result, leaf, now, server_jid};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// The collection that a fresh device waits for.
const CRITICAL_BLOCK: &str = "critical_block";
/// The collection of contacts.
const CRITICAL_UNBLOCK_LOW: &str = "critical_unblock_low";
/// Schema versions of `setting_pushName` and `contact`.
const PUSH_NAME_ACTION_VERSION: i32 = 1;
const CONTACT_ACTION_VERSION: i32 = 2;
/// The end of an encrypted value is its MAC.
const VALUE_MAC_BYTES: usize = 32;

/// An account's collections and the key they are encrypted with. The server of course does not know the key; the
/// phone, which lives in the same struct, does.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct AppState {
    key: Option<Key>,
    collections: BTreeMap<String, Collection>,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Collection {
    /// The first patch is version 1.
    patches: Vec<Vec<u8>>,
    /// The hash over all values that are set: each patch has to prove that its writer knows it.
    hash: HashState,
    /// For each value that is set: its MAC, by the MAC of its index.
    #[serde(with = "crate::world::state_file::pairs")]
    value_macs: HashMap<Vec<u8>, Vec<u8>>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Key {
    id: [u8; 6],
    data: [u8; 32],
    made_at: u64,
}

impl AppState {
    /// The message with which the phone shares the key; makes the key and the first patch at the first call.
    pub(crate) fn key_share(&mut self, name: &str, rng: &mut StdRng) -> wa::Message {
        let shared = shared_key(self.key(rng));
        if !self.collections.contains_key(CRITICAL_BLOCK) {
            self.write(CRITICAL_BLOCK, br#"["setting_pushName"]"#, push_name(name), PUSH_NAME_ACTION_VERSION, rng);
        }
        let share = wa::message::AppStateSyncKeyShare { keys: vec![shared] };
        let protocol = wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::AppStateSyncKeyShare),
            app_state_sync_key_share: buffa::MessageField::some(share),
            ..Default::default()
        };
        wa::Message { protocol_message: buffa::MessageField::some(protocol), ..Default::default() }
    }

    fn key(&mut self, rng: &mut StdRng) -> &Key {
        self.key.get_or_insert_with(|| Key { id: rng.random(), data: rng.random(), made_at: now() })
    }

    /// The phone sets something. Returns the new version of the collection.
    fn write(
        &mut self,
        name: &'static str,
        index: &[u8],
        value: wa::SyncActionValue,
        action_version: i32,
        rng: &mut StdRng,
    ) -> usize {
        let iv = rng.random();
        let key = self.key(rng);
        let (keys, key_id) = (expand_app_state_keys(&key.data), key.id);
        let set = wa::syncd_mutation::SyncdOperation::SET;
        let (mutation, _) = encode_record(set, index, &value, &keys, &key_id, &iv, action_version);
        let collection = self.collections.entry(name.to_owned()).or_default();
        let version = collection.patches.len() as u64 + 1;
        let mut patch = wa::SyncdPatch {
            version: buffa::MessageField::some(wa::SyncdVersion { version: Some(version) }),
            mutations: vec![mutation],
            key_id: buffa::MessageField::some(wa::KeyId { id: Some(key_id.to_vec()) }),
            ..Default::default()
        };
        collection.take_in(&patch, version);
        patch.snapshot_mac = Some(collection.hash.generate_snapshot_mac(name, &keys.snapshot_mac));
        patch.patch_mac = Some(generate_patch_mac(&patch, name, &keys.patch_mac, version));
        collection.patches.push(syncd_patch_to_vec(&patch));
        collection.patches.len()
    }

    /// Answers one `<collection>`: applies an up-to-date patch, or returns the patches that the device has not seen.
    fn sync(&mut self, request: &Node) -> Node {
        let name = attr(request, "name").unwrap_or_default();
        let seen: usize = attr(request, "version").and_then(|version| version.parse().ok()).unwrap_or(0);
        let collection = self.collections.entry(name.clone()).or_default();
        let answer = NodeBuilder::new("collection").attr("name", name);
        let uploaded = request.get_optional_child("patch").map(bytes);
        if uploaded.is_some() && seen != collection.patches.len() {
            let conflict = NodeBuilder::new("error").attr("code", "409").attr("text", "conflict").build();
            let news = patches_after(&collection.patches, seen);
            return answer.attr("type", "error").children([conflict, news]).build();
        }
        let answer = answer.attr("type", "result");
        if let Some(mut patch) = uploaded.and_then(|patch| syncd_patch_decode(&patch).ok()) {
            // The device leaves the version to the server.
            let version = collection.patches.len() as u64 + 1;
            patch.version = buffa::MessageField::some(wa::SyncdVersion { version: Some(version) });
            collection.take_in(&patch, version);
            collection.patches.push(syncd_patch_to_vec(&patch));
            return answer.attr("version", version.to_string()).build();
        }
        let answer = answer.attr("version", collection.patches.len().to_string());
        if seen >= collection.patches.len() {
            return answer.build();
        }
        answer.children([patches_after(&collection.patches, seen)]).build()
    }
}

impl Collection {
    /// Follows what a patch sets and removes.
    fn take_in(&mut self, patch: &wa::SyncdPatch, version: u64) {
        self.hash.version = version;
        let known = &self.value_macs;
        // The update fails for operations that do not exist. The next patch of the phone is then refused.
        let _ = self.hash.update_hash(&patch.mutations, |index, _| Ok(known.get(index).cloned()));
        for mutation in &patch.mutations {
            let Some(index) = mutation.record.index.blob.clone() else { continue };
            let value = mutation.record.value.blob.as_deref().unwrap_or_default();
            let removed = mutation.operation.is_some_and(|set| set == wa::syncd_mutation::SyncdOperation::REMOVE);
            match value.len().checked_sub(VALUE_MAC_BYTES).filter(|_| !removed) {
                Some(start) => self.value_macs.insert(index, value[start..].to_vec()),
                None => self.value_macs.remove(&index),
            };
        }
    }
}

impl World {
    /// The phone of an account gives a contact a name, and its devices learn of it: at once when they are connected.
    pub fn set_contact(&self, phone: &str, contact: &str, name: &str) {
        let mut state = self.lock();
        state.ensure_account(phone);
        let jid = Jid::pn(contact);
        let lid = state.accounts.get(contact).map(|account| account.lid_jid().to_string());
        let value = wa::SyncActionValue {
            timestamp: Some(now() as i64 * 1000),
            contact_action: buffa::MessageField::some(wa::sync_action_value::ContactAction {
                full_name: Some(name.to_owned()),
                lid_jid: lid,
                save_on_primary_addressbook: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        };
        let index = serde_json::json!(["contact", jid.to_string()]).to_string();
        state.write_app_state(phone, CRITICAL_UNBLOCK_LOW, index.as_bytes(), value, CONTACT_ACTION_VERSION);
    }

    /// The owner of an account changes its name; others see it in notifications and messages from then on.
    pub fn rename(&self, phone: &str, name: &str) {
        let mut state = self.lock();
        state.ensure_account(phone);
        let Some(account) = state.account_mut(phone) else { return };
        name.clone_into(&mut account.name);
        // Without a linked device the name is written later, when a device is linked.
        if account.app_state.collections.contains_key(CRITICAL_BLOCK) {
            let index = br#"["setting_pushName"]"#;
            state.write_app_state(phone, CRITICAL_BLOCK, index, push_name(name), PUSH_NAME_ACTION_VERSION);
        }
    }
}

impl State {
    /// The phone sets something, and its devices are notified of the new version.
    fn write_app_state(
        &mut self,
        phone: &str,
        collection: &'static str,
        index: &[u8],
        value: wa::SyncActionValue,
        action_version: i32,
    ) {
        let Some(account) = self.accounts.get_mut(phone) else { return };
        let version = account.app_state.write(collection, index, value, action_version, &mut self.rng);
        for device in self.devices_of(phone) {
            let news = NodeBuilder::new("collection").attr("name", collection).attr("version", version.to_string());
            let notification = NodeBuilder::new("notification")
                .attr("from", server_jid())
                .attr("type", "server_sync")
                .attr("id", self.next_id().to_string())
                .attr("t", now().to_string())
                .children([news.build()]);
            self.deliver(&device, vec![notification.build()]);
        }
    }
}

/// Answers a `w:sync:app:state` request.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node) -> Node {
    let Some(account) = state.account_mut(&me.phone) else { return iq_result(request, vec![]) };
    let collections = request.get_optional_child("sync").map(children).unwrap_or_default();
    let answers: Vec<Node> = collections.iter().map(|collection| account.app_state.sync(collection)).collect();
    iq_result(request, vec![NodeBuilder::new("sync").children(answers).build()])
}

fn patches_after(patches: &[Vec<u8>], seen: usize) -> Node {
    let news = patches.iter().skip(seen).map(|patch| leaf("patch", patch.clone()));
    NodeBuilder::new("patches").children(news).build()
}

fn shared_key(key: &Key) -> wa::message::AppStateSyncKey {
    let fingerprint =
        wa::message::AppStateSyncKeyFingerprint { raw_id: Some(1), current_index: Some(0), device_indexes: vec![0] };
    let data = wa::message::AppStateSyncKeyData {
        key_data: Some(key.data.to_vec()),
        fingerprint: buffa::MessageField::some(fingerprint),
        timestamp: Some(key.made_at as i64 * 1000),
    };
    wa::message::AppStateSyncKey {
        key_id: buffa::MessageField::some(wa::message::AppStateSyncKeyId { key_id: Some(key.id.to_vec()) }),
        key_data: buffa::MessageField::some(data),
    }
}

fn push_name(name: &str) -> wa::SyncActionValue {
    wa::SyncActionValue {
        timestamp: Some(now() as i64 * 1000),
        push_name_setting: buffa::MessageField::some(wa::sync_action_value::PushNameSetting {
            name: Some(name.to_owned()),
        }),
        ..Default::default()
    }
}
