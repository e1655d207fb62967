//! The state table of a session: (status, fact) -> (status, what to do). A pure function, the only place where a status
//! changes (S-2).
//!
//! ```text
//! created ----------start---------> initializing --QR--> qr_ready --phone--> authenticating --K-3--> ready
//! disconnected (stopped)  --start-> initializing --log-in with stored credentials--> authenticating
//! ready, authenticating --connection lost--> disconnected (reconnecting) --log-in--> authenticating
//! any with an engine --logged out, replaced, banned, locked--> action_required --start--> initializing
//! any with an engine --another proxy--> initializing
//! qr_ready --passkey asked for--> action_required --phone--> authenticating; failed or too late: initializing
//! any with an engine --outdated, crashed too often, no reconnect left--> failed --start--> initializing
//! any --stop, kill, log-out, no phone in time--> disconnected
//! ```

use rookery_model::{Restriction, RestrictionKind, SessionStatus as Status, Timestamp};

/// Why a link may not stay.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// The session belongs to another account.
    OtherAccount,
    /// The disk is too full for the credentials.
    Unsaved,
}

impl TurnedAway {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OtherAccount => "the session belongs to another account",
            Self::Unsaved => "the disk is nearly full",
        }
    }
}

/// What a link with a passkey waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum PasskeyWait {
    /// Somebody who has the passkey sign.
    Signature,
    /// WhatsApp and the phone.
    Phone,
    /// Somebody who compares the code.
    Comparison,
    /// The phone, which links the device.
    Acceptance,
}

impl PasskeyWait {
    fn as_str(self) -> &'static str {
        match self {
            Self::Signature => {
                "WhatsApp asks for the account's passkey to link this device: get what it asks for from `/passkey`, have the passkey \
                 sign it, and send the answer there"
            }
            Self::Phone => "the passkey's answer was sent; the phone goes on, and then there is a code to compare",
            Self::Comparison => {
                "compare `linking.code` with the code on the phone, and confirm it at `/passkey/confirm` if they are the same"
            }
            Self::Acceptance => "the code was confirmed; the phone links this device",
        }
    }
}

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    /// A caller or a restart of the daemon wants the session running.
    StartRequested,
    /// There is a QR or a pairing code to use.
    QrShown,
    /// A phone accepted.
    Paired,
    /// A phone accepted, but linking failed.
    PairingFailed(String),
    /// A link with a passkey waits for this.
    PasskeyWaits(PasskeyWait),
    /// A link with a passkey failed, for this reason.
    PasskeyFailed(String),
    /// A caller wants the session stopped while it waits for a passkey.
    PasskeyStopped,
    /// Nobody linked a phone in time.
    LinkingExpired,
    /// Logged in with stored credentials.
    LoggedIn,
    /// Credentials are on disk and all groups are read (K-3).
    Prepared,
    /// The preparation failed, for this reason.
    PrepareFailed(String),
    /// The connection is gone and the engine reconnects.
    ConnectionLost(String),
    /// As many reconnects failed in a row as the session's configuration allows.
    ReconnectsUsedUp(u32),
    /// The device was removed at the phone.
    Removed,
    /// The phone that was linked may not stay.
    TurnedAway {
        why: TurnedAway,
        /// WhatsApp confirmed that the phone is linked no longer.
        unlinked: bool,
    },
    /// Our log-out was confirmed.
    LoggedOut,
    /// WhatsApp did not confirm our log-out.
    LogoutUnconfirmed,
    /// WhatsApp locked the account.
    Locked,
    /// WhatsApp refused the log-in for good.
    Refused(i32),
    /// Another client uses the same credentials.
    Replaced,
    /// The account may not connect until then.
    Banned(i32, Timestamp),
    /// WhatsApp wants a newer client.
    Outdated,
    /// A caller wants the session stopped.
    StopRequested,
    /// The daemon was killed while a phone was being linked.
    LinkingInterrupted,
    /// The session's connections have to go another way.
    ProxyChanged,
    /// The session crashed too often, or cannot be run.
    GivenUp(String),
}

