//! How fast a session takes bytes: large messages by DATA and by BDAT, and many small ones.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use relay::Reply;
use relay::smtp::{Event, Front, Session, SmtpSettings};

const ENVELOPE: &str = "MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.org>\r\n";
const LARGE: usize = 10_000_000;
const SMALL: usize = 1_000;
/// What the server reads at once.
const PIECE: usize = 16 * 1024;

fn main() {
    divan::main();
}

/// Lines of Base64, as in attachments.
fn lines(bytes: usize) -> String {
    format!("{}\r\n", "QUJD".repeat(19)).repeat(bytes / 78)
}

fn run(bencher: Bencher<'_, '_>, input: &str, messages: usize) {
    let settings = SmtpSettings { max_commands: u32::MAX, ..SmtpSettings::new("relay.example") };
    let front = Front::new(settings, IpAddr::V4(Ipv4Addr::LOCALHOST)).expect("they are valid");
    bencher.counter(BytesCount::new(input.len())).counter(ItemsCount::new(messages)).bench(|| talk(&front, input));
}

fn talk(front: &Arc<Front>, input: &str) -> usize {
    let (mut out, mut messages) = (Vec::new(), 0);
    let mut session = Session::begin(front, &mut out);
    for mut piece in input.as_bytes().chunks(PIECE) {
        while !piece.is_empty() {
            let fed = session.feed(piece, &mut out);
            piece = &piece[fed.used..];
            if let Some(Event::Message(_)) = fed.event {
                let sent = Reply { code: 250, status: "2.0.0", text: "Sent".to_owned() };
                session.answer(&sent, &mut out);
                messages += 1;
            }
            out.clear();
        }
    }
    messages
}

#[divan::bench]
fn large_message_by_data(bencher: Bencher<'_, '_>) {
    run(bencher, &format!("EHLO x\r\n{ENVELOPE}DATA\r\n{}.\r\n", lines(LARGE)), 1);
}

#[divan::bench]
fn large_message_by_bdat(bencher: Bencher<'_, '_>) {
    let content = lines(LARGE);
    run(bencher, &format!("EHLO x\r\n{ENVELOPE}BDAT {} LAST\r\n{content}", content.len()), 1);
}

#[divan::bench]
fn small_messages(bencher: Bencher<'_, '_>) {
    let content = lines(2_000);
    let mail = format!("{ENVELOPE}DATA\r\nSubject: x\r\n\r\n{content}.\r\n");
    run(bencher, &format!("EHLO x\r\n{}", mail.repeat(SMALL)), SMALL);
}
