//! The merge as tables: order of arrival must not matter, reads must not undo, own writes must show.

use super::*;
use crate::model::{ParticipantChange, ParticipantId};

const GROUP: &str = "120363000000000001@g.us";
const ME: u64 = 15550100001;
const ALICE: u64 = 15550100002;
const BOB: u64 = 15550100003;

fn id() -> GroupId {
    GROUP.parse().unwrap()
}

fn person(phone: u64) -> Person {
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
        linked_parent: None,
        is_community: false,
        lid_addressing: false,
        participants_version: Some(participants_version),
        admins_version: Some(admins_version),
        members: members.iter().map(|(phone, role)| Member { person: person(*phone), role: *role }).collect(),
    }
}

fn cache() -> GroupCache {
    let members = [(ME, Role::SuperAdmin), (ALICE, Role::Member)];
    GroupCache::restore(person(ME), vec![record(&members, 10, 10)])
}

fn event(author: u64, versions: Option<(u64, u64)>, action: GroupAction) -> GroupEvent {
    GroupEvent {
        group: id(),
        author: Some(person(author)),
        at: 200,
        versions: versions.map(|(previous, this)| Versions { this, previous: Some(previous) }),
        action,
    }
}

fn promote(previous: u64, this: u64) -> GroupEvent {
    event(BOB, Some((previous, this)), GroupAction::Promoted(vec![person(ALICE)]))
}

fn demote(previous: u64, this: u64) -> GroupEvent {
    event(BOB, Some((previous, this)), GroupAction::Demoted(vec![person(ALICE)]))
}

fn is_admin(cache: &GroupCache, phone: u64) -> Option<bool> {
    let group = cache.group(&id())?;
    group.participants.iter().find(|p| p.id == ParticipantId::Phone(phone)).map(|p| p.is_admin)
}

#[test]
fn two_hundred_pairs_arrive_inverted_and_the_last_one_counts() {
    let mut cache = cache();
    let events: Vec<GroupEvent> =
        (0..200).flat_map(|n| [promote(10 + 2 * n, 11 + 2 * n), demote(11 + 2 * n, 12 + 2 * n)]).collect();
    for event in events.into_iter().rev() {
        cache.apply_event(event);
    }
    assert_eq!(is_admin(&cache, ALICE), Some(false));
    assert!(!cache.needs_reads(), "every gap has closed");
}

#[test]
fn an_old_event_changes_nothing_and_a_gap_asks_for_a_read() {
    let mut cache = cache();
    assert!(!cache.apply_event(promote(8, 9)));
    assert_eq!(is_admin(&cache, ALICE), Some(false));
    assert!(cache.apply_event(promote(11, 12)), "11 is missing");
    assert_eq!(is_admin(&cache, ALICE), Some(false));
    assert_eq!(cache.take_reads(), [id()]);
    let asked = cache.sequence();
    cache.apply_read(&id(), asked, Some(record(&[(ME, Role::SuperAdmin), (ALICE, Role::Admin)], 10, 12)));
    assert_eq!(is_admin(&cache, ALICE), Some(true));
    assert!(!cache.needs_reads());
}

#[test]
fn a_read_that_was_asked_before_an_event_does_not_undo_it() {
    let mut cache = cache();
    let asked = cache.sequence();
    cache.apply_event(promote(10, 11));
    cache.apply_event(event(BOB, None, GroupAction::Subject("New".into())));
    cache.apply_read(&id(), asked, Some(record(&[(ME, Role::SuperAdmin), (ALICE, Role::Member)], 10, 10)));
    assert_eq!(is_admin(&cache, ALICE), Some(true), "G-1");
    assert_eq!(cache.group(&id()).unwrap().name, "New");
    assert_eq!(cache.take_reads(), [id()], "the older answer is not the last word");
}

#[test]
fn a_group_that_was_left_does_not_come_back_with_an_older_read() {
    let mut cache = cache();
    let asked = cache.sequence();
    cache.left(&id());
    cache.apply_read_all(asked, vec![record(&[(ME, Role::Member)], 10, 10)]);
    assert_eq!(cache.group(&id()), None);
    let asked = cache.sequence();
    cache.apply_read_all(asked, vec![record(&[(ME, Role::Member)], 11, 10)]);
    assert!(cache.group(&id()).is_some(), "a read that was asked later counts");
}

#[test]
fn our_own_removal_takes_the_group_away() {
    let mut cache = cache();
    cache.apply_event(event(BOB, Some((10, 11)), GroupAction::Removed(vec![person(ME)])));
    assert_eq!(cache.group(&id()), None);
    assert_eq!(cache.take_unsaved(), [(id(), None)]);
    assert!(!cache.apply_event(event(BOB, Some((11, 12)), GroupAction::Removed(vec![person(ME)]))));
}

#[test]
fn a_confirmed_write_shows_before_its_echo_and_counts_once() {
    let mut cache = cache();
    let add = OwnChange::Participants(ParticipantChange::Add, vec![person(BOB)]);
    let write = cache.begin_write(&id(), add.clone());
    assert_eq!(is_admin(&cache, BOB), None, "not before WhatsApp said so");
    cache.confirm_write(&id(), write, Some(add));
    assert_eq!(is_admin(&cache, BOB), Some(false), "G-2");
    cache.apply_event(event(ME, Some((10, 11)), GroupAction::Added(vec![Member::plain(person(BOB))])));
    assert_eq!(cache.group(&id()).unwrap().participants.len(), 3);
    cache.apply_event(event(ALICE, Some((11, 12)), GroupAction::Removed(vec![person(BOB)])));
    assert_eq!(is_admin(&cache, BOB), None, "the write is in the record and no longer on top of it");
}

