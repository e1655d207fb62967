//! What WhatsApp's answers mean: pure functions.

use crate::engine::{EngineError, ParticipantAnswer};
use crate::error::CommandError;
use crate::group_cache::Person;
use crate::model::{ParticipantChange, ParticipantId, ParticipantResult, ResultCode};

/// WhatsApp's number for done.
const DONE: u16 = 200;

/// The error of a question: nothing was changed whatever happened.
pub(super) fn read_error(what: &'static str, error: EngineError) -> CommandError {
    match error {
        EngineError::Unanswered(_) => CommandError::Unanswered,
        other => write_error(what, other),
    }
}

/// The error of a request that changes something.
pub(super) fn write_error(what: &'static str, error: EngineError) -> CommandError {
    match error {
        EngineError::Refused { code, backoff_s } => CommandError::Refused { what, code, retry_after_s: backoff_s },
        EngineError::DescriptionConflict => CommandError::DescriptionConflict,
        EngineError::Unanswered(_) => CommandError::OutcomeUnknown,
        EngineError::Invalid(reason) => CommandError::Invalid(reason),
    }
}

/// Whether after a failed write the cached group is in doubt: the write may have been carried out, or the refusal says
/// that the group is not what we think.
pub(super) fn is_doubtful(error: &CommandError) -> bool {
    use CommandError as E;
    matches!(error, E::OutcomeUnknown | E::DescriptionConflict | E::Refused { code: 404 | 410, .. })
}

/// A person of a request: every id known for them, and the one that goes out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) person: Person,
    pub(super) send_as: ParticipantId,
}

impl Target {
    /// The id that answers show.
    fn id(&self) -> ParticipantId {
        self.person.id().unwrap_or(self.send_as)
    }
}

/// One result per person of the request, in its order, and those for whom it is true now.
pub(super) fn results(
    change: ParticipantChange,
    targets: &[Target],
    answers: &[ParticipantAnswer],
) -> (Vec<ParticipantResult>, Vec<Person>) {
    let mut done = Vec::new();
    let result = |target: &Target| {
        let answer = answers.iter().find(|answer| answer.person.is(&target.person));
        let mut target = *target;
        if let Some(answer) = answer {
            target.person.learn(&answer.person);
        }
        let (status, code) = match answer {
            Some(ParticipantAnswer { error: None, .. }) => (Some(DONE), success(change)),
            Some(ParticipantAnswer { error: Some(error), may_be_invited, .. }) => {
                (Some(*error).filter(|code| *code > 0), refusal(change, *error, *may_be_invited))
            }
            None => (None, ResultCode::Failed),
        };
        let success = status == Some(DONE);
        if success {
            done.push(target.person);
        }
        ParticipantResult { id: target.id(), success, status, code, message: message(code).map(Into::into) }
    };
    let results = targets.iter().map(result).collect();
    (results, done)
}

fn success(change: ParticipantChange) -> ResultCode {
    match change {
        ParticipantChange::Add => ResultCode::Added,
        ParticipantChange::Remove => ResultCode::Removed,
        ParticipantChange::Promote => ResultCode::Promoted,
        ParticipantChange::Demote => ResultCode::Demoted,
    }
}

/// WhatsApp's numbers for one person, as its web client reads them.
fn refusal(change: ParticipantChange, error: u16, may_be_invited: bool) -> ResultCode {
    match (change, error) {
        (ParticipantChange::Add, 403) if may_be_invited => ResultCode::InviteRequired,
        (ParticipantChange::Add, 401) => ResultCode::Blocked,
        (ParticipantChange::Add, 404) => ResultCode::NotOnWhatsapp,
        (ParticipantChange::Add, 408) => ResultCode::RecentlyLeft,
        (ParticipantChange::Add, 409) => ResultCode::AlreadyMember,
        (ParticipantChange::Add, 419) => ResultCode::GroupFull,
        (_, 404) => ResultCode::NotMember,
        (_, 401 | 403 | 405 | 406 | 417) => ResultCode::NotAllowed,
        (_, 429) => ResultCode::RateLimited,
        _ => ResultCode::Failed,
    }
}

fn message(code: ResultCode) -> Option<&'static str> {
    Some(match code {
        ResultCode::Added | ResultCode::Removed | ResultCode::Promoted | ResultCode::Demoted => return None,
        ResultCode::AlreadyMember => "is a member already",
        ResultCode::NotMember => "is not a member of the group",
        ResultCode::NotOnWhatsapp => "has no WhatsApp account",
        ResultCode::InviteRequired => "may only be invited: share the invite link",
        ResultCode::RecentlyLeft => "left the group a short time ago and cannot be added back yet",
        ResultCode::Blocked => "blocks this account or is blocked by it",
        ResultCode::GroupFull => "the group is full",
        ResultCode::NotAllowed => "WhatsApp does not allow this for this person",
        ResultCode::RateLimited => "WhatsApp asks to slow down",
        ResultCode::Failed => "WhatsApp did not do it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: &str) -> Target {
        let id: ParticipantId = id.parse().unwrap();
        Target { person: id.into(), send_as: id }
    }

    fn answer(person: Person, error: Option<u16>, may_be_invited: bool) -> ParticipantAnswer {
        ParticipantAnswer { person, error, may_be_invited }
    }

    #[test]
    fn results_follow_the_request_and_match_by_any_id() {
        let (alice, bob) = (target("15550100001"), target("15550100002"));
        let mut bob_by_lid = bob.person;
        bob_by_lid.learn(&"7000000000002@lid".parse::<ParticipantId>().unwrap().into());
        let answers = [answer(bob_by_lid, None, false), answer(alice.person, Some(403), true)];
        let (results, done) = results(ParticipantChange::Add, &[alice, bob], &answers);
        assert_eq!(results[0].code, ResultCode::InviteRequired);
        assert_eq!((results[1].code, results[1].status), (ResultCode::Added, Some(200)));
        assert_eq!(done, [bob_by_lid]);
    }

    #[test]
    fn a_person_without_an_answer_failed() {
        let (results, done) = results(ParticipantChange::Remove, &[target("15550100001")], &[]);
        assert_eq!((results[0].code, results[0].status, results[0].success), (ResultCode::Failed, None, false));
        assert!(done.is_empty());
    }

    #[test]
    fn each_number_has_its_word() {
        use ParticipantChange::{Add, Demote, Promote, Remove};
        let table = [
            (Add, 401, false, ResultCode::Blocked),
            (Add, 403, true, ResultCode::InviteRequired),
            (Add, 403, false, ResultCode::NotAllowed),
            (Add, 404, false, ResultCode::NotOnWhatsapp),
            (Add, 408, false, ResultCode::RecentlyLeft),
            (Add, 409, false, ResultCode::AlreadyMember),
            (Add, 419, false, ResultCode::GroupFull),
            (Add, 429, false, ResultCode::RateLimited),
            (Remove, 404, false, ResultCode::NotMember),
            (Remove, 405, false, ResultCode::NotAllowed),
            (Promote, 404, false, ResultCode::NotMember),
            (Demote, 500, false, ResultCode::Failed),
        ];
        for (change, number, invited, code) in table {
            assert_eq!(refusal(change, number, invited), code, "{change:?} {number}");
        }
    }
}
