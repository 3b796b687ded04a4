//! Recommends IPs for the mail, and finds the lists that do harm, from the daily counters of the last weeks.
//!
//! [`advice`] decides without I/O; this module reads the counters.

pub mod advice;

use std::collections::BTreeMap;

use aws::reputation::DynamoReputation;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::ports::PortError;
use reputation::counters::Counters;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{DAY, Minute, Now};
use reputation::timeline::{Length, Timeline};
use reputation::unit::UnitKind;
use serde::Serialize;

use crate::Access;
use crate::failure::Failure;
use crate::prices::{BUILT_IN, Prices};
use advice::{Advice, ListVolume, SetVolume, Volumes};

/// The number of whole days that are read.
const DAYS: u32 = 35;
/// Subjects that are read at a time.
const READS: usize = 16;

/// Advice, and its basis.
#[derive(Clone, Debug, Serialize)]
pub struct Advised {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// The first day that was read (RFC 3339).
    pub from: String,
    /// The end of the last whole day (RFC 3339).
    pub until: String,
    /// The first day with data (RFC 3339); null = no day has any.
    pub first: Option<String>,
    /// Tags that the policy keeps.
    pub tags: Vec<String>,
    /// The advice.
    #[serde(flatten)]
    pub advice: Advice,
    /// The prices that it is based on.
    pub prices: Prices,
}

/// A file of prices.
#[derive(Clone, Debug)]
pub struct PricesFile {
    /// Its name.
    pub file: String,
    /// Its text.
    pub toml: String,
}

/// Advises on the mail of the last whole days.
///
/// # Errors
///
/// The prices are not valid, or AWS refuses.
pub async fn advise(access: &Access, prices: Option<&PricesFile>, now: Now) -> Result<Advised, Failure> {
    let (file, toml) = prices.map_or(("the built-in prices", BUILT_IN), |known| (&known.file, &known.toml));
    let prices = Prices::from_toml(toml).map_err(|problem| Failure::Prices { file: file.to_owned(), problem })?;
    let policy = access.policy().await?.policy;
    let until = now.minute().day();
    let from = until.minus(DAYS * DAY);
    let rows = read(access, &policy, from, until).await.map_err(|error| access.refused(error))?;
    let first = rows.iter().filter_map(|(_, rows)| first_day(rows)).min();
    Ok(Advised {
        stack: access.stack.clone(),
        region: access.region.clone(),
        from: from.start(),
        until: until.start(),
        first: first.map(Minute::start),
        tags: policy.subjects.tags.clone(),
        advice: advice::advise(&volumes(&rows, &policy, until), &prices, &policy),
        prices,
    })
}

/// Daily counters of every configuration set and every tag that the stack has seen.
async fn read(
    access: &Access,
    policy: &Policy,
    from: Minute,
    until: Minute,
) -> Result<Vec<(Subject, Timeline)>, PortError> {
    let reader: &DynamoReputation = &access.reputation(policy);
    let known = reader.directory().await?.into_keys();
    let asked = known.filter(|subject| subject.is_part_of_account() || matches!(subject, Subject::Tag(..)));
    let read = asked.map(|subject| async move {
        let rows = reader.rates(&subject, Length::Day, from, until).await?;
        Ok::<_, PortError>((subject, rows))
    });
    let mut rows: Vec<(Subject, Timeline)> = stream::iter(read).buffer_unordered(READS).try_collect().await?;
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(rows)
}

fn first_day(rows: &Timeline) -> Option<Minute> {
    rows.series(None)?.days().map(|(day, _)| day).next()
}

/// The mails that were sent, or that had an outcome where sends are not published.
fn mails(counters: &Counters) -> u64 {
    let count = |kind: UnitKind| u64::from(counters.get(kind));
    count(UnitKind::Sent).max(counters.attempts())
}

fn volumes(rows: &[(Subject, Timeline)], policy: &Policy, until: Minute) -> Volumes {
    let mut volumes = Volumes::default();
    for (subject, rows) in rows {
        let Some(first) = first_day(rows) else { continue };
        match subject {
            Subject::ConfigurationSet(name) => {
                let mut days: BTreeMap<u32, u64> =
                    (first.0..until.0).step_by(DAY as usize).map(|day| (day, 0)).collect();
                let mut isps = BTreeMap::new();
                // A day is the sum of its ISPs: if sends began to be published on that day, the sums of units would be wrong.
                for isp in rows.isps() {
                    let mut sum = 0;
                    for (day, counters) in rows.series(Some(isp)).into_iter().flat_map(|all| all.days()) {
                        *days.entry(day.0).or_default() += mails(counters);
                        sum += mails(counters);
                    }
                    isps.insert(policy.isp_map.name(isp).to_owned(), sum);
                }
                volumes.sets.push(SetVolume {
                    configuration_set: name.to_string(),
                    since: first,
                    days: days.into_values().collect(),
                    isps,
                });
            }
            Subject::Tag(tag, value) => {
                let sum = |count: &dyn Fn(&Counters) -> u64| {
                    rows.series(None).into_iter().flat_map(|all| all.days()).map(|(_, counters)| count(counters)).sum()
                };
                volumes.lists.push(ListVolume {
                    tag: tag.to_string(),
                    value: value.to_string(),
                    mails: sum(&mails),
                    hard_bounces: sum(&|counters| counters.get(UnitKind::HardBounce).into()),
                    complaints: sum(&|counters| counters.get(UnitKind::Complaint).into()),
                });
            }
            Subject::Account | Subject::Identity(_) | Subject::Tenant(_) => {}
        }
    }
    volumes
}
