//! Secrets of messages that later ones refer to.
//!
//! A row: secret (32 bytes), expires at (8, big-endian, Unix seconds, 0 = never), message time (8, 0 = unknown).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use wacore::store::error::Result;
use wacore::store::traits::{
    MessageSecret, MsgSecretEntry, MsgSecretStore, merge_msg_secret_expiry, merge_msg_secret_message_ts,
};

use super::SessionBackend;
use super::rows::unreadable;
use rookery_store::{KEY_BYTES_MAX, Table, layout};

const TABLE: Table = Table::MessageSecrets;

/// No secret expires before this, so most sweeps need not read any row. Unknown at first, which is `i64::MIN`.
pub(super) struct Expiry(AtomicI64);

impl Default for Expiry {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

struct Secret {
    secret: MessageSecret,
    expires_at: i64,
    message_at: i64,
}

#[async_trait]
impl MsgSecretStore for SessionBackend {
    /// Message ids are chosen by others. One too long for a key is left out, so that it cannot hold up the rest.
    async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> Result<usize> {
        let mut held = self.secrets.lock(&self.rows).await?;
        let mut changed: BTreeMap<Vec<u8>, Secret> = BTreeMap::new();
        for entry in &entries {
            let key = layout::texts(&[&entry.chat, &entry.sender, &entry.msg_id]);
            if key.len() > KEY_BYTES_MAX {
                continue;
            }
            let known = match changed.remove(&key) {
                Some(known) => Some(known),
                None => self.secret(&key)?,
            };
            changed.insert(key, merge(known, entry));
        }
        let mut changes = self.rows.changes();
        for (key, secret) in &changed {
            changes.put(TABLE, key, &encode(secret));
            if secret.expires_at != 0 {
                self.secrets_expiry.0.fetch_min(secret.expires_at, Ordering::Relaxed);
            }
        }
        held.commit(changes).await?;
        Ok(entries.len())
    }

    async fn get_msg_secret(&self, chat: &str, sender: &str, msg_id: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get_msg_secret_with_ts(chat, sender, msg_id).await?.map(|(secret, _)| secret))
    }

    async fn get_msg_secret_with_ts(&self, chat: &str, sender: &str, msg_id: &str) -> Result<Option<(Vec<u8>, i64)>> {
        let secret = self.secret(&layout::texts(&[chat, sender, msg_id]))?;
        Ok(secret.map(|secret| (secret.secret.to_vec(), secret.message_at)))
    }

    async fn delete_expired_msg_secrets(&self, cutoff_timestamp: i64) -> Result<u32> {
        if self.secrets_expiry.0.load(Ordering::Relaxed) > cutoff_timestamp {
            return Ok(0);
        }
        let mut held = self.secrets.lock(&self.rows).await?;
        let mut next_expiry = i64::MAX;
        let mut changes = self.rows.changes();
        let mut deleted = 0;
        for (key, row) in self.rows.scan(TABLE, b"")? {
            let expires_at = decode(&row)?.expires_at;
            if expires_at == 0 {
                continue;
            }
            if expires_at <= cutoff_timestamp {
                changes.delete(TABLE, &key);
                deleted += 1;
            } else {
                next_expiry = next_expiry.min(expires_at);
            }
        }
        held.commit(changes).await?;
        // Secrets are put under the same lock, still held: the scan missed none.
        self.secrets_expiry.0.store(next_expiry, Ordering::Relaxed);
        Ok(deleted)
    }
}

impl SessionBackend {
    fn secret(&self, key: &[u8]) -> Result<Option<Secret>> {
        self.rows.get(TABLE, key)?.map(|row| decode(&row)).transpose()
    }
}

fn merge(known: Option<Secret>, entry: &MsgSecretEntry) -> Secret {
    let (expires_at, message_at) = known.map_or((entry.expires_at, entry.message_ts), |known| {
        (
            merge_msg_secret_expiry(known.expires_at, entry.expires_at),
            merge_msg_secret_message_ts(known.message_at, entry.message_ts),
        )
    });
    Secret { secret: entry.secret, expires_at, message_at }
}

fn encode(secret: &Secret) -> Vec<u8> {
    [&secret.secret[..], &secret.expires_at.to_be_bytes(), &secret.message_at.to_be_bytes()].concat()
}

fn decode(row: &[u8]) -> Result<Secret> {
    let whole = || {
        let (secret, rest) = row.split_first_chunk::<32>()?;
        let (expires_at, rest) = rest.split_first_chunk::<8>()?;
        let (message_at, _) = rest.split_first_chunk::<8>()?;
        Some(Secret {
            secret: *secret,
            expires_at: i64::from_be_bytes(*expires_at),
            message_at: i64::from_be_bytes(*message_at),
        })
    };
    whole().ok_or_else(|| unreadable(TABLE))
}
