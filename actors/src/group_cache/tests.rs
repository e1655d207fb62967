//! The merge as tables: order of arrival must not matter, reads must not undo, own writes must show.

use super::*;
use rookery_model::{
    AllGroups, CommunityRole, Completeness, GroupAction, GroupEventKind, GroupNotification, GroupSettings, Member,
    NameSource, ParticipantChange, ParticipantId, Role, Setting, Versions,
};

mod pending_writes;
mod random;

const GROUP: &str = "120363000000000001@g.us";
const ME: u64 = 15550100001;
const ALICE: u64 = 15550100002;
const BOB: u64 = 15550100003;

fn id() -> GroupId {
    GROUP.parse().unwrap()
}

fn person(phone: u64) -> ParticipantIds {
    ParticipantId::Phone(phone).into()
}

fn record(members: &[(u64, Role)], participants_version: u64, admins_version: u64) -> GroupRecord {
    GroupRecord {
        id: id(),
        subject: "Team".into(),
        subject_at: 100,
        description: None,
        description_id: None,
        description_at: 0,
        owner: None,
        created_at: Some(1),
        settings: GroupSettings::default(),
        settings_at: [0; Setting::COUNT],
        linked_parent: None,
        is_community: false,
        community_role: CommunityRole::Plain,
        lid_addressing: false,
        participants_version: Some(participants_version),
        admins_version: Some(admins_version),
        members: members.iter().map(|(phone, role)| Member { person: person(*phone), role: *role }).collect(),
        completeness: Completeness::Whole,
        size: None,
    }
}

fn all(groups: Vec<GroupRecord>) -> AllGroups {
    AllGroups { groups, unreadable: 0 }
}

fn cache() -> GroupCache {
    let members = [(ME, Role::SuperAdmin), (ALICE, Role::Member)];
    GroupCache::restore(person(ME), vec![record(&members, 10, 10)], Names::default(), true)
}

fn event(author: u64, versions: Option<(u64, u64)>, action: GroupAction) -> GroupNotification {
    GroupNotification {
        group: id(),
        author: Some(person(author)),
        at: 200,
        versions: versions.map(|(previous, this)| Versions { this, previous: Some(previous) }),
        action,
    }
}

fn promote(previous: u64, this: u64) -> GroupNotification {
    event(BOB, Some((previous, this)), GroupAction::Promoted(vec![person(ALICE)]))
}

fn demote(previous: u64, this: u64) -> GroupNotification {
    event(BOB, Some((previous, this)), GroupAction::Demoted(vec![person(ALICE)]))
}

/// The group as callers see it.
fn shown(cache: &mut GroupCache) -> Option<Group> {
    let tagged = cache.group(&id(), &[])?;
    Some(Group::clone(&tagged.value.unwrap()))
}

fn is_admin(cache: &mut GroupCache, phone: u64) -> Option<bool> {
    let group = shown(cache)?;
    group.participants.iter().find(|p| p.id == ParticipantId::Phone(phone)).map(|p| p.is_admin)
}

#[test]
fn two_hundred_pairs_arrive_inverted_and_the_last_one_counts() {
    let mut cache = cache();
    let events: Vec<GroupNotification> =
        (0..200).flat_map(|n| [promote(10 + 2 * n, 11 + 2 * n), demote(11 + 2 * n, 12 + 2 * n)]).collect();
    for event in events.into_iter().rev() {
        cache.apply_event(event);
    }
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
    assert!(!cache.needs_reads(), "every gap has closed");
}

#[test]
fn an_old_event_changes_nothing_and_a_gap_asks_for_a_read() {
    let mut cache = cache();
    assert!(!cache.apply_event(promote(8, 9)));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
    assert!(cache.apply_event(promote(11, 12)), "11 is missing");
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
    assert_eq!(cache.take_reads(), [id()]);
    let asked = cache.sequence();
    cache.apply_read(&id(), asked, Some(record(&[(ME, Role::SuperAdmin), (ALICE, Role::Admin)], 10, 12)));
    assert_eq!(is_admin(&mut cache, ALICE), Some(true));
    assert!(!cache.needs_reads());
}

