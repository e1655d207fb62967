//! What a linked device sends: requests by namespace, messages, receipts, acknowledgements.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::faults::FaultKind;
use crate::groups::Outcome;
use crate::stanza::{attr, children, empty, info, iq_error, iq_result, jid_attr, leaf, stream_conflict};
use crate::world::account::DeviceRef;
use crate::world::{Outbound, State, World};
use crate::{app_state, groups, prekeys, usync};

/// Handles one stanza of a linked device, unless the connection has been given up in the meantime.
pub(crate) fn on_stanza(world: &World, connection: u64, me: &DeviceRef, stanza: &Node) {
    let mut state = world.lock();
    if !state.device_mut(me).is_some_and(|device| device.is_served_by(connection)) {
        return;
    }
    match stanza.tag.as_ref() {
        "iq" => on_iq(&mut state, me, stanza),
        "message" => state.on_message(me, stanza),
        "receipt" => on_receipt(&mut state, me, stanza),
        "ack" => {
            state.count(&me.phone, &format!("ack:{}", attr(stanza, "class").unwrap_or_default()));
            acknowledge(&mut state, me, stanza);
        }
        _ => {}
    }
}

fn acknowledge(state: &mut State, me: &DeviceRef, stanza: &Node) {
    let id = attr(stanza, "id").unwrap_or_default();
    if let Some(device) = state.device_mut(me) {
        device.acknowledge(&id);
    }
}

fn on_receipt(state: &mut State, me: &DeviceRef, receipt: &Node) {
    acknowledge(state, me, receipt);
    let mut ack = NodeBuilder::new("ack").attr("class", "receipt");
    for (theirs, ours) in [("id", "id"), ("to", "from"), ("type", "type"), ("participant", "participant")] {
        if let Some(value) = receipt.attrs.get(theirs) {
            ack = ack.attr(ours, value.clone());
        }
    }
    state.send(me, vec![ack.build()]);
}

/// How requests are counted and named by faults: namespace and first child.
pub(crate) fn kind(request: &Node) -> String {
    let namespace = attr(request, "xmlns").unwrap_or_default();
    match children(request).first() {
        Some(child) => format!("{namespace}:{}", child.tag),
        None => namespace,
    }
}

fn on_iq(state: &mut State, me: &DeviceRef, request: &Node) {
    let set = match attr(request, "type").as_deref() {
        Some("get") => false,
        Some("set") => true,
        // An answer to one of our own requests.
        _ => return,
    };
    state.count(&me.phone, &kind(request));
    let apply = |state: &mut State| answer(state, me, request, set);
    let fault = state.fault_at(&me.phone, request, set);
    let takes_effect = fault.is_none_or(FaultKind::takes_effect);
    match fault {
        Some(fault) => state.run_into(fault, me, request, apply),
        None => {
            let outcome = apply(state);
            state.conclude(me, outcome);
        }
    }
    match request.get_optional_child("active") {
        Some(_) => state.replay_inbox(me),
        None if takes_effect && is_log_out(request) => state.remove_device(me),
        None => {}
    }
}

fn answer(state: &mut State, me: &DeviceRef, request: &Node, set: bool) -> Outcome {
    let answer = match attr(request, "xmlns").unwrap_or_default().as_str() {
        "w:g2" => return groups::answer(state, me, request, set),
        "encrypt" => prekeys::answer(state, me, request),
        "usync" => usync::answer(state, request),
        "w:sync:app:state" => app_state::answer(state, me, request),
        "w:profile:picture" => iq_error(request, 404, None),
        "privacy" if !set => iq_result(request, vec![privacy()]),
        "blocklist" if !set => iq_result(request, vec![empty("list")]),
        "abt" => iq_result(request, vec![NodeBuilder::new("props").attr("protocol", "1").build()]),
        "w:mex" => iq_result(request, vec![leaf("result", r#"{"data":{}}"#)]),
        // Pings, and what needs no more than "done".
        _ => iq_result(request, vec![]),
    };
    answer.into()
}

/// The settings of an account that never changed any.
fn privacy() -> Node {
    let category = |name: &'static str| NodeBuilder::new("category").attr("name", name).attr("value", "all").build();
    let names = ["groupadd", "last", "online", "profile", "readreceipts", "status", "calladd"];
    NodeBuilder::new("privacy").children(names.map(category)).build()
}

fn is_log_out(request: &Node) -> bool {
    request.get_optional_child("remove-companion-device").is_some()
}

impl State {
    /// Sends to a device without waiting for an acknowledgement: answers, and what concerns the connection only.
    pub(crate) fn send(&mut self, to: &DeviceRef, stanzas: Vec<Node>) {
        if let Some(device) = self.device_mut(to) {
            device.send(Outbound::Stanzas(stanzas));
        }
    }

    /// The device has logged out.
    fn remove_device(&mut self, me: &DeviceRef) {
        let Some(account) = self.account_mut(&me.phone) else { return };
        if let Some(mut device) = account.devices.remove(&me.device) {
            device.end(stream_conflict("device_removed"));
        }
    }

    /// The device is ready for what has waited: everything, marked `offline`, and then the count.
    fn replay_inbox(&mut self, me: &DeviceRef) {
        let Some(device) = self.device_mut(me) else { return };
        device.active = true;
        let count = device.inbox.len().to_string();
        let mut stanzas: Vec<Node> = device.inbox.iter().map(|waiting| waiting.stanza.clone()).collect();
        for (index, stanza) in stanzas.iter_mut().enumerate() {
            stanza.attrs.insert("offline", index.to_string());
        }
        stanzas.push(info(NodeBuilder::new("offline").attr("count", count).build()));
        device.send(Outbound::Stanzas(stanzas));
    }

    /// Messages are acknowledged and go nowhere yet, except those to the sender's own phone.
    fn on_message(&mut self, me: &DeviceRef, message: &Node) {
        let mut ack = NodeBuilder::new("ack").attr("class", "message").attr("t", crate::stanza::now().to_string());
        for (theirs, ours) in [("id", "id"), ("to", "from"), ("phash", "phash")] {
            if let Some(value) = message.attrs.get(theirs) {
                ack = ack.attr(ours, value.clone());
            }
        }
        self.send(me, vec![ack.build()]);
        if jid_attr(message, "to").and_then(|to| self.phone_of(&to)).as_ref() == Some(&me.phone) {
            self.on_peer_message(me, message);
        }
    }
}
