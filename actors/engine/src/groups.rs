//! Group requests: the engine's own calls, or ours (`specs.rs`) where the engine's lose a part of the answer. Add and
//! remove are the engine's: they also attach privacy tokens and rotate sender keys. Callers set the time limits.

use wacore::iq::groups::{
    AddParticipantsIq, DemoteParticipantsIq, GroupDescription, GroupSubject, JoinGroupResult,
    MembershipRequestActionIq, ParticipantChangeResponse, PromoteParticipantsIq, RemoveParticipantsIq,
    SetGroupDescriptionIq, SetGroupSubjectIq,
};
use wacore::iq::spec::IqSpec;
use wacore_binary::{Jid, NodeRef};
use whatsapp_rust::GroupError;
use whatsapp_rust::request::IqError;

use super::group_node::participant;
use super::requests::{Applicant, Invitation, NewGroup, ParticipantAnswer, PreviousDescription};
use super::{Engine, EngineError, ids, specs};
use rookery_model::{AllGroups, GroupRecord, ParticipantIds};
use rookery_model::{GroupId, JoinInfo, Joined, MembershipDecision, ParticipantChange, ParticipantId};

/// WhatsApp's status code when a new description is to replace another than the current one.
const DESCRIPTION_CONFLICT: u16 = 409;
/// Stands for WhatsApp's status code when the one in its answer cannot be read.
const CODE_UNKNOWN: u16 = 0;
/// WhatsApp's status code when a person to be added is in the group already.
const ALREADY_MEMBER: u16 = 409;
/// WhatsApp's status code when a person to be removed is not in the group.
const NO_MEMBER: u16 = 404;

impl ParticipantAnswer {
    pub(super) fn from_node(node: &NodeRef<'_>) -> Option<Self> {
        Some(Self {
            person: participant(node)?,
            error: node.attrs().optional_string("error").map(|code| code.parse().unwrap_or(CODE_UNKNOWN)),
            invitation: node.get_optional_child("add_request").and_then(|request| {
                let mut attrs = request.attrs();
                let code = attrs.optional_string("code")?.into_owned();
                Some(Invitation { code, expires_at: attrs.optional_u64("expiration")? })
            }),
            is_seen: false,
        })
    }

    fn from_response(response: &ParticipantChangeResponse) -> Option<Self> {
        Some(Self {
            person: ids::person_of([Some(&response.jid), response.phone_number.as_ref(), None])?,
            error: response.error.as_ref().map(|code| code.parse().unwrap_or(CODE_UNKNOWN)),
            invitation: response
                .add_request
                .as_ref()
                .map(|request| Invitation { code: request.code.clone(), expires_at: request.expiration }),
            is_seen: false,
        })
    }
}

/// Whether WhatsApp answered, but the engine's parser could not read the answer.
fn is_unreadable(error: &GroupError) -> bool {
    matches!(error, GroupError::Iq(IqError::ParseError(_)))
}

fn parsed(answers: &[ParticipantChangeResponse]) -> Vec<ParticipantAnswer> {
    answers.iter().filter_map(ParticipantAnswer::from_response).collect()
}

impl Engine {
    /// All groups of the account.
    pub async fn read_all_groups(&self) -> Result<AllGroups, EngineError> {
        let mut all = self.client.execute(specs::ReadAllGroups).await?;
        for record in &mut all.groups {
            self.learn_phones(record).await;
        }
        Ok(all)
    }

