//! Recipient domains: the amount of mail to each, and evidence of its ISP. For people who add ISPs to a policy.
//!
//! **Invariant:** of an address only its domain is kept; of what a server said, only the name of a built-in ISP.
//! **Invariant:** at most [`MAX_DOMAINS`] domains are kept, the first ones; mail to others is counted.

use std::collections::BTreeMap;

use pipeline::classify::Classifier;
use reputation::address::Address;
use reputation::isp::{Isp, IspMap, MAX_PROPOSED_DOMAINS, Proposals, hint};
use reputation::unit::UnitKind;
use ses_events::{Detail, Event, FailedRecipient, Text};

/// The most domains that a book keeps.
pub const MAX_DOMAINS: usize = MAX_PROPOSED_DOMAINS;

/// The tag in which SES names the ISP of a recipient. Not documented for events; it occurs in events of public consumers, and
/// in the example of the `GetMessageInsights` API.
pub const ISP_TAG: &str = "ses:recipient-isp";

/// The number of names from SES that are kept for one domain.
const MAX_NAMES: usize = 8;
/// The number of letters of such a name that are kept.
const MAX_LETTERS: usize = 40;

/// Mails, counted by their sends and by their outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mails {
    /// Send events.
    pub sent: u64,
    /// Deliveries and bounces.
    pub outcomes: u64,
}

impl Mails {
    /// The number of mails: some senders publish no Send events, and some outcomes are still missing.
    pub fn count(self) -> u64 {
        self.sent.max(self.outcomes)
    }

    fn add(&mut self, kind: UnitKind) {
        if kind == UnitKind::Sent {
            self.sent = self.sent.saturating_add(1);
        } else if UnitKind::OUTCOMES.contains(&kind) {
            self.outcomes = self.outcomes.saturating_add(1);
        }
    }
}

/// What is known about one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainMail {
    /// Its ISP in the map of the policy.
    pub isp: Isp,
    /// Its mail.
    pub mails: Mails,
    /// The mail for which SES named an ISP, by that name as SES writes it.
    pub ses: BTreeMap<Box<str>, Mails>,
}

/// Recipient domains.
#[derive(Clone, Debug)]
pub struct DomainBook {
    map: IspMap,
    domains: BTreeMap<Box<str>, DomainMail>,
    hints: Proposals,
    overlooked: Mails,
    overlooked_other: Mails,
}

impl DomainBook {
    /// An empty book; `map` gives the ISP of a domain.
    pub fn new(map: IspMap) -> DomainBook {
        let (domains, hints) = (BTreeMap::new(), Proposals::default());
        DomainBook { map, domains, hints, overlooked: Mails::default(), overlooked_other: Mails::default() }
    }

    /// The map by which domains are classified.
    pub fn map(&self) -> &IspMap {
        &self.map
    }

    /// All domains, by name.
    pub fn domains(&self) -> impl Iterator<Item = (&str, &DomainMail)> {
        self.domains.iter().map(|(domain, mail)| (&**domain, mail))
    }

    /// What servers said about themselves, for domains that the map calls `other`.
    pub fn hints(&self) -> &Proposals {
        &self.hints
    }

    /// Mail to domains that are not kept, because [`MAX_DOMAINS`] came before them: to all of those, and to those that the map
    /// calls `other`.
    pub fn overlooked(&self) -> (u64, u64) {
        (self.overlooked.count(), self.overlooked_other.count())
    }

    /// Counts one mail to a domain in normal form, without further facts.
    pub fn count(&mut self, domain: &str) {
        self.note(&Received { domain: domain.into(), ses: None, hint: None }, UnitKind::Sent);
    }

    /// Counts a new unit.
    pub(crate) fn note(&mut self, received: &Received, kind: UnitKind) {
        if !self.domains.contains_key(&received.domain) {
            let isp = self.map.classify(&received.domain);
            if self.domains.len() >= MAX_DOMAINS {
                self.overlooked.add(kind);
                if isp == Isp::OTHER {
                    self.overlooked_other.add(kind);
                }
                return;
            }
            let mail = DomainMail { isp, mails: Mails::default(), ses: BTreeMap::new() };
            self.domains.insert(received.domain.clone(), mail);
        }
        let Some(known) = self.domains.get_mut(&received.domain) else { return };
        known.mails.add(kind);
        if let Some(name) = &received.ses
            && (known.ses.len() < MAX_NAMES || known.ses.contains_key(name))
        {
            known.ses.entry(name.clone()).or_default().add(kind);
        }
        if let Some(isp) = received.hint
            && known.isp == Isp::OTHER
        {
            self.hints.observe(&received.domain, isp);
        }
    }
}

/// What an event says about the domain of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    domain: Box<str>,
    ses: Option<Box<str>>,
    hint: Option<&'static str>,
}

