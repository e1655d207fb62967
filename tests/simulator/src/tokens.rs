//! Privacy tokens: an account gives one to those whom it trusts. Where it requires one, others cannot write to it.

use rand::RngExt as _;
use wacore::iq::abprops::web;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{attr, bytes, children, iq_result, jid_attr, now};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// The code for a message without a token to somebody who requires one.
pub(crate) const MISSING_TOKEN: u16 = 463;
/// The only kind of token there is.
const TRUSTED_CONTACT: &str = "trusted_contact";
const TOKEN_BYTES: usize = 16;

/// The properties that make clients attach tokens, and give their own.
const PROPERTIES: [u32; 4] = [
    web::PRIVACY_TOKEN_SENDING_ON_ALL_1_ON_1_MESSAGES.code,
    web::PRIVACY_TOKEN_SENDING_ON_GROUP_CREATE.code,
    web::PRIVACY_TOKEN_SENDING_ON_GROUP_PARTICIPANT_ADD.code,
    web::LID_TRUSTED_TOKEN_ISSUE_TO_LID.code,
];

impl World {
    /// Whether messages to this account need a token of it. None do unless set.
    pub fn require_token(&self, phone: &str, required: bool) {
        let mut state = self.lock();
        state.ensure_account(phone);
        if let Some(account) = state.account_mut(phone) {
            account.requires_token = required;
        }
    }

    /// The phone gives a token to another account, as phones do when their owner writes to somebody.
    pub fn trust(&self, phone: &str, other: &str) {
        let mut state = self.lock();
        state.ensure_account(phone);
        state.ensure_account(other);
        state.give_token(phone, other, now());
    }

    /// Whether this account has given the other one a token.
    #[must_use]
    pub fn trusts(&self, phone: &str, other: &str) -> bool {
        self.lock().accounts.get(phone).is_some_and(|account| account.tokens.contains_key(other))
    }
}

impl State {
    /// Whether a message needs a token that it does not have.
    pub(crate) fn lacks_token(&self, sender: &str, recipient: &str, message: &Node) -> bool {
        let Some(account) = self.accounts.get(recipient).filter(|account| account.requires_token) else { return false };
        let carried = message.get_optional_child("tctoken").map(bytes);
        let has_token = carried.is_some() && account.tokens.get(sender) == carried.as_ref();
        sender != recipient && !has_token
    }

    /// The devices of the other account learn the token.
    fn give_token(&mut self, phone: &str, other: &str, time: u64) {
        let token: [u8; TOKEN_BYTES] = self.rng.random();
        let Some(account) = self.account_mut(phone) else { return };
        account.tokens.insert(other.to_owned(), token.to_vec());
        let (pn, lid) = (account.pn_jid(), account.lid_jid());
        let token = NodeBuilder::new("token").attr("type", TRUSTED_CONTACT).attr("t", time.to_string()).bytes(token);
        let tokens = NodeBuilder::new("tokens").children([token.build()]).build();
        for device in self.devices_of(other) {
            let notification = NodeBuilder::new("notification")
                .attr("from", &pn)
                .attr("sender_lid", &lid)
                .attr("type", "privacy_token")
                .attr("id", self.next_id().to_string())
                .attr("t", now().to_string())
                .children([tokens.clone()]);
            self.deliver(&device, vec![notification.build()]);
        }
    }
}

/// The properties that WhatsApp sets for clients.
pub(crate) fn properties() -> Node {
    let property =
        |code: u32| NodeBuilder::new("prop").attr("config_code", code.to_string()).attr("config_value", "true").build();
    NodeBuilder::new("props").attr("protocol", "1").children(PROPERTIES.map(property)).build()
}

/// A device gives tokens to others, in the name of its account.
pub(crate) fn give(state: &mut State, me: &DeviceRef, request: &Node, tokens: &Node) -> Node {
    for token in children(tokens) {
        let other = jid_attr(token, "jid").and_then(|jid| state.phone_of(&jid));
        let time = attr(token, "t").and_then(|time| time.parse().ok());
        if let Some(other) = other {
            state.give_token(&me.phone, &other, time.unwrap_or_else(now));
        }
    }
    iq_result(request, vec![])
}
