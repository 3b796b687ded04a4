//! The command line of `ses-relay`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use clap::{Parser, Subcommand};
use permits::HttpGate;
use terminal::{Color, ErrorKind, ErrorReport, Exit, Format, report_usage, show, show_json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;

use crate::check::check;
use crate::clients::Clients;
use crate::config::{Config, Hold, Smtp};
use crate::hold::{Clock, Holding, Millis, S3Store, new_id};
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::release::{Alerting, Releaser, Settings as ReleaseSettings, SnsAlerts};
use crate::server::{Capacity, Observed, Readiness, bind, serve, serve_status};
use crate::ses_http::HttpSes;
use crate::smtp::{Certificate, Server, SmtpCounts};
use crate::submit;

/// Relay mail to Amazon SES, and ask the gate for each.
///
/// Takes requests of the SES API, v2 and v1, and mail over SMTP, asks the gate of ses-breaker whether the mail may go now, and
/// hands it to SES with the configuration set that the gate names. Point an SDK at it with AWS_ENDPOINT_URL_SESV2 or
/// AWS_ENDPOINT_URL_SES, and a mailer at the address in the section [smtp] of the configuration.
#[derive(Debug, Parser)]
#[command(name = "ses-relay", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration (TOML); without it, all defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The URL of the gate, if the configuration names none: the output GateUrl of the stack
    #[arg(long, global = true, env = "SES_BREAKER_GATE_URL", value_name = "URL")]
    gate_url: Option<String>,
    /// The AWS Region, if the configuration names none; without it, that of the environment or the profile
    #[arg(long, global = true, value_name = "REGION")]
    region: Option<String>,
    /// The format of answers and errors
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check configuration, credentials, gate and SES; send nothing
    Check,
}

const EXAMPLES: &str = "\
Examples:
  ses-relay --config relay.toml                relay until SIGTERM or SIGINT
  ses-relay check --config relay.toml          would it work?
  AWS_ENDPOINT_URL_SESV2=http://127.0.0.1:8025 python send.py

Health, readiness and metrics are at http://127.0.0.1:8026/healthz, /readyz and /metrics. The log has one JSON object a line.

Exit codes: 0 success, also after a signal; 1 a check found a fault; 2 bad usage, an invalid configuration, or an address that \
cannot be listened on; 3 AWS could not be set up.";

/// Why the program ends before it has begun.
struct Failure {
    kind: ErrorKind,
    message: String,
    remedy: String,
}

impl Failure {
    fn new(kind: ErrorKind, message: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), remedy: remedy.into() }
    }
}

/// Runs the program.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error, &arguments),
    };
    let format = cli.format;
    match start(cli) {
        Ok(exit) => exit,
        Err(Failure { kind, message, remedy }) => ErrorReport::new(kind, &message, &remedy).print(format),
    }
}

fn start(cli: Cli) -> Result<Exit, Failure> {
    let config = read_config(cli.config.as_deref())?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(ErrorKind::Fault, format!("no runtime can be started: {error}"), ""))?;
    runtime.block_on(async move {
        let setup = Setup::new(&cli, &config).await?;
        match cli.command {
            Some(Command::Check) => {
                let report = check(&config, &setup.gate, &setup.endpoint, &setup.region, &setup.aws).await;
                let shown = match cli.format {
                    Format::Text => show(&report.text(), Color::Auto),
                    Format::Json => show_json(&report),
                };
                shown.map_err(|error| {
                    Failure::new(ErrorKind::Output, format!("the answer cannot be written: {error}"), "")
                })?;
                Ok(if report.is_good() { Exit::Done } else { Exit::No })
            }
            None => relay(&config, &setup).await,
        }
    })
}

fn read_config(path: Option<&std::path::Path>) -> Result<Config, Failure> {
    let Some(path) = path else { return Ok(Config::default()) };
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(ErrorKind::Unreadable, format!("cannot read {name}: {error}"), ""))?;
    Config::parse(&text).map_err(|fault| {
        let message = format!("{name} is not a valid configuration: {}", fault.problem);
        Failure::new(ErrorKind::InvalidConfig, message, fault.remedy)
    })
}

/// What the environment adds to the configuration.
struct Setup {
    aws: SdkConfig,
    region: String,
    gate: String,
    endpoint: String,
}

impl Setup {
    async fn new(cli: &Cli, config: &Config) -> Result<Setup, Failure> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = config.region.clone().or_else(|| cli.region.clone()) {
            loader = loader.region(Region::new(region));
        }
        let aws = loader.load().await;
        let region = aws.region().map(ToString::to_string).ok_or_else(|| {
            let remedy = "Set `region` in the configuration, --region, or AWS_REGION.";
            Failure::new(ErrorKind::NoRegion, "no AWS Region is configured", remedy)
        })?;
        let gate = config.gate.clone().or_else(|| cli.gate_url.clone()).ok_or_else(|| {
            let remedy = "Set `gate` in the configuration, --gate-url, or SES_BREAKER_GATE_URL to the output GateUrl of the stack.";
            Failure::new(ErrorKind::Usage, "the URL of the gate is not configured", remedy)
        })?;
        let endpoint = config.ses.endpoint.clone().unwrap_or_else(|| {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://email.{region}.{domain}")
        });
        Ok(Setup { aws, region, gate, endpoint })
    }
}

