//! The server over TCP and TLS. Tests wait for what happens, never for time to pass.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use relay::smtp::{Drained, Front, Refused, ServeError, Server, SmtpCounts, SmtpSettings, Timeouts, tls_from_pem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::kit::{PLAIN, Recorder, ann, log};

/// A certificate for `localhost`, made once.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

pub(crate) fn certificate() -> Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let server = tls_from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Certificate { server, client: Arc::new(client) }
    })
    .clone()
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) port: u16,
    pub(crate) counts: Arc<SmtpCounts>,
    front: Arc<Front>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Drained>,
}

impl Running {
    pub(crate) async fn start(recorder: &Arc<Recorder>, change: impl FnOnce(&mut SmtpSettings)) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, recorder, change).await
    }

    pub(crate) async fn start_on(
        address: Ipv4Addr,
        recorder: &Arc<Recorder>,
        change: impl FnOnce(&mut SmtpSettings),
    ) -> Self {
        log();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut settings = SmtpSettings::new("relay.example");
        change(&mut settings);
        let server = Server::new(listener, settings).unwrap();
        let (counts, front) = (server.counts(), server.front());
        let (stop, stopped) = oneshot::channel();
        let accept = Arc::clone(recorder);
        let ended = tokio::spawn(async move {
            server
                .run(accept, async {
                    let _ = stopped.await;
                })
                .await
        });
        Self { port, counts, front, stop, ended }
    }

    pub(crate) async fn stop(self) -> Drained {
        let _ = self.stop.send(());
        self.ended.await.unwrap()
    }

    async fn connect(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await.unwrap();
        Client { stream }
    }
}

/// A client that reads lines.
struct Client<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next line, without its CRLF; empty at the end.
    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => line.push(byte),
                Err(_) => return String::new(),
            }
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// The last line of the next reply.
    async fn reply(&mut self) -> String {
        loop {
            let line = self.line().await;
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    async fn expect(&mut self, start: &str) {
        let reply = self.reply().await;
        assert!(reply.starts_with(start), "{reply:?} where {start} was expected");
    }

    async fn ask(&mut self, command: &str, start: &str) {
        self.send(format!("{command}\r\n")).await;
        self.expect(start).await;
    }

    /// A message up to the end of its data.
    async fn submit(&mut self, content: &str) {
        self.ask("MAIL FROM:<ann@example.com>", "250 ").await;
        self.ask("RCPT TO:<bob@example.org>", "250 ").await;
        self.ask("DATA", "354 ").await;
        self.send(format!("{content}\r\n.\r\n")).await;
    }
}

impl Client<TcpStream> {
    async fn secure(self) -> Client<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(certificate().client).connect(name, self.stream).await.unwrap();
        Client { stream }
    }
}

#[tokio::test]
async fn a_client_submits_mail() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| {
        let ever = Duration::MAX;
        let drain = settings.timeouts.drain;
        settings.timeouts =
            Timeouts { command: ever, data: ever, message: ever, handshake: ever, login: ever, session: ever, drain };
    })
    .await;
    let mut client = server.connect().await;
    client.expect("220 relay.example ESMTP").await;
    client.ask("EHLO client.example", "250 SIZE 40000000").await;
    for number in 0..3 {
        client.submit(&format!("Subject: {number}\r\n\r\nHello")).await;
        client.expect("250 2.0.0 Sent").await;
    }
    client.ask("QUIT", "221 ").await;
    assert_eq!(client.line().await, "");
    assert_eq!(recorder.contents()[2], "Subject: 2\r\n\r\nHello\r\n");
    let counts = server.counts.snapshot();
    assert_eq!((counts.connections, counts.messages, counts.bytes), (1, 3, 3 * 21));
    assert_eq!(server.stop().await, Drained { unanswered: 0 });
}

