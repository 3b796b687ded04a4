//! Recommends IPs for mail: a pure function of volumes, prices and the policy.
//!
//! # How it decides
//!
//! 1. **Enough days?** Less than a week of whole days does not show a rhythm: no recommendation.
//! 2. **Enough mail?** An IP keeps a reputation at an ISP that gets mail from it every day: about [`KEEPS`] mails a day (a
//!    rule of thumb of the SES guide, "Dedicated IP addresses"). If less than half of the mail goes to such ISPs, shared IPs
//!    are better. `other` is many small providers, and keeps no reputation.
//! 3. **Steady?** AWS recommends dedicated IPs for large volumes sent regularly and predictably, and managed ones where
//!    patterns are highly irregular (the same page). Steady here: mail on [`STEADY_DAYS`] of the days, and a coefficient of
//!    variation from day to day of at most [`STEADY_VARIATION`]; both are rules of thumb that accept a rhythm of working days.
//! 4. **Which costs less?** For steady mail, the cheaper of standard and managed IPs; otherwise managed.
//!
//! So a larger volume of the same mail never changes the recommendation from dedicated back to shared IPs.

use std::collections::BTreeMap;

use reputation::counters::Metric;
use reputation::detect::Percent;
use reputation::policy::Policy;
use reputation::time::Minute;
use serde::Serialize;
use terminal::{counted, thousands};

use crate::prices::Prices;

/// Mails a day by one IP to one ISP that keep a reputation there.
pub const KEEPS: f64 = 1000.0;
/// Least share of the mail that must go to ISPs where a reputation is kept.
const KEPT_SHARE: f64 = 0.5;
/// Least share of days with mail for steady mail: five days of seven, minus some holidays.
pub const STEADY_DAYS: f64 = 0.6;
/// Largest coefficient of variation of steady mail. Working days alone give 0.63.
pub const STEADY_VARIATION: f64 = 1.0;
/// Least number of whole days.
const ENOUGH_DAYS: usize = 7;
/// Name of the ISP that stands for many small ones.
const OTHER: &str = "other";

/// Volumes of mail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volumes {
    /// By configuration set.
    pub sets: Vec<SetVolume>,
    /// By message tag, if the policy keeps any.
    pub lists: Vec<ListVolume>,
}

/// The mail of a configuration set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetVolume {
    /// Its name.
    pub configuration_set: String,
    /// First minute of the first day with data.
    pub since: Minute,
    /// Mails of each whole day since then.
    pub days: Vec<u64>,
    /// Mails to each ISP over all these days, by its name.
    pub isps: BTreeMap<String, u64>,
}

/// The mail of one value of a message tag.
#[derive(Clone, Debug, PartialEq)]
pub struct ListVolume {
    /// Name of the tag.
    pub tag: String,
    /// Its value: a list or a campaign.
    pub value: String,
    /// Mails.
    pub mails: u64,
    /// Hard bounces of them.
    pub hard_bounces: u64,
    /// Complaints about them.
    pub complaints: u64,
}

/// The recommendations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// For each configuration set, the largest first.
    pub sets: Vec<SetAdvice>,
    /// Values of message tags by the excess of their share of harm over their share of mail, worst first.
    pub lists: Vec<ListAdvice>,
}

/// The kind of IPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ips {
    /// Too little is known.
    Undecided,
    /// IPs that SES customers share.
    Shared,
    /// Standard dedicated IPs: a fixed number, warmed up by the calendar.
    Standard,
    /// Managed dedicated IPs: SES chooses the number, and warms them up.
    Managed,
}

impl Ips {
    /// Its name.
    pub fn words(self) -> &'static str {
        match self {
            Ips::Undecided => "undecided",
            Ips::Shared => "shared IPs",
            Ips::Standard => "standard dedicated IPs",
            Ips::Managed => "managed dedicated IPs",
        }
    }
}

