//! Text of strangers, made fit for a line that people read.
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// `text` in one line, with everything escaped that could forge another, steer a terminal, or show it in another order
/// than it has: control characters, separators of lines, directions (UAX 9), and what cannot be seen.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_tricky) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_tricky(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean.into()
}

fn is_tricky(character: char) -> bool {
    let hidden = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    hidden || character.is_control()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_forge_or_turn_a_line_is_escaped() {
        assert_eq!(clean("Grüße, 世界"), "Grüße, 世界");
        assert_eq!(
            clean("a\nb\u{1b}[2J\u{202e}c\u{2028}\u{2029}\u{2066}\u{9b}"),
            "a\\nb\\u{1b}[2J\\u{202e}c\\u{2028}\\u{2029}\\u{2066}\\u{9b}"
        );
    }

    proptest! {
        #[test]
        fn nothing_tricky_is_left(text in "\\PC*|.*|[\u{0}-\u{ff}\u{2000}-\u{2070}]*") {
            let clean = clean(&text);
            prop_assert!(!clean.contains(is_tricky));
            prop_assert_eq!(clean == text, !text.contains(is_tricky));
        }
    }
}
