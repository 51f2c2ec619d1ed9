//! What a caller asks: an object, taken apart field by field, so that every bad field is told at
//! once. Nothing in it is parsed yet; the use cases do that.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::{Error, InvalidField, Result};

/// A struct that is filled from an object. The macro `asks!` makes one.
pub trait Ask: Sized {
    /// Whether it has fields that can be wrong in other ways than their type.
    const HAS_FIELDS: bool = true;

    /// Takes its fields out of an object.
    fn take(fields: &mut Fields) -> Self;
}

/// The fields of an object that nobody has taken yet, and what was wrong with those that were.
#[derive(Debug)]
pub struct Fields {
    object: Map<String, Value>,
    /// Whether `null` stands for a field that is left out, also where it cannot be cleared.
    takes_null: bool,
    wrong: Vec<InvalidField>,
}

impl Fields {
    /// Takes one field. A field that is `null` counts as absent, unless its type knows `null`; in a change
    /// it would mean something else, and is refused.
    pub fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let value = self.object.remove(name)?;
        if holds_nul(&value) {
            let message = "the field takes no NUL".to_owned();
            self.wrong.push(InvalidField { field: name.into(), message });
            return None;
        }
        let is_null = value.is_null();
        match serde_json::from_value(value) {
            Ok(parsed) => Some(parsed),
            Err(_) if is_null && self.takes_null => None,
            Err(_) if is_null => {
                let message = "the field is never `null`: leave it out, or say what it shall be";
                self.wrong.push(InvalidField { field: name.into(), message: message.to_owned() });
                None
            }
            Err(cause) => {
                self.wrong.push(InvalidField { field: name.into(), message: expected(&cause) });
                None
            }
        }
    }
}

/// Whether a text in there holds what PostgreSQL has no way to store or look for.
pub(crate) fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        _ => false,
    }
}

/// What a field must be, out of the words of the JSON reader, which would quote the caller. What a
/// field of ours says of a text stays as it is.
fn expected(cause: &serde_json::Error) -> String {
    let text = cause.to_string();
    let is_of_the_reader =
        ["invalid ", "unknown ", "expected "].iter().any(|it| text.starts_with(it));
    match text.split_once("expected ").filter(|_| is_of_the_reader) {
        Some((_, what)) => format!("the field takes {}", in_words(what)),
        None if is_of_the_reader => "this is not what the field takes".to_owned(),
        None => text,
    }
}

/// What the JSON reader expects, in the words of JSON instead of those of Rust.
fn in_words(expected: &str) -> &str {
    match expected {
        "u64" | "u32" | "usize" => "a whole number from 0",
        "u8" => "a whole number from 0 to 255",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "a map" => "an object",
        // one of some words
        "string or map" => "a string",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// What was asked, and the fields that could not be read: those are absent in it.
#[derive(Debug)]
pub struct ReadAsk<A> {
    /// What could be read.
    pub ask: A,
    /// Every field that is unknown or of the wrong type.
    pub misread: Vec<InvalidField>,
}

impl<A> ReadAsk<A> {
    /// What was asked, where all of it could be read.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every field that could not.
    pub fn whole(self) -> Result<A> {
        if self.misread.is_empty() { Ok(self.ask) } else { Err(Error::Invalid(self.misread)) }
    }
}

/// Reads what was asked, all of it.
///
/// # Errors
/// [`Error::Invalid`] with every field that is unknown or of the wrong type.
pub fn parse<A: Ask>(value: Value) -> Result<A> {
    read(value)?.whole()
}

/// Reads what can be read, so that what else is wrong can be told with it.
///
/// # Errors
/// [`Error::Invalid`] for what is no object.
pub fn read<A: Ask>(value: Value) -> Result<ReadAsk<A>> {
    read_with(value, true)
}

/// The same of a change, in which `null` clears a field: where one cannot be cleared, nothing would
/// happen, and the caller would take it for done.
///
/// # Errors
/// Like [`read`].
pub fn read_change<A: Ask>(value: Value) -> Result<ReadAsk<A>> {
    read_with(value, false)
}

fn read_with<A: Ask>(value: Value, takes_null: bool) -> Result<ReadAsk<A>> {
    let Value::Object(object) = value else {
        return Err(Error::invalid("", "send a JSON object"));
    };
    let mut fields = Fields { object, takes_null, wrong: Vec::new() };
    let ask = A::take(&mut fields);
    let unknown = fields.object.into_iter().map(|(name, _)| InvalidField {
        field: Cow::Owned(name.chars().take(64).collect()),
        message: "there is no such field".to_owned(),
    });
    fields.wrong.extend(unknown);
    Ok(ReadAsk { ask, misread: fields.wrong })
}

/// A list of scopes as the text of all of them. An element with a blank in it would come apart, and
/// give what nobody sees in the list.
///
/// # Errors
/// An element that is not one scope.
pub fn joined(scopes: &[String]) -> std::result::Result<String, String> {
    let is_one = |text: &&String| !text.is_empty() && !text.contains(char::is_whitespace);
    match scopes.iter().find(|text| !is_one(text)) {
        Some(text) => {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(format!("`{shown}`: an element of the list is one scope, without blanks"))
        }
        None => Ok(scopes.join(" ")),
    }
}

/// A JSON object that names no field twice: which of the two counts is nobody's to guess.
#[derive(Debug)]
pub struct Object(pub Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Object, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a field is named twice"));
            }
        }
        Ok(Object(object))
    }
}

