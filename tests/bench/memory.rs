//! What sessions, participants and names cost on the heap of the daemon, counted exactly. The simulated WhatsApp is a
//! process of its own, and so is not counted.
//!
//! Everything is measured twice. With the page cache of the store as the daemon has it, most of the newest records are
//! also in that cache, up to 64 MiB for the whole daemon: each record of a group is then held twice. With a page cache
//! of next to nothing, more of the figure is memory that grows without an end, but the store still keeps the newest
//! records.

mod support;
mod whatsapp;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rookery_actors::commands::{ListGroups, ReadGroup, Source};
use rookery_actors::{Gateway, SessionOptions};
use rookery_model::{GroupId, SessionConfig, SessionId, SessionStatus};
use rookery_store::{StoreKey, StoreOptions};
use serde_json::json;
use support::{Figure, print_table};
use whatsapp::{POLL_INTERVAL, Phones, Whatsapp};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Sessions over which the cost of one is averaged: enough for the write buffers of the store not to count for much.
const SESSIONS: usize = 100;
const GROUPS: usize = 20;
/// Members of a small group, the session's account included.
const MEMBERS_FEW: usize = 50;
/// Members of a group that is full.
const MEMBERS_MANY: usize = 1024;
const NAMES: usize = 1000;

/// A page cache that holds next to nothing.
const CACHE_BYTES_MIN: u64 = 64 * 1024;

/// The counting allocator takes its time.
const TIME_MAX: Duration = Duration::from_secs(60);
/// How long the heap has to stay the same to count as quiet.
const QUIET_INTERVAL: Duration = Duration::from_millis(500);
/// After so many readings that all differ the last one counts.
const READINGS_MAX: usize = 20;

/// The daemon's sessions without HTTP, which keeps nothing of them.
struct Bench {
    whatsapp: Whatsapp,
    gateway: Gateway,
    phones: Phones,
    figures: Vec<Figure>,
}

/// What is on the heap.
#[derive(Clone, Copy, PartialEq)]
struct Heap {
    bytes: usize,
    blocks: usize,
}

fn main() -> Result<()> {
    let _profiler = dhat::Profiler::builder().testing().trim_backtraces(Some(1)).build();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let as_it_is = StoreOptions { key: Some(StoreKey::generate()?), ..StoreOptions::default() };
    let small = StoreOptions { cache_bytes: CACHE_BYTES_MIN, ..as_it_is.clone() };
    let head = ["bytes", "blocks", "budget"];
    print_table("all in", &head, &runtime.block_on(measure(as_it_is))?);
    print_table("without the store's pages", &head, &runtime.block_on(measure(small))?);
    Ok(())
}

async fn measure(options: StoreOptions) -> Result<Vec<Figure>> {
    let whatsapp = Whatsapp::start()?;
    let data = tempfile::tempdir()?;
    let store = rookery_store::open(&data.path().join("store"), options)?;
    let settings =
        SessionOptions { whatsapp_url: whatsapp.url.clone(), connects_per_second: 1000, ..SessionOptions::default() };
    let running = rookery_actors::start(settings, store, rookery_store::EventLog::open_memory()).await?;
    let gateway = running.gateway.clone();
    let mut bench = Bench { whatsapp, gateway, phones: Phones::new(), figures: Vec::new() };
    // Memory that only the first session needs is not counted.
    let first = bench.phones.take();
    bench.link("first", &first).await?;
    bench.idle_sessions().await?;
    bench.sessions_with_groups().await?;
    let members = bench.participants().await?;
    bench.names(members).await?;
    let figures = std::mem::take(&mut bench.figures);
    drop(bench);
    running.shutdown().await;
    Ok(figures)
}

impl Bench {
    async fn idle_sessions(&mut self) -> Result<()> {
        let before = Heap::quiet().await;
        for number in 0..SESSIONS {
            let phone = self.phones.take();
            self.link(&format!("idle-{number}"), &phone).await?;
        }
        self.note("session without groups", before, SESSIONS, "153,600").await;
        Ok(())
    }

    async fn sessions_with_groups(&mut self) -> Result<()> {
        let owners = self.phones.take_many(SESSIONS);
        for owner in &owners {
            for _ in 0..GROUPS {
                let members = self.phones.take_many(MEMBERS_FEW - 1);
                self.whatsapp.add_group(owner, &members).await?;
            }
        }
        let before = Heap::quiet().await;
        for (number, owner) in owners.iter().enumerate() {
            let id = self.link(&format!("groups-{number}"), owner).await?;
            self.until_cached(id, MEMBERS_FEW).await?;
        }
        self.note("session with 20 groups of 50", before, SESSIONS, "204,800").await;
        Ok(())
    }

