//! A promise that a batch is on disk.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::StoreError;

/// Resolves when the batch is on disk, or to why it is not. Dropping it does not cancel the batch.
#[must_use = "a write is acknowledged only by its ticket (K-2)"]
#[derive(Debug)]
pub struct Ticket(State);

#[derive(Debug)]
enum State {
    Decided(Result<(), StoreError>),
    Waiting(oneshot::Receiver<Result<(), StoreError>>),
}

impl Ticket {
    pub(super) fn decided(outcome: Result<(), StoreError>) -> Self {
        Self(State::Decided(outcome))
    }

    /// A ticket that the sender of `receiver` answers, for stores of another kind.
    pub fn waiting(receiver: oneshot::Receiver<Result<(), StoreError>>) -> Self {
        Self(State::Waiting(receiver))
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why the batch is not on disk.
    ///
    /// # Panics
    /// In async code, as every blocking wait of tokio does.
    pub fn wait_blocking(self) -> Result<(), StoreError> {
        match self.0 {
            State::Decided(outcome) => outcome,
            State::Waiting(receiver) => receiver.blocking_recv().unwrap_or_else(|_| Err(writer_gone())),
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Decided(outcome) => Poll::Ready(outcome.clone()),
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(writer_gone())))
            }
        }
    }
}

/// The committer answers every ticket, also when a commit fails. Tickets are unanswered only after its own end.
fn writer_gone() -> StoreError {
    StoreError::Failed("its writer is gone".to_owned())
}
