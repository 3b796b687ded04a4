//! Bodies of which single places are replaced, and nothing else.

use std::ops::Range;

use bytes::Bytes;

/// A body with places that are replaced.
#[derive(Clone, Debug)]
pub(crate) struct Splice {
    body: Bytes,
    /// In the order of their places, which do not overlap.
    edits: Vec<(Range<usize>, Bytes)>,
}

impl Splice {
    /// The body as it is.
    pub(crate) fn of(body: Bytes) -> Splice {
        Splice { body, edits: Vec::new() }
    }

    /// Replaces a place; an empty one inserts there. An edit that overlaps an earlier one would be a bug, and is left out.
    pub(crate) fn replace(&mut self, place: Range<usize>, by: impl Into<Bytes>) {
        let index = self.edits.partition_point(|(known, _)| known.end <= place.start);
        let fits = self.edits.get(index).is_none_or(|(next, _)| place.end <= next.start);
        debug_assert!(fits && place.end <= self.body.len(), "{place:?}");
        if fits && place.end <= self.body.len() {
            self.edits.insert(index, (place, by.into()));
        }
    }

    /// The new body.
    pub(crate) fn finish(self) -> Bytes {
        if self.edits.is_empty() {
            return self.body;
        }
        let added: usize = self.edits.iter().map(|(_, by)| by.len()).sum();
        let mut made = Vec::with_capacity(self.body.len() + added);
        let mut at = 0;
        for (place, by) in &self.edits {
            made.extend_from_slice(&self.body[at..place.start]);
            made.extend_from_slice(by);
            at = place.end;
        }
        made.extend_from_slice(&self.body[at..]);
        made.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_places_change_in_whatever_order_they_are_named() {
        let mut splice = Splice::of(Bytes::from_static(b"{\"a\":1,\"b\":2}"));
        splice.replace(11..12, "two");
        splice.replace(1..1, "\"c\":3,");
        assert_eq!(splice.finish(), "{\"c\":3,\"a\":1,\"b\":two}");
        assert_eq!(Splice::of(Bytes::from_static(b"x")).finish(), "x");
    }
}
