//! A child process whose output is read all the time, and which does not outlive its owner. Knows nothing about HTTP.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a condition is checked.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A signal that asks the process to end; [`Child::kill`] does not ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Terminate,
    Interrupt,
}

/// The binary under test, running.
pub(super) struct Child {
    process: Mutex<std::process::Child>,
    /// Standard output and standard error, as they came.
    output: Arc<Mutex<Vec<u8>>>,
    /// Standard error alone: the log.
    log: Arc<Mutex<Vec<u8>>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Child {
    /// Starts the binary with these arguments and, of all `ROOKERY_*` variables, just these.
    pub(super) fn spawn(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROOKERY_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary starts");
        let (output, log) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let readers = vec![
            read_all(process.stdout.take().expect("piped"), vec![Arc::clone(&output)]),
            read_all(process.stderr.take().expect("piped"), vec![Arc::clone(&output), Arc::clone(&log)]),
        ];
        Self { process: Mutex::new(process), output, log, readers: Mutex::new(readers) }
    }

    /// What the process has written so far, standard error included.
    pub(super) fn output(&self) -> String {
        String::from_utf8_lossy(&locked(&self.output)).into_owned()
    }

    /// Waits until `find` finds something in the output.
    pub(super) async fn until_output<T>(&self, what: &str, time_max: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + time_max;
        loop {
            let (exited, output) = (self.exit().is_some(), self.output());
            if let Some(found) = find(&output) {
                return found;
            }
            assert!(!exited, "it ended before {what}:\n{output}");
            assert!(Instant::now() < deadline, "no {what} after {time_max:?}:\n{output}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) fn id(&self) -> u32 {
        locked(&self.process).id()
    }

    /// SIGKILL: the process does nothing more. Its sockets and locks are free when this returns.
    pub(super) fn kill(&self) {
        let mut process = locked(&self.process);
        // An error means that the process has ended already.
        let _ = process.kill();
        let _ = process.wait();
    }

    /// Sends a signal that the process can handle.
    pub(super) fn signal(&self, signal: Signal) {
        let flag = match signal {
            Signal::Terminate => "-TERM",
            Signal::Interrupt => "-INT",
        };
        let id = locked(&self.process).id().to_string();
        let sent = Command::new("sh").args(["-c", "kill \"$1\" \"$2\"", "sh", flag, &id]).status();
        assert!(sent.expect("sh runs").success(), "no process {id} to send {signal:?} to");
    }

    /// Waits for the end of the process. The exit code, `None` when a signal ended it; all output has been read by
    /// then.
    pub(super) async fn until_exit(&self, time_max: Duration) -> Option<i32> {
        let deadline = Instant::now() + time_max;
        let status = loop {
            if let Some(status) = self.exit() {
                break status;
            }
            assert!(Instant::now() < deadline, "it still runs after {time_max:?}:\n{}", self.output());
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        self.read_to_end();
        status.code()
    }

    /// All output of an ended process has been read when this returns.
    fn read_to_end(&self) {
        for reader in locked(&self.readers).drain(..) {
            reader.join().expect("reading does not panic");
        }
    }

    fn exit(&self) -> Option<std::process::ExitStatus> {
        locked(&self.process).try_wait().expect("a child can be waited for")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        self.read_to_end();
        crate::log::add(&String::from_utf8_lossy(&locked(&self.log)));
    }
}

fn read_all(mut from: impl Read + Send + 'static, into: Vec<Arc<Mutex<Vec<u8>>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.iter().for_each(|into| locked(into).extend_from_slice(&buffer[..count]));
        }
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
