//! Linking a client, and logging in again.

use crate::support::{Session, simulator};
use rookery_simulator::AccountSpec;

const ALICE: &str = "15550100001";

#[tokio::test]
async fn a_scanned_client_gets_the_phones_keys_and_name_and_is_connected() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.add_account(AccountSpec { name: Some("Alice".into()), ..AccountSpec::new(ALICE) });

    let session = Session::linked(&simulator, ALICE).await;

    assert_eq!(session.client.push_name(), "Alice");
    assert_eq!(session.client.pn().map(|jid| jid.user.to_string()).as_deref(), Some(ALICE));
    assert_eq!(world.live_connections(ALICE), 1);
    assert_eq!(world.live_connections_max(ALICE), 1);
    session.stop().await;
}
