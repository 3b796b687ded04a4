//! What is counted, for Prometheus.
//!
//! Labels have few values: operations, classes, outcomes, and names of ISPs, which are those of the gate's policy. Should a
//! gate name many, those after the first 64 share one label. No address, domain or configuration set is a label.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use permits::{Class, Counts};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::smtp::SmtpSnapshot;

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// SES accepted it.
    Sent,
    /// It may not go now: its caller keeps it.
    Deferred,
    /// It may not go now: the relay keeps it.
    Held,
    /// SES, or the gate, refused it.
    Refused,
    /// SES may have accepted it or not.
    Unclear,
    /// Neither was it sent nor refused: the gate or SES could not be reached.
    Failed,
}

impl Outcome {
    /// As in labels and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Deferred => "deferred",
            Outcome::Held => "held",
            Outcome::Refused => "refused",
            Outcome::Unclear => "unclear",
            Outcome::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MailLabels {
    operation: &'static str,
    class: &'static str,
    isp: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    operation: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// What the SMTP listener has counted.
#[derive(Debug, Default)]
struct Submitted {
    connections: Counter,
    messages: Counter,
    bytes: Counter,
    refusals: Family<ReasonLabels, Counter>,
}

impl Submitted {
    fn register(&self, registry: &mut Registry) {
        registry.register("smtp_connections", "Connections to the SMTP listener", self.connections.clone());
        let help = "Messages that came whole over SMTP and were not refused by the listener";
        registry.register("smtp_messages", help, self.messages.clone());
        registry.register_with_unit("smtp_messages", "The bytes of these messages", Unit::Bytes, self.bytes.clone());
        registry.register("smtp_refusals", "What was refused over SMTP, by reason", self.refusals.clone());
    }

    /// Takes over what the listener has counted since it started.
    fn set(&self, snapshot: &SmtpSnapshot) {
        let SmtpSnapshot { connections, messages, bytes, refused } = snapshot;
        for (counter, value) in [(&self.connections, connections), (&self.messages, messages), (&self.bytes, bytes)] {
            counter.inner().store(*value, Ordering::Relaxed);
        }
        for (reason, value) in refused {
            let labels = ReasonLabels { reason: reason.name() };
            self.refusals.get_or_create(&labels).inner().store(*value, Ordering::Relaxed);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineLabels {
    class: &'static str,
    isp: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    operation: &'static str,
}

/// What is counted of mail that is held.
#[derive(Debug, Default)]
struct Held {
    mails: Family<LineLabels, Gauge>,
    oldest: Family<LineLabels, Gauge>,
    held: Family<LineLabels, Counter>,
    released: Family<LineLabels, Counter>,
    expired: Family<LineLabels, Counter>,
    dead: Family<LineLabels, Counter>,
    maybe_twice: Family<LineLabels, Counter>,
    doubtful: Counter,
    untagged: Counter,
    errors: Family<StoreLabels, Counter>,
}

impl Held {
    fn register(&self, registry: &mut Registry) {
        registry.register("held_mails", "Mails in the store, by the last count", self.mails.clone());
        let help = "The age of the oldest mail in the store, by the last count";
        registry.register_with_unit("held_oldest", help, Unit::Seconds, self.oldest.clone());
        registry.register("held", "Mails that were stored", self.held.clone());
        registry.register("released", "Held mails that SES has accepted", self.released.clone());
        registry.register(
            "expired",
            "Held mails that were not sent, because they waited too long",
            self.expired.clone(),
        );
        registry.register("dead", "Held mails that were not sent, because SES refused them", self.dead.clone());
        let help = "Calls of SES for held mails that SES may have had already";
        registry.register("maybe_twice", help, self.maybe_twice.clone());
        let help = "Mails that were refused and may have been stored, which were deleted again";
        registry.register("doubtful_holds", help, self.doubtful.clone());
        registry.register("untagged", "Held mails that went without their message tag", self.untagged.clone());
        registry.register("store_errors", "Requests to the store that failed", self.errors.clone());
    }
}

/// The most names of ISPs that are labels.
const MAX_ISPS: usize = 64;
/// The label of all further ones.
const MORE_ISPS: &str = "(more)";
/// The label where the ISP is not known: the gate was not reached.
const NO_ISP: &str = "(unknown)";

/// The counters of a relay.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    mails: Family<MailLabels, Counter>,
    rejections: Family<RejectionLabels, Counter>,
    added: Histogram,
    permits: Family<KindLabels, Gauge>,
    senders: Gauge,
    submitted: Submitted,
    held: Held,
    isps: Mutex<HashSet<Arc<str>>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("ses_relay");
        let (mails, rejections, permits) = (Family::default(), Family::default(), Family::default());
        let senders = Gauge::default();
        let added = Histogram::new([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]);
        registry.register("mails", "Mails, one for each recipient, by what became of them", mails.clone());
        registry.register(
            "rejected_requests",
            "Requests that were answered without the gate and SES",
            rejections.clone(),
        );
        registry.register_with_unit(
            "added",
            "Time that the relay added to a request, without that of SES",
            Unit::Seconds,
            added.clone(),
        );
        registry.register("permits", "What the clients of the gate have done since the start", permits.clone());
        registry.register(
            "senders",
            "Pairs of configuration set and identity with a client of the gate",
            senders.clone(),
        );
        let submitted = Submitted::default();
        submitted.register(&mut registry);
        let held = Held::default();
        held.register(&mut registry);
        Metrics { registry, mails, rejections, added, permits, senders, submitted, held, isps: Mutex::default() }
    }
}

impl Metrics {
    /// Counts mails.
    pub(crate) fn mails(
        &self,
        operation: &'static str,
        class: Class,
        isp: Option<&Arc<str>>,
        outcome: Outcome,
        n: u64,
    ) {
        let isp = self.label_of(isp);
        let (class, outcome) = (class.name(), outcome.name());
        self.mails.get_or_create(&MailLabels { operation, class, isp, outcome }).inc_by(n);
    }

    fn label_of(&self, isp: Option<&Arc<str>>) -> String {
        let Some(isp) = isp else { return NO_ISP.to_owned() };
        let mut known = self.isps.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(isp) {
            return isp.to_string();
        }
        if known.len() == MAX_ISPS {
            return MORE_ISPS.to_owned();
        }
        known.insert(Arc::clone(isp));
        isp.to_string()
    }

    fn line(&self, class: Class, isp: &Arc<str>) -> LineLabels {
        LineLabels { class: class.name(), isp: self.label_of(Some(isp)) }
    }

    /// Counts a mail that was stored.
    pub(crate) fn held(&self, class: Class, isp: &Arc<str>) {
        self.held.held.get_or_create(&self.line(class, isp)).inc();
    }

    /// Counts a held mail that SES has accepted.
    pub(crate) fn released(&self, class: Class, isp: &Arc<str>) {
        self.held.released.get_or_create(&self.line(class, isp)).inc();
    }

    /// Counts a held mail that has waited too long.
    pub(crate) fn expired(&self, class: Class, isp: &Arc<str>) {
        self.held.expired.get_or_create(&self.line(class, isp)).inc();
    }

    /// Counts a held mail that is never sent for another reason.
    pub(crate) fn dead(&self, class: Class, isp: &Arc<str>) {
        self.held.dead.get_or_create(&self.line(class, isp)).inc();
    }

    /// Counts a call of SES that may be the second one for a mail.
    pub(crate) fn maybe_twice(&self, class: Class, isp: &Arc<str>) {
        self.held.maybe_twice.get_or_create(&self.line(class, isp)).inc();
    }

    /// Counts a mail of which it is not known whether it was stored.
    pub(crate) fn doubtful(&self) {
        self.held.doubtful.inc();
    }

    /// Counts a held mail to which no message tag could be added.
    pub(crate) fn untagged(&self) {
        self.held.untagged.inc();
    }

    /// Counts a request to the store that failed.
    pub(crate) fn store_error(&self, operation: &'static str) {
        self.held.errors.get_or_create(&StoreLabels { operation }).inc();
    }

    /// Sets how much is held now: by class and ISP, the mails and the age of the oldest.
    pub(crate) fn set_held(&self, counts: &BTreeMap<(&'static str, Arc<str>), (u64, Duration)>) {
        self.held.mails.clear();
        self.held.oldest.clear();
        for ((class, isp), (mails, oldest)) in counts {
            let labels = LineLabels { class, isp: self.label_of(Some(isp)) };
            self.held.mails.get_or_create(&labels).inc_by(i64::try_from(*mails).unwrap_or(i64::MAX));
            let age = i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX);
            let gauge = self.held.oldest.get_or_create(&labels);
            gauge.set(gauge.get().max(age));
        }
    }

    /// How many mails may have been stored that were refused.
    #[cfg(test)]
    pub(crate) fn all_doubtful(&self) -> u64 {
        self.held.doubtful.get()
    }

    /// How often SES was called for held mail that it may have had already.
    #[cfg(test)]
    pub(crate) fn all_maybe_twice(&self, class: Class, isp: &Arc<str>) -> u64 {
        self.held.maybe_twice.get_or_create(&self.line(class, isp)).get()
    }

    /// Counts a request that was answered without the gate and SES.
    pub(crate) fn rejected(&self, operation: &'static str, reason: &'static str) {
        self.rejections.get_or_create(&RejectionLabels { operation, reason }).inc();
    }

    /// Records the time that the relay added to a request.
    pub(crate) fn added(&self, time: Duration) {
        self.added.observe(time.as_secs_f64());
    }

    /// The text for Prometheus, with what the clients of the gate and the SMTP listener, if there is one, have done.
    pub fn text(&self, counts: &Counts, senders: usize, smtp: Option<&SmtpSnapshot>) -> String {
        if let Some(smtp) = smtp {
            self.submitted.set(smtp);
        }
        let Counts {
            calls,
            failed_calls,
            granted,
            granted_without_lease,
            let_go,
            let_go_unreached,
            put_back,
            given_back,
            lost,
        } = *counts;
        for (kind, value) in [
            ("calls", calls),
            ("failed_calls", failed_calls),
            ("granted", granted),
            ("granted_without_lease", granted_without_lease),
            ("let_go", let_go),
            ("let_go_unreached", let_go_unreached),
            ("put_back", put_back),
            ("given_back", given_back),
            ("lost", lost),
        ] {
            self.permits.get_or_create(&KindLabels { kind }).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.senders.set(i64::try_from(senders).unwrap_or(i64::MAX));
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Never fails: writing to a string does not.
            let _ = text.write_str("# EOF\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{Refused, SmtpCounts};

    #[test]
    fn mails_are_counted_by_operation_class_isp_and_outcome() {
        let metrics = Metrics::default();
        let gmail: Arc<str> = "gmail".into();
        metrics.mails("v2 SendEmail", Class::Bulk, Some(&gmail), Outcome::Sent, 2);
        metrics.mails("v2 SendEmail", Class::Bulk, Some(&gmail), Outcome::Sent, 1);
        metrics.mails("v1 SendEmail", Class::Critical, None, Outcome::Failed, 1);
        metrics.rejected("v2", "malformed");
        metrics.added(Duration::from_micros(200));
        let text = metrics.text(&Counts { granted: 5, ..Counts::default() }, 1, None);
        for line in [
            "ses_relay_mails_total{operation=\"v2 SendEmail\",class=\"bulk\",isp=\"gmail\",outcome=\"sent\"} 3",
            "ses_relay_mails_total{operation=\"v1 SendEmail\",class=\"critical\",isp=\"(unknown)\",outcome=\"failed\"} 1",
            "ses_relay_rejected_requests_total{operation=\"v2\",reason=\"malformed\"} 1",
            "ses_relay_added_seconds_bucket{le=\"0.0003\"} 1",
            "ses_relay_permits{kind=\"granted\"} 5",
            "ses_relay_senders 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn the_listener_for_smtp_is_counted_by_reasons_of_which_there_are_few() {
        let (metrics, counts) = (Metrics::default(), SmtpCounts::default());
        counts.connection();
        counts.message(1234);
        counts.refused(Refused::Deferred);
        for _ in 0..2 {
            let text = metrics.text(&Counts::default(), 0, Some(&counts.snapshot()));
            for line in [
                "ses_relay_smtp_connections_total 1",
                "ses_relay_smtp_messages_total 1",
                "ses_relay_smtp_messages_bytes_total 1234",
                "ses_relay_smtp_refusals_total{reason=\"deferred\"} 1",
                "ses_relay_smtp_refusals_total{reason=\"syntax\"} 0",
            ] {
                assert!(text.lines().any(|known| known == line), "{line} is not in:\n{text}");
            }
            assert_eq!(text.matches("ses_relay_smtp_refusals_total{").count(), Refused::ALL.len());
        }
    }

    #[test]
    fn however_many_isps_are_named_there_are_few_labels() {
        let metrics = Metrics::default();
        for number in 0..1000 {
            let isp: Arc<str> = format!("isp{number}").into();
            metrics.mails("v2 SendEmail", Class::Bulk, Some(&isp), Outcome::Sent, 1);
        }
        let text = metrics.text(&Counts::default(), 0, None);
        assert_eq!(text.matches("ses_relay_mails_total{").count(), MAX_ISPS + 1);
        assert!(text.contains("isp=\"(more)\",outcome=\"sent\"} 936"), "{text}");
    }
}
