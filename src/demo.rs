//! `rookery demo`: a simulated WhatsApp and the daemon in one process, with a session that is linked by the real
//! pairing flow and groups to try things out on. Exists only with the feature `simulator`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::{Client, Url};
use rookery_model::{SessionConfig, SessionId, SessionStatus};
use rookery_simulator::{
    AccountSpec, Addable, Addressing, CommunitySpec, GroupSpec, Mail, ParticipantChange, Setting, Simulator,
    SimulatorOptions, World,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::config::{Config, DataLocation, FetchAllow, HttpOptions, RateLimitArguments, Secret};
use crate::daemon::{self, Daemon};
use crate::signals::Signals;

/// Only warnings and errors: the usage is printed.
pub const LOG_FILTER: &str = "warn";

const SESSION: &str = "my-session";
const OWN_PHONE: &str = "15550100001";
const TEAM_GROUP: &str = "120363021234567890@g.us";
const COMMUNITY: &str = "120363021234567899@g.us";
/// The other members of the group with twelve members.
const TEAM: std::ops::RangeInclusive<u64> = 15_550_100_002..=15_550_100_012;
/// People who can be added.
const CONTACTS: [&str; 3] = ["628123456789", "628987654321", "628111222333"];
/// A person who may only be invited.
const INVITE_ONLY: &str = "15550100020";
/// A number without an account.
const NOT_ON_WHATSAPP: &str = "15550100099";
/// Signs the deliveries of `--webhook`.
const WEBHOOK_SECRET: &str = "demo-webhook-secret";
/// Every run makes the same world.
const SEED: u64 = 2785;

/// Linking takes well under 2 s; a machine under load gets ten times that.
const LINKING_TIME_MAX: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Slow enough to be read as it goes by.
const CHAT_INTERVAL: Duration = Duration::from_secs(2);
const CHAT_STEPS: u32 = 7;

/// Flags of `rookery demo`.
#[derive(clap::Args)]
pub struct DemoArguments {
    /// Address and port for HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2785")]
    listen: SocketAddr,
    /// The admin key; one is made when it is left out
    #[arg(long, value_name = "KEY", value_parser = api_key)]
    api_key: Option<Secret>,
    /// An empty or new directory, which is kept; without it a temporary one is used and removed at exit
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// The members of a group do something every two seconds
    #[arg(long)]
    chatty: bool,
    /// A URL that all events of the demo's session are sent to, signed with the secret demo-webhook-secret
    #[arg(long, value_name = "URL", value_parser = webhook_url)]
    webhook: Option<Url>,
    /// Hosts, or host:port, on this machine or in your network that webhooks may be delivered to; comma-separated [default: that
    /// of --webhook]
    #[arg(long, value_name = "HOSTS", default_value = "", hide_default_value = true)]
    fetch_allow: String,
    #[command(flatten)]
    rate_limits: RateLimitArguments,
    #[command(flatten)]
    http: HttpOptions,
}

fn api_key(text: &str) -> Result<Secret, String> {
    let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.into()) } else { Err("must be 1 to 256 characters of printable ASCII without spaces".into()) }
}

fn webhook_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
    url.ok_or_else(|| "must be a URL such as http://127.0.0.1:9000/".into())
}

