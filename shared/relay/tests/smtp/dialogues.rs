//! Dialogues, each a law. What a client sends is also sent in one piece, and cut in two at each byte: the answers are the
//! same.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use relay::Reply;
use relay::smtp::{Event, Front, Refused};

use crate::kit::{PLAIN, Talk, ann, front, front_on};
use crate::tcp::certificate;

/// Not sent: the TLS handshake is over.
const SECURED: &str = "(secured)";

/// What is sent, to which CRLF is added unless it has one; and what comes back, one line each.
type Step<'a> = (&'a str, &'a str);

fn bytes_of(sent: &str) -> Vec<u8> {
    if sent.contains(['\r', '\n']) { sent.into() } else { format!("{sent}\r\n").into_bytes() }
}

/// A new front for each run, so that no run sees what another has left.
fn check(front: impl Fn() -> Arc<Front>, steps: &[Step<'_>]) {
    let mut talk = Talk::new(&front());
    let mut expected = talk.said.clone();
    for (sent, reply) in steps {
        if *sent == SECURED {
            talk.session.secured();
        } else {
            talk.feed(&bytes_of(sent));
        }
        for line in reply.lines() {
            expected.push_str(line.trim_start());
            expected.push_str("\r\n");
        }
        assert_eq!(talk.said, expected, "after {sent:?}");
    }
    // All that is sent up to the handshake, and all after it.
    let parts: Vec<Vec<u8>> = steps
        .split(|(sent, _)| *sent == SECURED)
        .map(|steps| steps.iter().flat_map(|(sent, _)| bytes_of(sent)).collect())
        .collect();
    let length = parts.iter().map(Vec::len).max().unwrap_or(0);
    let cuts = (0..length).step_by(1 + length / 400);
    for cut in cuts {
        let mut talk = Talk::new(&front());
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                talk.session.secured();
            }
            let (one, other) = part.split_at(cut.min(part.len()));
            talk.feed(one);
            talk.feed(other);
        }
        assert_eq!(talk.said, expected, "cut at {cut}");
    }
    for piece in [1, 2, 3, 7] {
        let mut talk = Talk::new(&front());
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                talk.session.secured();
            }
            talk.feed_pieces(part, piece);
        }
        assert_eq!(talk.said, expected, "in pieces of {piece}");
    }
}

/// On a loopback address, with nothing to prove.
fn open() -> Arc<Front> {
    front(|_| {})
}

/// On a loopback address, with users.
fn with_users() -> Arc<Front> {
    front(|settings| settings.users = vec![ann()])
}

/// Where other machines reach it.
fn public() -> Arc<Front> {
    front_on(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |settings| {
        settings.users = vec![ann()];
        settings.tls = Some(certificate().server);
    })
}

const HELLO: Step<'_> = (
    "EHLO client.example",
    "250-relay.example
     250-PIPELINING
     250-8BITMIME
     250-CHUNKING
     250-ENHANCEDSTATUSCODES
     250 SIZE 40000000",
);
const HELO: Step<'_> = ("HELO client.example", "250 relay.example");
const MAIL: Step<'_> = ("MAIL FROM:<ann@example.com>", "250 2.1.0 Sender ok");
const RCPT: Step<'_> = ("RCPT TO:<bob@example.org>", "250 2.1.5 Recipient ok");
const DATA: Step<'_> = ("DATA", "354 End the message with a line that is a dot");
const SENT: Step<'_> = (
    "Subject: x\r\n\r\nHello\r\n.\r\n",
    r#"[ann@example.com > bob@example.org: "Subject: x\r\n\r\nHello\r\n"]
       250 2.0.0 Sent"#,
);
const QUIT: Step<'_> = ("QUIT", "221 2.0.0 Bye\n[close]");
const GREET_FIRST: &str = "503 5.5.1 Send EHLO first";

