//! Protocol state and message secrets.

use wacore::store::traits::{
    DeviceInfo, DeviceListRecord, LidPnMappingEntry, MsgSecretEntry, PendingInboundKey, PendingInboundRow, TcTokenEntry,
};

use super::*;

const GROUP: &str = "120363021234567890@g.us";
const CHAT: &str = "15550100001@s.whatsapp.net";

fn mapping(lid: &str, phone: &str, updated_at: i64) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: lid.to_owned(),
        phone_number: phone.to_owned(),
        created_at: 1,
        updated_at,
        learning_source: "usync".to_owned(),
    }
}

#[tokio::test]
async fn sender_key_devices_round_trip() {
    on_all(|backend| async move {
        let devices: Vec<String> = (0..2_000).map(|at| format!("1555010{at:04}:2@lid")).collect();
        let all: Vec<(&str, bool)> = devices.iter().map(|device| (device.as_str(), true)).collect();
        backend.set_sender_key_status(GROUP, &all).await.unwrap();
        backend.set_sender_key_status(GROUP, &[(devices[0].as_str(), false)]).await.unwrap();
        backend.set_sender_key_status("other@g.us", &all[..2]).await.unwrap();
        let known = sorted(backend.get_sender_key_devices(GROUP).await.unwrap());
        assert_eq!(known.len(), 2_000);
        assert_eq!((known[0].1, known[1].1), (false, true));

        backend.delete_sender_key_device_rows(&[]).await.unwrap();
        backend.delete_sender_key_device_rows(&[&devices[0], &devices[1]]).await.unwrap();
        assert_eq!(backend.get_sender_key_devices(GROUP).await.unwrap().len(), 1_998);
        assert!(backend.get_sender_key_devices("other@g.us").await.unwrap().is_empty());

        backend.set_sender_key_status("other@g.us", &all[..2]).await.unwrap();
        backend.clear_sender_key_devices(GROUP).await.unwrap();
        assert!(backend.get_sender_key_devices(GROUP).await.unwrap().is_empty());
        assert_eq!(backend.get_sender_key_devices("other@g.us").await.unwrap().len(), 2);
        backend.set_sender_key_status(GROUP, &all).await.unwrap();
        backend.clear_all_sender_key_devices().await.unwrap();
        assert!(backend.get_sender_key_devices(GROUP).await.unwrap().is_empty());
        assert!(backend.get_sender_key_devices("other@g.us").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn mappings_lead_both_ways() {
    on_all(|backend| async move {
        let phone_of = async |lid: &str| backend.get_lid_mapping(lid).await.unwrap().map(|entry| entry.phone_number);
        let lid_of = async |phone: &str| backend.get_pn_mapping(phone).await.unwrap().map(|entry| entry.lid);
        backend.put_lid_mapping(&mapping("100", "15550100001", 1)).await.unwrap();
        assert_eq!(phone_of("100").await.unwrap(), "15550100001");
        assert_eq!(lid_of("15550100001").await.unwrap(), "100");
        assert_eq!(lid_of("1555010000").await, None);

        // The LID moves to another number, and within one batch on to a third.
        backend.put_lid_mapping(&mapping("100", "15550100002", 2)).await.unwrap();
        assert_eq!(lid_of("15550100001").await, None);
        let batch =
            [mapping("100", "15550100003", 3), mapping("100", "15550100004", 4), mapping("200", "15550100002", 4)];
        backend.put_lid_mappings(&batch).await.unwrap();
        assert_eq!(lid_of("15550100002").await.unwrap(), "200");
        assert_eq!(lid_of("15550100003").await, None);
        assert_eq!(lid_of("15550100004").await.unwrap(), "100");

        let many: Vec<_> = (0..200).map(|at| mapping(&format!("9{at}"), &format!("8{at}"), 1)).collect();
        backend.put_lid_mappings(&many).await.unwrap();
        assert_eq!(backend.get_all_lid_mappings().await.unwrap().len(), 202);
    })
    .await;
}

#[tokio::test]
async fn base_keys_device_lists_and_group_blobs_round_trip() {
    on_all(|backend| async move {
        backend.save_base_key("ab", "c", b"base").await.unwrap();
        assert!(backend.has_same_base_key("ab", "c", b"base").await.unwrap());
        assert!(!backend.has_same_base_key("ab", "c", b"other").await.unwrap());
        assert!(!backend.has_same_base_key("a", "bc", b"base").await.unwrap());
        backend.delete_base_key("ab", "c").await.unwrap();
        assert!(!backend.has_same_base_key("ab", "c", b"base").await.unwrap());

        let list = |user: usize| DeviceListRecord {
            user: user.to_string(),
            devices: vec![DeviceInfo::new(0, None), DeviceInfo::new(3, Some(1)).with_hosting(true)],
            timestamp: 5,
            phash: Some("2:abc".to_owned()),
            raw_id: Some(9),
        };
        backend.update_device_lists((0..300).map(list).collect()).await.unwrap();
        backend.update_device_list(DeviceListRecord { timestamp: 6, ..list(0) }).await.unwrap();
        backend.delete_devices("1").await.unwrap();
        assert_eq!(backend.get_devices("0").await.unwrap().unwrap().timestamp, 6);
        assert!(backend.get_devices("1").await.unwrap().is_none());
        let read = backend.get_devices("299").await.unwrap().unwrap();
        assert_eq!((read.devices[1].device_id, read.devices[1].is_hosted, read.raw_id), (3, true, Some(9)));

        backend.put_group_metadata(GROUP, &[1; 100_000]).await.unwrap();
        backend.put_group_metadata(GROUP, &[2; 20_000]).await.unwrap();
        assert_eq!(backend.get_group_metadata(GROUP).await.unwrap().unwrap(), [2; 20_000]);
        backend.delete_group_metadata(GROUP).await.unwrap();
        assert_eq!(backend.get_group_metadata(GROUP).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn privacy_tokens_keep_what_each_writer_owns() {
    on_all(|backend| async move {
        let read = async |jid: &str| {
            let entry = backend.get_tc_token(jid).await.unwrap();
            entry.map(|entry| (entry.token, entry.token_timestamp, entry.sender_timestamp))
        };
        backend.touch_tc_token_sender_timestamp("a", 50).await.unwrap();
        assert_eq!(read("a").await, Some((vec![], 50, Some(50))));
        backend.store_received_tc_token("a", b"old", 40).await.unwrap();
        assert_eq!(read("a").await, Some((b"old".to_vec(), 40, Some(50))), "a placeholder blocks nothing");
        backend.store_received_tc_token("a", b"new", 60).await.unwrap();
        backend.store_received_tc_token("a", b"stale", 59).await.unwrap();
        backend.touch_tc_token_sender_timestamp("a", 45).await.unwrap();
        assert_eq!(read("a").await, Some((b"new".to_vec(), 60, Some(50))));

        backend.store_received_tc_token("b", b"b", 10).await.unwrap();
        assert_eq!(read("b").await, Some((b"b".to_vec(), 10, None)));
        let entry = TcTokenEntry { token: vec![9], token_timestamp: 10, sender_timestamp: Some(70) };
        backend.put_tc_token("c", &entry).await.unwrap();
        backend.put_tc_token("d", &entry).await.unwrap();
        backend.delete_tc_token("d").await.unwrap();
        assert_eq!(backend.delete_expired_tc_tokens(20, 60).await.unwrap(), 1, "only b has nothing live");
        assert_eq!(sorted(backend.get_all_tc_token_jids().await.unwrap()), ["a", "c"]);
    })
    .await;
}

#[tokio::test]
async fn privacy_tokens_lose_no_concurrent_change() {
    on_all(|backend| async move {
        let writers: Vec<_> = (1..=40_i64)
            .map(|at| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move {
                    if at % 2 == 0 {
                        backend.touch_tc_token_sender_timestamp("a", at).await.unwrap();
                    } else {
                        backend.store_received_tc_token("a", &[at as u8], at).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let entry = backend.get_tc_token("a").await.unwrap().unwrap();
        assert_eq!((entry.token, entry.token_timestamp, entry.sender_timestamp), (vec![39], 39, Some(40)));
    })
    .await;
}

#[tokio::test]
async fn sent_messages_are_taken_once_and_expire() {
    on_all(|backend| async move {
        let now = wacore::time::now_secs();
        for id in ["M1", "M2", "M3"] {
            backend.store_sent_message(CHAT, id, &[b'x'; 30_000]).await.unwrap();
        }
        assert_eq!(backend.delete_expired_sent_messages(now - 100).await.unwrap(), 0);
        assert_eq!(backend.take_sent_message(CHAT, "M1").await.unwrap().unwrap().len(), 30_000);
        assert_eq!(backend.take_sent_message(CHAT, "M1").await.unwrap(), None);
        assert_eq!(backend.take_sent_message(GROUP, "M2").await.unwrap(), None);
        let takers = [(); 5].map(|()| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { backend.take_sent_message(CHAT, "M2").await.unwrap().is_some() })
        });
        let mut taken = 0;
        for taker in takers {
            taken += u32::from(taker.await.unwrap());
        }
        assert_eq!(taken, 1);
        assert_eq!(backend.delete_expired_sent_messages(now + 100).await.unwrap(), 1);
        assert_eq!(backend.take_sent_message(CHAT, "M3").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn pending_messages_stay_until_deleted_or_expired() {
    on_all(|backend| async move {
        let now = wacore::time::now_secs();
        backend.store_pending_inbound(GROUP, CHAT, "M0", b"zero").await.unwrap();
        let ids: Vec<String> = (1..200).map(|at| format!("M{at}")).collect();
        let rows: Vec<_> =
            ids.iter().map(|id| PendingInboundRow { chat: GROUP, sender: CHAT, id, message: b"body" }).collect();
        backend.store_pending_inbound_batch(&rows).await.unwrap();
        assert_eq!(backend.get_pending_inbound(GROUP, CHAT, "M0").await.unwrap().unwrap(), b"zero");
        backend.delete_pending_inbound(GROUP, CHAT, "M0").await.unwrap();
        assert_eq!(backend.get_pending_inbound(GROUP, CHAT, "M0").await.unwrap(), None);
        let gone: Vec<_> = ids[..150].iter().map(|id| PendingInboundKey { chat: GROUP, sender: CHAT, id }).collect();
        backend.delete_pending_inbound_batch(&gone).await.unwrap();
        assert_eq!(backend.get_pending_inbound(GROUP, CHAT, "M150").await.unwrap(), None);
        assert_eq!(backend.delete_expired_pending_inbound(now - 100).await.unwrap(), 0);
        assert_eq!(backend.delete_expired_pending_inbound(now + 100).await.unwrap(), 49);
    })
    .await;
}

#[tokio::test]
async fn message_secrets_merge_and_expire() {
    on_all(|backend| async move {
        let entry = |id: &str, byte: u8, expires_at: i64, message_ts: i64| MsgSecretEntry {
            chat: GROUP.into(),
            sender: CHAT.into(),
            msg_id: id.into(),
            secret: [byte; 32],
            expires_at,
            message_ts,
        };
        let read = async |id: &str| backend.get_msg_secret_with_ts(GROUP, CHAT, id).await.unwrap();
        let entries = vec![entry("A", 1, 100, 10), entry("B", 2, 200, 20), entry("A", 3, 50, 0)];
        assert_eq!(backend.put_msg_secrets(entries).await.unwrap(), 3);
        assert_eq!(read("A").await, Some((vec![3; 32], 10)), "the later secret, the known time");
        backend.put_msg_secret(GROUP, CHAT, "C", &[4; 32]).await.unwrap();
        assert_eq!(backend.get_msg_secret(GROUP, CHAT, "C").await.unwrap().unwrap(), [4; 32]);
        assert_eq!(backend.delete_expired_msg_secrets(99).await.unwrap(), 0, "the longer time counts");
        assert_eq!(backend.delete_expired_msg_secrets(100).await.unwrap(), 1);
        backend.put_msg_secrets(vec![entry("D", 5, 150, 0)]).await.unwrap();
        assert_eq!(backend.delete_expired_msg_secrets(150).await.unwrap(), 1);
        assert_eq!(backend.delete_expired_msg_secrets(1_000).await.unwrap(), 1);
        assert_eq!((read("B").await, read("C").await.is_some()), (None, true), "without a time it never expires");
    })
    .await;
}