#[test]
fn a_read_that_was_asked_before_an_event_does_not_undo_it() {
    let mut cache = cache();
    let asked = cache.sequence();
    cache.apply_event(promote(10, 11));
    cache.apply_event(event(BOB, None, GroupAction::Subject("New".into())));
    cache.apply_read(&id(), asked, Some(record(&[(ME, Role::SuperAdmin), (ALICE, Role::Member)], 10, 10)));
    assert_eq!(is_admin(&mut cache, ALICE), Some(true), "G-1");
    assert_eq!(shown(&mut cache).unwrap().name, "New");
    assert_eq!(cache.take_reads(), [id()], "the older answer is not the last word");
}

#[test]
fn a_group_that_was_left_does_not_come_back_with_an_older_read() {
    let mut cache = cache();
    let asked = cache.sequence();
    cache.left(&id());
    cache.apply_read_all(asked, all(vec![record(&[(ME, Role::Member)], 10, 10)]));
    assert_eq!(shown(&mut cache), None);
    let asked = cache.sequence();
    cache.apply_read_all(asked, all(vec![record(&[(ME, Role::Member)], 11, 10)]));
    assert!(shown(&mut cache).is_some(), "a read that was asked later counts");
}

#[test]
fn our_own_removal_takes_the_group_away() {
    let mut cache = cache();
    cache.apply_event(event(BOB, Some((10, 11)), GroupAction::Removed(vec![person(ME)])));
    assert_eq!(shown(&mut cache), None);
    assert!(cache.unsaved().any(|(unsaved, _)| *unsaved == id()) && cache.record(&id()).is_none());
    assert!(!cache.apply_event(event(BOB, Some((11, 12)), GroupAction::Removed(vec![person(ME)]))));
}

#[test]
fn a_confirmed_write_shows_before_its_echo_and_counts_once() {
    let mut cache = cache();
    let add = PendingChange::Participants(ParticipantChange::Add, vec![person(BOB)]);
    let write = cache.begin_write(&id(), add.clone());
    assert_eq!(is_admin(&mut cache, BOB), None, "not before WhatsApp said so");
    cache.confirm_write(&id(), write, Some(add));
    assert_eq!(is_admin(&mut cache, BOB), Some(false), "G-2");
    cache.apply_event(event(ME, Some((10, 11)), GroupAction::Added(vec![Member::plain(person(BOB))])));
    assert_eq!(shown(&mut cache).unwrap().participants.len(), 3);
    cache.apply_event(event(ALICE, Some((11, 12)), GroupAction::Removed(vec![person(BOB)])));
    assert_eq!(is_admin(&mut cache, BOB), None, "the write is in the record and no longer on top of it");
}

#[test]
fn an_echo_before_the_answer_is_not_applied_again() {
    let mut cache = cache();
    let promoted = PendingChange::Participants(ParticipantChange::Promote, vec![person(ALICE)]);
    let write = cache.begin_write(&id(), promoted.clone());
    cache.apply_event(event(ME, Some((10, 11)), GroupAction::Promoted(vec![person(ALICE)])));
    cache.apply_event(demote(11, 12));
    cache.confirm_write(&id(), write, Some(promoted));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false), "somebody else's later change counts");
}

#[test]
fn an_older_change_of_others_that_comes_late_does_not_hide_our_write() {
    let mut cache = cache();
    let demoted = PendingChange::Participants(ParticipantChange::Demote, vec![person(ALICE)]);
    let write = cache.begin_write(&id(), demoted.clone());
    cache.confirm_write(&id(), write, Some(demoted));
    cache.apply_event(promote(10, 11));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false), "G-2");
    cache.apply_event(event(ME, Some((11, 12)), GroupAction::Demoted(vec![person(ALICE)])));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
    assert!(!cache.needs_reads());
}

#[test]
fn a_write_without_an_echo_is_settled_by_a_read() {
    let mut cache = cache();
    let subject = PendingChange::Subject("Ours".into());
    let write = cache.begin_write(&id(), subject.clone());
    cache.confirm_write(&id(), write, Some(subject));
    cache.mark_unechoed(cache.sequence());
    assert_eq!(cache.take_reads(), [id()]);
    let asked = cache.sequence();
    let mut read = record(&[(ME, Role::SuperAdmin)], 10, 10);
    (read.subject, read.subject_at) = ("Theirs".into(), 300);
    cache.apply_read(&id(), asked, Some(read));
    assert_eq!(shown(&mut cache).unwrap().name, "Theirs");
}

