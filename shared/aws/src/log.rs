//! Log lines of the functions: one JSON object a line on standard output, where Lambda picks them up.
//!
//! **Invariant:** no level prints the body of an event, a request or a response. The Lambda runtime and the SDK print
//! whole bodies at `trace`, addresses and the secret of the stack included; so what is not our own stops at `debug`,
//! whatever is asked for.
//! **Invariant:** no object in a line has a key twice, whatever fields are named: of two members with one key some readers
//! take the first, others the last, and CloudWatch Logs Insights shows one of them only.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

/// Where our own lines come from. Targets match by how they begin, so that `aws` alone would also be the SDK.
const OURS: [&str; 7] = ["aws::", "breaker", "enforcer", "gate", "ingest", "pipeline", "warmup"];

/// The text is neither a level nor a list of directives.
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

fn subscriber<W>(targets: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines =
        tracing_subscriber::fmt::layer().fmt_fields(JsonFields::new()).event_format(JsonLine).with_writer(writer);
    Registry::default().with(lines.with_filter(targets))
}

/// Writes an event as a line: its level, its text and fields, where it comes from, and the innermost span around it.
///
/// Lines carry no time: CloudWatch keeps the time of each, and a second one would only differ from it.
struct JsonLine;

/// Keys of a line itself, or, for the time, of what Lambda may add to it. A field of this name gets another key.
const OWN_KEYS: [&str; 4] = ["level", "target", "span", "timestamp"];

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Object::new(&OWN_KEYS);
        line.own("level", &Value::from(metadata.level().as_str()));
        event.record(&mut line);
        line.own("target", &Value::from(metadata.target()));
        if let Some(current) = context.lookup_current() {
            let extensions = current.extensions();
            let written = extensions.get::<FormattedFields<JsonFields>>().map_or("", |fields| fields.as_str());
            let mut span = Object::new(&["name"]);
            // A span without fields has written nothing.
            for (name, value) in serde_json::from_str::<Map<String, Value>>(written).unwrap_or_default() {
                span.field(&name, &value);
            }
            span.own("name", &Value::from(current.name()));
            line.own("span", &span);
        }
        writeln!(writer, "{line}")
    }
}

/// A JSON object that is written member by member, in this order.
struct Object {
    /// Keys that no field may take.
    own: &'static [&'static str],
    /// Each key with the JSON of its value.
    members: Vec<(String, String)>,
}

