//! Writes of ours that no notification has confirmed: what they show, and what ends them. WhatsApp sends no notification
//! for a write that changes nothing.

use super::*;
use rookery_model::{GroupAction, GroupNotification, Member, Role};

use ParticipantChange::{Add, Demote, Promote, Remove};

fn own(change: ParticipantChange) -> PendingChange {
    PendingChange::Participants(change, vec![person(ALICE)])
}

/// A write about Alice that WhatsApp confirmed.
fn write(cache: &mut GroupCache, change: ParticipantChange) {
    let write = cache.begin_write(&id(), own(change));
    cache.confirm_write(&id(), write, Some(own(change)));
}

/// A notification about Alice, by this person.
fn told(author: u64, change: ParticipantChange, previous: u64, this: u64) -> GroupNotification {
    let action = match change {
        Add => GroupAction::Added(vec![Member::plain(person(ALICE))]),
        Remove => GroupAction::Removed(vec![person(ALICE)]),
        Promote => GroupAction::Promoted(vec![person(ALICE)]),
        Demote => GroupAction::Demoted(vec![person(ALICE)]),
    };
    event(author, Some((previous, this)), action)
}

#[test]
fn a_promotion_of_an_admin_does_not_outlive_a_removal_and_an_add() {
    let mut cache = cache();
    write(&mut cache, Promote);
    cache.apply_event(told(ME, Promote, 10, 11));
    write(&mut cache, Promote);
    for (change, previous) in [(Remove, 10), (Add, 11)] {
        write(&mut cache, change);
        cache.apply_event(told(ME, change, previous, previous + 1));
    }
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
}

/// We made Alice an admin, and promote her once more.
fn promoted_twice() -> GroupCache {
    let mut cache = cache();
    write(&mut cache, Promote);
    cache.apply_event(told(ME, Promote, 10, 11));
    write(&mut cache, Promote);
    cache
}

#[test]
fn a_promotion_of_an_admin_does_not_hide_a_demotion_elsewhere() {
    let mut cache = promoted_twice();
    cache.end_unsure(&id(), cache.sequence());
    cache.apply_event(told(BOB, Demote, 11, 12));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false), "G-1");
    assert!(!cache.needs_reads());
}

#[test]
fn a_demotion_elsewhere_right_after_a_promotion_of_an_admin_is_shown_and_told_a_moment_later() {
    let mut cache = promoted_twice();
    let confirmed = cache.sequence();
    cache.apply_event(told(BOB, Demote, 11, 12));
    diffs(&mut cache);
    cache.end_unsure(&id(), confirmed);
    assert_eq!(is_admin(&mut cache, ALICE), Some(false), "G-1");
    assert_eq!(diffs(&mut cache), [(GroupEventKind::Demote, vec![person(ALICE)])]);
}

#[test]
fn two_promotions_that_are_confirmed_before_the_one_notification_end_with_it() {
    let mut cache = cache();
    write(&mut cache, Promote);
    write(&mut cache, Promote);
    assert_eq!(is_admin(&mut cache, ALICE), Some(true), "G-2");
    cache.apply_event(told(ME, Promote, 10, 11));
    cache.apply_event(told(BOB, Demote, 11, 12));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
}

#[test]
fn a_promotion_that_somebody_else_was_faster_with_ends_with_theirs() {
    let mut cache = cache();
    write(&mut cache, Promote);
    cache.apply_event(told(BOB, Promote, 10, 11));
    cache.apply_event(told(BOB, Demote, 11, 12));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
}

#[test]
fn writes_that_change_something_stay_until_their_own_notifications() {
    let mut cache = cache();
    for change in [Promote, Demote, Promote] {
        write(&mut cache, change);
    }
    let expected = [(Promote, 10), (Demote, 11), (Promote, 12)];
    for (change, previous) in expected {
        assert_eq!(is_admin(&mut cache, ALICE), Some(true), "G-2 before {previous}");
        cache.apply_event(told(ME, change, previous, previous + 1));
    }
    assert_eq!(is_admin(&mut cache, ALICE), Some(true));
    cache.apply_event(told(BOB, Demote, 13, 14));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false), "nothing of ours is left on top");
}

#[test]
fn a_notification_about_one_person_leaves_what_is_pending_about_another() {
    let mut cache = cache();
    let both = PendingChange::Participants(Add, vec![person(BOB), person(BOB + 1)]);
    let added = cache.begin_write(&id(), both.clone());
    cache.confirm_write(&id(), added, Some(both));
    let gone = PendingChange::Participants(Remove, vec![person(BOB)]);
    let removed = cache.begin_write(&id(), gone.clone());
    cache.confirm_write(&id(), removed, Some(gone));
    cache.apply_event(event(ME, Some((10, 11)), GroupAction::Added(vec![Member::plain(person(BOB))])));
    cache.apply_event(event(ME, Some((11, 12)), GroupAction::Removed(vec![person(BOB)])));
    assert_eq!((is_admin(&mut cache, BOB), is_admin(&mut cache, BOB + 1)), (None, Some(false)));
}

#[test]
fn a_read_settles_writes_about_people_also_while_the_group_keeps_changing() {
    let mut cache = cache();
    write(&mut cache, Promote);
    let asked = cache.sequence();
    cache.apply_event(event(BOB, None, GroupAction::Subject("New".into())));
    let members = [(ME, Role::SuperAdmin), (ALICE, Role::Member)];
    // We promoted Alice and somebody else demoted her: WhatsApp sent neither notification.
    cache.apply_read(&id(), asked, Some(record(&members, 10, 12)));
    assert_eq!(is_admin(&mut cache, ALICE), Some(false));
}

#[test]
fn a_write_that_a_read_showed_is_shown_also_when_the_cache_could_not_take_the_read() {
    let mut cache = cache();
    let write = cache.begin_write(&id(), own(Promote));
    let asked = cache.sequence();
    cache.apply_event(event(ME, Some((10, 11)), GroupAction::Added(vec![Member::plain(person(BOB))])));
    // The read was asked for before that add, so its participants are not taken; but it shows the promotion.
    cache.apply_read(&id(), asked, Some(record(&[(ME, Role::SuperAdmin), (ALICE, Role::Admin)], 10, 11)));
    cache.confirm_write(&id(), write, Some(own(Promote)));
    assert_eq!(is_admin(&mut cache, ALICE), Some(true), "G-2");
    assert_eq!(is_admin(&mut cache, BOB), Some(false));
}
