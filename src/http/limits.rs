//! The limits of the HTTP side that are fixed, with their units and reasons. Those that the operator may set are in
//! `config/http.rs`.

use std::time::Duration;

#[cfg(test)]
use crate::config::DRAIN_TIME_S;
use crate::config::HttpLimits;

/// What a route's body may hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// Text and numbers.
    Json,
    /// A picture in base64.
    Picture,
}

impl BodyKind {
    /// Bytes of such a body.
    pub(crate) fn bytes_max(self, limits: &HttpLimits) -> usize {
        match self {
            Self::Json => limits.body_bytes_max,
            Self::Picture => limits.media_body_bytes_max.min(PICTURE_BODY_BYTES_MAX),
        }
    }
}

/// A request body with a picture: 5 MiB in base64 are 6.7, and there is little else in it.
const PICTURE_BODY_BYTES_MAX: usize = 7 * 1024 * 1024;

/// Bytes of all bodies at once whose requests run: eight times what a key may have. While pictures are parsed and decoded
/// they take some three times that.
pub(crate) const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes of these that come with one key: two of the largest pictures, so that a client may send the next one while
/// the first is worked on.
pub(crate) const BODIES_BYTES_PER_KEY_MAX: usize = 16 * 1024 * 1024;

/// Bodies up to here always have room: a thousand of them are what `requests_max` allows, and 16 MiB.
pub(crate) const BODY_UNCOUNTED_BYTES_MAX: usize = 16 * 1024;

/// Bodies up to here are parsed where they were read, in some 100 us; larger ones where nobody waits for it.
pub(crate) const BODY_INLINE_BYTES_MAX: usize = 32 * 1024;

/// Values in a body, each some 100 bytes of memory: 1,024 groups of a key, or 256 people, and room for what is to come.
pub(crate) const JSON_VALUES_MAX: usize = 4_096;

/// Objects and lists inside of each other: ours are three.
pub(crate) const JSON_DEPTH_MAX: usize = 16;

/// Bytes a second of a body or an answer at least, over all of it: a tenth of what a phone has at the edge of its network.
pub(crate) const CLIENT_BYTES_PER_SECOND_MIN: usize = 2 * 1024;

/// Time for a request in all. Clients give up at 30 s; WhatsApp's answer and its read-back take 26 s at most.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(29);

/// What is buffered of a connection: as large as the largest head with room for the start of a body.
pub(crate) const CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Pause after an accept failed, as it does when file descriptors run out: others need it to close theirs.
pub(crate) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections for which there is no place and that are told so at once, or how the daemon is; beyond these the one that
/// was idle longest is closed unanswered.
pub(crate) const REJECTIONS_MAX: usize = 32;

/// Time for the head of the request that such a connection is answered, and for the last answers when the daemon stops.
pub(crate) const REJECTION_TIME_MAX: Duration = Duration::from_secs(2);

/// For how long HTTP may go on when the daemon stops.
#[cfg(test)]
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(*DRAIN_TIME_S.end() + REJECTION_TIME_MAX.as_secs());

/// A connection that keeps its body or its answer waiting for this long may be closed when there are too many: shorter
/// pauses are the network's.
pub(crate) const CUT_OFF_TIME_MIN: Duration = Duration::from_secs(2);

/// Bytes of answers that the system keeps for a connection beyond what is on its way: with more of them a client that does
/// not read would go unnoticed.
pub(crate) const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// For how long what is still sent is read and dropped once the last answer is out, so that the client gets to read it.
pub(crate) const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of these: a picture that is refused.
pub(crate) const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A presented key; longer ones are unknown without being hashed.
pub(crate) const KEY_CHARS_MAX: usize = 512;

/// The client's own request id.
pub(crate) const REQUEST_ID_CHARS_MAX: usize = 128;

/// Characters of an idempotency key: what other APIs with such keys take.
pub(crate) const IDEMPOTENCY_KEY_CHARS: std::ops::RangeInclusive<usize> = 1..=255;

/// Entries of one page, and also how many there are when no limit is asked for.
pub(crate) const PAGE_ENTRIES_MAX: usize = 1_000;

/// Messages in one answer about a body: nobody reads more.
pub(crate) const VALIDATION_MESSAGES_MAX: usize = 20;

/// Characters of the caller's own text that are repeated to them in an error.
pub(crate) const ECHO_CHARS_MAX: usize = 64;

/// Characters of a group's name and subject: WhatsApp's own limit.
pub(crate) const SUBJECT_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

/// Characters of a group's description: WhatsApp's own limit.
pub(crate) const DESCRIPTION_CHARS_MAX: usize = 2_048;

/// People in one request: as many as WhatsApp takes at once.
pub(crate) const PARTICIPANTS: std::ops::RangeInclusive<usize> = 1..=256;

/// Groups in one request to link or unlink: half of what a community can hold.
pub(crate) const LINKED_GROUPS: std::ops::RangeInclusive<usize> = 1..=64;

/// Characters of an invite code: today's have 22.
pub(crate) const INVITE_CODE_CHARS_MAX: usize = 128;

/// Bytes of one piece of a streamed table: a few hundred rows.
pub(crate) const TABLE_PIECE_BYTES: usize = 16 * 1024;

/// Reconnects in a row that a session may be limited to.
pub(crate) const RECONNECT_ATTEMPTS: std::ops::RangeInclusive<u32> = 0..=20;

/// Milliseconds before the second reconnect in a row.
pub(crate) const RECONNECT_BASE_DELAY_MS: std::ops::RangeInclusive<u32> = 1_000..=300_000;

/// Seconds after which messages disappear: what fits WhatsApp's own number.
pub(crate) const EPHEMERAL_S: std::ops::RangeInclusive<u32> = 0..=i32::MAX.unsigned_abs();

/// Characters of a key's name.
pub(crate) const KEY_NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

/// Addresses or sessions that one key may be limited to.
pub(crate) const KEY_SCOPE_ENTRIES_MAX: usize = 100;

/// Seconds for which the secret before a rotation may still work: a month to change it everywhere.
pub(crate) const KEY_GRACE_S: std::ops::RangeInclusive<u32> = 0..=2_592_000;

/// The grace time when none is given: an hour.
pub(crate) const KEY_GRACE_DEFAULT_S: u32 = 3_600;

/// A peer that does not take what we send is cut off after this: it would hold a connection for ever (the system's
/// TCP_USER_TIMEOUT, which also counts while the peer's window is closed).
pub(crate) const UNREAD_TIME_MAX: Duration = Duration::from_secs(30);
