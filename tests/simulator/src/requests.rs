//! What a linked device sends: requests by namespace, messages, receipts, acknowledgements.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{JidExt as _, Node};

use crate::groups::Outcome;
use crate::stanza::{attr, children, info, iq_error, iq_result, jid_attr, stream_conflict};
use crate::world::account::DeviceRef;
use crate::world::{Outbound, State, World};
use crate::{app_state, calls, groups, media, mex, pictures, prekeys, presence, profile, receipts, tokens, usync};

/// The code for a request that the simulator does not know.
const NOT_IMPLEMENTED: u16 = 501;
/// Pings, passive mode, the marks of what is out of date, log-outs.
const NEED_NO_MORE_THAN_DONE: [&str; 5] = ["w:p", "urn:xmpp:ping", "passive", "urn:xmpp:whatsapp:dirty", "md"];

/// Handles one stanza of a linked device, unless the connection has been given up in the meantime.
pub(crate) fn on_stanza(world: &World, connection: u64, me: &DeviceRef, stanza: &Node) {
    let mut state = world.lock();
    if state.closed || !state.device_mut(me).is_some_and(|device| device.is_served_by(connection)) {
        return;
    }
    let loses_receipts = state.accounts.get(&me.phone).is_some_and(|account| account.loses_receipts);
    match stanza.tag.as_ref() {
        "receipt" | "ack" if loses_receipts => {}
        "iq" => on_iq(&mut state, me, stanza),
        "message" => state.on_message(me, stanza),
        "call" => calls::on_call(&mut state, me, stanza),
        "presence" => presence::on_presence(&mut state, me, stanza),
        "chatstate" => presence::on_chatstate(&mut state, me, stanza),
        "receipt" => receipts::on_receipt(&mut state, me, stanza),
        "ack" => on_ack(&mut state, me, stanza),
        _ => {}
    }
}

fn on_ack(state: &mut State, me: &DeviceRef, stanza: &Node) {
    let (id, class) = (attr(stanza, "id").unwrap_or_default(), attr(stanza, "class").unwrap_or_default());
    state.count(&me.phone, &format!("ack:{class}"));
    if let Some(device) = state.device_mut(me) {
        device.acknowledge(&id, &[&class]);
    }
}

/// The names of a request: it is counted under the first, and faults hit it under any. A name is a namespace, the tag
/// of the first child, or both. `w:mex` has the operation instead of the tag, `w:profile:picture` the action, and
/// `usync` the protocols that are asked about. A message has only its own tag.
pub(crate) fn names(request: &Node) -> Vec<String> {
    let first = children(request).first().map(|child| child.tag.to_string());
    if request.tag != "iq" {
        let tag = request.tag.to_string();
        return first.filter(|_| tag == "call").map(|child| format!("call:{child}")).into_iter().chain([tag]).collect();
    }
    let namespace = attr(request, "xmlns").unwrap_or_default();
    let operations = match namespace.as_str() {
        "w:mex" => mex::operation(request),
        "w:profile:picture" => vec![picture_operation(request).to_owned()],
        "usync" => usync::protocols(request),
        _ => first.into_iter().collect(),
    };
    let in_full = operations.iter().map(|operation| format!("{namespace}:{operation}"));
    let mut names: Vec<String> = in_full.chain([namespace.clone()]).collect();
    if namespace != "w:profile:picture" {
        names.extend(operations);
    }
    names
}

fn picture_operation(request: &Node) -> &'static str {
    match (attr(request, "type").as_deref(), request.get_optional_child("picture")) {
        (Some("get"), _) => "get",
        (_, Some(_)) => "set",
        (_, None) => "remove",
    }
}

/// Whether a request changes a group: a fault that names no request hits these.
pub(crate) fn changes_group(request: &Node) -> bool {
    let set = attr(request, "type").as_deref() == Some("set");
    match attr(request, "xmlns").as_deref() {
        Some("w:g2") => set,
        Some("w:profile:picture") => set && jid_attr(request, "target").is_some_and(|target| target.is_group()),
        Some("w:mex") => mex::is_change(request),
        _ => false,
    }
}

fn on_iq(state: &mut State, me: &DeviceRef, request: &Node) {
    let set = match attr(request, "type").as_deref() {
        Some("get") => false,
        Some("set") => true,
        // An answer to one of our own requests.
        _ => return,
    };
    let takes_effect = state.handle(me, request, |state| answer(state, me, request, set));
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
        "w:profile:picture" => return pictures::answer(state, me, request, set),
        "privacy" => profile::on_privacy(state, me, request, set),
        "status" if set => profile::on_about(state, me, request),
        "disappearing_mode" if set => profile::on_default_timer(state, me, request),
        "blocklist" => profile::on_blocklist(state, me, request, set),
        "w:m" => media::answer(state, request),
        "abt" => iq_result(request, vec![tokens::properties()]),
        "w:mex" => return mex::answer(state, me, request),
        namespace if NEED_NO_MORE_THAN_DONE.contains(&namespace) => iq_result(request, vec![]),
        _ => iq_error(request, NOT_IMPLEMENTED, None),
    };
    answer.into()
}

fn is_log_out(request: &Node) -> bool {
    request.get_optional_child("remove-companion-device").is_some()
}

impl State {
    /// Sends to a device without waiting for an acknowledgement: answers, and stanzas about the connection only.
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
            self.tell_of_device(me, device.key_index, false);
        }
    }

    /// The device is ready for the waiting stanzas: it gets all of them, marked `offline`, and then their count.
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

    /// Counts a request and applies it, or the fault that waits for it. Returns whether the request took effect.
    pub(crate) fn handle(&mut self, me: &DeviceRef, request: &Node, apply: impl FnOnce(&mut Self) -> Outcome) -> bool {
        let names = names(request);
        if let Some(name) = names.first() {
            self.count(&me.phone, name);
        }
        match self.fault_at(&me.phone, request, &names) {
            Some(fault) => {
                self.run_into(fault, me, request, apply);
                fault.takes_effect()
            }
            None => {
                let outcome = apply(self);
                self.conclude(me, outcome);
                true
            }
        }
    }
}
