//! The OpenAPI document, made of the routes. The handlers document their own parts; this file adds the parts that
//! follow from a route's path and policy (parameters, role, the failures that every such route has) and the examples.
//! The same routes make the same text. Never answers a request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::auth::Role;
use crate::http::error::ErrorBody;
use crate::http::policy::Scope;
use crate::http::route::Route;

const JSON: &str = "application/json";
const ABOUT: &str = "\
Bodies are plain JSON; lists are bare arrays. The API key goes into `X-API-Key` or `Authorization: Bearer`. `{session}` is a \
session's UUID or its name. Participants are written as `<digits>@c.us`, bare digits, `<digits>@s.whatsapp.net` or \
`<digits>@lid`. An empty body is `{}`; its `Content-Type` does not matter. Every answer has `X-Request-ID`: the \
caller's own if it is up to 128 of `[A-Za-z0-9-]`, else a new one. Every answer to a known key has `RateLimit-Limit` \
(requests that fit at once), `RateLimit-Remaining` and `RateLimit-Reset` (seconds until all fit again).

Every failure has one shape, `Error`: also 404 for an unknown path, and 405 with `Allow` for another method. Only a \
request that is not HTTP gets 400 without a body, and one with too large a head gets 431 without a body. Answers may get new fields.";

/// Each module with routes, in the order of the document.
const SECTIONS: [(&str, &str); 27] = [
    ("sessions", "WhatsApp accounts: create, start, stop, log out, delete"),
    ("pairing", "Linking a phone to a session"),
    ("passkey", "The passkey that WhatsApp asks for while some accounts are linked"),
    ("configuration", "The configuration of a session: calls and reconnects"),
    ("proxy", "What a session's connections to WhatsApp go through"),
    ("account", "What WhatsApp allows a session's account, and whether the account is shown as online"),
    ("groups", "Groups: list, create, get, update subject and description, leave. Reads come from the session's cache"),
    ("settings", "What is set in a group"),
    ("picture", "A group's picture"),
    ("participants", "Who is in a group, and who is its admin"),
    ("invites", "Invite codes"),
    ("joining", "Getting into groups by invite code"),
    ("requests", "People who asked to be let into a group"),
    (
        "events",
        "What happens in a session and its groups, in order: page by page, or as a stream. For Socket.IO, see the README",
    ),
    ("webhooks", "Webhooks: what happens is sent to other systems, in order and at least once"),
    ("contacts", "People outside of groups: whether numbers are on WhatsApp"),
    ("profile", "The account's own profile"),
    ("chats", "Chats: typing, reading, and what the account's own devices show"),
    ("messages", "Messages to people and groups"),
    ("batches", "Messages in bulk"),
    ("communities", "Communities: groups of groups"),
    ("export", "Tables for spreadsheets, as CSV"),
    ("stats", "Figures"),
    ("keys", "API keys. A viewer reads, an operator also changes, an admin also manages keys"),
    ("audit", "Who changed what, and who was refused"),
    ("health", "Whether the daemon runs and may get traffic"),
    ("docs", "This document"),
];

/// Bodies without a required field that must have at least one field.
const NEVER_EMPTY: [&str; 2] = ["NewSettings", "NewPicture"];

/// A failure that many routes share.
struct Failure {
    status: u16,
    /// Its name in the document.
    name: &'static str,
    description: &'static str,
    /// `message` and `code` of its example.
    example: (&'static str, &'static str),
}

const FAILURES: [Failure; 12] = [
    Failure {
        status: 400,
        name: "BadRequest",
        description: "A parameter, the body or the session's state does not allow this",
        example: ("limit must be a number, not a", "invalid_parameter"),
    },
    Failure {
        status: 401,
        name: "Unauthorized",
        description: "No key, or one that is not accepted here",
        example: ("Invalid API key", "api_key_invalid"),
    },
    Failure {
        status: 403,
        name: "Forbidden",
        description: "The key's role is too low, or WhatsApp refused; when it refused everybody, `results` says why",
        example: ("Insufficient permissions. Required: operator", "insufficient_permissions"),
    },
    Failure {
        status: 404,
        name: "NotFound",
        description: "What the path names does not exist",
        example: ("Session with id 'x' not found", "session_not_found"),
    },
    Failure {
        status: 408,
        name: "RequestTimeout",
        description: "The body did not arrive in time",
        example: ("The body did not arrive in time", "body_too_slow"),
    },
    Failure {
        status: 409,
        name: "Conflict",
        description: "The session is not connected, or somebody else changed the same at the same time",
        example: ("Session is not connected", "session_not_connected"),
    },
    Failure {
        status: 413,
        name: "PayloadTooLarge",
        description: "The body is too large",
        example: ("The body is larger than 1048576 bytes", "body_too_large"),
    },
    Failure {
        status: 415,
        name: "UnsupportedMediaType",
        description: "The body is compressed",
        example: ("Compressed bodies are not supported: send it without Content-Encoding", "body_compressed"),
    },
    Failure {
        status: 429,
        name: "TooManyRequests",
        description: "Too many requests with this key, from this address, for this session, or for WhatsApp",
        example: ("Too many requests with this API key", "rate_limited"),
    },
    Failure {
        status: 500,
        name: "InternalServerError",
        description: "A defect; the log has the cause under the request's id",
        example: ("Internal server error", "internal_error"),
    },
    Failure {
        status: 422,
        name: "UnprocessableEntity",
        description: "The idempotency key was used for another request",
        example: (
            "This Idempotency-Key was used for another request: use a new key for each request",
            "idempotency_key_reused",
        ),
    },
    Failure {
        status: 503,
        name: "ServiceUnavailable",
        description: "Not now; the text says whether something may have been changed",
        example: ("WhatsApp did not confirm in time: the change may have been applied", "outcome_unknown"),
    },
];

