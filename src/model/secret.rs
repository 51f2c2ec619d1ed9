//! Secrets: shown once, digested before they are looked up, stored never.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use crate::error::InvalidField;
use crate::model::id::{ApiKeyId, base62};
use crate::model::ledger::LedgerKey;

/// A secret in the clear. It can be shown once and stored never.
pub struct PlainSecret(Zeroizing<String>);

impl PlainSecret {
    /// Takes a text as a secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text. Takes `self`: a second call does not compile.
    pub fn reveal(mut self) -> String {
        std::mem::take(&mut self.0)
    }

    /// Whether a text shows it, as one that somebody pasted it into does.
    pub fn is_shown_in(&self, text: &str) -> bool {
        text.contains(self.0.as_str())
    }

    /// The bytes, for a digest.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for PlainSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainSecret(..)")
    }
}

/// A text for messages and for the audit, with all that looks like a secret cut short: callers paste
/// API keys where an id belongs, and what they sent is told again.
///
/// That is whatever is too long for an id and looks random. A long word in lower case is none.
pub fn masked(text: &str) -> Cow<'_, str> {
    if text.len() < LEAST_SECRET {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(is_of_secret) {
        let (before, run) = rest.split_at(start);
        let (run, behind) = run.split_at(run.find(|c| !is_of_secret(c)).unwrap_or(run.len()));
        shown.push_str(before);
        match run.get(..SHOWN_OF_SECRET) {
            Some(start) if looks_secret(run) => {
                shown.push_str(start);
                shown.push_str("...");
            }
            _ => shown.push_str(run),
        }
        rest = behind;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

impl InvalidField {
    /// The same, with what looks like a secret cut short: see [`masked`].
    #[must_use]
    pub fn masked(&self) -> Self {
        Self {
            field: masked(&self.field).into_owned().into(),
            message: masked(&self.message).into_owned(),
        }
    }
}

/// Characters that follow each other in a secret at least; an id has four fewer.
const LEAST_SECRET: usize = 20;
/// Characters of a secret that are told, so that its owner knows which it was.
const SHOWN_OF_SECRET: usize = 6;

fn is_of_secret(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=')
}

fn looks_secret(run: &str) -> bool {
    let looks_random = |text: &str| text.bytes().any(|byte| !byte.is_ascii_lowercase());
    let longest = run.split(|c: char| !c.is_ascii_alphanumeric()).max_by_key(|part| part.len());
    let has_long_part =
        longest.is_some_and(|part| part.len() >= LEAST_SECRET && looks_random(part));
    has_long_part || run.len() >= 2 * LEAST_SECRET && run.bytes().any(|b| b.is_ascii_uppercase())
}

/// The key of the digests of an installation: 32 random bytes, wrapped by the master key at rest.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl Pepper {
    /// A pepper of these bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The digest under which the text of an API key is stored and looked up.
    pub fn digest(&self, text: &[u8]) -> SecretDigest {
        self.digest_of_sha256(&Sha256::of(text))
    }

    /// The same, where only the SHA-256 of the text is known: of a key that is imported.
    pub fn digest_of_sha256(&self, sha256: &Sha256) -> SecretDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&self.0, &sha256.0).as_ref());
        SecretDigest(bytes)
    }

    /// The key that seals the ledger. No digest of an API key is made over as few bytes.
    pub fn ledger_key(&self) -> LedgerKey {
        LedgerKey::new(hmac::sign(&self.0, b"tenmint/ledger").as_ref())
    }

    /// The key that seals where pages of lists end.
    pub fn cursor_key(&self) -> hmac::Tag {
        hmac::sign(&self.0, b"tenmint/cursor")
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// `HMAC-SHA-256(pepper, SHA-256(text))`.
///
/// It is the look-up key as well, so nothing secret is ever compared. A fast hash is right here:
/// the texts have 256 random bits, and nobody guesses those.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// A digest that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

/// The SHA-256 of the text of an API key that another service made.
///
/// Of a text with few bits it is as good as the text, so it is printed nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The SHA-256 of a text.
    pub fn of(text: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
        Self(bytes)
    }

    fn from_hex(text: &str) -> Option<Self> {
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes = pairs.collect::<Option<Vec<u8>>>()?;
        bytes.try_into().ok().map(Self)
    }

    fn from_base64(text: &str) -> Option<Self> {
        let bare = text.strip_suffix('=').unwrap_or(text);
        let bytes = URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare)).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl FromStr for Sha256 {
    type Err = InvalidSha256;

    /// Takes 64 digits of hex, or base64 of either alphabet, with `sha256:` before it or without.
    fn from_str(text: &str) -> Result<Self, InvalidSha256> {
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        let digest = Self::from_hex(bare).or_else(|| Self::from_base64(bare));
        match digest.ok_or(InvalidSha256::Malformed)? {
            empty if empty == Self::of(b"") => Err(InvalidSha256::OfNothing),
            digest => Ok(digest),
        }
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256(..)")
    }
}

