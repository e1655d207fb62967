//! Tables for spreadsheets: the groups of a session, and the participants of a group, from the cache.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use rookery_actors::commands::ListGroups;
use rookery_model::{Group, GroupSummary};

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::request::extract::{GroupPath, SessionPath, Stale};
use crate::http::request::group_filter::GroupFilter;
use crate::http::response::csv::{table, write_row};
use crate::http::response::staleness::{self, answered, answered_of, marked};

const GROUP_COLUMNS: [&str; 6] = ["id", "name", "participantsCount", "isAdmin", "isCommunity", "linkedParentJID"];
const PARTICIPANT_COLUMNS: [&str; 5] = ["id", "number", "name", "isAdmin", "isSuperAdmin"];

/// Export groups as CSV
///
/// The first line has the headings. A cell that a spreadsheet would read as a formula begins with an apostrophe.
#[utoipa::path(
    get,
    path = "",
    params(GroupFilter, Stale),
    responses((status = 200, description = "A line per group, ordered by id", content(
        (String = "text/csv", example = json!("id,name,participantsCount,isAdmin,isCommunity,linkedParentJID\r\n120363021234567890@g.us,Project Team,12,true,false,\r\n")),
    ), headers(("Content-Disposition" = String, description = "The name of the file")))),
)]
pub(crate) async fn groups(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    filter: GroupFilter,
    stale: Stale,
) -> Result<Response, ApiError> {
    let list = ListGroups { source: stale.source() };
    answered(app.gateway.execute(session, list).await?, |groups| {
        let is_incomplete = groups.iter().any(|group| group.incomplete);
        Ok(marked(groups_table(groups, filter), is_incomplete))
    })
}

fn groups_table(groups: Arc<Vec<GroupSummary>>, filter: GroupFilter) -> Response {
    let mut next = 0;
    let row = move |piece: &mut Vec<u8>| {
        let Some(group) = groups.get(next) else { return false };
        next += 1;
        if filter.matches(group) {
            let parent = group.linked_parent_jid.as_ref().map(ToString::to_string).unwrap_or_default();
            let (id, count) = (group.id.to_string(), group.participants_count.to_string());
            write_row(piece, &[&id, &group.name, &count, word(group.is_admin), word(group.is_community), &parent]);
        }
        true
    };
    table("groups.csv", &GROUP_COLUMNS, row)
}

/// Export group participants as CSV
///
/// The first line has the headings. A cell that a spreadsheet would read as a formula begins with an apostrophe.
#[utoipa::path(
    get,
    path = "",
    params(Stale),
    responses((status = 200, description = "A line per participant", content(
        (String = "text/csv", example = json!("id,number,name,isAdmin,isSuperAdmin\r\n15550100001@c.us,15550100001,Alice,true,true\r\n")),
    ), headers(("Content-Disposition" = String, description = "The name of the file")))),
)]
pub(crate) async fn participants(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    stale: Stale,
) -> Result<Response, ApiError> {
    let name = format!("participants-{}.csv", group.user());
    answered_of(staleness::group(&app, session, group, stale).await?, |group| Ok(participants_table(&name, group)))
}

fn participants_table(name: &str, group: Arc<Group>) -> Response {
    let mut next = 0;
    let row = move |piece: &mut Vec<u8>| {
        let Some(person) = group.participants.get(next) else { return false };
        next += 1;
        let (id, number) = (person.id.to_string(), person.id.digits().to_string());
        let name = person.name.as_deref().unwrap_or_default();
        write_row(piece, &[&id, &number, name, word(person.is_admin), word(person.is_super_admin)]);
        true
    };
    table(name, &PARTICIPANT_COLUMNS, row)
}

fn word(is_so: bool) -> &'static str {
    if is_so { "true" } else { "false" }
}
