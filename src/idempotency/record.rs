//! The record of one idempotency key in the store, and the keys of its rows. Never does IO.
//!
//! Two rows of the session that the key is used in, always written together:
//!
//! | table | key | value |
//! |---|---|---|
//! | `IdempotentAnswers` | digest (32 bytes) | the record, in parts: its head as one line of JSON, then the body |
//! | `IdempotentHours` | hour (4, big-endian), digest | the API key (16 bytes): finds expired records and their owners without reading them |
//!
//! In layout 1 both were in `IdempotentAnswers` of the daemon itself ([`of_layout_1`]).

use bytes::Bytes;
use rookery_model::{MessageSeed, SessionId, Timestamp};
use rookery_store::SessionNumber;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// How long a key is reserved for its first call.
pub(crate) const KEPT_MS: i64 = 24 * HOUR_MS;
const HOUR_MS: i64 = 3_600_000;

const DIGEST_BYTES: usize = 32;

/// One idempotency key of one API key in one session.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot {
    session: SessionNumber,
    digest: [u8; DIGEST_BYTES],
}

/// The SHA-256 of all parts of a call: the same key may only be repeated with the same fingerprint.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fingerprint([u8; DIGEST_BYTES]);

/// The response of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptResponse {
    /// The status code.
    pub(crate) status: u16,
    /// Names and values, in the order of the response.
    pub(crate) headers: Vec<(String, String)>,
    /// The body as it was sent.
    pub(crate) body: Bytes,
    /// The call's result as JSON, for the audit log and the scopes of keys; `None` in records of earlier versions.
    pub(crate) happened: Option<Value>,
}

/// The record of a slot. Without an answer: its call was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The API key that the record counts for; nil in records from before this was kept.
    pub(super) user: Uuid,
    pub(super) fingerprint: Fingerprint,
    pub(super) created_at: Timestamp,
    /// The random part of the message that the call sends; `None` for a call that sends none.
    pub(super) seed: Option<MessageSeed>,
    pub(super) answer: Option<KeptResponse>,
}

/// The hour in which a record was made, counted from 1970.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hour(u32);

#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(default)]
    user: Uuid,
    fingerprint: Fingerprint,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "seed_text")]
    seed: Option<MessageSeed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerHead>,
}

/// A seed as base64.
mod seed_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use rookery_model::MessageSeed;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(seed: &Option<MessageSeed>, serializer: S) -> Result<S::Ok, S::Error> {
        seed.map(|seed| STANDARD_NO_PAD.encode(seed.reveal())).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MessageSeed>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let bytes = bytes.try_into().map_err(|_| D::Error::custom("not as long as a seed"))?;
        Ok(Some(MessageSeed::from_bytes(bytes)))
    }
}

#[derive(Serialize, Deserialize)]
struct AnswerHead {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    happened: Option<Value>,
}

impl AnswerHead {
    fn of(answer: &KeptResponse) -> Self {
        Self { status: answer.status, headers: answer.headers.clone(), happened: answer.happened.clone() }
    }
}

impl Slot {
    /// The slot of this idempotency key, as this API key uses it in this session.
    pub(crate) fn new(session: SessionNumber, account_epoch: u32, api_key: Uuid, key: &str) -> Self {
        let epoch = account_epoch.to_be_bytes();
        // The first account's slots are as before accounts had epochs.
        let of_first_account = [api_key.as_bytes(), key.as_bytes()];
        let of_later_account = [api_key.as_bytes(), key.as_bytes(), &epoch[..]];
        let pieces = if account_epoch == 0 { &of_first_account[..] } else { &of_later_account };
        Self { session, digest: digest(pieces) }
    }

    pub(super) fn session(self) -> SessionNumber {
        self.session
    }

    pub(super) fn record_key(self) -> Vec<u8> {
        self.digest.to_vec()
    }

    pub(super) fn hour_key(self, hour: Hour) -> Vec<u8> {
        [&hour_prefix(hour)[..], &self.digest].concat()
    }
}

/// The prefix of the keys of one hour in the index.
pub(super) fn hour_prefix(hour: Hour) -> [u8; 4] {
    hour.0.to_be_bytes()
}

/// Splits a key of a session's index.
pub(super) fn split_hour_key(session: SessionNumber, key: &[u8]) -> Option<(Hour, Slot)> {
    let (hour, digest) = key.split_first_chunk::<4>()?;
    Some((Hour(u32::from_be_bytes(*hour)), Slot { session, digest: digest.try_into().ok()? }))
}

/// A row of layout 1, with its current place.
pub(super) enum Moved {
    /// A row of a record, or of a part of one.
    Record { session: SessionId, key: Vec<u8> },
    /// A row of the index.
    Hour { session: SessionId, key: Vec<u8> },
}

/// A key of layout 1: `r`, session (16 bytes), digest, and what follows for a part; or `h`, hour (4, big-endian), session, digest.
pub(super) fn of_layout_1(key: &[u8]) -> Option<Moved> {
    let session_of = |bytes: &[u8; 16]| SessionId(Uuid::from_bytes(*bytes));
    match key.split_first()? {
        (b'r', rest) => {
            let (session, key) = rest.split_first_chunk()?;
            Some(Moved::Record { session: session_of(session), key: key.to_vec() })
        }
        (b'h', rest) => {
            let (hour, rest) = rest.split_first_chunk::<4>()?;
            let (session, digest) = rest.split_first_chunk()?;
            Some(Moved::Hour { session: session_of(session), key: [&hour[..], digest].concat() })
        }
        _ => None,
    }
}

