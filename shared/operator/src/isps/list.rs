//! Domains from a list: one per line, or a table of addresses, of which only the part after the `@` is kept.

use std::io::{self, BufRead, Read as _};

use replay::domains::DomainBook;
use reputation::address::normal_domain;

/// A longer line is read in pieces of this many bytes: a file that is not a list may have no lines.
const MAX_LINE: u64 = 64 << 10;

/// The counts of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Lines with a domain.
    pub(crate) lines: u64,
    /// Other lines without a domain, except blank lines and comments: a header, for example.
    pub(crate) without: u64,
    /// Domains and addresses that count towards no rate: own domains, the mailbox simulator.
    pub(crate) left_out: u64,
}

/// Reads a list into the book, each domain as one mail. `counts`: whether mail to a domain counts.
pub(crate) fn read(mut list: impl BufRead, book: &mut DomainBook, counts: impl Fn(&str) -> bool) -> io::Result<Listed> {
    let mut listed = Listed::default();
    let (mut line, mut rest, mut is_within) = (Vec::new(), Vec::new(), false);
    loop {
        line.clear();
        line.append(&mut rest);
        if list.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 && line.is_empty() {
            return Ok(listed);
        }
        // A piece ends at the end of a field; the next one begins with the rest.
        if line.len() as u64 >= MAX_LINE
            && !line.ends_with(b"\n")
            && let Some(last) = line.iter().rposition(|byte| separates(char::from(*byte)))
        {
            rest = line.split_off(last + 1);
        }
        let continues = std::mem::replace(&mut is_within, !line.ends_with(b"\n"));
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() || (text.starts_with('#') && !continues) {
            continue;
        }
        let domains = domains(text);
        listed.lines += u64::from(!domains.is_empty());
        listed.without += u64::from(domains.is_empty());
        for domain in domains {
            if counts(&domain) {
                book.count(&domain);
            } else {
                listed.left_out += 1;
            }
        }
    }
}

/// The domains of one line: after each `@`; without any, the first field, if it is a domain.
fn domains(line: &str) -> Vec<String> {
    let mut fields = line.split(separates).filter(|field| !field.is_empty());
    if !line.contains('@') {
        return fields.next().and_then(domain).into_iter().collect();
    }
    fields.filter_map(|field| domain(field.rsplit_once('@')?.1)).collect()
}

fn separates(c: char) -> bool {
    // A byte that is not ASCII may be part of a letter; nothing else is known about it.
    c.is_ascii_whitespace() || matches!(c, ',' | ';' | '|' | '"' | '\'' | '<' | '>' | '(' | ')')
}

/// A domain in normal form: two labels or more, so that a plain word is not taken for a domain.
fn domain(text: &str) -> Option<String> {
    let normal = normal_domain(text).ok()?;
    (normal.contains('.') && !normal.starts_with('[')).then(|| normal.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reputation::isp::IspMap;

    use super::*;

    fn listed(text: &str) -> (Vec<(String, u64)>, Listed) {
        let mut book = DomainBook::new(IspMap::builtin());
        let listed = read(text.as_bytes(), &mut book, |domain| domain != "own.example").unwrap();
        (book.domains().map(|(domain, known)| (domain.to_owned(), known.mails.count())).collect(), listed)
    }

    #[test]
    fn a_list_of_domains_is_read_line_by_line() {
        let (domains, found) =
            listed("\u{feff}a.example\r\n# a comment\n\nB.Example.\na.example\nown.example\nlocalhost\n");
        assert_eq!(domains, [("a.example".to_owned(), 2), ("b.example".to_owned(), 1)]);
        assert_eq!(found, Listed { lines: 4, without: 1, left_out: 1 });
    }

    #[test]
    fn of_a_table_of_addresses_only_domains_are_kept() {
        let text =
            "email,name\n\"bob@a.example\",\"Bob B. Smith\"\n'Amy' <amy+x@B.example>;2026\ncarl@a.example\tx\nno one\n";
        let (domains, found) = listed(text);
        assert_eq!(domains, [("a.example".to_owned(), 2), ("b.example".to_owned(), 1)]);
        assert_eq!(found, Listed { lines: 3, without: 2, left_out: 0 });
    }

    #[test]
    fn a_line_without_an_end_is_read_in_pieces() {
        let text = format!("{}\nb@b.example\n", "a@a.example,".repeat(20_000));
        let (domains, found) = listed(&text);
        let counted = |wanted: &str| domains.iter().find(|(domain, _)| domain == wanted).map_or(0, |(_, mails)| *mails);
        assert_eq!((counted("a.example"), counted("b.example")), (20_000, 1), "{domains:?}");
        assert!(found.lines > 2);
    }

    proptest! {
        #[test]
        fn no_list_panics_and_no_address_is_kept(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut book = DomainBook::new(IspMap::builtin());
            read(&bytes[..], &mut book, |_| true).unwrap();
            prop_assert!(book.domains().all(|(domain, _)| !domain.contains('@')));
        }
    }
}
