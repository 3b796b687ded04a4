//! The command line: parses the arguments of `replay`, runs the command, and writes the answer to its stream with its exit
//! code.
//!
//! The answer goes to standard output, in text or JSON; rejected lines, progress and errors go to standard error.
//! Start at [`run`].

mod arguments;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{CommandFactory as _, Parser as _};
use flate2::{Compression, GzBuilder};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;
use reputation::warmup::Plan;
use serde::Serialize;
use tempfile::NamedTempFile;
use terminal::manual::{self, PagesError};
use terminal::progress::Painter;
use terminal::{
    Color, Exit, Format, TermStyle, complain, counted, quoted, report_usage, sanitize, show, show_json, suggest,
    term_style, thousands,
};

use crate::driver::{self, Extras, Options, RejectedLine, Replay, TraceRequest};
use crate::explain;
use crate::failure::{Failure, with_causes};
use crate::generate::{Scenario, Truth, generate};
use crate::input::{Progress, Source, Sources};
use crate::order::Disorder;
use crate::page;
use crate::plot;
use crate::policy_file::{self, Checked};
use crate::report::Report;
use crate::schedule::Schedules;
use crate::simulate::{self, Setup, Summary, simulate};
use crate::summary;
use crate::text::{self, Call};
use crate::view::View;
use arguments::{
    CheckArgs, Cli, Command, ExplainArgs, GenerateArgs, ManArgs, PlanArgs, Reading, ReplayArgs, ScenarioName,
    SimulateArgs,
};

/// The number of rejected lines that are listed; the others are only counted.
const MAX_REJECTIONS: u64 = 20;

/// The number of skipped files that are listed.
const MAX_SKIPPED: usize = 20;

/// Runs `arguments`, of which the first is the program's name. `real_now`: milliseconds since 1970.
pub fn run(arguments: impl IntoIterator<Item = OsString>, real_now: i64) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        // Help and version are errors of the parser, too.
        Err(answer) => return report_usage(&answer, &arguments),
    };
    let format = cli.format();
    let outcome = match (cli.command, cli.replay) {
        (Some(Command::Check(args)), _) => check(&args),
        (Some(Command::Explain(args)), _) => explain(&args, real_now),
        (Some(Command::Plan(args)), _) => plan(&args),
        (Some(Command::Simulate(args)), _) => simulated(&args),
        (Some(Command::Generate(args)), _) => generate_stream(&args),
        (Some(Command::Completions(args)), _) => {
            print(&manual::completions(args.shell, Cli::command()).script, Color::Never).map(|()| Exit::Done)
        }
        (Some(Command::Man(args)), _) => write_pages(&args),
        (None, args) => replay(&args, real_now),
    };
    outcome.unwrap_or_else(|failure| if failure.is_gone() { Exit::Done } else { failure.report().print(format) })
}

fn write_pages(args: &ManArgs) -> Result<Exit, Failure> {
    let written = manual::pages(&args.folder, Cli::command())
        .map_err(|PagesError { path, source }| unwritable(&path.display(), source))?;
    let paths: String = written.pages.iter().map(|path| sanitize(path) + "\n").collect();
    print(&paths, Color::Never).map(|()| Exit::Done)
}

fn policy_text(path: &Path) -> Result<String, Failure> {
    let what = || format!("the policy {}", path.display());
    fs::read_to_string(path).map_err(|source| Failure::Unreadable { what: what(), source })
}

fn policy(path: Option<&Path>) -> Result<Policy, Failure> {
    let Some(path) = path else { return Ok(Policy::default()) };
    Ok(policy_file::parsed(&path.display().to_string(), &policy_text(path)?)?)
}

