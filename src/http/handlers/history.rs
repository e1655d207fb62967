//! The history of a group, as it follows from the session's events: who came, went, was added or removed by whom, and what was
//! set.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use rookery_actors::{CommandError, SessionEvents};
use rookery_model::{Event, EventKind, GroupEventKind, GroupId, ParticipantId, SessionId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::KnownFormat;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};

use crate::app::App;
use crate::auth::Key;
use crate::http::error::ApiError;
use crate::http::request::caller::Caller;
use crate::http::request::event_filter::{After, Cursor, EVENTS_DEFAULT, EVENTS_MAX, Place as _};
use crate::http::request::extract::{GroupPath, SessionPath, number_of, query, query_parameter, time_of, value_of};
use crate::http::request::written::shorten;
use crate::http::response::csv::{table_of, write_row};

const COLUMNS: [&str; 8] = ["sequence", "at", "action", "participantId", "actorId", "field", "before", "after"];
/// Entries that a table fetches at a time.
const TABLE_COUNT: usize = 500;

/// What happened to a group or its participants.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HistoryAction {
    /// They came by themselves, or nobody knows who added them.
    Joined,
    /// Somebody added them.
    Added,
    /// They went by themselves, or nobody knows who removed them.
    Left,
    /// Somebody removed them.
    Removed,
    /// They became admins.
    Promoted,
    /// They are admins no longer.
    Demoted,
    /// They asked to be let in.
    Requested,
    /// Subject, description or settings changed.
    Changed,
    /// The picture was set or removed.
    PictureChanged,
    /// The invite link was replaced.
    InviteRevoked,
    /// The group came into a community.
    Linked,
    /// The group left its community.
    Unlinked,
}

impl HistoryAction {
    const ALL: [Self; 12] = [
        Self::Joined,
        Self::Added,
        Self::Left,
        Self::Removed,
        Self::Promoted,
        Self::Demoted,
        Self::Requested,
        Self::Changed,
        Self::PictureChanged,
        Self::InviteRevoked,
        Self::Linked,
        Self::Unlinked,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Added => "added",
            Self::Left => "left",
            Self::Removed => "removed",
            Self::Promoted => "promoted",
            Self::Demoted => "demoted",
            Self::Requested => "requested",
            Self::Changed => "changed",
            Self::PictureChanged => "picture_changed",
            Self::InviteRevoked => "invite_revoked",
            Self::Linked => "linked",
            Self::Unlinked => "unlinked",
        }
    }

    /// `None`: the event is not about a group.
    fn of(event: &Event) -> Option<Self> {
        let EventKind::Group(kind) = event.kind else { return None };
        let actor = event.actor.map(|actor| actor.to_string());
        let is_by_another = actor.is_some_and(|actor| participants(event).any(|participant| participant != actor));
        Some(match kind {
            GroupEventKind::Join if is_by_another => Self::Added,
            GroupEventKind::Join => Self::Joined,
            GroupEventKind::Leave if is_by_another => Self::Removed,
            GroupEventKind::Leave => Self::Left,
            GroupEventKind::Promote => Self::Promoted,
            GroupEventKind::Demote => Self::Demoted,
            GroupEventKind::JoinRequest => Self::Requested,
            GroupEventKind::Update => Self::Changed,
            GroupEventKind::Picture => Self::PictureChanged,
            GroupEventKind::InviteRevoked => Self::InviteRevoked,
            GroupEventKind::Linked => Self::Linked,
            GroupEventKind::Unlinked => Self::Unlinked,
        })
    }
}

fn participants(event: &Event) -> impl Iterator<Item = &str> {
    event.data.get("participantIds").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// One entry of a group's history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryEntry {
    /// The number of the event in the session's log.
    #[schema(example = 4711)]
    sequence: u64,
    /// When it happened, as far as WhatsApp says; else when it was seen.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[schema(inline)]
    action: HistoryAction,
    /// The people it happened to.
    #[schema(example = json!(["15550100002@c.us"]))]
    participant_ids: Vec<String>,
    /// The person who did it, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "15550100001@c.us")]
    actor_id: Option<String>,
    /// The new values by field, of what was changed.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    changes: Map<String, Value>,
    /// The values of these fields before.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    before: Map<String, Value>,
    /// A later look at the group showed it: nobody knows who did it, and when.
    reconciled: bool,
}

impl HistoryEntry {
    fn of(event: &Event) -> Option<Self> {
        let values = |name: &str| event.data.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        Some(Self {
            sequence: event.number,
            at: event.occurred_at,
            action: HistoryAction::of(event)?,
            participant_ids: participants(event).map(str::to_owned).collect(),
            actor_id: event.actor.map(|actor| actor.to_string()),
            changes: values("changes"),
            before: values("before"),
            reconciled: event.data.get("reconciled") == Some(&Value::Bool(true)),
        })
    }

