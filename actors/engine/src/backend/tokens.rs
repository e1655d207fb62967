//! Privacy tokens of contacts. Two writers own a part of each row, so every change is a read-modify-write under a lock.
//!
//! A row: received at (8 bytes, big-endian), whether sent at is known (1), sent at (8), token.

use wacore::store::error::Result;
use wacore::store::traits::TcTokenEntry;

use super::SessionBackend;
use super::rows::unreadable;
use rookery_store::Table;

const TABLE: Table = Table::PrivacyTokens;

impl SessionBackend {
    pub(super) fn token_of(&self, jid: &str) -> Result<Option<TcTokenEntry>> {
        self.rows.get(TABLE, jid.as_bytes())?.map(|row| decode(&row)).transpose()
    }

    pub(super) fn token_jids(&self) -> Result<Vec<String>> {
        let rows = self.rows.scan(TABLE, b"")?;
        rows.into_iter().map(|(key, _)| String::from_utf8(key).map_err(|_| unreadable(TABLE))).collect()
    }

    /// Replaces the row by the result of `change`; `None` leaves it as it is.
    pub(super) async fn change_token(
        &self,
        jid: &str,
        change: impl FnOnce(Option<TcTokenEntry>) -> Option<TcTokenEntry> + Send,
    ) -> Result<()> {
        let mut held = self.tokens.lock(&self.rows).await?;
        let mut changes = self.rows.changes();
        if let Some(entry) = change(self.token_of(jid)?) {
            changes.put(TABLE, jid.as_bytes(), &encode(&entry));
        }
        held.commit(changes).await
    }

    pub(super) async fn delete_token(&self, jid: &str) -> Result<()> {
        let mut held = self.tokens.lock(&self.rows).await?;
        let mut changes = self.rows.changes();
        changes.delete(TABLE, jid.as_bytes());
        held.commit(changes).await
    }

    pub(super) async fn delete_stale_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
        let mut held = self.tokens.lock(&self.rows).await?;
        let mut changes = self.rows.changes();
        let mut deleted = 0;
        for (key, row) in self.rows.scan(TABLE, b"")? {
            if is_stale(&decode(&row)?, token_cutoff, sender_cutoff) {
                changes.delete(TABLE, &key);
                deleted += 1;
            }
        }
        held.commit(changes).await?;
        Ok(deleted)
    }
}

/// Moves the time we last sent our token forward, never back; keeps the token.
pub(super) fn with_sent_at(before: Option<TcTokenEntry>, sent_at: i64) -> TcTokenEntry {
    match before {
        Some(before) => {
            let sender_timestamp = Some(before.sender_timestamp.map_or(sent_at, |known| known.max(sent_at)));
            TcTokenEntry { sender_timestamp, ..before }
        }
        None => TcTokenEntry { token: Vec::new(), token_timestamp: sent_at, sender_timestamp: Some(sent_at) },
    }
}

/// Takes a received token over unless a fresher one is known; `None` when nothing changes.
pub(super) fn with_received(before: Option<TcTokenEntry>, token: &[u8], received_at: i64) -> Option<TcTokenEntry> {
    let fresher = before.as_ref().is_some_and(|known| !known.token.is_empty() && received_at < known.token_timestamp);
    let sender_timestamp = before.and_then(|known| known.sender_timestamp);
    (!fresher).then(|| TcTokenEntry { token: token.to_vec(), token_timestamp: received_at, sender_timestamp })
}

/// A row goes only when neither its token nor its sending time is of use any more.
fn is_stale(entry: &TcTokenEntry, token_cutoff: i64, sender_cutoff: i64) -> bool {
    let token_live = !entry.token.is_empty() && entry.token_timestamp >= token_cutoff;
    let sender_live = entry.sender_timestamp.is_some_and(|sent_at| sent_at >= sender_cutoff);
    !token_live && !sender_live
}

fn encode(entry: &TcTokenEntry) -> Vec<u8> {
    let mut row = Vec::with_capacity(17 + entry.token.len());
    row.extend_from_slice(&entry.token_timestamp.to_be_bytes());
    row.push(u8::from(entry.sender_timestamp.is_some()));
    row.extend_from_slice(&entry.sender_timestamp.unwrap_or_default().to_be_bytes());
    row.extend_from_slice(&entry.token);
    row
}

fn decode(row: &[u8]) -> Result<TcTokenEntry> {
    let whole = || {
        let (received_at, rest) = row.split_first_chunk::<8>()?;
        let ([sent], rest) = rest.split_first_chunk::<1>()?;
        let (sent_at, token) = rest.split_first_chunk::<8>()?;
        Some(TcTokenEntry {
            token: token.to_vec(),
            token_timestamp: i64::from_be_bytes(*received_at),
            sender_timestamp: (*sent != 0).then(|| i64::from_be_bytes(*sent_at)),
        })
    };
    whole().ok_or_else(|| unreadable(TABLE))
}
