//! Relays that hold and release mail together, in a world that fails: they end between any two calls, the store and SES lose
//! answers, writes arrive late, and the clock goes on meanwhile.
//!
//! A run is its seed: one random number decides which future goes on next. `SIMULATION_SEEDS=FROM..TO` runs these seeds, and one
//! that fails says how to run it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use permits::Class;
use serde_json::{Value, json};

use super::{Alerting, Releaser, Settings as ReleaseSettings};
use crate::hold::key::{Age, MailKey, Place};
use crate::hold::store::{Condition, Listed, Store, StoreError, Version};
use crate::hold::{Holding, Millis};
use crate::mail::Rules;
use crate::metrics::Metrics;
use crate::ports::{
    Call, Deferral, Granted, Lease, NoPermission, NotAnswered, Pending, Permission, Permitting, Sender, Ses,
};
use crate::relay::Relay;
use crate::v2::{SEND, SEND_BULK};

const AGE: Age = Age { bulk: Duration::from_secs(1800), critical: Duration::from_secs(600) };
const ISPS: [&str; 3] = ["gmail", "yahoo", "gmx"];
const START: u64 = 1_795_000_000_000;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What became of a mail, by its number.
#[derive(Debug, Default)]
struct Fate {
    /// The id under which its caller was answered that it is accepted.
    held: Option<String>,
    /// The caller was answered that it may not go now.
    refused: bool,
    /// The relay that was to answer ended, or the store gave it no clear answer.
    doubtful: bool,
    /// How often SES has accepted it.
    sends: u64,
    /// Who has sent it and not deleted it yet.
    open: BTreeSet<usize>,
    /// Why it may have been sent more than once.
    window: Option<&'static str>,
    /// SES has refused it for certain.
    refused_by_ses: bool,
}

struct State {
    rng: Rng,
    now: u64,
    calm: bool,
    ending: bool,
    objects: BTreeMap<String, (Bytes, u64)>,
    versions: u64,
    late: Vec<(String, Bytes)>,
    closed: BTreeSet<&'static str>,
    fates: BTreeMap<u64, Fate>,
    numbers: BTreeMap<String, u64>,
    claimed: BTreeSet<String>,
    listed: BTreeMap<(usize, String), Vec<String>>,
    grants: BTreeMap<(usize, String), i64>,
    dead: BTreeSet<usize>,
    abreast: usize,
    alerts: usize,
    ids: u64,
    steps: u64,
    /// What was done, for a failure.
    log: Vec<String>,
}

#[derive(Clone)]
struct World(Arc<Mutex<State>>);

/// The world as one relay sees it.
#[derive(Clone)]
struct Ports {
    world: World,
    relay: usize,
}

/// Lets the others go on, or the relay end, here.
async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The numbers of the mails in a body of a request: recipients are `mNUMBER@ISP.example`.
fn numbers_in(body: &[u8]) -> Vec<(u64, Vec<String>)> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let of = |destination: &Value| {
        let to: Vec<&str> =
            destination["ToAddresses"].as_array().unwrap().iter().map(|to| to.as_str().unwrap()).collect();
        let number = to[0][1..].split('@').next().unwrap().parse().unwrap();
        (number, to.iter().map(|to| to.split_once('@').unwrap().1.to_owned()).collect())
    };
    match body["BulkEmailEntries"].as_array() {
        Some(entries) => entries.iter().map(|entry| of(&entry["Destination"])).collect(),
        None => vec![of(&body["Destination"])],
    }
}

/// The id in the tag of a held mail.
fn tag_in(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let lists = [&body["EmailTags"], &body["DefaultEmailTags"]];
    let mut tags = lists.into_iter().filter_map(Value::as_array).flatten();
    let tag = tags.find(|tag| tag["Name"] == "ses-breaker-held")?;
    Some(tag["Value"].as_str().unwrap().to_owned())
}

