//! Phone numbers that WhatsApp was asked about, and the ids under which it knows them. Never does IO.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::time::Duration;

use rookery_model::{ParticipantIds, Timestamp};
use serde::{Deserialize, Serialize};

/// Numbers kept per session, each some 100 bytes with its row in the store. When there is no room, the older half goes.
const NUMBERS_MAX: usize = 20_000;
/// An account rarely changes its number.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);
/// A number without an account may get one at any time; a caller who tries again and again asks WhatsApp only this often.
const ABSENT_FOR: Duration = Duration::from_secs(600);

/// What WhatsApp said of a number, as it is kept and stored. Numbers without an account are not stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownNumber {
    /// The ids of its account; `None` when it has none.
    #[serde(flatten)]
    account: Option<ParticipantIds>,
    /// When WhatsApp said so.
    at: Timestamp,
}

impl KnownNumber {
    fn is_fresh(&self, now: Timestamp) -> bool {
        let time = if self.account.is_some() { KNOWN_FOR } else { ABSENT_FOR };
        // A clock that was set back makes it old: it is asked again.
        let age = u64::try_from(now.0.saturating_sub(self.at.0)).ok();
        age.is_some_and(|age| Duration::from_millis(age) < time)
    }
}

/// All numbers that a session knows.
#[derive(Default)]
pub(crate) struct Numbers {
    by_number: HashMap<NonZeroU64, KnownNumber>,
    unsaved: BTreeSet<NonZeroU64>,
}

impl Numbers {
    /// Numbers restored from the store. Those that are too old are deleted there.
    pub(crate) fn restore(numbers: impl IntoIterator<Item = (NonZeroU64, KnownNumber)>, now: Timestamp) -> Self {
        let mut restored = Self::default();
        for (number, known) in numbers {
            if known.is_fresh(now) && restored.by_number.len() < NUMBERS_MAX {
                restored.by_number.insert(number, known);
            } else {
                restored.unsaved.insert(number);
            }
        }
        restored
    }

    /// What is known of a number; `None` when WhatsApp has to be asked.
    pub(crate) fn get(&self, number: NonZeroU64, now: Timestamp) -> Option<Option<ParticipantIds>> {
        self.by_number.get(&number).filter(|known| known.is_fresh(now)).map(|known| known.account)
    }

    /// Notes what WhatsApp said of a number.
    pub(crate) fn learn(&mut self, number: NonZeroU64, account: Option<ParticipantIds>, now: Timestamp) {
        if self.by_number.len() >= NUMBERS_MAX && !self.by_number.contains_key(&number) {
            self.forget_older_half();
        }
        let before = self.by_number.insert(number, KnownNumber { account, at: now });
        if account.is_some() || before.is_some_and(|before| before.account.is_some()) {
            self.unsaved.insert(number);
        }
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<Timestamp> = self.by_number.values().map(|known| known.at).collect();
        let middle = times.len() / 2;
        let (_, newest_old, _) = times.select_nth_unstable(middle);
        let newest_old = *newest_old;
        let unsaved = &mut self.unsaved;
        self.by_number.retain(|number, known| {
            let stays = known.at > newest_old;
            if !stays && known.account.is_some() {
                unsaved.insert(*number);
            }
            stays
        });
    }

    /// Takes numbers back that could not be written.
    pub(crate) fn put_back_unsaved(&mut self, numbers: Vec<NonZeroU64>) {
        self.unsaved.extend(numbers);
    }

    /// Takes numbers to be written to the store, so many at most: `None` where one is to be deleted.
    pub(crate) fn take_unsaved(&mut self, count_max: usize) -> Vec<(NonZeroU64, Option<KnownNumber>)> {
        let unsaved: Vec<NonZeroU64> = (0..count_max).map_while(|_| self.unsaved.pop_first()).collect();
        let stored = |number| self.by_number.get(&number).copied().filter(|known| known.account.is_some());
        unsaved.into_iter().map(|number| (number, stored(number))).collect()
    }

    /// Whether there are any to be written.
    pub(crate) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn number(digits: u64) -> NonZeroU64 {
        NonZeroU64::new(digits).unwrap()
    }

    fn ids(phone: u64) -> ParticipantIds {
        ParticipantIds { phone: NonZeroU64::new(phone), lid: NonZeroU64::new(7) }
    }

    fn later(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 + seconds * 1_000)
    }

    #[test]
    fn an_account_is_known_for_thirty_days_and_its_absence_for_ten_minutes() {
        let mut numbers = Numbers::default();
        numbers.learn(number(525_550_100_077), Some(ids(5_215_550_100_077)), NOW);
        numbers.learn(number(15_550_100_099), None, NOW);
        let cases = [
            (0, Some(Some(ids(5_215_550_100_077))), Some(None)),
            (599, Some(Some(ids(5_215_550_100_077))), Some(None)),
            (600, Some(Some(ids(5_215_550_100_077))), None),
            (30 * 86_400 - 1, Some(Some(ids(5_215_550_100_077))), None),
            (30 * 86_400, None, None),
            (-1, None, None),
        ];
        for (seconds, known, absent) in cases {
            let now = later(seconds);
            let got = (numbers.get(number(525_550_100_077), now), numbers.get(number(15_550_100_099), now));
            assert_eq!(got, (known, absent), "{seconds}");
        }
    }

    #[test]
    fn accounts_are_stored_and_absences_are_not() {
        let mut numbers = Numbers::default();
        numbers.learn(number(1), Some(ids(1)), NOW);
        numbers.learn(number(2), None, NOW);
        let written = numbers.take_unsaved(9);
        let known = KnownNumber { account: Some(ids(1)), at: NOW };
        assert_eq!(written, [(number(1), Some(known))]);
        let json = serde_json::to_vec(&known).unwrap();
        assert_eq!(serde_json::from_slice::<KnownNumber>(&json).unwrap(), known);
        numbers.learn(number(1), None, later(1));
        assert_eq!(numbers.take_unsaved(9), [(number(1), None)], "its account is gone");
        numbers.put_back_unsaved(vec![number(1)]);
        assert!(numbers.has_unsaved());
    }

    #[test]
    fn old_numbers_go_from_the_store_at_a_start() {
        let rows = [(number(1), KnownNumber { account: Some(ids(1)), at: NOW })];
        let mut numbers = Numbers::restore(rows, later(31 * 86_400));
        assert_eq!(numbers.take_unsaved(9), [(number(1), None)]);
        assert_eq!(Numbers::restore(rows, later(1)).get(number(1), later(2)), Some(Some(ids(1))));
    }

    #[test]
    fn the_older_half_makes_room() {
        let mut numbers = Numbers::default();
        let count = NUMBERS_MAX as u64;
        (1..=count).for_each(|digits| numbers.learn(number(digits), None, later(digits as i64)));
        let now = later(count as i64);
        numbers.learn(number(count + 1), Some(ids(1)), now);
        assert_eq!(numbers.by_number.len(), NUMBERS_MAX / 2);
        assert_eq!(numbers.get(number(count), now), Some(None));
        assert_eq!(numbers.get(number(count + 1), now), Some(Some(ids(1))));
    }
}