/// The document.
///
/// # Panics
/// When a section has no description: a defect of the routes.
pub(crate) fn document(routes: Vec<Route>) -> Value {
    let mut schemas = BTreeMap::from([("Error".to_owned(), to_value(ErrorBody::schema()))]);
    let mut error_schemas = Vec::new();
    ErrorBody::schemas(&mut error_schemas);
    schemas.extend(error_schemas.into_iter().map(|(name, schema)| (name, to_value(schema))));

    let mut paths = Map::new();
    for route in routes {
        assert!(SECTIONS.iter().any(|(name, _)| *name == route.tag()), "`{}` has no description", route.tag());
        let described = (route.describe)();
        schemas.extend(described.schemas.into_iter().map(|(name, schema)| (name, to_value(schema))));
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[method(&route)] = operation(&route, &to_value(described.operation));
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rookery",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only" },
        },
        "servers": [{ "url": "/", "description": "The daemon that answered this" }],
        "tags": SECTIONS.map(|(name, description)| json!({ "name": name, "description": description })),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
            "responses": shared_failures(),
            "schemas": schemas,
        },
    });
    free_bodies(&mut document);
    give_examples(&mut document);
    document
}

/// A body in which nothing is required may be left out altogether: an empty one is `{}`.
fn free_bodies(document: &mut Value) {
    for name in NEVER_EMPTY {
        document["components"]["schemas"][name]["minProperties"] = json!(1);
    }
    let schemas = document["components"]["schemas"].clone();
    let operations = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in operations.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let Some(body) = operation.get_mut("requestBody") else { continue };
        let reference = body["content"][JSON]["schema"]["$ref"].as_str().unwrap_or_default();
        let schema = &schemas[reference.rsplit('/').next().unwrap_or_default()];
        if schema.is_object() && schema.get("required").is_none() && schema.get("minProperties").is_none() {
            body["required"] = json!(false);
        }
    }
}

fn method(route: &Route) -> String {
    route.method.as_str().to_lowercase()
}

/// The parts that the handler documents, and those that follow from the route.
fn operation(route: &Route, operation: &Value) -> Value {
    let role = route.policy.role;
    let note = match route.policy.scope {
        Scope::Path => "",
        Scope::Membership => "A key that is limited to some groups needs `allowGroupCreation`.",
        Scope::Session => "Not for keys that are limited to some groups.",
        Scope::Everything => "Not for keys that are limited to some sessions or groups.",
    };
    let mut parameters = path_parameters(route.path);
    if route.policy.once_per_key {
        parameters.push(idempotency_key());
    }
    parameters.extend(operation["parameters"].as_array().into_iter().flatten().cloned());
    let has_body = operation.get("requestBody").is_some();

    let mut responses = Map::new();
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        responses.insert(status.clone(), own_response(status, response.clone()));
    }
    for shared in FAILURES.iter().filter(|failure| can_fail(failure.status, route, &parameters, has_body)) {
        let reference = json!({ "$ref": format!("#/components/responses/{}", shared.name) });
        responses.entry(shared.status.to_string()).or_insert(reference);
    }
    responses.sort_keys();

    let description = [operation["description"].as_str().unwrap_or_default(), note].join(" ");
    let mut all = json!({
        "tags": [route.tag()],
        "operationId": route.action,
        "summary": operation["summary"],
        "description": Some(description.trim()).filter(|description| !description.is_empty()),
        "x-required-role": role.map(Role::as_str),
        "security": role.map_or(json!([]), |_| json!([{ "apiKey": [] }, { "bearer": [] }])),
        "parameters": Some(parameters).filter(|parameters| !parameters.is_empty()),
        "requestBody": operation["requestBody"],
        "responses": responses,
    });
    all.as_object_mut().into_iter().for_each(|all| all.retain(|_, part| !part.is_null()));
    all
}

