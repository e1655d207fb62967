//! What people do on their phones: write, read, type, change their profile.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buffa::Message as _;
use serde::Deserialize;
use serde_json::json;
use wacore::download::MediaType;
use waproto::whatsapp as wa;

use super::{Answer, digits};
use crate::{FileWords, Mail, PhoneHistory, SimulatorError, Typing, World};

pub(super) fn router() -> Router<World> {
    Router::new()
        .route("/admin/accounts/{phone}/messages", get(messages))
        .route("/admin/accounts/{phone}/sent-messages", get(sent_messages))
        .route("/admin/accounts/{phone}/receipts", get(receipts))
        .route("/admin/accounts/{phone}/files/{id}", get(file))
        .route("/admin/accounts/{phone}/send", post(send))
        .route("/admin/accounts/{phone}/read", post(read))
        .route("/admin/accounts/{phone}/vote", post(vote))
        .route("/admin/accounts/{phone}/type", post(type_in))
        .route("/admin/accounts/{phone}/manner", post(set_manner))
        .route("/admin/accounts/{phone}/profile", post(set_profile))
        .route("/admin/accounts/{phone}/trust", post(trust))
        .route("/admin/accounts/{phone}/app-state", get(app_state).post(set_app_state))
        .route("/admin/media", post(expire_media))
}

async fn messages(State(world): State<World>, Path(phone): Path<String>) -> Answer {
    Ok(Json(json!(world.messages(&digits(&phone)?))))
}

async fn sent_messages(State(world): State<World>, Path(phone): Path<String>) -> Answer {
    Ok(Json(json!(world.sent_messages(&digits(&phone)?))))
}

async fn receipts(State(world): State<World>, Path(phone): Path<String>) -> Answer {
    Ok(Json(json!(world.receipts(&digits(&phone)?))))
}

/// The bytes of the file, decrypted.
async fn file(State(world): State<World>, Path((phone, id)): Path<(String, String)>) -> Response {
    let found = digits(&phone).and_then(|phone| world.media_of(&phone, &id));
    match found {
        Ok(Some(file)) => file.into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => error.into_response(),
    }
}

#[derive(Deserialize)]
struct Send {
    to: String,
    text: Option<String>,
    file: Option<File>,
    /// `Message` of WhatsApp's protocol buffers, base64.
    content: Option<String>,
    edit: Option<Change>,
    id: Option<String>,
    #[serde(default)]
    lose_key: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Edit,
    Pin,
    Revoke,
    AdminRevoke,
}

