//! A group as JSON, written by hand where it is long: the same bytes as from serde, but field names and ids are not
//! searched for characters to escape. Never does IO.

use super::{Group, Participant};

/// A participant without a name: few people have one.
const PARTICIPANT_BYTES_EXPECTED: usize = 96;
/// A group without its participants.
const GROUP_BYTES_EXPECTED: usize = 1024;

impl Group {
    /// The bytes that its `Serialize` writes.
    ///
    /// # Errors
    /// Never for a group as WhatsApp describes it; the error type is that of serde's writers.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::with_capacity(GROUP_BYTES_EXPECTED + self.participants.len() * PARTICIPANT_BYTES_EXPECTED);
        serde_json::to_writer(&mut json, &self.without_participants())?;
        // The participants are the last field: the end that is cut off here is written again below.
        let end = b"]}";
        debug_assert!(json.ends_with(b"\"participants\":[]}"), "another field has become the last one");
        json.truncate(json.len() - end.len());
        for (index, participant) in self.participants.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            participant.write_json(&mut json)?;
        }
        json.extend_from_slice(end);
        Ok(json)
    }

    fn without_participants(&self) -> Self {
        Self {
            id: self.id.clone(),
            name: self.name.clone(),
            description: self.description.clone(),
            owner: self.owner,
            created_at: self.created_at,
            is_read_only: self.is_read_only,
            is_announce: self.is_announce,
            settings: self.settings.clone(),
            linked_parent_jid: self.linked_parent_jid.clone(),
            is_community: self.is_community,
            incomplete: self.incomplete,
            participants: Vec::new(),
        }
    }
}

impl Participant {
    fn write_json(&self, json: &mut Vec<u8>) -> serde_json::Result<()> {
        let id = self.id.text();
        json.extend_from_slice(b"{\"id\":\"");
        json.extend_from_slice(id.as_bytes());
        json.extend_from_slice(b"\",\"number\":\"");
        json.extend_from_slice(id.digits());
        json.push(b'"');
        if let Some(name) = &self.name {
            json.extend_from_slice(b",\"name\":");
            serde_json::to_writer(&mut *json, &**name)?;
        }
        let roles: &[u8] = match (self.is_admin, self.is_super_admin) {
            (false, false) => b",\"isAdmin\":false,\"isSuperAdmin\":false}",
            (false, true) => b",\"isAdmin\":false,\"isSuperAdmin\":true}",
            (true, false) => b",\"isAdmin\":true,\"isSuperAdmin\":false}",
            (true, true) => b",\"isAdmin\":true,\"isSuperAdmin\":true}",
        };
        json.extend_from_slice(roles);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupSettings, ParticipantId};

    #[test]
    fn what_is_written_by_hand_is_what_serde_writes() {
        let person = |id, name: Option<&str>, is_admin, is_super_admin| Participant {
            id,
            name: name.map(Into::into),
            is_admin,
            is_super_admin,
        };
        let participants = vec![
            person(ParticipantId::Phone(15_550_100_001), None, true, true),
            person(ParticipantId::Phone(15_550_100_002), Some("Alice \"quoted\" \\ \u{1}\n\u{1f426}"), true, false),
            person(ParticipantId::Lid(123_456_789_012_345), Some(""), false, false),
            person(ParticipantId::Lid(1), None, false, true),
        ];
        let empty = Group {
            id: "120363021234567890@g.us".parse().unwrap(),
            name: "Project \"Team\"".into(),
            description: None,
            owner: None,
            created_at: None,
            is_read_only: false,
            is_announce: true,
            settings: GroupSettings::default(),
            linked_parent_jid: None,
            incomplete: false,
            is_community: false,
            participants: Vec::new(),
        };
        let full = Group {
            description: Some("\"participants\":[]}".into()),
            owner: Some(ParticipantId::Lid(7)),
            created_at: Some(1_700_000_000),
            incomplete: true,
            participants,
            ..empty.clone()
        };
        for group in [empty, full] {
            assert_eq!(group.to_json().unwrap(), serde_json::to_vec(&group).unwrap());
        }
    }
}
