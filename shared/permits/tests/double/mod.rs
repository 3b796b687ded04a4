//! A gate that keeps the truth: what it granted, who used how much of it, what came back. It has ISPs with quotas, and
//! faults on the way to it and back.

#![expect(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use permits::{Answer, Gate, NoAnswer, Reply};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Shared by the client, which sees a gate, and the test, which sees the books.
#[derive(Clone, Debug, Default)]
pub(crate) struct Double {
    pub(crate) books: Arc<Mutex<Books>>,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// It comes in, and the answer so much later.
    Slow(Duration),
    /// It never comes in.
    RequestLost,
    /// It comes in, and the answer is lost: a broken connection.
    AnswerLost,
    /// It comes in, and nothing is heard any more.
    Silence,
    /// The gate is in trouble before it does anything.
    Status(u16),
    /// It comes in, and something else is answered.
    Garbage,
    /// The last answer is heard again, and the call never comes in.
    Echo,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// By ISP.
    pub(crate) isps: BTreeMap<&'static str, IspBook>,
    pub(crate) leases: BTreeMap<String, LeaseBook>,
    /// By request.
    pub(crate) requests: BTreeMap<String, Vec<String>>,
    pub(crate) calls: Vec<(String, Value)>,
    /// What happens to the next calls; answered when empty.
    pub(crate) fates: std::collections::VecDeque<Fate>,
    /// Answered to each ask for permits, if set.
    pub(crate) refusal: Option<(u16, Value)>,
    /// Whether the state cannot be read: the answer says so, and grants if `true`.
    pub(crate) unreadable: Option<bool>,
    pub(crate) lease_secs: u64,
    last: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct IspBook {
    /// Mails that may still be granted.
    pub(crate) quota: u64,
    /// What exceeds the quota goes to the overflow set.
    pub(crate) overflows: bool,
    pub(crate) retry_after: u64,
    pub(crate) overflow_granted: u64,
}

#[derive(Debug)]
pub(crate) struct LeaseBook {
    pub(crate) isp: &'static str,
    pub(crate) granted: u64,
    pub(crate) expires: Instant,
    /// Kept by the test: let go, and not put back.
    pub(crate) used: u64,
    pub(crate) returned: Option<u64>,
    /// Whether an answer that names it came through.
    pub(crate) reported: bool,
}

/// As the gate would classify it.
pub(crate) fn isp_of(domain: &str) -> &'static str {
    match domain {
        "gmail.com" | "googlemail.com" => "gmail",
        "outlook.com" | "hotmail.com" => "microsoft",
        "yahoo.com" => "yahoo",
        _ => "other",
    }
}

impl Double {
    /// All ISPs with the same quota; leases for a minute.
    pub(crate) fn with_quota(quota: u64) -> Double {
        let double = Double::default();
        let mut books = double.books();
        books.lease_secs = 60;
        for isp in ["gmail", "microsoft", "yahoo", "other"] {
            books.isps.insert(isp, IspBook { quota, retry_after: 30, ..IspBook::default() });
        }
        drop(books);
        double
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub(crate) fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.books().fates = fates.into_iter().collect();
    }

    /// Calls of one path.
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.books().calls.iter().filter(|(called, _)| called == path).count()
    }

    async fn answer(&self, path: &'static str, body: Bytes) -> Result<Answer, NoAnswer> {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let fate = self.books().fates.pop_front().unwrap_or(Fate::Answered);
        let no_answer = || NoAnswer("connection reset".to_owned());
        match fate {
            Fate::RequestLost => return Err(no_answer()),
            Fate::Status(status) => return Ok(Answer { status, date: None, body: Bytes::from_static(b"{}") }),
            Fate::Echo => {
                let last = self.books().last.clone();
                return last.map(|body| Answer { status: 200, date: None, body }).ok_or_else(no_answer);
            }
            Fate::Answered | Fate::Slow(_) | Fate::AnswerLost | Fate::Silence | Fate::Garbage => {}
        }
        let (status, answer) = self.books().handle(path, &body);
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
        let mut books = self.books();
        for lease in answer["permits"].as_array().into_iter().flatten().filter_map(|permit| permit["lease"].as_str()) {
            books.leases.get_mut(lease).unwrap().reported = true;
            books.last = Some(body.clone());
        }
        Ok(Answer { status, date: None, body })
    }
}

impl Gate for Double {
    fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a> {
        Box::pin(self.answer(path, body))
    }
}

impl Books {
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
                // As a gate might: in ASCII.
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
        let book = self.isps.get_mut(isp).unwrap();
        let mut permit = json!({ "granted": 0, "overflow": 0, "deferred": 0 });
        if let Some(open) = self.unreadable {
            let (granted, deferred) = if open { (asked, 0) } else { (0, asked) };
            permit = json!({ "granted": granted, "overflow": 0, "deferred": deferred, "route": "news" });
        } else {
            let lease = format!("{isp}/{request}");
            let before = self.leases.get(&lease).map(|known| known.granted);
            let granted = before.unwrap_or(asked.min(book.quota));
            if granted > 0 {
                let life = Duration::from_secs(self.lease_secs);
                let entry = self.leases.entry(lease.clone()).or_insert_with(|| {
                    book.quota -= granted;
                    let expires = Instant::now() + life;
                    LeaseBook { isp, granted, expires, used: 0, returned: None, reported: false }
                });
                permit["granted"] = json!(granted);
                permit["route"] = json!("news");
                permit["lease"] = json!(lease);
                permit["expiresInSeconds"] = json!(entry.expires.saturating_duration_since(Instant::now()).as_secs());
                self.requests.entry(request.to_owned()).or_default().push(lease);
            }
            let rest = asked - granted;
            if book.overflows && before.is_none() && rest > 0 {
                book.overflow_granted += rest;
                permit["overflow"] = json!(rest);
                permit["overflowRoute"] = json!("news-shared");
            } else {
                permit["deferred"] = json!(rest);
            }
        }
        if permit["deferred"] != json!(0) {
            permit["retryAfterSeconds"] = json!(book.retry_after);
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

    /// Enters that mails are sent under a lease, and says no if they must not.
    pub(crate) fn send(&mut self, lease: &str, mails: u64) {
        let book = self.leases.get_mut(lease).expect("a lease that was never granted");
        book.used += mails;
        assert!(book.used <= book.granted, "more than was granted: {book:?}");
        assert!(Instant::now() < book.expires, "after its end: {book:?}");
        assert!(book.returned.is_none(), "after it was given back: {book:?}");
    }

    /// Enters that mails were put back.
    pub(crate) fn put_back(&mut self, lease: &str, mails: u64) {
        self.leases.get_mut(lease).expect("a lease that was never granted").used -= mails;
    }
}