#[test]
fn an_echo_before_the_answer_is_not_applied_again() {
    let mut cache = cache();
    let promoted = OwnChange::Participants(ParticipantChange::Promote, vec![person(ALICE)]);
    let write = cache.begin_write(&id(), promoted.clone());
    cache.apply_event(event(ME, Some((10, 11)), GroupAction::Promoted(vec![person(ALICE)])));
    cache.apply_event(demote(11, 12));
    cache.confirm_write(&id(), write, Some(promoted));
    assert_eq!(is_admin(&cache, ALICE), Some(false), "somebody else's later change counts");
}

#[test]
fn an_older_change_of_others_that_comes_late_does_not_hide_our_write() {
    let mut cache = cache();
    let demoted = OwnChange::Participants(ParticipantChange::Demote, vec![person(ALICE)]);
    let write = cache.begin_write(&id(), demoted.clone());
    cache.confirm_write(&id(), write, Some(demoted));
    cache.apply_event(promote(10, 11));
    assert_eq!(is_admin(&cache, ALICE), Some(false), "G-2");
    cache.apply_event(event(ME, Some((11, 12)), GroupAction::Demoted(vec![person(ALICE)])));
    assert_eq!(is_admin(&cache, ALICE), Some(false));
    assert!(!cache.needs_reads());
}

#[test]
fn a_write_without_an_echo_is_settled_by_a_read() {
    let mut cache = cache();
    let subject = OwnChange::Subject("Ours".into());
    let write = cache.begin_write(&id(), subject.clone());
    cache.confirm_write(&id(), write, Some(subject));
    cache.mark_unechoed(cache.sequence());
    assert_eq!(cache.take_reads(), [id()]);
    let asked = cache.sequence();
    let mut read = record(&[(ME, Role::SuperAdmin)], 10, 10);
    (read.subject, read.subject_at) = ("Theirs".into(), 300);
    cache.apply_read(&id(), asked, Some(read));
    assert_eq!(cache.group(&id()).unwrap().name, "Theirs");
}

#[test]
fn a_refused_write_leaves_no_trace_and_an_unknown_one_asks_for_a_read() {
    let mut cache = cache();
    for unknown in [false, true] {
        let write = cache.begin_write(&id(), OwnChange::Subject("Ours".into()));
        cache.drop_write(&id(), write, unknown);
        assert_eq!(cache.group(&id()).unwrap().name, "Team");
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
    let mut cache = GroupCache::restore(person(ME), Vec::new());
    assert!(cache.apply_event(promote(1, 2)));
    assert_eq!(cache.take_reads(), [id()]);
    let created = GroupAction::Created(Box::new(record(&[(BOB, Role::SuperAdmin), (ME, Role::Member)], 1, 1)));
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
    let group = cache.group(&id()).unwrap();
    assert_eq!(group.participants.len(), 2);
    assert_eq!(is_admin(&cache, ALICE), Some(true));
}

#[test]
fn an_unchanged_reading_is_not_written_again() {
    let mut cache = cache();
    let members = [(ME, Role::SuperAdmin), (ALICE, Role::Member)];
    cache.apply_read_all(cache.sequence(), vec![record(&members, 10, 10)]);
    assert_eq!(cache.take_unsaved(), []);
}

#[test]
fn an_event_that_came_before_the_news_of_its_group_asks_for_a_read() {
    let mut cache = GroupCache::restore(person(ME), Vec::new());
    let added = GroupAction::Added(vec![Member::plain(person(ALICE))]);
    assert!(cache.apply_event(event(BOB, Some((1, 2)), added)));
    let created = GroupAction::Created(Box::new(record(&[(BOB, Role::SuperAdmin), (ME, Role::Member)], 1, 1)));
    assert!(cache.apply_event(event(BOB, None, created)));
    assert_eq!(cache.take_reads(), [id()]);
}

#[test]
fn what_is_heard_of_an_unknown_group_while_it_is_read_asks_for_another_read() {
    let mut cache = GroupCache::restore(person(ME), Vec::new());
    cache.apply_event(promote(1, 2));
    assert_eq!(cache.take_reads(), [id()]);
    let asked = cache.sequence();
    cache.apply_event(event(BOB, None, GroupAction::Unclear));
    cache.apply_read(&id(), asked, Some(record(&[(ME, Role::Member)], 1, 2)));
    assert_eq!(cache.take_reads(), [id()]);
}

#[test]
fn news_of_a_group_that_was_left_meanwhile_is_no_group() {
    let created = || GroupAction::Created(Box::new(record(&[(BOB, Role::SuperAdmin), (ME, Role::Member)], 1, 1)));
    let mut cache = GroupCache::restore(person(ME), Vec::new());
    cache.apply_event(event(BOB, Some((1, 2)), GroupAction::Removed(vec![person(ME)])));
    assert!(cache.apply_event(event(BOB, None, created())), "a read decides");
    assert_eq!(cache.group(&id()), None);
    let asked = cache.sequence();
    cache.apply_read(&id(), asked, None);
    assert!(!cache.needs_reads());
}

#[test]
fn a_stale_event_is_not_written_again() {
    let mut cache = cache();
    cache.apply_event(promote(8, 9));
    assert_eq!(cache.take_unsaved(), []);
}
