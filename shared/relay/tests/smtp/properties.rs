//! What holds for any bytes.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use relay::smtp::{Front, MAX_COMMAND_BYTES};

use crate::kit::{PLAIN, Talk, ann, front};
use crate::tcp::certificate;

const MAX_MESSAGE: usize = 60_000;
const MEMORY: usize = MAX_MESSAGE + 1024 * 1024;

fn small(users: bool) -> Arc<Front> {
    let tls = certificate().server;
    front(move |settings| {
        settings.max_message_bytes = MAX_MESSAGE;
        settings.max_memory_bytes = MEMORY;
        settings.max_recipients = 3;
        settings.max_commands = 12;
        settings.max_bad_commands = 4;
        settings.smtputf8 = true;
        settings.tls = Some(tls);
        if users {
            settings.users = vec![ann()];
        }
    })
}

/// Parts of sessions, well formed and not.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "EHLO x\r\n",
        "HELO x\r\n",
        "MAIL FROM:<>\r\n",
        "MAIL FROM:<a@b.c> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n",
        "RCPT TO:<a@b.c>\r\n",
        "RCPT TO:<é@b.c>\r\n",
        "DATA\r\n",
        "a\r\n.\r\n",
        ".\r\n",
        "..\r\n",
        "BDAT 5\r\n",
        "BDAT 0 LAST\r\n",
        "BDAT 7 LAST\r\n",
        "BDAT 70000\r\n",
        "BDAT x\r\n",
        "RSET\r\n",
        "NOOP\r\n",
        "QUIT\r\n",
        "STARTTLS\r\n",
        "AUTH LOGIN\r\n",
        "YW5u\r\n",
        "*\r\n",
        "\r\n",
        "\r",
        "\n",
        ".",
        "\0",
        "a",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![
        12 => known,
        1 => Just(format!("AUTH PLAIN {PLAIN}\r\n").into_bytes()),
        1 => Just(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\n".to_vec()),
        1 => vec(any::<u8>(), 0..20),
        1 => (0usize..3_000).prop_map(|length| vec![b'a'; length]),
        1 => (1usize..700).prop_map(|lines| b"0123456789\r\n".repeat(lines * 10)),
    ]
}

fn session() -> impl Strategy<Value = Vec<u8>> {
    vec(fragment(), 0..40).prop_map(|fragments| fragments.concat())
}

proptest! {
    #[test]
    fn any_pieces_of_the_same_bytes_have_the_same_replies_and_events(
        bytes in session(), users: bool, cuts in vec(1usize..200, 1..60),
    ) {
        let mut whole = Talk::new(&small(users));
        whole.feed(&bytes);
        let mut pieces = Talk::new(&small(users));
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.feed(piece);
            rest = after;
        }
        prop_assert_eq!(whole.said, pieces.said);
    }

    #[test]
    fn no_bytes_panic_and_memory_stays_within_its_bound(bytes in session(), users: bool, piece in 1usize..5_000) {
        let front = small(users);
        let mut talk = Talk::new(&front);
        for piece in bytes.chunks(piece) {
            talk.feed(piece);
            prop_assert!(talk.session.buffered() <= MAX_COMMAND_BYTES + MAX_MESSAGE.next_power_of_two());
            prop_assert!(front.free_memory() <= MEMORY);
        }
        for message in &talk.messages {
            prop_assert!(message.content.len() <= MAX_MESSAGE + 2);
            prop_assert!((1..=3).contains(&message.recipients.len()));
            let addresses = message.recipients.iter().chain([&message.from]);
            prop_assert!(addresses.flat_map(|address| address.chars()).all(|character| !character.is_control()));
            let text = String::from_utf8_lossy(&message.content).replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n', '\0']));
            prop_assert!(message.content.is_empty() || message.content.ends_with(b"\r\n"));
        }
        drop(talk);
        prop_assert_eq!(front.free_memory(), MEMORY);
    }

    #[test]
    fn what_is_sent_arrives_by_data_as_by_chunks(
        lines in vec("[.]{0,2}[ -~é]{0,60}", 0..80), piece in 1usize..500, chunk in 1usize..500,
    ) {
        let mut content: String = lines.join("\r\n");
        content.push_str("\r\n");
        let content = content.into_bytes();
        let envelope = b"EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n";
        let mut stuffed = Vec::new();
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend(line);
        }
        let mut by_data = Talk::new(&front(|_| {}));
        by_data.feed_pieces(&[envelope.as_slice(), b"DATA\r\n", &stuffed, b".\r\nQUIT\r\n"].concat(), piece);

        let mut input = envelope.to_vec();
        for chunk in content.chunks(chunk) {
            input.extend(format!("BDAT {}\r\n", chunk.len()).into_bytes());
            input.extend(chunk);
        }
        input.extend(b"BDAT 0 LAST\r\nQUIT\r\n");
        let mut by_chunks = Talk::new(&front(|_| {}));
        by_chunks.feed_pieces(&input, piece);

        for talk in [&by_data, &by_chunks] {
            prop_assert_eq!(talk.messages.len(), 1, "{}", &talk.said);
            prop_assert_eq!(&talk.messages[0].content, &content);
            prop_assert!(talk.said.ends_with("221 2.0.0 Bye\r\n[close]\r\n"));
        }
    }
}