#[tokio::test]
async fn a_listener_that_other_machines_reach_needs_tls_and_users() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let Err(ServeError::Settings(error)) = Server::new(listener, SmtpSettings::new("relay.example")) else {
        panic!("it was taken")
    };
    assert_eq!(
        error.to_string(),
        "SMTP on 0.0.0.0 needs TLS, because other machines reach this address: set a certificate, or listen on 127.0.0.1"
    );
}

#[tokio::test]
async fn mail_is_submitted_after_starttls_and_authentication() {
    let recorder = Recorder::new();
    let server = Running::start_on(Ipv4Addr::UNSPECIFIED, &recorder, |settings| {
        settings.tls = Some(certificate().server);
        settings.users = vec![ann()];
    })
    .await;
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.ask("EHLO x", "250 SIZE").await;
    client.ask("MAIL FROM:<ann@example.com>", "530 5.7.0").await;
    client.ask(&format!("AUTH PLAIN {PLAIN}"), "538 ").await;
    client.ask("STARTTLS", "220 2.0.0").await;
    let mut client = client.secure().await;
    client.ask("EHLO x", "250 SIZE").await;
    client.ask("MAIL FROM:<ann@example.com>", "530 5.7.0").await;
    client.ask(&format!("AUTH PLAIN {PLAIN}"), "235 2.7.0").await;
    client.submit("Subject: x\r\n\r\nHello").await;
    client.expect("250 2.0.0 Sent").await;
    client.ask("QUIT", "221 ").await;
    assert_eq!(recorder.contents(), ["Subject: x\r\n\r\nHello\r\n"]);
    server.stop().await;
}

#[tokio::test]
async fn commands_that_are_injected_before_the_handshake_are_never_answered() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| settings.tls = Some(certificate().server)).await;
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.ask("EHLO x", "250 SIZE").await;
    // In one packet, as a man in the middle would send it.
    client
        .send("STARTTLS\r\nEHLO eve\r\nMAIL FROM:<eve@example.com>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nx\r\n.\r\n")
        .await;
    client.expect("220 2.0.0 Begin TLS").await;
    let mut client = client.secure().await;
    client.ask("NOOP", "250 2.0.0 Ok").await;
    client.ask("MAIL FROM:<ann@example.com>", "503 5.5.1 Send EHLO first").await;
    client.ask("QUIT", "221 ").await;
    assert!(recorder.contents().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn tls_begins_with_the_connection_where_it_is_implicit() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| {
        settings.tls = Some(certificate().server);
        settings.implicit_tls = true;
        settings.users = vec![ann()];
    })
    .await;
    let mut client = server.connect().await.secure().await;
    client.expect("220 relay.example").await;
    client.ask("EHLO x", "250 SIZE").await;
    client.ask("STARTTLS", "503 5.5.1").await;
    client.ask(&format!("AUTH PLAIN {PLAIN}"), "235 ").await;
    client.submit("Subject: x").await;
    client.expect("250 ").await;
    // Who does not speak TLS is not answered in the clear.
    let mut other = server.connect().await;
    other.send("EHLO x\r\n").await;
    let mut answer = Vec::new();
    let _ = other.stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"2"), "{answer:?}");
    assert_eq!(server.counts.snapshot().refused(Refused::Handshake), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_above_the_limit_has_to_come_again_and_a_free_place_is_taken() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| settings.max_connections = 1).await;
    let mut first = server.connect().await;
    first.expect("220 ").await;
    let mut second = server.connect().await;
    second.expect("421 4.3.2 Too many connections").await;
    assert_eq!(second.line().await, "");
    first.ask("QUIT", "221 ").await;
    drop(first);
    // The place is free as soon as the connection's task has ended.
    loop {
        let mut third = server.connect().await;
        if third.line().await.starts_with("220 ") {
            break;
        }
    }
    assert!(server.counts.snapshot().refused(Refused::Connections) >= 1);
    server.stop().await;
}

