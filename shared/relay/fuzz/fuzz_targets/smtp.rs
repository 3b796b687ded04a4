//! Any bytes of a client: no panic, the same replies however they are cut, nothing in a message that could smuggle, and
//! all memory comes back.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use relay::Reply;
use relay::smtp::{Event, Front, MAX_COMMAND_BYTES, Session, SmtpSettings, User};

const MAX_MESSAGE: usize = 2_000;
const MEMORY: usize = MAX_MESSAGE + 1024 * 1024;
/// What a message reserves first, which is more than the largest message.
const BLOCK: usize = 8 * 1024;

fn front(users: bool, utf8: bool) -> Arc<Front> {
    let mut settings = SmtpSettings::new("relay.example");
    settings.max_message_bytes = MAX_MESSAGE;
    settings.max_memory_bytes = MEMORY;
    settings.max_recipients = 3;
    settings.smtputf8 = utf8;
    if users {
        settings.users.push(User::with_secret("ann", "0123456789abcdef").expect("it is valid"));
    }
    Front::new(settings, IpAddr::V4(Ipv4Addr::LOCALHOST)).expect("they are valid")
}

/// All that a session says and asks for, in order.
fn run(front: &Arc<Front>, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut said = Vec::new();
    let mut session = Session::begin(front, &mut said);
    for mut rest in bytes.chunks(piece) {
        while !rest.is_empty() {
            let fed = session.feed(rest, &mut said);
            rest = &rest[fed.used..];
            assert!(session.buffered() <= MAX_COMMAND_BYTES + BLOCK);
            match fed.event {
                None => assert!(rest.is_empty()),
                Some(Event::Close) => said.extend(b"[close]"),
                Some(Event::StartTls) => said.extend(b"[tls]"),
                Some(Event::Message(submission)) => {
                    let message = submission.message;
                    assert!((1..=3).contains(&message.recipients.len()) && message.content.len() <= MAX_MESSAGE + 2);
                    for address in message.recipients.iter().chain([&message.from]) {
                        assert!(!address.chars().any(char::is_control));
                        said.extend(address.as_bytes());
                    }
                    let mut previous = b'\n';
                    for (at, byte) in message.content.iter().enumerate() {
                        assert!(*byte != 0 && (*byte == b'\n') == (previous == b'\r' && at > 0));
                        previous = *byte;
                    }
                    assert_eq!(previous, b'\n');
                    said.extend(&message.content[..]);
                    let reply = Reply { code: 250, status: "2.0.0", text: "Sent".to_owned() };
                    assert!(session.answer(&reply, &mut said).is_none());
                }
            }
        }
    }
    drop(session);
    assert_eq!(front.free_memory(), MEMORY);
    said
}

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let front = front(first & 1 == 1, first & 2 == 2);
    let whole = run(&front, bytes, usize::MAX);
    assert_eq!(whole, run(&front, bytes, 1 + usize::from(first >> 2)));
});
