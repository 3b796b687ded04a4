//! The commands and options of `ses-breaker`. The comments here are the help text.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use reputation::subject::Subject;
use terminal::{Color, Format, TimeArg};

use crate::command::reason;
use crate::isps::resolve;
use crate::obey;
use crate::objects::Location;
use crate::stack::permissions::Role;

/// Watch and steer a deployed ses-breaker.
#[derive(Debug, Parser)]
#[command(name = "ses-breaker", version, max_term_width = 110, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  ses-breaker up newsletter                     deploy the stack, and send a set's events to it
  ses-breaker connect newsletter receipts       send their events to the stack
  ses-breaker status                            what is going on
  ses-breaker explain configuration-set:newsletter   why is it stopped, and until when
  ses-breaker history configuration-set:newsletter   what its breakers did, and which commands people gave
  ses-breaker quota                             what the gate may grant, and will
  ses-breaker quota set newsletter 20000 --isp gmail
  ses-breaker dashboard                         the same in a browser, live
  ses-breaker demo                              the whole stack on this machine, without AWS
  ses-breaker digest                            breaker states and yesterday's rates
  ses-breaker doctor                            check the stack for faults
  ses-breaker drill --from news@example.com     prove that it stops a bad sender
  ses-breaker stop configuration-set:newsletter --reason 'wrong list imported'
  ses-breaker resume configuration-set:newsletter
  ses-breaker policy push my.toml --dry-run
  ses-breaker backtest --policy my.toml --ledger     what it would have changed
  ses-breaker advise                            shared or dedicated IPs, and which lists do harm
  ses-breaker isps propose events/              who receives the mail of `other`

Credentials and Region come from where the AWS CLI takes them: AWS_* variables, profiles, `aws sso login`.

States: a breaker is sending, slowed (a share of the quota), stopped or testing (a small share, to see whether new mail is \
good). In JSON the stable names are closed, throttled, open and probing.

Exit codes: 0 success; 1 the answer is no (a checked policy that is not valid, a set that is not connected, a stop that has no \
effect at SES, a stack with faults); 2 bad usage, an unknown name, or a file that cannot be read or used (nothing was changed); 3 \
AWS refused or could not be reached. With --format json, an error is one JSON object on standard error.";

/// Options that every verb accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Name of the deployed stack
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "SES_BREAKER_STACK",
        default_value = "ses-breaker",
        value_parser = stack
    )]
    pub(crate) stack: String,
    /// Profile of the AWS configuration files [default: AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Region of the stack [default: AWS_REGION, or that of the profile]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Send requests to this URL instead of AWS [default: AWS_ENDPOINT_URL]
    #[arg(long, global = true, value_name = "URL", value_parser = endpoint)]
    pub(crate) endpoint_url: Option<String>,
    /// Format of the answer
    #[arg(long, visible_alias = "output", global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Colours in text
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Up(UpArgs),
    Deploy(DeployArgs),
    Down(DownArgs),
    PolicyOf(PolicyOfArgs),
    Connect(ConnectArgs),
    Disconnect(DisconnectArgs),
    Status(StatusArgs),
    Explain(ExplainArgs),
    History(HistoryArgs),
    Quota(QuotaArgs),
    Dashboard(DashboardArgs),
    Demo(DemoArgs),
    /// Print the digest now: breaker states and yesterday's rates.
    ///
    /// Rates of the account, each configuration set and each identity against the policy's lines, what is not sending, the account
    /// as SES may see it, today's quotas, ISPs that are about to forget a sender, and senders that are small for dedicated IPs.
    #[command(after_help = "\
Examples:
  ses-breaker digest
  ses-breaker digest --format json | jq '.rates[] | select(.state != \"closed\")'

Needs: as `status`.

Exit codes: 0 success; 2 bad usage; 3 AWS refused or could not be reached.")]
    Digest,
    Doctor(DoctorArgs),
    Drill(DrillArgs),
    Backtest(BacktestArgs),
    Advise(AdviseArgs),
    // `pause`, an alias for one release: alerts of earlier releases print it.
    #[command(alias = "pause")]
    Stop(StopArgs),
    Resume(ResumeArgs),
    /// Keep sending, whatever the verdict.
    ///
    /// Sending resumes. Verdicts are reported, not acted on, until `release`.
    #[command(after_help = "\
Example:
  ses-breaker bypass configuration-set:newsletter --reason 'AWS support asks us to'

Needs and exit codes: as `stop`.")]
    // `hold`, an alias for one release: alerts of earlier releases print it.
    #[command(alias = "hold")]
    Bypass(SpokenArgs),
    /// Report decisions without acting on them.
    ///
    /// Sending resumes. The breaker keeps deciding, and notices say what it would have done, until `release`. For a subject as
    /// a whole, this includes each of its ISPs. The policy's `subjects.shadow` does the same permanently.
    #[command(after_help = "\
Example:
  ses-breaker shadow configuration-set:newsletter --reason 'a new list, watched by hand'

Needs and exit codes: as `stop`.")]
    Shadow(SpokenArgs),
    Release(ReleaseArgs),
    /// Show, check or push the policy
    Policy {
        #[command(subcommand)]
        verb: PolicyVerb,
    },
    /// Find the ISP that receives each domain
    Isps {
        #[command(subcommand)]
        verb: IspsVerb,
    },
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Deploy the stack, connect configuration sets, and check that events arrive.
///
/// From nothing to a stack in shadow, which decides and reports, and stops nothing. Uploads the functions' code to a private
/// bucket of the account, lets CloudFormation create or update the stack, shows what it would change and asks once, connects
/// the sets, waits for the first event, and runs `doctor`. An upgrade is the same command: parameters keep the values that they
/// have. Ctrl-C is safe at any moment: the same command continues.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker up newsletter receipts --email you@example.com
  ses-breaker up --all --yes                   without a question
  ses-breaker up --act                         end the shadow: act on what it decides
  ses-breaker up --dry-run                     what would be changed?

