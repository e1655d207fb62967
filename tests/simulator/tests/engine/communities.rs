//! Communities, and reading many groups at once.

use rookery_simulator::{CommunitySpec, GroupSpec, GroupView, Orphans, World};
use whatsapp_rust::{BatchGroupResult, CreateCommunityOptions, Jid};

use crate::support::{Session, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
const CAROL: &str = "15550100003";

fn jid(gid: &str) -> Jid {
    gid.parse().expect("a JID")
}

fn members(world: &World, gid: &str) -> Vec<String> {
    world.group(gid).expect("there").participants.into_iter().map(|member| member.phone).collect()
}

fn announcements(world: &World, community: &str) -> GroupView {
    world.subgroups(community).into_iter().find(|group| group.default_sub_group).expect("each community has one")
}

#[tokio::test]
async fn a_community_comes_with_its_announcement_group_and_general_chat() {
    let simulator = simulator().await;
    let world = simulator.world();
    let session = Session::linked(&simulator, ALICE).await;
    let options = CreateCommunityOptions {
        closed: true,
        allow_non_admin_sub_group_creation: true,
        ..CreateCommunityOptions::new("Town")
    };

    let made = session.client.community().create(options).await.expect("made").metadata;

    assert!(made.is_parent_group && made.parent_membership_approval_required);
    let gid = made.id.to_string();
    assert!(world.group(&gid).expect("there").is_community);
    assert!(announcements(&world, &gid).announce);
    assert_eq!(world.subgroups(&gid).iter().filter(|group| group.general_chat).count(), 1);
    let participating = session.client.community().get_participating().await.expect("listed");
    assert_eq!(participating.keys().collect::<Vec<_>>(), [&made.id]);
    assert_eq!(session.client.groups().get_participating().await.expect("listed").len(), 3);

    let sub = session.client.community().create_subgroup("Street", &[Jid::pn(BOB)], made.id.clone()).await;
    let sub = sub.expect("made").metadata;
    assert_eq!(sub.parent_group_jid, Some(made.id.clone()));
    let listed = session.client.community().get_subgroups(&made.id).await.expect("listed");
    assert_eq!(listed.len(), 3);
    assert!(listed[0].is_default_sub_group && listed.iter().any(|group| group.is_general_chat));
    assert!(listed.iter().all(|group| group.participant_count == Some(1)), "nobody else has an account: {listed:?}");
    session.stop().await;
}

#[tokio::test]
async fn groups_are_linked_and_unlinked_each_with_a_result() {
    let simulator = simulator().await;
    let world = simulator.world();
    let community = world.add_community(CommunitySpec::new("Town", ALICE));
    let own = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Mine", ALICE) });
    let foreign = world.add_group(GroupSpec { participants: vec![ALICE.into()], ..GroupSpec::new("Carol's", CAROL) });
    let session = Session::linked(&simulator, ALICE).await;
    let bob = Session::linked(&simulator, BOB).await;
    let id = jid(&community);

    let asked = [own.as_str(), foreign.as_str(), "120363000000000000@g.us"].map(jid);
    let linked = session.client.community().link_subgroups(&id, &asked).await.expect("answered");

    assert_eq!(linked.linked_jids, [jid(&own)]);
    let codes: Vec<u32> = linked.failed_groups.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [403, 404]);
    bob.notified("link").await;
    assert_eq!(world.group(&own).expect("there").parent, Some(community.clone()));
    assert_eq!(members(&world, &community), [ALICE, BOB]);
    let announcements = announcements(&world, &community).id;
    assert_eq!(members(&world, &announcements), [ALICE, BOB]);
    let again = session.client.community().link_subgroups(&id, &[jid(&own)]).await.expect("answered");
    assert_eq!(again.failed_groups, [(jid(&own), 409)]);
    let counts = session.client.community().get_subgroup_participant_counts(&id).await.expect("counted");
    assert_eq!(counts, [(jid(&own), 2)]);
    let everybody = session.client.community().get_linked_groups_participants(&id).await.expect("listed");
    assert_eq!(everybody.len(), 2);

    let unlinked = session.client.community().unlink_subgroups(&id, &[jid(&own), jid(&foreign)], true).await;
    let unlinked = unlinked.expect("answered");
    assert_eq!((unlinked.unlinked_jids, unlinked.failed_groups), (vec![jid(&own)], vec![(jid(&foreign), 404)]));
    bob.notified("unlink").await;
    assert_eq!(members(&world, &community), [ALICE]);
    assert_eq!(members(&world, &own), [ALICE, BOB]);
    session.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_member_of_the_community_sees_its_subgroups_and_joins_one() {
    let simulator = simulator().await;
    let world = simulator.world();
    let street = world.add_group(GroupSpec::new("Street", ALICE));
    let spec = CommunitySpec { subgroups: vec![street.clone()], ..CommunitySpec::new("Town", ALICE) };
    let group = GroupSpec { participants: vec![BOB.into()], ..spec.group };
    let community = jid(&world.add_community(CommunitySpec { group, ..spec }));
    let bob = Session::linked(&simulator, BOB).await;

    let seen = bob.client.community().query_linked_group(&community, jid(&street)).await.expect("seen");
    assert_eq!((seen.subject.as_str(), seen.parent_group_jid), ("Street", Some(community.clone())));
    let joined = bob.client.community().join_subgroup(&community, jid(&street)).await.expect("joined");
    assert_eq!(joined.participants.len(), 2);
    assert_eq!(members(&world, &street), [ALICE, BOB]);

    // Leaving the community is leaving all of it.
    bob.client.groups().leave(&community).await.expect("left");
    assert_eq!(members(&world, &street), [ALICE]);
    bob.stop().await;
}

#[tokio::test]
async fn people_are_removed_from_the_community_and_all_its_subgroups() {
    let simulator = simulator().await;
    let world = simulator.world();
    let street = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Street", ALICE) });
    let spec = CommunitySpec { subgroups: vec![street.clone()], ..CommunitySpec::new("Town", ALICE) };
    let community = world.add_community(spec);
    let session = Session::linked(&simulator, ALICE).await;
    assert_eq!(members(&world, &community), [ALICE, BOB]);

    let results = session.client.community().remove_participants(jid(&community), &[Jid::pn(BOB)]).await;

    assert!(results.expect("removed")[0].is_ok());
    for gid in [&community, &street, &announcements(&world, &community).id] {
        assert_eq!(members(&world, gid), [ALICE]);
    }
    session.stop().await;
}

#[tokio::test]
async fn a_deactivated_community_leaves_its_subgroups_behind() {
    let simulator = simulator().await;
    let world = simulator.world();
    let street = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Street", ALICE) });
    let community = world.add_community(CommunitySpec::new("Town", ALICE));
    let announcements = announcements(&world, &community).id;
    let session = Session::linked(&simulator, ALICE).await;
    let bob = Session::linked(&simulator, BOB).await;
    world.link(&community, ALICE, &[&street]).expect("linked");
    bob.notified("link").await;

    session.client.community().deactivate(jid(&community)).await.expect("gone");

    bob.notified("delete").await;
    assert!(world.group(&community).is_none() && world.group(&announcements).is_none());
    assert_eq!(world.group(&street).expect("there").parent, None);
    world.unlink(&community, ALICE, &[&street], Orphans::Keep).expect_err("no such community");
    session.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn many_groups_at_once_come_in_full_cut_short_or_refused() {
    let simulator = simulator().await;
    let world = simulator.world();
    let small = world.add_group(GroupSpec::new("Small", ALICE));
    let participants = vec![BOB.into(), CAROL.into()];
    let large = world.add_group(GroupSpec { participants, ..GroupSpec::new("Large", ALICE) });
    let foreign = world.add_group(GroupSpec::new("Bob's", BOB));
    world.set_batch_participants_max(2);
    let session = Session::linked(&simulator, ALICE).await;

    let asked = [small.as_str(), &large, &foreign, "120363000000000000@g.us"].map(jid).to_vec();
    let answers = session.client.groups().batch_get_info(asked).await.expect("answered");

    assert!(matches!(&answers[0], BatchGroupResult::Full(group) if group.subject == "Small"), "{answers:?}");
    assert!(matches!(&answers[1], BatchGroupResult::Truncated { id, size: Some(3) } if *id == jid(&large)));
    assert!(matches!(&answers[2], BatchGroupResult::Forbidden(id) if *id == jid(&foreign)));
    assert!(matches!(&answers[3], BatchGroupResult::NotFound(_)));
    session.stop().await;
}