#[test]
fn a_mail_is_sent_and_the_session_goes_on() {
    check(open, &[HELLO, MAIL, RCPT, DATA, SENT, MAIL, RCPT, DATA, SENT, QUIT, ("NOOP", "")]);
    check(open, &[HELO, MAIL, RCPT, DATA, SENT, QUIT]);
}

#[test]
fn bounces_have_no_sender_and_each_recipient_is_named_once() {
    check(
        open,
        &[
            HELLO,
            ("MAIL FROM:<>", "250 2.1.0 Sender ok"),
            ("RCPT TO:<bob@example.org>", "250 2.1.5 Recipient ok"),
            ("RCPT TO:<\"b o b\"@example.org>", "250 2.1.5 Recipient ok"),
            ("RCPT TO:<bob@EXAMPLE.org>", "250 2.1.5 Recipient ok"),
            ("RCPT TO:<Bob@example.org>", "250 2.1.5 Recipient ok"),
            DATA,
            (
                ".\r\n",
                r#"[ > bob@example.org "b o b"@example.org Bob@example.org: ""]
                   250 2.0.0 Sent"#,
            ),
        ],
    );
}

#[test]
fn commands_come_in_their_order() {
    const NO_MAIL: &str = "503 5.5.1 Send MAIL first";
    check(
        open,
        &[
            ("MAIL FROM:<ann@example.com>", GREET_FIRST),
            ("RCPT TO:<bob@example.org>", NO_MAIL),
            ("DATA", NO_MAIL),
            ("AUTH PLAIN", GREET_FIRST),
            ("STARTTLS", "503 5.5.1 There is no TLS here"),
            ("RSET", "250 2.0.0 Reset"),
            HELLO,
            ("AUTH PLAIN", "503 5.5.1 There are no users here: send MAIL"),
            ("RCPT TO:<bob@example.org>", NO_MAIL),
            MAIL,
            MAIL_TWICE,
            ("DATA", "554 5.5.1 No valid recipients"),
            RCPT,
            ("RSET", "250 2.0.0 Reset"),
            ("DATA", NO_MAIL),
            MAIL,
            RCPT,
            HELLO,
            ("DATA", NO_MAIL),
        ],
    );
}
const MAIL_TWICE: Step<'_> = ("MAIL FROM:<ann@example.com>", "503 5.5.1 There is a sender already: send RSET");

#[test]
fn what_is_no_transaction_is_answered_at_any_time() {
    check(
        open,
        &[
            ("NOOP", "250 2.0.0 Ok"),
            ("noop with words", "250 2.0.0 Ok"),
            ("VRFY bob", "252 2.0.0 Addresses are not verified: send the mail"),
            ("EXPN all", "502 5.5.1 There are no lists"),
            ("HELP", "214 2.0.0 RFC 5321, RFC 6409"),
            HELLO,
            MAIL,
            ("NOOP", "250 2.0.0 Ok"),
            RCPT,
            ("VRFY bob", "252 2.0.0 Addresses are not verified: send the mail"),
            DATA,
            SENT,
        ],
    );
}

#[test]
fn addresses_that_are_not_valid_are_refused_and_the_others_get_the_mail() {
    const BAD: &str = "501 5.1.3 The recipient is not valid: write RCPT TO:<user@example.com>";
    check(
        open,
        &[
            HELLO,
            ("MAIL FROM:<ann>", "501 5.1.7 The sender is not valid: write MAIL FROM:<user@example.com>"),
            ("MAIL FROM: <ann@example.com>", "501 5.1.7 The sender is not valid: write MAIL FROM:<user@example.com>"),
            ("MAIL FROM:<@hop.example:ann@example.com>", "501 5.1.7 Source routes are not taken"),
            MAIL,
            ("RCPT TO:<>", BAD),
            ("RCPT TO:<bob@example.org,eve@example.org>", BAD),
            ("RCPT TO:<bob@example.org> NOTIFY=NEVER", "555 5.5.4 The parameter is not offered here"),
            ("RCPT TO:<@hop.example:bob@example.org>", "501 5.1.3 Source routes are not taken"),
            ("RCPT TO:<bob@[192.0.2.1]>", "501 5.1.3 SES takes domains only"),
            (
                "RCPT TO:<bob@bücher.example>",
                "553 5.6.7 The address is not ASCII: write its domain in Punycode, or send with SMTPUTF8 where it is offered",
            ),
            RCPT,
            DATA,
            SENT,
        ],
    );
}

