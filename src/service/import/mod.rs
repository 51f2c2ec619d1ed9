//! Imports: a file of any size comes as chunks of bytes, a report goes out line by line, and neither
//! is ever held as a whole.
//!
//! Lines are judged and stored in batches, each one short transaction. All or nothing is a matter of
//! who sees the rows, and has a file of its own. A face gives the bytes and passes the report on.

mod batch;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod judge;
mod known;
mod line;
mod lines;
mod records;
mod source;
mod staging;

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use tenmint_verifier::Scope;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::model::audit::AuditEntry;
use crate::model::id::ImportId;
use crate::model::import::{ImportApiKeys, ImportEnd, ImportStatus, ImportSummary, ImportedLine};
use crate::model::time::Timestamp;
use crate::service::call::{Call, IDEMPOTENCY_KEPT, entry, request_key, state};
use crate::service::follow::{Stored, TRANSACTION_TIMEOUT, within};
use crate::service::import::judge::SeenDigests;
use crate::service::import::known::Known;
use crate::service::import::source::Source;
use crate::service::import::staging::{check_none_runs, give_up, lost};
use crate::service::{Service, random};
use crate::store::changes::{Imported, Subject};
use crate::store::idempotency::StoredRequest;
use crate::store::imports::StagedImport;
use crate::store::{Connection, Write, audit, idempotency, imports};

pub(crate) use crate::service::import::staging::clean_up_imports;

/// The scope that an import needs: every key of it falls under this.
const NEEDED: &str = "admin:org/keys/*";
/// How often an import says that it goes on, while nobody reads its report.
const BEAT: Duration = Duration::from_secs(2);

impl Service {
    /// Imports API keys: each line of a file becomes a key, or is refused with its reason.
    ///
    /// The report ends when the summary is returned. An error is returned only where nothing was
    /// reported and nothing stored; what ends an import later is told by the summary.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `admin:org/keys/*`; [`Error::Invalid`] for a header that fits no
    /// import; [`Error::Conflict`] `import_running` or `not_bootstrapped`.
    pub async fn import_api_keys(
        &self,
        call: &Call,
        ask: ImportApiKeys,
        bytes: mpsc::Receiver<Result<Bytes>>,
        report: mpsc::Sender<ImportedLine>,
    ) -> Result<ImportSummary> {
        require_import(call)?;
        clean_up_imports(&self.store, self.clock.now()).await?;
        // nobody waits for a task like this one: what it waits for has an end
        let begun = Import::begin(self, call, ask, report);
        let mut import = within(TRANSACTION_TIMEOUT, begun).await?;
        let asked = call.idempotency.as_ref().map_or("", |known| &known.hash);
        let mut source = Source::new(bytes, ask.format, self.pepper.clone(), asked);
        let read = import.read(&mut source).await;
        import.request_hash = source.request_hash();
        import.end(read).await
    }
}

/// What is done with a line that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The key is stored, and works.
    Store,
    /// The key is stored and seen by nobody until the last line was good.
    Stage,
    /// Nothing: a dry run, an import that will be given up, a repeated request.
    Check,
}

/// An import that runs.
struct Import<'s> {
    service: &'s Service,
    call: Call,
    mode: Mode,
    staged: Option<StagedImport>,
    known: Known,
    seen: SeenDigests,
    report: mpsc::Sender<ImportedLine>,
    summary: ImportSummary,
    /// What the request is known by when it is repeated, and what it was when it came first.
    request_hash: String,
    repeats: Option<StoredRequest>,
}

impl<'s> Import<'s> {
    async fn begin(
        service: &'s Service,
        call: &Call,
        ask: ImportApiKeys,
        report: mpsc::Sender<ImportedLine>,
    ) -> Result<Self> {
        let mut read = service.store.read().await?;
        let org = service.bootstrapped_org(&mut read, call).await?;
        check_none_runs(&mut read, &org.id, service.clock.now()).await?;
        let repeats = first_request(service, &mut read, call).await?;
        drop(read);
        let id = ImportId::from_random(random()?);
        let mode = match (call.dry_run || repeats.is_some(), ask.atomic) {
            (true, _) => Mode::Check,
            (false, true) => Mode::Stage,
            (false, false) => Mode::Store,
        };
        let staged = match mode {
            Mode::Stage => Some(service.begin_to_stage(id, org.id).await?),
            _ => None,
        };
        Ok(Self {
            service,
            call: call.clone(),
            mode,
            staged,
            known: Known::default(),
            seen: SeenDigests::default(),
            report,
            summary: ImportSummary::of(id, call.dry_run, ask.atomic),
            request_hash: String::new(),
            repeats,
        })
    }

