//! Finds where documents begin and end: the rules of the module's documentation, resumable at any byte.

use memchr::{memchr_iter, memchr3};

/// The most bytes a document may have, 8 MiB: SES events arrive through SNS (256 KiB) or EventBridge (1 MiB), and a
/// batch of either through Lambda (6 MB).
pub const MAX_DOCUMENT: usize = 8 << 20;

/// The sizes that bound memory; parameters, so that tests can make them tiny.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of a worker's buffer.
    pub(super) chunk: usize,
    /// A line with more bytes is scanned for documents with nothing between them.
    pub(super) long_line: usize,
    /// A document with more bytes is not kept.
    pub(super) document: usize,
    /// Compressed bytes of one read.
    pub(super) compressed: usize,
    /// Whether a file stays open from one read to the next.
    pub(super) hold: bool,
    /// The amount of input that is decoded on the calling thread before threads are started.
    pub(super) inline: u64,
}

impl Limits {
    pub(super) const STANDARD: Self = Self {
        chunk: 512 << 10,
        long_line: 1 << 20,
        document: MAX_DOCUMENT,
        compressed: 128 << 10,
        hold: true,
        inline: 128 << 10,
    };
}

/// The place of one document in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    Document { line: u64, start: usize, end: usize },
    Oversized { line: u64, bytes: u64 },
}

/// Finds the documents of one source in a buffer that is filled piece by piece.
///
/// `start` is where the open document (or line) begins in the buffer, `at` is how far the buffer has been examined. Bytes
/// before `start` are finished.
#[derive(Debug)]
pub(super) struct Framer {
    long_line: usize,
    document: usize,
    start: usize,
    at: usize,
    line: u64,
    /// `None` on the fast path: whole lines that are not scanned.
    scan: Option<Scan>,
}

/// The state of a scan through a line, or through a document of several lines.
#[derive(Debug, Default)]
struct Scan {
    open: Option<Open>,
    /// Inside an array that is too long to be one document: its elements are the documents.
    in_array: bool,
}

/// An open document.
#[derive(Debug)]
struct Open {
    line: u64,
    /// Bytes of this document that exceeded the limit and were dropped.
    discarded: u64,
    /// The document begins with a bracket; anything else ends with its line.
    bracketed: bool,
    opened_array: bool,
    /// It is an array, and its first element is an object.
    of_objects: bool,
    depth: u32,
    /// One bit for each of the innermost 128 open brackets, the lowest the innermost: set for an object.
    objects: u128,
    in_string: bool,
    escaped: bool,
    /// The last byte that was not blank, outside strings.
    previous: u8,
    /// The brackets are closed and only blanks have followed.
    complete: bool,
    /// The first line is a bracket and nothing else, so far.
    bare: bool,
    /// The current line of the document.
    place: Place,
    /// Only blanks so far on this line.
    fresh: bool,
    /// This line begins with a blank.
    line_indented: bool,
    /// The second line began with a blank.
    indented: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FirstLine,
    /// After the first line, and nothing but blanks since.
    BeforeSecond,
    Further,
}

