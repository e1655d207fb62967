//! App state: collections of encrypted settings that the phone shares with its devices.
//!
//! The server keeps opaque patches. The simulated phone reads and writes them as its devices do: its push name, the names of its
//! contacts, and what is set for chats and messages.

use std::collections::{BTreeMap, HashMap};

use buffa::Message as _;
use rand::RngExt as _;
use rand::rngs::StdRng;
use wacore_appstate::hash::{HashState, generate_patch_mac};
use wacore_appstate::schemas::{self, Schema};
use wacore_appstate::{ExpandedAppStateKeys, decode_record, encode_record, expand_app_state_keys};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::codec::{syncd_patch_decode, syncd_patch_to_vec};
use waproto::whatsapp as wa;

use crate::SimulatorError;
use crate::stanza::{attr, bytes, children, iq_result, leaf, now, server_jid};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// The collection that a fresh device waits for.
const CRITICAL_BLOCK: &str = "critical_block";
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
    /// What is set, as the phone reads it: the encoded value, by its index in JSON.
    #[serde(default)]
    values: BTreeMap<String, Vec<u8>>,
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
            self.write(&schemas::SETTING_PUSH_NAME, &[], push_name(name), rng);
        }
        let share = wa::message::AppStateSyncKeyShare { keys: vec![shared] };
        let protocol = wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::AppStateSyncKeyShare),
            app_state_sync_key_share: buffa::MessageField::some(share),
            ..Default::default()
        };
        wa::Message { protocol_message: buffa::MessageField::some(protocol), ..Default::default() }
    }

    /// The account's name as a device or the phone has set it last.
    fn push_name(&self) -> Option<String> {
        let value = self.collections.get(CRITICAL_BLOCK)?.values.get(r#"["setting_pushName"]"#)?;
        wa::SyncActionValue::decode_from_slice(value).ok()?.push_name_setting.as_option()?.name.clone()
    }

    fn key(&mut self, rng: &mut StdRng) -> &Key {
        self.key.get_or_insert_with(|| Key { id: rng.random(), data: rng.random(), made_at: now() })
    }

    /// The phone sets something. Returns the new version of the collection.
    fn write(&mut self, schema: &Schema, arguments: &[&str], value: wa::SyncActionValue, rng: &mut StdRng) -> usize {
        let name = schema.collection.as_str();
        let index: Vec<&str> = std::iter::once(&schema.name).chain(arguments).copied().collect();
        let index = serde_json::json!(index).to_string();
        let iv = rng.random();
        let key = self.key(rng);
        let (keys, key_id) = (expand_app_state_keys(&key.data), key.id);
        let set = wa::syncd_mutation::SyncdOperation::SET;
        let (mutation, _) = encode_record(set, index.as_bytes(), &value, &keys, &key_id, &iv, schema.version as i32);
        let collection = self.collections.entry(name.to_owned()).or_default();
        let version = collection.patches.len() as u64 + 1;
        let mut patch = wa::SyncdPatch {
            version: buffa::MessageField::some(wa::SyncdVersion { version: Some(version) }),
            mutations: vec![mutation],
            key_id: buffa::MessageField::some(wa::KeyId { id: Some(key_id.to_vec()) }),
            ..Default::default()
        };
        collection.take_in(&patch, version, Some(&keys));
        patch.snapshot_mac = Some(collection.hash.generate_snapshot_mac(name, &keys.snapshot_mac));
        patch.patch_mac = Some(generate_patch_mac(&patch, name, &keys.patch_mac, version));
        collection.patches.push(syncd_patch_to_vec(&patch));
        collection.patches.len()
    }

    /// Answers one `<collection>`: applies an up-to-date patch, or returns the patches that the device has not seen. Beside the
    /// answer: the collection and its new version, when a patch was applied.
    fn sync(&mut self, request: &Node) -> (Node, Option<(String, usize)>) {
        let name = attr(request, "name").unwrap_or_default();
        let seen: usize = attr(request, "version").and_then(|version| version.parse().ok()).unwrap_or(0);
        let keys = self.key.as_ref().map(|key| expand_app_state_keys(&key.data));
        let collection = self.collections.entry(name.clone()).or_default();
        let answer = NodeBuilder::new("collection").attr("name", name.as_str());
        let uploaded = request.get_optional_child("patch").map(bytes);
        if uploaded.is_some() && seen != collection.patches.len() {
            let conflict = NodeBuilder::new("error").attr("code", "409").attr("text", "conflict").build();
            let news = patches_after(&collection.patches, seen);
            return (answer.attr("type", "error").children([conflict, news]).build(), None);
        }
        let answer = answer.attr("type", "result");
        if let Some(mut patch) = uploaded.and_then(|patch| syncd_patch_decode(&patch).ok()) {
            // The device leaves the version to the server.
            let version = collection.patches.len() as u64 + 1;
            patch.version = buffa::MessageField::some(wa::SyncdVersion { version: Some(version) });
            collection.take_in(&patch, version, keys.as_ref());
            collection.patches.push(syncd_patch_to_vec(&patch));
            let answer = answer.attr("version", version.to_string()).build();
            return (answer, Some((name, collection.patches.len())));
        }
        let answer = answer.attr("version", collection.patches.len().to_string());
        if seen >= collection.patches.len() {
            return (answer.build(), None);
        }
        (answer.children([patches_after(&collection.patches, seen)]).build(), None)
    }
}

