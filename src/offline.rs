//! Commands for a data directory whose daemon does not run. Each says what it did.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use rookery_store::Store;
use tokio::task::spawn_blocking;

use crate::audit::{self, AuditError, Found, Verdict};
use crate::auth::ApiKeys;
use crate::config::DataLocation;
use crate::data_dir::Offline;
use crate::data_dir::PEPPER_FILE;
use crate::files;
use crate::store_key::{self, STORE_DIRECTORY};

/// Flags of `rookery audit verify`.
#[derive(Clone, Default, clap::Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    location: DataLocation,
    /// A record that was noted earlier, as ID:HASH: it must be there unchanged, so that nothing before it was cut off
    #[arg(long, value_name = "ID:HASH", value_parser = noted)]
    noted: Option<(u64, String)>,
}

fn noted(text: &str) -> Result<(u64, String), String> {
    let parsed = text.split_once(':').and_then(|(id, hash)| Some((id.parse().ok()?, hash.to_ascii_lowercase())));
    let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    parsed
        .filter(|(_, hash)| is_hash(hash))
        .ok_or_else(|| "must be a record's number, a colon and 64 hex digits".into())
}

/// `rookery audit verify`: follows the chain of the audit log and names the first record that is not as it should be.
///
/// # Errors
/// There is no store, its daemon runs, or the log was changed.
#[expect(clippy::print_stdout, reason = "the answer of this command")]
pub async fn verify_audit(arguments: VerifyArguments) -> Result<()> {
    let VerifyArguments { location, noted } = arguments;
    let (_offline, store) = store_of(&location, "stop the daemon, or ask it itself: GET /api/audit/verify").await?;
    let verdict = spawn_blocking(move || {
        let known = noted.map(|(id, hash)| Ok::<_, AuditError>((id, hash, audit::find(&*store, id)?))).transpose()?;
        Ok::<_, AuditError>((audit::verify(&*store)?, known))
    });
    let (verdict, known) = verdict.await.context("reading was cut short")?.context("could not read the audit log")?;
    let whole = match verdict {
        Verdict::Whole(whole) => whole,
        Verdict::Broken { id, why } => bail!("the audit log was changed: record {id} {why}"),
    };
    if let Some((id, hash, found)) = known {
        match found {
            Found::Hash(found) if found.to_string() == hash => {}
            Found::Removed => bail!("record {id} was removed from the audit log and proves nothing: note a newer one"),
            Found::Hash(_) | Found::Nowhere => {
                bail!("the audit log was changed: record {id} is not the one that was noted")
            }
        }
    }
    match whole.extent.head() {
        None => println!("the audit log is empty"),
        Some((id, hash)) => {
            println!("the audit log is whole: {} records, the last one is {id}:{hash}", whole.records());
        }
    }
    if let (1.., last) = (whole.removed, whole.last_removal) {
        let last = last.map_or_else(String::new, |id| format!("; record {id} is the newest that says so"));
        println!("{} older records were removed by age or share{last}", whole.removed);
    }
    Ok(())
}

/// Opens a data directory's store, with the right to use it. `while_it_runs`: said when the daemon has that right.
async fn store_of(location: &DataLocation, while_it_runs: &'static str) -> Result<(Offline, Arc<dyn Store>)> {
    if !rookery_store::exists(&location.data_dir.join(STORE_DIRECTORY)) {
        bail!("there is no store in `{}`: name the data directory with --data-dir", location.data_dir.display());
    }
    let offline = Offline::begin(&location.data_dir).context(while_it_runs)?;
    Ok((offline, store_key::open(location).await?.0))
}

/// Flags of `rookery store rekey`.
#[derive(Clone, clap::Args)]
pub struct RekeyArguments {
    #[command(flatten)]
    location: DataLocation,
    /// File with the new key, 64 hex digits; made when it is missing
    #[arg(long, value_name = "FILE")]
    new_key_file: PathBuf,
}

/// `rookery store rekey`: encrypts the store's own key with another key.
///
/// # Errors
/// There is no store, its daemon runs, or the current key does not open it; nothing was changed then.
#[expect(clippy::print_stdout, reason = "the answer of this command")]
pub async fn rekey(arguments: RekeyArguments) -> Result<()> {
    let RekeyArguments { location, new_key_file } = arguments;
    store_key::rekey(&location, &new_key_file).await.context("the store has its key as before")?;
    println!(
        "the key in `{0}` opens the store now: start the daemon with --store-key-file {0}",
        new_key_file.display()
    );
    Ok(())
}

/// `rookery reset-keys`: removes every API key and the pepper, so that the next start makes a new admin key.
///
/// # Errors
/// There is no store, its daemon runs, or the store cannot be read or written.
#[expect(clippy::print_stdout, reason = "the answer of this command")]
pub async fn reset_keys(location: DataLocation) -> Result<()> {
    let (_offline, store) = store_of(&location, "stop the daemon first").await?;
    let removed = ApiKeys::remove_all(&*store).await.context("could not remove the API keys")?;
    let pepper = location.data_dir.join(PEPPER_FILE);
    files::remove_file(&pepper).with_context(|| format!("could not remove `{}`", pepper.display()))?;
    println!("removed {removed} API keys: the next start makes a new admin key and prints it");
    Ok(())
}
