//! The tags of a mail, read on demand.

use std::fmt;

use crate::cursor::Cursor;
use crate::scan::Marks;
use crate::text::Text;

/// The tags of a mail: SES's own, whose names begin with `ses:`, and those of the sender.
///
/// SES allows several values for a tag but gives one; the first one counts. Tags without a value are omitted. Two
/// `Tags` are equal if they have the same names with the same first values in the same order.
#[derive(Clone, Default)]
pub struct Tags<'a>(Held<'a>);

#[derive(Clone, Default)]
enum Held<'a> {
    #[default]
    Nothing,
    /// A JSON object that has been checked in a first walk: each name occurs once, each value is null or an array that
    /// is empty or begins with null or a string.
    Json(&'a str),
    /// The tags as read by the reference.
    List(Vec<(Text<'a>, Text<'a>)>),
}

impl<'a> Tags<'a> {
    /// Reads the object at the cursor, if it is sure of it; calls `each` with each tag.
    #[inline]
    pub(crate) fn take(cursor: &mut Cursor<'a, '_>, mut each: impl FnMut(&'a str, Text<'a>)) -> Option<Self> {
        let mut names = Names::default();
        let json = cursor.raw(|cursor| {
            cursor.object(|cursor, name| {
                names.add(name)?;
                if let Some(value) = first_value(cursor)? {
                    each(name, value);
                }
                Some(())
            })
        })?;
        Some(Self(Held::Json(json)))
    }

    pub(crate) fn listed(list: Vec<(Text<'a>, Text<'a>)>) -> Self {
        Self(if list.is_empty() { Held::Nothing } else { Held::List(list) })
    }

    /// The first value of the tag of this name.
    ///
    /// Walks over the tags at each call: to read several, use [`Tags::iter`].
    #[must_use]
    pub fn first(&self, name: &str) -> Option<Text<'a>> {
        let mut found = None;
        self.each(|key, value| {
            if key == name {
                found = Some(value);
            }
        });
        found
    }

    /// Name and first value of each tag, in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = (Text<'a>, Text<'a>)> + use<'a> {
        let mut list = Vec::new();
        self.each(|name, value| list.push((name, value)));
        list.into_iter()
    }

    fn each(&self, mut each: impl FnMut(Text<'a>, Text<'a>)) {
        match &self.0 {
            Held::Nothing => {}
            Held::Json(json) => {
                let mut marks = Marks::default();
                marks.mark(json);
                let whole = Cursor::new(json, &marks).object(|cursor, name| {
                    if let Some(value) = first_value(cursor)? {
                        each(Text::Borrowed(name), value);
                    }
                    Some(())
                });
                debug_assert!(whole.is_some(), "the same walk has reached the end before");
            }
            Held::List(list) => list.iter().for_each(|(name, value)| each(name.clone(), value.clone())),
        }
    }
}

impl PartialEq for Tags<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Tags<'_> {}

impl fmt::Debug for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[inline]
fn first_value<'a>(cursor: &mut Cursor<'a, '_>) -> Option<Option<Text<'a>>> {
    if cursor.null()? {
        return Some(None);
    }
    let mut first = None;
    let mut is_first = true;
    cursor.array(|cursor| {
        if is_first {
            is_first = false;
            first = cursor.optional_text()?;
            Some(())
        } else {
            cursor.skip()
        }
    })?;
    Some(first)
}

/// Detects names that may occur twice in one object.
struct Names {
    marks: [u64; Self::MOST],
    count: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { marks: [0; Self::MOST], count: 0 }
    }
}

impl Names {
    /// SES allows 50 tags of the sender in addition to its own dozen; a mail with more goes to the reference.
    const MOST: usize = 64;

    /// `None` if the name may be a duplicate: equal names have equal marks, and different ones rarely do.
    #[inline]
    fn add(&mut self, name: &str) -> Option<()> {
        let mark = mark(name.as_bytes());
        let before = self.marks.get(..self.count)?;
        if before.contains(&mark) {
            return None;
        }
        *self.marks.get_mut(self.count)? = mark;
        self.count += 1;
        Some(())
    }
}

/// Mixes length, first and last eight bytes.
#[inline]
fn mark(name: &[u8]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.map(|bytes| u64::from_le_bytes(*bytes));
    let length = name.len() as u64;
    match (word(name.first_chunk()), word(name.last_chunk())) {
        (Some(first), Some(last)) => first ^ last.rotate_left(23) ^ length << 56,
        _ => name.iter().fold(length, |mark, byte| mark << 8 | u64::from(*byte)),
    }
}
