//! The classes of mail: which may wait, and which has a reserve of its own in each quota.

/// How urgent mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It can wait.
    Bulk,
    /// A person waits for it, for example for a code or a password.
    Critical,
}

impl Class {
    /// Both.
    pub const ALL: [Class; 2] = [Class::Bulk, Class::Critical];

    /// Stable name, as in requests.
    pub fn name(self) -> &'static str {
        match self {
            Class::Bulk => "bulk",
            Class::Critical => "critical",
        }
    }
}
