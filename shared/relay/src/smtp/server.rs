//! Runs sessions over TCP and TLS.
//!
//! Each connection is a task. Each message that is handed over is a task of its own: a client that goes away, a timeout
//! or the end of a shutdown cancel the connection and never the sending, because whether a cancelled call had sent the
//! mail would not be known. The client that is gone gets no answer; it may send the mail again, as with any server (RFC
//! 1047).
//!
//! **Invariant:** a message that was handed over is handed over once, and its future is never dropped before it ends
//! (unless the runtime itself is). **Invariant:** a connection holds a buffer, a session and the memory that its message
//! has reserved, and all of it for a limited time. **Invariant:** no address, no header and no name of a client or user
//! is logged.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::counts::{Refused, SmtpCounts};
use super::session::{Event, Session, Submission};
use super::settings::{Front, SmtpSettings, SmtpSettingsError, Timeouts};
use crate::{Accept, Reply};

/// What a connection reads at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// The most connections above the limit that are answered at the same time. Others are closed without an answer.
const MAX_TURNED_AWAY: usize = 32;
/// How long a client may take to say QUIT after the last message of a shutdown.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the last reply may take to reach a client that still sends.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what such a client sends is read and dropped.
const LINGER_BYTES: usize = 256 * 1024;
/// Longer than any connection lasts.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long to wait when the system gives no more connections, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener with valid settings.
pub struct Server {
    listener: TcpListener,
    front: Arc<Front>,
}

/// Why a listener cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings do not fit the address or each other.
    #[error(transparent)]
    Settings(#[from] SmtpSettingsError),
    /// The listener has no address.
    #[error("the address of the SMTP listener is not known")]
    Address(#[source] io::Error),
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Messages that the relay had not answered for when the time was over. Their futures go on as long as the runtime
    /// does.
    pub unanswered: usize,
}

/// What all connections share.
struct Shared {
    front: Arc<Front>,
    accept: Arc<dyn Accept>,
    tls: Option<TlsAcceptor>,
    stop: watch::Receiver<bool>,
    unanswered: Arc<AtomicUsize>,
}

/// Held by everything that a shutdown waits for.
type Alive = mpsc::Sender<()>;

/// How a part of a connection ended.
enum Ended {
    StartTls,
    Closed,
    /// The client is gone.
    Gone,
}

/// Serves until `shutdown` is done, and then until what is under way is.
///
/// # Errors
/// [`ServeError`] for settings that do not fit the listener's address.
pub async fn serve(
    listener: TcpListener,
    settings: SmtpSettings,
    accept: Arc<dyn Accept>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Drained, ServeError> {
    Ok(Server::new(listener, settings)?.run(accept, shutdown).await)
}

impl Server {
    /// Checks the settings for the address of the listener.
    ///
    /// # Errors
    /// [`ServeError`] for settings that do not fit it.
    pub fn new(listener: TcpListener, settings: SmtpSettings) -> Result<Self, ServeError> {
        let address = listener.local_addr().map_err(ServeError::Address)?;
        Ok(Self { front: Front::new(settings, address.ip())?, listener })
    }

    /// The counters.
    pub fn counts(&self) -> Arc<SmtpCounts> {
        self.front.counts()
    }

    /// What its sessions share.
    pub fn front(&self) -> Arc<Front> {
        Arc::clone(&self.front)
    }

    /// Serves until `shutdown` is done. Then it takes no more connections, sends 421 to sessions without a message under
    /// way, and waits for the others, [`Timeouts::drain`] at the most.
    pub async fn run(self, accept: Arc<dyn Accept>, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let Self { listener, front } = self;
        let settings = &front.settings;
        let drain = settings.timeouts.drain;
        let (stop, stopped) = watch::channel(false);
        let (alive, mut all_ended): (Alive, _) = mpsc::channel(1);
        let unanswered = Arc::new(AtomicUsize::new(0));
        let shared = Arc::new(Shared {
            tls: settings.tls.clone().map(TlsAcceptor::from),
            accept,
            stop: stopped,
            unanswered: Arc::clone(&unanswered),
            front: Arc::clone(&front),
        });
        let places = Arc::new(Semaphore::new(settings.max_connections));
        let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let stream = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
                // Ended tasks are taken out, or they would pile up.
                Some(_) = connections.join_next() => continue,
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no SMTP connection can be taken");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            front.counts.connection();
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (shared, alive) = (Arc::clone(&shared), alive.clone());
                    connections.spawn(async move {
                        shared.connection(stream, alive).await;
                        drop(place);
                    });
                }
                Err(_) => {
                    front.counts.refused(Refused::Connections);
                    // A client that waits for a TLS handshake does not understand a reply.
                    if let (false, Ok(place)) = (settings.implicit_tls, Arc::clone(&turned_away).try_acquire_owned()) {
                        connections.spawn(async move {
                            turn_away(stream).await;
                            drop(place);
                        });
                    }
                }
            }
        }
        let _ = stop.send(true);
        drop(listener);
        drop(alive);
        // Ends when the last connection and the last message have.
        if timeout(drain, all_ended.recv()).await.is_err() {
            tracing::warn!("SMTP sessions were cut at the end of the time for a shutdown");
        }
        connections.shutdown().await;
        Drained { unanswered: unanswered.load(Ordering::Acquire) }
    }
}

