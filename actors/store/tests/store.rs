//! Tests that need a disk and a second process: the store under kill -9, on a full disk, damaged, opened twice.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod store {
    mod child;
    mod compacting;
    mod damage;
    mod encrypting;
    mod full_disk;
    mod kill;
    mod opening;
    mod rows;
    mod stopped;
}
