//! One script of calls, run on our backend over both stores and on the engine's own in-memory backend: all three keep
//! the promises of the traits. Then the promises that only ours makes.

use std::sync::Arc;

use bytes::Bytes;
use wacore::store::InMemoryBackend;
use wacore::store::traits::Backend;

use super::SessionBackend;
use rookery_store::{SessionNumber, Store, StoreOptions, Table, open, open_memory};

mod ours;
mod protocol;
mod signal;

const ALICE: SessionNumber = SessionNumber(1);
const BOB: SessionNumber = SessionNumber(2);

/// Runs the script on each backend; the name is shown when it fails.
#[expect(clippy::print_stdout, reason = "the test runner shows it when the script fails")]
async fn on_all<F: Future<Output = ()>>(script: impl Fn(Arc<dyn Backend>) -> F) {
    println!("on the engine's own backend");
    script(Arc::new(InMemoryBackend::new())).await;
    println!("on the store in memory");
    script(Arc::new(SessionBackend::new(open_memory(), ALICE))).await;
    println!("on the store on disk");
    let directory = tempfile::tempdir().unwrap();
    script(Arc::new(SessionBackend::new(on_disk(directory.path()), ALICE))).await;
}

fn on_disk(path: &std::path::Path) -> Arc<dyn Store> {
    open(path, StoreOptions { cache_bytes: 4 * 1024 * 1024, ..StoreOptions::default() }).unwrap()
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}
