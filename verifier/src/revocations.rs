//! What an issuer revoked, as its feed tells it: the document, and what a verifier keeps of it.
//!
//! No clock takes part in what is void: a token says under which revision it was issued, and an entry
//! voids the tokens of its subject with a lower one. `until` only says when an entry may be
//! forgotten, because all that it voids is dead by then.

use std::collections::{HashMap, HashSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::de::{Error as _, MapAccess};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::claims::Claims;
use crate::json::{self, Members, Text};

/// Whose tokens an entry voids: the first half of the SHA-256 of an id, because the feed is public
/// and must not list the keys of an organization.
///
/// ```
/// use tenmint_verifier::RevokedSubject;
/// let subject = RevokedSubject::of("key_0123456789abcdef");
/// assert_eq!(subject.to_string(), "NIpEcKIuBOwdZY1M4Ouv7w");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevokedSubject([u8; 16]);

impl RevokedSubject {
    /// The subject with this id: of an API key, its owner, its space, its organization, or a `jti`.
    ///
    /// ```
    /// # use tenmint_verifier::RevokedSubject;
    /// assert_ne!(RevokedSubject::of("org_a"), RevokedSubject::of("org_b"));
    /// ```
    pub fn of(id: &str) -> Self {
        let mut half = [0; 16];
        let hash = digest(&SHA256, id.as_bytes());
        half.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        Self(half)
    }
}

impl fmt::Display for RevokedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for RevokedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevokedSubject({self})")
    }
}

/// One entry of a feed. In JSON, a list of three: subject, revision or `null`, and the end.
///
/// ```
/// use tenmint_verifier::{Revocation, RevokedSubject};
/// let subject = RevokedSubject::of("key_0123456789abcdef");
/// let revoked = Revocation { subject, below: None, until: 1_800_000_000 };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens are void.
    pub subject: RevokedSubject,
    /// Those with a lower `rev`; nothing for all of them, later ones included.
    pub below: Option<u64>,
    /// When the entry may be forgotten, in seconds since 1970.
    pub until: u64,
}

impl Serialize for Revocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_tuple(3)?;
        entry.serialize_element(&self.subject.to_string())?;
        entry.serialize_element(&self.below)?;
        entry.serialize_element(&self.until)?;
        entry.end()
    }
}

impl<'de> Deserialize<'de> for Revocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Text(subject), below, until) = Deserialize::deserialize(deserializer)?;
        let subject = URL_SAFE_NO_PAD.decode(subject.as_bytes()).ok();
        let subject = subject.and_then(|bytes| bytes.try_into().ok()).map(RevokedSubject);
        let subject = subject.ok_or_else(|| D::Error::custom("no subject"))?;
        Ok(Self { subject, below, until })
    }
}

/// What a feed says: the claims of a JWT of the type `tm-revocations+jwt`.
///
/// ```
/// use tenmint_verifier::RevocationFeed;
/// let feed = RevocationFeed {
///     iss: "https://auth.example.com".to_owned(),
///     iat: 1_800_000_000,
///     epoch: "1".to_owned(),
///     rev: 7,
///     since: 0,
///     void: Vec::new(),
///     kids: Vec::new(),
/// };
/// assert!(serde_json::to_string(&feed).unwrap().contains(r#""rev":7"#));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevocationFeed {
    /// The issuer.
    pub iss: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// Changes when the database of the issuer was restored: revisions of two epochs do not compare.
    pub epoch: String,
    /// The revision of the feed.
    pub rev: u64,
    /// The revision that it adds to; 0 where it says all.
    pub since: u64,
    /// What is void.
    pub void: Vec<Revocation>,
    /// Signing keys that were withdrawn: nothing that they signed holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kids: Vec<String>,
}

/// A feed as it stands in the text, nothing required yet.
#[derive(Default)]
struct RawFeed<'de> {
    iss: Option<Text<'de>>,
    iat: Option<u64>,
    epoch: Option<Text<'de>>,
    rev: Option<u64>,
    since: Option<u64>,
    void: Option<Vec<Revocation>>,
    kids: Option<Vec<String>>,
}

