//! Which devices of a group have our sender key: one record per group, as the first message to a group of 1,000 marks
//! some 2,000 devices at once.
//!
//! A record is its devices: has the key (1 byte), length (2 bytes, big-endian), JID.

use std::collections::BTreeMap;

use wacore::store::error::Result;

use super::SessionBackend;
use super::rows::unreadable;
use rookery_store::Table;

const TABLE: Table = Table::SenderKeyDevices;

type Devices = BTreeMap<String, bool>;

impl SessionBackend {
    pub(super) fn sender_key_devices_of(&self, group: &str) -> Result<Devices> {
        let bytes = self.rows.get_record(TABLE, group.as_bytes())?;
        bytes.map_or_else(|| Ok(Devices::new()), |bytes| decode(&bytes))
    }

    pub(super) async fn mark_sender_key_devices(&self, group: &str, entries: &[(&str, bool)]) -> Result<()> {
        let mut held = self.sender_key_devices.lock(&self.rows).await?;
        let before = self.sender_key_devices_of(group)?;
        let mut devices = before.clone();
        devices.extend(entries.iter().map(|(device, has_key)| ((*device).to_owned(), *has_key)));
        let mut changes = self.rows.changes();
        if devices != before {
            changes.put_record(TABLE, group.as_bytes(), &encode(&devices))?;
        }
        held.commit(changes).await
    }

    /// Forgets one group (`Some`) or all.
    pub(super) async fn forget_sender_key_devices(&self, group: Option<&str>) -> Result<()> {
        let mut held = self.sender_key_devices.lock(&self.rows).await?;
        let mut changes = self.rows.changes();
        match group {
            Some(group) => changes.delete_record(TABLE, group.as_bytes())?,
            None => self.rows.scan(TABLE, b"")?.iter().for_each(|(key, _)| changes.delete(TABLE, key)),
        }
        held.commit(changes).await
    }

    /// Forgets these devices in all groups.
    pub(super) async fn forget_devices(&self, gone: &[&str]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut held = self.sender_key_devices.lock(&self.rows).await?;
        let mut changes = self.rows.changes();
        for (group, bytes) in self.rows.scan_records(TABLE, b"")? {
            let mut devices = decode(&bytes)?;
            let before = devices.len();
            devices.retain(|device, _| !gone.contains(&device.as_str()));
            if devices.is_empty() {
                changes.delete_record(TABLE, &group)?;
            } else if devices.len() != before {
                changes.put_record(TABLE, &group, &encode(&devices))?;
            }
        }
        held.commit(changes).await
    }
}

fn encode(devices: &Devices) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (device, has_key) in devices {
        bytes.push(u8::from(*has_key));
        bytes.extend_from_slice(&u16::try_from(device.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(device.as_bytes());
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<Devices> {
    let mut devices = Devices::new();
    while let Some(([has_key, high, low], rest)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (device, rest) = rest.split_at_checked(length).ok_or_else(|| unreadable(TABLE))?;
        let device = String::from_utf8(device.to_vec()).map_err(|_| unreadable(TABLE))?;
        devices.insert(device, *has_key != 0);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(devices) } else { Err(unreadable(TABLE)) }
}