/// What happens to a call of the store.
#[derive(Debug)]
enum Fault {
    None,
    Refused,
    Lost { done: bool },
    Late,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        // After a failure, what is dropped must not fail, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fault(&mut self) -> Fault {
        if self.calm || self.ending || !self.rng.percent(3) {
            return Fault::None;
        }
        match self.rng.below(4) {
            0 => Fault::Refused,
            1 => Fault::Lost { done: true },
            2 => Fault::Lost { done: false },
            _ => Fault::Late,
        }
    }

    fn write(&mut self, key: &str, bytes: Bytes) -> Version {
        if let Some(held) = MailKey::parse(key) {
            // A write that arrives late must not bring back a mail under an id that was used.
            let body = bytes.split(|byte| *byte == b'\n').nth(1).unwrap();
            self.numbers.insert(held.id, numbers_in(body)[0].0);
        }
        self.versions += 1;
        self.objects.insert(key.to_owned(), (bytes, self.versions));
        Version(self.versions.to_string())
    }

    fn fate_of_key(&mut self, key: &str) -> Option<&mut Fate> {
        let id = key.rsplit(['/', '-']).next().unwrap();
        let number = *self.numbers.get(id)?;
        self.fates.get_mut(&number)
    }
}

fn refused(operation: &'static str) -> StoreError {
    StoreError::Refused { operation, code: "SlowDown".to_owned() }
}

fn unclear(operation: &'static str) -> StoreError {
    StoreError::Unclear { operation, problem: "no answer".to_owned() }
}

impl Ports {
    async fn call<T>(
        &self,
        name: &'static str,
        key: &str,
        action: impl FnOnce(&mut State) -> T,
        late: Option<(String, Bytes)>,
    ) -> Result<T, StoreError> {
        pause().await;
        let result = {
            let mut state = self.world.lock();
            let fault = state.fault();
            let line = format!("{} relay {} {name} {key} {fault:?}", state.now - START, self.relay);
            state.log.push(line);
            match fault {
                Fault::None => Ok(action(&mut state)),
                Fault::Refused => Err(refused(name)),
                Fault::Lost { done } => {
                    if done {
                        action(&mut state);
                    }
                    Err(unclear(name))
                }
                Fault::Late => {
                    state.late.extend(late);
                    Err(unclear(name))
                }
            }
        };
        pause().await;
        result
    }
}