impl<'de> Members<'de> for RawFeed<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "iss" => self.iss = Some(map.next_value()?),
            "iat" => self.iat = Some(map.next_value()?),
            "epoch" => self.epoch = Some(map.next_value()?),
            "rev" => self.rev = Some(map.next_value()?),
            "since" => self.since = Some(map.next_value()?),
            "void" => self.void = Some(map.next_value()?),
            "kids" => self.kids = Some(map.next_value()?),
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

impl RevocationFeed {
    /// The `typ` of a feed, so that it is never taken for a token, nor a token for it.
    ///
    /// ```
    /// assert_eq!(tenmint_verifier::RevocationFeed::TYPE, "tm-revocations+jwt");
    /// ```
    pub const TYPE: &'static str = "tm-revocations+jwt";

    /// The feed in the claims of a JWT whose signature was checked; nothing where they are none.
    ///
    /// ```
    /// let text = r#"{"iss": "https://auth.example.com", "iat": 1, "epoch": "1", "rev": 7,
    ///     "since": 0, "void": [["NIpEcKIuBOwdZY1M4Ouv7w", null, 1800000000]]}"#;
    /// let feed = tenmint_verifier::RevocationFeed::parse(text).unwrap();
    /// assert_eq!((feed.rev, feed.void.len()), (7, 1));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let raw: RawFeed<'_> = json::parse(text).ok()?;
        Some(Self {
            iss: raw.iss?.0.into_owned(),
            iat: raw.iat?,
            epoch: raw.epoch?.0.into_owned(),
            rev: raw.rev?,
            since: raw.since?,
            void: raw.void?,
            kids: raw.kids.unwrap_or_default(),
        })
    }
}

/// A feed that adds to something that is not held: ask for all.
///
/// ```
/// assert_eq!(tenmint_verifier::FeedGap.to_string(), "the feed adds to one that is not held");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedGap;

impl fmt::Display for FeedGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the feed adds to one that is not held")
    }
}

impl std::error::Error for FeedGap {}

/// What is void, as far as it was heard.
///
/// ```
/// use tenmint_verifier::Revocations;
/// let held = Revocations::default();
/// assert!(held.is_empty());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    epoch: Option<String>,
    rev: u64,
    held: HashMap<RevokedSubject, Void>,
    withdrawn: HashSet<String>,
}

#[derive(Debug, Clone, Copy)]
struct Void {
    /// `u64::MAX` where every token is.
    below: u64,
    until: u64,
}

impl Revocations {
    /// Takes what a feed says. One that is older than what is held changes nothing; nothing that is
    /// held is dropped, because a restore of the issuer must not bring a revoked key back.
    ///
    /// # Errors
    /// [`FeedGap`] where something between is missing.
    ///
    /// ```
    /// # use tenmint_verifier::{RevocationFeed, Revocations};
    /// # let feed = |rev, since| RevocationFeed { iss: String::new(), iat: 0, epoch: "1".to_owned(),
    /// #     rev, since, void: Vec::new(), kids: Vec::new() };
    /// let mut held = Revocations::default();
    /// assert!(held.apply(&feed(7, 5)).is_err());
    /// assert!(held.apply(&feed(7, 0)).is_ok());
    /// assert_eq!(held.revision(), 7);
    /// ```
    pub fn apply(&mut self, feed: &RevocationFeed) -> Result<(), FeedGap> {
        let is_same_epoch = self.epoch.as_deref() == Some(feed.epoch.as_str());
        let base = if is_same_epoch { self.rev } else { 0 };
        if feed.since > base {
            return Err(FeedGap);
        }
        feed.void.iter().for_each(|entry| self.void(*entry));
        self.withdrawn.extend(feed.kids.iter().cloned());
        self.rev = if is_same_epoch { self.rev.max(feed.rev) } else { feed.rev };
        self.epoch = Some(feed.epoch.clone());
        Ok(())
    }

