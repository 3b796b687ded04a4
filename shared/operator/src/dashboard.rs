//! The dashboard: the page of a live stack, served to this machine only.
//!
//! It runs with the operator's own credentials and gives no access from elsewhere: it listens on the loopback interface, and
//! every path begins with a token that is new with each run.
//!
//! **Invariant:** only requests with the token are answered, under a name of the loopback interface, and only from the page
//! itself if a page sent them. So a foreign page, or a foreign name that resolves to this machine, gets nothing and does
//! nothing.
//! **Invariant:** changes take the path of the verbs: through [`command::give`].

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use replay::page;
use reputation::subject::Subject;
use reputation::time::Now;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::LocalSet;

use crate::asking::Asking;
use crate::command::{self, CommandRequest, CommandResult, OperatorCommand, reason};
use crate::failure::Failure;
use crate::{Access, Exit};

mod view;

pub use view::view;

/// How long a view is served again: several tabs cost as much as one.
const FRESH_MILLIS: i64 = 5_000;
/// Larger requests are refused.
const MAX_BYTES: usize = 8 * 1024;
/// The number of requests that may wait.
const MAX_JOBS: usize = 64;

/// Nothing is loaded from elsewhere, and no page may frame this one.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                              base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A dashboard that listens.
#[derive(Debug)]
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
    banner: Option<Banner>,
}

/// What is said above everything, and how often the page is refreshed.
#[derive(Clone, Copy, Debug)]
struct Banner {
    text: &'static str,
    refresh_seconds: u32,
}

/// What requests are checked against, and where they are passed on to.
#[derive(Clone)]
struct Door {
    token: Arc<str>,
    port: u16,
    jobs: mpsc::Sender<Job>,
}

/// Work for the stack. The ports stay on one thread, and the server hands its work to it.
enum Job {
    /// Read the view.
    See(oneshot::Sender<Response>),
    /// Give a command.
    Say(Order, oneshot::Sender<Response>),
}

/// Does the jobs.
struct DashboardWorker {
    access: Access,
    clock: Box<dyn Fn() -> Now>,
    banner: Option<Banner>,
    view: Mutex<Option<(Now, Bytes)>>,
}

impl Dashboard {
    /// Listens on a port of the loopback interface; 0 = any free port.
    ///
    /// # Errors
    ///
    /// The port is taken or not allowed, or there is no randomness for a token.
    pub async fn bind(port: u16) -> Result<Dashboard, Failure> {
        let refused = |source| Failure::CannotListen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let mut random = [0; 24];
        getrandom::fill(&mut random).map_err(|error| refused(std::io::Error::other(error.to_string())))?;
        let mut token = String::new();
        for byte in random {
            let _ = write!(token, "{byte:02x}");
        }
        Ok(Dashboard { listener, address, token, banner: None })
    }

    /// The same with a text above everything, and another time between two refreshes of the page.
    #[must_use]
    pub fn with_banner(self, text: &'static str, refresh_seconds: u32) -> Dashboard {
        Dashboard { banner: Some(Banner { text, refresh_seconds }), ..self }
    }

    /// The address for a browser. Anyone with this address has the operator's permissions.
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Serves until the program ends.
    ///
    /// # Errors
    ///
    /// The listener failed.
    pub async fn serve(self, access: Access, clock: impl Fn() -> Now + 'static) -> Result<(), Failure> {
        let port = self.address.port();
        let (jobs, mut asked) = mpsc::channel(MAX_JOBS);
        let door = Door { token: self.token.into(), port, jobs };
        let asset =
            |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
        let router = Router::new()
            .route("/{token}/", get(async || ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page::served())))
            .route("/{token}/page.css", asset("text/css; charset=utf-8", page::STYLE))
            .route("/{token}/charts.js", asset("text/javascript; charset=utf-8", page::CHARTS))
            .route("/{token}/page.js", asset("text/javascript; charset=utf-8", page::SCRIPT))
            .route("/{token}/view.json", get(seen))
            .route("/{token}/say", post(commanded))
            .layer(DefaultBodyLimit::max(MAX_BYTES))
            .layer(middleware::from_fn_with_state(door.clone(), guard))
            .with_state(door);
        let (clock, banner) = (Box::new(clock), self.banner);
        let worker = Rc::new(DashboardWorker { access, clock, banner, view: Mutex::new(None) });
        let work = async {
            while let Some(job) = asked.recv().await {
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move { worker.does(job).await });
            }
        };
        let local = LocalSet::new();
        let served = local.run_until(async {
            tokio::select! {
                served = axum::serve(self.listener, router).into_future() => served,
                () = work => Ok(()),
            }
        });
        served.await.map_err(|source| Failure::CannotListen { port, source })
    }
}

