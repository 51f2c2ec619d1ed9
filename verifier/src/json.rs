//! JSON objects read strictly: a member that comes twice is refused, as RFC 7515 section 4 and
//! RFC 7519 section 4 allow, because two readers of one token must never see two different claims.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// Members that an object may have: a token of ours has a dozen, and the check for doubles is
/// quadratic.
const MAX_MEMBERS: usize = 64;

/// A type that is filled member by member.
pub(crate) trait Members<'de>: Default {
    /// Takes the value of a member it knows, or skips it with [`skip`].
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Parses one object, and nothing behind it.
///
/// From text, not from bytes: what is skipped would else go unread, and could be no UTF-8.
pub(crate) fn parse<'de, T: Members<'de>>(text: &'de str) -> Result<T, serde_json::Error> {
    serde_json::from_str::<Strict<T>>(text).map(|strict| strict.0)
}

/// Skips a value that has no meaning here.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// A value that was read strictly.
pub(crate) struct Strict<T>(pub(crate) T);

impl<'de, T: Members<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Members<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Strict<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict<T>, A::Error> {
        let mut object = T::default();
        let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(16);
        while let Some(Text(name)) = map.next_key()? {
            if seen.len() == MAX_MEMBERS || seen.contains(&name) {
                return Err(A::Error::custom("a member comes twice, or there are too many"));
            }
            object.member(&name, &mut map)?;
            seen.push(name);
        }
        Ok(Strict(object))
    }
}

/// A string, borrowed where it holds no escape.
pub(crate) struct Text<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}
