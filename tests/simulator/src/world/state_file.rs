//! The world in a file, so that it survives a restart of the simulator: accounts with their linked devices and keys,
//! groups, waiting stanzas, counts, history. Faults, clients that are being linked and connections are not saved.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::group::Group;
use super::history::History;
use super::{Addressing, Echo, State, World};
use crate::SimulatorError;
use crate::groups::Answers;

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Saved {
    seed: u64,
    ids_issued: u64,
    echo: Echo,
    created_addressing: Addressing,
    join_answers_bare: bool,
    batch_participants_max: usize,
    answers: Answers,
    accounts: BTreeMap<String, Account>,
    groups: BTreeMap<String, Group>,
    history: History,
}

/// The world in the file; `None` when there is no file. Fails when the file cannot be read, or holds no world.
pub(crate) fn read(path: &Path) -> Result<Option<World>, SimulatorError> {
    let failed = |source| SimulatorError::StateFile { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(text) => {
            let saved = serde_json::from_slice::<Saved>(&text).map_err(|error| failed(error.into()))?;
            Ok(Some(World::of(State::restored(saved))))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl World {
    /// Writes the world and lets nobody in any more: requests after that moment get no answer.
    pub(crate) fn close_into(&self, path: &Path) -> Result<(), SimulatorError> {
        let mut state = self.settled();
        state.closed = true;
        for device in state.accounts.values_mut().flat_map(|account| account.devices.values_mut()) {
            device.cut();
        }
        state.write(path).map_err(|source| SimulatorError::StateFile { path: path.to_owned(), source })
    }
}

impl State {
    fn restored(saved: Saved) -> Self {
        let mut state = Self::new(saved.seed);
        // A new seed, so that the random numbers of the run before do not come again.
        state.rng = StdRng::seed_from_u64(saved.seed.wrapping_add(saved.ids_issued));
        state.ids_issued = saved.ids_issued;
        state.echo = saved.echo;
        state.created_addressing = saved.created_addressing;
        state.join_answers_bare = saved.join_answers_bare;
        state.batch_participants_max = saved.batch_participants_max;
        state.answers = saved.answers;
        let lids = saved.accounts.values().map(|account| (account.lid.clone(), account.phone.clone()));
        state.phones_by_lid = lids.collect();
        state.accounts = saved.accounts;
        state.groups = saved.groups;
        state.history = saved.history;
        state
    }

    /// Writes beside the old file first, so that one of the two is always whole.
    fn write(&mut self, path: &Path) -> std::io::Result<()> {
        let saved = Saved {
            seed: self.seed,
            ids_issued: self.ids_issued,
            echo: self.echo,
            created_addressing: self.created_addressing,
            join_answers_bare: self.join_answers_bare,
            batch_participants_max: self.batch_participants_max,
            answers: self.answers.clone(),
            accounts: std::mem::take(&mut self.accounts),
            groups: std::mem::take(&mut self.groups),
            history: std::mem::take(&mut self.history),
        };
        let text = serde_json::to_vec(&saved);
        (self.accounts, self.groups, self.history) = (saved.accounts, saved.groups, saved.history);
        let next = path.with_extension("next");
        let mut file = std::fs::File::create(&next)?;
        file.write_all(&text?)?;
        file.sync_all()?;
        std::fs::rename(&next, path)
    }
}

/// Maps whose keys are not texts, as lists of pairs: JSON allows only texts as keys.
pub(crate) mod pairs {
    use std::collections::HashMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    type Map = HashMap<Vec<u8>, Vec<u8>>;

    pub(crate) fn serialize<S: Serializer>(map: &Map, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map, D::Error> {
        Vec::<(Vec<u8>, Vec<u8>)>::deserialize(deserializer).map(|pairs| pairs.into_iter().collect())
    }
}

/// Stanzas, as they are on the wire: texts stay texts.
pub(crate) mod stanza {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use wacore_binary::{Node, OwnedNodeRef};

    pub(crate) fn serialize<S: Serializer>(node: &Node, serializer: S) -> Result<S::Ok, S::Error> {
        crate::wire::texts::marshal(node).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let plain = wacore_binary::util::unpack(&bytes).map_err(D::Error::custom)?.into_owned();
        Ok(OwnedNodeRef::new(plain).map_err(D::Error::custom)?.to_owned_node())
    }
}
