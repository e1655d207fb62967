//! Signal state, app state, device.

use wacore::appstate::hash::HashState;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::Device;
use wacore::store::traits::AppStateSyncKey;

use super::*;

const DEVICE_0: &str = "15550100001@c.us";
const DEVICE_3: &str = "15550100001:3@c.us";

#[tokio::test]
async fn identities_round_trip() {
    on_all(|backend| async move {
        assert_eq!(backend.load_identity(DEVICE_0).await.unwrap(), None);
        backend.put_identity(DEVICE_0, [1; 32]).await.unwrap();
        backend.put_identities_batch(&[(DEVICE_0.into(), [2; 32]), (DEVICE_3.into(), [3; 32])]).await.unwrap();
        assert_eq!(backend.load_identity(DEVICE_0).await.unwrap(), Some([2; 32]));
        backend.delete_identity(DEVICE_0).await.unwrap();
        backend.delete_identity(DEVICE_0).await.unwrap();
        assert_eq!(backend.load_identity(DEVICE_0).await.unwrap(), None);
        assert_eq!(backend.load_identity(DEVICE_3).await.unwrap(), Some([3; 32]));
    })
    .await;
}

#[tokio::test]
async fn signal_sessions_round_trip_at_any_size() {
    on_all(|backend| async move {
        assert!(!backend.has_session(DEVICE_0).await.unwrap());
        let batch: Vec<(Arc<str>, Bytes)> =
            (0..300).map(|at| (format!("{at}@c.us").into(), Bytes::from(vec![at as u8; at * 200]))).collect();
        backend.put_sessions_batch(&batch).await.unwrap();
        for (address, session) in &batch {
            assert_eq!(backend.get_session(address).await.unwrap().as_ref(), Some(session));
        }
        backend.put_session("299@c.us", b"short again").await.unwrap();
        assert_eq!(backend.get_session("299@c.us").await.unwrap().unwrap(), "short again");
        backend.delete_session("299@c.us").await.unwrap();
        assert!(!backend.has_session("299@c.us").await.unwrap());
        assert!(backend.has_session("298@c.us").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn signal_state_is_found_by_user() {
    on_all(|backend| async move {
        backend.put_session(DEVICE_3, b"session").await.unwrap();
        backend.put_identity("15550100002@lid", [1; 32]).await.unwrap();
        assert!(backend.has_signal_state_for_user("15550100001").await.unwrap());
        assert!(backend.has_signal_state_for_user("15550100002").await.unwrap());
        for other in ["1555010000", "155501000011", "15550100003"] {
            assert!(!backend.has_signal_state_for_user(other).await.unwrap(), "{other}");
        }
    })
    .await;
}

#[tokio::test]
async fn pre_keys_round_trip() {
    on_all(|backend| async move {
        assert_eq!(backend.get_max_prekey_id().await.unwrap(), 0);
        let upload: Vec<(u32, Bytes)> = (1..=812).map(|id| (id, Bytes::from(format!("key {id}")))).collect();
        backend.store_prekeys_batch(&upload, false).await.unwrap();
        backend.store_prekey(5_000_000, b"far away", false).await.unwrap();
        assert_eq!(backend.get_max_prekey_id().await.unwrap(), 5_000_000);
        backend.remove_prekey(5_000_000).await.unwrap();
        backend.remove_prekey(64).await.unwrap();
        backend.remove_prekey(9_999).await.unwrap();
        backend.mark_prekeys_uploaded(&[63, 64, 65]).await.unwrap();
        assert_eq!(backend.get_max_prekey_id().await.unwrap(), 812);
        assert_eq!(backend.load_prekey(64).await.unwrap(), None, "a consumed key stays gone");
        assert_eq!(backend.load_prekey(65).await.unwrap().unwrap(), "key 65");
        let found = backend.load_prekeys_batch(&[812, 64, 1, 813]).await.unwrap();
        assert_eq!(found, [(812, "key 812".into()), (1, "key 1".into())]);
        for id in 1..=63 {
            backend.remove_prekey(id).await.unwrap();
        }
        assert_eq!(backend.load_prekey(1).await.unwrap(), None);
        assert_eq!(backend.load_prekey(128).await.unwrap().unwrap(), "key 128");
    })
    .await;
}

#[tokio::test]
async fn signed_pre_keys_and_sender_keys_round_trip() {
    on_all(|backend| async move {
        for id in [300, 1, 2] {
            backend.store_signed_prekey(id, format!("signed {id}").as_bytes()).await.unwrap();
        }
        backend.remove_signed_prekey(2).await.unwrap();
        assert_eq!(backend.load_signed_prekey(300).await.unwrap().unwrap(), b"signed 300");
        let all = sorted(backend.load_all_signed_prekeys().await.unwrap());
        assert_eq!(all, [(1, b"signed 1".to_vec()), (300, b"signed 300".to_vec())]);

        let name = "120363021234567890@g.us::15550100001:3";
        backend.put_sender_key(name, &[7; 40_000]).await.unwrap();
        let batch = [(name.into(), Bytes::from_static(b"next")), ("other".into(), Bytes::from_static(b"other"))];
        backend.put_sender_keys_batch(&batch).await.unwrap();
        assert_eq!(backend.get_sender_key(name).await.unwrap().unwrap(), b"next");
        backend.delete_sender_key(name).await.unwrap();
        assert_eq!(backend.get_sender_key(name).await.unwrap(), None);
        assert_eq!(backend.get_sender_key("other").await.unwrap().unwrap(), b"other");
    })
    .await;
}

#[tokio::test]
async fn app_state_keys_and_versions_round_trip() {
    on_all(|backend| async move {
        assert_eq!(backend.get_latest_sync_key_id().await.unwrap(), None);
        let key = |byte: u8| AppStateSyncKey { key_data: vec![byte; 32], fingerprint: vec![byte], timestamp: 7 };
        backend.set_sync_key(b"latest", key(1)).await.unwrap();
        backend.set_sync_key(b"\x00\x01", key(2)).await.unwrap();
        assert_eq!(backend.get_latest_sync_key_id().await.unwrap().unwrap(), b"\x00\x01");
        assert_eq!(backend.get_sync_key(b"latest").await.unwrap().unwrap().key_data, [1; 32]);
        assert!(backend.get_sync_key(b"unknown").await.unwrap().is_none());

        assert_eq!(backend.get_version("critical_block").await.unwrap().version, 0);
        let mut state = HashState { version: 9, mac_mismatch_fatal: true, ..HashState::default() };
        state.hash[127] = 200;
        backend.set_version("critical_block", state).await.unwrap();
        let read = backend.get_version("critical_block").await.unwrap();
        assert_eq!((read.version, read.hash[127], read.mac_mismatch_fatal), (9, 200, true));
        assert_eq!(backend.get_version("regular").await.unwrap().version, 0);
    })
    .await;
}

#[tokio::test]
async fn mutation_macs_round_trip() {
    on_all(|backend| async move {
        let index = |at: u16| {
            let mut mac = [0; 32];
            mac[..2].copy_from_slice(&at.to_be_bytes());
            mac
        };
        let macs: Vec<_> = (0..300)
            .map(|at| AppStateMutationMAC { index_mac: index(at).to_vec(), value_mac: at.to_be_bytes().to_vec() })
            .collect();
        backend.put_mutation_macs("regular", 1, &macs).await.unwrap();
        backend.put_mutation_macs("regular_high", 1, &macs[..1]).await.unwrap();
        backend.delete_mutation_macs("regular", &[index(0).to_vec(), index(9_999).to_vec()]).await.unwrap();
        assert_eq!(backend.get_mutation_mac("regular", &index(0)).await.unwrap(), None);
        assert_eq!(backend.get_mutation_mac("regular", &index(299)).await.unwrap().unwrap(), 299_u16.to_be_bytes());
        let found = backend.get_mutation_macs("regular", &[index(0), index(1), index(2)]).await.unwrap();
        assert_eq!(found.len(), 2);
        backend.clear_mutation_macs("regular").await.unwrap();
        assert_eq!(backend.get_mutation_mac("regular", &index(299)).await.unwrap(), None);
        assert!(backend.get_mutation_mac("regular_high", &index(0)).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn the_device_round_trips() {
    on_all(|backend| async move {
        assert!(!backend.exists().await.unwrap());
        assert!(backend.load().await.unwrap().is_none());
        backend.create().await.unwrap();
        let created = backend.load().await.unwrap().unwrap();
        backend.create().await.unwrap();
        let again = backend.load().await.unwrap().unwrap();
        assert_eq!(again.registration_id, created.registration_id, "a device is made once");

        let mut device = Device::new();
        device.push_name = "alice".to_owned();
        device.pn = Some("15550100001:3@s.whatsapp.net".parse().unwrap());
        device.login_counter = 3;
        backend.save(&device).await.unwrap();
        assert!(backend.exists().await.unwrap());
        let read = backend.load().await.unwrap().unwrap();
        assert_eq!((read.push_name.as_str(), read.login_counter, &read.pn), ("alice", 3, &device.pn));
        assert_eq!(read.adv_secret_key, device.adv_secret_key);
        assert_eq!(read.signed_pre_key_signature, device.signed_pre_key_signature);
        assert_eq!(read.noise_key.public_key, device.noise_key.public_key);
        assert_eq!(read.identity_key.private_key.serialize(), device.identity_key.private_key.serialize());
    })
    .await;
}
