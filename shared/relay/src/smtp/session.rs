//! One session: bytes of a client in, replies and events out. No I/O, no clock, no task.
//!
//! | step | reply | next |
//! |---|---|---|
//! | connected | 220 | commands |
//! | EHLO | 250, what is offered | commands |
//! | STARTTLS | 220 | [`Event::StartTls`]; everything up to [`Session::secured`] is dropped, and what was known is forgotten |
//! | AUTH | 334 …, 235 | commands, MAIL included |
//! | MAIL, RCPT | 250 | commands |
//! | DATA, BDAT | 354, 250 | the message |
//! | its end | none yet | [`Event::Message`]; nothing is taken up to [`Session::answer`] |
//! | QUIT, a bare CR or LF, too much of anything | 221, 500, 421 | [`Event::Close`]; everything after it is dropped |
//!
//! A bare CR or LF in a command ends the session, because where the next command begins would be a guess, and a client
//! that waits for an answer to LF would wait for ever. In a message it is refused at the end of the message. BDAT
//! without a length ends the session too: its data would be read as commands. So does a verb of HTTP: a web page, or a
//! service that fetches addresses for others, could otherwise have commands in the body of a request carried out by a
//! listener on this machine, which trusts who reaches it.
//!
//! BINARYMIME is not offered: its messages may have bare CR and LF, which no server behind SES takes unchanged.
//!
//! **Invariant:** the replies and events depend on the bytes alone, not on how the network cut them. **Invariant:**
//! replies are in the order of the commands. **Invariant:** a client that pipelines sees what one sees that does not.
//! **Invariant:** nothing that came before the TLS handshake is acted on after it. **Invariant:** a session keeps at
//! most one command line, one envelope, and the memory that its message has reserved.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr2;

use super::address::{self, BadPath};
use super::command::{BadCommand, Command, Mail};
use super::content::{Content, Data};
use super::counts::Refused;
use super::credentials;
use super::memory::Reservation;
use super::settings::Front;
use crate::{Message, Reply};

/// The longest command line without its CRLF. RFC 5321 has 512 bytes, and its extensions add some hundreds; RFC 4954
/// has 12,288 for a response of AUTH, which no name and secret that this front takes comes near.
pub const MAX_COMMAND_BYTES: usize = 2_046;
/// A line above the limit is read to its end, unless it is longer than this.
const MAX_SKIPPED_BYTES: usize = 64 * 1024;
/// Recipients above the limit are refused one by one, up to this many in a transaction.
const MAX_RCPT_COMMANDS: usize = 1_000;
/// The longest text of a relay's reply.
const MAX_REPLY_TEXT: usize = 400;

/// What a session asks of its caller.
#[derive(Debug)]
pub enum Event {
    /// Hand the message over, and call [`Session::answer`].
    Message(Submission),
    /// Send the replies, drop what was received, do the TLS handshake, and call [`Session::secured`].
    StartTls,
    /// Send the replies, and close the connection.
    Close,
}

/// A whole message, with the memory that it holds until this is dropped.
#[derive(Debug)]
pub struct Submission {
    /// The message.
    pub message: Message,
    /// Gives its bytes back when it is dropped.
    pub held: Held,
}

/// The memory of a message that was handed over.
#[derive(Debug)]
pub struct Held {
    _reservation: Reservation,
}

/// How many bytes a session took, and what it asks for. Without an event it took all.
#[derive(Debug)]
pub struct Fed {
    /// Bytes that were taken.
    pub used: usize,
    /// What to do before the next bytes.
    pub event: Option<Event>,
}