    /// One group; `None` when it does not exist or the account is not in it.
    pub async fn read_group(&self, group: &GroupId) -> Result<Option<GroupRecord>, EngineError> {
        match self.client.execute(specs::ReadGroup(ids::group_jid(group))).await.map_err(EngineError::from) {
            Ok(mut record) => {
                self.learn_phones(&mut record).await;
                Ok(Some(record))
            }
            Err(EngineError::Refused { code: 403 | 404 | 410, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a group; WhatsApp names the people it refused.
    pub async fn create_group(&self, new: NewGroup) -> Result<(GroupRecord, Vec<ParticipantAnswer>), EngineError> {
        let asked = new.participants.clone();
        let created = self.client.execute(specs::WithText(specs::CreateGroup(new))).await?;
        let (mut record, mut refused) = (created.record, created.refused);
        self.learn_phones(&mut record).await;
        self.learn_ids_of(&mut refused, &asked).await;
        Ok((record, refused))
    }

    /// Adds, removes, promotes or demotes these people.
    pub async fn change_participants(
        &self,
        group: &GroupId,
        change: ParticipantChange,
        participants: &[ParticipantId],
    ) -> Result<Vec<ParticipantAnswer>, EngineError> {
        let jids: Vec<Jid> = participants.iter().copied().map(ids::jid).collect();
        let (groups, group) = (self.client.groups(), ids::group_jid(group));
        let mut answers = match change {
            ParticipantChange::Add => match groups.add_participants(&group, &jids).await {
                Err(error) if is_unreadable(&error) => {
                    self.ask_again(AddParticipantsIq::new(&group, &jids), ALREADY_MEMBER).await?
                }
                answers => parsed(&answers?),
            },
            ParticipantChange::Remove => match groups.remove_participants(&group, &jids).await {
                Err(error) if is_unreadable(&error) => {
                    self.ask_again(RemoveParticipantsIq::new(&group, &jids), NO_MEMBER).await?
                }
                answers => parsed(&answers?),
            },
            ParticipantChange::Promote => {
                self.client.execute(specs::AboutParticipants(PromoteParticipantsIq::new(&group, &jids))).await?
            }
            ParticipantChange::Demote => {
                self.client.execute(specs::AboutParticipants(DemoteParticipantsIq::new(&group, &jids))).await?
            }
        };
        self.learn_ids_of(&mut answers, participants).await;
        Ok(answers)
    }

    /// Sends a change again whose answer the engine's parser refused (it wants a `jid` of everybody), and reads the
    /// answer with our own parser. The repetition changes nothing more, but WhatsApp now answers `done` for people whom
    /// the first request changed. Those answers are left out: the group shows which of these people are new.
    async fn ask_again(&self, request: impl IqSpec, done: u16) -> Result<Vec<ParticipantAnswer>, EngineError> {
        let answers = self.client.execute(specs::AboutParticipants(request)).await;
        // Whatever the error of this request is, the result of the first one is unknown.
        let mut answers = answers.map_err(|_| EngineError::Unreadable)?;
        answers.retain(|answer| answer.error != Some(done));
        Ok(answers)
    }

    /// Changes the name of a group.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn set_subject(&self, group: &GroupId, subject: &str) -> Result<(), EngineError> {
        let subject = GroupSubject::new(subject).map_err(|error| EngineError::Invalid(error.to_string()))?;
        let request = SetGroupSubjectIq::new(&ids::group_jid(group), subject);
        Ok(self.client.execute(specs::WithText(request)).await?)
    }

    /// Sets the description; `None` deletes it.
    pub async fn set_description(
        &self,
        group: &GroupId,
        text: Option<&str>,
        previous: &PreviousDescription,
    ) -> Result<(), EngineError> {
        let text = text.map(GroupDescription::new).transpose();
        let text = text.map_err(|error| EngineError::Invalid(error.to_string()))?;
        let jid = ids::group_jid(group);
        let previous = match previous {
            PreviousDescription::Known(id) => id.clone(),
            PreviousDescription::Ask => self.client.execute(specs::ReadGroup(jid.clone())).await?.description_id,
        };
        let request = SetGroupDescriptionIq::new(&jid, text, previous.as_deref());
        self.client.execute(specs::WithText(request)).await.map_err(|error| match error.into() {
            EngineError::Refused { code: DESCRIPTION_CONFLICT, .. } => EngineError::DescriptionConflict,
            error => error,
        })
    }

    /// The invite code, or a new one in its place.
    pub async fn invite_code(&self, group: &GroupId, revoke: bool) -> Result<String, EngineError> {
        let link = self.client.groups().get_invite_link(ids::group_jid(group), revoke).await?;
        Ok(link.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// Follows an invite code.
    pub async fn join(&self, code: &str) -> Result<Joined, EngineError> {
        let joined = self.client.groups().join_with_invite_code(code).await?;
        let pending_approval = matches!(joined, JoinGroupResult::PendingApproval(_));
        let group = ids::group_id(joined.group_jid()).ok_or(EngineError::Unreadable)?;
        Ok(Joined { group, pending_approval, already_member: false })
    }

    /// The details of a group that its invite code shows before a join.
    pub async fn join_info(&self, code: String) -> Result<JoinInfo, EngineError> {
        Ok(self.client.execute(specs::ReadInvite(code)).await?)
    }

    /// The people who asked to be let in.
    pub async fn membership_requests(&self, group: &GroupId) -> Result<Vec<Applicant>, EngineError> {
        let mut applicants = self.client.execute(specs::ReadMembershipRequests(ids::group_jid(group))).await?;
        self.learn_phones_of(applicants.iter_mut().map(|applicant| &mut applicant.person)).await;
        for Applicant { person, request } in &mut applicants {
            request.participant_id = person.id().unwrap_or(request.participant_id);
        }
        Ok(applicants)
    }

    /// Approves or rejects people who asked to be let in.
    pub async fn decide_membership(
        &self,
        group: &GroupId,
        decision: MembershipDecision,
        participants: &[ParticipantId],
    ) -> Result<Vec<ParticipantAnswer>, EngineError> {
        let jids: Vec<Jid> = participants.iter().copied().map(ids::jid).collect();
        let group = ids::group_jid(group);
        let request = match decision {
            MembershipDecision::Approve => MembershipRequestActionIq::approve(&group, &jids),
            MembershipDecision::Reject => MembershipRequestActionIq::reject(&group, &jids),
        };
        let mut answers = self.client.execute(specs::AboutParticipants(request)).await?;
        self.learn_ids_of(&mut answers, participants).await;
        Ok(answers)
    }

    /// Takes this account out of a group.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn leave_group(&self, group: &GroupId) -> Result<(), EngineError> {
        Ok(self.client.groups().leave(ids::group_jid(group)).await?)
    }

    async fn learn_phones(&self, record: &mut GroupRecord) {
        self.learn_phones_of(record.members.iter_mut().map(|member| &mut member.person)).await;
    }

    /// Fills in ids that the answers left out. The engine's parser drops the LID that stands beside a phone number, and some
    /// answers have the LID alone. So when a requested person has no answer, WhatsApp is asked for the LIDs of phone
    /// numbers: of requested people without an answer, and of unrequested people in the answers who lack a LID.
    async fn learn_ids_of(&self, answers: &mut [ParticipantAnswer], asked: &[ParticipantId]) {
        self.learn_phones_of(answers.iter_mut().map(|answer| &mut answer.person)).await;
        let is_answered = |id: &ParticipantId| answers.iter().any(|answer| answer.person.is(&(*id).into()));
        if asked.iter().all(is_answered) {
            return;
        }
        let is_asked = |person: &ParticipantIds| person.ids().any(|id| asked.contains(&id));
        let participants = answers.iter().map(|answer| answer.person);
        let unasked = participants.filter(|person| person.lid.is_none() && !is_asked(person));
        let unanswered = asked.iter().filter(|id| matches!(id, ParticipantId::Phone(_)) && !is_answered(id)).copied();
        let phones = unasked.filter_map(|person| person.id()).chain(unanswered);
        let phones: Vec<Jid> = phones.map(ids::jid).collect();
        if phones.is_empty() {
            return;
        }
        // When WhatsApp does not answer this, these people are looked for in the group.
        for person in self.participants_with(&phones).await {
            answers.iter_mut().filter(|a| a.person.is(&person)).for_each(|answer| answer.person.learn(&person));
        }
    }

    /// The people with these phone numbers, each with all ids that WhatsApp gives; empty when it does not answer.
    pub async fn participants_with_phones(
        &self,
        phones: impl IntoIterator<Item = ParticipantId>,
    ) -> Vec<ParticipantIds> {
        let phones: Vec<Jid> = phones.into_iter().map(ids::jid).collect();
        if phones.is_empty() { Vec::new() } else { self.participants_with(&phones).await }
    }

    async fn participants_with(&self, phones: &[Jid]) -> Vec<ParticipantIds> {
        let known = self.client.contacts().is_on_whatsapp(phones).await.unwrap_or_default();
        let person = |user: &whatsapp_rust::IsOnWhatsAppResult| {
            ids::person_of([Some(&user.jid), user.pn_jid.as_ref(), user.lid.as_ref()])
        };
        known.iter().filter_map(person).collect()
    }

    /// Fills in phone numbers that the answer left out and the engine knows.
    async fn learn_phones_of(&self, participants: impl Iterator<Item = &mut ParticipantIds>) {
        for person in participants {
            let (None, Some(lid)) = (person.phone, person.lid) else { continue };
            if let Ok(Some(entry)) = self.client.get_lid_pn_entry(&Jid::lid(lid.to_string())).await {
                person.phone = entry.phone_number.parse().ok();
            }
        }
    }
}

impl From<GroupError> for EngineError {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Iq(error) => error.into(),
            GroupError::DescriptionConflict => Self::DescriptionConflict,
            GroupError::InvalidRequest(reason) => Self::Invalid(reason),
            GroupError::Mex(error) => error.into(),
            _ => Self::Unanswered("the request failed inside the client".into()),
        }
    }
}
