//! Which records were removed, as runs of consecutive records. A run is a row that has the hash of its last record, so
//! that the chain goes on behind it. Never commits.
//!
//! The newest record about a removal has a hash over all runs: nobody can remove a record, or claim that another one is
//! missing, without a record that says so.

use std::collections::{BTreeMap, BTreeSet};

use rookery_store::{Batch, SessionNumber, Store, Table};
use sha2::{Digest as _, Sha256};

use super::AuditError;
use super::record::{ChainHash, GAPS_PREFIX, Gap, gap_key, gap_of_row, gap_value};

/// Ids whose runs are hashed together: a removal hashes a few of these anew, not all runs.
const BLOCK: u64 = 65_536;
/// Operations that [`Gaps::add`] may put into a batch: the run, and the removal of the run behind it, which becomes
/// part of it.
pub(super) const GAP_OPERATIONS_MAX: usize = 2;

/// All gaps; never more than there are records.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps {
    by_first: BTreeMap<u64, Gap>,
    /// By block; those in `changed` are outdated.
    hashes: BTreeMap<u64, ChainHash>,
    changed: BTreeSet<u64>,
    records: u64,
}

impl Gaps {
    /// Reads all gaps. Blocks for one scan.
    pub(super) fn read(store: &dyn Store) -> Result<Self, AuditError> {
        let mut gaps = Self::default();
        for (key, value) in store.scan_prefix(SessionNumber::DAEMON, Table::Audit, GAPS_PREFIX)? {
            let (first, gap) = gap_of_row(&key, &value).ok_or(AuditError::Gap)?;
            gaps.insert(first, gap);
        }
        Ok(gaps)
    }

    /// The number of records in all gaps.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The first record of the first gap.
    pub(super) fn first(&self) -> Option<u64> {
        self.by_first.keys().next().copied()
    }

    /// The gap that this record is in, by its first record.
    pub(super) fn around(&self, id: u64) -> Option<(u64, Gap)> {
        let (first, gap) = self.by_first.range(..=id).next_back()?;
        (gap.last >= id).then_some((*first, *gap))
    }

    /// The first record from here on that is in no gap.
    pub(super) fn next_kept(&self, id: u64) -> u64 {
        self.around(id).map_or(id, |(_, gap)| gap.last.saturating_add(1))
    }

    /// Adds removed records, from `first` to `gap.last`, and puts the changes of the rows into a batch.
    pub(super) fn add(&mut self, batch: &mut Batch, first: u64, gap: Gap) {
        let (mut first, mut gap) = (first, gap);
        let behind = gap.last.saturating_add(1);
        if let Some(next) = self.take(behind) {
            batch.delete(SessionNumber::DAEMON, Table::Audit, gap_key(behind));
            gap = next;
        }
        if let Some((before, _)) = first.checked_sub(1).and_then(|id| self.around(id)) {
            self.take(before);
            first = before;
        }
        self.insert(first, gap);
        batch.put(SessionNumber::DAEMON, Table::Audit, gap_key(first), gap_value(gap));
    }

    /// The hash over all gaps.
    pub(super) fn hash(&mut self) -> ChainHash {
        for block in std::mem::take(&mut self.changed) {
            let mut hasher = Sha256::new();
            let ids = block * BLOCK..=block * BLOCK + (BLOCK - 1);
            let mut is_empty = true;
            for (first, Gap { last, hash }) in self.by_first.range(ids) {
                hasher.update([first.to_be_bytes(), last.to_be_bytes()].concat());
                hasher.update(hash.0);
                is_empty = false;
            }
            if is_empty {
                self.hashes.remove(&block);
            } else {
                self.hashes.insert(block, ChainHash(hasher.finalize().into()));
            }
        }
        let mut hasher = Sha256::new();
        for (block, hash) in &self.hashes {
            hasher.update(block.to_be_bytes());
            hasher.update(hash.0);
        }
        ChainHash(hasher.finalize().into())
    }

    pub(super) fn insert(&mut self, first: u64, gap: Gap) {
        self.records += gap.last - first + 1;
        self.by_first.insert(first, gap);
        self.changed.insert(first / BLOCK);
    }

    fn take(&mut self, first: u64) -> Option<Gap> {
        let gap = self.by_first.remove(&first)?;
        self.records -= gap.last - first + 1;
        self.changed.insert(first / BLOCK);
        Some(gap)
    }
}

#[cfg(test)]
mod tests {
    use rookery_store::open_memory;

    use super::*;

    fn hash(id: u64) -> ChainHash {
        ChainHash::default().after(&id.to_be_bytes())
    }

    fn runs(gaps: &Gaps) -> Vec<(u64, u64)> {
        gaps.by_first.iter().map(|(first, gap)| (*first, gap.last)).collect()
    }

    #[tokio::test]
    async fn neighbours_become_one_run_in_memory_and_in_the_store() {
        let (store, mut gaps) = (open_memory(), Gaps::default());
        let mut seen = BTreeSet::new();
        for (id, expected) in [
            (5, vec![(5, 5)]),
            (7, vec![(5, 5), (7, 7)]),
            (6, vec![(5, 7)]),
            (70_000, vec![(5, 7), (70_000, 70_000)]),
            (0, vec![(0, 0), (5, 7), (70_000, 70_000)]),
            (8, vec![(0, 0), (5, 8), (70_000, 70_000)]),
            (4, vec![(0, 0), (4, 8), (70_000, 70_000)]),
        ] {
            let mut batch = Batch::new();
            gaps.add(&mut batch, id, Gap { last: id, hash: hash(id) });
            assert!(batch.len() <= GAP_OPERATIONS_MAX);
            store.commit(batch).await.unwrap();
            assert_eq!(runs(&gaps), expected);
            let mut read = Gaps::read(&*store).unwrap();
            assert_eq!((runs(&read), read.records(), read.hash()), (expected, gaps.records(), gaps.hash()));
            assert!(seen.insert(gaps.hash().to_string()), "every set of runs has a hash of its own");
        }
        assert_eq!((gaps.records(), gaps.first(), gaps.next_kept(5), gaps.next_kept(9)), (7, Some(0), 9, 9));
        assert_eq!(gaps.around(8), Some((4, Gap { last: 8, hash: hash(8) })));
    }
}
