//! A node that serves: its use cases, the mint it fills and follows, and the work beside requests.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::mint::Mint;
use crate::mint::ledger::Ledger;
use crate::model::signing_key_schedule::RotationSchedule;
use crate::service::Service;
use crate::service::follow::{Follower, within};
use crate::service::ledger::keeper::Keeper;
use crate::service::ledger::recorder::Recorder;
use crate::service::ledger::{BegunLedger, LedgerConfig};
use crate::service::panics::unless_it_panics;
use crate::service::usage_writer::UsageWriter;

/// The name of the journal of revocations, where none is said.
pub const JOURNAL_FILE: &str = "revocations.journal";

/// How long a node that stops waits to tell the database where it ends: in all it has ten seconds.
pub(super) const LAST_WORD: Duration = Duration::from_secs(2);

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// How long it goes on issuing without its database.
    pub serve_for: Duration,
    /// Whether it brings the tables of its database up to date when it starts; otherwise it does not start on older
    /// ones.
    pub migrate: bool,
    /// How it keeps the ledger.
    pub ledger: LedgerConfig,
    /// When signing keys take turns.
    pub signing_keys: SigningKeyConfig,
    /// The file to which it appends what ends for ever, apart from the database.
    pub journal: PathBuf,
}

/// When signing keys take turns, as far as it is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct SigningKeyConfig {
    /// How long a key signs; nothing in it where it does until a rotation is asked for.
    pub rotate_every: Option<Option<Duration>>,
    /// How long a key is in the JWKS before it signs.
    pub publish_for: Option<Duration>,
    /// How long a key is in the JWKS after it has signed.
    pub retire_for: Option<Duration>,
}

impl NodeConfig {
    /// The defaults, for a node with this directory of its own.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            serve_for: Duration::from_mins(5),
            migrate: true,
            ledger: LedgerConfig::in_directory(directory),
            signing_keys: SigningKeyConfig::default(),
            journal: directory.join(JOURNAL_FILE),
        }
    }
}

impl NodeConfig {
    /// The schedule of signing keys that this makes of the one of an installation.
    pub fn schedule(&self, service: &Service) -> RotationSchedule {
        let SigningKeyConfig { rotate_every, publish_for, retire_for } = self.signing_keys;
        let defaults = service.schedule();
        let said = RotationSchedule {
            every: rotate_every.unwrap_or(defaults.every),
            publish_for: publish_for.unwrap_or(defaults.publish_for),
            retire_for: retire_for.unwrap_or(defaults.retire_for),
            ..defaults
        };
        said.with_outages_of(self.serve_for)
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// The use cases, on this node: a write is known here before it is answered.
    pub service: Service,
    /// What issues.
    pub mint: Arc<Mint>,
    /// What keeps the mint up to the database.
    pub follower: Arc<Follower>,
    usage_writer: Arc<UsageWriter>,
    leasing: Option<Stoppable>,
    recording: Option<Stoppable>,
    keeper: Option<Arc<Keeper>>,
    working: Vec<JoinHandle<()>>,
    failed: Arc<Notify>,
}

/// A task that has something to finish, and what asks it to stop.
#[derive(Debug)]
struct Stoppable {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Stoppable {
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        failed: &Arc<Notify>,
        run: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(watched(run(stopped), failed.clone())) }
    }

    async fn stop(self) {
        drop(self.stop);
        drop(self.task.await);
    }
}

impl Node {
    /// Fills a mint from the database, and begins a chain of the ledger. Nothing runs beside
    /// requests yet but what records tokens: without it, none would leave.
    pub async fn start(service: Service, config: NodeConfig) -> Result<Self> {
        let schedule = config.schedule(&service);
        let mut service = service.with_schedule(schedule).with_journal(&config.journal)?;
        let ledger = service.begin_ledger(config.ledger, config.migrate).await?;
        let on_hot_path = ledger.as_ref().map_or_else(Ledger::off, BegunLedger::on_hot_path);
        let (mint, follower) = service.start_mint(config.serve_for, on_hot_path).await?;
        let usage_writer = service.start_usage(mint.clone())?;
        let failed = Arc::default();
        let (recorder, keeper) = ledger.map(|ledger| ledger.serve(&service, &mint)).unzip();
        let recording = recorder.flatten().map(|recorder| record(recorder, &failed));
        Ok(Self {
            service,
            mint,
            follower,
            usage_writer,
            leasing: None,
            recording,
            keeper: keeper.map(Arc::new),
            working: Vec::new(),
            failed,
        })
    }

    /// Ends when something that the node does beside requests has panicked, and is done no more: a node
    /// that goes on without would be worth less and less.
    pub fn failure(&self) -> impl Future<Output = ()> + use<> {
        let failed = self.failed.clone();
        async move { failed.notified().await }
    }

    /// What looks after the ledger, where there is one.
    pub fn ledger_keeper(&self) -> Option<&Arc<Keeper>> {
        self.keeper.as_ref()
    }

    /// Looks after the ledger, until the node is stopped.
    pub fn keep_ledger(&mut self) {
        if let Some(keeper) = self.keeper.clone() {
            self.work_on(async move { keeper.run().await });
        }
    }

    /// Follows what others write, until the node is stopped.
    pub fn follow(&mut self) {
        let follower = self.follower.clone();
        self.work_on(async move {
            tokio::join!(follower.run(), follower.run_pruning());
        });
    }

    /// Lets signing keys take turns, until the node is stopped.
    pub fn rotate_signing_keys(&mut self) {
        let service = self.service.clone();
        self.work_on(async move { service.rotate_signing_keys().await });
    }

    /// Fetches leases of quotas, until the node is stopped.
    pub fn lease(&mut self) {
        let leases = self.service.lease_fetcher(&self.mint);
        self.leasing = Some(Stoppable::spawn(&self.failed, |stopped| async move {
            leases.run(async { drop(stopped.await) }).await;
        }));
    }

    /// Writes what is counted every few seconds, until the node is stopped.
    pub fn write_usage(&mut self) {
        let usage_writer = self.usage_writer.clone();
        self.work_on(async move { usage_writer.run().await });
    }

    /// Does something else beside requests, until the node is stopped.
    pub fn work_on(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.working.push(tokio::spawn(watched(work, self.failed.clone())));
    }

    /// Writes what was counted, gives back what was leased, and lets go of the database: once no
    /// request is left.
    pub async fn stop(self) {
        self.working.iter().for_each(JoinHandle::abort);
        let recording = async {
            if let Some(recording) = self.recording {
                recording.stop().await;
            }
            if let Some(keeper) = self.keeper
                && let Err(cause) = within(LAST_WORD, keeper.checkpoint()).await
            {
                tracing::warn!(%cause, "where the ledger ends is told by the log alone");
            }
        };
        let leasing = async {
            if let Some(leasing) = self.leasing {
                // it gives back what it holds, and then ends
                leasing.stop().await;
            }
        };
        // side by side: a database that does not answer is waited for once
        tokio::join!(recording, self.usage_writer.finish(), leasing);
        self.follower.leave().await;
        self.service.close().await;
    }
}

/// Work that tells where it has panicked.
async fn watched(work: impl Future<Output = ()>, failed: Arc<Notify>) {
    if unless_it_panics(pin!(work)).await.is_none() {
        failed.notify_one();
    }
}

fn record(recorder: Recorder, failed: &Arc<Notify>) -> Stoppable {
    Stoppable::spawn(failed, |stopped| async move {
        recorder.run(async { drop(stopped.await) }).await;
    })
}
