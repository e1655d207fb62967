//! Namespace `usync`: who is on WhatsApp, under which LID, with which devices.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{attr, children, empty, iq_result, jid_attr, now, text};
use crate::world::State;
use crate::world::account::Account;

pub(crate) fn answer(state: &mut State, request: &Node) -> Node {
    let Some(usync) = request.get_optional_child("usync") else { return iq_result(request, vec![]) };
    let protocols = protocols(request);
    let asked = usync.get_optional_child("list").map(children).unwrap_or_default();
    let users: Vec<Node> = asked.iter().filter_map(|user| answer_user(state, user, &protocols)).collect();
    let answer = NodeBuilder::new("usync")
        .attr("sid", attr(usync, "sid").unwrap_or_default())
        .attr("mode", attr(usync, "mode").unwrap_or_default())
        .attr("context", attr(usync, "context").unwrap_or_default())
        .children([empty("result"), NodeBuilder::new("list").children(users).build()]);
    iq_result(request, vec![answer.build()])
}

/// What a request asks about each of its users: `contact`, `lid`, `devices`, `status`, ...
pub(crate) fn protocols(request: &Node) -> Vec<String> {
    let query = request.get_optional_child("usync").and_then(|usync| usync.get_optional_child("query"));
    query.map(children).unwrap_or_default().iter().map(|protocol| protocol.tag.to_string()).collect()
}

fn answer_user(state: &mut State, user: &Node, protocols: &[String]) -> Option<Node> {
    let contact = user.get_optional_child("contact").map(text);
    let by_number = || Some(state.jid_spelt(contact.as_deref()?.trim_start_matches('+')));
    let jid = jid_attr(user, "jid").or_else(by_number)?.to_non_ad();
    let phone = state.phone_of(&jid);
    let answers: Vec<Node> = protocols
        .iter()
        .filter_map(|protocol| match (protocol.as_str(), &phone) {
            ("contact", known) => Some(contact_node(known.is_some(), contact.as_deref())),
            // Asked by LID, WhatsApp does not repeat that LID.
            ("lid", Some(phone)) if jid.is_pn() => {
                let lid = state.accounts.get(phone)?.lid_jid();
                Some(NodeBuilder::new("lid").attr("val", lid).build())
            }
            ("devices", Some(phone)) => devices_node(state, phone),
            ("status", Some(phone)) => state.accounts.get(phone).map(status_node),
            ("picture", Some(phone)) => state.accounts.get(phone).map(picture_node),
            ("disappearing_mode", Some(phone)) => state.accounts.get(phone).map(|account| {
                let mode = NodeBuilder::new("disappearing_mode").attr("duration", account.default_timer_s.to_string());
                mode.attr("t", "0").build()
            }),
            _ => None,
        })
        .collect();
    let mut answer = NodeBuilder::new("user").attr("jid", &jid);
    if let Some(account) =
        phone.and_then(|phone| state.accounts.get(&phone)).filter(|account| jid.is_lid() && !account.number_hidden)
    {
        answer = answer.attr("pn_jid", account.pn_jid());
    }
    Some(answer.children(answers).build())
}

fn contact_node(known: bool, asked: Option<&str>) -> Node {
    let contact = NodeBuilder::new("contact").attr("type", if known { "in" } else { "out" });
    match asked {
        Some(number) => contact.string_content(number).build(),
        None => contact.build(),
    }
}

/// What the account says about itself; 401: it says nothing.
fn status_node(account: &Account) -> Node {
    let status = NodeBuilder::new("status");
    match account.about.text.as_str() {
        "" => status.attr("code", "401").attr("t", "0").build(),
        text => status.attr("t", account.about.set_at.to_string()).string_content(text).build(),
    }
}

fn picture_node(account: &Account) -> Node {
    match &account.picture {
        Some(picture) => NodeBuilder::new("picture").attr("id", picture.id.as_str()).build(),
        None => empty("picture"),
    }
}

fn devices_node(state: &mut State, phone: &str) -> Option<Node> {
    let list = state.key_index_list(phone)?;
    let account = state.accounts.get(phone)?;
    let phone_itself = NodeBuilder::new("device").attr("id", "0").build();
    let linked = account.devices.iter().map(|(id, device)| {
        NodeBuilder::new("device").attr("id", id.to_string()).attr("key-index", device.key_index.to_string()).build()
    });
    let devices = NodeBuilder::new("device-list").children(std::iter::once(phone_itself).chain(linked)).build();
    let keys = NodeBuilder::new("key-index-list").attr("ts", now().to_string()).bytes(list).build();
    Some(NodeBuilder::new("devices").children([devices, keys]).build())
}