/// What the port for status shows.
struct OfRelay {
    metrics: Arc<Metrics>,
    clients: Clients,
    submitted: Option<Arc<SmtpCounts>>,
}

impl Observed for OfRelay {
    fn metrics(&self) -> String {
        let (counts, senders) = self.clients.counts();
        self.metrics.text(&counts, senders, self.submitted.as_ref().map(|counts| counts.snapshot()).as_ref())
    }
}

/// How often clients that no mail needs are looked for.
const TIDYING: Duration = Duration::from_secs(60);
/// How long leases may take to be given back at the end.
const CLOSING: Duration = Duration::from_secs(20);

async fn relay(config: &Config, setup: &Setup) -> Result<Exit, Failure> {
    let prepared = config.smtp.as_ref().map(|smtp| submit::prepare(config, smtp).map(|prepared| (smtp, prepared)));
    let prepared =
        prepared.transpose().map_err(|fault| Failure::new(ErrorKind::InvalidConfig, fault.to_string(), ""))?;
    let gate = HttpGate::new(&setup.gate, &setup.aws)
        .map_err(|error| Failure::new(ErrorKind::Usage, error.to_string(), ""))?;
    let timeout = Duration::from_secs(config.ses.timeout_secs);
    let ses = HttpSes::new(&setup.endpoint, &setup.region, &setup.aws, timeout)
        .map_err(|error| Failure::new(ErrorKind::Refused, error.to_string(), ""))?;
    let clients = Clients::new(gate, config.limits.senders);
    let metrics = Arc::new(Metrics::default());
    let held = config.hold.as_ref().map(|hold| (hold, holding(hold, &setup.aws, &metrics)));
    let relay = Relay::new(
        config.rules(),
        Arc::new(clients.clone()),
        Arc::new(ses),
        Arc::clone(&metrics),
        config.submission_limit(),
        held.as_ref().map(|(_, holding)| holding.clone()),
    );
    let releaser = match held {
        Some((hold, holding)) => Some(releaser(hold, holding, &relay, timeout, &setup.aws)?),
        None => None,
    };

    let cannot_listen =
        |address, error| Failure::new(ErrorKind::CannotListen, format!("cannot listen on {address}: {error}"), "");
    let listener = bind(config.listen).await.map_err(|error| cannot_listen(config.listen, error))?;
    let status = config.status.listen;
    let status_listener = bind(status).await.map_err(|error| cannot_listen(status, error))?;
    let submission = match prepared {
        Some((smtp, prepared)) => {
            let listener = bind(smtp.listen).await.map_err(|error| cannot_listen(smtp.listen, error))?;
            let address = listener.local_addr().map_or(smtp.listen, |bound| bound);
            let server = Server::new(listener, prepared.settings)
                .map_err(|error| Failure::new(ErrorKind::InvalidConfig, error.to_string(), ""))?;
            Some(Submission { smtp, address, server, certificate: prepared.certificate })
        }
        None => None,
    };
    let fault = |error| Failure::new(ErrorKind::Fault, format!("signals cannot be received: {error}"), "");
    let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(fault)?;

    log();
    let address = listener.local_addr().map_or(config.listen, |bound| bound);
    let status = status_listener.local_addr().map_or(status, |bound| bound);
    let smtp = submission.as_ref().map(|submission| submission.address);
    let smtp = smtp.map(tracing::field::display);
    let hold = config.hold.as_ref().map(|hold| hold.bucket.as_str());
    tracing::info!(%address, smtp, hold, %status, gate = %setup.gate, ses = %setup.endpoint, "relaying");
    if !config.listen.ip().is_loopback() {
        tracing::warn!(%address, "every program that can connect to this address can send mail in your name: callers are not checked");
    }
    let (stop, stopped) = watch::channel(false);
    let (status_stop, status_stopped) = watch::channel(false);
    let ready = Arc::new(Readiness::default());
    ready.set(true);
    let submitted = submission.as_ref().map(|submission| submission.server.counts());
    let observed = Arc::new(OfRelay { metrics, clients: clients.clone(), submitted });
    let status_task = tokio::spawn(serve_status(status_listener, observed, Arc::clone(&ready), status_stopped));
    let capacity = Capacity {
        connections: config.limits.connections,
        in_flight_mib: config.limits.in_flight_mib,
        read_timeout: config.read_timeout(),
    };
    let drain = Duration::from_secs(config.drain_secs);
    let renewing = submission.as_ref().and_then(|submission| Some((submission.smtp, submission.certificate.clone()?)));
    let (accept, until_stop) = (Arc::new(relay.clone()), until(stopped.clone()));
    let releasing_until = stopped.clone();
    let server = submission.map(|submission| submission.server);
    let mut serving = tokio::spawn(serve(listener, relay, capacity, stopped, drain));
    let mut submitting = tokio::spawn(async move {
        match server {
            Some(server) => server.run(accept, until_stop).await.unanswered,
            None => {
                until_stop.await;
                0
            }
        }
    });
    let mut releasing = tokio::spawn(release(releaser.clone(), releasing_until));
    let mut tidying = tokio::time::interval(TIDYING);
    loop {
        tokio::select! {
            _ = tidying.tick() => clients.close_idle(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => renew(renewing.as_ref()),
            ended = &mut serving => {
                return Err(Failure::new(ErrorKind::Fault, format!("the listener ended: {ended:?}"), ""));
            }
            ended = &mut submitting => {
                return Err(Failure::new(ErrorKind::Fault, format!("the SMTP listener ended: {ended:?}"), ""));
            }
            ended = &mut releasing => {
                return Err(Failure::new(ErrorKind::Fault, format!("the release of held mail ended: {ended:?}"), ""));
            }
        }
    }
    tracing::info!("stopping: no new mail");
    ready.set(false);
    stop.send_replace(true);
    if let Some((_, releaser)) = &releaser {
        releaser.stop();
    }
    let (connections, messages, released) = tokio::join!(serving, submitting, tokio::time::timeout(drain, releasing));
    if released.is_err() {
        tracing::warn!("held mail is still being sent at the end: what is under way may go twice");
    }
    let connections = connections.ok().and_then(Result::ok).unwrap_or_default();
    let messages = messages.unwrap_or_default();
    if connections > 0 || messages > 0 {
        tracing::warn!(
            connections,
            messages,
            "requests or messages are still under way at the end: what became of their mail is not known"
        );
    }
    match tokio::time::timeout(CLOSING, clients.close()).await {
        Ok(counts) => tracing::info!(given_back = counts.given_back, lost = counts.lost, "stopped"),
        Err(_) => tracing::warn!("stopped before all leases were given back: they cost quota until they end"),
    }
    status_stop.send_replace(true);
    let _ = status_task.await;
    Ok(Exit::Done)
}

/// The store of mail that may not go now.
fn holding(hold: &Hold, aws: &SdkConfig, metrics: &Arc<Metrics>) -> Holding {
    let time = aws.time_source().unwrap_or_default();
    let clock: Clock = Arc::new(move || {
        let since = time.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    });
    let store = Arc::new(S3Store::new(aws, &hold.bucket, &hold.prefix, hold.endpoint.as_deref()));
    Holding { store, clock, ids: Arc::new(new_id), metrics: Arc::clone(metrics) }
}

/// Mails of one line that are under way at the same time.
const ABREAST: usize = 8;

fn releaser(
    hold: &Hold,
    holding: Holding,
    relay: &Relay,
    ses_timeout: Duration,
    aws: &SdkConfig,
) -> Result<(Duration, Arc<Releaser>), Failure> {
    let alerting = hold.alert_topic.as_ref().map(|topic| Arc::new(SnsAlerts::new(aws, topic)) as Arc<dyn Alerting>);
    let owner = new_id().ok_or_else(|| Failure::new(ErrorKind::Fault, "the system has no random numbers", ""))?;
    let settings = ReleaseSettings { age: hold.age(), workers: hold.workers, abreast: ABREAST, ses_timeout, owner };
    let every = Duration::from_secs(hold.scan_secs);
    Ok((every, Arc::new(Releaser::new(relay.clone(), holding, alerting, settings))))
}

/// Sends held mail until it is time to stop, and finishes what is under way then.
async fn release(releaser: Option<(Duration, Arc<Releaser>)>, stop: watch::Receiver<bool>) {
    let Some((every, releaser)) = releaser else { return until(stop).await };
    while !*stop.borrow() {
        if !releaser.scan().await {
            // Done when either is: the time is over, or the relay stops.
            let _ = tokio::time::timeout(every, until(stop.clone())).await;
        }
    }
}

/// The SMTP listener before it serves.
struct Submission<'a> {
    smtp: &'a Smtp,
    address: SocketAddr,
    server: Server,
    certificate: Option<Arc<Certificate>>,
}

/// Done when it is time to stop.
async fn until(mut stop: watch::Receiver<bool>) {
    // An error means that the program ends.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Reads the certificate of the SMTP listener again.
fn renew(renewing: Option<&(&Smtp, Arc<Certificate>)>) {
    let Some((smtp, certificate)) = renewing else { return };
    match submit::renew(smtp, certificate) {
        Ok(()) => tracing::info!("the certificate was read again"),
        Err(fault) => tracing::error!(%fault, "the certificate stays as it was"),
    }
}

/// Logs from now on: one JSON object a line. What the AWS SDK logs below `info` has requests in it, and stays out.
fn log() {
    let ours = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_span_list(false);
    // Only the first subscriber of a process counts.
    let _ = ours.with_max_level(LevelFilter::INFO).try_init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_options_may_stand_anywhere() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["ses-relay", "check", "--config", "a.toml", "--format", "json"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Check)) && cli.format == Format::Json);
        assert_eq!(cli.config.unwrap().to_str(), Some("a.toml"));
        assert!(Cli::try_parse_from(["ses-relay", "--config", "a.toml"]).unwrap().command.is_none());
        assert!(Cli::try_parse_from(["ses-relay", "chekc"]).is_err());
    }
}
