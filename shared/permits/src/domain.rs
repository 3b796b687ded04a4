//! The domain that mail goes to.

use std::borrow::Cow;

use crate::error::Error;

/// The domain of an address or a domain, in lower case and without the dot at its end. An address is cut off at its
/// last `@`. The gate checks everything else.
///
/// # Errors
///
/// [`Error::Domain`].
pub(crate) fn domain_of(given: &str) -> Result<Cow<'_, str>, Error> {
    let domain = given.rsplit_once('@').map_or(given, |(_, domain)| domain);
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let wrong = |why| Err(Error::Domain { domain: domain.chars().take(MAX_BYTES).collect(), why });
    if domain.is_empty() {
        return wrong("it is empty");
    }
    if domain.len() > MAX_BYTES {
        return wrong("it has more than 253 bytes");
    }
    let mut plain = true;
    for byte in domain.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {}
            b'A'..=b'Z' | 0x80.. => plain = false,
            _ => return wrong("it has a character that no domain has"),
        }
    }
    Ok(if plain { Cow::Borrowed(domain) } else { Cow::Owned(domain.to_lowercase()) })
}

/// The longest name in the DNS, in text (RFC 1035, 2.3.4).
const MAX_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_off_at_its_last_at() {
        for (given, expected) in [
            ("gmail.com", Ok("gmail.com")),
            ("GMail.COM.", Ok("gmail.com")),
            ("alice@example.org", Ok("example.org")),
            ("\"a@b\"@example.org", Ok("example.org")),
            ("Bücher.Example", Ok("bücher.example")),
            ("", Err("it is empty")),
            ("alice@", Err("it is empty")),
            (".", Err("it is empty")),
            ("exa mple.org", Err("it has a character that no domain has")),
            ("a@[192.0.2.1]", Err("it has a character that no domain has")),
            ("example.org\n", Err("it has a character that no domain has")),
            (&"a".repeat(254), Err("it has more than 253 bytes")),
        ] {
            let answer = domain_of(given);
            match (answer, expected) {
                (Ok(domain), Ok(expected)) => assert_eq!(domain, expected),
                (Err(Error::Domain { why, .. }), Err(expected)) => assert_eq!(why, expected, "{given}"),
                (answer, expected) => panic!("{given}: {answer:?}, not {expected:?}"),
            }
        }
    }
}
