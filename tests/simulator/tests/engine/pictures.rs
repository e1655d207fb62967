//! Pictures of groups.

use rookery_simulator::{GroupSpec, Setting};
use whatsapp_rust::prelude::*;
use whatsapp_rust::{Jid, PictureType};

use crate::support::{Session, code_of, http_get, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
/// Enough of a JPEG file for the server.
const JPEG: [u8; 6] = [0xFF, 0xD8, 0xFF, 0xE0, 1, 2];

#[tokio::test]
async fn a_picture_is_set_fetched_and_removed() {
    let simulator = simulator().await;
    let world = simulator.world();
    let gid = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    let id: Jid = gid.parse().expect("a JID");
    let session = Session::linked(&simulator, ALICE).await;
    let member = Session::linked(&simulator, BOB).await;
    let groups = session.client.groups();
    let updated = async |removed| {
        let picture = |event: &Event| match event {
            Event::PictureUpdate(update) if update.removed == removed && update.jid == id => Some(()),
            _ => None,
        };
        session.wait("the picture", picture).await;
        member.wait("the picture", picture).await;
    };

    let none = session.client.contacts().get_profile_picture(&id, false).await.expect("answered with 404");
    assert!(none.is_none());
    let set = groups.set_profile_picture(&id, JPEG.to_vec()).await.expect("set");
    updated(false).await;
    assert_eq!(world.group(&gid).expect("there").picture_id, Some(set.id.clone()));
    let one = member.client.contacts().get_profile_picture(&id, false).await.expect("read").expect("there is one");
    assert_eq!(one.id, set.id);
    assert_eq!(http_get(&one.url).await, JPEG);
    let many = groups.get_profile_pictures(vec![id.clone()], PictureType::Image).await.expect("read");
    assert_eq!((many[0].photo_id.as_ref(), many[0].url.as_ref()), (Some(&set.id), Some(&one.url)));

    groups.remove_profile_picture(&id).await.expect("removed");
    updated(true).await;
    assert_eq!(world.group(&gid).expect("there").picture_id, None);
    world.set_picture(&gid, BOB, Some(JPEG.to_vec())).expect("members may");
    updated(false).await;
    session.stop().await;
    member.stop().await;
}

#[tokio::test]
async fn only_jpeg_of_a_megabyte_and_only_from_those_who_may() {
    let simulator = simulator().await;
    let world = simulator.world();
    let gid = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    let id: Jid = gid.parse().expect("a JID");
    let member = Session::linked(&simulator, BOB).await;
    let groups = member.client.groups();
    let mut large = JPEG.to_vec();
    large.resize(1024 * 1024 + 1, 0);

    assert_eq!(code_of(groups.set_profile_picture(&id, b"GIF89a".to_vec()).await), Some(406));
    assert_eq!(code_of(groups.set_profile_picture(&id, large).await), Some(406));
    world.change_setting(&gid, ALICE, Setting::Locked(true)).expect("set");
    assert_eq!(code_of(groups.set_profile_picture(&id, JPEG.to_vec()).await), Some(403));
    assert_eq!(code_of(groups.set_profile_picture(Jid::group("1"), JPEG.to_vec()).await), Some(404));
    member.stop().await;
}
