//! Idempotency keys of a daemon that is killed with -9.

use std::sync::Arc;

use rookery_simulator::{Fault, FaultKind};
use serde_json::json;

use super::setup::{OWN_PHONE, Setup, groups_of};
use crate::harness::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_still_knows_what_it_answered_and_what_it_had_begun() {
    let setup = Setup::start().await;
    let team = setup.group("Team", &["15550100002"]);
    let path = groups_of("alice", &format!("/{team}/subject"));
    let daemon = Arc::new(setup.daemon().await);
    daemon.link("alice", OWN_PHONE).await;
    let over = json!({ "subject": "Crew" });
    let answered = daemon.try_put_once("over", &path, &over).await.expect("an answer");
    assert_eq!(answered.0, 200, "{answered:?}");

    // The change takes effect at once, but the daemon is killed before it gets the answer.
    setup.world().add_fault(OWN_PHONE, Fault::new(FaultKind::Slow { delay_ms: 60_000 }));
    let cut_off = json!({ "subject": "Lost" });
    let calling = {
        let (daemon, path, body) = (Arc::clone(&daemon), path.clone(), cut_off.clone());
        tokio::spawn(async move { daemon.try_put_once("cut off", &path, &body).await })
    };
    let subject = || setup.world().group(&team).expect("the group exists").subject;
    until("the change at WhatsApp", async || (subject() == "Lost").then_some(())).await;
    daemon.child.kill();
    assert!(calling.await.expect("no panic").is_err(), "it was not answered");

    setup.world().change_subject(&team, "15550100002", "Changed meanwhile").expect("members may");
    let daemon = setup.daemon().await;
    daemon.until_ready_by_itself("alice").await;
    let again = daemon.try_put_once("over", &path, &over).await.expect("an answer");
    assert_eq!(again, answered);
    for (body, status, code) in [(&cut_off, 409, "idempotency_key_interrupted"), (&over, 422, "idempotency_key_reused")]
    {
        let refused = daemon.try_put_once("cut off", &path, body).await.expect("an answer");
        assert_eq!((refused.0, &refused.1["code"]), (status, &json!(code)), "{refused:?}");
    }
    assert_eq!(subject(), "Changed meanwhile", "nothing was carried out twice");
}