Needs: what `ses-breaker policy-of deployer` prints. What the caller lacks is named before anything is created, as far as IAM \
tells it (iam:SimulatePrincipalPolicy).

Exit codes: 0 it is up, and the doctor finds no fault; 1 a set is not connected, the doctor finds faults, or the answer was \
no; 2 bad usage, no code of the functions, a stack or bucket of somebody else, or no terminal to ask on; 3 AWS refused or could \
not be reached, or CloudFormation could not finish.")]
pub(crate) struct UpArgs {
    /// Names of configuration sets to connect
    #[arg(value_name = "CONFIGURATION_SET", conflicts_with = "all")]
    pub(crate) configuration_sets: Vec<String>,
    /// Connect every configuration set of the account in this Region
    #[arg(long)]
    pub(crate) all: bool,
    /// End the shadow: push the policy in use with mode = "act". Lists what it would act on at once, and asks
    #[arg(long)]
    pub(crate) act: bool,
    /// Wait at most N seconds for the first event
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) wait: u64,
    #[command(flatten)]
    pub(crate) stack: StackArgs,
}

/// Create or update the stack, and nothing else.
///
/// As `up` does: without SAM's command line, since SAM's transform runs in CloudFormation. Parameters that are not named keep
/// the values that they have.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker deploy --parameter GateInUse=true
  ses-breaker deploy --functions target/lambda     code that cargo-lambda has built
  ses-breaker deploy --print-template > template.yaml

Needs and exit codes: as `up`.")]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) stack: StackArgs,
    /// Print the template that is deployed, and do nothing; needs no AWS
    #[arg(long)]
    pub(crate) print_template: bool,
}

/// How the stack is deployed.
#[derive(Debug, Args)]
pub(crate) struct StackArgs {
    /// Send alerts to this address; AWS asks its owner to confirm
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// Set a parameter of the template; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) parameters: Vec<(String, String)>,
    /// Upload the code to this bucket, which exists [default: ses-breaker-ACCOUNT-REGION, made if necessary]
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Option<String>,
    /// The folder with the functions' code [default: that of the release, share/ses-breaker/functions]
    #[arg(long, value_name = "FOLDER", env = "SES_BREAKER_FUNCTIONS", value_hint = ValueHint::DirPath)]
    pub(crate) functions: Option<PathBuf>,
    /// Do not ask IAM first which permissions the caller lacks
    #[arg(long)]
    pub(crate) skip_permission_check: bool,
    /// Print what would be changed, and change nothing of the stack
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do it without asking first
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Disconnect everything and delete the stack.
///
/// Deletes the event destinations, resumes what ses-breaker stopped, and deletes the stack. What a person stopped stays stopped,
/// and is listed. The two tables and their key stay, with all history, unless --purge is given. Safe to repeat after an
/// interruption at any moment.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker down --dry-run                   what would be done?
  ses-breaker down
  ses-breaker down --purge                     the tables, their key and the code, too

Needs: what `ses-breaker policy-of deployer` prints.

Exit codes: 0 it is gone, or was; 1 a set could not be disconnected or resumed, something is protected from deletion, or the \
answer was no; 2 bad usage, a stack of another tool, or no terminal to ask on; 3 AWS refused or could not be reached, or \
CloudFormation could not finish.")]
pub(crate) struct DownArgs {
    /// Also delete the tables and the code, and schedule the deletion of the key
    #[arg(long)]
    pub(crate) purge: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do it without asking first
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) waiting: WaitArgs,
}

/// Print the IAM policy that a person needs.
///
/// With exact actions and resources of this stack, as JSON for IAM.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker policy-of deployer > deployer.json
  ses-breaker policy-of viewer --account 123456789012 --region eu-west-1     needs no AWS

Needs: nothing. The account is that of the credentials, unless it is named.

Exit codes: 0 success; 2 bad usage; 3 AWS refused or could not be reached.")]
pub(crate) struct PolicyOfArgs {
    /// The person's role
    #[arg(value_name = "ROLE", value_enum)]
    pub(crate) role: Role,
    /// Number of the account [default: that of the credentials]
    #[arg(long, value_name = "NUMBER", value_parser = account)]
    pub(crate) account: Option<String>,
    /// The bucket that is named to `up` and `deploy`, if one is
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Option<String>,
}

/// Send the events of configuration sets to the stack.
///
/// Adds an event destination, named like the stack, that publishes to the stack's events topic, and reads it back. An existing
/// destination of that name with other settings is changed, and the changes are printed. Takes about three seconds a set,
/// because SES allows one call a second.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["configuration_sets", "all"]), after_help = "\
Examples:
  ses-breaker connect newsletter receipts
  ses-breaker connect --all --dry-run          what would be done?

Needs: dynamodb:DescribeTable on the table STACK-reputation; ses:GetConfigurationSetEventDestinations, \
ses:CreateConfigurationSetEventDestination and ses:UpdateConfigurationSetEventDestination on the configuration sets; \
ses:ListConfigurationSets.

