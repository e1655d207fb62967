//! What WhatsApp's answers mean: pure functions.

use crate::error::CommandError;
use rookery_engine::EngineError;
use rookery_model::{MembershipDecision, ParticipantChange, ParticipantResult, ResultCode};

/// WhatsApp's status code for done.
pub(super) const DONE: u16 = 200;
/// WhatsApp's status code for somebody who was a member before.
pub(super) const ALREADY: u16 = 409;
/// WhatsApp's status code for somebody who is no member.
pub(super) const NO_MEMBER: u16 = 404;
/// WhatsApp's status code when the account may not reach out to somebody: it is time-locked, or a privacy token is
/// missing.
pub(super) const TIME_LOCKED: u16 = 463;
/// Stands for a missing status code.
pub(super) const NOT_SAID: u16 = 0;
/// In place of a status code: a lookup found no account for the number, and WhatsApp was asked for nothing else.
pub(super) const NO_ACCOUNT: u16 = 1;

/// The message about a number that WhatsApp does not know as it was given, and whose other spelling was not looked up.
pub(super) const HALF_KNOWN: &str =
    "has no WhatsApp account under this spelling, and the other spelling of the number was not looked up: use that one";
/// The message about a number whose remembered account is gone.
pub(super) const OUTDATED: &str = "WhatsApp does not know the account any more that had this number: ask again, with another \
                                   Idempotency-Key, and the number is looked up anew";

/// The error of a question: nothing was changed whatever happened.
pub(crate) fn read_error(what: &'static str, error: EngineError) -> CommandError {
    match error {
        EngineError::Unreadable => CommandError::Unreadable,
        error if error.is_unanswered() => CommandError::Unanswered,
        error => write_error(what, error),
    }
}

/// The error of a request that changes something.
pub(super) fn write_error(what: &'static str, error: EngineError) -> CommandError {
    match error {
        EngineError::Refused { code, backoff_s } => CommandError::Refused { what, code, retry_after_s: backoff_s },
        EngineError::TimeLocked => CommandError::TimeLocked { what, until: None },
        EngineError::DescriptionConflict => CommandError::DescriptionConflict,
        EngineError::Unanswered(_)
        | EngineError::Unreadable
        | EngineError::ConnectionLost
        | EngineError::Unsaved(_) => CommandError::OutcomeUnknown,
        EngineError::Invalid(reason) => CommandError::Invalid(reason),
        EngineError::File(error) => CommandError::File(error),
    }
}

/// Whether after a failed write the cached group is in doubt: the write may have been carried out, or the refusal says
/// that the group is not what we think.
pub(super) fn is_doubtful(error: &CommandError) -> bool {
    use CommandError as E;
    matches!(error, E::OutcomeUnknown | E::DescriptionConflict | E::Refused { code: 404 | 410, .. })
}

/// The action of a request on people.
#[derive(Copy, Clone, Debug)]
pub(super) enum Asked {
    Change(ParticipantChange),
    Decision(MembershipDecision),
}

/// Notes in a result whether the invitation was sent to somebody who may only be invited.
pub(super) fn invited(result: &mut ParticipantResult, sent: bool) {
    if sent {
        result.success = true;
        result.code = ResultCode::InviteSent;
        result.message = message(ResultCode::InviteSent).map(Into::into);
    } else {
        result.message =
            Some("may only be invited, and nobody knows whether the invitation was sent: share the invite link".into());
    }
}

/// The result code of a success.
pub(super) fn success(asked: Asked) -> ResultCode {
    match asked {
        Asked::Change(ParticipantChange::Add) => ResultCode::Added,
        Asked::Change(ParticipantChange::Remove) => ResultCode::Removed,
        Asked::Change(ParticipantChange::Promote) => ResultCode::Promoted,
        Asked::Change(ParticipantChange::Demote) => ResultCode::Demoted,
        Asked::Decision(MembershipDecision::Approve) => ResultCode::Approved,
        Asked::Decision(MembershipDecision::Reject) => ResultCode::Rejected,
    }
}

