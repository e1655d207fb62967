//! Looking up phone numbers: which of them have a WhatsApp account, and under which ids WhatsApp knows it.

use std::num::NonZeroU64;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;

use super::context::CommandContext;
use super::port::GroupChange;
use super::{Command, CommandKind, Finished, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::other_spelling;
use crate::rate_limiter::Cost;
use rookery_model::{GroupId, GroupRecord, NumberAnswer, ParticipantId, ParticipantIds, Timestamp};

/// A participant as a request names them, and what a lookup said of their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The id that the request gives.
    id: ParticipantId,
    /// The text in the request: results repeat it where it is neither the participant's id nor its digits.
    pub(super) text: Arc<str>,
    pub(super) number: NumberState,
}

/// What is known of the number of a participant.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum NumberState {
    /// Nobody looked it up, or WhatsApp did not say: it is used as it is.
    Unchecked,
    /// WhatsApp knows its account by these ids.
    Known(ParticipantIds),
    /// It has no account under any spelling.
    Absent,
}

impl Requested {
    /// A participant with this id, and the text that names them in the request.
    #[must_use]
    pub fn new(id: ParticipantId, text: &str) -> Self {
        Self { id, text: text.into(), number: NumberState::Unchecked }
    }

    /// The id that the request gives.
    #[must_use]
    pub fn id(&self) -> ParticipantId {
        self.id
    }

    /// The ids under which WhatsApp knows the participant, as far as it was asked.
    pub(super) fn person(&self) -> ParticipantIds {
        match self.number {
            NumberState::Known(ids) => ids,
            NumberState::Unchecked | NumberState::Absent => self.id.into(),
        }
    }

    /// The id by which WhatsApp knows the account.
    ///
    /// # Errors
    /// [`CommandError::NotOnWhatsapp`].
    pub(super) fn account(&self) -> Result<ParticipantId, CommandError> {
        match self.is_absent() {
            true => Err(CommandError::NotOnWhatsapp(self.text.to_string())),
            false => Ok(self.person().id().unwrap_or(self.id)),
        }
    }

    /// Whether the participant's number has no account.
    pub(super) fn is_absent(&self) -> bool {
        self.number == NumberState::Absent
    }

    /// Whether WhatsApp said under which ids it knows the account.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.number, NumberState::Known(_))
    }

    /// Whether the number has another spelling, and nobody said under which of the two WhatsApp knows it.
    pub(super) fn is_half_known(&self) -> bool {
        self.number == NumberState::Unchecked && self.id.other_spelling().is_some()
    }

    /// The phone number that can be looked up; `None` where the participant is named by LID.
    pub(crate) fn phone(&self) -> Option<NonZeroU64> {
        ParticipantIds::from(self.id).phone
    }

    /// Takes what a lookup found.
    pub(crate) fn resolve(&mut self, found: &[NumberAnswer]) {
        if let Some(number) = self.phone()
            && let Some(found) = found.iter().find(|found| found.number == number)
        {
            self.number = found.account.map_or(NumberState::Absent, NumberState::Known);
        }
    }
}

impl From<ParticipantId> for Requested {
    fn from(id: ParticipantId) -> Self {
        Self::new(id, &id.to_string())
    }
}

/// The participants of a command that may be named by phone numbers in any spelling.
pub struct Participants<'a> {
    /// The group that they may be in: the ids of its members need no lookup.
    pub(super) group: Option<&'a GroupId>,
    pub(super) list: &'a mut [Requested],
}

impl Participants<'_> {
    /// The lookup that is due before the command begins; `None` where all are named by LID.
    pub(crate) fn lookup(&self) -> Option<LookUpNumbers> {
        let numbers: Vec<_> = self.list.iter().filter_map(Requested::phone).collect();
        (!numbers.is_empty()).then(|| LookUpNumbers {
            numbers,
            group: self.group.cloned(),
            is_for_command: true,
            may_ask: true,
        })
    }

    /// Takes what the lookup found.
    pub(crate) fn resolve(&mut self, lookup: &Lookup) {
        self.list.iter_mut().for_each(|requested| requested.resolve(&lookup.found));
    }
}

/// Looks up phone numbers: in the cache, and at WhatsApp where the cache does not have them, all in one request. Numbers without an
/// account under the spelling that was asked are looked up under the other spelling of their country, in a second one.
///
/// # Errors
/// [`CommandError::UnknownSession`], [`CommandError::NotStarted`], [`CommandError::NotConnected`], [`CommandError::Restarting`],
/// [`CommandError::NotLoaded`], [`CommandError::Busy`], and [`CommandError::GroupNotFound`]. Whatever keeps WhatsApp from being
/// asked otherwise is in [`Lookup::failed`].
#[derive(Clone)]
pub(crate) struct LookUpNumbers {
    /// Digits in international form. Named twice is named once.
    pub(crate) numbers: Vec<NonZeroU64>,
    /// Members of this group are known by the ids that the group has for them.
    pub(crate) group: Option<GroupId>,
    /// A command waits for it: when the limit for lookups is reached, it counts as a query.
    pub(crate) is_for_command: bool,
    /// WhatsApp may be asked; else the cache alone.
    pub(crate) may_ask: bool,
}

