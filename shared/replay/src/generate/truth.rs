//! The totals that any correct counter must find in a generated stream.

use serde::{Deserialize, Serialize};

use super::scenario::{Isp, Scenario};

/// The exact content of a stream, counted by the generator as it invents facts, never by reading the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// The scenario of the stream.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// Number of lines in the stream, duplicates, noise and garbage included.
    pub lines: u64,
    /// Number of distinct units in it, without blocks: they accompany a bounce or a delay.
    pub recorded: u64,
    /// A row for each subject and ISP with units, by subject and then by ISP.
    pub totals: Vec<TruthRow>,
}

/// The units of one subject at one ISP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthRow {
    /// `configuration-set:NAME` (NAME is `(none)` for untagged mail) or `identity:DOMAIN`.
    pub subject: String,
    /// `gmail`, `microsoft`, `yahoo`, `apple` or `other`.
    pub isp: String,
    /// The counters.
    #[serde(flatten)]
    pub counters: Counters,
}

/// Numbers of distinct units; zeros are left out of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Recipients of mail that SES accepted.
    #[serde(skip_serializing_if = "zero")]
    pub sent: u64,
    /// Recipients whose server accepted the mail.
    #[serde(skip_serializing_if = "zero")]
    pub delivered: u64,
    /// Recipients whose mail bounced permanently.
    #[serde(skip_serializing_if = "zero")]
    pub hard_bounces: u64,
    /// Recipients whose mail bounced permanently because their provider refuses the sender's IP address.
    #[serde(skip_serializing_if = "zero")]
    pub refused_bounces: u64,
    /// Recipients whose mail SES gave up.
    #[serde(skip_serializing_if = "zero")]
    pub soft_bounces: u64,
    /// Recipients whose bounce could not be classified.
    #[serde(skip_serializing_if = "zero")]
    pub undetermined: u64,
    /// Recipients on a suppression list.
    #[serde(skip_serializing_if = "zero")]
    pub suppressed: u64,
    /// Complaints.
    #[serde(skip_serializing_if = "zero")]
    pub complaints: u64,
    /// Recipients whose mail had to wait.
    #[serde(skip_serializing_if = "zero")]
    pub delays: u64,
    /// Recipients whose mail was delayed or bounced because of the sender.
    #[serde(skip_serializing_if = "zero")]
    pub blocks: u64,
    /// Mails that SES rejected.
    #[serde(skip_serializing_if = "zero")]
    pub rejects: u64,
    /// Mails whose template failed.
    #[serde(skip_serializing_if = "zero")]
    pub rendering_failures: u64,
    /// Mails that were opened.
    #[serde(skip_serializing_if = "zero")]
    pub opens: u64,
    /// Mails in which a link was followed.
    #[serde(skip_serializing_if = "zero")]
    pub clicks: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it by reference")]
fn zero(count: &u64) -> bool {
    *count == 0
}

/// The kind of a unit, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Sent,
    Delivered,
    HardBounce,
    RefusedBounce,
    SoftBounce,
    Undetermined,
    Suppressed,
    Complaint,
    Delay,
    Block,
    Reject,
    RenderingFailure,
    Open,
    Click,
}

impl Counters {
    fn add(&mut self, unit: Unit) {
        let counter = match unit {
            Unit::Sent => &mut self.sent,
            Unit::Delivered => &mut self.delivered,
            Unit::HardBounce => &mut self.hard_bounces,
            Unit::RefusedBounce => &mut self.refused_bounces,
            Unit::SoftBounce => &mut self.soft_bounces,
            Unit::Undetermined => &mut self.undetermined,
            Unit::Suppressed => &mut self.suppressed,
            Unit::Complaint => &mut self.complaints,
            Unit::Delay => &mut self.delays,
            Unit::Block => &mut self.blocks,
            Unit::Reject => &mut self.rejects,
            Unit::RenderingFailure => &mut self.rendering_failures,
            Unit::Open => &mut self.opens,
            Unit::Click => &mut self.clicks,
        };
        *counter += 1;
    }
}

/// Counts units as they are invented.
pub(super) struct Tally {
    /// By configuration set in the scenario's order, and `(none)` last; then by ISP.
    sets: Vec<(String, [Counters; 5])>,
    identities: Vec<(String, [Counters; 5])>,
    /// For each configuration set, the index of its identity.
    identity_of_set: Vec<usize>,
    recorded: u64,
}

impl Tally {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut identities: Vec<(String, [Counters; 5])> = Vec::new();
        let mut identity_of_set = Vec::new();
        let mut sets = Vec::new();
        for set in &scenario.configuration_sets {
            sets.push((format!("configuration-set:{}", set.name), <[Counters; 5]>::default()));
            let subject = format!("identity:{}", set.identity);
            let place = identities.iter().position(|(known, _)| *known == subject).unwrap_or(identities.len());
            if place == identities.len() {
                identities.push((subject, <[Counters; 5]>::default()));
            }
            identity_of_set.push(place);
        }
        sets.push(("configuration-set:(none)".to_owned(), <[Counters; 5]>::default()));
        Self { sets, identities, identity_of_set, recorded: 0 }
    }

    /// Counts a unit of a configuration set's mail; `untagged` mail has that set's identity but no set.
    pub(super) fn count(&mut self, set: usize, untagged: bool, isp: Isp, unit: Unit) {
        let none = self.sets.len() - 1;
        self.sets[if untagged { none } else { set }].1[isp as usize].add(unit);
        self.identities[self.identity_of_set[set]].1[isp as usize].add(unit);
        self.recorded += u64::from(unit != Unit::Block);
    }

    pub(super) fn into_truth(self, scenario: Scenario, seed: u64, lines: u64) -> Truth {
        let mut totals = Vec::new();
        for (subject, by_isp) in self.sets.into_iter().chain(self.identities) {
            for (isp, counters) in Isp::ALL.into_iter().zip(by_isp) {
                if counters != Counters::default() {
                    totals.push(TruthRow { subject: subject.clone(), isp: isp.name().to_owned(), counters });
                }
            }
        }
        totals.sort_by(|a, b| (&a.subject, &a.isp).cmp(&(&b.subject, &b.isp)));
        Truth { scenario, seed, lines, recorded: self.recorded, totals }
    }
}
