//! Mirroring: the warm-up percentage of standard dedicated IPs follows the ramp of a configuration set, where a policy asks for it.
//!
//! SES sends the share of an IP's plan that the percentage names by that IP, *and the rest through shared IPs*. It
//! limits no mail, so this does not replace the gate: it keeps SES from treating an IP as warm when the ISPs do not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use reputation::isp::Isp;
use reputation::policy::{Mirror, Policy};
use reputation::subject::Subject;
use reputation::warmup::Plan;

use crate::ports::{ControlError, DedicatedIps, Disposition, PortError, Quota, Quotas, WarmupPercentage};

/// What became of one IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// Which.
    pub ip: IpAddr,
    /// The configuration set that it follows.
    pub set: String,
    /// The desired percentage.
    pub percent: u8,
    /// What became of it.
    pub outcome: MirrorOutcome,
}

/// What became of one IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorOutcome {
    /// It was already set.
    Was,
    /// It has been set; this is the value before.
    Set(u8),
    /// SES manages this IP, and does not allow changes.
    Managed,
    /// It does not belong to this account.
    Unknown,
    /// SES denied it.
    Denied(String),
}

/// The percentages known from earlier rounds of this process: SES is asked about an IP only when its percentage should
/// change.
pub type Known = BTreeMap<IpAddr, u8>;

/// Makes the IPs of the policy follow their sets, with at most `calls` calls.
///
/// # Errors
///
/// A port did not answer, or SES is busy: the next round does the rest.
pub async fn mirror<Q: Quotas, D: DedicatedIps>(
    policy: &Policy,
    quotas: &Q,
    ips: &mut D,
    known: &mut Known,
    mut calls: usize,
) -> Result<Vec<Mirrored>, PortError> {
    let mut done = Vec::new();
    for Mirror { set, ips: of_set } in &policy.warmup.mirrors {
        // In shadow nothing is changed.
        let subject = Subject::ConfigurationSet(set.as_str().into());
        if policy.is_shadow(&subject) {
            continue;
        }
        let Some(plan) = policy.warmup.sets.get(set) else { continue };
        let Some(percent) = percentage(plan, &quotas.quotas(set).await?) else { continue };
        for ip in of_set {
            if known.get(ip) == Some(&percent) {
                continue;
            }
            if calls < 2 {
                return Ok(done);
            }
            calls -= 1;
            let outcome = match ips.warmth(*ip).await {
                Ok(WarmupPercentage::Percent(so)) if so == percent => MirrorOutcome::Was,
                Ok(WarmupPercentage::Percent(before)) => {
                    calls -= 1;
                    match ips.set_warmth(*ip, percent).await {
                        Ok(()) => MirrorOutcome::Set(before),
                        Err(error) => denied(error)?,
                    }
                }
                Ok(WarmupPercentage::Managed) => MirrorOutcome::Managed,
                Err(error) => denied(error)?,
            };
            known.insert(*ip, percent);
            done.push(Mirrored { ip: *ip, set: set.clone(), percent, outcome });
        }
    }
    Ok(done)
}

/// An error that the next try would meet again becomes the IP's outcome, so that the other IPs are still done.
fn denied(error: ControlError) -> Result<MirrorOutcome, PortError> {
    match error {
        ControlError::Gone => Ok(MirrorOutcome::Unknown),
        ControlError::Denied(why) => Ok(MirrorOutcome::Denied(why)),
        ControlError::Throttled(reason) | ControlError::Failed(reason) => {
            Err(PortError { operation: "warming up a dedicated IP", reason, disposition: Disposition::Retry })
        }
    }
}