Exit codes: 0 all are connected; 1 some are not, and why; 2 bad usage; 3 AWS refused or could not be reached.")]
pub(crate) struct ConnectArgs {
    /// Names of configuration sets
    #[arg(value_name = "CONFIGURATION_SET")]
    pub(crate) configuration_sets: Vec<String>,
    /// Connect every configuration set of the account in this Region
    #[arg(long)]
    pub(crate) all: bool,
    /// Publish opens and clicks, too: they are shown, cost as much as any event, and never count against a sender
    #[arg(long)]
    pub(crate) engagement: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Disconnect configuration sets from the stack.
///
/// Deletes their event destinations to the stack's topic, resumes what ses-breaker stopped, and waits until SES shows it. What
/// a person stopped stays stopped, and is listed with the command that resumes it. With --all, tenants and the account are
/// resumed, too. Safe to repeat.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["configuration_sets", "all"]), after_help = "\
Examples:
  ses-breaker disconnect newsletter
  ses-breaker disconnect --all --dry-run       what would be done?

Needs: dynamodb:DescribeTable on the table STACK-reputation, and what `resume` needs; \
ses:GetConfigurationSetEventDestinations and ses:DeleteConfigurationSetEventDestination on the configuration sets; \
ses:ListConfigurationSets.

Exit codes: 0 all are disconnected and sending (with --wait 0: SES was asked to resume them), except what people stopped; 1 \
some are not, and why; 2 bad usage; 3 AWS refused or could not be reached.")]
pub(crate) struct DisconnectArgs {
    /// Names of configuration sets
    #[arg(value_name = "CONFIGURATION_SET")]
    pub(crate) configuration_sets: Vec<String>,
    /// Disconnect every configuration set of the account in this Region, and resume everything that the stack stopped
    #[arg(long)]
    pub(crate) all: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) waiting: WaitArgs,
}

/// Show what is stopped, slowed or testing, and why.
///
/// Also: what SES has not done yet, the policy, the mail of the last 24 hours with the worst subject first, and the last
/// notices.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker status
  ses-breaker status configuration-set:newsletter      its ISPs, too
  ses-breaker status --watch                           again every 10 seconds, in place
  ses-breaker status --format json | jq .breakers

Needs: dynamodb:Query and dynamodb:GetItem on the table STACK-reputation, kms:Decrypt on the stack's key.

Exit codes: 0 success; 2 bad usage, an unknown subject, or --watch without a terminal; 3 AWS refused or could \
not be reached.")]
pub(crate) struct StatusArgs {
    /// Show only this subject: NAME of a configuration set, DOMAIN of an identity, tenant:NAME, tag:NAME=VALUE, account
    #[arg(value_name = "SUBJECT", value_parser = subject)]
    pub(crate) subject: Option<Subject>,
    /// Refresh every N seconds, on a terminal, until interrupted [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10",
        value_parser = clap::value_parser!(u64).range(2..=3600)
    )]
    pub(crate) watch: Option<u64>,
}

/// Explain the state of a breaker, and what happens next.
///
/// Prints the state, the verdict that caused it, the evidence about each metric against the thresholds for slowing and
/// stopping, the ratio rules against their limits, the mail that makes up the largest evidence, and when the state changes by
/// itself. The numbers are those that the breaker decides by.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker explain configuration-set:newsletter
  ses-breaker explain configuration-set:newsletter --isp gmail
  ses-breaker explain configuration-set:newsletter --at '2026-10-06 09:01:00'     what was decided then, on which mail
  ses-breaker explain account                  as SES would see it

With --at, mail accepted until then is judged again, with what is known about it now. A time without a fraction of a \
second means that whole second. Minutes are kept for 2 days; `replay explain` judges older mail from event files.

Needs: as `status`.

Exit codes: 0 explained; 2 bad usage, an unknown subject, or a time that is too long ago; 3 AWS refused or could not be \
reached.")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// As of this time: 2026-10-06T09:00 (UTC) or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<TimeArg>,
}

/// List the notices about a subject, the newest last.
///
/// What its breakers did and why, which commands people gave, and what SES denied. Notices are kept for 400 days.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker history configuration-set:newsletter
  ses-breaker history configuration-set:newsletter --isp gmail --since 2026-10-01
  ses-breaker history account                  ISPs that were held for all senders

Needs: as `status`. It reads the notices of the whole stack since then: 1 MB is about 1,000 of them.

Exit codes: 0 success; 2 bad usage or an unknown subject; 3 AWS refused or could not be reached.")]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Start at this time: 2026-10-06, 2026-10-06T09:00 (UTC) or RFC 3339 [default: 30 days ago]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<TimeArg>,
    /// Show at most N entries
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) most: NonZeroU32,
}

/// Show what the gate may grant today and on the days ahead, and why; or set it.
///
/// For each configuration set of the policy's [warmup.sets] and each ISP that the gate was asked about: the quota, what was
/// granted of it, the result since the day before, the quotas of the days ahead if each day is healthy and its quota is used,
/// and leases that are still valid.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker quota
  ses-breaker quota newsletter
  ses-breaker quota --format json | jq '.sets[].isps[] | {isp, quota, granted}'
  ses-breaker quota set newsletter 20000 --isp gmail     it has sent that much there before
  ses-breaker quota complete newsletter        warmed up: the target, at every ISP
  ses-breaker quota reset newsletter --isp yahoo         begin its ramp anew

Needs: as `status`. To set: dynamodb:PutItem and UpdateItem on the table STACK-reputation, too.

Exit codes: 0 success; 2 bad usage, or a configuration set that the policy does not plan; 3 AWS refused or could not be \
reached.")]
pub(crate) struct QuotaArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<QuotaVerb>,
    /// Show only this one; configuration-set:NAME if it is named like one of the commands
    #[arg(value_name = "CONFIGURATION_SET")]
    pub(crate) configuration_set: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaVerb {
    /// Set today's quota; the ramp goes on from there.
    ///
    /// For a sender who has sent that much there before: it counts as if the ISP had accepted it. Harm that was found before does
    /// not reduce it, and a smaller volume does not for `follow_days`. What is scheduled goes first. Stops and slowdowns still
    /// apply.
    #[command(after_help = "\
Examples:
  ses-breaker quota set newsletter 20000 --isp gmail
  ses-breaker quota set newsletter 500         at every ISP that the gate was asked about

Exit codes: as `quota`; 2 also for a quota outside of the policy's `minimum` and `target`.")]
    Set {
        /// The configuration set
        #[arg(value_name = "CONFIGURATION_SET")]
        configuration_set: String,
        /// Mails a day at each ISP
        #[arg(value_name = "MAILS")]
        mails: u64,
        #[command(flatten)]
        which: WhichQuotas,
    },
    /// Set today's quota to the target: warmed up.
    Complete {
        /// The configuration set
        #[arg(value_name = "CONFIGURATION_SET")]
        configuration_set: String,
        #[command(flatten)]
        which: WhichQuotas,
    },
    /// Begin the ramp anew, at the policy's `start`.
    ///
    /// What was learnt about the ISP is forgotten. What was granted today stays granted.
    Reset {
        /// The configuration set
        #[arg(value_name = "CONFIGURATION_SET")]
        configuration_set: String,
        #[command(flatten)]
        which: WhichQuotas,
    },
}

