//! The registry of keys over a store in memory.

use rookery_model::SessionId;
use rookery_store::{SessionNumber, StoreError, StoreOptions, Table, open, open_memory};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::clock::tests::SetClock;
use crate::little_space::open_with_little_space;

const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
const NO_LIMITS: KeyLimits = KeyLimits { rate: None, in_flight_max: 2, streams_max: 2, keys_max: 1_000 };
const HOUR: Duration = Duration::from_secs(3_600);

fn terms(role: Role) -> KeyTerms {
    KeyTerms { role, ..KeyTerms::named("alice") }
}

/// Keys with a pepper of their own, and the parts that are needed to open them again.
struct Bench {
    keys: ApiKeys,
    store: Arc<dyn Store>,
    pepper: Pepper,
}

impl Bench {
    async fn new() -> Self {
        let (store, pepper) = (open_memory(), Pepper::generate().unwrap());
        Self {
            keys: ApiKeys::open(store.clone(), pepper.clone(), NO_LIMITS, Clock::new()).await.unwrap(),
            store,
            pepper,
        }
    }

    async fn reopened(&self) -> ApiKeys {
        ApiKeys::open(self.store.clone(), self.pepper.clone(), NO_LIMITS, Clock::new()).await.unwrap()
    }

    async fn both(self) -> [ApiKeys; 2] {
        let reopened = self.reopened().await;
        [self.keys, reopened]
    }
}

fn refusal(keys: &ApiKeys, secret: &Secret) -> Option<Refusal> {
    keys.check(secret.reveal(), HERE).err()
}

