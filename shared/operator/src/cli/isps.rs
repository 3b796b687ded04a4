//! `isps propose`: reads domains from the source that the arguments name, and asks before it pushes.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws::policies::StoredPolicy;
use futures_util::future::{Either, select};
use pipeline::classify::Classifier;
use replay::domains::DomainBook;
use replay::driver::{Extras, MAX_SUBJECTS, Options, RejectedLine, Replay, replay_while_readable};
use replay::input::{Progress as Read, Source, Sources};
use reputation::policy::Policy;
use reputation::time::Now;
use terminal::progress::Painter;
use terminal::{counted, term_style, thousands};

use super::arguments::{Global, ProposeArgs};
use super::{read, route, with_steps};
use crate::asking::Progress;
use crate::failure::Failure;
use crate::isps::resolve::{Dns, Limits};
use crate::isps::{self, Ask, Change, Gathered, Order, Proposed, list};
use crate::objects::{Location, Objects};
use crate::policy_file::parsed;
use crate::{Access, Answer, text};

/// Interval between two progress reports.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How the user sees progress and is asked.
pub(super) struct Shown<'a> {
    /// Called with the progress.
    pub(super) progress: Progress<'a>,
    /// Asks before a push.
    pub(super) ask: Ask<'a>,
}

/// Runs it with a progress bar, and asks on the terminal.
pub(super) fn propose(global: &Global, args: &ProposeArgs, now: Now) -> Result<Answer, Failure> {
    if args.apply && !args.yes && !io::stdin().is_terminal() {
        return Err(Failure::NobodyToAsk);
    }
    let painter = Painter::of_steps(global.quiet);
    let term = term_style();
    let ask = |policy: &str, change: &Change| {
        let mut yes = false;
        painter.above(|| yes = asked(&format!("{}Push it?", text::isps_to_add(policy, change, term))));
        yes
    };
    let outcome = with_steps(&painter, |runtime, progress| {
        runtime.block_on(async {
            let needs_aws = args.apply || args.s3.is_some();
            let access = if needs_aws { Some(Access::load(&global.stack, &route(global)).await?) } else { None };
            proposed(access.as_ref(), args, now, &Shown { progress, ask: &ask }).await
        })
    });
    text::answer(outcome, term)
}

/// Shows a question on standard error, and reads the answer from standard input.
pub(super) fn asked(question: &str) -> bool {
    let mut out = anstream::AutoStream::auto(io::stderr());
    // A question that cannot be shown is answered with no.
    if write!(out, "{question} [y/N] ").and_then(|()| out.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Runs it, with a stack if there is one to reach.
pub(super) async fn proposed(
    access: Option<&Access>,
    args: &ProposeArgs,
    now: Now,
    shown: &Shown<'_>,
) -> Result<Proposed, Failure> {
    let limits =
        Limits { at_once: usize::from(args.at_once), total: Duration::from_secs(args.seconds), ..Limits::default() };
    let order = Order { min_mails: args.min_mails, top: usize::try_from(args.top).unwrap_or(usize::MAX), limits };
    // Fails early, before the long work.
    let dns = if args.no_lookup { None } else { Some(Dns::new(args.resolver, limits)?) };
    let current = match access.filter(|_| args.apply) {
        Some(access) => access.policies().current().await.map_err(|error| access.refused(error))?,
        None => None,
    };
    let rules = Rules::of(args, current.as_ref())?;
    let policy = parsed(&rules.name, &rules.toml)?;
    let gathered = match (&args.domains, &args.s3) {
        (Some(list), _) => of_list(list, &policy, &rules)?,
        (None, Some(location)) => {
            let access = access.ok_or(Failure::NoRegion { profile: None })?;
            of_objects(access, location, &policy, &rules, now, shown.progress).await?
        }
        (None, None) => of_files(&args.input, &policy, &rules, now, shown.progress).await?,
    };
    if gathered.book.domains().next().is_none() {
        return Err(Failure::NoDomains { source_name: gathered.source });
    }
    let mut proposed = isps::propose(gathered, &order, dns.as_ref(), shown.progress).await;
    if let Some(path) = args.policy.as_deref().filter(|_| args.write) {
        if let Some(toml) = isps::write(&rules.name, &rules.toml, &mut proposed)? {
            fs::write(path, toml).map_err(|source| Failure::Unwritable { path: path.to_owned(), source })?;
        }
        return Ok(proposed);
    }
    if let Some(access) = access.filter(|_| args.apply) {
        let ask: Ask<'_> = if args.yes { &|_, _| true } else { shown.ask };
        isps::apply(access, current.as_ref(), &mut proposed, ask, now).await?;
    }
    Ok(proposed)
}

/// The policy that classifies the domains.
struct Rules {
    name: String,
    toml: String,
}

impl Rules {
    fn of(args: &ProposeArgs, current: Option<&StoredPolicy>) -> Result<Rules, Failure> {
        let (name, toml) = match (&args.policy, current) {
            (Some(path), _) => (path.display().to_string(), read(path)?),
            (None, Some(current)) => (format!("policy version {}", current.version), current.toml.clone()),
            (None, None) => ("the built-in policy".to_owned(), String::new()),
        };
        Ok(Rules { name, toml })
    }
}

fn of_list(path: &Path, policy: &Policy, rules: &Rules) -> Result<Gathered, Failure> {
    let is_standard_input = path == Path::new("-");
    let unreadable = |source| Failure::Unreadable { path: path.to_owned(), source };
    let list: Box<dyn BufRead> = match is_standard_input {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(path).map_err(unreadable)?)),
    };
    // The classifier only decides which domains count towards rates; nothing is hashed.
    let classifier = Classifier::new(policy, [0; 16]);
    let mut book = DomainBook::new(policy.isp_map.clone());
    let listed = list::read(list, &mut book, |domain| classifier.counts(&format!("x@{domain}"))).map_err(unreadable)?;
    let mut notes = vec!["each line of the list counts as one mail".to_owned()];
    if listed.without > 0 {
        notes.push(format!("{} without a domain skipped", counted(listed.without, "line")));
    }
    if listed.left_out > 0 {
        let left_out = thousands(listed.left_out);
        notes.push(format!("{left_out} skipped: own domains or the mailbox simulator, which count towards no rate"));
    }
    let source = if is_standard_input { "standard input".to_owned() } else { path.display().to_string() };
    Ok(Gathered { source, policy: rules.name.clone(), notes, book })
}

