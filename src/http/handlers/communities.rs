//! Communities: groups of groups. Participants and settings of a community are changed as those of any group, by its
//! own id.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use rookery_actors::CommandError;
use rookery_actors::commands::{
    CreateCommunity, DeactivateCommunity, LinkGroups, Linking, ListGroups, ReadCommunity, ReadKnownCommunity,
};
use rookery_model::{Aged, Community, CreatedGroup, GroupSummary, LinkResult, NewCommunity, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::handlers::groups::{NewGroup, create_in};
use crate::http::limits::{DESCRIPTION_CHARS_MAX, LINKED_GROUPS, SUBJECT_CHARS};
use crate::http::middleware::authorization::community_scope::may_add_to_community;
use crate::http::middleware::authorization::community_scope::may_touch_community;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{CommunityPath, JsonBody, KnownTag, Page, Refresh, SessionPath, Stale};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::{GroupField, groups_of};
use crate::http::response::etag::tagged;
use crate::http::response::happened::{Happened, Tells, Told};
use crate::http::response::json::{
    Acknowledged, Created, JsonResult, ToldResult, acknowledged, unless_all_refused, with_total,
};
use crate::http::response::staleness::answered;

/// A community to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CommunityRequest {
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "Neighbourhood")]
    name: String,
    #[schema(max_length = 2048, example = "All streets around the park")]
    description: Option<String>,
    /// Whether people who want to join have to be approved; false by default.
    #[schema(nullable = false)]
    membership_approval: Option<bool>,
    /// Whether members who are no admins may add groups to the community; false by default.
    #[schema(nullable = false)]
    members_may_add_groups: Option<bool>,
    /// Whether a general chat is made with the community; false by default.
    #[schema(nullable = false)]
    general_chat: Option<bool>,
}

impl FromFields for CommunityRequest {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            name: fields.text("name", SUBJECT_CHARS),
            description: fields.optional_text_up_to("description", DESCRIPTION_CHARS_MAX),
            membership_approval: fields.optional_flag("membershipApproval"),
            members_may_add_groups: fields.optional_flag("membersMayAddGroups"),
            general_chat: fields.optional_flag("generalChat"),
        }
    }
}

impl From<CommunityRequest> for NewCommunity {
    fn from(request: CommunityRequest) -> Self {
        Self {
            name: request.name,
            description: request.description.filter(|description| !description.is_empty()),
            membership_approval: request.membership_approval.unwrap_or(false),
            members_may_add_groups: request.members_may_add_groups.unwrap_or(false),
            general_chat: request.general_chat.unwrap_or(false),
        }
    }
}

/// Groups to be linked.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupsToLink {
    /// A group that is named twice counts once.
    #[schema(min_items = 1, max_items = 64)]
    groups: Vec<GroupField>,
}

impl FromFields for GroupsToLink {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { groups: fields.distinct("groups", LINKED_GROUPS, ApiError::Groups) }
    }
}

/// Groups to be unlinked.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GroupsToUnlink {
    /// A group that is named twice counts once.
    #[schema(min_items = 1, max_items = 64)]
    groups: Vec<GroupField>,
    /// Whether people who are in no other group of the community leave it too; false by default.
    #[schema(nullable = false)]
    remove_orphans: Option<bool>,
}

impl FromFields for GroupsToUnlink {
    fn read(fields: &mut Fields<'_>) -> Self {
        let remove_orphans = fields.optional_flag("removeOrphans");
        Self { groups: fields.distinct("groups", LINKED_GROUPS, ApiError::Groups), remove_orphans }
    }
}

/// Links were changed for some of the groups.
#[derive(Serialize, ToSchema)]
pub(crate) struct LinksAcknowledged {
    /// Always true.
    success: bool,
    #[schema(example = "Groups linked")]
    message: &'static str,
    /// One entry per distinct group, in the order of the request.
    results: Vec<LinkResult>,
}

impl Tells for LinksAcknowledged {
    fn happened(&self) -> Happened {
        Happened::to_groups(&self.results)
    }
}

