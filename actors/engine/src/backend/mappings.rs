//! LID to phone number and back: two rows per mapping, always changed together.

use std::collections::HashMap;

use wacore::store::error::Result;
use wacore::store::traits::LidPnMappingEntry;

use super::SessionBackend;
use super::rows::{from_json, to_json};
use rookery_store::Table;

impl SessionBackend {
    pub(super) fn mapping_of_lid(&self, lid: &str) -> Result<Option<LidPnMappingEntry>> {
        let bytes = self.rows.get(Table::LidMappings, lid.as_bytes())?;
        bytes.map(|bytes| from_json(Table::LidMappings, &bytes)).transpose()
    }

    /// The mapping of the LID that this phone number was last mapped to.
    pub(super) fn mapping_of_phone(&self, phone: &str) -> Result<Option<LidPnMappingEntry>> {
        let Some(lid) = self.lid_of_phone(phone)? else { return Ok(None) };
        self.mapping_of_lid(&lid)
    }

    pub(super) fn all_mappings(&self) -> Result<Vec<LidPnMappingEntry>> {
        let rows = self.rows.scan(Table::LidMappings, b"")?;
        rows.iter().map(|(_, bytes)| from_json(Table::LidMappings, bytes)).collect()
    }

    /// Stores mappings; of two with the same LID the later one counts. When a LID has left a phone number, the number
    /// no longer leads to that LID.
    pub(super) async fn put_mappings(&self, entries: &[LidPnMappingEntry]) -> Result<()> {
        let mut held = self.mappings.lock(&self.rows).await?;
        // The rows as earlier entries of this call have changed them.
        let mut phone_of: HashMap<&str, &str> = HashMap::new();
        let mut lid_of: HashMap<&str, &str> = HashMap::new();
        let mut changes = self.rows.changes();
        for entry in entries {
            let (lid, phone) = (entry.lid.as_str(), entry.phone_number.as_str());
            let json = to_json(entry)?;
            let stored = self.mapping_of_lid(lid)?.map(|stored| stored.phone_number);
            let phone_before = phone_of.get(lid).copied().or(stored.as_deref());
            let left = phone_before.filter(|before| *before != phone);
            let leads_here = |before: &str| match lid_of.get(before) {
                Some(current) => Ok(*current == lid),
                None => self.lid_of_phone(before).map(|current| current.as_deref() == Some(lid)),
            };
            let stale = left.map(leads_here).transpose()?.unwrap_or(false).then_some(left).flatten();
            changes.unit(|batch, session| {
                if let Some(stale) = stale {
                    batch.delete(session, Table::PhoneMappings, stale);
                }
                batch.put(session, Table::PhoneMappings, phone, lid);
                batch.put(session, Table::LidMappings, lid, json);
            });
            phone_of.insert(lid, phone);
            lid_of.insert(phone, lid);
        }
        held.commit(changes).await
    }

    fn lid_of_phone(&self, phone: &str) -> Result<Option<String>> {
        let lid = self.rows.get(Table::PhoneMappings, phone.as_bytes())?;
        Ok(lid.map(|lid| String::from_utf8_lossy(&lid).into_owned()))
    }
}
