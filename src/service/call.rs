//! What every management write has in common: who calls, whether it is for real, what is written
//! to the audit, and what the node knows afterwards.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, InvalidField, Result};
use crate::model::access::{Actor, Holder, Origin};
use crate::model::api_key::{ApiKey, CreatedApiKey};
use crate::model::audit::{AuditEntry, SideChange};
use crate::model::id::{AuditId, OrgId};
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::secret::PlainSecret;
use crate::model::time::Timestamp;
use crate::service::asks::Wrong;
use crate::service::follow::{Stored, within};
use crate::service::{Service, random};
use crate::store::changes::Subject;
use crate::store::idempotency::{RequestKey, StoredRequest};
use crate::store::{Write, audit, idempotency, revocations};

/// How long an idempotency key is remembered.
pub(crate) const IDEMPOTENCY_KEPT: Duration = Duration::from_hours(24);
/// How long a change whose outcome is unknown is looked for.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A management call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who calls.
    pub actor: Actor,
    /// The organization it is about; that of the credential where none is named.
    pub org: OrgId,
    /// Whether nothing shall be stored, and the answer says what would be.
    pub dry_run: bool,
    /// Under which key a repeat of the call is known.
    pub idempotency: Option<Idempotency>,
    /// Fields of the request that could not be read. What else is wrong is found out and told with
    /// them, and nothing is changed.
    pub misread: Vec<InvalidField>,
}

impl Call {
    /// What is wrong with the fields of the call, as far as it is known.
    pub(crate) fn wrong(&self) -> Wrong {
        Wrong::with(self.misread.clone())
    }
}

/// The `Idempotency-Key` of a request.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The key that the caller chose.
    pub key: String,
    /// The route it was sent to.
    pub route: String,
    /// A digest of what was asked.
    pub hash: String,
}

/// A thing before and after a call.
#[derive(Debug, Clone)]
pub struct Changed<T> {
    /// As it was; nothing where it was made.
    pub before: Option<T>,
    /// As it is, or as a dry run would make it.
    pub after: T,
    /// What the caller should know about it.
    pub warnings: Vec<String>,
    /// What it brought with it.
    pub also: Vec<SideChange>,
    /// Whether the thing is no more, and `after` what it was in the end.
    pub is_gone: bool,
    /// Whether nothing was stored.
    pub dry_run: bool,
}

impl<T> Changed<T> {
    /// What an earlier answer to the same request made.
    pub(crate) fn repeated(after: T) -> Self {
        let (warnings, also) = (Vec::new(), Vec::new());
        Self { before: None, after, warnings, also, is_gone: false, dry_run: false }
    }
}

impl Changed<ApiKey> {
    /// The same change with the text that it made; a dry run made none.
    pub(crate) fn with_text(self, text: PlainSecret) -> Changed<CreatedApiKey> {
        let Self { before, after, warnings, also, is_gone, dry_run } = self;
        let shown = |api_key, text| CreatedApiKey { api_key, text };
        Changed {
            before: before.map(|api_key| shown(api_key, None)),
            after: shown(after, (!dry_run).then_some(text)),
            warnings,
            also,
            is_gone,
            dry_run,
        }
    }
}

/// What was done in a transaction, for its end.
pub(crate) struct Done<T> {
    /// What, as `api_key.rotate`.
    pub(crate) action: &'static str,
    /// The organization it is of; none where it is of the installation.
    pub(crate) org: Option<OrgId>,
    /// The id of the object.
    pub(crate) object: String,
    pub(crate) before: Option<T>,
    pub(crate) after: T,
    pub(crate) touched: Vec<Subject>,
    pub(crate) warnings: Vec<String>,
    also: Vec<SideChange>,
    is_gone: bool,
}

impl<T> Done<T> {
    #[expect(clippy::needless_pass_by_value, reason = "an id is passed as it is")]
    pub(crate) fn new(action: &'static str, org: OrgId, object: impl ToString, after: T) -> Self {
        Self { org: Some(org), ..Self::on_installation(action, object.to_string(), after) }
    }

