//! Faults: what goes wrong, for whom, at which request, how often.

/// Placeholder until faults are injected.
pub(crate) struct Fault;
