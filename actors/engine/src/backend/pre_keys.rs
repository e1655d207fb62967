//! One-time pre-keys, 64 to a record: an upload writes 13 rows instead of 812.
//!
//! A record is its keys in the order of their places: place (1 byte), length (2 bytes, big-endian), bytes. A key of the
//! engine has at most 74 bytes, so a record has 5 KiB. An empty record is deleted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use wacore::store::error::{Result, StoreError as EngineError};

use super::SessionBackend;
use super::rows::unreadable;
use rookery_store::{Table, VALUE_BYTES_MAX, layout};

/// Bytes of one key, so that a full record is still one value. Three times what the engine's keys have.
const PRE_KEY_BYTES_MAX: usize = VALUE_BYTES_MAX / layout::PRE_KEYS_PER_RECORD as usize - ENTRY_HEAD_BYTES;

const ENTRY_HEAD_BYTES: usize = 3;

/// The keys of one record by their places.
type Places = BTreeMap<u8, Vec<u8>>;

impl SessionBackend {
    /// Sets (`Some`) and removes (`None`) keys; each record is read and written once.
    pub(super) async fn change_pre_keys(&self, changed: &[(u32, Option<&[u8]>)]) -> Result<()> {
        let mut held = self.pre_keys.lock(&self.rows).await?;
        let mut records: BTreeMap<[u8; 4], Places> = BTreeMap::new();
        for (id, key) in changed {
            let (record, place) = layout::pre_key(*id);
            let places = self.places(&mut records, record)?;
            match key {
                Some(key) if key.len() > PRE_KEY_BYTES_MAX => {
                    return Err(EngineError::Validation(format!("a pre-key of {} bytes is too large", key.len())));
                }
                Some(key) => places.insert(place, key.to_vec()),
                None => places.remove(&place),
            };
        }
        let mut changes = self.rows.changes();
        for (record, places) in records {
            if places.is_empty() {
                changes.delete(Table::PreKeys, &record);
            } else {
                changes.put(Table::PreKeys, &record, &encode(&places));
            }
        }
        held.commit(changes).await
    }

    /// Those of the keys that exist, in the order asked for.
    pub(super) fn pre_keys_of(&self, ids: &[u32]) -> Result<Vec<(u32, Bytes)>> {
        let mut records: BTreeMap<[u8; 4], Places> = BTreeMap::new();
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let (record, place) = layout::pre_key(*id);
            if let Some(key) = self.places(&mut records, record)?.get(&place) {
                found.push((*id, Bytes::copy_from_slice(key)));
            }
        }
        Ok(found)
    }

    /// 0 when there is none.
    pub(super) fn pre_key_id_max(&self) -> Result<u32> {
        let Some((record, bytes)) = self.rows.scan(Table::PreKeys, b"")?.pop() else { return Ok(0) };
        let record = record.try_into().map(u32::from_be_bytes).map_err(|_| unreadable(Table::PreKeys))?;
        let place = decode(&bytes)?.into_keys().next_back().unwrap_or_default();
        Ok(record * layout::PRE_KEYS_PER_RECORD + u32::from(place))
    }

    /// A record, read at most once per call.
    fn places<'a>(&self, read: &'a mut BTreeMap<[u8; 4], Places>, record: [u8; 4]) -> Result<&'a mut Places> {
        match read.entry(record) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let bytes = self.rows.get(Table::PreKeys, &record)?;
                Ok(unknown.insert(bytes.map_or_else(|| Ok(Places::new()), |bytes| decode(&bytes))?))
            }
        }
    }
}

fn encode(places: &Places) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, key) in places {
        bytes.push(*place);
        bytes.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(key);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<Places> {
    let mut places = Places::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<ENTRY_HEAD_BYTES>() {
        let [place, high, low] = *head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (key, rest) = rest.split_at_checked(length).ok_or_else(|| unreadable(Table::PreKeys))?;
        places.insert(place, key.to_vec());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(places) } else { Err(unreadable(Table::PreKeys)) }
}