/// A session of SMTP submission.
pub struct Session {
    front: Arc<Front>,
    secure: bool,
    greeted: Greeted,
    authenticated: bool,
    transaction: Option<Transaction>,
    mode: Mode,
    line: Line,
    /// Commands since the last message.
    commands: u32,
    bad_commands: u32,
    failed_authentications: u32,
    /// Bytes of BDAT since the last message that belong to none.
    dropped: u64,
    /// Nothing but QUIT is taken any more.
    leaving: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeted {
    No,
    Helo,
    Ehlo,
}

enum Mode {
    Command,
    Authenticate(Challenge),
    Data(Data),
    Chunk(Chunk),
    /// The message is handed over.
    Waiting,
    /// STARTTLS was answered.
    Handshake,
    Closed,
}

/// What was asked of the client in AUTH.
enum Challenge {
    Plain,
    LoginName,
    LoginSecret { name: Vec<u8> },
}

/// The data of a BDAT.
struct Chunk {
    left: u64,
    empty: bool,
    last: bool,
    /// Where it goes, or why it goes nowhere.
    into: Result<Content, Refusal>,
}

/// An envelope.
struct Transaction {
    from: String,
    recipients: Vec<String>,
    rcpt_commands: usize,
    utf8: bool,
    /// What earlier BDATs brought.
    content: Option<Content>,
    /// A BDAT was refused: the others are, too.
    failed: bool,
}

/// The command line under way.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// Its whole length, kept or not.
    length: usize,
    after_cr: bool,
}

/// A reply that refuses something.
#[derive(Clone, Copy)]
struct Refusal {
    code: u16,
    status: &'static str,
    text: &'static str,
    reason: Refused,
    /// Whether it counts towards the most bad commands. Errors in lists of recipients do not.
    bad: bool,
}

const fn refusal(code: u16, status: &'static str, text: &'static str, reason: Refused) -> Refusal {
    Refusal { code, status, text, reason, bad: matches!(reason, Refused::Syntax) }
}

const GREET_FIRST: Refusal = refusal(503, "5.5.1", "Send EHLO first", Refused::Sequence);
const MAIL_FIRST: Refusal = refusal(503, "5.5.1", "Send MAIL first", Refused::Sequence);
const NO_RECIPIENTS: Refusal = refusal(554, "5.5.1", "No valid recipients", Refused::Sequence);
const FAILED_BEFORE: Refusal = refusal(503, "5.5.1", "An earlier BDAT was refused: send RSET", Refused::Sequence);

impl Session {
    /// Begins a session, and writes its greeting. It is secure from the start where TLS is implicit.
    pub fn begin(front: &Arc<Front>, out: &mut Vec<u8>) -> Self {
        out.extend(format!("220 {} ESMTP ready\r\n", front.settings.hostname).into_bytes());
        Self {
            secure: front.settings.implicit_tls,
            front: Arc::clone(front),
            greeted: Greeted::No,
            authenticated: false,
            transaction: None,
            mode: Mode::Command,
            line: Line::default(),
            commands: 0,
            bad_commands: 0,
            failed_authentications: 0,
            dropped: 0,
            leaving: false,
        }
    }

    /// Whether a message is under way: bytes of it have come or are due, or it waits for its answer.
    pub fn busy(&self) -> bool {
        match self.mode {
            Mode::Data(_) | Mode::Chunk(_) | Mode::Waiting => true,
            Mode::Command => self.transaction.as_ref().is_some_and(|transaction| transaction.content.is_some()),
            Mode::Authenticate(_) | Mode::Handshake | Mode::Closed => false,
        }
    }

    /// Whether the client has yet to authenticate.
    pub fn anonymous(&self) -> bool {
        !self.front.settings.users.is_empty() && !self.authenticated
    }

    /// The bytes that the session keeps, without the envelope.
    pub fn buffered(&self) -> usize {
        let content = match &self.mode {
            Mode::Data(data) => Some(data.content()),
            Mode::Chunk(chunk) => chunk.into.as_ref().ok(),
            Mode::Command | Mode::Authenticate(_) | Mode::Waiting | Mode::Handshake | Mode::Closed => {
                self.transaction.as_ref().and_then(|transaction| transaction.content.as_ref())
            }
        };
        self.line.bytes.len() + content.map_or(0, Content::held)
    }