    /// Adds a session to full groups. Returns the session, its phone, a group and the members that it did not know.
    async fn participants(&mut self) -> Result<(SessionId, String, GroupId, Vec<String>)> {
        let (owner, phone) = (self.phones.take(), self.phones.take());
        let id = self.link("full", &phone).await?;
        let mut last = None;
        let mut groups = Vec::new();
        for _ in 0..GROUPS {
            let members = self.phones.take_many(MEMBERS_MANY - 2);
            groups.push(self.whatsapp.add_group(&owner, &members).await?);
            last = Some(members);
        }
        let before = Heap::quiet().await;
        let change = json!({ "actor": owner, "participants": [phone] });
        for group in &groups {
            self.whatsapp.post(&format!("/groups/{group}/add"), &change).await?;
        }
        self.until_cached(id, MEMBERS_MANY).await?;
        self.note("participant, in groups of 1,024", before, GROUPS * MEMBERS_MANY, "32").await;
        let group = groups.pop().context("no group")?.parse()?;
        Ok((id, phone, group, last.context("no group")?))
    }

    /// The phone saves some of the members as contacts.
    async fn names(&mut self, of: (SessionId, String, GroupId, Vec<String>)) -> Result<()> {
        let (id, phone, group, members) = of;
        let named_before = self.named(id, &group).await?;
        let before = Heap::quiet().await;
        for (number, contact) in members[..NAMES].iter().enumerate() {
            // The engine may miss the end of a burst, since it ignores notifications while it reads what an earlier one
            // was about. The next notification brings all that is missing.
            if number == NAMES - 1 {
                Heap::quiet().await;
            }
            let contact = json!({ "contact": contact, "name": format!("Alice {contact}") });
            self.whatsapp.post(&format!("/accounts/{phone}/contacts"), &contact).await?;
        }
        let started = Instant::now();
        loop {
            let named = self.named(id, &group).await? - named_before;
            if named == NAMES {
                break;
            }
            ensure!(started.elapsed() < TIME_MAX, "{named} names after {TIME_MAX:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.note("name of a person", before, NAMES, "-").await;
        Ok(())
    }

    /// How many people of a group have a name.
    async fn named(&self, id: SessionId, group: &GroupId) -> Result<usize> {
        let read = ReadGroup { group: group.clone(), known: Vec::new(), source: Source::Cache };
        let group = self.gateway.execute(id, read).await?.value;
        let participants = group.value.as_ref().map(|group| group.participants.as_slice()).unwrap_or_default();
        Ok(participants.iter().filter(|person| person.name.is_some()).count())
    }

    /// A session that is linked to this phone and ready.
    async fn link(&self, name: &str, phone: &str) -> Result<SessionId> {
        let id = self.gateway.create_session(name.parse()?, SessionConfig::default(), None).await?.id;
        self.gateway.start_session(id, false).await?;
        let started = Instant::now();
        let qr = loop {
            match self.gateway.qr(id).await {
                Ok(qr) => break qr.text,
                Err(error) => ensure!(started.elapsed() < TIME_MAX, "no QR for {name}: {error}"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        self.whatsapp.scan(phone, qr).await?;
        while self.gateway.session(id)?.status != SessionStatus::Ready {
            ensure!(started.elapsed() < TIME_MAX, "{name} is not ready");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(id)
    }

    /// Waits until all groups of a session are cached with all their members.
    async fn until_cached(&self, id: SessionId, members: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let groups = self.gateway.execute(id, ListGroups { source: Source::Cache }).await?.value;
            let whole = groups.iter().filter(|group| group.participants_count as usize == members).count();
            if whole == GROUPS {
                return Ok(());
            }
            ensure!(started.elapsed() < TIME_MAX, "{whole} groups after {TIME_MAX:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the heap is quiet, and notes what each of `count` things has cost since `before`.
    async fn note(&mut self, name: &str, before: Heap, count: usize, budget: &str) {
        let after = Heap::quiet().await;
        let each = |after: usize, before: usize| (after as f64 - before as f64) / count as f64;
        let bytes = format!("{:.1}", each(after.bytes, before.bytes));
        let blocks = format!("{:.2}", each(after.blocks, before.blocks));
        self.figures.push(Figure::new(name, [bytes, blocks, budget.into()]));
    }
}

impl Heap {
    fn now() -> Self {
        let stats = dhat::HeapStats::get();
        Self { bytes: stats.curr_bytes, blocks: stats.curr_blocks }
    }

    /// The heap, once two readings in a row are equal.
    async fn quiet() -> Self {
        let mut last = Self::now();
        for _ in 0..READINGS_MAX {
            tokio::time::sleep(QUIET_INTERVAL).await;
            let now = Self::now();
            if std::mem::replace(&mut last, now) == now {
                break;
            }
        }
        last
    }
}
