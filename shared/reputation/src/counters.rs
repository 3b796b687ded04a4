//! Counters of one cohort, and the rates computed from them.

use serde::{Deserialize, Serialize};

use crate::grouped::Grouped;
use crate::unit::UnitKind;

/// How many units of each kind one cohort of mail has.
///
/// Three more counters follow those of the kinds: mail, deliveries and complaints at ISPs whose complaints reach the
/// sender, so that a sum over ISPs still knows how much of its mail could have led to a complaint.
/// [`Timeline`](crate::Timeline) decides which ISPs these are. Beside them it is known how many of the hard bounces are
/// at business domains, and at about how many domains, and from about how many people complaints are; only evidence uses
/// that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    counts: [u32; KINDS + 3],
    at_domains: Grouped,
    by_people: Grouped,
}

const KINDS: usize = UnitKind::ALL.len();
const HEARD_SENT: usize = KINDS;
const HEARD_DELIVERED: usize = KINDS + 1;
const HEARD_COMPLAINTS: usize = KINDS + 2;

impl Counters {
    /// Counts `count` units of one kind. `returns_complaints`: whether the ISP reports complaints.
    pub fn add(&mut self, kind: UnitKind, count: u32, returns_complaints: bool) {
        self.bump(kind as usize, count);
        if !returns_complaints {
            return;
        }
        if let Some(heard) = match kind {
            UnitKind::Sent => Some(HEARD_SENT),
            UnitKind::Delivered => Some(HEARD_DELIVERED),
            UnitKind::Complaint => Some(HEARD_COMPLAINTS),
            UnitKind::HardBounce
            | UnitKind::SoftBounce
            | UnitKind::Undetermined
            | UnitKind::Suppressed
            | UnitKind::Delay
            | UnitKind::Deferral
            | UnitKind::Block
            | UnitKind::Reject
            | UnitKind::RenderingFailure
            | UnitKind::Open
            | UnitKind::Click
            | UnitKind::RefusedBounce => None,
        } {
            self.bump(heard, count);
        }
    }

    /// Notes the causes of units that [`Counters::add`] counts as well: hard bounces at business domains, or complaints.
    pub fn add_causes(&mut self, kind: UnitKind, grouped: Grouped) {
        match Metric::harmed_by(kind) {
            Some(Metric::HardBounce) => self.at_domains.merge(grouped),
            Some(Metric::Complaint) => self.by_people.merge(grouped),
            Some(Metric::Delay | Metric::Block) | None => {}
        }
    }

    /// The units of a kind whose cause is known: hard bounces at business domains, or complaints.
    pub fn causes(&self, kind: UnitKind) -> Grouped {
        Metric::harmed_by(kind).map(|metric| self.causes_of(metric)).unwrap_or_default()
    }

    /// The bad units of a metric whose cause is known.
    pub(crate) fn causes_of(&self, metric: Metric) -> Grouped {
        match metric {
            Metric::HardBounce => self.at_domains,
            Metric::Complaint => self.by_people,
            Metric::Delay | Metric::Block => Grouped::default(),
        }
    }

    /// Adds the causes of another ISP's share.
    pub(crate) fn merge_causes(&mut self, part: &Counters) {
        self.at_domains.merge(part.at_domains);
        self.by_people.merge(part.by_people);
    }

    /// These counters of one ISP, once its complaints are known to reach the sender.
    #[must_use]
    pub(crate) fn heard(mut self) -> Counters {
        for (kind, heard) in [
            (UnitKind::Sent, HEARD_SENT),
            (UnitKind::Delivered, HEARD_DELIVERED),
            (UnitKind::Complaint, HEARD_COMPLAINTS),
        ] {
            self.counts[heard] = self.get(kind);
        }
        self
    }

    /// These counters without the mail that could have led to a complaint.
    #[must_use]
    pub(crate) fn unheard(mut self) -> Counters {
        self.counts[KINDS..].fill(0);
        self
    }

    /// Adds from one ISP the mail that could have led to a complaint.
    pub(crate) fn hear(&mut self, part: &Counters) {
        for (mine, theirs) in self.counts.iter_mut().zip(part.counts).skip(KINDS) {
            *mine = mine.saturating_add(theirs);
        }
    }

    fn bump(&mut self, index: usize, count: u32) {
        self.counts[index] = self.counts[index].saturating_add(count);
    }

    /// How many units of this kind.
    pub fn get(&self, kind: UnitKind) -> u32 {
        self.counts[kind as usize]
    }

