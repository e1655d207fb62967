//! The fixed limits of the HTTP side, with their units and reasons. The limits that the operator may set are in
//! `config/http.rs`.

use std::time::Duration;

#[cfg(test)]
use crate::config::DRAIN_TIME_S;
use crate::config::HttpLimits;
use rookery_model::FileKind;

/// What a route's body may hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// Text and numbers.
    Json,
    /// A picture in base64.
    Picture,
    /// A file in base64 or in a form.
    File(FileKind),
    /// Messages of a Socket.IO client that polls.
    Socket,
}

impl BodyKind {
    /// Bytes of a body of this kind.
    pub(crate) fn bytes_max(self, limits: &HttpLimits) -> usize {
        match self {
            Self::Json => limits.body_bytes_max,
            Self::Picture => limits.media_body_bytes_max.min(PICTURE_BODY_BYTES_MAX),
            // Base64 takes a third more, and line breaks. The file has its own limit.
            Self::File(_) => limits.media_body_bytes_max.saturating_mul(2).saturating_add(limits.body_bytes_max),
            Self::Socket => SOCKET_POST_BYTES_MAX,
        }
    }

    /// Time for a body of this kind to arrive.
    pub(crate) fn time_max(self, limits: &HttpLimits) -> Duration {
        match self {
            Self::File(_) => limits.file_time_max(),
            _ => limits.body_time_max,
        }
    }
}

/// Bytes of a body with a picture: 5 MiB are 6.7 MiB in base64, and there is little else in the body.
const PICTURE_BODY_BYTES_MAX: usize = 7 * 1024 * 1024;

/// Bytes of all bodies whose requests run: eight times the share of a key. While pictures are parsed and decoded, they
/// take some three times that.
pub(crate) const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes of the bodies of one key whose requests run: two of the largest pictures, so that a client may send the next
/// one while the first is prepared.
pub(crate) const BODIES_BYTES_PER_KEY_MAX: usize = 16 * 1024 * 1024;

/// Bodies up to this many bytes always have room: `requests_max` allows a thousand of them, which are 16 MiB.
pub(crate) const BODY_UNCOUNTED_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one message of a Socket.IO client: a subscription to all kinds of events is 500.
pub(crate) const SOCKET_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one post of such a client: it may have 4,096 subscriptions to say at once, and is told then that these are too many.
pub(crate) const SOCKET_POST_BYTES_MAX: usize = 512 * 1024;

/// Bytes of one frame of such a client's websocket: what is larger ends the connection without a word.
pub(crate) const SOCKET_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a websocket that are read in a second: 60 messages of 1 KiB.
pub(crate) const WEBSOCKET_BYTES_PER_SECOND: u32 = 64 * 1024;

/// Bytes of a websocket that are read at once after a pause: 120 messages, and large ones among them.
pub(crate) const WEBSOCKET_BURST_BYTES: i64 = 256 * 1024;

/// The pause of a websocket that was read faster than that.
pub(crate) const WEBSOCKET_PAUSE: Duration = Duration::from_millis(100);

/// Bodies up to this many bytes are parsed where they were read, in some 100 us; larger ones on a thread where nobody
/// waits.
pub(crate) const BODY_INLINE_BYTES_MAX: usize = 32 * 1024;

/// Values in a body, each some 100 bytes of memory: 1,024 groups of a key, or 256 participants, and room for more.
pub(crate) const JSON_VALUES_MAX: usize = 4_096;

/// Objects and lists inside each other: ours are three deep.
pub(crate) const JSON_DEPTH_MAX: usize = 16;

/// The lowest pace of a body or a response, in bytes a second over all of it: a tenth of a phone's at the edge of its
/// network.
pub(crate) const CLIENT_BYTES_PER_SECOND_MIN: usize = 2 * 1024;

/// Time for a request in all. Clients give up at 30 s; WhatsApp's answer and its read-back take 26 s at most.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(29);

/// Bytes that are buffered of a connection: as large as the largest head with room for the start of a body.
pub(crate) const CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Pause after an accept failed, as it does when file descriptors run out: others need the time to close theirs.
pub(crate) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections without a place that still get a response: the refusal, or the daemon's health. Above this number, the
/// one that was idle longest is closed without a response.
pub(crate) const REJECTIONS_MAX: usize = 32;

/// Time for such a connection to send the head of its request, and for the last responses when the daemon stops.
pub(crate) const REJECTION_TIME_MAX: Duration = Duration::from_secs(2);

/// For how long HTTP may go on when the daemon stops.
#[cfg(test)]
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(*DRAIN_TIME_S.end() + REJECTION_TIME_MAX.as_secs());

/// A connection that keeps its body or its response waiting for this long may be closed when there are too many
/// connections: shorter pauses are the network's.
pub(crate) const CUT_OFF_TIME_MIN: Duration = Duration::from_secs(2);

/// Bytes of responses that the system keeps for a connection beyond those on their way: with more, a client that does
/// not read would go unnoticed.
pub(crate) const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// For how long the daemon reads and drops further input after the last response, so that the client gets to read the
/// response.
pub(crate) const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes that are dropped in this time: a refused file of the largest size in base64.
pub(crate) const LINGER_BYTES_MAX: usize = 96 * 1024 * 1024;

/// Characters of a presented key; longer ones are unknown without being hashed.
pub(crate) const KEY_CHARS_MAX: usize = 512;

/// Characters of the client's own request id.
pub(crate) const REQUEST_ID_CHARS_MAX: usize = 128;

