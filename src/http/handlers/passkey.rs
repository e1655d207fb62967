//! The passkey that WhatsApp asks for while some accounts are linked: what it asks, the answer, the comparison of codes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rookery_model::{PasskeyAnswer, Session};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::happened::Told;
use crate::http::response::json::ToldResult;

/// Bytes of a credential's id: what WebAuthn allows.
const CREDENTIAL_ID_BYTES_MAX: usize = 1_023;
/// Bytes of an authenticator's data: a hash, flags and a counter (WebAuthn, section 6.1).
const AUTHENTICATOR_DATA_BYTES_MIN: usize = 37;
/// The page that a passkey for WhatsApp signs on.
const ORIGIN: &str = "https://web.whatsapp.com";
/// WebAuthn leaves the padding out; some write it all the same.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a passkey is asked for, as WhatsApp wrote it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "WhatsApp's own text is the answer; the fields are documented here")]
#[serde(rename_all = "camelCase")]
pub(crate) struct PasskeyOptions {
    /// To be signed, base64url.
    challenge: String,
    /// Whose passkey: `whatsapp.com`. It signs on a page of https://web.whatsapp.com only.
    rp_id: String,
    /// The passkeys that may sign; empty: any of the account's.
    allow_credentials: Vec<Value>,
    user_verification: String,
    /// Milliseconds.
    timeout: u64,
}

/// The answer of a passkey: WebAuthn's `PublicKeyCredential.toJSON()`. Further fields are left out.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PasskeyCredential {
    /// The credential's id, base64url.
    #[schema(value_type = String, example = "Y3JlZGVudGlhbA")]
    #[expect(dead_code, reason = "documented here; it is part of the answer")]
    id: (),
    /// The same.
    #[schema(value_type = String, example = "Y3JlZGVudGlhbA")]
    #[expect(dead_code, reason = "documented here; it is part of the answer")]
    raw_id: (),
    /// `public-key`.
    #[schema(value_type = String, example = "public-key")]
    #[expect(dead_code, reason = "documented here; it is part of the answer")]
    r#type: (),
    /// `clientDataJSON`, `authenticatorData` and `signature`, base64url; `userHandle` may be there.
    #[schema(value_type = Object)]
    #[expect(dead_code, reason = "documented here; it is part of the answer")]
    response: (),
    #[serde(skip)]
    challenge: String,
    #[serde(skip)]
    answer: PasskeyAnswer,
}

impl FromFields for PasskeyCredential {
    fn read(fields: &mut Fields<'_>) -> Self {
        let (id, raw_id, kind) = (fields.base64url("id"), fields.base64url("rawId"), fields.any_text("type"));
        if kind.as_deref() != Some("public-key") {
            fields.broken("type", "must be public-key");
        }
        if id != raw_id {
            fields.broken("rawId", "must be the same as id");
        }
        if !(1..=CREDENTIAL_ID_BYTES_MAX).contains(&raw_id.len()) {
            fields.broken("rawId", "must be the id of a passkey, base64url");
        }
        let response = fields.take_object("response");
        let (json, challenge) = read_response(fields, &response);
        fields.ignore_others();
        let encoded = BASE64URL.encode(&raw_id);
        let assertion = json!({ "id": encoded, "rawId": encoded, "type": "public-key", "response": json });
        let assertion_json = assertion.to_string().into_bytes();
        let answer = PasskeyAnswer { credential_id: raw_id, assertion_json };
        Self { id: (), raw_id: (), r#type: (), response: (), challenge, answer }
    }
}

/// The parts of a passkey's answer, and the challenge that it signed.
fn read_response(fields: &mut Fields<'_>, response: &Map<String, Value>) -> (Value, String) {
    let mut read = |name: &str| {
        let bytes = response.get(name).and_then(Value::as_str).and_then(|text| BASE64URL.decode(text).ok());
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        if bytes.is_none() {
            fields.broken(&format!("response.{name}"), "must be base64url, as PublicKeyCredential.toJSON() writes it");
        }
        bytes.unwrap_or_default()
    };
    let [client_data, authenticator_data, signature] =
        ["clientDataJSON", "authenticatorData", "signature"].map(&mut read);
    let user_handle = match response.get("userHandle") {
        None | Some(Value::Null) => None,
        Some(Value::String(none)) if none.is_empty() => None,
        Some(_) => Some(read("userHandle")),
    };
    let told: Value = serde_json::from_slice(&client_data).unwrap_or_default();
    if !client_data.is_empty() && !told.is_object() {
        fields.broken("response.clientDataJSON", "must hold JSON, as PublicKeyCredential.toJSON() writes it");
    }
    let expected = [("type", "webauthn.get"), ("origin", ORIGIN)];
    for (name, expected) in expected.into_iter().filter(|_| told.is_object()) {
        if told[name] != expected {
            let rule = format!("must have the {name} {expected}: have the passkey sign on that page");
            fields.broken("response.clientDataJSON", &rule);
        }
    }
    if !authenticator_data.is_empty() && authenticator_data.len() < AUTHENTICATOR_DATA_BYTES_MIN {
        fields.broken("response.authenticatorData", "is too short: a passkey's answer has 37 bytes or more there");
    }
    let json = json!({
        "clientDataJSON": BASE64URL.encode(&client_data),
        "authenticatorData": BASE64URL.encode(&authenticator_data),
        "signature": BASE64URL.encode(&signature),
        "userHandle": user_handle.map(|handle| BASE64URL.encode(handle)),
    });
    (json, told["challenge"].as_str().unwrap_or_default().to_owned())
}

impl Fields<'_> {
    /// Bytes in base64url; none when the field is broken.
    fn base64url(&mut self, name: &str) -> Vec<u8> {
        let text = self.any_text(name);
        let bytes = text.and_then(|text| BASE64URL.decode(text).ok());
        if bytes.is_none() {
            self.broken(name, "must be base64url, as PublicKeyCredential.toJSON() writes it");
        }
        bytes.unwrap_or_default()
    }
}

