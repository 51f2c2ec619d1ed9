//! The ledger beside the hot path: a chain is begun when a node starts, a recorder takes what waits
//! to the database, and a keeper looks after what is there.

pub mod keeper;
pub mod last_chain;
pub mod recorder;
pub mod search;
pub mod spool;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mint::Mint;
use crate::mint::ledger::Ledger;
use crate::model::ledger::{Chain, Head, LedgerKey, LedgerMode, Sealer};
use crate::model::token_id::ChainId;
use crate::service::ledger::keeper::Keeper;
use crate::service::ledger::last_chain::LastChain;
use crate::service::ledger::recorder::Recorder;
use crate::service::ledger::spool::Spool;
use crate::service::{Service, random, schema};
use crate::store::create_private_directory;
use crate::store::ledger::LedgerStore;

/// After how long a batch goes to the spool, where nothing else is said.
const SPOOL_AFTER: Duration = Duration::from_secs(1);
/// How often an id is drawn for a chain: one that is taken is a matter of one in millions.
const DRAWS: u32 = 10;

/// How a node keeps the ledger.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// How surely a token is on record when it leaves.
    pub mode: LedgerMode,
    /// The directory of this node, for what cannot be taken to the database yet.
    pub directory: PathBuf,
    /// How long batches are kept; for ever where nothing is said.
    pub keep: Option<Duration>,
    /// After how long a batch goes to the spool that the database does not take.
    pub spool_after: Duration,
}

impl LedgerConfig {
    /// The defaults, with this directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            mode: LedgerMode::Durable,
            directory: directory.to_owned(),
            keep: None,
            spool_after: SPOOL_AFTER,
        }
    }
}

/// The ledger, as a run of a node begins with it.
#[derive(Debug)]
pub(super) struct BegunLedger {
    config: LedgerConfig,
    store: Arc<LedgerStore>,
    /// The chain of this run; none where it records nothing, and only looks after what is there.
    chain: Option<Chain>,
}

impl Service {
    /// Begins a chain, after all that an earlier run left behind is in the database. Nothing where
    /// nothing is recorded, and nothing ever was, or what was cannot be had: no token waits for that.
    pub(super) async fn begin_ledger(
        &self,
        config: LedgerConfig,
        migrate: bool,
    ) -> Result<Option<BegunLedger>> {
        let is_off = config.mode == LedgerMode::Off;
        match self.begin_what_is_there(config, migrate).await {
            Err(cause) if is_off => {
                tracing::error!(%cause, "the ledger is off, and what it holds cannot be looked after");
                Ok(None)
            }
            begun => begun,
        }
    }

    async fn begin_what_is_there(
        &self,
        config: LedgerConfig,
        migrate: bool,
    ) -> Result<Option<BegunLedger>> {
        let Some(store) = self.open_ledger(config.mode, migrate).await? else { return Ok(None) };
        create_private_directory(&config.directory)?;
        spool::replay_left_behind(&config.directory, self, &store).await?;
        let chain = match config.mode {
            LedgerMode::Off => None,
            LedgerMode::Durable | LedgerMode::Buffered => {
                Some(self.begin_next_chain(&store, &config.directory).await?)
            }
        };
        Ok(Some(BegunLedger { config, store: Arc::new(store), chain }))
    }

    async fn open_ledger(&self, mode: LedgerMode, migrate: bool) -> Result<Option<LedgerStore>> {
        match LedgerStore::open_existing(&self.database).await? {
            Some(store) if store.is_up_to_date().await? => Ok(Some(store)),
            None if mode == LedgerMode::Off => Ok(None),
            _ if migrate => LedgerStore::open(&self.database).await.map(Some),
            _ => Err(schema::too_old(&self.database)),
        }
    }

    /// Begins a chain that names the end of the one before it in a directory.
    async fn begin_next_chain(&self, store: &LedgerStore, directory: &Path) -> Result<Chain> {
        let previous = match LastChain::read(directory)? {
            Some(last) => end_of(store, last).await?,
            None => None,
        };
        let chain = self.begin_chain(store, previous).await?;
        LastChain { chain: chain.id, seen: previous }.write(directory)?;
        Ok(chain)
    }

    pub(super) async fn begin_chain(
        &self,
        store: &LedgerStore,
        previous: Option<Head>,
    ) -> Result<Chain> {
        for _ in 0..DRAWS {
            let id = ChainId::from_random(random()?);
            let chain = Chain { id, started_at: self.clock.now(), previous };
            if store.insert_chain(&chain).await? {
                return Ok(chain);
            }
        }
        Err(Error::Broken("no chain of the ledger is free".to_owned()))
    }

    /// What seals the ledger.
    pub(super) fn ledger_key(&self) -> LedgerKey {
        self.pepper.ledger_key()
    }
}

impl BegunLedger {
    /// Its part on the hot path.
    pub(super) fn on_hot_path(&self) -> Ledger {
        let chain = self.chain.as_ref();
        chain.map_or_else(Ledger::off, |chain| Ledger::new(self.config.mode, chain.id))
    }

    /// What takes the facts of a mint to the database, where they are recorded, and what looks after all that is
    /// there.
    pub(super) fn serve(self, service: &Service, mint: &Arc<Mint>) -> (Option<Recorder>, Keeper) {
        let Self { config, store, chain } = self;
        let (directory, spool_after) = (&config.directory, config.spool_after);
        let spool = chain
            .as_ref()
            .and_then(|chain| Spool::for_database(&service.database, directory, chain.id))
            .map(Arc::new);
        let keeper = Keeper::new(service, (store.clone(), spool.clone()), config);
        let recorder = chain.map(|chain| {
            let end = (Sealer::new(service.ledger_key(), &chain), keeper.seen());
            Recorder::new(service, mint.clone(), (store, spool, spool_after), end)
        });
        (recorder, keeper)
    }
}

/// Where the last chain of a directory ended; one without a batch, where the one before it did.
///
/// Where the database does not reach to where it was seen to end, the next chain goes on from there all the same:
/// what is missing is named for as long as that chain is kept.
async fn end_of(store: &LedgerStore, last: LastChain) -> Result<Option<Head>> {
    let found = end_in_database(store, last.chain).await?;
    let Some(seen) = last.seen else { return Ok(found) };
    let is_there = found.is_some_and(|found| {
        let goes_on = seen.chain != last.chain || found.number > seen.number;
        found == seen || (found.chain == last.chain && goes_on)
    });
    if is_there {
        return Ok(found);
    }
    tracing::error!(%seen, "the ledger in the database ends before what this node had recorded there");
    Ok(Some(seen))
}

async fn end_in_database(store: &LedgerStore, chain: ChainId) -> Result<Option<Head>> {
    if let Some(head) = store.head(chain).await? {
        return Ok(Some(head));
    }
    let prunings = store.list_prunings().await?;
    let pruned = prunings.into_iter().map(|(pruning, _)| pruning.head);
    if let Some(head) = pruned.into_iter().find(|head| head.chain == chain) {
        return Ok(Some(head));
    }
    let begun = store.list_chains().await?.into_iter().find(|begun| begun.id == chain);
    Ok(begun.and_then(|begun| begun.previous))
}