/// Characters of an idempotency key: what other APIs with such keys take.
pub(crate) const IDEMPOTENCY_KEY_CHARS: std::ops::RangeInclusive<usize> = 1..=255;

/// Entries of one page, also when the request has no limit.
pub(crate) const PAGE_ENTRIES_MAX: usize = 1_000;

/// Messages in one answer about a body: nobody reads more.
pub(crate) const VALIDATION_MESSAGES_MAX: usize = 20;

/// Characters of the caller's own text that are repeated to them in an error.
pub(crate) const ECHO_CHARS_MAX: usize = 64;

/// Characters of a group's name and subject: WhatsApp's own limit.
pub(crate) const SUBJECT_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

/// Characters of a group's description: WhatsApp's own limit.
pub(crate) const DESCRIPTION_CHARS_MAX: usize = 2_048;

/// Characters of a message's id: WhatsApp's have up to 40.
pub(crate) const MESSAGE_ID_CHARS: std::ops::RangeInclusive<usize> = 1..=128;

/// Characters of a message's text: OpenWA's limit; WhatsApp's own is higher.
pub(crate) const MESSAGE_CHARS: std::ops::RangeInclusive<usize> = 1..=4_096;

/// People whom a message mentions: as many as a group has.
pub(crate) const MENTIONS_MAX: usize = 1_024;

/// Characters of the link and the title of a preview.
pub(crate) const LINK_CHARS: std::ops::RangeInclusive<usize> = 1..=2_048;

/// Characters of a preview's description.
pub(crate) const LINK_TEXT_CHARS_MAX: usize = 2_048;

/// Characters of a place's name and of its address.
pub(crate) const PLACE_CHARS_MAX: usize = 256;

/// Characters of a contact's name: as of an account's own.
pub(crate) const CONTACT_NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

/// Messages that are marked as read at once: OpenWA's limit.
pub(crate) const READ_MESSAGES: std::ops::RangeInclusive<usize> = 1..=100;

/// Characters of the account's own name: WhatsApp's own limit.
pub(crate) const PUSH_NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=25;

/// Characters of the text about the account: WhatsApp's own limit.
pub(crate) const ABOUT_CHARS_MAX: usize = 139;

/// Characters of a poll's question: WhatsApp's own limit.
pub(crate) const POLL_CHARS: std::ops::RangeInclusive<usize> = 1..=255;

/// Options of a poll: WhatsApp's own limit.
pub(crate) const POLL_OPTIONS: std::ops::RangeInclusive<usize> = 1..=12;

/// Characters of an option: WhatsApp's own limit.
pub(crate) const POLL_OPTION_CHARS: usize = 100;

/// Messages of a batch: some minutes at the shortest pause.
pub(crate) const BATCH_MESSAGES: std::ops::RangeInclusive<usize> = 1..=500;

/// The pause between two messages of a batch, in milliseconds: OpenWA's limits.
pub(crate) const BATCH_DELAY_MS: std::ops::RangeInclusive<u32> = 1_000..=60_000;

/// Characters of a batch's id.
pub(crate) const BATCH_ID_CHARS: std::ops::RangeInclusive<usize> = 1..=64;

/// Variables of a message in a batch.
pub(crate) const VARIABLES_MAX: usize = 64;

/// Characters of the id of a chat or a number, in any spelling.
pub(crate) const WRITTEN_ID_CHARS: std::ops::RangeInclusive<usize> = 1..=128;

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

/// Seconds after which messages disappear: the range of WhatsApp's own number.
pub(crate) const EPHEMERAL_S: std::ops::RangeInclusive<u32> = 0..=i32::MAX.unsigned_abs();

/// Characters of a key's name.
pub(crate) const KEY_NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

/// Addresses or sessions that one key may be limited to.
pub(crate) const KEY_SCOPE_ENTRIES_MAX: usize = 100;

/// Seconds for which the secret before a rotation may still work: a month to change it everywhere.
pub(crate) const KEY_GRACE_S: std::ops::RangeInclusive<u32> = 0..=2_592_000;

/// The grace time when none is given: an hour.
pub(crate) const KEY_GRACE_DEFAULT_S: u32 = 3_600;

/// Events in one webhook's subscription: more than there are.
pub(crate) const WEBHOOK_EVENTS: std::ops::RangeInclusive<usize> = 1..=64;

/// Characters of the key of a webhook's signatures.
pub(crate) const WEBHOOK_SECRET_CHARS: std::ops::RangeInclusive<usize> = 16..=255;

/// Header fields that a webhook sends beside its own.
pub(crate) const WEBHOOK_HEADERS_MAX: usize = 50;

/// Characters of the value of such a header field.
pub(crate) const WEBHOOK_HEADER_CHARS_MAX: usize = 1_024;

/// Quick attempts of a delivery.
pub(crate) const WEBHOOK_RETRIES: std::ops::RangeInclusive<u32> = 0..=5;

/// Sessions that one webhook names.
pub(crate) const WEBHOOK_SESSIONS: std::ops::RangeInclusive<usize> = 1..=1_000;

/// Failed deliveries that are tried again in one request.
pub(crate) const REDELIVERIES: std::ops::RangeInclusive<u32> = 1..=500;

/// A peer that does not take our bytes is cut off after this: it would hold a connection for ever (the system's
/// TCP_USER_TIMEOUT, which also counts while the peer's window is closed).
pub(crate) const UNREAD_TIME_MAX: Duration = Duration::from_secs(30);