/// The recommendation for a configuration set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetAdvice {
    /// Its name.
    pub configuration_set: String,
    /// The first day with data (RFC 3339).
    pub since: String,
    /// Whole days since then.
    pub days: u64,
    /// Days with mail among them.
    pub days_with_mail: u64,
    /// Mails a day, over all days.
    pub mails_a_day: f64,
    /// Mails of the busiest day.
    pub busiest_day: u64,
    /// Standard deviation of a day's mails, relative to the mean.
    pub variation: f64,
    /// The recommended IPs.
    pub ips: Ips,
    /// Why, with the numbers.
    pub reasons: Vec<String>,
    /// Number of standard IPs that the busiest day needs.
    pub standard_ips: u64,
    /// The yearly cost of this mail with each kind.
    pub yearly: Yearly,
    /// Share of the mail that goes to ISPs at which one IP would keep a reputation.
    pub kept_share: f64,
    /// Its ISPs, the largest first.
    pub isps: Vec<IspShare>,
}

/// The yearly cost, including the mails themselves, as if nothing else in the account sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Yearly {
    /// With shared IPs.
    pub shared: f64,
    /// With standard dedicated IPs.
    pub standard: f64,
    /// With managed dedicated IPs.
    pub managed: f64,
}

/// The mail to one ISP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IspShare {
    /// Its name.
    pub isp: String,
    /// Mails a day.
    pub mails_a_day: f64,
    /// Share of the set's mail.
    pub share: f64,
    /// Whether each of the standard IPs that the set needs would keep a reputation there.
    pub keeps: bool,
}

/// The harm of one value of a message tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListAdvice {
    /// `NAME=VALUE`.
    pub list: String,
    /// Mails.
    pub mails: u64,
    /// Hard bounces of them.
    pub hard_bounces: u64,
    /// Complaints about them.
    pub complaints: u64,
    /// Its share of the mail with this tag.
    pub share_of_mail: f64,
    /// Its share of the harm with this tag: hard bounces and complaints, each relative to the policy's limit.
    pub share_of_harm: f64,
}

/// Recommends IPs for each configuration set, and rates lists by their harm.
pub fn advise(volumes: &Volumes, prices: &Prices, policy: &Policy) -> Advice {
    let mut sets: Vec<SetAdvice> = volumes.sets.iter().filter_map(|volume| of_set(volume, prices)).collect();
    sets.sort_by(|a, b| {
        b.mails_a_day.total_cmp(&a.mails_a_day).then_with(|| a.configuration_set.cmp(&b.configuration_set))
    });
    Advice { sets, lists: of_lists(&volumes.lists, policy) }
}

/// `None` if there is no mail.
fn of_set(volume: &SetVolume, prices: &Prices) -> Option<SetAdvice> {
    let sum: u64 = volume.days.iter().sum();
    if sum == 0 {
        return None;
    }
    let days = volume.days.len() as f64;
    let mean = sum as f64 / days;
    let deviation = volume.days.iter().map(|mails| (*mails as f64 - mean).powi(2)).sum::<f64>() / days;
    let busiest_day = volume.days.iter().copied().max().unwrap_or(0);
    let days_with_mail = volume.days.iter().filter(|mails| **mails > 0).count() as u64;
    let standard_ips = prices.ips(busiest_day);
    let daily = |mails: u64| mails as f64 / days;
    let kept = volume.isps.iter().filter(|(isp, mails)| *isp != OTHER && daily(**mails) >= KEEPS);
    let kept_share = kept.map(|(_, mails)| mails).sum::<u64>() as f64 / sum as f64;
    let mut isps: Vec<IspShare> = volume
        .isps
        .iter()
        .map(|(isp, mails)| IspShare {
            isp: isp.clone(),
            mails_a_day: daily(*mails),
            share: *mails as f64 / sum as f64,
            keeps: isp != OTHER && daily(*mails) >= KEEPS * standard_ips as f64,
        })
        .collect();
    isps.sort_by(|a, b| b.mails_a_day.total_cmp(&a.mails_a_day).then_with(|| a.isp.cmp(&b.isp)));
    let mails_a_month = mean * 365.0 / 12.0;
    let mails = prices.mails(mails_a_month);
    let yearly = Yearly {
        shared: 12.0 * mails,
        standard: 12.0 * (mails + standard_ips as f64 * prices.standard.ip_month),
        managed: 12.0 * (mails + prices.managed(mails_a_month)),
    };
    let mut advice = SetAdvice {
        configuration_set: volume.configuration_set.clone(),
        since: volume.since.start(),
        days: volume.days.len() as u64,
        days_with_mail,
        mails_a_day: mean,
        busiest_day,
        variation: deviation.sqrt() / mean,
        ips: Ips::Undecided,
        reasons: Vec::new(),
        standard_ips,
        yearly,
        kept_share,
        isps,
    };
    let (ips, reasons) = decide(&advice, &prices.currency);
    advice.ips = ips;
    advice.reasons = reasons;
    Some(advice)
}

