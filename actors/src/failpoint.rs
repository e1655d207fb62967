//! Failures on purpose, for tests: they exist only in builds with the feature `simulator`.

/// What is to fail.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// The session's actor panics in a handler.
    ActorPanic,
    /// The whole process aborts inside a session's handler.
    ProcessAbort,
}

impl Failpoint {
    /// Fails.
    pub(crate) fn strike(self) {
        match self {
            Self::ActorPanic => panic!("failpoint"),
            Self::ProcessAbort => std::process::abort(),
        }
    }
}
