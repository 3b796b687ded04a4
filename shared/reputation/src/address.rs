//! Addresses: a recipient or sender as an SES event gives it, and its normal form, which is compared and hashed.
//!
//! An event may hold `addr@host`, `Name <Addr@Host>` or `"Quoted, Name" <a@b>`, in any case, with spaces around it.
//! [`Address::parse`] strips the name and gives the normal form:
//!
//! - **The domain is lower case**, without its trailing dot. Domains are case-insensitive (RFC 1035 section 2.3.3).
//! - **The local part is lower case too.** RFC 5321 section 2.4 allows a host to distinguish `Bob@` from `bob@`; no
//!   consumer ISP does, senders' lists mix both, and one mailbox in two spellings must not count as two recipients.
//! - **Unneeded quotes are removed**: `"bob"@host` is `bob@host` (RFC 5321 section 4.1.2). Needed quotes stay, with no
//!   more backslashes than necessary.
//! - Plus-labels and dots in the local part stay: only some hosts ignore them.
//!
//! **Internationalised domains** are not converted between their two forms: `xn--bcher-kva.example` stays unchanged,
//! and `BÜCHER.example` becomes `bücher.example`. SES takes domains in their `xn--` form only (SES API Reference,
//! *Destination*), so that is what its events hold; mapping one form to the other needs the Unicode tables of some
//! thirty crates, which this crate avoids.
//!
//! **Invariant:** the normal form of a normal form is itself. **Invariant:** nothing here prints an address: not an
//! error, not `Debug`. Errors state what is wrong, and where. **Invariant:** no allocation for a text that holds its
//! address in normal form, with a display name or without.

use std::borrow::Cow;
use std::fmt;

/// The longest address in bytes: 64 for a local part, the `@`, 255 for a domain (RFC 5321 section 4.5.3.1).
///
/// Only the sum is enforced: reply and forwarding services use local parts above 64, and SES delivers to them.
pub const MAX_ADDRESS_BYTES: usize = 320;

/// The longest domain in bytes (RFC 5321 section 4.5.3.1.2).
pub const MAX_DOMAIN_BYTES: usize = 255;

/// The longest text that is parsed, including the display name. A header line ends at 998 bytes (RFC 5322 section
/// 2.1.1); encoded names fold over several.
pub const MAX_TEXT_BYTES: usize = 4_096;

/// One mailbox, in normal form. See the module for its definition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address<'a> {
    text: Cow<'a, str>,
    /// The position of the `@` between local part and domain; a quoted local part may contain others before it.
    at: usize,
}

/// Why a text is not an address. Never contains any part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Only spaces, or nothing between the angle brackets.
    #[error("no address")]
    Empty,
    /// Longer than [`MAX_TEXT_BYTES`], or an address longer than [`MAX_ADDRESS_BYTES`].
    #[error("{bytes} bytes where at most {limit} can be an address")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// No `@`.
    #[error("no at sign")]
    NoAtSign,
    /// A second `@` outside quotes.
    #[error("more than one at sign")]
    SeveralAtSigns,
    /// Nothing before the `@`.
    #[error("no local part")]
    NoLocalPart,
    /// A quote that does not close, or that is not followed by the `@`.
    #[error("a quoted local part that does not end before the at sign")]
    OpenQuote,
    /// A space, a control character or a special character that needs quotes.
    #[error("a character that no unquoted local part holds, at byte {at}")]
    LocalCharacter {
        /// Its offset in the local part.
        at: usize,
    },
    /// Nothing after the `@`.
    #[error("no domain")]
    NoDomain,
    /// Longer than [`MAX_DOMAIN_BYTES`].
    #[error("a domain of {bytes} bytes where at most {MAX_DOMAIN_BYTES} are allowed")]
    DomainTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Two dots in a row, or one at the start.
    #[error("an empty label in the domain")]
    EmptyLabel,
    /// A character that is not allowed in a domain or address literal.
    #[error("a character that no domain holds, at byte {at}")]
    DomainCharacter {
        /// Its offset in the domain.
        at: usize,
    },
    /// `[` without its `]`.
    #[error("an address literal that does not end")]
    OpenLiteral,
}