impl Collection {
    /// Follows what a patch sets and removes, and reads it with the account's keys.
    fn take_in(&mut self, patch: &wa::SyncdPatch, version: u64, keys: Option<&ExpandedAppStateKeys>) {
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
            if let Some(keys) = keys {
                self.read(mutation, keys);
            }
        }
    }
}

impl Collection {
    fn read(&mut self, mutation: &wa::SyncdMutation, keys: &ExpandedAppStateKeys) {
        use wa::syncd_mutation::SyncdOperation::{REMOVE, SET};
        let is_removed = mutation.operation.is_some_and(|operation| operation == REMOVE);
        let operation = if is_removed { REMOVE } else { SET };
        let Ok((read, _)) = decode_record(operation, &mutation.record, keys, &[], false) else { return };
        let index = serde_json::json!(read.index).to_string();
        match read.action_value.filter(|_| !is_removed) {
            Some(value) => self.values.insert(index, value.encode_to_vec()),
            None => self.values.remove(&index),
        };
    }
}

impl World {
    /// What is set in the account's app state: the index (`["archive", JID]`, `["star", JID, id, ..]`, ..) and the value.
    #[must_use]
    pub fn app_state(&self, phone: &str) -> Vec<(Vec<String>, wa::SyncActionValue)> {
        let state = self.lock();
        let Some(account) = state.accounts.get(phone) else { return Vec::new() };
        let values = account.app_state.collections.values().flat_map(|collection| &collection.values);
        let read = values.filter_map(|(index, value)| {
            Some((serde_json::from_str(index).ok()?, wa::SyncActionValue::decode_from_slice(value).ok()?))
        });
        read.collect()
    }

    /// The owner of a phone sets something for a chat, a message or a contact. `index` begins with the name of the action.
    ///
    /// # Errors
    /// When WhatsApp has no such action.
    pub fn set_app_state(&self, phone: &str, index: &[&str], value: wa::SyncActionValue) -> Result<(), SimulatorError> {
        let schema = index.first().and_then(|name| schemas::ALL.iter().find(|schema| schema.name == *name));
        let schema = schema.ok_or_else(|| SimulatorError::protocol("no such action in the app state"))?;
        let mut state = self.lock();
        state.ensure_account(phone);
        state.write_app_state(phone, schema, &index[1..], value);
        Ok(())
    }

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
        state.write_app_state(phone, &schemas::CONTACT, &[&jid.to_string()], value);
    }

    /// The owner of an account changes its name; others see it in notifications and messages from then on.
    pub fn rename(&self, phone: &str, name: &str) {
        let mut state = self.lock();
        state.ensure_account(phone);
        let Some(account) = state.account_mut(phone) else { return };
        name.clone_into(&mut account.name);
        // Without a linked device the name is written later, when a device is linked.
        if account.app_state.collections.contains_key(CRITICAL_BLOCK) {
            state.write_app_state(phone, &schemas::SETTING_PUSH_NAME, &[], push_name(name));
        }
    }
}

impl State {
    /// The phone sets something, and its devices are notified of the new version.
    fn write_app_state(&mut self, phone: &str, schema: &Schema, arguments: &[&str], value: wa::SyncActionValue) {
        let Some(account) = self.accounts.get_mut(phone) else { return };
        let version = account.app_state.write(schema, arguments, value, &mut self.rng);
        self.tell_of_app_state(phone, &[(schema.collection.as_str().to_owned(), version)], None);
    }

    /// Tells the devices of an account that collections have new versions.
    fn tell_of_app_state(&mut self, phone: &str, changed: &[(String, usize)], acting: Option<&DeviceRef>) {
        if changed.is_empty() {
            return;
        }
        for device in self.devices_of(phone).into_iter().filter(|device| Some(device) != acting) {
            let news = changed.iter().map(|(name, version)| {
                NodeBuilder::new("collection").attr("name", name.as_str()).attr("version", version.to_string()).build()
            });
            let news: Vec<Node> = news.collect();
            let notification = NodeBuilder::new("notification")
                .attr("from", server_jid())
                .attr("type", "server_sync")
                .attr("id", self.next_id().to_string())
                .attr("t", now().to_string())
                .children(news);
            self.deliver(&device, vec![notification.build()]);
        }
    }
}

/// Answers a `w:sync:app:state` request.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node) -> Node {
    let Some(account) = state.account_mut(&me.phone) else { return iq_result(request, vec![]) };
    let collections = request.get_optional_child("sync").map(children).unwrap_or_default();
    let synced = collections.iter().map(|collection| account.app_state.sync(collection));
    let (answers, changed): (Vec<Node>, Vec<_>) = synced.unzip();
    let changed: Vec<_> = changed.into_iter().flatten().collect();
    let name = account.app_state.push_name();
    if let Some(name) = name.filter(|_| !changed.is_empty()) {
        account.name = name;
    }
    state.tell_of_app_state(&me.phone, &changed, Some(me));
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
