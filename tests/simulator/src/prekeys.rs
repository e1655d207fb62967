//! Namespace `encrypt`: devices upload their pre-keys, others fetch them, one one-time key each.

use std::collections::VecDeque;

use wacore::prekeys::compute_key_bundle_digest;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{child_bytes, children, iq_error, iq_result, jid_attr, leaf, now};
use crate::world::State;
use crate::world::account::DeviceRef;

/// Signal's "Curve25519", the only key type there is.
const KEY_TYPE: u8 = 5;

/// A device's public keys, as it uploaded them. Numbers are big-endian bytes.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeyBundle {
    pub(crate) registration: Vec<u8>,
    pub(crate) identity: Vec<u8>,
    pub(crate) signed_prekey_id: Vec<u8>,
    pub(crate) signed_prekey: Vec<u8>,
    pub(crate) signed_prekey_signature: Vec<u8>,
    /// (id, key), each handed out once.
    pub(crate) one_time: VecDeque<(Vec<u8>, Vec<u8>)>,
}

/// Answers an `encrypt` request.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node) -> Node {
    let child = |tag: &str| request.get_optional_child(tag);
    if child("list").is_some() {
        upload(state, me, request);
        return iq_result(request, vec![]);
    }
    if let Some(rotate) = child("rotate") {
        if let Some(keys) = state.device_mut(me).map(|device| &mut device.keys) {
            keys.take_signed_prekey(rotate);
        }
        return iq_result(request, vec![]);
    }
    if child("count").is_some() {
        let count = state.device_mut(me).map_or(0, |device| device.keys.one_time.len());
        return iq_result(request, vec![NodeBuilder::new("count").attr("value", count.to_string()).build()]);
    }
    if child("digest").is_some() {
        return digest(state, me, request);
    }
    match child("key") {
        Some(key) => fetch(state, request, key),
        None => iq_result(request, vec![]),
    }
}

fn upload(state: &mut State, me: &DeviceRef, request: &Node) {
    let Some(device) = state.device_mut(me) else { return };
    device.keys.registration = child_bytes(request, "registration");
    device.keys.identity = child_bytes(request, "identity");
    device.keys.take_signed_prekey(request);
    let list = request.get_optional_child("list").map(children).unwrap_or_default();
    device.keys.one_time.extend(list.iter().map(|key| (child_bytes(key, "id"), child_bytes(key, "value"))));
    state.share_app_state_key(me);
}

impl KeyBundle {
    /// Takes the signed pre-key over from the `<skey>` in `parent`.
    pub(crate) fn take_signed_prekey(&mut self, parent: &Node) {
        let Some(skey) = parent.get_optional_child("skey") else { return };
        self.signed_prekey_id = child_bytes(skey, "id");
        self.signed_prekey = child_bytes(skey, "value");
        self.signed_prekey_signature = child_bytes(skey, "signature");
    }
}

/// The keys that the server holds for this device, so that the client can compare them with those it sent.
fn digest(state: &mut State, me: &DeviceRef, request: &Node) -> Node {
    let Some(keys) = state.device_mut(me).map(|device| &device.keys).filter(|keys| !keys.one_time.is_empty()) else {
        return iq_error(request, 404, None);
    };
    let one_time: Vec<&[u8]> = keys.one_time.iter().map(|(_, key)| key.as_slice()).collect();
    let hash = compute_key_bundle_digest(&keys.identity, &keys.signed_prekey, &keys.signed_prekey_signature, &one_time);
    let mut content = public_part(keys);
    let ids = keys.one_time.iter().map(|(id, _)| leaf("id", id.clone()));
    content.push(NodeBuilder::new("list").children(ids).build());
    content.push(leaf("hash", hash));
    iq_result(request, vec![NodeBuilder::new("digest").children(content).build()])
}

fn public_part(keys: &KeyBundle) -> Vec<Node> {
    vec![
        leaf("registration", keys.registration.clone()),
        leaf("type", [KEY_TYPE]),
        leaf("identity", keys.identity.clone()),
        NodeBuilder::new("skey")
            .children([
                leaf("id", keys.signed_prekey_id.clone()),
                leaf("value", keys.signed_prekey.clone()),
                leaf("signature", keys.signed_prekey_signature.clone()),
            ])
            .build(),
    ]
}

fn fetch(state: &mut State, request: &Node, key: &Node) -> Node {
    let users: Vec<Node> = key.get_children_by_tag("user").filter_map(|user| fetch_one(state, user)).collect();
    iq_result(request, vec![NodeBuilder::new("list").children(users).build()])
}

fn fetch_one(state: &mut State, user: &Node) -> Option<Node> {
    let jid = jid_attr(user, "jid")?;
    let answer = NodeBuilder::new("user").attr("jid", &jid).attr("t", now().to_string());
    let Some(content) = state.phone_of(&jid).and_then(|phone| hand_out(state, &phone, jid.device)) else {
        let error = NodeBuilder::new("error").attr("code", "406").attr("text", "not-acceptable").build();
        return Some(answer.children([error]).build());
    };
    Some(answer.children(content).build())
}

fn hand_out(state: &mut State, phone: &str, device: u16) -> Option<Vec<Node>> {
    if device == 0 {
        return Some(public_part(&state.phone_signal(phone)?.bundle()));
    }
    let device = state.account_mut(phone)?.devices.get_mut(&device)?;
    let mut content = public_part(&device.keys);
    if let Some((id, key)) = device.keys.one_time.pop_front() {
        content.push(NodeBuilder::new("key").children([leaf("id", id), leaf("value", key)]).build());
    }
    content.push(leaf("device-identity", device.identity.clone()));
    Some(content)
}