/// The policy, with a gate if `gate` is set, whatever the policy says.
fn with_gate(policy: Policy, gate: bool) -> Policy {
    Policy { gate_in_use: policy.gate_in_use || gate, ..policy }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn options(reading: &Reading, real_now: i64) -> Result<Options, Failure> {
    Ok(Options {
        policy: with_gate(policy(reading.policy.as_deref())?, reading.gate),
        real_now,
        since: None,
        until: None,
        stop_at: None,
        workers: reading.workers.map_or_else(cores, usize::from),
        max_subjects: reading.max_subjects as usize,
    })
}

/// Replays with a progress bar, and lists the rejected lines. Returns the replay, and why reading ended early, if it did.
fn read(options: &Options, extras: Extras, sources: &[Source], quiet: bool) -> (Replay, Option<Failure>) {
    let progress = Progress::new();
    let total = sources.iter().map(Source::size).sum();
    let painter = Painter::of_reading(quiet, total);
    let mut named = 0;
    let mut reject = |rejected: &RejectedLine| {
        if named < MAX_REJECTIONS {
            let RejectedLine { source, line, reason } = rejected;
            painter.above(|| complain(&format!("{source}:{line}: {reason}")));
        }
        named += 1;
    };
    let (replay, outcome) = painter.during(
        |bar| {
            // A file may grow while it is read.
            total.iter().for_each(|total| bar.set_length(progress.bytes_read().max(*total)));
            bar.set_position(progress.bytes_read());
            bar.set_message(format!("{} documents", thousands(progress.documents())));
        },
        || driver::replay_while_readable(options, extras, sources, &mut reject, &progress),
    );
    let rejected: u64 = replay.tallies.rejected.values().sum();
    if rejected > MAX_REJECTIONS.min(named) {
        let more = rejected - MAX_REJECTIONS.min(named);
        complain(&format!("… and {}", counted(more, "more rejected line")));
    }
    let skipped = Sources::skipped(sources);
    for damage in skipped.iter().take(MAX_SKIPPED) {
        complain(&format!("warning: skipped {}: {}", damage.source, damage.what));
    }
    if skipped.len() > MAX_SKIPPED {
        let more = (skipped.len() - MAX_SKIPPED) as u64;
        complain(&format!("… and {}", counted(more, "more skipped file")));
    }
    (replay, outcome.err().map(Failure::from))
}

fn replay(args: &ReplayArgs, real_now: i64) -> Result<Exit, Failure> {
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since.at >= until.at
    {
        return Err(Failure::NoTime { since: since.at.to_string(), until: until.at.to_string() });
    }
    let options = Options {
        since: args.since.map(|since| since.at.0),
        until: args.until.map(|until| until.at.0),
        ..options(&args.reading, real_now)?
    };
    // The gate's grants need a gate.
    let options = Options { policy: with_gate(options.policy, args.quota), ..options };
    let sources = Sources::expand(&args.input)?;
    // A page that cannot be written fails before the long work.
    let mut page = args.report.as_deref().map(|path| Page::create(path, &sources)).transpose()?;
    let plans = page.is_some() && !options.policy.warmup.sets.is_empty();
    let extras = Extras {
        quota: args.quota || plans,
        course: page.is_some(),
        diagnoses: page.is_some(),
        kept: args.subject.clone(),
        ..Extras::default()
    };
    let (replay, broken_off) = read(&options, extras, &sources, args.reading.quiet);
    if let Some(subject) = &args.subject
        && !is_known(&replay, subject)
    {
        warn_of(broken_off.as_ref());
        return Err(unknown(&replay, subject, "in the input"));
    }
    let mut report = Report::of(&replay, args.subject.as_ref());
    report.input.broken_off = broken_off.as_ref().map(|failure| with_causes(failure));
    text::warnings(&report).iter().for_each(|warning| complain(warning));
    if let Some(page) = page.take() {
        let policy = args.reading.policy.as_deref().map(|path| path.display().to_string());
        page.write(&page::whole(&View::of(&replay, &report, &args.input, policy.as_deref())))?;
        if let Some(path) = args.report.as_deref().filter(|_| !args.reading.quiet) {
            complain(&format!("report written to {}", path.display()));
        }
    }
    if !args.quota {
        (report.quota, report.quota_left_out) = (None, None);
    }
    match args.reading.format {
        Format::Text if args.summary => print(&text::summary(&report, term_style()), args.reading.color)?,
        Format::Json if args.summary => print_json(&summary::Summary::of(&report))?,
        Format::Text => {
            let term = TermStyle { everything: args.subject.is_some(), ..term_style() };
            let gate = args.reading.gate || args.quota;
            let call = Call { input: &args.input, policy: args.reading.policy.as_deref(), gate };
            print(&text::report(&report, &replay.policy, call, term), args.reading.color)?;
        }
        Format::Json => print_json(&report)?,
    }
    if let Some(error) = broken_off {
        return Err(error);
    }
    if let Some(disorder) = replay.disorder() {
        return Err(out_of_order(&disorder, &sources));
    }
    if report.input.recorded == 0 && report.input.outside > 0 {
        return Err(Failure::NothingThen { events: report.input.outside });
    }
    if report.input.events == 0 && report.input.ignored == 0 {
        return Err(Failure::NoEvents { lines: report.input.lines });
    }
    Ok(if args.fail_on_trip && report.tripped() { Exit::No } else { Exit::Done })
}

/// Writes an answer in text to standard output.
fn print(text: &str, color: Color) -> Result<(), Failure> {
    show(text, color).map_err(Failure::Output)
}

/// Writes an answer in JSON to standard output.
fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    show_json(document).map_err(Failure::Output)
}

