//! Phone numbers that WhatsApp was asked about, and the ids under which it knows them. Never does IO.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::time::Duration;

use rookery_model::{ParticipantId, ParticipantIds, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Numbers kept per session, each some 100 bytes with its row in the store.
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
    /// Whether some may be without an account: then people who are seen are looked for among them.
    are_some_absent: bool,
    unsaved: BTreeSet<NonZeroU64>,
    /// Numbers that WhatsApp is asked about just now.
    asking: HashMap<NonZeroU64, watch::Receiver<()>>,
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
            self.make_room();
        }
        self.are_some_absent |= account.is_none();
        let before = self.by_number.insert(number, KnownNumber { account, at: now });
        if account.is_some() || before.is_some_and(|before| before.account.is_some()) {
            self.unsaved.insert(number);
        }
    }

    /// Notes that these people were seen at WhatsApp: a number that had no account a moment ago is asked about again.
    pub(crate) fn seen<'a>(&mut self, participants: impl IntoIterator<Item = &'a ParticipantIds>) {
        if !self.are_some_absent {
            return;
        }
        for phone in participants.into_iter().filter_map(|person| person.phone) {
            for number in [Some(phone), other_spelling(phone)].into_iter().flatten() {
                if self.by_number.get(&number).is_some_and(|known| known.account.is_none()) {
                    self.by_number.remove(&number);
                }
            }
        }
    }

    /// Forgets that numbers have no account, and the older half of the accounts where that makes room for less than an eighth.
    fn make_room(&mut self) {
        self.by_number.retain(|_, known| known.account.is_some());
        self.are_some_absent = false;
        if self.by_number.len() <= NUMBERS_MAX - NUMBERS_MAX / 8 {
            return;
        }
        let mut times: Vec<Timestamp> = self.by_number.values().map(|known| known.at).collect();
        let middle = times.len() / 2;
        let newest_old = *times.select_nth_unstable(middle).1;
        let old: Vec<NonZeroU64> =
            self.by_number.iter().filter(|(_, known)| known.at <= newest_old).map(|(number, _)| *number).collect();
        old.into_iter().for_each(|number| self.forget(number));
    }

    /// Forgets a number: WhatsApp does not know the account that is remembered.
    pub(crate) fn forget(&mut self, number: NonZeroU64) {
        if self.by_number.remove(&number).is_some_and(|known| known.account.is_some()) {
            self.unsaved.insert(number);
        }
    }

    /// A lookup that others make of this number just now: the receiver closes when its answer is noted.
    pub(crate) fn asked_by_others(&self, number: NonZeroU64) -> Option<watch::Receiver<()>> {
        self.asking.get(&number).filter(|lookup| lookup.has_changed().is_ok()).cloned()
    }

    /// Notes that these numbers are asked, until what is returned is dropped.
    pub(crate) fn begin_asking(&mut self, numbers: &[NonZeroU64]) -> watch::Sender<()> {
        self.asking.retain(|_, lookup| lookup.has_changed().is_ok());
        let (asked, lookup) = watch::channel(());
        self.asking.extend(numbers.iter().map(|number| (*number, lookup.clone())));
        asked
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

/// The other spelling of a number in its country, where there is one.
pub(crate) fn other_spelling(number: NonZeroU64) -> Option<NonZeroU64> {
    ParticipantIds::from(ParticipantId::Phone(number.get()).other_spelling()?).phone
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
    fn a_person_who_is_seen_ends_the_absence_of_their_number_in_either_spelling() {
        let mut numbers = Numbers::default();
        for digits in [558_499_990_001, 5_584_999_990_001, 5_584_999_990_002, 15_550_100_099] {
            numbers.learn(number(digits), None, NOW);
        }
        numbers.learn(number(15_550_100_098), Some(ids(15_550_100_098)), NOW);
        numbers.seen([&ids(5_584_999_990_001), &ids(558_499_990_002), &ids(15_550_100_098)]);
        assert_eq!(numbers.get(number(558_499_990_001), later(1)), None);
        assert_eq!(numbers.get(number(5_584_999_990_001), later(1)), None);
        assert_eq!(numbers.get(number(5_584_999_990_002), later(1)), None);
        assert_eq!(numbers.get(number(15_550_100_099), later(1)), Some(None));
        assert_eq!(numbers.get(number(15_550_100_098), later(1)), Some(Some(ids(15_550_100_098))));
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
    fn absences_make_room_first_and_then_the_older_half() {
        let mut numbers = Numbers::default();
        let count = u32::try_from(NUMBERS_MAX).unwrap();
        numbers.learn(number(1), Some(ids(1)), NOW);
        (2..=count + 1).for_each(|digits| numbers.learn(number(digits.into()), None, later(1)));
        assert_eq!(numbers.get(number(1), later(2)), Some(Some(ids(1))), "older than all of them");
        (2..=count + 1).for_each(|digits| {
            numbers.learn(number(digits.into()), Some(ids(digits.into())), later(digits.into()));
        });
        assert_eq!(numbers.get(number(1), later(i64::from(count) + 2)), None);
        assert!(numbers.by_number.len() >= NUMBERS_MAX / 2 && numbers.by_number.len() <= NUMBERS_MAX);
    }

    #[test]
    fn a_number_is_asked_by_one_until_its_answer_is_noted() {
        let mut numbers = Numbers::default();
        let asked = numbers.begin_asking(&[number(1), number(2)]);
        assert!(numbers.asked_by_others(number(2)).is_some() && numbers.asked_by_others(number(3)).is_none());
        drop(asked);
        assert!(numbers.asked_by_others(number(2)).is_none());
        drop(numbers.begin_asking(&[number(3)]));
        assert_eq!(numbers.asking.len(), 1, "lookups that are over are gone");
    }
}
