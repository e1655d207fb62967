//! The audit log's record of one call, and the keys of its rows. Never does IO.
//!
//! The rows of [`Table::Audit`](rookery_store::Table), all at the daemon's own number:
//!
//! | key | value |
//! |---|---|
//! | `e`, sequence number (8 bytes, big-endian) | hash (32 bytes), then the record as JSON |
//! | `g`, sequence number of the first of a run of removed records (8 bytes, big-endian) | that of the last, and its hash |
//! | `h` | the [`LogBounds`] as JSON |

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hex::FromHex;
use rookery_model::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

/// Begins the keys of records.
const RECORD_MARK: u8 = b'e';
/// Begins the keys of gaps.
pub(super) const GAPS_PREFIX: &[u8] = b"g";
/// The key of the extent.
pub(super) const EXTENT_KEY: &[u8] = b"h";
/// Records whose keys share all but the last byte: they are read in one scan.
pub(super) const CHUNK: u64 = 256;
const HASH_BYTES: usize = 32;

/// A SHA-256 over a record and the one before it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct ChainHash(pub(super) [u8; HASH_BYTES]);

/// Where the log ends. Its gaps say which records before that are missing.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogBounds {
    pub(crate) next: u64,
    /// The hash of the last record.
    pub(crate) last: ChainHash,
    /// Only in a log from before there were gaps: its first record, and the hash of the one before that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) first: u64,
    #[serde(default)]
    pub(super) before_first: ChainHash,
}

/// Removed records, from the one that names the gap to the last one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) last: u64,
    /// The hash of the last removed record.
    pub(super) hash: ChainHash,
}

/// Why records were removed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Because {
    /// The records were older than the log is kept.
    #[default]
    Age,
    /// There were too many records; these are from the largest shares.
    Share,
    /// An earlier version of this daemon removed the records, and made no record of it.
    Before,
}

/// Which records were removed. The newest record of this kind accounts for all missing records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Removal {
    pub(crate) because: Because,
    /// The first record that was removed.
    #[schema(example = 0)]
    pub(crate) first_id: u64,
    /// The last record that was removed; others between the two may still be there.
    #[schema(example = 119)]
    pub(crate) last_id: u64,
    /// The number of removed records of each API key; `none`: of callers without one, `daemon`: of the daemon itself.
    #[schema(example = json!({ "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11": 120 }))]
    pub(crate) by_api_key: BTreeMap<String, u64>,
    /// The number of all missing records.
    #[schema(example = 120)]
    pub(crate) removed_in_all: u64,
    /// A SHA-256 that depends on which records are missing.
    #[schema(value_type = String, example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub(crate) missing: ChainHash,
}

/// The outcome of a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The call was carried out, at least in part.
    Done,
    /// The call was let in and failed.
    Failed,
    /// The call was not let in.
    Refused,
}

/// A call, before it has its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Entry)]
pub(crate) struct AuditEvent {
    /// The action: the route's `operationId` in the document.
    #[schema(value_type = String, example = "participants_add")]
    pub(crate) action: Arc<str>,
    pub(crate) outcome: Outcome,
    /// The HTTP status code of the response.
    #[schema(example = 200)]
    pub(crate) status_code: u16,
    /// The error code of a failure or refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "session_not_connected")]
    pub(crate) code: Option<String>,
    /// The caller's API key, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) api_key_id: Option<Uuid>,
    /// The key's name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "tenant-7")]
    pub(crate) api_key_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) session_id: Option<SessionId>,
    /// The group or community in the path, as the caller wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "120363021234567890@g.us")]
    pub(crate) group_id: Option<String>,
    /// The id of the object that was made or joined, or of the API key that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "120363021234567891@g.us")]
    pub(crate) target_id: Option<String>,
    /// The participants or groups of the call, by result code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(example = json!({ "added": ["15550100002@c.us"], "not_on_whatsapp": ["15550100099@c.us"] }))]
    pub(crate) results: BTreeMap<String, Vec<String>>,
    /// The number of further participants or groups: one record does not hold them all.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(required = false, example = 0)]
    pub(crate) results_left_out: u64,
    /// The response of an earlier version was given again, and the results in it cannot be read.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) detail_missing: bool,
    /// The response of an earlier call with the same idempotency key was given again.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
    #[schema(example = "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11")]
    pub(crate) request_id: String,
    /// The caller's IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = String, example = "192.0.2.1")]
    pub(crate) ip_address: Option<IpAddr>,
    /// The number of calls in this record: refusals and replays that repeat, and messages of a session, are one record a minute.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schema(required = false, example = 12)]
    pub(crate) count: u64,
    /// Only in `audit_remove`: which records were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) removal: Option<Box<Removal>>,
    /// The call removed something: its record is written also where there is too little disk space for others.
    #[serde(skip)]
    pub(crate) removes: bool,
    /// The call sends a message: those of a minute are one record.
    #[serde(skip)]
    pub(crate) sends: bool,
}

