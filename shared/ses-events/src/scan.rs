//! The innermost loops: where JSON strings end, and what their escapes mean.
//!
//! Going from string to string is a chain in which each step depends on the one before. To keep each step short, all
//! bytes that can end a run of plain text are marked first, 64 at a time, with no such dependency.

use wide::u8x16;

/// Number of bytes that one word of marks covers.
const BLOCK: usize = 64;

/// A bit for each byte of a text, and some after it: set for quotes, backslashes and control characters.
///
/// **Invariant:** all bits after the text are set, and they fill at least one whole word.
#[derive(Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    /// Marks a new text.
    pub(crate) fn mark(&mut self, text: &str) {
        let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK>();
        let mut last = [b'"'; BLOCK];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.0.clear();
        self.0.extend(blocks.iter().map(marks));
        self.0.extend([marks(&last), u64::MAX]);
    }

    /// The first marked position from `at` on; it may lie after the text.
    #[inline(always)]
    fn next(&self, at: usize) -> Option<usize> {
        let (word, bit) = (at / BLOCK, at % BLOCK);
        let [low, high] = *self.0.get(word..)?.first_chunk()?;
        // The 64 bits from `at` on.
        let window = low >> bit | high << 1 << (BLOCK - 1 - bit);
        if window == 0 { self.next_word(word + 1) } else { Some(at + window.trailing_zeros() as usize) }
    }

    #[inline(never)]
    fn next_word(&self, from: usize) -> Option<usize> {
        let (distance, marks) = self.0.get(from..)?.iter().enumerate().find(|(_, marks)| **marks != 0)?;
        Some((from + distance) * BLOCK + marks.trailing_zeros() as usize)
    }
}

#[inline]
fn marks(block: &[u8; BLOCK]) -> u64 {
    let (quarters, _) = block.as_chunks::<16>();
    quarters.iter().rev().fold(0, |marks, quarter| {
        let bytes = u8x16::new(*quarter);
        let controls = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
        let stops = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | controls;
        marks << 16 | u64::from(stops.to_bitmask())
    })
}

/// The end of the string whose first byte is `text[at]`: the position of its closing quote, and whether it contains a
/// backslash. `None` for doubt.
#[inline(always)]
pub(crate) fn string_end(text: &[u8], marks: &Marks, at: usize) -> Option<(usize, bool)> {
    let end = marks.next(at)?;
    if text.get(end) == Some(&b'"') { Some((end, false)) } else { escaped_string_end(text, marks, end) }
}

#[inline(never)]
fn escaped_string_end(text: &[u8], marks: &Marks, mut at: usize) -> Option<(usize, bool)> {
    loop {
        match text.get(at)? {
            b'"' => return Some((at, true)),
            b'\\' => at = marks.next(at + escape(text.get(at..)?)?.length)?,
            _ => return None,
        }
    }
}

/// The meaning of an escape.
struct Escape {
    /// Bytes of the escape itself, its backslash included.
    length: usize,
    meaning: char,
}

/// The escape at the beginning of `text`; `None` for doubt.
#[inline]
fn escape(text: &[u8]) -> Option<Escape> {
    let meaning = match text.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return unicode_escape(text),
        _ => return None,
    };
    Some(Escape { length: 2, meaning })
}

/// `\uXXXX`, or two of them that make up one character (RFC 8259, section 7).
fn unicode_escape(text: &[u8]) -> Option<Escape> {
    let first = hex4(text.get(2..6)?)?;
    if let Some(meaning) = char::from_u32(first) {
        return Some(Escape { length: 6, meaning });
    }
    let [b'\\', b'u', digits @ ..] = text.get(6..12)? else { return None };
    let second = hex4(digits)?;
    if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let meaning = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some(Escape { length: 12, meaning })
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Bytes copied at once. Copying a whole chunk, even if only a few bytes are needed, is cheaper than copying only
/// those.
const CHUNK: usize = 32;

/// How long a buffer must be for [`unescape`] to write the meaning of `length` bytes, whole chunks at a time.
pub(crate) fn room_for(length: usize) -> usize {
    length + CHUNK
}

/// Writes the meaning of the string whose first byte is `text[at]` into `into`, from `into[to]` on. Returns the
/// position of its closing quote and the end of what was written; `None` for doubt.
pub(crate) fn unescape(
    text: &[u8],
    marks: &Marks,
    mut at: usize,
    into: &mut [u8],
    mut to: usize,
) -> Option<(usize, usize)> {
    loop {
        let stop = marks.next(at)?;
        let run = stop - at;
        match text.get(at..)?.first_chunk::<CHUNK>() {
            Some(chunk) if run <= CHUNK => *into.get_mut(to..)?.first_chunk_mut()? = *chunk,
            _ => into.get_mut(to..to + run)?.copy_from_slice(text.get(at..stop)?),
        }
        to += run;
        match text.get(stop)? {
            b'"' => return Some((stop, to)),
            b'\\' => {
                // Nearly all escapes are these two.
                if let Some(meaning @ (b'"' | b'\\')) = text.get(stop + 1) {
                    *into.get_mut(to)? = *meaning;
                    at = stop + 2;
                    to += 1;
                } else {
                    let escape = escape(text.get(stop..)?)?;
                    at = stop + escape.length;
                    to += escape.meaning.encode_utf8(into.get_mut(to..)?.first_chunk_mut::<4>()?).len();
                }
            }
            _ => return None,
        }
    }
}
