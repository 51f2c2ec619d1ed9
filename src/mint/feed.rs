//! What was revoked, in memory: what the management API is held to, and what verifiers are told.
//!
//! The service takes in what the database says; the route of the feed waits for it to move and asks
//! for the signed text, which is made once for all who ask for the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tenmint_verifier::{Claims, RevocationFeed, Revocations, RevokedSubject};
use tokio::sync::watch;

use crate::mint::signer::CurrentKey;
use crate::model::installation::Issuer;
use crate::model::revocation::Revocation;
use crate::model::signing_key::Kid;
use crate::model::time::Timestamp;

/// How long an entry outlives the tokens that it voids, for clocks that are apart.
const MARGIN: Duration = Duration::from_mins(2);

/// Entries that a verifier may lack and still hear them alone.
const NEAR: usize = 64;

/// The feed of a node.
#[derive(Debug)]
pub struct Feed {
    issuer: Issuer,
    kept: Duration,
    state: Mutex<State>,
    /// The revision of the feed; who waits for it to move waits here.
    moved: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    epoch: Arc<str>,
    revision: u64,
    /// In the order of their revisions.
    entries: Vec<Entry>,
    /// Under which revision each subject is among the entries.
    revisions: HashMap<RevokedSubject, u64>,
    /// Signing keys that were withdrawn. They are told for ever: who holds one can date a token as it
    /// likes, and verifiers may hold a JWKS for long.
    withdrawn: Vec<String>,
    held: Revocations,
    /// The texts of this revision, by how many entries they leave out.
    signed: HashMap<usize, Bytes>,
    /// The key that signed them.
    signed_by: Box<str>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    revision: u64,
    revocation: tenmint_verifier::Revocation,
    /// The organization it is of.
    org: Option<RevokedSubject>,
    /// Of a single token.
    api_key: Option<RevokedSubject>,
}

/// A signed feed.
#[derive(Debug, Clone)]
pub struct SignedFeed {
    /// The JWT.
    pub text: Bytes,
    /// Of the feed, not of the bytes: each node signs by itself.
    pub etag: String,
}

/// What a verifier has heard already.
#[derive(Debug, Clone, Default)]
pub struct HeardFeed {
    /// Its epoch, where it is known.
    pub epoch: Option<String>,
    /// Its revision.
    pub revision: u64,
}

impl Feed {
    /// An empty feed. Entries are kept for as long as a token of before may live: one lifetime, and
    /// the time for which a node goes on that is cut off.
    pub(super) fn new(issuer: Issuer, lifetime: Duration, serve_for: Duration) -> Self {
        let state = State {
            epoch: "".into(),
            revision: 0,
            entries: Vec::new(),
            revisions: HashMap::new(),
            withdrawn: Vec::new(),
            held: Revocations::default(),
            signed: HashMap::new(),
            signed_by: "".into(),
        };
        let kept = lifetime + serve_for + MARGIN;
        Self { issuer, kept, state: Mutex::new(state), moved: watch::Sender::new(0) }
    }

    /// How long an entry is kept.
    pub fn kept(&self) -> Duration {
        self.kept
    }

    /// Takes in what was recorded, in order.
    pub fn apply(&self, recorded: &[Revocation]) {
        if !recorded.is_empty() {
            self.take(&mut self.state.lock(), recorded);
        }
    }

    /// Takes in all that is recorded, in an epoch. What is held is kept: no restore of a database
    /// brings a revoked key back on a node that knows better.
    pub fn replace(&self, epoch: &str, recorded: &[Revocation]) {
        let mut state = self.state.lock();
        if &*state.epoch != epoch {
            state.epoch = epoch.into();
            state.revision = 0;
            state.entries.clear();
            state.revisions.clear();
        }
        self.take(&mut state, recorded);
    }

