//! A node that serves: its use cases, the mint it fills and follows, and the work beside requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::mint::Mint;
use crate::service::Service;
use crate::service::refresh::Follower;
use crate::service::usage_writer::UsageWriter;

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
    leasing: Option<Leasing>,
    working: Vec<JoinHandle<()>>,
}

/// The task that fetches leases, and what asks it to stop.
#[derive(Debug)]
struct Leasing {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Node {
    /// Fills a mint from the database. Nothing runs beside requests yet.
    pub async fn start(mut service: Service, serve_for: Duration) -> Result<Self> {
        let (mint, follower) = service.start_mint(serve_for).await?;
        let usage_writer = service.start_usage(mint.clone())?;
        let (leasing, working) = (None, Vec::new());
        Ok(Self { service, mint, follower, usage_writer, leasing, working })
    }

    /// Follows what others write, until the node is stopped.
    pub fn follow(&mut self) {
        let follower = self.follower.clone();
        self.working.push(tokio::spawn(async move { follower.run().await }));
    }

    /// Fetches leases of quotas, until the node is stopped.
    pub fn lease(&mut self) {
        let leases = self.service.lease_fetcher(&self.mint);
        let (stop, stopped) = oneshot::channel();
        let task = async move { leases.run(async { drop(stopped.await) }).await };
        self.leasing = Some(Leasing { stop, task: tokio::spawn(task) });
    }

    /// Writes what is counted every few seconds, until the node is stopped.
    pub fn write_usage(&mut self) {
        let usage_writer = self.usage_writer.clone();
        self.working.push(tokio::spawn(async move { usage_writer.run().await }));
    }

    /// Does something else beside requests, until the node is stopped.
    pub fn work_on(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.working.push(tokio::spawn(work));
    }

    /// Writes what was counted, gives back what was leased, and lets go of the database: once no
    /// request is left.
    pub async fn stop(self) {
        self.working.iter().for_each(JoinHandle::abort);
        self.usage_writer.finish().await;
        if let Some(Leasing { stop, task }) = self.leasing {
            drop(stop);
            // it gives back what it holds, and then ends
            drop(task.await);
        }
        self.service.close().await;
    }
}
