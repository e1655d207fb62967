//! What an account says about itself and whom it does not want to hear: the text "about", privacy, the timer of new chats, the
//! block list.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{attr, children, iq_error, iq_result, jid_attr, now, text};
use crate::tokens;
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// The privacy settings of an account that never changed any.
const PRIVACY: [&str; 7] = ["groupadd", "last", "online", "profile", "readreceipts", "status", "calladd"];

impl World {
    /// The owner of a phone changes the text that others see about them.
    pub fn set_about(&self, phone: &str, about: &str) {
        let mut state = self.lock();
        state.ensure_account(phone);
        state.set_about(phone, about.to_owned(), None);
    }

    /// What the account says about itself; empty when it says nothing.
    #[must_use]
    pub fn about(&self, phone: &str) -> String {
        self.lock().accounts.get(phone).map(|account| account.about.text.clone()).unwrap_or_default()
    }

    /// The phone numbers that the account has blocked.
    #[must_use]
    pub fn blocked(&self, phone: &str) -> Vec<String> {
        let state = self.lock();
        state.accounts.get(phone).map(|account| account.blocked.iter().cloned().collect()).unwrap_or_default()
    }

    /// The owner of a phone blocks somebody, or ends that.
    pub fn block(&self, phone: &str, other: &str, blocked: bool) {
        let mut state = self.lock();
        state.ensure_account(phone);
        state.ensure_account(other);
        let Some(account) = state.account_mut(phone) else { return };
        match blocked {
            true => account.blocked.insert(other.to_owned()),
            false => account.blocked.remove(other),
        };
    }
}

/// The text about an account.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct About {
    pub(crate) text: String,
    pub(crate) set_at: u64,
}

impl State {
    fn set_about(&mut self, phone: &str, text: String, acting: Option<&DeviceRef>) {
        let Some(account) = self.account_mut(phone) else { return };
        account.about = About { text: text.clone(), set_at: now() };
        let set = NodeBuilder::new("set").string_content(text).build();
        self.tell_acquaintances(phone, "status", set, acting);
    }

    /// A notification in the name of an account to everybody who shares a group with it, and to its own devices.
    pub(crate) fn tell_acquaintances(
        &mut self,
        phone: &str,
        kind: &'static str,
        child: Node,
        acting: Option<&DeviceRef>,
    ) {
        let Some(account) = self.accounts.get(phone) else { return };
        let (from, name) = (account.pn_jid(), account.name.clone());
        for other in self.acquaintances(phone) {
            for device in self.devices_of(&other).into_iter().filter(|device| Some(device) != acting) {
                let notification = NodeBuilder::new("notification")
                    .attr("from", &from)
                    .attr("type", kind)
                    .attr("id", self.next_id().to_string())
                    .attr("t", now().to_string())
                    .attr("notify", name.as_str())
                    .children([child.clone()]);
                self.deliver(&device, vec![notification.build()]);
            }
        }
    }
}

/// Answers a `status` request: the text about the account.
pub(crate) fn on_about(state: &mut State, me: &DeviceRef, request: &Node) -> Node {
    let Some(status) = request.get_optional_child("status") else { return iq_error(request, 400, None) };
    let about = text(status);
    state.set_about(&me.phone, about, Some(me));
    iq_result(request, vec![])
}

/// Answers a `privacy` request: settings, and tokens for others.
pub(crate) fn on_privacy(state: &mut State, me: &DeviceRef, request: &Node, set: bool) -> Node {
    if let Some(tokens) = request.get_optional_child("tokens").filter(|_| set) {
        return tokens::give(state, me, request, tokens);
    }
    let Some(account) = state.account_mut(&me.phone) else { return iq_error(request, 404, None) };
    for category in request.get_optional_child("privacy").filter(|_| set).map(children).unwrap_or_default() {
        if let (Some(name), Some(value)) = (attr(category, "name"), attr(category, "value")) {
            account.privacy.insert(name, value);
        }
    }
    let category = |name: &'static str| {
        let value = account.privacy.get(name).map_or("all", String::as_str);
        NodeBuilder::new("category").attr("name", name).attr("value", value).build()
    };
    iq_result(request, vec![NodeBuilder::new("privacy").children(PRIVACY.map(category)).build()])
}

/// Answers a `disappearing_mode` request: the timer of new chats.
pub(crate) fn on_default_timer(state: &mut State, me: &DeviceRef, request: &Node) -> Node {
    let mode = request.get_optional_child("disappearing_mode");
    let duration = mode.and_then(|mode| attr(mode, "duration")?.parse().ok());
    match (duration, state.account_mut(&me.phone)) {
        (Some(duration), Some(account)) => {
            account.default_timer_s = duration;
            iq_result(request, vec![])
        }
        _ => iq_error(request, 400, None),
    }
}

/// Answers a `blocklist` request. A person is to be named by LID, with the phone number beside it when blocked.
pub(crate) fn on_blocklist(state: &mut State, me: &DeviceRef, request: &Node, set: bool) -> Node {
    if set {
        let Some(item) = request.get_optional_child("item") else { return iq_error(request, 400, None) };
        let named = jid_attr(item, "jid").filter(|jid| jid.is_lid());
        let Some(other) = named.and_then(|jid| state.phone_of(&jid)) else { return iq_error(request, 400, None) };
        let Some(account) = state.account_mut(&me.phone) else { return iq_error(request, 404, None) };
        match attr(item, "action").as_deref() {
            Some("block") if jid_attr(item, "pn_jid").is_some() => account.blocked.insert(other),
            Some("unblock") => account.blocked.remove(&other),
            _ => return iq_error(request, 400, None),
        };
    }
    let blocked = state.accounts.get(&me.phone).map(|account| account.blocked.clone()).unwrap_or_default();
    let items = blocked.iter().filter_map(|phone| {
        let account = state.accounts.get(phone)?;
        Some(NodeBuilder::new("item").attr("jid", account.lid_jid()).attr("pn_jid", account.pn_jid()).build())
    });
    iq_result(request, vec![NodeBuilder::new("list").children(items).build()])
}
