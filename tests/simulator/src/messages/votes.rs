//! Votes in polls: a phone votes, and reads how others voted.

use buffa::{Message as _, MessageField};
use wacore::poll::{
    PollVoteCiphertext, compute_option_hash, decrypt_poll_vote_with_secret, encrypt_poll_vote_with_secret,
};
use waproto::whatsapp as wa;

use super::writing::Mail;
use crate::SimulatorError;
use crate::world::group::group_user;
use crate::world::{Addressing, State, World};

impl World {
    /// The owner of a phone votes in a poll that it got: in a group (an id with `@g.us`) or in the chat with a person (a phone number).
    /// No options: the vote is taken back. Returns the id of the vote.
    ///
    /// # Errors
    /// When the phone has no such poll.
    pub fn vote(&self, phone: &str, chat: &str, poll: &str, options: &[&str]) -> Result<String, SimulatorError> {
        let mail = {
            let state = self.settled();
            let no_poll = || SimulatorError::protocol("the phone has no such poll");
            let (found, sender) = state.poll(phone, poll).ok_or_else(no_poll)?;
            let (creator, voter) = (state.name_in(chat, &sender), state.name_in(chat, phone));
            let (Some(creator), Some(voter)) = (creator, voter) else { return Err(no_poll()) };
            let secret = secret_of(&found).ok_or_else(no_poll)?;
            let hashes: Vec<_> = options.iter().map(|option| compute_option_hash(option).to_vec()).collect();
            let (payload, iv) = encrypt_poll_vote_with_secret(&hashes, &secret, poll, &creator, &voter)
                .map_err(|_| SimulatorError::crypto("the vote could not be encrypted"))?;
            let is_group = chat.contains('@');
            let key = wa::MessageKey {
                remote_jid: Some(if is_group { chat.to_owned() } else { creator.clone() }),
                from_me: Some(sender == phone),
                id: Some(poll.to_owned()),
                participant: is_group.then(|| creator.clone()),
            };
            let update = wa::message::PollUpdateMessage {
                poll_creation_message_key: MessageField::some(key),
                vote: MessageField::some(wa::message::PollEncValue {
                    enc_payload: Some(payload),
                    enc_iv: Some(iv.to_vec()),
                }),
                ..Default::default()
            };
            wa::Message { poll_update_message: MessageField::some(update), ..Default::default() }
        };
        self.send(phone, chat, Mail::from(mail))
    }

    /// The options that `voter` chose in a poll, by the latest vote that this phone got; `None`: there is none that it can read.
    pub fn vote_of(&self, phone: &str, voter: &str, chat: &str, poll: &str) -> Option<Vec<String>> {
        let state = self.settled();
        let messages = &state.accounts.get(phone)?.messages;
        let (found, sender) = state.poll(phone, poll)?;
        let is_it = |message: &&super::ReceivedMessage| {
            message.kind == "poll_vote" && message.sender == voter && message.target.as_deref() == Some(poll)
        };
        let vote = messages.iter().rfind(is_it)?.message();
        let vote = vote.poll_update_message.as_option()?.vote.as_option()?;
        let ciphertext =
            PollVoteCiphertext { enc_payload: vote.enc_payload.as_deref()?, enc_iv: vote.enc_iv.as_deref()? };
        let (creator, voter) = (state.name_in(chat, &sender)?, state.name_in(chat, voter)?);
        let secret = secret_of(&found)?;
        let hashes = decrypt_poll_vote_with_secret(ciphertext, &secret, poll, &creator, &voter).ok()?;
        let polls = [&found.poll_creation_message, &found.poll_creation_message_v3];
        let options = &polls.into_iter().find_map(|poll| poll.as_option())?.options;
        let names = options.iter().filter_map(|option| option.option_name.clone());
        Some(names.filter(|name| hashes.iter().any(|hash| **hash == compute_option_hash(name))).collect())
    }
}

impl State {
    /// A poll that the phone got or made, and the phone number of who made it.
    fn poll(&self, phone: &str, id: &str) -> Option<(wa::Message, String)> {
        let account = self.accounts.get(phone)?;
        let got = account.messages.iter().find(|message| message.id == id && message.kind == "poll");
        let made = || {
            let made = account.sent.iter().find(|sent| sent.id == id)?;
            Some((wa::Message::decode_from_slice(&made.content).ok()?, phone.to_owned()))
        };
        got.map(|message| (message.message(), message.sender.clone())).or_else(made)
    }

    /// The JID by which a chat names somebody.
    fn name_in(&self, chat: &str, phone: &str) -> Option<String> {
        let account = self.accounts.get(phone)?;
        let group = chat.contains('@').then(|| self.groups.get(group_user(chat)));
        let is_by_lid = group.map_or(Some(false), |group| Some(group?.addressing == Addressing::Lid))?;
        Some(if is_by_lid { account.lid_jid().to_string() } else { account.pn_jid().to_string() })
    }
}

fn secret_of(message: &wa::Message) -> Option<Vec<u8>> {
    message.message_context_info.as_option()?.message_secret.clone()
}
