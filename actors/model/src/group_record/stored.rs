//! A group's record as it is stored: JSON that versions with more and with fewer fields can read, too. A missing field
//! gets its default, an unknown field is ignored. Never does IO.
//!
//! Settings are stored by name. Earlier versions stored the times of their changes as a list in the order of
//! [`FIRST_SETTINGS`], and left out settings that were not set.

use serde_json::{Map, Value};

use crate::{GroupSettings, Setting};

/// The settings of the versions that stored times by position, in that order. Never changes.
const FIRST_SETTINGS: [&str; 11] = [
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

/// The settings for which a stored record has no value that this version understands. They were not read yet, so their
/// first values are no change.
pub fn unread_settings(json: &[u8]) -> Vec<&'static str> {
    let record: Value = serde_json::from_slice(json).unwrap_or_default();
    let is_first = record["settings_at"].is_array();
    let is_read = |name: &str| match record["settings"].get(name) {
        Some(value) => is_understood(name, value),
        None => is_first && FIRST_SETTINGS.contains(&name),
    };
    Setting::NAMES.into_iter().filter(|name| !is_read(name)).collect()
}

fn is_understood(name: &str, value: &Value) -> bool {
    with(GroupSettings::default(), name, value).is_some()
}

/// The settings with a new value of one of them; `None` when that value is not understood.
fn with(settings: GroupSettings, name: &str, value: &Value) -> Option<GroupSettings> {
    let mut fields = fields_of(&settings);
    fields.insert(name.to_owned(), value.clone());
    serde_json::from_value(Value::Object(fields)).ok()
}

/// Every setting by name, `null` where it is not set.
fn fields_of(settings: &GroupSettings) -> Map<String, Value> {
    let mut fields = match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    for name in Setting::NAMES {
        fields.entry(name).or_insert(Value::Null);
    }
    fields
}

/// [`GroupSettings`] by name.
pub(super) mod settings {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::{Map, Value};

    use super::{fields_of, with};
    use crate::GroupSettings;

    pub(in super::super) fn serialize<S: Serializer>(settings: &GroupSettings, to: S) -> Result<S::Ok, S::Error> {
        fields_of(settings).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GroupSettings, D::Error> {
        let stored = Map::<String, Value>::deserialize(from)?;
        if let Ok(settings) = serde_json::from_value(Value::Object(stored.clone())) {
            return Ok(settings);
        }
        // One setting at a time, without those that this version does not understand.
        let known = stored.iter().filter(|(name, _)| crate::Setting::NAMES.contains(&name.as_str()));
        Ok(known.fold(GroupSettings::default(), |settings, (name, value)| {
            with(settings.clone(), name, value).unwrap_or(settings)
        }))
    }
}

/// The times of the settings' last changes: by name, without those that are not known.
pub(super) mod settings_at {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use serde_json::Value;

    use super::FIRST_SETTINGS;
    use crate::Setting;

    type Times = [u32; Setting::COUNT];