/// What an event says about the domains of its units, in their order; empty for events without recipient units. `classifier`:
/// the one that has just classified the event.
pub(crate) fn received(event: &Event<'_>, classifier: &Classifier) -> Vec<Received> {
    let destination = &event.mail.destination;
    let all = |recipients: &[Text<'_>]| -> Vec<(String, Option<&'static str>)> {
        let counted = recipients.iter().filter(|recipient| classifier.counts(recipient));
        counted.map(|recipient| (recipient.to_string(), None)).collect()
    };
    let failed = |failed: &[FailedRecipient<'_>]| {
        if failed.is_empty() {
            return all(destination);
        }
        let one = |place: &Option<usize>| {
            let recipient = place.and_then(|place| failed.get(place));
            let address = recipient.and_then(|recipient| recipient.email_address.as_deref()).unwrap_or_default();
            let hint = recipient.and_then(|recipient| recipient.diagnostic_code.as_deref()).and_then(hint);
            (address.to_owned(), hint)
        };
        classifier.failures().iter().map(one).collect()
    };
    let recipients = match &event.detail {
        Detail::Send => all(destination),
        Detail::Delivery(delivery) if delivery.recipients.is_empty() => all(destination),
        Detail::Delivery(delivery) => all(&delivery.recipients),
        Detail::Bounce(bounce) => failed(&bounce.recipients),
        Detail::DeliveryDelay(delay) => failed(&delay.recipients),
        Detail::Complaint(_)
        | Detail::Reject { .. }
        | Detail::RenderingFailure { .. }
        | Detail::Open(_)
        | Detail::Click(_)
        | Detail::Subscription { .. } => return Vec::new(),
    };
    // Forwarded mail bounces at another domain than it was sent to.
    let sent_to: Vec<Box<str>> = destination.iter().filter_map(|recipient| domain(recipient)).collect();
    let only = sent_to.first().filter(|first| sent_to.iter().all(|domain| domain == *first));
    // One name for recipients at several domains fits none of them.
    let ses = only.and_then(|_| event.mail.tags.first(ISP_TAG)).and_then(|name| short(&name));
    let one = |(recipient, hint): (String, Option<&'static str>)| {
        let own = domain(&recipient);
        let domain = match only {
            Some(only) => only.clone(),
            None => own.filter(|own| sent_to.is_empty() || sent_to.contains(own)).unwrap_or_default(),
        };
        Received { domain, ses: ses.clone(), hint }
    };
    recipients.into_iter().map(one).collect()
}

impl Received {
    /// Whether there is a domain: an address literal has none, and for some forwarded mail it is unknown.
    pub(crate) fn has_domain(&self) -> bool {
        !self.domain.is_empty()
    }
}

fn domain(recipient: &str) -> Option<Box<str>> {
    let address = Address::parse(recipient).ok()?;
    Some(address.domain()).filter(|domain| !domain.starts_with('[')).map(Box::from)
}

/// A name from SES, cut to the length that is kept; `None` if it is blank.
fn short(name: &str) -> Option<Box<str>> {
    let name: String = name.trim().chars().filter(|letter| !letter.is_control()).take(MAX_LETTERS).collect();
    (!name.is_empty()).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(domain: &str, ses: Option<&str>, hint: Option<&'static str>) -> Received {
        Received { domain: domain.into(), ses: ses.map(Box::from), hint }
    }

    #[test]
    fn a_mail_is_counted_once_by_its_send_or_by_its_outcome() {
        let mut book = DomainBook::new(IspMap::builtin());
        for kind in [UnitKind::Sent, UnitKind::Delivered, UnitKind::Sent, UnitKind::HardBounce, UnitKind::Delay] {
            book.note(&mail("a.example", None, None), kind);
        }
        book.note(&mail("b.example", None, None), UnitKind::SoftBounce);
        book.count("c.example");
        let counted: Vec<(&str, u64)> = book.domains().map(|(domain, known)| (domain, known.mails.count())).collect();
        assert_eq!(counted, [("a.example", 2), ("b.example", 1), ("c.example", 1)]);
    }

    #[test]
    fn domains_and_names_beyond_the_bounds_are_not_kept_and_their_mail_is_counted() {
        let mut book = DomainBook::new(IspMap::builtin());
        for number in 0..MAX_DOMAINS {
            book.count(&format!("{number}.example"));
        }
        book.count("gmail.com");
        book.count("late.example");
        book.count("0.example");
        assert_eq!((book.domains().count(), book.overlooked()), (MAX_DOMAINS, (2, 1)));
        for number in 0..MAX_NAMES + 2 {
            book.note(&mail("1.example", Some(&format!("n{number}")), None), UnitKind::Sent);
        }
        let names = book.domains().find(|(domain, _)| *domain == "1.example").unwrap().1.ses.len();
        assert_eq!(names, MAX_NAMES);
    }

    #[test]
    fn hints_are_kept_for_domains_that_no_map_knows() {
        let mut book = DomainBook::new(IspMap::builtin());
        book.note(&mail("a.example", None, Some("mimecast")), UnitKind::HardBounce);
        book.note(&mail("gmail.com", None, Some("google-workspace")), UnitKind::HardBounce);
        let hints: Vec<(&str, &str)> = book.hints().list(1).map(|hint| (hint.domain, hint.isp)).collect();
        assert_eq!(hints, [("a.example", "mimecast")]);
    }
}