#[test]
fn a_refused_write_leaves_no_trace_and_an_unknown_one_asks_for_a_read() {
    let mut cache = cache();
    for unknown in [false, true] {
        let write = cache.begin_write(&id(), PendingChange::Subject("Ours".into()));
        cache.drop_write(&id(), write, unknown);
        assert_eq!(shown(&mut cache).unwrap().name, "Team");
        assert_eq!(cache.needs_reads(), unknown);
    }
}

#[test]
fn two_subjects_of_one_second_ask_for_a_read() {
    let mut cache = cache();
    cache.apply_event(event(BOB, None, GroupAction::Subject("One".into())));
    assert!(!cache.needs_reads());
    assert!(cache.apply_event(event(BOB, None, GroupAction::Subject("Two".into()))));
}

#[test]
fn an_unknown_group_asks_for_a_read_and_a_new_one_is_taken_whole() {
    let mut cache = GroupCache::restore(person(ME), Vec::new(), Names::default(), true);
    assert!(cache.apply_event(promote(1, 2)));
    assert_eq!(cache.take_reads(), [id()]);
    let created = GroupAction::Created {
        record: Box::new(record(&[(BOB, Role::SuperAdmin), (ME, Role::Member)], 1, 1)),
        key: None,
    };
    assert!(!cache.apply_event(event(BOB, None, created)));
    assert_eq!(cache.summaries().len(), 1);
}

#[test]
fn a_person_known_by_two_ids_is_one_member() {
    let mut cache = cache();
    let lid = ParticipantId::Lid(70_000_000_000_002);
    let mut both = person(ALICE);
    both.learn(&lid.into());
    cache.apply_event(event(BOB, Some((10, 11)), GroupAction::Added(vec![Member::plain(both)])));
    cache.apply_event(event(BOB, Some((10, 11)), GroupAction::Promoted(vec![lid.into()])));
    let group = shown(&mut cache).unwrap();
    assert_eq!(group.participants.len(), 2);
    assert_eq!(is_admin(&mut cache, ALICE), Some(true));
}

#[test]
fn an_unchanged_reading_is_not_written_again() {
    let mut cache = cache();
    let members = [(ME, Role::SuperAdmin), (ALICE, Role::Member)];
    cache.apply_read_all(cache.sequence(), all(vec![record(&members, 10, 10)]));
    assert_eq!(cache.unsaved().count(), 0);
}

#[test]
fn an_event_that_came_before_the_news_of_its_group_asks_for_a_read() {
    let mut cache = GroupCache::restore(person(ME), Vec::new(), Names::default(), true);
    let added = GroupAction::Added(vec![Member::plain(person(ALICE))]);
    assert!(cache.apply_event(event(BOB, Some((1, 2)), added)));
    let created = GroupAction::Created {
        record: Box::new(record(&[(BOB, Role::SuperAdmin), (ME, Role::Member)], 1, 1)),
        key: None,
    };
    assert!(cache.apply_event(event(BOB, None, created)));
    assert_eq!(cache.take_reads(), [id()]);
}

#[test]
fn what_is_heard_of_an_unknown_group_while_it_is_read_asks_for_another_read() {
    let mut cache = GroupCache::restore(person(ME), Vec::new(), Names::default(), true);
    cache.apply_event(promote(1, 2));
    assert_eq!(cache.take_reads(), [id()]);
    let asked = cache.sequence();
    cache.apply_event(event(BOB, None, GroupAction::Unclear));
    cache.apply_read(&id(), asked, Some(record(&[(ME, Role::Member)], 1, 2)));
    assert_eq!(cache.take_reads(), [id()]);
}

#[test]
fn news_of_a_group_that_was_left_meanwhile_is_no_group() {
    let created = || GroupAction::Created {
        record: Box::new(record(&[(BOB, Role::SuperAdmin), (ME, Role::Member)], 1, 1)),
        key: None,
    };
    let mut cache = GroupCache::restore(person(ME), Vec::new(), Names::default(), true);
    cache.apply_event(event(BOB, Some((1, 2)), GroupAction::Removed(vec![person(ME)])));
    assert!(cache.apply_event(event(BOB, None, created())), "a read decides");
    assert_eq!(shown(&mut cache), None);
    let asked = cache.sequence();
    cache.apply_read(&id(), asked, None);
    assert!(!cache.needs_reads());
}