/// Says that reading ended early, where another failure is reported.
fn warn_of(broken_off: Option<&Failure>) {
    broken_off.iter().for_each(|failure| complain(&format!("warning: {}", with_causes(*failure))));
}

/// A page to write.
struct Page {
    path: PathBuf,
    file: NamedTempFile,
}

impl Page {
    /// Checks that it can be written, without touching an existing file.
    fn create(path: &Path, sources: &[Source]) -> Result<Page, Failure> {
        // A link stays a link; only regular files are replaced.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let refused = |source| Page::refused(path, source);
        if path.exists() && !path.is_file() {
            return Err(refused(io::Error::other("it exists and is not a regular file")));
        }
        let is_it = |source: &&Source| fs::canonicalize(source.name()).is_ok_and(|name| name == *path);
        if let Some(source) = sources.iter().find(is_it) {
            return Err(refused(io::Error::other(format!("{} is an input file", source.name()))));
        }
        let mut builder = tempfile::Builder::new();
        // With the permissions of any new file, as the user's mask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        // The path of the temporary file would only confuse.
        let file = builder.tempfile_in(folder).map_err(|error| refused(io::Error::from(error.kind())))?;
        Ok(Page { path: path.to_owned(), file })
    }

    /// Moves the complete page to its place.
    fn write(mut self, page: &str) -> Result<(), Failure> {
        self.file.write_all(page.as_bytes()).map_err(|source| Page::refused(&self.path, source))?;
        self.file.persist(&self.path).map(drop).map_err(|error| Page::refused(&self.path, error.error))
    }

    fn refused(path: &Path, source: io::Error) -> Failure {
        let what = format!("the report {}", path.display());
        Failure::Unwritable { what, remedy: "Check that its folder exists and is writable.", source }
    }
}

fn is_known(replay: &Replay, subject: &Subject) -> bool {
    *subject == Subject::Account || replay.reputation.subject_states().any(|(known, _)| known == subject)
}

fn unknown(replay: &Replay, subject: &Subject, place: &str) -> Failure {
    let known: Vec<String> = replay.reputation.subject_states().map(|(known, _)| known.to_string()).collect();
    let nearest = owned(suggest(&subject.to_string(), known.iter().map(String::as_str)));
    Failure::UnknownSubject { subject: subject.to_string(), place: place.to_owned(), nearest }
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let text = policy_text(&args.policy)?;
    let checked = Checked::of(&args.policy.display().to_string(), policy_file::validated(&text));
    match args.format {
        Format::Text => print(&text::checked(&checked, term_style()), args.color)?,
        Format::Json => print_json(&checked)?,
    }
    Ok(if checked.valid { Exit::Done } else { Exit::No })
}

/// The plan of a configuration set that the policy names, or `[warmup.plan]`.
fn plan_of<'a>(policy: &'a Policy, set: Option<&str>) -> Result<&'a Plan, Failure> {
    let Some(set) = set else { return Ok(&policy.warmup.plan) };
    policy.warmup.sets.get(set).ok_or_else(|| {
        let nearest = owned(suggest(set, policy.warmup.sets.keys().map(String::as_str)));
        Failure::UnknownSet { set: set.to_owned(), nearest }
    })
}

fn plan(args: &PlanArgs) -> Result<Exit, Failure> {
    let policy = policy(Some(&args.policy))?;
    let set = args.set.as_deref();
    plan_of(&policy, set)?;
    let schedules = Schedules::of(&policy, set);
    match args.format {
        Format::Json => print_json(&schedules)?,
        Format::Text => {
            let plans = schedules.sets.iter().map(|known| plan_of(&policy, known.configuration_set.as_deref()));
            let plans = plans.collect::<Result<Vec<&Plan>, Failure>>()?;
            print(&text::schedules(&schedules, &plans, term_style()), args.color)?;
        }
    }
    Ok(Exit::Done)
}

