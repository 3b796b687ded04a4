//! The commands and options of `replay`. The comments here are the help text.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use reputation::Metric;
use reputation::subject::Subject;
use terminal::{Color, Format, TimeArg};

use crate::driver::MAX_SUBJECTS;
use crate::simulate::{Demand, Model};

/// Replay SES events and show what the breaker would have done.
///
/// Reads SES events as they were published, counts them, and shows what ses-breaker would have done about them, and why. It
/// needs no AWS account.
#[derive(Debug, Parser)]
#[command(
    name = "replay",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    max_term_width = 110,
    after_help = EXAMPLES
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) replay: ReplayArgs,
}

const EXAMPLES: &str = "\
Examples:
  replay events.ndjson.gz                      one file; .gz or .zst is seen by its first bytes
  replay firehose/2026/10/ 'more/*.json'       directories and patterns, merged by time
  zcat events.gz | replay -                    standard input
  replay events/ --policy my.toml --fail-on-trip
  replay check my.toml                         is this policy valid, and what it means
  replay explain events/ --at 2026-10-06T09:03:03 --subject configuration-set:newsletter
  replay events/ --gate                        as if your application asked the gate
  replay events/ --quota                       what the gate would have granted
  replay events/ --report report.html          the same as a page with charts
  replay events/ --summary                     only totals and the result
  replay plan my.toml                          how fast mail would be warmed up
  replay simulate --scenario harsh             what that would do, in a model of ISPs
  replay generate stale-list | replay -        try it without events of your own

States: mail is sending, slowed (a share of the quota), stopped or testing (a small share, to see whether new mail is good). In \
JSON the stable names are closed, throttled, open and probing.

Exit codes: 0 success; 1 something would have been stopped, with --fail-on-trip; 2 bad usage, an invalid policy, or input \
that cannot be read to its end or is not sorted by time. With --format json, an error is one JSON object on the last line of \
standard error. Write a file named like a subcommand as ./check.";

