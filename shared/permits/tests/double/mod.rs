//! A fake gate that records the truth: what it granted, how much of it was used, what was given back. It has ISPs with
//! quotas, and injects faults into requests and answers.

#![expect(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use permits::{Answer, Gate, NoAnswer, Reply};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Shared by the client, which sees a gate, and the test, which sees the ledger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Double {
    pub(crate) ledger: Arc<Mutex<Ledger>>,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// It arrives, and the answer comes after this delay.
    Slow(Duration),
    /// It never arrives.
    RequestLost,
    /// It arrives, and the answer is lost: a broken connection.
    AnswerLost,
    /// It arrives, and no answer ever comes.
    Silence,
    /// The gate fails before it does anything.
    Status(u16),
    /// It arrives, and the answer is something else.
    Garbage,
    /// The last answer arrives again, and the call never arrives.
    Echo,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By ISP.
    pub(crate) isps: BTreeMap<&'static str, IspEntry>,
    pub(crate) leases: BTreeMap<String, LeaseEntry>,
    /// By request.
    pub(crate) requests: BTreeMap<String, Vec<String>>,
    pub(crate) calls: Vec<(String, Value)>,
    /// What happens to the next calls; if empty, calls are answered.
    pub(crate) fates: std::collections::VecDeque<Fate>,
    /// The answer to each request for permits, if set.
    pub(crate) refusal: Option<(u16, Value)>,
    /// Set if the gate cannot read its state: the answer says so, and grants if `true`.
    pub(crate) unreadable: Option<bool>,
    pub(crate) lease_secs: u64,
    last: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct IspEntry {
    /// Mails that may still be granted.
    pub(crate) quota: u64,
    /// What exceeds the quota goes to the overflow set.
    pub(crate) overflows: bool,
    pub(crate) retry_after: u64,
    pub(crate) overflow_granted: u64,
}

#[derive(Debug)]
pub(crate) struct LeaseEntry {
    pub(crate) isp: &'static str,
    pub(crate) granted: u64,
    pub(crate) expires: Instant,
    /// Counted by the test: let go, and not put back.
    pub(crate) used: u64,
    pub(crate) returned: Option<u64>,
    /// Whether an answer that names it reached the client.
    pub(crate) delivered: bool,
}

/// The ISP of a domain, as the gate would classify it.
pub(crate) fn isp_of(domain: &str) -> &'static str {
    match domain {
        "gmail.com" | "googlemail.com" => "gmail",
        "outlook.com" | "hotmail.com" => "microsoft",
        "yahoo.com" => "yahoo",
        _ => "other",
    }
}

impl Double {
    /// All ISPs with the same quota; leases last a minute.
    pub(crate) fn with_quota(quota: u64) -> Double {
        let double = Double::default();
        let mut ledger = double.ledger();
        ledger.lease_secs = 60;
        for isp in ["gmail", "microsoft", "yahoo", "other"] {
            ledger.isps.insert(isp, IspEntry { quota, retry_after: 30, ..IspEntry::default() });
        }
        drop(ledger);
        double
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub(crate) fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.ledger().fates = fates.into_iter().collect();
    }

    /// Number of calls to one path.
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.ledger().calls.iter().filter(|(called, _)| called == path).count()
    }

    async fn answer(&self, path: &'static str, body: Bytes) -> Result<Answer, NoAnswer> {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let fate = self.ledger().fates.pop_front().unwrap_or(Fate::Answered);
        let no_answer = || NoAnswer("connection reset".to_owned());
        match fate {
            Fate::RequestLost => return Err(no_answer()),
            Fate::Status(status) => return Ok(Answer { status, date: None, body: Bytes::from_static(b"{}") }),
            Fate::Echo => {
                let last = self.ledger().last.clone();
                return last.map(|body| Answer { status: 200, date: None, body }).ok_or_else(no_answer);
            }
            Fate::Answered | Fate::Slow(_) | Fate::AnswerLost | Fate::Silence | Fate::Garbage => {}
        }
        let (status, answer) = self.ledger().handle(path, &body);
        match fate {
            Fate::AnswerLost => return Err(no_answer()),
            Fate::Silence => std::future::pending().await,
            Fate::Garbage => {
                return Ok(Answer { status: 200, date: None, body: Bytes::from_static(b"<html>Sign in</html>") });
            }
            Fate::Slow(delay) => sleep(delay).await,
            Fate::Answered | Fate::RequestLost | Fate::Status(_) | Fate::Echo => {}
        }
        let body = Bytes::from(serde_json::to_vec(&answer).unwrap());
        let mut ledger = self.ledger();
        for lease in answer["permits"].as_array().into_iter().flatten().filter_map(|permit| permit["lease"].as_str()) {
            ledger.leases.get_mut(lease).unwrap().delivered = true;
            ledger.last = Some(body.clone());
        }
        Ok(Answer { status, date: None, body })
    }
}

impl Gate for Double {
    fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a> {
        Box::pin(self.answer(path, body))
    }
}