impl<'a> Address<'a> {
    /// Reads one address, with or without a display name.
    ///
    /// More lenient than the grammar where real mail is: dots may be anywhere in a local part (Japanese carriers
    /// assigned such addresses), and a domain may be a single label, or have underscores.
    ///
    /// # Errors
    /// [`AddressError`] when there is no address in the text, or more than one.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        if let Some(at) = plain(text) {
            return Ok(Self { text: Cow::Borrowed(text), at });
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(AddressError::TooLong { bytes: text.len(), limit: MAX_TEXT_BYTES });
        }
        let bare = without_name(text.trim());
        if bare.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(at) = plain(bare) {
            return Ok(Self { text: Cow::Borrowed(bare), at });
        }
        let mut normal = String::with_capacity(bare.len());
        let domain = if bare.starts_with('"') {
            push_quoted_local(bare, &mut normal)?
        } else {
            let (local, domain) = bare.split_once('@').ok_or(AddressError::NoAtSign)?;
            if domain.contains('@') {
                return Err(AddressError::SeveralAtSigns);
            }
            push_local(local, &mut normal)?;
            domain
        };
        let at = normal.len();
        normal.push('@');
        normal.push_str(&normal_domain(domain)?);
        if normal.len() > MAX_ADDRESS_BYTES {
            return Err(AddressError::TooLong { bytes: normal.len(), limit: MAX_ADDRESS_BYTES });
        }
        Ok(Self { text: Cow::Owned(normal), at })
    }

    /// The part before the `@`, lower case, quoted where it must be.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The part after the `@`: lower case, no trailing dot. An address literal keeps its brackets.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// The whole address in normal form, `local@domain`: what to compare and to hash. Do not store it, do not log it.
    pub fn normal(&self) -> &str {
        &self.text
    }

    /// The domain alone, still borrowed if the address is.
    pub fn into_domain(self) -> Cow<'a, str> {
        match self.text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(self.at + 1..).unwrap_or_default()),
            Cow::Owned(mut text) => Cow::Owned(text.split_off((self.at + 1).min(text.len()))),
        }
    }
}

/// Shows only the domain: an address must not reach a log through `{:?}`.
impl fmt::Debug for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address(_@{})", self.domain())
    }
}

/// The domain of a sender (`mail.source`, which holds `Name <addr>` in practice), in normal form.
///
/// # Errors
/// As [`Address::parse`].
pub fn domain_of(source: &str) -> Result<Cow<'_, str>, AddressError> {
    Address::parse(source).map(Address::into_domain)
}

/// A bare domain (`ses:from-domain`, a key of a permit request) in the form that [`Address::domain`] gives.
///
/// # Errors
/// [`AddressError`] when it is empty, too long, or has a character that is not allowed in a domain.
pub fn normal_domain(domain: &str) -> Result<Cow<'_, str>, AddressError> {
    let domain = domain.trim();
    if domain.starts_with('[') {
        return normal_literal(domain);
    }
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_empty() {
        return Err(AddressError::NoDomain);
    }
    let mut previous = '.';
    for (at, c) in domain.char_indices() {
        if c == '.' && previous == '.' {
            return Err(AddressError::EmptyLabel);
        }
        if !(c == '.' || is_domain_character(c)) {
            return Err(AddressError::DomainCharacter { at });
        }
        previous = c;
    }
    if previous == '.' {
        return Err(AddressError::EmptyLabel);
    }
    bounded_domain(lower(domain))
}

fn normal_literal(domain: &str) -> Result<Cow<'_, str>, AddressError> {
    let inner = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(AddressError::OpenLiteral)?;
    if inner.is_empty() {
        return Err(AddressError::NoDomain);
    }
    // `192.0.2.1`, `IPv6:2001:db8::1` or another tagged form (RFC 5321 section 4.1.3): no other form is in use.
    match inner.bytes().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-'))) {
        Some(at) => Err(AddressError::DomainCharacter { at: at + 1 }),
        None => bounded_domain(lower(domain)),
    }
}

fn bounded_domain(domain: Cow<'_, str>) -> Result<Cow<'_, str>, AddressError> {
    if domain.len() > MAX_DOMAIN_BYTES {
        return Err(AddressError::DomainTooLong { bytes: domain.len() });
    }
    Ok(domain)
}

fn is_domain_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_' || is_international(c)
}

