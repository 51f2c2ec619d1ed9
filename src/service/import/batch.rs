//! A batch of lines: judged and stored in one transaction, and then reported.

use crate::error::Result;
use crate::model::api_key::{ApiKey, ApiKeySecret};
use crate::model::audit::AuditEntry;
use crate::model::bot::Bot;
use crate::model::id::{ApiKeyId, AuditId};
use crate::model::import::{ImportStatus, ImportedLine};
use crate::model::role::RoleBinding;
use crate::model::time::Timestamp;
use crate::service::call::{entry, state};
use crate::service::follow::{Stored, TRANSACTION_TIMEOUT, within};
use crate::service::import::judge::{Candidate, Judge, Verdict};
use crate::service::import::known::Asking;
use crate::service::import::line::Parsed;
use crate::service::import::staging::lost;
use crate::service::import::{Import, Mode};
use crate::service::random;
use crate::store::{Connection, Write, api_keys, audit, bots, changes, imports, roles};

/// Rows that a transaction stores at most: it holds up every other change for some 50 ms.
const MAX_ROWS: usize = 1_000;
/// Lines of a batch at most, where most of them store nothing.
const MAX_LINES: usize = 500;

/// Lines that wait for the next transaction.
#[derive(Debug, Default)]
pub(super) struct Pending {
    lines: Vec<(u64, Parsed)>,
    rows: usize,
}

impl Pending {
    pub(super) fn has_room_for(&self, line: &Parsed) -> bool {
        self.lines.len() < MAX_LINES && self.rows + rows_of(line) <= MAX_ROWS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn push(&mut self, number: u64, line: Parsed) {
        self.rows += rows_of(&line);
        self.lines.push((number, line));
    }
}

fn rows_of(line: &Parsed) -> usize {
    line.as_ref().map_or(0, |line| line.rows())
}

/// What became of a line, before it is reported.
type Judged = (u64, Verdict);
/// A batch that is to be committed, and the first entry of the audit in it.
type Written<'s> = (Write<'s>, Option<AuditEntry>);

impl<'s> Import<'s> {
    /// Stores and reports a batch. One of nothing says that the import goes on.
    pub(super) async fn flush(&mut self, batch: Pending) -> Result<()> {
        let Pending { lines, .. } = batch;
        if lines.is_empty() {
            return self.renew().await;
        }
        self.identify_again()?;
        let judged = match self.mode {
            Mode::Check => within(TRANSACTION_TIMEOUT, self.check(&lines)).await?,
            Mode::Store | Mode::Stage => self.store(&lines).await?,
        };
        for (number, verdict) in judged {
            let told = self.told(number, verdict);
            self.tell(told).await?;
        }
        Ok(())
    }

    /// Judges lines, and stores nothing.
    async fn check(&mut self, lines: &[(u64, Parsed)]) -> Result<Vec<Judged>> {
        let mut read = self.service.store.read().await?;
        let revision = changes::progress(&mut read).await?.revision;
        self.known.look_at(revision);
        self.judge(&mut read, lines).await
    }

    /// Judges lines and stores what is new.
    async fn store(&mut self, lines: &[(u64, Parsed)]) -> Result<Vec<Judged>> {
        let (judged, written) = within(TRANSACTION_TIMEOUT, self.write(lines)).await?;
        let Some((write, entry)) = written else { return Ok(judged) };
        let revision = write.revision();
        if let Err(cause) = within(TRANSACTION_TIMEOUT, write.commit()).await {
            self.service.settle(cause, entry.as_ref()).await?;
        }
        self.known.wrote(revision);
        if self.mode == Mode::Store {
            let touched = [self.imported(revision..=revision)];
            self.follow(&Stored { revision, touched: &touched, org: Some(self.call.org) }).await;
        }
        Ok(judged)
    }

    /// Judges lines and writes what is new, where anything is. Where one of them spoils an all-or-nothing import,
    /// nothing more is stored, but all that follows is checked: whoever mends a file wants to know of every line.
    async fn write(
        &mut self,
        lines: &[(u64, Parsed)],
    ) -> Result<(Vec<Judged>, Option<Written<'s>>)> {
        let mut write = self.service.store.begin().await?;
        self.known.look_at(write.revision() - 1);
        let judged = self.judge(&mut write, lines).await?;
        let is_refused = |(_, verdict): &Judged| matches!(verdict, Verdict::Refused(_));
        if self.mode == Mode::Stage && judged.iter().any(is_refused) {
            drop(write);
            self.mode = Mode::Check;
            return Ok((self.check(lines).await?, None));
        }
        let new: Vec<&Candidate> =
            judged.iter().filter_map(|(_, verdict)| new_of(verdict)).collect();
        if new.is_empty() {
            return Ok((judged, None));
        }
        let entry = self.insert(&mut write, &new).await?;
        Ok((judged, Some((write, entry))))
    }