/// List communities
///
/// The list has the communities among the session's groups, ordered by id.
#[utoipa::path(
    get,
    path = "",
    params(Page, Refresh, Stale, KnownTag),
    responses(
        (status = 200, description = "The communities", body = Vec<GroupSummary>, headers(
            ("X-Total-Count" = u32, description = "How many communities there are in all"),
            ("ETag" = String, description = "For `If-None-Match`"),
        )),
        (status = 304, description = "Unchanged since the answer with this `ETag`"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    page: Page,
    refresh: Refresh,
    stale: Stale,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let list = ListGroups { source: stale.or(refresh) };
    answered(app.gateway.execute(session, list).await?, |groups| {
        let is_shown = |group: &&GroupSummary| group.is_community && caller.key.allows_group(&group.id);
        let communities: Vec<_> = groups.iter().filter(is_shown).collect();
        Ok(with_total(communities.len(), tagged(&headers, page.of(&communities))?))
    })
}

/// Create a community
///
/// WhatsApp creates the announcement group together with the community.
#[utoipa::path(
    post,
    path = "",
    request_body = CommunityRequest,
    responses((status = 201, description = "The new community", body = Community)),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    JsonBody(request): JsonBody<CommunityRequest>,
) -> Result<Created<Community>, ApiError> {
    let community = app.gateway.execute(session, CreateCommunity { new: request.into() }).await?;
    let groups = community.groups.iter().map(|group| &group.id).chain([&community.id]);
    caller.add_to_scope(&app, groups.cloned().collect()).await;
    Ok(Created(community))
}

/// Get a community
///
/// WhatsApp is asked each time: only WhatsApp knows the groups that this account is not in. A stale answer has only groups that the account
/// is in.
#[utoipa::path(
    get,
    path = "",
    params(Stale),
    responses((status = 200, description = "The community with all its groups", body = Community)),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    CommunityPath(community): CommunityPath,
    stale: Stale,
    caller: Caller,
) -> Result<Response, ApiError> {
    let read = match app.gateway.execute(session, ReadCommunity { community: community.clone() }).await {
        // WhatsApp cannot be asked, and a stale answer will do: with the community's groups in the cache.
        Err(CommandError::NotConnected) if stale.0 => {
            app.gateway.execute(session, ReadKnownCommunity { community }).await?
        }
        read => Aged { value: read?, stale_for: None },
    };
    answered(read, |mut community| {
        community.groups.retain(|group| caller.key.allows_group(&group.id));
        Ok(Json(community).into_response())
    })
}

/// Create a group in a community
///
/// WhatsApp may refuse single participants: `results` has the outcome of each participant. The members join the community's announcement
/// group: a key that is limited to groups needs that group, too.
#[utoipa::path(
    post,
    path = "",
    request_body = NewGroup,
    responses((status = 201, description = "The new group, whoever was refused", body = CreatedGroup)),
)]
pub(crate) async fn create_group(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    CommunityPath(community): CommunityPath,
    caller: Caller,
    JsonBody(new): JsonBody<NewGroup>,
) -> Result<Created<CreatedGroup>, ApiError> {
    may_add_to_community(&app, &caller, session, &community).await?;
    create_in(&app, session, &caller, new.command(Some(community))).await
}

/// Link groups to a community
///
/// The status is 200 when WhatsApp linked at least one group, and 403 when it refused all of them. `results` has the outcome of each group.
/// The members of the groups join the announcement group: a key that is limited to groups needs that group, too.
#[utoipa::path(
    post,
    path = "",
    request_body = GroupsToLink,
    responses((status = 200, description = "Groups linked", body = LinksAcknowledged)),
)]
pub(crate) async fn link(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    CommunityPath(community): CommunityPath,
    caller: Caller,
    JsonBody(body): JsonBody<GroupsToLink>,
) -> ToldResult<LinksAcknowledged> {
    let groups = groups_of(body.groups);
    caller.may_touch(&groups)?;
    may_add_to_community(&app, &caller, session, &community).await?;
    change_links(&app, session, LinkGroups { community, groups, linking: Linking::Link }).await
}

