//! Turns the arguments of the command line into sources.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use glob::{MatchOptions, PatternError};
use terminal::quoted;
use thiserror::Error;

use super::formats::Foreign;

/// Why the input cannot be read. The program ends with exit code 2.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InputError {
    /// An argument that does not exist.
    #[error("no such file: {} (name a file, a directory, a quoted pattern, or - for standard input)", path.display())]
    Missing {
        /// The argument.
        path: PathBuf,
    },
    /// A directory without event files.
    #[error(
        "no event files in {} (.json, .ndjson, .jsonl, .log, each also with .gz or .zst, or no extension; name others one by one)",
        path.display()
    )]
    NoEventFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A pattern that matches no path.
    #[error("nothing matches {pattern} (`**` crosses directories, `*` does not)")]
    NoMatch {
        /// The argument.
        pattern: String,
    },
    /// An invalid pattern.
    #[error("not a pattern: {pattern}")]
    Pattern {
        /// The argument.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// A file or directory that cannot be opened.
    #[error("cannot open {} (check that you may read it)", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A source failed while it was read; everything before `line` has been delivered.
    #[error("cannot read {} from line {line} on", path.display())]
    Interrupted {
        /// The source's name.
        path: PathBuf,
        /// The first line that is not whole, 1-based.
        line: u64,
        /// The system's error.
        source: io::Error,
    },
    /// A format that contains no events directly.
    #[error("{} is {what}: {remedy}", path.display())]
    Foreign {
        /// The source's name.
        path: PathBuf,
        /// The format.
        what: &'static str,
        /// What to do, with the command that unpacks it.
        remedy: String,
    },
    /// Zstd data that is cut short or damaged; everything before `line` has been delivered.
    #[error("zstd data of {} is cut short or damaged from line {line} on (fetch the file again)", path.display())]
    Zstd {
        /// The source's name.
        path: PathBuf,
        /// The first line that is not whole, 1-based.
        line: u64,
        /// The decoder's error.
        source: io::Error,
    },
    /// Gzip data that is cut short or damaged; everything before `line` has been delivered.
    #[error("gzip data of {} is cut short or damaged from line {line} on (fetch the file again)", path.display())]
    Gzip {
        /// The source's name.
        path: PathBuf,
        /// The first line that is not whole, 1-based.
        line: u64,
        /// The decoder's error.
        source: io::Error,
    },
    /// More sources have events of the same time than can be open together.
    #[error(
        "{count} files or more have events of {}, among them {}; at most {most} can be merged by time at once \
         (give fewer folders at a time, or join the files of one folder that follow each other: cat folder/* > one.json)",
        moment(*at),
        path.display()
    )]
    TooManyAtOnce {
        /// The number of sources known to.
        count: usize,
        /// The most that are merged.
        most: usize,
        /// The time, in milliseconds since 1970.
        at: i64,
        /// The first source beyond the limit.
        path: PathBuf,
    },
}

impl InputError {
    pub(super) fn foreign(path: PathBuf, Foreign { what, remedy }: Foreign) -> Self {
        let name = path.display().to_string();
        // Standard input has no name for a command line.
        let remedy = if name == STANDARD_INPUT { remedy.to_owned() } else { remedy.replace("FILE", &quoted(&name)) };
        InputError::Foreign { path, what, remedy }
    }
}

const STANDARD_INPUT: &str = "standard input";

fn moment(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "no known time".to_owned(), |at| at.to_string())
}

/// One stream of documents.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    origin: Origin,
    /// Bytes as stored (compressed, if they are), if known beforehand.
    size: Option<u64>,
    /// For files that were not named one by one: where skipped files are recorded, with the reason.
    skipped: Option<Skipped>,
}

type Skipped = Arc<Mutex<BTreeMap<String, String>>>;

#[derive(Debug, Clone)]
enum Origin {
    File(PathBuf),
    StandardInput,
    Memory { bytes: Arc<[u8]>, piece: usize },
    Supplied(Supply),
}

/// Whole sources that the caller hands over, one after the other, in the order in which they are read. A damaged one is noted
/// and does not end the run: what came before the damage counts.
#[derive(Clone)]
pub struct Supply {
    next: Arc<Mutex<dyn FnMut() -> io::Result<Vec<u8>> + Send>>,
    damages: Arc<Mutex<Vec<Damage>>>,
}