async fn turn_away(mut stream: TcpStream) {
    let _ = timeout(LINGER, stream.write_all(b"421 4.3.2 Too many connections: try again later\r\n")).await;
    linger(stream, None).await;
}

impl Shared {
    async fn connection(&self, stream: TcpStream, alive: Alive) {
        let timeouts = self.front.settings.timeouts;
        let begun = Instant::now();
        // Replies are small and waited for.
        let _ = stream.set_nodelay(true);
        let mut greeting = Vec::new();
        let mut session = Session::begin(&self.front, &mut greeting);
        let mut stream = stream;
        if !self.front.settings.implicit_tls {
            match self.talk(&mut stream, &mut session, greeting, begun, &alive).await {
                Ended::StartTls => session.secured(),
                Ended::Closed => return linger(stream, Some(alive)).await,
                Ended::Gone => return,
            }
            greeting = Vec::new();
        }
        let Some(tls) = &self.tls else { return };
        let handshake = tokio::select! {
            () = self.stopped() => return,
            handshake = timeout(timeouts.handshake, tls.accept(stream)) => handshake,
        };
        let Ok(Ok(mut stream)) = handshake else {
            self.front.counts.refused(Refused::Handshake);
            tracing::debug!("a TLS handshake failed on the SMTP listener");
            return;
        };
        if let Ended::Closed = self.talk(&mut stream, &mut session, greeting, begun, &alive).await {
            linger(stream, Some(alive)).await;
        }
    }

