//! Makes strings from outside safe for a terminal.
//!
//! Senders choose the names in events, and others choose file names. On a terminal, an escape sequence in one of them could
//! wipe the screen, and a direction mark could make one name look like another.
//!
//! **Invariant:** every string from outside that appears in a text or on standard error has passed through here.

/// Longer names are cut in the middle: their ends distinguish them.
const MAX_CHARACTERS: usize = 80;

/// A string without anything that a terminal would act on: control characters, line separators and direction marks are written
/// as `\u{1b}`. Safe characters are kept.
pub fn sanitize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A safe name, cut in the middle where it is very long.
pub fn name(text: &str) -> String {
    let text = sanitize(text);
    let count = text.chars().count();
    if count <= MAX_CHARACTERS {
        return text;
    }
    let head: String = text.chars().take(MAX_CHARACTERS / 2).collect();
    let tail: String = text.chars().skip(count - (MAX_CHARACTERS / 2 - 1)).collect();
    format!("{head}…{tail}")
}

fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let check = |text: &str, expected: &str| assert_eq!(sanitize(text), expected);
        check("configuration-set:news @ gmail", "configuration-set:news @ gmail");
        check("größe 日本 🙂", "größe 日本 🙂");
        check("\x1b[2Jgone", "\\u{1b}[2Jgone");
        check("a\r\nb\tc\0\x7f", "a\\u{d}\\u{a}b\\u{9}c\\u{0}\\u{7f}");
        check("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}");
        check("\u{202e}gpj\u{202c} \u{2066}x\u{2069}", "\\u{202e}gpj\\u{202c} \\u{2066}x\\u{2069}");
        check("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c");
    }

    #[test]
    fn long_names_keep_their_ends() {
        let fits = "n".repeat(80);
        assert_eq!(name(&fits), fits);
        let long = format!("{}{}", "a".repeat(100), "z".repeat(100));
        assert_eq!(name(&long), format!("{}…{}", "a".repeat(40), "z".repeat(39)));
    }

    proptest! {
        #[test]
        fn nothing_obeyed_is_left_and_cleaning_twice_changes_nothing(text in any::<String>()) {
            let clean = sanitize(&text);
            prop_assert!(!clean.chars().any(is_obeyed));
            prop_assert_eq!(sanitize(&clean), clean);
            prop_assert!(name(&text).chars().count() <= MAX_CHARACTERS);
        }
    }
}