/// A text that is no digest of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidSha256 {
    /// It is no 32 bytes in hex or base64.
    Malformed,
    /// It is the digest of an empty text: what an export writes where it had no secret.
    OfNothing,
}

impl fmt::Display for InvalidSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a digest is a SHA-256: 64 digits of hex, or its 32 bytes in base64",
            Self::OfNothing => "this is the digest of an empty text, which is no key",
        })
    }
}

impl std::error::Error for InvalidSha256 {}

/// Characters of base62 that 256 bits take.
pub(crate) const SECRET_LENGTH: usize = 43;
/// Characters of base62 that the CRC-32 takes.
pub(crate) const CHECK_LENGTH: usize = 6;

/// The text of an API key: `<prefix>_<label>_<id><secret><check>`.
///
/// `check` is the CRC-32 of all before it, so that a scanner or a client can refuse a typo without
/// asking the server. Only letters, digits, `_` and `-` occur, because clients disagree about how
/// to encode anything else in Basic.
pub fn api_key_text(prefix: &str, label: &str, id: &ApiKeyId, random: &[u8; 32]) -> PlainSecret {
    let mut secret = Zeroizing::new([b'0'; SECRET_LENGTH]);
    base62(random, &mut *secret);
    let parts = [prefix, "_", label, "_", id.characters()];
    // in its place from the start: a text that moves when it grows leaves a copy behind
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + SECRET_LENGTH + CHECK_LENGTH;
    let mut text = String::with_capacity(length);
    text.extend(parts);
    text.extend(secret.iter().map(|byte| char::from(*byte)));
    let check = check_of(&text);
    text.extend(check.iter().map(|byte| char::from(*byte)));
    PlainSecret::new(text)
}

/// Whether the check at the end of a text is right: nothing but a guard against typos.
pub fn check_holds(text: &str) -> bool {
    let Some(at) = text.len().checked_sub(CHECK_LENGTH) else { return false };
    text.split_at_checked(at)
        .is_some_and(|(before, check)| check_of(before).as_slice() == check.as_bytes())
}

