//! The key that the store is encrypted with: where it is kept, and how it is made. Nothing else opens the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rookery_store::{Store, StoreError, StoreKey, StoreOptions};
use tokio::task::spawn_blocking;
use tracing::info;

use crate::config::DataLocation;
use crate::data_dir::Offline;
use crate::data_dir::PEPPER_FILE;
use crate::files;

/// The store's directory in the data directory.
pub(crate) const STORE_DIRECTORY: &str = "store";
/// The file in the data directory that holds the key when the operator names no other.
const KEY_FILE: &str = "store.key";
/// The name of the key among systemd's credentials (`LoadCredential=rookery-store-key:...`).
const CREDENTIAL: &str = "rookery-store-key";

/// Opens the store of a data directory, and returns it with its key. Encrypts the store first when it is not encrypted.
///
/// # Errors
/// In words for the operator: which file is missing, or what does not fit.
pub(crate) async fn open(location: &DataLocation) -> Result<(Arc<dyn Store>, StoreKey)> {
    let location = location.clone();
    let opened = spawn_blocking(move || {
        let path = location.data_dir.join(STORE_DIRECTORY);
        rookery_store::settle(&path)?;
        refuse_lost_store(&location, &path)?;
        let (key, file) = key(&location)?;
        let mut options = with_key(&key);
        options.free_space_min_bytes = location.free_space_min_bytes.unwrap_or(options.free_space_min_bytes);
        let opened = rookery_store::open_encrypted(&path, options).map_err(|error| named(error, &file))?;
        Ok((opened, key))
    });
    opened.await.context("opening the store was cut short")?
}

/// Encrypts the store's own key with the key in `new_file`, which is made when it is missing.
///
/// # Errors
/// As [`open`]; nothing was changed then.
pub(crate) async fn rekey(location: &DataLocation, new_file: &Path) -> Result<()> {
    let (location, new_file) = (location.clone(), new_file.to_owned());
    let rekeyed = spawn_blocking(move || {
        let path = location.data_dir.join(STORE_DIRECTORY);
        if !rookery_store::exists(&path) {
            bail!("there is no store in `{}`: name the data directory with --data-dir", location.data_dir.display());
        }
        let _offline = Offline::begin(&location.data_dir)?;
        let (key, file) = key(&location)?;
        if file == new_file {
            bail!("the new key has to be in another file than `{}`", file.display());
        }
        // A store has to be encrypted before it can be re-keyed.
        let options = with_key(&key);
        rookery_store::open_encrypted(&path, options.clone()).map(drop).map_err(|error| named(error, &file))?;
        let new = match read(&new_file)? {
            Some(new) => new,
            None => make(&new_file)?,
        };
        rookery_store::rekey(&path, options, &new).map_err(|error| named(error, &file))
    });
    rekeyed.await.context("re-keying was cut short")?
}

/// The pepper is made when the first store is there: a data directory with a pepper and without a store has lost its
/// store. An empty store in its place would look like a first start.
fn refuse_lost_store(location: &DataLocation, path: &Path) -> Result<()> {
    let is_there = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let pepper = location.data_dir.join(PEPPER_FILE);
    if is_there || !pepper.exists() {
        return Ok(());
    }
    bail!(
        "the store `{}` is gone, but `{PEPPER_FILE}` beside it says that there was one: put the directory back, or restore a backup \
         with `rookery restore FILE`. To begin anew, without the sessions and API keys that there were, move `{}` and `{KEY_FILE}` \
         away",
        path.display(),
        pepper.display()
    );
}

/// The options that open a store with this key.
pub(crate) fn with_key(key: &StoreKey) -> StoreOptions {
    StoreOptions { key: Some(key.clone()), ..StoreOptions::default() }
}

fn named(error: StoreError, file: &Path) -> anyhow::Error {
    let is_wrong = matches!(error, StoreError::WrongKey { .. });
    let error = anyhow::Error::from(error);
    if is_wrong { error.context(format!("the key in `{}` does not open the store", file.display())) } else { error }
}