impl Framer {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            long_line: limits.long_line.min(limits.document),
            document: limits.document,
            start: 0,
            at: 0,
            line: 1,
            scan: None,
        }
    }

    /// The number of the line that is being read.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The start of the bytes that must be kept for the next buffer.
    pub(super) fn kept_from(&self) -> usize {
        self.start
    }

    /// Notes that the kept bytes have been moved to the front of a buffer.
    pub(super) fn rebase(&mut self) {
        self.at -= self.start;
        self.start = 0;
    }

    /// Drops the bytes of the open document if they exceed the limit; returns whether it did: then the buffer must be filled
    /// from its front again.
    pub(super) fn discard(&mut self) -> bool {
        let kept = self.at - self.start;
        let document = self.document;
        let Some(Open { discarded, .. }) = self.scan.as_mut().and_then(|scan| scan.open.as_mut()) else { return false };
        if *discarded == 0 && kept <= document {
            return false;
        }
        *discarded += kept as u64;
        self.start = 0;
        self.at = 0;
        true
    }

    /// Examines the bytes that have been added to the buffer; documents that end among them are added to `frames`.
    pub(super) fn advance(&mut self, buffer: &[u8], frames: &mut Vec<Frame>) {
        while self.at < buffer.len() {
            if self.scan.is_some() {
                self.look_through(buffer, frames);
            } else {
                self.take_lines(buffer, frames);
            }
        }
    }

    /// The source has ended: an open document ends here.
    pub(super) fn finish(&mut self, buffer: &[u8], frames: &mut Vec<Frame>) {
        if self.scan.is_none() && !is_whole(&buffer[self.start..]) {
            self.at = self.start;
            self.scan = Some(Scan::default());
            self.advance(buffer, frames);
        }
        match self.scan.take().and_then(|scan| scan.open) {
            Some(open) => self.close(&open, buffer, frames),
            None => frames.extend(document(buffer, self.start, buffer.len(), self.line)),
        }
        self.start = buffer.len();
        self.at = buffer.len();
    }

    /// The fast path: whole lines.
    fn take_lines(&mut self, buffer: &[u8], frames: &mut Vec<Frame>) {
        let from = self.at;
        for newline in memchr_iter(b'\n', &buffer[from..]) {
            let end = from + newline;
            let line = &buffer[self.start..end];
            if line.len() > self.long_line || !is_whole(line) {
                self.at = self.start;
                self.scan = Some(Scan::default());
                return;
            }
            frames.extend(document(buffer, self.start, end, self.line));
            self.line += 1;
            self.start = end + 1;
        }
        self.at = buffer.len();
        if buffer.len() - self.start > self.long_line {
            self.at = self.start;
            self.scan = Some(Scan::default());
        }
    }

    /// The careful path: brackets and strings. Returns to the fast path at the end of a line that ends a document.
    fn look_through(&mut self, buffer: &[u8], frames: &mut Vec<Frame>) {
        let Some(mut scan) = self.scan.take() else { return };
        loop {
            if scan.open.as_ref().is_some_and(|open| self.is_to_be_cut(open)) {
                self.enter_array(&mut scan);
            }
            let Some(&byte) = buffer.get(self.at) else { break };
            let Some(open) = &mut scan.open else {
                self.start = self.at;
                if scan.in_array && matches!(byte, b'\n' | b',' | b']') {
                    self.line += u64::from(byte == b'\n');
                    self.at += 1;
                    self.start = self.at;
                    scan.in_array = byte != b']';
                    continue;
                }
                if byte == b'\n' {
                    self.at += 1;
                    self.start = self.at;
                    self.line += 1;
                    return;
                }
                if byte.is_ascii_whitespace() {
                    self.at += 1;
                    self.start = self.at;
                } else {
                    scan.open = Some(Open::new(byte, self.line));
                    self.at += 1;
                }
                continue;
            };
            if open.in_string {
                self.at += open.pass_string(&buffer[self.at..]);
                continue;
            }
            match byte {
                b'\n' if !open.bracketed || open.depth == 0 => {
                    self.close(open, buffer, frames);
                    scan.open = None;
                }
                b'\n' => {
                    open.next_line();
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | b'\x0c' => {
                    open.line_indented |= open.fresh;
                    self.at += 1;
                }
                _ if open.fresh && !open.continues(byte) => {
                    self.close(open, buffer, frames);
                    self.start = self.at;
                    if !scan.in_array {
                        return;
                    }
                    scan.open = None;
                }
                b',' | b']' if open.complete && scan.in_array => {
                    self.close(open, buffer, frames);
                    scan.open = None;
                }
                b'{' | b'[' if open.complete => {
                    self.close(open, buffer, frames);
                    scan.open = None;
                }
                _ => {
                    open.take(byte);
                    self.at += 1;
                }
            }
        }
        self.scan = Some(scan);
    }

    /// Whether the open document is an array of objects, and too long.
    fn is_to_be_cut(&self, open: &Open) -> bool {
        open.of_objects && open.discarded == 0 && self.at - self.start > self.document
    }

    /// Returns to the first element of the open array.
    fn enter_array(&mut self, scan: &mut Scan) {
        if let Some(open) = scan.open.take() {
            self.line = open.line;
            self.at = self.start + 1;
            self.start = self.at;
            scan.in_array = true;
        }
    }

    /// The open document ends before `at`.
    fn close(&self, open: &Open, buffer: &[u8], frames: &mut Vec<Frame>) {
        let bytes = open.discarded + (self.at - self.start) as u64;
        if bytes > self.document as u64 {
            frames.push(Frame::Oversized { line: open.line, bytes });
        } else {
            frames.extend(document(buffer, self.start, self.at, open.line));
        }
    }
}

