//! Sending a message to a person or a group.

use std::num::NonZeroU64;

use super::{Command, CommandKind, Participants, Requested, SessionAccess, Started};
use crate::commands::whatsapp_codes::TIME_LOCKED;
use crate::error::CommandError;
use crate::group_cache::Numbers;
use crate::rate_limiter::Cost;
use rookery_model::{
    ChatId, GroupId, GroupRecord, IncomingChat, MessageId, MessageSeed, OutgoingContent, OutgoingMessage,
    ParticipantId, ParticipantIds, Quote, Role, Timestamp,
};

/// The noun phrase for errors.
const WHAT: &str = "Sending the message";

/// Sends a message. An unconfirmed one is sent once more with the same id, which WhatsApp shows once.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`], [`CommandError::AnnounceOnly`],
/// [`CommandError::NotChat`], [`CommandError::NotOnWhatsapp`], [`CommandError::TokenMissing`].
pub struct SendMessage {
    /// The random part of the message: a repeated request sends the same message.
    pub seed: MessageSeed,
    /// Where it goes.
    pub chat: Recipient,
    /// The message that it quotes.
    pub quoted: Option<Quote>,
    /// What it says. `@` and the digits of somebody in `mentions` become the id by which the chat names that person.
    pub content: OutgoingContent,
    /// The people whom it mentions.
    pub mentions: Vec<ParticipantId>,
    /// It mentions everybody in the group.
    pub mentions_all: bool,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// To a person.
    Person(Requested),
    /// To a group.
    Group(GroupId),
}

impl Recipient {
    /// The person whose number is looked up before.
    pub(super) fn participants(&mut self) -> Option<Participants<'_>> {
        match self {
            Self::Person(person) => Some(Participants { group: None, list: std::slice::from_mut(person) }),
            // Members are known, and for others no lookup is worth its cost.
            Self::Group(_) => None,
        }
    }
}

/// A message that WhatsApp has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// Its id.
    pub id: MessageId,
    /// When WhatsApp took it.
    pub at: Timestamp,
}

impl Command for SendMessage {
    type Output = SentMessage;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn participants(&mut self) -> Option<Participants<'_>> {
        self.chat.participants()
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<SentMessage>, CommandError> {
        session.check_ready()?;
        let message = match &self.chat {
            Recipient::Person(person) => self.to_person(person)?,
            Recipient::Group(group) => {
                let record = session.cache.record(group).ok_or_else(|| CommandError::GroupNotFound(group.clone()))?;
                self.to_group(&record, &session.me, &session.cache.numbers)?
            }
        };
        let person = if let Recipient::Person(person) = &self.chat { Some(person.person()) } else { None };
        // A file was counted before it was uploaded.
        let is_counted = matches!(self.content, OutgoingContent::File(_));
        let context = session.admit(if is_counted { Cost::Counted } else { Cost::Message }, None)?;
        Ok(context.run(move |context| async move {
            let sent = context.carry_out_again(WHAT, || context.engine.send_message(&message)).await;
            let sent = sent.map_err(|error| match error {
                // The time lock was asked for, and does not explain it.
                CommandError::Refused { code: TIME_LOCKED, .. } if person.is_some() => CommandError::TokenMissing,
                error => error,
            });
            let mut sent = match sent {
                Ok(sent) => sent,
                Err(error) => return Err(error).into(),
            };
            let answer = SentMessage { id: MessageId::of(&message.seed), at: sent.at };
            // A pin is nothing to be read.
            if !matches!(message.content, OutgoingContent::Pin { .. }) {
                sent.chat = person.map_or(sent.chat, IncomingChat::Person);
                context.note_sent(sent).await;
            }
            Ok(answer).into()
        }))
    }
}

impl SendMessage {
    fn to_person(&self, person: &Requested) -> Result<OutgoingMessage, CommandError> {
        let to = person.account()?;
        let people: Vec<_> = self.mentions.iter().map(|written| Mentioned::outside(*written)).collect();
        let is_by_lid = matches!(to, ParticipantId::Lid(_));
        Ok(self.message(ChatId::Person(to), is_by_lid, &people, None))
    }

    fn to_group(
        &self,
        record: &GroupRecord,
        me: &ParticipantIds,
        numbers: &Numbers,
    ) -> Result<OutgoingMessage, CommandError> {
        let is_answer = matches!(&self.content, OutgoingContent::Reaction { .. } | OutgoingContent::Vote { .. });
        check_may_write(record, me, is_answer)?;
        let is_plain_member = is_plain_member(record, me);
        let is_of_another = matches!(&self.content, OutgoingContent::Revocation(of) if !of.is_from_me);
        if is_of_another && is_plain_member {
            return Err(CommandError::NotAdmin { group: record.id.clone(), what: "delete what others wrote" });
        }
        if matches!(self.content, OutgoingContent::Pin { .. }) && record.settings.locked && is_plain_member {
            return Err(CommandError::NotAdmin { group: record.id.clone(), what: "pin messages" });
        }
        let named = self.mentions.iter().map(|written| Mentioned::of(record, numbers, *written));
        let mut people: Vec<_> = named.collect();
        if self.mentions_all {
            let others = record.members.iter().map(|member| member.person).filter(|person| !me.is(person));
            let others = others.filter_map(|person| Mentioned::member(record, person));
            let missing: Vec<_> = others.filter(|other| people.iter().all(|known| known.id != other.id)).collect();
            people.extend(missing);
        }
        let (chat, timer) = (ChatId::Group(record.id.clone()), record.settings.ephemeral_seconds);
        Ok(self.message(chat, record.lid_addressing, &people, timer))
    }

