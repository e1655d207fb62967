//! Invisible characters, which can make a text look different from what it is. Tables only.

/// Whether this character controls how text is shown rather than being text: control characters, ends of lines, and
/// characters that turn the direction of the text behind them.
pub(crate) fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether this character shows nothing: blanks of all kinds, control characters, and characters that programs ignore
/// by Unicode's rules (`Default_Ignorable_Code_Point`), such as a byte order mark or a zero-width space.
pub(crate) fn is_invisible(character: char) -> bool {
    character.is_whitespace()
        || is_control(character)
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}