impl Object {
    fn new(own: &'static [&'static str]) -> Object {
        Object { own, members: Vec::new() }
    }

    fn own(&mut self, key: &'static str, value: &dyn fmt::Display) {
        self.members.push((key.to_owned(), value.to_string()));
    }

    /// Adds a field; under another key if its own is taken. The text of an event comes first, so `message` is the text.
    fn field(&mut self, name: &str, value: &Value) {
        let mut key = name.strip_prefix("r#").unwrap_or(name).to_owned();
        while self.own.contains(&key.as_str()) || self.members.iter().any(|(known, _)| *known == key) {
            key.insert_str(0, "field_");
        }
        self.members.push((key, value.to_string()));
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field.name(), &Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field.name(), &Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field.name(), &Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field.name(), &Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field.name(), &Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field.name(), &Value::from(format!("{value:?}")));
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (key, value)) in self.members.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}:{value}", Value::from(key.as_str()))?;
        }
        f.write_str("}")
    }
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
    use std::collections::BTreeSet;
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

    /// What is logged meanwhile.
    fn logged(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(info(), move || writer.clone()), log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_one_flat_json_object() {
        let text = logged(|| {
            tracing::info_span!("invocation", request = "r-1").in_scope(|| {
                tracing::warn!(target: "aws::ses", calls = 3, error = "a \"b\"\nc", "SES is busy");
                tracing::debug!("not asked for");
            });
        });
        insta::assert_snapshot!(text, @r#"{"level":"WARN","message":"SES is busy","calls":3,"error":"a \"b\"\nc","target":"aws::ses","span":{"request":"r-1","name":"invocation"}}"#);
    }

    /// Any JSON in which no object has a key twice.
    struct Strict;

    impl<'de> serde::Deserialize<'de> for Strict {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
            struct Any;
            impl<'de> serde::de::Visitor<'de> for Any {
                type Value = Strict;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("JSON without a key that is there twice")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                    let mut keys = BTreeSet::new();
                    while let Some((key, Strict)) = map.next_entry::<String, Strict>()? {
                        if let Some(twice) = keys.replace(key) {
                            return Err(serde::de::Error::custom(format!("`{twice}` is there twice")));
                        }
                    }
                    Ok(Strict)
                }

                fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
                    Ok(Strict)
                }

                fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
                    Ok(Strict)
                }

                fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
                    Ok(Strict)
                }

                fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
                    Ok(Strict)
                }

                fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
                    Ok(Strict)
                }

                fn visit_unit<E>(self) -> Result<Strict, E> {
                    Ok(Strict)
                }
            }
            deserializer.deserialize_any(Any)
        }
    }

    #[test]
    fn no_line_of_any_shape_has_a_key_twice() {
        let text = logged(|| {
            tracing::info!("text alone");
            tracing::info!(alone = 1);
            tracing::info!(message = "a field", "a text");
            tracing::info!(message = "a field alone");
            tracing::info!(level = 9, target = "t", span = true, timestamp = 0.5, name = "n", "names of a line's own");
            tracing::info!(twice = 1, twice = 2, field_twice = 3, r#type = -1, nan = f64::NAN, "the same name again");
            let error = "x".parse::<u8>().unwrap_err();
            tracing::warn!(error = &error as &dyn std::error::Error, message = %error, target = ?Some("t"), "of all types");
            let all =
                tracing::info_span!("s", name = "n", level = 1, target = "t", message = "m", timestamp = 1, span = 1);
            let span = tracing::info_span!("outer", later = tracing::field::Empty, name = tracing::field::Empty);
            all.in_scope(|| tracing::info!(span = "s", target = "t", message = "m", "within a span"));
            span.in_scope(|| {
                span.record("later", 1).record("name", "n");
                tracing::info_span!("without fields").in_scope(|| tracing::info!(name = "n", "within two"));
                tracing::error!(level = "l", message = 1, "within a span that is told of later");
            });
        });
        for line in text.lines() {
            if let Err(error) = serde_json::from_str::<Strict>(line) {
                panic!("{error}: {line}");
            }
        }
        insta::assert_snapshot!(text, @r#"
        {"level":"INFO","message":"text alone","target":"aws::log::tests"}
        {"level":"INFO","alone":1,"target":"aws::log::tests"}
        {"level":"INFO","message":"a text","field_message":"a field","target":"aws::log::tests"}
        {"level":"INFO","message":"a field alone","target":"aws::log::tests"}
        {"level":"INFO","message":"names of a line's own","field_level":9,"field_target":"t","field_span":true,"field_timestamp":0.5,"name":"n","target":"aws::log::tests"}
        {"level":"INFO","message":"the same name again","twice":1,"field_twice":2,"field_field_twice":3,"type":-1,"nan":null,"target":"aws::log::tests"}
        {"level":"WARN","message":"of all types","error":"invalid digit found in string","field_message":"invalid digit found in string","field_target":"Some(\"t\")","target":"aws::log::tests"}
        {"level":"INFO","message":"within a span","field_span":"s","field_target":"t","field_message":"m","target":"aws::log::tests","span":{"level":1,"message":"m","field_name":"n","span":1,"target":"t","timestamp":1,"name":"s"}}
        {"level":"INFO","message":"within two","name":"n","target":"aws::log::tests","span":{"name":"without fields"}}
        {"level":"ERROR","message":"within a span that is told of later","field_level":"l","field_message":1,"target":"aws::log::tests","span":{"later":1,"field_name":"n","name":"outer"}}
        "#);
    }

    #[test]
    fn a_second_call_changes_nothing() {
        init(Some("verbose"));
        init(None);
    }
}