/// Unlink groups from a community
///
/// The groups stay, without the community. The status is 200 when WhatsApp unlinked at least one group, and 403 when it refused all of them.
/// `results` has the outcome of each group. A key that is limited to groups needs every group of the community.
#[utoipa::path(
    delete,
    path = "",
    request_body = GroupsToUnlink,
    responses((status = 200, description = "Groups unlinked", body = LinksAcknowledged)),
)]
pub(crate) async fn unlink(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    CommunityPath(community): CommunityPath,
    caller: Caller,
    JsonBody(body): JsonBody<GroupsToUnlink>,
) -> ToldResult<LinksAcknowledged> {
    let remove_orphans = body.remove_orphans.unwrap_or(false);
    let groups = groups_of(body.groups);
    caller.may_touch(&groups)?;
    may_touch_community(&app, &caller, session, &community).await?;
    change_links(&app, session, LinkGroups { community, groups, linking: Linking::Unlink { remove_orphans } }).await
}

/// Deactivate a community
///
/// The groups stay, without the community. A key that is limited to groups needs every one of them.
#[utoipa::path(
    post,
    path = "",
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Community deactivated" }))),
)]
pub(crate) async fn deactivate(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    CommunityPath(community): CommunityPath,
    caller: Caller,
) -> JsonResult<Acknowledged> {
    may_touch_community(&app, &caller, session, &community).await?;
    app.gateway.execute(session, DeactivateCommunity { community }).await?;
    Ok(acknowledged("Community deactivated"))
}

async fn change_links(app: &App, session: SessionId, change: LinkGroups) -> ToldResult<LinksAcknowledged> {
    let what = change.linking.phrase();
    let done = match change.linking {
        Linking::Link => "Groups linked",
        Linking::Unlink { .. } => "Groups unlinked",
    };
    let results = app.gateway.execute(session, change).await?;
    let results =
        unless_all_refused(results, |result| result.success, |results| ApiError::NoneLinked { what, results })?;
    Ok(Told(LinksAcknowledged { success: true, message: done, results }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    fn check(body: &Value) -> Result<NewCommunity, Vec<String>> {
        let request = Fields::parse::<CommunityRequest>(body.as_object().cloned().unwrap(), Known::default());
        request.map(NewCommunity::from).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn groups_are_one_to_sixty_four_ids_each_once() {
        let read = |body: Value| {
            let read = Fields::parse::<GroupsToLink>(body.as_object().cloned().unwrap(), Known::default());
            read.map(|read| read.groups)
        };
        let id = "120363021234567890@g.us";
        let many: Vec<_> = (0..65).map(|number| format!("{number}@g.us")).collect();
        let cases = [
            (json!({}), "groups must be an array"),
            (json!({"groups": []}), "groups should not be empty"),
            (json!({"groups": [1]}), "each value in groups must be a string"),
            (json!({"groups": many}), "groups must contain no more than 64 elements"),
        ];
        for (body, expected) in cases {
            let Err(ApiError::Body(messages)) = read(body) else { panic!("{expected}") };
            assert_eq!(messages, [expected]);
        }
        let merged = read(json!({"groups": [id, "1@g.us", "120363021234567890"]})).unwrap();
        assert_eq!(merged.iter().map(|group| group.0.to_string()).collect::<Vec<_>>(), [id, "1@g.us"]);
        let Err(ApiError::Groups(offenders)) = read(json!({"groups": ["family", id, "1@c.us"]})) else { panic!() };
        assert_eq!(offenders, ["family", "1@c.us"]);
    }

    #[test]
    fn a_new_community_has_a_name_and_nothing_else_unless_told_so() {
        let plain = NewCommunity {
            name: "Park".into(),
            description: None,
            membership_approval: false,
            members_may_add_groups: false,
            general_chat: false,
        };
        assert_eq!(check(&json!({"name": "Park", "description": ""})), Ok(plain.clone()));
        let all = json!({
            "name": "Park", "description": "Trees", "membershipApproval": true, "membersMayAddGroups": true,
            "generalChat": true,
        });
        let expected = NewCommunity {
            description: Some("Trees".into()),
            membership_approval: true,
            members_may_add_groups: true,
            general_chat: true,
            ..plain
        };
        assert_eq!(check(&all), Ok(expected));
        let broken = json!({"x": 1, "description": "ü".repeat(2049), "generalChat": "no"});
        let expected = [
            "property x should not exist",
            "name should not be empty",
            "name must be a string",
            "description must be shorter than or equal to 2048 characters",
            "generalChat must be a boolean value",
        ];
        assert_eq!(check(&broken).unwrap_err(), expected);
    }
}