#[derive(Deserialize)]
struct File {
    kind: FileKind,
    base64: String,
    mimetype: String,
    caption: Option<String>,
    filename: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum FileKind {
    Image,
    Video,
    Audio,
    Voice,
    Document,
    Sticker,
}

#[derive(Deserialize)]
struct Vote {
    chat: String,
    poll: String,
    options: Vec<String>,
}

async fn vote(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Vote>) -> Answer {
    let options: Vec<&str> = body.options.iter().map(String::as_str).collect();
    Ok(Json(json!({ "id": world.vote(&digits(&phone)?, &body.chat, &body.poll, &options)? })))
}

async fn send(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Send>) -> Answer {
    let mut mail = match (body.text, body.file, body.content) {
        (Some(text), None, None) => Mail::text(text),
        (None, Some(file), None) => file_mail(&world, file)?,
        (None, None, Some(content)) => {
            wa::Message::decode_from_slice(&decoded(&content)?).map_err(SimulatorError::protocol)?.into()
        }
        _ => return Err(SimulatorError::protocol("one of `text`, `file` and `content` is needed")),
    };
    mail.id = body.id;
    mail.lose_key = body.lose_key;
    mail.edit = body.edit.map(|edit| match edit {
        Change::Edit => "1",
        Change::Pin => "2",
        Change::Revoke => "7",
        Change::AdminRevoke => "8",
    });
    let to = if body.to.contains('@') { body.to } else { digits(&body.to)? };
    Ok(Json(json!({ "id": world.send(&digits(&phone)?, &to, mail)? })))
}

fn file_mail(world: &World, file: File) -> Result<Mail, SimulatorError> {
    let kind = match file.kind {
        FileKind::Image => MediaType::Image,
        FileKind::Video => MediaType::Video,
        FileKind::Audio | FileKind::Voice => MediaType::Audio,
        FileKind::Document => MediaType::Document,
        FileKind::Sticker => MediaType::Sticker,
    };
    let uploaded = world.upload(kind, &decoded(&file.base64)?)?;
    let is_voice = file.kind == FileKind::Voice;
    let words = FileWords { mimetype: file.mimetype, caption: file.caption, filename: file.filename, is_voice };
    Ok(Mail::file(kind, &uploaded, words))
}

fn decoded(base64: &str) -> Result<Vec<u8>, SimulatorError> {
    STANDARD.decode(base64).map_err(SimulatorError::protocol)
}

#[derive(Deserialize)]
struct Chat {
    chat: String,
}

async fn read(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Chat>) -> Answer {
    Ok(Json(json!({ "ids": world.read_chat(&digits(&phone)?, &body.chat)? })))
}

#[derive(Deserialize)]
struct TypeIn {
    chat: String,
    typing: Typing,
}

async fn type_in(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<TypeIn>) -> Answer {
    let phone = digits(&phone)?;
    world.type_in(&phone, &body.chat, body.typing);
    Ok(Json(json!({ "phone": phone })))
}

/// Fields that are left out change nothing.
#[derive(Deserialize)]
struct Manner {
    on: Option<bool>,
    online: Option<bool>,
    resends: Option<bool>,
    history: Option<PhoneHistory>,
    requires_token: Option<bool>,
    /// The group whose keys the phone loses.
    loses_keys: Option<String>,
    loses_receipts: Option<bool>,
}

async fn set_manner(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Manner>) -> Answer {
    let phone = digits(&phone)?;
    if let Some(on) = body.on {
        world.switch_phone(&phone, on);
    }
    if let Some(online) = body.online {
        world.set_online(&phone, online);
    }
    if let Some(resends) = body.resends {
        world.set_resends(&phone, resends);
    }
    if let Some(history) = body.history {
        world.set_phone_history(&phone, history);
    }
    if let Some(required) = body.requires_token {
        world.require_token(&phone, required);
    }
    if let Some(lost) = body.loses_receipts {
        world.lose_receipts(&phone, lost);
    }
    if let Some(gid) = body.loses_keys {
        world.lose_sender_keys(&phone, &gid);
    }
    Ok(Json(json!({ "phone": phone })))
}

/// Fields that are left out change nothing.
#[derive(Deserialize)]
struct Profile {
    about: Option<String>,
    /// An empty text removes the picture.
    jpeg_base64: Option<String>,
    block: Option<String>,
    unblock: Option<String>,
}

async fn set_profile(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Profile>) -> Answer {
    let phone = digits(&phone)?;
    if let Some(about) = body.about {
        world.set_about(&phone, &about);
    }
    if let Some(jpeg) = body.jpeg_base64 {
        let jpeg = decoded(&jpeg)?;
        world.set_account_picture(&phone, (!jpeg.is_empty()).then_some(jpeg))?;
    }
    for (other, blocked) in [(body.block, true), (body.unblock, false)] {
        if let Some(other) = other {
            world.block(&phone, &digits(&other)?, blocked);
        }
    }
    let picture = world.account_picture(&phone).map(|jpeg| jpeg.len());
    Ok(Json(json!({ "about": world.about(&phone), "picture_bytes": picture, "blocked": world.blocked(&phone) })))
}

#[derive(Deserialize)]
struct Other {
    other: String,
}

async fn trust(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Other>) -> Answer {
    let (phone, other) = (digits(&phone)?, digits(&body.other)?);
    world.trust(&phone, &other);
    Ok(Json(json!({ "phone": phone, "other": other })))
}

async fn app_state(State(world): State<World>, Path(phone): Path<String>) -> Answer {
    let set = world.app_state(&digits(&phone)?);
    let set =
        set.iter().map(|(index, value)| json!({ "index": index, "value": STANDARD.encode(value.encode_to_vec()) }));
    Ok(Json(set.collect()))
}

#[derive(Deserialize)]
struct Action {
    index: Vec<String>,
    /// `SyncActionValue` of WhatsApp's protocol buffers, base64.
    value: String,
}

async fn set_app_state(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Action>) -> Answer {
    let phone = digits(&phone)?;
    let value = wa::SyncActionValue::decode_from_slice(&decoded(&body.value)?).map_err(SimulatorError::protocol)?;
    let index: Vec<&str> = body.index.iter().map(String::as_str).collect();
    world.set_app_state(&phone, &index, value)?;
    Ok(Json(json!({ "phone": phone })))
}

#[derive(Deserialize)]
struct Expire {
    #[serde(default)]
    files: bool,
    #[serde(default)]
    auth: bool,
    ttl_s: Option<u64>,
}

async fn expire_media(State(world): State<World>, Json(body): Json<Expire>) -> Answer {
    if body.files {
        world.expire_media();
    }
    if body.auth {
        world.expire_media_auth();
    }
    if let Some(ttl_s) = body.ttl_s {
        world.set_media_ttl(ttl_s);
    }
    let (files, bytes) = world.media_stored();
    Ok(Json(json!({ "files": files, "bytes": bytes })))
}
