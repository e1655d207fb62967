//! Sending a message to a person or a group.

use super::{Command, CommandKind, Participants, Requested, SessionAccess, Started};
use crate::commands::whatsapp_codes::TIME_LOCKED;
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_model::{
    ChatId, GroupId, GroupRecord, MessageId, MessageSeed, OutgoingContent, OutgoingMessage, ParticipantId,
    ParticipantIds, Role, Timestamp,
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
    /// What it says. `@` and the digits of somebody in `mentions` become the id by which the chat names that person.
    pub content: OutgoingContent,
    /// The people whom it mentions.
    pub mentions: Vec<Requested>,
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
        match &mut self.chat {
            Recipient::Person(person) => Some(Participants { group: None, list: std::slice::from_mut(person) }),
            Recipient::Group(_) if self.mentions.is_empty() => None,
            Recipient::Group(group) => Some(Participants { group: Some(group), list: &mut self.mentions }),
        }
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<SentMessage>, CommandError> {
        session.check_ready()?;
        let message = match &self.chat {
            Recipient::Person(person) => self.to_person(person)?,
            Recipient::Group(group) => {
                let record = session.cache.record(group).ok_or_else(|| CommandError::GroupNotFound(group.clone()))?;
                self.to_group(&record, &session.me)?
            }
        };
        let context = session.admit(Cost::Message, None)?;
        Ok(context.run(move |context| async move {
            let sent = context.carry_out_again(WHAT, || context.engine.send_message(&message)).await;
            let sent = sent.map_err(|error| match error {
                // The time lock was asked for, and does not explain it.
                CommandError::Refused { code: TIME_LOCKED, .. } => CommandError::TokenMissing,
                error => error,
            });
            sent.map(|at| SentMessage { id: MessageId::of(&message.seed), at }).into()
        }))
    }
}

impl SendMessage {
    fn to_person(&self, person: &Requested) -> Result<OutgoingMessage, CommandError> {
        if person.is_absent() {
            return Err(CommandError::NotOnWhatsapp(person.text.to_string()));
        }
        let people: Vec<_> = self.mentions.iter().map(|mentioned| (mentioned.person(), mentioned.id())).collect();
        let to = person.person().id().unwrap_or(person.id());
        Ok(self.message(ChatId::Person(to), &people, None))
    }

    fn to_group(&self, record: &GroupRecord, me: &ParticipantIds) -> Result<OutgoingMessage, CommandError> {
        if record.is_community {
            return Err(CommandError::NotChat(record.id.clone()));
        }
        let is_admin = record.member(me).is_some_and(|member| member.role != Role::Member);
        if record.settings.announce && !is_admin {
            return Err(CommandError::AnnounceOnly(record.id.clone()));
        }
        let named = |person: &ParticipantIds| id_in(record, person);
        let mentioned = self.mentions.iter().map(|mentioned| {
            let mut person = mentioned.person();
            if let Some(member) = record.member(&person) {
                person.learn(&member.person);
            }
            (person, named(&person).unwrap_or(mentioned.id()))
        });
        let mut people: Vec<_> = mentioned.collect();
        if self.mentions_all {
            let others = record.members.iter().map(|member| member.person).filter(|person| !me.is(person));
            let others = others.filter_map(|person| Some((person, named(&person)?)));
            let missing: Vec<_> = others.filter(|(_, id)| !people.iter().any(|(_, known)| known == id)).collect();
            people.extend(missing);
        }
        Ok(self.message(ChatId::Group(record.id.clone()), &people, record.settings.ephemeral_seconds))
    }

    /// `people`: those whom it mentions, and the id by which the chat names each.
    fn message(
        &self,
        chat: ChatId,
        people: &[(ParticipantIds, ParticipantId)],
        ephemeral_seconds: Option<u32>,
    ) -> OutgoingMessage {
        let mut content = self.content.clone();
        if let OutgoingContent::Text { text, .. } = &mut content {
            *text = with_ids(text, people);
        }
        let mentions = people.iter().map(|(_, id)| *id).collect();
        let mentions_all = self.mentions_all && matches!(chat, ChatId::Group(_));
        OutgoingMessage { seed: self.seed, chat, content, mentions, mentions_all, ephemeral_seconds }
    }
}

/// The id by which a group names somebody; `None` where nothing is known of them.
fn id_in(record: &GroupRecord, person: &ParticipantIds) -> Option<ParticipantId> {
    let phone = person.phone.map(|digits| ParticipantId::Phone(digits.get()));
    let lid = person.lid.map(|digits| ParticipantId::Lid(digits.get()));
    if record.lid_addressing { lid.or(phone) } else { phone.or(lid) }
}

/// The text with `@` and the digits of each mentioned person's id, whichever of the ids the caller wrote: WhatsApp's clients show a
/// name only there.
fn with_ids(text: &str, people: &[(ParticipantIds, ParticipantId)]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at + 1);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (written, further) = after.split_at(digits);
        let meant = written.parse().ok().and_then(|written: u64| {
            people.iter().find(|(person, id)| id.digits() == written || person.ids().any(|id| id.digits() == written))
        });
        shown.push_str(before);
        match meant {
            Some((_, id)) => shown.push_str(&id.digits().to_string()),
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
    use std::num::NonZeroU64;

    fn person(phone: u64, lid: u64) -> ParticipantIds {
        ParticipantIds { phone: NonZeroU64::new(phone), lid: NonZeroU64::new(lid) }
    }

    #[test]
    fn the_digits_behind_an_at_become_the_id_that_the_chat_uses() {
        let bob = (person(15_550_100_002, 810_103_492_323_469), ParticipantId::Lid(810_103_492_323_469));
        let cases = [
            ("hi @15550100002!", "hi @810103492323469!"),
            ("@15550100002 @810103492323469", "@810103492323469 @810103492323469"),
            ("@155501000021 is longer", "@155501000021 is longer"),
            ("mail me@15550100003.test", "mail me@15550100003.test"),
            ("@ü @", "@ü @"),
            ("no mention", "no mention"),
            ("@99999999999999999999999", "@99999999999999999999999"),
        ];
        for (text, expected) in cases {
            assert_eq!(with_ids(text, &[bob]), expected);
        }
    }
}
