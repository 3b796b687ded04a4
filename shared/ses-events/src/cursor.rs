//! A cursor that walks over JSON text, and stops where it is not sure: the basis of the fast path.
//!
//! **Invariant:** a step returns `Some` only for text that the reference takes too, and `None` means doubt, never a
//! rejection. **Invariant:** time is linear in the text, and memory is constant: nesting is a bit set.

use crate::scan::{self, Marks};
use crate::text::Text;

/// Deeper nesting is left to the reference; SES's own documents have 6 levels.
const MAX_SURE_DEPTH: u32 = 64;

/// A position in a JSON text.
pub(crate) struct Cursor<'a, 'm> {
    text: &'a str,
    marks: &'m Marks,
    at: usize,
    /// Arrays and objects that are open here.
    depth: u32,
}

/// A string as written.
#[derive(Clone, Copy)]
pub(crate) struct Quoted<'a> {
    /// With its quotes and escapes.
    raw: &'a str,
    /// It holds a backslash.
    escaped: bool,
}

impl<'a> Quoted<'a> {
    /// The text between the quotes.
    #[inline(always)]
    fn inner(self) -> Option<&'a str> {
        self.raw.get(1..self.raw.len() - 1)
    }

    /// Undoes the escapes.
    #[inline]
    fn text(self) -> Option<Text<'a>> {
        if self.escaped { self.unescaped() } else { self.inner().map(Text::Borrowed) }
    }

    #[inline(never)]
    fn unescaped(self) -> Option<Text<'a>> {
        serde_json::from_str(self.raw).ok().map(Text::Owned)
    }
}

impl<'a, 'm> Cursor<'a, 'm> {
    /// At the beginning of a text, which must be the one that is marked.
    pub(crate) fn new(text: &'a str, marks: &'m Marks) -> Self {
        Self { text, marks, at: 0, depth: 0 }
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.text.len() - self.at
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is not white space; it is not consumed.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let byte = *self.bytes().get(self.at)?;
        if byte > b' ' { Some(byte) } else { self.peek_after_space() }
    }

    fn peek_after_space(&mut self) -> Option<u8> {
        let rest = self.bytes().get(self.at..)?;
        let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.at += spaces;
        rest.get(spaces).copied()
    }