/// Beyond ASCII, all characters may be part of a name except spaces and control characters.
fn is_international(c: char) -> bool {
    !c.is_ascii() && !c.is_whitespace() && !c.is_control()
}

/// Character by character: `str::to_lowercase` depends on the neighbours of a sigma, so applying it twice may change
/// the result.
fn lower(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        let changes = text.bytes().any(|b| b.is_ascii_uppercase());
        return if changes { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) };
    }
    if text.chars().all(|c| c.to_lowercase().eq([c])) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
}

/// The text between the last `<` and the final `>`, or the whole text if it has no display name.
fn without_name(text: &str) -> &str {
    let Some(open) = text.strip_suffix('>') else { return text };
    let mut quoted = false;
    let mut escaped = false;
    let mut start = None;
    for (at, byte) in open.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'<' if !quoted => start = Some(at + 1),
            _ => {}
        }
    }
    // An unpaired quote in a name (`5" pipes <a@b>`) hides the bracket; then the last bracket is taken.
    let start = if quoted { open.rfind('<').map(|at| at + 1) } else { start };
    start.and_then(|at| open.get(at..)).unwrap_or(text).trim()
}

/// RFC 5322 `atext`, and the dot: the characters of a local part without quotes.
fn is_local_character(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => byte.is_ascii_uppercase() || KINDS[usize::from(byte)] & LOCAL != 0,
        Ok(_) | Err(_) => is_international(c),
    }
}

fn push_local(local: &str, normal: &mut String) -> Result<(), AddressError> {
    if local.is_empty() {
        return Err(AddressError::NoLocalPart);
    }
    if let Some((at, _)) = local.char_indices().find(|(_, c)| !is_local_character(*c)) {
        return Err(AddressError::LocalCharacter { at });
    }
    normal.push_str(&lower(local));
    Ok(())
}

/// Pushes the local part of `"…"@domain`, quoted only if it must be, and returns the domain.
fn push_quoted_local<'a>(text: &'a str, normal: &mut String) -> Result<&'a str, AddressError> {
    let mut content = String::new();
    let mut escaped = false;
    let mut end = None;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if c.is_control() => return Err(AddressError::LocalCharacter { at }),
            _ if escaped => {
                escaped = false;
                content.push(c);
            }
            '\\' => escaped = true,
            '"' => {
                end = Some(at + 1);
                break;
            }
            _ => content.push(c),
        }
    }
    let rest = end.and_then(|at| text.get(at..)).ok_or(AddressError::OpenQuote)?;
    let domain = match rest.strip_prefix('@') {
        Some(domain) if domain.contains('@') => return Err(AddressError::SeveralAtSigns),
        Some(domain) => domain,
        None if rest.contains('@') => return Err(AddressError::OpenQuote),
        None => return Err(AddressError::NoAtSign),
    };
    if content.is_empty() {
        return Err(AddressError::NoLocalPart);
    }
    let content = lower(&content);
    if content.chars().all(is_local_character) {
        normal.push_str(&content);
        return Ok(domain);
    }
    normal.push('"');
    for c in content.chars() {
        if matches!(c, '"' | '\\') {
            normal.push('\\');
        }
        normal.push(c);
    }
    normal.push('"');
    Ok(domain)
}

const LOCAL: u8 = 1;
const DOMAIN: u8 = 2;

/// For each byte: whether a local part, and a domain, may contain it unchanged. Upper case may not be: it needs the
/// slow path.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => LOCAL | DOMAIN,
            b'.' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'/' | b'=' | b'?' | b'^' | b'`' | b'{'..=b'~' => LOCAL,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// The position of the `@` in an address that already is in normal form, the case of nearly all events; `None` for all