/// What a fact makes a session do, in this order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Have an engine opened.
    OpenEngine,
    /// Put credentials on disk and read all groups.
    Prepare,
    /// Prepare once more, a little later.
    PrepareLater,
    /// Have the engine closed.
    CloseEngine,
    /// Forget the account and wipe its credentials, once the engine is closed.
    WipeCredentials,
    /// Drop QR and pairing code.
    ForgetPairing,
    /// Come back after a restart of the daemon.
    StayStarted,
    /// Stay stopped after a restart of the daemon.
    StayStopped,
}

/// The change of `lastError`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LastError {
    /// It stays.
    Keep,
    /// Nothing is wrong.
    Clear,
    /// This is wrong.
    Set(String),
    /// WhatsApp is reached: an error that says it was not is cleared, and any other stays.
    Reached,
}

/// The outcome of a fact.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) status: Status,
    pub(crate) last_error: LastError,
    pub(crate) restriction: Option<Restriction>,
    pub(crate) effects: &'static [Effect],
}

const STOP: &[Effect] = &[Effect::ForgetPairing, Effect::StayStopped, Effect::CloseEngine];
const STOP_AND_WIPE: &[Effect] =
    &[Effect::ForgetPairing, Effect::StayStopped, Effect::CloseEngine, Effect::WipeCredentials];

/// What a fact does to a session with this status. A fact that does not fit the status changes nothing.
pub(crate) fn step(status: Status, fact: &Fact) -> Step {
    use Status as S;
    let waits_for_phone = matches!(status, S::Initializing | S::QrReady);
    let runs = waits_for_phone || matches!(status, S::Authenticating | S::Ready | S::Disconnected);
    match fact {
        Fact::StartRequested => to(S::Initializing, LastError::Clear, &[Effect::StayStarted, Effect::OpenEngine]),
        Fact::QrShown if waits_for_phone => to(S::QrReady, LastError::Reached, &[]),
        Fact::PasskeyWaits(wait) if waits_for_phone || status == S::ActionRequired => {
            to(S::ActionRequired, set(wait.as_str()), &[Effect::ForgetPairing])
        }
        Fact::PasskeyFailed(reason) if waits_for_phone || status == S::ActionRequired => {
            let error = format!("linking failed: {reason}; link the phone again");
            to(S::Initializing, set(error), &[Effect::ForgetPairing, Effect::CloseEngine])
        }
        // A session that waits for a passkey has an engine; any other with this status has none.
        Fact::Paired | Fact::PairingFailed(_) | Fact::ConnectionLost(_) if status == S::ActionRequired => match fact {
            Fact::Paired => to(S::Authenticating, LastError::Clear, &[Effect::ForgetPairing]),
            Fact::PairingFailed(reason) => step(status, &Fact::PasskeyFailed(reason.clone())),
            _ => step(status, &Fact::PasskeyFailed("the connection was lost".into())),
        },
        Fact::Paired if runs => to(S::Authenticating, LastError::Clear, &[Effect::ForgetPairing]),
        Fact::PairingFailed(reason) if runs => to(S::Initializing, set(format!("linking failed: {reason}")), &[]),
        Fact::LinkingExpired if waits_for_phone => to(S::Disconnected, set(NO_PHONE), STOP),
        Fact::LoggedIn if runs => to(S::Authenticating, LastError::Keep, &[Effect::ForgetPairing, Effect::Prepare]),
        Fact::Prepared if status == S::Authenticating => to(S::Ready, LastError::Clear, &[]),
        Fact::PrepareFailed(reason) if status == S::Authenticating => {
            to(status, set(format!("connected, but not ready: {reason}")), &[Effect::PrepareLater])
        }
        Fact::ConnectionLost(reason) if status == S::Initializing => {
            to(status, set(format!("{UNREACHED}: {reason}")), &[])
        }
        Fact::ConnectionLost(_) if waits_for_phone => to(S::Initializing, LastError::Keep, &[Effect::ForgetPairing]),
        Fact::ConnectionLost(reason) if runs => {
            to(S::Disconnected, set(format!("connection lost, reconnecting: {reason}")), &[])
        }
        Fact::ReconnectsUsedUp(tried) if runs => {
            to(S::Failed, set(format!("gave up after {tried} reconnects (maxReconnectAttempts); start it again")), STOP)
        }
        Fact::StopRequested => match status {
            S::Created | S::ActionRequired | S::Failed => to(status, LastError::Keep, STOP),
            _ => to(S::Disconnected, LastError::Clear, STOP),
        },
        // Any other session with this status has no engine, and is not told.
        Fact::ProxyChanged if runs || status == S::ActionRequired => {
            to(S::Initializing, LastError::Clear, &[Effect::ForgetPairing, Effect::CloseEngine])
        }
        Fact::PasskeyStopped => to(S::Disconnected, LastError::Clear, STOP),
        Fact::GivenUp(reason) => to(S::Failed, set(reason.as_str()), &[Effect::ForgetPairing, Effect::CloseEngine]),
        fact => end(fact).unwrap_or_else(|| to(status, LastError::Keep, &[])),
    }
}