#[tokio::test]
async fn a_message_whose_client_is_gone_is_still_sent_once() {
    let recorder = Recorder::waiting();
    let server = Running::start(&recorder, |_| {}).await;
    let free = server.front.free_memory();
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.ask("EHLO x", "250 SIZE").await;
    client.submit("Subject: x").await;
    recorder.arrived.acquire().await.unwrap().forget();
    assert!(server.front.free_memory() < free, "the message holds its memory as long as it is under way");
    // With a reset, so that the server cannot take it for half a close.
    client.stream.set_zero_linger().unwrap();
    drop(client);
    recorder.may_answer.add_permits(1);
    let (front, recorder) = (Arc::clone(&server.front), Arc::clone(&recorder));
    assert_eq!(server.stop().await, Drained { unanswered: 0 });
    assert_eq!(recorder.contents(), ["Subject: x\r\n"]);
    assert_eq!(front.free_memory(), free);
}

#[tokio::test]
async fn a_shutdown_ends_idle_sessions_and_finishes_messages() {
    let recorder = Recorder::waiting();
    let server = Running::start(&recorder, |_| {}).await;
    let (mut idle, mut half, mut busy) = (server.connect().await, server.connect().await, server.connect().await);
    for client in [&mut idle, &mut half, &mut busy] {
        client.expect("220 ").await;
        client.ask("EHLO x", "250 SIZE").await;
    }
    // One has begun its message, and one waits for the answer.
    half.ask("MAIL FROM:<ann@example.com>", "250 ").await;
    half.ask("RCPT TO:<bob@example.org>", "250 ").await;
    half.ask("DATA", "354 ").await;
    half.send("Subject: half\r\n").await;
    busy.submit("Subject: busy").await;
    recorder.arrived.acquire().await.unwrap().forget();
    let port = server.port;
    let stop = tokio::spawn(server.stop());
    idle.expect("421 4.3.2 Shutting down").await;
    assert_eq!(idle.line().await, "");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err(), "the listener is closed");
    recorder.may_answer.add_permits(2);
    busy.expect("250 2.0.0 Sent").await;
    busy.expect("421 4.3.2").await;
    half.send("\r\nwhole\r\n.\r\n").await;
    half.expect("250 2.0.0 Sent").await;
    // One says goodbye in time.
    half.ask("QUIT", "221 ").await;
    drop((idle, half, busy));
    assert_eq!(stop.await.unwrap(), Drained { unanswered: 0 });
    assert_eq!(recorder.contents(), ["Subject: busy\r\n", "Subject: half\r\n\r\nwhole\r\n"]);
}

#[tokio::test]
async fn a_shutdown_takes_no_message_that_was_pipelined_behind_the_one_under_way() {
    let recorder = Recorder::waiting();
    let server = Running::start(&recorder, |_| {}).await;
    let mut client = server.connect().await;
    let mail = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nSubject: x\r\n.\r\n";
    client.send(format!("EHLO x\r\n{mail}{mail}")).await;
    recorder.arrived.acquire().await.unwrap().forget();
    let port = server.port;
    let stop = tokio::spawn(server.stop());
    // The listener is closed first.
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {}
    tokio::task::yield_now().await;
    recorder.may_answer.add_permits(2);
    let mut answers = String::new();
    client.stream.read_to_string(&mut answers).await.unwrap();
    assert!(answers.ends_with("250 2.0.0 Sent\r\n421 4.3.2 Shutting down: try again later\r\n"), "{answers}");
    assert_eq!(recorder.contents().len(), 1);
    drop(client);
    assert_eq!(stop.await.unwrap(), Drained { unanswered: 0 });
}

