//! The port to the store of held mail.

use bytes::Bytes;

use crate::ports::Pending;

/// Objects by key, as S3 keeps them: what was written is read from then on, by everyone.
pub(crate) trait Store: Send + Sync + 'static {
    /// Writes an object under a key that nothing else writes. Never repeated within: a repetition that arrives late would
    /// bring back what was deleted in between.
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Pending<'a, Result<(), StoreError>>;

    /// Writes an object if the condition holds; `None` if it does not hold. Never repeated within.
    fn put_if<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
        condition: Condition,
    ) -> Pending<'a, Result<Option<Version>, StoreError>>;

    /// Reads an object; `None` if there is none.
    fn get<'a>(&'a self, key: &'a str) -> Pending<'a, Result<Option<(Bytes, Version)>, StoreError>>;

    /// Whether there is an object.
    fn exists<'a>(&'a self, key: &'a str) -> Pending<'a, Result<bool, StoreError>>;

    /// Deletes an object. One that does not exist is deleted already.
    fn delete<'a>(&'a self, key: &'a str) -> Pending<'a, Result<(), StoreError>>;

    /// The objects under a folder whose keys come after `after`, in order, at most `most` (1 to 1,000).
    fn list<'a>(
        &'a self,
        folder: &'a str,
        after: Option<&'a str>,
        most: usize,
    ) -> Pending<'a, Result<Vec<Listed>, StoreError>>;

    /// The names of the folders in a folder, without slashes.
    fn folders<'a>(&'a self, folder: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>>;
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// Names what was written: another for each other content (an `ETag`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) String);

/// When an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// There is none of this key.
    Absent,
    /// The one of this key is this version.
    Is(Version),
}

/// Why the store has not done what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is certain that nothing has changed.
    #[error("the store refuses {operation}: {code}")]
    Refused { operation: &'static str, code: String },
    /// It may have been done, and may still be done later.
    #[error("no clear answer of the store to {operation}: {problem}")]
    Unclear { operation: &'static str, problem: String },
}

impl StoreError {
    /// As in labels.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            StoreError::Refused { operation, .. } | StoreError::Unclear { operation, .. } => operation,
        }
    }
}
