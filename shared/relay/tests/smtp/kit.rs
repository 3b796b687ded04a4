//! A session whose messages are sent at once, and a server whose messages are recorded.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};

use relay::smtp::{Event, Front, Session, SmtpSettings, User};
use relay::{Accept, Message, Reply};
use tokio::sync::Semaphore;

pub(crate) const SECRET: &str = "0123456789abcdef";
/// `\0ann\0` and the secret, as AUTH PLAIN sends it.
pub(crate) const PLAIN: &str = "AGFubgAwMTIzNDU2Nzg5YWJjZGVm";

pub(crate) fn ann() -> User {
    User::with_secret("ann", SECRET).unwrap()
}

pub(crate) fn front(change: impl FnOnce(&mut SmtpSettings)) -> Arc<Front> {
    front_on(IpAddr::V4(Ipv4Addr::LOCALHOST), change)
}

pub(crate) fn front_on(address: IpAddr, change: impl FnOnce(&mut SmtpSettings)) -> Arc<Front> {
    let mut settings = SmtpSettings::new("relay.example");
    change(&mut settings);
    Front::new(settings, address).unwrap()
}

/// A session, and all that it said, asked for and handed over.
pub(crate) struct Talk {
    pub(crate) session: Session,
    /// Replies, with events in square brackets.
    pub(crate) said: String,
    pub(crate) messages: Vec<Message>,
    out: Vec<u8>,
}

impl Talk {
    pub(crate) fn new(front: &Arc<Front>) -> Self {
        let mut out = Vec::new();
        let mut talk = Self { session: Session::begin(front, &mut out), said: String::new(), messages: vec![], out };
        talk.collect();
        talk
    }

    fn collect(&mut self) {
        self.said.push_str(std::str::from_utf8(&self.out).unwrap());
        self.out.clear();
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let fed = self.session.feed(bytes, &mut self.out);
            self.collect();
            bytes = &bytes[fed.used..];
            match fed.event {
                None => assert_eq!(bytes, b"", "all is taken if there is no event"),
                Some(Event::StartTls) => self.said.push_str("[tls]\r\n"),
                Some(Event::Close) => self.said.push_str("[close]\r\n"),
                Some(Event::Message(submission)) => {
                    let message = submission.message;
                    let content = String::from_utf8_lossy(&message.content).into_owned();
                    let recipients = message.recipients.join(" ");
                    self.said.push_str(&format!("[{} > {recipients}: {content:?}]\r\n", message.from));
                    self.messages.push(message);
                    let sent = Reply { code: 250, status: "2.0.0", text: "Sent".to_owned() };
                    let event = self.session.answer(&sent, &mut self.out);
                    assert!(event.is_none());
                    self.collect();
                }
            }
        }
    }

    /// Feeds pieces of one length.
    pub(crate) fn feed_pieces(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            self.feed(piece);
        }
    }
}

/// Records messages, and answers when it may.
pub(crate) struct Recorder {
    pub(crate) messages: Mutex<Vec<Message>>,
    pub(crate) reply: Reply,
    /// Messages that have arrived.
    pub(crate) arrived: Semaphore,
    /// Messages that may be answered.
    pub(crate) may_answer: Semaphore,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        let recorder = Self::waiting();
        recorder.may_answer.add_permits(1_000);
        recorder
    }

    /// Answers nothing before `may_answer` has permits.
    pub(crate) fn waiting() -> Arc<Self> {
        Arc::new(Self {
            messages: Mutex::default(),
            reply: Reply { code: 250, status: "2.0.0", text: "Sent".to_owned() },
            arrived: Semaphore::new(0),
            may_answer: Semaphore::new(0),
        })
    }

    pub(crate) fn contents(&self) -> Vec<String> {
        let messages = self.messages.lock().unwrap();
        messages.iter().map(|message| String::from_utf8_lossy(&message.content).into_owned()).collect()
    }
}

impl Accept for Recorder {
    fn accept(&self, message: Message) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(async move {
            self.arrived.add_permits(1);
            self.may_answer.acquire().await.unwrap().forget();
            let panics = message.content.starts_with(b"Panic:");
            self.messages.lock().unwrap().push(message);
            assert!(!panics, "the test asked for it");
            self.reply.clone()
        })
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of the whole program, from the first call on. Each server calls it first: a line of the program that has been
/// passed without a subscriber may stay silent.
pub(crate) fn log() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
    .clone()
}