    async fn judge(
        &mut self,
        connection: &mut Connection,
        lines: &[(u64, Parsed)],
    ) -> Result<Vec<Judged>> {
        let digests: Vec<_> =
            lines.iter().filter_map(|(_, line)| Some(line.as_ref().ok()?.digest)).collect();
        let stored = imports::find_by_digests(connection, &digests).await?;
        let mut judge = Judge {
            import: self.summary.import,
            now: self.service.clock.now(),
            asking: Asking { service: self.service, call: &self.call, connection },
            known: &mut self.known,
            stored,
            seen: (self.mode == Mode::Check).then_some(&mut self.seen),
        };
        let ids = ApiKeyId::run_from_random(random()?);
        let mut judged = Vec::with_capacity(lines.len());
        for ((number, line), id) in lines.iter().zip(ids) {
            let verdict = match line {
                Ok(line) => judge.judge(line, id).await?,
                Err(bad) => Verdict::Refused(judge.refuse(bad).await?),
            };
            judged.push((*number, verdict));
        }
        Ok(judged)
    }

    /// Stores keys, and gives the first entry of the audit: where that is, all of them are.
    async fn insert(
        &self,
        write: &mut Write<'_>,
        new: &[&Candidate],
    ) -> Result<Option<AuditEntry>> {
        let (now, revision) = (self.service.clock.now(), write.revision());
        let staged = self.staged.as_ref().map(|staged| &staged.id);
        if let Some(id) = staged
            && !imports::renew(write, id, now).await?
        {
            return Err(lost());
        }
        let rows = Rows::of(new);
        bots::insert_all(write, &rows.bots, staged).await?;
        roles::bind_all(write, &rows.roles).await?;
        api_keys::insert_all(write, &rows.api_keys, staged).await?;
        api_keys::insert_secrets(write, &rows.secrets, now).await?;
        let entries = self.entries(&rows.api_keys, now)?;
        audit::insert_all(write, &entries).await?;
        if staged.is_none() {
            write.touched(self.imported(revision..=revision), now).await?;
        }
        Ok(entries.into_iter().next())
    }

    /// An entry of the audit for each key. What is staged is said to be: the entry of the import
    /// tells whether it ever went live.
    fn entries(&self, api_keys: &[ApiKey], now: Timestamp) -> Result<Vec<AuditEntry>> {
        let outcome = if self.mode == Mode::Stage { "staged" } else { "done" };
        let first = random::<6>()?;
        let entry_of = |(number, api_key): (u64, &ApiKey)| {
            let (id, mut after) = (api_key.id.to_string(), state(api_key));
            if let Some(after) = after.as_object_mut() {
                after.insert("import".to_owned(), self.summary.import.to_string().into());
            }
            let done = ("api_key.import", id.as_str());
            let org = Some(self.call.org);
            let mut entry = entry(&self.call.actor, now, done, org, (None, Some(after)))?;
            entry.id = AuditId::at(now, plus(first, number));
            outcome.clone_into(&mut entry.outcome);
            Ok(entry)
        };
        (0..).zip(api_keys).map(entry_of).collect()
    }

    /// How a line is reported. An id is told where the key has it for good.
    fn told(&self, number: u64, verdict: Verdict) -> ImportedLine {
        match verdict {
            Verdict::Refused(refusal) => ImportedLine::refused(number, refusal),
            Verdict::Unchanged(id) => ImportedLine::good(number, ImportStatus::Unchanged, id),
            Verdict::New(candidate) => {
                let api_key = &candidate.new.api_key;
                let (status, id) = match self.mode {
                    Mode::Store => (ImportStatus::Created, Some(api_key.id)),
                    Mode::Stage => (ImportStatus::Accepted, Some(api_key.id)),
                    Mode::Check => (ImportStatus::Accepted, None),
                };
                let warnings = api_key.ip_rules.warnings();
                ImportedLine { warnings, ..ImportedLine::good(number, status, id) }
            }
        }
    }
}

fn new_of(verdict: &Verdict) -> Option<&Candidate> {
    match verdict {
        Verdict::New(candidate) => Some(candidate),
        _ => None,
    }
}

/// Random bytes and the numbers after them: entries of one moment keep the order of their lines.
#[expect(clippy::many_single_char_names, reason = "six bytes in their order")]
fn plus(first: [u8; 6], number: u64) -> [u8; 6] {
    let [a, b, c, d, e, f] = first;
    // the top bit stays free for the carry
    let sum = u64::from_be_bytes([0, 0, a >> 1, b, c, d, e, f]).wrapping_add(number);
    let [_, _, rest @ ..] = sum.to_be_bytes();
    rest
}

/// The rows of a batch, table by table.
#[derive(Default)]
struct Rows {
    bots: Vec<Bot>,
    roles: Vec<RoleBinding>,
    api_keys: Vec<ApiKey>,
    secrets: Vec<(ApiKeyId, ApiKeySecret)>,
}

impl Rows {
    fn of(new: &[&Candidate]) -> Self {
        let mut rows = Self::default();
        for candidate in new {
            if let Some(own) = &candidate.new.own_bot {
                rows.bots.push(own.bot.clone());
                rows.roles.extend(own.roles.iter().cloned());
            }
            let secret = ApiKeySecret { digest: candidate.digest, expires_at: None };
            rows.secrets.push((candidate.new.api_key.id, secret));
            rows.api_keys.push(candidate.new.api_key.clone());
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_moment_sort_by_their_number() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        for first in [[0; 6], [255; 6], [127, 255, 255, 255, 255, 0]] {
            let ids: Vec<_> =
                (0..300).map(|number| AuditId::at(now, plus(first, number))).collect();
            assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]), "{first:?}");
        }
    }
}