    /// Consumes the next byte that is not white space.
    #[inline(always)]
    fn token(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.token()? == byte).then_some(())
    }

    /// Only white space is left.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())?;
        (self.at == self.text.len()).then_some(())
    }

    /// Calls `field` after the colon of each field of an object; `field` consumes the value.
    #[inline(always)]
    pub(crate) fn object(&mut self, mut field: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.depth += 1;
        if self.depth > MAX_SURE_DEPTH {
            return None;
        }
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                let key = self.quoted()?;
                // A key with escapes may be any name.
                if key.escaped {
                    return None;
                }
                self.expect(b':')?;
                field(self, key.inner()?)?;
                match self.token()? {
                    b',' => {}
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        self.depth -= 1;
        Some(())
    }

    /// Calls `item` before each item of an array; `item` consumes it.
    #[inline(always)]
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        self.depth += 1;
        if self.depth > MAX_SURE_DEPTH {
            return None;
        }
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                item(self)?;
                match self.token()? {
                    b',' => {}
                    b']' => break,
                    _ => return None,
                }
            }
        }
        self.depth -= 1;
        Some(())
    }

    /// A string, from its opening quote on.
    #[inline(always)]
    pub(crate) fn quoted(&mut self) -> Option<Quoted<'a>> {
        self.expect(b'"')?;
        let start = self.at - 1;
        let escaped = self.skip_rest_of_string()?;
        Some(Quoted { raw: self.text.get(start..self.at)?, escaped })
    }

    /// A string, from its opening quote on, with its escapes undone into `into`, from `into[from]` on: returns the end.
    /// `into` has [`scan::room_for`] what remains.
    pub(crate) fn unescape(&mut self, into: &mut [u8], from: usize) -> Option<usize> {
        self.expect(b'"')?;
        let (end, written) = scan::unescape(self.bytes(), self.marks, self.at, into, from)?;
        self.at = end + 1;
        Some(written)
    }

    /// A string.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<Text<'a>> {
        self.quoted()?.text()
    }

    /// A string or null.
    #[inline]
    pub(crate) fn optional_text(&mut self) -> Option<Option<Text<'a>>> {
        if self.null()? { Some(None) } else { self.text().map(Some) }
    }

    /// Consumes a `null` if there is one.
    #[inline(always)]
    pub(crate) fn null(&mut self) -> Option<bool> {
        if self.peek()? != b'n' {
            return Some(false);
        }
        self.word(b"null")?;
        Some(true)
    }

    /// Consumes any value and returns its text.
    pub(crate) fn raw(&mut self, value: impl FnOnce(&mut Self) -> Option<()>) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        value(self)?;
        self.text.get(start..self.at)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let rest = self.bytes().get(self.at..)?;
        rest.starts_with(word).then(|| self.at += word.len())
    }

    /// Consumes any value.
    #[inline(always)]
    pub(crate) fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.skip_rest_of_string().map(drop)
            }
            b'{' | b'[' => self.skip_nested(),
            first => self.skip_scalar(first),
        }
    }

    #[inline(always)]
    fn skip_rest_of_string(&mut self) -> Option<bool> {
        let (end, escaped) = scan::string_end(self.bytes(), self.marks, self.at)?;
        self.at = end + 1;
        Some(escaped)
    }

    fn skip_scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.skip_number(),
            _ => None,
        }
    }

    /// Takes the numbers that fit everywhere; exponents and very long numbers are left to the reference.
    fn skip_number(&mut self) -> Option<()> {
        if self.bytes().get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let leading_zero = self.bytes().get(self.at) == Some(&b'0');
        let digits = self.skip_digits()?;
        if leading_zero && digits > 1 {
            return None;
        }
        match self.bytes().get(self.at) {
            Some(b'.') => {
                self.at += 1;
                self.skip_digits()?;
            }
            Some(b'e' | b'E') => return None,
            _ => return Some(()),
        }
        (!matches!(self.bytes().get(self.at), Some(b'e' | b'E'))).then_some(())
    }

    fn skip_digits(&mut self) -> Option<usize> {
        let rest = self.bytes().get(self.at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        (1..=18).contains(&digits).then_some(digits)
    }

    /// Consumes an array or object.
    #[inline(never)]
    fn skip_nested(&mut self) -> Option<()> {
        // A local copy can stay in registers.
        let mut inside = Self { ..*self };
        inside.skip_nested_inside()?;
        *self = inside;
        Some(())
    }

    #[inline(always)]
    fn skip_nested_inside(&mut self) -> Option<()> {
        let outside = self.depth;
        let mut depth = outside;
        // One bit an open array (0) or object (1), the innermost lowest.
        let mut objects = 0_u64;
        'values: loop {
            match self.token()? {
                b'"' => {
                    self.skip_rest_of_string()?;
                }
                b'{' => {
                    depth += 1;
                    if depth > MAX_SURE_DEPTH {
                        return None;
                    }
                    objects = objects << 1 | 1;
                    if self.peek()? != b'}' {
                        self.skip_key()?;
                        continue 'values;
                    }
                }
                b'[' => {
                    depth += 1;
                    if depth > MAX_SURE_DEPTH {
                        return None;
                    }
                    objects <<= 1;
                    if self.peek()? != b']' {
                        continue 'values;
                    }
                }
                first => {
                    self.at -= 1;
                    self.skip_scalar(first)?;
                }
            }
            while depth > outside {
                match (self.token()?, objects & 1) {
                    (b',', 0) => continue 'values,
                    (b',', _) => {
                        self.skip_key()?;
                        continue 'values;
                    }
                    (b']', 0) | (b'}', 1) => {
                        depth -= 1;
                        objects >>= 1;
                    }
                    _ => return None,
                }
            }
            return Some(());
        }
    }

    #[inline(always)]
    fn skip_key(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.skip_rest_of_string()?;
        self.expect(b':')
    }
}
