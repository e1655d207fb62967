//! A group's settings, and one change of one of them. Each setting is named here once: its field, its word and its
//! place in the order in which several are applied. Never does IO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who in a group may do something.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// Every member.
    All,
    /// Admins only.
    Admins,
}

/// What is set in a group. Left out is what WhatsApp does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSettings {
    /// Only admins may send messages.
    #[schema(example = false)]
    pub announce: bool,
    /// Only admins may edit subject, description and picture.
    #[schema(example = false)]
    pub locked: bool,
    /// Seconds after which messages disappear; left out when they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 86_400)]
    pub ephemeral_seconds: Option<u32>,
    /// Who may add members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub member_add_mode: Option<Who>,
    /// Whether people who follow the invite link have to be approved by an admin.
    #[schema(example = false)]
    pub membership_approval: bool,
    /// Who may see and share the invite link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub member_link_mode: Option<Who>,
    /// Who may send the group's history to new members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub member_share_history_mode: Option<Who>,
    /// WhatsApp's "advanced chat privacy": no export, no automatic download, no use by its assistant.
    #[schema(example = false)]
    pub limit_sharing: bool,
    /// Messages that were forwarded many times cannot be sent.
    #[schema(example = false)]
    pub no_frequently_forwarded: bool,
    /// Members may report messages to the admins.
    #[schema(example = false)]
    pub allow_admin_reports: bool,
    /// New members get the recent history.
    #[schema(example = false)]
    pub group_history: bool,
}

/// One setting with its wanted or its new value. The order of the variants is the order in which several settings of
/// one request are applied.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// [`GroupSettings::announce`]
    Announce(bool),
    /// [`GroupSettings::locked`]
    Locked(bool),
    /// [`GroupSettings::ephemeral_seconds`]; 0 is off.
    EphemeralSeconds(u32),
    /// [`GroupSettings::member_add_mode`]
    MemberAddMode(Who),
    /// [`GroupSettings::membership_approval`]
    MembershipApproval(bool),
    /// [`GroupSettings::member_link_mode`]
    MemberLinkMode(Who),
    /// [`GroupSettings::member_share_history_mode`]
    MemberShareHistoryMode(Who),
    /// [`GroupSettings::limit_sharing`]
    LimitSharing(bool),
    /// [`GroupSettings::no_frequently_forwarded`]
    NoFrequentlyForwarded(bool),
    /// [`GroupSettings::allow_admin_reports`]
    AllowAdminReports(bool),
    /// [`GroupSettings::group_history`]
    GroupHistory(bool),
}

impl Setting {
    /// How many settings there are.
    pub const COUNT: usize = 11;

    /// The names of all of them, each in its place.
    pub const NAMES: [&'static str; Self::COUNT] = [
        "announce",
        "locked",
        "ephemeralSeconds",
        "memberAddMode",
        "membershipApproval",
        "memberLinkMode",
        "memberShareHistoryMode",
        "limitSharing",
        "noFrequentlyForwarded",
        "allowAdminReports",
        "groupHistory",
    ];

    /// The name of its field in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Its value as it stands in JSON; `null` where the field is left out.
    #[must_use]
    pub fn value(self) -> serde_json::Value {
        match self {
            Self::EphemeralSeconds(0) => serde_json::Value::Null,
            Self::EphemeralSeconds(seconds) => seconds.into(),
            Self::MemberAddMode(who) | Self::MemberLinkMode(who) | Self::MemberShareHistoryMode(who) => {
                serde_json::json!(who)
            }
            Self::Announce(on)
            | Self::Locked(on)
            | Self::MembershipApproval(on)
            | Self::LimitSharing(on)
            | Self::NoFrequentlyForwarded(on)
            | Self::AllowAdminReports(on)
            | Self::GroupHistory(on) => on.into(),
        }
    }

    /// Its place among all settings, below [`Setting::COUNT`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Announce(_) => 0,
            Self::Locked(_) => 1,
            Self::EphemeralSeconds(_) => 2,
            Self::MemberAddMode(_) => 3,
            Self::MembershipApproval(_) => 4,
            Self::MemberLinkMode(_) => 5,
            Self::MemberShareHistoryMode(_) => 6,
            Self::LimitSharing(_) => 7,
            Self::NoFrequentlyForwarded(_) => 8,
            Self::AllowAdminReports(_) => 9,
            Self::GroupHistory(_) => 10,
        }
    }
}

impl GroupSettings {
    /// Gives one setting its new value.
    pub fn apply(&mut self, setting: Setting) {
        match setting {
            Setting::Announce(on) => self.announce = on,
            Setting::Locked(on) => self.locked = on,
            Setting::EphemeralSeconds(seconds) => self.ephemeral_seconds = (seconds > 0).then_some(seconds),
            Setting::MemberAddMode(who) => self.member_add_mode = Some(who),
            Setting::MembershipApproval(on) => self.membership_approval = on,
            Setting::MemberLinkMode(who) => self.member_link_mode = Some(who),
            Setting::MemberShareHistoryMode(who) => self.member_share_history_mode = Some(who),
            Setting::LimitSharing(on) => self.limit_sharing = on,
            Setting::NoFrequentlyForwarded(on) => self.no_frequently_forwarded = on,
            Setting::AllowAdminReports(on) => self.allow_admin_reports = on,
            Setting::GroupHistory(on) => self.group_history = on,
        }
    }

    /// Whether the setting has this value.
    #[must_use]
    pub fn has(&self, setting: Setting) -> bool {
        let mut applied = self.clone();
        applied.apply(setting);
        applied == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Setting; Setting::COUNT] = [
        Setting::Announce(true),
        Setting::Locked(true),
        Setting::EphemeralSeconds(86_400),
        Setting::MemberAddMode(Who::All),
        Setting::MembershipApproval(true),
        Setting::MemberLinkMode(Who::Admins),
        Setting::MemberShareHistoryMode(Who::All),
        Setting::LimitSharing(true),
        Setting::NoFrequentlyForwarded(true),
        Setting::AllowAdminReports(true),
        Setting::GroupHistory(true),
    ];

    #[test]
    fn each_setting_has_its_field_its_name_and_its_place() {
        let mut settings = GroupSettings::default();
        for (place, setting) in ALL.into_iter().enumerate() {
            assert_eq!((setting.index(), Setting::NAMES[place]), (place, setting.name()));
            assert!(!settings.has(setting), "{}", setting.name());
            settings.apply(setting);
            assert!(settings.has(setting));
            let json = serde_json::to_value(&settings).unwrap();
            assert_eq!(json.get(setting.name()), Some(&setting.value()), "{}", setting.name());
        }
        assert!(ALL.is_sorted(), "the order of the enum is the order of application");
    }
}
