//! Batches that can be recomputed from a seed and their number, so that a reader can say which of them it finds.

use std::collections::BTreeMap;

use rookery_store::{Batch, SessionNumber, Store, Table, VALUE_BYTES_MAX};

/// A batch deletes the rows of the batch this many before it: the store changes all the time and does not grow.
const KEPT_BATCHES: u64 = 40;

const SESSIONS: [SessionNumber; 3] = [SessionNumber(1), SessionNumber(2), SessionNumber(u32::MAX)];
const TABLES: [Table; 5] =
    [Table::Device, Table::SignalSessions, Table::PreKeys, Table::SenderKeys, Table::MessageSecrets];

/// The number of the last batch, in each of two tables.
const LAST: &[u8] = b"last";

/// A small generator; the standard library has none. Steps of SplitMix64.
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From the clock, or from `ROOKERY_TEST_SEED` to repeat a failure; print it.
    pub(super) fn seed() -> u64 {
        match std::env::var("ROOKERY_TEST_SEED") {
            Ok(seed) => seed.parse().expect("ROOKERY_TEST_SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        }
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

type Rows = BTreeMap<(SessionNumber, Table, Vec<u8>), Vec<u8>>;

/// The rows that batch `number` puts, apart from its own number.
fn rows_of(number: u64) -> Rows {
    let mut random = Random::new(number);
    let mut rows = Rows::new();
    for at in 0..1 + random.below(40) {
        let session = SESSIONS[random.below(3) as usize];
        let table = TABLES[random.below(5) as usize];
        let key = format!("{:08x} {number} {at}", random.below(u64::from(u32::MAX)));
        let bytes = if random.below(20) == 0 { VALUE_BYTES_MAX as u64 } else { random.below(600) };
        let fill = random.below(256) as u8;
        let value = (0..bytes).map(|at| fill.wrapping_add(at as u8)).collect();
        rows.insert((session, table, key.into_bytes()), value);
    }
    rows
}

pub(super) fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    for ((session, table, key), value) in rows_of(number) {
        batch.put(session, table, key, value);
    }
    if let Some(old) = number.checked_sub(KEPT_BATCHES) {
        for (session, table, key) in rows_of(old).into_keys() {
            batch.delete(session, table, key);
        }
    }
    batch.put(SESSIONS[0], Table::Groups, LAST, number.to_string());
    batch.put(SESSIONS[1], Table::SyncVersions, LAST, number.to_string());
    batch
}

/// The number of the last batch that took effect, `None` before the first.
pub(super) fn last(store: &dyn Store) -> Option<u64> {
    let last = store.get(SESSIONS[0], Table::Groups, LAST).unwrap()?;
    Some(String::from_utf8(last).unwrap().parse().unwrap())
}

/// Says how the store differs from one that holds exactly the batches up to its last one, whole and in order.
pub(super) fn check(store: &dyn Store) -> Result<Option<u64>, String> {
    let last = last(store);
    let mut expected = Rows::new();
    if let Some(last) = last {
        (last.saturating_sub(KEPT_BATCHES - 1)..=last).for_each(|number| expected.extend(rows_of(number)));
        expected.insert((SESSIONS[0], Table::Groups, LAST.to_vec()), last.to_string().into_bytes());
        expected.insert((SESSIONS[1], Table::SyncVersions, LAST.to_vec()), last.to_string().into_bytes());
    }
    for session in SESSIONS {
        for table in Table::ALL {
            for (key, value) in store.scan_prefix(session, *table, b"").map_err(|error| error.to_string())? {
                let name = String::from_utf8_lossy(&key).into_owned();
                match expected.remove(&(session, *table, key)) {
                    Some(put) if put == value => {}
                    Some(_) => return Err(format!("batch {last:?}: row `{name}` has another value")),
                    None => return Err(format!("batch {last:?}: row `{name}` should not be there")),
                }
            }
        }
    }
    match expected.first_key_value() {
        Some(((_, _, key), _)) => Err(format!(
            "batch {last:?}: {} rows are missing, `{}` first",
            expected.len(),
            String::from_utf8_lossy(key)
        )),
        None => Ok(last),
    }
}
