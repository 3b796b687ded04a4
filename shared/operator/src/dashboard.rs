//! The dashboard: the page of a live stack, served to this machine alone.
//!
//! It runs with the operator's own credentials and opens no door into the account: it listens on the loopback interface, and
//! every path begins with a token that is new with each run.
//!
//! **Invariant:** nothing is answered but to a request with the token, under a name of the loopback interface, and of the page
//! itself if a page made it. So a page of somebody else, or a name that is made to point here, gets nothing and does nothing.
//! **Invariant:** what it changes goes the way of the verbs: through [`command::say`].

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
use replay::text::TermStyle;
use reputation::subject::Subject;
use reputation::time::Now;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::LocalSet;

use crate::command::{self, Asking, CommandRequest, OperatorCommand, reason};
use crate::failure::Failure;
use crate::{Access, Exit};

mod view;

pub use view::view;

/// A view is served again for so long: several tabs cost what one does.
const FRESH_MILLIS: i64 = 5_000;
/// Nobody says more.
const MAX_BYTES: usize = 8 * 1024;
/// So many requests wait for their turn.
const MAX_JOBS: usize = 64;

/// Nothing from elsewhere, and nobody may frame it.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                              base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A dashboard that listens.
#[derive(Debug)]
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

/// What requests are checked by, and where they are passed on to.
#[derive(Clone)]
struct Door {
    token: Arc<str>,
    port: u16,
    jobs: mpsc::Sender<Job>,
}

/// What is asked of the stack. The ports stay on one thread, and the server hands its work over to it.
enum Job {
    /// How it looks.
    See(oneshot::Sender<Response>),
    /// A word about it.
    Say(Order, oneshot::Sender<Response>),
}

/// What does the jobs.
struct DashboardWorker {
    access: Access,
    clock: Box<dyn Fn() -> Now>,
    view: Mutex<Option<(Now, Bytes)>>,
}

impl Dashboard {
    /// Listens on a port of the loopback interface; 0 = any that is free.
    ///
    /// # Errors
    ///
    /// The port is taken or may not be listened on, or there is no randomness for a token.
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
        Ok(Dashboard { listener, address, token })
    }

    /// Where a browser finds it. Whoever has this address may do what the operator may.
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Serves until the program ends.
    ///
    /// # Errors
    ///
    /// The listener is gone.
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
            .route("/{token}/say", post(said))
            .layer(DefaultBodyLimit::max(MAX_BYTES))
            .layer(middleware::from_fn_with_state(door.clone(), guard))
            .with_state(door);
        let desk = Rc::new(DashboardWorker { access, clock: Box::new(clock), view: Mutex::new(None) });
        let work = async {
            while let Some(job) = asked.recv().await {
                let desk = Rc::clone(&desk);
                tokio::task::spawn_local(async move { desk.does(job).await });
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

/// Lets through what is allowed, and says of every answer what a browser may do with it.
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
    /// Has a job done.
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
            // Browsers name the origin with everything that could change something; what is no browser need not.
            [] if method == Method::GET => {}
            [Ok(origin)] if origin == format!("http://{host}") => {}
            _ => return Some("this dashboard answers its own page only"),
        }
        if let [Ok(site)] = text(HeaderName::from_static("sec-fetch-site"))[..]
            && !["same-origin", "none"].contains(&site)
            // A link to it is followed like an address that is typed: it shows the page and does nothing.
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

/// Compares in a time that does not tell where they differ.
fn same(given: &[u8], ours: &[u8]) -> bool {
    let differ = given.iter().zip(ours).fold(0, |differ, (given, ours)| differ | (given ^ ours));
    given.len() == ours.len() && differ == 0
}

async fn seen(State(door): State<Door>) -> Response {
    door.ask(Job::See).await
}

async fn said(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
    match Order::parse(&headers, &body) {
        Ok(order) => door.ask(|answer| Job::Say(order, answer)).await,
        Err(why) => answered(StatusCode::BAD_REQUEST, &json!({ "error": why })),
    }
}

impl DashboardWorker {
    async fn does(&self, job: Job) {
        // Whoever asked may be gone.
        let _ = match job {
            Job::See(answer) => answer.send(self.see().await),
            Job::Say(order, answer) => answer.send(self.say(order).await),
        };
    }

    async fn see(&self) -> Response {
        // Held while it is read: whoever asks meanwhile waits for the same answer.
        let mut known = self.view.lock().await;
        let now = (self.clock)();
        let shown = |json: Bytes| ([(header::CONTENT_TYPE, "application/json")], json).into_response();
        if let Some((at, json)) = &*known
            && (0..FRESH_MILLIS).contains(&(now.0 - at.0))
        {
            return shown(json.clone());
        }
        match view::view(&self.access, now).await {
            Ok(view) => {
                let json = Bytes::from(serde_json::to_vec(&view).unwrap_or_default());
                *known = Some((now, json.clone()));
                shown(json)
            }
            Err(failure) => failed(&failure),
        }
    }

    async fn say(&self, order: Order) -> Response {
        let Order { subject, isp, saying } = order;
        let now = (self.clock)();
        let look = TermStyle::new(None);
        // The page asks before it sends the word.
        let answer =
            command::say(&self.access, &[subject], isp.as_deref(), &saying, now, look, &Asking::CONFIRMED).await;
        // What is shown next is what came of it.
        *self.view.lock().await = None;
        match answer {
            Ok(answer) => {
                let said: serde_json::Value = serde_json::from_str(&answer.json).unwrap_or_default();
                let outcome = said["outcome"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
                let done = answer.exit == Exit::Done;
                answered(StatusCode::OK, &json!({ "said": outcome.collect::<Vec<_>>().join(" "), "done": done }))
            }
            Err(failure) => failed(&failure),
        }
    }
}

/// How long the page waits for SES; it shows how far it is from then on.
const WAIT: Duration = Duration::from_secs(15);

/// A word, about whom, and why.
struct Order {
    subject: Subject,
    isp: Option<String>,
    saying: CommandRequest,
}

/// The same as the page says it.
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
        let written: Written =
            serde_json::from_slice(body).map_err(|error| format!("this cannot be understood: {error}"))?;
        let word = match written.word.as_str() {
            "stop" => OperatorCommand::Stop,
            "resume" => OperatorCommand::Resume,
            "bypass" => OperatorCommand::Bypass,
            "shadow" => OperatorCommand::Shadow,
            "release" => OperatorCommand::Release,
            other => return Err(format!("`{other}` is none of stop, resume, bypass, shadow and release")),
        };
        let subject = Subject::from_str(&written.subject).map_err(|error| error.to_string())?;
        let reason = reason(&written.reason)?;
        Ok(Order {
            subject,
            isp: written.isp,
            saying: CommandRequest { word, reason: Some(reason), force: false, wait: WAIT },
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