    /// A row for each participant and each changed field; one where there is neither.
    fn write_rows(&self, piece: &mut Vec<u8>) {
        let (sequence, at) = (self.sequence.to_string(), self.at.to_string());
        let actor = self.actor_id.as_deref().unwrap_or_default();
        let mut row = |participant: &str, field: &str, before: &str, after: &str| {
            write_row(piece, &[&sequence, &at, self.action.as_str(), participant, actor, field, before, after]);
        };
        for participant in &self.participant_ids {
            row(participant, "", "", "");
        }
        for (field, after) in &self.changes {
            row("", field, &cell(self.before.get(field)), &cell(Some(after)));
        }
        if self.participant_ids.is_empty() && self.changes.is_empty() {
            row("", "", "", "");
        }
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// A page of a group's history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryPage {
    /// Oldest first.
    entries: Vec<HistoryEntry>,
    /// The cursor for the next page.
    #[schema(value_type = String, example = "1764489600-4711")]
    next: Cursor,
    /// Whether there is more behind this page, which may be empty all the same.
    has_more: bool,
}

/// Which part of the history is asked for.
pub(crate) struct AskedHistory {
    after: Option<After>,
    limit: usize,
    filter: HistoryFilter,
}

#[derive(Clone)]
struct HistoryFilter {
    participant: Option<String>,
    /// `None`: all.
    actions: Option<Vec<HistoryAction>>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl HistoryFilter {
    fn matches(&self, event: &Event) -> bool {
        let Some(action) = HistoryAction::of(event) else { return false };
        let at = event.occurred_at;
        self.actions.as_ref().is_none_or(|actions| actions.contains(&action))
            && self.from.is_none_or(|from| at >= from)
            && self.to.is_none_or(|to| at < to)
            && self
                .participant
                .as_ref()
                .is_none_or(|wanted| participants(event).any(|participant| participant == wanted))
    }

    fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let participant = value_of(query, "participant").map(ParticipantId::parse_written).transpose()?;
        let actions = value_of(query, "kinds").map(|words| words.split(',').map(|word| action(word.trim())).collect());
        Ok(Self {
            participant: participant.map(|participant| participant.to_string()),
            actions: actions.transpose()?,
            from: time_of(query, "from")?,
            to: time_of(query, "to")?,
        })
    }
}

fn action(word: &str) -> Result<HistoryAction, ApiError> {
    HistoryAction::ALL.into_iter().find(|action| action.as_str() == word).ok_or_else(|| {
        let known = HistoryAction::ALL.map(HistoryAction::as_str).join(", ");
        ApiError::Query(format!("kinds has {}, and these are known: {known}", shorten(word)))
    })
}

impl utoipa::IntoParams for AskedHistory {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let time = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        let person = text().pattern(Some(r"^[0-9]{5,15}(@(c\.us|s\.whatsapp\.net))?$|^[0-9]{1,15}@lid$"));
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        let cursor = text().pattern(Some("^([0-9]{1,19}-)?[0-9]{1,19}$"));
        vec![
            query_parameter(
                "participant",
                person,
                "Only what happened to this person, by the id that the history shows",
            ),
            query_parameter("kinds", text(), "Only these actions, with commas between them, such as `added,removed`"),
            query_parameter("from", time(), "Only from then on, as ISO 8601"),
            query_parameter("to", time(), "Only before then, as ISO 8601"),
            query_parameter(
                "after",
                cursor,
                "Only behind this place: a cursor as in `next`. Without it, from the beginning",
            ),
            query_parameter("limit", number, "Entries of a page, 1 to 1,000, 100 by default"),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for AskedHistory {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = query(parts)?;
        Ok(Self {
            after: value_of(&query, "after").map(|text| After::parse("after", text)).transpose()?,
            limit: number_of(&query, "limit", EVENTS_DEFAULT, 1..=EVENTS_MAX)?,
            filter: HistoryFilter::read(&query)?,
        })
    }
}

/// A group's history from a place on.
struct History {
    events: SessionEvents,
    key: Arc<Key>,
    group: GroupId,
    filter: HistoryFilter,
    /// The number behind which to go on.
    seen: u64,
}

impl History {
    async fn of(
        app: &App,
        session: SessionId,
        group: GroupId,
        key: Arc<Key>,
        asked: &AskedHistory,
    ) -> Result<Self, ApiError> {
        let events = app.gateway.events(session).await?;
        let (epoch, span) = (events.epoch(), events.span().await?);
        let seen = asked.after.map_or(Ok(span.oldest - 1), |after| after.within(epoch, span))?;
        Ok(Self { events, key, group, filter: asked.filter.clone(), seen })
    }

