//! The command line: parses the arguments of `ses-breaker`, runs the verb, and writes the answer to its stream with its exit
//! code.
//!
//! The answer goes to standard output, in text or JSON; progress and errors go to standard error. Output and errors are
//! handled as in `replay`, by the same code.

mod arguments;
mod complete;
mod interrupt;
mod isps;

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use pipeline::quotas::QuotaCommand;
use reputation::subject::Subject;
use reputation::time::Now;

use crate::access::{Access, Route};
use crate::advise::{self, PricesFile};
use crate::asking::{Asking, Confirmed, Progress, Question};
use crate::backtest::{self, Order, PolicyFile, Recording};
use crate::command::{self, CommandRequest, CommandResult, OperatorCommand};
use crate::dashboard::Dashboard;
use crate::demo::{self, Line};
use crate::failure::Failure;
use crate::history::{self, Stretch};
use crate::stack::{self, deploy, down, permissions};
use crate::watch::{self, frame};
use crate::{
    Answer, Exit, Render as _, connect, digest, disconnect, doctor, drill, explain, policies, policy_file, quota,
    status, text, up,
};
use arguments::{
    AdviseArgs, BacktestArgs, Cli, DashboardArgs, DemoArgs, DeployArgs, DisconnectArgs, DownArgs, DrillArgs, Global,
    IspsVerb, PolicyOfArgs, PolicyVerb, QuotaArgs, QuotaVerb, ReleaseArgs, SpokenArgs, StackArgs, StatusArgs, StopArgs,
    Target, Targets, UpArgs, Verb, WhichQuotas,
};
pub use complete::completed;
use isps::Shown;
use terminal::manual;
use terminal::progress::Painter;
use terminal::{Color, Format, TermStyle, complain, report_usage, show, term_style, visible};

/// Runs `arguments`, of which the first is the program's name, as of one moment.
pub fn run(arguments: impl IntoIterator<Item = OsString>, now: Now) -> Exit {
    run_by(arguments, &(Arc::new(move || now) as Clock))
}

/// Returns the current time.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// As [`run`], with a clock for verbs that go on.
pub fn run_by(arguments: impl IntoIterator<Item = OsString>, clock: &Clock) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        // Help and version are errors of the parser, too.
        Err(answer) => return report_usage(&answer, &arguments),
    };
    let (format, color) = (cli.global.format, cli.global.color);
    let outcome = if let Verb::Status(StatusArgs { watch: Some(seconds), subject }) = &cli.verb {
        watched(&cli.global, subject.as_ref(), *seconds, &**clock)
    } else if let Verb::Dashboard(args) = &cli.verb {
        dashboard(&cli.global, args, clock)
    } else if let Verb::Demo(args) = &cli.verb {
        demo(&cli.global, args, clock())
    } else if let Verb::Isps { verb: IspsVerb::Propose(args) } = &cli.verb {
        isps::propose(&cli.global, args, clock())
            .and_then(|answer| print_answer(&answer, format, color).map(|()| answer.exit))
    } else {
        blocking(cli, clock()).and_then(|answer| print_answer(&answer, format, color).map(|()| answer.exit))
    };
    outcome.unwrap_or_else(|failure| failure.report().print(format))
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
    match write_answer(answer, format, color) {
        // The reader has closed the pipe, so the work is done.
        Err(error) if is_gone(&error) => Ok(()),
        written => written.map_err(|error| Failure::Output(error.to_string())),
    }
}

