//! Calls: a phone rings the devices of another account. Nobody ever answers one, and nothing is spoken.

use rand::RngExt as _;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{ack, now};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// The audio rates that a phone offers, in Hz.
const AUDIO_RATES: [&str; 2] = ["16000", "8000"];

impl World {
    /// `from` calls `to`, whose devices ring now, or when they come back. Returns the call's id. A device that rejects
    /// the call is counted as `call:reject`. Accounts are made when missing.
    pub fn call(&self, from: &str, to: &str) -> String {
        let mut state = self.lock();
        state.ensure_account(from);
        state.ensure_account(to);
        let call_id = format!("{:032X}", state.rng.random::<u128>());
        for device in state.devices_of(to) {
            if let Some(offer) = state.call_offer(from, &call_id) {
                state.deliver(&device, vec![offer]);
            }
        }
        call_id
    }
}

impl State {
    fn call_offer(&mut self, from: &str, call_id: &str) -> Option<Node> {
        let id = format!("{:016X}", self.next_id());
        let caller = self.accounts.get(from)?;
        let audio = |rate: &'static str| NodeBuilder::new("audio").attr("enc", "opus").attr("rate", rate).build();
        let offer = NodeBuilder::new("offer")
            .attr("call-id", call_id)
            .attr("call-creator", caller.lid_jid())
            .attr("caller_pn", caller.pn_jid())
            .children(AUDIO_RATES.map(audio));
        let call = NodeBuilder::new("call")
            .attr("from", caller.lid_jid())
            .attr("id", id)
            .attr("t", now().to_string())
            .attr("e", "0")
            .attr("platform", "android")
            .attr("notify", caller.name.as_str())
            .children([offer.build()]);
        Some(call.build())
    }
}

/// A device sends a stanza about a call: the stanza is counted and acknowledged.
pub(crate) fn on_call(state: &mut State, me: &DeviceRef, stanza: &Node) {
    state.handle(me, stanza, |_| ack(stanza, None).into());
}
