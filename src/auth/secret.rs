//! An API key in plain text. Never kept beyond the answer that shows it, and never printed.

use std::fmt;

/// Marks a key as one of ours, so that secret scanners and people recognise it.
const PREFIX: &str = "rk_";
/// Randomness of a generated key.
const BYTES: usize = 32;
/// Characters of a generated key that are shown for recognition: 20 of its 256 bits.
const SHOWN_CHARS: usize = PREFIX.len() + 5;
/// Characters shown of a key that the operator chose: it may be guessable, so fewer.
const SHOWN_CHARS_CHOSEN: usize = 4;

/// An API key in plain text. Cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", hex::encode(bytes))))
    }

    /// The key itself, for the one answer that shows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The first characters, for recognition in lists.
    pub(super) fn shown_prefix(&self) -> String {
        let chars = if self.0.starts_with(PREFIX) { SHOWN_CHARS } else { SHOWN_CHARS_CHOSEN };
        self.0.chars().take(chars).collect()
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_prefixed_long_and_new_each_time() {
        let (first, second) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_eq!(first.reveal().len(), 67);
        assert!(first.reveal().starts_with("rk_") && first != second);
        assert_eq!(first.shown_prefix().len(), 8);
        assert_eq!(Secret::from("a-key-that-the-operator-has-chosen").shown_prefix(), "a-ke");
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        assert_eq!(format!("{:?}", Secret::from("rk_0123456789")), "Secret(..)");
    }
}
