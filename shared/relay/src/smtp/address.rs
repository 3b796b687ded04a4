//! The paths of MAIL and RCPT: `<address>` and nothing else.
//!
//! RFC 5321, section 4.1.2, without what SES cannot send to: source routes, address literals, and addresses without a
//! domain. **Invariant:** an address that is let through has no control character, no line end and no blank outside
//! quotes, and exactly one `@` outside quotes.

/// The longest local part in bytes: RFC 5321, section 4.5.3.1.1.
const MAX_LOCAL_BYTES: usize = 64;
/// The longest domain in bytes, so that a path with its brackets has no more than 256: section 4.5.3.1.3.
const MAX_DOMAIN_BYTES: usize = 253;
/// The longest label of a domain: RFC 1035.
const MAX_LABEL_BYTES: usize = 63;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPath {
    /// Not `<address>`.
    Syntax,
    /// `<@relay:address>`: where mail goes is not the client's choice.
    SourceRoute,
    /// `user@[192.0.2.1]`: SES sends to domains.
    Literal,
    /// Characters outside ASCII in a transaction without SMTPUTF8.
    NotAscii,
}

/// Splits `<address> rest` into the address, which is not checked yet, and the rest.
pub(crate) fn split_path(text: &str) -> Result<(&str, &str), BadPath> {
    let inside = text.strip_prefix('<').ok_or(BadPath::Syntax)?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Ok((&inside[..at], &inside[at + 1..])),
            _ => {}
        }
    }
    Err(BadPath::Syntax)
}

/// Checks a mailbox: `local@domain`.
pub(crate) fn check(address: &str, utf8: bool) -> Result<(), BadPath> {
    if address.starts_with('@') {
        return Err(BadPath::SourceRoute);
    }
    let domain = if address.starts_with('"') { quoted_local(address)? } else { dotted_local(address)? };
    if domain.starts_with('[') {
        return Err(BadPath::Literal);
    }
    check_domain(domain)?;
    if utf8 || address.is_ascii() { Ok(()) } else { Err(BadPath::NotAscii) }
}

/// Whether two addresses are one mailbox: the domain has no case.
pub(crate) fn same(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((one, domain)), Some((other, other_domain))) => one == other && domain.eq_ignore_ascii_case(other_domain),
        _ => one == other,
    }
}

/// Checks `"local"@`, and returns the domain.
fn quoted_local(address: &str) -> Result<&str, BadPath> {
    let mut escaped = false;
    for (at, character) in address.char_indices().skip(1) {
        if !matches!(character, ' '..='~') && !is_plain(character) {
            return Err(BadPath::Syntax);
        }
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if at >= MAX_LOCAL_BYTES => return Err(BadPath::Syntax),
            '"' => return address[at + 1..].strip_prefix('@').ok_or(BadPath::Syntax),
            _ => {}
        }
    }
    Err(BadPath::Syntax)
}

/// Checks `local@`, and returns the domain.
fn dotted_local(address: &str) -> Result<&str, BadPath> {
    let (local, domain) = address.split_once('@').ok_or(BadPath::Syntax)?;
    let atom = |atom: &str| !atom.is_empty() && atom.chars().all(|c| is_atext(c) || is_plain(c));
    if local.len() <= MAX_LOCAL_BYTES && local.split('.').all(atom) { Ok(domain) } else { Err(BadPath::Syntax) }
}

fn check_domain(domain: &str) -> Result<(), BadPath> {
    let label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || is_plain(c))
    };
    if domain.len() <= MAX_DOMAIN_BYTES && domain.split('.').all(label) { Ok(()) } else { Err(BadPath::Syntax) }
}

fn is_atext(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(character)
}

