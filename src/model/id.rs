//! Ids and slugs: `key_` and sixteen characters of base62, and what people call things.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::model::short_text::ShortText;
use crate::model::time::Timestamp;

/// The digits of base62.
pub(crate) const BASE62: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters of an id behind its prefix.
const ID_LENGTH: usize = 16;

/// Characters of a prefix.
const PREFIX_LENGTH: usize = 4;

/// An id as it is written.
pub type IdText = ShortText<{ PREFIX_LENGTH + ID_LENGTH }>;

/// What an id is an id of.
pub trait Noun {
    /// The text before the characters of the id: four, underscore included.
    const PREFIX: &'static str;
    /// What the noun is called in a schema.
    const NAME: &'static str;
}

/// An id of one noun. Sixteen characters of base62 are 95 bits, so ids never collide by chance.
pub struct Id<N> {
    characters: [u8; ID_LENGTH],
    noun: PhantomData<fn() -> N>,
}

macro_rules! nouns {
    ($($(#[$doc:meta])* $noun:ident $alias:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $noun {}
        impl Noun for $noun {
            const PREFIX: &'static str = $prefix;
            const NAME: &'static str = stringify!($alias);
        }
        #[doc = concat!("An id like `", $prefix, "0123456789abcdef`.")]
        pub type $alias = Id<$noun>;
    )*};
}

nouns! {
    /// An organization.
    OrgNoun OrgId "org_";
    /// An audience.
    AudienceNoun AudienceId "aud_";
    /// A bot: the owner of service keys.
    BotNoun BotId "bot_";
    /// An API key.
    ApiKeyNoun ApiKeyId "key_";
    /// A space: a project of an organization.
    SpaceNoun SpaceId "spc_";
    /// A user: a person.
    UserNoun UserId "usr_";
    /// A role that an organization defined.
    RoleNoun RoleId "rol_";
    /// A policy of a gateway.
    GatewayPolicyNoun GatewayPolicyId "gwp_";
    /// An entry of the audit.
    AuditNoun AuditId "evt_";
    /// An import of API keys.
    ImportNoun ImportId "imp_";
}

impl<N: Noun> Id<N> {
    /// An id of these random bytes.
    pub fn from_random(random: [u8; 16]) -> Self {
        let mut characters = [b'0'; ID_LENGTH];
        base62(&random, &mut characters);
        Self { characters, noun: PhantomData }
    }

    /// So many ids, one after the other from these random bytes on. Rows that are stored together
    /// get such ids, so that they lie together in every index.
    pub fn run_from_random(random: [u8; 16]) -> impl Iterator<Item = Self> {
        let first = u128::from_be_bytes(random);
        (0..).map(move |number| Self::from_random(first.wrapping_add(number).to_be_bytes()))
    }

    /// The id of another noun with the same characters.
    pub fn with_noun<M: Noun>(&self) -> Id<M> {
        Id { characters: self.characters, noun: PhantomData }
    }

    /// The id of these sixteen characters, without the prefix.
    pub fn from_characters(characters: &[u8]) -> Option<Self> {
        let characters: [u8; ID_LENGTH] = characters.try_into().ok()?;
        let is_id = characters.iter().all(u8::is_ascii_alphanumeric);
        is_id.then_some(Self { characters, noun: PhantomData })
    }

    /// The id as it is written, prefix and all.
    pub fn text(&self) -> IdText {
        const { assert!(N::PREFIX.len() == PREFIX_LENGTH, "a prefix is three letters and `_`") };
        let mut text = [0; PREFIX_LENGTH + ID_LENGTH];
        let (prefix, characters) = text.split_at_mut(PREFIX_LENGTH);
        prefix.copy_from_slice(N::PREFIX.as_bytes());
        characters.copy_from_slice(&self.characters);
        ShortText::of(text)
    }

    /// The sixteen characters, without the prefix.
    pub fn characters(&self) -> &str {
        std::str::from_utf8(&self.characters).unwrap_or_default()
    }
}

impl AudienceId {
    /// The audience of tenmint's own management API, which is no row of any table. Random bytes
    /// never make this id.
    pub const MANAGEMENT: Self = Self { characters: [b'0'; ID_LENGTH], noun: PhantomData };
}

/// Characters of an id that say its time: milliseconds until far beyond the year 8000.
const TIME_LENGTH: usize = 8;

impl AuditId {
    /// An id that sorts by its moment; ids of one moment are told apart by the random bytes.
    pub fn at(moment: Timestamp, random: [u8; 6]) -> Self {
        let mut characters = [b'0'; ID_LENGTH];
        let (time, rest) = characters.split_at_mut(TIME_LENGTH);
        base62(&moment.as_millis().max(0).to_be_bytes(), time);
        base62(&random, rest);
        Self { characters, noun: PhantomData }
    }
}

impl<N> Clone for Id<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for Id<N> {}

impl<N> PartialEq for Id<N> {
    fn eq(&self, other: &Self) -> bool {
        self.characters == other.characters
    }
}

impl<N> Eq for Id<N> {}

impl<N> PartialOrd for Id<N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<N> Ord for Id<N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.characters.cmp(&other.characters)
    }
}

