//! How a store grows when 50 sessions write to it: prints the size of its files and of its rows, at intervals.
//!
//! `cargo run -p rookery-store --example store_growth -- MINUTES [DIRECTORY]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rookery_store::{Batch, SessionNumber, Store, StoreKey, StoreOptions, Table, Ticket, open};

const SESSIONS: u64 = 50;
/// Groups per session; each change writes one of their records anew.
const GROUPS: u64 = 40;
/// Peers per session with whom it has a Signal session.
const PEERS: u64 = 200;
/// Records that the audit log keeps, and answers that are kept for idempotency keys.
const KEPT: u64 = 2_000;
const REPORTS: u32 = 10;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn bytes(&mut self, from: u64, to: u64) -> Vec<u8> {
        let fill = self.below(256).to_le_bytes()[0];
        vec![fill; usize::try_from(from + self.below(to - from)).unwrap_or_default()]
    }
}

/// Writes the rows of one change of a group by the API: the audit log, an idempotency key twice, the group's record,
/// and the engine's rows for encryption.
fn write(store: &dyn Store, random: &mut Random, nth: u64) -> Vec<Ticket> {
    let number = u32::try_from(1 + random.below(SESSIONS)).unwrap_or(1);
    let (session, daemon) = (SessionNumber(number), SessionNumber::DAEMON);
    let mut tickets = Vec::new();
    let mut commit = |fill: &mut dyn FnMut(&mut Batch)| {
        let mut batch = Batch::new();
        fill(&mut batch);
        tickets.push(store.commit(batch));
    };
    let key = nth.to_be_bytes();
    let old = nth.checked_sub(KEPT).map(u64::to_be_bytes);
    commit(&mut |batch| batch.put(session, Table::IdempotentAnswers, key, random.bytes(150, 250)));
    let peer = random.below(PEERS);
    commit(&mut |batch| {
        batch.put(session, Table::SignalSessions, peer.to_be_bytes(), random.bytes(800, 2_500));
        batch.put(session, Table::Identities, peer.to_be_bytes(), random.bytes(32, 34));
    });
    if random.below(20) == 0 {
        commit(&mut |batch| batch.put(session, Table::Device, "device", random.bytes(2_000, 2_500)));
    }
    if random.below(50) == 0 {
        let record = random.below(13).to_be_bytes();
        commit(&mut |batch| batch.put(session, Table::PreKeys, record, random.bytes(4_500, 5_200)));
    }
    let group = random.below(GROUPS).to_be_bytes();
    commit(&mut |batch| batch.put(session, Table::Groups, group, random.bytes(600, 4_000)));
    commit(&mut |batch| {
        batch.put(session, Table::IdempotentAnswers, key, random.bytes(300, 900));
        if let Some(old) = old {
            batch.delete(session, Table::IdempotentAnswers, old);
        }
    });
    commit(&mut |batch| {
        batch.put(daemon, Table::Audit, key, random.bytes(350, 600));
        if let Some(old) = old {
            batch.delete(daemon, Table::Audit, old);
        }
    });
    tickets
}

fn size_of(directory: &Path) -> Result<u64, std::io::Error> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// Bytes of all rows.
fn live(store: &dyn Store) -> Result<u64, Box<dyn Error>> {
    let mut export = Vec::new();
    store.export(&mut export)?;
    Ok(u64::try_from(export.len())?)
}

#[expect(clippy::print_stdout, reason = "the answer of this program")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let minutes: u64 = arguments.next().unwrap_or_else(|| "2".to_owned()).parse()?;
    let directory = arguments.next().map_or_else(|| std::env::temp_dir().join("rookery-store-growth"), PathBuf::from);
    let options = || StoreOptions { key: Some(StoreKey::from_bytes([7; 32])), ..StoreOptions::default() };
    let store = open(&directory, options())?;
    let (time, mut random, mut nth) = (Duration::from_secs(60 * minutes), Random(1), 0);
    let (began, mut measuring) = (Instant::now(), Duration::ZERO);
    println!("seconds,changes,file_bytes,live_bytes");
    for report in 1..=REPORTS {
        while began.elapsed() - measuring < time * report / REPORTS {
            // As many at once as a busy daemon has: the committer merges them.
            let tickets: Vec<Ticket> = (0..8).flat_map(|more| write(&*store, &mut random, nth + more)).collect();
            tickets.into_iter().try_for_each(Ticket::wait_blocking)?;
            nth += 8;
        }
        let measured = Instant::now();
        let seconds = (began.elapsed() - measuring).as_secs();
        println!("{seconds},{nth},{},{}", size_of(&directory)?, live(&*store)?);
        measuring += measured.elapsed();
    }
    drop(store);
    println!("closed: {} bytes", size_of(&directory)?);
    let store = open(&directory, options())?;
    println!("opened again: {} bytes", size_of(&directory)?);
    let (mut export, fresh) = (Vec::new(), directory.with_extension("fresh"));
    store.export(&mut export)?;
    drop(store);
    let store = open(&fresh, options())?;
    store.import(&mut export.as_slice())?;
    drop(store);
    println!("the same rows in a fresh store: {} bytes", size_of(&fresh)?);
    Ok(())
}