/// Whether a character outside ASCII may be part of an address: no blank, nothing invisible, and nothing that becomes
/// an `@` or a dot when a program normalises it.
fn is_plain(character: char) -> bool {
    !character.is_ascii()
        && !character.is_control()
        && !character.is_whitespace()
        && !matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2024}'..='\u{2026}'
                | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3002}' | '\u{fe52}' | '\u{fe6b}'
                | '\u{feff}' | '\u{ff00}'..='\u{ffef}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_that_pass_and_addresses_that_do_not() {
        let long_local = "a".repeat(64);
        let long_label = format!("a@{}.example", "b".repeat(63));
        let longest = format!("{long_local}@{}.example", ["b".repeat(60).as_str(); 4].join("."));
        for (address, expected) in [
            ("ann@example.com", Ok(())),
            ("Ann.O'Neil+tag=1@sub.example.com", Ok(())),
            ("root@localhost", Ok(())),
            (r#""ann lee"@example.com"#, Ok(())),
            (r#""ann \"the\" <b@c>, lee"@example.com"#, Ok(())),
            (r#""@"@example.com"#, Ok(())),
            (&format!("{long_local}@example.com"), Ok(())),
            (&format!("{long_local}a@example.com"), Err(BadPath::Syntax)),
            (&long_label, Ok(())),
            (&longest, Ok(())),
            (&format!("{longest}xxxxxx"), Err(BadPath::Syntax)),
            (&long_label.replace("@b", "@bb"), Err(BadPath::Syntax)),
            ("", Err(BadPath::Syntax)),
            ("ann", Err(BadPath::Syntax)),
            ("postmaster", Err(BadPath::Syntax)),
            ("@example.com", Err(BadPath::SourceRoute)),
            ("@relay.example:ann@example.com", Err(BadPath::SourceRoute)),
            ("ann@", Err(BadPath::Syntax)),
            ("ann@example..com", Err(BadPath::Syntax)),
            ("ann@.example.com", Err(BadPath::Syntax)),
            ("ann@example.com.", Err(BadPath::Syntax)),
            ("ann@-example.com", Err(BadPath::Syntax)),
            ("ann@exa_mple.com", Err(BadPath::Syntax)),
            ("ann@b@example.com", Err(BadPath::Syntax)),
            (".ann@example.com", Err(BadPath::Syntax)),
            ("ann.@example.com", Err(BadPath::Syntax)),
            ("ann..lee@example.com", Err(BadPath::Syntax)),
            ("ann lee@example.com", Err(BadPath::Syntax)),
            ("ann,bob@example.com", Err(BadPath::Syntax)),
            ("ann@example.com,bob@example.com", Err(BadPath::Syntax)),
            ("<ann@example.com", Err(BadPath::Syntax)),
            ("ann\r\nBcc: bob@example.com", Err(BadPath::Syntax)),
            ("\"ann\r\nlee\"@example.com", Err(BadPath::Syntax)),
            ("\"ann\0lee\"@example.com", Err(BadPath::Syntax)),
            (r#""ann"lee@example.com"#, Err(BadPath::Syntax)),
            (r#""ann\"@example.com"#, Err(BadPath::Syntax)),
            ("ann@[192.0.2.1]", Err(BadPath::Literal)),
            ("ann@[IPv6:2001:db8::1]", Err(BadPath::Literal)),
            ("ann@[]\r\n", Err(BadPath::Literal)),
        ] {
            assert_eq!(check(address, false), expected, "{address:?}");
            assert_eq!(check(address, true), expected, "{address:?} with SMTPUTF8");
        }
    }

    #[test]
    fn letters_outside_ascii_need_smtputf8_and_what_looks_like_another_character_never_passes() {
        for address in ["bjørn@example.com", "ann@bücher.example", "用户@例子.example", "\"bjørn lee\"@example.com"]
        {
            assert_eq!(check(address, false), Err(BadPath::NotAscii), "{address}");
            assert_eq!(check(address, true), Ok(()), "{address}");
        }
        for address in
            ["ann@exa\u{200b}mple.com", "ann\u{ff20}example.com@b.c", "ann@example\u{3002}com", "a\u{85}@b.c"]
        {
            assert_eq!(check(address, true), Err(BadPath::Syntax), "{address:?}");
        }
    }

    #[test]
    fn a_path_ends_at_its_bracket_outside_quotes() {
        for (path, expected) in [
            ("<a@b.c>", Ok(("a@b.c", ""))),
            ("<a@b.c> SIZE=1", Ok(("a@b.c", " SIZE=1"))),
            ("<>", Ok(("", ""))),
            (r#"<"a>b"@c.d>x"#, Ok((r#""a>b"@c.d"#, "x"))),
            (r#"<"a\">b"@c.d>"#, Ok((r#""a\">b"@c.d"#, ""))),
            ("a@b.c", Err(BadPath::Syntax)),
            (" <a@b.c>", Err(BadPath::Syntax)),
            ("<a@b.c", Err(BadPath::Syntax)),
            (r#"<"a@b.c>"#, Err(BadPath::Syntax)),
            ("", Err(BadPath::Syntax)),
        ] {
            assert_eq!(split_path(path), expected, "{path}");
        }
    }

    #[test]
    fn the_domain_has_no_case_and_the_local_part_has() {
        assert!(same("ann@EXAMPLE.com", "ann@example.COM"));
        assert!(!same("Ann@example.com", "ann@example.com"));
    }

    proptest! {
        #[test]
        fn nothing_that_passes_can_break_a_header(text in "\\PC{0,40}|[ -~\r\n\t\0\"\\\\@.<>]{0,40}", utf8: bool) {
            for address in [text.clone(), format!("{text}@example.com"), format!("\"{text}\"@example.com")] {
                if check(&address, utf8).is_ok() {
                    prop_assert!(!address.chars().any(char::is_control), "{address:?}");
                    let path = format!("<{address}>");
                    prop_assert_eq!(split_path(&path), Ok((address.as_str(), "")));
                }
            }
        }
    }
}