#[test]
fn a_stale_event_is_not_written_again() {
    let mut cache = cache();
    cache.apply_event(promote(8, 9));
    assert_eq!(cache.unsaved().count(), 0);
}

/// The kinds of differences since the last call, with the people they are about.
fn diffs(cache: &mut GroupCache) -> Vec<(GroupEventKind, Vec<ParticipantIds>)> {
    cache.take_diffs().into_iter().map(|diff| (diff.kind, diff.participants)).collect()
}

#[test]
fn a_change_is_news_once_however_it_is_learnt() {
    let mut cache = cache();
    cache.apply_event(promote(10, 11));
    assert_eq!(diffs(&mut cache), [(GroupEventKind::Promote, vec![person(ALICE)])]);
    cache.apply_event(promote(10, 11));
    let asked = cache.sequence();
    let members = [(ME, Role::SuperAdmin), (ALICE, Role::Admin), (BOB, Role::Member)];
    cache.apply_read(&id(), asked, Some(record(&members, 12, 11)));
    assert_eq!(diffs(&mut cache), [(GroupEventKind::Join, vec![person(BOB)])], "the read brought somebody new");
    cache.apply_read_all(asked, all(vec![record(&members, 12, 11)]));
    assert_eq!(diffs(&mut cache), []);
    cache.apply_read_all(cache.sequence(), all(vec![]));
    assert_eq!(diffs(&mut cache), [(GroupEventKind::Leave, vec![person(ME)])]);
}

#[test]
fn an_own_write_and_its_echo_are_news_once_in_either_order() {
    for echo_first in [true, false] {
        let mut cache = cache();
        let change = PendingChange::Participants(ParticipantChange::Promote, vec![person(ALICE)]);
        let write = cache.begin_write(&id(), change.clone());
        let echo = event(ME, Some((10, 11)), GroupAction::Promoted(vec![person(ALICE)]));
        if echo_first {
            cache.apply_event(echo.clone());
        }
        cache.confirm_write(&id(), write, Some(change));
        if !echo_first {
            cache.apply_event(echo);
        }
        let all = cache.take_diffs();
        assert_eq!(all.len(), 1, "echo first: {echo_first}");
        assert_eq!((all[0].kind, all[0].actor), (GroupEventKind::Promote, Some(person(ME))));
    }
}

#[test]
fn an_echo_of_a_promotion_leaves_an_add_of_the_same_person_that_has_none_yet() {
    let mut cache = cache();
    let participants = || vec![person(BOB)];
    for (change, echo) in [
        (ParticipantChange::Add, None),
        (ParticipantChange::Promote, Some(event(ME, Some((10, 11)), GroupAction::Promoted(participants())))),
    ] {
        let change = PendingChange::Participants(change, participants());
        let write = cache.begin_write(&id(), change.clone());
        cache.confirm_write(&id(), write, Some(change));
        if let Some(echo) = echo {
            cache.apply_event(echo);
        }
    }
    assert!(cache.record(&id()).unwrap().members.iter().any(|member| member.person.is(&person(BOB))));
    assert!(cache.is_in_doubt(&id()), "nobody told of an admin who is no member");
}

#[test]
fn notifications_that_waited_for_one_before_them_keep_their_own_authors() {
    let mut cache = cache();
    let by = |author, previous, this, action| event(author, Some((previous, this)), action);
    cache.apply_event(by(BOB, 11, 12, GroupAction::Demoted(vec![person(ALICE)])));
    assert_eq!(diffs(&mut cache), []);
    cache.apply_event(by(ME, 10, 11, GroupAction::Promoted(vec![person(ALICE)])));
    let actors: Vec<_> = cache.take_diffs().into_iter().map(|news| (news.kind, news.actor)).collect();
    assert_eq!(actors, [(GroupEventKind::Promote, Some(person(ME))), (GroupEventKind::Demote, Some(person(BOB)))]);
}

#[test]
fn the_first_look_at_all_groups_is_no_news() {
    let mut cache = GroupCache::restore(person(ME), Vec::new(), Names::default(), false);
    cache.apply_read_all(0, all(vec![record(&[(ME, Role::Member)], 1, 1)]));
    assert_eq!(diffs(&mut cache), []);
    cache.apply_event(event(BOB, Some((1, 2)), GroupAction::Added(vec![Member::plain(person(ALICE))])));
    assert_eq!(diffs(&mut cache), [(GroupEventKind::Join, vec![person(ALICE)])]);
}