/// What is known of numbers after a lookup.
#[derive(Debug, Default)]
pub struct Lookup {
    /// Those of which something is known, each once.
    pub found: Vec<NumberAnswer>,
    /// Why WhatsApp did not say anything about the others; `None` when it was asked about all that were not known, by us or by the
    /// lookups in `shared`.
    pub failed: Option<CommandError>,
    /// The lookups of other callers that will answer for the rest: each receiver closes when that lookup is over.
    pub(crate) shared: Vec<watch::Receiver<()>>,
}

impl Command for LookUpNumbers {
    type Output = Lookup;

    fn kind(&self) -> CommandKind {
        if self.may_ask { CommandKind::Query } else { CommandKind::Lookup }
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Lookup>, CommandError> {
        let Self { mut numbers, group, is_for_command, may_ask } = self;
        session.check_ready()?;
        group.as_ref().map_or(Ok(()), |group| session.check_member_of(group))?;
        numbers.sort_unstable();
        numbers.dedup();
        let mut found = Vec::with_capacity(numbers.len());
        let record = group.as_ref().and_then(|group| session.cache.record(group));
        numbers.retain(|number| match known(session, record.as_deref(), *number) {
            Some(account) => {
                found.push(NumberAnswer { number: *number, account });
                false
            }
            None => true,
        });
        if numbers.is_empty() {
            return Ok(Started::answered(Lookup { found, failed: None, shared: Vec::new() }));
        }
        if !may_ask {
            // The lookups of others said nothing about these.
            let failed = session.rate_limiter.lookups_paused().unwrap_or(CommandError::Unanswered);
            return Ok(Started::answered(Lookup { found, failed: Some(failed), shared: Vec::new() }));
        }
        let mut shared = Vec::new();
        numbers.retain(|number| {
            session.cache.numbers.asked_by_others(*number).map(|lookup| shared.push(lookup)).is_none()
        });
        if numbers.is_empty() {
            return Ok(Started::answered(Lookup { found, failed: None, shared }));
        }
        let cost = if is_for_command { Cost::LookupOrQuery } else { Cost::Lookup };
        let time_max = session.lookup_time_max();
        let context = match session.admit(cost, None) {
            Ok(context) => context,
            Err(error) => return Ok(Started::answered(Lookup { found, failed: Some(error), shared })),
        };
        let asked = session.cache.numbers.begin_asking(&numbers);
        Ok(context.run(move |context| async move {
            let mut learnt = Vec::new();
            let answered = timeout(time_max, ask(&context, numbers, &mut learnt)).await;
            let failed = answered.unwrap_or(Err(CommandError::Unanswered)).err();
            found.extend(&learnt);
            let change = GroupChange::NumbersFound { learnt, asked };
            Finished::new(Some(change), Ok(Lookup { found, failed, shared }))
        }))
    }
}

/// The account of a number as far as the session knows it; `None` when WhatsApp has to be asked.
fn known(
    session: &SessionAccess<'_>,
    group: Option<&GroupRecord>,
    number: NonZeroU64,
) -> Option<Option<ParticipantIds>> {
    let person = ParticipantIds { phone: Some(number), lid: None };
    if session.me.is(&person) {
        return Some(Some(session.me));
    }
    let member = group.and_then(|group| group.member(&person)).map(|member| member.person);
    member.map(Some).or_else(|| session.cache.numbers.get(number, Timestamp::now()))
}

/// Asks WhatsApp about these numbers, and about the other spelling of those without an account. What it says goes to `learnt` at
/// once, so that it is kept also where the rest is not answered.
async fn ask(
    context: &CommandContext,
    numbers: Vec<NonZeroU64>,
    learnt: &mut Vec<NumberAnswer>,
) -> Result<(), CommandError> {
    let answers = context.lookup(context.engine.look_up_numbers(&numbers)).await?;
    let (present, absent): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.account.is_some());
    let absent = absent.into_iter().map(|answer| (answer.number, other_spelling(answer.number)));
    let (spelt_otherwise, final_ones): (Vec<_>, Vec<_>) = absent.partition(|(_, other)| other.is_some());
    learnt.extend(present);
    learnt.extend(final_ones.into_iter().map(|(number, _)| NumberAnswer { number, account: None }));
    let others: Vec<NonZeroU64> = spelt_otherwise.iter().filter_map(|(_, other)| *other).collect();
    if others.is_empty() {
        return Ok(());
    }
    let answers = context.lookup(context.engine.look_up_numbers(&others)).await?;
    let account_of = |other| answers.iter().find(|answer| Some(answer.number) == other).map(|answer| answer.account);
    // Where WhatsApp says nothing of the other spelling, the number may have an account: nothing is learnt.
    let found = spelt_otherwise.into_iter().filter_map(|(number, other)| Some((number, account_of(other)?)));
    learnt.extend(found.map(|(number, account)| NumberAnswer { number, account }));
    Ok(())
}