    /// Adds another cohort, or another ISP's share of the same cohort.
    pub fn merge(&mut self, other: &Counters) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
        self.merge_causes(other);
    }

    /// Subtracts an ISP's share from a sum that contains it. A set cannot be subtracted from: afterwards no causes
    /// are known, until those of the other ISPs are added again.
    pub fn remove(&mut self, part: &Counters) {
        for (mine, theirs) in self.counts.iter_mut().zip(part.counts) {
            *mine = mine.saturating_sub(theirs);
        }
        (self.at_domains, self.by_people) = (Grouped::default(), Grouped::default());
    }

    /// Mails with a final outcome ([`UnitKind::OUTCOMES`]). Suppressed mails are excluded.
    pub fn attempts(&self) -> u64 {
        UnitKind::OUTCOMES.iter().map(|kind| u64::from(self.get(*kind))).sum()
    }

    /// Mails with an outcome, and mails still on their way: the denominator of rates.
    ///
    /// A bounce is often reported before the deliveries of its minute, and some senders publish no deliveries. Mail
    /// that was sent and has no outcome yet is not bad so far, and excluding it would turn a few early bounces into a
    /// rate of 100 %.
    fn mails(&self) -> u64 {
        let never_tried = [UnitKind::Suppressed, UnitKind::Reject, UnitKind::RenderingFailure];
        let never_tried: u64 = never_tried.iter().map(|kind| u64::from(self.get(*kind))).sum();
        self.attempts().max(u64::from(self.get(UnitKind::Sent)).saturating_sub(never_tried))
    }

    /// Numerator and denominator of a metric, both of this cohort. The denominator is never the smaller one, so a rate
    /// never exceeds 1. For a subject without Send or Delivery events this is not a rate: see
    /// [`Timeline::knows_its_mail`](crate::Timeline::knows_its_mail).
    pub fn tally(&self, metric: Metric) -> Tally {
        let count = |kind| u64::from(self.get(kind));
        let heard = |index: usize| u64::from(self.counts[index]);
        let (population, bad) = match metric {
            Metric::HardBounce => (self.mails(), count(UnitKind::HardBounce)),
            Metric::Complaint if heard(HEARD_DELIVERED) > 0 => (heard(HEARD_DELIVERED), heard(HEARD_COMPLAINTS)),
            Metric::Complaint if heard(HEARD_SENT) > 0 => (heard(HEARD_SENT), heard(HEARD_COMPLAINTS)),
            Metric::Complaint => (0, 0),
            Metric::Delay | Metric::Block => {
                let seen = self.mails().max(count(UnitKind::Delay));
                (seen, count(if metric == Metric::Delay { UnitKind::Delay } else { UnitKind::Block }))
            }
        };
        Tally { population: population.max(bad), bad }
    }
}

/// The rates that are judged. Each is a share of mails, between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Hard bounces of attempts, including mail that is still on its way. Excludes bounces by which an ISP refuses the
    /// sender's IP address: those are blocks.
    HardBounce,
    /// Complaints of deliveries, at ISPs whose complaints reach the sender.
    Complaint,
    /// Mails delayed by the ISP, of those sent.
    Delay,
    /// Mails that the ISP refused or throttled because of the sender, of those sent.
    Block,
}

impl UnitKind {
    /// Whether this unit can make a rate worse, so that a key should be judged at once when it arrives.
    pub fn is_harm(self) -> bool {
        Metric::harmed_by(self).is_some()
    }
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 4] = [Metric::HardBounce, Metric::Complaint, Metric::Delay, Metric::Block];

    /// Stable name, as in the policy and the report.
    pub fn name(self) -> &'static str {
        match self {
            Metric::HardBounce => "hard_bounce",
            Metric::Complaint => "complaint",
            Metric::Delay => "delay",
            Metric::Block => "block",
        }
    }

    /// Stable name of its rate, as in CloudWatch.
    pub fn rate_name(self) -> &'static str {
        match self {
            Metric::HardBounce => "HardBounceRate",
            Metric::Complaint => "ComplaintRate",
            Metric::Delay => "DelayRate",
            Metric::Block => "BlockRate",
        }
    }

    /// What it is, in a few words.
    pub fn definition(self) -> &'static str {
        match self {
            Metric::HardBounce => "Hard bounces of attempts",
            Metric::Complaint => "Complaints of deliveries",
            Metric::Delay => "Delayed mails",
            Metric::Block => "Mails refused because of the sender",
        }
    }

    /// What a numerator counts, for people, as a plural.
    pub fn bad_noun(self) -> &'static str {
        match self {
            Metric::HardBounce => "hard bounces",
            Metric::Complaint => "complaints",
            Metric::Delay => "delays",
            Metric::Block => "blocks",
        }
    }

    /// What a denominator counts, for people.
    pub fn population_noun(self) -> &'static str {
        match self {
            Metric::HardBounce => "mails",
            Metric::Complaint => "deliveries",
            Metric::Delay | Metric::Block => "mails",
        }
    }

    /// What a numerator counts, for people, as a verb.
    pub fn bad_verb(self) -> &'static str {
        match self {
            Metric::HardBounce => "bounced hard",
            Metric::Complaint => "drew complaints",
            Metric::Delay => "were delayed",
            Metric::Block => "were blocked",
        }
    }

    /// The metric that this kind of unit makes worse.
    pub fn harmed_by(kind: UnitKind) -> Option<Metric> {
        match kind {
            UnitKind::HardBounce => Some(Metric::HardBounce),
            UnitKind::Complaint => Some(Metric::Complaint),
            UnitKind::Delay => Some(Metric::Delay),
            UnitKind::Block => Some(Metric::Block),
            UnitKind::Sent
            | UnitKind::Delivered
            | UnitKind::SoftBounce
            | UnitKind::Undetermined
            | UnitKind::Suppressed
            | UnitKind::Deferral
            | UnitKind::Reject
            | UnitKind::RenderingFailure
            | UnitKind::Open
            | UnitKind::Click
            | UnitKind::RefusedBounce => None,
        }
    }
}

