//! Calls into sled and redb with their panics turned into words.
//!
//! Both panic over some damage, and the messages may hold pages, hence credentials (P-1). So their panics are caught here,
//! nothing of them is printed, and only the place in their sources is kept.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a call into sled. Its error or the place of its panic comes back as words without content.
pub(super) fn run<T>(call: impl FnOnce() -> Result<T, ::sled::Error>) -> Result<T, String> {
    catch(call)?.map_err(|error| words(&error))
}

/// Runs a call into one of them and turns only panics into errors.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    install_hook();
    let guarded_before = GUARDED.replace(true);
    // The state that the call leaves behind is not used again: after a panic the store fails for good.
    let outcome = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(guarded_before);
    outcome.map_err(|_| {
        let place = PLACE.take().unwrap_or_else(|| "sled".to_owned());
        format!("it stopped at {place}")
    })
}

/// sled's errors in words; none of them holds rows.
pub(super) fn words(error: &::sled::Error) -> String {
    match error {
        ::sled::Error::Corruption { .. } => "a checksum does not match".to_owned(),
        ::sled::Error::Io(error) => error.to_string(),
        ::sled::Error::Unsupported(reason) => reason.clone(),
        ::sled::Error::ReportableBug(_) => "its pages contradict each other".to_owned(),
        ::sled::Error::CollectionNotFound(_) => "a table is missing".to_owned(),
    }
}

/// Once per process: panics of guarded calls and of sled's own threads leave only their place; all others go where they
/// went before.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if GUARDED.get() {
                PLACE.set(Some(place(panic)));
            } else if !is_sled_thread() {
                before(panic);
            }
        }));
    });
}

fn is_sled_thread() -> bool {
    std::thread::current().name().is_some_and(|name| name.starts_with("sled-"))
}

/// File and line without the path of the build machine.
fn place(panic: &PanicHookInfo<'_>) -> String {
    panic.location().map_or_else(String::new, |location| {
        let file = location.file().rsplit_once("src/").map_or(location.file(), |(_, file)| file);
        format!("{file}:{}", location.line())
    })
}