/// The hosts that were named, and the webhook's own.
fn fetch_allow(named: &str, webhook: Option<&Url>) -> Result<FetchAllow> {
    let own = webhook.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let all: Vec<&str> =
        [named, own.as_deref().unwrap_or_default()].into_iter().filter(|one| !one.is_empty()).collect();
    if all.is_empty() {
        return Ok(FetchAllow::default());
    }
    let allow = all.join(",").parse();
    allow.map_err(|()| anyhow!("--fetch-allow must be comma-separated hosts, each with or without a port, not {named}"))
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// When something cannot be started, or the session did not become ready in time.
pub async fn run(arguments: DemoArguments) -> Result<()> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    let data = DataDirectory::prepare(arguments.data_dir)?;
    let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let options = SimulatorOptions { listen, seed: SEED, ..Default::default() };
    let simulator = Simulator::start(options).await.context("could not start the simulator")?;
    let world = simulator.world();
    populate(&world);

    let config = Config {
        listen: arguments.listen,
        location: DataLocation { data_dir: data.path.clone(), ..DataLocation::default() },
        bootstrap_key: arguments.api_key,
        whatsapp_url: simulator.url(),
        rate_limits: arguments.rate_limits,
        http: arguments.http,
        fetch_allow: fetch_allow(&arguments.fetch_allow, arguments.webhook.as_ref())?,
        ..Config::default()
    };
    let daemon = Daemon::start(config.clone()).await?;
    let prepare = async {
        link(&daemon, &world).await?;
        match &arguments.webhook {
            Some(url) => register(&daemon, url).await,
            None => Ok(()),
        }
    };
    let linked = tokio::select! {
        () = signals.next() => None,
        linked = prepare => Some(linked),
    };
    match linked {
        Some(Ok(())) => {
            announce(&daemon);
            // Ends with this.
            let mut chatter = JoinSet::new();
            if arguments.chatty {
                chatter.spawn(chat(world));
            }
            daemon::keep_running(daemon, &config, &mut signals).await
        }
        Some(Err(error)) => {
            daemon::shut_down(daemon, &mut signals).await?;
            Err(error)
        }
        None => daemon::shut_down(daemon, &mut signals).await,
    }
}

fn populate(world: &World) {
    let named = |phone: &str, name: &str| AccountSpec { name: Some(name.into()), ..AccountSpec::new(phone) };
    world.add_account(named(OWN_PHONE, "Rookery Demo"));
    let team: Vec<_> = TEAM.map(|phone| phone.to_string()).collect();
    for phone in team.iter().map(String::as_str).chain(CONTACTS) {
        world.add_account(AccountSpec::new(phone));
    }
    world.add_account(AccountSpec { addable: Addable::InviteOnly, ..AccountSpec::new(INVITE_ONLY) });

    let some = || team.iter().take(4).cloned().collect();
    world.add_group(GroupSpec {
        id: Some(TEAM_GROUP.into()),
        participants: team.clone(),
        addressing: Addressing::Pn,
        description: Some("Where the project is talked about".into()),
        ..GroupSpec::new("Project Team", OWN_PHONE)
    });
    world.add_group(GroupSpec { participants: some(), ..GroupSpec::new("Book Club", OWN_PHONE) });
    let mut members: Vec<_> = some();
    members.push(OWN_PHONE.into());
    let owner = members.remove(0);
    world.add_group(GroupSpec {
        participants: members,
        addressing: Addressing::Pn,
        ..GroupSpec::new("Neighbourhood", owner)
    });
    let group = GroupSpec { id: Some(COMMUNITY.into()), ..GroupSpec::new("Park", OWN_PHONE) };
    world.add_community(CommunitySpec { group, ..CommunitySpec::new("Park", OWN_PHONE) });
}

/// Has the members of the team's group do something every two seconds: somebody comes, becomes an admin, renames the group, and goes again; and
/// somebody writes, in the group or to the session's account. What a caller changed meanwhile may make a step impossible: then it is left out.
async fn chat(world: World) {
    use ParticipantChange::{Add, Demote, Promote, Remove};
    let [guest, ..] = CONTACTS;
    let (first, second) = (TEAM.start().to_string(), (TEAM.start() + 1).to_string());
    let _ = world.change_participants(TEAM_GROUP, Promote, OWN_PHONE, &[&first]);
    for round in 1_u64.. {
        for step in 0..CHAT_STEPS {
            sleep(CHAT_INTERVAL).await;
            let _ = match step {
                0 => world.change_participants(TEAM_GROUP, Add, &first, &[guest]),
                1 => world.change_participants(TEAM_GROUP, Promote, &first, &[&second]),
                2 => world.change_subject(TEAM_GROUP, &second, &format!("Project Team {round}")),
                3 => world.change_setting(TEAM_GROUP, &second, Setting::Ephemeral(Some(86_400))),
                4 => world.change_participants(TEAM_GROUP, Demote, &first, &[&second]),
                5 => world.change_setting(TEAM_GROUP, &first, Setting::Ephemeral(None)),
                _ => world.change_participants(TEAM_GROUP, Remove, &first, &[guest]),
            };
            let chat = if step % 3 == 2 { OWN_PHONE } else { TEAM_GROUP };
            let _ = world.send(&second, chat, Mail::text(format!("Message {step} of round {round}")));
        }
    }
}