/// The share of its target that a set has reached at the ISPs that it sends to, in hundredths: at least 1, because 0
/// makes SES start over. `None` if it has sent to none yet.
pub fn percentage(plan: &Plan, quotas: &BTreeMap<Isp, Quota>) -> Option<u8> {
    let reached: u64 = quotas.values().map(|quota| quota.ramp.reach_under(plan)).sum();
    let of = plan.target.saturating_mul(quotas.len() as u64);
    (of > 0).then(|| ((reached as f64 / of as f64 * 100.0).floor() as u8).clamp(1, 100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryQuotas;
    use crate::ports::Saved;
    use reputation::IspMap;
    use reputation::time::Now;
    use reputation::warmup::begin;

    /// IPs with their state at SES, and every call.
    #[derive(Default)]
    struct Ips {
        known: BTreeMap<IpAddr, WarmupPercentage>,
        calls: Vec<String>,
        fails: Option<ControlError>,
    }

    impl DedicatedIps for Ips {
        async fn warmth(&mut self, ip: IpAddr) -> Result<WarmupPercentage, ControlError> {
            self.calls.push(format!("get {ip}"));
            self.known.get(&ip).copied().ok_or(ControlError::Gone)
        }

        async fn set_warmth(&mut self, ip: IpAddr, percent: u8) -> Result<(), ControlError> {
            self.calls.push(format!("put {ip} {percent}"));
            if let Some(error) = self.fails.clone() {
                return Err(error);
            }
            self.known.insert(ip, WarmupPercentage::Percent(percent));
            Ok(())
        }
    }

    const POLICY: &str = "[warmup.sets.news]\nstart = 1000\ntarget = 10000\n\
        [warmup.dedicated_ips]\nnews = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\"]";

    fn quotas(policy: &Policy, reach: u64) -> MemoryQuotas {
        let quotas = MemoryQuotas::default();
        let isps = IspMap::builtin();
        for (isp, reach) in [("gmail", reach), ("yahoo", 1_000)] {
            let mut ramp = begin(&policy.warmup.sets["news"], policy.warmup.zone.day_at(Now(0)), None);
            (ramp.reach, ramp.anchor) = (reach, false);
            let isp = isps.by_name(isp).unwrap();
            let saved = pollster::block_on(quotas.open("news", isp, None, &Quota::opened(ramp, policy, None))).unwrap();
            assert_eq!(saved, Saved::Saved);
        }
        quotas
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn ips_follow_the_share_that_the_set_has_reached_and_are_asked_about_once() {
        let policy = Policy::from_toml(POLICY).unwrap();
        let mut ips = Ips::default();
        ips.known.extend([(ip(1), WarmupPercentage::Percent(50)), (ip(2), WarmupPercentage::Managed)]);
        let mut known = Known::new();
        let mut round = |reach, ips: &mut Ips, calls| {
            let done = pollster::block_on(mirror(&policy, &quotas(&policy, reach), ips, &mut known, calls)).unwrap();
            done.into_iter().map(|done| (done.percent, done.outcome)).collect::<Vec<_>>()
        };
        let expected = [(30, MirrorOutcome::Set(50)), (30, MirrorOutcome::Managed), (30, MirrorOutcome::Unknown)];
        assert_eq!(round(5_000, &mut ips, 10), expected);
        assert_eq!(round(5_000, &mut ips, 10), []);
        assert_eq!(ips.calls, ["get 192.0.2.1", "put 192.0.2.1 30", "get 192.0.2.2", "get 192.0.2.3"]);
        // The number of calls is limited: the rest follows in the next round.
        assert_eq!(round(9_000, &mut ips, 2), [(50, MirrorOutcome::Set(30))]);
        assert_eq!(round(9_000, &mut ips, 9), [(50, MirrorOutcome::Managed), (50, MirrorOutcome::Unknown)]);
    }

    #[test]
    fn in_shadow_nothing_is_asked_and_nothing_set() {
        let policy = Policy::from_toml(&format!("mode = \"shadow\"\n{POLICY}")).unwrap();
        let mut ips = Ips { known: [(ip(1), WarmupPercentage::Percent(50))].into(), ..Ips::default() };
        let (quotas, mut known) = (quotas(&policy, 5_000), Known::new());
        let done = pollster::block_on(mirror(&policy, &quotas, &mut ips, &mut known, 9)).unwrap();
        assert!(done.is_empty() && ips.calls.is_empty());
    }

    #[test]
    fn what_ses_denies_is_reported_and_what_is_busy_is_tried_again() {
        let policy = Policy::from_toml(POLICY).unwrap();
        let mut ips = Ips { known: [(ip(1), WarmupPercentage::Percent(50))].into(), ..Ips::default() };
        let mut known = Known::new();
        ips.fails = Some(ControlError::Throttled("429".to_owned()));
        let quotas = quotas(&policy, 5_000);
        assert!(pollster::block_on(mirror(&policy, &quotas, &mut ips, &mut known, 9)).is_err());
        assert!(known.is_empty());
        ips.fails = Some(ControlError::Denied("no".to_owned()));
        let done = pollster::block_on(mirror(&policy, &quotas, &mut ips, &mut known, 9)).unwrap();
        assert_eq!(done[0].outcome, MirrorOutcome::Denied("no".to_owned()));
        assert_eq!(done.len(), 3);
    }

    #[test]
    fn a_percentage_is_never_0_and_never_beyond_100() {
        let policy = Policy::from_toml(POLICY).unwrap();
        let plan = &policy.warmup.sets["news"];
        let share = |reach| percentage(plan, &pollster::block_on(quotas(&policy, reach).quotas("news")).unwrap());
        assert_eq!((share(0), share(10_000), share(1_000_000)), (Some(5), Some(55), Some(55)));
        assert_eq!(percentage(plan, &BTreeMap::new()), None);
        assert_eq!(
            percentage(
                &Plan { target: 1_000_000, ..plan.clone() },
                &pollster::block_on(quotas(&policy, 0).quotas("news")).unwrap()
            ),
            Some(1)
        );
    }
}
