//! The clients of the gate: one for each pair of configuration set and identity, made when mail of it comes.
//!
//! **Invariant:** there are never more than configured, whatever identities callers write. A client is closed when no mail
//! came for ten minutes, or, where another needs its place, for two; its leases are given back then.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use permits::{Class, Counts, Error, Gate, Grant, Permit, Permits, Reply};
use tokio::time::Instant;

use crate::mail::is_set_name;
use crate::ports::{Deferral, Granted, Lease, NoPermission, Pending, Permission, Permitting, Sender};

/// A client is closed after this time without mail.
const IDLE: Duration = Duration::from_secs(600);
/// A client gives its place to another after this time without mail: longer than a request to SES may take.
const IDLE_WHEN_FULL: Duration = Duration::from_secs(120);

/// The clients of one gate.
#[derive(Clone)]
pub struct Clients {
    inner: Arc<Inner>,
}

struct Inner {
    gate: Arc<dyn Gate>,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Sender, Client>,
    closed: bool,
    /// Of clients that are closed.
    past: Counts,
}

struct Client {
    permits: Permits,
    used: Instant,
}

/// One connection to the gate for all clients.
struct Shared(Arc<dyn Gate>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Gate for Shared {
    fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a> {
        self.0.post(path, body)
    }
}

struct OfPermits(Grant);

impl Lease for OfPermits {
    fn put_back(self: Box<Self>) {
        self.0.unused();
    }
}

impl Clients {
    /// Clients of a gate, at most so many at the same time.
    pub fn new(gate: impl Gate, most: usize) -> Clients {
        Clients { inner: Arc::new(Inner { gate: Arc::new(gate), most, state: Mutex::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, sender: &Sender) -> Result<Permits, NoPermission> {
        let unavailable = |text: &str| NoPermission::Unavailable(text.to_owned());
        let now = Instant::now();
        let mut state = self.lock();
        if state.closed {
            return Err(unavailable("the relay is stopping"));
        }
        if let Some(client) = state.known.get_mut(sender) {
            client.used = now;
            return Ok(client.permits.clone());
        }
        if state.known.len() >= self.inner.most {
            let idle = state.known.iter().filter(|(_, client)| now - client.used >= IDLE_WHEN_FULL);
            let Some(longest) = idle.min_by_key(|(_, client)| client.used).map(|(sender, _)| sender.clone()) else {
                return Err(unavailable("mail of too many senders at the same time: see limits.senders"));
            };
            self.retire(&mut state, &longest);
        }
        let permits = Permits::builder(&sender.set, &sender.identity)
            .over(Shared(Arc::clone(&self.inner.gate)))
            .map_err(|error| NoPermission::Unavailable(error.to_string()))?;
        state.known.insert(sender.clone(), Client { permits: permits.clone(), used: now });
        Ok(permits)
    }

    fn retire(&self, state: &mut State, sender: &Sender) {
        if let Some(client) = state.known.remove(sender) {
            let clients = self.clone();
            tokio::spawn(async move {
                let counts = client.permits.close().await;
                add(&mut clients.lock().past, &counts);
            });
        }
    }

    /// Closes the clients that no mail needs any more. To be called from time to time.
    pub fn close_idle(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let idle = state.known.iter().filter(|(_, client)| now - client.used >= IDLE);
        let idle: Vec<Sender> = idle.map(|(sender, _)| sender.clone()).collect();
        for sender in idle {
            self.retire(&mut state, &sender);
        }
    }

    /// What all clients have done, and how many there are now.
    pub fn counts(&self) -> (Counts, usize) {
        let state = self.lock();
        let mut all = state.past;
        state.known.values().for_each(|client| add(&mut all, &client.permits.counts()));
        (all, state.known.len())
    }

    /// Gives back all leases. No mail goes afterwards.
    pub async fn close(&self) -> Counts {
        let clients: Vec<Client> = {
            let mut state = self.lock();
            state.closed = true;
            state.known.drain().map(|(_, client)| client).collect()
        };
        let counts = join_all(clients.iter().map(|client| client.permits.close())).await;
        let mut state = self.lock();
        counts.iter().for_each(|counts| add(&mut state.past, counts));
        state.past
    }
}

fn add(sum: &mut Counts, more: &Counts) {
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
    } = more;
    sum.calls += calls;
    sum.failed_calls += failed_calls;
    sum.granted += granted;
    sum.granted_without_lease += granted_without_lease;
    sum.let_go += let_go;
    sum.let_go_unreached += let_go_unreached;
    sum.put_back += put_back;
    sum.given_back += given_back;
    sum.lost += lost;
}

impl Permitting for Clients {
    fn take<'a>(
        &'a self,
        sender: &'a Sender,
        domain: &'a str,
        mails: u64,
        class: Class,
    ) -> Pending<'a, Result<Permission, NoPermission>> {
        Box::pin(async move {
            let permits = self.client(sender)?;
            match permits.take(domain, mails, class).await {
                // A route is written into requests as it is.
                Ok(Permit::Send(grant) | Permit::Overflow(grant)) if !is_set_name(grant.route()) => {
                    grant.unused();
                    Err(NoPermission::Unavailable("the gate names a route that is not a configuration set".to_owned()))
                }
                Ok(Permit::Send(grant) | Permit::Overflow(grant)) => Ok(Permission::Granted(Granted {
                    route: grant.route().into(),
                    mails: grant.mails(),
                    isp: grant.isp().map(Into::into),
                    degraded: grant.degraded(),
                    lease: Box::new(OfPermits(grant)),
                })),
                Ok(Permit::Wait(wait)) => Ok(Permission::Wait(Deferral {
                    retry_after: wait.retry_after,
                    isp: wait.isp,
                    reason: wait.reason.to_string(),
                })),
                Err(error) => Err(no_permission(&error)),
            }
        })
    }
}

fn no_permission(error: &Error) -> NoPermission {
    match error {
        Error::Domain { why, .. } => NoPermission::Refused(format!("the domain of a recipient is malformed: {why}")),
        Error::Mails { .. } => NoPermission::Refused(error.to_string()),
        // The relay's own URL or permissions are wrong: callers cannot change that, and may try again.
        Error::Refused(problem)
            if [401, 403, 405, 429].contains(&problem.status) || problem.kind == permits::ErrorCode::Unknown =>
        {
            NoPermission::Unavailable(format!(
                "the gate refuses the relay with HTTP {}: run `ses-relay check`",
                problem.status
            ))
        }
        Error::Refused(problem) => NoPermission::Refused(format!("the gate refuses the mail: {}", problem.detail)),
        Error::Closed => NoPermission::Unavailable("the relay is stopping".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use permits::Answer;
    use serde_json::{Value, json};

    use super::*;

    /// Grants all that is asked for, and takes everything back.
    #[derive(Debug)]
    struct Granting;

    impl Gate for Granting {
        fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a> {
            let request: Value = serde_json::from_slice(&body).unwrap();
            let answer = if path.ends_with("return") {
                json!({ "returned": request["unused"] })
            } else {
                let recipients = request["recipients"].as_object().unwrap();
                let permits: Vec<Value> = recipients
                    .iter()
                    .map(|(domain, mails)| {
                        json!({
                            "isp": domain, "domains": [domain], "asked": mails, "granted": mails, "route": request["configurationSet"],
                            "lease": format!("{}-{domain}", request["request"]), "expiresInSeconds": 60, "overflow": 0, "deferred": 0,
                        })
                    })
                    .collect();
                json!({ "configurationSet": request["configurationSet"], "permits": permits })
            };
            let body = answer.to_string().into();
            Box::pin(async move { Ok(Answer { status: 200, date: None, body }) })
        }
    }

    fn sender(number: usize) -> Sender {
        Sender { set: "news".to_owned(), identity: format!("i{number}.example") }
    }

    async fn take(clients: &Clients, number: usize) -> Result<Permission, NoPermission> {
        clients.take(&sender(number), "gmail.com", 1, Class::Bulk).await
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_clients_than_configured_and_idle_ones_make_room() {
        let clients = Clients::new(Granting, 2);
        for number in [0, 1, 0] {
            assert!(matches!(take(&clients, number).await, Ok(Permission::Granted(_))));
        }
        assert!(matches!(take(&clients, 2).await, Err(NoPermission::Unavailable(_))));
        tokio::time::advance(IDLE_WHEN_FULL).await;
        assert!(matches!(take(&clients, 0).await, Ok(Permission::Granted(_))));
        assert!(matches!(take(&clients, 2).await, Ok(Permission::Granted(_))), "the place of 1, which is idle");
        assert_eq!(clients.counts().1, 2);
        assert!(matches!(take(&clients, 1).await, Err(NoPermission::Unavailable(_))));
        tokio::time::advance(IDLE).await;
        clients.close_idle();
        assert_eq!(clients.counts().1, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_is_given_back_at_the_end_and_nothing_goes_afterwards() {
        let clients = Clients::new(Granting, 10);
        let Ok(Permission::Granted(used)) = take(&clients, 0).await else { panic!() };
        let Ok(Permission::Granted(unused)) = take(&clients, 1).await else { panic!() };
        drop(used);
        unused.lease.put_back();
        let counts = clients.close().await;
        assert_eq!((counts.let_go, counts.lost), (1, 0));
        assert_eq!(counts.granted, counts.let_go + counts.given_back);
        assert!(matches!(take(&clients, 0).await, Err(NoPermission::Unavailable(_))));
    }
}
