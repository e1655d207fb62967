//! Groups that WhatsApp does not send properly, and answers that differ from one server to the next.

use std::collections::BTreeMap;

use rookery_simulator::{
    AccountSpec, Addressing, AnswerIds, Answers, GroupSpec, ParticipantChange, Role, Setting, Simulator, Suspension,
    Telling, ToldAt, ToldChild,
};
use whatsapp_rust::prelude::*;
use whatsapp_rust::{GroupSubject, Jid};

use crate::support::{Session, code_of, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
const CAROL: &str = "15550100003";
const DAVE: &str = "15550100004";

/// Alice's group with Bob in it, and a client of hers.
async fn with_group(addressing: Addressing) -> (Simulator, Session, Jid) {
    let simulator = simulator().await;
    let group = GroupSpec { participants: vec![BOB.into()], addressing, ..GroupSpec::new("Team", ALICE) };
    let gid = simulator.world().add_group(group);
    let session = Session::linked(&simulator, ALICE).await;
    (simulator, session, gid.parse().expect("a JID"))
}

fn child(tag: &str, key: &str, value: &str) -> ToldChild {
    let attributes = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    ToldChild { tag: tag.into(), attributes, content: None }
}

#[tokio::test]
async fn a_group_is_told_as_a_stub_where_it_is_asked_for() {
    let (simulator, session, id) = with_group(Addressing::Lid).await;
    let (world, groups) = (simulator.world(), session.client.groups());

    for at in [ToldAt::Full, ToldAt::Single] {
        let telling = Telling { at: vec![at], stub: true, ..Telling::default() };
        world.set_telling(&id.to_string(), telling).expect("there");

        let full = groups.get_participating().await.expect("listed").remove(&id).expect("in it");
        let single = groups.get_metadata(&id).await.expect("read");

        let (stub, whole) = if at == ToldAt::Full { (full, single) } else { (single, full) };
        assert_eq!((stub.subject.as_str(), stub.participants.len(), stub.size), ("", 0, Some(2)));
        assert_eq!((whole.subject.as_str(), whole.participants.len()), ("Team", 2));
    }
    assert_eq!(world.group(&id.to_string()).expect("there").subject, "Team");
    session.stop().await;
}

#[tokio::test]
async fn attributes_are_missing_or_odd_and_some_make_a_group_unreadable() {
    let (simulator, session, id) = with_group(Addressing::Lid).await;
    let (world, groups) = (simulator.world(), session.client.groups());
    let tell = |telling: Telling| world.set_telling(&id.to_string(), telling).expect("there");

    let without = ["creation", "creator", "creator_pn", "subject"].map(String::from).to_vec();
    tell(Telling { without, ..Telling::default() });
    let read = groups.get_metadata(&id).await.expect("read");
    assert_eq!((read.subject.as_str(), read.creation_time, read.creator), ("", None, None));

    let appeal = vec![child("appeal_status", "type", "in_review"), child("appeal_update_time", "value", "1700000000")];
    tell(Telling { children: appeal, ..Telling::default() });
    groups.get_metadata(&id).await.expect("these are known");

    let mode = BTreeMap::from([("addressing_mode".to_owned(), "carrier_pigeon".to_owned())]);
    let unreadable = [
        Telling { without: vec!["id".into()], ..Telling::default() },
        Telling { attributes: mode, ..Telling::default() },
        Telling { children: vec![child("participant", "type", "admin")], ..Telling::default() },
        Telling { children: vec![child("participant", "jid", "no id at all")], ..Telling::default() },
        Telling { children: vec![child("ephemeral", "expiration", "forever")], ..Telling::default() },
        Telling { children: vec![child("appeal_status", "type", "on_holiday")], ..Telling::default() },
    ];
    for telling in unreadable {
        tell(telling.clone());
        groups.get_metadata(&id).await.expect_err(&format!("{telling:?}"));
        groups.get_participating().await.expect_err(&format!("{telling:?}"));
    }

    tell(Telling::default());
    assert_eq!(groups.get_metadata(&id).await.expect("whole again").subject, "Team");
    session.stop().await;
}

#[tokio::test]
async fn a_hidden_number_is_shown_in_phone_addressed_groups_only() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.add_account(AccountSpec { number_hidden: true, ..AccountSpec::new(BOB) });
    let group = |addressing| GroupSpec { participants: vec![BOB.into()], addressing, ..GroupSpec::new("Team", ALICE) };
    let by_lid: Jid = world.add_group(group(Addressing::Lid)).parse().expect("a JID");
    let by_phone: Jid = world.add_group(group(Addressing::Pn)).parse().expect("a JID");
    let session = Session::linked(&simulator, ALICE).await;

    let read = session.client.groups().get_metadata(&by_lid).await.expect("read");
    let numbers = read.participants.iter().filter(|person| person.phone_number.is_some()).count();
    assert_eq!(numbers, 1, "Alice's own: {:?}", read.participants);

    world.change_subject(&by_lid.to_string(), BOB, "Bob's").expect("changed");
    let is_named = session.wait("Bob's subject", |event| notification(event, "subject")).await;
    assert!(is_named.participant_pn.is_none(), "{is_named:?}");

    let read = session.client.groups().get_metadata(&by_phone).await.expect("read");
    assert!(read.participants.iter().any(|person| person.jid == Jid::pn(BOB)), "{:?}", read.participants);
    session.stop().await;
}

