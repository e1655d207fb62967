//! Asking to be let in, and being invited by a message.

use rookery_simulator::{
    AccountSpec, Addable, Addressing, GroupSpec, GroupView, JoinMethod, ParticipantChange, Setting, Simulator,
};
use whatsapp_rust::{Jid, JoinGroupResult};

use crate::support::{Session, code_of, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
const CAROL: &str = "15550100003";
const DAVE: &str = "15550100004";

async fn with_approval(addressing: Addressing) -> (Simulator, Session, Jid) {
    let simulator = simulator().await;
    let world = simulator.world();
    world.phone(CAROL);
    let spec = GroupSpec { participants: vec![BOB.into()], addressing, ..GroupSpec::new("Team", ALICE) };
    let gid = world.add_group(spec);
    world.change_setting(&gid, ALICE, Setting::Approval(true)).expect("set");
    let session = Session::linked(&simulator, ALICE).await;
    (simulator, session, gid.parse().expect("a JID"))
}

fn group(simulator: &Simulator, id: &Jid) -> GroupView {
    simulator.world().group(&id.to_string()).expect("there")
}

fn waiting(view: &GroupView) -> Vec<&str> {
    view.join_requests.iter().map(|request| request.phone.as_str()).collect()
}

fn members(view: &GroupView) -> Vec<&str> {
    view.participants.iter().map(|member| member.phone.as_str()).collect()
}

#[tokio::test]
async fn who_follows_the_link_waits_until_an_admin_approves() {
    let (simulator, admin, id) = with_approval(Addressing::Lid).await;
    let carol = Session::linked(&simulator, CAROL).await;
    let code = group(&simulator, &id).invite_code;

    let joined = carol.client.groups().join_with_invite_code(&code).await.expect("asked");

    assert_eq!(joined, JoinGroupResult::PendingApproval(id.clone()));
    assert_eq!(waiting(&group(&simulator, &id)), [CAROL]);
    admin.notified("created_membership_requests").await;
    let listed = admin.client.groups().get_membership_requests(&id).await.expect("listed");
    assert!(listed[0].jid.is_lid() && listed[0].request_time.is_some());

    let before = group(&simulator, &id).participant_version;
    let results = admin.client.groups().approve_membership_requests(&id, &[listed[0].jid.clone()]).await;
    assert!(results.expect("approved")[0].is_ok());
    carol.notified("create").await;
    admin.notified("add").await;
    let view = group(&simulator, &id);
    assert!(view.join_requests.is_empty() && view.participant_version > before);
    assert_eq!(members(&view), [ALICE, BOB, CAROL]);
    admin.stop().await;
    carol.stop().await;
}

#[tokio::test]
async fn each_decision_has_a_result_of_its_own() {
    let (simulator, admin, id) = with_approval(Addressing::Pn).await;
    let world = simulator.world();
    let gid = id.to_string();
    for phone in [CAROL, DAVE] {
        world.request_to_join(&gid, phone).expect("asked");
    }
    world.set_participants_max(&gid, 3);
    let groups = admin.client.groups();
    let errors = |results: Vec<whatsapp_rust::ParticipantChangeResponse>| {
        results.into_iter().map(|result| result.error).collect::<Vec<_>>()
    };

    let asked = [CAROL, DAVE, BOB, "15550100099"].map(Jid::pn);
    let results = errors(groups.approve_membership_requests(&id, &asked).await.expect("answered"));
    assert_eq!(results, [None, Some("419".into()), Some("409".into()), Some("404".into())]);
    assert_eq!(waiting(&group(&simulator, &id)), [DAVE]);

    let results = errors(groups.reject_membership_requests(&id, &[DAVE, DAVE].map(Jid::pn)).await.expect("answered"));
    assert_eq!(results[0], None);
    assert!(waiting(&group(&simulator, &id)).is_empty());
    admin.notified("revoked_membership_requests").await;
    assert_eq!(members(&group(&simulator, &id)), [ALICE, BOB, CAROL]);
    admin.stop().await;
}

#[tokio::test]
async fn a_request_is_taken_back_by_the_one_who_made_it() {
    let (simulator, admin, id) = with_approval(Addressing::Lid).await;
    let world = simulator.world();
    let carol = Session::linked(&simulator, CAROL).await;
    let code = group(&simulator, &id).invite_code;
    carol.client.groups().join_with_invite_code(&code).await.expect("asked");
    carol.client.groups().join_with_invite_code(&code).await.expect("asked again");
    world.request_to_join(&id.to_string(), DAVE).expect("asked");

    let asked = [CAROL, DAVE].map(Jid::pn);
    let results = carol.client.groups().cancel_membership_requests(&id, &asked).await.expect("answered");

    let errors: Vec<_> = results.iter().map(|result| result.error.as_deref()).collect();
    assert_eq!(errors, [None, Some("404")]);
    admin.notified("revoked_membership_requests").await;
    assert_eq!(waiting(&group(&simulator, &id)), [DAVE]);
    world.cancel_request(&id.to_string(), DAVE).expect("there is a group");
    assert!(waiting(&group(&simulator, &id)).is_empty());
    assert_eq!(code_of(carol.client.groups().get_membership_requests(&id).await), Some(403));
    admin.stop().await;
    carol.stop().await;
}

#[tokio::test]
async fn a_member_who_adds_somebody_only_asks_where_admins_approve() {
    let (simulator, admin, id) = with_approval(Addressing::Lid).await;
    let world = simulator.world();
    world.change_setting(&id.to_string(), ALICE, Setting::MembersAdd(true)).expect("set");
    let member = Session::linked(&simulator, BOB).await;

    let results = member.client.groups().add_participants(&id, &[Jid::pn(CAROL)]).await.expect("answered");

    assert_eq!(results[0].error.as_deref(), Some("421"));
    admin.notified("created_membership_requests").await;
    let again = member.client.groups().add_participants(&id, &[Jid::pn(CAROL)]).await.expect("answered");
    assert_eq!(again[0].error.as_deref(), Some("421"));
    let view = group(&simulator, &id);
    assert_eq!(waiting(&view), [CAROL]);
    let request = &view.join_requests[0];
    assert_eq!((request.requestor.as_str(), request.method), (BOB, JoinMethod::NonAdminAdd));
    world.approve_requests(&id.to_string(), ALICE, &[CAROL]).expect("approved");
    assert_eq!(members(&group(&simulator, &id)), [ALICE, BOB, CAROL]);
    admin.stop().await;
    member.stop().await;
}

#[tokio::test]
async fn an_invitation_is_accepted_once_and_only_while_it_is_valid() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.add_account(AccountSpec { addable: Addable::InviteOnly, ..AccountSpec::new(CAROL) });
    let gid = world.add_group(GroupSpec::new("Team", ALICE));
    let id: Jid = gid.parse().expect("a JID");
    let admin = Session::linked(&simulator, ALICE).await;
    let carol = Session::linked(&simulator, CAROL).await;
    let invite = async || {
        let results = admin.client.groups().add_participants(&id, &[Jid::pn(CAROL)]).await.expect("answered");
        let request = results[0].add_request.clone().expect("an invitation");
        (request.code, i64::try_from(request.expiration).expect("in range"))
    };
    let accept = async |(code, expiration): &(String, i64)| {
        carol.client.groups().join_with_invite_v4(&id, code, *expiration, Jid::pn(ALICE)).await
    };

    let first = invite().await;
    assert_eq!(code_of(accept(&("wrong".into(), first.1)).await), Some(406));
    world.expire_invitations(&gid);
    assert_eq!(code_of(accept(&first).await), Some(410));
    let second = invite().await;
    admin.client.groups().revoke_request_code(&id, &[Jid::pn(CAROL)]).await.expect("revoked");
    assert_eq!(code_of(accept(&second).await), Some(410));
    let third = invite().await;
    assert_eq!(accept(&third).await.expect("accepted"), JoinGroupResult::Joined(id.clone()));
    assert_eq!(members(&group(&simulator, &id)), [ALICE, CAROL]);
    assert_eq!(code_of(accept(&third).await), Some(409));

    // The answer as WhatsApp Web expects it: this version of the client takes it for an error.
    world.change_participants(&gid, ParticipantChange::Remove, ALICE, &[CAROL]).expect("removed");
    world.set_join_answers_bare(true);
    let fourth = invite().await;
    let answer = accept(&fourth).await.expect_err("nothing to parse");
    assert!(format!("{answer:?}").contains("join response"), "{answer:?}");
    assert_eq!(members(&group(&simulator, &id)), [ALICE, CAROL]);
    admin.stop().await;
    carol.stop().await;
}
