//! Commands to paste into a shell.

/// A word that a POSIX shell takes literally.
///
/// Not by the crate `shlex`: it would also quote `tag:NAME=VALUE`, and a shell takes `=`, `,` and `%` there as they are.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":.-_=@/+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A command in lines of at most `width` columns, which a shell joins again. A longer word has its own line.
pub fn command(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = " ".to_owned();
    for word in words {
        // The line may have to end in ` \`.
        if line.trim().is_empty() || line.chars().count() + 1 + word.chars().count() + 2 <= width {
            line.push(' ');
        } else {
            lines.push(format!("{line} \\"));
            line = "    ".to_owned();
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        let check = |word: &str, expected: &str| assert_eq!(quoted(word), expected);
        check("events/2026-10-06.ndjson.gz", "events/2026-10-06.ndjson.gz");
        check("more/*.json", "'more/*.json'");
        check("tag:campaign=it's", r"'tag:campaign=it'\''s'");
        check("configuration-set:(none)", "'configuration-set:(none)'");
        check("", "''");
    }
}