    /// Talks until the session ends or TLS begins. `out` is sent first.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        session: &mut Session,
        mut out: Vec<u8>,
        begun: Instant,
        alive: &Alive,
    ) -> Ended {
        let timeouts = self.front.settings.timeouts;
        let (session_end, login_end) = (after(begun, timeouts.session), after(begun, timeouts.login));
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut message_end = None;
        let mut farewell = None;
        if send(stream, &mut out, timeouts).await.is_err() {
            return Ended::Gone;
        }
        loop {
            let now = Instant::now();
            let idle = if session.busy() {
                let end = *message_end.get_or_insert(after(now, timeouts.message));
                after(now, timeouts.data).min(end)
            } else {
                message_end = None;
                if now >= session_end {
                    session.expire(&mut out);
                    return closed(send(stream, &mut out, timeouts).await);
                }
                after(now, timeouts.command).min(session_end)
            };
            let idle = if session.anonymous() { idle.min(login_end) } else { idle };
            if now >= idle {
                session.time_out(&mut out);
                return closed(send(stream, &mut out, timeouts).await);
            }
            let read = tokio::select! {
                biased;
                () = self.stopped_since(farewell), if !session.busy() => {
                    session.shut_down(&mut out);
                    return closed(send(stream, &mut out, timeouts).await);
                }
                read = timeout_at(idle, stream.read(&mut buffer)) => read,
            };
            let mut input = match read {
                Ok(Ok(bytes)) if bytes > 0 => &buffer[..bytes],
                Ok(_) => return Ended::Gone,
                Err(_) if idle == session_end => continue,
                Err(_) => {
                    session.time_out(&mut out);
                    return closed(send(stream, &mut out, timeouts).await);
                }
            };
            if farewell.is_some() && !session.busy() && *self.stop.borrow() {
                session.leave();
            }
            while !input.is_empty() {
                let fed = session.feed(input, &mut out);
                input = &input[fed.used..];
                // Earlier replies go out before anything is waited for. A client that is known to be gone has no answer
                // to its message and sends it again, so it is not handed over.
                if send(stream, &mut out, timeouts).await.is_err() {
                    return Ended::Gone;
                }
                match fed.event {
                    None => {}
                    // What is left of the input came before the handshake, and is dropped.
                    Some(Event::StartTls) => return Ended::StartTls,
                    Some(Event::Close) => return Ended::Closed,
                    Some(Event::Message(submission)) => {
                        message_end = None;
                        let reply = self.hand_over(submission, alive.clone()).await;
                        let close = session.answer(&reply, &mut out).is_some();
                        // A client that reads 421 after its QUIT may take the message that was sent for one that was not.
                        farewell = Some(after(Instant::now(), FAREWELL));
                        if !close && *self.stop.borrow() {
                            session.leave();
                            continue;
                        } else if !close && Instant::now() >= session_end {
                            session.expire(&mut out);
                        } else if !close {
                            continue;
                        }
                        return closed(send(stream, &mut out, timeouts).await);
                    }
                }
            }
            if send(stream, &mut out, timeouts).await.is_err() {
                return Ended::Gone;
            }
        }
    }

    /// Hands a message over in a task of its own, which nothing cancels, and waits for the answer.
    async fn hand_over(&self, submission: Submission, alive: Alive) -> Reply {
        let accept = Arc::clone(&self.accept);
        let unanswered = Unanswered::new(&self.unanswered);
        let task = tokio::spawn(async move {
            let Submission { message, held } = submission;
            let reply = accept.accept(message).await;
            drop((held, unanswered, alive));
            reply
        });
        task.await.unwrap_or_else(|_| {
            tracing::error!("the relay failed on a message from SMTP");
            Reply { code: 451, status: "4.3.0", text: "The relay failed: try again later".to_owned() }
        })
    }

    /// Stopped, and not before this moment.
    async fn stopped_since(&self, moment: Option<Instant>) {
        self.stopped().await;
        if let Some(moment) = moment {
            sleep_until(moment).await;
        }
    }

    async fn stopped(&self) {
        // An error means that the server is gone, which is a stop too.
        let _ = self.stop.clone().wait_for(|stopped| *stopped).await;
    }
}

/// Counts a message that is not answered yet.
struct Unanswered(Arc<AtomicUsize>);

impl Unanswered {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A moment that can be reckoned with, also where a setting means for ever.
fn after(start: Instant, time: Duration) -> Instant {
    start + time.min(LONGEST)
}

fn closed(sent: io::Result<()>) -> Ended {
    if sent.is_ok() { Ended::Closed } else { Ended::Gone }
}

/// Sends the replies. A client that does not take them is not waited for.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, out: &mut Vec<u8>, timeouts: Timeouts) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let sent = timeout(timeouts.command, async {
        stream.write_all(out).await?;
        stream.flush().await
    })
    .await;
    out.clear();
    sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Closes, and reads what the client still sends: otherwise the system resets the connection, and the last reply may be
/// lost. A shutdown does not wait for the reading.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, alive: Option<Alive>) {
    let _ = timeout(LINGER, async {
        stream.shutdown().await?;
        drop(alive);
        let mut buffer = [0; 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        io::Result::Ok(())
    })
    .await;
}