fn check_of(text: &str) -> [u8; CHECK_LENGTH] {
    let mut check = [b'0'; CHECK_LENGTH];
    base62(&crc32fast::hash(text.as_bytes()).to_be_bytes(), &mut check);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_api_key_has_the_shape_of_the_contract() {
        let id = ApiKeyId::from_random([7; 16]);
        let text = api_key_text("tm", "default", &id, &[255; 32]).reveal();
        let rest = text.strip_prefix("tm_default_").unwrap();
        assert_eq!(rest.len(), 16 + 43 + 6);
        assert!(rest.starts_with(id.characters()));
        assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(check_holds(&text));
    }

    #[test]
    fn one_changed_character_breaks_the_check() {
        let text =
            api_key_text("tm", "default", &ApiKeyId::from_random([7; 16]), &[9; 32]).reveal();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert!(!check_holds(std::str::from_utf8(&bytes).unwrap()), "at {at}");
        }
        assert!(
            !check_holds("") && !check_holds("tm_") && !check_holds("\u{e9}\u{e9}\u{e9}\u{e9}")
        );
    }

    #[test]
    fn the_digest_is_the_hmac_of_the_sha_256() {
        let pepper = Pepper::new(&[1; 32]);
        assert_eq!(pepper.digest(b"text"), pepper.digest_of_sha256(&Sha256::of(b"text")));
        assert_ne!(pepper.digest(b"text"), Pepper::new(&[2; 32]).digest(b"text"));
    }

    #[test]
    fn a_sha_256_is_read_in_hex_and_in_base64() {
        let hex = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";
        for text in [
            hex,
            &hex.to_uppercase(),
            &format!("sha256:{hex}"),
            "mC2ePrmW9VnmM/TRlN7zdh2Qn1o7ZH0ahR/q1nwyydE=",
            "mC2ePrmW9VnmM_TRlN7zdh2Qn1o7ZH0ahR_q1nwyydE",
            "sha256:mC2ePrmW9VnmM/TRlN7zdh2Qn1o7ZH0ahR/q1nwyydE",
        ] {
            assert_eq!(text.parse::<Sha256>(), Ok(Sha256::of(b"text")), "{text}");
        }
    }

    #[test]
    fn what_is_no_sha_256_of_a_text_is_refused() {
        let hex = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";
        for text in [
            "",
            "sha256:",
            "text",
            &hex[1..],
            &format!("{hex}00"),
            &format!("+{}", &hex[1..]),
            &format!(" {hex}"),
            "mC2ePrmW9VnmM/TRlN7zdh2Qn1o7ZH0ahR/q1nwyydF=",
            "mC2ePrmW9VnmM/TRlN7zdh2Qn1o7ZH0ahR/q1nwyydE==",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(text.parse::<Sha256>(), Err(InvalidSha256::Malformed), "{text}");
        }
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(nothing.parse::<Sha256>(), Err(InvalidSha256::OfNothing));
    }

    #[test]
    fn what_looks_like_a_secret_is_cut_short_and_nothing_else() {
        let key = "tm_default_FpF1pN1WLqeA2bXYXZAP3NeDPjFpF1pN1WLqeA2bXYXZAP3NeDPjabcdef0";
        let jwt = "eyJhbGciOiJFUzI1NiIs-InR5cCI6_ImF0K2p3dCJ9";
        for (text, shown) in [
            (format!("no API key `{key}`"), "no API key `tm_def...`"),
            (format!("`{}`", &key[..64]), "`tm_def...`"),
            (format!("{key},{key}"), "tm_def...,tm_def..."),
            (format!("read:{key}/*"), "read:tm_def.../*"),
            (format!("token {jwt}.{jwt}"), "token eyJhbG....eyJhbG..."),
            ("98f0e9c6d2b1a7f3e5d4c3b2a1908f7e".to_owned(), "98f0e9..."),
        ] {
            assert_eq!(masked(&text), shown);
        }
        for text in [
            "there is no API key `key_FpF1pN1WLqeA2bXY`",
            "a-slug-of-many-words-that-goes-on-for-63-characters-but-is-no-secret",
            "read:projects/alpha/* write:spaces/an-awfully-long-name/*",
            "supercalifragilisticexpialidocious",
            "https://api.example.com/v1/orgs/org_FpF1pN1WLqeA2bXY",
            "ada.lovelace@analytical-engines.example.com",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn nothing_secret_is_printed_by_debug() {
        let printed = format!(
            "{:?} {:?} {:?} {:?}",
            PlainSecret::new("tm_x".into()),
            Pepper::new(&[1; 32]),
            SecretDigest::from_bytes([1; 32]),
            Sha256::of(b"text")
        );
        assert_eq!(printed, "PlainSecret(..) Pepper(..) SecretDigest(..) Sha256(..)");
    }
}