#[test]
fn bad_addresses_are_not_abuse() {
    let mut steps = vec![HELLO, MAIL];
    steps.extend([("RCPT TO:<bob>", "501 5.1.3 The recipient is not valid: write RCPT TO:<user@example.com>"); 40]);
    steps.extend([RCPT, DATA, SENT]);
    check(open, &steps);
}

#[test]
fn the_fifty_first_recipient_waits_for_the_next_mail() {
    let recipients: Vec<String> = (0..52).map(|number| format!("RCPT TO:<bob{number}@example.org>")).collect();
    let mut steps = vec![HELLO, MAIL];
    for (number, recipient) in recipients.iter().enumerate() {
        let full = "452 4.5.3 Too many recipients: send this message first, and then to the others";
        steps.push((recipient, if number < 50 { "250 2.1.5 Recipient ok" } else { full }));
    }
    // One that is known takes no place.
    steps.extend([("RCPT TO:<bob7@example.org>", "250 2.1.5 Recipient ok"), DATA]);
    check(open, &steps);
}

#[test]
fn a_list_far_above_the_limit_ends_the_session() {
    let mut talk = Talk::new(&open());
    talk.feed(b"EHLO x\r\nMAIL FROM:<>\r\n");
    for number in 0..1_000 {
        talk.feed(format!("RCPT TO:<bob{number}@example.org>\r\n").as_bytes());
    }
    assert!(!talk.said.contains("[close]"));
    talk.feed(b"RCPT TO:<bob@example.org>\r\n");
    assert!(talk.said.ends_with("421 4.7.0 Far too many recipients\r\n[close]\r\n"));
}

#[test]
fn parameters_are_those_of_the_extensions_that_are_offered() {
    check(
        open,
        &[
            HELLO,
            ("MAIL FROM:<ann@example.com> SIZE=40000001", "552 5.3.4 The message is too large"),
            ("MAIL FROM:<ann@example.com> SIZE=99999999999999999999", "552 5.3.4 The message is too large"),
            ("MAIL FROM:<ann@example.com> SMTPUTF8", "555 5.5.4 The parameter is not offered here"),
            ("MAIL FROM:<ann@example.com> RET=HDRS", "555 5.5.4 The parameter is not offered here"),
            (
                "MAIL FROM:<ann@example.com> BODY=BINARYMIME",
                "555 5.6.1 SES takes no BINARYMIME: encode the mail as Base64",
            ),
            ("MAIL FROM:<ann@example.com> BODY=8", "501 5.5.4 Write MAIL FROM:<address> [SIZE=bytes] [BODY=8BITMIME]"),
            ("MAIL FROM:<ann@example.com> SIZE=40000000 BODY=8BITMIME AUTH=<>", "250 2.1.0 Sender ok"),
            RCPT,
            DATA,
            SENT,
            HELO,
            ("MAIL FROM:<ann@example.com> SIZE=1", "555 5.5.4 The parameter is not offered here"),
        ],
    );
}

#[test]
fn smtputf8_is_offered_where_the_settings_say_so_and_asked_for_in_each_mail() {
    let utf8 = || front(|settings| settings.smtputf8 = true);
    let hello = (
        "EHLO x",
        "250-relay.example\n250-PIPELINING\n250-8BITMIME\n250-CHUNKING\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250 SIZE 40000000",
    );
    let refused =
        "553 5.6.7 The address is not ASCII: write its domain in Punycode, or send with SMTPUTF8 where it is offered";
    check(
        utf8,
        &[
            hello,
            ("MAIL FROM:<bjørn@example.com>", refused),
            MAIL,
            ("RCPT TO:<用户@例子.example>", refused),
            ("RSET", "250 2.0.0 Reset"),
            ("MAIL FROM:<bjørn@example.com> SMTPUTF8", "250 2.1.0 Sender ok"),
            ("RCPT TO:<用户@例子.example>", "250 2.1.5 Recipient ok"),
            DATA,
            (".\r\n", "[bjørn@example.com > 用户@例子.example: \"\"]\n250 2.0.0 Sent"),
        ],
    );
}