/// A problem with a source that does not end the run: it was supplied, or was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its name.
    pub source: String,
    /// The problem, in words.
    pub what: String,
}

impl Supply {
    /// `next` returns the bytes of the next source, as stored (compressed, if they are). It is called once for each source, and
    /// may block.
    #[must_use]
    pub fn new(next: impl FnMut() -> io::Result<Vec<u8>> + Send + 'static) -> Self {
        Self { next: Arc::new(Mutex::new(next)), damages: Arc::default() }
    }

    /// A source with this name that is handed over next. Sources must be read in the order in which this was called.
    #[must_use]
    pub fn source(&self, name: &str, size: u64) -> Source {
        Source { name: name.to_owned(), origin: Origin::Supplied(self.clone()), size: Some(size), skipped: None }
    }

    /// The problems so far, in the order of the sources.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        self.damages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Supply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supply").field("damages", &self.damages).finish_non_exhaustive()
    }
}

impl Source {
    /// Standard input. It can be read once; a second source of it is empty.
    #[must_use]
    pub fn standard_input() -> Self {
        Self { name: STANDARD_INPUT.to_owned(), origin: Origin::StandardInput, size: None, skipped: None }
    }

    /// Bytes that are in memory, for generated streams and for tests.
    #[must_use]
    pub fn memory(name: &str, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::memory_in_pieces(name, bytes, usize::MAX)
    }

    /// As [`Source::memory`], but one read returns at most `piece` bytes, as pipes do.
    pub(super) fn memory_in_pieces(name: &str, bytes: impl Into<Arc<[u8]>>, piece: usize) -> Self {
        let bytes = bytes.into();
        Self {
            name: name.to_owned(),
            size: Some(bytes.len() as u64),
            origin: Origin::Memory { bytes, piece },
            skipped: None,
        }
    }

    fn file(path: PathBuf) -> Result<Self, InputError> {
        let size = match fs::metadata(&path) {
            // Opened now, because an hour later is too late to learn of a missing permission. Anything but a regular file (the
            // named pipe of a process substitution) can be opened only once.
            Ok(metadata) if metadata.is_file() => File::open(&path).map(|_| Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(source) => Err(source),
        };
        match size {
            Ok(size) => Ok(Self { name: path.display().to_string(), origin: Origin::File(path), size, skipped: None }),
            Err(source) => Err(InputError::Unreadable { path, source }),
        }
    }

    /// The path, or `standard input`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a file on disk.
    #[must_use]
    pub fn is_a_file(&self) -> bool {
        matches!(self.origin, Origin::File(_)) && self.size.is_some()
    }

    /// Bytes as stored (compressed, if they are), if known beforehand.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    pub(super) fn path(&self) -> PathBuf {
        match &self.origin {
            Origin::File(path) => path.clone(),
            Origin::StandardInput | Origin::Memory { .. } | Origin::Supplied(_) => PathBuf::from(&self.name),
        }
    }

    /// Whether it can be read again after it was read.
    pub(super) fn can_be_read_twice(&self) -> bool {
        match &self.origin {
            Origin::File(_) => self.size.is_some(),
            Origin::Memory { .. } => true,
            Origin::StandardInput | Origin::Supplied(_) => false,
        }
    }

    pub(super) fn is_supplied(&self) -> bool {
        matches!(self.origin, Origin::Supplied(_))
    }

