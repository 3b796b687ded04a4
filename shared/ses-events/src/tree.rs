//! A whole JSON document as a tree, for the reference.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::Timestamp;
use crate::rejection::{JsonType, Rejection};
use crate::text::Text;

/// Any JSON.
pub(crate) enum Tree<'a> {
    Null,
    Boolean(bool),
    Number(f64),
    String(Text<'a>),
    Array(Vec<Tree<'a>>),
    Object(Fields<'a>),
}

/// The fields of an object, in order.
pub(crate) struct Fields<'a>(pub(crate) Vec<(Text<'a>, Tree<'a>)>);

impl<'a> Tree<'a> {
    pub(crate) fn json_type(&self) -> JsonType {
        match self {
            Self::Null => JsonType::Null,
            Self::Boolean(_) => JsonType::Boolean,
            Self::Number(_) => JsonType::Number,
            Self::String(_) => JsonType::String,
            Self::Array(_) => JsonType::Array,
            Self::Object(_) => JsonType::Object,
        }
    }

    pub(crate) fn wrong_type(&self, expected: JsonType, path: &'static str) -> Rejection {
        Rejection::WrongType { path, expected, found: self.json_type() }
    }

    pub(crate) fn as_text(&self) -> Option<Text<'_>> {
        if let Self::String(text) = self { Some(Cow::Borrowed(&**text)) } else { None }
    }

    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::String(text) => Timestamp::parse_any(text),
            Self::Number(number) => Timestamp::since_1970(*number),
            Self::Null | Self::Boolean(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    pub(crate) fn text(&self, path: &'static str) -> Result<Text<'_>, Rejection> {
        self.as_text().ok_or_else(|| self.wrong_type(JsonType::String, path))
    }

    pub(crate) fn array(&self, path: &'static str) -> Result<&[Tree<'a>], Rejection> {
        if let Self::Array(items) = self { Ok(items) } else { Err(self.wrong_type(JsonType::Array, path)) }
    }

    pub(crate) fn object(&self, path: &'static str) -> Result<&Fields<'a>, Rejection> {
        if let Self::Object(fields) = self { Ok(fields) } else { Err(self.wrong_type(JsonType::Object, path)) }
    }
}

impl<'a> Fields<'a> {
    /// The last field of this name, unless it is null.
    pub(crate) fn get(&self, name: &str) -> Option<&Tree<'a>> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        (value.json_type() != JsonType::Null).then_some(value)
    }

    pub(crate) fn text(&self, name: &str, path: &'static str) -> Result<Option<Text<'_>>, Rejection> {
        self.get(name).map(|value| value.text(path)).transpose()
    }

    pub(crate) fn array(&self, name: &str, path: &'static str) -> Result<&[Tree<'a>], Rejection> {
        self.get(name).map_or(Ok(&[]), |value| value.array(path))
    }
}

/// Why a text is not JSON.
pub(crate) fn not_json(text: &str, error: &serde_json::Error) -> Rejection {
    // `serde_json` gives no other indication.
    if error.to_string().starts_with("recursion limit exceeded") {
        return Rejection::TooDeep;
    }
    Rejection::NotJson { at: error_at(text, error) }
}

/// The byte at which the parser gave up.
pub(crate) fn error_at(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (before + error.column()).saturating_sub(1).min(text.len())
}

impl<'de: 'a, 'a> Deserialize<'de> for Tree<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

/// A key, borrowed if possible.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Text<'a>);

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Tree<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Self::Value, E> {
        Ok(Tree::Boolean(boolean))
    }

    // Numbers are read as dates only, which an `f64` holds to the microsecond.

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Tree::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Tree::String(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Tree::String(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(Tree::Object(Fields(fields)))
    }
}