#[test]
fn changed_fields_are_told_by_name_with_their_new_values() {
    let mut cache = cache();
    for action in [
        GroupAction::Subject("New".into()),
        GroupAction::Description { id: "A".into(), text: Some("about".into()) },
        GroupAction::Set(Setting::EphemeralSeconds(86_400)),
        GroupAction::Set(Setting::EphemeralSeconds(0)),
        GroupAction::Description { id: "B".into(), text: None },
    ] {
        cache.apply_event(GroupNotification { at: 300 + cache.sequence(), ..event(BOB, None, action) });
    }
    let changes: Vec<_> = cache.take_diffs().into_iter().map(|news| serde_json::json!(news.changes)).collect();
    let expected = serde_json::json!([
        { "name": "New" }, { "description": "about" }, { "ephemeralSeconds": 86_400 }, { "ephemeralSeconds": null },
        { "description": null },
    ]);
    assert_eq!(serde_json::json!(changes), expected);
}

#[test]
fn a_setting_is_merged_by_its_own_time() {
    let mut cache = cache();
    let set = |at, on| GroupNotification { at, ..event(BOB, None, GroupAction::Set(Setting::Announce(on))) };
    cache.apply_event(set(300, true));
    cache.apply_event(set(200, false));
    assert!(shown(&mut cache).unwrap().settings.announce, "an older change counts no longer");
    assert!(cache.apply_event(set(300, false)), "two values of one second cannot be ordered");
    cache.apply_event(GroupNotification { at: 100, ..event(BOB, None, GroupAction::Set(Setting::Locked(true))) });
    assert!(shown(&mut cache).unwrap().settings.locked, "each setting has a time of its own");
}

#[test]
fn a_tag_changes_exactly_when_the_answer_does() {
    let mut cache = cache();
    let tag = |cache: &mut GroupCache| cache.group(&id(), &[]).unwrap().tag;
    let first = tag(&mut cache);
    assert!(cache.group(&id(), &[first]).unwrap().value.is_none(), "known: nothing is built");
    cache.apply_event(promote(10, 11));
    let promoted = tag(&mut cache);
    assert_ne!(promoted, first);
    cache.apply_event(demote(11, 12));
    assert_eq!(tag(&mut cache), first, "the same answer as before");
    cache.names.learn(&person(ALICE), "Alice", NameSource::Push);
    let named = tag(&mut cache);
    assert_ne!(named, first);
    cache.names.learn(&person(BOB), "Bob", NameSource::Push);
    assert_eq!(tag(&mut cache), named, "Bob is not in it");
}

#[test]
fn a_record_survives_the_store_and_takes_little_room_there() {
    let members: Vec<(u64, Role)> = (0..1024).map(|n| (15_550_100_000 + n, Role::Member)).collect();
    let mut whole = record(&members, 10, 10);
    for member in &mut whole.members {
        member.person.lid = std::num::NonZeroU64::new(123_456_789_012_345);
    }
    let stored = serde_json::to_vec(&whole).unwrap();
    assert!(stored.len() < 1024 * 40, "{} bytes", stored.len());
    assert_eq!(serde_json::from_slice::<GroupRecord>(&stored).unwrap(), whole);
    assert!(size_of::<Member>() <= 32, "the budget for a cached participant");
}

#[test]
fn of_two_writes_of_one_field_the_later_shows_whichever_a_read_settles_first() {
    let mut cache = cache();
    let mut settings = GroupSettings::default();
    let confirm = |cache: &mut GroupCache, on| {
        let change = PendingChange::Setting(Setting::LimitSharing(on));
        let write = cache.begin_write(&id(), change.clone());
        cache.confirm_write(&id(), write, Some(change));
    };
    confirm(&mut cache, true);
    confirm(&mut cache, false);
    let asked = cache.sequence();
    // Something else changes meanwhile: the read's settings are not taken, and the record still has the first value.
    cache.apply_event(promote(10, 11));
    settings.apply(Setting::LimitSharing(false));
    let read = GroupRecord { settings, ..record(&[(ME, Role::SuperAdmin), (ALICE, Role::Member)], 10, 10) };
    cache.apply_read(&id(), asked, Some(read));
    assert!(!shown(&mut cache).unwrap().settings.limit_sharing, "G-2");
}