fn write_answer(answer: &Answer, format: Format, color: Color) -> std::io::Result<()> {
    match format {
        Format::Text => show(&answer.text, color),
        // JSON has no styles.
        Format::Json => show(&answer.json, Color::Never),
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
        let ask = async |now| status::status(&access, subject, now).await.map(|status| status.text(term_style()));
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

/// Runs a demo until it is interrupted, its time is over, or the reader is gone.
fn demo(global: &Global, args: &DemoArgs, now: Now) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Output(error.to_string()))?;
    let DemoArgs { port, seed, speed, length } = *args;
    let order = demo::Order { port, seed, speed, length: length.map(Duration::from_secs) };
    let mut gone = false;
    let mut print = |line: Line<'_>| {
        write_answer(&line.answer(speed, term_style()), global.format, global.color).map_err(|error| {
            gone = is_gone(&error);
            Failure::Output(error.to_string())
        })
    };
    match runtime.block_on(demo::run(&order, now, interrupt::interrupted(), &mut print)) {
        Err(_) if gone => Ok(Exit::Done),
        ended => ended.map(|()| Exit::Done),
    }
}

fn route(global: &Global) -> Route {
    Route { profile: global.profile.clone(), region: global.region.clone(), endpoint_url: global.endpoint_url.clone() }
}

