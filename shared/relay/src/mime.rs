//! The header of raw mail (RFC 5322, 2.2): which fields it has, and where.

use std::ops::Range;

/// Why the header of a mail cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// It does not end within [`MAX_HEADER`].
    #[error("the header is longer than {} KiB", MAX_HEADER >> 10)]
    TooLong,
    /// A line that is neither a field nor its continuation.
    #[error("line {0} of the header is not a field")]
    Line(usize),
    /// A field that is needed is not text.
    #[error("the field {0} is not UTF-8")]
    NotText(&'static str),
    /// A field that may occur once.
    #[error("the field {0} occurs more than once")]
    Twice(&'static str),
}

/// The longest header that is read. SES's own limit is not documented; 50 recipients and DKIM take a few KiB.
pub(crate) const MAX_HEADER: usize = 256 << 10;

/// The fields of a header, as ranges of bytes of the mail.
#[derive(Debug, Default)]
pub(crate) struct Header {
    fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
    /// With its name and its line end.
    whole: Range<usize>,
}

impl Header {
    /// Reads the header of a mail. It ends with an empty line, or with the mail.
    ///
    /// # Errors
    ///
    /// [`HeaderError::TooLong`], [`HeaderError::Line`].
    pub(crate) fn parse(mail: &[u8]) -> Result<Header, HeaderError> {
        let mut header = Header::default();
        let (mut at, mut number) = (0, 0);
        while at < mail.len() {
            number += 1;
            let end = mail[at..].iter().position(|byte| *byte == b'\n').map_or(mail.len(), |length| at + length + 1);
            if end > MAX_HEADER {
                return Err(HeaderError::TooLong);
            }
            let whole = &mail[at..end];
            let line = whole.strip_suffix(b"\n").unwrap_or(whole);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // A carriage return or a NUL within a line is read differently by different readers.
            if line.contains(&b'\r') || line.contains(&0) {
                return Err(HeaderError::Line(number));
            }
            match (line.first(), header.fields.last_mut()) {
                (None, _) => return Ok(header),
                (Some(b' ' | b'\t'), Some(field)) => {
                    field.value.end = at + line.len();
                    field.whole.end = end;
                }
                _ => {
                    let colon = line.iter().position(|byte| *byte == b':').ok_or(HeaderError::Line(number))?;
                    let name = line[..colon].trim_ascii_end();
                    if name.is_empty() || !name.iter().all(|byte| (33..127).contains(byte)) {
                        return Err(HeaderError::Line(number));
                    }
                    let value = at + colon + 1..at + line.len();
                    header.fields.push(Field { name: at..at + name.len(), value, whole: at..end });
                }
            }
            at = end;
        }
        Ok(header)
    }

    fn named<'a>(&'a self, mail: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(move |field| mail[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The values of all fields of a name, unfolded.
    ///
    /// # Errors
    ///
    /// [`HeaderError::NotText`].
    pub(crate) fn all(&self, mail: &[u8], name: &'static str) -> Result<Vec<String>, HeaderError> {
        self.named(mail, name)
            .map(|field| {
                let value = std::str::from_utf8(&mail[field.value.clone()]).map_err(|_| HeaderError::NotText(name))?;
                Ok(value.replace(['\r', '\n'], "").trim().to_owned())
            })
            .collect()
    }

    /// The value of the field of a name, unfolded, if there is one.
    ///
    /// # Errors
    ///
    /// [`HeaderError::NotText`]; [`HeaderError::Twice`]: it could not be known which of them SES takes.
    pub(crate) fn one(&self, mail: &[u8], name: &'static str) -> Result<Option<String>, HeaderError> {
        let mut values = self.all(mail, name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(HeaderError::Twice(name)),
        }
    }

    /// Where the value of the first field of a name is, without the space around it.
    pub(crate) fn place(&self, mail: &[u8], name: &str) -> Option<Range<usize>> {
        let field = self.named(mail, name).next()?;
        let value = &mail[field.value.clone()];
        let start = field.value.start + (value.len() - value.trim_ascii_start().len());
        Some(start..start + value.trim_ascii().len())
    }

    /// The mail without the fields of these names.
    pub(crate) fn without(&self, mail: &[u8], names: &[&str]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(mail.len());
        let mut at = 0;
        for field in &self.fields {
            let name = &mail[field.name.clone()];
            if names.iter().any(|unwanted| name.eq_ignore_ascii_case(unwanted.as_bytes())) {
                kept.extend_from_slice(&mail[at..field.whole.start]);
                at = field.whole.end;
            }
        }
        kept.extend_from_slice(&mail[at..]);
        kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAIL: &[u8] = b"From: A <a@b.example>\r\nTO : c@d.example,\r\n\te@f.example\r\nTo: g@h.example\nSubject:\r\n\r\nTo: no@field.example\r\n";

    #[test]
    fn fields_are_found_whatever_their_case_folding_and_line_ends() {
        let header = Header::parse(MAIL).unwrap();
        assert_eq!(header.all(MAIL, "To").unwrap(), ["c@d.example,\te@f.example", "g@h.example"]);
        assert_eq!(header.one(MAIL, "from").unwrap().unwrap(), "A <a@b.example>");
        assert_eq!(header.one(MAIL, "subject").unwrap().unwrap(), "");
        assert_eq!(header.one(MAIL, "Cc"), Ok(None));
        assert_eq!(header.one(MAIL, "To"), Err(HeaderError::Twice("To")));
        assert_eq!(&MAIL[header.place(MAIL, "from").unwrap()], b"A <a@b.example>");
        let without = header.without(MAIL, &["to", "SUBJECT"]);
        assert_eq!(without, b"From: A <a@b.example>\r\n\r\nTo: no@field.example\r\n");
    }

    #[test]
    fn a_header_that_readers_would_read_differently_is_refused() {
        let check = |mail: &[u8], expected: HeaderError| assert_eq!(Header::parse(mail).unwrap_err(), expected);
        check(b"From a@b.example\r\n\r\n", HeaderError::Line(1));
        check(b" folded: first\r\n\r\n", HeaderError::Line(1));
        check(b"A: b\rBcc: c@d.example\r\n\r\n", HeaderError::Line(1));
        check(b"A: b\r\n: c\r\n\r\n", HeaderError::Line(2));
        check(b"A: \0\r\n", HeaderError::Line(1));
        check(&[b"A: ".to_vec(), vec![b'x'; MAX_HEADER]].concat(), HeaderError::TooLong);
        let mail = b"From: \xff\r\n\r\n";
        assert_eq!(Header::parse(mail).unwrap().one(mail, "From"), Err(HeaderError::NotText("From")));
        assert!(Header::parse(b"").unwrap().fields.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mail in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = Header::parse(&mail) {
                let _ = header.all(&mail, "From");
                prop_assert_eq!(header.without(&mail, &[]), mail);
            }
        }
    }
}
