//! App state: collections of encrypted settings that the phone shares with its devices.
//!
//! The server keeps opaque patches. The one patch that the simulated phone writes itself is version 1 of
//! `critical_block`, with its push name.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand::rngs::StdRng;
use wacore_appstate::hash::{HashState, generate_patch_mac};
use wacore_appstate::{encode_record, expand_app_state_keys};
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::codec::{syncd_patch_decode, syncd_patch_to_vec};
use waproto::whatsapp as wa;

use crate::stanza::{attr, bytes, children, iq_result, leaf, now};
use crate::world::State;
use crate::world::account::DeviceRef;

/// The collection that a fresh device waits for.
const CRITICAL_BLOCK: &str = "critical_block";
/// Schema version of `setting_pushName`.
const PUSH_NAME_ACTION_VERSION: i32 = 1;

/// An account's collections and the key they are encrypted with. The server of course does not know the key; the
/// phone, which lives in the same struct, does.
#[derive(Default)]
pub(crate) struct AppState {
    key: Option<Key>,
    /// Patches of each collection; the first is version 1.
    collections: BTreeMap<String, Vec<Vec<u8>>>,
}

struct Key {
    id: [u8; 6],
    data: [u8; 32],
    made_at: u64,
}

impl AppState {
    /// The message with which the phone shares the key; makes the key and the first patch at the first call.
    pub(crate) fn key_share(&mut self, name: &str, rng: &mut StdRng) -> wa::Message {
        let key = self.key.get_or_insert_with(|| Key { id: rng.random(), data: rng.random(), made_at: now() });
        let shared = shared_key(key);
        if !self.collections.contains_key(CRITICAL_BLOCK) {
            let patch = push_name_patch(key, name, rng.random());
            self.collections.insert(CRITICAL_BLOCK.to_owned(), vec![patch]);
        }
        let share = wa::message::AppStateSyncKeyShare { keys: vec![shared] };
        let protocol = wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::AppStateSyncKeyShare),
            app_state_sync_key_share: buffa::MessageField::some(share),
            ..Default::default()
        };
        wa::Message { protocol_message: buffa::MessageField::some(protocol), ..Default::default() }
    }

    /// Answers one `<collection>`: takes a patch in when there is one, and returns what the device has not seen.
    fn sync(&mut self, request: &Node) -> Node {
        let name = attr(request, "name").unwrap_or_default();
        let seen: usize = attr(request, "version").and_then(|version| version.parse().ok()).unwrap_or(0);
        let patches = self.collections.entry(name.clone()).or_default();
        let answer = NodeBuilder::new("collection").attr("name", name);
        let uploaded = request.get_optional_child("patch").map(bytes);
        if uploaded.is_some() && seen != patches.len() {
            let conflict = NodeBuilder::new("error").attr("code", "409").attr("text", "conflict").build();
            return answer.attr("type", "error").children([conflict, patches_after(patches, seen)]).build();
        }
        if let Some(patch) = uploaded.and_then(|patch| numbered(&patch, patches.len() as u64 + 1)) {
            patches.push(patch);
            return answer.attr("type", "result").attr("version", patches.len().to_string()).build();
        }
        let answer = answer.attr("type", "result").attr("version", patches.len().to_string());
        if seen >= patches.len() {
            return answer.build();
        }
        answer.children([patches_after(patches, seen)]).build()
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

/// The device leaves the version to the server.
fn numbered(patch: &[u8], version: u64) -> Option<Vec<u8>> {
    let mut patch = syncd_patch_decode(patch).ok()?;
    patch.version = buffa::MessageField::some(wa::SyncdVersion { version: Some(version) });
    Some(syncd_patch_to_vec(&patch))
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

/// Version 1 of `critical_block`: the phone tells its name.
fn push_name_patch(key: &Key, name: &str, iv: [u8; 16]) -> Vec<u8> {
    let keys = expand_app_state_keys(&key.data);
    let value = wa::SyncActionValue {
        timestamp: Some(now() as i64 * 1000),
        push_name_setting: buffa::MessageField::some(wa::sync_action_value::PushNameSetting {
            name: Some(name.to_owned()),
        }),
        ..Default::default()
    };
    let (mutation, _) = encode_record(
        wa::syncd_mutation::SyncdOperation::SET,
        br#"["setting_pushName"]"#,
        &value,
        &keys,
        &key.id,
        &iv,
        PUSH_NAME_ACTION_VERSION,
    );
    let mut patch = wa::SyncdPatch {
        version: buffa::MessageField::some(wa::SyncdVersion { version: Some(1) }),
        mutations: vec![mutation],
        key_id: buffa::MessageField::some(wa::KeyId { id: Some(key.id.to_vec()) }),
        ..Default::default()
    };
    let mut hash = HashState { version: 1, ..HashState::default() };
    let _ = hash.update_hash(&patch.mutations, |_, _| Ok(None));
    patch.snapshot_mac = Some(hash.generate_snapshot_mac(CRITICAL_BLOCK, &keys.snapshot_mac));
    patch.patch_mac = Some(generate_patch_mac(&patch, CRITICAL_BLOCK, &keys.patch_mac, 1));
    syncd_patch_to_vec(&patch)
}