    fn id(&self) -> ImportId {
        self.summary.import
    }

    /// Takes all that comes: one batch is read while the one before is stored.
    async fn read(&mut self, source: &mut Source) -> Result<()> {
        let mut next = source.next().await;
        while let Some(batch) = next? {
            let (stored, following) = tokio::join!(self.flush(batch), source.next());
            stored?;
            next = following;
        }
        Ok(())
    }

    /// Reports a line and counts it.
    async fn tell(&mut self, line: ImportedLine) -> Result<()> {
        let summary = &mut self.summary;
        summary.lines += 1;
        *match line.status {
            ImportStatus::Created => &mut summary.created,
            ImportStatus::Accepted => &mut summary.accepted,
            ImportStatus::Unchanged => &mut summary.unchanged,
            ImportStatus::Refused => &mut summary.refused,
        } += 1;
        loop {
            match timeout(BEAT, self.report.reserve()).await {
                Ok(Ok(place)) => {
                    place.send(line);
                    return Ok(());
                }
                Ok(Err(_)) => {
                    let message = "nobody reads the report".to_owned();
                    return Err(Error::Conflict("import_stopped", message));
                }
                // a slow reader is no reason to be taken for dead
                Err(_) => self.renew().await?,
            }
        }
    }

    async fn renew(&self) -> Result<()> {
        match &self.staged {
            Some(staged) => self.service.renew(&staged.id).await,
            None => Ok(()),
        }
    }

    /// Judges the caller by what holds now: an import may go on for longer than its right to.
    fn identify_again(&mut self) -> Result<()> {
        self.service.identify_again(&mut self.call.actor)?;
        require_import(&self.call)
    }

    async fn end(mut self, read: Result<()>) -> Result<ImportSummary> {
        let ended = match read {
            Ok(()) => self.finish().await,
            Err(cause) => Err(cause),
        };
        let Err(cause) = ended else { return Ok(self.summary) };
        self.abandon().await;
        if self.summary.lines == 0 {
            return Err(cause);
        }
        self.fail(&cause);
        let recorded = self.record_alone().await;
        if let Err(cause) = recorded {
            tracing::error!(%cause, "the end of an import cannot be written to the audit");
        }
        Ok(self.summary)
    }

    async fn finish(&mut self) -> Result<()> {
        if let Some(first) = &self.repeats
            && first.hash != self.request_hash
        {
            return Err(Error::Conflict(
                "idempotency_key_reused",
                "the `Idempotency-Key` was used for another import: nothing was stored".to_owned(),
            ));
        }
        match (&self.staged, self.mode) {
            (Some(staged), Mode::Stage) => return self.go_live(*staged).await,
            (_, Mode::Check) if self.summary.atomic && self.summary.refused > 0 => {
                self.abandon().await;
                self.summary.status = ImportEnd::Abandoned;
                self.summary.code = Some("lines_refused".into());
                self.summary.detail = Some("lines were refused: nothing is stored".to_owned());
            }
            _ => {}
        }
        self.record_alone().await
    }

    /// Makes all that was staged seen, by one row.
    async fn go_live(&mut self, staged: StagedImport) -> Result<()> {
        self.identify_again()?;
        self.summary.created = std::mem::take(&mut self.summary.accepted);
        match self.make_live(&staged).await {
            Ok((revision, touched)) => {
                self.staged = None;
                let org = Some(self.call.org);
                self.follow(&Stored { revision, touched: &touched, org }).await;
                Ok(())
            }
            Err(cause) => {
                self.summary.accepted = std::mem::take(&mut self.summary.created);
                Err(cause)
            }
        }
    }

    /// The revision in which it came, and what that touched.
    async fn make_live(&self, staged: &StagedImport) -> Result<(i64, [Subject; 1])> {
        let (write, touched, entry) = within(TRANSACTION_TIMEOUT, self.write_live(staged)).await?;
        let revision = write.revision();
        if let Err(cause) = within(TRANSACTION_TIMEOUT, write.commit()).await {
            self.service.settle(cause, Some(&entry)).await?;
        }
        Ok((revision, touched))
    }