    /// Notes a problem that does not end the run.
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if let Origin::Supplied(supply) = &self.origin {
            let damage = Damage { source: self.name.clone(), what: what() };
            supply.damages.lock().unwrap_or_else(PoisonError::into_inner).push(damage);
        }
    }

    /// Notes an error if it need not end the run; returns whether it does not.
    pub(super) fn tolerates(&self, error: &InputError) -> bool {
        match (error, &self.origin, &self.skipped) {
            (InputError::Foreign { what, remedy, .. }, Origin::Supplied(_), _) => {
                self.note(|| format!("it is {what}: {remedy}"));
                true
            }
            (InputError::Gzip { line, .. }, Origin::Supplied(_), _) => {
                self.note(|| format!("its gzip data is cut short or damaged from line {line} on"));
                true
            }
            (InputError::Zstd { line, .. }, Origin::Supplied(_), _) => {
                self.note(|| format!("its zstd data is cut short or damaged from line {line} on"));
                true
            }
            (InputError::Foreign { what, remedy, .. }, _, Some(skipped)) => {
                let mut skipped = skipped.lock().unwrap_or_else(PoisonError::into_inner);
                skipped.insert(self.name.clone(), format!("it is {what}: {remedy}"));
                true
            }
            _ => false,
        }
    }

    /// `hold`: whether a file stays open from one read to the next.
    pub(super) fn open(&self, hold: bool) -> Result<Box<dyn Read + Send>, InputError> {
        match &self.origin {
            Origin::File(path) if !hold && self.size.is_some() => {
                Ok(Box::new(ReopenedFile { path: path.clone(), at: 0 }))
            }
            Origin::File(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(source) => Err(InputError::Unreadable { path: path.clone(), source }),
            },
            Origin::StandardInput => Ok(Box::new(io::stdin())),
            Origin::Memory { bytes, piece } => {
                Ok(Box::new(MemoryReader { bytes: Arc::clone(bytes), at: 0, piece: *piece }))
            }
            Origin::Supplied(supply) => {
                let mut next = supply.next.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes = next();
                let failed = |source| InputError::Interrupted { path: self.path(), line: 1, source };
                bytes.map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn Read + Send>).map_err(failed)
            }
        }
    }
}

/// A file that is reopened for each read, so that many may be read in turn.
struct ReopenedFile {
    path: PathBuf,
    at: u64,
}

impl Read for ReopenedFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let count = file.read(into)?;
        self.at += count as u64;
        Ok(count)
    }
}

struct MemoryReader {
    bytes: Arc<[u8]>,
    at: usize,
    piece: usize,
}

impl Read for MemoryReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(into.len()).min(self.piece);
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Turns arguments into sources.
#[derive(Debug)]
pub struct Sources;

impl Sources {
    /// The sources that `args` name, in the order of the arguments; a source that is named twice is read twice.
    ///
    /// - `-` is standard input.
    /// - A file is read whatever its name; so is a named pipe.
    /// - A directory is walked. In each directory names are sorted by their bytes. Read are names that end in `.json`,
    ///   `.ndjson`, `.jsonl` or `.log`, in any case, and names without an extension (Firehose writes
    ///   `stream-1-2026-09-01-12-00-00-uuid`), each also with `.gz` or `.zst` appended. `.txt` is not read: people keep notes
    ///   in such files. Hidden names are skipped, links to directories are not followed.
    /// - An argument that names nothing and contains `*`, `?` or `[` is a pattern. Files that it matches are read whatever
    ///   their names, sorted by their bytes; directories that it matches are walked.
    ///
    /// Whether a file is compressed is decided by its first bytes, when it is read, not by its name.
    ///
    /// # Errors
    ///
    /// An argument that does not exist, cannot be opened, or contains or matches nothing; see [`InputError`].
    pub fn expand<S: AsRef<str>>(args: &[S]) -> Result<Vec<Source>, InputError> {
        let mut sources: Vec<Source> = Vec::new();
        let skipped = Skipped::default();
        for argument in args {
            let argument = argument.as_ref();
            if argument == "-" {
                // Nothing is left for a second one, and two readers at once would take lines from each other.
                let again = sources.iter().any(|source| matches!(source.origin, Origin::StandardInput));
                let nothing = || Source::memory(STANDARD_INPUT, Vec::new());
                sources.push(if again { nothing() } else { Source::standard_input() });
                continue;
            }
            let path = PathBuf::from(argument);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => walk_named(&path, &mut sources, &skipped)?,
                Ok(_) => sources.push(Source::file(path)?),
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(InputError::Unreadable { path, source });
                }
                Err(_) if argument.contains(['*', '?', '[']) => match_pattern(argument, &mut sources, &skipped)?,
                Err(_) => return Err(InputError::Missing { path }),
            }
        }
        Ok(sources)
    }

    /// The files of directories that were skipped while these sources were read, because they are not event files.
    #[must_use]
    pub fn skipped(sources: &[Source]) -> Vec<Damage> {
        let Some(skipped) = sources.iter().find_map(|source| source.skipped.as_ref()) else { return Vec::new() };
        let skipped = skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.iter().map(|(source, what)| Damage { source: source.clone(), what: what.clone() }).collect()
    }
}

