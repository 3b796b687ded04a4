//! Sends a test mail to each recipient through SES, and asks the gate before each.
//!
//! ```text
//! send --gate URL --configuration-set news --from news@example.com --to recipients.txt [--class critical] [--dry-run]
//! ```
//!
//! Recipients are read one per line, addresses or bare domains; `-` is standard input, empty lines and lines that begin
//! with `#` are skipped. Region, credentials and endpoints are those of the AWS SDK, including `AWS_ENDPOINT_URL`. Exit
//! codes: 0 all mails were sent or have to wait, 1 some failed, 2 nothing could be started.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_config::BehaviorVersion;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::error::{DisplayErrorContext, SdkError};
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message};
use clap::{Parser, ValueEnum};
use permits::{Class, Permit, Permits};
use tokio::task::JoinSet;

/// Sends a test mail to each recipient through SES, and asks the gate of ses-breaker before each.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// The Function URL of the gate: output GateUrl of the stack.
    #[arg(long, value_name = "URL")]
    gate: String,
    /// The configuration set to ask for.
    #[arg(long, value_name = "NAME")]
    configuration_set: String,
    /// The sender; its domain is the identity.
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// Recipients, one address or domain per line; - for standard input.
    #[arg(long, value_name = "FILE")]
    to: String,
    /// The mailbox to send to where a line is a domain. Without it, domains work only with --dry-run.
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,
    /// How urgent they are.
    #[arg(long, value_enum, default_value = "bulk")]
    class: Urgency,
    /// How long a mail waits for its permit.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Mails that are on their way at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// Ask, give everything back, send nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Urgency {
    Bulk,
    Critical,
}

/// The outcome for one mail.
enum Outcome {
    /// By this route; `isp` is not known if the gate could not be asked.
    Sent {
        isp: String,
        route: String,
    },
    /// It is unknown whether SES has it.
    Unclear {
        isp: String,
        route: String,
        why: String,
    },
    Failed {
        isp: String,
        route: String,
        why: String,
    },
    Waits {
        isp: String,
        limit: String,
        why: String,
        after: Duration,
    },
    /// No permit, and no reason to wait for one.
    Refused {
        why: String,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether nothing failed.
async fn run(args: Args) -> anyhow::Result<bool> {
    let identity = args.from.trim_end_matches('>').rsplit_once('@').map(|(_, domain)| domain.to_owned());
    let identity = identity.with_context(|| format!("--from `{}` is not an address", args.from))?;
    let recipients = recipients(&args)?;

    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let ses = Client::new(&aws);
    let permits = Permits::builder(&args.configuration_set, identity).connect(&args.gate, &aws)?;

    let message = message()?;
    let mut outcomes = Vec::new();
    let mut under_way = JoinSet::new();
    let mut rest = recipients.into_iter();
    loop {
        while under_way.len() < usize::from(args.at_once)
            && let Some(recipient) = rest.next()
        {
            let (permits, ses, args, message) = (permits.clone(), ses.clone(), args.clone(), message.clone());
            under_way.spawn(async move { send(&permits, &ses, &args, message, &recipient).await });
        }
        match under_way.join_next().await {
            Some(outcome) => outcomes.push(outcome?),
            None => break,
        }
    }
    // Even after an error: what was not used can be used by others.
    let counts = permits.close().await;

    let (table, well) = summary(&outcomes, args.dry_run);
    let mut out = io::stdout().lock();
    write!(out, "{table}")?;
    writeln!(
        out,
        "leases: {} mails granted, {} given back, {} lost; {} calls to the gate, {} attempts failed",
        counts.granted, counts.given_back, counts.lost, counts.calls, counts.failed_calls
    )?;
    Ok(well)
}

/// Waits for a permit, and sends one mail.
async fn send(permits: &Permits, ses: &Client, args: &Args, message: Message, recipient: &str) -> Outcome {
    let class = match args.class {
        Urgency::Bulk => Class::Bulk,
        Urgency::Critical => Class::Critical,
    };
    let grant = match permits.wait_for(recipient, class, Duration::from_secs(args.patience)).await {
        Ok(Permit::Send(grant) | Permit::Overflow(grant)) => grant,
        Ok(Permit::Wait(wait)) => {
            let isp = wait.isp.as_deref().unwrap_or("?").to_owned();
            let (limit, why) = (wait.limit.to_string(), wait.reason.to_string());
            return Outcome::Waits { isp, limit, why, after: wait.retry_after };
        }
        Err(error) => return Outcome::Refused { why: error.to_string() },
    };
    let (isp, route) = (grant.isp().unwrap_or("?").to_owned(), grant.route().to_owned());
    if args.dry_run {
        grant.unused();
        return Outcome::Sent { isp, route };
    }
    let address = match (&args.mailbox, recipient.contains('@')) {
        (Some(mailbox), false) => format!("{mailbox}@{recipient}"),
        (Some(_) | None, _) => recipient.to_owned(),
    };
    let sent = ses
        .send_email()
        .from_email_address(&args.from)
        .destination(Destination::builder().to_addresses(address).build())
        .content(EmailContent::builder().simple(message).build())
        .configuration_set_name(grant.route())
        .send()
        .await;
    let Err(error) = sent else { return Outcome::Sent { isp, route } };
    let why = DisplayErrorContext(&error).to_string();
    if refused(&error) {
        // SES does not have it: another mail may go instead.
        grant.unused();
        return Outcome::Failed { isp, route, why };
    }
    // SES may have it: the permit counts as used.
    Outcome::Unclear { isp, route, why }
}

/// Whether SES certainly did not accept a mail: it was never sent, or SES reports what is wrong with it.
fn refused<E>(error: &SdkError<E>) -> bool {
    let said_no = error.raw_response().is_some_and(|response| response.status().is_client_error());
    matches!(error, SdkError::ConstructionFailure(_)) || said_no
}

fn message() -> anyhow::Result<Message> {
    let text = |text: &str| Content::builder().data(text).charset("UTF-8").build();
    let body = Body::builder().text(text("Sent with a permit of ses-breaker.")?).build();
    Ok(Message::builder().subject(text("A test mail")?).body(body).build())
}

fn recipients(args: &Args) -> anyhow::Result<Vec<String>> {
    let reader: Box<dyn BufRead> = match args.to.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).with_context(|| format!("--to {path} cannot be opened"))?)),
    };
    let mut recipients = Vec::new();
    for (number, line) in (1..).zip(reader.lines()) {
        let line = line.with_context(|| format!("line {number} of --to {} cannot be read", args.to))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.contains('@') && args.mailbox.is_none() && !args.dry_run {
            bail!(
                "line {number} of --to {} is a domain; name a --mailbox to send to there, or make a --dry-run",
                args.to
            );
        }
        recipients.push(line.to_owned());
    }
    Ok(recipients)
}