impl Store for Ports {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let late = Some((key.to_owned(), bytes.clone()));
            let put = |state: &mut State| {
                state.write(key, bytes);
            };
            let result = self.call("PutObject", key, put, late).await;
            if result.is_err()
                && let Some(fate) = self.world.lock().fate_of_key(key)
            {
                fate.doubtful = true;
            }
            result
        })
    }

    fn put_if<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
        condition: Condition,
    ) -> Pending<'a, Result<Option<Version>, StoreError>> {
        let put = move |state: &mut State| {
            let known = state.objects.get(key).map(|(_, version)| Version(version.to_string()));
            let holds = match (&condition, &known) {
                (Condition::Absent, None) => true,
                (Condition::Is(wanted), Some(known)) => wanted == known,
                (Condition::Absent, Some(_)) | (Condition::Is(_), None) => false,
            };
            holds.then(|| {
                state.claimed.insert(key.to_owned());
                state.write(key, bytes)
            })
        };
        Box::pin(self.call("PutObject", key, put, None))
    }

    fn get<'a>(&'a self, key: &'a str) -> Pending<'a, Result<Option<(Bytes, Version)>, StoreError>> {
        let get = |state: &mut State| {
            state.objects.get(key).map(|(bytes, version)| (bytes.clone(), Version(version.to_string())))
        };
        Box::pin(self.call("GetObject", key, get, None))
    }

    fn exists<'a>(&'a self, key: &'a str) -> Pending<'a, Result<bool, StoreError>> {
        Box::pin(self.call("HeadObject", key, |state: &mut State| state.objects.contains_key(key), None))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let relay = self.relay;
            let delete = |state: &mut State| {
                state.objects.remove(key);
                if key.starts_with("held/")
                    && let Some(fate) = state.fate_of_key(key)
                {
                    fate.open.remove(&relay);
                }
            };
            let result = self.call("DeleteObject", key, delete, None).await;
            if result.is_err()
                && let Some(fate) = self.world.lock().fate_of_key(key)
            {
                fate.window.get_or_insert("a delete failed");
            }
            result
        })
    }

    fn list<'a>(
        &'a self,
        folder: &'a str,
        after: Option<&'a str>,
        most: usize,
    ) -> Pending<'a, Result<Vec<Listed>, StoreError>> {
        let list = move |state: &mut State| {
            let objects = state.objects.iter().filter(|(key, _)| key.starts_with(folder));
            let objects = objects.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after)).take(most);
            let objects: Vec<Listed> =
                objects.map(|(key, (bytes, _))| Listed { key: key.clone(), bytes: bytes.len() as u64 }).collect();
            let keys = objects.iter().map(|listed| listed.key.clone()).collect();
            state.listed.insert((self.relay, folder.to_owned()), keys);
            objects
        };
        Box::pin(self.call("ListObjectsV2", folder, list, None))
    }

    fn folders<'a>(&'a self, folder: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>> {
        let folders = move |state: &mut State| {
            let keys = state.objects.keys().filter_map(|key| key.strip_prefix(folder)?.split_once('/'));
            let names: BTreeSet<String> = keys.map(|(name, _)| name.to_owned()).collect();
            names.into_iter().collect()
        };
        Box::pin(self.call("ListObjectsV2", folder, folders, None))
    }
}

struct OfGate(Ports, String, i64);

impl Lease for OfGate {
    fn put_back(self: Box<Self>) {
        let OfGate(ports, domain, mails) = *self;
        let mut state = ports.world.lock();
        // A relay that has ended gives nothing back.
        if !state.dead.contains(&ports.relay) {
            *state.grants.entry((ports.relay, domain)).or_default() -= mails;
        }
    }
}

impl Permitting for Ports {
    fn take<'a>(
        &'a self,
        sender: &'a Sender,
        domain: &'a str,
        mails: u64,
        _class: Class,
    ) -> Pending<'a, Result<Permission, NoPermission>> {
        Box::pin(async move {
            pause().await;
            let mut state = self.world.lock();
            let isp = domain.split('.').next().unwrap();
            if state.closed.contains(isp) {
                let retry_after = Duration::from_secs(state.rng.below(60) + 1);
                let reason = "closed".to_owned();
                return Ok(Permission::Wait(Deferral { retry_after, isp: Some(isp.into()), reason }));
            }
            if !state.calm && !state.ending && state.rng.percent(2) {
                return Err(NoPermission::Unavailable("not now".to_owned()));
            }
            *state.grants.entry((self.relay, domain.to_owned())).or_default() += mails as i64;
            let lease = Box::new(OfGate(self.clone(), domain.to_owned(), mails as i64));
            let route = sender.set.as_str().into();
            Ok(Permission::Granted(Granted { route, mails, isp: Some(isp.into()), degraded: false, lease }))
        })
    }
}

impl Ses for Ports {
    fn send(&self, call: Call) -> Pending<'_, Result<Response<Bytes>, NotAnswered>> {
        Box::pin(async move {
            self.world.lock().check_call(self.relay, &call.body);
            pause().await;
            let answer = self.world.lock().ses(self.relay, &call);
            pause().await;
            answer
        })
    }
}

impl Alerting for Ports {
    fn publish<'a>(&'a self, _subject: &'a str, _text: &'a str) -> Pending<'a, Result<(), String>> {
        self.world.lock().alerts += 1;
        Box::pin(async { Ok(()) })
    }
}

