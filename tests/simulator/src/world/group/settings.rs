//! The settings of a group that are not about who is in it: which there are, and how they look on the wire.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{attr, empty, leaf, text};

/// Who set `limit_sharing`: somebody in the chat's settings, as opposed to the account's.
const LIMIT_SHARING_TRIGGER: &str = "1";

/// One setting and its new value, as an admin changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Only admins may send messages.
    Announce(bool),
    /// Only admins may change subject, description and picture.
    Locked(bool),
    /// Messages disappear after so many seconds; `None` or 0: they stay.
    Ephemeral(Option<u32>),
    /// People who follow the invite link have to be let in by an admin.
    Approval(bool),
    /// All members may add people, not only admins: `member_add_mode`.
    MembersAdd(bool),
    /// All members may see the invite code, not only admins: `member_link_mode`.
    MembersLink(bool),
    /// All members may share the history with new members, not only admins: `member_share_group_history_mode`.
    MembersShareHistory(bool),
    /// Messages may not be exported or used elsewhere.
    LimitSharing(bool),
    /// Messages that were forwarded often are not let in.
    NoFrequentlyForwarded(bool),
    /// Members may report messages to the admins.
    AdminReports(bool),
    /// New members get the recent messages.
    GroupHistory(bool),
}

/// All settings of one group.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Settings {
    pub(crate) announce: bool,
    pub(crate) locked: bool,
    pub(crate) ephemeral_s: Option<u32>,
    pub(crate) approval: bool,
    pub(crate) members_add: bool,
    pub(crate) members_link: bool,
    pub(crate) members_share_history: bool,
    pub(crate) limit_sharing: bool,
    pub(crate) no_frequently_forwarded: bool,
    pub(crate) admin_reports: bool,
    pub(crate) group_history: bool,
}

impl Setting {
    /// The setting that a `w:g2` request changes; `None` when it is not about a setting, or its value is unknown.
    pub(crate) fn read(operation: &Node) -> Option<Self> {
        Some(match operation.tag.as_ref() {
            "announcement" => Self::Announce(true),
            "not_announcement" => Self::Announce(false),
            "locked" => Self::Locked(true),
            "unlocked" => Self::Locked(false),
            "ephemeral" => Self::Ephemeral(attr(operation, "expiration").and_then(|seconds| seconds.parse().ok())),
            "not_ephemeral" => Self::Ephemeral(None),
            "membership_approval_mode" => {
                let join = operation.get_optional_child("group_join")?;
                Self::Approval(attr(join, "state").as_deref() == Some("on"))
            }
            "member_add_mode" => Self::MembersAdd(one_of(&text(operation), "all_member_add", "admin_add")?),
            "member_link_mode" => Self::MembersLink(one_of(&text(operation), "all_member_link", "admin_link")?),
            "member_share_group_history_mode" => {
                Self::MembersShareHistory(one_of(&text(operation), "all_member_share", "admin_share")?)
            }
            "no_frequently_forwarded" => Self::NoFrequentlyForwarded(true),
            "frequently_forwarded_ok" => Self::NoFrequentlyForwarded(false),
            "allow_admin_reports" => Self::AdminReports(true),
            "not_allow_admin_reports" => Self::AdminReports(false),
            "group_history" => Self::GroupHistory(true),
            "no_group_history" => Self::GroupHistory(false),
            _ => return None,
        })
    }

    /// The action of the notification. Some tags and words for "switched off" are guesses, as no client names them. A
    /// client that does not know them reads the group again.
    pub(crate) fn action(self) -> Node {
        let flag = |on: bool, yes: &'static str, no: &'static str| empty(if on { yes } else { no });
        match self {
            Self::Announce(on) => flag(on, "announcement", "not_announcement"),
            Self::Locked(on) => flag(on, "locked", "unlocked"),
            Self::Ephemeral(Some(seconds)) if seconds > 0 => ephemeral(seconds),
            Self::Ephemeral(_) => empty("not_ephemeral"),
            Self::Approval(on) => approval(on),
            Self::MembersAdd(on) => member_add_mode(on),
            Self::MembersLink(on) => member_link_mode(on),
            Self::MembersShareHistory(on) => member_share_history_mode(on),
            Self::LimitSharing(true) => limit_sharing(),
            Self::LimitSharing(false) => empty("limit_sharing_disabled"),
            Self::NoFrequentlyForwarded(on) => flag(on, "no_frequently_forwarded", "frequently_forwarded_ok"),
            Self::AdminReports(on) => flag(on, "allow_admin_reports", "not_allow_admin_reports"),
            Self::GroupHistory(on) => flag(on, "group_history", "no_group_history"),
        }
    }
}

impl Settings {
    pub(crate) fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Announce(on) => self.announce = on,
            Setting::Locked(on) => self.locked = on,
            Setting::Ephemeral(seconds) => self.ephemeral_s = seconds.filter(|seconds| *seconds > 0),
            Setting::Approval(on) => self.approval = on,
            Setting::MembersAdd(on) => self.members_add = on,
            Setting::MembersLink(on) => self.members_link = on,
            Setting::MembersShareHistory(on) => self.members_share_history = on,
            Setting::LimitSharing(on) => self.limit_sharing = on,
            Setting::NoFrequentlyForwarded(on) => self.no_frequently_forwarded = on,
            Setting::AdminReports(on) => self.admin_reports = on,
            Setting::GroupHistory(on) => self.group_history = on,
        }
    }

    /// The children of `<group>`. The three modes are always there; a flag that is off is absent.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let mut nodes = vec![
            member_add_mode(self.members_add),
            member_link_mode(self.members_link),
            member_share_history_mode(self.members_share_history),
        ];
        nodes.extend(self.ephemeral_s.map(ephemeral));
        nodes.extend(self.approval.then(|| approval(true)));
        nodes.extend(self.limit_sharing.then(limit_sharing));
        let flags = [
            (self.announce, "announcement"),
            (self.locked, "locked"),
            (self.no_frequently_forwarded, "no_frequently_forwarded"),
            (self.admin_reports, "allow_admin_reports"),
            (self.group_history, "group_history"),
        ];
        nodes.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, tag)| empty(tag)));
        nodes
    }
}

/// True for `yes`, false for `no`, `None` for any other word.
fn one_of(word: &str, yes: &str, no: &str) -> Option<bool> {
    (word == yes || word == no).then_some(word == yes)
}

fn ephemeral(seconds: u32) -> Node {
    NodeBuilder::new("ephemeral").attr("expiration", seconds.to_string()).build()
}

fn approval(on: bool) -> Node {
    let join = NodeBuilder::new("group_join").attr("state", if on { "on" } else { "off" });
    NodeBuilder::new("membership_approval_mode").children([join.build()]).build()
}

fn member_add_mode(members: bool) -> Node {
    leaf("member_add_mode", if members { "all_member_add" } else { "admin_add" })
}

fn member_link_mode(members: bool) -> Node {
    leaf("member_link_mode", if members { "all_member_link" } else { "admin_link" })
}

fn member_share_history_mode(members: bool) -> Node {
    leaf("member_share_group_history_mode", if members { "all_member_share" } else { "admin_share" })
}

fn limit_sharing() -> Node {
    NodeBuilder::new("limit_sharing_enabled").attr("trigger", LIMIT_SHARING_TRIGGER).build()
}
