//! Figures over all sessions that a key may see. Asks no session: reads the state that each has published.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_model::{Session, SessionStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::request::caller::Caller;

const STATUSES: [SessionStatus; 8] = [
    SessionStatus::Created,
    SessionStatus::Initializing,
    SessionStatus::QrReady,
    SessionStatus::Authenticating,
    SessionStatus::Ready,
    SessionStatus::Disconnected,
    SessionStatus::ActionRequired,
    SessionStatus::Failed,
];

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    #[schema(example = 3)]
    total: usize,
    /// Sessions with a WhatsApp client loaded.
    #[schema(example = 2)]
    active: usize,
    #[schema(example = 1)]
    ready: usize,
    #[schema(example = 1)]
    disconnected: usize,
    /// Every status and how many sessions have it.
    #[schema(example = json!({
        "action_required": 0, "authenticating": 0, "created": 0, "disconnected": 1, "failed": 0, "initializing": 0,
        "qr_ready": 1, "ready": 1,
    }))]
    by_status: BTreeMap<&'static str, usize>,
    memory_usage: MemoryUsage,
}

/// Memory of the daemon in MiB. Its allocator knows no heap size: all three are the resident memory.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MemoryUsage {
    #[schema(example = 17)]
    heap_used: u64,
    #[schema(example = 17)]
    heap_total: u64,
    #[schema(example = 17)]
    rss: u64,
}

/// Count sessions
///
/// Only sessions that the key may see are counted.
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The figures", body = Overview)),
)]
pub(crate) async fn overview(State(app): State<Arc<App>>, caller: Caller) -> Json<Overview> {
    let mut sessions = app.gateway.sessions();
    sessions.retain(|session| caller.key.sees(session));
    Json(count(&sessions, resident_mib()))
}

fn count(sessions: &[Arc<Session>], memory_mib: u64) -> Overview {
    let mut by_status: BTreeMap<_, _> = STATUSES.map(|status| (status.as_str(), 0)).into();
    for session in sessions {
        *by_status.entry(session.status.as_str()).or_default() += 1;
    }
    let of = |status: SessionStatus| by_status.get(status.as_str()).copied().unwrap_or_default();
    Overview {
        total: sessions.len(),
        active: sessions.iter().filter(|session| session.engine_loaded).count(),
        ready: of(SessionStatus::Ready),
        disconnected: of(SessionStatus::Disconnected),
        by_status,
        memory_usage: MemoryUsage { heap_used: memory_mib, heap_total: memory_mib, rss: memory_mib },
    }
}

/// The resident memory of this process, rounded; 0 where the system does not report it. `/proc/self/status` has it in
/// kB, whatever the page size is; reading the file touches no disk.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    resident_kib(&status).unwrap_or_default().saturating_add(512) / 1024
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use rookery_model::{SessionId, Timestamp};

    use super::*;

    fn session(status: SessionStatus, engine_loaded: bool) -> Arc<Session> {
        let at = Timestamp(1_700_000_000_000);
        Arc::new(Session {
            id: SessionId::random(),
            name: "alice".parse().unwrap(),
            status,
            phone: None,
            bound_phone: None,
            push_name: None,
            connected_at: None,
            last_active: None,
            created_at: at,
            updated_at: at,
            last_error: None,
            restriction: None,
            linking: None,
            engine_loaded,
            account_epoch: 0,
        })
    }

    #[test]
    fn sessions_are_counted_by_status_and_by_whether_they_are_loaded() {
        let disconnected = SessionStatus::Disconnected;
        let sessions = [session(SessionStatus::Ready, true), session(disconnected, true), session(disconnected, false)];
        let counted = count(&sessions, 17);
        assert_eq!((counted.total, counted.active, counted.ready, counted.disconnected), (3, 2, 1, 2));
        assert_eq!((counted.by_status.len(), counted.by_status["failed"]), (8, 0));
    }

    #[test]
    fn the_resident_memory_is_read_from_its_line() {
        assert_eq!(resident_kib("VmHWM:\t  90 kB\nVmRSS:\t   17408 kB\nThreads:\t4\n"), Some(17408));
        assert_eq!(resident_kib("Threads:\t4\n"), None);
        assert!(resident_mib() > 0);
    }
}