impl Open {
    fn new(first: u8, line: u64) -> Self {
        let mut open = Self {
            line,
            discarded: 0,
            bracketed: matches!(first, b'{' | b'['),
            opened_array: first == b'[',
            of_objects: false,
            depth: 0,
            objects: 0,
            in_string: false,
            escaped: false,
            previous: 0,
            complete: false,
            bare: false,
            place: Place::FirstLine,
            fresh: false,
            line_indented: false,
            indented: false,
        };
        open.take(first);
        open.bare = open.bracketed;
        open
    }

    /// The number of bytes of `rest` that belong to the open string. A string cannot contain a raw newline and ends there, so a
    /// missing quote spoils one line and not the file.
    fn pass_string(&mut self, rest: &[u8]) -> usize {
        if self.escaped {
            self.escaped = false;
            return usize::from(rest.first() != Some(&b'\n'));
        }
        let Some(found) = memchr3(b'"', b'\\', b'\n', rest) else { return rest.len() };
        match rest[found] {
            b'\\' => {
                self.escaped = true;
                found + 1
            }
            b'"' => {
                self.in_string = false;
                found + 1
            }
            _ => {
                self.in_string = false;
                found
            }
        }
    }

    fn next_line(&mut self) {
        if self.place == Place::FirstLine {
            self.place = Place::BeforeSecond;
        }
        self.fresh = true;
        self.line_indented = false;
    }

    /// Whether a line that begins with `byte`, blanks aside, still belongs to this document.
    fn continues(&mut self, byte: u8) -> bool {
        self.fresh = false;
        if self.place == Place::BeforeSecond {
            self.place = Place::Further;
            self.indented = self.line_indented;
            let closes_or_quotes = matches!(byte, b'}' | b']' | b'"');
            let next_element = self.opened_array && self.previous == b',';
            if !(self.line_indented || closes_or_quotes || self.bare || next_element) {
                return false;
            }
        }
        if !matches!(byte, b'{' | b'[') {
            return true;
        }
        let at_the_margin = self.indented && !self.line_indented;
        let expected = if self.objects & 1 == 1 { self.previous == b':' } else { matches!(self.previous, b'[' | b',') };
        expected && !at_the_margin
    }

    /// A byte that is not blank, outside strings.
    fn take(&mut self, byte: u8) {
        self.bare = false;
        self.complete = false;
        self.of_objects |= self.opened_array && self.depth == 1 && self.previous == b'[' && byte == b'{';
        self.previous = byte;
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.objects = self.objects << 1 | u128::from(byte == b'{');
            }
            b'}' | b']' => {
                self.complete = self.bracketed && self.depth == 1;
                self.depth = self.depth.saturating_sub(1);
                self.objects >>= 1;
            }
            _ => {}
        }
    }
}

/// Whether a line is blank or ends as a JSON document ends: then the next line cannot continue it.
fn is_whole(line: &[u8]) -> bool {
    matches!(line.trim_ascii_end().last(), None | Some(b'}' | b']'))
}

