//! Failures on purpose, for tests: they exist only in builds with the feature `simulator`.

use rookery_engine::Engine;

/// What is to fail.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// The session's actor panics in a handler.
    ActorPanic,
    /// The engine's run loop ends by itself.
    EngineEnd,
    /// The whole process aborts inside a session's handler.
    ProcessAbort,
}

impl Failpoint {
    /// Fails; `engine` is the session's, if it has one.
    pub(crate) fn strike(self, engine: Option<std::sync::Arc<Engine>>) {
        match (self, engine) {
            (Self::ActorPanic, _) => panic!("failpoint"),
            (Self::ProcessAbort, _) => std::process::abort(),
            (Self::EngineEnd, Some(engine)) => drop(tokio::spawn(async move { engine.disconnect().await })),
            (Self::EngineEnd, None) => {}
        }
    }
}
