//! The bytes of one message, as they arrive: where they end, whether they may be taken, and within which memory.
//!
//! A message ends at CRLF `.` CRLF and nowhere else (RFC 5321, section 4.1.1.4). Bare CR and bare LF make it refused,
//! and never end a line: what other servers might take for an end of data or for a command is then in no message that
//! SES is handed (the SMTP smuggling of December 2023, CVE-2023-51764 to 51766).
//!
//! **Invariant:** what is decided about a message depends on its bytes and on the free memory alone, not on how the
//! network cut them. **Invariant:** a message holds no more memory than it has reserved, and one that is refused holds
//! none.

use memchr::{memchr, memchr3};

use super::counts::Refused;
use super::memory::Reservation;

/// What a message reserves first.
const FIRST_BLOCK: usize = 8 * 1024;
/// From here on a message grows by this much, and no longer by doubling.
const LARGE_BLOCK: usize = 1024 * 1024;

/// What is wrong with a message. All of it is looked for, and the gravest is reported.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    line_ends: bool,
    nul: bool,
    line_length: bool,
    size: bool,
    memory: bool,
}

/// Collects the bytes of a message after dots are unstuffed, and checks them.
#[derive(Debug)]
pub(crate) struct Content {
    bytes: Vec<u8>,
    held: Reservation,
    max_bytes: usize,
    max_line_bytes: usize,
    /// All bytes that came, kept or not.
    seen: usize,
    /// The bytes of the line under way.
    line: usize,
    after_cr: bool,
    faults: Faults,
}

impl Content {
    pub(crate) fn new(held: Reservation, max_bytes: usize, max_line_bytes: usize) -> Self {
        let faults = Faults::default();
        Self { bytes: Vec::new(), held, max_bytes, max_line_bytes, seen: 0, line: 0, after_cr: false, faults }
    }

    /// Whether so much was dropped that the session must end: as much again as a message may have.
    pub(crate) fn overran(&self) -> bool {
        self.seen / 2 > self.max_bytes
    }

    /// The bytes of memory that it holds.
    pub(crate) fn held(&self) -> usize {
        self.held.bytes()
    }

    /// Why the message is refused already, whatever comes next.
    pub(crate) fn problem(&self) -> Option<Refused> {
        self.faults.gravest()
    }

    /// Takes the next bytes of the message.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            if self.after_cr {
                self.after_cr = false;
                if first == b'\n' {
                    self.line = 0;
                    self.keep(b"\n");
                    bytes = &bytes[1..];
                    continue;
                }
                self.faults.line_ends = true;
            }
            let Some(at) = memchr3(b'\r', b'\n', 0, bytes) else { return self.text(bytes) };
            let (text, rest) = bytes.split_at(at);
            self.text(text);
            match rest[0] {
                b'\r' => {
                    self.after_cr = true;
                    self.keep(b"\r");
                }
                b'\n' => {
                    self.faults.line_ends = true;
                    self.text(b"\n");
                }
                _ => {
                    self.faults.nul = true;
                    self.text(b"\0");
                }
            }
            bytes = &rest[1..];
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.line = self.line.saturating_add(text.len());
        self.faults.line_length |= self.line > self.max_line_bytes;
        self.keep(text);
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.seen = self.seen.saturating_add(bytes.len());
        self.faults.size |= self.seen > self.max_bytes;
        if !self.faults.any() {
            let needed = self.bytes.len() + bytes.len();
            if needed > self.held.bytes() {
                self.reserve(needed);
            }
        }
        if self.faults.any() {
            self.drop_bytes();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn reserve(&mut self, needed: usize) {
        let block =
            if needed <= LARGE_BLOCK { needed.next_power_of_two() } else { needed.next_multiple_of(LARGE_BLOCK) };
        let capacity = block.max(FIRST_BLOCK);
        if self.held.grow_to(capacity) {
            self.bytes.reserve_exact(capacity - self.bytes.len());
        } else {
            self.faults.memory = true;
        }
    }

    fn drop_bytes(&mut self) {
        self.bytes = Vec::new();
        self.held.shrink_to(0);
    }

    /// The whole message with the memory that it holds, or why it is refused. A last line that was not ended is ended
    /// here, as RFC 3030 asks of who hands a message of BDAT on; it changes no signature of DKIM.
    pub(crate) fn finish(mut self) -> Result<(Vec<u8>, Reservation), Refused> {
        if self.after_cr {
            self.faults.line_ends = true;
        } else if self.line > 0 {
            self.max_bytes = self.max_bytes.saturating_add(2);
            self.keep(b"\r\n");
        }
        if let Some(reason) = self.faults.gravest() {
            return Err(reason);
        }
        self.bytes.shrink_to_fit();
        self.held.shrink_to(self.bytes.capacity());
        Ok((self.bytes, self.held))
    }
}

impl Faults {
    fn any(self) -> bool {
        self.gravest().is_some()
    }

