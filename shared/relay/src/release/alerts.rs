//! Alerts about held mail that was not sent: at most one in five minutes, with counts and without addresses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::hold::Millis;
use crate::hold::key::{Line, Place};
use crate::ports::Pending;

/// The shortest time between two alerts.
const EVERY: Duration = Duration::from_secs(300);

/// The port to people.
pub(crate) trait Alerting: Send + Sync + 'static {
    /// Publishes an alert.
    fn publish<'a>(&'a self, subject: &'a str, text: &'a str) -> Pending<'a, Result<(), String>>;
}

/// What has not been alerted yet.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Mails by line and reason: `expired`, or SES's code.
    counts: BTreeMap<(&'static str, String, String), u64>,
    last: Option<Millis>,
}

impl Alerts {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mail was not sent and will not be.
    pub(crate) fn add(&self, line: &Line, end: Place, code: &str) {
        let reason = if end == Place::Expired { "expired" } else { code };
        let key = (line.class.name(), line.isp.to_string(), reason.to_owned());
        *self.lock().counts.entry(key).or_default() += 1;
    }

    /// The alert that is due.
    fn due(&self, now: Millis, at_once: bool) -> Option<(String, String)> {
        let waiting = self.lock();
        let rested = waiting.last.is_none_or(|last| now.since(last) >= EVERY);
        if waiting.counts.is_empty() || !(rested || at_once) {
            return None;
        }
        let all: u64 = waiting.counts.values().sum();
        let mut text =
            "Held mail was not sent, and will not be. Each mail is kept in the store for 30 days, under expired/ or \
                        refused/ (infra/RELAY.md, \"Mail that is held\").\n"
                .to_owned();
        for ((class, isp, reason), mails) in &waiting.counts {
            // Never fails: this is a string.
            let _ = write!(text, "\n{class} mail to {isp}: {mails} ({reason})");
        }
        Some((format!("ses-breaker: {all} held mails were not sent"), text))
    }

    /// Publishes the alert that is due, if there is one. What cannot be published is tried again next time.
    pub(crate) async fn publish(&self, alerting: &dyn Alerting, now: Millis, at_once: bool) {
        let Some((subject, text)) = self.due(now, at_once) else { return };
        let counted = self.lock().counts.clone();
        match alerting.publish(&subject, &text).await {
            Ok(()) => {
                let mut waiting = self.lock();
                waiting.last = Some(now);
                for (key, published) in counted {
                    let left = waiting.counts.get(&key).copied().unwrap_or_default().saturating_sub(published);
                    if left == 0 {
                        waiting.counts.remove(&key);
                    } else {
                        waiting.counts.insert(key, left);
                    }
                }
            }
            Err(error) => tracing::error!(error, "an alert was not published"),
        }
    }
}

/// A topic of SNS.
#[derive(Debug)]
pub(crate) struct SnsAlerts {
    client: aws_sdk_sns::Client,
    topic: String,
}

impl SnsAlerts {
    pub(crate) fn new(config: &aws_config::SdkConfig, topic: &str) -> SnsAlerts {
        SnsAlerts { client: aws_sdk_sns::Client::new(config), topic: topic.to_owned() }
    }
}

impl Alerting for SnsAlerts {
    fn publish<'a>(&'a self, subject: &'a str, text: &'a str) -> Pending<'a, Result<(), String>> {
        Box::pin(async move {
            let sent = self.client.publish().topic_arn(&self.topic).subject(subject).message(text).send().await;
            sent.map(|_| ()).map_err(|error| aws_sdk_sns::error::DisplayErrorContext(error).to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use permits::Class;

    use super::*;
    use crate::ports::Sender;

    #[derive(Default)]
    struct Recorded(Mutex<Vec<String>>, Mutex<bool>);

    impl Alerting for Recorded {
        fn publish<'a>(&'a self, subject: &'a str, text: &'a str) -> Pending<'a, Result<(), String>> {
            let fails = *self.1.lock().unwrap();
            if !fails {
                self.0.lock().unwrap().push(format!("{subject}\n{text}"));
            }
            Box::pin(async move { if fails { Err("no".to_owned()) } else { Ok(()) } })
        }
    }

    #[tokio::test]
    async fn one_alert_in_five_minutes_has_all_that_came_together_and_none_is_lost() {
        let (alerts, recorded) = (Alerts::default(), Recorded::default());
        let sender = Sender { set: "news".to_owned(), identity: "secret.example".to_owned() };
        let line = |class| Line::new(class, Some("gmail"), &sender);
        let published = || std::mem::take(&mut *recorded.0.lock().unwrap());
        alerts.publish(&recorded, Millis(0), true).await;
        assert!(published().is_empty(), "nothing has happened");
        for _ in 0..3 {
            alerts.add(&line(Class::Bulk), Place::Expired, "");
        }
        alerts.add(&line(Class::Critical), Place::Refused, "MessageRejected");
        alerts.publish(&recorded, Millis(1_000), false).await;
        insta::assert_snapshot!(published().join("\n"), @r#"
        ses-breaker: 4 held mails were not sent
        Held mail was not sent, and will not be. Each mail is kept in the store for 30 days, under expired/ or refused/ (infra/RELAY.md, "Mail that is held").

        bulk mail to gmail: 3 (expired)
        critical mail to gmail: 1 (MessageRejected)
        "#);
        alerts.add(&line(Class::Bulk), Place::Expired, "");
        alerts.publish(&recorded, Millis(300_999), false).await;
        assert!(published().is_empty(), "too soon");
        *recorded.1.lock().unwrap() = true;
        alerts.publish(&recorded, Millis(301_000), false).await;
        *recorded.1.lock().unwrap() = false;
        alerts.publish(&recorded, Millis(301_001), false).await;
        assert!(published()[0].starts_with("ses-breaker: 1 held mails"), "the one that failed is tried again");
    }
}
