//! Callers' input, as the fuzzer makes it: each function reads bytes as the daemon would, and panics when the result
//! breaks a promise. Exists only under cargo-fuzz (`tests/fuzz/`).

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use rookery_model::{GroupId, ParticipantId, SessionId, SessionName, Timestamp};

use serde_json::{Map, Value};

use crate::auth::{AddressRange, client_address};
use crate::http::error::ApiError;
use crate::http::handlers::{
    api_keys, audit, communities, groups, join, participants, passkey, picture, proxy, session_config, settings,
};
use crate::http::middleware::authorization;
use crate::http::request::fields::{Fields, FromFields, Known};
use crate::http::request::{body, extract, group_filter};

/// Ids of groups, participants and sessions: an id that is read, written and read again is the same.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<GroupId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(id) = text.parse::<ParticipantId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.digits().to_string().bytes().all(|byte| byte.is_ascii_digit()));
    }
    if let Ok(id) = ParticipantId::parse_written(text) {
        assert_eq!(id.to_string().parse(), Ok(id), "what is read in any spelling has a canonical form");
        let other = id.other_spelling();
        assert!(other.is_none_or(|other| other != id && other.other_spelling() == Some(id)));
    }
    if let Ok(id) = GroupId::parse_written(text) {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(name) = text.parse::<SessionName>() {
        assert_eq!(name.as_str(), text);
        assert!(text.parse::<SessionId>().is_err(), "a name is never taken for an id");
    }
    if let Ok(range) = text.parse::<AddressRange>() {
        assert_eq!(range.to_string().parse(), Ok(range));
    }
    if let Some(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
    }
}

/// Queries of all kinds.
pub fn queries(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(uri) = format!("/?{text}").parse::<Uri>() else { return };
    let Ok(pairs) = extract::pairs_of(&uri) else { return };
    if let Ok(page) = extract::Page::read(&pairs) {
        assert!((1..=1_000).contains(&page.limit()) && page.of(&[0; 9]).len() <= 9);
    }
    let role = extract::value_of(&pairs, "role");
    let _ =
        (group_filter::GroupFilter::read(&pairs), audit::Wanted::read(&pairs), participants::ListedRole::read(role));
    if let Some(code) = extract::value_of(&pairs, "code").and_then(join::code_of) {
        assert!(code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
    }
}

/// Bodies of all kinds.
pub fn bodies(bytes: &[u8]) {
    let Ok(map) = body::parse(bytes) else { return };
    fn read<T: FromFields>(map: &Map<String, Value>) -> Result<T, ApiError> {
        Fields::parse(map.clone(), Known::default())
    }
    let _ = (read::<api_keys::KeyUpdate>(&map), read::<session_config::NewConfig>(&map));
    let _ = (read::<proxy::NewProxy>(&map), read::<passkey::PasskeyCredential>(&map));
    let _ = (read::<communities::CommunityRequest>(&map), read::<settings::NewSettings>(&map));
    let _ = (read::<join::Invitation>(&map), read::<picture::NewPicture>(&map).map(picture::NewPicture::source));
    if let Ok(new) = read::<groups::NewGroup>(&map) {
        assert!((1..=256).contains(&new.command(None).participants.len()));
    }
}

/// The headers that may hold a key.
pub fn key_header(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    for name in [header::HeaderName::from_static(authorization::KEY_HEADER), header::AUTHORIZATION] {
        let headers = HeaderMap::from_iter([(name, value.clone())]);
        if let Some(key) = authorization::presented_key(&headers) {
            assert!(!key.is_empty() && key.trim() == key);
        }
    }
}

/// `X-Forwarded-For`: nothing that an untrusted peer writes is believed.
pub fn forwarded_for(bytes: &[u8]) {
    let values: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let [trusted, stranger]: [IpAddr; 2] = ["10.0.0.1", "192.0.2.1"].map(|text| text.parse().expect("an address"));
    let ranges: [AddressRange; 1] = ["10.0.0.0/8".parse().expect("a range")];
    assert_eq!(client_address(stranger, values.iter().copied(), &ranges), Some(stranger));
    // The address to the right of them decides: a proxy adds it there.
    let ours: &[u8] = b"192.0.2.1";
    let appended = values.iter().copied().chain([ours]);
    assert_eq!(client_address(trusted, appended, &ranges), Some(stranger));
    let _ = client_address(trusted, values.iter().copied(), &ranges);
}