fn match_pattern(pattern: &str, sources: &mut Vec<Source>, skipped: &Skipped) -> Result<(), InputError> {
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let matches = glob::glob_with(pattern, options)
        .map_err(|source| InputError::Pattern { pattern: pattern.to_owned(), source })?;
    let mut paths = Vec::new();
    for found in matches {
        paths.push(found.map_err(|failed| InputError::Unreadable {
            path: failed.path().to_owned(),
            source: io::Error::from(failed),
        })?);
    }
    if paths.is_empty() {
        return Err(InputError::NoMatch { pattern: pattern.to_owned() });
    }
    // By components, in the order of a walk; a directory comes before its entries.
    paths.sort_by(|a, b| bytes_of_components(a).cmp(bytes_of_components(b)));
    let before = sources.len();
    let mut walked = BTreeSet::new();
    for path in paths {
        // `logs/**` matches a directory and the directories in it: those have been walked already.
        if path.ancestors().skip(1).any(|above| walked.contains(above)) {
            continue;
        }
        if path.is_dir() {
            walk(&path, sources, skipped)?;
            walked.insert(path);
        } else {
            sources.push(Source::file(path)?);
        }
    }
    if sources.len() == before {
        return Err(InputError::NoMatch { pattern: pattern.to_owned() });
    }
    Ok(())
}

fn bytes_of_components(path: &Path) -> impl Iterator<Item = &[u8]> {
    path.components().map(|component| component.as_os_str().as_encoded_bytes())
}

fn walk_named(directory: &Path, sources: &mut Vec<Source>, skipped: &Skipped) -> Result<(), InputError> {
    let before = sources.len();
    walk(directory, sources, skipped)?;
    if sources.len() == before {
        return Err(InputError::NoEventFiles { path: directory.to_owned() });
    }
    Ok(())
}

fn walk(top: &Path, sources: &mut Vec<Source>, skipped: &Skipped) -> Result<(), InputError> {
    // The paths still to visit, the next one last: no recursion, however deep the tree.
    let mut waiting = visible_entries(top)?;
    while let Some((path, is_directory)) = waiting.pop() {
        if is_directory {
            waiting.append(&mut visible_entries(&path)?);
        } else if path.file_name().is_some_and(names_event_file) && path.is_file() {
            sources.push(Source { skipped: Some(Arc::clone(skipped)), ..Source::file(path)? });
        }
    }
    Ok(())
}

/// The entries of a directory, the last name first, and whether each is a directory (a link to one is not).
fn visible_entries(directory: &Path) -> Result<Vec<(PathBuf, bool)>, InputError> {
    let read = || -> io::Result<Vec<(PathBuf, bool)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                entries.push((entry.path(), entry.file_type()?.is_dir()));
            }
        }
        entries.sort_by(|(a, _), (b, _)| b.as_os_str().as_encoded_bytes().cmp(a.as_os_str().as_encoded_bytes()));
        Ok(entries)
    };
    read().map_err(|source| InputError::Unreadable { path: directory.to_owned(), source })
}

/// The most characters of an extension: stream names may contain dots, and Firehose appends a date and a UUID.
const LONGEST_EXTENSION: usize = 8;