#[tokio::test]
async fn a_new_number_is_told_to_the_groups() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let (simulator, session, id) = with_group(addressing).await;
        let world = simulator.world();
        let before = world.group(&id.to_string()).expect("there");

        world.change_number(BOB, CAROL).expect("free");

        let told = session.wait("the new number", |event| notification(event, "modify")).await;
        let lid = before.participants[1].lid.as_str();
        let (old, new) = match addressing {
            Addressing::Lid => (Jid::lid(lid), Jid::lid(lid)),
            Addressing::Pn => (Jid::pn(BOB), Jid::pn(CAROL)),
        };
        assert_eq!((told.participant, told.child), (Some(old), Some(new)));
        let after = world.group(&id.to_string()).expect("there");
        assert_eq!((after.participants[1].phone.as_str(), after.participants[1].lid.as_str()), (CAROL, lid));
        assert!(after.participant_version > before.participant_version);
        assert!(world.change_number(ALICE, DAVE).is_err(), "a device is linked");
        session.stop().await;
    }
}

#[tokio::test]
async fn answers_name_people_differently_or_not_at_all() {
    let (simulator, session, id) = with_group(Addressing::Pn).await;
    let (world, groups) = (simulator.world(), session.client.groups());
    world.add_account(AccountSpec::new(CAROL));
    let has = |phone: &str| {
        world.group(&id.to_string()).expect("there").participants.iter().any(|member| member.phone == phone)
    };

    world.set_answers(Answers { without: vec![CAROL.into()], ..Answers::default() });
    let answered = groups.add_participants(&id, &[Jid::pn(CAROL)]).await.expect("answered");
    assert!(answered.is_empty() && has(CAROL), "{answered:?}");

    world.set_answers(Answers { ids: AnswerIds::JidOnly, typed: true, ..Answers::default() });
    let lid = Jid::lid(world.group(&id.to_string()).expect("there").participants[2].lid.as_str());
    let answered = groups.promote_participants(&id, std::slice::from_ref(&lid)).await.expect("answered");
    assert_eq!((answered[0].jid.clone(), answered[0].status.as_deref()), (Jid::pn(CAROL), Some("200")));

    world.set_answers(Answers { ids: AnswerIds::LidOnly, ..Answers::default() });
    groups.remove_participants(&id, std::slice::from_ref(&lid)).await.expect_err("whatsapp-rust 0.7.0 needs a `jid`");
    assert!(!has(CAROL));

    world.set_answers(Answers { without: vec![DAVE.into()], ..Answers::default() });
    world.change_setting(&id.to_string(), ALICE, Setting::Approval(true)).expect("set");
    for phone in [CAROL, DAVE] {
        world.request_to_join(&id.to_string(), phone).expect("asked");
    }
    let both = [Jid::pn(CAROL), Jid::pn(DAVE)];
    let answered = groups.approve_membership_requests(&id, &both).await.expect("answered");
    assert_eq!(answered.len(), 1, "{answered:?}");
    assert!(has(CAROL) && has(DAVE));
    session.stop().await;
}

#[tokio::test]
async fn all_members_are_told_of_a_group_that_was_made_elsewhere() {
    let simulator = simulator().await;
    let world = simulator.world();
    let owner = Session::linked(&simulator, ALICE).await;
    let member = Session::linked(&simulator, BOB).await;
    let spec = |subject: &str| GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new(subject, ALICE) };

    let quiet = world.add_group(GroupSpec { quiet: true, ..spec("Unheard") });
    let told = world.add_group(spec("Team"));

    for session in [owner, member] {
        let first = session.wait("a group", |event| notification(event, "create")).await;
        assert_eq!(first.group.to_string(), told, "not {quiet}");
        session.stop().await;
    }
}