/// What happened as a table, and whether nothing failed.
fn summary(outcomes: &[Outcome], dry_run: bool) -> (String, bool) {
    let mut rows: BTreeMap<(&str, &str), [u64; 4]> = BTreeMap::new();
    let mut notes: BTreeMap<String, u64> = BTreeMap::new();
    let mut well = true;
    for outcome in outcomes {
        let (isp, route, column, note) = match outcome {
            Outcome::Sent { isp, route } => (isp.as_str(), route.as_str(), 0, None),
            Outcome::Unclear { isp, route, why } => (isp.as_str(), route.as_str(), 1, Some(why.clone())),
            Outcome::Failed { isp, route, why } => (isp.as_str(), route.as_str(), 2, Some(why.clone())),
            Outcome::Waits { isp, limit, why, after } => {
                let note = format!("{isp}: wait {} s ({limit}: {why})", after.as_secs_f64().ceil());
                (isp.as_str(), "-", 3, Some(note))
            }
            Outcome::Refused { why } => ("?", "-", 2, Some(why.clone())),
        };
        well &= !matches!(outcome, Outcome::Unclear { .. } | Outcome::Failed { .. } | Outcome::Refused { .. });
        rows.entry((isp, route)).or_default()[column] += 1;
        if let Some(note) = note {
            *notes.entry(note).or_default() += 1;
        }
    }
    let sent = if dry_run { "permitted" } else { "sent" };
    let mut table =
        format!("{:<16} {:<24} {sent:>9} {:>8} {:>8} {:>8}\n", "isp", "route", "unclear", "failed", "waiting");
    for ((isp, route), [sent, unclear, failed, waiting]) in &rows {
        table.push_str(&format!("{isp:<16} {route:<24} {sent:>9} {unclear:>8} {failed:>8} {waiting:>8}\n"));
    }
    for (note, times) in &notes {
        table.push_str(&format!("{times} x {note}\n"));
    }
    (table, well)
}
