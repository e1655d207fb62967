//! `rookery backup` and `rookery restore`: they ask the running daemon; without one they use the data directory
//! themselves.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
use rookery_store::StoreKey;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::check;
use super::client::Client;
use super::restore::{self, NOTHING_CHANGED, Restored, Wish, list};
use crate::config::DataLocation;
use crate::data_dir::{self, Offline};
use crate::event_log;
use crate::files::SecretFile;
use crate::store_key::{self, STORE_DIRECTORY};

/// Said when a daemon uses the data directory and could not be asked.
const UNREACHABLE: &str = "a daemon that runs here could not be asked by way of `control.sock`: stop it first";

/// Flags of `rookery backup`.
#[derive(Clone, clap::Args)]
pub struct BackupArguments {
    #[command(flatten)]
    location: DataLocation,
    /// File to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Flags of `rookery restore`.
#[derive(Clone, clap::Args)]
pub struct RestoreArguments {
    #[command(flatten)]
    location: DataLocation,
    #[command(flatten)]
    how: How,
}

/// Flags of `rookery restore` that say how a backup is restored.
#[derive(Clone, clap::Args)]
pub struct How {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File with the key that opens the backup, when the store has been re-keyed since
    #[arg(long, value_name = "FILE")]
    backup_key_file: Option<PathBuf>,
    /// Restore even if sessions of the backup may be alive elsewhere, or sessions that are here would be lost
    #[arg(long)]
    force: bool,
    /// Keep the current API keys; otherwise those of the backup come back, even if they were revoked since
    #[arg(long)]
    keep_keys: bool,
    /// Only read the backup and say what is in it
    #[arg(long, conflicts_with_all = ["force", "keep_keys"])]
    check: bool,
}

/// `rookery backup`: writes all of a daemon's data into one encrypted file.
///
/// # Errors
/// In words for the operator; there is no file then.
#[expect(clippy::print_stdout, reason = "the answer of this command")]
pub async fn backup(arguments: BackupArguments) -> Result<()> {
    let BackupArguments { location, file } = arguments;
    if file.try_exists().with_context(|| format!("could not look at `{}`", file.display()))? {
        bail!("`{}` exists already: name a new file", file.display());
    }
    match Client::connect(&location.data_dir).await? {
        Some(daemon) => receive(daemon, &file).await?,
        None => save_offline(location, file.clone()).await?,
    }
    let (bytes, sha256) = summary(&file).with_context(|| format!("could not read `{}` again", file.display()))?;
    println!("wrote {} ({bytes} bytes, SHA-256 {sha256})", file.display());
    println!("it opens with the key of the store only, which is not in it: keep that one as well, in another place");
    Ok(())
}

async fn receive(daemon: Client, file: &Path) -> Result<()> {
    let named = || format!("could not write `{}`", file.display());
    let mut body = daemon.backup().await?;
    // The pieces come one by one: only a complete backup gets the name.
    let mut to = SecretFile::begin(file).with_context(named)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the daemon was stopped before the backup was whole")?;
        if let Ok(piece) = frame.into_data() {
            to.write_all(&piece).with_context(named)?;
        }
    }
    to.finish().with_context(named)
}

async fn save_offline(location: DataLocation, file: PathBuf) -> Result<()> {
    if !rookery_store::exists(&location.data_dir.join(STORE_DIRECTORY)) {
        bail!("there is no store in `{}`: name the data directory with --data-dir", location.data_dir.display());
    }
    let _offline = Offline::begin(&location.data_dir).context(UNREACHABLE)?;
    let (store, key) = store_key::open(&location).await?;
    let name = file.display().to_string();
    let save = move || {
        let events = event_log::open_existing(&*store, &location.data_dir)?;
        restore::save(&*store, events.as_ref(), &location.data_dir, &key, &file)
    };
    let saved = spawn_blocking(save).await;
    saved.context("the backup was cut short")?.with_context(|| format!("there is no backup in `{name}`"))
}

/// `rookery restore`: replaces the data in a data directory by a backup.
///
/// # Errors
/// In words for the operator; they say so when something was changed.
#[expect(clippy::print_stdout, reason = "the answer of this command")]
pub async fn restore(arguments: RestoreArguments) -> Result<()> {
    let RestoreArguments { location, how } = arguments;
    let named = || format!("could not read `{}`", how.file.display());
    let file = File::open(&how.file).with_context(named)?;
    let backup_key = how.backup_key_file.as_deref().map(store_key::named_key).transpose()?;
    if how.check {
        let key = backup_key.map_or_else(|| restore::key_of(&location), Ok)?;
        let checked = spawn_blocking(move || check(file, &key)).await.context("reading was cut short")?;
        let (made_at, sessions) = checked.with_context(|| format!("`{}` cannot be restored", how.file.display()))?;
        println!("the backup is whole: made at {made_at}, {}", linked(&sessions));
        return Ok(());
    }
    let wish = Wish { force: how.force, keep_keys: how.keep_keys };
    let restored = match Client::connect(&location.data_dir).await? {
        Some(daemon) => daemon.restore(file, backup_key.as_ref(), wish).await,
        None => {
            let work = move || restore_offline(&location, file, backup_key, wish);
            spawn_blocking(work).await.context("restoring was cut short")?
        }
    };
    let Restored { made_at, sessions, before, keys, .. } =
        restored.with_context(|| format!("could not restore `{}`", how.file.display()))?;
    println!("restored what there was at {made_at}, {}", linked(&sessions));
    if let Some(before) = before {
        println!("what was here before is in {}", before.display());
    }
    if !keys.is_empty() {
        println!("API keys that are other than before (--keep-keys would have kept them as they were):");
        keys.iter().for_each(|line| println!("  {line}"));
    }
    Ok(())
}

fn restore_offline(location: &DataLocation, file: File, backup_key: Option<StoreKey>, wish: Wish) -> Result<Restored> {
    let key = restore::key_of(location)?;
    data_dir::prepare(&location.data_dir)?;
    let offline = Offline::begin(&location.data_dir).context(UNREACHABLE)?;
    let now = restore::open_readable(location, &key)?;
    let backup_key = backup_key.unwrap_or_else(|| key.clone());
    let unpacked = restore::unpack(location, &key, file, &backup_key, now.as_deref(), wish).context(NOTHING_CHANGED)?;
    drop(now);
    // If the command is stopped from here on, it leaves only files that the daemon can use.
    offline.hand_over();
    restore::replace(location, &key, unpacked)
}

fn linked(sessions: &[String]) -> String {
    if sessions.is_empty() {
        "without any linked session".into()
    } else {
        format!("with the sessions {}", list(sessions))
    }
}

/// Size and checksum of a file.
fn summary(file: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash, mut piece, mut bytes) = (File::open(file)?, Sha256::new(), vec![0; 64 * 1024], 0);
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&piece[..length]);
        bytes += length as u64;
    }
}
