//! Damaged files: a store is either refused with words, or opens with every row. Never a panic, never an older state.

use std::fs;
use std::path::Path;

use rookery_store::{StoreOptions, open};

use super::child::{self, Running, say};
use super::rows::{self, Random};

/// Enough for several segments, some of them used again.
const BATCHES: u64 = 200;

const FLIPS: usize = 12;
const TRUNCATIONS: usize = 5;

/// A page of the disk that comes back empty.
const HOLE_BYTES: usize = 4096;

/// The child: opens the store and says what it finds.
pub(super) fn look(directory: &Path) {
    say(&match open(directory, StoreOptions::default()) {
        Err(error) => format!("refused: {error}"),
        Ok(store) => match rows::check(&*store) {
            Ok(last) => format!("whole: {}", last.map_or(0, |last| last + 1)),
            Err(wrong) => format!("wrong: {wrong}"),
        },
    });
}

type Change = dyn Fn(&mut Vec<u8>);

/// One way to damage a store: the file, and the change of its bytes.
struct Damage {
    name: String,
    file: &'static str,
    change: Box<Change>,
}

fn damage(name: String, file: &'static str, change: impl Fn(&mut Vec<u8>) + 'static) -> Damage {
    Damage { name, file, change: Box::new(change) }
}

fn all_damages(db_bytes: usize, random: &mut Random) -> Vec<Damage> {
    let mut at = || random.below(db_bytes as u64) as usize;
    let mut damages = Vec::new();
    for _ in 0..FLIPS {
        let at = at();
        damages.push(damage(format!("bit flipped at {at}"), "db", move |db| db[at] ^= 0x10));
    }
    for _ in 0..TRUNCATIONS {
        let at = at();
        damages.push(damage(format!("cut at {at}"), "db", move |db| db.truncate(at)));
        let end = (at + HOLE_BYTES).min(db_bytes);
        damages.push(damage(format!("hole at {at}"), "db", move |db| db[at..end].fill(0)));
    }
    damages.push(damage("conf cut".to_owned(), "conf", |conf| conf.truncate(20)));
    damages.push(damage("conf flipped".to_owned(), "conf", |conf| conf[16] ^= 1));
    damages.push(damage("witness cut".to_owned(), "witness", |witness| witness.truncate(3)));
    damages
}

/// Makes a store and closes it; returns its `db`.
fn make(directory: &Path) -> Vec<u8> {
    for half in [0..BATCHES / 2, BATCHES / 2..BATCHES] {
        let store = open(directory, StoreOptions::default()).unwrap();
        half.for_each(|number| drop(store.commit(rows::batch(number))));
    }
    fs::read(directory.join("db")).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The line of a process that opens this directory.
fn outcome(directory: &Path, name: &str) -> String {
    let mut ended = Running::start(child::command("look", directory)).end();
    assert!(ended.success && ended.lines.len() == 1, "{name}: {:?}\n{}", ended.lines, ended.errors);
    assert!(!ended.errors.contains("panicked") && !ended.errors.contains("backtrace"), "{name}: {}", ended.errors);
    ended.lines.remove(0)
}

fn assert_refused(directory: &Path, name: &str) {
    let said = outcome(directory, name);
    assert!(
        said.starts_with("refused") && said.contains("restore the latest backup of this directory"),
        "{name}: {said}"
    );
}

#[test]
fn damage_gives_words_or_a_whole_store() {
    let seed = Random::seed();
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    let db_bytes = make(&good).len();
    for (at, damage) in all_damages(db_bytes, &mut Random::new(seed)).iter().enumerate() {
        let name = format!("seed {seed}, {}", damage.name);
        let bad = directory.path().join(at.to_string());
        copy(&good, &bad);
        let mut bytes = fs::read(bad.join(damage.file)).unwrap();
        (damage.change)(&mut bytes);
        fs::write(bad.join(damage.file), bytes).unwrap();
        let said = outcome(&bad, &name);
        let refused = said.starts_with("refused") && said.contains("restore the latest backup of this directory");
        assert!(refused || said == format!("whole: {BATCHES}"), "{name}: {said}");
        fs::remove_dir_all(&bad).unwrap();
    }
}

#[test]
fn an_emptied_or_older_file_is_refused_however_often_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    drop(open(&store, StoreOptions::default()).unwrap());
    let older = fs::read(store.join("db")).unwrap();
    make(&store);
    for (name, db) in [("older", older), ("empty", Vec::new())] {
        fs::write(store.join("db"), db).unwrap();
        assert_refused(&store, name);
        assert_refused(&store, name);
    }
}

#[test]
fn a_blob_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path());
    fs::write(directory.path().join("blobs/7"), "never synced").unwrap();
    assert_refused(directory.path(), "blob");
}