impl<N> Hash for Id<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.characters.hash(state);
    }
}

impl<N: Noun> fmt::Display for Id<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // in one piece, so that a text of it is made in one allocation
        f.write_str(&self.text())
    }
}

impl<N: Noun> fmt::Debug for Id<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<N: Noun> serde::Serialize for Id<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<N: Noun> JsonSchema for Id<N> {
    fn schema_name() -> Cow<'static, str> {
        N::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": format!("^{}[0-9A-Za-z]{{16}}$", N::PREFIX)})
    }
}

/// A text that is no id of the noun asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId {
    prefix: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id here is `{}` and {ID_LENGTH} letters and digits", self.prefix)
    }
}

impl std::error::Error for InvalidId {}

impl<N: Noun> FromStr for Id<N> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix(N::PREFIX)
            .and_then(|characters| Self::from_characters(characters.as_bytes()))
            .ok_or(InvalidId { prefix: N::PREFIX })
    }
}

/// Writes a big-endian number in base62, the most significant digit first. What does not fit into
/// the digits is dropped from the top.
pub(crate) fn base62(number: &[u8], digits: &mut [u8]) {
    let mut number = number.to_vec();
    for digit in digits.iter_mut().rev() {
        let mut rest = 0;
        for byte in &mut number {
            let value = rest * 256 + usize::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *digit = BASE62.get(rest).copied().unwrap_or(b'0');
    }
    zeroize::Zeroize::zeroize(&mut number);
}

/// What people call an organization or an audience in URLs and keys: `[a-z0-9-]{1,40}`.
///
/// Immutable and never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slug(Box<str>);

impl Slug {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for Slug {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl JsonSchema for Slug {
    fn schema_name() -> Cow<'static, str> {
        "Slug".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[a-z0-9-]{1,40}$"})
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidSlug;

impl fmt::Display for InvalidSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a slug is 1 to 40 of the characters a-z, 0-9 and `-`")
    }
}

impl std::error::Error for InvalidSlug {}

impl FromStr for Slug {
    type Err = InvalidSlug;

    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if (1..=40).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSlug)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_back() {
        let id = ApiKeyId::from_random([0xAB; 16]);
        assert_eq!(id.to_string().parse::<ApiKeyId>(), Ok(id));
        assert_eq!(id.to_string().len(), 20);
    }

    #[test]
    fn an_id_of_another_noun_or_length_is_refused() {
        for text in ["org_0123456789abcdef", "key_0123456789abcde", "key_0123456789abcde-", "key_"]
        {
            assert!(text.parse::<ApiKeyId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_run_of_ids_is_in_order_and_each_is_another() {
        for random in [[7; 16], [255; 16]] {
            let ids: Vec<ApiKeyId> = ApiKeyId::run_from_random(random).take(70).collect();
            assert_eq!(ids[0], ApiKeyId::from_random(random));
            // only a run that begins at the very end goes on at the start
            let rising = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
            assert!(rising >= 68);
            assert_eq!(ids[1].with_noun::<BotNoun>().characters(), ids[1].characters());
        }
    }

    #[test]
    fn an_id_of_the_audit_sorts_by_time() {
        let at = |millis| AuditId::at(Timestamp::from_millis(millis), [255; 6]).to_string();
        assert!(at(1_000) < at(1_001) && at(61) < at(62) && at(-5) == at(0));
        assert!(AuditId::at(Timestamp::from_millis(2), [0; 6]).to_string() > at(1));
    }

    #[test]
    fn base62_is_the_number_in_base_62() {
        let mut digits = [0; 3];
        base62(&[0x01, 0x00], &mut digits);
        assert_eq!(&digits, b"048", "256 = 4 * 62 + 8");
    }

    #[test]
    fn a_slug_is_short_and_plain() {
        assert!("default-1".parse::<Slug>().is_ok());
        for text in ["", "Default", "a b", "a/b", &"a".repeat(41)] {
            assert!(text.parse::<Slug>().is_err(), "{text}");
        }
    }
}
