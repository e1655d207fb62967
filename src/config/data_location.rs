//! Where a daemon's data is: the settings that every command has.

use std::path::PathBuf;

use super::parsers::path;
use super::unset;

/// Where a daemon's data is, and the key to it.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct DataLocation {
    /// Directory of the store and of admin.key
    // Made with mode 0700 when it is missing.
    #[arg(long, env = "ROOKERY_DATA_DIR", value_name = "DIRECTORY", default_value = "./data", value_parser = path())]
    pub data_dir: PathBuf,
    /// File with the key that the store is encrypted with, 64 hex digits [default: a credential of systemd named
    /// rookery-store-key, or else store.key in the data directory]
    #[arg(long, env = "ROOKERY_STORE_KEY_FILE", value_name = "FILE", value_parser = path())]
    pub store_key_file: Option<PathBuf>,
    /// Where systemd puts credentials
    #[arg(long, env = "CREDENTIALS_DIRECTORY", value_name = "DIRECTORY", hide = true, value_parser = path())]
    pub credentials_dir: Option<PathBuf>,
    /// Bytes that the store wants free on its volume to change anything; `None`: 64 MiB. No flag sets it.
    #[arg(skip)]
    pub free_space_min_bytes: Option<u64>,
}

impl Default for DataLocation {
    fn default() -> Self {
        unset()
    }
}
