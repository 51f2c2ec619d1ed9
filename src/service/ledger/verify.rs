//! Verifying the ledger: each chain is walked from its beginning, and the first batch that was
//! changed or is missing is named.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Result;
use crate::model::ledger::{Chain, ChainValue, Head, LedgerKey, Pruning};
use crate::model::time::Timestamp;
use crate::model::token_id::ChainId;
use crate::service::Service;
use crate::service::ledger::search::LedgerReader;
use crate::store::ledger::LedgerStore;

/// Batches that are read at once.
const PAGE: i64 = 200;

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This batch, or its beginning where it is the first, was changed.
    Changed(u64),
    /// This batch is not there.
    Missing(u64),
    /// Nothing tells how it began.
    NoBeginning,
    /// What tells that old batches were dropped was changed.
    PruningChanged,
    /// It ended later than it does now.
    CutOff(Head),
    /// What is there at a number is not what was seen there.
    Replaced(Head),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(1) => f.write_str("batch 1 or the beginning of the chain was changed"),
            Self::Changed(number) => write!(f, "batch {number} was changed"),
            Self::Missing(number) => write!(f, "batch {number} is missing"),
            Self::NoBeginning => f.write_str("the beginning of the chain is missing"),
            Self::PruningChanged => f.write_str("the record of dropped batches was changed"),
            Self::CutOff(head) => write!(f, "the chain was seen to reach batch {}", head.number),
            Self::Replaced(head) => {
                write!(f, "batch {} is not the one that was seen there", head.number)
            }
        }
    }
}

/// How a chain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// The chain.
    pub chain: ChainId,
    /// Batches that were walked and are as they were sealed.
    pub batches: u64,
    /// Their facts.
    pub facts: u64,
    /// Facts that were dropped because they had grown old.
    pub dropped: u64,
    /// Where the walk ended.
    pub head: Option<Head>,
    /// The last time that the chain was seen to end somewhere.
    pub seen_at: Option<Timestamp>,
    /// Batches behind that: whoever holds database and master key could cut them off unseen.
    pub unseen: u64,
    /// Heads that somebody wrote down and that were dropped since: nothing tells whether they were there.
    pub unchecked: Vec<Head>,
    /// The first fault.
    pub fault: Option<Fault>,
}

/// What must be there: heads that were seen, and by whom.
type Expected = BTreeMap<ChainId, Vec<Head>>;

impl Service {
    /// Walks every chain of the ledger. `noted` are heads that somebody wrote down, as from a log.
    pub async fn verify_ledger(
        &self,
        ledger: &LedgerReader,
        noted: &[Head],
    ) -> Result<Vec<ChainReport>> {
        let before = self.walk_all(ledger, noted).await?;
        if before.iter().all(|report| report.fault.is_none()) {
            return Ok(before);
        }
        // a chain that began meanwhile looks like a fault: what is one is found twice
        let mut reports = self.walk_all(ledger, noted).await?;
        for report in reports.iter_mut().filter(|report| report.fault.is_some()) {
            let sound =
                |before: &&ChainReport| before.chain == report.chain && before.fault.is_none();
            if let Some(before) = before.iter().find(sound) {
                *report = before.clone();
            }
        }
        Ok(reports)
    }

    async fn walk_all(&self, ledger: &LedgerReader, noted: &[Head]) -> Result<Vec<ChainReport>> {
        let store = &ledger.store;
        let checkpoints = self.store.list_ledger_checkpoints().await?;
        // read before the batches, so that what is recorded meanwhile is no fault
        let chains: BTreeMap<ChainId, Chain> =
            store.list_chains().await?.into_iter().map(|chain| (chain.id, chain)).collect();
        let prunings: BTreeMap<ChainId, (Pruning, ChainValue)> = store
            .list_prunings()
            .await?
            .into_iter()
            .map(|pruning| (pruning.0.head.chain, pruning))
            .collect();
        let mut expected = Expected::new();
        let seen = checkpoints.iter().map(|(head, _)| *head);
        let named = chains.values().filter_map(|chain| chain.previous);
        for head in seen.chain(named).chain(noted.iter().copied()) {
            expected.entry(head.chain).or_default().push(head);
        }
        let mut reports = Vec::new();
        for id in all_chains(store, &chains, &expected).await? {
            let mut walk = Walk {
                key: self.ledger_key(),
                store,
                chain: chains.get(&id),
                pruning: prunings.get(&id).copied(),
                expected: expected.get(&id).map_or(&[], Vec::as_slice),
            };
            let mut report = walk.run(id).await?;
            while report.fault.is_some() && walk.is_behind(id).await? {
                report = walk.run(id).await?;
            }
            let pruned = walk.pruned_to();
            let is_dropped = |head: &&Head| head.chain == id && head.number < pruned;
            report.unchecked = noted.iter().filter(is_dropped).copied().collect();
            if let Some((head, at)) = checkpoints.iter().find(|(head, _)| head.chain == id) {
                report.seen_at = Some(*at);
                report.unseen = report.last_number().saturating_sub(head.number);
            } else {
                report.unseen = report.batches;
            }
            reports.push(report);
        }
        Ok(reports)
    }
}

