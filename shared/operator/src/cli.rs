//! The command line: parses the arguments of `ses-breaker`, runs the verb, and writes the answer to its stream with its exit
//! code.
//!
//! The answer goes to standard output, in text or JSON; progress and errors go to standard error. Output and errors are
//! handled as in `replay`, by the same code.

mod arguments;
mod interrupt;
mod isps;

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use reputation::subject::Subject;
use reputation::time::Now;

use crate::access::{Access, Route};
use crate::advise::{self, PricesFile};
use crate::backtest::{self, Order, PolicyFile, Recording};
use crate::command::{self, Asking, CommandRequest, Confirmed, OperatorCommand};
use crate::connect::{self, Progress};
use crate::dashboard::Dashboard;
use crate::failure::Failure;
use crate::history::{self, Stretch};
use crate::watch::{self, frame};
use crate::{Answer, Exit, digest, disconnect, doctor, drill, explain, manual, policies, quota, status};
use arguments::{
    AdviseArgs, BacktestArgs, Cli, DashboardArgs, DisconnectArgs, DrillArgs, Global, IspsVerb, PolicyVerb, ReleaseArgs,
    SpokenArgs, StatusArgs, StopArgs, Target, Targets, Verb,
};
use isps::Shown;
use terminal::{Color, Format, TermStyle, complain, progress::Painter, show, term_style, visible};

/// Runs `arguments`, of which the first is the program's name, as of one moment.
pub fn run(arguments: impl IntoIterator<Item = OsString>, now: Now) -> Exit {
    run_by(arguments, &(Arc::new(move || now) as Clock))
}

/// Returns the current time.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// As [`run`], with a clock for verbs that go on.
pub fn run_by(arguments: impl IntoIterator<Item = OsString>, clock: &Clock) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are errors of the parser, too.
            let _ = answer.print();
            return if answer.exit_code() == 0 { Exit::Done } else { Exit::Usage };
        }
    };
    let (format, color) = (cli.global.format, cli.global.color);
    let outcome = if let Verb::Status(StatusArgs { watch: Some(seconds), subject }) = &cli.verb {
        watched(&cli.global, subject.as_ref(), *seconds, &**clock)
    } else if let Verb::Dashboard(args) = &cli.verb {
        dashboard(&cli.global, args, clock)
    } else if let Verb::Isps { verb: IspsVerb::Propose(args) } = &cli.verb {
        isps::propose(&cli.global, args, clock())
            .and_then(|answer| print_answer(&answer, format, color).map(|()| answer.exit))
    } else {
        blocking(cli, clock()).and_then(|answer| print_answer(&answer, format, color).map(|()| answer.exit))
    };
    match outcome {
        Ok(exit) => exit,
        Err(failure) => {
            let cause = std::error::Error::source(&failure).map(|cause| format!(": {cause}")).unwrap_or_default();
            // The SDK prints lists over several lines; other control characters are escaped later.
            let error = format!("error: {failure}{cause}");
            complain(&error.split_whitespace().collect::<Vec<_>>().join(" "));
            let remedy = failure.remedy();
            if !remedy.is_empty() {
                complain(&remedy);
            }
            failure.exit()
        }
    }
}

/// Runs `arguments`, of which the first is the program's name, in the account of `access`. Their options for stack, profile,
/// Region and endpoint are ignored.
///
/// # Errors
///
/// As the verb's own, or the arguments cannot be parsed.
pub async fn answered(
    access: &Access,
    arguments: impl IntoIterator<Item = OsString>,
    now: Now,
    term: TermStyle,
) -> Result<Answer, Failure> {
    let cli = Cli::try_parse_from(arguments).map_err(|error| Failure::Usage(error.to_string()))?;
    let pushed = pushed(&cli.verb)?;
    answer_with(access, cli.verb, &pushed, now, term, &Asking::NOBODY).await
}

