//! App state: keys, versions and mutation MACs.

use std::collections::HashMap;

use async_trait::async_trait;
use wacore::appstate::hash::HashState;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::error::Result;
use wacore::store::traits::{AppStateSyncKey, AppSyncStore};

use super::SessionBackend;
use super::rows::{from_json, to_json};
use rookery_store::{Table, layout};

#[async_trait]
impl AppSyncStore for SessionBackend {
    async fn get_sync_key(&self, key_id: &[u8]) -> Result<Option<AppStateSyncKey>> {
        let bytes = self.rows.get(Table::SyncKeys, &layout::sync_key(key_id))?;
        bytes.map(|bytes| from_json(Table::SyncKeys, &bytes)).transpose()
    }

    async fn set_sync_key(&self, key_id: &[u8], key: AppStateSyncKey) -> Result<()> {
        let json = to_json(&key)?;
        let mut changes = self.rows.changes();
        changes.unit(|batch, session| {
            batch.put(session, Table::SyncKeys, layout::sync_key(key_id), json);
            batch.put(session, Table::SyncKeys, layout::SYNC_KEY_LATEST, key_id);
        });
        changes.commit().await
    }

    async fn get_version(&self, name: &str) -> Result<HashState> {
        match self.rows.get_record(Table::SyncVersions, name.as_bytes())? {
            Some(bytes) => from_json(Table::SyncVersions, &bytes),
            None => Ok(HashState::default()),
        }
    }

    async fn set_version(&self, name: &str, state: HashState) -> Result<()> {
        self.rows.put_record(Table::SyncVersions, name.as_bytes(), &to_json(&state)?).await
    }

    async fn put_mutation_macs(&self, name: &str, _version: u64, mutations: &[AppStateMutationMAC]) -> Result<()> {
        let mut changes = self.rows.changes();
        for mutation in mutations {
            let key = layout::mutation_mac(name, &mutation.index_mac);
            changes.put(Table::MutationMacs, &key, &mutation.value_mac);
        }
        changes.commit().await
    }

    async fn get_mutation_mac(&self, name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>> {
        self.rows.get(Table::MutationMacs, &layout::mutation_mac(name, index_mac))
    }

    async fn get_mutation_macs(&self, name: &str, index_macs: &[[u8; 32]]) -> Result<HashMap<[u8; 32], Vec<u8>>> {
        let mut found = HashMap::with_capacity(index_macs.len());
        for index_mac in index_macs {
            if let Some(value_mac) = self.rows.get(Table::MutationMacs, &layout::mutation_mac(name, index_mac))? {
                found.insert(*index_mac, value_mac);
            }
        }
        Ok(found)
    }

    async fn delete_mutation_macs(&self, name: &str, index_macs: &[Vec<u8>]) -> Result<()> {
        let mut changes = self.rows.changes();
        for index_mac in index_macs {
            changes.delete(Table::MutationMacs, &layout::mutation_mac(name, index_mac));
        }
        changes.commit().await
    }

    async fn clear_mutation_macs(&self, name: &str) -> Result<()> {
        let mut changes = self.rows.changes();
        for (key, _) in self.rows.scan(Table::MutationMacs, &layout::mutation_mac(name, b""))? {
            changes.delete(Table::MutationMacs, &key);
        }
        changes.commit().await
    }

    async fn get_latest_sync_key_id(&self) -> Result<Option<Vec<u8>>> {
        self.rows.get(Table::SyncKeys, layout::SYNC_KEY_LATEST)
    }
}
