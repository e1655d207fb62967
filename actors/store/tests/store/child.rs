//! A child process is this test binary, run again for one test that does nothing unless it is given a role.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

const ROLE: &str = "ROOKERY_STORE_CHILD";
const DIRECTORY: &str = "ROOKERY_STORE_DIRECTORY";

/// How long a child may be silent: opening takes milliseconds, the lock's retry 2 s; the rest is for a busy machine.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The beginning of a child's lines; the test runner prints lines of its own.
const MARK: &str = "child: ";

/// In a child: runs its role in its directory.
#[test]
fn child() {
    let (Ok(role), Ok(directory)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    let directory = Path::new(&directory);
    match role.as_str() {
        "write" => super::kill::write(directory),
        "append" => super::kill::append(directory),
        "fail" => super::full_disk::fail(directory),
        "fill" => super::full_disk::fill(directory),
        "watch" => super::full_disk::watch(directory),
        "check" => super::full_disk::check(directory),
        "reopen" => super::stopped::reopen(directory),
        "starve" => super::stopped::starve(directory),
        "look" => super::damage::look(directory),
        other => panic!("no child is called {other}"),
    }
}

/// In a child: says a line to the parent.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
pub(super) fn say(line: &str) {
    println!("\n{MARK}{line}");
}

/// The command that runs a child in this role.
pub(super) fn command(role: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::child::child", "--nocapture", "--test-threads=1"]);
    tell(&mut command, role, directory);
    command
}

/// Gives a process, or the children of a shell, a role and a directory.
pub(super) fn tell(command: &mut Command, role: &str, directory: &Path) {
    command.env(ROLE, role).env(DIRECTORY, directory);
}

/// A running child and what it says. Killed when dropped.
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Option<std::thread::JoinHandle<String>>,
}

/// How a child ended.
pub(super) struct Ended {
    pub(super) success: bool,
    pub(super) lines: Vec<String>,
    pub(super) errors: String,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child starts");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(MARK) {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, errors: Some(errors) }
    }

    /// The next line, `None` once the child has ended.
    pub(super) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the child says nothing"),
        }
    }

    /// Kills it as `kill -9` does.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end; the lines since the last [`Running::line`] are in the result.
    pub(super) fn end(mut self) -> Ended {
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            lines.push(line);
        }
        let success = self.child.wait().unwrap().success();
        let errors = self.errors.take().unwrap().join().unwrap();
        Ended { success, lines, errors }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