    /// Takes bytes of the client up to the next event, and writes replies. A session that waits for an answer takes
    /// nothing; one that waits for the TLS handshake, or is closed, takes everything and does nothing.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Fed {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let (taken, event) = match &mut self.mode {
                Mode::Command | Mode::Authenticate(_) => self.feed_line(rest, out),
                Mode::Data(data) => {
                    let (taken, ended) = data.take(rest);
                    (taken, self.data_taken(ended, out))
                }
                Mode::Chunk(chunk) => {
                    let taken = usize::try_from(chunk.left).map_or(rest.len(), |left| left.min(rest.len()));
                    chunk.left -= taken as u64;
                    match &mut chunk.into {
                        Ok(content) => content.take(&rest[..taken]),
                        Err(_) => self.dropped = self.dropped.saturating_add(taken as u64),
                    }
                    (taken, self.chunk_taken(out))
                }
                Mode::Waiting => break,
                Mode::Handshake | Mode::Closed => (rest.len(), None),
            };
            used += taken;
            if event.is_some() {
                return Fed { used, event };
            }
        }
        Fed { used, event: None }
    }

    /// Writes the relay's answer to the message that was handed over.
    pub fn answer(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Option<Event> {
        self.mode = Mode::Command;
        let code = if matches!(reply.code, 200..=299 | 400..=599) { reply.code } else { 451 };
        match code / 100 {
            4 => self.front.counts.refused(Refused::Deferred),
            5 => self.front.counts.refused(Refused::Rejected),
            _ => {}
        }
        let class = [b'0' + u8::try_from(code / 100).unwrap_or(4), b'.'];
        let fits = reply.status.as_bytes().starts_with(&class)
            && reply.status.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let status = match code / 100 {
            _ if fits => reply.status,
            2 => "2.0.0",
            5 => "5.0.0",
            _ => "4.0.0",
        };
        let text: String =
            reply.text.chars().take(MAX_REPLY_TEXT).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        say(out, code, status, &text);
        // RFC 5321, section 3.8: a server that answers 421 closes.
        (code == 421).then(|| self.close())
    }

    /// Goes on after the TLS handshake: as new, but for what limits the session.
    pub fn secured(&mut self) {
        self.secure = true;
        self.greeted = Greeted::No;
        self.authenticated = false;
        self.transaction = None;
        self.line = Line::default();
        self.mode = Mode::Command;
    }

    /// Ends the session because its client is silent or too slow.
    pub fn time_out(&mut self, out: &mut Vec<u8>) {
        self.front.counts.refused(Refused::Timeout);
        say(out, 421, "4.4.2", "Too slow: closing the connection");
        self.close();
    }

    /// Ends the session because it has lasted too long.
    pub fn expire(&mut self, out: &mut Vec<u8>) {
        self.front.counts.refused(Refused::Timeout);
        say(out, 421, "4.3.2", "The session is too long: connect again");
        self.close();
    }

    /// The relay shuts down, and the client has just been answered: it may say QUIT. Any other command ends the session.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Ends the session because the relay shuts down.
    pub fn shut_down(&mut self, out: &mut Vec<u8>) {
        self.front.counts.refused(Refused::Shutdown);
        say(out, 421, "4.3.2", "Shutting down: try again later");
        self.close();
    }

    fn close(&mut self) -> Event {
        self.mode = Mode::Closed;
        self.transaction = None;
        self.line = Line::default();
        Event::Close
    }

    fn refuse(&mut self, refusal: Refusal, out: &mut Vec<u8>) -> Option<Event> {
        self.front.counts.refused(refusal.reason);
        if refusal.bad {
            self.bad_commands += 1;
            if self.bad_commands >= self.front.settings.max_bad_commands {
                return self.stop_abuse("Too many bad commands", out);
            }
        }
        say(out, refusal.code, refusal.status, refusal.text);
        None
    }

    fn refuse_and_close(&mut self, refusal: Refusal, out: &mut Vec<u8>) -> Option<Event> {
        self.front.counts.refused(refusal.reason);
        say(out, refusal.code, refusal.status, refusal.text);
        Some(self.close())
    }

    fn stop_abuse(&mut self, text: &str, out: &mut Vec<u8>) -> Option<Event> {
        self.front.counts.refused(Refused::Limits);
        say(out, 421, "4.7.0", text);
        Some(self.close())
    }

    fn feed_line(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, Option<Event>) {
        const BARE: Refusal =
            refusal(500, "5.5.2", "Bare CR or LF: a command ends in CRLF. Closing the connection", Refused::LineEnds);
        if self.line.after_cr {
            if bytes[0] != b'\n' {
                return (1, self.refuse_and_close(BARE, out));
            }
            let line = std::mem::take(&mut self.line);
            return (1, self.take_line(&line, out));
        }
        let end = memchr2(b'\r', b'\n', bytes);
        let text = &bytes[..end.unwrap_or(bytes.len())];
        self.line.length += text.len();
        if self.line.length <= MAX_COMMAND_BYTES {
            self.line.bytes.extend_from_slice(text);
        } else {
            self.line.bytes = Vec::new();
            if self.line.length > MAX_SKIPPED_BYTES {
                return (text.len(), self.stop_abuse("The line is far too long", out));
            }
        }
        match end {
            None => (text.len(), None),
            Some(end) if bytes[end] == b'\r' => {
                self.line.after_cr = true;
                (end + 1, None)
            }
            Some(end) => (end + 1, self.refuse_and_close(BARE, out)),
        }
    }

    fn take_line(&mut self, line: &Line, out: &mut Vec<u8>) -> Option<Event> {
        let mode = std::mem::replace(&mut self.mode, Mode::Command);
        if line.length > MAX_COMMAND_BYTES {
            return self.refuse(refusal(500, "5.5.2", "The line is too long", Refused::Syntax), out);
        }
        if let Mode::Authenticate(challenge) = mode {
            return self.respond(challenge, &line.bytes, out);
        }
        self.commands += 1;
        if self.commands > self.front.settings.max_commands {
            return self.stop_abuse("Too many commands without a message", out);
        }
        match Command::parse(&line.bytes) {
            Ok(command) => self.obey(command, out),
            Err(BadCommand::Chunk) => {
                let lost = "The length is not valid, so its data would be read as commands. Closing the connection";
                self.refuse_and_close(refusal(501, "5.5.4", lost, Refused::Syntax), out)
            }
            Err(problem @ BadCommand::Http) => self.refuse_and_close(refusal_of(problem), out),
            Err(problem) => self.refuse(refusal_of(problem), out),
        }
    }

    fn obey(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Option<Event> {
        if self.leaving && !matches!(command, Command::Quit) {
            self.shut_down(out);
            return Some(Event::Close);
        }
        match command {
            Command::Ehlo => {
                (self.greeted, self.transaction) = (Greeted::Ehlo, None);
                self.offer(out);
                None
            }
            Command::Helo => {
                (self.greeted, self.transaction) = (Greeted::Helo, None);
                out.extend(format!("250 {}\r\n", self.front.settings.hostname).into_bytes());
                None
            }
            Command::Mail(mail) => match self.mail(&mail) {
                Ok(transaction) => {
                    self.transaction = Some(transaction);
                    say(out, 250, "2.1.0", "Sender ok");
                    None
                }
                Err(refusal) => self.refuse(refusal, out),
            },
            Command::Rcpt(rcpt) => match self.rcpt(rcpt.to) {
                Ok(()) => {
                    // A long list of recipients is not abuse.
                    self.commands -= 1;
                    say(out, 250, "2.1.5", "Recipient ok");
                    None
                }
                Err(refusal) if refusal.reason == Refused::Limits => self.stop_abuse(refusal.text, out),
                Err(refusal) => {
                    if refusal.reason == Refused::Recipients {
                        self.commands -= 1;
                    }
                    self.refuse(refusal, out)
                }
            },
            Command::Data => match self.data() {
                Ok(data) => {
                    self.mode = Mode::Data(data);
                    out.extend(b"354 End the message with a line that is a dot\r\n");
                    None
                }
                Err(refusal) => self.refuse(refusal, out),
            },
            Command::Bdat { bytes, last } => {
                self.mode = Mode::Chunk(Chunk { left: bytes, empty: bytes == 0, last, into: self.bdat() });
                self.chunk_taken(out)
            }
            Command::Rset => {
                self.transaction = None;
                say(out, 250, "2.0.0", "Reset");
                None
            }
            Command::Noop => {
                say(out, 250, "2.0.0", "Ok");
                None
            }
            Command::Vrfy => {
                say(out, 252, "2.0.0", "Addresses are not verified: send the mail");
                None
            }
            Command::Expn => self.refuse(refusal(502, "5.5.1", "There are no lists", Refused::Syntax), out),
            Command::Help => {
                say(out, 214, "2.0.0", "RFC 5321, RFC 6409");
                None
            }
            Command::Quit => {
                say(out, 221, "2.0.0", "Bye");
                Some(self.close())
            }
            Command::StartTls => match self.start_tls() {
                Ok(()) => {
                    say(out, 220, "2.0.0", "Begin TLS");
                    self.mode = Mode::Handshake;
                    Some(Event::StartTls)
                }
                Err(refusal) => self.refuse(refusal, out),
            },
            Command::Auth { mechanism, response } => self.authenticate(mechanism, response, out),
        }
    }

    fn offer(&self, out: &mut Vec<u8>) {
        let settings = &self.front.settings;
        let size = format!("SIZE {}", settings.max_message_bytes);
        let offers = [
            Some(settings.hostname.as_str()),
            Some("PIPELINING"),
            Some("8BITMIME"),
            Some("CHUNKING"),
            settings.smtputf8.then_some("SMTPUTF8"),
            self.may_start_tls().then_some("STARTTLS"),
            self.may_authenticate().then_some("AUTH PLAIN LOGIN"),
            Some("ENHANCEDSTATUSCODES"),
        ];
        for offer in offers.into_iter().flatten() {
            out.extend(format!("250-{offer}\r\n").into_bytes());
        }
        out.extend(format!("250 {size}\r\n").into_bytes());
    }

    fn may_start_tls(&self) -> bool {
        self.front.settings.tls.is_some() && !self.secure
    }

    fn may_authenticate(&self) -> bool {
        self.anonymous() && (self.secure || self.front.loopback)
    }

    fn start_tls(&self) -> Result<(), Refusal> {
        if !self.may_start_tls() {
            let text = if self.secure { "TLS is already on" } else { "There is no TLS here" };
            return Err(refusal(503, "5.5.1", text, Refused::Sequence));
        }
        if self.greeted == Greeted::No { Err(GREET_FIRST) } else { Ok(()) }
    }

    fn mail(&self, mail: &Mail<'_>) -> Result<Transaction, Refusal> {
        let settings = &self.front.settings;
        if self.greeted == Greeted::No {
            return Err(GREET_FIRST);
        }
        if self.anonymous() {
            let text =
                if self.may_authenticate() { "Authenticate first" } else { "Send STARTTLS and authenticate first" };
            return Err(refusal(530, "5.7.0", text, Refused::NotAuthenticated));
        }
        if self.transaction.is_some() {
            return Err(refusal(503, "5.5.1", "There is a sender already: send RSET", Refused::Sequence));
        }
        if mail.extended && self.greeted == Greeted::Helo || mail.smtputf8 && !settings.smtputf8 {
            return Err(refusal_of(BadCommand::Parameter));
        }
        if mail.size.is_some_and(|size| size > settings.max_message_bytes as u64) {
            return Err(refusal_of_message(Refused::Size));
        }
        if !mail.from.is_empty() {
            address::check(mail.from, mail.smtputf8).map_err(|problem| refusal_of(BadCommand::Sender(problem)))?;
        }
        Ok(Transaction {
            from: mail.from.to_owned(),
            recipients: Vec::new(),
            rcpt_commands: 0,
            utf8: mail.smtputf8,
            content: None,
            failed: false,
        })
    }

    fn rcpt(&mut self, to: &str) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or(MAIL_FIRST)?;
        if transaction.content.is_some() || transaction.failed {
            return Err(refusal(503, "5.5.1", "The message has begun", Refused::Sequence));
        }
        transaction.rcpt_commands += 1;
        if transaction.rcpt_commands > MAX_RCPT_COMMANDS {
            return Err(refusal(421, "4.7.0", "Far too many recipients", Refused::Limits));
        }
        address::check(to, transaction.utf8).map_err(|problem| refusal_of(BadCommand::Recipient(problem)))?;
        if transaction.recipients.iter().any(|known| address::same(known, to)) {
            return Ok(());
        }
        if transaction.recipients.len() >= self.front.settings.max_recipients {
            let text = "Too many recipients: send this message first, and then to the others";
            return Err(refusal(452, "4.5.3", text, Refused::Recipients));
        }
        transaction.recipients.push(to.to_owned());
        Ok(())
    }

    fn new_content(&self) -> Content {
        {
            let settings = &self.front.settings;
            Content::new(self.front.memory.reserve_none(), settings.max_message_bytes, settings.max_line_bytes)
        }
    }

    fn data(&mut self) -> Result<Data, Refusal> {
        let transaction = self.transaction.as_ref().ok_or(MAIL_FIRST)?;
        if transaction.content.is_some() || transaction.failed {
            return Err(refusal(503, "5.5.1", "The message has begun with BDAT", Refused::Sequence));
        }
        if transaction.recipients.is_empty() { Err(NO_RECIPIENTS) } else { Ok(Data::new(self.new_content())) }
    }

    /// Where the data of a BDAT goes. It comes in any case: RFC 3030, section 2.
    fn bdat(&mut self) -> Result<Content, Refusal> {
        let new = self.new_content();
        let transaction = self.transaction.as_mut().ok_or(MAIL_FIRST)?;
        if transaction.failed {
            Err(FAILED_BEFORE)
        } else if transaction.recipients.is_empty() {
            Err(NO_RECIPIENTS)
        } else {
            Ok(transaction.content.take().unwrap_or(new))
        }
    }

    fn data_taken(&mut self, ended: bool, out: &mut Vec<u8>) -> Option<Event> {
        let Mode::Data(data) = &self.mode else { return None };
        if data.content().overran() {
            return self.refuse_and_close(refusal_of_message(Refused::Size), out);
        }
        if !ended {
            return None;
        }
        let Mode::Data(data) = std::mem::replace(&mut self.mode, Mode::Command) else { return None };
        self.complete(data.into_content(), out)
    }

    fn chunk_taken(&mut self, out: &mut Vec<u8>) -> Option<Event> {
        let Mode::Chunk(chunk) = &self.mode else { return None };
        let most = (self.front.settings.max_message_bytes as u64).saturating_mul(2);
        if self.dropped > most || chunk.into.as_ref().is_ok_and(Content::overran) {
            return self.refuse_and_close(refusal_of_message(Refused::Size), out);
        }
        if chunk.left > 0 {
            return None;
        }
        let Mode::Chunk(chunk) = std::mem::replace(&mut self.mode, Mode::Command) else { return None };
        match chunk.into {
            Ok(content) if chunk.last => self.complete(content, out),
            Ok(content) => match content.problem() {
                None => {
                    if let Some(transaction) = &mut self.transaction {
                        transaction.content = Some(content);
                    }
                    // Many pieces are not abuse as long as there are bytes in them.
                    self.commands -= u32::from(!chunk.empty);
                    say(out, 250, "2.0.0", "Chunk ok");
                    None
                }
                Some(reason) => self.chunk_refused(refusal_of_message(reason), false, out),
            },
            Err(refusal) => self.chunk_refused(refusal, chunk.last, out),
        }
    }

    fn chunk_refused(&mut self, refusal: Refusal, last: bool, out: &mut Vec<u8>) -> Option<Event> {
        if last {
            self.transaction = None;
        } else if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
        self.refuse(refusal, out)
    }

    /// The message is whole: hands it over, or refuses it. The transaction is over in any case.
    fn complete(&mut self, content: Content, out: &mut Vec<u8>) -> Option<Event> {
        let transaction = self.transaction.take()?;
        match content.finish() {
            Ok((bytes, reservation)) => {
                self.front.counts.message(bytes.len());
                (self.commands, self.bad_commands, self.dropped) = (0, 0, 0);
                self.mode = Mode::Waiting;
                let Transaction { from, recipients, .. } = transaction;
                let message = Message { from, recipients, content: Bytes::from(bytes) };
                Some(Event::Message(Submission { message, held: Held { _reservation: reservation } }))
            }
            Err(reason) => self.refuse(refusal_of_message(reason), out),
        }
    }

    fn authenticate(&mut self, mechanism: &str, response: Option<&str>, out: &mut Vec<u8>) -> Option<Event> {
        let sequence = |text| refusal(503, "5.5.1", text, Refused::Sequence);
        let problem = if self.greeted != Greeted::Ehlo {
            Some(GREET_FIRST)
        } else if self.front.settings.users.is_empty() {
            Some(sequence("There are no users here: send MAIL"))
        } else if self.authenticated {
            Some(sequence("Already authenticated"))
        } else if self.transaction.is_some() {
            Some(sequence("Not in the middle of a mail: send RSET"))
        } else if !self.may_authenticate() {
            Some(refusal(538, "5.7.11", "Send STARTTLS first", Refused::NotAuthenticated))
        } else {
            None
        };
        if let Some(problem) = problem {
            return self.refuse(problem, out);
        }
        let challenge = if mechanism.eq_ignore_ascii_case("PLAIN") {
            Challenge::Plain
        } else if mechanism.eq_ignore_ascii_case("LOGIN") {
            Challenge::LoginName
        } else {
            return self.refuse(refusal(504, "5.5.4", "Use PLAIN or LOGIN", Refused::Syntax), out);
        };
        match response {
            Some(response) => self.respond(challenge, response.as_bytes(), out),
            None => self.ask(challenge, out),
        }
    }

    fn ask(&mut self, challenge: Challenge, out: &mut Vec<u8>) -> Option<Event> {
        out.extend_from_slice(match challenge {
            Challenge::Plain => b"334 \r\n",
            // "Username:" and "Password:", which clients of LOGIN wait for.
            Challenge::LoginName => b"334 VXNlcm5hbWU6\r\n",
            Challenge::LoginSecret { .. } => b"334 UGFzc3dvcmQ6\r\n",
        });
        self.mode = Mode::Authenticate(challenge);
        None
    }

    fn respond(&mut self, challenge: Challenge, response: &[u8], out: &mut Vec<u8>) -> Option<Event> {
        if response == b"*" {
            return self.refuse(refusal(501, "5.0.0", "Authentication cancelled", Refused::Credentials), out);
        }
        let Some(decoded) = std::str::from_utf8(response).ok().and_then(credentials::decode) else {
            return self.refuse(refusal(501, "5.5.2", "The response is not Base64", Refused::Syntax), out);
        };
        let users = &self.front.settings.users;
        let valid = match challenge {
            Challenge::LoginName => return self.ask(Challenge::LoginSecret { name: decoded }, out),
            Challenge::LoginSecret { name } => credentials::verify(users, &name, &decoded),
            Challenge::Plain => credentials::parse_plain(&decoded)
                .is_some_and(|(name, secret)| credentials::verify(users, name, secret)),
        };
        if valid {
            self.authenticated = true;
            say(out, 235, "2.7.0", "Authenticated");
            return None;
        }
        self.failed_authentications += 1;
        let refused = refusal(535, "5.7.8", "The user or the password is wrong", Refused::Credentials);
        if self.failed_authentications >= self.front.settings.max_failed_authentications {
            self.front.counts.refused(Refused::Credentials);
            return self.stop_abuse("Too many failed authentications", out);
        }
        self.refuse(refused, out)
    }
}

