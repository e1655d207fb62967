//! Groups through the client, and changes made elsewhere.

use rookery_simulator::{AccountSpec, Addable, Addressing, Echo, GroupSpec, ParticipantChange, Role, World};
use whatsapp_rust::prelude::*;
use whatsapp_rust::{
    GroupCreateOptions, GroupDescription, GroupParticipantOptions, GroupSubject, Jid, PreviousDescription,
};

use crate::support::{Session, code_of, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
const CAROL: &str = "15550100003";
const SHY: &str = "15550100004";
const HERMIT: &str = "15550100005";
const NOBODY: &str = "15550100099";

fn participants(world: &World) {
    for phone in [ALICE, BOB, CAROL] {
        world.add_account(AccountSpec::new(phone));
    }
    world.add_account(AccountSpec { addable: Addable::InviteOnly, ..AccountSpec::new(SHY) });
    world.add_account(AccountSpec { addable: Addable::Nobody, ..AccountSpec::new(HERMIT) });
}

fn roles(world: &World, gid: &str) -> Vec<(String, Role)> {
    let group = world.group(gid).expect("the group is there");
    group.participants.into_iter().map(|member| (member.phone, member.role)).collect()
}

fn has(phone: &str, role: Role) -> (String, Role) {
    (phone.to_owned(), role)
}

#[tokio::test]
async fn a_group_is_made_and_changed_by_its_owner() {
    let simulator = simulator().await;
    let world = simulator.world();
    participants(&world);
    let session = Session::linked(&simulator, ALICE).await;
    let groups = session.client.groups();

    let wanted = [BOB, SHY, NOBODY].map(|phone| GroupParticipantOptions::new(Jid::pn(phone))).to_vec();
    let options = GroupCreateOptions::builder().subject("Team").participants(wanted).build();
    let id = groups.create_group(options).await.expect("the group is made").metadata.id;
    let gid = id.to_string();
    assert_eq!(roles(&world, &gid), [has(ALICE, Role::SuperAdmin), has(BOB, Role::Member)]);

    let results = groups.add_participants(&id, &[CAROL, BOB, SHY, HERMIT, NOBODY].map(Jid::pn)).await.expect("added");
    let codes: Vec<_> = results.iter().map(|result| result.error.as_deref()).collect();
    assert_eq!(codes, [None, Some("409"), Some("403"), Some("403"), Some("404")]);
    let invitable: Vec<_> = results.iter().map(|result| result.add_request.is_some()).collect();
    assert_eq!(invitable, [false, false, true, false, false]);
    groups.promote_participants(&id, &[Jid::pn(BOB)]).await.expect("promoted");
    groups.remove_participants(&id, &[Jid::pn(CAROL)]).await.expect("removed");
    assert_eq!(roles(&world, &gid), [has(ALICE, Role::SuperAdmin), has(BOB, Role::Admin)]);
    groups.demote_participants(&id, &[Jid::pn(BOB)]).await.expect("demoted");
    assert_eq!(roles(&world, &gid)[1], has(BOB, Role::Member));

    groups.set_subject(&id, GroupSubject::new("Renamed").expect("valid")).await.expect("renamed");
    let text = GroupDescription::new("What we do").expect("valid");
    groups.set_description(&id, Some(text.clone()), PreviousDescription::Absent).await.expect("described");
    groups.set_description(&id, Some(text), PreviousDescription::Absent).await.expect_err("the previous id is stale");
    groups.set_announce(&id, true).await.expect("set");
    groups.set_locked(&id, true).await.expect("set");
    let first = groups.get_invite_link(&id, false).await.expect("a link");
    let second = groups.get_invite_link(&id, true).await.expect("a link");
    assert_ne!(first, second);

    let read = groups.get_metadata(&id).await.expect("metadata");
    assert_eq!(read.subject, "Renamed");
    assert_eq!(read.description.as_deref(), Some("What we do"));
    assert_eq!(groups.get_participating().await.expect("listed").len(), 1);
    let view = world.group(&gid).expect("there");
    assert!(view.announce && view.locked && second.ends_with(&view.invite_code));

    groups.leave(&id).await.expect("left");
    assert_eq!(roles(&world, &gid), [has(BOB, Role::Admin)]);
    assert_eq!(code_of(groups.get_metadata(&id).await), Some(403));
    assert!(groups.get_participating().await.expect("listed").is_empty());
    session.stop().await;
}

#[tokio::test]
async fn rights_are_as_whatsapp_has_them() {
    let simulator = simulator().await;
    let world = simulator.world();
    participants(&world);
    let group =
        GroupSpec { participants: vec![BOB.into()], admins: vec![CAROL.into()], ..GroupSpec::new("Team", ALICE) };
    let gid = world.add_group(group);
    let id: Jid = gid.parse().expect("a JID");
    let member = Session::linked(&simulator, BOB).await;
    let admin = Session::linked(&simulator, CAROL).await;

    let groups = member.client.groups();
    assert_eq!(code_of(groups.add_participants(&id, &[Jid::pn(SHY)]).await), Some(403));
    assert_eq!(code_of(groups.get_invite_link(&id, false).await), Some(401));
    groups.set_subject(&id, GroupSubject::new("By a member").expect("valid")).await.expect("not locked");
    world.change_locked(&gid, ALICE, true).expect("locked");
    assert_eq!(code_of(groups.set_subject(&id, GroupSubject::new("No").expect("valid")).await), Some(403));
    assert_eq!(code_of(groups.get_metadata(&Jid::group("120363000000000000")).await), Some(404));

    let results = admin.client.groups().demote_participants(&id, &[Jid::pn(ALICE)]).await.expect("answered");
    assert_eq!(results[0].error.as_deref(), Some("405"));
    member.stop().await;
    admin.stop().await;
}

#[tokio::test]
async fn participants_are_named_as_the_group_addresses_them() {
    let simulator = simulator().await;
    let world = simulator.world();
    participants(&world);
    let session = Session::linked(&simulator, ALICE).await;
    for addressing in [Addressing::Pn, Addressing::Lid] {
        let group = GroupSpec { participants: vec![BOB.into()], addressing, ..GroupSpec::new("Team", ALICE) };
        let id: Jid = world.add_group(group).parse().expect("a JID");

        let read = session.client.groups().get_metadata(&id).await.expect("metadata");

        assert!(read.participants.iter().all(|person| person.jid.is_lid() == (addressing == Addressing::Lid)));
        let phones: Vec<_> = read.participants.iter().filter_map(|person| person.phone_number.clone()).collect();
        assert_eq!(phones.len(), if addressing == Addressing::Lid { 2 } else { 0 });
    }
    session.stop().await;
}

#[tokio::test]
async fn changes_made_elsewhere_arrive_with_linked_versions() {
    let simulator = simulator().await;
    let world = simulator.world();
    participants(&world);
    let gid = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    let session = Session::linked(&simulator, BOB).await;
    let before = world.group(&gid).expect("there");

    world.change_participants(&gid, ParticipantChange::Promote, ALICE, &[BOB]).expect("promoted");
    let versions = session.wait("the promotion", |event| action(event, "promote")).await;

    let after = world.group(&gid).expect("there");
    assert_eq!(versions, (after.admin_version.to_string(), before.admin_version.to_string()));

    // While the client is away, notifications wait for it.
    let store = session.stop().await;
    world.change_participants(&gid, ParticipantChange::Demote, ALICE, &[BOB]).expect("demoted");
    let session = Session::resume(&simulator, store).await;
    session.wait("the demotion", |event| action(event, "demote")).await;
    session.stop().await;
}

#[tokio::test]
async fn a_burst_reaches_the_client_whole() {
    let simulator = simulator().await;
    let world = simulator.world();
    participants(&world);
    let gid = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    let session = Session::linked(&simulator, ALICE).await;
    let pair = [(ParticipantChange::Promote, BOB), (ParticipantChange::Demote, BOB)];
    let changes: Vec<_> = pair.iter().copied().cycle().take(100).collect();

    world.burst(&gid, ALICE, &changes).expect("all allowed");

    let mut seen = 0;
    let counted = |event: &Event| {
        seen += usize::from(action(event, "promote").or_else(|| action(event, "demote")).is_some());
        (seen == changes.len()).then_some(())
    };
    session.wait("all of the burst", counted).await;
    session.stop().await;
}

#[tokio::test]
async fn somebody_added_learns_the_whole_group() {
    let simulator = simulator().await;
    let world = simulator.world();
    participants(&world);
    world.set_echo(Echo::Before);
    let gid = world.add_group(GroupSpec::new("Team", ALICE));
    let session = Session::linked(&simulator, BOB).await;

    world.change_participants(&gid, ParticipantChange::Add, ALICE, &[BOB]).expect("added");

    session
        .wait("the group", |event| match event {
            Event::Notification(node) => node.get().get_optional_child_by_tag(&["create", "group"]).map(|_| ()),
            _ => None,
        })
        .await;
    session.stop().await;
}

/// The versions of the action with this tag, when the event is a notification with one.
fn action(event: &Event, tag: &str) -> Option<(String, String)> {
    let Event::Notification(node) = event else { return None };
    let action = node.get().get_optional_child(tag)?;
    let attr = |key| action.get_attr(key).map(|value| value.as_str().into_owned());
    Some((attr("v_id")?, attr("prev_v_id")?))
}