#[test]
fn dots_are_unstuffed() {
    check(
        open,
        &[
            HELLO,
            MAIL,
            RCPT,
            DATA,
            (
                "..\r\n..a\r\nb.\r\n...\r\n.\r\n",
                "[ann@example.com > bob@example.org: \".\\r\\n.a\\r\\nb.\\r\\n..\\r\\n\"]\n250 2.0.0 Sent",
            ),
            QUIT,
        ],
    );
}

#[test]
fn chunks_are_one_message_and_any_bytes_may_follow_them() {
    check(
        open,
        &[
            HELLO,
            MAIL,
            RCPT,
            ("BDAT 5\r\na\r\n.\r", "250 2.0.0 Chunk ok"),
            ("BDAT 0", "250 2.0.0 Chunk ok"),
            ("DATA", "503 5.5.1 The message has begun with BDAT"),
            ("RCPT TO:<eve@example.org>", "503 5.5.1 The message has begun"),
            MAIL_TWICE,
            (
                "BDAT 6 LAST\r\n\nQUIT\n",
                // The LF that ends the line is none of the CRLF that it should be.
                "550 5.6.11 The message has a bare CR or LF: its lines end in CRLF",
            ),
            MAIL,
            RCPT,
            ("BDAT 5\r\na\r\n.\r", "250 2.0.0 Chunk ok"),
            (
                "BDAT 5 LAST\r\n\nQUIT",
                "[ann@example.com > bob@example.org: \"a\\r\\n.\\r\\nQUIT\\r\\n\"]\n250 2.0.0 Sent",
            ),
            MAIL,
            RCPT,
            ("BDAT 0 LAST", "[ann@example.com > bob@example.org: \"\"]\n250 2.0.0 Sent"),
            MAIL,
            RCPT,
            ("BDAT 1\r\na", "250 2.0.0 Chunk ok"),
            ("RSET", "250 2.0.0 Reset"),
            ("BDAT 1 LAST\r\na", "503 5.5.1 Send MAIL first"),
            QUIT,
        ],
    );
}

#[test]
fn the_data_of_a_refused_chunk_is_never_read_as_commands() {
    const ATTACK: &str = "BDAT 25 LAST\r\nMAIL FROM:<a@b.example>\r\n";
    check(
        open,
        &[
            HELLO,
            (ATTACK, "503 5.5.1 Send MAIL first"),
            MAIL,
            ("BDAT 25\r\nMAIL FROM:<a@b.example>\r\n", "554 5.5.1 No valid recipients"),
            RCPT_FAILED,
            (ATTACK, "503 5.5.1 An earlier BDAT was refused: send RSET"),
            MAIL,
            RCPT,
            ("BDAT 3\r\na\nb", "550 5.6.11 The message has a bare CR or LF: its lines end in CRLF"),
            ("BDAT 3\r\na\r\n", "503 5.5.1 An earlier BDAT was refused: send RSET"),
            ("DATA", "503 5.5.1 The message has begun with BDAT"),
            ("RSET", "250 2.0.0 Reset"),
            MAIL,
            RCPT,
            DATA,
            SENT,
        ],
    );
}
const RCPT_FAILED: Step<'_> = ("RCPT TO:<bob@example.org>", "503 5.5.1 The message has begun");