fn print_answer(answer: &Answer, format: Format, color: Color) -> Result<(), Failure> {
    let written = match format {
        Format::Text => show(&answer.text, color),
        // JSON has no styles.
        Format::Json => show(&answer.json, Color::Never),
    };
    match written {
        // The reader has closed the pipe, so the work is done.
        Err(error) if is_gone(&error) => Ok(()),
        written => written.map_err(|error| Failure::Output(error.to_string())),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// Draws the status repeatedly, until it is interrupted or the reader is gone.
fn watched(global: &Global, subject: Option<&Subject>, seconds: u64, clock: &dyn Fn() -> Now) -> Result<Exit, Failure> {
    let out = std::io::stdout();
    if global.format == Format::Json || !out.is_terminal() {
        return Err(Failure::NoTerminal);
    }
    let plain = match global.color {
        Color::Auto => anstream::AutoStream::choice(&out) == anstream::ColorChoice::Never,
        Color::Always => false,
        Color::Never => true,
    };
    let mut gone = false;
    let mut cleared = false;
    let mut draw = |picture: &str| {
        // Unwanted styles are stripped from the picture, but not from the sequences that draw it.
        let picture = if plain { visible(picture) } else { picture.to_owned() };
        let height = terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0));
        let clear = if std::mem::replace(&mut cleared, true) { "" } else { "\u{1b}[2J" };
        let mut out = out.lock();
        let drawn = out.write_all(format!("{clear}{}", frame(&picture, height)).as_bytes()).and_then(|()| out.flush());
        drawn.map_err(|error| {
            gone = is_gone(&error);
            Failure::Output(error.to_string())
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Output(error.to_string()))?;
    let ended = runtime.block_on(async {
        let access = Access::load(&global.stack, &route(global)).await?;
        let ask = async |now| status::status(&access, subject, now, term_style()).await;
        watch::watch(Duration::from_secs(seconds), clock, ask, &mut draw).await
    });
    match ended {
        Err(_) if gone => Ok(Exit::Done),
        Err(failure) => Err(failure),
    }
}

/// Serves the dashboard until it is interrupted.
fn dashboard(global: &Global, args: &DashboardArgs, clock: &Clock) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Output(error.to_string()))?;
    runtime.block_on(async {
        let dashboard = Dashboard::bind(args.port).await?;
        let access = Access::load(&global.stack, &route(global)).await?;
        // Fails here rather than on an empty page.
        access.policy().await?;
        let (url, stack, region) = (dashboard.url(), &access.stack, &access.region);
        let json = serde_json::json!({ "url": url, "stack": stack, "region": region });
        let text = format!(
            "Dashboard of {stack} in {region}: {url}\nAnyone with this address has your permissions. Ctrl-C ends it.\n"
        );
        let answer = Answer { text, json: format!("{json}\n"), exit: Exit::Done };
        print_answer(&answer, global.format, global.color)?;
        let clock = Arc::clone(clock);
        dashboard.serve(access, move || clock()).await
    })?;
    Ok(Exit::Done)
}

fn route(global: &Global) -> Route {
    Route { profile: global.profile.clone(), region: global.region.clone(), endpoint_url: global.endpoint_url.clone() }
}

/// Runs a verb on this thread, with a progress bar if it takes long.
fn blocking(cli: Cli, now: Now) -> Result<Answer, Failure> {
    let painter = Painter::of_steps(cli.global.quiet);
    let confirm = |question: &str| {
        if !std::io::stdin().is_terminal() {
            return Confirmed::Nobody;
        }
        let mut yes = false;
        painter.above(|| yes = isps::asked(question));
        if yes { Confirmed::Yes } else { Confirmed::No }
    };
    with_steps(&painter, |runtime, progress| {
        runtime.block_on(answer(cli, now, term_style(), &Asking { progress, confirm: &confirm }))
    })
}

/// Does `work` and shows the steps that it reports in a progress bar.
fn with_steps<T>(
    painter: &Painter,
    work: impl FnOnce(&tokio::runtime::Runtime, Progress<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Output(error.to_string()))?;
    let step = Mutex::new((0, 0, String::new()));
    let progress = |done: usize, all: usize, what: &str| {
        if let Ok(mut step) = step.lock() {
            *step = (done, all, what.to_owned());
        }
    };
    painter.during(
        |bar| {
            if let Ok(step) = step.lock() {
                let (done, all, what) = &*step;
                bar.set_message(if *all == 0 { what.clone() } else { format!("{what}, {} of {all}", done + 1) });
            }
        },
        || work(&runtime, &progress),
    )
}

