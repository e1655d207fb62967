//! A group's settings at WhatsApp. Three of them are GraphQL mutations, the rest `w:g2` requests of the engine's.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wacore::iq::groups::{MemberAddMode, MembershipApprovalMode};
use wacore::iq::mex::MexDoc;
use wacore::iq::mex_operations::update_group_property;

use super::{Engine, EngineError, ids};
use rookery_model::{GroupId, Setting, Who};

impl Engine {
    /// Gives one setting of a group its value.
    pub async fn set_setting(&self, group: &GroupId, setting: Setting) -> Result<(), EngineError> {
        let (groups, jid) = (self.client.groups(), ids::group_jid(group));
        match setting {
            Setting::Announce(on) => groups.set_announce(jid, on).await?,
            Setting::Locked(on) => groups.set_locked(jid, on).await?,
            Setting::EphemeralSeconds(seconds) => groups.set_ephemeral(jid, seconds).await?,
            Setting::MemberAddMode(who) => groups.set_member_add_mode(jid, add_mode(who)).await?,
            Setting::MembershipApproval(on) => {
                let mode = if on { MembershipApprovalMode::On } else { MembershipApprovalMode::Off };
                groups.set_membership_approval(jid, mode).await?;
            }
            Setting::MemberLinkMode(who) => {
                let word = mex_word(who, "LINK");
                self.update_property(group, json!({ "member_link_mode": word })).await?;
            }
            Setting::MemberShareHistoryMode(who) => {
                let word = mex_word(who, "SHARE");
                self.update_property(group, json!({ "member_share_group_history_mode": word })).await?;
            }
            Setting::LimitSharing(on) => {
                let update = json!({ "limit_sharing_enabled": on, "limit_sharing_trigger": "CHAT_SETTING" });
                self.update_property(group, json!({ "limit_sharing": update })).await?;
            }
            Setting::NoFrequentlyForwarded(on) => groups.set_no_frequently_forwarded(jid, on).await?,
            Setting::AllowAdminReports(on) => groups.set_allow_admin_reports(jid, on).await?,
            Setting::GroupHistory(on) => groups.set_group_history(jid, on).await?,
        }
        Ok(())
    }

    /// The engine's own call loses the code of a refusal. Words and shape: whatsapp-rust `features/groups.rs`.
    async fn update_property(&self, group: &GroupId, update: Value) -> Result<(), EngineError> {
        let doc = MexDoc { name: update_group_property::NAME, id: update_group_property::DOC_ID };
        let variables = BTreeMap::from([("group_id", json!(group)), ("update", update)]);
        let data = self.ask_mex(doc, &variables).await?;
        match data.pointer("/xwa2_group_update_property/state").and_then(Value::as_str) {
            Some("ACTIVE") => Ok(()),
            _ => Err(EngineError::Unanswered("the answer names no state of the group".into())),
        }
    }
}

fn add_mode(who: Who) -> MemberAddMode {
    match who {
        Who::All => MemberAddMode::AllMemberAdd,
        Who::Admins => MemberAddMode::AdminAdd,
    }
}

fn mex_word(who: Who, what: &str) -> String {
    match who {
        Who::All => format!("ALL_MEMBER_{what}"),
        Who::Admins => format!("ADMIN_{what}"),
    }
}