/// The document between two places of the buffer, without the blanks around it; `None` if there is nothing else.
fn document(buffer: &[u8], start: usize, end: usize, line: u64) -> Option<Frame> {
    let trimmed_end = start + buffer[start..end].trim_ascii_end().len();
    let start = trimmed_end - buffer[start..trimmed_end].trim_ascii_start().len();
    (start < trimmed_end).then_some(Frame::Document { line, start, end: trimmed_end })
}

/// The documents of a line that contains several with nothing (or blanks) between them, as Firehose writes them without a
/// delimiter: `{…}{…}`. `None` if the line does not contain several.
///
/// Call it with a line that the decoder has refused; the pieces may be broken themselves, especially the last one.
#[must_use]
pub fn split_concatenated(line: &[u8]) -> Option<Vec<&[u8]>> {
    let mut framer = Framer::new(&Limits { document: usize::MAX, ..Limits::STANDARD });
    framer.scan = Some(Scan::default());
    let mut frames = Vec::new();
    framer.advance(line, &mut frames);
    framer.finish(line, &mut frames);
    let pieces: Vec<&[u8]> = frames
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Document { start, end, .. } => Some(&line[start..end]),
            Frame::Oversized { .. } => None,
        })
        .collect();
    (pieces.len() > 1).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Limits = Limits { long_line: 24, document: 40, ..Limits::STANDARD };

    /// The framer's result, as `line: text`; fed whole and byte by byte, which must not differ.
    fn found(input: &str, limits: &Limits) -> Vec<String> {
        let bytes = input.as_bytes();
        let frames_of = |ends: &mut dyn Iterator<Item = usize>| {
            let mut framer = Framer::new(limits);
            let mut frames = Vec::new();
            for end in ends {
                framer.advance(&bytes[..end], &mut frames);
            }
            framer.finish(bytes, &mut frames);
            frames
        };
        let frames = frames_of(&mut std::iter::once(bytes.len()));
        assert_eq!(frames, frames_of(&mut (0..=bytes.len())), "byte by byte: {input:?}");
        frames
            .into_iter()
            .map(|frame| match frame {
                Frame::Document { line, start, end } => format!("{line}: {}", &input[start..end]),
                Frame::Oversized { line, bytes } => format!("{line}: oversized {bytes}"),
            })
            .collect()
    }

    #[test]
    fn documents_are_found_where_they_begin_and_end() {
        let table: &[(&str, &str, &[&str])] = &[
            ("nothing", "", &[]),
            ("blank lines only", "\n \r\n\t\n  ", &[]),
            ("one line without an end", "{\"a\":1}", &["1: {\"a\":1}"]),
            ("line ends of both kinds", "{\"a\":1}\r\n\n{\"b\":2}\n", &["1: {\"a\":1}", "3: {\"b\":2}"]),
            (
                "text is one document a line",
                "hello {\n  world\n\"x\n{}",
                &["1: hello {", "2: world", "3: \"x", "4: {}"],
            ),
            ("a pretty document", "{\n  \"a\": [\n    1\n  ]\n}\n", &["1: {\n  \"a\": [\n    1\n  ]\n}"]),
            ("a pretty document with \\r\\n", "{\r\n  \"a\": 1\r\n}\r\n", &["1: {\r\n  \"a\": 1\r\n}"]),
            (
                "several pretty documents",
                "{\n \"a\":1\n}\n\n{\n \"b\":2\n}",
                &["1: {\n \"a\":1\n}", "5: {\n \"b\":2\n}"],
            ),
            ("pretty documents joined", "{\n \"a\":1\n}{\n \"b\":2\n}", &["1: {\n \"a\":1\n}", "3: {\n \"b\":2\n}"]),
            ("pretty without indentation", "{\n\"a\": [\n{\n}\n]\n}\n{}", &["1: {\n\"a\": [\n{\n}\n]\n}", "7: {}"]),
            ("pretty after lines", "{}\n{\n \"a\":1\n}\n{}", &["1: {}", "2: {\n \"a\":1\n}", "5: {}"]),
            ("a value begun on the first line", "{\"a\":1,\n \"b\":2}\n{}", &["1: {\"a\":1,\n \"b\":2}", "3: {}"]),
            ("quotes at the margin continue", "{\"a\":1,\n\"b\":2}\n{}", &["1: {\"a\":1,\n\"b\":2}", "3: {}"]),
            ("an array of lines", "[\n{\"a\":1},\n{\"b\":2}\n]\n{}", &["1: [\n{\"a\":1},\n{\"b\":2}\n]", "5: {}"]),
            (
                "an array of lines, opened inline",
                "[{\"a\":1},\n{\"b\":2}]\n{}",
                &["1: [{\"a\":1},\n{\"b\":2}]", "3: {}"],
            ),
            ("blank lines inside", "{\n\n \"a\":1\n\n}", &["1: {\n\n \"a\":1\n\n}"]),
            ("brackets in strings", "{\n \"a\": \"}{[\\\"}\"\n}\n{}", &["1: {\n \"a\": \"}{[\\\"}\"\n}", "4: {}"]),
            ("a truncated first line", "{\"a\":\"B\n{\"b\":2}\n{}", &["1: {\"a\":\"B", "2: {\"b\":2}", "3: {}"]),
            (
                "a truncated line between",
                "{}\n{\"a\":{\"x\":1},\n{\"b\":2}",
                &["1: {}", "2: {\"a\":{\"x\":1},", "3: {\"b\":2}"],
            ),
            ("truncated after the first byte", "{\n{\"b\":2}\n{}", &["1: {", "2: {\"b\":2}", "3: {}"]),
            (
                "truncated before an indented line",
                "{\"a\":1\n  {\"b\":2}\n{}",
                &["1: {\"a\":1", "2: {\"b\":2}", "3: {}"],
            ),
            ("truncated inside an escape", "{\"a\":\"\\\n{\"b\":2}\n", &["1: {\"a\":\"\\", "2: {\"b\":2}"]),
            ("a truncated pretty document", "{\n \"a\":1,\n{\n \"b\":2\n}", &["1: {\n \"a\":1,", "3: {\n \"b\":2\n}"]),
            ("a truncated pretty array", "{\n \"a\":[\n{}\n{}", &["1: {\n \"a\":[", "3: {}", "4: {}"]),
            ("truncated without indentation", "{\n\"a\":1,\n{\n\"b\":2\n}", &["1: {\n\"a\":1,", "3: {\n\"b\":2\n}"]),
            ("a short array is one document", "[{\"a\":1},\n{\"b\":2}]", &["1: [{\"a\":1},\n{\"b\":2}]"]),
            ("a closing bracket alone", "}\n{}\n]\n", &["1: }", "2: {}", "3: ]"]),
            ("joined lines are left to the decoder", "{}{}\n{}", &["1: {}{}", "2: {}"]),
            ("joined lines with a broken end", "{}{}{\n{}", &["1: {}", "1: {}", "1: {", "2: {}"]),
            ("junk behind a value belongs to it", "{} x\n{}", &["1: {} x", "2: {}"]),
            ("NUL is a byte", "{\"a\":\"\0\"}\n\0\n", &["1: {\"a\":\"\0\"}", "2: \0"]),
        ];
        for (name, input, expected) in table {
            assert_eq!(found(input, &Limits::STANDARD), *expected, "{name}");
        }
    }

    #[test]
    fn what_is_too_long_is_reported_and_what_is_long_is_looked_through() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(30));
        let longer = format!("{{\"a\":\"{}\"}}", "x".repeat(33));
        let blank = " ".repeat(60);
        let table: &[(&str, String, &[&str])] = &[
            ("a line of the limit is kept", format!("{long}xx\n{{}}"), &[&format!("1: {long}xx"), "2: {}"]),
            ("a line beyond the limit", format!("{{}}\n{long}xxx\n{{}}"), &["1: {}", "2: oversized 41", "3: {}"]),
            ("a long line of short documents", "{\"a\":1}".repeat(4), &["1: {\"a\":1}"; 4]),
            ("a long blank line", format!("{blank}\n{blank}{{}}"), &["2: {}"]),
            (
                "a pretty document beyond the limit",
                format!("{{\n{}}}\n{{}}", " \"a\":1\n".repeat(7)),
                &["1: oversized 52", "10: {}"],
            ),
            (
                "an array beyond the limit is cut into its elements",
                format!("[\n  {}\n]\n{{}}", ["{\n    \"a\": \"],{\"\n  }"; 4].join(",\n  ")),
                &[
                    "2: {\n    \"a\": \"],{\"\n  }",
                    "5: {\n    \"a\": \"],{\"\n  }",
                    "8: {\n    \"a\": \"],{\"\n  }",
                    "11: {\n    \"a\": \"],{\"\n  }",
                    "15: {}",
                ],
            ),
            (
                "an array of lines beyond the limit",
                format!("[{}]\n{{}}", ["{\"a\":[{},{}]}"; 5].join(",\n")),
                &[
                    "1: {\"a\":[{},{}]}",
                    "2: {\"a\":[{},{}]}",
                    "3: {\"a\":[{},{}]}",
                    "4: {\"a\":[{},{}]}",
                    "5: {\"a\":[{},{}]}",
                    "6: {}",
                ],
            ),
            (
                "an array in one line beyond the limit",
                format!("[{}] \n{{}}", ["{\"a\":[{},{}]}"; 4].join(", ")),
                &["1: {\"a\":[{},{}]}", "1: {\"a\":[{},{}]}", "1: {\"a\":[{},{}]}", "1: {\"a\":[{},{}]}", "2: {}"],
            ),
            (
                "an array beyond the limit with an element beyond it, and no end",
                format!("[{{}},\n{longer},{{\"b\":1}},\n{{\"c\""),
                &["1: {}", "2: oversized 41", "2: {\"b\":1}", "3: {\"c\""],
            ),
            (
                "an array of numbers beyond the limit is one document",
                format!("[{}]\n{{}}", ["1000"; 9].join(",\n")),
                &["1: oversized 54", "10: {}"],
            ),
            (
                "a pretty document beyond the limit, broken off",
                format!("{{\n{}{{}}\n{{}}", " \"a\":1\n".repeat(7)),
                &["1: oversized 51", "9: {}", "10: {}"],
            ),
        ];
        for (name, input, expected) in table {
            assert_eq!(found(input, &TINY), *expected, "{name}");
        }
    }

    #[test]
    fn concatenated_documents_are_split_and_others_are_not() {
        let table: &[(&str, Option<&[&str]>)] = &[
            ("", None),
            ("{\"a\":1}", None),
            ("{\"a\":\"}{\"}", None),
            ("{\"a\":{\"b\":{}}}", None),
            ("nonsense {}{}", None),
            ("{} x {}", None),
            ("{\"a\":1", None),
            ("{}{}", Some(&["{}", "{}"])),
            ("{\"a\":\"}{\"} {\"b\":2}\r", Some(&["{\"a\":\"}{\"}", "{\"b\":2}"])),
            ("[1][2]{}", Some(&["[1]", "[2]", "{}"])),
            ("{\"a\":1}{\"b\":", Some(&["{\"a\":1}", "{\"b\":"])),
        ];
        for (line, expected) in table {
            let pieces = split_concatenated(line.as_bytes());
            let expected = expected.map(|pieces| pieces.iter().map(|piece| piece.as_bytes()).collect::<Vec<_>>());
            assert_eq!(pieces, expected, "{line}");
        }
    }
}
