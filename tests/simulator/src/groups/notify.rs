//! Notifications about groups: what the members' devices learn about a change, the acting device included.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::Outcome;
use crate::stanza::{jid_attr, now};
use crate::world::account::DeviceRef;
use crate::world::group::Group;
use crate::world::{Addressing, Echo, State};

/// The two kinds of notifications there are.
const NOTIFICATION_GROUP: &str = "w:gp2";
const NOTIFICATION_PICTURE: &str = "picture";

/// A notification, and the phone numbers of those whose devices get it.
pub(crate) struct Notice {
    recipients: BTreeSet<String>,
    stanza: Node,
}

/// Who made a change, as a notification names that person.
pub(crate) struct Author {
    jid: Jid,
    /// `None` when the number is hidden.
    number: Option<Jid>,
    name: String,
}

impl State {
    /// A notice about `group` from `author`.
    pub(super) fn notice(
        &mut self,
        group: &str,
        author: &str,
        recipients: impl IntoIterator<Item = String>,
        action: Node,
    ) -> Option<Notice> {
        self.notice_of(NOTIFICATION_GROUP, group, author, recipients, action)
    }

    /// Somebody as the author of a notice about `group`; `None` for somebody without an account.
    pub(crate) fn author_of(&self, group: &str, phone: &str) -> Option<Author> {
        let (group, account) = (self.groups.get(group)?, self.accounts.get(phone)?);
        Some(Author {
            jid: group.jid_of(account),
            number: (group.addressing == Addressing::Pn || !account.number_hidden).then(|| account.pn_jid()),
            name: account.name.clone(),
        })
    }

    /// A notice about `group` from an author that was looked up before, or from WhatsApp itself.
    pub(crate) fn notice_by(
        &mut self,
        group: &str,
        author: Option<Author>,
        recipients: impl IntoIterator<Item = String>,
        action: Node,
    ) -> Option<Notice> {
        self.notice_built(NOTIFICATION_GROUP, group, author, recipients, action)
    }

    fn notice_of(
        &mut self,
        kind: &'static str,
        group: &str,
        author: &str,
        recipients: impl IntoIterator<Item = String>,
        action: Node,
    ) -> Option<Notice> {
        let author = self.author_of(group, author)?;
        self.notice_built(kind, group, Some(author), recipients, action)
    }

    fn notice_built(
        &mut self,
        kind: &'static str,
        group: &str,
        author: Option<Author>,
        recipients: impl IntoIterator<Item = String>,
        action: Node,
    ) -> Option<Notice> {
        let id = self.next_id().to_string();
        let group = self.groups.get(group)?;
        let mut stanza = NodeBuilder::new("notification")
            .attr("from", group.jid())
            .attr("type", kind)
            .attr("id", id)
            .attr("t", now().to_string())
            .attr("addressing_mode", group.addressing_mode());
        if let Some(author) = author {
            stanza = stanza.attr("participant", author.jid).attr("notify", author.name);
            if let Some(number) = author.number {
                stanza = stanza.attr("participant_pn", number);
            }
        }
        let stanza = stanza.children([action]);
        Some(Notice { recipients: recipients.into_iter().collect(), stanza: stanza.build() })
    }

    /// A notice to all members that the picture has changed.
    pub(crate) fn notice_of_picture(&mut self, group: &str, author: &str, action: Node) -> Vec<Notice> {
        let members = self.groups.get(group).map(Group::phones).unwrap_or_default();
        self.notice_of(NOTIFICATION_PICTURE, group, author, members, action).into_iter().collect()
    }

    /// A notice to the admins only.
    pub(super) fn notice_to_admins(&mut self, group: &str, author: &str, action: Node) -> Vec<Notice> {
        let Some(there) = self.groups.get(group) else { return Vec::new() };
        let admins: Vec<String> = there.phones().into_iter().filter(|phone| there.is_admin(phone)).collect();
        self.notice(group, author, admins, action).into_iter().collect()
    }

    /// A notice to all members.
    pub(super) fn notice_to_members(&mut self, group: &str, author: &str, action: Node) -> Vec<Notice> {
        let members = self.groups.get(group).map(Group::phones).unwrap_or_default();
        self.notice(group, author, members, action).into_iter().collect()
    }

    /// Hands notices to all devices they are for, except `acting`; each device gets all of them in one write.
    pub(crate) fn publish(&mut self, notices: &[Notice], acting: Option<&DeviceRef>) {
        let author = notices.first().and_then(|notice| jid_attr(&notice.stanza, "participant"));
        let actor = author.and_then(|author| self.phone_of(&author));
        self.record(actor.as_deref());
        let mut per_device: BTreeMap<(String, u16), Vec<Node>> = BTreeMap::new();
        for notice in notices {
            for device in notice.recipients.iter().flat_map(|phone| self.devices_of(phone)) {
                if acting != Some(&device) {
                    per_device.entry((device.phone, device.device)).or_default().push(notice.stanza.clone());
                }
            }
        }
        for ((phone, device), stanzas) in per_device {
            self.deliver(&DeviceRef { phone, device }, stanzas);
        }
    }

    /// Sends the others their notices at once, and the acting device its answer, with its own notices as [`Echo`] says.
    pub(crate) fn conclude(&mut self, me: &DeviceRef, outcome: Outcome) {
        self.publish(&outcome.notices, Some(me));
        let own = own_notices(me, &outcome);
        if own.is_empty() {
            return self.send(me, vec![outcome.answer]);
        }
        let before = match self.echo {
            Echo::Before => true,
            Echo::After => false,
            Echo::Seeded => self.rng.random(),
            Echo::Never => return self.send(me, vec![outcome.answer]),
        };
        if before {
            self.deliver(me, own);
            self.send(me, vec![outcome.answer]);
        } else {
            self.send(me, vec![outcome.answer]);
            self.deliver(me, own);
        }
    }

    /// As [`State::conclude`], without the answer.
    pub(crate) fn conclude_silently(&mut self, me: &DeviceRef, outcome: &Outcome) {
        self.publish(&outcome.notices, Some(me));
        let own = own_notices(me, outcome);
        if !own.is_empty() && self.echo != Echo::Never {
            self.deliver(me, own);
        }
    }
}

fn own_notices(me: &DeviceRef, outcome: &Outcome) -> Vec<Node> {
    let mine = outcome.notices.iter().filter(|notice| notice.recipients.contains(&me.phone));
    mine.map(|notice| notice.stanza.clone()).collect()
}
