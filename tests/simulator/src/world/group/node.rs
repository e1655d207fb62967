//! How a group looks: on the wire, and to tests. Never changes one.

use std::collections::BTreeMap;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::Group;
use super::telling::ToldAt;
use crate::stanza::{empty, leaf};
use crate::world::Addressing;
use crate::world::account::Account;
use crate::world::suspending::Suspension;
use crate::world::view::{GroupView, JoinRequestView, MemberView, Role};

impl Group {
    /// The id by which this group names somebody.
    pub(crate) fn jid_of(&self, account: &Account) -> Jid {
        match self.addressing {
            Addressing::Pn => account.pn_jid(),
            Addressing::Lid => account.lid_jid(),
        }
    }

    pub(crate) fn addressing_mode(&self) -> &'static str {
        match self.addressing {
            Addressing::Pn => "pn",
            Addressing::Lid => "lid",
        }
    }

    /// A node with both of a person's ids, without a role.
    pub(crate) fn person(&self, tag: &'static str, account: &Account) -> NodeBuilder {
        let person = NodeBuilder::new(tag).attr("jid", self.jid_of(account));
        match self.addressing {
            Addressing::Pn => person.attr("lid", account.lid_jid()),
            Addressing::Lid => self.with_number(person, "phone_number", account),
        }
    }

    /// The phone number beside the id of a person. Groups in LID addressing do not show one that is hidden.
    pub(crate) fn with_number(&self, node: NodeBuilder, key: &'static str, account: &Account) -> NodeBuilder {
        match (self.addressing, account.number_hidden) {
            (Addressing::Lid, true) => node,
            _ => node.attr(key, account.pn_jid()),
        }
    }

    /// `<participant>` with both of a person's ids, without a role.
    pub(crate) fn participant(&self, account: &Account) -> NodeBuilder {
        self.person("participant", account)
    }

    /// `<participant>` of a member, with its role.
    pub(crate) fn member(&self, account: &Account) -> Node {
        let participant = self.participant(account);
        match self.members.get(&account.phone) {
            Some(Role::Admin) => participant.attr("type", "admin"),
            Some(Role::SuperAdmin) => participant.attr("type", "superadmin"),
            _ => participant,
        }
        .build()
    }

    /// `<group>` as metadata queries, lists and create notifications carry it. `refused` are participants that a
    /// create request named and that did not get in.
    pub(crate) fn node(&self, accounts: &BTreeMap<String, Account>, refused: Vec<Node>, at: ToldAt) -> Node {
        self.told(self.whole_node(accounts, refused), at)
    }

    fn whole_node(&self, accounts: &BTreeMap<String, Account>, refused: Vec<Node>) -> Node {
        let members = self.members.keys().filter_map(|phone| accounts.get(phone));
        let mut content: Vec<Node> = members.map(|account| self.member(account)).collect();
        content.extend(refused);
        content.extend(self.settings.nodes());
        content.extend(self.suspension.iter().flat_map(Suspension::nodes));
        content.extend(self.community_nodes());
        content.extend(self.description_node(accounts));
        let mut group = NodeBuilder::new("group")
            .attr("id", self.id.as_str())
            .attr("subject", self.subject.as_str())
            .attr("creation", self.created_at.to_string())
            .attr("addressing_mode", self.addressing_mode())
            .attr("size", self.members.len().to_string())
            .attr("p_v_id", self.participant_version.to_string())
            .attr("a_v_id", self.admin_version.to_string())
            .attr("s_t", self.subject_time.to_string());
        if let Some(creator) = accounts.get(&self.creator) {
            group = self.with_number(group.attr("creator", self.jid_of(creator)), "creator_pn", creator);
        }
        if let Some(owner) = accounts.get(&self.subject_owner) {
            group = self.with_number(group.attr("s_o", self.jid_of(owner)), "s_o_pn", owner);
        }
        group.children(content).build()
    }

    fn community_nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        if let Some(community) = &self.community {
            let parent = NodeBuilder::new("parent");
            nodes.push(match community.closed {
                true => parent.attr("default_membership_approval_mode", "request_required").build(),
                false => parent.build(),
            });
            nodes.extend(community.members_create_groups.then(|| empty("allow_non_admin_sub_group_creation")));
        }
        if let Some(parent) = &self.parent {
            nodes.push(NodeBuilder::new("linked_parent").attr("jid", Jid::group(parent.as_str())).build());
        }
        nodes.extend(self.default_sub_group.then(|| empty("default_sub_group")));
        nodes.extend(self.general_chat.then(|| empty("general_chat")));
        nodes
    }

    fn description_node(&self, accounts: &BTreeMap<String, Account>) -> Option<Node> {
        let description = self.description.as_ref()?;
        let mut node =
            NodeBuilder::new("description").attr("id", description.id.as_str()).attr("t", description.time.to_string());
        if let Some(owner) = accounts.get(&description.owner) {
            node = self.with_number(node.attr("participant", self.jid_of(owner)), "participant_pn", owner);
        }
        Some(node.children([leaf("body", description.body.as_str())]).build())
    }

    pub(crate) fn view(&self, accounts: &BTreeMap<String, Account>) -> GroupView {
        let member = |(phone, role): (&String, &Role)| MemberView {
            phone: phone.clone(),
            lid: accounts.get(phone).map(|account| account.lid.clone()).unwrap_or_default(),
            role: *role,
        };
        let request = |(phone, request): (&String, &super::JoinRequest)| JoinRequestView {
            phone: phone.clone(),
            requestor: request.requestor.clone(),
            method: request.method,
        };
        let settings = &self.settings;
        GroupView {
            id: self.jid().to_string(),
            subject: self.subject.clone(),
            description: self.description.as_ref().map(|description| description.body.clone()),
            announce: settings.announce,
            locked: settings.locked,
            ephemeral_s: settings.ephemeral_s,
            approval: settings.approval,
            members_add: settings.members_add,
            members_link: settings.members_link,
            members_share_history: settings.members_share_history,
            limit_sharing: settings.limit_sharing,
            no_frequently_forwarded: settings.no_frequently_forwarded,
            admin_reports: settings.admin_reports,
            group_history: settings.group_history,
            suspended: self.is_suspended(),
            picture_id: self.picture.as_ref().map(|picture| picture.id.clone()),
            is_community: self.community.is_some(),
            parent: self.parent.as_deref().map(|parent| Jid::group(parent).to_string()),
            default_sub_group: self.default_sub_group,
            general_chat: self.general_chat,
            invite_code: self.invite_code.clone(),
            participants: self.members.iter().map(member).collect(),
            join_requests: self.join_requests.iter().map(request).collect(),
            participant_version: self.participant_version,
            admin_version: self.admin_version,
        }
    }
}
