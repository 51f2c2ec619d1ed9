//! A network between a node and its database, which can be cut and can swallow.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Open,
    /// They end, and new ones end at once.
    Cut,
    /// They are accepted, and nothing goes through. What was sent meanwhile arrives once it is open
    /// again, as TCP does it where packets were lost.
    Swallowing,
}

/// What forwards to a database, as long as it lives.
pub struct Forwarder {
    pub address: SocketAddr,
    network: watch::Sender<Network>,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    pub async fn to(database: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, seen) = watch::channel(Network::Open);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, database, seen.clone()));
            }
        });
        Self { address, network, accepting }
    }

    pub fn turn(&self, network: Network) {
        self.network.send_replace(network);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection, until an end of it closes or the network is cut.
async fn carry(near: TcpStream, database: SocketAddr, mut network: watch::Receiver<Network>) {
    let mut cut = network.clone();
    let both_ways = async {
        opened(&mut network).await;
        let Ok(far) = TcpStream::connect(database).await else { return };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = pass(near_in, far_out, network.clone()) => {}
            () = pass(far_in, near_out, network.clone()) => {}
        }
    };
    tokio::select! {
        () = both_ways => {}
        _ = cut.wait_for(|network| *network == Network::Cut) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
) {
    let mut bytes = vec![0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        opened(&mut network).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn opened(network: &mut watch::Receiver<Network>) {
    // without its sender the test is over, and so is the connection
    drop(network.wait_for(|network| *network == Network::Open).await);
}
