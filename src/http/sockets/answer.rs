//! What a client in the namespace asks for, and the reply. Sends nothing.

use std::sync::Arc;

use engineioxide::socket::Sid;
use rookery_model::SessionId;
use uuid::Uuid;

use super::message::{ALL_SESSIONS, Asked, Code, Content, Refused, unknown_session};
use super::subscriptions::Kinds;
use super::table::Table;
use crate::app::App;
use crate::http::error::AccessError;
use crate::http::middleware::authorization::find_session;

const NO_MESSAGE: &str =
    "Unknown message type: emit the event `message` with an object whose type is subscribe, unsubscribe or ping";

/// The reply to what a client asks for.
pub(super) fn answer(app: &App, table: &mut Table, client: Sid, asked: Asked) -> Result<Content, Refused> {
    match asked {
        Asked::Ping => Ok(Content::Pong),
        Asked::Other => Err(Refused::new(Code::InvalidMessage, NO_MESSAGE)),
        Asked::Subscribe { session, events } => {
            let named = session.ok_or_else(|| unknown_session(None))?;
            // Read first: what comes later is from after the subscription.
            let now = app.gateway.all_events().latest().map_or(u64::MAX, |latest| *latest.borrow());
            let session = session_to_see(app, table, client, &named)?;
            let may_see = |kind| table.client(client).is_some_and(|client| client.key.may_see(kind));
            let (kinds, events) = Kinds::read(events.as_deref(), may_see)?;
            table.subscribe(client, session, kinds, now)?;
            Ok(Content::Subscribed { session_id: name_of(session), events })
        }
        Asked::Unsubscribe { session } => {
            let named = session.ok_or_else(|| unknown_session(None))?;
            let session = session_to_leave(app, table, client, &named)?;
            table.unsubscribe(client, session);
            Ok(Content::Unsubscribed { session_id: name_of(session) })
        }
    }
}

fn name_of(session: Option<SessionId>) -> String {
    session.map_or_else(|| ALL_SESSIONS.to_owned(), |session| session.to_string())
}

/// The session that a client named, or `None` for all, if its key may see that at this moment.
fn session_to_see(app: &App, table: &mut Table, client: Sid, named: &str) -> Result<Option<SessionId>, Refused> {
    let client = table.client(client).ok_or_else(|| unknown_session(Some(named)))?;
    let key = app.keys.check_again(client.secret.reveal(), client.address).map_err(AccessError::KeyRefused)?;
    client.key = Arc::clone(&key);
    if named != ALL_SESSIONS {
        return Ok(Some(find_session(app, &key, named)?.id));
    }
    if key.is_limited() {
        let message = "An API key that is limited to sessions or groups may not subscribe to *: name a session";
        return Err(Refused::new(Code::ForbiddenSession, message));
    }
    Ok(None)
}

/// The session that a client named, or `None` for all, to end its subscription: also one that is gone, or that its key may not see
/// any more. What the client has nothing of and may not see is as if it were not there.
fn session_to_leave(app: &App, table: &mut Table, client: Sid, named: &str) -> Result<Option<SessionId>, Refused> {
    if named == ALL_SESSIONS {
        return Ok(None);
    }
    if let Ok(id) = Uuid::try_parse(named) {
        return Ok(Some(SessionId(id)));
    }
    let client = table.client(client).ok_or_else(|| unknown_session(Some(named)))?;
    let own = app.gateway.find(named).ok().filter(|session| client.subscriptions.has(*session));
    let found = own.map_or_else(|| find_session(app, &client.key, named).map(|session| session.id), Ok);
    Ok(Some(found?))
}
