//! The stanza that a linked device gets: who wrote, where, and the parts that the device can decrypt.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::Chat;
use crate::stanza::{attr, now};
use crate::world::account::DeviceRef;
use crate::world::{Addressing, State};

/// The children of a message that are for the recipients, not for the server.
const RELAYED_CHILDREN: [&str; 3] = ["meta", "bot", "biz"];

/// A message on its way: who sent it, where it belongs, and the stanza it came in.
pub(crate) struct Envelope<'a> {
    pub(crate) sender: &'a DeviceRef,
    pub(crate) chat: Chat,
    pub(crate) message: &'a Node,
}

impl State {
    /// The stanza for a device of `owner`, which the sender knows as `named`: by phone number or by LID.
    pub(super) fn relayed(&self, envelope: &Envelope<'_>, owner: &str, named: &Jid, encs: Vec<Node>) -> Option<Node> {
        let sender = self.accounts.get(&envelope.sender.phone)?;
        let message = envelope.message;
        let mut stanza = NodeBuilder::new("message")
            .attr("id", attr(message, "id")?)
            .attr("type", attr(message, "type").unwrap_or_else(|| "text".to_owned()))
            .attr("t", now().to_string())
            .attr("notify", sender.name.as_str());
        stanza = match &envelope.chat {
            Chat::Group(group) => self.in_group(stanza, envelope.sender, group)?,
            Chat::Person(other) => self.between_people(stanza, envelope.sender, other, owner, named)?,
        };
        for name in ["edit", "category"] {
            if let Some(value) = attr(message, name) {
                stanza = stanza.attr(name, value);
            }
        }
        let is_prekey = |enc: &Node| attr(enc, "type").as_deref() == Some("pkmsg");
        let identity = message.get_optional_child("device-identity").filter(|_| encs.iter().any(is_prekey)).cloned();
        let others = RELAYED_CHILDREN.iter().filter_map(|tag| message.get_optional_child(tag).cloned());
        let all: Vec<Node> = encs.into_iter().chain(identity).chain(others).collect();
        Some(stanza.children(all).build())
    }

    fn in_group(&self, stanza: NodeBuilder, sender: &DeviceRef, group: &str) -> Option<NodeBuilder> {
        let (group, account) = (self.groups.get(group)?, self.accounts.get(&sender.phone)?);
        let stanza = stanza
            .attr("from", group.jid())
            .attr("participant", self.jid_of_device(sender, group.addressing)?)
            .attr("addressing_mode", group.addressing_mode());
        Some(match group.addressing {
            Addressing::Pn => stanza.attr("participant_lid", account.lid_jid()),
            Addressing::Lid if account.number_hidden => stanza,
            Addressing::Lid => stanza.attr("participant_pn", account.pn_jid()),
        })
    }

    fn between_people(
        &self,
        stanza: NodeBuilder,
        sender: &DeviceRef,
        other: &str,
        owner: &str,
        named: &Jid,
    ) -> Option<NodeBuilder> {
        let account = self.accounts.get(&sender.phone)?;
        let addressing = if named.is_lid() { Addressing::Lid } else { Addressing::Pn };
        let stanza = stanza.attr("from", self.jid_of_device(sender, addressing)?);
        if owner != sender.phone {
            return Some(match addressing {
                Addressing::Lid => stanza.attr("sender_pn", account.pn_jid()),
                Addressing::Pn => stanza.attr("sender_lid", account.lid_jid()),
            });
        }
        // A copy for the sender's own device: it learns about the other person, not about itself.
        let recipient = self.accounts.get(other)?;
        Some(match addressing {
            Addressing::Lid => {
                stanza.attr("recipient", recipient.lid_jid()).attr("peer_recipient_pn", recipient.pn_jid())
            }
            Addressing::Pn => {
                stanza.attr("recipient", recipient.pn_jid()).attr("peer_recipient_lid", recipient.lid_jid())
            }
        })
    }
}