/// Makes the session and links it as a person would: start, wait for the QR, scan it, wait until it is ready.
async fn link(daemon: &Daemon, world: &World) -> Result<()> {
    let gateway = daemon.gateway();
    let session = gateway.create_session(SESSION.parse()?, SessionConfig::default(), None).await?;
    gateway.start_session(session.id, false).await?;
    let deadline = Instant::now() + LINKING_TIME_MAX;
    let qr = loop {
        match gateway.qr(session.id).await {
            Ok(qr) => break qr,
            Err(error) if Instant::now() > deadline => bail!("no QR to scan: {error}"),
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    };
    world.phone(OWN_PHONE).scan_qr(&qr.text).context("the phone could not scan the QR")?;
    until_ready(daemon, session.id, deadline).await
}

async fn until_ready(daemon: &Daemon, id: SessionId, deadline: Instant) -> Result<()> {
    loop {
        let session = daemon.gateway().session(id)?;
        if session.status == SessionStatus::Ready {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = session.last_error.clone().unwrap_or_default();
            bail!("the session did not become ready in time: {} {why}", session.status.as_str());
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Registers the webhook over HTTP, as a client does.
async fn register(daemon: &Daemon, url: &Url) -> Result<()> {
    let body = serde_json::json!({ "url": url.as_str(), "events": ["*"], "secret": WEBHOOK_SECRET });
    let client = Client::builder().no_proxy().tls_backend_preconfigured(rookery_actors::tls_config()?).build()?;
    let webhooks = format!("http://{}/api/sessions/{SESSION}/webhooks", address(daemon));
    let request = client.post(webhooks).header("X-API-Key", daemon.admin_key().unwrap_or_default());
    let answer = request.body(body.to_string()).send().await.context("could not register the webhook")?;
    let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
    if !status.is_success() {
        bail!("could not register the webhook: {text}");
    }
    Ok(())
}

/// Where a client on this machine finds the demo.
fn address(daemon: &Daemon) -> SocketAddr {
    let mut address = daemon.local_addr();
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

#[expect(clippy::print_stdout, reason = "what this command is asked for")]
fn announce(daemon: &Daemon) {
    let (key, address) = (daemon.admin_key().unwrap_or_default(), address(daemon));
    let groups = format!("http://{address}/api/sessions/{SESSION}/groups");
    let header = format!("-H 'X-API-Key: {key}'");
    let json = "-H 'Content-Type: application/json'";
    let [first, second, third] = CONTACTS;
    println!("key: {key}\n");
    println!("curl {header} '{groups}'");
    println!("curl {header} '{groups}/{TEAM_GROUP}'");
    println!(
        "curl {header} {json} -d '{{\"participants\":[\"{first}@c.us\",\"{INVITE_ONLY}@c.us\"]}}' \
         '{groups}/{TEAM_GROUP}/participants'"
    );
    println!("curl -X PUT {header} {json} -d '{{\"subject\":\"Launch Team\"}}' '{groups}/{TEAM_GROUP}/subject'\n");
    println!("can be added: {first}, {second}, {third}");
    println!("can only be invited: {INVITE_ONLY}; not on WhatsApp: {NOT_ON_WHATSAPP}\n");
    println!("ready");
}

/// Where the demo's daemon keeps its data.
struct DataDirectory {
    path: PathBuf,
    is_temporary: bool,
}

impl DataDirectory {
    /// A given directory must be empty or new: the demo would mix a made-up session with real ones.
    fn prepare(given: Option<PathBuf>) -> Result<Self> {
        let Some(path) = given else {
            let path = std::env::temp_dir().join(format!("rookery-demo-{}", Uuid::new_v4()));
            return Ok(Self { path, is_temporary: true });
        };
        if is_occupied(&path)? {
            bail!("the demo's data directory `{}` must be empty", path.display());
        }
        Ok(Self { path, is_temporary: false })
    }
}

fn is_occupied(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("could not read `{}`", path.display())),
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
