//! Log lines of the functions: one JSON object a line on standard output, where Lambda picks them up.
//!
//! **Invariant:** no level prints the body of an event, a request or a response. The Lambda runtime and the SDK print
//! whole bodies at `trace`, addresses and the secret of the stack included; so what is not our own stops at `debug`,
//! whatever is asked for.

use std::io;
use std::str::FromStr;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// Where our own lines come from. Targets match by how they begin, so that `aws` alone would also be the SDK.
const OURS: [&str; 7] = ["aws::", "breaker", "enforcer", "gate", "ingest", "pipeline", "warmup"];

/// The text is no level and no list of directives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "log level `{0}` means nothing; allowed: trace, debug, info, warn, error, off, or directives such as \
     `info,aws::ses=debug`"
)]
pub struct LevelError(String);

/// Logs from now on. `level` is the value of LOG_LEVEL: a level, or directives like those of RUST_LOG; `None` and an
/// empty one are `info`. One that means nothing is `info`, too, and a warning says so: a function that does not start
/// because of its log level would stop the whole breaker.
///
/// Only the first call of a process counts.
pub fn init(level: Option<&str>) {
    let (targets, error) = match level.filter(|text| !text.trim().is_empty()).map(directives) {
        None => (info(), None),
        Some(Ok(targets)) => (targets, None),
        Some(Err(error)) => (info(), Some(error)),
    };
    // Standard output, as the metrics: two streams would be cut into each other.
    if subscriber(targets, io::stdout).try_init().is_ok()
        && let Some(error) = error
    {
        tracing::warn!(%error, "LOG_LEVEL is taken for info");
    }
}

fn info() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

/// Lines carry no time: CloudWatch keeps the time of each, and a second one would only differ from it.
fn subscriber<W>(targets: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .without_time()
        .with_writer(writer);
    Registry::default().with(lines.with_filter(targets))
}

/// Reads levels and directives, and takes `trace` from everything that is not ours.
fn directives(text: &str) -> Result<Targets, LevelError> {
    let error = || LevelError(text.to_owned());
    let mut read = Vec::new();
    let mut default = LevelFilter::OFF;
    for piece in text.split(',').map(str::trim) {
        match piece.split_once('=') {
            Some((target, level)) => {
                read.push((target.trim(), level.trim().parse::<LevelFilter>().map_err(|_| error())?))
            }
            // A word alone could be a target, too; it is more likely a misspelt level, and would silence the rest.
            None => default = word(piece).ok_or_else(error)?,
        }
    }
    let mut targets = Targets::new().with_default(default.min(LevelFilter::DEBUG));
    if default == LevelFilter::TRACE {
        targets = targets.with_targets(OURS.map(|target| (target, default)));
    }
    for (target, level) in read {
        let ours = OURS.iter().any(|ours| target.starts_with(ours));
        targets = targets.with_target(target, if ours { level } else { level.min(LevelFilter::DEBUG) });
    }
    Ok(targets)
}

fn word(text: &str) -> Option<LevelFilter> {
    let known = ["trace", "debug", "info", "warn", "error", "off"].iter().any(|level| level.eq_ignore_ascii_case(text));
    if known { LevelFilter::from_str(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Level;

    use super::*;

    #[test]
    fn directives_are_read_as_people_write_them() {
        for (text, target, level, expected) in [
            ("info", "aws::ses", Level::INFO, true),
            ("info", "aws::ses", Level::DEBUG, false),
            ("DEBUG", "aws::ses", Level::DEBUG, true),
            ("warn, aws::ses=debug", "aws::ses", Level::DEBUG, true),
            ("warn, aws::ses=debug", "aws::alerts", Level::INFO, false),
            ("aws::ses=info", "aws::alerts", Level::ERROR, false),
            ("off", "aws::ses", Level::ERROR, false),
        ] {
            assert_eq!(directives(text).unwrap().would_enable(target, &level), expected, "{text} {target} {level}");
        }
    }

    #[test]
    fn bodies_that_others_print_at_trace_never_show() {
        let foreign = ["aws_smithy_runtime::client::orchestrator", "lambda_runtime::layers::api_response", "hyper"];
        for text in ["trace", "info,aws=trace", "info,a=trace,lambda_runtime=trace,hyper=trace", "info,=trace"] {
            let targets = directives(text).unwrap();
            for target in foreign {
                assert!(!targets.would_enable(target, &Level::TRACE), "{text} {target}");
            }
        }
        assert!(directives("trace").unwrap().would_enable("aws::ses", &Level::TRACE));
        assert!(directives("info,aws::ses=trace").unwrap().would_enable("aws::ses", &Level::TRACE));
    }

    #[test]
    fn a_level_that_means_nothing_is_named_with_the_allowed_ones() {
        for text in ["verbose", "WARNING", "info,", "info,aws::ses=loud", "5"] {
            let error = directives(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("trace, debug, info, warn"), "{error}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_flat_json_object() {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(info(), move || writer.clone()), || {
            tracing::info_span!("invocation", request = "r-1").in_scope(|| {
                tracing::warn!(target: "aws::ses", calls = 3, error = "a \"b\"\nc", "SES is busy");
                tracing::debug!("not asked for");
            });
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        insta::assert_snapshot!(text, @r#"{"level":"WARN","message":"SES is busy","calls":3,"error":"a \"b\"\nc","target":"aws::ses","span":{"request":"r-1","name":"invocation"}}"#);
    }

    #[test]
    fn a_second_call_changes_nothing() {
        init(Some("verbose"));
        init(None);
    }
}