/// The beginning of `lastError` of a session that was not connected since its start.
pub(crate) const UNREACHED: &str = "not connected yet, trying again";
const NO_PHONE: &str = "no phone linked within the time for it; start the session again";
const REMOVED: &str = "logged out at the phone; start the session and link the account that it belongs to, or start it with \
                       `allowAccountChange` to link another";
const OTHER_ACCOUNT: &str = "linked to another account: that link was ended; start the session and link the account that \
                             it belongs to, or start it with `allowAccountChange`";
const NO_ROOM_TO_LINK: &str = "the disk is nearly full, and the link could not be saved: it was ended; make room, then start the \
                               session and link the phone again";
const STILL_LISTED: &str = "WhatsApp did not confirm the end, remove the device at that phone";
const UNCONFIRMED: &str = "WhatsApp did not confirm the log-out, and the credentials are kept; start the session and log it \
                           out again, or remove the device at the phone";
const LOCKED: &str = "WhatsApp locked this account; open WhatsApp on the phone";
const BANNED: &str = "WhatsApp banned this account; open WhatsApp on the phone, it says what can be done";
const REPLACED: &str = "another client connected with this device's credentials; make sure that only one daemon uses \
                        them, then start the session again";
const OUTDATED: &str = "WhatsApp no longer accepts this version of the client; update Rookery";
const INTERRUPTED: &str = "linking was interrupted by a restart; remove the extra linked device on the phone, then \
                           start the session and link again";

/// The facts that end a connection for good, whatever the status.
fn end(fact: &Fact) -> Option<Step> {
    use Status as S;
    Some(match fact {
        Fact::LoggedOut => to(S::Disconnected, LastError::Clear, STOP_AND_WIPE),
        Fact::Removed => to(S::ActionRequired, set(REMOVED), STOP_AND_WIPE),
        Fact::TurnedAway { why, unlinked } => {
            let reason = match why {
                TurnedAway::OtherAccount => OTHER_ACCOUNT,
                TurnedAway::Unsaved => NO_ROOM_TO_LINK,
            };
            let error = if *unlinked { reason.to_owned() } else { format!("{reason}; {STILL_LISTED}") };
            to(S::ActionRequired, set(error), STOP_AND_WIPE)
        }
        Fact::LinkingInterrupted => to(S::Disconnected, set(INTERRUPTED), STOP_AND_WIPE),
        Fact::LogoutUnconfirmed => to(S::Disconnected, set(UNCONFIRMED), STOP),
        Fact::Locked => Step { restriction: blocked(403, None), ..to(S::ActionRequired, set(LOCKED), STOP) },
        // Banned, without a time.
        Fact::Refused(code @ (402 | 406)) => {
            Step { restriction: blocked(*code, None), ..to(S::ActionRequired, set(BANNED), STOP) }
        }
        Fact::Refused(code) => {
            let error = format!("WhatsApp refused the log-in (code {code}); start the session again later");
            to(S::ActionRequired, set(error), STOP)
        }
        Fact::Replaced => to(S::ActionRequired, set(REPLACED), STOP),
        Fact::Banned(code, until) => Step {
            restriction: blocked(*code, Some(*until)),
            ..to(
                S::ActionRequired,
                set(format!("WhatsApp banned this account until {until}; open WhatsApp on the phone, it says why")),
                STOP,
            )
        },
        Fact::Outdated => to(S::Failed, set(OUTDATED), STOP),
        _ => return None,
    })
}

/// The account may not connect, for WhatsApp's reason with this number.
fn blocked(code: i32, expires_at: Option<Timestamp>) -> Option<Restriction> {
    Some(Restriction { kind: RestrictionKind::TosBlock, code: code.to_string(), expires_at })
}

