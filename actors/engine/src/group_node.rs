//! Reads the `<group>` node of an answer or of a `<create>` notification. Never does IO.
//!
//! One unreadable part does not spoil the rest. Missing or unknown values, unreadable participants, and groups whose
//! node cannot be read at all are left out. [`Completeness`] and [`AllGroups::unreadable`] say so.
//!
//! Shapes: as the engine's parser reads them (wacore `iq/groups.rs`); that one fails as a whole where this one goes on.

use std::collections::HashSet;

use wacore_binary::{Jid, NodeRef, Server};

use super::ids::{group_id, person_of};
use rookery_model::{AllGroups, CommunityRole, Completeness, GroupRecord, Member, ParticipantIds, Role};
use rookery_model::{GroupId, GroupSettings, ParticipantId, Setting, Who};

/// Every group of a `<groups>` node.
pub(super) fn all_groups(groups: &NodeRef<'_>) -> AllGroups {
    let mut all = AllGroups::default();
    for node in groups.get_children_by_tag("group") {
        match group_record(node) {
            Some(record) => all.groups.push(record),
            None => all.unreadable += 1,
        }
    }
    all
}

/// One group, as far as its node can be read; `None` when the node has no valid group id. People whom WhatsApp refused
/// (`error` on the participant) are not members.
pub(super) fn group_record(node: &NodeRef<'_>) -> Option<GroupRecord> {
    let mut attrs = node.attrs();
    let id = id_of(&attrs.optional_string("id")?)?;
    let subject = attrs.optional_string("subject").map(|subject| subject.into_owned());
    let (members, unreadable) = members(node);
    let completeness = match (&subject, members.is_empty(), unreadable) {
        (None, true, _) => Completeness::Stub,
        (Some(_), false, 0) => Completeness::Whole,
        _ => Completeness::Part,
    };
    let number = |name: &str| node.attrs().optional_string(name).and_then(|number| number.parse().ok());
    let (creator, creator_phone) = (attrs.optional_jid("creator"), attrs.optional_jid("creator_pn"));
    let description = node.get_optional_child("description");
    let lid_addressing = match attrs.optional_string("addressing_mode").as_deref() {
        Some("lid") => true,
        Some("pn") | None => false,
        Some(_) => node.get_children_by_tag("participant").filter_map(jid_of).any(|jid| jid.server == Server::Lid),
    };
    Some(GroupRecord {
        id,
        subject: subject.unwrap_or_default(),
        subject_at: number("s_t").unwrap_or(0),
        description: description.and_then(|node| text_of(node, "body")),
        description_id: description.and_then(|node| Some(node.attrs().optional_string("id")?.into_owned())),
        description_at: description.and_then(|node| node.attrs().optional_string("t")?.parse().ok()).unwrap_or(0),
        owner: person_of([creator.as_ref(), creator_phone.as_ref(), None]),
        created_at: number("creation"),
        settings: settings(node),
        settings_at: [0; Setting::COUNT],
        linked_parent: linked_parent(node),
        is_community: has(node, "parent"),
        community_role: match (has(node, "default_sub_group"), has(node, "general_chat")) {
            (true, _) => CommunityRole::Announcements,
            (_, true) => CommunityRole::GeneralChat,
            _ => CommunityRole::Plain,
        },
        lid_addressing,
        participants_version: number("p_v_id"),
        admins_version: number("a_v_id"),
        members,
        completeness,
        size: (completeness != Completeness::Whole).then(|| number("size")?.try_into().ok()).flatten(),
    })
}

/// Digits, or a whole id.
fn id_of(text: &str) -> Option<GroupId> {
    if text.contains('@') { group_id(&text.parse().ok()?) } else { GroupId::from_user(text).ok() }
}

