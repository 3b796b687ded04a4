//! Wording that several texts for people share: names of keys, quoting for a shell.

use reputation::isp::IspMap;
use reputation::subject::Key;

/// A key as people write it: `configuration-set:news`, `configuration-set:news@gmail`.
pub fn key_name(key: &Key, isps: &IspMap) -> String {
    match key.isp {
        None => key.subject.to_string(),
        Some(isp) => format!("{}@{}", key.subject, isps.name(isp)),
    }
}

/// A text quoted as one word for a command line. Control characters, which no name has, become question marks.
pub(crate) fn shell_quote(word: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    let word: String = word.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// With a capital letter.
pub(crate) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
