//! WhatsApp's acknowledgements of messages that were sent: who waits for which, by the message's id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use wacore::types::events::{Receipt, ServerAck};

use rookery_model::{MessageId, Timestamp};

/// What WhatsApp said of a message: when it took it, or the code of its refusal.
pub(crate) type Acknowledgement = Result<Timestamp, u16>;

/// The messages of an engine whose senders wait.
#[derive(Default)]
pub(crate) struct Acknowledgements(Mutex<HashMap<String, oneshot::Sender<Acknowledgement>>>);

/// The wait for one message; ends when it is dropped.
pub(crate) struct Waiting {
    owner: Arc<Acknowledgements>,
    id: String,
    answer: oneshot::Receiver<Acknowledgement>,
}

impl Acknowledgements {
    /// Begins to wait. An older wait for the same message ends without an answer.
    pub(crate) fn wait_for(self: &Arc<Self>, id: &MessageId) -> Waiting {
        let (told, answer) = oneshot::channel();
        self.lock().insert(id.as_str().to_owned(), told);
        Waiting { owner: Arc::clone(self), id: id.as_str().to_owned(), answer }
    }

    /// WhatsApp acknowledged something, or refused it.
    pub(crate) fn acknowledged(&self, ack: &ServerAck) {
        if ack.class.as_ref().is_some_and(|class| class != "message") {
            return;
        }
        let Some(told) = self.lock().remove(&ack.id) else { return };
        let taken_at = ack.timestamp.map_or_else(Timestamp::now, |at| Timestamp(at.timestamp_millis()));
        let answer = match &ack.error {
            None => Ok(taken_at),
            // WhatsApp's codes are numbers; anything else is a refusal all the same.
            Some(code) => Err(code.parse().unwrap_or(u16::MAX)),
        };
        // Nobody waits any more.
        let _ = told.send(answer);
    }

    /// Somebody has a message: so WhatsApp has taken it.
    pub(crate) fn received(&self, receipt: &Receipt) {
        let mut waiting = self.lock();
        for id in &receipt.message_ids {
            if let Some(told) = waiting.remove(id) {
                let _ = told.send(Ok(Timestamp(receipt.timestamp.timestamp_millis())));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Acknowledgement>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// What WhatsApp said; `None` when somebody else waits for the same message now.
    pub(crate) async fn answer(&mut self) -> Option<Acknowledgement> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.answer.close();
        let mut waiting = self.owner.lock();
        // A newer wait for the same message goes on.
        if waiting.get(&self.id).is_some_and(oneshot::Sender::is_closed) {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_model::MessageSeed;

    fn ack(id: &str, error: Option<&str>) -> ServerAck {
        ServerAck::builder().id(id.to_owned()).maybe_error(error.map(str::to_owned)).build()
    }

    fn id(number: u8) -> MessageId {
        MessageId::of(&MessageSeed::from_bytes([number; MessageSeed::BYTES]))
    }

    #[tokio::test]
    async fn each_sender_hears_of_its_own_message() {
        let all = Arc::new(Acknowledgements::default());
        let [first, second, third] = [1, 2, 3].map(id);
        let (mut taken, mut refused, dropped) = (all.wait_for(&first), all.wait_for(&second), all.wait_for(&third));
        drop(dropped);

        all.acknowledged(&ack("another", None));
        all.acknowledged(&ServerAck::builder().id(second.as_str().to_owned()).class("receipt".to_owned()).build());
        all.acknowledged(&ack(first.as_str(), None));
        all.acknowledged(&ack(second.as_str(), Some("463")));

        assert!(taken.answer().await.is_some_and(|answer| answer.is_ok()));
        assert_eq!(refused.answer().await, Some(Err(463)));
        drop((taken, refused));
        assert!(all.lock().is_empty());
    }

    #[tokio::test]
    async fn a_newer_wait_takes_the_place_of_an_older_one() {
        let all = Arc::new(Acknowledgements::default());
        let id = id(0);
        let mut older = all.wait_for(&id);
        let mut newer = all.wait_for(&id);
        assert_eq!(older.answer().await, None);
        drop(older);
        all.acknowledged(&ack(id.as_str(), Some("nonsense")));
        assert_eq!(newer.answer().await, Some(Err(u16::MAX)));
    }
}