/// Get what a passkey is asked for
///
/// Some accounts need their passkey to link a device. The session is `action_required` then, with `linking.step` `passkey`. Give the options
/// to `PublicKeyCredential.parseRequestOptionsFromJSON()` and `navigator.credentials.get()` on a page of https://web.whatsapp.com, in a browser
/// that has the account's passkey.
#[utoipa::path(
    get,
    path = "",
    responses(
        (status = 200, description = "WhatsApp's `PublicKeyCredentialRequestOptions`", body = PasskeyOptions),
        (status = 404, description = "WhatsApp does not ask for a passkey now (`passkey_not_requested`)"),
    ),
)]
pub(crate) async fn options(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> Result<Response, ApiError> {
    let mut response = Json(app.gateway.passkey(id).await?).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Answer with the passkey
///
/// When WhatsApp refuses the answer, or does not answer, linking begins anew with another QR. When it takes the answer, the phone goes on:
/// `linking.step` becomes `passkey_confirmation`, and `linking.code` is the code that the phone has to show.
#[utoipa::path(
    post,
    path = "",
    request_body = PasskeyCredential,
    responses(
        (status = 200, description = "WhatsApp took it", body = Session),
        (status = 404, description = "WhatsApp does not ask for a passkey now (`passkey_not_requested`)"),
        (status = 409, description = "An answer was taken already (`passkey_taken`)"),
    ),
)]
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    JsonBody(PasskeyCredential { challenge, answer, .. }): JsonBody<PasskeyCredential>,
) -> ToldResult<Arc<Session>> {
    Ok(Told(app.gateway.answer_passkey(id, challenge, answer).await?))
}

/// Confirm the code on the phone
///
/// Only when the phone shows the code in `linking.code`: else somebody else's device would be linked.
#[utoipa::path(
    post,
    path = "",
    responses(
        (status = 200, description = "Confirmed; the phone links the device", body = Session),
        (status = 404, description = "WhatsApp does not ask for a passkey now (`passkey_not_requested`)"),
        (status = 409, description = "There is no code yet (`passkey_code_not_shown`), or it was confirmed already (`passkey_taken`)"),
    ),
)]
pub(crate) async fn confirm(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> ToldResult<Arc<Session>> {
    Ok(Told(app.gateway.confirm_passkey(id).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::fields::Known;

    fn read(body: &Value) -> Result<(String, Value), Vec<String>> {
        let read = Fields::parse::<PasskeyCredential>(body.as_object().cloned().unwrap(), Known::default());
        read.map(|read| (read.challenge, serde_json::from_slice(&read.answer.assertion_json).unwrap())).map_err(
            |error| match error {
                ApiError::Body(messages) => messages,
                other => vec![format!("{other:?}")],
            },
        )
    }

    fn credential(client_data: &Value) -> Value {
        json!({
            "id": "aWQ", "rawId": "aWQ=", "type": "public-key", "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": BASE64URL.encode(client_data.to_string()), "authenticatorData": BASE64URL.encode([7; 37]),
                "signature": "c2ln", "userHandle": null, "transports": ["internal"],
            },
        })
    }

    #[test]
    fn an_answer_goes_on_with_whatsapps_fields_only() {
        let client_data = json!({ "type": "webauthn.get", "challenge": "Y2g", "origin": ORIGIN, "crossOrigin": false });
        let (challenge, sent) = read(&credential(&client_data)).unwrap();
        assert_eq!(challenge, "Y2g");
        let expected = json!({
            "id": "aWQ", "rawId": "aWQ", "type": "public-key",
            "response": {
                "clientDataJSON": BASE64URL.encode(client_data.to_string()), "authenticatorData": BASE64URL.encode([7; 37]),
                "signature": "c2ln", "userHandle": null,
            },
        });
        assert_eq!(sent, expected);
    }

    #[test]
    fn each_wrong_part_is_named() {
        let good = json!({ "type": "webauthn.get", "challenge": "Y2g", "origin": ORIGIN });
        let form = "must be base64url, as PublicKeyCredential.toJSON() writes it";
        let with = |pointer: &str, value: Value| {
            let mut changed = credential(&good);
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        let cases = [
            (with("/type", json!("password")), vec!["type must be public-key".to_owned()]),
            (with("/id", json!("b3RoZXI")), vec!["rawId must be the same as id".into()]),
            (with("/response/signature", json!("a b")), vec![format!("response.signature {form}")]),
            (with("/response/authenticatorData", json!("")), vec![format!("response.authenticatorData {form}")]),
            (
                with("/response/clientDataJSON", json!("e30x")),
                vec!["response.clientDataJSON must hold JSON, as PublicKeyCredential.toJSON() writes it".into()],
            ),
            (with("/response/userHandle", json!(7)), vec![format!("response.userHandle {form}")]),
            (with("/response", json!("x")), vec!["response must be an object".into()]),
            (
                credential(&json!({ "type": "webauthn.get", "challenge": "Y2g", "origin": "https://hub.example.com" })),
                vec![format!(
                    "response.clientDataJSON must have the origin {ORIGIN}: have the passkey sign on that page"
                )],
            ),
        ];
        for (body, expected) in cases {
            let messages = read(&body).unwrap_err();
            assert_eq!(messages[..expected.len()], expected, "{body}");
        }
        assert!(read(&json!({})).unwrap_err().contains(&"response must be an object".to_owned()));
    }
}
