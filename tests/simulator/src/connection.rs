//! One client's connection: handshake, login or registration, then stanzas in both directions until either side ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use crate::SimulatorError;
use crate::noise::{Client, ServerIdentity};
use crate::requests;
use crate::stanza::{failure, info, leaf, now, stream_conflict, stream_error};
use crate::wire::{Frames, Stanzas};
use crate::world::account::DeviceRef;
use crate::world::{Outbound, Outbox, World};

/// How long a login waits for the end of a connection whose client is gone: its close may still be unread.
/// Two clients that really run at once are both counted after that.
const STALE_CONNECTION_GRACE: Duration = Duration::from_millis(50);
/// WhatsApp restarts the stream one round trip after the link; a client needs that moment to expect it.
const RESTART_DELAY: Duration = Duration::from_millis(25);

/// The client on a connection.
enum Peer {
    /// A client that is not linked.
    Unlinked,
    /// A linked device.
    Device(DeviceRef),
}

/// How a connection ends.
enum End {
    /// In good order.
    Closed,
    /// Without a close.
    Cut,
}

/// Serves one WebSocket until it ends, or `shutdown` changes.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    world: World,
    identity: Arc<ServerIdentity>,
    mut shutdown: watch::Receiver<()>,
) {
    let connection = world.lock().next_id();
    let mut device = None;
    let served = async {
        let Some((mut stanzas, client)) = Stanzas::accept(Frames::new(socket), &identity).await? else { return Ok(()) };
        let (outbox, inbox) = unbounded_channel();
        let result = match enter(&world, connection, &outbox, &client).await? {
            Some(peer) => {
                if let Peer::Device(me) = &peer {
                    device = Some(me.clone());
                }
                run(&world, connection, &peer, &mut stanzas, inbox).await
            }
            None => drain(&mut stanzas, inbox).await,
        };
        if !matches!(result, Ok(End::Cut)) {
            stanzas.close().await;
        }
        result.map(|_| ())
    };
    let result: Result<(), SimulatorError> = tokio::select! {
        result = served => result,
        _ = shutdown.changed() => Ok(()),
    };
    if let Err(error) = result {
        tracing::debug!(connection, %error, "connection ended");
    }
    world.lock().forget_connection(connection, device.as_ref());
}

/// Login or registration. `None`: the client is refused; the reason, if any, is in `outbox`.
async fn enter(
    world: &World,
    connection: u64,
    outbox: &Outbox,
    client: &Client,
) -> Result<Option<Peer>, SimulatorError> {
    if client.payload.username.is_some() {
        let me = login_ref(&client.payload);
        wait_for_stale_connection(world, &me).await;
        return Ok(login(world, connection, outbox, &me, client));
    }
    let registration = client.payload.device_pairing_data.as_option();
    let registration = registration.ok_or_else(|| SimulatorError::protocol("neither a login nor a registration"))?;
    world.lock().register(connection, outbox.clone(), client.noise_key, registration);
    Ok(Some(Peer::Unlinked))
}

fn login_ref(payload: &wa::ClientPayload) -> DeviceRef {
    let device = payload.device.and_then(|device| device.try_into().ok()).unwrap_or(0);
    DeviceRef { phone: payload.username.unwrap_or_default().to_string(), device }
}

async fn wait_for_stale_connection(world: &World, me: &DeviceRef) {
    let connected = || world.lock().device_mut(me).is_some_and(|device| device.is_connected());
    let deadline = tokio::time::Instant::now() + STALE_CONNECTION_GRACE;
    while connected() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(STALE_CONNECTION_GRACE / 10).await;
    }
}

fn login(world: &World, connection: u64, outbox: &Outbox, me: &DeviceRef, client: &Client) -> Option<Peer> {
    let mut state = world.lock();
    if state.closed {
        return None;
    }
    state.count(&me.phone, "login");
    state.count(&me.phone, &format!("handshake:{}", client.pattern));
    let send = |outbound| {
        // This connection itself reads the other end.
        let _ = outbox.send(outbound);
    };
    let known = state.device_mut(me).is_some_and(|device| device.noise_key == client.noise_key);
    let account = state.account_mut(&me.phone).filter(|_| known);
    let Some(account) = account else {
        send(Outbound::Stanzas(vec![failure(401).build()]));
        send(Outbound::Close);
        return None;
    };
    if let Some(refusal) = account.login_refusal() {
        send(Outbound::Stanzas(vec![refusal]));
        send(Outbound::Close);
        return None;
    }
    let mut lid = account.lid_jid();
    lid.device = me.device;
    let name = account.name.clone();
    let device = account.devices.get_mut(&me.device)?;
    let (replaced, connections) = device.connected(connection, outbox.clone());
    account.connections_max = account.connections_max.max(connections);
    if let Some(replaced) = replaced {
        let _ = replaced.send(Outbound::Stanzas(vec![stream_conflict("replaced")]));
        let _ = replaced.send(Outbound::Close);
    }
    let success = NodeBuilder::new("success")
        .attr("t", now().to_string())
        .attr("props", "27")
        .attr("location", "sim")
        .attr("lid", lid)
        .attr("display_name", name);
    send(Outbound::Stanzas(vec![success.build(), edge_routing()]));
    Some(Peer::Device(me.clone()))
}

/// WhatsApp names the data centre that the client shall ask for next time; the client sends it back in clear.
fn edge_routing() -> Node {
    info(NodeBuilder::new("edge_routing").children([leaf("routing_info", *b"sim")]).build())
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    world: &World,
    connection: u64,
    peer: &Peer,
    stanzas: &mut Stanzas<S>,
    mut inbox: UnboundedReceiver<Outbound>,
) -> Result<End, SimulatorError> {
    loop {
        let stanza = tokio::select! {
            outbound = inbox.recv() => match outbound {
                Some(Outbound::Stanzas(nodes)) => {
                    stanzas.send(&nodes).await?;
                    continue;
                }
                Some(Outbound::Close) | None => return Ok(End::Closed),
                Some(Outbound::Cut) => return Ok(End::Cut),
            },
            stanza = stanzas.next() => match stanza? {
                Some(stanza) => stanza,
                None => return Ok(End::Closed),
            },
        };
        match peer {
            Peer::Device(me) => requests::on_stanza(world, connection, me, &stanza),
            Peer::Unlinked => {
                let linked = world.lock().on_stanza_of_unlinked(connection, &stanza);
                if linked {
                    tokio::time::sleep(RESTART_DELAY).await;
                    stanzas.send(&[stream_error(515)]).await?;
                    return Ok(End::Closed);
                }
            }
        }
    }
}

/// Writes the waiting stanzas to a client that is refused.
async fn drain<S: AsyncRead + AsyncWrite + Unpin>(
    stanzas: &mut Stanzas<S>,
    mut inbox: UnboundedReceiver<Outbound>,
) -> Result<End, SimulatorError> {
    while let Ok(Outbound::Stanzas(nodes)) = inbox.try_recv() {
        stanzas.send(&nodes).await?;
    }
    Ok(End::Closed)
}