async fn answer(cli: Cli, now: Now, term: TermStyle, asking: &Asking<'_>) -> Result<Answer, Failure> {
    let Cli { global, verb } = cli;
    let progress = asking.progress;
    // Verbs without AWS ask for no credentials.
    if let Verb::Policy { verb: verb @ (PolicyVerb::Check { .. } | PolicyVerb::Show { default: true, .. }) } = &verb {
        return match verb {
            PolicyVerb::Check { file } => Ok(policies::check(&file.display().to_string(), &read(file)?, term)),
            PolicyVerb::Show { .. } | PolicyVerb::Push { .. } => Ok(policies::show_default()),
        };
    }
    if let Verb::Completions(args) = &verb {
        return Ok(manual::completions(args.shell, Cli::command()));
    }
    if let Verb::Man(args) = &verb {
        return manual::pages(&args.folder, Cli::command());
    }
    // An unreadable file fails before credentials are loaded.
    if let Verb::Backtest(args) = &verb {
        let order = order(args)?;
        progress(0, 0, "asking AWS");
        let access = Access::load(&global.stack, &route(&global)).await?;
        return backtest::backtest(&access, &order, now, term, progress).await;
    }
    if let Verb::Advise(args) = &verb {
        let prices = prices(args)?;
        progress(0, 0, "asking AWS");
        let access = Access::load(&global.stack, &route(&global)).await?;
        return advise::advise(&access, prices.as_ref(), now, term).await;
    }
    let pushed = pushed(&verb)?;
    progress(0, 0, "asking AWS");
    let access = Access::load(&global.stack, &route(&global)).await?;
    answer_with(&access, verb, &pushed, now, term, asking).await
}

/// The text of the policy to push.
fn pushed(verb: &Verb) -> Result<String, Failure> {
    match verb {
        Verb::Policy { verb: PolicyVerb::Push { file, .. } } => read(file),
        Verb::Policy { .. }
        | Verb::Connect(_)
        | Verb::Disconnect(_)
        | Verb::Status(_)
        | Verb::Stop(_)
        | Verb::Resume(_)
        | Verb::Bypass(_)
        | Verb::Shadow(_)
        | Verb::Release(_)
        | Verb::Explain(_)
        | Verb::History(_)
        | Verb::Quota(_)
        | Verb::Dashboard(_)
        | Verb::Digest
        | Verb::Doctor(_)
        | Verb::Drill(_)
        | Verb::Backtest(_)
        | Verb::Advise(_)
        | Verb::Isps { .. }
        | Verb::Completions(_)
        | Verb::Man(_) => Ok(String::new()),
    }
}