    /// The next entries, and whether there is more behind them.
    async fn next(&mut self, count: usize) -> Result<(Vec<HistoryEntry>, bool), CommandError> {
        let (group, filter) = (self.group.clone(), self.filter.clone());
        let is_wanted = move |event: &Event| event.group.as_ref() == Some(&group) && filter.matches(event);
        let _reading = self.key.read_events().await;
        let page = self.events.page(self.seen, count, is_wanted).await?;
        // A history shows what there is.
        self.seen = page.gap.unwrap_or(page.seen);
        Ok((page.events.iter().filter_map(HistoryEntry::of).collect(), page.has_more))
    }
}

/// Get a group's history
///
/// Who joined, left, was added or removed, promoted or demoted, by whom and when, and what was set, as far back as events are kept and the session was in the group. Also of a
/// group that the account has left.
#[utoipa::path(
    get,
    path = "",
    params(AskedHistory),
    responses(
        (status = 200, description = "What happened, oldest first", body = HistoryPage),
        (status = 410, description = "Events after this cursor are gone (`events_gone`): read on from `oldest`"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    caller: Caller,
    asked: AskedHistory,
) -> Result<Json<HistoryPage>, ApiError> {
    let mut history = History::of(&app, session, group, caller.key, &asked).await?;
    let (entries, has_more) = history.next(asked.limit).await?;
    let next = Cursor { epoch: history.events.epoch(), number: history.seen };
    Ok(Json(HistoryPage { entries, next, has_more }))
}

/// Export a group's history as CSV
///
/// All of it from the cursor on: a line per participant and per changed field. A cell that a spreadsheet would read as a formula begins with an apostrophe.
#[utoipa::path(
    get,
    path = "",
    params(AskedHistory),
    responses((status = 200, description = "A line per participant and changed field, oldest first", content(
        (String = "text/csv", example = json!("sequence,at,action,participantId,actorId,field,before,after\r\n4711,2026-11-30T08:00:00.000Z,added,15550100002@c.us,15550100001@c.us,,,\r\n")),
    ), headers(("Content-Disposition" = String, description = "The name of the file")))),
)]
pub(crate) async fn csv(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    caller: Caller,
    asked: AskedHistory,
) -> Result<Response, ApiError> {
    let name = format!("history-{}.csv", group.user());
    let history = History::of(&app, session, group, caller.key, &asked).await?;
    let pieces = stream::try_unfold(Some(history), async |history| {
        let Some(mut history) = history else { return Ok(None) };
        let (entries, has_more) = history.next(TABLE_COUNT).await?;
        let mut piece = Vec::new();
        entries.iter().for_each(|entry| entry.write_rows(&mut piece));
        Ok::<_, CommandError>(Some((piece, has_more.then_some(history))))
    });
    Ok(table_of(&name, &COLUMNS, pieces).into_response())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: GroupEventKind, actor: Option<u64>, data: Value) -> Event {
        let Value::Object(data) = data else { panic!("an object") };
        let session = SessionId::random();
        let mut event = Event::of_session(session, EventKind::Group(kind), data);
        event.actor = actor.map(ParticipantId::Phone);
        event
    }

    #[test]
    fn who_does_it_to_another_is_told_from_who_does_it_alone() {
        use GroupEventKind::{Join, Leave};
        let (alice, bob) = (15_550_100_001, 15_550_100_002);
        let of_bob = json!({ "participantIds": ["15550100002@c.us"] });
        for (kind, actor, expected) in [
            (Join, Some(alice), "added"),
            (Join, Some(bob), "joined"),
            (Join, None, "joined"),
            (Leave, Some(alice), "removed"),
            (Leave, Some(bob), "left"),
            (Leave, None, "left"),
        ] {
            let event = event(kind, actor, of_bob.clone());
            assert_eq!(HistoryAction::of(&event).map(HistoryAction::as_str), Some(expected), "{kind:?} {actor:?}");
        }
    }

    #[test]
    fn a_table_has_a_line_per_participant_and_per_field() {
        let data = json!({ "participantIds": [], "changes": { "name": "=new", "locked": true }, "before": { "name": "old", "locked": null } });
        let entry = HistoryEntry::of(&event(GroupEventKind::Update, Some(15_550_100_001), data)).unwrap();
        let mut piece = Vec::new();
        entry.write_rows(&mut piece);
        let text = String::from_utf8(piece).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split(',').skip(2).collect::<Vec<_>>().join(",")).collect();
        assert_eq!(lines, ["changed,,15550100001@c.us,name,old,'=new", "changed,,15550100001@c.us,locked,,true"]);
        let added = json!({ "participantIds": ["15550100002@c.us", "15550100003@c.us"] });
        let mut piece = Vec::new();
        HistoryEntry::of(&event(GroupEventKind::Join, None, added)).unwrap().write_rows(&mut piece);
        assert_eq!(String::from_utf8(piece).unwrap().lines().count(), 2);
    }
}
