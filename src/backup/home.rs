//! The place of a daemon: the machine and the data directory. Two daemons with the same sessions disturb each other, so
//! a backup names its place.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Linux's own id of an installation (machine-id(5)), which must not be published as it is.
const MACHINE_ID_FILE: &str = "/etc/machine-id";
/// Distinguishes containers of one image. The kernel's own file is hidden in a hardened unit (`ProcSubset=pid`).
const HOST_NAME_FILE: &str = "/etc/hostname";

/// The place of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Home {
    /// A hash that distinguishes this machine from others; `None` when it has neither an id nor a name.
    pub(super) machine: Option<String>,
    /// The data directory, absolute.
    pub(super) directory: PathBuf,
}

impl Home {
    /// The place of the daemon with this data directory.
    pub(super) fn of(data_dir: &Path) -> Self {
        let absolute = fs::canonicalize(data_dir).or_else(|_| std::path::absolute(data_dir));
        Self { machine: machine(), directory: absolute.unwrap_or_else(|_| data_dir.to_owned()) }
    }

    /// Whether both are on one machine, as far as is known.
    pub(super) fn is_on_the_machine_of(&self, other: &Self) -> bool {
        self.machine.is_some() && self.machine == other.machine
    }
}

fn machine() -> Option<String> {
    let [id, host] = [MACHINE_ID_FILE, HOST_NAME_FILE].map(|file| fs::read_to_string(file).unwrap_or_default());
    let (id, host) = (id.trim(), host.trim());
    let hash = Sha256::new().chain_update("rookery home\n").chain_update(id).chain_update([0]).chain_update(host);
    (!id.is_empty() || !host.is_empty()).then(|| hex::encode(hash.finalize()))
}