/// The members, each once, and the number of further participants that cannot be read.
fn members(node: &NodeRef<'_>) -> (Vec<Member>, usize) {
    let (mut members, mut unreadable) = (Vec::<Member>::new(), 0);
    let mut known: HashSet<ParticipantId> = HashSet::new();
    for node in participants(node).filter(|node| node.get_attr("error").is_none()) {
        let Some(person) = participant(node) else {
            unreadable += usize::from(!is_no_person(node));
            continue;
        };
        let role = match node.attrs().optional_string("type").as_deref() {
            Some("admin") => Role::Admin,
            Some("superadmin") => Role::SuperAdmin,
            _ => Role::Member,
        };
        // Not short-circuited: every id has to go into `known`.
        let is_new = person.ids().filter(|id| !known.insert(*id)).count() == 0;
        match members.iter_mut().find(|member| !is_new && member.person.is(&person)) {
            Some(member) => member.person.learn(&person),
            None => members.push(Member { person, role }),
        }
    }
    // Groups are many and rarely grow: no spare capacity is kept.
    members.shrink_to_fit();
    (members, unreadable)
}

/// The person that a `<participant>` node is about, by every id that it gives.
pub(super) fn participant(node: &NodeRef<'_>) -> Option<ParticipantIds> {
    let mut attrs = node.attrs();
    let ids = [attrs.optional_jid("jid"), attrs.optional_jid("phone_number"), attrs.optional_jid("lid")];
    person_of([ids[0].as_ref(), ids[1].as_ref(), ids[2].as_ref()])
}

/// Bots and newsletters are in groups too.
fn is_no_person(node: &NodeRef<'_>) -> bool {
    use Server as S;
    jid_of(node).is_some_and(|jid| !matches!(jid.server, S::Pn | S::Hosted | S::Legacy | S::Lid | S::HostedLid))
}

/// The engine's parser takes the words of modes as strings only; on the wire they are bytes.
fn settings(node: &NodeRef<'_>) -> GroupSettings {
    let who = |tag: &str| text_of(node, tag).and_then(|word| who_may(&word));
    let word = |parent: &NodeRef<'_>, tag: &str, name: &str| {
        Some(parent.get_optional_child(tag)?.attrs().optional_string(name)?.into_owned())
    };
    let state = node.get_optional_child("membership_approval_mode").and_then(|mode| word(mode, "group_join", "state"));
    let of_parent = word(node, "parent", "default_membership_approval_mode");
    let ephemeral = word(node, "ephemeral", "expiration").and_then(|seconds| seconds.parse().ok());
    GroupSettings {
        announce: has(node, "announcement"),
        locked: has(node, "locked"),
        ephemeral_seconds: ephemeral.filter(|seconds| *seconds > 0),
        member_add_mode: who("member_add_mode"),
        membership_approval: state.as_deref() == Some("on") || of_parent.as_deref() == Some("request_required"),
        member_link_mode: who("member_link_mode"),
        member_share_history_mode: who("member_share_group_history_mode"),
        limit_sharing: has(node, "limit_sharing_enabled"),
        no_frequently_forwarded: has(node, "no_frequently_forwarded"),
        allow_admin_reports: has(node, "allow_admin_reports"),
        group_history: has(node, "group_history"),
    }
}

/// `admin_add`, `all_member_add` and their like.
pub(super) fn who_may(word: &str) -> Option<Who> {
    match word.split('_').next()? {
        "admin" => Some(Who::Admins),
        "all" => Some(Who::All),
        _ => None,
    }
}

fn linked_parent(node: &NodeRef<'_>) -> Option<GroupId> {
    group_id(&jid_of(node.get_optional_child("linked_parent")?)?)
}

/// The `<participant>` children of a node.
pub(super) fn participants<'a, 'b: 'a>(node: &'a NodeRef<'b>) -> impl Iterator<Item = &'a NodeRef<'b>> {
    node.get_children_by_tag("participant")
}