impl State {
    /// What must be so whenever SES is called.
    fn check_call(&mut self, relay: usize, body: &[u8]) {
        for (number, domains) in numbers_in(body) {
            for domain in domains {
                let grants = self.grants.get(&(relay, domain.clone())).copied().unwrap_or_default();
                assert!(grants >= 1, "mail {number} goes to {domain} without a grant");
            }
        }
        let Some(id) = tag_in(body) else { return };
        let key = self.objects.keys().filter_map(|key| MailKey::parse(key)).find(|key| key.id == id);
        let number = self.numbers[&id];
        let claim = self.objects.get(&format!("claims/{id}"));
        let (Some(key), Some((claim, _))) = (key, claim) else {
            // Deleted by who was slow, or withdrawn by who did not know whether it was stored, since it was looked at.
            let fate = &self.fates[&number];
            assert!(fate.doubtful || fate.window.is_some(), "{id} is sent and not in the store: {fate:?}");
            return;
        };
        let claim: Value = serde_json::from_slice(claim).unwrap();
        let owns = claim["owner"] == format!("relay-{relay}") && claim["state"] == "sending";
        assert!(owns && claim["until"].as_u64().unwrap() > self.now, "{id} is sent by who does not hold it: {claim}");
        assert!(Millis(self.now) < key.expires(AGE), "{id} is sent after its end");
        let listed = &self.listed[&(relay, key.line.folder())];
        let older = listed.iter().filter(|older| **older < key.held() && self.objects.contains_key(*older));
        let passed = older.filter(|older| !self.claimed.contains(&MailKey::parse(older).unwrap().claim()));
        let passed = passed.filter(|older| Millis(self.now) < MailKey::parse(older).unwrap().expires(AGE));
        // Mail that waits for another ISP than its line holds up no other.
        let to_several = |key: &str| {
            let (object, _) = &self.objects[key];
            let header = object.iter().position(|byte| *byte == b'\n').unwrap();
            let domains = numbers_in(&object[header + 1..]).into_iter().flat_map(|(_, domains)| domains);
            domains.collect::<BTreeSet<String>>().len() > 1
        };
        let passed = passed.filter(|older| !to_several(older)).count();
        assert!(passed < self.abreast, "{id} goes before {passed} older ones");
    }

    /// What SES does with a call.
    fn ses(&mut self, relay: usize, call: &Call) -> Result<Response<Bytes>, NotAnswered> {
        let mails = numbers_in(&call.body);
        let answer = |status: u16, body: Value| {
            Ok(Response::builder().status(status).body(Bytes::from(body.to_string())).unwrap())
        };
        let error = |status: u16, code: &str| {
            let response = Response::builder().status(status).header("x-amzn-errortype", code);
            Ok(response.body(Bytes::from("{}")).unwrap())
        };
        self.log.push(format!("{} relay {relay} SES {mails:?} {:?}", self.now - START, tag_in(&call.body)));
        let dice = if self.ending { 99 } else { self.rng.below(100) };
        let accepts = match dice {
            0..4 => return error(429, "TooManyRequestsException"),
            4..7 => return error(400, "SendingPausedException"),
            7..10 => {
                for (number, _) in mails {
                    self.fates.get_mut(&number).unwrap().refused_by_ses = true;
                }
                return error(400, "MessageRejected");
            }
            10..12 if !self.calm => return Err(NotAnswered::NotSent("no".to_owned())),
            12..14 if !self.calm => false,
            _ => true,
        };
        let lost = !self.calm && (12..17).contains(&dice);
        for (number, domains) in mails {
            for domain in domains {
                *self.grants.get_mut(&(relay, domain)).unwrap() -= 1;
            }
            let fate = self.fates.get_mut(&number).unwrap();
            if accepts {
                fate.sends += 1;
                fate.open.insert(relay);
            }
            if lost {
                fate.window.get_or_insert("SES gave no answer");
            }
        }
        if lost {
            return if dice == 15 { error(500, "InternalFailure") } else { Err(NotAnswered::Unclear("no".to_owned())) };
        }
        match call.path {
            SEND => answer(200, json!({ "MessageId": "of-ses" })),
            _ => {
                let entries = numbers_in(&call.body).len();
                let results = vec![json!({ "Status": "SUCCESS", "MessageId": "of-ses" }); entries];
                answer(200, json!({ "BulkEmailEntryResults": results }))
            }
        }
    }
}

