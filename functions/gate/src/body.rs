//! Reads the body of a request into its type. What is wrong is a code, a place and a text.
//!
//! The types of [`gate_api`] say what a body holds. An error of `serde_json` is a text; here it is a [`WrongBody`],
//! because a problem document names its code, and what it shows of the body has to be short.

use std::fmt;

use gate_api::ErrorCode;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use crate::problem::{Problem, pointer_part, shown};

/// Reads an object.
///
/// # Errors
///
/// The first property that is not known, missing, or not as it should be.
pub(crate) fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Json(Value::Object(fields))).map_err(|error| {
        let place = pointer(error.path());
        let WrongBody { code, detail, missing } = error.into_inner();
        let part = missing.map(|name| format!("/{}", pointer_part(name))).unwrap_or_default();
        Problem::new(code, detail).at(&format!("{place}{part}"))
    })
}

/// A place in the body as a JSON pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let part = |segment: &Segment| match segment {
        Segment::Map { key } => format!("/{}", pointer_part(key)),
        Segment::Seq { index } => format!("/{index}"),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    };
    path.iter().map(part).collect()
}

/// What is wrong with a value, without its place.
#[derive(Debug)]
struct WrongBody {
    code: ErrorCode,
    detail: String,
    /// The name of the property that is missing at the place.
    missing: Option<&'static str>,
}

impl WrongBody {
    fn new(code: ErrorCode, detail: String) -> WrongBody {
        WrongBody { code, detail, missing: None }
    }
}

impl fmt::Display for WrongBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for WrongBody {}

impl Error for WrongBody {
    fn custom<T: fmt::Display>(message: T) -> WrongBody {
        WrongBody::new(ErrorCode::InvalidValue, message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> WrongBody {
        WrongBody::custom(format!("is {}; allowed: {expected}", found_text(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> WrongBody {
        WrongBody::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> WrongBody {
        WrongBody::custom(format!("is {}; allowed: {}", shown(found), expected.join(", ")))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> WrongBody {
        let detail = format!("{} is no field of this request; known: {}", shown(found), expected.join(", "));
        WrongBody::new(ErrorCode::UnknownField, detail)
    }

    fn missing_field(name: &'static str) -> WrongBody {
        let detail = format!("the field {name} is missing");
        WrongBody { missing: Some(name), ..WrongBody::new(ErrorCode::MissingField, detail) }
    }
}

/// Numbers as they are; of the others only what they are, because they may be long.
fn found_text(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unsigned(number) => shown(&number.to_string()),
        Unexpected::Signed(number) => shown(&number.to_string()),
        Unexpected::Float(number) => shown(&Value::from(number).to_string()),
        Unexpected::Unit => "null".to_owned(),
        Unexpected::Bool(_) => "a boolean".to_owned(),
        Unexpected::Char(_) | Unexpected::Str(_) => "a string".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        Unexpected::Bytes(_)
        | Unexpected::Option
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => "something else".to_owned(),
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(flag) => Unexpected::Bool(*flag),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => Unexpected::Unsigned(whole),
            None => Unexpected::Float(number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// JSON that is read with errors of this module. A property that is null is not a missing one.
struct Json(Value);

impl<'de> Deserializer<'de> for Json {
    type Error = WrongBody;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WrongBody> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(whole), _) => visitor.visit_u64(whole),
                (None, Some(negative)) => visitor.visit_i64(negative),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::MAX)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Json))),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, Json(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WrongBody> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, WrongBody> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(WrongBody::invalid_type(unexpected(&other), &variants.join(", ").as_str()))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, WrongBody> for Json {
    type Deserializer = Json;

    fn into_deserializer(self) -> Json {
        self
    }
}