/// The API key in a row of the index; nil in rows from before this was kept.
pub(super) fn user_of(value: &[u8]) -> Uuid {
    Uuid::from_slice(value).unwrap_or_default()
}

impl Fingerprint {
    /// The fingerprint of these pieces, in this order.
    pub(crate) fn of(pieces: &[&[u8]]) -> Self {
        Self(digest(pieces))
    }
}

impl Hour {
    pub(super) fn of(time: Timestamp) -> Self {
        Self(u32::try_from(time.0.max(0) / HOUR_MS).unwrap_or(u32::MAX))
    }

    /// Whether all records of this hour have expired.
    pub(super) fn is_expired(self, now: Timestamp) -> bool {
        (i64::from(self.0) + 1) * HOUR_MS + KEPT_MS <= now.0
    }
}

impl Record {
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.created_at.0.saturating_add(KEPT_MS) <= now.0
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let answer = self.answer.as_ref();
        let head = Head {
            user: self.user,
            fingerprint: self.fingerprint,
            created_at: self.created_at,
            seed: self.seed,
            answer: answer.map(AnswerHead::of),
        };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(answer.map_or(&[], |answer| &answer.body));
        Ok(bytes)
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let Head { user, fingerprint, created_at, seed, answer } = serde_json::from_slice(&bytes[..end])?;
        let body = bytes.get(end + 1..).unwrap_or_default();
        let answer = answer.map(|AnswerHead { status, headers, happened }| {
            let body = Bytes::copy_from_slice(body);
            KeptResponse { status, headers, body, happened }
        });
        Ok(Self { user, fingerprint, created_at, seed, answer })
    }
}

/// Each piece is preceded by its length, so that none can pass for a part of another.
fn digest(pieces: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update((piece.len() as u64).to_be_bytes());
        hasher.update(piece);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE_AT: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let answer = KeptResponse {
            status: 201,
            headers: vec![("content-type".into(), "application/json".into())],
            body: Bytes::from_static(b"{\"a\":\n\xff}\n"),
            happened: Some(serde_json::json!({ "target": "1@g.us" })),
        };
        let seed = MessageSeed::from_bytes([7; MessageSeed::BYTES]);
        for (seed, answer) in [(None, None), (Some(seed), None), (Some(seed), Some(answer))] {
            let (user, fingerprint) = (Uuid::new_v4(), Fingerprint::of(&[b"x"]));
            let record = Record { user, fingerprint, created_at: MADE_AT, seed, answer };
            assert_eq!(Record::of_bytes(&record.to_bytes().unwrap()).unwrap(), record);
        }
    }

    #[test]
    fn a_slot_differs_by_session_api_key_and_key() {
        let (session, other) = (SessionNumber(1), SessionNumber(2));
        let (api_key, stranger) = (Uuid::new_v4(), Uuid::new_v4());
        let slot = Slot::new(session, 0, api_key, "k");
        for another in [
            Slot::new(other, 0, api_key, "k"),
            Slot::new(session, 1, api_key, "k"),
            Slot::new(session, 0, stranger, "k"),
            Slot::new(session, 0, api_key, "K"),
        ] {
            assert_ne!(slot, another);
        }
        assert_eq!(slot, Slot::new(session, 0, api_key, "k"));
    }

    #[test]
    fn keys_of_rows_give_back_their_slot_and_those_of_layout_1_their_session() {
        let session = SessionNumber(7);
        let slot = Slot::new(session, 0, Uuid::new_v4(), "k");
        let hour = Hour::of(MADE_AT);
        assert_eq!(split_hour_key(session, &slot.hour_key(hour)), Some((hour, slot)));
        assert_eq!(split_hour_key(session, b"h"), None);

        let id = SessionId::random();
        let part = [&slot.digest[..], &[0xff, 3]].concat();
        let Some(Moved::Record { session, key }) = of_layout_1(&[b"r", &id.0.as_bytes()[..], &part].concat()) else {
            panic!("a record")
        };
        assert_eq!((session, key), (id, part));
        let old = [b"h", &hour_prefix(hour)[..], &id.0.as_bytes()[..], &slot.digest].concat();
        let Some(Moved::Hour { session, key }) = of_layout_1(&old) else { panic!("a row of the index") };
        assert_eq!((session, key), (id, slot.hour_key(hour)));
        assert!(of_layout_1(b"x").is_none() && of_layout_1(b"").is_none());
    }

    #[test]
    fn pieces_do_not_run_together() {
        assert_ne!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"a", b"bc"]));
    }

    #[test]
    fn an_hour_has_expired_when_the_last_of_its_records_has() {
        let (user, fingerprint) = (Uuid::nil(), Fingerprint::of(&[]));
        let record = |created_at| Record { user, fingerprint, created_at, seed: None, answer: None };
        let begin = MADE_AT.0 - MADE_AT.0 % HOUR_MS;
        let (first, last) = (Timestamp(begin), Timestamp(begin + HOUR_MS - 1));
        let cases = [
            (begin + KEPT_MS - 1, false, false, false),
            (begin + KEPT_MS, true, false, false),
            (last.0 + KEPT_MS, true, true, false),
            (last.0 + KEPT_MS + 1, true, true, true),
        ];
        for (now, first_has, last_has, hour_has) in cases {
            let now = Timestamp(now);
            let found = (record(first).is_expired(now), record(last).is_expired(now), Hour::of(last).is_expired(now));
            assert_eq!(found, (first_has, last_has, hour_has), "{now}");
        }
    }
}