#[tokio::test]
async fn a_shutdown_waits_no_longer_than_its_time_and_says_what_is_left() {
    let recorder = Recorder::waiting();
    let server = Running::start(&recorder, |settings| settings.timeouts.drain = Duration::from_millis(50)).await;
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.ask("EHLO x", "250 SIZE").await;
    client.submit("Subject: x").await;
    recorder.arrived.acquire().await.unwrap().forget();
    assert_eq!(server.stop().await, Drained { unanswered: 1 });
    assert_eq!(client.line().await, "", "the connection is closed");
    // The message goes on all the same.
    assert_eq!(recorder.contents().len(), 0);
    recorder.may_answer.add_permits(1);
    while recorder.contents().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_silent_client_is_sent_away() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| settings.timeouts.command = Duration::from_millis(50)).await;
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.expect("421 4.4.2 Too slow").await;
    assert_eq!(client.line().await, "");
    assert_eq!(server.counts.snapshot().refused(Refused::Timeout), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_stranger_has_a_place_for_a_short_time_only() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| {
        settings.users = vec![ann()];
        settings.timeouts.login = Duration::from_millis(100);
        settings.max_commands = u32::MAX;
    })
    .await;
    // It is never silent.
    let mut client = server.connect().await;
    client.expect("220 ").await;
    let (mut read, mut write) = tokio::io::split(client.stream);
    let writer = tokio::spawn(async move { while write.write_all(b"NOOP\r\n").await.is_ok() {} });
    let mut answers = String::new();
    let _ = read.read_to_string(&mut answers).await;
    assert!(answers.ends_with("421 4.4.2 Too slow: closing the connection\r\n"), "{answers}");
    drop(read);
    writer.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_lasts_too_long_ends_between_two_messages() {
    let recorder = Recorder::waiting();
    let server = Running::start(&recorder, |settings| settings.timeouts.session = Duration::from_millis(50)).await;
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.send("EHLO x\r\nMAIL FROM:<>\r\n").await;
    let mut answers = String::new();
    client.stream.read_to_string(&mut answers).await.unwrap();
    assert!(answers.ends_with("421 4.3.2 The session is too long: connect again\r\n"), "{answers}");
    // A client that never pauses ends so, too, and no answer is left out.
    let mut busy = server.connect().await;
    busy.expect("220 ").await;
    let (mut read, mut write) = tokio::io::split(busy.stream);
    let writer = tokio::spawn(async move {
        let mail = "EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nSubject: x\r\n.\r\n";
        while write.write_all(mail.as_bytes()).await.is_ok() {}
    });
    recorder.may_answer.add_permits(Semaphore::MAX_PERMITS / 2);
    let mut answers = String::new();
    let _ = read.read_to_string(&mut answers).await;
    drop(read);
    writer.await.unwrap();
    assert!(answers.ends_with("421 4.3.2 The session is too long: connect again\r\n"), "{answers}");
    let sent = answers.lines().filter(|line| line.starts_with("250 2.0.0 Sent")).count();
    assert_eq!(sent, recorder.contents().len());
    server.stop().await;
}

#[tokio::test]
async fn a_slow_message_gives_its_memory_back() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| settings.timeouts.message = Duration::from_millis(200)).await;
    let free = server.front.free_memory();
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.ask("EHLO x", "250 SIZE").await;
    client.ask("MAIL FROM:<>", "250 ").await;
    client.ask("RCPT TO:<bob@example.org>", "250 ").await;
    client.ask("DATA", "354 ").await;
    // It always sends, so it is never silent; its writes fail when the server has closed.
    let (mut read, mut write) = tokio::io::split(client.stream);
    let writer = tokio::spawn(async move { while write.write_all(b"slow\r\n").await.is_ok() {} });
    let mut answer = String::new();
    let _ = read.read_to_string(&mut answer).await;
    assert!(answer.starts_with("421 4.4.2 "), "{answer}");
    drop(read);
    writer.await.unwrap();
    let front = Arc::clone(&server.front);
    server.stop().await;
    assert_eq!(front.free_memory(), free);
    assert!(recorder.contents().is_empty());
}

