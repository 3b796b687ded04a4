//! SMTP smuggling: what other servers read as the end of a message or of a line ends nothing here, and never reaches
//! SES. The cases are those of the advisories of December 2023 (VU#302671, CVE-2023-51764, -51765, -51766) and of
//! RFC 3207 and RFC 3030.

use crate::kit::{Talk, front};

const BEGIN: &[u8] = b"EHLO x\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.org>\r\n";
const SECOND: &[u8] =
    b"MAIL FROM:<admin@example.com>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nSubject: forged\r\n\r\nforged\r\n.\r\n";

/// Ends of data that are none.
const ENDS: &[&[u8]] = &[
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\n\n",
    b"\n.\n\r\n",
    b"\r\n\n.\n",
    b"\r\n.\n\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\0\n",
    b"\r\n\x1a.\n",
];

fn last_reply(talk: &Talk) -> &str {
    talk.said.trim_end().rsplit("\r\n").next().unwrap()
}

#[test]
fn nothing_but_the_one_sequence_ends_a_message() {
    for end in ENDS {
        let input = [BEGIN, b"DATA\r\nSubject: x\r\n\r\nfirst", end, SECOND].concat();
        for piece in 1..=input.len() {
            let mut talk = Talk::new(&front(|_| {}));
            talk.feed_pieces(&input, piece);
            assert_eq!(talk.messages.len(), 0, "{end:?} in pieces of {piece}: {}", talk.said);
            let refused = last_reply(&talk);
            assert!(refused.starts_with("550 5.6.11 ") || refused.starts_with("554 5.6.0 "), "{end:?}: {refused}");
        }
    }
}

#[test]
fn nothing_in_a_chunk_ends_a_message_or_passes_with_a_bare_line_end() {
    for end in ENDS {
        let data = [b"Subject: x\r\n\r\nfirst", *end, SECOND].concat();
        let input = [BEGIN, format!("BDAT {} LAST\r\n", data.len()).as_bytes(), &data].concat();
        let mut talk = Talk::new(&front(|_| {}));
        talk.feed(&input);
        assert_eq!(talk.messages.len(), 0, "{end:?}: {}", talk.said);
    }
    // What is well formed is one message, whatever it says.
    let data = [b"Subject: x\r\n\r\nfirst\r\n.\r\n", SECOND].concat();
    let input = [BEGIN, format!("BDAT {} LAST\r\n", data.len()).as_bytes(), &data].concat();
    let mut talk = Talk::new(&front(|_| {}));
    talk.feed(&input);
    assert_eq!(talk.messages.len(), 1);
    assert_eq!(talk.messages[0].content, data);
}

#[test]
fn a_bare_line_end_in_a_command_ends_the_session_at_once() {
    for command in [
        "NOOP\nMAIL FROM:<eve@example.com>\r\n",
        "NOOP\rMAIL FROM:<eve@example.com>\r\n",
        "\nMAIL FROM:<eve@example.com>\r\n",
        "NOOP\r\r\n",
        "RCPT TO:<bob@example.org\n>\r\n",
        "DATA\n",
        "DATA\r\r\n",
        "BDAT 3\nabc",
    ] {
        let input = [BEGIN, command.as_bytes(), SECOND].concat();
        for piece in 1..=input.len() {
            let mut talk = Talk::new(&front(|_| {}));
            talk.feed_pieces(&input, piece);
            let expected = "500 5.5.2 Bare CR or LF: a command ends in CRLF. Closing the connection\r\n[close]\r\n";
            assert!(talk.said.ends_with(expected), "{command:?} in pieces of {piece}: {}", talk.said);
            assert_eq!(talk.messages.len(), 0);
        }
    }
}

#[test]
fn what_is_handed_over_cannot_smuggle_anywhere() {
    // The message has all that is allowed: lines of dots, commands, blanks, 8 bits.
    let data = "Subject: .\r\n\r\n..\r\n...\r\n. \r\n \r\nMAIL FROM:<x@y.z>\r\n\t.\r\né\r\n";
    let stuffed = data.replace("\r\n.", "\r\n..");
    let mut talk = Talk::new(&front(|_| {}));
    talk.feed(&[BEGIN, b"DATA\r\n", stuffed.as_bytes(), b".\r\n"].concat());
    assert_eq!(talk.messages.len(), 1, "{}", talk.said);
    assert_eq!(talk.messages[0].content, data.as_bytes());
}