#[tokio::test]
async fn a_suspended_group_can_be_read_and_left() {
    let (simulator, session, id) = with_group(Addressing::Lid).await;
    let (world, groups) = (simulator.world(), session.client.groups());
    let appeal = Some("in_review".to_owned());
    let suspension = Suspension { can_auto_file: true, appeal, appeal_updated_at: Some(1_700_000_000) };

    world.set_suspension(&id.to_string(), Some(suspension)).expect("there");
    let told = session.wait("the suspension", |event| notification(event, "suspended")).await;
    assert_eq!(told.participant, None);
    assert!(groups.get_metadata(&id).await.expect("read").is_suspended);
    let renamed = groups.set_subject(&id, GroupSubject::new("New").expect("valid")).await;
    assert_eq!(code_of(renamed), Some(403));
    assert_eq!(code_of(groups.remove_participants(&id, &[Jid::pn(BOB)]).await), Some(403));

    world.set_suspension(&id.to_string(), None).expect("there");
    session.notified("unsuspended").await;
    groups.set_subject(&id, GroupSubject::new("New").expect("valid")).await.expect("as before");
    world.set_suspension(&id.to_string(), Some(Suspension::default())).expect("there");
    groups.leave(&id).await.expect("left");
    session.stop().await;
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_not_told() {
    let (simulator, session, id) = with_group(Addressing::Lid).await;
    let (world, groups, bob) = (simulator.world(), session.client.groups(), [Jid::pn(BOB)]);
    let promoted = groups.promote_participants(&id, &bob).await.expect("answered");
    assert_eq!(promoted[0].error, None);
    session.notified("promote").await;
    let before = world.group(&id.to_string()).expect("there");

    let again = groups.promote_participants(&id, &bob).await.expect("answered");
    let own = groups.promote_participants(&id, &[Jid::pn(ALICE)]).await.expect("answered");
    let added = groups.add_participants(&id, &bob).await.expect("answered");
    assert_eq!([&again, &own, &added].map(|results| results[0].error.as_deref()), [None, None, Some("409")]);
    assert_eq!(world.group(&id.to_string()).expect("there"), before);
    groups.demote_participants(&id, &bob).await.expect("answered");
    session.notified("demote").await;
    let twice = groups.demote_participants(&id, &bob).await.expect("answered");
    assert_eq!(twice[0].error, None);

    world.change_subject(&id.to_string(), BOB, "Last").expect("changed");
    let told = ["promote", "demote", "add", "subject"];
    let next = |event: &Event| told.into_iter().find(|tag| notification(event, tag).is_some());
    assert_eq!(session.wait("anything", next).await, "subject");
    session.stop().await;
}

#[tokio::test]
async fn members_and_holders_of_old_codes_are_answered_as_asked() {
    let (simulator, session, id) = with_group(Addressing::Lid).await;
    let (world, groups, gid) = (simulator.world(), session.client.groups(), id.to_string());
    let code = world.group(&gid).expect("there").invite_code;

    assert_eq!(code_of(groups.join_with_invite_code(&code).await), Some(409));
    world.set_answers(Answers { join_of_member: 304, ..Answers::default() });
    assert_eq!(code_of(groups.join_with_invite_code(&code).await), Some(304));
    world.set_answers(Answers { join_of_member: 200, ..Answers::default() });
    groups.join_with_invite_code(&code).await.expect("as if joined");
    assert_eq!(world.group(&gid).expect("there").participants[0].role, Role::SuperAdmin);

    world.revoke_invite(&gid, ALICE).expect("revoked");
    assert_eq!(code_of(groups.join_with_invite_code(&code).await), Some(410));
    world.set_answers(Answers { revoked_link: 404, ..Answers::default() });
    assert_eq!(code_of(groups.get_invite_info(&code).await), Some(404));

    let addable = rookery_simulator::Addable::InviteOnly;
    world.add_account(AccountSpec { addable, ..AccountSpec::new(CAROL) });
    world.change_participants(&gid, ParticipantChange::Add, ALICE, &[CAROL]).expect_err("invitations only");
    let refused = groups.add_participants(&id, &[Jid::pn(CAROL)]).await.expect("answered");
    let invitation = refused[0].add_request.clone().expect("an invitation").code;
    assert_eq!(invitation.len(), 16);
    assert_eq!(code_of(groups.join_with_invite_code(&invitation).await), Some(406), "no code of a link");
    session.stop().await;
}

/// The parts of a notification that these tests check.
#[derive(Debug)]
struct Told {
    group: Jid,
    participant: Option<Jid>,
    participant_pn: Option<Jid>,
    /// The first person in the action.
    child: Option<Jid>,
}

/// The notification with an action of this tag, when the event is one.
fn notification(event: &Event, tag: &str) -> Option<Told> {
    let Event::Notification(node) = event else { return None };
    let jid = |key| node.get().get_attr(key).and_then(|value| value.to_jid());
    let action = node.get().get_optional_child(tag)?;
    Some(Told {
        group: jid("from")?,
        participant: jid("participant"),
        participant_pn: jid("participant_pn"),
        child: action.get_optional_child("participant").and_then(|person| person.get_attr("jid")?.to_jid()),
    })
}
