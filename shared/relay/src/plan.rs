//! Whether a mail goes, with which configuration set, and which grants that takes.
//!
//! A mail with recipients at several ISPs goes or waits as a whole. The set that it asks for is a default; another route
//! is an instruction of the gate (overflow, or the route of critical mail). So if the grants name exactly one other route,
//! the whole mail takes it, and the grants of its own set are put back. If they name two others, the mail waits: no route
//! would be right for all of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::mail::Mail;
use crate::ports::{Deferral, Granted, NoPermission, Permission, Permitting};

/// Grants of one mail. They are put back unless the mail was handed to SES.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    held: Vec<Granted>,
    /// From here on, what is dropped counts as sent.
    sent: bool,
}

impl Grants {
    /// The mail is handed to SES now: it may go, whatever happens to the relay.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// SES has refused the mail for certain.
    pub(crate) fn put_back(mut self) {
        self.sent = false;
    }
}

impl Drop for Grants {
    fn drop(&mut self) {
        if !self.sent {
            self.held.drain(..).for_each(|granted| granted.lease.put_back());
        }
    }
}

/// The mails of a message, by ISP; `None` if it is not known.
pub(crate) type ByIsp = Vec<(Option<Arc<str>>, u64)>;

/// What happens to a mail.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) by_isp: ByIsp,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// It goes with this configuration set.
    Go(Arc<str>, Grants),
    /// It does not go now.
    Wait(Deferral),
    /// No single route is right for all of it, and waiting may not change that: its caller must split it.
    Apart(Deferral),
    /// The gate has no answer about it.
    Fail(NoPermission),
}

/// The gate's answers about the recipients at one domain.
#[derive(Debug)]
struct Group {
    mails: u64,
    granted: Vec<Granted>,
    /// Why not all are granted.
    without: Option<Result<Deferral, NoPermission>>,
}

/// When to ask again if no single route is right for all recipients. Overflow ends when the day's quota comes in again.
const NO_COMMON_ROUTE: Duration = Duration::from_secs(60);

/// Asks for the permits of a mail: one for each recipient.
pub(crate) async fn plan(permitting: &dyn Permitting, mail: &Mail) -> Plan {
    let groups = mail.recipients.iter().map(|(domain, mails)| group(permitting, mail, domain, *mails));
    // All at the same time, so that domains that are not known yet go to the gate together.
    decide(&mail.sender.set, join_all(groups).await)
}

async fn group(permitting: &dyn Permitting, mail: &Mail, domain: &str, mails: u64) -> Group {
    let mut group = Group { mails, granted: Vec::new(), without: None };
    let mut missing = mails;
    while missing > 0 && group.without.is_none() {
        match permitting.take(&mail.sender, domain, missing, mail.class).await {
            Ok(Permission::Granted(granted)) => {
                // At least one is granted, so that this ends.
                missing = missing.saturating_sub(granted.mails.max(1));
                group.granted.push(granted);
            }
            Ok(Permission::Wait(deferral)) => group.without = Some(Ok(deferral)),
            Err(error) => group.without = Some(Err(error)),
        }
    }
    group
}

fn decide(set: &str, groups: Vec<Group>) -> Plan {
    let mut by_isp = ByIsp::new();
    let mut grants = Grants::default();
    let (mut wait, mut error): (Option<Deferral>, Option<NoPermission>) = (None, None);
    for Group { mails, granted, without } in groups {
        let isp = granted.iter().find_map(|granted| granted.isp.clone());
        let of_wait = without.as_ref().and_then(|without| without.as_ref().ok()?.isp.clone());
        by_isp.push((isp.or(of_wait), mails));
        grants.held.extend(granted);
        match without {
            // The last of the ISPs decides when all of it can go.
            Some(Ok(deferral)) if wait.as_ref().is_none_or(|known| known.retry_after < deferral.retry_after) => {
                wait = Some(deferral);
            }
            Some(Err(problem)) => error = error.or(Some(problem)),
            Some(Ok(_)) | None => {}
        }
    }
    let what = match (error, wait) {
        (Some(error), _) => What::Fail(error),
        (None, Some(wait)) => What::Wait(wait),
        (None, None) => match common_route(set, &grants.held) {
            Ok(route) => {
                // What is not of this route is not used.
                let (held, other) = grants.held.drain(..).partition(|granted| granted.route == route);
                drop(Grants { held: other, sent: false });
                grants.held = held;
                What::Go(route, grants)
            }
            Err(routes) => What::Apart(Deferral {
                retry_after: NO_COMMON_ROUTE,
                isp: None,
                reason: format!(
                    "the recipients have to go by different configuration sets ({routes}); send a mail for each of them"
                ),
            }),
        },
    };
    Plan { by_isp, what }
}