type Actor = (usize, Pin<Box<dyn Future<Output = ()>>>);

struct Run {
    world: World,
    metrics: Arc<Metrics>,
    relays: Vec<(usize, Relay, Arc<Releaser>)>,
    actors: Vec<Actor>,
    started: usize,
    mails: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng(seed);
        let (calm, abreast) = (rng.percent(25), 1 + rng.below(3) as usize);
        let state = State {
            rng,
            now: START,
            calm,
            ending: false,
            objects: BTreeMap::new(),
            versions: 0,
            late: Vec::new(),
            closed: BTreeSet::new(),
            fates: BTreeMap::new(),
            numbers: BTreeMap::new(),
            claimed: BTreeSet::new(),
            listed: BTreeMap::new(),
            grants: BTreeMap::new(),
            dead: BTreeSet::new(),
            abreast,
            alerts: 0,
            ids: 0,
            steps: 0,
            log: Vec::new(),
        };
        let world = World(Arc::new(Mutex::new(state)));
        let mut run =
            Run { world, metrics: Arc::default(), relays: Vec::new(), actors: Vec::new(), started: 0, mails: 0 };
        let relays = 1 + run.world.lock().rng.below(3);
        (0..relays).for_each(|_| run.start());
        run
    }

    /// Starts a relay.
    fn start(&mut self) {
        let number = self.started;
        self.started += 1;
        let ports = Arc::new(Ports { world: self.world.clone(), relay: number });
        let (clock, ids) = (self.world.clone(), self.world.clone());
        let holding = Holding {
            store: ports.clone(),
            clock: Arc::new(move || Millis(clock.lock().now)),
            ids: Arc::new(move || {
                let mut state = ids.lock();
                state.ids += 1;
                Some(format!("{:032x}", state.ids))
            }),
            metrics: Arc::clone(&self.metrics),
        };
        let rules = Rules {
            default_set: Some("news".to_owned()),
            class_tag: "class".to_owned(),
            classes: Vec::new(),
            held: Class::ALL.to_vec(),
        };
        let limit = Duration::from_secs(60);
        let metrics = Arc::clone(&self.metrics);
        let relay = Relay::new(rules, ports.clone(), ports.clone(), metrics, limit, Some(holding.clone()));
        let (workers, abreast) = {
            let mut state = self.world.lock();
            (1 + state.rng.below(4) as usize, state.abreast)
        };
        let settings = ReleaseSettings {
            age: AGE,
            workers,
            abreast,
            ses_timeout: Duration::from_secs(30),
            owner: format!("relay-{number}"),
        };
        let releaser = Arc::new(Releaser::new(relay.clone(), holding, Some(ports), settings));
        let own = Arc::clone(&releaser);
        self.actors.push((
            number,
            Box::pin(async move {
                loop {
                    own.scan().await;
                    pause().await;
                }
            }),
        ));
        self.relays.push((number, relay, releaser));
    }

    /// A relay ends, and another starts.
    fn crash(&mut self) {
        let index = self.world.lock().rng.below(self.relays.len() as u64) as usize;
        let (number, relay, releaser) = self.relays.remove(index);
        {
            let mut state = self.world.lock();
            state.dead.insert(number);
            for fate in state.fates.values_mut().filter(|fate| fate.open.contains(&number)) {
                fate.window.get_or_insert("a relay ended");
            }
        }
        self.actors.retain(|(of, _)| *of != number);
        drop((relay, releaser));
        self.start();
    }

    /// A caller sends a mail, or a bulk call.
    fn send(&mut self) {
        let mut state = self.world.lock();
        let relay = &self.relays[state.rng.below(self.relays.len() as u64) as usize];
        let (number, relay) = (relay.0, relay.1.clone());
        let entries = if state.rng.percent(20) { 1 + state.rng.below(3) } else { 0 };
        let class = if state.rng.percent(30) { "critical" } else { "bulk" };
        let set = if state.rng.percent(80) { "news" } else { "codes" };
        let mails: Vec<u64> = (self.mails..self.mails + entries.max(1)).collect();
        self.mails += entries.max(1);
        let mut to = |mail: &u64| {
            state.fates.insert(*mail, Fate::default());
            let isps = if state.rng.percent(10) { 2 } else { 1 };
            let first = state.rng.below(3) as usize;
            let to: Vec<String> =
                (0..isps).map(|n| format!("m{mail}@{}.example", ISPS[(first + n) % ISPS.len()])).collect();
            json!({ "ToAddresses": to })
        };
        let destinations: Vec<Value> = mails.iter().map(&mut to).collect();
        let tags = json!([{ "Name": "class", "Value": class }]);
        let (path, body) = match entries {
            0 => (
                SEND,
                json!({ "FromEmailAddress": "a@b.example", "Destination": destinations[0], "Content": { "Simple": {} },
                    "EmailTags": tags, "ConfigurationSetName": set }),
            ),
            _ => {
                let entries: Vec<Value> =
                    destinations.iter().map(|destination| json!({ "Destination": destination })).collect();
                let body = json!({ "FromEmailAddress": "a@b.example", "DefaultContent": {}, "DefaultEmailTags": tags,
                    "BulkEmailEntries": entries, "ConfigurationSetName": set });
                (SEND_BULK, body)
            }
        };
        drop(state);
        self.call((number, relay), path, &body, mails);
    }

    /// A relay is called with mails of these numbers.
    fn call(&mut self, (number, relay): (usize, Relay), path: &'static str, body: &Value, mails: Vec<u64>) {
        let request = Request::post(path)
            .header(AUTHORIZATION, "AWS4-HMAC-SHA256 Credential=of/the/caller")
            .body(Bytes::from(body.to_string()))
            .unwrap();
        let world = self.world.clone();
        // Until it is answered, its caller knows nothing.
        for mail in &mails {
            world.lock().fates.get_mut(mail).unwrap().doubtful = true;
        }
        self.actors.push((
            number,
            Box::pin(async move {
                let doubtful = relay.metrics().all_doubtful();
                let answer = relay.handle(request).await;
                let is_clear = relay.metrics().all_doubtful() == doubtful;
                let body: Value = serde_json::from_slice(answer.body()).unwrap();
                let mut state = world.lock();
                for (index, mail) in mails.iter().enumerate() {
                    let id = match body["BulkEmailEntryResults"].as_array() {
                        Some(results) => results[index]["MessageId"].clone(),
                        None => body["MessageId"].clone(),
                    };
                    let fate = state.fates.get_mut(mail).unwrap();
                    fate.held = id.as_str().and_then(|id| id.strip_prefix("held-")).map(str::to_owned);
                    fate.refused = id.is_null();
                    fate.doubtful = !is_clear;
                    // What was not held is not deleted, either.
                    if fate.held.is_none() {
                        fate.open.remove(&number);
                    }
                }
            }),
        ));
    }

    fn poll(&mut self) {
        let index = {
            let mut state = self.world.lock();
            state.steps += 1;
            state.rng.below(self.actors.len() as u64) as usize
        };
        let (_, actor) = &mut self.actors[index];
        if actor.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            drop(self.actors.swap_remove(index));
        }
    }

    fn step(&mut self) {
        let (dice, calm) = {
            let mut state = self.world.lock();
            (state.rng.below(1000), state.calm)
        };
        match dice {
            0..25 if self.mails < 30 => self.send(),
            25..27 if !calm => self.crash(),
            27..40 => {
                let mut state = self.world.lock();
                let isp = ISPS[state.rng.below(3) as usize];
                if !state.closed.remove(isp) {
                    state.closed.insert(isp);
                }
            }
            40..42 if !calm => self.pass(100_000),
            42..50 => {
                let mut state = self.world.lock();
                if !state.late.is_empty() {
                    let (key, bytes) = state.late.swap_remove(0);
                    state.write(&key, bytes);
                }
            }
            50..250 => {
                let most = if calm { 200 } else { 2_000 };
                let time = self.world.lock().rng.below(most);
                self.pass(time);
            }
            _ => self.poll(),
        }
    }

    /// Time passes. A relay whose claim runs out before it is done may find that another has sent the mail, too.
    fn pass(&mut self, millis: u64) {
        let mut state = self.world.lock();
        state.now += millis;
        let now = state.now;
        let claims = state.objects.range("claims/".to_owned().."claims0".to_owned());
        let over = claims.filter(|(_, (claim, _))| {
            serde_json::from_slice::<Value>(claim).unwrap()["until"].as_u64().unwrap() <= now
        });
        let over: Vec<String> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            if let Some(fate) = state.fate_of_key(&key)
                && !fate.open.is_empty()
            {
                fate.window.get_or_insert("a claim ran out");
            }
        }
    }

    /// Everything is well from now on.
    fn end(&mut self) {
        {
            let mut state = self.world.lock();
            state.ending = true;
            state.closed.clear();
            for (key, bytes) in std::mem::take(&mut state.late) {
                state.write(&key, bytes);
            }
        }
        let mut turns = 0;
        while self.actors.len() > self.relays.len()
            || self.world.lock().objects.keys().any(|key| key.starts_with(Place::Held.folder()))
        {
            (0..20).for_each(|_| self.poll());
            self.pass(1_000);
            turns += 1;
            assert!(turns < 50_000, "held mail stays in the store");
        }
        // Alerts follow at the end of a scan.
        self.pass(600_000);
        (0..500).for_each(|_| self.poll());
    }

    fn check(&self) {
        let state = self.world.lock();
        let mut extra = 0;
        for (number, fate) in &state.fates {
            let ended = |id: &String| {
                let places = [Place::Expired.folder(), Place::Refused.folder()];
                state.objects.keys().any(|key| key.ends_with(id) && places.iter().any(|place| key.starts_with(place)))
            };
            if let Some(id) = &fate.held {
                assert!(fate.sends > 0 || ended(id), "mail {number} was accepted and is lost");
            }
            if fate.refused && !fate.doubtful && fate.window.is_none() {
                assert_eq!(fate.sends, 0, "mail {number} was refused and sent: {fate:?}");
            }
            extra += fate.sends.saturating_sub(1);
            assert!(
                fate.sends <= 1 || fate.window.is_some() || fate.doubtful,
                "mail {number} was sent twice: {fate:?}"
            );
        }
        let counted: u64 = Class::ALL
            .iter()
            .flat_map(|class| ISPS.iter().map(|isp| self.metrics.all_maybe_twice(*class, &Arc::from(*isp))))
            .sum();
        assert!(extra <= counted, "{extra} mails more than once, {counted} counted");
        if state.calm {
            assert_eq!((extra, counted), (0, 0), "nothing has failed");
            assert!(state.grants.values().all(|grants| *grants == 0), "{:?}", state.grants);
        }
        let ended = [Place::Expired, Place::Refused];
        let ended = ended.map(|place| state.objects.keys().filter(|key| key.starts_with(place.folder())).count());
        // A relay that ends takes along the alert that it has not published; the log and the store have its mail.
        let silent = state.calm && ended.iter().sum::<usize>() > 0 && state.alerts == 0;
        assert!(!silent, "no alert about mail that was not sent");
    }
}