impl Cli {
    /// The format of answers and errors.
    pub(super) fn format(&self) -> Format {
        match &self.command {
            None => self.replay.reading.format,
            Some(Command::Check(args)) => args.format,
            Some(Command::Explain(args)) => args.reading.format,
            Some(Command::Plan(args)) => args.format,
            Some(Command::Simulate(args)) => args.format,
            Some(Command::Generate(_) | Command::Completions(_) | Command::Man(_)) => Format::Text,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Validate a policy and print what it means
    Check(CheckArgs),
    /// Show the numbers of one breaker at one time
    Explain(ExplainArgs),
    /// Show the warm-up schedule of a policy
    Plan(PlanArgs),
    /// Warm up in a model of ISPs, and compare with fixed schedules
    Simulate(SimulateArgs),
    /// Write a stream of invented events whose totals are known
    Generate(GenerateArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder
    Man(ManArgs),
}

/// Options of all commands that read events.
#[derive(Debug, Args)]
pub(super) struct Reading {
    /// Policy to judge by; keys that it leaves out keep their default [default: the built-in policy]
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    /// Judge as if your application asked the gate before it sends, so that one ISP can be stopped separately
    ///
    /// Without this option, and unless the policy says gate.in_use = true, there is no gate, as in a stack whose parameter
    /// GateInUse is not set: harm at one ISP counts against its whole configuration set.
    #[arg(long)]
    pub(super) gate: bool,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Number of decoding threads; 0 decodes on the main thread [default: one per core]
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<u8>,
    /// Keep about N subjects one by one, in about 1.3 KB of memory each or more; beyond that, sum the least active as (others)
    ///
    /// A subject is a configuration set, a sending identity, a tenant or a tag value. Configuration sets are never summed, nor
    /// is the subject of --subject. Summed subjects are not judged; one that has mail again starts over.
    #[arg(long, value_name = "N", default_value_t = MAX_SUBJECTS as u32, value_parser = clap::value_parser!(u32).range(100..))]
    pub(super) max_subjects: u32,
    /// Colours in text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(super) color: Color,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// Replay event files.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Event files, directories or quoted patterns; - is standard input
    ///
    /// One event per line or one JSON document per file, as SES published it or wrapped by SNS, EventBridge or SQS. Several
    /// files are merged by time, whatever their names; each must be sorted by time. At most 2,048 files may overlap in time;
    /// any number may follow each other.
    #[arg(value_name = "FILE|DIR|GLOB|-", required = true, value_hint = ValueHint::AnyPath)]
    pub(super) input: Vec<String>,
    /// Print only the totals and the result: what would have been stopped, when, and how much mail that is
    #[arg(long, conflicts_with = "quota")]
    pub(super) summary: bool,
    /// Exit with code 1 if something would have been stopped
    #[arg(long)]
    pub(super) fail_on_trip: bool,
    /// Only mail that SES accepted from this time on: 2026-10-06, 2026-10-06T09:00 (UTC) or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<TimeArg>,
    /// Only mail that SES accepted before this time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<TimeArg>,
    /// Report on one subject only: configuration-set:NAME, identity:DOMAIN, tenant:NAME, tag:NAME=VALUE, account
    #[arg(long, value_name = "SUBJECT")]
    pub(super) subject: Option<Subject>,
    /// Also show what the gate would have granted of this mail, by configuration set, ISP and day; implies --gate
    #[arg(long)]
    pub(super) quota: bool,
    /// Also write a page with charts, in one self-contained file
    #[arg(long, value_name = "FILE.html")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) reading: Reading,
}

/// Show the warm-up schedule of a policy: the quota of each sending day, if each day is healthy and its quota is used.
///
/// One schedule for each configuration set of [warmup.sets]; if there are none, that of [warmup.plan].
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  replay plan infra/policy.toml
  replay plan my.toml --set news --format json

Exit codes: 0 the policy is valid; 2 it is not, and why.")]
pub(super) struct PlanArgs {
    /// The policy, in TOML
    #[arg(value_name = "POLICY")]
    pub(super) policy: PathBuf,
    /// Only this configuration set of [warmup.sets]
    #[arg(long, value_name = "NAME")]
    pub(super) set: Option<String>,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Colours in text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(super) color: Color,
}

/// Warm up in a model of ISPs with planner, breaker and gate, and compare with fixed schedules of 30 and 45 days that depend on
/// time alone, and with an oracle that knows the limits of the ISPs.
///
/// The ISPs of the model tolerate a volume by the day and by the hour that grows with well-behaved mail and shrinks with abuse;
/// they defer what exceeds it, and refuse what exceeds it by far. A second model, `ladder`, works differently. Both are models:
/// real ISPs differ. The same seed gives the same answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  replay simulate                                  45 days, 20 seeds, all scenarios
  replay simulate --scenario harsh --seeds 5
  replay simulate --model ladder                   the same in the second model of ISPs
  replay simulate --sender batch-18 --no-retries   one batch a day at 18:00, asked for once
  replay simulate --policy my.toml --set news --format json
  replay simulate --plot warmup.svg

Exit codes: 0 it ran; 2 bad usage, an invalid policy, or a plot that cannot be written.")]
pub(super) struct SimulateArgs {
    /// The first seed; the others follow it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Number of seeds
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) seeds: u32,
    /// Number of days
    #[arg(long, value_name = "N", default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(super) days: u32,
    /// Kind of ISPs; may be given more than once [default: all]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) scenario: Vec<ScenarioName>,
    /// How the ISPs are modelled
    #[arg(long, value_enum, value_name = "NAME", default_value_t = ModelName::Tolerance)]
    pub(super) model: ModelName,
    /// Number of IPs of the sender; mail is divided evenly among them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(super) ips: u8,
    /// When the sender has mail, and when it asks for permits
    #[arg(long, value_enum, value_name = "NAME", default_value_t = SenderName::Smooth)]
    pub(super) sender: SenderName,
    /// Never ask again for mail that was not granted [default: ask when the gate's answer says]
    #[arg(long)]
    pub(super) no_retries: bool,
    /// Ask for a schedule, and send each part of it at its time
    #[arg(long)]
    pub(super) schedule: bool,
    /// Policy to judge and warm up by; keys that it leaves out keep their default [default: the built-in policy]
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    /// Warm up by the plan of this configuration set of [warmup.sets] [default: by [warmup.plan]]
    #[arg(long, value_name = "NAME")]
    pub(super) set: Option<String>,
    /// Write the daily volumes as an SVG chart
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Number of threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<u8>,
    /// Colours in text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(super) color: Color,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// A set of ISPs to warm up at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ScenarioName {
    /// Three consumer ISPs, all lenient
    Kind,
    /// The same, but one of them is strict
    Harsh,
    /// ISPs that receive mail for businesses
    Business,
}

/// How the ISPs are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModelName {
    /// A volume that is tolerated by the day and by the hour
    #[value(alias = "first")]
    Tolerance,
    /// A score of outcomes and steps of mails an hour: a test set. Of the defaults only the burst was chosen with it in view
    #[value(alias = "second")]
    Ladder,
}

impl From<ModelName> for Model {
    fn from(name: ModelName) -> Model {
        match name {
            ModelName::Tolerance => Model::Tolerance,
            ModelName::Ladder => Model::Ladder,
        }
    }
}

/// When a sender has mail, and when it asks for permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SenderName {
    /// The target on each day, evenly from 08:00 to 20:00; asks every five minutes
    Smooth,
    /// The same mail, asked for once an hour
    Hourly,
    /// The target on each day, all at 09:00
    #[value(name = "batch-09")]
    Batch09,
    /// The target on each day, all at 18:00
    #[value(name = "batch-18")]
    Batch18,
    /// The target at 09:00 every 7 days, and a hundredth of it on other days
    Weekly,
    /// The same every 14 days
    Fortnightly,
    /// The same every 30 days
    Monthly,
}