/// Passes allowed requests on, and adds security headers to every answer.
async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let refused = door.refuses(request.method(), request.uri().path(), request.headers());
    let mut response = match refused {
        Some(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Door {
    /// Runs a job on the worker and returns its answer.
    async fn ask(&self, job: impl FnOnce(oneshot::Sender<Response>) -> Job) -> Response {
        let (answer, answered) = oneshot::channel();
        let gone = || (StatusCode::SERVICE_UNAVAILABLE, "the dashboard ends\n").into_response();
        if self.jobs.send(job(answer)).await.is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }

    /// Why a request is not answered.
    fn refuses(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: HeaderName| headers.get_all(name).iter().map(HeaderValue::to_str).collect::<Vec<_>>();
        let ours = [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        let host = match text(header::HOST)[..] {
            [Ok(host)] if ours.iter().any(|own| own == host) => host.to_owned(),
            _ => return Some("this dashboard answers under 127.0.0.1 and localhost only"),
        };
        match text(header::ORIGIN)[..] {
            // Browsers send the origin with everything that could change something; other clients need not.
            [] if method == Method::GET => {}
            [Ok(origin)] if origin == format!("http://{host}") => {}
            _ => return Some("this dashboard answers its own page only"),
        }
        if let [Ok(site)] = text(HeaderName::from_static("sec-fetch-site"))[..]
            && !["same-origin", "none"].contains(&site)
            // A link to it is followed like a typed address: it shows the page and does nothing.
            && path != format!("/{}/", self.token)
        {
            return Some("this dashboard answers its own page only");
        }
        let token = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
        if !same(token.as_bytes(), self.token.as_bytes()) {
            return Some("the address has no token, or that of an earlier run: use the one that ses-breaker printed");
        }
        None
    }
}

/// Compares in a time that does not depend on where they differ.
fn same(given: &[u8], ours: &[u8]) -> bool {
    let differ = given.iter().zip(ours).fold(0, |differ, (given, ours)| differ | (given ^ ours));
    given.len() == ours.len() && differ == 0
}

async fn seen(State(door): State<Door>) -> Response {
    door.ask(Job::See).await
}

async fn commanded(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
    match Order::parse(&headers, &body) {
        Ok(order) => door.ask(|answer| Job::Say(order, answer)).await,
        Err(why) => answered(StatusCode::BAD_REQUEST, &json!({ "error": why })),
    }
}

impl DashboardWorker {
    async fn does(&self, job: Job) {
        // The requester may be gone.
        let _ = match job {
            Job::See(answer) => answer.send(self.see().await),
            Job::Say(order, answer) => answer.send(self.give_command(order).await),
        };
    }

    async fn see(&self) -> Response {
        // Locked while it is read: other requests wait for the same answer.
        let mut known = self.view.lock().await;
        let now = (self.clock)();
        let shown = |json: Bytes| ([(header::CONTENT_TYPE, "application/json")], json).into_response();
        if let Some((at, json)) = &*known
            && (0..FRESH_MILLIS).contains(&(now.0 - at.0))
        {
            return shown(json.clone());
        }
        match view::view(&self.access, now).await {
            Ok(mut view) => {
                if let Some(Banner { text, refresh_seconds }) = self.banner {
                    view.warnings.insert(0, text.to_owned());
                    view.refresh_seconds = refresh_seconds;
                }
                let json = Bytes::from(serde_json::to_vec(&view).unwrap_or_default());
                *known = Some((now, json.clone()));
                shown(json)
            }
            Err(failure) => failed(&failure),
        }
    }

    async fn give_command(&self, order: Order) -> Response {
        let Order { subject, isp, request } = order;
        let now = (self.clock)();
        // The page has already asked for confirmation.
        let results = command::give(&self.access, &[subject], isp.as_deref(), &request, now, &Asking::CONFIRMED).await;
        // The next view must show the result.
        *self.view.lock().await = None;
        match results {
            Ok(results) => {
                let outcome: Vec<&str> =
                    results.iter().flat_map(|result| &result.outcome).map(String::as_str).collect();
                let done = results.iter().all(|result: &CommandResult| result.exit == Exit::Done);
                answered(StatusCode::OK, &json!({ "said": outcome.join(" "), "done": done }))
            }
            Err(failure) => failed(&failure),
        }
    }
}

/// How long the page waits for SES; after that it shows the progress.
const WAIT: Duration = Duration::from_secs(15);

/// A command, its subject, and the reason.
struct Order {
    subject: Subject,
    isp: Option<String>,
    request: CommandRequest,
}

/// An order as the page sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    word: String,
    subject: String,
    isp: Option<String>,
    reason: String,
}

impl Order {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Order, String> {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if !kind.starts_with(b"application/json") {
            return Err("a command is sent in JSON".to_owned());
        }
        let written: Written = serde_json::from_slice(body).map_err(|error| format!("not a valid command: {error}"))?;
        let command = match written.word.as_str() {
            "stop" => OperatorCommand::Stop,
            "resume" => OperatorCommand::Resume,
            "bypass" => OperatorCommand::Bypass,
            "shadow" => OperatorCommand::Shadow,
            "release" => OperatorCommand::Release,
            other => return Err(format!("unknown command `{other}`: use stop, resume, bypass, shadow or release")),
        };
        let subject = Subject::from_str(&written.subject).map_err(|error| error.to_string())?;
        let reason = reason(&written.reason)?;
        Ok(Order {
            subject,
            isp: written.isp,
            request: CommandRequest { command, reason: Some(reason), force: false, wait: WAIT },
        })
    }
}

fn failed(failure: &Failure) -> Response {
    let status = match failure.exit() {
        Exit::Done | Exit::No | Exit::Usage => StatusCode::UNPROCESSABLE_ENTITY,
        Exit::Refused => StatusCode::BAD_GATEWAY,
    };
    let remedy = failure.remedy();
    let error = if remedy.is_empty() { failure.to_string() } else { format!("{failure}; {remedy}") };
    answered(status, &json!({ "error": error }))
}

fn answered(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
