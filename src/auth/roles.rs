//! The roles of keys: three, each including the ones below it. Never reads a request.

use serde::{Deserialize, Serialize};

/// The role of a key. A higher role includes the rights of the lower ones.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Reads.
    Viewer,
    /// Reads, and changes sessions and groups.
    Operator,
    /// Everything, keys included.
    Admin,
}

impl Role {
    /// Every role, in the order in which they are listed to callers.
    pub(crate) const ALL: [Self; 3] = [Self::Admin, Self::Operator, Self::Viewer];

    /// The word used in JSON.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role with this name, `None` when there is none.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::Role;

    #[test]
    fn a_role_includes_the_ones_below_it() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }

    #[test]
    fn a_role_is_read_by_the_word_it_is_written_as() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!(Role::parse("Admin"), None);
    }
}
