//! The listeners: the SES API, and health and metrics beside it.
//!
//! **Invariant:** memory is bounded: by connections, by the length of a request's head and body, by the bytes of all bodies
//! together, and by the time in which a request must arrive.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::answer::Fault;
use crate::relay::Relay;

/// The largest body: 40 MB of mail, the most that API v2 takes ("Service quotas", Amazon SES Developer Guide), in base64 once
/// more, and the rest of the request. API v1 takes 10 MB, of which a form makes less than that.
pub(crate) const MAX_BODY: usize = 56 << 20;
/// The longest head of a request. Signatures and trace headers take some 2 KiB.
const MAX_HEAD: usize = 128 << 10;
/// How long a request waits for memory before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may be idle between two requests, or in the head of one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the listener rests after an error, most likely that no more files can be opened.
const REST: Duration = Duration::from_millis(100);

/// What a listener takes at once.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Connections.
    pub connections: usize,
    /// Bodies of requests, in MiB.
    pub in_flight_mib: u32,
    /// How long a body may take to arrive.
    pub read_timeout: Duration,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity { connections: 1000, in_flight_mib: 256, read_timeout: Duration::from_secs(60) }
    }
}

/// Serves the SES API until `stop` is true, then finishes what is under way, for at most `drain`. Returns how many connections
/// had to be cut.
///
/// # Errors
///
/// Never so far.
pub async fn serve(
    listener: TcpListener,
    relay: Relay,
    capacity: Capacity,
    stop: watch::Receiver<bool>,
    drain: Duration,
) -> io::Result<usize> {
    let bytes = Arc::new(Semaphore::new(kib(capacity.in_flight_mib as usize * 1024 * 1024) as usize));
    // Held by all that is handled: also by what a caller no longer waits for.
    let (alive, ended) = mpsc::channel::<()>(1);
    let service = move |request: Request<Incoming>| {
        let (relay, bytes, alive) = (relay.clone(), Arc::clone(&bytes), alive.clone());
        async move {
            let path = request.uri().path().to_owned();
            let response = match receive(request, &bytes, capacity.read_timeout).await {
                // In a task of its own: a caller that goes away must not hide what became of its mail.
                Ok((request, memory)) => {
                    let own = relay.clone();
                    let handled = tokio::spawn(async move {
                        let response = own.handle(request).await;
                        drop((memory, alive));
                        response
                    });
                    handled
                        .await
                        .unwrap_or_else(|_| relay.reject(&path, &Fault::Unavailable("a fault of the relay".to_owned())))
                }
                Err(fault) => relay.reject(&path, &fault),
            };
            Ok::<_, Infallible>(response.map(Full::new))
        }
    };
    Ok(listen(listener, capacity.connections, stop, drain, service, ended).await)
}

/// A size in KiB, rounded up.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Reads a whole request into memory that it reserves first.
async fn receive(
    request: Request<Incoming>,
    bytes: &Arc<Semaphore>,
    timeout: Duration,
) -> Result<(Request<Bytes>, OwnedSemaphorePermit), Fault> {
    let (head, body) = request.into_parts();
    let too_large = || Fault::TooLarge(format!("the request is longer than {} MiB", MAX_BODY >> 20));
    // Without a length, the largest must fit.
    let expected = match body.size_hint().exact() {
        Some(length) if length > MAX_BODY as u64 => {
            // A caller that is still writing would not read the answer.
            let _ = tokio::time::timeout(timeout, discard(body)).await;
            return Err(too_large());
        }
        Some(length) => usize::try_from(length).unwrap_or(MAX_BODY),
        None => MAX_BODY,
    };
    let reserved = tokio::time::timeout(PATIENCE, Arc::clone(bytes).acquire_many_owned(kib(expected))).await;
    let Ok(Ok(memory)) = reserved else {
        return Err(Fault::Unavailable(
            "the relay has no memory left for this request: see limits.in_flight_mib".to_owned(),
        ));
    };
    let body = match tokio::time::timeout(timeout, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(Fault::Malformed("the request broke off".to_owned())),
        Err(_) => return Err(Fault::Slow),
    };
    Ok((Request::from_parts(head, body), memory))
}

/// Reads a body and keeps nothing of it, unless it is much too large.
async fn discard(mut body: Incoming) {
    let mut left = 4 * MAX_BODY;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// Accepts connections until `stop`, then waits for them, and until all senders of `handled` are gone.
async fn listen<S, F>(
    listener: TcpListener,
    connections: usize,
    mut stop: watch::Receiver<bool>,
    drain: Duration,
    service: S,
    mut handled: mpsc::Receiver<()>,
) -> usize
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    while !*stop.borrow() {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            // The sender is gone: the program ends.
            _ = stop.changed() => continue,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service_fn(service.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A broken connection is the caller's affair.
            let _ = connection.await;
            drop(place);
        });
    }
    drop((listener, service));
    let ended = tokio::time::timeout(drain, async {
        graceful.shutdown().await;
        handled.recv().await
    })
    .await;
    if ended.is_ok() { 0 } else { connections - free.available_permits() }
}

async fn accept(listener: &TcpListener, free: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(free).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// What the other port serves.
pub(crate) trait Observed: Send + Sync + 'static {
    /// The text for Prometheus.
    fn metrics(&self) -> String;
}

/// Whether the relay takes mail.
#[derive(Debug, Default)]
pub(crate) struct Readiness(AtomicBool);

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `stop` is true.
pub(crate) async fn serve_status(
    listener: TcpListener,
    observed: Arc<dyn Observed>,
    ready: Arc<Readiness>,
    stop: watch::Receiver<bool>,
) {
    let service = move |request: Request<Incoming>| {
        let (observed, ready) = (Arc::clone(&observed), Arc::clone(&ready));
        async move { Ok(status(request.uri().path(), &*observed, &ready)) }
    };
    listen(listener, 64, stop, Duration::from_secs(1), service, mpsc::channel(1).1).await;
}

fn status(path: &str, observed: &dyn Observed, ready: &Readiness) -> Response<Full<Bytes>> {
    let (status, content_type, text) = match path {
        "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" if ready.0.load(Ordering::Relaxed) => (StatusCode::OK, "text/plain", "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n".to_owned()),
        "/metrics" => {
            (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", observed.metrics())
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "there are /healthz, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Binds an address.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}