/// `pushed`: the text of the policy to push.
async fn answer_with(
    access: &Access,
    verb: Verb,
    pushed: &str,
    now: Now,
    term: TermStyle,
    asking: &Asking<'_>,
) -> Result<Answer, Failure> {
    let progress = asking.progress;
    match verb {
        Verb::Connect(args) => {
            let order = connect::Order {
                sets: args.configuration_sets,
                all: args.all,
                engagement: args.engagement,
                dry_run: args.dry_run,
            };
            connect::connect(access, &order, term, progress).await
        }
        Verb::Disconnect(DisconnectArgs { configuration_sets, all, dry_run, waiting }) => {
            let order = disconnect::Order { sets: configuration_sets, all, dry_run, wait: waiting.limit() };
            disconnect::disconnect(access, &order, now, term, asking).await
        }
        Verb::Status(args) => status::status(access, args.subject.as_ref(), now, term).await,
        Verb::Explain(args) => {
            let Target { subject, isp } = args.target;
            explain::explain(access, subject, isp.as_deref(), args.at, now, term).await
        }
        Verb::History(args) => {
            let Target { subject, isp } = args.target;
            let stretch = Stretch { isp: isp.as_deref(), since: args.since, most: args.most };
            history::history(access, subject, stretch, now, term).await
        }
        Verb::Quota(args) => quota::quotas(access, args.configuration_set.as_deref(), now, term).await,
        // `run_by` handles it, because it does not end with an answer.
        Verb::Dashboard(_) => Ok(Answer { text: String::new(), json: String::new(), exit: Exit::Done }),
        // Without a terminal, the answer to the question is no.
        Verb::Isps { verb: IspsVerb::Propose(args) } => {
            isps::answer(Some(access), &args, now, term, &Shown { progress, ask: &|_| false }).await
        }
        Verb::Digest => digest::digest(access, now).await,
        Verb::Doctor(_) => doctor::doctor(access, now, term, progress).await,
        Verb::Drill(DrillArgs { from, wait, yes }) => {
            let order = drill::Order { from, wait: Duration::from_secs(wait) };
            let confirm = if yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            drill::drill(access, &order, now, term, &Asking { confirm, ..*asking }, interrupt::interrupted()).await
        }
        Verb::Backtest(args) => backtest::backtest(access, &order(&args)?, now, term, progress).await,
        Verb::Advise(args) => advise::advise(access, prices(&args)?.as_ref(), now, term).await,
        Verb::Completions(args) => Ok(manual::completions(args.shell, Cli::command())),
        Verb::Man(args) => manual::pages(&args.folder, Cli::command()),
        Verb::Stop(StopArgs { targets, waiting, yes, reason, force }) => {
            let confirm = if yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let request = CommandRequest { command: OperatorCommand::Stop, reason, force, wait: waiting.limit() };
            give_command(access, &targets, &request, now, term, &Asking { confirm, ..*asking }).await
        }
        Verb::Bypass(args) => command_with_reason(access, OperatorCommand::Bypass, args, now, term, asking).await,
        Verb::Shadow(args) => command_with_reason(access, OperatorCommand::Shadow, args, now, term, asking).await,
        Verb::Resume(args) => {
            let command = if args.bypass { OperatorCommand::Bypass } else { OperatorCommand::Resume };
            command_with_reason(access, command, args.spoken, now, term, asking).await
        }
        Verb::Release(ReleaseArgs { targets, waiting, reason }) => {
            let request =
                CommandRequest { command: OperatorCommand::Release, reason, force: false, wait: waiting.limit() };
            give_command(access, &targets, &request, now, term, asking).await
        }
        Verb::Policy { verb: PolicyVerb::Show { version, default: false } } => policies::show(access, version).await,
        Verb::Policy { verb: PolicyVerb::Show { default: true, .. } } => Ok(policies::show_default()),
        Verb::Policy { verb: PolicyVerb::Check { file } } => {
            Ok(policies::check(&file.display().to_string(), &read(&file)?, term))
        }
        Verb::Policy { verb: PolicyVerb::Push { file, dry_run, yes } } => {
            let confirm = if yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let asking = Asking { confirm, ..*asking };
            policies::push(access, &file.display().to_string(), pushed, dry_run, now, term, &asking).await
        }
    }
}

async fn command_with_reason(
    access: &Access,
    command: OperatorCommand,
    args: SpokenArgs,
    now: Now,
    term: TermStyle,
    asking: &Asking<'_>,
) -> Result<Answer, Failure> {
    let SpokenArgs { targets, waiting, reason, force } = args;
    give_command(access, &targets, &CommandRequest { command, reason, force, wait: waiting.limit() }, now, term, asking)
        .await
}

async fn give_command(
    access: &Access,
    targets: &Targets,
    request: &CommandRequest,
    now: Now,
    term: TermStyle,
    asking: &Asking<'_>,
) -> Result<Answer, Failure> {
    command::give(access, &targets.subjects, targets.isp.as_deref(), request, now, term, asking).await
}

fn prices(args: &AdviseArgs) -> Result<Option<PricesFile>, Failure> {
    let read = |path: &PathBuf| -> Result<PricesFile, Failure> {
        Ok(PricesFile { file: path.display().to_string(), toml: read(path)? })
    };
    args.prices.as_ref().map(read).transpose()
}

fn order(args: &BacktestArgs) -> Result<Order, Failure> {
    let policy = |path: &PathBuf| -> Result<PolicyFile, Failure> {
        Ok(PolicyFile { file: path.display().to_string(), toml: read(path)? })
    };
    Ok(Order {
        policy: policy(&args.policy)?,
        against: args.against.as_ref().map(policy).transpose()?,
        gate: args.gate,
        recording: args.objects.clone().map_or(Recording::Ledger, Recording::Objects),
        since: args.since,
        until: args.until,
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::Unreadable { path: path.to_owned(), source })
}