    async fn write_live(
        &self,
        staged: &StagedImport,
    ) -> Result<(Write<'s>, [Subject; 1], AuditEntry)> {
        let now = self.service.clock.now();
        let mut write = self.service.store.begin().await?;
        if !imports::delete(&mut write, &staged.id).await? {
            return Err(lost());
        }
        let touched = [self.imported(staged.first_revision..=write.revision())];
        write.touched_all(&touched, now).await?;
        let entry = self.record(&mut write, now).await?;
        Ok((write, touched, entry))
    }

    /// What was made in these revisions.
    fn imported(&self, revisions: RangeInclusive<i64>) -> Subject {
        let (from, to) = revisions.into_inner();
        Subject::Imported(Imported { org: self.call.org, from, to })
    }

    /// Brings this node up to what was stored. Where that fails the node goes on, and knows the keys a
    /// moment later.
    async fn follow(&self, stored: &Stored<'_>) {
        if let Some(follower) = &self.service.follower {
            follower.catch_up_with_import(stored).await;
        }
    }

    /// Deletes what was staged. Where that fails, a later clean-up does it.
    async fn abandon(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        let ever = Timestamp::from_millis(i64::MAX);
        if let Err(cause) = give_up(&self.service.store, &staged, ever).await {
            tracing::warn!(%cause, "what an import staged cannot be deleted yet");
        }
    }

    fn fail(&mut self, cause: &Error) {
        let detail = match cause {
            Error::Setup(_) | Error::Broken(_) | Error::Unavailable(_) => {
                let source = std::error::Error::source(cause).map(ToString::to_string);
                tracing::error!(%cause, source, "an import broke off");
                "tenmint has a fault or is out of reach of its database: import again".to_owned()
            }
            told => told.to_string(),
        };
        self.summary.status = ImportEnd::Failed;
        self.summary.code = Some(cause.code().into());
        self.summary.detail = Some(detail);
    }

    /// Writes to the audit what became of the import, under no revision.
    async fn record_alone(&self) -> Result<()> {
        if self.call.dry_run || self.repeats.is_some() {
            return Ok(());
        }
        let written = async {
            let mut append = self.service.store.append().await?;
            let entry = self.record(&mut append, self.service.clock.now()).await?;
            Ok((append, entry))
        };
        let (append, entry) = within(TRANSACTION_TIMEOUT, written).await?;
        match within(TRANSACTION_TIMEOUT, append.commit()).await {
            Ok(()) => Ok(()),
            Err(cause) => self.service.settle(cause, Some(&entry)).await,
        }
    }

    async fn record(&self, connection: &mut Connection, now: Timestamp) -> Result<AuditEntry> {
        let (id, actor) = (self.id().to_string(), &self.call.actor);
        let states = (None, Some(state(&self.summary)));
        let mut entry = entry(actor, now, ("import.end", &id), Some(self.call.org), states)?;
        if let Some(code) = &self.summary.code {
            entry.outcome = code.to_string();
        }
        audit::insert(connection, &entry).await?;
        match &self.call.idempotency {
            Some(known) if self.summary.status == ImportEnd::Done => {
                let stored = StoredRequest { hash: self.request_hash.clone(), object: id };
                idempotency::insert(connection, request_key(&self.call, known), &stored, now)
                    .await?;
            }
            _ => {}
        }
        Ok(entry)
    }
}

/// Refuses an import to whoever does not administer all API keys of the organization.
fn require_import(call: &Call) -> Result<()> {
    let needed = NEEDED.parse::<Scope>().map_err(|cause| Error::Broken(cause.to_string()))?;
    if call.actor.reaches(call.org) && call.actor.holds(&needed) {
        return Ok(());
    }
    Err(Error::Forbidden(format!("this needs the scope `{NEEDED}`")))
}

/// The request that came first under the same key.
async fn first_request(
    service: &Service,
    connection: &mut Connection,
    call: &Call,
) -> Result<Option<StoredRequest>> {
    let Some(known) = &call.idempotency else { return Ok(None) };
    let since = service.clock.now() - IDEMPOTENCY_KEPT;
    idempotency::find(connection, request_key(call, known), since).await
}
