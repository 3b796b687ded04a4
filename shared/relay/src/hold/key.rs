//! Names of objects, from which the order of mail is read.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use permits::Class;

use super::Millis;
use crate::ports::Sender;

/// The ISP in the key of mail whose ISP is not known, or has a name that does not fit into a key.
const OTHER: &str = "other";

/// How long mail of each class may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age {
    pub(crate) bulk: Duration,
    pub(crate) critical: Duration,
}

impl Age {
    pub(crate) fn of(self, class: Class) -> Duration {
        match class {
            Class::Bulk => self.bulk,
            Class::Critical => self.critical,
        }
    }
}

/// Where the objects of one kind are, after the prefix that is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Held,
    Claims,
    Expired,
    Refused,
}

impl Place {
    pub(crate) const ALL: [Place; 4] = [Place::Held, Place::Claims, Place::Expired, Place::Refused];

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Place::Held => "held/",
            Place::Claims => "claims/",
            Place::Expired => "expired/",
            Place::Refused => "refused/",
        }
    }
}

/// The mail of one class, ISP and sender. In the order in which lines are walked: critical first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) class: Class,
    pub(crate) isp: Arc<str>,
    /// A digest: senders have domains.
    sender: String,
}

impl Line {
    pub(crate) fn new(class: Class, isp: Option<&str>, sender: &Sender) -> Line {
        let isp = Line::isp_of(isp);
        let digest = digest(&SHA256, format!("{}\0{}", sender.set, sender.identity).as_bytes());
        let sender = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Line { class, isp: isp.into(), sender }
    }

    /// The ISP of the line for mail that waits for this one.
    pub(crate) fn isp_of(isp: Option<&str>) -> &str {
        let fits = |isp: &&str| {
            (1..=64).contains(&isp.len())
                && isp.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        isp.filter(fits).unwrap_or(OTHER)
    }

    /// Reads `CLASS.ISP.SENDER`; `None` if it is not one.
    pub(crate) fn parse(name: &str) -> Option<Line> {
        let (class, rest) = name.split_once('.')?;
        let (isp, sender) = rest.split_once('.')?;
        let class = Class::ALL.into_iter().find(|known| known.name() == class)?;
        Some(Line { class, isp: isp.into(), sender: sender.to_owned() })
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.{}.{}", self.class.name(), self.isp, self.sender)
    }

    /// What all keys of its mail begin with.
    pub(crate) fn folder(&self) -> String {
        format!("{}{}/", Place::Held.folder(), self.name())
    }

    /// Critical before bulk, then by name.
    pub(crate) fn rank(&self) -> (bool, String) {
        (self.class == Class::Bulk, self.name())
    }
}

/// A mail in its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailKey {
    pub(crate) line: Line,
    pub(crate) accepted: Millis,
    pub(crate) id: String,
}

impl MailKey {
    /// Reads the key of a mail that is held; `None` if it is not one.
    pub(crate) fn parse(key: &str) -> Option<MailKey> {
        let (line, mail) = key.strip_prefix(Place::Held.folder())?.split_once('/')?;
        let (accepted, id) = mail.split_once('-')?;
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let accepted = Millis(accepted.parse().ok()?);
        is_id.then(|| Some(MailKey { line: Line::parse(line)?, accepted, id: id.to_owned() }))?
    }

    fn at(&self, place: Place) -> String {
        format!("{}{}/{:014}-{}", place.folder(), self.line.name(), self.accepted.0, self.id)
    }

    pub(crate) fn held(&self) -> String {
        self.at(Place::Held)
    }

    /// Where it is kept after its end.
    pub(crate) fn ended(&self, end: Place) -> String {
        self.at(end)
    }

    pub(crate) fn claim(&self) -> String {
        format!("{}{}", Place::Claims.folder(), self.id)
    }

    /// From when on it must not be sent.
    pub(crate) fn expires(&self, age: Age) -> Millis {
        self.accepted.plus(age.of(self.line.class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(class: Class, isp: Option<&str>, accepted: u64) -> MailKey {
        let sender = Sender { set: "news".to_owned(), identity: "news.example".to_owned() };
        MailKey { line: Line::new(class, isp, &sender), accepted: Millis(accepted), id: "0a".repeat(16) }
    }

    #[test]
    fn keys_of_a_line_are_in_the_order_of_age_and_are_read_as_they_were_written() {
        let keys: Vec<String> =
            [9, 10, 1_795_000_000_000, 99_999_999_999_999].map(|at| key(Class::Bulk, Some("gmail"), at).held()).into();
        assert!(keys.is_sorted(), "{keys:?}");
        let known = key(Class::Critical, Some("gmail"), 7);
        assert_eq!(MailKey::parse(&known.held()), Some(known));
        insta::assert_snapshot!(keys[2], @"held/bulk.gmail.6a7a67fba8c7204b/01795000000000-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a");
    }

    #[test]
    fn a_key_has_no_domain_whatever_the_gate_calls_an_isp() {
        for isp in [None, Some("gmail.com"), Some(""), Some("a/b"), Some("é")] {
            assert_eq!(&*key(Class::Bulk, isp, 1).line.isp, "other");
        }
        assert!(!key(Class::Bulk, None, 1).held().contains("example"));
    }

    #[test]
    fn what_others_put_there_is_not_a_mail() {
        for key in
            ["held/", "held/a", "held/bulk.gmail.1/x", "held/bulk.gmail.1/12-short", "claims/1", "held/mild.a.b/1-0"]
        {
            assert_eq!(MailKey::parse(key), None, "{key}");
        }
    }

    #[test]
    fn senders_have_lines_of_their_own_and_critical_mail_goes_first() {
        let line = |class, set: &str| {
            Line::new(class, Some("gmail"), &Sender { set: set.to_owned(), identity: "a.example".to_owned() })
        };
        assert_ne!(line(Class::Bulk, "a"), line(Class::Bulk, "b"));
        assert!(line(Class::Critical, "b").rank() < line(Class::Bulk, "a").rank());
    }
}