/// Which quotas a command is about.
#[derive(Debug, Args)]
pub(crate) struct WhichQuotas {
    /// Only at this ISP [default: every ISP that the gate was asked about]
    #[arg(long, value_name = "ISP")]
    pub(crate) isp: Option<String>,
    /// Print what would be set, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Show a live dashboard in a browser: rates, evidence, breakers, quotas and actions.
///
/// Serves a page to this machine only, with the credentials of the person who runs it, at an address that is new each time. Keep
/// the address secret: it allows what your credentials allow. The page is refreshed every 10 seconds while it is on the screen.
/// Its buttons are Stop, Resume, Bypass, Shadow and Release; each asks for a reason.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker dashboard                        prints the address to open; Ctrl-C ends it
  ses-breaker dashboard --port 8080

Needs: as `status` to view, and as `stop` to act. Each refresh reads the hours of 7 days of at most 60 subjects: about 10 read \
units for a subject.

Exit codes: 2 bad usage, or a port that cannot be listened on; 3 AWS refused or could not be reached.")]
pub(crate) struct DashboardArgs {
    /// Listen on this port of 127.0.0.1 [default: any free port]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
}

/// Show the whole stack at work on this machine, without an AWS account.
///
/// Simulates a sender, its mail, SES and the stack in memory, with the functions that are deployed, and prints what happens: a
/// campaign to an old list begins, its configuration set is stopped, the mail is tested, all is sent again. The address that is
/// printed first is that of the live dashboard, with buttons that work. It needs no credentials and no network, changes no
/// stack, and leaves nothing behind.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker demo                             prints the address to open; Ctrl-C ends it
  ses-breaker demo --speed 10 --seed 7         slower, with other mail
  ses-breaker demo --for 120 --format json     two minutes of it, one JSON document a line

Times are simulated: they begin early in the morning of today, with some hours of healthy mail. The same seed gives the same \
mail. The options that name a stack, profile, Region or endpoint have no effect.

Exit codes: 0 interrupted, or its time is over; 2 bad usage, or a port that cannot be listened on; 3 a fault of the demo.")]
pub(crate) struct DemoArgs {
    /// Listen on this port of 127.0.0.1 [default: any free port]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
    /// Seed of the simulated sender
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Simulated time passes X times as fast as real time, 1 to 3600
    #[arg(long, value_name = "X", default_value_t = 60.0, value_parser = speed)]
    pub(crate) speed: f64,
    /// End this many seconds after the dashboard is ready
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) length: Option<u64>,
}

/// Check the stack and the SES account for faults, and print how to fix them.
///
/// Checks each link from SES to the people who get the alerts: event destinations, topic, queue, functions, rules, alerts, the
/// policy and the names in it. A fault means that something does not work; advice means that it works and could be safer. Each
/// comes with the command that fixes it. Nothing is changed. Takes about two seconds a configuration set and one an identity,
/// because SES allows one call a second.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker doctor
  ses-breaker doctor --format json | jq -r '.findings[].fix[]'

Needs: dynamodb:DescribeTable, dynamodb:GetItem and dynamodb:Query on the table STACK-reputation, kms:Decrypt on the stack's \
key; ses:GetAccount, ses:ListConfigurationSets, ses:ListEmailIdentities, ses:GetDedicatedIp; \
ses:GetConfigurationSetEventDestinations and ses:GetConfigurationSet on the configuration sets, ses:GetEmailIdentity on the \
identities; sns:GetTopicAttributes, sns:ListSubscriptionsByTopic and sns:GetSubscriptionAttributes on the topics STACK-events \
and STACK-alerts; sqs:GetQueueUrl and sqs:GetQueueAttributes on the queues STACK-events and STACK-events-dead; \
lambda:ListEventSourceMappings; lambda:GetFunctionConcurrency on the functions; events:DescribeRule on the rules. For what \
other stacks left behind: sns:GetTopicAttributes on the topics that event destinations lead to, lambda:GetFunctionConcurrency \
on their enforcers. What may not be read is reported as not examined, except the first, which finds the stack.

Exit codes: 0 no faults, perhaps advice; 1 faults; 2 bad usage; 3 AWS refused, or could not be \
reached.")]
pub(crate) struct DoctorArgs {}

/// Test a live stack from end to end, with mail to the SES mailbox simulator.
///
/// Creates a scratch configuration set, sends mail with it to the mailbox simulator, and reports how long each leg takes:
/// events counted, stop decided, stopped at SES, alert sent, resumed. Then deletes what it created, also after a failure or
/// Ctrl-C. Its mail counts for the scratch set only, and the scratch set is stopped even if the stack is in shadow.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker drill --from news@example.com
  ses-breaker drill --from news@example.com --yes --format json > drill.json     to report

Takes a few minutes. It sends as many mails as stop a set under the policy in use, about ten and at most 102. They cost as any \
mail does, reach no mailbox, and count neither for the account's bounce rate nor for its quota. People get the alerts of one \
set that is stopped and resumed. A second Ctrl-C ends it without cleaning up.

Needs: what `connect` and `resume` need; ses:GetEmailIdentity, ses:CreateConfigurationSet, ses:DeleteConfigurationSet, ses:SendEmail.