#[tokio::test]
async fn a_handshake_that_never_comes_ends() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| {
        settings.tls = Some(certificate().server);
        settings.implicit_tls = true;
        settings.timeouts.handshake = Duration::from_millis(50);
    })
    .await;
    let mut client = server.connect().await;
    assert_eq!(client.line().await, "");
    assert_eq!(server.counts.snapshot().refused(Refused::Handshake), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_relay_that_fails_defers_the_message_and_the_session_goes_on() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |_| {}).await;
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.ask("EHLO x", "250 SIZE").await;
    client.submit("Panic: yes").await;
    client.expect("451 4.3.0 ").await;
    client.submit("Subject: x").await;
    client.expect("250 ").await;
    server.stop().await;
}

#[tokio::test]
async fn a_pipelined_session_in_one_packet_is_answered_in_order() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |_| {}).await;
    let mut client = server.connect().await;
    let mail = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nRCPT TO:<d>\r\nDATA\r\nSubject: x\r\n..\r\n.\r\n";
    client.send(format!("EHLO x\r\n{}QUIT\r\n", mail.repeat(50))).await;
    client.expect("220 ").await;
    client.expect("250 SIZE").await;
    for _ in 0..50 {
        for start in ["250 2.1.0", "250 2.1.5", "501 5.1.3", "354 ", "250 2.0.0"] {
            client.expect(start).await;
        }
    }
    client.expect("221 ").await;
    assert_eq!(recorder.contents().len(), 50);
    server.stop().await;
}

#[tokio::test]
async fn memory_is_shared_by_all_sessions() {
    let recorder = Recorder::waiting();
    let server = Running::start(&recorder, |settings| {
        settings.max_message_bytes = 1024 * 1024;
        settings.max_memory_bytes = 2 * 1024 * 1024;
    })
    .await;
    let body = "0123456789012345678901234567890123456789012345678901234567890123\r\n".repeat(15_000);
    let (mut first, mut second, mut third) = (server.connect().await, server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        client.expect("220 ").await;
        client.ask("EHLO x", "250 SIZE").await;
        client.submit(&body).await;
        recorder.arrived.acquire().await.unwrap().forget();
    }
    third.expect("220 ").await;
    third.ask("EHLO x", "250 SIZE").await;
    third.submit(&body).await;
    third.expect("452 4.3.1 ").await;
    recorder.may_answer.add_permits(3);
    first.expect("250 ").await;
    second.expect("250 ").await;
    third.submit(&body).await;
    third.expect("250 ").await;
    server.stop().await;
}

#[test]
fn an_address_is_a_loopback_address_in_each_form() {
    for (address, open) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("::", false)] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(Front::new(SmtpSettings::new("relay.example"), address).is_ok(), open, "{address}");
    }
}

#[tokio::test]
async fn no_address_no_header_and_no_user_is_logged() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| {
        settings.tls = Some(certificate().server);
        settings.users = vec![ann()];
    })
    .await;
    let mut client = server.connect().await;
    client.expect("220 ").await;
    client.ask("EHLO client.example", "250 SIZE").await;
    client.ask("AUTH PLAIN AGFubgBmZWRjYmE5ODc2NTQzMjEw", "535 ").await;
    client.ask("RCPT TO:<bob>", "503 ").await;
    client.ask(&format!("AUTH PLAIN {PLAIN}"), "235 ").await;
    client.submit("Panic: yes").await;
    client.expect("451 4.3.0 ").await;
    client.submit("Subject: secret").await;
    client.expect("250 ").await;
    client.ask("STARTTLS", "220 ").await;
    client.send("this is not TLS").await;
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest).await;
    server.stop().await;
    // Of all tests up to here.
    let text = log().text();
    for logged in ["the relay failed on a message", "a TLS handshake failed"] {
        assert!(text.contains(logged), "{logged} is not in {text}");
    }
    for private in ["example", "bob", "ann", "Subject", "secret", "Panic", "127.0.0.1", PLAIN] {
        assert!(!text.contains(private), "{private} is in {text}");
    }
}