    /// Takes one entry.
    ///
    /// ```
    /// # use tenmint_verifier::{Revocation, Revocations, RevokedSubject};
    /// let mut held = Revocations::default();
    /// let subject = RevokedSubject::of("key_0123456789abcdef");
    /// held.void(Revocation { subject, below: Some(7), until: 1_800_000_000 });
    /// assert!(held.voids_of("key_0123456789abcdef", 6));
    /// ```
    pub fn void(&mut self, entry: Revocation) {
        let held = self.held.entry(entry.subject).or_insert(Void { below: 0, until: 0 });
        held.below = held.below.max(entry.below.unwrap_or(u64::MAX));
        held.until = held.until.max(entry.until);
    }

    /// Whether what was issued to a subject under this revision is void.
    ///
    /// ```
    /// assert!(!tenmint_verifier::Revocations::default().voids_of("key_0123456789abcdef", 7));
    /// ```
    pub fn voids_of(&self, id: &str, rev: u64) -> bool {
        let void = self.held.get(&RevokedSubject::of(id));
        void.is_some_and(|void| rev < void.below || void.below == u64::MAX)
    }

    /// Whether a token is void: by its key, its owner, its space, its organization, or by itself.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{testing::TestIssuer, Revocation, RevocationFeed, Revocations, RevokedSubject};
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "chat").sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// let mut held = Revocations::default();
    /// assert!(!held.voids(token.claims()));
    /// # let subject = RevokedSubject::of(&token.claims().client_id);
    /// # held.apply(&RevocationFeed { iss: String::new(), iat: 0, epoch: "1".to_owned(), rev: 1,
    /// #     since: 0, void: vec![Revocation { subject, below: None, until: 1 }], kids: Vec::new() }).unwrap();
    /// # assert!(held.voids(token.claims()));
    /// # }
    /// ```
    pub fn voids(&self, claims: &Claims) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let ids = [&claims.client_id, &claims.sub, &claims.org, &claims.jti];
        ids.into_iter().chain(&claims.space).any(|id| self.voids_of(id, claims.rev))
    }

    /// Whether a signing key was withdrawn.
    ///
    /// ```
    /// assert!(!tenmint_verifier::Revocations::default().is_withdrawn("kid"));
    /// ```
    pub fn is_withdrawn(&self, kid: &str) -> bool {
        self.withdrawn.contains(kid)
    }

    /// Forgets what has ended before this moment, in seconds since 1970.
    ///
    /// ```
    /// tenmint_verifier::Revocations::default().forget(1_800_000_000);
    /// ```
    pub fn forget(&mut self, now: u64) {
        self.held.retain(|_, void| void.until >= now);
    }

    /// The epoch that was heard last.
    ///
    /// ```
    /// assert_eq!(tenmint_verifier::Revocations::default().epoch(), None);
    /// ```
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// The revision of the feed that was heard last.
    ///
    /// ```
    /// assert_eq!(tenmint_verifier::Revocations::default().revision(), 0);
    /// ```
    pub fn revision(&self) -> u64 {
        self.rev
    }

    /// How many subjects are void.
    ///
    /// ```
    /// assert_eq!(tenmint_verifier::Revocations::default().len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    ///
    /// ```
    /// assert!(tenmint_verifier::Revocations::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn feed(epoch: &str, (since, rev): (u64, u64), void: &[Revocation]) -> RevocationFeed {
        RevocationFeed {
            iss: "https://auth.example.com".to_owned(),
            iat: 1_800_000_000,
            epoch: epoch.to_owned(),
            rev,
            since,
            void: void.to_vec(),
            kids: vec!["old".to_owned()],
        }
    }

    fn entry(id: &str, below: Option<u64>) -> Revocation {
        Revocation { subject: RevokedSubject::of(id), below, until: 100 }
    }

    pub(crate) fn claims(rev: u64, space: Option<&str>) -> Claims {
        let scope = "chat".parse().unwrap();
        let text = |text: &str| text.to_owned();
        Claims {
            iss: text("https://auth.example.com"),
            sub: text("bot_s"),
            aud: vec![text("a")],
            client_id: text("key_c"),
            scope,
            org: text("org_o"),
            iat: 0,
            exp: 1,
            jti: text("JTI"),
            rev,
            space: space.map(text),
            net: None,
            quota: None,
        }
    }

    fn voids(held: &[Revocation], rev: u64, space: Option<&str>) -> bool {
        let mut revocations = Revocations::default();
        revocations.apply(&feed("1", (0, 1), held)).unwrap();
        revocations.voids(&claims(rev, space))
    }

    #[test]
    fn every_subject_of_a_token_can_void_it_and_no_other_does() {
        for id in ["key_c", "bot_s", "org_o", "JTI"] {
            assert!(voids(&[entry(id, None)], 7, None), "{id}");
            assert!(!voids(&[entry(&format!("{id}x"), None)], 7, None), "{id}");
        }
        assert!(voids(&[entry("spc_s", None)], 7, Some("spc_s")));
        assert!(!voids(&[entry("spc_s", None)], 7, None));
    }

    #[test]
    fn an_entry_voids_what_was_issued_under_a_lower_revision() {
        let held = [entry("key_c", Some(7))];
        assert_eq!([6, 7, 8].map(|rev| voids(&held, rev, None)), [true, false, false]);
        assert!(voids(&[entry("key_c", None)], u64::MAX, None), "revoked for ever");
        let twice = [entry("key_c", Some(7)), entry("key_c", Some(5))];
        assert!(voids(&twice, 6, None), "the higher one counts, whatever the order");
    }

    #[test]
    fn a_verifier_never_goes_back_within_an_epoch_and_drops_nothing_with_the_next() {
        let mut held = Revocations::default();
        assert_eq!(held.apply(&feed("1", (3, 5), &[])), Err(FeedGap));
        held.apply(&feed("1", (0, 5), &[entry("key_c", None)])).unwrap();
        held.apply(&feed("1", (5, 9), &[entry("a", None)])).unwrap();
        held.apply(&feed("1", (0, 4), &[])).unwrap();
        assert_eq!((held.revision(), held.len()), (9, 2));
        assert_eq!(held.apply(&feed("2", (2, 3), &[])), Err(FeedGap));
        held.apply(&feed("2", (0, 3), &[])).unwrap();
        assert_eq!((held.revision(), held.epoch(), held.len()), (3, Some("2"), 2));
        assert!(held.voids(&claims(99, None)) && held.is_withdrawn("old"));
    }

    #[test]
    fn an_entry_is_forgotten_after_its_end() {
        let mut held = Revocations::default();
        held.apply(&feed("1", (0, 5), &[entry("key_c", None)])).unwrap();
        held.forget(100);
        assert_eq!(held.len(), 1);
        held.forget(101);
        assert!(held.is_empty() && held.revision() == 5);
    }

    #[test]
    fn a_feed_is_read_back_and_what_is_none_is_not() {
        let written = feed("1", (2, 5), &[entry("key_c", None), entry("b", Some(4))]);
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(RevocationFeed::parse(&text), Some(written));
        for (from, to) in [
            ("\"rev\":5", "\"rev\":-5"),
            ("\"rev\":5", "\"rev\":\"5\""),
            ("\"rev\":5", "\"rev\":5,\"rev\":6"),
            ("\"epoch\":\"1\"", "\"epoch\":1"),
            ("\"since\":2,", ""),
            ("null,100]", "null,100,1]"),
            ("null,100]", "null]"),
            ("[\"", "[\"A"),
        ] {
            assert!(text.contains(from));
            assert_eq!(RevocationFeed::parse(&text.replacen(from, to, 1)), None, "{to}");
        }
    }
}