    pub(in super::super) fn serialize<S: Serializer>(times: &Times, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(Setting::NAMES.iter().zip(times).filter(|(_, at)| **at > 0))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Times, D::Error> {
        let stored = Value::deserialize(from)?;
        let at = |name: &str| match &stored {
            Value::Array(list) => list.get(FIRST_SETTINGS.iter().position(|first| *first == name)?),
            stored => stored.get(name),
        };
        Ok(Setting::NAMES.map(|name| at(name).and_then(Value::as_u64).and_then(|at| at.try_into().ok()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{CommunityRole, GroupRecord, Role};
    use super::*;
    use crate::Who;

    /// A record exactly as earlier versions wrote it.
    const FIRST: &str = r#"{"id":"120363000000000001@g.us","subject":"Crew","subject_at":1700000001,"description":"Who works when","description_id":"3EB0A1","description_at":1700000002,"owner":{"phone":15550100001,"lid":null},"created_at":1700000000,"settings":{"announce":true,"locked":false,"ephemeralSeconds":86400,"membershipApproval":false,"memberLinkMode":"admins","limitSharing":false,"noFrequentlyForwarded":false,"allowAdminReports":false,"groupHistory":true},"settings_at":[1700000003,0,1700000004,0,0,0,0,0,0,0,1700000005],"linked_parent":"120363000000000002@g.us","is_community":false,"community_role":"Announcements","lid_addressing":true,"participants_version":1700000006,"admins_version":1700000007,"members":[[15550100001,81000000000001,"s"],[0,81000000000002,"a"],[15550100003,0,"m"]]}"#;

    fn read(json: &str) -> GroupRecord {
        serde_json::from_str(json).unwrap()
    }

    fn without(field: &str) -> String {
        let mut record: Value = serde_json::from_str(FIRST).unwrap();
        record.as_object_mut().unwrap().remove(field).unwrap();
        record.to_string()
    }

    #[test]
    fn a_record_of_before_is_read_in_whole_and_written_by_name() {
        let record = read(FIRST);
        assert_eq!((record.subject.as_str(), record.members.len()), ("Crew", 3));
        assert_eq!(
            record.members.iter().map(|m| m.role).collect::<Vec<_>>(),
            [Role::SuperAdmin, Role::Admin, Role::Member]
        );
        assert_eq!(record.settings_at, [1_700_000_003, 0, 1_700_000_004, 0, 0, 0, 0, 0, 0, 0, 1_700_000_005]);
        assert_eq!(record.settings.member_link_mode, Some(Who::Admins));
        assert!(record.settings.announce && record.settings.group_history && record.lid_addressing);
        assert_eq!((record.community_role, record.admins_version), (CommunityRole::Announcements, Some(1_700_000_007)));
        assert!(unread_settings(FIRST.as_bytes()).is_empty());
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(read(&written), record);
        assert!(unread_settings(written.as_bytes()).is_empty());
        let times =
            json!({"announce": 1_700_000_003, "ephemeralSeconds": 1_700_000_004, "groupHistory": 1_700_000_005});
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap()["settings_at"], times);
    }

    #[test]
    fn a_record_with_a_field_more_or_less_is_read() {
        let whole: Value = serde_json::from_str(FIRST).unwrap();
        for field in whole.as_object().unwrap().keys().filter(|field| *field != "id") {
            assert_eq!(read(&without(field)).id, read(FIRST).id, "without `{field}`");
        }
        let mut more = whole.clone();
        more["something"] = json!({"new": []});
        more["community_role"] = json!("SomethingNew");
        let more = read(&more.to_string());
        assert_eq!(GroupRecord { community_role: CommunityRole::Announcements, ..more }, read(FIRST));
    }

    #[test]
    fn a_setting_more_or_less_leaves_the_others_as_they_are() {
        let record = read(FIRST);
        let mut written = serde_json::to_value(&record).unwrap();
        // As a version with one setting less writes the record.
        written["settings"].as_object_mut().unwrap().remove("announce");
        written["settings_at"].as_object_mut().unwrap().remove("announce");
        let read_again = read(&written.to_string());
        let mut expected = record.clone();
        (expected.settings.announce, expected.settings_at[0]) = (false, 0);
        assert_eq!(read_again, expected);
        assert_eq!(unread_settings(written.to_string().as_bytes()), ["announce"]);
        // As a version with one more setting and one more value writes it.
        written["settings"]["announce"] = json!(true);
        written["settings"]["something"] = json!("new");
        written["settings"]["memberLinkMode"] = json!("moderators");
        written["settings_at"]["something"] = json!(1);
        written["settings_at"]["announce"] = json!(1_700_000_003);
        let mut expected = record;
        expected.settings.member_link_mode = None;
        assert_eq!(read(&written.to_string()), expected);
        assert_eq!(unread_settings(written.to_string().as_bytes()), ["memberLinkMode"]);
    }
}
