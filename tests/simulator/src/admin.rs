//! The admin API: JSON over HTTP, for tests in any language. It does nothing that [`World`] cannot do.
//!
//! All callers are trusted: the API listens where the tests say, and asks for no key.

mod groups;
mod phones;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    AccountSpec, Addable, Answers, Credential, Fault, FaultKind, NewChatLimit, PasskeyManner, Phone, ReachoutLock,
    SimulatorError, World,
};

/// The delay of a slow answer when the fault names none.
const SLOW_DELAY_MS: u64 = 1_000;
/// The code of a failed log-in when the fault names none: the account is locked.
const LOCK_CODE: u16 = 403;
/// The code of a refusal when the fault names none.
const REFUSE_CODE: u16 = 500;

pub(crate) fn router(world: World, root_key: String) -> Router {
    Router::new()
        .route("/admin/mock-phone/scan-qr", post(scan_qr))
        .route("/admin/mock-phone/enter-code", post(enter_code))
        .route("/admin/mock-phone/unlink", post(unlink))
        .route("/admin/mock-phone/passkey", get(passkey_code))
        .route("/admin/mock-phone/sign", post(sign))
        .route("/admin/accounts/{phone}/passkey", post(require_passkey).delete(drop_passkey))
        .route("/admin/accounts", post(add_account))
        .route("/admin/accounts/{phone}/name", post(rename))
        .route("/admin/accounts/{phone}/number", post(change_number))
        .route("/admin/accounts/{phone}/contacts", post(set_contact))
        .route("/admin/accounts/{phone}/reachout-lock", post(lock_reachout))
        .route("/admin/accounts/{phone}/new-chats", post(limit_new_chats))
        .route("/admin/calls", post(call))
        .route("/admin/groups", post(groups::add_group))
        .route("/admin/groups/{gid}/telling", post(groups::set_telling))
        .route("/admin/groups/{gid}/suspension", post(groups::set_suspension))
        .route("/admin/answers", post(set_answers))
        .route("/admin/groups/{gid}/{change}", post(groups::change_group))
        .route("/admin/communities", post(groups::add_community))
        .route("/admin/faults", post(add_fault))
        .route("/admin/faults/{phone}", delete(clear_faults))
        .route("/admin/history", get(history).post(record_history))
        .merge(phones::router())
        .route("/admin/root-key", get(|| async move { Json(json!({ "root_key": root_key })) }))
        .route("/admin/world", get(|State(world): State<World>| async move { Json(world.snapshot()) }))
        .with_state(world)
}

type Answer = Result<Json<Value>, SimulatorError>;

impl IntoResponse for SimulatorError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::UnknownGroup(_) | Self::UnknownQr | Self::NoPairingCode => StatusCode::NOT_FOUND,
            Self::Refused(_) => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

#[derive(Deserialize)]
pub(crate) struct ScanQr {
    phone: Option<String>,
}

/// The body is the raw text of the QR code. Without `phone` a new account scans it.
pub(crate) async fn scan_qr(State(world): State<World>, Query(query): Query<ScanQr>, qr: String) -> Answer {
    let phone = match query.phone {
        Some(phone) => digits(&phone)?,
        None => world.free_phone(),
    };
    world.phone(&phone).scan_qr(&qr)?;
    Ok(Json(json!({ "phone": phone })))
}

#[derive(Deserialize)]
struct EnterCode {
    phone: String,
    code: String,
}

async fn enter_code(State(world): State<World>, Json(body): Json<EnterCode>) -> Answer {
    let phone: Phone = world.phone(&digits(&body.phone)?);
    let entered = tokio::task::spawn_blocking(move || phone.enter_code(&body.code)).await;
    entered.map_err(SimulatorError::crypto)??;
    Ok(Json(json!({ "phone": body.phone })))
}

#[derive(Deserialize)]
struct Unlink {
    phone: String,
}

async fn unlink(State(world): State<World>, Json(body): Json<Unlink>) -> Answer {
    world.phone(&digits(&body.phone)?).unlink_devices();
    Ok(Json(json!({ "phone": body.phone })))
}

#[derive(Deserialize)]
struct Passkey {
    /// The id of a passkey elsewhere, and its point on P-256, both base64url. Without them the simulator makes a passkey.
    credential_id: Option<String>,
    public_key: Option<String>,
    #[serde(default)]
    manner: PasskeyManner,
}

async fn require_passkey(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Passkey>) -> Answer {
    let phone = digits(&phone)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(SimulatorError::protocol);
    let credential = match (&body.credential_id, &body.public_key) {
        (Some(id), Some(public_key)) => Credential { id: decode(id)?, public_key: decode(public_key)? },
        _ => world.make_passkey(&phone)?,
    };
    let shown = URL_SAFE_NO_PAD.encode(&credential.id);
    world.require_credential(&phone, Some(credential), body.manner);
    Ok(Json(json!({ "phone": phone, "credential_id": shown })))
}

async fn drop_passkey(State(world): State<World>, Path(phone): Path<String>) -> Answer {
    let phone = digits(&phone)?;
    world.require_passkey(&phone, None);
    Ok(Json(json!({ "phone": phone })))
}

#[derive(Deserialize)]
struct Sign {
    phone: String,
    options: Value,
}

/// Signs with the passkey that the simulator made for the account, as the browser of its owner would.
async fn sign(State(world): State<World>, Json(body): Json<Sign>) -> Answer {
    let signed = world.sign_with_passkey(&digits(&body.phone)?, &body.options.to_string())?;
    Ok(Json(serde_json::from_str(&signed).map_err(SimulatorError::protocol)?))
}

#[derive(Deserialize)]
struct OfPhone {
    phone: String,
}