Exit codes: 0 all legs passed; 1 a leg failed, and why; 2 bad usage, an address without a verified identity, or no terminal to \
ask on (nothing was created); 3 AWS refused or could not be reached.")]
pub(crate) struct DrillArgs {
    /// The sender: an address of an identity that SES has verified
    #[arg(long, value_name = "ADDRESS", value_parser = sender)]
    pub(crate) from: String,
    /// Wait at most N seconds in each leg
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub(crate) wait: u64,
    /// Send mail without asking first
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Show what another policy would have changed.
///
/// Replays recorded mail under another policy and compares it with the policy in use: stops that are new, missing or at another
/// time; how much mail they would have stopped; and stops that would have stopped only good mail. Nothing is changed.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("recording").required(true).args(["ledger", "objects"]), after_help = "\
Examples:
  ses-breaker backtest --policy my.toml --ledger
  ses-breaker backtest --policy my.toml s3://mail-events/2026/10/
  ses-breaker backtest --policy my.toml --against old.toml --since 2026-10-01 s3://mail-events/2026/

The ledger does not record when a bounce or complaint was reported, or in which order. All are judged as if they were known in \
the minute in which SES accepted the mail, so stops come minutes earlier than they did (complaints: hours), and an ISP in \
trouble of its own may be recognised sooner: compare the two policies, not the times. ISPs, tenants and tags are those of the \
policy in use when the mail came. The ledger goes back 100 days. Reading it costs as much as a scan of the table (less than a \
cent for a million units), and takes memory for each minute, sender and ISP, not for each unit.

Objects in S3 contain the events themselves, as Firehose writes them, .gz or not. They are read in the order of their keys, a \
few at a time ahead, which takes memory for six of them (at most 256 MiB each) and 72 bytes for each unit. Mail outside the \
prefix counts as never sent: start the prefix 8 days before the first mail of interest. A damaged object is listed and \
counted, and reading goes on.

Needs: for --ledger, dynamodb:Scan on the table STACK-ledger and kms:Decrypt on the stack's key; for objects, s3:ListBucket on \
the bucket and s3:GetObject on the objects; without --against, what `status` needs.

Exit codes: 0 success; 1 nothing is recorded; 2 bad usage, a policy that is not valid, an unreadable file, no such bucket or \
no object; 3 AWS refused or could not be reached.")]
pub(crate) struct BacktestArgs {
    /// The policy to try, in TOML
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy: PathBuf,
    /// Compare with this policy [default: the one in use]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) against: Option<PathBuf>,
    /// Where a policy does not say: judge as if your application asked the gate; for a stack with GateInUse=true
    #[arg(long)]
    pub(crate) gate: bool,
    /// Replay the units in the stack's ledger
    #[arg(long)]
    pub(crate) ledger: bool,
    /// Replay event objects: s3://bucket/prefix
    #[arg(value_name = "S3_URI")]
    pub(crate) objects: Option<Location>,
    /// Only mail accepted from this time on: 2026-10-06, 2026-10-06T09:00 (UTC) or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<TimeArg>,
    /// Only mail accepted before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<TimeArg>,
}

/// Recommend shared or dedicated IPs, with their costs, and show which lists do harm.
///
/// Reads the mail of the last 35 whole days. For each configuration set, recommends shared, standard dedicated or managed
/// dedicated IPs, by how much mail goes to which ISP and how steadily, and prints what a year of each costs. Where the policy
/// keeps message tags, lists each value by its share of the harm against its share of the mail.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker advise
  ses-breaker advise --format json | jq '.sets[] | {configuration_set, ips, yearly}'
  ses-breaker advise --prices my-prices.toml

It counts mail; it does not know which IPs send it now. An IP needs about 1,000 mails a day to keep a reputation at an ISP, \
and AWS advises dedicated IPs for large, regular volumes, managed ones for irregular ones (SES guide, \"Dedicated IP \
addresses\"); the limit of steady is a rule of thumb: see shared/operator/src/advise/advice.rs. Prices come from a dated file, \
which marks those that could not be verified.

Needs: as `status`.

Exit codes: 0 success; 2 bad usage, or a file that cannot be read or has no prices; 3 AWS refused or could not be reached.")]
pub(crate) struct AdviseArgs {
    /// Prices, in TOML like shared/operator/src/prices.toml [default: that file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) prices: Option<PathBuf>,
}

/// Print shell completions, with the names of your configuration sets, subjects and ISPs.
///
/// The script asks this program, which must be on the PATH, and it asks the stack: read only, for at most 1.5 seconds, and without
/// a message if AWS does not answer. The account is never proposed. Options among the words so far, such as --stack, count.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker completions bash > ~/.local/share/bash-completion/completions/ses-breaker
  ses-breaker completions zsh > ~/.zfunc/_ses-breaker
  ses-breaker completions fish > ~/.config/fish/completions/ses-breaker.fish

After an upgrade, write the script again.

Needs: nothing to print it. For names: dynamodb:Query and dynamodb:GetItem on the table STACK-reputation, kms:Decrypt on the \
stack's key; ses:ListConfigurationSets for `up`, `connect` and `disconnect`.

Exit codes: 0 printed; 2 bad usage.")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: terminal::manual::Shell,
}

/// Write the manual pages into a folder; needs no AWS.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ses-breaker man ~/.local/share/man/man1 && man ses-breaker-status

Exit codes: 0 written; 2 bad usage, or a folder that cannot be written.")]
pub(crate) struct ManArgs {
    /// The folder; created if it does not exist
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

/// The subject to explain.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Whose mail: NAME of a configuration set, DOMAIN of an identity, tenant:NAME, tag:NAME=VALUE, account
    #[arg(value_name = "SUBJECT", value_parser = subject)]
    pub(crate) subject: Subject,
    /// At one ISP only, such as gmail; stopping it there needs the gate
    #[arg(long, value_name = "NAME")]
    pub(crate) isp: Option<String>,
}

/// The subjects of a command.
#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// Whose mail: NAME of a configuration set, DOMAIN of an identity, tenant:NAME, tag:NAME=VALUE, account
    #[arg(value_name = "SUBJECT", value_parser = subject, required = true)]
    pub(crate) subjects: Vec<Subject>,
    /// At one ISP only, such as gmail; stopping it there needs the gate
    #[arg(long, value_name = "NAME")]
    pub(crate) isp: Option<String>,
}

