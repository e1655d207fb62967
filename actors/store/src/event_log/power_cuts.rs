//! The log's file under power cuts: whatever the disk kept of the writes since the last sync, all that was acknowledged is
//! there, and nothing is half there.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::super::{SessionNumber, SpaceUse};
use super::Append;
use super::segment::{Facts, Segment};

/// Cuts, each after another number of commits.
const CUTS: u64 = 60;
/// A disk writes a sector whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// A file on a disk that loses power.
#[derive(Debug, Default)]
struct Disk {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    syncs: u64,
}

#[derive(Debug)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(*length as usize, 0),
            Self::Bytes(at, bytes) => {
                let end = *at as usize + bytes.len();
                to.resize(to.len().max(end), 0);
                to[*at as usize..end].copy_from_slice(bytes);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct File(Arc<Mutex<Disk>>);

impl File {
    fn note(&self, write: Write) {
        let mut disk = self.0.lock().unwrap();
        write.apply(&mut disk.now);
        disk.unsynced.push(write);
    }

    /// What is on the disk after a cut now: of the writes since the last sync some, and some of those in part.
    fn after_cut(&self, random: &mut impl FnMut(u64) -> u64) -> Self {
        let disk = self.0.lock().unwrap();
        let mut left = disk.synced.clone();
        for write in &disk.unsynced {
            match (random(3), write) {
                (0, _) => {}
                (1, Write::Bytes(at, bytes)) => {
                    let sectors = random(bytes.len() as u64 / SECTOR_BYTES + 1);
                    let kept = (sectors * SECTOR_BYTES).min(bytes.len() as u64) as usize;
                    Write::Bytes(*at, bytes[..kept].to_vec()).apply(&mut left);
                }
                _ => write.apply(&mut left),
            }
        }
        Self(Arc::new(Mutex::new(Disk { now: left.clone(), synced: left, ..Disk::default() })))
    }
}

impl StorageBackend for File {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let disk = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(disk.now.get(range).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.note(Write::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.synced = disk.now.clone();
        disk.unsynced.clear();
        disk.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.note(Write::Bytes(offset, data.to_vec()));
        Ok(())
    }
}

/// Steps of SplitMix64.
fn random_of(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |limit| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_and_leaves_nothing_half() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let mut random = random_of(seed);
    let facts = Facts { day: 1, position: 1, is_packed: false };
    let mut file = File::default();
    drop(Segment::on(file.clone(), facts).unwrap());
    let mut acknowledged = [0_u64; 5];
    for cut in 0..CUTS {
        let segment = Segment::on(file.clone(), facts).unwrap();
        for _ in 0..=random(12) {
            let mut appends = Vec::new();
            let mut after = acknowledged;
            for _ in 0..=random(3) {
                let at = random(5) as usize;
                let count = 1 + random(4);
                let first = after[at] + 1;
                let events = (first..first + count).map(|number| vec![number as u8; 300]).collect();
                after[at] += count;
                let (session, redo) = (SessionNumber(at as u32), after[at].to_be_bytes().to_vec());
                appends.push(Append { session, first, events, redo, index: Vec::new(), space: SpaceUse::Writing });
            }
            segment.append(appends.iter()).unwrap();
            acknowledged = after;
        }
        // One more that nobody was told of: all of it is there or nothing.
        let unacknowledged = SessionNumber(random(5) as u32);
        let first = acknowledged[unacknowledged.0 as usize] + 1;
        let before = file.0.lock().unwrap().syncs;
        let events = vec![vec![first as u8; 300], vec![(first + 1) as u8; 300]];
        let append = Append {
            session: unacknowledged,
            first,
            events,
            redo: (first + 1).to_be_bytes().to_vec(),
            index: Vec::new(),
            space: SpaceUse::Writing,
        };
        let halfway = if random(2) == 0 {
            Some(file.after_cut(&mut random))
        } else {
            segment.append([&append].into_iter()).unwrap();
            assert!(file.0.lock().unwrap().syncs > before);
            acknowledged[unacknowledged.0 as usize] += 2;
            None
        };
        let left = halfway.unwrap_or_else(|| file.after_cut(&mut random));
        drop(segment);
        file = left;
        let segment =
            Segment::on(file.clone(), facts).unwrap_or_else(|error| panic!("seed {seed}, cut {cut}: {error}"));
        for (at, last) in acknowledged.iter().enumerate() {
            let (mut events, mut bytes_left) = (Vec::new(), usize::MAX);
            let session = SessionNumber(at as u32);
            segment.read(session, &(0..=u64::MAX), usize::MAX, &mut bytes_left, &mut events).unwrap();
            let numbers: Vec<u64> = events.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, (1..=*last).collect::<Vec<_>>(), "seed {seed}, cut {cut}, session {at}");
            assert!(events.iter().all(|(number, value)| *value == vec![*number as u8; 300]), "seed {seed}, cut {cut}");
            let head = segment.head(session).unwrap();
            assert_eq!(head.map_or(0, |head| head.last), *last, "seed {seed}, cut {cut}");
        }
        let events: u64 = acknowledged.iter().sum();
        assert_eq!(segment.next_position().unwrap(), events + 1, "seed {seed}, cut {cut}");
    }
}
