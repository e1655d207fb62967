//! The shape of answers about people and about joining: WhatsApp answers the same request in more than one way, and
//! clients have to understand all of them. Changes nothing but the answer.

use wacore_binary::Node;

use crate::stanza::jid_attr;
use crate::world::{State, World};

/// How answers look from now on. The default is the behaviour of a new [`crate::World`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// By which ids people are named in answers to add, remove, promote, demote, approve, reject, to taking requests
    /// back and to revoking invitations.
    pub ids: AnswerIds,
    /// People for whom a change succeeded have `type="200"`.
    pub typed: bool,
    /// Phone numbers of people for whom such answers have no entry.
    pub without: Vec<String>,
    /// Phone numbers of people for whom a change that was made is answered with `error="500"`.
    pub broken: Vec<String>,
    /// The code for a member who joins by the invite link; 200 answers like a join.
    pub join_of_member: u16,
    /// The code for an invite link that was revoked.
    pub revoked_link: u16,
}

/// By which ids an answer names a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerIds {
    /// By `jid` as the group addresses people, and by the other id in `lid` or `phone_number`.
    #[default]
    Both,
    /// By `jid` alone.
    JidOnly,
    /// By `lid` alone, without a `jid`.
    LidOnly,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            ids: AnswerIds::Both,
            typed: false,
            without: Vec::new(),
            broken: Vec::new(),
            join_of_member: 409,
            revoked_link: 410,
        }
    }
}

impl World {
    /// Decides how answers look from now on.
    pub fn set_answers(&self, answers: Answers) {
        self.lock().answers = answers;
    }
}

impl State {
    /// `<participant>` nodes of an answer, in the shape that was asked for.
    pub(super) fn shaped(&self, participants: Vec<Node>) -> Vec<Node> {
        participants.into_iter().filter_map(|node| self.shaped_one(node)).collect()
    }

    fn shaped_one(&self, mut node: Node) -> Option<Node> {
        let phone = jid_attr(&node, "jid").and_then(|jid| self.phone_of(&jid));
        if phone.as_ref().is_some_and(|phone| self.answers.without.contains(phone)) {
            return None;
        }
        if phone.as_ref().is_some_and(|phone| self.answers.broken.contains(phone)) && !node.attrs.contains_key("error")
        {
            node.attrs.insert("error", "500");
        }
        if self.answers.typed && !node.attrs.contains_key("error") {
            node.attrs.insert("type", "200");
        }
        let account = phone.and_then(|phone| self.accounts.get(&phone));
        match (self.answers.ids, account) {
            (AnswerIds::LidOnly, Some(account)) => {
                node.attrs.0.retain(|(key, _)| !["jid", "phone_number"].contains(&key.as_ref()));
                node.attrs.insert("lid", account.lid_jid());
            }
            (AnswerIds::JidOnly, _) => {
                node.attrs.0.retain(|(key, _)| !["lid", "phone_number"].contains(&key.as_ref()));
            }
            (AnswerIds::Both, _) | (AnswerIds::LidOnly, None) => {}
        }
        Some(node)
    }
}
