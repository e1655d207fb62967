//! What all benches share: children that end with their owner, and the table of figures. Never judges a figure: the
//! budget is printed beside it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

/// A process of its own, so that neither its heap nor its time is taken for that of another.
pub(crate) struct Child(pub(crate) std::process::Child);

/// A line of the table.
pub(crate) struct Figure {
    name: String,
    cells: Vec<String>,
}

impl Child {
    /// Starts a program and reads what it writes to either output until `find` finds something in a line.
    pub(crate) fn start<T>(command: &mut Command, find: impl Fn(&str) -> Option<T>) -> Result<(Self, T)> {
        let (output, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROOKERY_") && !command.get_envs().any(|(set, _)| set == name) {
                command.env_remove(name);
            }
        }
        let child = Self(command.spawn()?);
        // The command holds the pipe's other end: without this, the end of the child would not be seen.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (mut output, mut seen) = (BufReader::new(output), String::new());
        loop {
            let start = seen.len();
            ensure!(output.read_line(&mut seen)? > 0, "the child ended early:\n{seen}");
            if let Some(found) = find(seen[start..].trim_end()) {
                // The child's further output is not needed, but has to be read.
                std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
                return Ok((child, found));
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error means that the child has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, cells: impl IntoIterator<Item = String>) -> Self {
        Self { name: name.into(), cells: cells.into_iter().collect() }
    }
}

/// Prints figures as a table: names to the left, numbers to the right.
#[expect(clippy::print_stdout, reason = "what a bench is run for")]
pub(crate) fn print_table(title: &str, head: &[&str], figures: &[Figure]) {
    let head = Figure::new(title, head.iter().map(ToString::to_string));
    let all = || std::iter::once(&head).chain(figures);
    let width = |column: usize| all().filter_map(|line| line.cells.get(column)).map(|cell| cell.chars().count()).max();
    let name_width = all().map(|line| line.name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for line in all() {
        let _ = write!(text, "\n{:name_width$}", line.name);
        for (column, cell) in line.cells.iter().enumerate() {
            let _ = write!(text, "  {cell:>width$}", width = width(column).unwrap_or_default());
        }
    }
    println!("{text}");
}