/// A record of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditRecord {
    /// The record's number: one more than the number of the record before.
    #[schema(example = 4711)]
    pub(crate) id: u64,
    pub(crate) created_at: Timestamp,
    #[serde(flatten)]
    pub(crate) entry: AuditEvent,
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's own signature")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's own signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's own signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl AuditEvent {
    /// An event of which nothing else is known.
    pub(crate) fn of(action: Arc<str>, outcome: Outcome) -> Self {
        Self {
            action,
            outcome,
            status_code: 0,
            code: None,
            api_key_id: None,
            api_key_name: None,
            session_id: None,
            group_id: None,
            target_id: None,
            results: BTreeMap::new(),
            results_left_out: 0,
            detail_missing: false,
            replayed: false,
            request_id: String::new(),
            ip_address: None,
            count: 1,
            removal: None,
            removes: false,
            sends: false,
        }
    }
}

impl LogBounds {
    /// The last record and its hash. Noted elsewhere, they prove later that nothing up to there was cut off. `None`
    /// when there never was a record.
    pub(crate) fn head(&self) -> Option<(u64, ChainHash)> {
        Some((self.next.checked_sub(1)?, self.last))
    }
}

impl ChainHash {
    /// The hash of a record behind the one with this hash.
    pub(super) fn after(self, json: &[u8]) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(json).finalize().into())
    }
}

impl std::fmt::Display for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl From<ChainHash> for String {
    fn from(hash: ChainHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for ChainHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        FromHex::from_hex(text).map(Self).map_err(|_| "not a SHA-256 in hex")
    }
}

pub(super) fn key(number: u64) -> Vec<u8> {
    [&[RECORD_MARK][..], &number.to_be_bytes()].concat()
}

/// The prefix of the keys of the records `[chunk * CHUNK, (chunk + 1) * CHUNK)`.
pub(super) fn chunk_prefix(chunk: u64) -> Vec<u8> {
    let mut prefix = key(chunk * CHUNK);
    prefix.pop();
    prefix
}

pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(&[RECORD_MARK])?.try_into().ok()?))
}

/// A row's value.
pub(super) fn value(hash: ChainHash, json: &[u8]) -> Vec<u8> {
    [&hash.0[..], json].concat()
}

/// The key of a gap.
pub(super) fn gap_key(first: u64) -> Vec<u8> {
    [GAPS_PREFIX, &first.to_be_bytes()].concat()
}

pub(super) fn gap_value(gap: Gap) -> Vec<u8> {
    [&gap.last.to_be_bytes()[..], &gap.hash.0].concat()
}

/// A gap and its first record; `None` when the row is no gap.
pub(super) fn gap_of_row(key: &[u8], value: &[u8]) -> Option<(u64, Gap)> {
    let first = u64::from_be_bytes(key.strip_prefix(GAPS_PREFIX)?.try_into().ok()?);
    let (last, hash) = value.split_first_chunk()?;
    let gap = Gap { last: u64::from_be_bytes(*last), hash: ChainHash(hash.try_into().ok()?) };
    (first <= gap.last).then_some((first, gap))
}

/// Splits a row's value; `None` when it is too short.
pub(super) fn split_value(value: &[u8]) -> Option<(ChainHash, &[u8])> {
    let (hash, json) = value.split_first_chunk::<HASH_BYTES>()?;
    Some((ChainHash(*hash), json))
}
