//! Command lines: one line without its CRLF becomes one [`Command`], or the reason why not.
//!
//! The parser of the crate `smtp-proto` is not used: it ends a command at a bare LF, ignores what follows DATA and QUIT,
//! and lets characters pass in addresses that RFC 5321 does not have. All of that is convenient for a receiving server,
//! and what smuggling needs.

use super::address::{self, BadPath};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Ehlo,
    Helo,
    Mail(Mail<'a>),
    Rcpt(Rcpt<'a>),
    Data,
    Bdat { bytes: u64, last: bool },
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    StartTls,
    Auth { mechanism: &'a str, response: Option<&'a str> },
}

/// MAIL FROM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail<'a> {
    /// Not checked yet: whether it may have characters outside ASCII is said behind it. Empty for the null sender.
    pub(crate) from: &'a str,
    pub(crate) size: Option<u64>,
    pub(crate) smtputf8: bool,
    /// Whether a parameter was given that only an extension has.
    pub(crate) extended: bool,
}

/// RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rcpt<'a> {
    /// Not checked yet.
    pub(crate) to: &'a str,
}

/// Why a line is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadCommand {
    Unknown,
    /// A request of HTTP: what follows is not from a client of SMTP.
    Http,
    /// Control characters, or bytes that are not UTF-8.
    Characters,
    /// How it should be written.
    Usage(&'static str),
    /// The path in MAIL.
    Sender(BadPath),
    /// The path in RCPT.
    Recipient(BadPath),
    /// A parameter that was not announced.
    Parameter,
    /// BODY=BINARYMIME: SES does not take it.
    Binary,
    /// BDAT without a number of bytes: where its data ends is not known.
    Chunk,
}

impl<'a> Command<'a> {
    /// Parses a line without its CRLF.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, BadCommand> {
        let line = std::str::from_utf8(line).map_err(|_| BadCommand::Characters)?;
        if line.chars().any(|character| character.is_control()) {
            return Err(BadCommand::Characters);
        }
        // RFC 5321, section 4.1.1: blanks at the end are tolerated.
        let line = line.trim_end_matches(' ');
        let (verb, argument) = line.split_once(' ').map_or((line, None), |(verb, rest)| (verb, Some(rest)));
        let bare = |command, usage| if argument.is_none() { Ok(command) } else { Err(BadCommand::Usage(usage)) };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => client(argument, Self::Ehlo, "Write EHLO domain"),
            "HELO" => client(argument, Self::Helo, "Write HELO domain"),
            "MAIL" => parse_mail(argument).map(Self::Mail),
            "RCPT" => parse_rcpt(argument).map(Self::Rcpt),
            "DATA" => bare(Self::Data, "Write DATA"),
            "BDAT" => parse_bdat(argument),
            "RSET" => bare(Self::Rset, "Write RSET"),
            "NOOP" => Ok(Self::Noop),
            "VRFY" => Ok(Self::Vrfy),
            "EXPN" => Ok(Self::Expn),
            "HELP" => Ok(Self::Help),
            "QUIT" => bare(Self::Quit, "Write QUIT"),
            "STARTTLS" => bare(Self::StartTls, "Write STARTTLS"),
            "AUTH" => parse_auth(argument),
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "CONNECT" | "TRACE" | "PRI" => {
                Err(BadCommand::Http)
            }
            _ => Err(BadCommand::Unknown),
        }
    }
}

fn client<'a>(argument: Option<&str>, command: Command<'a>, usage: &'static str) -> Result<Command<'a>, BadCommand> {
    let named =
        argument.is_some_and(|name| (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()));
    if named { Ok(command) } else { Err(BadCommand::Usage(usage)) }
}

/// What follows `FROM:` or `TO:`, in any case and without a blank: RFC 5321, section 3.3.
fn after<'a>(argument: Option<&'a str>, keyword: &str) -> Option<&'a str> {
    let (head, rest) = argument?.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then_some(rest)
}