fn simulated(args: &SimulateArgs) -> Result<Exit, Failure> {
    // The simulation includes planner, breaker and gate.
    let policy = with_gate(policy(args.policy.as_deref())?, true);
    let mut scenarios: Vec<simulate::Scenario> = Vec::new();
    for name in &args.scenario {
        let scenario = match name {
            ScenarioName::Kind => simulate::Scenario::Kind,
            ScenarioName::Harsh => simulate::Scenario::Harsh,
            ScenarioName::Business => simulate::Scenario::Business,
        };
        if !scenarios.contains(&scenario) {
            scenarios.push(scenario);
        }
    }
    if scenarios.is_empty() {
        scenarios = simulate::Scenario::ALL.into();
    }
    let setup = Setup {
        plan: plan_of(&policy, args.set.as_deref())?.clone(),
        policy,
        scenarios,
        model: args.model.into(),
        ips: u32::from(args.ips),
        demand: args.sender.into(),
        asking: simulate::Asking { again: !args.no_retries, schedule: args.schedule },
        seed: args.seed,
        seeds: args.seeds,
        days: args.days,
        workers: args.workers.map_or_else(cores, usize::from).max(1),
    };
    let progress = simulate::Progress::default();
    let whole = setup.scenarios.len() as u64 * u64::from(setup.seeds);
    let painter = Painter::of_runs(args.quiet);
    let update = |bar: &indicatif::ProgressBar| {
        bar.set_length(whole);
        bar.set_position(progress.done());
    };
    let runs = painter.during(update, || simulate(&setup, &progress))?;
    let summary = Summary::of(&setup, &runs);
    if let Some(path) = &args.plot {
        fs::write(path, plot::svg(&summary)?).map_err(|source| unwritable(&path.display(), source))?;
    }
    match args.format {
        Format::Text => print(&text::simulation(&summary, term_style()), args.color)?,
        Format::Json => print_json(&summary)?,
    }
    Ok(Exit::Done)
}

fn explain(args: &ExplainArgs, real_now: i64) -> Result<Exit, Failure> {
    let until = Now(args.at.end.0 - 1);
    let options = Options { stop_at: Some(until), ..options(&args.reading, real_now)? };
    let isps = &options.policy.isp_map;
    let isp = match &args.isp {
        // ISP names are in lower case.
        Some(name) => Some(isps.by_name(&name.to_ascii_lowercase()).ok_or_else(|| {
            let nearest = suggest(&name.to_ascii_lowercase(), isps.isps().map(|isp| isps.name(isp)));
            Failure::UnknownIsp { isp: name.clone(), nearest: owned(nearest) }
        })?),
        None => None,
    };
    let key = Key { subject: args.subject.clone(), isp };
    let sources = Sources::expand(&args.input)?;
    let trace_request = TraceRequest { key: key.clone(), from: args.at.at, until };
    let (replay, broken_off) = read(
        &options,
        Extras { trace_request: Some(trace_request), diagnoses: true, ..Extras::default() },
        &sources,
        args.reading.quiet,
    );
    if !is_known(&replay, &key.subject) {
        warn_of(broken_off.as_ref());
        return Err(unknown(&replay, &key.subject, &format!("until {until}")));
    }
    let explained = explain::explain(&replay, &key, args.metric, args.at.at);
    match args.reading.format {
        Format::Text => print(&text::explanation(&explained, term_style()), args.reading.color)?,
        Format::Json => print_json(&explained)?,
    }
    if let Some(error) = broken_off {
        return Err(error);
    }
    replay.disorder().map_or(Ok(Exit::Done), |disorder| Err(out_of_order(&disorder, &sources)))
}

