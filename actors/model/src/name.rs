//! Names of people, by where they are from.

use serde::{Deserialize, Serialize};

/// Where a name is from. The later one wins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NameSource {
    /// What the person calls themselves (WhatsApp's push name).
    #[serde(rename = "p")]
    Push,
    /// The address book of the session's phone.
    #[serde(rename = "c")]
    Contact,
}