async fn passkey_code(State(world): State<World>, Query(query): Query<OfPhone>) -> Answer {
    Ok(Json(json!({ "code": world.passkey_code(&digits(&query.phone)?) })))
}

#[derive(Deserialize)]
struct NewAccount {
    phone: String,
    name: Option<String>,
    lid: Option<String>,
    #[serde(default)]
    addable: Addable,
    #[serde(default)]
    number_hidden: bool,
    #[serde(default)]
    spellings: Vec<String>,
}

async fn add_account(State(world): State<World>, Json(body): Json<NewAccount>) -> Answer {
    let phone = digits(&body.phone)?;
    let spellings = body.spellings.iter().map(|spelling| digits(spelling)).collect::<Result<_, _>>()?;
    world.add_account(AccountSpec {
        phone: phone.clone(),
        name: body.name,
        lid: body.lid,
        addable: body.addable,
        number_hidden: body.number_hidden,
        spellings,
    });
    Ok(Json(json!({ "phone": phone })))
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn rename(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Name>) -> Answer {
    let phone = digits(&phone)?;
    world.rename(&phone, &body.name);
    Ok(Json(json!({ "phone": phone })))
}

#[derive(Deserialize)]
struct Number {
    number: String,
}

async fn change_number(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Number>) -> Answer {
    let number = digits(&body.number)?;
    world.change_number(&digits(&phone)?, &number)?;
    Ok(Json(json!({ "phone": number })))
}

/// Fields that the body leaves out are reset to their defaults.
async fn set_answers(State(world): State<World>, Json(answers): Json<Answers>) -> Answer {
    let shown = json!(answers);
    world.set_answers(answers);
    Ok(Json(shown))
}

#[derive(Deserialize)]
struct Contact {
    contact: String,
    name: String,
}

async fn set_contact(State(world): State<World>, Path(phone): Path<String>, Json(body): Json<Contact>) -> Answer {
    let (phone, contact) = (digits(&phone)?, digits(&body.contact)?);
    world.set_contact(&phone, &contact, &body.name);
    Ok(Json(json!({ "phone": phone, "contact": contact })))
}

/// `null` lifts the lock.
async fn lock_reachout(
    State(world): State<World>,
    Path(phone): Path<String>,
    Json(lock): Json<Option<ReachoutLock>>,
) -> Answer {
    let phone = digits(&phone)?;
    world.lock_reachout(&phone, lock);
    Ok(Json(json!({ "phone": phone })))
}

/// `null` lifts the limit.
async fn limit_new_chats(
    State(world): State<World>,
    Path(phone): Path<String>,
    Json(limit): Json<Option<NewChatLimit>>,
) -> Answer {
    let phone = digits(&phone)?;
    world.limit_new_chats(&phone, limit);
    Ok(Json(json!({ "phone": phone })))
}

#[derive(Deserialize)]
struct NewCall {
    from: String,
    to: String,
}

async fn call(State(world): State<World>, Json(body): Json<NewCall>) -> Answer {
    Ok(Json(json!({ "id": world.call(&digits(&body.from)?, &digits(&body.to)?) })))
}

#[derive(Deserialize)]
struct Recording {
    on: bool,
}

async fn record_history(State(world): State<World>, Json(body): Json<Recording>) -> Answer {
    world.record_history(body.on);
    Ok(Json(json!({ "on": body.on })))
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn history(State(world): State<World>, Query(query): Query<After>) -> Answer {
    Ok(Json(json!(world.history_after(query.after))))
}

/// Removes the faults of an account that have not happened yet.
async fn clear_faults(State(world): State<World>, Path(phone): Path<String>) -> Answer {
    let phone = digits(&phone)?;
    world.clear_faults(&phone);
    Ok(Json(json!({ "phone": phone })))
}

#[derive(Deserialize)]
struct NewFault {
    phone: String,
    fault: String,
    kind: Option<String>,
    count: Option<u32>,
    #[serde(default)]
    apply: bool,
    #[serde(default)]
    now: bool,
    code: Option<u16>,
    backoff: Option<u32>,
    delay_ms: Option<u64>,
}

async fn add_fault(State(world): State<World>, Json(body): Json<NewFault>) -> Answer {
    let kind = match body.fault.as_str() {
        "drop" => FaultKind::Drop { apply: body.apply, now: body.now },
        "silence" => FaultKind::Silence { apply: body.apply },
        "refuse" => FaultKind::Refuse { code: body.code.unwrap_or(REFUSE_CODE), backoff_s: body.backoff },
        "break_down" => FaultKind::BreakDown { code: body.code.unwrap_or(REFUSE_CODE) },
        "stream_error" => FaultKind::StreamError,
        "logged_out" => FaultKind::LoggedOut,
        "replaced" => FaultKind::Replaced,
        "ban" => FaultKind::Ban,
        "fail" => FaultKind::Fail { code: body.code.unwrap_or(LOCK_CODE) },
        "slow" => FaultKind::Slow { delay_ms: body.delay_ms.unwrap_or(SLOW_DELAY_MS) },
        other => return Err(SimulatorError::protocol(format!("no such fault: `{other}`"))),
    };
    let phone = digits(&body.phone)?;
    world.add_fault(&phone, Fault { kind, iq: body.kind, count: body.count.unwrap_or(1) });
    Ok(Json(json!({ "phone": phone })))
}

/// Phone numbers are digits; a leading `+` is taken off.
fn digits(phone: &str) -> Result<String, SimulatorError> {
    let phone = phone.trim().trim_start_matches('+');
    if phone.is_empty() || !phone.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SimulatorError::protocol("a phone number is digits only"));
    }
    Ok(phone.to_owned())
}
