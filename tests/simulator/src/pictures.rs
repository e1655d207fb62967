//! Pictures of groups and accounts: namespace `w:profile:picture`, and many of groups at once in `w:g2`. The files are served
//! over HTTP by the simulator itself.

use rand::RngExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{JidExt as _, Node};

use crate::SimulatorError;
use crate::groups::{Notice, Outcome, Refusable, SUSPENDED};
use crate::stanza::{attr, bytes, children, iq_error, iq_result, jid_attr};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// WhatsApp takes no larger picture, and no other format than JPEG.
const JPEG_BYTES_MAX: usize = 1024 * 1024;
/// How each JPEG file begins.
const JPEG_MAGIC: [u8; 3] = [0xFF, 0xD8, 0xFF];
/// Where the simulator serves the files.
pub(crate) const MEDIA_PATH: &str = "/media/";

/// A JPEG file and its id.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Picture {
    pub(crate) id: String,
    pub(crate) jpeg: Vec<u8>,
}

impl World {
    /// The owner of a phone sets the account's picture to this JPEG file, or removes it with `None`.
    ///
    /// # Errors
    /// When it is no JPEG file, or too large.
    pub fn set_account_picture(&self, phone: &str, jpeg: Option<Vec<u8>>) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        state.ensure_account(phone);
        change_own(&mut state, phone, jpeg, None).map(|_| ()).map_err(SimulatorError::Refused)
    }

    /// The picture of an account; `None` when it has none.
    #[must_use]
    pub fn account_picture(&self, phone: &str) -> Option<Vec<u8>> {
        self.lock().accounts.get(phone)?.picture.as_ref().map(|picture| picture.jpeg.clone())
    }
}

/// Answers a `w:profile:picture` request.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node, set: bool) -> Outcome {
    let target = jid_attr(request, "target");
    let Some(group) = target.as_ref().filter(|target| target.is_group()).map(|target| target.user.to_string()) else {
        let answered = match target.map(|target| state.phone_of(&target)) {
            Some(None) => Err(404),
            Some(Some(phone)) if set && phone != me.phone => Err(403),
            Some(Some(phone)) if !set => account_picture(state, &phone, request.get_optional_child("picture")),
            None if !set => account_picture(state, &me.phone, request.get_optional_child("picture")),
            _ => change_own(state, &me.phone, request.get_optional_child("picture").map(bytes), Some(me)),
        };
        return match answered {
            Ok(nodes) => iq_result(request, nodes).into(),
            Err(code) => iq_error(request, code, None).into(),
        };
    };
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

fn account_picture(state: &State, phone: &str, asked: Option<&Node>) -> Refusable<Vec<Node>> {
    let picture = state.accounts.get(phone).and_then(|account| account.picture.as_ref()).ok_or(404_u16)?;
    Ok(found(&state.media_url, picture, asked))
}

/// Sets or removes the picture of an account, and tells those who know the account.
fn change_own(
    state: &mut State,
    phone: &str,
    jpeg: Option<Vec<u8>>,
    acting: Option<&DeviceRef>,
) -> Refusable<Vec<Node>> {
    let picture = state.new_picture(jpeg.filter(|jpeg| !jpeg.is_empty()))?;
    let account = state.account_mut(phone).ok_or(404_u16)?;
    let jid = account.pn_jid();
    account.picture = picture.clone();
    let action = NodeBuilder::new(if picture.is_some() { "set" } else { "delete" }).attr("jid", jid);
    let action = match &picture {
        Some(picture) => action.attr("id", picture.id.as_str()),
        None => action,
    };
    state.tell_acquaintances(phone, "picture", action.build(), acting);
    Ok(picture.map(|picture| NodeBuilder::new("picture").attr("id", picture.id).build()).into_iter().collect())
}

/// Sets or removes a group's picture. People who may change the group's subject may do so.
pub(crate) fn change(
    state: &mut State,
    actor: &str,
    group_id: &str,
    jpeg: Option<Vec<u8>>,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let picture = state.new_picture(jpeg);
    let group = state.group_of(group_id, actor)?;
    if group.settings.locked && !group.is_admin(actor) {
        return Err(403);
    }
    group.picture = picture?;
    let id = group.picture.as_ref().map(|picture| picture.id.clone());
    let is_there = group.picture.is_some();
    let jid = group.jid();
    let author =
        state.accounts.get(actor).zip(state.groups.get(group_id)).map(|(account, group)| group.jid_of(account));
    let action = NodeBuilder::new(if is_there { "set" } else { "delete" }).attr("jid", jid);
    let action = match &id {
        Some(id) => action.attr("id", id.as_str()),
        None => action,
    };
    let action = match author {
        Some(author) => action.attr("author", author),
        None => action,
    };
    let notices = state.notice_of_picture(group_id, actor, action.build());
    let answer = id.map(|id| NodeBuilder::new("picture").attr("id", id).build());
    Ok((answer.into_iter().collect(), notices))
}

/// 404 when the group has no picture; no nodes when the client has it already.
fn get(state: &mut State, phone: &str, group: &str, asked: Option<&Node>) -> Refusable<Vec<Node>> {
    let refused = |code| if code == 403 { 401 } else { code };
    let picture = state.group_of(group, phone).map_err(refused)?.picture.as_ref().ok_or(404_u16)?;
    let picture = picture.clone();
    Ok(found(&state.media_url, &picture, asked))
}

/// The picture as it is answered; no nodes when the client has it already.
fn found(media_url: &str, picture: &Picture, asked: Option<&Node>) -> Vec<Node> {
    if asked.and_then(|asked| attr(asked, "id")).as_ref() == Some(&picture.id) {
        return vec![];
    }
    let kind = asked.and_then(|asked| attr(asked, "type")).unwrap_or_else(|| "preview".to_owned());
    vec![picture_node(media_url, &picture.id, kind).build()]
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
    /// A picture with an id of its own; 406 for what WhatsApp does not take.
    fn new_picture(&mut self, jpeg: Option<Vec<u8>>) -> Refusable<Option<Picture>> {
        let id = self.rng.random_range(1_000_000_000_u64..10_000_000_000).to_string();
        if jpeg.as_ref().is_some_and(|jpeg| !jpeg.starts_with(&JPEG_MAGIC) || jpeg.len() > JPEG_BYTES_MAX) {
            return Err(406);
        }
        Ok(jpeg.map(|jpeg| Picture { id, jpeg }))
    }

    /// The file that is served as `<id>.jpg`.
    pub(crate) fn picture(&self, file: &str) -> Option<Vec<u8>> {
        let id = file.strip_suffix(".jpg")?;
        let of_groups = self.groups.values().filter_map(|group| group.picture.as_ref());
        let of_accounts = self.accounts.values().filter_map(|account| account.picture.as_ref());
        of_groups.chain(of_accounts).find(|picture| picture.id == id).map(|picture| picture.jpeg.clone())
    }
}