impl From<SenderName> for Demand {
    fn from(name: SenderName) -> Demand {
        match name {
            SenderName::Smooth => Demand::Smooth,
            SenderName::Hourly => Demand::Hourly,
            SenderName::Batch09 => Demand::Batch09,
            SenderName::Batch18 => Demand::Batch18,
            SenderName::Weekly => Demand::Weekly,
            SenderName::Fortnightly => Demand::Fortnightly,
            SenderName::Monthly => Demand::Monthly,
        }
    }
}

/// Validate a policy and print what it means: limits, evidence and the false alarms it allows, ratio limits, times, gate and
/// warm-up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  replay check infra/policy.toml
  replay check my.toml --format json | jq .problem

Exit codes: 0 it is valid; 1 it is not, and why; 2 the file cannot be read.")]
pub(super) struct CheckArgs {
    /// The policy, in TOML
    #[arg(value_name = "POLICY")]
    pub(super) policy: PathBuf,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Colours in text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(super) color: Color,
}

/// Show the numbers of one breaker at one time.
///
/// At a time from the report's timeline, shows the mail that was judged then, just before the breaker moved; at any other time,
/// the state then. A time without a fraction of a second means that whole second.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  replay explain events/ --at '2026-10-06 09:03:03' --subject configuration-set:newsletter"
)]
pub(super) struct ExplainArgs {
    /// Event files, directories or quoted patterns; - is standard input
    #[arg(value_name = "FILE|DIR|GLOB|-", required = true, value_hint = ValueHint::AnyPath)]
    pub(super) input: Vec<String>,
    /// The time, as in the report; UTC unless it has an offset
    #[arg(long, value_name = "TIME")]
    pub(super) at: TimeArg,
    /// The subject of the breaker: configuration-set:NAME, identity:DOMAIN, tenant:NAME, tag:NAME=VALUE, account
    #[arg(long, value_name = "SUBJECT")]
    pub(super) subject: Subject,
    /// At one ISP, such as gmail, in any case [default: all ISPs together]
    #[arg(long, value_name = "ISP")]
    pub(super) isp: Option<String>,
    /// Show the counters of this metric [default: the one that decided, or is nearest to deciding]
    #[arg(long, value_parser = metric(), value_name = "METRIC")]
    pub(super) metric: Option<Metric>,
    #[command(flatten)]
    pub(super) reading: Reading,
}

/// Write a stream of invented events whose totals are known. The same scenario and seed always give the same bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  replay generate                                          which scenarios are there?
  replay generate stale-list --out stale.ndjson.gz --truth stale.json
  replay generate healthy-day --scale 20 --seed 3 | replay -")]
pub(super) struct GenerateArgs {
    /// A built-in scenario, or a scenario file; if left out, the built-in ones are listed
    #[arg(value_name = "NAME|FILE.toml", value_hint = ValueHint::FilePath)]
    pub(super) scenario: Option<String>,
    /// Seed; another one gives other mail with the same rates
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(super) seed: u64,
    /// Number of minutes, instead of the scenario's
    #[arg(long, value_name = "M")]
    pub(super) minutes: Option<u32>,
    /// Multiply the mail by this factor, in the same time
    #[arg(long, value_name = "X")]
    pub(super) scale: Option<f64>,
    /// Output; compressed if the name ends in .gz
    #[arg(long, value_name = "FILE|-", default_value = "-", value_hint = ValueHint::FilePath)]
    pub(super) out: String,
    /// Also write the true totals of the stream, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) truth: Option<PathBuf>,
    /// List the built-in scenarios
    #[arg(long)]
    pub(super) list: bool,
    /// Show no progress and no summary
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// Print shell completions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  replay completions bash > ~/.local/share/bash-completion/completions/replay
  replay completions zsh > ~/.zfunc/_replay
  replay completions fish > ~/.config/fish/completions/replay.fish

Exit codes: 0 printed; 2 bad usage.")]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: terminal::manual::Shell,
}

/// Write the manual pages into a folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  replay man ~/.local/share/man/man1 && man replay-explain

Exit codes: 0 written; 2 bad usage, or a folder that cannot be written.")]
pub(super) struct ManArgs {
    /// The folder; created if it does not exist
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) folder: PathBuf,
}

/// Takes the name of a metric, as in policies and reports.
fn metric() -> impl TypedValueParser<Value = Metric> {
    let value = |metric: Metric| PossibleValue::new(metric.name()).help(metric.definition());
    PossibleValuesParser::new(Metric::ALL.map(value))
        .try_map(|name| Metric::ALL.into_iter().find(|metric| metric.name() == name).ok_or("not a metric"))
}