fn names_event_file(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes().to_ascii_lowercase();
    let name = name.strip_suffix(b".gz").or_else(|| name.strip_suffix(b".zst")).unwrap_or(&name);
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return true };
    let extension = &name[dot + 1..];
    let is_extension = (1..=LONGEST_EXTENSION).contains(&extension.len())
        && extension.iter().all(u8::is_ascii_alphanumeric)
        && !extension.iter().all(u8::is_ascii_digit);
    !is_extension || matches!(extension, b"json" | b"ndjson" | b"jsonl" | b"log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}\n").unwrap();
        }
        root
    }

    /// The names of the sources, relative to `root`, or the error's message.
    fn expanded(root: &Path, args: &[&str]) -> Result<Vec<String>, String> {
        let args: Vec<String> = args
            .iter()
            .map(|arg| if *arg == "-" { (*arg).to_owned() } else { format!("{}/{arg}", root.display()) })
            .collect();
        let prefix = format!("{}/", root.display());
        match Sources::expand(&args) {
            Ok(sources) => Ok(sources.iter().map(|source| source.name().replace(&prefix, "")).collect()),
            Err(error) => Err(error.to_string().replace(&prefix, "")),
        }
    }

    #[test]
    fn arguments_stand_for_files_in_order() {
        let root = tree(&[
            "one.txt",
            "s3/2026/09/01/10/my.stream-1-2026-09-01-10-00-00-0a1b",
            "s3/2026/09/01/09/stream-1-2026-09-01-09-00-00-ffff.gz",
            "s3/2026/10/01/00/x.JSON.GZ",
            "s3/2026/.hidden/x.json",
            "s3/2026/.x.json",
            "mixed/b.ndjson",
            "mixed/B.jsonl",
            "mixed/a.log",
            "mixed/a/z.json",
            "mixed/notes.txt",
            "mixed/notes.txt.gz",
            "mixed/README.md",
            "mixed/log.1",
        ]);
        let table: &[(&str, &[&str], &[&str])] = &[
            ("no argument", &[], &[]),
            ("a file whatever its name, twice", &["one.txt", "one.txt"], &["one.txt", "one.txt"]),
            ("standard input between files", &["one.txt", "-"], &["one.txt", "standard input"]),
            (
                "Firehose's layout",
                &["s3"],
                &[
                    "s3/2026/09/01/09/stream-1-2026-09-01-09-00-00-ffff.gz",
                    "s3/2026/09/01/10/my.stream-1-2026-09-01-10-00-00-0a1b",
                    "s3/2026/10/01/00/x.JSON.GZ",
                ],
            ),
            (
                "a directory with other things in it",
                &["mixed"],
                &["mixed/B.jsonl", "mixed/a/z.json", "mixed/a.log", "mixed/b.ndjson", "mixed/log.1"],
            ),
            ("a pattern takes any name", &["mixed/notes*"], &["mixed/notes.txt", "mixed/notes.txt.gz"]),
            ("a pattern does not cross directories", &["mixed/*.json", "mixed/*/*.json"], &[]),
            (
                "a pattern walks directories once",
                &["s3/2026/09/**"],
                &[
                    "s3/2026/09/01/09/stream-1-2026-09-01-09-00-00-ffff.gz",
                    "s3/2026/09/01/10/my.stream-1-2026-09-01-10-00-00-0a1b",
                ],
            ),
            ("a pattern over directories", &["mixed/**/*.json"], &["mixed/a/z.json"]),
        ];
        for (name, args, expected) in table {
            let outcome = expanded(root.path(), args);
            if *name == "a pattern does not cross directories" {
                assert!(outcome.unwrap_err().starts_with("nothing matches mixed/*.json"), "{name}");
            } else {
                assert_eq!(outcome.unwrap(), *expected, "{name}");
            }
        }
    }

    #[test]
    fn arguments_that_name_nothing_are_refused_with_a_remedy() {
        let root = tree(&["empty/readme.md", "file"]);
        let table: &[(&str, &str)] = &[
            ("nowhere", "no such file: nowhere (name a file, a directory, a quoted pattern, or - for standard input)"),
            (
                "empty",
                "no event files in empty (.json, .ndjson, .jsonl, .log, each also with .gz or .zst, or no extension; \
                 name others one by one)",
            ),
            ("no*thing", "nothing matches no*thing (`**` crosses directories, `*` does not)"),
            ("a[", "not a pattern: a["),
            ("file/x", "cannot open file/x (check that you may read it)"),
        ];
        for (argument, expected) in table {
            assert_eq!(expanded(root.path(), &["file", argument]).unwrap_err(), *expected, "{argument}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_to_files_are_followed_and_links_to_directories_are_not() {
        let root = tree(&["real/a.json", "top/b.json"]);
        std::os::unix::fs::symlink(root.path().join("real/a.json"), root.path().join("top/a.json")).unwrap();
        std::os::unix::fs::symlink(root.path().join("top"), root.path().join("top/loop")).unwrap();
        std::os::unix::fs::symlink(root.path().join("nowhere"), root.path().join("top/dangling")).unwrap();
        assert_eq!(expanded(root.path(), &["top"]).unwrap(), ["top/a.json", "top/b.json"]);
    }
}