/// Why the result for input that is not sorted by time is unreliable, and what to do.
fn out_of_order(disorder: &Disorder, sources: &[Source]) -> Failure {
    let Disorder { late, mails, worst, sources: number } = disorder;
    let name = |index: usize| sources.get(index).map_or("an unknown file", Source::name);
    let named: Vec<String> =
        worst.iter().map(|(index, late)| format!("{} ({})", name(*index), thousands(*late))).collect();
    let more = match number - worst.len() {
        0 => String::new(),
        more => format!(" and {}", counted(more as u64, "more file")),
    };
    let file = worst.first().and_then(|(index, _)| sources.get(*index)).filter(|source| source.is_a_file());
    let file = file.map_or("events.json", Source::name);
    let unpack = if file.ends_with(".gz") {
        "zcat"
    } else if file.ends_with(".zst") {
        "zstdcat"
    } else {
        "cat"
    };
    // Never the input file: the shell would empty it first.
    let sorted = quoted(&format!("{}-in-order.json", file.trim_end_matches(".json")));
    let file = quoted(file);
    Failure::OutOfOrder {
        late: *late,
        mails: *mails,
        files: format!("{}{more}", named.join(", ")),
        sort: format!(
            "{unpack} {file} | jq -sc 'sort_by([.. | objects | .timestamp? // empty | tostring] | max)[]' > {sorted}"
        ),
    }
}

/// The failure for a file that cannot be written.
fn unwritable(what: &dyn std::fmt::Display, source: io::Error) -> Failure {
    Failure::Unwritable { what: what.to_string(), remedy: "", source }
}

fn generate_stream(args: &GenerateArgs) -> Result<Exit, Failure> {
    let Some(name) = args.scenario.as_deref().filter(|_| !args.list) else {
        let known = Scenario::builtin_names().filter_map(Scenario::builtin);
        let about: Vec<(String, String)> = known.map(|scenario| (scenario.name, scenario.about)).collect();
        print(&text::scenarios(&about, term_style()), Color::Never)?;
        return Ok(Exit::Done);
    };
    let mut scenario = scenario(name)?;
    if let Some(minutes) = args.minutes {
        scenario = scenario.with_minutes(minutes);
    }
    if let Some(scale) = args.scale {
        scenario = scenario.scaled(scale);
    }
    scenario.check()?;
    let truth = write_stream(&scenario, args)?;
    if let Some(path) = &args.truth {
        let text = serde_json::to_string_pretty(&truth).map_err(|error| Failure::Output(error.into()))? + "\n";
        fs::write(path, text).map_err(|source| unwritable(&path.display(), source))?;
    }
    if !args.quiet {
        let (lines, units) = (thousands(truth.lines), thousands(truth.recorded));
        let name = &scenario.name;
        complain(&format!("{name}, seed {}: {lines} lines with {units} units to {}", args.seed, args.out));
    }
    Ok(Exit::Done)
}

fn scenario(name: &str) -> Result<Scenario, Failure> {
    if let Some(scenario) = Scenario::builtin(name) {
        return Ok(scenario);
    }
    let text = match fs::read_to_string(name) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let nearest = owned(suggest(name, Scenario::builtin_names()));
            return Err(Failure::UnknownScenario { scenario: name.to_owned(), nearest });
        }
        Err(source) => return Err(Failure::Unreadable { what: name.to_owned(), source }),
    };
    Scenario::from_toml(&text).map_err(|error| Failure::invalid_scenario(name, &text, &error))
}

fn write_stream(scenario: &Scenario, args: &GenerateArgs) -> Result<Truth, Failure> {
    let written = AtomicU64::new(0);
    let painter = Painter::of_writing(args.quiet || args.out == "-");
    let update = |bar: &indicatif::ProgressBar| bar.set_position(written.load(Ordering::Relaxed));
    let failed = |source| unwritable(&args.out, source);
    painter.during(update, || {
        if args.out == "-" {
            let mut out = Counted { inner: BufWriter::new(io::stdout().lock()), written: &written };
            let truth = generate(scenario, args.seed, &mut out).map_err(Failure::Output)?;
            out.inner.flush().map_err(Failure::Output)?;
            return Ok(truth);
        }
        let file = BufWriter::new(File::create(&args.out).map_err(failed)?);
        if !args.out.ends_with(".gz") {
            let mut out = Counted { inner: file, written: &written };
            let truth = generate(scenario, args.seed, &mut out).map_err(failed)?;
            out.inner.flush().map_err(failed)?;
            return Ok(truth);
        }
        // Without file name and time, so that the same stream gives the same file.
        let gz = GzBuilder::new().mtime(0).operating_system(255).write(file, Compression::default());
        let mut out = Counted { inner: gz, written: &written };
        let truth = generate(scenario, args.seed, &mut out).map_err(failed)?;
        out.inner.finish().and_then(|mut file| file.flush()).map_err(failed)?;
        Ok(truth)
    })
}

/// Counts the bytes that are written.
struct Counted<'a, W> {
    inner: W,
    written: &'a AtomicU64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