impl Ledger {
    fn handle(&mut self, path: &str, body: &Value) -> (u16, Value) {
        self.calls.push((path.to_owned(), body.clone()));
        match path {
            "/v1/permits" => self.permits(body),
            "/v1/leases/return" => self.take_back(body),
            _ => (404, json!({ "detail": "no such path" })),
        }
    }

    fn permits(&mut self, body: &Value) -> (u16, Value) {
        if let Some((status, problem)) = &self.refusal {
            return (*status, problem.clone());
        }
        let mut asked: BTreeMap<&'static str, (Vec<&str>, u64)> = BTreeMap::new();
        for (domain, mails) in body["recipients"].as_object().unwrap() {
            if domain.contains("bad") {
                let field = format!("/recipients/{domain}");
                return (422, json!({ "type": "/problems/domain", "detail": "not a domain", "field": field }));
            }
            let isp = asked.entry(isp_of(domain)).or_default();
            isp.0.push(domain);
            isp.1 += mails.as_u64().unwrap();
        }
        let request = body["request"].as_str().unwrap().to_owned();
        let permits: Vec<Value> = asked
            .into_iter()
            .map(|(isp, (domains, asked))| {
                let mut permit = self.permit(isp, asked, &request);
                permit["isp"] = json!(isp);
                permit["asked"] = json!(asked);
                // In ASCII, as a gate might write it.
                permit["domains"] = domains.iter().map(|domain| domain.replace('ü', "xn--u")).collect();
                permit
            })
            .collect();
        let mut answer = json!({ "configurationSet": "news", "day": "2026-11-21", "permits": permits });
        if self.unreadable.is_some() {
            answer["degraded"] = json!("the quotas cannot be read");
        }
        (200, answer)
    }

    fn permit(&mut self, isp: &'static str, asked: u64, request: &str) -> Value {
        let isp_entry = self.isps.get_mut(isp).unwrap();
        let mut permit = json!({ "granted": 0, "overflow": 0, "deferred": 0 });
        if let Some(open) = self.unreadable {
            let (granted, deferred) = if open { (asked, 0) } else { (0, asked) };
            permit = json!({ "granted": granted, "overflow": 0, "deferred": deferred, "route": "news" });
        } else {
            let lease = format!("{isp}/{request}");
            let before = self.leases.get(&lease).map(|known| known.granted);
            let granted = before.unwrap_or(asked.min(isp_entry.quota));
            if granted > 0 {
                let life = Duration::from_secs(self.lease_secs);
                let entry = self.leases.entry(lease.clone()).or_insert_with(|| {
                    isp_entry.quota -= granted;
                    let expires = Instant::now() + life;
                    LeaseEntry { isp, granted, expires, used: 0, returned: None, delivered: false }
                });
                permit["granted"] = json!(granted);
                permit["route"] = json!("news");
                permit["lease"] = json!(lease);
                permit["expiresInSeconds"] = json!(entry.expires.saturating_duration_since(Instant::now()).as_secs());
                self.requests.entry(request.to_owned()).or_default().push(lease);
            }
            let rest = asked - granted;
            if isp_entry.overflows && before.is_none() && rest > 0 {
                isp_entry.overflow_granted += rest;
                permit["overflow"] = json!(rest);
                permit["overflowRoute"] = json!("news-shared");
            } else {
                permit["deferred"] = json!(rest);
            }
        }
        if permit["deferred"] != json!(0) {
            permit["retryAfterSeconds"] = json!(isp_entry.retry_after);
            permit["limit"] = json!(if self.unreadable.is_some() { "unreadable" } else { "quota" });
            permit["reason"] = json!("the day's mails have been granted");
        }
        permit
    }

    fn take_back(&mut self, body: &Value) -> (u16, Value) {
        let unused = body["unused"].as_u64().unwrap();
        let Some(lease) = self.leases.get_mut(body["lease"].as_str().unwrap()) else {
            return (409, json!({ "detail": "unknown" }));
        };
        if lease.returned.is_some() {
            return (409, json!({ "detail": "it was given back before" }));
        }
        if Instant::now() > lease.expires {
            return (410, json!({ "detail": "it has expired" }));
        }
        assert!(unused > 0, "a call to give back nothing");
        assert!(lease.used + unused <= lease.granted, "{} used and {unused} given back: {lease:?}", lease.used);
        lease.returned = Some(unused);
        self.isps.get_mut(lease.isp).unwrap().quota += unused;
        (200, json!({ "returned": unused }))
    }

    /// Records that mails are sent under a lease, and fails if they must not be.
    pub(crate) fn send(&mut self, lease: &str, mails: u64) {
        let lease_entry = self.leases.get_mut(lease).expect("a lease that was never granted");
        lease_entry.used += mails;
        assert!(lease_entry.used <= lease_entry.granted, "more than was granted: {lease_entry:?}");
        assert!(Instant::now() < lease_entry.expires, "after its end: {lease_entry:?}");
        assert!(lease_entry.returned.is_none(), "after it was given back: {lease_entry:?}");
    }

    /// Records that mails were put back.
    pub(crate) fn put_back(&mut self, lease: &str, mails: u64) {
        self.leases.get_mut(lease).expect("a lease that was never granted").used -= mails;
    }
}