fn parse_mail(argument: Option<&str>) -> Result<Mail<'_>, BadCommand> {
    const USAGE: BadCommand = BadCommand::Usage("Write MAIL FROM:<address> [SIZE=bytes] [BODY=8BITMIME]");
    let (from, rest) = address::split_path(after(argument, "FROM:").ok_or(USAGE)?).map_err(BadCommand::Sender)?;
    let mut mail = Mail { from, ..Mail::default() };
    let mut seen = Vec::new();
    for (key, value) in parameters(rest, USAGE)? {
        let key = key.to_ascii_uppercase();
        if seen.contains(&key) {
            return Err(USAGE);
        }
        match (key.as_str(), value) {
            ("SIZE", Some(value)) if (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit()) => {
                mail.size = Some(value.parse().unwrap_or(u64::MAX));
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME") => {}
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("BINARYMIME") => return Err(BadCommand::Binary),
            ("SMTPUTF8", None) => mail.smtputf8 = true,
            // Who first submitted the mail. Nothing uses it, as RFC 4954, section 5 allows.
            ("AUTH", Some(value)) if is_xtext(value) => {}
            ("SIZE" | "BODY" | "SMTPUTF8" | "AUTH", _) => return Err(USAGE),
            _ => return Err(BadCommand::Parameter),
        }
        mail.extended = true;
        seen.push(key);
    }
    Ok(mail)
}

fn parse_rcpt(argument: Option<&str>) -> Result<Rcpt<'_>, BadCommand> {
    const USAGE: BadCommand = BadCommand::Usage("Write RCPT TO:<address>");
    let (to, rest) = address::split_path(after(argument, "TO:").ok_or(USAGE)?).map_err(BadCommand::Recipient)?;
    if parameters(rest, USAGE)?.is_empty() { Ok(Rcpt { to }) } else { Err(BadCommand::Parameter) }
}

/// `KEY` and `KEY=VALUE`, each after one blank. At most as many as a line has room for.
fn parameters(rest: &str, usage: BadCommand) -> Result<Vec<(&str, Option<&str>)>, BadCommand> {
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    rest.strip_prefix(' ')
        .ok_or(usage)?
        .split(' ')
        .map(|parameter| {
            let (key, value) = parameter.split_once('=').map_or((parameter, None), |(key, value)| (key, Some(value)));
            let key_fits = key.starts_with(|c: char| c.is_ascii_alphanumeric())
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            let value_fits =
                value.is_none_or(|value| !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'='));
            if key_fits && value_fits { Ok((key, value)) } else { Err(usage) }
        })
        .collect()
}

/// Text of RFC 3461, section 4: `+` is followed by two hexadecimal digits.
fn is_xtext(value: &str) -> bool {
    value
        .split('+')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)))
}

fn parse_bdat<'a>(argument: Option<&str>) -> Result<Command<'a>, BadCommand> {
    let argument = argument.ok_or(BadCommand::Chunk)?;
    let (bytes, last) = argument.split_once(' ').map_or((argument, None), |(bytes, last)| (bytes, Some(last)));
    let last = match last {
        None => false,
        Some(last) if last.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(BadCommand::Chunk),
    };
    if bytes.is_empty() || !bytes.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadCommand::Chunk);
    }
    Ok(Command::Bdat { bytes: bytes.parse().map_err(|_| BadCommand::Chunk)?, last })
}

