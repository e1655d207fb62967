//! The account's own profile. Never does IO.

use std::fmt;

/// A change of what others see of the account.
#[derive(Clone, PartialEq, Eq)]
pub enum ProfileChange {
    /// The name that it goes by.
    Name(String),
    /// The text about it; empty: none.
    About(String),
    /// Its picture, a square JPEG; `None`: none.
    Picture(Option<Vec<u8>>),
}

/// Shows nothing of it (P-1).
impl fmt::Debug for ProfileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(_) => "Name",
            Self::About(_) => "About",
            Self::Picture(_) => "Picture",
        })
    }
}