/// Numerator and denominator of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub population: u64,
    /// How many of them were bad.
    pub bad: u64,
}

impl Tally {
    /// The rate; `None` means that there is no data, which is not the same as 0.
    pub fn rate(self) -> Option<f64> {
        (self.population > 0).then(|| self.bad as f64 / self.population as f64)
    }

    /// Sum of two tallies.
    pub fn plus(self, other: Tally) -> Tally {
        Tally { population: self.population + other.population, bad: self.bad + other.bad }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(counts: &[(UnitKind, u32)], returns_complaints: bool) -> Counters {
        let mut counters = Counters::default();
        for (kind, count) in counts {
            counters.add(*kind, *count, returns_complaints);
        }
        counters
    }

    #[test]
    fn a_rate_never_exceeds_one_even_when_little_is_known_of_the_mail() {
        // In monitors that count feedback and mail separately, feedback on few known mails exceeds 100 %.
        let lone = counters(
            &[(UnitKind::Sent, 1), (UnitKind::Complaint, 3), (UnitKind::Block, 5), (UnitKind::Delay, 2)],
            true,
        );
        for metric in Metric::ALL {
            assert!(lone.tally(metric).rate().is_none_or(|rate| rate <= 1.0), "{metric:?}");
        }
    }

    #[test]
    fn mail_without_an_outcome_yet_counts_as_mail() {
        let tally = |counts: &[(UnitKind, u32)]| counters(counts, true).tally(Metric::HardBounce);
        let early = tally(&[(UnitKind::Sent, 100), (UnitKind::HardBounce, 3), (UnitKind::Suppressed, 10)]);
        assert_eq!((early.population, early.bad), (90, 3));
        let settled =
            [(UnitKind::Sent, 100), (UnitKind::HardBounce, 3), (UnitKind::Suppressed, 10), (UnitKind::Delivered, 87)];
        assert_eq!(tally(&settled), early);
        // The outcome of a mail replaces a lost Send event.
        assert_eq!(tally(&[(UnitKind::Sent, 1), (UnitKind::Delivered, 9), (UnitKind::HardBounce, 1)]).population, 10);
    }

    #[test]
    fn complaints_without_deliveries_are_taken_of_what_was_sent() {
        let sent = counters(&[(UnitKind::Sent, 1000), (UnitKind::Complaint, 1)], true);
        assert_eq!(sent.tally(Metric::Complaint).rate(), Some(0.001));
        assert_eq!(counters(&[(UnitKind::Complaint, 1)], true).tally(Metric::Complaint).rate(), None);
    }

    #[test]
    fn an_isp_that_returns_no_complaints_has_no_complaint_rate_instead_of_zero() {
        let gmail = counters(&[(UnitKind::Delivered, 1000)], false);
        assert_eq!(gmail.tally(Metric::Complaint).rate(), None);
        let yahoo = counters(&[(UnitKind::Delivered, 1000)], true);
        assert_eq!(yahoo.tally(Metric::Complaint).rate(), Some(0.0));
        let mut both = gmail;
        both.merge(&yahoo);
        assert_eq!(both.tally(Metric::Complaint).population, 1000, "gmail must not dilute");
    }

    #[test]
    fn a_bounce_that_refuses_the_ip_address_is_an_attempt_and_no_hard_bounce() {
        let counts = [(UnitKind::Delivered, 80), (UnitKind::RefusedBounce, 15), (UnitKind::HardBounce, 5)];
        let mail = counters(&counts, true);
        assert_eq!(mail.attempts(), 100);
        let tally = mail.tally(Metric::HardBounce);
        assert_eq!((tally.population, tally.bad), (100, 5));
    }

    #[test]
    fn suppressed_mail_and_deferrals_stand_on_neither_side() {
        let counts =
            [(UnitKind::Suppressed, 50), (UnitKind::Deferral, 50), (UnitKind::Delivered, 9), (UnitKind::HardBounce, 1)];
        let tally = counters(&counts, true).tally(Metric::HardBounce);
        assert_eq!((tally.population, tally.bad), (10, 1));
        assert_eq!(counters(&counts, true).tally(Metric::Delay).bad, 0);
    }

    #[test]
    fn an_isps_share_can_be_taken_out_again() {
        let (a, b) =
            (counters(&[(UnitKind::Sent, 7), (UnitKind::Delivered, 6)], true), counters(&[(UnitKind::Sent, 2)], false));
        let mut sum = a;
        sum.merge(&b);
        sum.remove(&b);
        assert_eq!(sum, a);
    }
}
