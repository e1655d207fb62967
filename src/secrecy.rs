//! Keeps the secrets in this process's memory out of files: no core dumps, and nobody but root may read the memory.

use anyhow::{Context as _, Result};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps and access by others, for the rest of the process's life. Call it before any secret is read.
///
/// # Errors
/// The kernel refuses.
pub fn forbid_dumps() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("could not forbid others to look into the memory")?;
    // Not dumpable is enough, except for a kernel that pipes dumps into a program (`core_pattern`) and is set to dump
    // all.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("could not forbid core dumps")
}
