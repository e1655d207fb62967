//! The command line: arguments, logging, configuration, run, exit code.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rookery::backup::commands::{self, BackupArguments, RestoreArguments};
use rookery::config::{self, Config, DataLocation, EXIT_USAGE};
use rookery::offline::{self, RekeyArguments, VerifyArguments};
use rookery::{daemon, secrecy, telemetry};
#[cfg(feature = "simulator")]
use rookery::{demo, simulator_command};

#[cfg(not(feature = "simulator"))]
const VERSION: &str = env!("CARGO_PKG_VERSION");
#[cfg(feature = "simulator")]
const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (feature simulator: for tests and demos, connects to loopback only)");

/// Commands that end by themselves print what they did: only problems beside that are logged.
const OFFLINE_LOG_FILTER: &str = "warn";

/// Manages WhatsApp groups for many accounts over REST.
#[derive(Parser)]
#[command(name = "rookery", version = VERSION, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Box<Config>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon; the default
    Serve(Box<Config>),
    /// Write all data into one encrypted file, whether the daemon runs or not
    Backup(BackupArguments),
    /// Replace all data by a backup, whether the daemon runs or not
    Restore(RestoreArguments),
    /// The audit log of a daemon that does not run
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// The store of a daemon that does not run
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Remove every API key of a daemon that does not run; its next start makes a new admin key
    ResetKeys(DataLocation),
    /// Run the daemon with a simulated WhatsApp and a linked session, to try things out
    #[cfg(feature = "simulator")]
    Demo(Box<demo::DemoArguments>),
    /// Run the simulated WhatsApp alone
    #[cfg(feature = "simulator")]
    Simulator(simulator_command::SimulatorArguments),
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Prove that no record was changed, or name the first one that was
    Verify(VerifyArguments),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Encrypt the store's own key with another key
    Rekey(RekeyArguments),
}

fn main() -> ExitCode {
    let command = match command_line() {
        Ok(command) => command,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// The command to run, with all its settings read and checked.
fn command_line() -> Result<Command, clap::Error> {
    let mut known = config::with_variables(Cli::command());
    // For a subcommand, only its own settings matter.
    if std::env::args_os().nth(1).is_some_and(|first| known.find_subcommand(first).is_some()) {
        known = config::without_variables(known);
    }
    let cli = Cli::from_arg_matches(&known.try_get_matches()?)?;
    let command = cli.command.unwrap_or(Command::Serve(cli.serve));
    if let Command::Serve(config) = &command {
        config.check()?;
    }
    Ok(command)
}

fn execute(command: Command) -> anyhow::Result<()> {
    secrecy::forbid_dumps()?;
    match command {
        Command::Serve(config) => run(&config.log.clone(), daemon::serve(*config)),
        Command::Backup(arguments) => run(OFFLINE_LOG_FILTER, commands::backup(arguments)),
        Command::Restore(arguments) => run(OFFLINE_LOG_FILTER, commands::restore(arguments)),
        Command::Audit { command: AuditCommand::Verify(arguments) } => {
            run(OFFLINE_LOG_FILTER, offline::verify_audit(arguments))
        }
        Command::Store { command: StoreCommand::Rekey(arguments) } => {
            run(OFFLINE_LOG_FILTER, offline::rekey(arguments))
        }
        Command::ResetKeys(location) => run(OFFLINE_LOG_FILTER, offline::reset_keys(location)),
        #[cfg(feature = "simulator")]
        Command::Demo(arguments) => run(demo::LOG_FILTER, demo::run(*arguments)),
        #[cfg(feature = "simulator")]
        Command::Simulator(arguments) => run(simulator_command::LOG_FILTER, simulator_command::run(arguments)),
    }
}

fn run(log_filter: &str, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    telemetry::start(log_filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // All necessary work has ended. After a second signal, the exit must not wait for the rest.
    runtime.shutdown_background();
    outcome
}

#[expect(clippy::print_stderr, reason = "the last words of a command line program")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("rookery: {error:#}");
    ExitCode::FAILURE
}
