//! An invented mail and its events.

use std::rc::Rc;

use super::kinds::{BounceKind, DelayKind};
use super::scenario::{Envelope, Isp};

/// Up to four recipients of a mail: bit `i` stands for recipient `i`.
pub(super) type Recipients = u8;

#[derive(Debug)]
pub(super) struct Mail {
    /// Its number, from 1, over the whole stream.
    pub(super) number: u64,
    /// Makes its id look random.
    pub(super) salt: u32,
    /// When SES accepted it, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// Place of its configuration set in the scenario.
    pub(super) set: usize,
    /// Sent without the configuration set, so that only identity notifications report it.
    pub(super) untagged: bool,
    /// The domain of each recipient; one to four.
    pub(super) hosts: Vec<Host>,
}

/// A recipient domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A consumer domain.
    Named(&'static str, Isp),
    /// `corp-N.example.net`.
    Business(u8),
}

impl Host {
    pub(super) fn isp(self) -> Isp {
        match self {
            Self::Named(_, isp) => isp,
            Self::Business(_) => Isp::Other,
        }
    }
}

/// Number of business domains.
pub(super) const BUSINESSES: u8 = 40;

/// The consumer domains of an ISP, weighted by repetition; none for [`Isp::Other`].
pub(super) fn domains(isp: Isp) -> &'static [&'static str] {
    match isp {
        Isp::Gmail => &[
            "gmail.com",
            "gmail.com",
            "gmail.com",
            "gmail.com",
            "gmail.com",
            "gmail.com",
            "gmail.com",
            "googlemail.com",
        ],
        Isp::Microsoft => &["outlook.com", "hotmail.com", "hotmail.com", "live.com", "msn.com"],
        Isp::Yahoo => &["yahoo.com", "yahoo.com", "yahoo.com", "ymail.com", "aol.com"],
        Isp::Apple => &["icloud.com", "icloud.com", "me.com"],
        Isp::Other => &[],
    }
}

/// One fact about a mail, as SES reports it. Times are in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    Send,
    Delivery {
        to: Recipients,
        at_ms: i64,
    },
    Bounce {
        to: Recipients,
        at_ms: i64,
        kind: &'static BounceKind,
        feedback: u8,
    },
    Delay {
        to: Recipients,
        at_ms: i64,
        kind: &'static DelayKind,
    },
    /// `to` are all recipients at the complaining domain.
    Complaint {
        to: Recipients,
        at_ms: i64,
        feedback: u8,
        with_report: bool,
    },
    Reject,
    RenderingFailure,
    Open {
        at_ms: i64,
    },
    Click {
        at_ms: i64,
    },
}

/// A line, or a part of a batch, to write.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) arrives_ms: i64,
    /// Decides the order of arrivals in the same millisecond; unique.
    pub(super) sequence: u64,
    pub(super) news: News,
}

#[derive(Clone, Debug)]
pub(super) enum News {
    Fact { mail: Rc<Mail>, fact: Fact, envelope: Envelope },
    Noise { kind: u8, set: usize, envelope: Envelope },
    Garbage { kind: u8, set: usize },
    FutureDated { set: usize },
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    /// The earlier is the greater, because a heap returns the greatest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.arrives_ms, other.sequence).cmp(&(self.arrives_ms, self.sequence))
    }
}
