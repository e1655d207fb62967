//! What WhatsApp allows an account at the moment, as far as it says. Never does IO.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// Something that WhatsApp forbids an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restriction {
    /// What is forbidden.
    pub kind: RestrictionKind,
    /// WhatsApp's own word or number for the reason.
    #[serde(deserialize_with = "word_or_number")]
    #[schema(example = "DEFAULT")]
    pub code: String,
    /// When it ends, when WhatsApp said so.
    #[schema(required)]
    pub expires_at: Option<Timestamp>,
}

/// What WhatsApp forbids.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestrictionKind {
    /// To reach out to people whom the account has no chat with. The session stays connected.
    ReachoutTimelock,
    /// To connect: the account is banned for a time or for good, or locked.
    #[serde(alias = "temporary_ban", alias = "account_locked")]
    TosBlock,
}

/// In records of versions before, the code was a number or `null`.
fn word_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Code {
        Word(String),
        Number(i32),
    }
    Ok(match Option::<Code>::deserialize(deserializer)? {
        Some(Code::Word(word)) => word,
        Some(Code::Number(number)) => number.to_string(),
        None => String::new(),
    })
}

/// Whether the account may reach out to people whom it has no chat with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReachoutTimelock {
    /// Whether it may not.
    #[schema(example = false)]
    pub is_active: bool,
    /// When it may again, when WhatsApp said so.
    #[schema(required, example = json!(null))]
    pub expires_at: Option<Timestamp>,
    /// WhatsApp's own word for the reason.
    #[schema(required, example = json!(null))]
    pub reason: Option<String>,
}

impl ReachoutTimelock {
    /// The lock as of this moment: one whose time is over is none.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        if self.is_active && self.expires_at.is_some_and(|end| end <= now) { Self::default() } else { self }
    }

    /// The restriction of the account while the lock is active.
    #[must_use]
    pub fn restriction(&self) -> Option<Restriction> {
        let code = || self.reason.clone().unwrap_or_else(|| "DEFAULT".into());
        let kind = RestrictionKind::ReachoutTimelock;
        self.is_active.then(|| Restriction { kind, code: code(), expires_at: self.expires_at })
    }
}

/// How many chats with new people the account may begin.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewChats {
    /// Chats begun in this cycle of WhatsApp's.
    #[schema(example = 12)]
    pub used: u32,
    /// Chats that may be begun in it.
    #[schema(example = 50)]
    pub limit: u32,
    /// When the next cycle begins, when WhatsApp said so.
    #[schema(required)]
    pub resets_at: Option<Timestamp>,
}

/// What WhatsApp allows an account at the moment, as far as it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountLimits {
    /// What the account is forbidden.
    #[schema(required)]
    pub restriction: Option<Restriction>,
    /// `null`: WhatsApp was not asked yet, or did not say.
    #[schema(required)]
    pub reachout_timelock: Option<ReachoutTimelock>,
    /// `null`: WhatsApp set no limit, or was not asked yet.
    #[schema(required)]
    pub new_chats: Option<NewChats>,
    /// What pauses because WhatsApp asked to slow down.
    pub pauses: Vec<LimitPause>,
}

/// Something that pauses because WhatsApp asked to slow down.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitPause {
    /// What pauses.
    pub what: PausedWork,
    /// Until when.
    pub until: Timestamp,
}

/// Work that WhatsApp limits by itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(example = "changes")]
pub enum PausedWork {
    /// The session's changes of groups.
    Changes,
    /// The session's lookups of phone numbers.
    Lookups,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn restrictions_of_earlier_versions_are_read() {
        let table = [
            (json!({"kind": "temporary_ban", "code": 104, "expiresAt": null}), "104"),
            (json!({"kind": "account_locked", "code": null, "expiresAt": null}), ""),
            (json!({"kind": "tos_block", "code": "403", "expiresAt": null}), "403"),
        ];
        for (stored, code) in table {
            let read: Restriction = serde_json::from_value(stored).unwrap();
            assert_eq!((read.kind, read.code.as_str()), (RestrictionKind::TosBlock, code));
        }
    }

    #[test]
    fn a_lock_ends_when_its_time_is_over_and_one_without_an_end_does_not() {
        let lock = |expires_at| ReachoutTimelock { is_active: true, expires_at, reason: Some("SCAM".into()) };
        let at = |expires_at| lock(expires_at).at(Timestamp(1_000)).restriction().map(|it| it.code);
        assert_eq!(at(Some(Timestamp(1_001))).as_deref(), Some("SCAM"));
        assert_eq!(at(Some(Timestamp(1_000))), None);
        assert_eq!(at(None).as_deref(), Some("SCAM"));
    }
}
