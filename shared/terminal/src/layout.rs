//! The width of texts, and wrapped lines.

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// How text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermStyle {
    /// Columns of the terminal.
    pub width: u16,
    /// Show every subject and every ISP, however many there are.
    pub everything: bool,
}

impl TermStyle {
    /// The width where there is no terminal.
    pub const NO_TERMINAL: u16 = 100;
    /// Lines of text longer than this are hard to read, however wide the terminal is.
    const WIDEST: u16 = 140;

    /// For a terminal of this many columns, if there is one.
    pub fn new(terminal: Option<u16>) -> TermStyle {
        TermStyle {
            width: terminal.map_or(TermStyle::NO_TERMINAL, |width| width.clamp(40, TermStyle::WIDEST)),
            everything: false,
        }
    }

    /// Columns, for arithmetic on lengths.
    pub fn columns(self) -> usize {
        usize::from(self.width)
    }
}

/// Words in lines of at most `width` columns; longer words have a line of their own. A number stays with its `%`.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let words: Vec<&str> = text.split([' ', '\n']).filter(|word| !word.is_empty()).collect();
    let bound = words.join(" ").replace(" %", "\u{a0}%");
    let options = Options::new(width)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(&bound, options).into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// Wrapped text, its first line after `lead` and the others under it.
pub fn hanging(lead: &str, text: &str, width: usize) -> String {
    // Not by textwrap's own indents: it drops the lead of an empty text, and spaces at the end of a lead.
    let indent = lead.chars().count();
    let lines = wrapped(text, width.saturating_sub(indent).max(20));
    format!("{lead}{}\n", lines.join(&format!("\n{}", " ".repeat(indent))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_loses_no_word_and_keeps_a_number_with_its_percent_sign() {
        let text = "10 of 45 attempts bounced hard (22 %) in mail of averyveryverylongword";
        for width in 1..80 {
            let lines = wrapped(text, width);
            assert_eq!(lines.join(" "), text);
            assert!(lines.iter().all(|line| !line.starts_with('%')));
        }
    }

    #[test]
    fn lines_hang_under_the_first_one() {
        assert_eq!(hanging("mail  ", "one two three four five", 26), "mail  one two three four\n      five\n");
        assert_eq!(hanging("mail  ", "", 26), "mail  \n");
    }
}
