//! Votes in polls, which are encrypted once more: with a secret that the poll has.

use wacore::poll::{
    PollVoteCiphertext, compute_option_hash, decrypt_poll_vote_with_secret, encrypt_poll_vote_with_secret,
};
use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp as wa;
use whatsapp_rust::Jid;
use whatsapp_rust::buffa::Message as _;

use super::{EngineError, ids, incoming};
use rookery_model::ParticipantId;

/// Who is who in a vote, by all ids that are known: nobody says which ones it was encrypted for.
#[derive(Copy, Clone, Debug)]
pub struct VoteParties<'a> {
    /// Who made the poll.
    pub creators: &'a [ParticipantId],
    /// Who votes.
    pub voters: &'a [ParticipantId],
}

/// The names of the options in a vote; `None`: it is not one that these people made in this poll, or it names other options. `poll`: the poll as WhatsApp's protocol has it.
#[must_use]
pub fn open_vote(
    poll: &[u8],
    poll_id: &str,
    parties: VoteParties<'_>,
    payload: &[u8],
    iv: &[u8],
) -> Option<Vec<String>> {
    let poll = wa::Message::decode_from_slice(poll).ok()?;
    let (secret, names) = (secret_of(&poll)?, incoming::poll_of(poll.get_base_message())?.options);
    let jids = |people: &[ParticipantId]| people.iter().map(|person| ids::jid(*person)).collect::<Vec<Jid>>();
    let (creators, voters) = (jids(parties.creators), jids(parties.voters));
    // Both are named in the same way, as a rule.
    let mut pairs: Vec<(&Jid, &Jid)> =
        creators.iter().flat_map(|creator| voters.iter().map(move |voter| (creator, voter))).collect();
    pairs.sort_by_key(|(creator, voter)| creator.server != voter.server);
    let ciphertext = PollVoteCiphertext { enc_payload: payload, enc_iv: iv };
    let open = |(creator, voter): (&Jid, &Jid)| {
        decrypt_poll_vote_with_secret(ciphertext, &secret, poll_id, &creator.to_string(), &voter.to_string()).ok()
    };
    let hashes = pairs.into_iter().find_map(open)?;
    let is_chosen = |name: &String| hashes.iter().any(|hash| **hash == compute_option_hash(name));
    let chosen: Vec<String> = names.into_iter().filter(is_chosen).collect();
    // An option that was added to the poll later is not kept.
    (chosen.len() == hashes.len()).then_some(chosen)
}

/// A vote for these options.
///
/// # Errors
/// [`EngineError::Invalid`]: the poll cannot be read.
pub(super) fn encrypted(
    poll: &[u8],
    poll_id: &str,
    creator: &str,
    voter: &str,
    options: &[String],
) -> Result<wa::message::PollEncValue, EngineError> {
    let unreadable = || EngineError::Invalid("the poll is unreadable".into());
    let poll = wa::Message::decode_from_slice(poll).map_err(|_| unreadable())?;
    let secret = secret_of(&poll).ok_or_else(unreadable)?;
    let hashes: Vec<Vec<u8>> = options.iter().map(|option| compute_option_hash(option).to_vec()).collect();
    let (payload, iv) =
        encrypt_poll_vote_with_secret(&hashes, &secret, poll_id, creator, voter).map_err(|_| unreadable())?;
    Ok(wa::message::PollEncValue { enc_payload: Some(payload), enc_iv: Some(iv.to_vec()) })
}

/// The secret is beside the message, or beside what the message is wrapped in.
fn secret_of(poll: &wa::Message) -> Option<Vec<u8>> {
    let of = |message: &wa::Message| message.message_context_info.as_option()?.message_secret.clone();
    of(poll).or_else(|| of(poll.get_base_message()))
}