    /// Takes in which signing keys were withdrawn, each with the revision of that. One that is held is kept,
    /// as a restore of a database must not bring it back.
    pub fn withdraw<'k>(&self, withdrawn: impl Iterator<Item = (&'k Kid, i64)>) {
        let mut state = self.state.lock();
        for (kid, revision) in withdrawn {
            if !state.withdrawn.iter().any(|known| known == kid.as_str()) {
                state.withdrawn.push(kid.to_string());
            }
            state.revision = state.revision.max(u64::try_from(revision).unwrap_or(0));
        }
        state.signed.clear();
        self.moved.send_replace(state.revision);
    }

    /// Whether a signing key was withdrawn, as far as anybody told.
    pub fn has_withdrawn(&self, kid: &Kid) -> bool {
        self.state.lock().withdrawn.iter().any(|known| known == kid.as_str())
    }

    fn take(&self, state: &mut State, recorded: &[Revocation]) {
        let kept = self.kept;
        let entries = recorded.iter().filter_map(|recorded| Entry::of(recorded, kept));
        state.put_all(entries.collect());
        state.signed.clear();
        self.moved.send_replace(state.revision);
    }

    /// Forgets what voids nothing that lives.
    pub fn forget(&self, now: Timestamp) {
        let mut state = self.state.lock();
        let now = now.as_seconds();
        state.keep(|entry| entry.revocation.until >= now);
        state.held.forget(now);
        state.signed.clear();
    }

    /// Whether a verified token is void.
    pub(super) fn voids(&self, claims: &Claims) -> bool {
        self.state.lock().held.voids(claims)
    }

    /// Whether what was seen of a subject under a revision is void.
    pub(super) fn voids_of(&self, id: &str, revision: u64) -> bool {
        self.state.lock().held.voids_of(id, revision)
    }

    /// Follows the revision of the feed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// The revision of the feed.
    pub fn revision(&self) -> u64 {
        *self.moved.borrow()
    }

    /// How many wait for it to move.
    pub fn waiting(&self) -> usize {
        self.moved.receiver_count()
    }

    /// The `ETag` of the feed as it is.
    pub fn etag(&self) -> String {
        self.state.lock().etag()
    }

    /// Whether there is something that a verifier has not heard.
    pub fn is_ahead_of(&self, heard: &HeardFeed) -> bool {
        let state = self.state.lock();
        !state.is_epoch_of(heard) || state.revision > heard.revision
    }

    /// What a verifier has not heard, signed; nothing by a key that was withdrawn.
    pub(super) fn signed_after(
        &self,
        heard: &HeardFeed,
        key: &CurrentKey,
        now: Timestamp,
    ) -> Option<SignedFeed> {
        let mut state = self.state.lock();
        if state.withdrawn.iter().any(|kid| kid == key.kid()) {
            return None;
        }
        if *state.signed_by != *key.kid() {
            state.signed.clear();
            state.signed_by = key.kid().into();
        }
        let since = if state.is_epoch_of(heard) { heard.revision.min(state.revision) } else { 0 };
        let etag = state.etag();
        let first = state.entries.partition_point(|entry| entry.revision <= since);
        // who is far behind hears all: there are few texts of a revision, whatever is asked
        let first = if state.entries.len() - first > NEAR { 0 } else { first };
        if let Some(text) = state.signed.get(&first) {
            return Some(SignedFeed { text: text.clone(), etag });
        }
        let feed = RevocationFeed {
            iss: self.issuer.to_string(),
            iat: now.as_seconds(),
            epoch: state.epoch.to_string(),
            rev: state.revision,
            // all who lack the same entries share one text, so it names the last that all have
            since: state.last_before(first),
            void: state.entries.iter().skip(first).map(|entry| entry.revocation).collect(),
            kids: state.withdrawn.clone(),
        };
        // under the lock, so that a thousand who wake together make one signature
        let text = Bytes::from(key.sign_feed(&feed)?);
        state.signed.insert(first, text.clone());
        Some(SignedFeed { text, etag })
    }
}

impl Entry {
    /// An entry as it was recorded; nothing where its revision is none.
    fn of(recorded: &Revocation, kept: Duration) -> Option<Self> {
        let subject = RevokedSubject::of(&recorded.subject);
        let below = recorded.below.map(|below| u64::try_from(below).unwrap_or(0));
        let until = (recorded.recorded_at + kept).as_seconds();
        Some(Self {
            revision: u64::try_from(recorded.revision).ok()?,
            revocation: tenmint_verifier::Revocation { subject, below, until },
            org: recorded.org.map(|id| RevokedSubject::of(&id.to_string())),
            api_key: recorded.api_key.map(|id| RevokedSubject::of(&id.to_string())),
        })
    }

    /// Whether one of these subjects says all that the entry does.
    fn is_covered_by(&self, subjects: &HashSet<RevokedSubject>) -> bool {
        let own = Some(self.revocation.subject);
        [own, self.api_key, self.org].iter().flatten().any(|one| subjects.contains(one))
    }
}

impl State {
    /// Takes entries in, in place of what they say again or cover. What covers another of them was
    /// never recorded beside it, so one look at those of before is enough.
    fn put_all(&mut self, mut new: Vec<Entry>) {
        new.retain(|entry| {
            let known = self.revisions.get(&entry.revocation.subject);
            known.is_none_or(|known| *known < entry.revision)
        });
        let subjects = new.iter().map(|entry| entry.revocation.subject).collect();
        self.keep(|entry| !entry.is_covered_by(&subjects));
        for entry in &new {
            self.revisions.insert(entry.revocation.subject, entry.revision);
            self.held.void(entry.revocation);
            self.revision = self.revision.max(entry.revision);
        }
        self.entries.append(&mut new);
        self.entries.sort_by_key(|entry| entry.revision);
    }

    fn keep(&mut self, is_kept: impl Fn(&Entry) -> bool) {
        let revisions = &mut self.revisions;
        self.entries.retain(|entry| {
            let kept = is_kept(entry);
            if !kept {
                revisions.remove(&entry.revocation.subject);
            }
            kept
        });
    }

    /// The revision that whoever lacks the entries from this one on has at least.
    fn last_before(&self, first: usize) -> u64 {
        first.checked_sub(1).and_then(|last| self.entries.get(last)).map_or(0, |last| last.revision)
    }

    /// A revision of an epoch that is not named is believed to be of this one.
    fn is_epoch_of(&self, heard: &HeardFeed) -> bool {
        heard.epoch.as_deref().is_none_or(|epoch| epoch == &*self.epoch)
    }

    fn etag(&self) -> String {
        format!("\"{}.{}\"", self.epoch, self.revision)
    }
}
