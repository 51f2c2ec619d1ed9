//! Searching the ledger: filters are read first, and few batches are opened.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::ledger::{RecordedFact, Subject};
use crate::model::time::Timestamp;
use crate::model::token_id::{ChainId, TokenId};
use crate::service::Service;
use crate::store::ledger::{LedgerStore, Place};

/// Outlines that are read at once.
const OUTLINES: i64 = 2_000;

/// What a search looks for.
#[derive(Debug, Clone)]
pub struct Search {
    /// What each fact must be about.
    pub subjects: Vec<Subject>,
    /// Not before.
    pub since: Timestamp,
    /// Before.
    pub until: Timestamp,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            subjects: Vec::new(),
            since: Timestamp::from_millis(i64::MIN),
            until: Timestamp::from_millis(i64::MAX),
        }
    }
}

impl Search {
    fn finds(&self, fact: &RecordedFact) -> bool {
        let at = fact.token_id.at();
        self.since <= at && at < self.until && self.subjects.iter().all(|one| one.is_of(fact))
    }
}

/// Where a search goes on: behind so many facts of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    place: Place,
    shown: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { last_at, chain, number } = self.place;
        write!(f, "{}.{chain}.{number}.{}", last_at.as_millis(), self.shown)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.split('.');
            let last_at = Timestamp::from_millis(parts.next()?.parse().ok()?);
            let chain = parts.next()?.parse().ok()?;
            let number = parts.next()?.parse().ok()?;
            let shown = parts.next()?.parse().ok()?;
            let place = Place { last_at, chain, number };
            parts.next().is_none().then_some(Self { place, shown })
        };
        parse().ok_or_else(|| Error::invalid("cursor", "it is not one that a search gave"))
    }
}

/// A page of facts, from new to old.
#[derive(Debug)]
pub struct FoundFacts {
    /// The facts.
    pub facts: Vec<RecordedFact>,
    /// Where the next page starts, if there may be more.
    pub next: Option<Position>,
}

/// The ledger, for whoever reads it.
#[derive(Debug)]
pub struct LedgerReader {
    pub(super) store: LedgerStore,
}

impl Service {
    /// Opens the ledger to read it.
    ///
    /// # Errors
    /// [`Error::Setup`] where nothing was ever recorded.
    pub async fn read_ledger(&self) -> Result<LedgerReader> {
        let store = LedgerStore::open_existing(&self.database).await?;
        let store = store.ok_or_else(|| {
            Error::Setup(
                "there is no ledger yet: `tenmint serve` begins one, unless `ledger.mode` is `off`"
                    .to_owned(),
            )
        })?;
        Ok(LedgerReader { store })
    }
}

impl LedgerReader {
    /// The token of an id. Its chain is looked at first, and all others only where it is not there.
    pub async fn find_token(&self, id: TokenId) -> Result<Option<RecordedFact>> {
        match self.find_token_in(id, Some(id.chain())).await? {
            None => self.find_token_in(id, None).await,
            found => Ok(found),
        }
    }

    async fn find_token_in(
        &self,
        id: TokenId,
        chain: Option<ChainId>,
    ) -> Result<Option<RecordedFact>> {
        for place in self.store.list_at(id.at(), chain).await? {
            let facts = self.open(place).await?.unwrap_or_default();
            if let Some(found) = facts.into_iter().find(|fact| fact.token_id == id) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A page of the facts that a search finds, from new to old.
    pub async fn find(
        &self,
        search: &Search,
        from: Option<Position>,
        limit: usize,
    ) -> Result<FoundFacts> {
        let mut found = FoundFacts { facts: Vec::new(), next: None };
        let mut before = Place::END;
        if let Some(from) = from {
            self.show(search, from, limit, &mut found).await?;
            before = from.place;
        }
        while found.next.is_none() {
            let range = (search.since, search.until);
            let outlines = self.store.list_before(range, before, OUTLINES).await?;
            let Some(last) = outlines.last() else { break };
            before = last.place;
            for outline in outlines {
                if search.subjects.iter().all(|one| outline.filter.may_hold(*one)) {
                    let position = Position { place: outline.place, shown: 0 };
                    self.show(search, position, limit, &mut found).await?;
                }
                if found.next.is_some() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Adds what is found in a batch, until the page is full.
    async fn show(
        &self,
        search: &Search,
        from: Position,
        limit: usize,
        found: &mut FoundFacts,
    ) -> Result<()> {
        let Some(facts) = self.open(from.place).await? else { return Ok(()) };
        for (shown, fact) in facts.into_iter().rev().enumerate().skip(from.shown) {
            if !search.finds(&fact) {
                continue;
            }
            if found.facts.len() >= limit {
                found.next = Some(Position { shown, ..from });
                return Ok(());
            }
            found.facts.push(fact);
        }
        Ok(())
    }

    /// Gives the facts that a search finds, a batch at a time and from old to new, as long as they
    /// are taken.
    pub async fn export(
        &self,
        search: &Search,
        mut give: impl FnMut(Vec<RecordedFact>) -> bool,
    ) -> Result<()> {
        let mut after = Place::START;
        loop {
            let range = (search.since, search.until);
            let outlines = self.store.list_behind(range, after, OUTLINES).await?;
            let Some(last) = outlines.last() else { return Ok(()) };
            after = last.place;
            for outline in outlines {
                if let Some(mut facts) = self.open(outline.place).await? {
                    facts.retain(|fact| search.finds(fact));
                    if !give(facts) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The facts of a batch; nothing where it was dropped meanwhile.
    async fn open(&self, place: Place) -> Result<Option<Vec<RecordedFact>>> {
        let Some(batch) = self.store.find(place.chain, place.number).await? else {
            return Ok(None);
        };
        let facts = batch.facts().map_err(|cause| {
            let head = batch.head();
            Error::Broken(format!(
                "batch {head} was changed: {cause}\nhint: `tenmint ledger verify` tells more"
            ))
        })?;
        Ok(Some(facts))
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        self.store.close().await;
    }
}