#[test]
fn a_chunk_without_a_length_ends_the_session() {
    const LOST: &str =
        "501 5.5.4 The length is not valid, so its data would be read as commands. Closing the connection\n[close]";
    for line in ["BDAT", "BDAT x LAST", "BDAT 99999999999999999999 LAST", "BDAT 5 FIRST"] {
        check(open, &[HELLO, MAIL, RCPT, (line, LOST), ("MAIL FROM:<eve@example.com>", "")]);
    }
}

#[test]
fn many_chunks_are_not_abuse_and_many_empty_ones_are() {
    let mut talk = Talk::new(&open());
    talk.feed(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\n");
    for _ in 0..1_000 {
        talk.feed(b"BDAT 3\r\na\r\n");
    }
    assert!(talk.said.ends_with("250 2.0.0 Chunk ok\r\n"));
    for _ in 0..100 {
        talk.feed(b"BDAT 0\r\n");
    }
    assert!(talk.said.ends_with("421 4.7.0 Too many commands without a message\r\n[close]\r\n"));
}

#[test]
fn a_message_above_the_limit_is_read_and_refused_and_the_next_is_taken() {
    let small = || {
        front(|settings| {
            settings.max_message_bytes = 30;
            settings.max_memory_bytes = 30 + 1024 * 1024;
        })
    };
    const TOO_LARGE: &str = "552 5.3.4 The message is too large";
    let hello = (
        "EHLO x",
        "250-relay.example\n250-PIPELINING\n250-8BITMIME\n250-CHUNKING\n250-ENHANCEDSTATUSCODES\n250 SIZE 30",
    );
    check(
        small,
        &[
            hello,
            ("MAIL FROM:<ann@example.com> SIZE=31", TOO_LARGE),
            MAIL,
            RCPT,
            DATA,
            ("0123456789\r\n0123456789\r\n01234\r\n.\r\n", TOO_LARGE),
            MAIL,
            RCPT,
            DATA,
            (
                "0123456789\r\n0123456789\r\n0123\r\n.\r\n",
                "[ann@example.com > bob@example.org: \"0123456789\\r\\n0123456789\\r\\n0123\\r\\n\"]\n250 2.0.0 Sent",
            ),
            MAIL,
            RCPT,
            ("BDAT 20\r\n0123456789012345678\r", "250 2.0.0 Chunk ok"),
            ("BDAT 12\r\n\n0123456789\r", TOO_LARGE),
            ("BDAT 1 LAST\r\n\n", "503 5.5.1 An earlier BDAT was refused: send RSET"),
            // No more than twice the limit is read.
            MAIL,
            RCPT,
            ("BDAT 18446744073709551615 LAST", ""),
            (
                "0123456789\r\n0123456789\r\n0123456789\r\n0123456789\r\n0123456789\r\n0123456789\r\n",
                "552 5.3.4 The message is too large\n[close]",
            ),
            ("MAIL FROM:<eve@example.com>", ""),
        ],
    );
}

#[test]
fn data_that_belongs_to_no_message_is_dropped_up_to_twice_the_limit() {
    let front = front(|settings| {
        settings.max_message_bytes = 1_000;
        settings.max_memory_bytes = 1_000 + 1024 * 1024;
    });
    let mut talk = Talk::new(&front);
    talk.feed(b"BDAT 1500\r\n");
    talk.feed(&[b'a'; 1_500]);
    assert!(talk.said.ends_with("503 5.5.1 Send MAIL first\r\n"));
    talk.feed(b"BDAT 1500\r\n");
    talk.feed(&[b'a'; 500]);
    assert!(!talk.said.contains("[close]"));
    talk.feed(b"a");
    assert!(talk.said.ends_with("552 5.3.4 The message is too large\r\n[close]\r\n"));
    assert_eq!(talk.session.buffered(), 0);
}

#[test]
fn a_message_for_which_there_is_no_memory_is_refused_for_now() {
    let front = front(|settings| {
        settings.max_message_bytes = 2_000_000;
        settings.max_memory_bytes = 3_100_000;
    });
    let begin = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n";
    let line = [&[b'a'; 98][..], b"\r\n"].concat();
    let (mut first, mut second) = (Talk::new(&front), Talk::new(&front));
    first.feed(begin);
    first.feed(&line.repeat(15_000));
    assert_eq!(first.session.buffered(), 2 * 1024 * 1024, "in blocks of 1 MiB");
    second.feed(begin);
    second.feed(&line.repeat(15_000));
    assert_eq!(second.session.buffered(), 0, "it is dropped");
    second.feed(b".\r\n");
    assert!(second.said.ends_with("452 4.3.1 Too many messages are under way: try again later\r\n"));
    // A session that ends gives everything back.
    drop(first);
    assert_eq!(front.free_memory(), 3_100_000);
    second.feed(&begin[8..]);
    second.feed(&line.repeat(15_000));
    second.feed(b".\r\n");
    assert!(second.said.ends_with("250 2.0.0 Sent\r\n"));
    assert_eq!(front.free_memory(), 3_100_000);
}

#[test]
fn without_tls_there_is_no_authentication_where_other_machines_reach_it() {
    let plain = format!("AUTH PLAIN {PLAIN}");
    let hello = |rest: &'static str| -> String {
        format!(
            "250-relay.example\n250-PIPELINING\n250-8BITMIME\n250-CHUNKING\n{rest}250-ENHANCEDSTATUSCODES\n250 SIZE 40000000"
        )
    };
    let (clear, secure, done) = (hello("250-STARTTLS\n"), hello("250-AUTH PLAIN LOGIN\n"), hello(""));
    check(
        public,
        &[
            ("EHLO x", &clear),
            ("MAIL FROM:<ann@example.com>", "530 5.7.0 Send STARTTLS and authenticate first"),
            (&plain, "538 5.7.11 Send STARTTLS first"),
            ("STARTTLS", "220 2.0.0 Begin TLS\n[tls]"),
            // What came before the handshake is not acted on.
            ("EHLO injected\r\nMAIL FROM:<eve@example.com>\r\n", ""),
            (SECURED, ""),
            ("MAIL FROM:<ann@example.com>", GREET_FIRST),
            ("STARTTLS", "503 5.5.1 TLS is already on"),
            (&plain, GREET_FIRST),
            ("EHLO x", &secure),
            ("MAIL FROM:<ann@example.com>", "530 5.7.0 Authenticate first"),
            (&plain, "235 2.7.0 Authenticated"),
            ("EHLO x", &done),
            (&plain, "503 5.5.1 Already authenticated"),
            MAIL,
            RCPT,
            DATA,
            SENT,
            MAIL,
            ("RSET", "250 2.0.0 Reset"),
            MAIL,
        ],
    );
}

