//! Pictures of groups: namespace `w:profile:picture`, and many at once in `w:g2`. The files are served over HTTP by
//! the simulator itself.
//!
//! Accounts have no pictures.

use rand::RngExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{JidExt as _, Node};

use crate::groups::{Notice, Outcome, Refusable, SUSPENDED};
use crate::stanza::{attr, bytes, children, iq_error, iq_result, jid_attr};
use crate::world::State;
use crate::world::account::DeviceRef;
use crate::world::group::Picture;

/// WhatsApp takes no larger picture, and no other format than JPEG.
const JPEG_BYTES_MAX: usize = 1024 * 1024;
/// How each JPEG file begins.
const JPEG_MAGIC: [u8; 3] = [0xFF, 0xD8, 0xFF];
/// Where the simulator serves the files.
pub(crate) const MEDIA_PATH: &str = "/media/";

/// Answers a `w:profile:picture` request.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node, set: bool) -> Outcome {
    let target = jid_attr(request, "target").filter(|target| target.is_group());
    let Some(group) = target.map(|target| target.user.to_string()) else { return iq_error(request, 404, None).into() };
    let picture = request.get_optional_child("picture");
    let outcome = if set && state.is_suspended(&group) {
        Err(SUSPENDED)
    } else if set {
        change(state, &me.phone, &group, picture.map(bytes))
    } else {
        get(state, &me.phone, &group, picture).map(|nodes| (nodes, vec![]))
    };
    match outcome {
        Ok((nodes, notices)) => Outcome { answer: iq_result(request, nodes), notices },
        Err(code) => iq_error(request, code, None).into(),
    }
}

/// Sets or removes a group's picture. People who may change the group's subject may do so.
pub(crate) fn change(
    state: &mut State,
    actor: &str,
    group_id: &str,
    jpeg: Option<Vec<u8>>,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let id = state.rng.random_range(1_000_000_000_u64..10_000_000_000).to_string();
    let group = state.group_of(group_id, actor)?;
    if group.settings.locked && !group.is_admin(actor) {
        return Err(403);
    }
    if jpeg.as_ref().is_some_and(|jpeg| !jpeg.starts_with(&JPEG_MAGIC) || jpeg.len() > JPEG_BYTES_MAX) {
        return Err(406);
    }
    group.picture = jpeg.map(|jpeg| Picture { id: id.clone(), jpeg });
    let is_there = group.picture.is_some();
    let jid = group.jid();
    let author =
        state.accounts.get(actor).zip(state.groups.get(group_id)).map(|(account, group)| group.jid_of(account));
    let action = NodeBuilder::new(if is_there { "set" } else { "delete" }).attr("jid", jid);
    let action = if is_there { action.attr("id", id.as_str()) } else { action };
    let action = match author {
        Some(author) => action.attr("author", author),
        None => action,
    };
    let notices = state.notice_of_picture(group_id, actor, action.build());
    let answer = is_there.then(|| NodeBuilder::new("picture").attr("id", id).build());
    Ok((answer.into_iter().collect(), notices))
}

/// 404 when the group has no picture; no nodes when the client has it already.
fn get(state: &mut State, phone: &str, group: &str, asked: Option<&Node>) -> Refusable<Vec<Node>> {
    let refused = |code| if code == 403 { 401 } else { code };
    let picture = state.group_of(group, phone).map_err(refused)?.picture.as_ref().ok_or(404_u16)?;
    if asked.and_then(|asked| attr(asked, "id")).as_ref() == Some(&picture.id) {
        return Ok(vec![]);
    }
    let kind = asked.and_then(|asked| attr(asked, "type")).unwrap_or_else(|| "preview".to_owned());
    let id = picture.id.clone();
    Ok(vec![picture_node(&state.media_url, &id, kind).build()])
}

fn picture_node(media_url: &str, id: &str, kind: String) -> NodeBuilder {
    let path = format!("{MEDIA_PATH}{id}.jpg");
    NodeBuilder::new("picture")
        .attr("id", id)
        .attr("type", kind)
        .attr("url", format!("{media_url}{path}"))
        .attr("direct_path", path)
}

/// Answers `<pictures>`: one `<picture>` for each that was asked for, with `error` where the client can see none.
pub(crate) fn batch(state: &State, phone: &str, operation: &Node) -> Node {
    let answers = children(operation).iter().filter_map(|asked| {
        let jid = jid_attr(asked, "jid")?;
        let kind = attr(asked, "type").unwrap_or_else(|| "preview".to_owned());
        let group = state.groups.get(jid.user.as_str());
        let found = match group {
            None => Err("404"),
            Some(group) if !group.members.contains_key(phone) => Err("401"),
            Some(group) => group.picture.as_ref().ok_or("404"),
        };
        let node = match found {
            Ok(picture) => picture_node(&state.media_url, &picture.id, kind),
            Err(code) => NodeBuilder::new("picture").attr("error", code),
        };
        Some(node.attr("jid", jid).build())
    });
    NodeBuilder::new("pictures").children(answers).build()
}

impl State {
    /// The file that is served as `<id>.jpg`.
    pub(crate) fn media(&self, file: &str) -> Option<Vec<u8>> {
        let id = file.strip_suffix(".jpg")?;
        let pictures = self.groups.values().filter_map(|group| group.picture.as_ref());
        pictures.into_iter().find(|picture| picture.id == id).map(|picture| picture.jpeg.clone())
    }
}
