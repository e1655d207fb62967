//! What a phone keeps of the messages that it got.

use std::collections::{HashMap, VecDeque, vec_deque};

use serde::{Deserialize, Serialize, Serializer};

use super::received::ReceivedMessage;

const KEPT_MAX: usize = 10_000;

/// The latest messages of a phone, the newest last, each once.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "VecDeque<ReceivedMessage>")]
pub(crate) struct KeptMessages {
    messages: VecDeque<ReceivedMessage>,
    /// How many are not kept any more.
    dropped: usize,
    /// The numbers of the messages, by sender and id. The first one that came has number 0.
    numbers: HashMap<(String, String), usize>,
}

impl KeptMessages {
    /// Keeps a message. One that is kept already is counted there.
    pub(crate) fn keep(&mut self, message: ReceivedMessage) {
        let name = (message.sender.clone(), message.id.clone());
        if let Some(number) = self.numbers.get(&name) {
            self.messages[number - self.dropped].times += message.times;
            return;
        }
        self.numbers.insert(name, self.dropped + self.messages.len());
        self.messages.push_back(message);
        if self.messages.len() > KEPT_MAX
            && let Some(oldest) = self.messages.pop_front()
        {
            self.dropped += 1;
            self.numbers.remove(&(oldest.sender, oldest.id));
        }
    }

    pub(crate) fn iter(&self) -> vec_deque::Iter<'_, ReceivedMessage> {
        self.messages.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> vec_deque::IterMut<'_, ReceivedMessage> {
        self.messages.iter_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }
}

impl From<VecDeque<ReceivedMessage>> for KeptMessages {
    fn from(messages: VecDeque<ReceivedMessage>) -> Self {
        let mut kept = Self::default();
        messages.into_iter().for_each(|message| kept.keep(message));
        kept
    }
}

impl Serialize for KeptMessages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.messages.serialize(serializer)
    }
}