/// Declares what a caller may ask: each field may be absent, and says its JSON type.
macro_rules! asks {
    ($($(#[$attribute:meta])* $visible:vis struct $name:ident {
        $($(#[$field_attribute:meta])* $field_visible:vis $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$attribute])*
        #[derive(Debug, Clone, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $visible struct $name {
            $($(#[$field_attribute])* $field_visible $field: Option<$type>,)*
        }

        impl $crate::model::ask::Ask for $name {
            fn take(fields: &mut $crate::model::ask::Fields) -> Self {
                Self { $($field: fields.take(stringify!($field)),)* }
            }
        }
    )*};
}
pub(crate) use asks;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    asks! {
        /// An ask.
        struct Sample {
            /// A name.
            name: String,
            /// A number.
            number: u32,
            /// What `null` clears.
            cleared: Option<String>,
            /// Names.
            names: Vec<String>,
            /// Yes or no.
            flag: bool,
            /// One of some words.
            kind: crate::model::api_key::ApiKeyType,
            /// An object.
            inner: Inner,
        }
    }

    #[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "share")]
        _share: u8,
    }

    #[test]
    fn every_bad_field_is_told_at_once() {
        let asked = parse::<Sample>(json!({"name": 5, "number": "x", "nonsense": 1}));
        let Err(Error::Invalid(wrong)) = asked else { panic!("{asked:?}") };
        let fields: Vec<&str> = wrong.iter().map(|wrong| &*wrong.field).collect();
        assert_eq!(fields, ["name", "number", "nonsense"]);
        assert_eq!(wrong[0].message, "the field takes a string");
    }

    #[test]
    fn what_a_field_takes_is_said_in_words() {
        let ask = json!({"names": "x", "flag": 1, "kind": 1, "inner": [], "name": {}});
        let Err(Error::Invalid(wrong)) = parse::<Sample>(ask) else { panic!("it is wrong") };
        let said = |wrong: &InvalidField| format!("`{}`: {}", wrong.field, wrong.message);
        let said: Vec<String> = wrong.iter().map(said).collect();
        assert_eq!(
            said,
            [
                "`name`: the field takes a string",
                "`names`: the field takes a list",
                "`flag`: the field takes true or false",
                "`kind`: the field takes a string",
                "`inner`: the field takes an object",
            ]
        );
        for (inner, message) in [
            (json!(5), "the field takes an object"),
            (json!({"share": 256}), "the field takes a whole number from 0 to 255"),
            (json!({"colour": 1}), "the field takes `share`"),
        ] {
            let wrong = parse::<Sample>(json!({"inner": inner}));
            let Err(Error::Invalid(wrong)) = wrong else { panic!("{inner}") };
            assert_eq!(wrong[0].message, message);
        }
        let good = json!({"names": ["x"], "flag": true, "kind": "user", "inner": {"share": 1}});
        let Sample { names, flag, kind, inner, .. } = parse(good).unwrap();
        assert!(names.is_some() && flag.is_some() && kind.is_some() && inner.is_some());
    }

    #[test]
    fn null_is_absent_unless_the_field_knows_it() {
        let asked: Sample = parse(json!({"name": null, "cleared": null})).unwrap();
        assert_eq!((asked.name, asked.number, asked.cleared), (None, None, Some(None)));
        assert!(parse::<Sample>(json!([])).is_err());
    }

    #[test]
    fn an_object_names_no_field_twice() {
        let read = |text: &str| serde_json::from_str::<Object>(text).map(|object| object.0.len());
        assert_eq!(read(r#"{"a": 1, "b": {"a": 2}}"#).unwrap(), 2);
        for text in [r#"{"a": 1, "a": 1}"#, r#"{"a": 1, "\u0061": 2}"#, "[]", "1", "{", "{} {}", ""]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