/// The key, and the file that holds it; a key is made where none is needed yet.
fn key(location: &DataLocation) -> Result<(StoreKey, PathBuf)> {
    if let Some(found) = find(location)? {
        return Ok(found);
    }
    let file = location.data_dir.join(KEY_FILE);
    // Stores from before there were keys are not encrypted. An encrypted store needs the key that it was encrypted
    // with.
    let path = location.data_dir.join(STORE_DIRECTORY);
    rookery_store::settle(&path)?;
    match path.is_dir().then(|| rookery_store::open(&path, StoreOptions::default())) {
        Some(Err(StoreError::Encrypted { .. })) => bail!(
            "`{}` is missing, and without it the store cannot be read: put it back from a backup, or name the key with \
             --store-key-file",
            file.display()
        ),
        Some(Err(error)) => return Err(error.into()),
        Some(Ok(_)) | None => {}
    }
    info!(file = %file.display(), "made a key for the store");
    Ok((make(&file)?, file))
}

/// The existing key, and the file that holds it: the file that the operator names, a credential of systemd, or the file
/// in the data directory.
///
/// # Errors
/// The named file has no key, or cannot be used.
pub(crate) fn find(location: &DataLocation) -> Result<Option<(StoreKey, PathBuf)>> {
    let credential = location.credentials_dir.as_ref().map(|directory| directory.join(CREDENTIAL));
    let given = location.store_key_file.clone().or_else(|| credential.filter(|file| file.exists()));
    if let Some(file) = given {
        return Ok(Some((named_key(&file)?, file)));
    }
    let file = location.data_dir.join(KEY_FILE);
    Ok(read(&file)?.map(|key| (key, file)))
}

/// The key in a file that the operator names.
///
/// # Errors
/// The file has no key, or cannot be used.
pub(crate) fn named_key(file: &Path) -> Result<StoreKey> {
    let make =
        "make one with `umask 077; openssl rand -hex 32 > FILE`, or name the one that the store was encrypted with";
    read(file)?.with_context(|| format!("there is no key in `{}`: {make}", file.display()))
}

fn read(file: &Path) -> Result<Option<StoreKey>> {
    let bytes = files::read_secret(file).with_context(|| format!("could not use the key in `{}`", file.display()))?;
    Ok(bytes.map(StoreKey::from_bytes))
}

fn make(file: &Path) -> Result<StoreKey> {
    let key = StoreKey::generate()?;
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).with_context(|| format!("could not make `{}`", directory.display()))?;
    }
    files::write_secret(file, &hex::encode(key.reveal()))
        .with_context(|| format!("could not write `{}`", file.display()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(directory: &Path) -> DataLocation {
        DataLocation { data_dir: directory.to_owned(), ..DataLocation::default() }
    }

    #[tokio::test]
    async fn a_store_that_is_gone_is_not_replaced_by_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let location = location(directory.path());
        let (pepper, store) = (directory.path().join(PEPPER_FILE), directory.path().join(STORE_DIRECTORY));
        // As after a kill in the first start, between the key and the store.
        make(&directory.path().join(KEY_FILE)).unwrap();
        drop(open(&location).await.unwrap());
        files::write_secret(&pepper, &hex::encode([7; 32])).unwrap();
        drop(open(&location).await.unwrap());
        for is_empty in [false, true] {
            fs::remove_dir_all(&store).unwrap();
            if is_empty {
                fs::create_dir(&store).unwrap();
            }
            let refused = open(&location).await.map(drop).unwrap_err().to_string();
            for remedy in ["put the directory back", "rookery restore FILE", "To begin anew"] {
                assert!(refused.contains(remedy), "{refused}");
            }
            assert_eq!(store.exists(), is_empty, "nothing was made");
            if !is_empty {
                fs::create_dir(&store).unwrap();
            }
        }
        fs::remove_file(&pepper).unwrap();
        drop(open(&location).await.unwrap());
    }
}
