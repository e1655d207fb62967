//! Commands for a data directory whose daemon does not run. Each says what it did.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::app::{PEPPER_FILE, STORE_DIRECTORY, open_store};
use crate::auth::Keys;
use crate::config::{ConfigError, data_dir};

/// Which data directory is meant.
#[derive(Clone, Default, clap::Args)]
pub struct DataArguments {
    /// Directory of the store [ROOKERY_DATA_DIR, default ./data]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<OsString>,
}

impl DataArguments {
    /// Reads and checks it; `variable` answers the value of an environment variable.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ConfigError> {
        data_dir(self.data_dir, variable)
    }
}

/// `rookery reset-keys`: removes every API key and the pepper, so that the next start makes a new admin key.
///
/// # Errors
/// There is no store, its daemon runs, or it cannot be read or written.
#[expect(clippy::print_stdout, reason = "the answer of this command")]
pub async fn reset_keys(data_dir: PathBuf) -> Result<()> {
    let path = data_dir.join(STORE_DIRECTORY);
    if !path.is_dir() {
        bail!("there is no store in `{}`: name the data directory with --data-dir", data_dir.display());
    }
    let store = open_store(path).await.context("stop the daemon first")?;
    let removed = Keys::remove_all(&*store).await.context("could not remove the API keys")?;
    let pepper = data_dir.join(PEPPER_FILE);
    match std::fs::remove_file(&pepper) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("could not remove `{}`", pepper.display()));
        }
        _ => {}
    }
    println!("removed {removed} API keys: the next start makes a new admin key and prints it");
    Ok(())
}