/// The result code for WhatsApp's status code about one person, as WhatsApp's web client reads it.
pub(super) fn refusal(asked: Asked, error: u16, may_be_invited: bool) -> ResultCode {
    use ParticipantChange::Add;
    match (asked, error) {
        (_, NO_ACCOUNT) => ResultCode::NotOnWhatsapp,
        (Asked::Change(Add), 403) if may_be_invited => ResultCode::InviteRequired,
        (Asked::Change(Add), 401) => ResultCode::Blocked,
        (Asked::Change(Add), 404) => ResultCode::NotOnWhatsapp,
        (Asked::Change(Add), 408) => ResultCode::RecentlyLeft,
        (Asked::Change(Add), 421) => ResultCode::ApprovalPending,
        (Asked::Change(Add) | Asked::Decision(MembershipDecision::Approve), 419) => ResultCode::GroupFull,
        (Asked::Change(Add) | Asked::Decision(_), ALREADY) => ResultCode::AlreadyMember,
        (Asked::Change(_), 404) => ResultCode::NotMember,
        (Asked::Decision(_), 404) => ResultCode::NoRequest,
        (_, 401 | 403 | 405 | 406 | 417) => ResultCode::NotAllowed,
        (Asked::Change(Add), TIME_LOCKED) => ResultCode::ReachoutTimelock,
        (_, 429) => ResultCode::RateLimited,
        _ => ResultCode::Failed,
    }
}

/// The message of a result; `None` where its code says it all.
pub(super) fn message(code: ResultCode) -> Option<&'static str> {
    use ResultCode as C;
    Some(match code {
        C::Added | C::Removed | C::Promoted | C::Demoted | C::Approved | C::Rejected => return None,
        C::AlreadyMember => "is a member already",
        C::NotMember => "is not a member of the group",
        C::NotOnWhatsapp => "has no WhatsApp account",
        C::InviteRequired => "may only be invited: share the invite link, or send `inviteFallback`",
        C::InviteSent => "may only be invited: WhatsApp's private invitation was sent",
        C::ApprovalPending => "an admin of the group has to let them in",
        C::NoRequest => "did not ask to be let in",
        C::RecentlyLeft => "left the group a short time ago and cannot be added back yet",
        C::Blocked => "blocks this account or is blocked by it",
        C::GroupFull => "the group is full",
        C::NotAllowed => "WhatsApp does not allow this for this person",
        C::ReachoutTimelock => "WhatsApp restricts this account: it may reach out to nobody new for some time",
        C::RateLimited => "WhatsApp asks to slow down",
        C::Failed => "WhatsApp did not do it, or its answer with the reason was lost",
        C::OutcomeUnknown => {
            "WhatsApp did not say what became of this person, and the group does not show it: look at it later"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_word() {
        use MembershipDecision::{Approve, Reject};
        use ParticipantChange::{Add, Demote, Promote, Remove};
        let change = Asked::Change;
        let decision = Asked::Decision;
        let table = [
            (change(Add), 401, false, ResultCode::Blocked),
            (change(Add), 403, true, ResultCode::InviteRequired),
            (change(Add), 403, false, ResultCode::NotAllowed),
            (change(Add), 404, false, ResultCode::NotOnWhatsapp),
            (change(Add), 408, false, ResultCode::RecentlyLeft),
            (change(Add), 409, false, ResultCode::AlreadyMember),
            (change(Add), 419, false, ResultCode::GroupFull),
            (change(Add), 421, false, ResultCode::ApprovalPending),
            (change(Add), 429, false, ResultCode::RateLimited),
            (change(Remove), 404, false, ResultCode::NotMember),
            (change(Remove), 405, false, ResultCode::NotAllowed),
            (change(Promote), 404, false, ResultCode::NotMember),
            (change(Demote), 500, false, ResultCode::Failed),
            (decision(Approve), 404, false, ResultCode::NoRequest),
            (decision(Approve), 409, false, ResultCode::AlreadyMember),
            (decision(Approve), 419, false, ResultCode::GroupFull),
            (decision(Reject), 404, false, ResultCode::NoRequest),
        ];
        for (asked, number, invited, code) in table {
            assert_eq!(refusal(asked, number, invited), code, "{asked:?} {number}");
        }
    }
}