/// How long to wait for SES.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait at most N seconds until SES has done it; 0: do not wait
    #[arg(long, value_name = "N", default_value_t = obey::WAIT.as_secs(), value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) wait: u64,
}

impl WaitArgs {
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.wait)
    }
}

/// A command with a reason.
#[derive(Debug, Args)]
pub(crate) struct SpokenArgs {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) waiting: WaitArgs,
    /// Why; stored, and sent to all who get the alerts
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
    /// Accept subjects that the stack has never seen
    #[arg(long)]
    pub(crate) force: bool,
}

/// Stop sending until a person resumes it.
///
/// The enforcer asks SES to accept no more mail. This command returns when SES shows it, which takes seconds. Only
/// configuration sets, tenants and the account have a switch at SES; any other subject is stopped only by the gate, and without
/// one this command says that nothing is stopped. The account is stopped only where the stack's parameter MayPauseAccount is
/// true, and after a question.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ses-breaker stop configuration-set:newsletter --reason 'wrong list imported'

Needs: dynamodb:Query, GetItem, PutItem, UpdateItem and DeleteItem on the table STACK-reputation, kms:Decrypt on the \
stack's key. To read the state at SES: ses:GetConfigurationSet, ses:GetReputationEntity and ses:GetTenant, or ses:GetAccount; \
without them, this command relies on what the enforcer records.

Exit codes: 0 SES has done it (with --wait 0: SES will be asked); 1 SES has not done it, and why; 2 bad usage or an unknown \
subject; 3 AWS refused or could not be reached.")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) waiting: WaitArgs,
    /// Stop the account without asking first
    #[arg(long)]
    pub(crate) yes: bool,
    /// Why; stored, and sent to all who get the alerts
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
    /// Accept subjects that the stack has never seen
    #[arg(long)]
    pub(crate) force: bool,
}

/// Resume sending.
///
/// Only mail that SES accepts from now on is judged. This command returns when SES shows that it accepts mail.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ses-breaker resume configuration-set:newsletter
  ses-breaker resume configuration-set:newsletter identity:news.example

Needs and exit codes: as `stop`.")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) spoken: SpokenArgs,
    // `--hold`, for one release: alerts of earlier releases print it. It means `bypass`.
    #[arg(long = "hold", hide = true)]
    pub(crate) bypass: bool,
}

/// Return subjects to their breakers, after `stop`, `bypass` or `shadow`.
///
/// A subject that a person stopped resumes sending.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ses-breaker release configuration-set:newsletter\n\nNeeds and exit codes: as `stop`."
)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) waiting: WaitArgs,
    /// Why; stored, and sent to all who get the alerts
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Print the policy in use, as TOML that can be pushed again
    #[command(after_help = "\
Examples:
  ses-breaker policy show > my.toml
  ses-breaker policy show --version 3
  ses-breaker policy show --default            the built-in one, explained; needs no AWS")]
    Show {
        /// Print version N
        #[arg(long, value_name = "N", conflicts_with = "default", value_parser = clap::value_parser!(u64).range(1..))]
        version: Option<u64>,
        /// Print the built-in default
        #[arg(long)]
        default: bool,
    },
    /// Make a policy the current one
    ///
    /// Validates it first, and prints what it changes. The functions use it within a minute. A stack is in shadow until a
    /// policy with mode = "act" is pushed: that push lists what the stack would act on at once, and asks first.
    #[command(after_help = "\
Examples:
  ses-breaker policy push my.toml --dry-run
  replay events/ --policy my.toml              what would it have done?
  ses-breaker policy push my.toml

Exit codes: 0 it is current now; 1 another person pushed one meanwhile, or the answer was no; 2 it is not valid, the file \
cannot be read, or there is no terminal to ask on; 3 AWS refused or could not be reached.")]
    Push {
        /// The differences from the default, in TOML
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Print what would change, and push nothing
        #[arg(long)]
        dry_run: bool,
        /// Push without asking before the stack begins to act
        #[arg(long)]
        yes: bool,
    },
    /// Validate a policy and print what it means; needs no AWS
    #[command(after_help = "\
Example:
  ses-breaker policy check my.toml