fn groups(ids: &[&str]) -> std::collections::BTreeSet<GroupId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_key_is_accepted_until_it_is_removed_also_after_a_restart() {
    let bench = Bench::new().await;
    let (_, admin) = bench.keys.create(terms(Role::Admin)).await.unwrap();
    let (key, secret) = bench.keys.create(terms(Role::Viewer)).await.unwrap();
    assert_eq!(bench.keys.check(secret.reveal(), HERE).map(|key| key.role()), Ok(Role::Viewer));
    assert_eq!(refusal(&bench.keys, &"rk_unknown".into()), Some(Refusal::Invalid));
    assert!(bench.reopened().await.check(secret.reveal(), HERE).is_ok());
    bench.keys.remove(key.id()).await.unwrap();
    for keys in bench.both().await {
        assert_eq!(refusal(&keys, &secret), Some(Refusal::Invalid));
        assert_eq!(refusal(&keys, &admin), None);
        assert_eq!(keys.list().len(), 1);
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_for_good_and_stays_in_the_list() {
    let bench = Bench::new().await;
    bench.keys.create(terms(Role::Admin)).await.unwrap();
    let (key, secret) = bench.keys.create(terms(Role::Viewer)).await.unwrap();
    assert!(!bench.keys.revoke(key.id()).await.unwrap().record().is_active);
    assert!(!bench.keys.revoke(key.id()).await.unwrap().record().is_active, "again");
    assert!(matches!(bench.keys.rotate(key.id(), HOUR).await, Err(KeysError::Revoked)));
    for keys in bench.both().await {
        assert_eq!((refusal(&keys, &secret), keys.list().len()), (Some(Refusal::Revoked), 2));
    }
}

#[tokio::test]
async fn a_rotated_key_works_with_both_secrets_for_the_grace_time() {
    let bench = Bench::new().await;
    let (key, first) = bench.keys.create(terms(Role::Admin)).await.unwrap();
    let (rotated, second) = bench.keys.rotate(key.id(), HOUR).await.unwrap();
    assert_eq!((rotated.id(), rotated.record().prefix == key.record().prefix), (key.id(), false));
    for keys in [&bench.keys, &bench.reopened().await] {
        assert_eq!([refusal(keys, &first), refusal(keys, &second)], [None, None]);
        assert_eq!(keys.list().len(), 1);
    }
    let (_, third) = bench.keys.rotate(key.id(), HOUR).await.unwrap();
    assert_eq!(refusal(&bench.keys, &first), Some(Refusal::Invalid), "only the last one has a grace time");
    assert_eq!([refusal(&bench.keys, &second), refusal(&bench.keys, &third)], [None, None]);
    let (_, fourth) = bench.keys.rotate(key.id(), Duration::ZERO).await.unwrap();
    for keys in bench.both().await {
        assert_eq!([refusal(&keys, &third), refusal(&keys, &fourth)], [Some(Refusal::Invalid), None]);
    }
}

#[tokio::test]
async fn a_changed_key_is_another_one_at_once_and_goes_on_counting() {
    let bench = Bench::new().await;
    let (key, secret) = bench.keys.create(terms(Role::Operator)).await.unwrap();
    bench.keys.check(secret.reveal(), HERE).unwrap();
    let change = KeyChange {
        role: Some(Role::Viewer),
        allowed_ips: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        allowed_groups: Some(Some(groups(&["1@g.us"]))),
        expires_at: Some(Some(Timestamp(Timestamp::now().0 + 60_000))),
        ..KeyChange::default()
    };
    bench.keys.update(key.id(), change).await.unwrap();
    assert_eq!(refusal(&bench.keys, &secret), Some(Refusal::Address));
    let unlimited = KeyChange {
        allowed_ips: Some(vec![]),
        allowed_groups: Some(None),
        expires_at: Some(None),
        ..KeyChange::default()
    };
    bench.keys.update(key.id(), unlimited).await.unwrap();
    let key = bench.keys.check(secret.reveal(), HERE).unwrap();
    assert_eq!((key.role(), key.is_limited_to_groups(), key.usage().count), (Role::Viewer, false, 2));
    assert_eq!(key.record().terms.name, "alice");
}

#[tokio::test]
async fn a_key_may_be_limited_to_no_group_and_get_some() {
    let bench = Bench::new().await;
    let scoped = KeyTerms { allowed_groups: Some(groups(&[])), allow_group_creation: true, ..terms(Role::Operator) };
    let (key, secret) = bench.keys.create(scoped).await.unwrap();
    let session = SessionId::random();
    let allows = |keys: &ApiKeys| keys.check(secret.reveal(), HERE).unwrap().allows_group(&"1@g.us".parse().unwrap());
    assert!(!allows(&bench.keys));
    bench.keys.add_groups(key.id(), session, vec!["1@g.us".parse().unwrap()]).await.unwrap();
    assert!(allows(&bench.keys) && allows(&bench.reopened().await));
    bench.keys.remove_group(key.id(), &"1@g.us".parse().unwrap()).await.unwrap();
    assert!(!allows(&bench.keys) && !allows(&bench.reopened().await));
    bench.keys.add_groups(key.id(), session, vec!["1@g.us".parse().unwrap()]).await.unwrap();
    let more = (2..=KEY_GROUPS_MAX).map(|number| format!("{number}@g.us").parse().unwrap()).collect();
    bench.keys.add_groups(key.id(), session, more).await.unwrap();
    let one_more = vec!["9999999@g.us".parse().unwrap()];
    assert!(matches!(bench.keys.add_groups(key.id(), session, one_more).await, Err(KeysError::TooManyGroups)));
    assert!(allows(&bench.reopened().await), "in several parts");
}

#[tokio::test]
async fn the_key_of_the_configuration_goes_when_it_is_no_longer_there() {
    let bench = Bench::new().await;
    let (_, own) = bench.keys.create(terms(Role::Admin)).await.unwrap();
    let (old, new) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    bench.keys.ensure_bootstrap(Some(&old)).await.unwrap();
    let id = bench.keys.check(old.reveal(), HERE).unwrap().id();
    assert!(matches!(bench.keys.revoke(id).await, Err(KeysError::Bootstrap)));
    assert!(matches!(bench.keys.remove(id).await, Err(KeysError::Bootstrap)));
    for _ in 0..2 {
        bench.keys.ensure_bootstrap(Some(&new)).await.unwrap();
    }
    for keys in [&bench.keys, &bench.reopened().await] {
        assert_eq!([refusal(keys, &old), refusal(keys, &new)], [Some(Refusal::Invalid), None]);
        assert_eq!((refusal(keys, &own), keys.list().len()), (None, 2));
    }
    bench.keys.ensure_bootstrap(None).await.unwrap();
    for keys in bench.both().await {
        assert_eq!([refusal(&keys, &new), refusal(&keys, &own)], [Some(Refusal::Invalid), None]);
    }
}

#[tokio::test]
async fn an_admin_key_that_ends_does_not_count_as_the_last_one() {
    let Bench { keys, .. } = Bench::new().await;
    assert!(!keys.has_lasting_admin());
    let (lasting, _) = keys.create(terms(Role::Admin)).await.unwrap();
    let ends = KeyTerms { expires_at: Some(Timestamp(Timestamp::now().0 + 60_000)), ..terms(Role::Admin) };
    let (ending, _) = keys.create(ends).await.unwrap();
    assert!(keys.has_lasting_admin());
    assert!(matches!(keys.remove(lasting.id()).await, Err(KeysError::LastAdmin)));
    keys.remove(ending.id()).await.unwrap();
}

#[tokio::test]
async fn the_last_key_that_can_manage_keys_stays_as_it_is() {
    let Bench { keys, .. } = Bench::new().await;
    let (first, _) = keys.create(terms(Role::Admin)).await.unwrap();
    let scoped = KeyTerms { allowed_sessions: vec![SessionId::random()], ..terms(Role::Admin) };
    let (scoped, _) = keys.create(scoped).await.unwrap();
    let grouped = KeyTerms { allowed_groups: Some(groups(&[])), ..terms(Role::Admin) };
    let (grouped, _) = keys.create(grouped).await.unwrap();
    assert!(matches!(keys.remove(first.id()).await, Err(KeysError::LastAdmin)));
    assert!(matches!(keys.revoke(first.id()).await, Err(KeysError::LastAdmin)));
    let losses = [
        KeyChange { role: Some(Role::Operator), ..KeyChange::default() },
        KeyChange { allowed_ips: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..KeyChange::default() },
        KeyChange { allowed_sessions: Some(vec![SessionId::random()]), ..KeyChange::default() },
        KeyChange { allowed_groups: Some(Some(groups(&[]))), ..KeyChange::default() },
        KeyChange { expires_at: Some(Some(Timestamp(i64::MAX))), ..KeyChange::default() },
    ];
    for loss in losses {
        assert!(matches!(keys.update(first.id(), loss.clone()).await, Err(KeysError::LastAdmin)), "{loss:?}");
    }
    keys.update(first.id(), KeyChange { name: Some("bob".into()), ..KeyChange::default() }).await.unwrap();
    keys.remove(scoped.id()).await.unwrap();
    keys.remove(grouped.id()).await.unwrap();
    keys.create(terms(Role::Admin)).await.unwrap();
    keys.remove(first.id()).await.unwrap();
    assert!(matches!(keys.remove(first.id()).await, Err(KeysError::NotFound)));
}

#[tokio::test]
async fn the_store_holds_no_secret_and_nothing_that_a_guess_could_be_checked_with() {
    let bench = Bench::new().await;
    let (_, secret) = bench.keys.create(terms(Role::Admin)).await.unwrap();
    let plain = Sha256::digest(secret.reveal());
    let rows = bench.store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[]).unwrap();
    let text = rows.iter().map(|(_, value)| String::from_utf8_lossy(value)).collect::<String>();
    assert!(text.contains("keyed_hash") && !text.contains(secret.reveal()) && !text.contains(&hex::encode(plain)));
}

#[tokio::test]
async fn an_expired_key_or_a_foreign_address_is_refused() {
    let Bench { keys, .. } = Bench::new().await;
    let ended = KeyTerms { expires_at: Some(Timestamp(Timestamp::now().0 - 1)), ..terms(Role::Admin) };
    let (_, secret) = keys.create(ended).await.unwrap();
    assert_eq!(refusal(&keys, &secret), Some(Refusal::Expired));

    let elsewhere = KeyTerms { allowed_ips: vec!["10.0.0.0/8".parse().unwrap()], ..terms(Role::Admin) };
    let (_, secret) = keys.create(elsewhere).await.unwrap();
    assert_eq!(refusal(&keys, &secret), Some(Refusal::Address));
    assert_eq!(keys.check(secret.reveal(), None).err(), Some(Refusal::Address), "from nobody knows where");
    assert!(keys.check(secret.reveal(), Some("10.1.2.3".parse().unwrap())).is_ok());
}

#[tokio::test]
async fn use_is_counted_and_written_only_when_told() {
    let bench = Bench::new().await;
    let (_, secret) = bench.keys.create(terms(Role::Viewer)).await.unwrap();
    for _ in 0..3 {
        bench.keys.check(secret.reveal(), HERE).unwrap();
    }
    let count = |keys: &ApiKeys| keys.list()[0].usage().count;
    assert_eq!((count(&bench.keys), count(&bench.reopened().await)), (3, 0));
    bench.keys.write_usage().await.unwrap();
    assert_eq!(count(&bench.reopened().await), 3);
    assert!(bench.keys.list().iter().all(|key| !key.has_unwritten_use()));
}

#[tokio::test]
async fn a_chosen_admin_key_is_made_once_and_restored_when_it_was_limited() {
    let bench = Bench::new().await;
    let secret = Secret::from("0123456789abcdef0123456789abcdef");
    bench.keys.make(&secret, terms(Role::Viewer), MadeBy::Admin).await.unwrap();
    for _ in 0..2 {
        bench.keys.ensure_admin("bootstrap", &secret).await.unwrap();
    }
    for keys in bench.both().await {
        assert_eq!(keys.list().len(), 1);
        assert_eq!(keys.check(secret.reveal(), HERE).map(|key| key.role()), Ok(Role::Admin));
    }
}

#[tokio::test]
async fn a_key_has_a_rate_and_a_share_of_what_is_in_flight() {
    let (store, pepper) = (open_memory(), Pepper::generate().unwrap());
    let limits =
        KeyLimits { rate: Some(RateLimit::new(1, HOUR, 3)), in_flight_max: 1, streams_max: 1, keys_max: 1_000 };
    let keys = ApiKeys::open(store, pepper, limits, Clock::new()).await.unwrap();
    let (key, _) = keys.create(terms(Role::Viewer)).await.unwrap();
    let (state, permit) = key.admit();
    assert_eq!(state.map(|state| (state.limit, state.remaining)), Some((3, 2)));
    assert_eq!(key.admit().1.err(), Some(Throttle::InFlight));
    drop(permit);
    assert!(key.admit().1.is_ok());
    assert!(matches!(
        key.admit(),
        (Some(RateState { remaining: 0, .. }), Err(Throttle::Rate { retry_after_s: 3_599.. }))
    ));
}

#[tokio::test]
async fn another_pepper_is_noticed() {
    let Bench { keys, store, .. } = Bench::new().await;
    keys.create(terms(Role::Admin)).await.unwrap();
    assert!(ApiKeys::need_their_pepper(&*store).unwrap() && !ApiKeys::need_their_pepper(&*open_memory()).unwrap());
    let other = ApiKeys::open(store, Pepper::generate().unwrap(), NO_LIMITS, Clock::new()).await;
    assert!(matches!(other, Err(KeysError::OtherPepper)));
}

#[tokio::test]
async fn without_its_keys_a_store_takes_any_pepper() {
    let Bench { keys, store, .. } = Bench::new().await;
    for _ in 0..200 {
        keys.create(terms(Role::Admin)).await.unwrap();
    }
    keys.write_usage().await.unwrap();
    assert_eq!(ApiKeys::remove_all(&*store).await.unwrap(), 200);
    assert!(
        ApiKeys::open(store, Pepper::generate().unwrap(), NO_LIMITS, Clock::new()).await.unwrap().list().is_empty()
    );
}

#[tokio::test]
async fn keys_of_the_first_version_still_work_and_are_kept_as_new_ones() {
    let (store, pepper) = (open_memory(), Pepper::generate().unwrap());
    let secrets: Vec<Secret> = (0..70).map(|_| Secret::generate().unwrap()).collect();
    for secret in &secrets {
        let (id, mut batch) = (Uuid::new_v4(), Batch::new());
        let record = json!({
            "id": id, "name": "old", "prefix": "rk_0", "hash": hex::encode(Sha256::digest(secret.reveal())),
            "role": "viewer", "allowed_ips": [], "allowed_sessions": [], "is_active": true, "expires_at": null,
            "created_at": Timestamp(1), "last_used_at": Timestamp(2), "usage_count": 5,
        });
        batch.put(SessionNumber::DAEMON, Table::Keys, id.as_bytes().as_slice(), record.to_string());
        store.commit(batch).await.unwrap();
    }
    for _ in 0..2 {
        let keys = ApiKeys::open(store.clone(), pepper.clone(), NO_LIMITS, Clock::new()).await.unwrap();
        assert!(secrets.iter().all(|secret| refusal(&keys, secret).is_none()));
        assert_eq!((keys.list().len(), keys.list()[0].usage().count), (70, 6));
        assert_eq!(keys.list()[0].record().terms.allowed_groups, None);
    }
    let rows = store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[]).unwrap();
    assert!(rows.iter().all(|(key, value)| key.len() != 16 && !String::from_utf8_lossy(value).contains("\"hash\"")));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_for_a_while_gives_no_expired_key_back_and_takes_no_lasting_one() {
    let (set, clock) = SetClock::new();
    let keys = ApiKeys::open(open_memory(), Pepper::generate().unwrap(), NO_LIMITS, clock.clone()).await.unwrap();
    let until = |hours: i64| Some(Timestamp(clock.now().0 + hours * 3_600_000));
    let key = |expires_at| KeyTerms { expires_at, ..terms(Role::Viewer) };
    let (_, lasting) = keys.create(terms(Role::Admin)).await.unwrap();
    let (_, expiring) = keys.create(key(until(1))).await.unwrap();
    let (rotated, old) = keys.create(key(None)).await.unwrap();
    keys.rotate(rotated.id(), HOUR).await.unwrap();
    tokio::time::sleep(HOUR * 2).await;
    set.ahead(-100);
    for (secret, refused) in [(&expiring, Refusal::Expired), (&old, Refusal::Invalid)] {
        assert_eq!(refusal(&keys, secret), Some(refused));
    }
    set.ahead(100);
    assert_eq!(refusal(&keys, &lasting), None);
    keys.rotate(rotated.id(), HOUR).await.unwrap();
    set.ahead(0);
    let grace_ends_at = keys.get(rotated.id()).unwrap().record().previous_ends_at(keys.now()).unwrap();
    assert!(grace_ends_at <= until(1).unwrap(), "not 100 days more");
}

#[tokio::test]
async fn a_daemon_has_so_many_keys_and_its_own_beside_them() {
    let limits = KeyLimits { keys_max: 2, ..NO_LIMITS };
    let keys = ApiKeys::open(open_memory(), Pepper::generate().unwrap(), limits, Clock::new()).await.unwrap();
    keys.create(terms(Role::Admin)).await.unwrap();
    let (second, _) = keys.create(terms(Role::Viewer)).await.unwrap();
    // A key that is being rotated has two secrets, and counts once.
    keys.rotate(second.id(), HOUR).await.unwrap();
    let refused = keys.create(terms(Role::Viewer)).await.map(drop).unwrap_err();
    assert!(matches!(refused, KeysError::TooMany(2)) && refused.to_string().contains("--api-keys-max"), "{refused}");
    keys.ensure_bootstrap(Some(&"the-operator-still-gets-in-with-this".into())).await.unwrap();
    assert_eq!(keys.list().len(), 3);
    keys.remove(second.id()).await.unwrap();
    assert!(keys.create(terms(Role::Viewer)).await.is_err(), "the operator's own counts as well");
}

#[tokio::test]
async fn a_restore_says_which_keys_come_back_and_can_keep_the_live_ones() {
    let (then, pepper) = (open_memory(), Pepper::generate().unwrap());
    let open = |store: Arc<dyn Store>| ApiKeys::open(store, pepper.clone(), NO_LIMITS, Clock::new());
    let keys = open(then.clone()).await.unwrap();
    let named = |name: &str| KeyTerms { role: Role::Admin, ..KeyTerms::named(name) };
    let mut made = Vec::new();
    for name in ["same", "revoked", "deleted", "rotated", "changed"] {
        made.push(keys.create(named(name)).await.unwrap());
    }
    let now = open_memory();
    let mut export = Vec::new();
    then.export(&mut export).unwrap();
    now.import(&mut export.as_slice()).unwrap();
    let live = open(now.clone()).await.unwrap();
    live.revoke(made[1].0.id()).await.unwrap();
    live.remove(made[2].0.id()).await.unwrap();
    live.rotate(made[3].0.id(), HOUR).await.unwrap();
    let lower = KeyChange { role: Some(Role::Viewer), ..KeyChange::default() };
    live.update(made[4].0.id(), lower).await.unwrap();
    live.create(named("later")).await.unwrap();

    let lines = ApiKeys::differences(&*now, &*then).unwrap();
    let told: Vec<_> = lines.iter().map(|line| line.split('"').nth(1).unwrap()).collect();
    assert_eq!(told, ["changed", "deleted", "later", "revoked", "rotated"], "{lines:?}");
    ApiKeys::carry_over(&*now, &*then).unwrap();
    assert_eq!(ApiKeys::differences(&*now, &*then).unwrap(), [""; 0]);
    let kept = open(then).await.unwrap();
    assert_eq!(refusal(&kept, &made[1].1), Some(Refusal::Revoked), "it stays revoked");
    assert_eq!(kept.list().len(), 5);
}

#[tokio::test]
async fn keys_are_revoked_and_removed_also_where_there_is_no_room_to_make_any() {
    let (directory, pepper) = (tempfile::tempdir().unwrap(), Pepper::generate().unwrap());
    let opened = async |store| ApiKeys::open(store, pepper.clone(), NO_LIMITS, Clock::new()).await.unwrap();
    let keys = opened(open(directory.path(), StoreOptions::default()).unwrap()).await;
    let (_, _) = keys.create(terms(Role::Admin)).await.unwrap();
    let (revoked, secret) = keys.create(terms(Role::Viewer)).await.unwrap();
    let (removed, _) = keys.create(terms(Role::Viewer)).await.unwrap();
    drop(keys);
    let keys = opened(open_with_little_space(directory.path())).await;
    let low = |error| matches!(error, KeysError::Store(StoreError::LowSpace { .. }));
    assert!(keys.create(terms(Role::Viewer)).await.is_err_and(low));
    keys.revoke(revoked.id()).await.unwrap();
    keys.remove(removed.id()).await.unwrap();
    drop(keys);
    let keys = opened(open(directory.path(), StoreOptions::default()).unwrap()).await;
    assert_eq!((refusal(&keys, &secret), keys.list().len()), (Some(Refusal::Revoked), 2));
}

#[tokio::test]
async fn a_key_that_an_admin_narrowed_gets_no_group_any_more() {
    let bench = Bench::new().await;
    let (session, other) = (SessionId::random(), SessionId::random());
    let narrowings = [
        KeyChange { allow_group_creation: Some(false), ..KeyChange::default() },
        KeyChange { role: Some(Role::Viewer), ..KeyChange::default() },
        KeyChange { allowed_sessions: Some(vec![other]), ..KeyChange::default() },
    ];
    for narrowing in narrowings {
        let scoped = KeyTerms {
            allowed_groups: Some(groups(&[])),
            allow_group_creation: true,
            allowed_sessions: vec![session],
            ..terms(Role::Operator)
        };
        let (key, _) = bench.keys.create(scoped).await.unwrap();
        bench.keys.add_groups(key.id(), session, vec!["1@g.us".parse().unwrap()]).await.unwrap();
        bench.keys.update(key.id(), narrowing).await.unwrap();
        let refused = bench.keys.add_groups(key.id(), session, vec!["2@g.us".parse().unwrap()]).await;
        assert!(matches!(refused, Err(KeysError::Narrowed)), "{refused:?}");
        assert_eq!(bench.keys.get(key.id()).unwrap().record().terms.allowed_groups, Some(groups(&["1@g.us"])));
    }
}
