//! Smoke.
use std::sync::Arc;
use std::time::Duration;
use rookery_actors::{Gateway, Settings, model::*, store};
use rookery_simulator::*;

async fn until<T>(what: &str, mut f: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(t) = f().await { return t; }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("timed out: {what}");
}

async fn ready(g: &Gateway, id: SessionId) {
    let g2 = g.clone();
    until("ready", async || { let s = g2.session(id).unwrap(); (s.status == SessionStatus::Ready).then_some(()).or_else(|| { None }) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke() {
    let _ = tracing_subscriber::fmt().with_env_filter("info,rookery_actors=debug").try_init();
    let sim = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let w = sim.world();
    w.add_account(AccountSpec::new("15550100001"));
    for n in 2..9 { w.add_account(AccountSpec::new(&format!("1555010000{n}"))); }
    let mut g = GroupSpec::new("Team", "15550100001");
    g.participants = vec!["15550100002".into(), "15550100003".into()];
    let gid = w.add_group(g);
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn store::Store> = store::open(&dir.path().join("s"), store::StoreOptions::default()).unwrap();
    let settings = Settings { whatsapp_url: sim.url(), ..Settings::default() };
    let running = rookery_actors::start(settings.clone(), store.clone()).await.unwrap();
    let g = running.gateway.clone();
    let s = g.create_session("alice".parse().unwrap()).await.unwrap();
    let t = std::time::Instant::now();
    g.start_session(s.id).await.unwrap();
    let qr = until("qr", async || g.qr(s.id).await.ok()).await;
    println!("qr after {:?}", t.elapsed());
    w.phone("15550100001").scan_qr(&qr.text).unwrap();
    ready(&g, s.id).await;
    println!("ready after {:?}: {:?}", t.elapsed(), g.session(s.id).unwrap());
    println!("{:?}", g.groups(s.id, false).await);
    let gid: GroupId = gid.parse().unwrap();
    println!("{:?}", g.group(s.id, gid.clone(), false).await);
    let t = std::time::Instant::now();
    running.shutdown().await;
    println!("shutdown {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let running = rookery_actors::start(settings, store).await.unwrap();
    ready(&running.gateway, s.id).await;
    println!("ready again after {:?}", t.elapsed());
    running.shutdown().await;
}