fn to(status: Status, last_error: LastError, effects: &'static [Effect]) -> Step {
    Step { status, last_error, restriction: None, effects }
}

fn set(text: impl Into<String>) -> LastError {
    LastError::Set(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status as S;

    const ALL: [Status; 8] = [
        S::Created,
        S::Initializing,
        S::QrReady,
        S::Authenticating,
        S::Ready,
        S::Disconnected,
        S::ActionRequired,
        S::Failed,
    ];

    #[test]
    fn the_way_from_created_to_ready_and_back() {
        let way = [
            (Fact::StartRequested, S::Initializing),
            (Fact::QrShown, S::QrReady),
            (Fact::QrShown, S::QrReady),
            (Fact::ConnectionLost("reset".into()), S::Initializing),
            (Fact::QrShown, S::QrReady),
            (Fact::Paired, S::Authenticating),
            (Fact::ConnectionLost("stream restart".into()), S::Disconnected),
            (Fact::LoggedIn, S::Authenticating),
            (Fact::PrepareFailed("no answer".into()), S::Authenticating),
            (Fact::Prepared, S::Ready),
            (Fact::ConnectionLost("reset".into()), S::Disconnected),
            (Fact::LoggedIn, S::Authenticating),
            (Fact::Prepared, S::Ready),
            (Fact::StopRequested, S::Disconnected),
        ];
        let mut status = S::Created;
        for (fact, expected) in way {
            status = step(status, &fact).status;
            assert_eq!(status, expected, "after {fact:?}");
        }
    }

    #[test]
    fn only_authenticating_becomes_ready() {
        for status in ALL.into_iter().filter(|status| *status != S::Authenticating) {
            assert_eq!(step(status, &Fact::Prepared).status, status);
        }
    }

    #[test]
    fn only_a_confirmed_log_out_or_a_broken_link_wipes_credentials() {
        let keep = [
            Fact::Replaced,
            Fact::Banned(101, Timestamp(0)),
            Fact::Locked,
            Fact::Refused(406),
            Fact::Outdated,
            Fact::LogoutUnconfirmed,
            Fact::StopRequested,
            Fact::GivenUp("x".into()),
            Fact::LinkingExpired,
        ];
        for status in ALL {
            for fact in &keep {
                assert!(!step(status, fact).effects.contains(&Effect::WipeCredentials), "{status:?} {fact:?}");
            }
            let turned_away = |why| Fact::TurnedAway { why, unlinked: true };
            for fact in [
                Fact::LoggedOut,
                Fact::Removed,
                Fact::LinkingInterrupted,
                turned_away(TurnedAway::OtherAccount),
                turned_away(TurnedAway::Unsaved),
            ] {
                assert!(step(status, &fact).effects.contains(&Effect::WipeCredentials), "{status:?} {fact:?}");
            }
        }
    }

    #[test]
    fn every_end_has_its_own_reason_and_stops_the_session() {
        let ends = [
            (Fact::Removed, S::ActionRequired),
            (Fact::TurnedAway { why: TurnedAway::OtherAccount, unlinked: true }, S::ActionRequired),
            (Fact::TurnedAway { why: TurnedAway::OtherAccount, unlinked: false }, S::ActionRequired),
            (Fact::TurnedAway { why: TurnedAway::Unsaved, unlinked: true }, S::ActionRequired),
            (Fact::Replaced, S::ActionRequired),
            (Fact::Banned(101, Timestamp(0)), S::ActionRequired),
            (Fact::Locked, S::ActionRequired),
            (Fact::Refused(406), S::ActionRequired),
            (Fact::Outdated, S::Failed),
        ];
        let mut reasons = std::collections::HashSet::new();
        for (fact, status) in ends {
            let step = step(S::Ready, &fact);
            assert_eq!(step.status, status);
            assert!(step.effects.contains(&Effect::StayStopped) && step.effects.contains(&Effect::CloseEngine));
            let LastError::Set(reason) = step.last_error else { panic!("{fact:?} has no reason") };
            assert!(reasons.insert(reason), "{fact:?} shares its reason");
        }
    }

    #[test]
    fn a_late_qr_changes_nothing() {
        for status in [S::Created, S::Authenticating, S::Ready, S::Disconnected, S::ActionRequired, S::Failed] {
            assert_eq!(step(status, &Fact::QrShown), to(status, LastError::Keep, &[]));
        }
    }
}
