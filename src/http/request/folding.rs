//! Text as people search for it: without case and accents, whatever script it is in. Never decides what is searched.

use std::iter::once;

use icu_normalizer::DecomposingNormalizerBorrowed;

const NORMALIZER: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfkd();

/// The folded text: it is the same for every way to write a text in upper or lower case, with or without accents,
/// composed or not, in full or half width.
pub(crate) fn folded(text: &str) -> String {
    let plain = NORMALIZER.normalize(text);
    let plain = plain.chars().filter(|character| !is_accent(*character)).flat_map(without_stroke);
    // To lower, upper and lower case, so that letters with two upper or lower cases are one; character by character, so
    // that a letter is the same at the end of a word.
    let cased = plain.flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let cased: String = cased.collect();
    NORMALIZER.normalize(&cased).chars().filter(|character| !is_accent(*character)).collect()
}

/// Marks above, below and through letters, and the vowel points of Hebrew and Arabic, which most people leave out. The
/// vowel signs of other scripts are letters to their readers.
fn is_accent(character: char) -> bool {
    matches!(
        character,
        '\u{300}'..='\u{36f}'
            | '\u{591}'..='\u{5bd}'
            | '\u{5bf}'
            | '\u{5c1}'..='\u{5c2}'
            | '\u{5c4}'..='\u{5c5}'
            | '\u{5c7}'
            | '\u{610}'..='\u{61a}'
            | '\u{64b}'..='\u{65f}'
            | '\u{670}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

/// Letters that Unicode does not take apart, as people type them on a keyboard without the marks.
fn without_stroke(character: char) -> impl Iterator<Item = char> {
    let (first, second) = match character {
        'ø' | 'Ø' => ('o', None),
        'đ' | 'Đ' | 'ð' | 'Ð' => ('d', None),
        'ł' | 'Ł' => ('l', None),
        'ħ' | 'Ħ' => ('h', None),
        'ŧ' | 'Ŧ' => ('t', None),
        'ı' => ('i', None),
        'æ' | 'Æ' => ('a', Some('e')),
        'œ' | 'Œ' => ('o', Some('e')),
        other => (other, None),
    };
    once(first).chain(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_ways_of_writing_make_no_difference() {
        for (written, searched) in [
            ("Água", "agua"),
            ("A\u{301}gua", "ÁGUA"),
            ("Straße", "STRASSE"),
            ("STRAẞE", "strasse"),
            ("Ærø, Łódź, Đà Nẵng", "aero, lodz, da nang"),
            ("İstanbul", "istanbul"),
            ("DIYARBAKIR", "diyarbakır"),
            ("ΌΣΟΣ", "οσος"),
            ("όσος", "ΟΣΟΣ"),
            ("Ёлка", "елка"),
            ("ﬁﬂ Ｔｅａｍ ①", "fifl team 1"),
            ("שָׁלוֹם", "שלום"),
            ("مُحَمَّد", "محمد"),
            ("한국", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}"),
        ] {
            assert_eq!(folded(written), folded(searched), "{written} {searched}");
        }
        for (one, other) in [("が", "か"), ("कि", "का"), ("agua", "aqua"), ("🎉", "")] {
            assert_ne!(folded(one), folded(other), "{one} {other}");
        }
    }

    #[test]
    fn folding_twice_changes_nothing_more() {
        for text in ["Água", "ΌΣΟΣ", "İ", "ŉ", "ǰ", "ẞ", "ᾳ", "Ⅷ", "ﷺ"] {
            let once = folded(text);
            assert_eq!(folded(&once), once, "{text}");
        }
    }
}
