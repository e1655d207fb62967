//! Log lines on standard error. There is no bridge from the `log` crate: the engine writes phone numbers and pairing
//! codes there (P-1). For the same reason a panic's text is shown only when it is part of the program.

use std::panic::PanicHookInfo;

use anyhow::{Context as _, Result};
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Set by systemd when standard error is the journal, which has its own times.
const JOURNAL: &str = "JOURNAL_STREAM";

/// Starts writing log lines that pass this filter, and panics as log lines. Once per process.
///
/// # Errors
/// When the filter cannot be read, or log lines are written already.
pub fn start(filter: &str) -> Result<()> {
    let filter = EnvFilter::builder().parse(filter).context("could not read the log filter")?;
    // It names the hosts of URLs that callers give.
    let filter = filter.add_directive("hyper_util::client::legacy::connect=info".parse()?);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let started = if std::env::var_os(JOURNAL).is_some() { lines.without_time().try_init() } else { lines.try_init() };
    started.map_err(|error| anyhow::anyhow!("could not start logging: {error}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // A formatted text may hold what a caller or WhatsApp sent.
    let text = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
    error!(panic.place = place, panic.text = text, "panic");
}
