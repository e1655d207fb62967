//! The part of the admin API that is about groups and communities.

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, digits};
use crate::{
    Addressing, CommunitySpec, GroupSpec, Orphans, ParticipantChange, Setting, SimulatorError, Suspension, Telling,
    World,
};

#[derive(Deserialize)]
pub(super) struct NewGroup {
    id: Option<String>,
    subject: String,
    owner: String,
    #[serde(default)]
    participants: Vec<String>,
    #[serde(default)]
    admins: Vec<String>,
    #[serde(default)]
    addressing: Addressing,
    description: Option<String>,
    #[serde(default)]
    quiet: bool,
}

impl NewGroup {
    fn spec(self) -> Result<GroupSpec, SimulatorError> {
        Ok(GroupSpec {
            id: self.id,
            subject: self.subject,
            owner: digits(&self.owner)?,
            participants: all_digits(&self.participants)?,
            admins: all_digits(&self.admins)?,
            addressing: self.addressing,
            description: self.description,
            quiet: self.quiet,
        })
    }
}

fn all_digits(phones: &[String]) -> Result<Vec<String>, SimulatorError> {
    phones.iter().map(|phone| digits(phone)).collect()
}

pub(super) async fn add_group(State(world): State<World>, Json(body): Json<NewGroup>) -> Answer {
    Ok(Json(json!({ "id": world.add_group(body.spec()?) })))
}

#[derive(Deserialize)]
pub(super) struct NewCommunity {
    #[serde(flatten)]
    group: NewGroup,
    #[serde(default)]
    closed: bool,
    #[serde(default)]
    members_create_groups: bool,
    #[serde(default)]
    general_chat: bool,
    #[serde(default)]
    groups: Vec<String>,
}

pub(super) async fn add_community(State(world): State<World>, Json(body): Json<NewCommunity>) -> Answer {
    let id = world.add_community(CommunitySpec {
        group: body.group.spec()?,
        closed: body.closed,
        members_create_groups: body.members_create_groups,
        general_chat: body.general_chat,
        subgroups: body.groups,
    });
    let subgroups = world.subgroups(&id);
    Ok(Json(json!({ "id": id, "subgroups": subgroups })))
}

/// Fields that the body leaves out get their defaults: that part of the group is sent as it is.
pub(super) async fn set_telling(
    State(world): State<World>,
    Path(gid): Path<String>,
    Json(telling): Json<Telling>,
) -> Answer {
    let shown = json!(telling);
    world.set_telling(&gid, telling)?;
    Ok(Json(shown))
}

#[derive(Deserialize)]
pub(super) struct Suspended {
    suspended: bool,
    #[serde(flatten)]
    suspension: Suspension,
}

pub(super) async fn set_suspension(
    State(world): State<World>,
    Path(gid): Path<String>,
    Json(body): Json<Suspended>,
) -> Answer {
    world.set_suspension(&gid, body.suspended.then_some(body.suspension))?;
    Ok(Json(json!(world.group(&gid))))
}

/// A change made elsewhere. Each kind of change reads the fields it needs.
#[derive(Deserialize)]
pub(super) struct GroupChange {
    actor: String,
    #[serde(default)]
    participants: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    remove_orphans: bool,
    #[serde(default)]
    subject: String,
    description: Option<String>,
    setting: Option<Setting>,
    jpeg_base64: Option<String>,
    #[serde(default)]
    on: bool,
}

impl GroupChange {
    fn setting(&self) -> Result<Setting, SimulatorError> {
        self.setting.ok_or_else(|| SimulatorError::protocol("`setting` is missing"))
    }

    fn jpeg(&self) -> Result<Option<Vec<u8>>, SimulatorError> {
        self.jpeg_base64
            .as_deref()
            .map(|text| BASE64_STANDARD.decode(text))
            .transpose()
            .map_err(SimulatorError::protocol)
    }

    fn orphans(&self) -> Orphans {
        if self.remove_orphans { Orphans::Remove } else { Orphans::Keep }
    }
}

pub(super) async fn change_group(
    State(world): State<World>,
    Path((gid, change)): Path<(String, String)>,
    Json(body): Json<GroupChange>,
) -> Answer {
    let actor = digits(&body.actor)?;
    let participants = all_digits(&body.participants)?;
    let phones: Vec<&str> = participants.iter().map(String::as_str).collect();
    let groups: Vec<&str> = body.groups.iter().map(String::as_str).collect();
    match change.as_str() {
        "subject" => world.change_subject(&gid, &actor, &body.subject)?,
        "description" => world.change_description(&gid, &actor, body.description.as_deref())?,
        "announce" => world.change_announce(&gid, &actor, body.on)?,
        "locked" => world.change_locked(&gid, &actor, body.on)?,
        "setting" => world.change_setting(&gid, &actor, body.setting()?)?,
        "picture" => world.set_picture(&gid, &actor, body.jpeg()?)?,
        "revoke-invite" => world.revoke_invite(&gid, &actor)?,
        "leave" => world.leave(&gid, &actor)?,
        "request-to-join" => world.request_to_join(&gid, &actor)?,
        "cancel-request" => world.cancel_request(&gid, &actor)?,
        "approve" => world.approve_requests(&gid, &actor, &phones)?,
        "reject" => world.reject_requests(&gid, &actor, &phones)?,
        "link" => world.link(&gid, &actor, &groups)?,
        "unlink" => world.unlink(&gid, &actor, &groups, body.orphans())?,
        "deactivate" => world.deactivate(&gid, &actor)?,
        tag => {
            let unknown = || SimulatorError::protocol(format!("no such change: `{tag}`"));
            let change = ParticipantChange::from_tag(tag).ok_or_else(unknown)?;
            world.change_participants(&gid, change, &actor, &phones)?;
        }
    }
    Ok(Json(json!(world.group(&gid))))
}
