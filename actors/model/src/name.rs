//! Names of people, by where they are from.

use serde::{Deserialize, Serialize};

/// Where a name is from. A name from a later source in this list replaces one from an earlier source.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NameSource {
    /// The name that the person chose (WhatsApp's push name).
    #[serde(rename = "p")]
    Push,
    /// The address book of the session's phone.
    #[serde(rename = "c")]
    Contact,
}
