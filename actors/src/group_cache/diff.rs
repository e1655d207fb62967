//! The differences between two states of a group. Notifications, own writes and reads all become events in this one
//! way. So no change is reported twice, and a change that was found late is reported, too. Never does IO.

use serde_json::{Map, Value, json};

use rookery_model::{Completeness, GroupRecord, ParticipantIds, Role};
use rookery_model::{GroupEventKind, GroupId};

/// A change of a group that becomes an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupDiff {
    pub(crate) kind: GroupEventKind,
    pub(crate) group: GroupId,
    pub(crate) participants: Vec<ParticipantIds>,
    /// Who did it, when known.
    pub(crate) actor: Option<ParticipantIds>,
    /// Unix seconds, when known.
    pub(crate) at: Option<u64>,
    /// New values by field.
    pub(crate) changes: Option<Map<String, Value>>,
    /// The values before, of the same fields; `null`: there was none.
    pub(crate) before: Map<String, Value>,
    /// Found by a read of the group, or learnt of without a cause.
    pub(crate) is_reconciled: bool,
}

impl GroupDiff {
    /// Leaves out fields whose change is no event, and says whether any change is left.
    pub(super) fn is_left_without(&mut self, fields: &[&str]) -> bool {
        match &mut self.changes {
            Some(changes) if !fields.is_empty() => {
                changes.retain(|name, _| !fields.contains(&name.as_str()));
                self.before.retain(|name, _| !fields.contains(&name.as_str()));
                !changes.is_empty()
            }
            _ => true,
        }
    }
}

/// The author and the time of a change, as far as known.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Cause {
    pub(super) actor: Option<ParticipantIds>,
    pub(super) at: Option<u64>,
}

/// The differences of a group that was `before` and is `after`; `None` where our account, `me`, is not in it.
pub(super) fn between(
    before: Option<&GroupRecord>,
    after: Option<&GroupRecord>,
    me: &ParticipantIds,
    cause: Cause,
) -> Vec<GroupDiff> {
    let Some(group) = after.or(before).map(|record| record.id.clone()) else { return Vec::new() };
    let diff = |kind, participants, changes: Option<Changes>| {
        let (changes, before) = changes.map_or((None, Map::new()), |changes| (Some(changes.after), changes.before));
        GroupDiff {
            kind,
            group: group.clone(),
            participants,
            actor: cause.actor,
            at: cause.at,
            changes,
            before,
            is_reconciled: cause.actor.is_none() && cause.at.is_none(),
        }
    };
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (None, Some(_)) => return vec![diff(GroupEventKind::Join, vec![*me], None)],
        _ => return vec![diff(GroupEventKind::Leave, vec![*me], None)],
    };
    let mut all = Vec::new();
    if before.members != after.members {
        for (kind, participants) in member_changes(before, after) {
            if !participants.is_empty() {
                all.push(diff(kind, participants, None));
            }
        }
    }
    // The fields of a stub were not known, so nobody can say that they changed.
    let is_known = before.completeness != Completeness::Stub;
    let changes = if is_known { field_changes(before, after) } else { Changes::default() };
    if !changes.after.is_empty() {
        all.push(diff(GroupEventKind::Update, Vec::new(), Some(changes)));
    }
    if before.linked_parent != after.linked_parent {
        let kind = if after.linked_parent.is_some() { GroupEventKind::Linked } else { GroupEventKind::Unlinked };
        let mut parent = Changes::default();
        parent.note("linkedParentJID", json!(before.linked_parent), json!(after.linked_parent));
        all.push(diff(kind, Vec::new(), Some(parent)));
    }
    all
}

fn member_changes(before: &GroupRecord, after: &GroupRecord) -> [(GroupEventKind, Vec<ParticipantIds>); 4] {
    let (old, new) = (Index::of(before), Index::of(after));
    let is_admin = |role| role != Role::Member;
    // Somebody who is missing in a list that is not whole may have been in the group all the time.
    let is_partly = |record: &GroupRecord| matches!(record.completeness, Completeness::Part | Completeness::Stub);
    let (mut joined, mut promoted, mut demoted) = (Vec::new(), Vec::new(), Vec::new());
    for member in &after.members {
        match old.role(&member.person).map(|role| (is_admin(role), is_admin(member.role))) {
            None if is_partly(before) => {}
            None => joined.push(member.person),
            Some((false, true)) => promoted.push(member.person),
            Some((true, false)) => demoted.push(member.person),
            Some(_) => {}
        }
    }
    let left = before
        .members
        .iter()
        .map(|member| member.person)
        .filter(|person| !is_partly(after) && new.role(person).is_none());
    [
        (GroupEventKind::Join, joined),
        (GroupEventKind::Leave, left.collect()),
        (GroupEventKind::Promote, promoted),
        (GroupEventKind::Demote, demoted),
    ]
}

/// Members by each of their ids, sorted: the same person may be known by more ids later.
struct Index(Vec<(u64, Role)>);

impl Index {
    fn of(record: &GroupRecord) -> Self {
        let ids = record.members.iter().flat_map(|member| Self::keys(&member.person).map(|key| (key, member.role)));
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable_by_key(|(key, _)| *key);
        Self(ids)
    }

    fn role(&self, person: &ParticipantIds) -> Option<Role> {
        Self::keys(person).find_map(|key| {
            let at = self.0.binary_search_by_key(&key, |(known, _)| *known).ok()?;
            Some(self.0[at].1)
        })
    }

    /// Phone numbers and LIDs are below 2^62: the lowest bit tells them apart.
    fn keys(person: &ParticipantIds) -> impl Iterator<Item = u64> + use<> {
        let phone = person.phone.map(|digits| digits.get() << 1);
        phone.into_iter().chain(person.lid.map(|digits| digits.get() << 1 | 1))
    }
}

/// Values of fields that changed.
#[derive(Default)]
struct Changes {
    after: Map<String, Value>,
    before: Map<String, Value>,
}

impl Changes {
    fn note(&mut self, name: &str, before: Value, after: Value) {
        if before != after {
            self.before.insert(name.to_owned(), before);
            self.after.insert(name.to_owned(), after);
        }
    }
}

fn field_changes(before: &GroupRecord, after: &GroupRecord) -> Changes {
    let mut changes = Changes::default();
    if before.subject != after.subject {
        changes.note("name", json!(before.subject), json!(after.subject));
    }
    if before.description != after.description {
        changes.note("description", json!(before.description), json!(after.description));
    }
    if before.settings != after.settings {
        let (Value::Object(old), Value::Object(new)) = (json!(before.settings), json!(after.settings)) else {
            return changes;
        };
        for (name, value) in &old {
            changes.note(name, value.clone(), new.get(name).cloned().unwrap_or_default());
        }
        for (name, value) in new.into_iter().filter(|(name, _)| !old.contains_key(name)) {
            changes.note(&name, Value::Null, value);
        }
    }
    changes
}