Exit codes: 0 it is valid; 1 it is not, and why; 2 the file cannot be read.")]
    Check {
        /// The policy, in TOML
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum IspsVerb {
    Propose(Box<ProposeArgs>),
}

/// Propose [isps] entries for domains that no ISP of the policy covers.
///
/// A company's domain counts as `other` until the policy names the ISP that receives its mail. This command takes the domains
/// that got mail, looks up their MX records, and prints entries for the policy with the evidence: the MX host, what servers
/// said about themselves in bounces, and what SES calls the ISP. MX records decide: all hosts of the lowest preference must
/// belong to one known operator. Nothing is changed without --apply or --write.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["input", "s3", "domains"]), after_help = "\
Examples:
  ses-breaker isps propose events/
  ses-breaker isps propose --domains customers.csv --min-mails 10
  ses-breaker isps propose events/ --no-lookup --format json | jq .proposals
  ses-breaker isps propose events/ --policy my.toml --write        add them to a file
  ses-breaker isps propose --s3 s3://mail-events/2026/10/ --apply    add them to the policy in use

Privacy: the stack keeps no domains and no addresses, so the domains come from your event files or your list. Only domain names \
leave this machine, and only to the DNS resolver; with --no-lookup, nothing does. At most 10,000 domains are kept while reading, \
the first ones read; mail to others is counted.

An entry never changes what was counted before: mail that was counted as `other` stays there. Entries that the policy already \
has are not changed. --apply shows the entries and asks once, then pushes like `policy push`: validated, and not if another \
person pushed meanwhile.

Needs: no AWS, except for --s3 (s3:ListBucket on the bucket and s3:GetObject on the objects) and --apply (as `policy push`).

Exit codes: 0 success; 1 another person pushed a policy meanwhile, or the answer was no; 2 bad usage, a policy that is not \
valid, or input that cannot be read; 3 AWS refused or could not be reached, or no MX look-up was answered.")]
pub(crate) struct ProposeArgs {
    /// Event files, directories or quoted patterns; - is standard input
    #[arg(value_name = "FILE|DIR|GLOB|-", value_hint = ValueHint::AnyPath)]
    pub(crate) input: Vec<String>,
    /// Read event objects instead: s3://bucket/prefix
    #[arg(long, value_name = "S3_URI")]
    pub(crate) s3: Option<Location>,
    /// Read a list of domains instead, one per line, or a CSV of addresses, of which only the part after @ is kept; - is
    /// standard input
    #[arg(long, value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub(crate) domains: Option<PathBuf>,
    /// Leave out domains with fewer than N mails
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min_mails: u64,
    /// Look at no more than N domains, those with the most mail
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) top: u32,
    /// Look up no MX records: use only what servers and SES said
    #[arg(long)]
    pub(crate) no_lookup: bool,
    /// Ask this DNS resolver: 192.0.2.53 or 192.0.2.53:5353 [default: that of this machine]
    #[arg(long, value_name = "ADDRESS", value_parser = resolve::server, conflicts_with = "no_lookup")]
    pub(crate) resolver: Option<SocketAddr>,
    /// Spend at most N seconds on all look-ups; each takes at most 3
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Look up N domains at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) at_once: u8,
    /// Take ISPs from this policy [default: the built-in one; with --apply, the one in use]
    #[arg(long, value_name = "FILE", conflicts_with = "apply", value_hint = ValueHint::FilePath)]
    pub(crate) policy: Option<PathBuf>,
    /// Add the entries to the file of --policy
    #[arg(long, requires = "policy")]
    pub(crate) write: bool,
    /// Add the entries to the policy in use, and push it
    #[arg(long)]
    pub(crate) apply: bool,
    /// Push without asking first
    #[arg(long, requires = "apply")]
    pub(crate) yes: bool,
}

/// A subject; without a prefix, a domain is an identity and any other name a configuration set. The account has its own word,
/// so that no slip of a finger means it.
fn subject(text: &str) -> Result<Subject, String> {
    let is_of = |more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    if !text.is_empty() && text != "account" && is_of("_-") {
        return Ok(Subject::ConfigurationSet(text.into()));
    }
    if text.contains('.') && is_of(".-") {
        return Ok(Subject::Identity(text.to_ascii_lowercase().into()));
    }
    text.parse().map_err(|error: reputation::subject::SubjectError| error.to_string())
}

/// An address to send from.
fn sender(text: &str) -> Result<String, String> {
    match reputation::address::Address::parse(text) {
        Ok(address) if address.domain().contains('.') && !text.contains(['<', ' ']) => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err("write it as news@example.com".to_owned()),
    }
}

/// How fast simulated time passes.
fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (1.0..=3_600.0).contains(&speed) => Ok(speed),
        Ok(_) | Err(_) => Err("write a number from 1 to 3600".to_owned()),
    }
}

/// A name that CloudFormation accepts for a stack.
pub(crate) fn stack(text: &str) -> Result<String, String> {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Ok(text.to_owned());
    }
    Err("a stack's name is a letter and then up to 127 letters, digits and hyphens".to_owned())
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("a parameter is NAME=VALUE".to_owned()),
    }
}

