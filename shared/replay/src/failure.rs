//! Reasons why a command cannot answer, and what to do about each.

use std::io;

use pipeline::PortError;
use terminal::{ErrorKind, ErrorReport, InvalidPolicy, counted, name, thousands};

use crate::driver::ReplayError;
use crate::generate::ScenarioError;
use crate::input::InputError;
use crate::plot::PlotError;

/// Why a command could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An empty time range.
    #[error("--since {since} is not before --until {until}")]
    NoTime {
        /// The start.
        since: String,
        /// The end.
        until: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {what}")]
    Unreadable {
        /// What it is, with its name.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A policy that is not valid, where one is needed.
    #[error(transparent)]
    InvalidPolicy(Box<InvalidPolicy>),
    /// Input that does not exist, or cannot be read to its end.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A subject without mail.
    #[error("there is no mail of {} {place}", name(subject))]
    UnknownSubject {
        /// The subject as given.
        subject: String,
        /// Where it was looked for.
        place: String,
        /// Similar subjects with mail.
        nearest: Vec<String>,
    },
    /// A name that is not an ISP of the policy.
    #[error("`{isp}` is not an ISP of the policy")]
    UnknownIsp {
        /// The name as given.
        isp: String,
        /// Similar known names.
        nearest: Vec<String>,
    },
    /// A configuration set that the policy does not plan.
    #[error("[warmup.sets] does not name {set}")]
    UnknownSet {
        /// The name as given.
        set: String,
        /// Similar planned names.
        nearest: Vec<String>,
    },
    /// Neither a built-in scenario nor a file.
    #[error("{scenario} is neither a built-in scenario nor a file")]
    UnknownScenario {
        /// The name as given.
        scenario: String,
        /// Similar built-in names.
        nearest: Vec<String>,
    },
    /// A scenario that cannot be used.
    #[error("{problem}")]
    InvalidScenario {
        /// What is wrong, and in which file.
        problem: String,
    },
    /// Input with no mail in the requested time.
    #[error(
        "no mail was accepted between --since and --until; the mail of {} was accepted at other times",
        counted(*events, "event")
    )]
    NothingThen {
        /// Events about mail of other times.
        events: u64,
    },
    /// Input without events.
    #[error("no SES event in {} of input", counted(*lines, "line"))]
    NoEvents {
        /// The number of documents.
        lines: u64,
    },
    /// Input that is not sorted by time, so that much of it was judged late or not judged.
    #[error(
        "the input is not sorted by time, so much of it was judged late or not judged: {} of {} came more than an hour after \
         later mail, in {files}",
        thousands(*late),
        counted(*mails, "mail")
    )]
    OutOfOrder {
        /// Mails that came late.
        late: u64,
        /// All mails.
        mails: u64,
        /// The worst files.
        files: String,
        /// A command that sorts the worst of them.
        sort: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {what}")]
    Unwritable {
        /// What it is, with its name.
        what: String,
        /// What to do about it.
        remedy: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A port in memory failed, which is a bug.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A chart that cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The answer cannot be written.
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

impl From<InvalidPolicy> for Failure {
    fn from(invalid: InvalidPolicy) -> Failure {
        Failure::InvalidPolicy(Box::new(invalid))
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Failure {
        match error {
            ReplayError::Input(error) => Failure::Input(error),
            ReplayError::Port(error) => Failure::Port(error),
        }
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Failure {
        Failure::InvalidScenario { problem: with_causes(&error) }
    }
}

/// An error with its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Failure {
    /// The failure for a scenario file of this text. Its TOML is not shown, only the place in it.
    pub(crate) fn invalid_scenario(file: &str, toml: &str, error: &ScenarioError) -> Failure {
        let problem = match error {
            ScenarioError::Toml(error) => {
                let before = error.span().and_then(|span| toml.get(..span.start)).unwrap_or_default();
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                format!("line {}, column {column}: {}", before.matches('\n').count() + 1, error.message())
            }
            ScenarioError::Value { .. } => with_causes(error),
        };
        Failure::InvalidScenario { problem: format!("{file} is not a valid scenario: {problem}") }
    }

    /// The kind, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Failure::NoTime { .. } => ErrorKind::NoTime,
            Failure::Unreadable { .. } | Failure::Input(_) => ErrorKind::Unreadable,
            Failure::InvalidPolicy(_) => ErrorKind::InvalidPolicy,
            Failure::UnknownSubject { .. } => ErrorKind::UnknownSubject,
            Failure::UnknownIsp { .. } => ErrorKind::UnknownIsp,
            Failure::UnknownSet { .. } => ErrorKind::UnknownSet,
            Failure::UnknownScenario { .. } => ErrorKind::UnknownScenario,
            Failure::InvalidScenario { .. } => ErrorKind::InvalidScenario,
            Failure::NothingThen { .. } | Failure::NoEvents { .. } => ErrorKind::NoEvents,
            Failure::OutOfOrder { .. } => ErrorKind::OutOfOrder,
            Failure::Unwritable { .. } => ErrorKind::Unwritable,
            Failure::Port(_) | Failure::Plot(_) => ErrorKind::Fault,
            Failure::Output(_) => ErrorKind::Output,
        }
    }

    /// What to do about it, in a sentence or two; empty where the message is enough.
    pub fn remedy(&self) -> String {
        let did_you_mean = |nearest: &[String], otherwise: &str| match nearest {
            [] => otherwise.to_owned(),
            nearest => {
                format!("Did you mean {}?", nearest.iter().map(|known| name(known)).collect::<Vec<_>>().join(" or "))
            }
        };
        match self {
            Failure::NoTime { .. } => "Choose an earlier --since or a later --until.".to_owned(),
            Failure::InvalidPolicy(invalid) => invalid.fault.remedy(),
            Failure::UnknownSubject { nearest, .. } => did_you_mean(nearest, "There is none of any other subject."),
            Failure::UnknownIsp { nearest, .. } | Failure::UnknownScenario { nearest, .. } => did_you_mean(nearest, ""),
            Failure::UnknownSet { nearest, .. } => did_you_mean(nearest, "It is empty."),
            Failure::NoEvents { .. } => "Check that it contains SES events.".to_owned(),
            Failure::OutOfOrder { sort, .. } => format!(
                "Name each file separately, as SES or Firehose wrote it, because several files are merged by time. Or sort \
                 each file, if its events are not wrapped: {sort}"
            ),
            Failure::Unwritable { remedy, .. } => (*remedy).to_owned(),
            Failure::Unreadable { .. }
            | Failure::Input(_)
            | Failure::InvalidScenario { .. }
            | Failure::NothingThen { .. }
            | Failure::Port(_)
            | Failure::Plot(_)
            | Failure::Output(_) => String::new(),
        }
    }

    /// The failure as it is reported.
    pub fn report(&self) -> ErrorReport {
        let report = ErrorReport::new(self.kind(), &with_causes(self), &self.remedy());
        if let Failure::InvalidPolicy(invalid) = self { report.in_policy((**invalid).clone()) } else { report }
    }

    /// Whether the reader of the answer has closed the pipe, so that the work is done.
    pub(crate) fn is_gone(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}