/// Runs a verb on this thread, with a progress bar if it takes long.
fn blocking(cli: Cli, now: Now) -> Result<Answer, Failure> {
    let painter = Painter::of_steps(cli.global.quiet);
    let confirm = |question: &Question<'_>| {
        if !std::io::stdin().is_terminal() {
            return Confirmed::Nobody;
        }
        let mut yes = false;
        painter.above(|| yes = isps::asked(&question.to_string()));
        if yes { Confirmed::Yes } else { Confirmed::No }
    };
    let quiet = cli.global.quiet;
    let line = |text: &str| {
        if !quiet {
            painter.above(|| complain(text));
        }
    };
    with_steps(&painter, |runtime, progress| {
        runtime.block_on(answer(cli, now, term_style(), &Asking { progress, line: &line, confirm: &confirm }))
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
            PolicyVerb::Check { file } => {
                Ok(Answer::of(&policy_file::check(&file.display().to_string(), &read(file)?), term))
            }
            PolicyVerb::Show { .. } | PolicyVerb::Push { .. } => Ok(Answer::of(&policies::show_default(), term)),
        };
    }
    if let Verb::Completions(args) = &verb {
        return completions(args.shell, term);
    }
    if let Verb::Man(args) = &verb {
        return text::answer(manual::pages(&args.folder, Cli::command()).map_err(Failure::from), term);
    }
    if let Verb::Deploy(DeployArgs { print_template: true, .. }) = &verb {
        let template = stack::template::packaged();
        return Ok(Answer {
            json: format!("{}\n", serde_json::json!({ "template": template })),
            text: template,
            exit: Exit::Done,
        });
    }
    if let Verb::PolicyOf(PolicyOfArgs { role, account: Some(account), bucket }) = &verb {
        let region = global.region.clone().or_else(|| std::env::var("AWS_REGION").ok());
        let Some(region) = region else { return Err(Failure::NoRegion { profile: None }) };
        let place = stack::Place::of_names(&region, account, &global.stack);
        return Ok(Answer::of(&permissions::policy_of(*role, &place, bucket.as_deref()), term));
    }
    // An unreadable file fails before credentials are loaded.
    if let Verb::Backtest(args) = &verb {
        let order = order(args)?;
        progress(0, 0, "asking AWS");
        let access = Access::load(&global.stack, &route(&global)).await?;
        return text::answer(backtest::backtest(&access, &order, now, progress).await, term);
    }
    if let Verb::Advise(args) = &verb {
        let prices = prices(args)?;
        progress(0, 0, "asking AWS");
        let access = Access::load(&global.stack, &route(&global)).await?;
        return text::answer(advise::advise(&access, prices.as_ref(), now).await, term);
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
        | Verb::Up(_)
        | Verb::Deploy(_)
        | Verb::Down(_)
        | Verb::PolicyOf(_)
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
        | Verb::Demo(_)
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
        Verb::Up(UpArgs { configuration_sets, all, act, wait, stack }) => {
            let confirm = if stack.yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let wait = Duration::from_secs(wait);
            let order = up::Order { deploy: deploy_order(stack), sets: configuration_sets, all, act, wait };
            text::answer(up::up(access, &order, now, &Asking { confirm, ..*asking }).await, term)
        }
        Verb::Deploy(DeployArgs { stack, print_template: _ }) => {
            let confirm = if stack.yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let asking = Asking { confirm, ..*asking };
            text::answer(deploy::deploy(access, &deploy_order(stack), &asking).await, term)
        }
        Verb::Down(DownArgs { purge, dry_run, yes, waiting }) => {
            let confirm = if yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let order = down::Order { purge, dry_run, wait: waiting.limit(), ..down::Order::default() };
            text::answer(down::down(access, &order, now, &Asking { confirm, ..*asking }).await, term)
        }
        Verb::PolicyOf(PolicyOfArgs { role, account: _, bucket }) => {
            let place = stack::caller(access).await?.place;
            Ok(Answer::of(&permissions::policy_of(role, &place, bucket.as_deref()), term))
        }
        Verb::Connect(args) => {
            let order = connect::Order {
                sets: args.configuration_sets,
                all: args.all,
                engagement: args.engagement,
                dry_run: args.dry_run,
            };
            text::answer(connect::connect(access, &order, progress).await, term)
        }
        Verb::Disconnect(DisconnectArgs { configuration_sets, all, dry_run, waiting }) => {
            let order = disconnect::Order { sets: configuration_sets, all, dry_run, wait: waiting.limit() };
            text::answer(disconnect::disconnect(access, &order, now, asking).await, term)
        }
        Verb::Status(args) => text::answer(status::status(access, args.subject.as_ref(), now).await, term),
        Verb::Explain(args) => {
            let Target { subject, isp } = args.target;
            text::answer(explain::explain(access, subject, isp.as_deref(), args.at, now).await, term)
        }
        Verb::History(args) => {
            let Target { subject, isp } = args.target;
            let stretch = Stretch { isp: isp.as_deref(), since: args.since, most: args.most };
            text::answer(history::history(access, subject, stretch, now).await, term)
        }
        Verb::Quota(QuotaArgs { verb: None, configuration_set }) => {
            text::answer(quota::quotas(access, configuration_set.as_deref(), now).await, term)
        }
        Verb::Quota(QuotaArgs { verb: Some(_), configuration_set: Some(set) }) => Err(Failure::Usage(format!(
            "`{set}` stands before the command; it belongs after it: ses-breaker quota set CONFIGURATION_SET MAILS"
        ))),
        Verb::Quota(QuotaArgs { verb: Some(verb), configuration_set: None }) => {
            text::answer(quota::give(access, &quota_order(verb), now).await, term)
        }
        // `run_by` handles them, because they do not end with an answer.
        Verb::Dashboard(_) | Verb::Demo(_) => Ok(Answer { text: String::new(), json: String::new(), exit: Exit::Done }),
        // Without a terminal, the answer to the question is no.
        Verb::Isps { verb: IspsVerb::Propose(args) } => {
            text::answer(isps::proposed(Some(access), &args, now, &Shown { progress, ask: &|_, _| false }).await, term)
        }
        Verb::Digest => text::answer(digest::digest(access, now).await, term),
        Verb::Doctor(_) => text::answer(doctor::doctor(access, now, progress).await, term),
        Verb::Drill(DrillArgs { from, wait, yes }) => {
            let order = drill::Order { from, wait: Duration::from_secs(wait) };
            let confirm = if yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let asking = Asking { confirm, ..*asking };
            text::answer(drill::drill(access, &order, now, &asking, interrupt::interrupted()).await, term)
        }
        Verb::Backtest(args) => text::answer(backtest::backtest(access, &order(&args)?, now, progress).await, term),
        Verb::Advise(args) => text::answer(advise::advise(access, prices(&args)?.as_ref(), now).await, term),
        Verb::Completions(args) => completions(args.shell, term),
        Verb::Man(args) => text::answer(manual::pages(&args.folder, Cli::command()).map_err(Failure::from), term),
        Verb::Stop(StopArgs { targets, waiting, yes, reason, force }) => {
            let confirm = if yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let request = CommandRequest { command: OperatorCommand::Stop, reason, force, wait: waiting.limit() };
            text::answer(give_command(access, &targets, &request, now, &Asking { confirm, ..*asking }).await, term)
        }
        Verb::Bypass(args) => {
            text::answer(command_with_reason(access, OperatorCommand::Bypass, args, now, asking).await, term)
        }
        Verb::Shadow(args) => {
            text::answer(command_with_reason(access, OperatorCommand::Shadow, args, now, asking).await, term)
        }
        Verb::Resume(args) => {
            let command = if args.bypass { OperatorCommand::Bypass } else { OperatorCommand::Resume };
            text::answer(command_with_reason(access, command, args.spoken, now, asking).await, term)
        }
        Verb::Release(ReleaseArgs { targets, waiting, reason }) => {
            let request =
                CommandRequest { command: OperatorCommand::Release, reason, force: false, wait: waiting.limit() };
            text::answer(give_command(access, &targets, &request, now, asking).await, term)
        }
        Verb::Policy { verb: PolicyVerb::Show { version, default: false } } => {
            text::answer(policies::show(access, version).await, term)
        }
        Verb::Policy { verb: PolicyVerb::Show { default: true, .. } } => {
            Ok(Answer::of(&policies::show_default(), term))
        }
        Verb::Policy { verb: PolicyVerb::Check { file } } => {
            Ok(Answer::of(&policy_file::check(&file.display().to_string(), &read(&file)?), term))
        }
        Verb::Policy { verb: PolicyVerb::Push { file, dry_run, yes } } => {
            let confirm = if yes { Asking::CONFIRMED.confirm } else { asking.confirm };
            let asking = Asking { confirm, ..*asking };
            let file = file.display().to_string();
            text::answer(policies::push(access, &file, pushed, dry_run, now, &asking).await, term)
        }
    }
}