/// See the module's documentation.
fn decide(set: &SetAdvice, currency: &str) -> (Ips, Vec<String>) {
    let mut reasons = Vec::new();
    if set.days < ENOUGH_DAYS as u64 {
        reasons.push(format!(
            "{} of data {} too little to show a rhythm: ask again after {ENOUGH_DAYS} whole days",
            counted(set.days, "whole day"),
            if set.days == 1 { "is" } else { "are" },
        ));
        return (Ips::Undecided, reasons);
    }
    let share = Percent(set.kept_share);
    let keeps = thousands(KEEPS as u64);
    if set.kept_share < KEPT_SHARE {
        reasons.push(format!(
            "{share} of the mail goes to ISPs that get {keeps} mails a day or more, the volume that an IP needs to keep a \
             reputation there: at the other ISPs a dedicated IP would have no reputation"
        ));
        if let Some(other) = set.isps.iter().find(|known| known.isp == OTHER && known.share >= 0.25) {
            let share = Percent(other.share);
            reasons.push(format!(
                "{share} goes to `{OTHER}`, which is many small providers: none of them keeps a reputation"
            ));
        }
        return (Ips::Shared, reasons);
    }
    reasons.push(format!(
        "{share} of the mail goes to ISPs that get {keeps} mails a day or more, enough for an IP to keep a reputation there"
    ));
    reasons.push(format!(
        "shared IPs cost {} a year: the extra cost buys a reputation that other senders' mail cannot hurt",
        amount(set.yearly.shared, currency)
    ));
    let days = set.days_with_mail as f64 / set.days as f64;
    let rhythm =
        format!("mail on {} of {} days, variation {:.2} from day to day", set.days_with_mail, set.days, set.variation);
    if days < STEADY_DAYS || set.variation > STEADY_VARIATION {
        let needed = Percent(STEADY_DAYS);
        reasons.push(format!(
            "its rhythm is irregular ({rhythm}; steady means {needed} of the days and at most {STEADY_VARIATION:.1}): AWS recommends \
             managed IPs for that, which SES scales and keeps warm"
        ));
        return (Ips::Managed, reasons);
    }
    reasons.push(format!("its rhythm is steady: {rhythm}"));
    let Yearly { standard, managed, .. } = set.yearly;
    let ips = counted(set.standard_ips, "standard IP");
    let (standard_costs, managed_costs) = (amount(standard, currency), amount(managed, currency));
    if standard <= managed {
        reasons.push(format!("{ips} cost {standard_costs} a year with this mail, managed IPs {managed_costs}"));
        (Ips::Standard, reasons)
    } else {
        reasons.push(format!("managed IPs cost {managed_costs} a year with this mail, {ips} {standard_costs}"));
        (Ips::Managed, reasons)
    }
}

/// A whole amount of money.
pub(crate) fn amount(amount: f64, currency: &str) -> String {
    let whole = thousands(amount.round() as u64);
    if currency == "USD" { format!("${whole}") } else { format!("{whole} {currency}") }
}

