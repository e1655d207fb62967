//! Facts that the engine's own calls do not show: the key of a creation, and the refused people in its answer.

use rookery_simulator::{Echo, GroupSpec, ParticipantChange};
use whatsapp_rust::prelude::*;
use whatsapp_rust::request::InfoQuery;
use whatsapp_rust::wacore::iq::spec::IqSpec;
use whatsapp_rust::wacore_binary::{Node, NodeContent, NodeRef};
use whatsapp_rust::{Jid, NodeBuilder, Server};

use crate::support::{Session, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
const CAROL: &str = "15550100003";
const NOBODY: &str = "15550100099";

struct CreateWithKey;

impl IqSpec for CreateWithKey {
    type Response = Node;

    fn build_iq(&self) -> InfoQuery<'static> {
        let participant = |phone| NodeBuilder::new("participant").attr("jid", Jid::pn(phone)).build();
        let create = NodeBuilder::new("create")
            .attr("subject", "Team")
            .attr("key", "K1")
            .children([BOB, NOBODY].map(participant))
            .build();
        InfoQuery::set("w:g2", Jid::new("", Server::Group), Some(NodeContent::Nodes(vec![create])))
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> Result<Node, anyhow::Error> {
        response.get_optional_child("group").map(|group| group.to_owned()).ok_or_else(|| anyhow::anyhow!("no group"))
    }
}

#[tokio::test]
async fn a_creation_names_the_refused_and_its_key_comes_back() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.set_echo(Echo::After);
    world.phone(BOB);
    let session = Session::linked(&simulator, ALICE).await;

    let group = session.client.execute(CreateWithKey).await.expect("made");

    let errors: Vec<_> = group
        .get_children_by_tag("participant")
        .filter_map(|node| node.attrs.get("error").map(|code| code.as_str().into_owned()))
        .collect();
    assert_eq!(errors, ["404"]);
    let key = |event: &Event| match event {
        Event::Notification(node) => {
            let create = node.get().get_optional_child("create")?;
            create.get_attr("key").map(|key| key.as_str().into_owned())
        }
        _ => None,
    };
    assert_eq!(session.wait("the notification", key).await, "K1");
    session.stop().await;
}

#[tokio::test]
async fn full_groups_and_people_who_left_take_nobody_in_but_a_link_brings_back() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.phone(CAROL);
    let gid = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    let id: Jid = gid.parse().expect("a JID");
    let owner = Session::linked(&simulator, ALICE).await;
    let bob = Session::linked(&simulator, BOB).await;
    let add = async |phone| {
        let results = owner.client.groups().add_participants(&id, &[Jid::pn(phone)]).await.expect("answered");
        results[0].error.clone()
    };

    world.set_participants_max(&gid, 2);
    assert_eq!(add(CAROL).await.as_deref(), Some("419"));
    bob.client.groups().leave(&id).await.expect("left");
    assert_eq!(add(BOB).await.as_deref(), Some("408"));

    let code = world.group(&gid).expect("there").invite_code;
    bob.client.groups().join_with_invite_code(&code).await.expect("joined");
    assert_eq!(world.group(&gid).expect("there").participants.len(), 2);
    bob.client.groups().join_with_invite_code(&code).await.expect_err("a member already");

    world.change_participants(&gid, ParticipantChange::Remove, ALICE, &[BOB]).expect("removed");
    world.revoke_invite(&gid, ALICE).expect("revoked");
    bob.client.groups().join_with_invite_code(&code).await.expect_err("the code is void");
    assert_eq!(add(BOB).await, None);
    owner.stop().await;
    bob.stop().await;
}