fn path_parameters(path: &str) -> Vec<Value> {
    let parameter = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema });
    let known = |name: &str| match name {
        "session" => parameter(name, "A session's id or name", json!({ "type": "string", "example": "my-session" })),
        "group" => parameter(name, "A group's id", json!({ "$ref": "#/components/schemas/WrittenGroupId" })),
        "community" => parameter(name, "A community's id", json!({ "$ref": "#/components/schemas/WrittenGroupId" })),
        "chat" => parameter(
            name,
            "A chat: a person, or a group",
            json!({ "type": "string", "example": "120363021234567890@g.us" }),
        ),
        "message" => {
            parameter(name, "A message's id", json!({ "type": "string", "example": "3EB0D1C5A7F2E4B6908A13" }))
        }
        "number" => {
            parameter(name, "A phone number in any spelling", json!({ "$ref": "#/components/schemas/PhoneNumber" }))
        }
        "key" => parameter(
            name,
            "A key's id",
            json!({ "type": "string", "format": "uuid", "example": "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11" }),
        ),
        "webhook" => parameter(
            name,
            "A webhook's id",
            json!({ "type": "string", "format": "uuid", "example": "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11" }),
        ),
        _ => parameter(name, "", json!({ "type": "string" })),
    };
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(known).collect()
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "The request is carried out once for each key; for 24 hours the same key gives the same answer",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$" },
    })
}

/// Parts of the paths of routes that need a connection.
const ASKING_WHATSAPP: [&str; 6] = ["/groups", "/communities", "/contacts", "/chats/", "/profile/", "/pairing-code"];

/// Whether the layers and extractors before the handler, or any handler of such a route, can answer this.
fn can_fail(status: u16, route: &Route, parameters: &[Value], has_body: bool) -> bool {
    let needs_key = route.policy.role.is_some();
    // The body of every call that changes something is read, also where the route needs none.
    let takes_body = has_body || (!route.method.is_safe() && route.policy.role.is_some_and(|role| role > Role::Viewer));
    let sends = route.path.contains("/messages/") && !route.method.is_safe();
    let asks_whatsapp = sends || ASKING_WHATSAPP.iter().any(|part| route.path.contains(part));
    match status {
        400 => has_body || !parameters.is_empty(),
        401 | 403 => needs_key,
        404 => route.path.contains('{'),
        409 => asks_whatsapp,
        422 => route.policy.once_per_key,
        429 => needs_key,
        408 | 413 | 415 => takes_body,
        _ => true,
    }
}

/// A response as the handler documents it: a failure gets the error's shape, every other one the header that all have.
fn own_response(status: &str, mut response: Value) -> Value {
    let number = status.parse().unwrap_or_default();
    if number >= 400 {
        let description = response["description"].as_str().unwrap_or_default();
        // "What went wrong (`code`)" makes an example by itself.
        let example = match description.trim_end_matches("`)").rsplit_once(" (`") {
            Some(own) => own,
            None => FAILURES.iter().find(|shared| shared.status == number).map_or((description, ""), |it| it.example),
        };
        return failure(number, description, example);
    }
    response["headers"]["X-Request-ID"] = request_id();
    response
}

fn shared_failures() -> Map<String, Value> {
    let named = FAILURES.iter().map(|it| (it.name.to_owned(), failure(it.status, it.description, it.example)));
    named.collect()
}

fn failure(status: u16, description: &str, (message, code): (&str, &str)) -> Value {
    let reason = axum::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut headers = json!({ "X-Request-ID": request_id() });
    match status {
        401 => headers["WWW-Authenticate"] = json!({ "schema": { "type": "string" }, "description": "`Bearer`" }),
        429 | 503 => {
            headers["Retry-After"] = json!({ "schema": { "type": "integer" }, "description": "Seconds to wait" });
        }
        _ => {}
    }
    let example = json!({ "message": message, "error": reason, "statusCode": status, "code": code });
    let content = json!({ JSON: { "schema": { "$ref": "#/components/schemas/Error" }, "example": example } });
    json!({ "description": description, "headers": headers, "content": content })
}

fn request_id() -> Value {
    json!({ "schema": { "type": "string" }, "description": "The request's id, as in the log" })
}

/// Gives each JSON body without an example one that is made of its schema's.
fn give_examples(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let operations = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in operations.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let mut bodies: Vec<&mut Value> = Vec::new();
        let Some(operation) = operation.as_object_mut() else { continue };
        for (name, part) in operation {
            match name.as_str() {
                "requestBody" => bodies.push(part),
                "responses" => bodies.extend(part.as_object_mut().into_iter().flat_map(Map::values_mut)),
                _ => {}
            }
        }
        for content in bodies.into_iter().filter_map(|body| body.get_mut("content")?.get_mut(JSON)) {
            if content.get("example").is_none() {
                content["example"] = example(&content["schema"], &schemas);
            }
        }
    }
}

