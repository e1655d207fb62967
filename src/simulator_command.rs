//! `rookery simulator`: the simulated WhatsApp alone, for tests in any language. Exists only with the feature
//! `simulator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rookery_simulator::{Simulator, SimulatorOptions};

use crate::signals::Signals;

/// The simulator logs little, and its addresses are printed.
pub const LOG_FILTER: &str = "warn";

/// Flags of `rookery simulator`.
#[derive(clap::Args)]
pub struct SimulatorArguments {
    /// Where WhatsApp clients connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Where the control API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7701")]
    admin: SocketAddr,
    /// Seed of all made-up data; random when left out
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// The file that keeps the world over restarts: read if it is there, written on SIGINT and SIGTERM
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// When an address cannot be listened on, or the state file cannot be read or written.
pub async fn run(arguments: SimulatorArguments) -> Result<()> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    let mut options = SimulatorOptions { listen: arguments.listen, admin: Some(arguments.admin), ..Default::default() };
    options.seed = arguments.seed.unwrap_or(options.seed);
    options.state = arguments.state;
    let simulator = Simulator::start(options).await.context("could not start the simulator")?;
    announce(&simulator);
    signals.next().await;
    simulator.stop().await.context("could not keep the world")
}

#[expect(clippy::print_stdout, reason = "what this command is asked for")]
fn announce(simulator: &Simulator) {
    println!("WhatsApp: {}", simulator.url());
    println!("control:  {}", simulator.admin_url().unwrap_or_default());
    println!("root key: {}", simulator.root_key());
    println!("seed:     {}", simulator.seed());
    println!("ready");
}