fn parse_auth(argument: Option<&str>) -> Result<Command<'_>, BadCommand> {
    let usage = BadCommand::Usage("Write AUTH mechanism [initial-response]");
    let argument = argument.ok_or(usage)?;
    let (mechanism, response) =
        argument.split_once(' ').map_or((argument, None), |(mechanism, response)| (mechanism, Some(response)));
    let graphic = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if graphic(mechanism) && response.is_none_or(graphic) {
        // RFC 4954, section 4: `=` is an empty response.
        let response = response.map(|response| if response == "=" { "" } else { response });
        Ok(Command::Auth { mechanism, response })
    } else {
        Err(usage)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_are_commands() {
        let mail = |from| Mail { from, ..Mail::default() };
        for (line, expected) in [
            ("EHLO client.example", Command::Ehlo),
            ("ehlo [192.0.2.1]", Command::Ehlo),
            ("HELO x", Command::Helo),
            ("MAIL FROM:<a@b.c>", Command::Mail(mail("a@b.c"))),
            ("mail from:<>", Command::Mail(mail(""))),
            (
                "MAIL FROM:<a@b.c> SIZE=100 BODY=8BITMIME SMTPUTF8 AUTH=<>",
                Command::Mail(Mail { from: "a@b.c", size: Some(100), smtputf8: true, extended: true }),
            ),
            (
                "MAIL FROM:<a@b.c> size=99999999999999999999 body=7bit auth=a+2Bb@c.d",
                Command::Mail(Mail { from: "a@b.c", size: Some(u64::MAX), smtputf8: false, extended: true }),
            ),
            ("RCPT TO:<a@b.c>", Command::Rcpt(Rcpt { to: "a@b.c" })),
            ("rcpt to:<\"a b\"@c.d>  ", Command::Rcpt(Rcpt { to: "\"a b\"@c.d" })),
            ("DATA", Command::Data),
            ("DATA ", Command::Data),
            ("BDAT 0", Command::Bdat { bytes: 0, last: false }),
            ("bdat 86 last", Command::Bdat { bytes: 86, last: true }),
            ("RSET", Command::Rset),
            ("NOOP anything", Command::Noop),
            ("VRFY ann", Command::Vrfy),
            ("EXPN list", Command::Expn),
            ("HELP MAIL", Command::Help),
            ("QUIT", Command::Quit),
            ("STARTTLS", Command::StartTls),
            ("AUTH PLAIN", Command::Auth { mechanism: "PLAIN", response: None }),
            ("AUTH PLAIN =", Command::Auth { mechanism: "PLAIN", response: Some("") }),
            ("AUTH LOGIN YW5u", Command::Auth { mechanism: "LOGIN", response: Some("YW5u") }),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn lines_that_are_not() {
        let usage_of = |line: &str| match Command::parse(line.as_bytes()) {
            Err(BadCommand::Usage(_)) => BadCommand::Usage(""),
            Err(other) => other,
            Ok(command) => panic!("{line} is {command:?}"),
        };
        for (line, expected) in [
            ("", BadCommand::Unknown),
            (" NOOP", BadCommand::Unknown),
            ("GET / HTTP/1.1", BadCommand::Http),
            ("post /", BadCommand::Http),
            ("MAILFROM:<a@b.c>", BadCommand::Unknown),
            ("NOOP\u{7}", BadCommand::Characters),
            ("MAIL FROM:<a@b.c>\nRCPT TO:<d@e.f>", BadCommand::Characters),
            ("EHLO", BadCommand::Usage("")),
            ("EHLO two words", BadCommand::Usage("")),
            ("MAIL", BadCommand::Usage("")),
            ("MAIL  FROM:<a@b.c>", BadCommand::Usage("")),
            ("MAIL FROM <a@b.c>", BadCommand::Usage("")),
            ("MAIL FROM: <a@b.c>", BadCommand::Sender(BadPath::Syntax)),
            ("MAIL FROM:a@b.c", BadCommand::Sender(BadPath::Syntax)),
            ("MAIL FROM:<a@b.c>SIZE=1", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c>  SIZE=1", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c> SIZE=", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c> SIZE=-1", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c> SIZE=1 SIZE=2", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c> BODY=9BIT", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c> AUTH=a+zz", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c> SMTPUTF8=1", BadCommand::Usage("")),
            ("MAIL FROM:<a@b.c> BODY=BINARYMIME", BadCommand::Binary),
            ("MAIL FROM:<a@b.c> RET=FULL", BadCommand::Parameter),
            ("RCPT TO:<a@b.c> NOTIFY=NEVER", BadCommand::Parameter),
            ("RCPT TO:a@b.c", BadCommand::Recipient(BadPath::Syntax)),
            ("DATA now", BadCommand::Usage("")),
            ("QUIT now", BadCommand::Usage("")),
            ("STARTTLS now", BadCommand::Usage("")),
            ("BDAT", BadCommand::Chunk),
            ("BDAT x", BadCommand::Chunk),
            ("BDAT +1", BadCommand::Chunk),
            ("BDAT -1", BadCommand::Chunk),
            ("BDAT 1 2", BadCommand::Chunk),
            ("BDAT 1  LAST", BadCommand::Chunk),
            ("BDAT 99999999999999999999", BadCommand::Chunk),
            ("AUTH", BadCommand::Usage("")),
            ("AUTH PLAIN a b", BadCommand::Usage("")),
        ] {
            assert_eq!(usage_of(line), expected, "{line}");
        }
        assert_eq!(Command::parse(b"NOOP \xff"), Err(BadCommand::Characters));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..100), verb in "(MAIL FROM:<|RCPT TO:<|BDAT |AUTH )?") {
            let _ = Command::parse(&[verb.as_bytes(), &line].concat());
        }
    }
}