fn quota_order(verb: QuotaVerb) -> quota::Order {
    let (configuration_set, command, WhichQuotas { isp, dry_run }) = match verb {
        QuotaVerb::Set { configuration_set, mails, which } => (configuration_set, QuotaCommand::Set(mails), which),
        QuotaVerb::Complete { configuration_set, which } => (configuration_set, QuotaCommand::Complete, which),
        QuotaVerb::Reset { configuration_set, which } => (configuration_set, QuotaCommand::Reset, which),
    };
    quota::Order { configuration_set, isp, command, dry_run }
}

fn deploy_order(args: StackArgs) -> deploy::Order {
    let StackArgs { email, mut parameters, bucket, functions, skip_permission_check, dry_run, yes: _ } = args;
    parameters.extend(email.map(|address| (stack::template::ALERT_EMAIL.to_owned(), address)));
    let check_permissions = !skip_permission_check;
    deploy::Order { functions, bucket, parameters, check_permissions, dry_run, ..deploy::Order::default() }
}

async fn command_with_reason(
    access: &Access,
    command: OperatorCommand,
    args: SpokenArgs,
    now: Now,
    asking: &Asking<'_>,
) -> Result<Vec<CommandResult>, Failure> {
    let SpokenArgs { targets, waiting, reason, force } = args;
    give_command(access, &targets, &CommandRequest { command, reason, force, wait: waiting.limit() }, now, asking).await
}

async fn give_command(
    access: &Access,
    targets: &Targets,
    request: &CommandRequest,
    now: Now,
    asking: &Asking<'_>,
) -> Result<Vec<CommandResult>, Failure> {
    command::give(access, &targets.subjects, targets.isp.as_deref(), request, now, asking).await
}

fn completions(shell: manual::Shell, term: TermStyle) -> Result<Answer, Failure> {
    let script = complete::script(shell).map_err(|error| Failure::Output(error.to_string()))?;
    Ok(Answer::of(&script, term))
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
