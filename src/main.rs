//! The command line: arguments, logging, configuration, run, exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rookery::backup::commands::{self, BackupArguments, RestoreArguments};
use rookery::config::{Config, EXIT_USAGE, PlaceArguments, ServeArguments};
use rookery::offline::{self, RekeyArguments, VerifyArguments};
use rookery::{app, telemetry};
#[cfg(feature = "simulator")]
use rookery::{demo, simulator_command};

#[cfg(not(feature = "simulator"))]
const VERSION: &str = env!("CARGO_PKG_VERSION");
#[cfg(feature = "simulator")]
const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (feature simulator: for tests and demos, connects to loopback only)");

/// Commands that end by themselves say what they did: only what goes wrong beside it is logged.
const OFFLINE_LOG_FILTER: &str = "warn";

/// Manages WhatsApp groups for many accounts over REST.
#[derive(Parser)]
#[command(name = "rookery", version = VERSION, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Box<ServeArguments>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon; the default
    Serve(Box<ServeArguments>),
    /// Write all data into one encrypted file, whether the daemon runs or not
    Backup(BackupArguments),
    /// Put a backup into the place of all data, whether the daemon runs or not
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
    ResetKeys(PlaceArguments),
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(arguments) => match Config::resolve(*arguments, |name| std::env::var_os(name)) {
            Ok(config) => run(&config.log.clone(), app::serve(config)),
            Err(error) => return fail(&error.into(), EXIT_USAGE),
        },
        Command::Backup(arguments) => match arguments.resolve(|name| std::env::var_os(name)) {
            Ok((place, file)) => run(OFFLINE_LOG_FILTER, commands::backup(place, file)),
            Err(error) => return fail(&error.into(), EXIT_USAGE),
        },
        Command::Restore(arguments) => match arguments.resolve(|name| std::env::var_os(name)) {
            Ok((place, how)) => run(OFFLINE_LOG_FILTER, commands::restore(place, how)),
            Err(error) => return fail(&error.into(), EXIT_USAGE),
        },
        Command::Audit { command: AuditCommand::Verify(arguments) } => {
            match arguments.resolve(|name| std::env::var_os(name)) {
                Ok((place, noted)) => run(OFFLINE_LOG_FILTER, offline::verify_audit(place, noted)),
                Err(error) => return fail(&error.into(), EXIT_USAGE),
            }
        }
        Command::Store { command: StoreCommand::Rekey(arguments) } => {
            match arguments.resolve(|name| std::env::var_os(name)) {
                Ok((place, new_key_file)) => run(OFFLINE_LOG_FILTER, offline::rekey(place, new_key_file)),
                Err(error) => return fail(&error.into(), EXIT_USAGE),
            }
        }
        Command::ResetKeys(arguments) => match arguments.resolve(|name| std::env::var_os(name)) {
            Ok(place) => run(OFFLINE_LOG_FILTER, offline::reset_keys(place)),
            Err(error) => return fail(&error.into(), EXIT_USAGE),
        },
        #[cfg(feature = "simulator")]
        Command::Demo(arguments) => run(demo::LOG_FILTER, demo::run(*arguments)),
        #[cfg(feature = "simulator")]
        Command::Simulator(arguments) => run(simulator_command::LOG_FILTER, simulator_command::run(arguments)),
    };
    outcome.map_or_else(|error| fail(&error, 1), |()| ExitCode::SUCCESS)
}

fn run(log_filter: &str, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    telemetry::start(log_filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // All that had to be waited for was waited for; a second signal must not wait for the rest.
    runtime.shutdown_background();
    outcome
}

#[expect(clippy::print_stderr, reason = "the last words of a command line program")]
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("rookery: {error:#}");
    ExitCode::from(code)
}
