//! Phone numbers and ids as people write them, the other spelling under which WhatsApp may know a number, and what is known of it.
//! Pure functions.

use std::num::NonZeroU64;

use crate::group_record::ParticipantIds;
use crate::id::{GroupId, IdError, ParticipantId};

/// What is known of a phone number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NumberAnswer {
    /// The number that was asked.
    pub number: NonZeroU64,
    /// Its account by the ids under which WhatsApp knows it; `None` when it has none.
    pub account: Option<ParticipantIds>,
}

/// Digits of the longest phone number (E.164).
const PHONE_DIGITS_MAX: usize = 15;
/// Digits of the number of a device, or of an agent, behind an id.
const DEVICE_DIGITS_MAX: usize = 5;

impl ParticipantId {
    /// Reads an id as a caller may write it: a phone number in international form, with or without `+` or `00` in front, with
    /// blanks, dots, dashes and brackets between the digits; or an id with its server (`@c.us`, `@s.whatsapp.net`, `@lid`), also
    /// that of a device (`628123456789:3@s.whatsapp.net`). The strict form is [`str::parse`].
    ///
    /// # Errors
    /// [`IdError::Participant`], with the text as it was given.
    pub fn parse_written(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Participant(text.into());
        let plain: String = text.chars().filter(|c| !is_invisible(*c)).collect();
        let (user, server) = match plain.split_once('@') {
            Some((user, server)) => (without_device(user).ok_or_else(wrong)?, Some(server.trim())),
            None => (plain.as_str(), None),
        };
        let is_lid = server == Some("lid");
        let digits = if is_lid { user.trim().to_owned() } else { digits_of(user).ok_or_else(wrong)? };
        if !is_lid && digits.len() > PHONE_DIGITS_MAX {
            return Err(wrong());
        }
        let strict = format!("{digits}@{}", server.unwrap_or("c.us"));
        strict.parse().map_err(|_| wrong())
    }

    /// The other spelling of a phone number of a country whose numbers changed; `None` for all others, and for LIDs. WhatsApp
    /// knows an account under the spelling of the time when it was made.
    ///
    /// Brazil (55): mobile numbers got a `9` behind the two digits of the area. Mexico (52): mobile numbers had a `1` behind the
    /// country's code. Argentina (54): mobile numbers have a `9` behind the country's code when they are called from abroad.
    #[must_use]
    pub fn other_spelling(self) -> Option<Self> {
        let Self::Phone(number) = self else { return None };
        let digits = number.to_string();
        let other = match (digits.get(..2)?, digits.len()) {
            ("55", 12) if is_brazilian_mobile(&digits[4..]) => format!("{}9{}", &digits[..4], &digits[4..]),
            ("55", 13) if digits.as_bytes()[4] == b'9' && is_brazilian_mobile(&digits[5..]) => {
                format!("{}{}", &digits[..4], &digits[5..])
            }
            ("52", 12) => format!("521{}", &digits[2..]),
            ("52", 13) => format!("52{}", digits.strip_prefix("521")?),
            ("54", 12) => format!("549{}", &digits[2..]),
            ("54", 13) => format!("54{}", digits.strip_prefix("549")?),
            _ => return None,
        };
        other.parse().ok().map(Self::Phone)
    }
}

impl GroupId {
    /// Reads a group's id as a caller may write it: with or without `@g.us`. The strict form is [`str::parse`].
    ///
    /// # Errors
    /// [`IdError::Group`], with the text as it was given.
    pub fn parse_written(text: &str) -> Result<Self, IdError> {
        let plain: String = text.chars().filter(|c| !is_invisible(*c)).collect();
        let plain = plain.trim();
        Self::from_user(plain.strip_suffix("@g.us").unwrap_or(plain)).map_err(|_| IdError::Group(text.into()))
    }
}

/// The eight digits of a mobile number before the ninth was put in front of them: landlines begin with 2 to 5.
fn is_brazilian_mobile(local: &str) -> bool {
    local.len() == 8 && matches!(local.as_bytes()[0], b'6'..=b'9')
}

/// The user of an id with a server: what stands before the number of a device, and before that of an agent where there is a device
/// (`user:device`, `user.agent:device`); `None` when these are no numbers, and for any other dot, which is no separator here.
fn without_device(user: &str) -> Option<&str> {
    let is_number =
        |text: &str| (1..=DEVICE_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((user, device)) = user.split_once(':') else { return (!user.contains('.')).then_some(user) };
    let (user, agent) = user.split_once('.').map_or((user, None), |(user, agent)| (user, Some(agent)));
    [device.trim()].into_iter().chain(agent).all(is_number).then_some(user)
}

/// The digits of a phone number behind its `+` or `00`; `None` when something is in it that is no part of a number. A zero behind an
/// opening bracket (`+44 (0)20 ...`) is dialled in some countries and not in others: nobody can say which number is meant.
fn digits_of(text: &str) -> Option<String> {
    let compact: String = text.chars().filter(|c| !is_separator(*c)).collect();
    if compact.contains("(0") || compact.contains("[0") {
        return None;
    }
    let bare: String = compact.chars().filter(|c| !matches!(c, '(' | ')' | '[' | ']')).collect();
    let digits = match bare.strip_prefix('+') {
        Some(international) => international,
        None => bare.strip_prefix("00").unwrap_or(&bare),
    };
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.to_owned())
}

