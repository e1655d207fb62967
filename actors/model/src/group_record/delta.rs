//! The changes of a group since its record was stored, so that a change of one member need not write a thousand members
//! again. Never does IO.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{GroupRecord, Member};

/// The difference between two records of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupDelta {
    /// CRC-32 of the JSON of the stored record that this delta and earlier ones change. Without that record it is void.
    base: u32,
    /// All fields but the members, where one beside the list versions changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<Box<GroupRecord>>,
    /// Versions of the member list and of the admin list.
    versions: (Option<u64>, Option<u64>),
    /// Members that were added or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::stored_members")]
    put: Vec<Member>,
    /// Members that were removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::stored_members")]
    gone: Vec<Member>,
}

impl GroupDelta {
    /// The delta from `before` to `after`; `None` if no delta gives that. `base`: the checksum of the stored record.
    pub fn between(base: u32, before: &GroupRecord, after: &GroupRecord) -> Option<Self> {
        let (old, new): (HashSet<Member>, HashSet<Member>) =
            (before.members.iter().copied().collect(), after.members.iter().copied().collect());
        let put: Vec<Member> = after.members.iter().copied().filter(|member| !old.contains(member)).collect();
        // A member with other ids or another role than before is replaced by its entry in `put`.
        let is_put = |member: &Member| put.iter().any(|put| put.person.is(&member.person));
        let gone = before.members.iter().copied().filter(|member| !new.contains(member) && !is_put(member)).collect();
        let is_head_same = head_of(before) == head_of(after);
        let delta = Self {
            base,
            head: (!is_head_same).then(|| Box::new(head_of(after))),
            versions: (after.participants_version, after.admins_version),
            put,
            gone,
        };
        let mut changed = before.clone();
        delta.apply(&mut changed);
        (changed == *after).then_some(delta)
    }

    /// Whether the delta changes the stored record with this checksum.
    #[must_use]
    pub fn is_of(&self, base: u32) -> bool {
        self.base == base
    }

    /// Changes a record.
    pub fn apply(&self, record: &mut GroupRecord) {
        let mut members = std::mem::take(&mut record.members);
        if let Some(head) = &self.head {
            *record = GroupRecord::clone(head);
        }
        (record.participants_version, record.admins_version) = self.versions;
        members.retain(|member| !self.gone.iter().any(|gone| gone.person.is(&member.person)));
        for put in &self.put {
            match members.iter_mut().find(|member| member.person.is(&put.person)) {
                Some(member) => *member = *put,
                None => {
                    members.reserve_exact(1);
                    members.push(*put);
                }
            }
        }
        record.members = members;
    }
}

/// A record without its members and their versions.
fn head_of(record: &GroupRecord) -> GroupRecord {
    GroupRecord {
        id: record.id.clone(),
        subject: record.subject.clone(),
        subject_at: record.subject_at,
        description: record.description.clone(),
        description_id: record.description_id.clone(),
        description_at: record.description_at,
        owner: record.owner,
        created_at: record.created_at,
        settings: record.settings.clone(),
        settings_at: record.settings_at,
        linked_parent: record.linked_parent.clone(),
        is_community: record.is_community,
        community_role: record.community_role,
        lid_addressing: record.lid_addressing,
        participants_version: None,
        admins_version: None,
        members: Vec::new(),
        completeness: record.completeness,
        size: record.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParticipantId, ParticipantIds, Role};

    fn member(digits: u64) -> Member {
        Member::plain(ParticipantId::Phone(digits).into())
    }

    fn group(members: impl IntoIterator<Item = u64>) -> GroupRecord {
        let mut record: GroupRecord = serde_json::from_str(r#"{"id":"120363000000000001@g.us"}"#).unwrap();
        record.members = members.into_iter().map(member).collect();
        record
    }

    /// The record after the delta was written, read and applied.
    fn carried_over(before: &GroupRecord, after: &GroupRecord) -> GroupRecord {
        let delta = GroupDelta::between(7, before, after).expect("it can be told");
        let read: GroupDelta = serde_json::from_slice(&serde_json::to_vec(&delta).unwrap()).unwrap();
        assert!(read.is_of(7) && !read.is_of(8));
        let mut record = before.clone();
        read.apply(&mut record);
        record
    }

    #[test]
    fn a_change_of_one_member_is_told_in_few_bytes_and_makes_the_same_record() {
        let before = group(1..=1_024);
        let (mut joined, mut left, mut promoted, mut learnt) =
            (before.clone(), before.clone(), before.clone(), before.clone());
        joined.add(member(2_000));
        joined.participants_version = Some(5);
        left.remove(&member(500).person);
        promoted.members[9].role = Role::Admin;
        learnt.members[9].person.learn(&ParticipantIds::from(ParticipantId::Lid(77)));
        for after in [joined, left, promoted, learnt] {
            assert_eq!(carried_over(&before, &after), after);
            let delta = GroupDelta::between(7, &before, &after).unwrap();
            assert!(serde_json::to_vec(&delta).unwrap().len() < 100, "{delta:?}");
        }
    }

    #[test]
    fn other_fields_are_told_and_an_order_that_cannot_be_is_not() {
        let before = group(1..=3);
        let mut after = before.clone();
        (after.subject, after.subject_at, after.settings.announce) = ("New".into(), 3, true);
        after.remove(&member(1).person);
        assert_eq!(carried_over(&before, &after), after);
        let mut sorted_anew = before.clone();
        sorted_anew.members.reverse();
        assert_eq!(GroupDelta::between(7, &before, &sorted_anew), None);
    }
}
