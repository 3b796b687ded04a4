//! What a listener has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something that a client asked for was refused. Each refusal counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// A command that is unknown, or not written as it must be.
    Syntax,
    /// A command out of order.
    Sequence,
    /// A command that needs TLS or a user first.
    NotAuthenticated,
    /// A wrong user or password, or an authentication that the client cancelled.
    Credentials,
    /// An address that is not valid or cannot be reached by way of SES.
    Address,
    /// A recipient above the limit of a message.
    Recipients,
    /// A message above the size limit.
    Size,
    /// No memory was left for the message.
    Memory,
    /// A bare CR or a bare LF, in a command or a message.
    LineEnds,
    /// A line of a message above the limit.
    LineLength,
    /// A NUL in a message.
    Nul,
    /// Too many connections.
    Connections,
    /// Too many commands, errors or bytes in one session.
    Limits,
    /// The client was silent or too slow.
    Timeout,
    /// The relay is shutting down.
    Shutdown,
    /// The TLS handshake failed.
    Handshake,
    /// The relay answered that the message was not sent, for now.
    Deferred,
    /// The relay answered that the message was not sent, for good.
    Rejected,
}

impl Refused {
    /// All reasons, in the order of the snapshot.
    pub const ALL: [Self; 18] = [
        Self::Syntax,
        Self::Sequence,
        Self::NotAuthenticated,
        Self::Credentials,
        Self::Address,
        Self::Recipients,
        Self::Size,
        Self::Memory,
        Self::LineEnds,
        Self::LineLength,
        Self::Nul,
        Self::Connections,
        Self::Limits,
        Self::Timeout,
        Self::Shutdown,
        Self::Handshake,
        Self::Deferred,
        Self::Rejected,
    ];

    /// A stable name, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Sequence => "sequence",
            Self::NotAuthenticated => "not_authenticated",
            Self::Credentials => "credentials",
            Self::Address => "address",
            Self::Recipients => "recipients",
            Self::Size => "size",
            Self::Memory => "memory",
            Self::LineEnds => "line_ends",
            Self::LineLength => "line_length",
            Self::Nul => "nul",
            Self::Connections => "connections",
            Self::Limits => "limits",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Handshake => "handshake",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
        }
    }
}

/// Counters of one listener, since it started.
#[derive(Debug, Default)]
pub struct SmtpCounts {
    connections: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// The counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpSnapshot {
    /// Connections that were taken, refused ones included.
    pub connections: u64,
    /// Messages that came whole and were not refused by the front, whatever became of them.
    pub messages: u64,
    /// The bytes of these messages, header and body.
    pub bytes: u64,
    /// How often each reason was given, in the order of [`Refused::ALL`].
    pub refused: [(Refused, u64); Refused::ALL.len()],
}

impl SmtpCounts {
    /// The counters now. They are read one after the other, so a moment of work may lie between two of them.
    pub fn snapshot(&self) -> SmtpSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SmtpSnapshot {
            connections: read(&self.connections),
            messages: read(&self.messages),
            bytes: read(&self.bytes),
            refused: Refused::ALL.map(|reason| (reason, read(&self.refused[reason as usize]))),
        }
    }

    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn message(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, reason: Refused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl SmtpSnapshot {
    /// How often a reason was given.
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_counts_for_itself() {
        for (index, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
            let counts = SmtpCounts::default();
            counts.refused(reason);
            let snapshot = counts.snapshot();
            assert_eq!(snapshot.refused(reason), 1);
            assert_eq!(snapshot.refused.iter().map(|(_, count)| count).sum::<u64>(), 1);
        }
    }
}