/// Characters between the digits of a number: blanks, dots and dashes.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '.' | '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE63}' | '\u{FF0D}')
}

/// Marks that come with a copied number and are not seen: of the direction of writing, of zero width, and the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{AD}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_ten_spellings_is_one_person() {
        let spellings = [
            "5584999990001",
            "+5584999990001",
            "005584999990001",
            "+55 (84) 99999-0001",
            "+55 84 9.9999.0001",
            "00 55 84 99999 0001",
            "\u{202A}+55\u{A0}84\u{A0}99999\u{2011}0001\u{202C}",
            " 55-84-99999-0001 ",
            "5584999990001@c.us",
            "5584999990001@s.whatsapp.net",
            "5584999990001:3@s.whatsapp.net",
            "5584999990001.0:3@s.whatsapp.net",
            "+55 84 99999-0001@c.us",
        ];
        for text in spellings {
            assert_eq!(ParticipantId::parse_written(text), Ok(ParticipantId::Phone(5_584_999_990_001)), "{text}");
        }
        let lid = Ok(ParticipantId::Lid(810_103_492_323_469));
        assert_eq!(ParticipantId::parse_written("810103492323469@lid"), lid);
        assert_eq!(ParticipantId::parse_written("810103492323469:12@lid"), lid);
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_text() {
        let texts = [
            "",
            "+",
            "00",
            "alice",
            "084 99999-0001",
            "+0584999990001",
            "++5584999990001",
            "55+84999990001",
            "+44 (0)20 7946 0958",
            "+44 ( 0 ) 20 7946 0958",
            "+44 [0] 20 7946 0958",
            "+44 (020) 7946 0958",
            "+55 84 9.9999.0001@c.us",
            "+55 84 99999.0001@c.us",
            "5584999990001.1@c.us",
            "5584999990001.x:3@c.us",
            "120363021234567890",
            "5584999990001,5584999990002",
            "5584999990001/2",
            "5584999990001:3",
            "5584999990001:@c.us",
            "5584999990001:999999@c.us",
            "5584999990001@g.us",
            "+810103492323469@lid",
            "8101 0349@lid",
            "٥٥٨٤٩٩٩٩٩٠٠٠١",
            "5.5e12",
        ];
        for text in texts {
            assert_eq!(ParticipantId::parse_written(text), Err(IdError::Participant(text.into())), "{text}");
        }
    }

    #[test]
    fn numbers_of_three_countries_have_another_spelling_each_way() {
        let pairs = [
            (525_550_100_077, 5_215_550_100_077),
            (558_499_990_001, 5_584_999_990_001),
            (541_155_501_234, 5_491_155_501_234),
        ];
        for (one, other) in pairs.map(|(one, other)| (ParticipantId::Phone(one), ParticipantId::Phone(other))) {
            assert_eq!((one.other_spelling(), other.other_spelling()), (Some(other), Some(one)));
        }
    }

    #[test]
    fn other_numbers_have_one_spelling() {
        let numbers = [
            15_550_100_001,
            // A landline in Brazil, and numbers of the three countries that are too short or too long.
            558_433_330_001,
            5_584_933_330_001,
            55_849_999_000,
            55_849_999_900_012,
            52_555_010_007,
            5_225_550_100_077,
            5_411_555_012,
            5_411_555_012_345,
            7,
        ];
        for number in numbers {
            assert_eq!(ParticipantId::Phone(number).other_spelling(), None, "{number}");
        }
        assert_eq!(ParticipantId::Lid(525_550_100_077).other_spelling(), None);
    }

    #[test]
    fn a_group_is_read_with_and_without_its_suffix() {
        for text in ["120363021234567890@g.us", "120363021234567890", " 120363021234567890@g.us\u{200E}"] {
            assert_eq!(GroupId::parse_written(text).map(|id| id.to_string()), Ok("120363021234567890@g.us".into()));
        }
        assert!(GroupId::parse_written("15550100001-1400000000").is_ok());
        for text in ["", "@g.us", "120363021234567890@c.us", "120363021234567890@g.us@g.us", "team"] {
            assert_eq!(GroupId::parse_written(text), Err(IdError::Group(text.into())), "{text}");
        }
    }
}