    /// Of the installation, and of no organization.
    pub(crate) fn on_installation(action: &'static str, object: String, after: T) -> Self {
        let (touched, warnings, also) = (Vec::new(), Vec::new(), Vec::new());
        let (org, before, is_gone) = (None, None, false);
        Self { action, org, object, before, after, touched, warnings, also, is_gone }
    }

    /// The thing is no more: `after` is what it was.
    pub(crate) fn ends(mut self) -> Self {
        self.is_gone = true;
        self
    }

    pub(crate) fn also(mut self, changes: impl IntoIterator<Item = SideChange>) -> Self {
        self.also.extend(changes);
        self
    }

    pub(crate) fn was(mut self, before: T) -> Self {
        self.before = Some(before);
        self
    }

    pub(crate) fn touches(mut self, subjects: impl IntoIterator<Item = Subject>) -> Self {
        self.touched.extend(subjects);
        self
    }

    pub(crate) fn warns(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

impl Service {
    /// Voids tokens of a subject, from this change on; of no organization where they are of all.
    pub(crate) async fn revoke_tokens(
        &self,
        write: &mut Write<'_>,
        (subject, tokens): (RevokedSubject, RevokedTokens),
        org: impl Into<Option<OrgId>>,
    ) -> Result<()> {
        revocations::insert(write, (&subject, tokens), org.into(), self.clock.now()).await
    }

    /// Ends a change: tells the nodes, writes the audit, commits, and brings this node up to it. A
    /// dry run goes back instead.
    pub(crate) async fn finish<T: Serialize>(
        &self,
        write: Write<'_>,
        call: &Call,
        done: Done<T>,
    ) -> Result<Changed<T>> {
        // whichever use case did not look: what was not understood is not done
        call.wrong().finish(Some(()))?;
        self.finish_for(write, Some(call), done).await
    }

    /// The same for a change that no caller asked for: an operator on the machine of a node did, or it
    /// was due.
    pub(crate) async fn finish_unasked<T: Serialize>(
        &self,
        write: Write<'_>,
        done: Done<T>,
    ) -> Result<Changed<T>> {
        self.finish_for(write, None, done).await
    }

    async fn finish_for<T: Serialize>(
        &self,
        mut write: Write<'_>,
        call: Option<&Call>,
        done: Done<T>,
    ) -> Result<Changed<T>> {
        let now = self.clock.now();
        write.touched_all(&done.touched, now).await?;
        let entries = entries(call.map(|call| &call.actor), &done, (now, write.revision()))?;
        audit::insert_all(&mut write, &entries).await?;
        if let Some(call) = call
            && let Some(idempotency) = &call.idempotency
        {
            let stored =
                StoredRequest { hash: idempotency.hash.clone(), object: done.object.clone() };
            idempotency::insert(&mut write, request_key(call, idempotency), &stored, now).await?;
        }
        let stored = Stored { revision: write.revision(), touched: &done.touched, org: done.org };
        let dry_run = call.is_some_and(|call| call.dry_run);
        if dry_run {
            drop(write);
        } else {
            if let Err(cause) = write.commit().await {
                self.settle(cause, entries.first()).await?;
            }
            self.catch_up_with(&stored).await;
        }
        let Done { before, after, warnings, also, is_gone, .. } = done;
        Ok(Changed { before, after, warnings, also, is_gone, dry_run })
    }

    /// Finds out what became of a commit whose answer did not come. The next change waits for the end of
    /// the last one, on the row that every change locks; behind that its entry is in the audit, or never
    /// will be.
    ///
    /// # Errors
    /// The cause, where nothing was stored; [`Error::OutcomeUnknown`] where the database cannot be asked.
    pub(crate) async fn settle(&self, cause: Error, entry: Option<&AuditEntry>) -> Result<()> {
        let (Error::Unavailable(_), Some(entry)) = (&cause, entry) else { return Err(cause) };
        let look = async { audit::exists(&mut *self.store.begin().await?, entry).await };
        match within(SETTLE_TIMEOUT, look).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(cause),
            Err(_) => Err(Error::OutcomeUnknown(entry.object.clone())),
        }
    }

    /// The object that an earlier request under the same key made.
    ///
    /// # Errors
    /// [`Error::Conflict`] `idempotency_key_reused` where it asked something else.
    pub(crate) async fn repeated(
        &self,
        write: &mut Write<'_>,
        call: &Call,
    ) -> Result<Option<String>> {
        let Some(idempotency) = &call.idempotency else { return Ok(None) };
        let since = self.clock.now() - IDEMPOTENCY_KEPT;
        let found = idempotency::find(write, request_key(call, idempotency), since).await?;
        match found {
            Some(stored) if stored.hash == idempotency.hash => Ok(Some(stored.object)),
            Some(_) => Err(Error::Conflict(
                "idempotency_key_reused",
                "the `Idempotency-Key` was used for another request: choose another".to_owned(),
            )),
            None => Ok(None),
        }
    }
}

/// A change in the audit, and behind it what it brought with it.
fn entries<T: Serialize>(
    actor: Option<&Actor>,
    done: &Done<T>,
    (now, revision): (Timestamp, i64),
) -> Result<Vec<AuditEntry>> {
    let states = (done.before.as_ref().map(state), (!done.is_gone).then(|| state(&done.after)));
    let entry = |what, org, states| match actor {
        Some(actor) => entry(actor, now, what, org, states),
        None => unasked_entry(now, what, org, states),
    };
    let change = entry((done.action, &done.object), done.org, states);
    let also = done.also.iter().map(|change| {
        let states = (change.before.clone(), change.after.clone());
        let what = (change.action, change.object.as_str());
        entry(what, change.organization, states)
    });
    let mut entries = std::iter::once(change).chain(also).collect::<Result<Vec<_>>>()?;
    for (place, entry) in entries.iter_mut().enumerate() {
        entry.id = AuditId::at(now, within_a_moment(revision, place));
    }
    Ok(entries)
}

/// What orders the entries of one moment: their revisions, and within one their places.
fn within_a_moment(revision: i64, place: usize) -> [u8; 6] {
    // of both the low bytes: the others do not change within a moment
    let order = (revision << 16) | i64::try_from(place & 0xffff).unwrap_or_default();
    let [_, _, low @ ..] = order.to_be_bytes();
    low
}

pub(crate) fn request_key<'c>(call: &'c Call, idempotency: &'c Idempotency) -> RequestKey<'c> {
    let api_key = call.actor.credential.api_key;
    RequestKey { api_key, route: &idempotency.route, key: &idempotency.key }
}

/// What the audit keeps of a thing. Nothing that is audited holds a secret.
pub(crate) fn state<T: Serialize>(thing: &T) -> Value {
    serde_json::to_value(thing).unwrap_or_default()
}

/// An entry of the audit, of what was done.
pub(crate) fn entry(
    actor: &Actor,
    now: Timestamp,
    what: (&str, &str),
    org: Option<OrgId>,
    states: (Option<Value>, Option<Value>),
) -> Result<AuditEntry> {
    entry_of((actor.credential.holder(), &actor.origin), now, what, org, states)
}

/// The same, of whoever presented a credential that may hold no more.
pub(crate) fn entry_of(
    (holder, origin): (Holder, &Origin),
    now: Timestamp,
    what: (&str, &str),
    org: Option<OrgId>,
    states: (Option<Value>, Option<Value>),
) -> Result<AuditEntry> {
    Ok(AuditEntry {
        actor: Some(holder.owner),
        api_key: Some(holder.api_key),
        address: origin.address.map(|address| address.to_string()),
        user_agent: origin.user_agent.clone(),
        request_id: origin.request_id.clone(),
        ..unasked_entry(now, what, org, states)?
    })
}

/// The same, of what no caller asked for: an operator on the machine of a node did, or it was due.
pub(crate) fn unasked_entry(
    now: Timestamp,
    (action, object): (&str, &str),
    org: Option<OrgId>,
    (before, after): (Option<Value>, Option<Value>),
) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: AuditId::at(now, random()?),
        at: now,
        organization: org,
        actor: None,
        api_key: None,
        action: action.to_owned(),
        object: object.to_owned(),
        outcome: "done".to_owned(),
        address: None,
        user_agent: None,
        request_id: String::new(),
        before,
        after,
    })
}