/// What a thread found in events.
struct Events {
    replay: Replay,
    rejected: u64,
    broken_off: Option<String>,
}

/// Reads events for their domains.
fn events_of(policy: &Policy, now: Now, so_far: &Arc<Read>) -> impl FnOnce(Vec<Source>) -> Events + Send + 'static {
    let options = Options {
        policy: policy.clone(),
        real_now: now.0,
        since: None,
        until: None,
        stop_at: None,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        max_subjects: MAX_SUBJECTS,
    };
    let so_far = Arc::clone(so_far);
    move |sources| {
        let extras = Extras { domains: true, ..Extras::default() };
        let mut reject = |_: &RejectedLine| {};
        let (replay, outcome) = replay_while_readable(&options, extras, &sources, &mut reject, &so_far);
        let rejected = replay.tallies.rejected.values().sum();
        Events { replay, rejected, broken_off: outcome.err().map(|error| error.to_string()) }
    }
}

fn gathered(source: String, rules: &Rules, events: Events) -> Result<Gathered, Failure> {
    if let Some(reason) = events.broken_off {
        return Err(Failure::Events(reason));
    }
    let Some(book) = events.replay.domains else { return Err(Failure::NoDomains { source_name: source }) };
    let mut notes = Vec::new();
    if events.rejected > 0 {
        let rejected = counted(events.rejected, "message");
        notes.push(format!("{rejected} could not be read or counted: `replay` lists them"));
    }
    Ok(Gathered { source, policy: rules.name.clone(), notes, book })
}

async fn of_files(
    input: &[String],
    policy: &Policy,
    rules: &Rules,
    now: Now,
    progress: Progress<'_>,
) -> Result<Gathered, Failure> {
    let sources = Sources::expand(input).map_err(|error| Failure::Events(error.to_string()))?;
    let so_far = Arc::new(Read::new());
    let events = events_of(policy, now, &so_far);
    let reading = tokio::task::spawn_blocking(move || events(sources));
    let events = while_reading(&so_far, progress, reading).await;
    gathered(input.join(" "), rules, events.map_err(|error| Failure::Output(error.to_string()))?)
}

async fn of_objects(
    access: &Access,
    location: &Location,
    policy: &Policy,
    rules: &Rules,
    now: Now,
    progress: Progress<'_>,
) -> Result<Gathered, Failure> {
    progress(0, 0, &format!("listing {location}"));
    let objects = Objects::list(access, location).await?;
    let so_far = Arc::new(Read::new());
    let (events, damages) = while_reading(&so_far, progress, objects.read(events_of(policy, now, &so_far))).await?;
    let mut gathered = gathered(location.to_string(), rules, events)?;
    let damaged = damages.into_iter().map(|damage| format!("object {}: {}", damage.source, damage.what));
    gathered.notes.extend(damaged);
    Ok(gathered)
}

/// Reports the progress of reading until it is done.
async fn while_reading<T>(so_far: &Read, progress: Progress<'_>, reading: impl Future<Output = T>) -> T {
    let mut reading = std::pin::pin!(reading);
    loop {
        let (mebibytes, documents) = (thousands(so_far.bytes_read() >> 20), counted(so_far.documents(), "document"));
        progress(0, 0, &format!("reading events: {mebibytes} MiB, {documents}"));
        let pause = std::pin::pin!(tokio::time::sleep(PROGRESS_EVERY));
        if let Either::Left((read, _)) = select(reading.as_mut(), pause).await {
            return read;
        }
    }
}
