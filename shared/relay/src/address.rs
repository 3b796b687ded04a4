//! Addresses: how many a text holds, and the domain of each (RFC 5322, 3.4, with the obsolete forms that mailers still
//! write).
//!
//! Only domains leave this module: a local part is never copied, logged or counted.

/// Why a text is not the address, or the list of addresses, that it should be. Without the address itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// A line break or another control character.
    #[error("an address has a control character")]
    Control,
    /// A quoted string, a comment or an angle bracket does not end.
    #[error("an address has a quotation mark, a parenthesis or an angle bracket without its counterpart")]
    Unbalanced,
    /// It has no `@`, or nothing before it.
    #[error("an address has no local part or no `@`")]
    NoLocalPart,
    /// What follows the `@` is not a domain.
    #[error("what follows the `@` of an address is not a domain")]
    Domain,
    /// Exactly one is needed.
    #[error("one address is expected, not {0}")]
    Count(usize),
}

/// The domains of all addresses in a list, in order: lower case, in the form of the DNS (IDNA).
///
/// # Errors
///
/// See [`AddressError`].
pub(crate) fn domains(list: &str) -> Result<Vec<String>, AddressError> {
    // A tab may be part of a folded field; no other control character may be part of an address.
    if list.chars().any(|c| c.is_control() && c != '\t') {
        return Err(AddressError::Control);
    }
    let mut found = Vec::new();
    let mut mailbox = Mailbox::default();
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                // What is quoted may be a local part, so that something must stand for it.
                skip_quoted(&mut rest)?;
                mailbox.push_quoted()?;
            }
            '(' => skip_comment(&mut rest)?,
            '<' => mailbox.open_angle()?,
            '>' => mailbox.close_angle()?,
            // Within angle brackets, commas and colons belong to an obsolete route.
            ',' | ';' if !mailbox.is_in_angle() => found.extend(std::mem::take(&mut mailbox).domain()?),
            // The name of a group ends.
            ':' if !mailbox.is_in_angle() => std::mem::take(&mut mailbox).group()?,
            other => mailbox.push(other),
        }
    }
    if mailbox.is_in_angle() {
        return Err(AddressError::Unbalanced);
    }
    found.extend(mailbox.domain()?);
    Ok(found)
}

/// The domain of a text that must be one address.
///
/// # Errors
///
/// See [`AddressError`].
pub(crate) fn domain(address: &str) -> Result<String, AddressError> {
    let mut found = domains(address)?;
    match (found.len(), found.pop()) {
        (1, Some(domain)) => Ok(domain),
        (count, _) => Err(AddressError::Count(count)),
    }
}

fn skip_quoted(rest: &mut std::str::Chars<'_>) -> Result<(), AddressError> {
    while let Some(c) = rest.next() {
        match c {
            '"' => return Ok(()),
            '\\' => {
                rest.next();
            }
            _ => {}
        }
    }
    Err(AddressError::Unbalanced)
}

fn skip_comment(rest: &mut std::str::Chars<'_>) -> Result<(), AddressError> {
    let mut depth = 1_usize;
    while let Some(c) = rest.next() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Ok(()),
            ')' => depth -= 1,
            '\\' => {
                rest.next();
            }
            _ => {}
        }
    }
    Err(AddressError::Unbalanced)
}

/// One entry of a list, while it is read: without its comments, and with a letter for each quoted string.
#[derive(Default)]
struct Mailbox {
    bare: String,
    angle: Option<String>,
    angle_is_closed: bool,
    /// Text after the angle brackets might be a second address.
    has_text_after: bool,
}

impl Mailbox {
    fn is_in_angle(&self) -> bool {
        self.angle.is_some() && !self.angle_is_closed
    }

    fn open_angle(&mut self) -> Result<(), AddressError> {
        if self.angle.is_some() {
            return Err(AddressError::Unbalanced);
        }
        self.angle = Some(String::new());
        Ok(())
    }

    fn close_angle(&mut self) -> Result<(), AddressError> {
        if !self.is_in_angle() {
            return Err(AddressError::Unbalanced);
        }
        self.angle_is_closed = true;
        Ok(())
    }

    fn push(&mut self, c: char) {
        match &mut self.angle {
            Some(angle) if !self.angle_is_closed => angle.push(c),
            Some(_) => self.has_text_after |= !c.is_whitespace(),
            None => self.bare.push(c),
        }
    }

    /// What stands for a quoted string: of a domain there is none.
    fn push_quoted(&mut self) -> Result<(), AddressError> {
        let text = if self.is_in_angle() { self.angle.as_deref().unwrap_or_default() } else { &self.bare };
        if text.contains('@') && (self.is_in_angle() || self.angle.is_none()) {
            return Err(AddressError::Domain);
        }
        self.push('q');
        Ok(())
    }

