//! Identities, Signal sessions, pre-keys and sender keys.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wacore::store::error::Result;
use wacore::store::traits::SignalStore;

use super::SessionBackend;
use super::rows::unreadable;
use rookery_store::{Table, layout};

#[async_trait]
impl SignalStore for SessionBackend {
    async fn put_identity(&self, address: &str, key: [u8; 32]) -> Result<()> {
        self.rows.put(Table::Identities, address.as_bytes(), &key).await
    }

    async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> Result<()> {
        let mut changes = self.rows.changes();
        for (address, key) in identities {
            changes.put(Table::Identities, address.as_bytes(), key);
        }
        changes.commit().await
    }

    async fn load_identity(&self, address: &str) -> Result<Option<[u8; 32]>> {
        let Some(key) = self.rows.get(Table::Identities, address.as_bytes())? else { return Ok(None) };
        key.try_into().map(Some).map_err(|_| unreadable(Table::Identities))
    }

    async fn delete_identity(&self, address: &str) -> Result<()> {
        self.rows.delete(Table::Identities, address.as_bytes()).await
    }

    async fn get_session(&self, address: &str) -> Result<Option<Bytes>> {
        Ok(self.rows.get_record(Table::SignalSessions, address.as_bytes())?.map(Bytes::from))
    }

    async fn put_session(&self, address: &str, session: &[u8]) -> Result<()> {
        self.put_records(Table::SignalSessions, &[(address.as_bytes(), session)]).await
    }

    async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
        let sessions: Vec<_> = sessions.iter().map(|(address, session)| (address.as_bytes(), &session[..])).collect();
        self.put_records(Table::SignalSessions, &sessions).await
    }

    async fn delete_session(&self, address: &str) -> Result<()> {
        self.rows.delete_record(Table::SignalSessions, address.as_bytes()).await
    }

    async fn has_session(&self, address: &str) -> Result<bool> {
        Ok(self.get_session(address).await?.is_some())
    }

    async fn has_signal_state_for_user(&self, user: &str) -> Result<bool> {
        // Addresses are `user@server` and `user:device@server`.
        for prefix in [format!("{user}@"), format!("{user}:")] {
            for table in [Table::SignalSessions, Table::Identities] {
                if !self.rows.scan(table, prefix.as_bytes())?.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn store_prekey(&self, id: u32, record: &[u8], _uploaded: bool) -> Result<()> {
        self.change_pre_keys(&[(id, Some(record))]).await
    }

    async fn store_prekeys_batch(&self, keys: &[(u32, Bytes)], _uploaded: bool) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|(id, record)| (*id, Some(&record[..]))).collect();
        self.change_pre_keys(&keys).await
    }

    async fn load_prekey(&self, id: u32) -> Result<Option<Bytes>> {
        Ok(self.pre_keys_of(&[id])?.pop().map(|(_, record)| record))
    }

    async fn load_prekeys_batch(&self, ids: &[u32]) -> Result<Vec<(u32, Bytes)>> {
        self.pre_keys_of(ids)
    }

    /// Does nothing: no method of the traits distinguishes uploaded keys from others, and the engine counts them in its
    /// device record. This method must not bring back a key that was consumed meanwhile.
    async fn mark_prekeys_uploaded(&self, _ids: &[u32]) -> Result<()> {
        Ok(())
    }

    async fn remove_prekey(&self, id: u32) -> Result<()> {
        self.change_pre_keys(&[(id, None)]).await
    }

    async fn get_max_prekey_id(&self) -> Result<u32> {
        self.pre_key_id_max()
    }

    async fn store_signed_prekey(&self, id: u32, record: &[u8]) -> Result<()> {
        self.rows.put(Table::SignedPreKeys, &layout::signed_pre_key(id), record).await
    }

    async fn load_signed_prekey(&self, id: u32) -> Result<Option<Vec<u8>>> {
        self.rows.get(Table::SignedPreKeys, &layout::signed_pre_key(id))
    }

    async fn load_all_signed_prekeys(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let rows = self.rows.scan(Table::SignedPreKeys, b"")?;
        let id = |key: Vec<u8>| key.try_into().map(u32::from_be_bytes).map_err(|_| unreadable(Table::SignedPreKeys));
        rows.into_iter().map(|(key, record)| Ok((id(key)?, record))).collect()
    }

    async fn remove_signed_prekey(&self, id: u32) -> Result<()> {
        self.rows.delete(Table::SignedPreKeys, &layout::signed_pre_key(id)).await
    }

    async fn put_sender_key(&self, address: &str, record: &[u8]) -> Result<()> {
        self.put_records(Table::SenderKeys, &[(address.as_bytes(), record)]).await
    }

    async fn put_sender_keys_batch(&self, sender_keys: &[(Arc<str>, Bytes)]) -> Result<()> {
        let keys: Vec<_> = sender_keys.iter().map(|(address, record)| (address.as_bytes(), &record[..])).collect();
        self.put_records(Table::SenderKeys, &keys).await
    }

    async fn get_sender_key(&self, address: &str) -> Result<Option<Vec<u8>>> {
        self.rows.get_record(Table::SenderKeys, address.as_bytes())
    }

    async fn delete_sender_key(&self, address: &str) -> Result<()> {
        self.rows.delete_record(Table::SenderKeys, address.as_bytes()).await
    }
}

impl SessionBackend {
    /// Writes encryption states, and with them the messages that were decrypted and are not in the event log yet.
    async fn put_records(&self, table: Table, records: &[(&[u8], &[u8])]) -> Result<()> {
        self.pending_inbound.before_state(&self.rows).await?;
        let mut changes = self.rows.changes();
        for (address, record) in records {
            changes.put_record(table, address, record)?;
        }
        changes.commit().await
    }
}
