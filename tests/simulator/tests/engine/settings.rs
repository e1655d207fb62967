//! The settings of groups.

use std::num::NonZeroU32;

use rookery_simulator::{GroupSpec, GroupView, Setting, Simulator};
use whatsapp_rust::{
    GroupCreateOptions, Jid, MemberAddMode, MemberLinkMode, MemberShareHistoryMode, MembershipApprovalMode,
};

use crate::support::{Session, code_of, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";

async fn with_group() -> (Simulator, Session, Jid) {
    let simulator = simulator().await;
    let gid =
        simulator.world().add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    let session = Session::linked(&simulator, ALICE).await;
    (simulator, session, gid.parse().expect("a JID"))
}

fn group(simulator: &Simulator, id: &Jid) -> GroupView {
    simulator.world().group(&id.to_string()).expect("there")
}

fn flags(view: &GroupView) -> [bool; 10] {
    [
        view.announce,
        view.locked,
        view.approval,
        view.members_add,
        view.members_link,
        view.members_share_history,
        view.limit_sharing,
        view.no_frequently_forwarded,
        view.admin_reports,
        view.group_history,
    ]
}

async fn set_all(session: &Session, id: &Jid, on: bool) {
    let groups = session.client.groups();
    let approval = if on { MembershipApprovalMode::On } else { MembershipApprovalMode::Off };
    let add = if on { MemberAddMode::AllMemberAdd } else { MemberAddMode::AdminAdd };
    let link = if on { MemberLinkMode::AllMemberLink } else { MemberLinkMode::AdminLink };
    let share = if on { MemberShareHistoryMode::AllMemberShare } else { MemberShareHistoryMode::AdminShare };
    groups.set_announce(id, on).await.expect("announce");
    groups.set_locked(id, on).await.expect("locked");
    groups.set_membership_approval(id, approval).await.expect("approval");
    groups.set_member_add_mode(id, add).await.expect("add mode");
    groups.set_member_link_mode(id, link).await.expect("link mode");
    groups.set_member_share_history_mode(id, share).await.expect("share mode");
    groups.set_limit_sharing(id, on).await.expect("limit sharing");
    groups.set_no_frequently_forwarded(id, on).await.expect("forwarding");
    groups.set_allow_admin_reports(id, on).await.expect("reports");
    groups.set_group_history(id, on).await.expect("history");
    let seconds = if on { 86_400 } else { 0 };
    groups.set_ephemeral(id, seconds).await.expect("ephemeral");
}

#[tokio::test]
async fn all_settings_are_set_and_read_back_and_no_version_moves() {
    let (simulator, session, id) = with_group().await;
    let before = group(&simulator, &id);

    set_all(&session, &id, true).await;

    let view = group(&simulator, &id);
    assert_eq!(flags(&view), [true; 10]);
    assert_eq!(view.ephemeral_s, Some(86_400));
    let read = session.client.groups().get_metadata(&id).await.expect("read");
    assert!(read.is_announcement && read.is_locked && read.membership_approval && read.is_limit_sharing_enabled);
    assert!(read.no_frequently_forwarded && read.allow_admin_reports && read.has_group_history);
    assert_eq!(read.ephemeral.and_then(|ephemeral| ephemeral.expiration), NonZeroU32::new(86_400).map(NonZeroU32::get));

    set_all(&session, &id, false).await;

    let view = group(&simulator, &id);
    assert_eq!((flags(&view), view.ephemeral_s), ([false; 10], None));
    let versions = |view: &GroupView| (view.participant_version, view.admin_version);
    assert_eq!(versions(&view), versions(&before));
    session.stop().await;
}

#[tokio::test]
async fn members_are_refused_in_the_words_of_each_namespace() {
    let (simulator, owner, id) = with_group().await;
    let member = Session::linked(&simulator, BOB).await;
    let groups = member.client.groups();

    let refused = groups.set_member_link_mode(&id, MemberLinkMode::AllMemberLink).await.expect_err("for admins");
    assert!(format!("{refused:?}").contains("code=403"), "{refused:?}");
    let unknown = groups.set_limit_sharing(&Jid::group("120363000000000000"), true).await.expect_err("no such group");
    assert!(format!("{unknown:?}").contains("code=404"), "{unknown:?}");
    assert_eq!(code_of(groups.set_group_history(&id, true).await), Some(403));
    assert_eq!(flags(&group(&simulator, &id)), [false; 10]);
    owner.stop().await;
    member.stop().await;
}

#[tokio::test]
async fn the_link_mode_decides_who_sees_the_invite_code() {
    let (simulator, owner, id) = with_group().await;
    let member = Session::linked(&simulator, BOB).await;
    let groups = member.client.groups();
    assert_eq!(code_of(groups.get_invite_link(&id, false).await), Some(401));

    owner.client.groups().set_member_link_mode(&id, MemberLinkMode::AllMemberLink).await.expect("set");

    let link = groups.get_invite_link(&id, false).await.expect("for members now");
    assert!(link.ends_with(&group(&simulator, &id).invite_code));
    assert_eq!(code_of(groups.get_invite_link(&id, true).await), Some(403), "a new one is still for admins");
    owner.stop().await;
    member.stop().await;
}

#[tokio::test]
async fn every_setting_changed_elsewhere_is_notified() {
    let (simulator, session, id) = with_group().await;
    let expected = [
        (Setting::Announce(true), "announcement"),
        (Setting::Locked(true), "locked"),
        (Setting::Ephemeral(Some(604_800)), "ephemeral"),
        (Setting::Ephemeral(None), "not_ephemeral"),
        (Setting::Approval(true), "membership_approval_mode"),
        (Setting::MembersAdd(true), "member_add_mode"),
        (Setting::MembersLink(true), "member_link_mode"),
        (Setting::MembersShareHistory(true), "member_share_group_history_mode"),
        (Setting::LimitSharing(true), "limit_sharing_enabled"),
        (Setting::LimitSharing(false), "limit_sharing_disabled"),
        (Setting::NoFrequentlyForwarded(true), "no_frequently_forwarded"),
        (Setting::AdminReports(true), "allow_admin_reports"),
        (Setting::GroupHistory(true), "group_history"),
    ];
    for (setting, tag) in expected {
        simulator.world().change_setting(&id.to_string(), ALICE, setting).expect("changed");
        session.notified(tag).await;
    }
    let refused = simulator.world().change_setting(&id.to_string(), BOB, Setting::Locked(false));
    assert!(refused.is_err(), "members may not");
    session.stop().await;
}

#[tokio::test]
async fn a_group_is_made_with_its_settings() {
    let simulator = simulator().await;
    let session = Session::linked(&simulator, ALICE).await;
    let options = GroupCreateOptions::builder()
        .subject("Team")
        .member_link_mode(MemberLinkMode::AllMemberLink)
        .member_add_mode(MemberAddMode::AllMemberAdd)
        .membership_approval_mode(MembershipApprovalMode::On)
        .ephemeral_expiration(86_400)
        .build();

    let id = session.client.groups().create_group(options).await.expect("made").metadata.id;

    let view = group(&simulator, &id);
    assert!(view.members_link && view.members_add && view.approval);
    assert_eq!(view.ephemeral_s, Some(86_400));
    session.stop().await;
}