/// The `jid` attribute of a node.
pub(super) fn jid_of(node: &NodeRef<'_>) -> Option<Jid> {
    node.attrs().optional_jid("jid")
}

fn has(node: &NodeRef<'_>, tag: &str) -> bool {
    node.get_optional_child(tag).is_some()
}

fn text_of(node: &NodeRef<'_>, tag: &str) -> Option<String> {
    node.get_optional_child(tag)?.content_as_string().map(|text| text.to_string())
}

#[cfg(test)]
mod tests {
    use wacore_binary::Node;
    use wacore_binary::builder::NodeBuilder;

    use super::*;

    fn member(jid: &str) -> NodeBuilder {
        NodeBuilder::new("participant").attr("jid", jid)
    }

    fn read(node: &Node) -> Option<GroupRecord> {
        group_record(&node.as_node_ref())
    }

    fn group() -> NodeBuilder {
        NodeBuilder::new("group").attr("id", "120363000000000001")
    }

    #[test]
    fn what_is_missing_or_unknown_is_left_out() {
        let odd = [
            NodeBuilder::new("ephemeral").attr("expiration", "soon").build(),
            NodeBuilder::new("appeal_status").attr("type", "UNHEARD_OF").build(),
            NodeBuilder::new("suspended").attr("can_auto_file", "perhaps").build(),
            NodeBuilder::new("evolution_version").build(),
            member("15550100001@s.whatsapp.net").attr("type", "emperor").attr("join_time", "noon").build(),
        ];
        let node = group().attr("subject", "Team").attr("addressing_mode", "name").attr("size", "many").children(odd);
        let record = read(&node.build()).unwrap();
        assert_eq!((record.completeness, record.subject.as_str()), (Completeness::Whole, "Team"));
        assert_eq!((record.created_at, record.owner, record.settings.ephemeral_seconds), (None, None, None));
        assert_eq!((record.members.len(), record.members[0].role), (1, Role::Member));
        assert!(!record.lid_addressing);
    }

    #[test]
    fn a_participant_who_cannot_be_read_costs_only_that_participant() {
        let participants = [
            member("15550100001@s.whatsapp.net").build(),
            member("someone@s.whatsapp.net").build(),
            NodeBuilder::new("participant").build(),
            member("867051314767696@bot").build(),
        ];
        let record = read(&group().attr("subject", "Team").children(participants).build()).unwrap();
        assert_eq!((record.members.len(), record.completeness), (1, Completeness::Part));
    }

    #[test]
    fn a_person_who_is_named_twice_is_one_member() {
        let twins = [
            member("15550100001@s.whatsapp.net").attr("lid", "7000000000001@lid").build(),
            member("7000000000001@lid").build(),
            member("15550100001@s.whatsapp.net").attr("error", "409").build(),
        ];
        let record = read(&group().attr("subject", "Team").children(twins).build()).unwrap();
        assert_eq!(record.members.len(), 1);
        assert!(record.members[0].person.phone.is_some() && record.members[0].person.lid.is_some());
    }

    #[test]
    fn a_stub_is_told_from_a_group_without_a_subject() {
        let stub = read(&group().attr("size", "17").build()).unwrap();
        assert_eq!((stub.completeness, stub.size), (Completeness::Stub, Some(17)));
        let nameless = group().children([member("15550100001@s.whatsapp.net").build()]).build();
        assert_eq!(read(&nameless).unwrap().completeness, Completeness::Part);
    }

    #[test]
    fn a_node_that_names_no_group_is_counted_and_the_rest_is_read() {
        let nodes = [
            NodeBuilder::new("group").attr("subject", "Nobody's").build(),
            NodeBuilder::new("group").attr("id", "15550100001@s.whatsapp.net").build(),
            group().build(),
        ];
        let all = NodeBuilder::new("groups").children(nodes).build();
        let all = all_groups(&all.as_node_ref());
        assert_eq!((all.groups.len(), all.unreadable), (1, 2));
    }
}