fn of_lists(lists: &[ListVolume], policy: &Policy) -> Vec<ListAdvice> {
    let limit = |metric: Metric| policy.metrics.rule(metric).limit.max(f64::MIN_POSITIVE);
    let harm = |list: &ListVolume| {
        list.hard_bounces as f64 / limit(Metric::HardBounce) + list.complaints as f64 / limit(Metric::Complaint)
    };
    let mut sums: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for list in lists {
        let sum = sums.entry(&list.tag).or_default();
        sum.0 += list.mails;
        sum.1 += harm(list);
    }
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let mut advice: Vec<ListAdvice> = lists
        .iter()
        .map(|list| {
            let (mails, harms) = sums.get(list.tag.as_str()).copied().unwrap_or_default();
            ListAdvice {
                list: format!("{}={}", list.tag, list.value),
                mails: list.mails,
                hard_bounces: list.hard_bounces,
                complaints: list.complaints,
                share_of_mail: share(list.mails as f64, mails as f64),
                share_of_harm: share(harm(list), harms),
            }
        })
        .collect();
    let excess = |list: &ListAdvice| list.share_of_harm - list.share_of_mail;
    advice.sort_by(|a, b| excess(b).total_cmp(&excess(a)).then_with(|| a.list.cmp(&b.list)));
    advice
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reputation::time::DAY;

    use super::*;
    use crate::prices::BUILT_IN;

    fn prices() -> Prices {
        Prices::from_toml(BUILT_IN).unwrap()
    }

    /// A set with mail on these days, to these ISPs by these shares in percent.
    fn set(days: &[u64], isps: &[(&str, u64)]) -> SetVolume {
        let sum: u64 = days.iter().sum();
        SetVolume {
            configuration_set: "news".to_owned(),
            since: Minute(20_732 * DAY),
            days: days.to_vec(),
            isps: isps.iter().map(|(isp, percent)| ((*isp).to_owned(), sum * percent / 100)).collect(),
        }
    }

    fn advised(volume: &SetVolume) -> SetAdvice {
        of_set(volume, &prices()).unwrap()
    }

    const CONSUMERS: [(&str, u64); 4] = [("gmail", 50), ("microsoft", 25), ("yahoo", 15), ("other", 10)];

    #[test]
    fn each_kind_of_mail_gets_the_ips_that_fit_it() {
        let weekly = |monday: u64| [monday, 0, 0, 0, 0, 0, 0].repeat(5);
        let working = |mails: u64| [mails, mails, mails, mails, mails, 0, 0].repeat(5);
        let table: &[(&str, SetVolume, Ips, &str)] = &[
            ("small", set(&[900; 35], &CONSUMERS), Ips::Shared, "0 % of the mail goes to ISPs that get 1,000"),
            ("middling", set(&[2100; 35], &CONSUMERS), Ips::Managed, "50 % of the mail goes to ISPs that get 1,000"),
            ("steady and large", set(&[20_000; 35], &CONSUMERS), Ips::Standard, "1 standard IP cost $1,029 a year"),
            ("working days", set(&working(40_000), &CONSUMERS), Ips::Standard, "mail on 25 of 35 days, variation 0.63"),
            (
                "once a week",
                set(&weekly(500_000), &CONSUMERS),
                Ips::Managed,
                "its rhythm is irregular (mail on 5 of 35 days",
            ),
            (
                "many businesses",
                set(&[50_000; 35], &[("gmail", 30), ("other", 70)]),
                Ips::Shared,
                "70 % goes to `other`",
            ),
            ("six days", set(&[50_000; 6], &CONSUMERS), Ips::Undecided, "6 whole days of data are too little"),
            ("one day", set(&[50_000], &CONSUMERS), Ips::Undecided, "1 whole day of data is too little"),
        ];
        for (name, volume, ips, reason) in table {
            let advice = advised(volume);
            assert_eq!(advice.ips, *ips, "{name}: {:?}", advice.reasons);
            assert!(advice.reasons.iter().any(|given| given.contains(reason)), "{name}: {:?}", advice.reasons);
        }
    }

    #[test]
    fn each_ip_needs_enough_mail_to_keep_a_reputation() {
        let keeps = |mails: u64| -> Vec<String> {
            let advice = advised(&set(&[mails; 30], &CONSUMERS));
            advice.isps.into_iter().filter(|isp| isp.keeps).map(|isp| isp.isp).collect()
        };
        assert_eq!(keeps(4_000), ["gmail", "microsoft"]);
        assert_eq!(keeps(50_000), ["gmail", "microsoft", "yahoo"]);
        // Two IPs share the mail, and 15 % of 50,001 is still enough for both.
        assert_eq!(advised(&set(&[50_001; 30], &CONSUMERS)).standard_ips, 2);
    }

    #[test]
    fn lists_are_ranked_by_the_harm_beyond_their_mail() {
        let list = |tag: &str, value: &str, mails, hard_bounces, complaints| ListVolume {
            tag: tag.to_owned(),
            value: value.to_owned(),
            mails,
            hard_bounces,
            complaints,
        };
        let lists = [
            list("list", "good", 9_000, 90, 1),
            list("list", "bought", 1_000, 210, 3),
            list("campaign", "only", 10_000, 300, 4),
            list("empty", "none", 0, 0, 0),
        ];
        let advice = of_lists(&lists, &Policy::default());
        let rated: Vec<String> = advice
            .iter()
            .map(|list| format!("{} {:.2} {:.2}", list.list, list.share_of_mail, list.share_of_harm))
            .collect();
        // 5 % and 0.1 %: a complaint weighs as much as fifty bounces. (210·20 + 3·1000) of (300·20 + 4·1000).
        assert_eq!(
            rated,
            ["list=bought 0.10 0.72", "campaign=only 1.00 1.00", "empty=none 0.00 0.00", "list=good 0.90 0.28"]
        );
    }

    #[test]
    fn a_set_without_mail_gets_no_recommendation() {
        assert_eq!(of_set(&set(&[0; 30], &CONSUMERS), &prices()), None);
        assert_eq!(of_set(&set(&[], &CONSUMERS), &prices()), None);
    }

    fn volumes() -> impl Strategy<Value = SetVolume> {
        let isps = ["gmail", "microsoft", "yahoo", "gmx", "other"];
        prop::collection::vec(prop::collection::vec(0..40_000_u64, isps.len()), 1..40).prop_map(move |days| {
            let totals = days.iter().map(|day| day.iter().sum()).collect();
            let by_isp = isps
                .iter()
                .enumerate()
                .map(|(place, isp)| ((*isp).to_owned(), days.iter().map(|day| day[place]).sum()));
            SetVolume { isps: by_isp.collect(), days: totals, ..set(&[], &[]) }
        })
    }

    fn grown(volume: &SetVolume, times: u64) -> SetVolume {
        SetVolume {
            days: volume.days.iter().map(|mails| mails * times).collect(),
            isps: volume.isps.iter().map(|(isp, mails)| (isp.clone(), mails * times)).collect(),
            ..volume.clone()
        }
    }

    proptest! {
        #[test]
        fn more_of_the_same_mail_never_goes_back_to_shared_ips(volume in volumes(), times in 1..50_u64) {
            let Some(before) = of_set(&volume, &prices()) else { return Ok(()) };
            let after = of_set(&grown(&volume, times), &prices()).unwrap();
            prop_assert!(!(matches!(before.ips, Ips::Standard | Ips::Managed) && after.ips == Ips::Shared));
            prop_assert_eq!(before.ips == Ips::Undecided, after.ips == Ips::Undecided);
        }

        #[test]
        fn no_option_gets_cheaper_with_more_mail(volume in volumes(), times in 1..50_u64) {
            let Some(before) = of_set(&volume, &prices()) else { return Ok(()) };
            let after = of_set(&grown(&volume, times), &prices()).unwrap();
            prop_assert!(before.yearly.shared <= after.yearly.shared);
            prop_assert!(before.yearly.standard <= after.yearly.standard);
            prop_assert!(before.yearly.managed <= after.yearly.managed);
        }

        #[test]
        fn dedicated_ips_never_cost_less_than_shared_ones_and_shares_are_shares(volume in volumes()) {
            let Some(advice) = of_set(&volume, &prices()) else { return Ok(()) };
            prop_assert!(advice.yearly.shared <= advice.yearly.standard.min(advice.yearly.managed));
            prop_assert!((0.0..=1.0).contains(&advice.kept_share));
            prop_assert!((advice.isps.iter().map(|isp| isp.share).sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(!advice.reasons.is_empty());
        }
    }
}