/// others.
fn plain(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_ADDRESS_BYTES {
        return None;
    }
    let mut at = 0;
    while KINDS[usize::from(*bytes.get(at)?)] & LOCAL != 0 {
        at += 1;
    }
    let (b'@', domain) = bytes[at..].split_first()? else { return None };
    if at == 0 || domain.len() > MAX_DOMAIN_BYTES {
        return None;
    }
    let mut previous = b'.';
    for &byte in domain {
        let dot_ends_label = byte == b'.' && previous != b'.';
        if KINDS[usize::from(byte)] & DOMAIN == 0 && !dot_ends_label {
            return None;
        }
        previous = byte;
    }
    (previous != b'.').then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, local: &str, domain: &str) {
        let address = Address::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!((address.local(), address.domain()), (local, domain), "{text:?}");
        assert_eq!(address.normal(), format!("{local}@{domain}"));
    }

    #[track_caller]
    fn refused(text: &str, error: AddressError) {
        assert_eq!(Address::parse(text), Err(error), "{text:?}");
    }

    #[test]
    fn an_address_is_found_in_every_shape_that_events_use() {
        check("bob@host.example", "bob", "host.example");
        check("  Bob@Host.Example\t", "bob", "host.example");
        check("<bob@host.example>", "bob", "host.example");
        check("Bob <Bob@Host.Example>", "bob", "host.example");
        check("Bob<bob@host.example>", "bob", "host.example");
        check("Bob < bob@host.example > ", "bob", "host.example");
        check("\"Roe, Bob <sales>\" <bob@host.example>", "bob", "host.example");
        check("\"Bob \\\"B\\\" <x>\" <bob@host.example>", "bob", "host.example");
        check("5\" pipes <bob@host.example>", "bob", "host.example");
        check("bob@other.example <bob@host.example>", "bob", "host.example");
        check("=?UTF-8?Q?B=C3=B6b?= <bob@host.example>", "bob", "host.example");
        check("Böb <bob@host.example>", "bob", "host.example");
    }

    #[test]
    fn the_local_part_keeps_all_but_its_case_and_needless_quotes() {
        check("Bob+News.Letter@host.example", "bob+news.letter", "host.example");
        check("a..b.@docomo.example", "a..b.", "docomo.example");
        check("!#$%&'*+/=?^_`{|}~-@host.example", "!#$%&'*+/=?^_`{|}~-", "host.example");
        check("\"Bob\"@host.example", "bob", "host.example");
        check("\"B\\ob\"@host.example", "bob", "host.example");
        check("\"a b\"@host.example", "\"a b\"", "host.example");
        check("\"A@b\"@host.example", "\"a@b\"", "host.example");
        check("\"a\\\\\\\"b\"@host.example", "\"a\\\\\\\"b\"", "host.example");
        check("Name <\"a<b>\"@host.example>", "\"a<b>\"", "host.example");
        check("JÖRG@host.example", "jörg", "host.example");
    }

    #[test]
    fn the_domain_is_lower_case_without_its_trailing_dot() {
        check("a@HOST.example.", "a", "host.example");
        check("a@localhost", "a", "localhost");
        check("a@mail_1.host.example", "a", "mail_1.host.example");
        check("a@[192.0.2.1]", "a", "[192.0.2.1]");
        check("a@[IPv6:2001:DB8::1]", "a", "[ipv6:2001:db8::1]");
        check("a@XN--BCHER-KVA.example", "a", "xn--bcher-kva.example");
        check("a@BÜCHER.example", "a", "bücher.example");
    }

    #[test]
    fn what_is_not_one_address_is_refused_with_its_reason() {
        refused("", AddressError::Empty);
        refused(" \t", AddressError::Empty);
        refused("Bob <>", AddressError::Empty);
        refused("bob", AddressError::NoAtSign);
        refused("\"bob\"", AddressError::NoAtSign);
        refused("@host.example", AddressError::NoLocalPart);
        refused("\"\"@host.example", AddressError::NoLocalPart);
        refused("a@b@host.example", AddressError::SeveralAtSigns);
        refused("\"a\"@b@host.example", AddressError::SeveralAtSigns);
        refused("\"a b@host.example", AddressError::OpenQuote);
        refused("\"a\"b@host.example", AddressError::OpenQuote);
        refused("a b@host.example", AddressError::LocalCharacter { at: 1 });
        refused("a,b@host.example", AddressError::LocalCharacter { at: 1 });
        refused("a@", AddressError::NoDomain);
        refused("a@.", AddressError::NoDomain);
        refused("a@[]", AddressError::NoDomain);
        refused("a@[192.0.2.1", AddressError::OpenLiteral);
        refused("a@[192.0.2.1 ]", AddressError::DomainCharacter { at: 10 });
        refused("a@host..example", AddressError::EmptyLabel);
        refused("a@.host.example", AddressError::EmptyLabel);
        refused("a@host.example..", AddressError::EmptyLabel);
        refused("a@host.example, b", AddressError::DomainCharacter { at: 12 });
        refused("Bob <a@host.example", AddressError::LocalCharacter { at: 3 });
    }

    #[test]
    fn lengths_are_bounded_in_sum_and_for_the_domain() {
        let label = "d".repeat(50);
        let domain = |bytes: usize| format!("{label}.{label}.{label}.{label}.{}", "e".repeat(bytes - 204));
        check(&format!("{}@{}", "a".repeat(64), domain(255)), &"a".repeat(64), &domain(255));
        check(&format!("{}@host.example", "a".repeat(307)), &"a".repeat(307), "host.example");
        refused(&format!("a@{}", domain(256)), AddressError::DomainTooLong { bytes: 256 });
        refused(&format!("{}@host.example", "a".repeat(308)), AddressError::TooLong { bytes: 321, limit: 320 });
        refused(&format!("{} <a@b>", "n".repeat(4_096)), AddressError::TooLong { bytes: 4_102, limit: 4_096 });
    }

    #[test]
    fn an_address_in_normal_form_is_borrowed() {
        for text in ["bob@host.example", " bob@host.example ", "\"Roe, Bob\" <bob@host.example>"] {
            let address = Address::parse(text).unwrap();
            assert!(matches!(address.text, Cow::Borrowed(_)), "{text}");
            assert!(matches!(address.into_domain(), Cow::Borrowed("host.example")), "{text}");
        }
        assert!(matches!(normal_domain("host.example."), Ok(Cow::Borrowed("host.example"))));
    }

    #[test]
    fn a_sender_gives_its_domain() {
        assert_eq!(domain_of("\"News, daily\" <News@Mail.Host.Example>").unwrap(), "mail.host.example");
        assert_eq!(domain_of("news@mail.host.example").unwrap(), "mail.host.example");
        assert_eq!(domain_of("mail.host.example"), Err(AddressError::NoAtSign));
        assert_eq!(normal_domain(" Mail.Host.Example. ").unwrap(), "mail.host.example");
        assert_eq!(normal_domain("a@b"), Err(AddressError::DomainCharacter { at: 1 }));
    }

    #[test]
    fn debug_output_shows_no_local_part() {
        insta::assert_debug_snapshot!(Address::parse("bob@host.example"), @r"
        Ok(
            Address(_@host.example),
        )
        ");
    }

    /// Texts similar enough to addresses to reach every branch.
    fn address_like() -> impl Strategy<Value = String> {
        "[a-cA-CÖİΣ@.<>\"\\\\\\[\\] ,+0-1-]{0,24}"
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_error_repeats_the_text(text in any::<String>()) {
            if let Err(error) = Address::parse(&text) {
                prop_assert!(error.to_string().is_ascii());
            }
        }

        #[test]
        fn the_normal_form_is_its_own_normal_form(text in address_like()) {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(address.normal()), Ok(address.clone()));
                prop_assert_eq!(normal_domain(address.domain()).unwrap(), address.domain());
            }
        }

        #[test]
        fn the_quick_way_agrees_with_the_careful_way(text in "[a-c@.\"+-]{0,12}") {
            // A display name sends the same address through the slow path first.
            let named = format!("\"N\" <{text}>");
            if plain(&text).is_some() {
                let mut normal = String::new();
                let (local, domain) = text.split_once('@').unwrap();
                prop_assert_eq!(push_local(local, &mut normal), Ok(()));
                prop_assert_eq!(normal_domain(domain).unwrap(), domain);
                let address = Address::parse(&named).unwrap();
                prop_assert_eq!(address.normal(), text);
            }
        }

        #[test]
        fn case_blanks_and_a_name_make_no_difference(
            local in "[a-z0-9+._-]{1,20}", domain in "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,3}",
        ) {
            let text = format!("{local}@{domain}");
            let expected = Address::parse(&text).unwrap();
            let (loud, named) = (text.to_ascii_uppercase(), format!("N. N. <{text}>"));
            for other in [loud, named, format!(" {text} "), format!("{text}.")] {
                let address = Address::parse(&other).unwrap();
                prop_assert_eq!(address.normal(), expected.normal());
            }
        }
    }
}