/// The route for all grants, or those that contradict each other.
fn common_route(set: &str, grants: &[Granted]) -> Result<Arc<str>, String> {
    let mut others: Vec<&Arc<str>> =
        grants.iter().map(|granted| &granted.route).filter(|route| ***route != *set).collect();
    others.sort();
    others.dedup();
    match others[..] {
        [] => Ok(set.into()),
        [route] => Ok(Arc::clone(route)),
        _ => Err(others.iter().map(|route| &***route).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ports::Lease;

    #[derive(Clone, Default)]
    struct Back(Arc<Mutex<Vec<String>>>);

    struct Of(Back, String);

    impl Lease for Of {
        fn put_back(self: Box<Self>) {
            self.0.0.lock().unwrap().push(self.1);
        }
    }

    impl Back {
        fn granted(&self, isp: &str, mails: u64, route: &str) -> Granted {
            let lease = Box::new(Of(self.clone(), format!("{isp} {mails} {route}")));
            Granted { route: route.into(), mails, isp: Some(isp.into()), degraded: false, lease }
        }

        /// Each word is `ISP:MAILS:ROUTE`, `ISP:MAILS:wait SECONDS` or `ISP:MAILS:error`.
        fn decided(&self, groups: &[&str]) -> Plan {
            let groups = groups.iter().map(|word| {
                let [isp, mails, what] = word.split(':').collect::<Vec<_>>()[..] else { panic!("{word}") };
                let mails = mails.parse().unwrap();
                let mut group = Group { mails, granted: Vec::new(), without: None };
                match what.strip_prefix("wait ") {
                    Some(secs) => {
                        let retry_after = Duration::from_secs(secs.parse().unwrap());
                        let deferral = Deferral { retry_after, isp: Some(isp.into()), reason: isp.to_owned() };
                        group.without = Some(Ok(deferral));
                    }
                    None if what == "error" => group.without = Some(Err(NoPermission::Refused("no".to_owned()))),
                    None => group.granted.push(self.granted(isp, mails, what)),
                }
                group
            });
            decide("news", groups.collect())
        }

        fn put_back(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    #[test]
    fn a_mail_goes_by_its_own_set_or_as_a_whole_by_the_one_other_route_that_is_named() {
        let back = Back::default();
        let check = |groups: &[&str], expected: &str, expected_back: &[&str]| {
            let plan = back.decided(groups);
            let What::Go(route, mut grants) = plan.what else { panic!("{groups:?}") };
            assert_eq!(&*route, expected);
            assert_eq!(back.put_back(), expected_back, "{groups:?}");
            grants.sent();
            drop(grants);
            assert_eq!(back.put_back(), [""; 0], "what was sent is not put back");
        };
        check(&["gmail:1:news", "yahoo:2:news"], "news", &[]);
        check(&["gmail:1:shared", "yahoo:2:shared"], "shared", &[]);
        check(&["gmail:1:shared", "yahoo:2:news"], "shared", &["yahoo 2 news"]);
    }

    #[test]
    fn a_mail_that_cannot_go_as_a_whole_keeps_no_grant() {
        let back = Back::default();
        let plan = back.decided(&["gmail:3:news", "yahoo:1:wait 5", "microsoft:1:wait 9"]);
        let What::Wait(wait) = plan.what else { panic!() };
        assert_eq!((wait.retry_after.as_secs(), wait.isp.as_deref()), (9, Some("microsoft")));
        assert_eq!(back.put_back(), ["gmail 3 news"]);
        let isps: Vec<_> = plan.by_isp.iter().map(|(isp, mails)| (isp.as_deref().unwrap(), *mails)).collect();
        assert_eq!(isps, [("gmail", 3), ("yahoo", 1), ("microsoft", 1)]);

        let plan = back.decided(&["gmail:1:shared", "yahoo:1:codes", "microsoft:1:news"]);
        let What::Apart(wait) = plan.what else { panic!() };
        assert!(wait.reason.contains("(codes, shared)"), "{}", wait.reason);
        assert_eq!(back.put_back().len(), 3);

        let plan = back.decided(&["gmail:1:news", "yahoo:1:error", "microsoft:1:wait 9"]);
        assert!(matches!(plan.what, What::Fail(_)));
        assert_eq!(back.put_back(), ["gmail 1 news"]);
    }

    #[test]
    fn what_ses_refused_is_put_back_once() {
        let back = Back::default();
        let What::Go(_, mut grants) = back.decided(&["gmail:1:news"]).what else { panic!() };
        grants.sent();
        grants.put_back();
        assert_eq!(back.put_back(), ["gmail 1 news"]);
    }
}