impl ChainReport {
    fn last_number(&self) -> u64 {
        self.head.map_or(0, |head| head.number)
    }
}

/// Every chain that anything tells of.
async fn all_chains(
    store: &LedgerStore,
    chains: &BTreeMap<ChainId, Chain>,
    expected: &Expected,
) -> Result<Vec<ChainId>> {
    let mut all: Vec<ChainId> = chains.keys().chain(expected.keys()).copied().collect();
    let mut above = -1;
    while let Some(chain) = store.next_chain_with_batches(above).await? {
        all.push(chain);
        above = i64::from(chain.as_number());
    }
    all.sort_unstable();
    all.dedup();
    // from old to new, as far as it is known
    all.sort_by_key(|id| chains.get(id).map(|chain| chain.started_at));
    Ok(all)
}

/// One chain on its walk.
struct Walk<'v> {
    key: LedgerKey,
    store: &'v LedgerStore,
    chain: Option<&'v Chain>,
    pruning: Option<(Pruning, ChainValue)>,
    expected: &'v [Head],
}

impl Walk<'_> {
    /// The number of the last batch that was dropped.
    fn pruned_to(&self) -> u64 {
        self.pruning.map_or(0, |(pruning, _)| pruning.head.number)
    }

    /// Whether more has been dropped since: then the walk has to begin behind that.
    async fn is_behind(&mut self, id: ChainId) -> Result<bool> {
        let prunings = self.store.list_prunings().await?;
        let more = prunings.into_iter().find(|(pruning, _)| {
            pruning.head.chain == id && pruning.head.number > self.pruned_to()
        });
        self.pruning = more.or(self.pruning);
        Ok(more.is_some())
    }

    async fn run(&self, id: ChainId) -> Result<ChainReport> {
        let mut report = ChainReport {
            chain: id,
            batches: 0,
            facts: 0,
            dropped: self.pruning.map_or(0, |(pruning, _)| pruning.facts),
            head: self.pruning.map(|(pruning, _)| pruning.head),
            seen_at: None,
            unseen: 0,
            unchecked: Vec::new(),
            fault: None,
        };
        match self.beginning() {
            Err(fault) => report.fault = Some(fault),
            Ok((number, value)) => {
                report.fault = match self.replaced_at(number, value) {
                    Some(replaced) if number > 0 => Some(replaced),
                    _ => self.walk(&mut report, (number, value)).await?,
                };
                if report.fault.is_none() {
                    report.fault = self.is_cut_off(report.last_number());
                }
            }
        }
        Ok(report)
    }

    /// The number and the value that the first batch follows.
    fn beginning(&self) -> std::result::Result<(u64, ChainValue), Fault> {
        if let Some((pruning, seal)) = self.pruning {
            let is_whole = self.key.value_of_pruning(&pruning) == seal;
            let start = (pruning.head.number, pruning.head.value);
            return if is_whole { Ok(start) } else { Err(Fault::PruningChanged) };
        }
        let chain = self.chain.ok_or(Fault::NoBeginning)?;
        Ok((0, self.key.beginning_of(chain)))
    }

    async fn walk(
        &self,
        report: &mut ChainReport,
        (mut number, mut value): (u64, ChainValue),
    ) -> Result<Option<Fault>> {
        loop {
            let batches = self.store.list_after(report.chain, number, PAGE).await?;
            if batches.is_empty() {
                return Ok(None);
            }
            for batch in batches {
                if batch.number != number + 1 {
                    return Ok(Some(Fault::Missing(number + 1)));
                }
                value = self.key.value_of(value, &batch);
                number = batch.number;
                if value != batch.value {
                    return Ok(Some(Fault::Changed(number)));
                }
                if let Some(replaced) = self.replaced_at(number, value) {
                    return Ok(Some(replaced));
                }
                report.batches += 1;
                report.facts = report.facts.saturating_add(batch.facts);
                report.head = Some(batch.head());
            }
        }
    }

    /// Whether anybody saw another batch in a place.
    fn replaced_at(&self, number: u64, value: ChainValue) -> Option<Fault> {
        let is_other = |head: &&Head| head.number == number && head.value != value;
        self.expected.iter().find(is_other).map(|head| Fault::Replaced(*head))
    }

    /// Whether something behind the last batch was seen.
    fn is_cut_off(&self, last: u64) -> Option<Fault> {
        let furthest = self.expected.iter().max_by_key(|head| head.number)?;
        (furthest.number > last).then_some(Fault::CutOff(*furthest))
    }
}