fn say(out: &mut Vec<u8>, code: u16, status: &str, text: &str) {
    out.extend(format!("{code} {status} {text}\r\n").into_bytes());
}

fn refusal_of(problem: BadCommand) -> Refusal {
    let address = |code, status, text| refusal(code, status, text, Refused::Address);
    match problem {
        BadCommand::Http => refusal(500, "5.5.1", "This is SMTP. Closing the connection", Refused::Syntax),
        BadCommand::Unknown => refusal(500, "5.5.1", "The command is unknown", Refused::Syntax),
        BadCommand::Characters => {
            refusal(500, "5.5.2", "The command has characters that are not valid", Refused::Syntax)
        }
        BadCommand::Usage(usage) => refusal(501, "5.5.4", usage, Refused::Syntax),
        BadCommand::Chunk => refusal(501, "5.5.4", "The length is not valid", Refused::Syntax),
        BadCommand::Parameter => refusal(555, "5.5.4", "The parameter is not offered here", Refused::Syntax),
        BadCommand::Binary => {
            refusal(555, "5.6.1", "SES takes no BINARYMIME: encode the mail as Base64", Refused::Syntax)
        }
        BadCommand::Sender(BadPath::Syntax) => {
            address(501, "5.1.7", "The sender is not valid: write MAIL FROM:<user@example.com>")
        }
        BadCommand::Recipient(BadPath::Syntax) => {
            address(501, "5.1.3", "The recipient is not valid: write RCPT TO:<user@example.com>")
        }
        BadCommand::Sender(BadPath::SourceRoute) => address(501, "5.1.7", "Source routes are not taken"),
        BadCommand::Recipient(BadPath::SourceRoute) => address(501, "5.1.3", "Source routes are not taken"),
        BadCommand::Sender(BadPath::Literal) => address(501, "5.1.7", "SES takes domains only"),
        BadCommand::Recipient(BadPath::Literal) => address(501, "5.1.3", "SES takes domains only"),
        BadCommand::Sender(BadPath::NotAscii) | BadCommand::Recipient(BadPath::NotAscii) => address(
            553,
            "5.6.7",
            "The address is not ASCII: write its domain in Punycode, or send with SMTPUTF8 where it is offered",
        ),
    }
}

fn refusal_of_message(reason: Refused) -> Refusal {
    match reason {
        // The status that other servers use for this; it is not in the registry of RFC 5248.
        Refused::LineEnds => refusal(550, "5.6.11", "The message has a bare CR or LF: its lines end in CRLF", reason),
        Refused::Nul => refusal(554, "5.6.0", "The message has a NUL", reason),
        Refused::LineLength => {
            refusal(554, "5.6.0", "The message has a line that is too long: SES takes 998 bytes", reason)
        }
        Refused::Size => refusal(552, "5.3.4", "The message is too large", reason),
        Refused::Memory
        | Refused::Syntax
        | Refused::Sequence
        | Refused::NotAuthenticated
        | Refused::Credentials
        | Refused::Address
        | Refused::Recipients
        | Refused::Connections
        | Refused::Limits
        | Refused::Timeout
        | Refused::Shutdown
        | Refused::Handshake
        | Refused::Deferred
        | Refused::Rejected => {
            refusal(452, "4.3.1", "Too many messages are under way: try again later", Refused::Memory)
        }
    }
}