    /// What stands before a colon is the name of a group, and no address that would be passed over.
    fn group(self) -> Result<(), AddressError> {
        if self.angle.is_some() || self.bare.contains('@') { Err(AddressError::Domain) } else { Ok(()) }
    }

    /// The domain; `None` if the entry is empty, as in `a@example.com,`.
    fn domain(self) -> Result<Option<String>, AddressError> {
        let address = match &self.angle {
            Some(angle) => {
                // An obsolete route (`@a.example,@b.example:`) stands before the address.
                let address = angle.trim_start();
                if address.starts_with('@') { address.split_once(':').map_or("", |(_, after)| after) } else { address }
            }
            None if self.bare.trim().is_empty() => return Ok(None),
            None => &self.bare,
        };
        let (local, domain) = address.trim().rsplit_once('@').ok_or(AddressError::NoLocalPart)?;
        if local.trim().is_empty() {
            return Err(AddressError::NoLocalPart);
        }
        if local.contains('@') || self.has_text_after {
            return Err(AddressError::Domain);
        }
        canonical(domain.trim()).map(Some)
    }
}

/// A domain in the form of the DNS, in lower case.
///
/// # Errors
///
/// [`AddressError::Domain`].
pub(crate) fn canonical(domain: &str) -> Result<String, AddressError> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let ascii = idna::domain_to_ascii(domain).map_err(|_| AddressError::Domain)?;
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if ascii.len() > 253 || !ascii.split('.').all(is_label) {
        return Err(AddressError::Domain);
    }
    Ok(ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_domain_is_what_follows_the_last_at_of_the_address_and_never_a_word_of_its_name() {
        let check = |text: &str, expected: &[&str]| assert_eq!(domains(text).unwrap(), expected, "{text}");
        check("a@b.example", &["b.example"]);
        check("  A@B.Example.  ", &["b.example"]);
        check("\"A, B\" <a@b.example>", &["b.example"]);
        check("\"x@evil.example\" <a@b.example>", &["b.example"]);
        check("x@evil.example <a@b.example>", &["b.example"]);
        check("\"a\\\"@evil.example\" <a@b.example>", &["b.example"]);
        check("a (x@evil.example (nested)) @ b.example (home)", &["b.example"]);
        check("\"a b\"@b.example", &["b.example"]);
        check("\"a@x\"@b.example", &["b.example"]);
        check("<@relay.example,@other.example:a@b.example>", &["b.example"]);
        check("a@bücher.example, b@XN--BCHER-KVA.example", &["xn--bcher-kva.example", "xn--bcher-kva.example"]);
        check("A <a@b.example>, \"C\" <c@d.example>,, e@f.example,", &["b.example", "d.example", "f.example"]);
        check("friends: a@b.example, c@d.example; e@f.example", &["b.example", "d.example", "f.example"]);
        check("undisclosed-recipients:;", &[]);
        check("=?utf-8?q?J=C3=BCrgen?= <a@b.example>", &["b.example"]);
        check("", &[]);
    }

    #[test]
    fn an_address_that_would_be_passed_over_is_refused() {
        for text in ["x@\"gmail\".com", "<x@\"gmail\".com>", "a@gmail.com: b@yahoo.com;", "<a@gmail.com>: b@yahoo.com;"]
        {
            assert_eq!(domains(text), Err(AddressError::Domain), "{text}");
        }
        assert_eq!(domains("friends: \"b c\"@yahoo.com, d@gmail.com;").unwrap(), ["yahoo.com", "gmail.com"]);
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        let check = |text: &str, expected: AddressError| assert_eq!(domains(text), Err(expected), "{text:?}");
        check("a", AddressError::NoLocalPart);
        check("@b.example", AddressError::NoLocalPart);
        check("<>", AddressError::NoLocalPart);
        check("a@", AddressError::Domain);
        check("a@b..example", AddressError::Domain);
        check("a@[192.0.2.1]", AddressError::Domain);
        check("a@b.example c@d.example", AddressError::Domain);
        check("<a@b.example> c@d.example", AddressError::Domain);
        check("a@b.example\r\nBcc: c@d.example", AddressError::Control);
        check("\"a@b.example", AddressError::Unbalanced);
        check("<a@b.example", AddressError::Unbalanced);
        check("a@b.example>", AddressError::Unbalanced);
        check("(a@b.example", AddressError::Unbalanced);
        check("<a@b.example><c@d.example>", AddressError::Unbalanced);
        assert_eq!(domain("a@b.example, c@d.example"), Err(AddressError::Count(2)));
        assert_eq!(domain(" "), Err(AddressError::Count(0)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_it_finds_is_a_domain(text in "\\PC{0,80}|[a-z@<>,;:()\"\\\\. ]{0,40}") {
            for domain in domains(&text).unwrap_or_default() {
                prop_assert!(!domain.is_empty() && domain.is_ascii() && !domain.contains([' ', '@']));
            }
        }
    }
}