#[test]
fn the_handshake_forgets_the_envelope_and_half_a_command() {
    let open_with_tls = || front(|settings| settings.tls = Some(certificate().server));
    check(
        open_with_tls,
        &[
            ("STARTTLS", GREET_FIRST),
            HELO,
            MAIL,
            RCPT,
            ("STARTTLS", "220 2.0.0 Begin TLS\n[tls]"),
            ("RCPT TO:<eve@example.org>\r\nDA", ""),
            (SECURED, ""),
            ("DATA", "503 5.5.1 Send MAIL first"),
            ("TA\r\n", "500 5.5.1 The command is unknown"),
        ],
    );
}

#[test]
fn users_authenticate_in_each_way() {
    let plain = format!("AUTH plain {PLAIN}");
    let login = "AUTH LOGIN YW5u"; // ann
    let secret = "MDEyMzQ1Njc4OWFiY2RlZg=="; // the secret
    let hello = (
        "EHLO x",
        "250-relay.example\n250-PIPELINING\n250-8BITMIME\n250-CHUNKING\n250-AUTH PLAIN LOGIN\n250-ENHANCEDSTATUSCODES\n250 SIZE 40000000",
    );
    let ok = "235 2.7.0 Authenticated";
    for ways in [
        [(plain.as_str(), ok)].as_slice(),
        &[("AUTH PLAIN", "334 "), (PLAIN, ok)],
        &[("AUTH LOGIN", "334 VXNlcm5hbWU6"), ("YW5u", "334 UGFzc3dvcmQ6"), (secret, ok)],
        &[(login, "334 UGFzc3dvcmQ6"), ("MDEyMzQ1Njc4OWFiY2RlZg", ok)],
        &[
            ("AUTH PLAIN", "334 "),
            ("*", "501 5.0.0 Authentication cancelled"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("*", "501 5.0.0 Authentication cancelled"),
            (login, "334 UGFzc3dvcmQ6"),
            ("*", "501 5.0.0 Authentication cancelled"),
            (plain.as_str(), ok),
        ],
        &[
            ("AUTH CRAM-MD5", "504 5.5.4 Use PLAIN or LOGIN"),
            ("AUTH PLAIN", "334 "),
            ("???", "501 5.5.2 The response is not Base64"),
            // What is in the place of a response is not a command.
            ("AUTH PLAIN", "334 "),
            ("NOOP", "535 5.7.8 The user or the password is wrong"),
            ("AUTH PLAIN =", "535 5.7.8 The user or the password is wrong"),
            (plain.as_str(), ok),
        ],
    ] {
        let mut steps = vec![hello, ("MAIL FROM:<ann@example.com>", "530 5.7.0 Authenticate first")];
        steps.extend(ways);
        steps.extend([MAIL, RCPT, DATA, SENT]);
        check(with_users, &steps);
    }
}

#[test]
fn the_third_wrong_password_ends_the_session() {
    let mut talk = Talk::new(&with_users());
    talk.feed(b"EHLO x\r\n");
    // ann, and a secret of 16 bytes.
    let wrong = "AUTH PLAIN AGFubgBmZWRjYmE5ODc2NTQzMjEw\r\n";
    talk.feed(wrong.repeat(3).as_bytes());
    let refused = "535 5.7.8 The user or the password is wrong\r\n";
    let end = format!("{refused}{refused}421 4.7.0 Too many failed authentications\r\n[close]\r\n");
    assert!(talk.said.ends_with(&end), "{}", talk.said);
    talk.feed(format!("AUTH PLAIN {PLAIN}\r\n").as_bytes());
    assert!(talk.said.ends_with(&end));
}

#[test]
fn the_tenth_bad_command_and_the_hundred_and_first_useless_one_end_the_session() {
    const UNKNOWN: Step<'_> = ("TURN", "500 5.5.1 The command is unknown");
    let mut steps = vec![HELLO];
    steps.extend([UNKNOWN; 9]);
    steps.extend([("Host: x", "421 4.7.0 Too many bad commands\n[close]"), ("MAIL FROM:<>", "")]);
    check(open, &steps);

    let mut steps = vec![("NOOP", "250 2.0.0 Ok"); 100];
    steps.extend([("NOOP", "421 4.7.0 Too many commands without a message\n[close]"), ("NOOP", "")]);
    check(open, &steps);

    // A message begins the count again.
    let mut steps = vec![HELLO];
    for _ in 0..2 {
        steps.extend([("NOOP", "250 2.0.0 Ok"); 90]);
        steps.extend([UNKNOWN; 5]);
        steps.extend([MAIL, RCPT, DATA, SENT]);
    }
    check(open, &steps);
}

#[test]
fn a_request_of_http_ends_the_session_before_its_body() {
    let ended = "500 5.5.1 This is SMTP. Closing the connection\n[close]";
    let body = "Host: 127.0.0.1:2525\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\n";
    for request in ["POST / HTTP/1.1", "get /x HTTP/1.0", "PRI * HTTP/2.0", "CONNECT x:25 HTTP/1.1"] {
        check(open, &[(request, ended), (body, "")]);
    }
}

#[test]
fn lines_of_a_message_have_998_bytes_unless_the_settings_say_more() {
    let line = format!("{}\r\n.\r\n", "x".repeat(999));
    let refused = "554 5.6.0 The message has a line that is too long: SES takes 998 bytes";
    check(open, &[HELLO, MAIL, RCPT, DATA, (&line, refused), MAIL, RCPT, DATA, SENT]);
    let sent = format!("[ann@example.com > bob@example.org: {:?}]\n250 2.0.0 Sent", format!("{}\r\n", "x".repeat(999)));
    let more = || front(|settings| settings.max_line_bytes = 10_000);
    check(more, &[HELLO, MAIL, RCPT, DATA, (&line, &sent)]);
}

#[test]
fn a_command_line_has_2046_bytes() {
    let (longest, longer) = (format!("NOOP {}", "x".repeat(2_041)), format!("NOOP {}", "x".repeat(2_042)));
    check(open, &[(&longest, "250 2.0.0 Ok"), (&longer, "500 5.5.2 The line is too long"), HELLO]);
    let mut talk = Talk::new(&open());
    talk.feed(&vec![b'x'; 64 * 1024]);
    assert_eq!(talk.session.buffered(), 0, "nothing of it is kept");
    talk.feed(b"x");
    assert!(talk.said.ends_with("421 4.7.0 The line is far too long\r\n[close]\r\n"));
}

#[test]
fn the_relays_answer_is_the_clients() {
    for (code, status, text, said, close) in [
        (250, "2.0.0", "Sent", "250 2.0.0 Sent", false),
        (451, "4.7.1", "The quota of today is used up", "451 4.7.1 The quota of today is used up", false),
        (554, "5.7.1", "Sending is stopped", "554 5.7.1 Sending is stopped", false),
        (421, "4.3.2", "Shutting down", "421 4.3.2 Shutting down", true),
        // What is not valid never reaches the client.
        (250, "2.0.0", "Sent\r\n250 Injected", "250 2.0.0 Sent??250 Injected", false),
        (550, "2.0.0", "Größe", "550 5.0.0 Gr??e", false),
        (450, "no status", "x", "450 4.0.0 x", false),
        (250, "", "x", "250 2.0.0 x", false),
        (354, "3.0.0", "x", "451 4.0.0 x", false),
        (999, "9.0.0", "x", "451 4.0.0 x", false),
    ] {
        let front = open();
        let mut out = Vec::new();
        let mut session = relay::smtp::Session::begin(&front, &mut out);
        let fed = session.feed(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n.\r\nNOOP\r\n", &mut out);
        assert!(matches!(fed.event, Some(Event::Message(_))));
        assert_eq!(session.feed(b"NOOP\r\n", &mut out).used, 0, "nothing is taken before the answer");
        out.clear();
        let reply = Reply { code, status, text: text.to_owned() };
        assert_eq!(session.answer(&reply, &mut out).is_some(), close);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{said}\r\n"));
        let (deferred, rejected) = match said.as_bytes()[0] {
            b'4' => (1, 0),
            b'5' => (0, 1),
            _ => (0, 0),
        };
        let counts = front.counts().snapshot();
        assert_eq!((counts.refused(Refused::Deferred), counts.refused(Refused::Rejected)), (deferred, rejected));
    }
}

#[test]
fn refusals_and_messages_are_counted() {
    let front = open();
    let mut talk = Talk::new(&front);
    talk.feed(b"EHLO x\r\nTURN\r\nDATA\r\nMAIL FROM:<>\r\nRCPT TO:<b>\r\nRCPT TO:<b@c.d>\r\nDATA\r\na\r\n.\r\n");
    talk.feed(b"MAIL FROM:<>\r\nRCPT TO:<b@c.d>\r\nDATA\r\na\nb\r\n.\r\n");
    let counts = front.counts().snapshot();
    assert_eq!((counts.messages, counts.bytes), (1, 3));
    let refused: Vec<_> =
        counts.refused.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name(), *count)).collect();
    assert_eq!(refused, [("syntax", 1), ("sequence", 1), ("address", 1), ("line_ends", 1)]);
}