    /// What stays refused when the message is sent again comes first.
    fn gravest(self) -> Option<Refused> {
        [
            (self.line_ends, Refused::LineEnds),
            (self.nul, Refused::Nul),
            (self.line_length, Refused::LineLength),
            (self.size, Refused::Size),
            (self.memory, Refused::Memory),
        ]
        .into_iter()
        .find_map(|(fault, reason)| fault.then_some(reason))
    }
}

/// A message that comes by DATA: finds its end, and unstuffs dots.
#[derive(Debug)]
pub(crate) struct Data {
    content: Content,
    at: At,
}

/// Where in a line the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After CRLF, or after the command DATA.
    Start,
    /// After a dot at the start of a line. The dot is not part of the message.
    Dot,
    /// After CR after such a dot.
    DotCr,
    Text,
    /// After CR in a line.
    Cr,
}

impl Data {
    pub(crate) fn new(content: Content) -> Self {
        Self { content, at: At::Start }
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) fn into_content(self) -> Content {
        self.content
    }

    /// Takes bytes up to the end of the data. Returns how many it took, and whether the end was among them.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut used = 0;
        while let Some(&next) = bytes.get(used) {
            match (self.at, next) {
                (At::Start, b'.') => (self.at, used) = (At::Dot, used + 1),
                (At::Dot, b'\r') => (self.at, used) = (At::DotCr, used + 1),
                (At::DotCr, b'\n') => return (used + 1, true),
                // The CR belongs to the message after all, and what follows it is looked at again.
                (At::DotCr, _) => {
                    self.content.take(b"\r");
                    self.at = At::Text;
                }
                (At::Cr, b'\n') => {
                    self.content.take(b"\n");
                    (self.at, used) = (At::Start, used + 1);
                }
                (At::Start | At::Dot | At::Text | At::Cr, _) => {
                    let rest = &bytes[used..];
                    let (until, at) = memchr(b'\r', rest).map_or((rest.len(), At::Text), |cr| (cr + 1, At::Cr));
                    self.content.take(&rest[..until]);
                    (self.at, used) = (at, used + until);
                }
            }
        }
        (used, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::memory::Memory;
    use super::*;

    const MAX_LINE_BYTES: usize = 998;

    fn content(memory: usize, max_bytes: usize) -> Content {
        Content::new(Memory::new(memory).reserve_none(), max_bytes, MAX_LINE_BYTES)
    }

    /// What follows the end of the data, and the message.
    type Read = (Vec<u8>, Result<Vec<u8>, Refused>);

    /// Reads DATA in pieces of `piece` bytes.
    fn read(bytes: &[u8], piece: usize) -> Option<Read> {
        let mut data = Data::new(content(1 << 20, 1 << 20));
        let mut rest = bytes;
        while !rest.is_empty() {
            let (used, ended) = data.take(&rest[..piece.min(rest.len())]);
            rest = &rest[used..];
            if ended {
                return Some((rest.to_vec(), data.into_content().finish().map(|(bytes, _)| bytes)));
            }
        }
        None
    }

    fn check(bytes: &[u8], rest: &[u8], message: Result<&[u8], Refused>) {
        for piece in 1..=bytes.len() {
            let expected = Some((rest.to_vec(), message.map(<[u8]>::to_vec)));
            assert_eq!(read(bytes, piece), expected, "{:?} in pieces of {piece}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_message_ends_at_the_one_sequence_and_loses_the_dots_that_were_added() {
        check(b".\r\n", b"", Ok(b""));
        check(b"\r\n.\r\n", b"", Ok(b"\r\n"));
        check(b"a\r\n.\r\nQUIT\r\n", b"QUIT\r\n", Ok(b"a\r\n"));
        check(b"..\r\n.\r\n", b"", Ok(b".\r\n"));
        check(b"...\r\n..a\r\n.a\r\na.\r\n.\r\n", b"", Ok(b"..\r\n.a\r\na\r\na.\r\n"));
        check(b"a\r\n..\r\n.\r\n", b"", Ok(b"a\r\n.\r\n"));
    }

    #[test]
    fn nothing_that_other_servers_take_for_the_end_is_one_and_the_message_is_refused() {
        let smuggled = b"MAIL FROM:<x@evil.example>\r\n";
        for end in [
            b"\n.\n".as_slice(),
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\r\n",
            b"\r\n.\r",
            b"\n.\r",
            b"\r.\n",
            b"\r\r\n.\r\r\n",
            b"\r\n.\r\r\n",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\n.\r\0\n",
            b"\n\n.\r\n",
            b"\r\n.\n\r\n",
        ] {
            let bytes = [b"a".as_slice(), end, smuggled, b".\r\n"].concat();
            let reason = if end.contains(&0) && !end.ends_with(b"\0\n") { Refused::Nul } else { Refused::LineEnds };
            check(&bytes, b"", Err(reason));
        }
        // Without the one sequence there is no end.
        for open in [b"a\n.\n".as_slice(), b"a\n.\r\n", b"a\r\n.\n", b"a\r.\r", b"a\r\n.\r", b"a\r\n\n.\r\n"] {
            assert_eq!(read(open, open.len()), None, "{open:?}");
        }
    }

    #[test]
    fn a_line_has_998_bytes_and_the_added_dot_is_none_of_them() {
        let line = vec![b'a'; MAX_LINE_BYTES];
        check(&[&line[..], b"\r\n.\r\n"].concat(), b"", Ok(&[&line[..], b"\r\n"].concat()));
        check(&[b"a", &line[..], b"\r\n.\r\n"].concat(), b"", Err(Refused::LineLength));
        let dotted = [b".", &line[1..]].concat();
        check(&[b".", &dotted[..], b"\r\n.\r\n"].concat(), b"", Ok(&[&dotted[..], b"\r\n"].concat()));
    }

    #[test]
    fn a_message_above_the_limit_is_read_to_its_end_and_not_kept() {
        let memory = Memory::new(1 << 20);
        let mut content = Content::new(memory.reserve_none(), 20_000, MAX_LINE_BYTES);
        let mut lines = |number: usize| {
            for _ in 0..number {
                content.take(&[b'a'; 98]);
                content.take(b"\r\n");
            }
            (content.held() > 0, content.overran(), memory.free() == 1 << 20)
        };
        assert_eq!(lines(200), (true, false, false), "20,000 bytes are allowed");
        assert_eq!(lines(1), (false, false, true), "nothing is kept above it");
        assert_eq!(lines(199), (false, false, true), "and dropped up to twice the limit");
        assert_eq!(lines(1), (false, true, true), "where the session ends");
        assert_eq!(content.finish().map(|(bytes, _)| bytes), Err(Refused::Size));
    }

    #[test]
    fn memory_that_is_short_refuses_a_message_for_now_and_a_fault_for_good_comes_first() {
        for (faulty, expected) in [(false, Refused::Memory), (true, Refused::LineEnds)] {
            let mut content = content(10_000, 1 << 20);
            for _ in 0..200 {
                content.take(&[b'a'; 98]);
                content.take(b"\r\n");
            }
            assert_eq!(content.held(), 0);
            content.take(if faulty { b"a\nb" } else { b"a b" });
            assert_eq!(content.finish().map(|(bytes, _)| bytes), Err(expected));
        }
    }

    #[test]
    fn a_last_line_without_an_end_is_ended() {
        let mut whole = content(1 << 20, 3);
        whole.take(b"a\r");
        whole.take(b"\n");
        assert_eq!(whole.finish().unwrap().0, b"a\r\n");
        let mut open = content(1 << 20, 1);
        open.take(b"a");
        assert_eq!(open.finish().unwrap().0, b"a\r\n");
        let mut half = content(1 << 20, 9);
        half.take(b"a\r");
        assert_eq!(half.finish().unwrap_err(), Refused::LineEnds);
    }

    proptest! {
        #[test]
        fn what_is_stuffed_is_unstuffed(lines in prop::collection::vec("[.a-z\u{1}é]{0,5}", 0..20), piece in 1usize..30) {
            let mut message = lines.join("\r\n").into_bytes();
            if !message.is_empty() {
                message.extend(b"\r\n");
            }
            let mut stuffed = Vec::new();
            for line in message.split_inclusive(|byte| *byte == b'\n') {
                if line.starts_with(b".") {
                    stuffed.push(b'.');
                }
                stuffed.extend(line);
            }
            stuffed.extend(b".\r\nrest");
            let (_, read) = read(&stuffed, piece).unwrap();
            prop_assert_eq!(read, Ok(message));
        }

        #[test]
        fn any_pieces_of_any_bytes_come_to_the_same(bytes in prop::collection::vec(prop::sample::select(b"\r\n.\0ab".to_vec()), 0..40), piece in 1usize..40) {
            prop_assert_eq!(read(&bytes, piece), read(&bytes, bytes.len().max(1)));
        }

        #[test]
        fn memory_is_never_exceeded(lengths in prop::collection::vec(0usize..3_000, 0..60), memory in 0usize..200_000, max in 0usize..100_000) {
            let pool = Memory::new(memory);
            let mut content = Content::new(pool.reserve_none(), max, MAX_LINE_BYTES);
            for length in lengths {
                content.take(&vec![b'a'; length.min(MAX_LINE_BYTES)]);
                content.take(b"\r\n");
                prop_assert!(content.bytes.capacity() <= content.held());
                prop_assert_eq!(pool.free() + content.held(), memory);
            }
            if let Ok((bytes, held)) = content.finish() {
                prop_assert!(bytes.capacity() <= held.bytes() && bytes.len() <= max + 2);
                drop(held);
            }
            prop_assert_eq!(pool.free(), memory);
        }
    }
}