    fn message(
        &self,
        chat: ChatId,
        is_by_lid: bool,
        people: &[Mentioned],
        ephemeral_seconds: Option<u32>,
    ) -> OutgoingMessage {
        let mut content = self.content.clone();
        match &mut content {
            OutgoingContent::Text { text, .. } | OutgoingContent::Edit { text, .. } => *text = with_ids(text, people),
            OutgoingContent::File(file) => {
                file.caption = file.caption.as_deref().map(|caption| with_ids(caption, people));
            }
            _ => {}
        }
        // A person may be named twice, by number and by LID.
        let mut mentions = Vec::with_capacity(people.len());
        for Mentioned { id, .. } in people {
            if !mentions.contains(id) {
                mentions.push(*id);
            }
        }
        let mentions_all = self.mentions_all && matches!(chat, ChatId::Group(_));
        let quoted = self.quoted.clone();
        OutgoingMessage { seed: self.seed, chat, content, is_by_lid, quoted, mentions, mentions_all, ephemeral_seconds }
    }
}

/// Refuses a group that the account cannot write in, as far as that is known. `is_answer`: to an earlier message, as a reaction or a vote is.
/// Whether members may react and vote where only admins write, WhatsApp decides.
pub(super) fn check_may_write(record: &GroupRecord, me: &ParticipantIds, is_answer: bool) -> Result<(), CommandError> {
    if record.is_community {
        return Err(CommandError::NotChat(record.id.clone()));
    }
    if record.settings.announce && !is_answer && is_plain_member(record, me) {
        return Err(CommandError::AnnounceOnly(record.id.clone()));
    }
    Ok(())
}

/// Where the own role is not known, WhatsApp decides.
fn is_plain_member(record: &GroupRecord, me: &ParticipantIds) -> bool {
    record.member(me).is_some_and(|member| member.role == Role::Member)
}

/// Somebody whom a message mentions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mentioned {
    /// The id in the request.
    written: ParticipantId,
    /// All that is known of the person.
    person: ParticipantIds,
    /// The id by which the chat names the person.
    id: ParticipantId,
}

impl Mentioned {
    /// Somebody who is not in the group.
    fn outside(written: ParticipantId) -> Self {
        Self { written, person: written.into(), id: written }
    }

    /// Somebody whom a request names, for a group. A number may be written as WhatsApp does not know it.
    fn of(record: &GroupRecord, numbers: &Numbers, written: ParticipantId) -> Self {
        let number = if let ParticipantId::Phone(digits) = written { NonZeroU64::new(digits) } else { None };
        let account = number.and_then(|number| numbers.get(number, Timestamp::now()).flatten());
        let spellings = std::iter::once(written).chain(written.other_spelling());
        let mut all = account.into_iter().chain(spellings.map(ParticipantIds::from));
        let member = all.find_map(|person| record.member(&person));
        let member = member.and_then(|member| Self::member(record, member.person));
        member.map_or_else(|| Self::outside(written), |member| Self { written, ..member })
    }

    /// A member of the group; `None` where no id of them is known.
    fn member(record: &GroupRecord, person: ParticipantIds) -> Option<Self> {
        let phone = person.phone.map(|digits| ParticipantId::Phone(digits.get()));
        let lid = person.lid.map(|digits| ParticipantId::Lid(digits.get()));
        let id = if record.lid_addressing { lid.or(phone) } else { phone.or(lid) }?;
        Some(Self { written: id, person, id })
    }

    fn has_digits(&self, digits: u64) -> bool {
        [self.written, self.id].into_iter().chain(self.person.ids()).any(|id| id.digits() == digits)
    }
}

/// The text with `@` and the digits of each mentioned person's id, whichever of the ids the caller wrote: WhatsApp's clients show a
/// name only there.
fn with_ids(text: &str, people: &[Mentioned]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at + 1);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (written, further) = after.split_at(digits);
        let meant =
            written.parse().ok().and_then(|digits| people.iter().find(|mentioned| mentioned.has_digits(digits)));
        shown.push_str(before);
        match meant {
            Some(mentioned) => shown.push_str(&mentioned.id.digits().to_string()),
            None => shown.push_str(written),
        }
        rest = further;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_behind_an_at_become_the_id_that_the_chat_uses() {
        let bob = Mentioned {
            written: ParticipantId::Phone(5_584_999_990_001),
            person: ParticipantIds {
                phone: NonZeroU64::new(558_499_990_001),
                lid: NonZeroU64::new(810_103_492_323_469),
            },
            id: ParticipantId::Lid(810_103_492_323_469),
        };
        let cases = [
            ("hi @5584999990001!", "hi @810103492323469!"),
            ("@558499990001 @810103492323469", "@810103492323469 @810103492323469"),
            ("@55849999900012 is longer", "@55849999900012 is longer"),
            ("mail me@15550100003.test", "mail me@15550100003.test"),
            ("@ü @", "@ü @"),
            ("no mention", "no mention"),
            ("@99999999999999999999999", "@99999999999999999999999"),
        ];
        for (text, expected) in cases {
            assert_eq!(with_ids(text, std::slice::from_ref(&bob)), expected);
        }
    }
}