/// An example for the schema: its own, or else one made of the examples of its parts.
fn example(schema: &Value, schemas: &Value) -> Value {
    let named = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    if let Some(name) = named {
        return example(&schemas[name], schemas);
    }
    if let Some(own) = schema.get("example").or_else(|| schema["examples"].get(0)).or_else(|| schema["enum"].get(0)) {
        return own.clone();
    }
    let parts = |name: &str| schema[name].as_array().into_iter().flatten();
    if let Some(one) = parts("oneOf").find(|part| part["type"] != "null") {
        let one = example(one, schemas);
        // A part that may be `null`: objects are shown as `null`, other values as they are.
        return if one.is_object() { Value::Null } else { one };
    }
    let mut object = Map::new();
    for part in parts("allOf") {
        object.extend(example(part, schemas).as_object().cloned().unwrap_or_default());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        object.insert(name.clone(), example(property, schemas));
    }
    match &schema["type"] {
        Value::Array(types) => example(&json!({ "type": types[0], "items": schema["items"] }), schemas),
        Value::String(kind) => match kind.as_str() {
            "array" => json!([example(&schema["items"], schemas)]),
            "boolean" => json!(true),
            "integer" | "number" => json!(1),
            "string" => json!("text"),
            _ => Value::Object(object),
        },
        _ => Value::Object(object),
    }
}

/// Converts utoipa's types, which never fails.
fn to_value(part: impl serde::Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::http::routes;

    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let items = document["paths"].as_object().unwrap().iter();
        let all = items.flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
        });
        all.collect()
    }

    /// `UPDATE_OPENAPI=1 cargo test -p rookery --lib openapi` writes the file anew.
    #[test]
    fn the_document_is_the_one_in_tests_openapi_json() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
        let now = format!("{:#}\n", document(routes()));
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let line = kept.lines().zip(now.lines()).position(|(kept, now)| kept != now).map_or(0, |index| index + 1);
        assert!(
            kept == now,
            "the API's document has changed, from line {line} of tests/openapi.json on. If that is meant, write the file \
             anew with `UPDATE_OPENAPI=1 cargo test -p rookery --lib openapi` and commit it"
        );
    }

    #[test]
    fn every_route_is_in_the_document_and_every_entry_has_a_route() {
        let document = document(routes());
        let documented: BTreeSet<_> = operations(&document).into_iter().map(|(line, _)| line).collect();
        let routed: Vec<_> = routes().iter().map(|route| format!("{} {}", method(route), route.path)).collect();
        assert_eq!(routed.len(), documented.len());
        assert_eq!(routed.into_iter().collect::<BTreeSet<_>>(), documented);
    }

    #[test]
    fn every_operation_has_a_summary_a_success_and_an_example_of_each_json_body() {
        let document = document(routes());
        for (line, operation) in operations(&document) {
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{line}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{line}");
            for body in responses.values().chain(operation.get("requestBody")) {
                let content = body.get("content").and_then(|content| content.get(JSON));
                assert!(content.is_none_or(|content| content["example"].is_object() || content["example"].is_array()));
            }
        }
    }

    #[test]
    fn a_body_may_be_left_out_where_nothing_in_it_is_required() {
        let document = document(routes());
        for (line, required) in [
            ("patch /api/sessions/{session}/config", false),
            ("post /api/sessions/{session}/groups/{group}/membership-requests/approve", false),
            ("put /api/sessions/{session}/groups/{group}/settings", true),
            ("post /api/sessions/{session}/groups", true),
        ] {
            let (_, operation) = operations(&document).into_iter().find(|(at, _)| at == line).unwrap();
            assert_eq!(operation["requestBody"]["required"], required, "{line}");
        }
    }

    #[test]
    fn the_role_that_a_route_needs_is_in_the_document() {
        let document = document(routes());
        for (line, role) in [
            ("get /api/health", Value::Null),
            ("get /api/sessions", json!("viewer")),
            ("get /api/sessions/{session}/qr", json!("operator")),
            ("post /api/auth/api-keys", json!("admin")),
        ] {
            let (_, operation) = operations(&document).into_iter().find(|(at, _)| at == line).unwrap();
            let needs_key = operation["security"] != json!([]);
            assert_eq!((&operation["x-required-role"], needs_key), (&role, !role.is_null()), "{line}");
            assert_eq!(operation["responses"].get("401").is_some(), needs_key, "{line}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document(routes());
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn no_text_is_written_for_readers_of_the_source() {
        let text = document(routes()).to_string();
        for word in ["`None`", "[`", "Self::", "Json<", "(K-"] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
