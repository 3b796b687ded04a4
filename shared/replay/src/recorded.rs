//! Recorded units: what a ledger holds, replayed without the original events.
//!
//! A ledger records what a unit says, at which ISP, about whose mail, and the minute in which SES accepted that mail. It does
//! not record when a unit was reported, or in which order. So each unit counts at the end of its mail's minute, volume first
//! and harm last: verdicts come as if every bounce and complaint were reported at once.
//!
//! **Invariant:** memory is one counter for each minute, sender, ISP, kind and bucket that occurs, however many units there are.

use std::collections::{BTreeMap, HashMap};

use pipeline::senders::{SenderName, Senders};
use reputation::grouped::Bucket;
use reputation::subject::Subject;
use reputation::time::Minute;
use reputation::unit::{SenderId, UnitKind};

/// A unit as recorded in a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedUnit {
    /// Its kind.
    pub kind: UnitKind,
    /// Name of the ISP, by the map of the policy under which it was recorded.
    pub isp: String,
    /// When SES accepted the mail.
    pub cohort: Minute,
    /// The subjects that it counts for, by the policy under which it was recorded.
    pub subjects: Vec<Subject>,
    /// The bucket of its cause, of a hard bounce at a business domain or a complaint.
    pub bucket: Option<Bucket>,
}

/// Units that are equal in everything that a ledger records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// When SES accepted the mail.
    pub cohort: Minute,
    /// Their kind.
    pub kind: UnitKind,
    /// Index among the senders of [`Recorded`].
    pub sender: SenderId,
    /// Name of the ISP.
    pub isp: &'a str,
    /// The bucket of their cause, of hard bounces at a business domain or complaints.
    pub bucket: Option<Bucket>,
    /// Their number.
    pub units: u64,
}

/// Minute, whether they are harm, kind, sender, index of the ISP's name, and bucket.
type Cell = (Minute, bool, UnitKind, SenderId, usize, Option<Bucket>);

/// Recorded units, in the order in which they are replayed.
#[derive(Debug, Default)]
pub struct Recorded {
    cells: BTreeMap<Cell, u64>,
    senders: Senders,
    isps: Vec<String>,
    isp_indices: HashMap<String, usize>,
    units: u64,
}

impl Recorded {
    /// Adds a unit; the order does not matter. Duplicates are not detected: add each unit once.
    pub fn add(&mut self, unit: RecordedUnit) {
        let sender = self.senders.join(std::slice::from_ref(&unit.subjects));
        let Some(sender) = sender.first().copied() else { return };
        let isp = match self.isp_indices.get(&unit.isp) {
            Some(index) => *index,
            None => {
                self.isps.push(unit.isp.clone());
                self.isp_indices.insert(unit.isp, self.isps.len() - 1);
                self.isps.len() - 1
            }
        };
        let cell = (unit.cohort, unit.kind.is_harm(), unit.kind, sender, isp, unit.bucket);
        *self.cells.entry(cell).or_default() += 1;
        self.units += 1;
    }

    /// The number of units.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// The subjects of each sender, for a policy that judges tenants or not, and for these tags: other subjects are not judged.
    pub(crate) fn senders(&self, tenants: bool, tags: &[String]) -> Vec<Vec<Subject>> {
        let asked = |subject: &&Subject| match subject {
            Subject::Tenant(_) => tenants,
            Subject::Tag(name, _) => tags.iter().any(|tag| **tag == **name),
            Subject::Account | Subject::ConfigurationSet(_) | Subject::Identity(_) => true,
        };
        let senders = self.senders.since(0).iter();
        senders.map(|subjects| subjects.iter().filter(asked).cloned().collect()).collect()
    }

    /// The units, in order: within a minute harm comes last, and equal kinds are ordered by the names of senders and ISPs, so
    /// the order does not depend on that in which they were added.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Counted<'_>> {
        let mut names: Vec<(SenderName, usize)> =
            self.senders.since(0).iter().map(|subjects| SenderName::of(subjects)).zip(0..).collect();
        names.sort();
        let mut ranks = vec![0; names.len()];
        for (rank, (_, sender)) in names.iter().enumerate() {
            ranks[*sender] = rank;
        }
        let mut cells: Vec<_> = self.cells.iter().collect();
        cells.sort_by_key(|((cohort, harm, kind, sender, isp, bucket), _)| {
            (*cohort, *harm, *kind, ranks[sender.0 as usize], self.isps[*isp].as_str(), *bucket)
        });
        cells.into_iter().map(|((cohort, _, kind, sender, isp, bucket), units)| Counted {
            cohort: *cohort,
            kind: *kind,
            sender: *sender,
            isp: &self.isps[*isp],
            bucket: *bucket,
            units: *units,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: UnitKind, minute: u32, subjects: &[&str]) -> RecordedUnit {
        let subjects = subjects.iter().map(|subject| subject.parse().unwrap()).collect();
        RecordedUnit { kind, isp: "gmail".to_owned(), cohort: Minute(minute), subjects, bucket: None }
    }

    #[test]
    fn units_come_in_the_order_of_their_mail_and_harm_after_the_mail_it_harms() {
        let mut recorded = Recorded::default();
        for (kind, minute) in [
            (UnitKind::HardBounce, 2),
            (UnitKind::Complaint, 1),
            (UnitKind::SoftBounce, 2),
            (UnitKind::Sent, 2),
            (UnitKind::Sent, 1),
            (UnitKind::Sent, 2),
        ] {
            recorded.add(unit(kind, minute, &["configuration-set:news"]));
        }
        let order: Vec<_> = recorded.cells().map(|cell| (cell.cohort.0, cell.kind, cell.units)).collect();
        let expected = [
            (1, UnitKind::Sent, 1),
            (1, UnitKind::Complaint, 1),
            (2, UnitKind::Sent, 2),
            (2, UnitKind::SoftBounce, 1),
            (2, UnitKind::HardBounce, 1),
        ];
        assert_eq!((order, recorded.units()), (expected.to_vec(), 6));
    }

    #[test]
    fn tenants_and_tags_that_the_policy_does_not_name_are_not_subjects() {
        let mut recorded = Recorded::default();
        let subjects = ["configuration-set:news", "tenant:t", "tag:campaign=a", "tag:list=b"];
        recorded.add(unit(UnitKind::Sent, 1, &subjects));
        let asked = |tenants, tags: &[&str]| {
            let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
            recorded.senders(tenants, &tags)[0].iter().map(Subject::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(asked(false, &[]), "configuration-set:news");
        assert_eq!(asked(true, &["list"]), "configuration-set:news tenant:t tag:list=b");
    }
}