fn account(text: &str) -> Result<String, String> {
    match text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(text.to_owned()),
        false => Err("an account has a number of 12 digits".to_owned()),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err("an endpoint begins with https:// or http://".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_name_alone_is_a_configuration_set_and_a_domain_alone_an_identity() {
        for (text, expected) in [
            ("newsletter", "configuration-set:newsletter"),
            ("configuration-set:newsletter", "configuration-set:newsletter"),
            ("News.example.com", "identity:news.example.com"),
            ("acount", "configuration-set:acount"),
            ("account", "account"),
            ("configuration-set:account", "configuration-set:account"),
            ("tenant:a", "tenant:a"),
            ("tag:list=a b", "tag:list=a b"),
        ] {
            assert_eq!(subject(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "a b", "ann@example.com", "sett:news", "tag:list", "a=b"] {
            assert!(subject(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    /// Splits a command of `ses-breaker` into words as a shell does: blanks and single quotes are all that it handles. What
    /// comes after a redirection or a comment is left out.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for letter in command.chars().chain([' ']) {
            match letter {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                letter => word.push(letter),
            }
        }
        assert!(!quoted, "{command}");
        let ends = |word: &String| word.starts_with(['#', '>', '|']);
        words.into_iter().take_while(|word| !ends(word)).filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn every_command_of_the_documents_is_understood() {
        let mut tried = 0;
        let documents = [
            "README.md",
            "SECURITY.md",
            "infra/GATE.md",
            "infra/INSTALL.md",
            "infra/LIMITS.md",
            "infra/POLICY.md",
            "infra/RUNBOOK.md",
            "infra/THREAT-MODEL.md",
        ];
        for document in documents {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let text = std::fs::read_to_string(folder.join(document)).unwrap();
            for (index, part) in text.split("```").enumerate() {
                let is_code = index % 2 == 1;
                let prose = part.replace('\n', " ");
                let commands: Vec<&str> =
                    if is_code { part.lines().collect() } else { prose.split('`').skip(1).step_by(2).collect() };
                let commands = commands.into_iter().map(|command| command.strip_prefix("cargo ").unwrap_or(command));
                for command in commands.filter(|command| command.starts_with("ses-breaker ")) {
                    let words = words(command);
                    // The title of a message.
                    if words[1].ends_with(':') {
                        continue;
                    }
                    if let Err(error) = Cli::try_parse_from(words) {
                        panic!("{document} says {command:?}\n{error}");
                    }
                    tried += 1;
                }
            }
        }
        assert!(tried > 40, "only {tried} commands were found");
    }

    /// The first paragraph of the error for arguments that cannot be parsed.
    fn refused(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from([&["ses-breaker"], arguments].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
        error.to_string()
    }

    #[test]
    fn errors_about_arguments_say_what_is_allowed() {
        for (arguments, expected) in [
            (&["stauts"][..], "'status'"),
            (&["connect"], "<CONFIGURATION_SET|--all>"),
            (&["connect", "news", "--all"], "cannot be used with"),
            (&["stop"], "<SUBJECT>"),
            (&["stop", "sett:news"], "names no subject"),
            (&["status", "ann@example.com"], "names no subject"),
            (&["stop", "set:news"], "configuration-set:NAME, identity:DOMAIN"),
            (&["stop", "account", "--reason", " "], "must not be empty"),
            (&["policy"], "show"),
            (&["policy", "check"], "<FILE>"),
            (&["policy", "push"], "<FILE>"),
            (&["policy", "show", "--version", "0"], "0 is not in 1.."),
            (&["policy", "show", "--version", "latest"], "invalid digit"),
            (&["policy", "show", "--version", "1", "--default"], "cannot be used with"),
            (&["status", "--format", "yaml"], "text, json"),
            (&["status", "--watch=1"], "1 is not in 2..=3600"),
            (&["explain"], "<SUBJECT>"),
            (&["explain", "account", "--at", "yesterday"], "write it as 2026-10-06"),
            (&["history", "account", "--since", "7d"], "write it as 2026-10-06"),
            (&["history", "account", "--most", "0"], "non-zero"),
            (&["backtest", "--ledger"], "--policy <FILE>"),
            (&["backtest", "--policy", "my.toml"], "<--ledger|S3_URI>"),
            (&["backtest", "--policy", "my.toml", "--ledger", "s3://bucket/"], "cannot be used with"),
            (&["backtest", "--policy", "my.toml", "bucket/prefix"], "write it as s3://bucket/prefix"),
            (&["isps", "propose"], "<FILE|DIR|GLOB|-|--s3 <S3_URI>|--domains <FILE|->>"),
            (&["isps", "propose", "x", "--domains", "y"], "cannot be used with"),
            (&["isps", "propose", "x", "--write"], "--policy <FILE>"),
            (&["isps", "propose", "x", "--yes"], "--apply"),
            (&["isps", "propose", "x", "--apply", "--policy", "y"], "cannot be used with"),
            (&["isps", "propose", "x", "--resolver", "dns.example"], "192.0.2.53"),
            (&["drill"], "--from <ADDRESS>"),
            (&["drill", "--from", "news"], "write it as news@example.com"),
            (&["drill", "--from", "News <a@b.example>"], "write it as news@example.com"),
            (&["drill", "--from", "a@b.example", "--wait", "1"], "1 is not in 10..=3600"),
            (&["completions", "sh"], "bash"),
            (&["man"], "<DIR>"),
            (&["dashboard", "--port", "70000"], "70000 is not in 0..=65535"),
            (&["demo", "--speed", "0"], "write a number from 1 to 3600"),
            (&["demo", "--for", "0"], "0 is not in 1.."),
            (&["status", "--stack", "my stack"], "letters, digits and hyphens"),
            (&["status", "--endpoint-url", "localhost:4566"], "begins with https:// or http://"),
        ] {
            let text = refused(arguments);
            assert!(text.contains(expected), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn the_commands_of_earlier_releases_are_understood_and_not_shown() {
        for (old, new) in [("pause", "stop"), ("hold", "bypass")] {
            let parsed = |verb| {
                let cli =
                    Cli::try_parse_from(["ses-breaker", verb, "configuration-set:news", "--reason", "why"]).unwrap();
                format!("{:?}", cli.verb)
            };
            assert_eq!(parsed(old), parsed(new));
        }
        let resumed = ["ses-breaker", "resume", "configuration-set:news", "--hold"];
        let Verb::Resume(args) = Cli::try_parse_from(resumed).unwrap().verb else { panic!("not a resume") };
        assert!(args.bypass);
        let verbs: Vec<String> = Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        assert!(
            ["stop", "bypass", "resume", "shadow", "release"]
                .iter()
                .all(|verb| verbs.iter().any(|known| known == verb))
        );
        assert!(!verbs.iter().any(|verb| verb == "pause" || verb == "hold"));
        let help = Cli::command().find_subcommand_mut("resume").unwrap().render_long_help().to_string();
        assert!(!help.contains("hold"), "{help}");
    }

    #[test]
    fn output_is_another_word_for_format_as_in_the_aws_command_line() {
        let cli = Cli::try_parse_from(["ses-breaker", "status", "--output", "json", "--stack", "mail"]).unwrap();
        assert_eq!((cli.global.format, cli.global.stack.as_str()), (Format::Json, "mail"));
    }

    #[test]
    fn every_verb_has_an_example() {
        let mut commands: Vec<clap::Command> = Cli::command().get_subcommands().cloned().collect();
        for group in ["policy", "isps"] {
            commands.extend(Cli::command().find_subcommand(group).unwrap().get_subcommands().cloned());
        }
        for mut command in commands.into_iter().filter(|command| !["policy", "isps"].contains(&command.get_name())) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example") && help.contains("  ses-breaker "), "{help}");
        }
    }
}