/// How often things happened, to see that the simulation reaches them.
#[derive(Debug, Default)]
struct Reached {
    held: u64,
    twice: u64,
    expired: usize,
    refused: usize,
    steps: u64,
}

/// Prints what was done, if the run fails.
struct PrintLog(World);

impl Drop for PrintLog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.lock().log.join("\n"));
        }
    }
}

fn run(seed: u64, reached: &mut Reached) {
    let mut run = Run::new(seed);
    let world = run.world.clone();
    let _log = PrintLog(world);
    for _ in 0..2_500 {
        run.step();
    }
    run.end();
    run.check();
    let state = run.world.lock();
    reached.held += state.fates.values().filter(|fate| fate.held.is_some()).count() as u64;
    reached.twice += state.fates.values().map(|fate| fate.sends.saturating_sub(1)).sum::<u64>();
    reached.expired += state.objects.keys().filter(|key| key.starts_with("expired/")).count();
    reached.refused += state.objects.keys().filter(|key| key.starts_with("refused/")).count();
    reached.steps += state.steps;
}

#[test]
fn a_mail_that_waits_for_another_isp_does_not_hold_up_its_line() {
    for seed in 0..20 {
        let mut run = Run::new(seed);
        {
            let mut state = run.world.lock();
            (state.calm, state.closed) = (true, BTreeSet::from(ISPS));
        }
        let hold = |run: &mut Run, number: u64, isps: &[&str]| {
            let to: Vec<String> = isps.iter().map(|isp| format!("m{number}@{isp}.example")).collect();
            let body = json!({ "FromEmailAddress": "a@b.example", "Destination": { "ToAddresses": to },
                "Content": { "Simple": {} }, "ConfigurationSetName": "news" });
            run.world.lock().fates.insert(number, Fate::default());
            let (relay, own, _) = &run.relays[0];
            let caller = (*relay, own.clone());
            run.call(caller, SEND, &body, vec![number]);
            while run.world.lock().fates[&number].doubtful {
                run.poll();
            }
            run.world.lock().fates[&number].held.clone().unwrap()
        };
        let to_two = hold(&mut run, 0, &ISPS[..2]);
        let line = {
            let state = run.world.lock();
            let key = state.objects.keys().find_map(|key| MailKey::parse(key).filter(|key| key.id == to_two)).unwrap();
            ISPS.into_iter().find(|isp| **isp == *key.line.isp).unwrap()
        };
        let behind = hold(&mut run, 1, &[line]);
        run.world.lock().closed.remove(line);
        for _ in 0..400 {
            (0..20).for_each(|_| run.poll());
            run.pass(1_000);
        }
        let state = run.world.lock();
        let is_held = |id: &String| state.objects.keys().any(|key| key.starts_with("held/") && key.ends_with(id));
        assert!(is_held(&to_two) && !is_held(&behind) && state.fates[&1].sends == 1, "seed {seed}");
    }
}

#[test]
fn no_accepted_mail_is_lost_and_none_goes_twice_but_in_the_window_that_is_counted() {
    let seeds = std::env::var("SIMULATION_SEEDS").unwrap_or_else(|_| "0..2000".to_owned());
    let (from, to) = seeds.split_once("..").unwrap();
    let mut reached = Reached::default();
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    for seed in from..to {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut reached)));
        if let Err(failure) = ran {
            println!(
                "seed {seed} fails: SIMULATION_SEEDS={seed}..{} cargo test -p ses-breaker-relay simulation",
                seed + 1
            );
            std::panic::resume_unwind(failure);
        }
    }
    println!("{reached:?}");
    let Reached { held, twice, expired, refused, .. } = reached;
    assert!(to - from < 1000 || (held > 0 && twice > 0 && expired > 0 && refused > 0), "{reached:?}");
}
