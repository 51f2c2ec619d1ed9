//! `/metrics`: what a node tells of itself, where, and what never becomes part of it.

#![expect(
    clippy::float_cmp,
    reason = "counts are whole numbers, and clocks here are wound by whole seconds"
)]

mod alerts;
mod documented;
mod listener;
mod node;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tenmint::http::{self, listener as listeners};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::server::{Answer, Server};

/// What does not come about within this is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// One look at the figures of a node, held to the format.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    /// Type and help of each family.
    families: BTreeMap<String, (String, String)>,
    /// Each line that is no comment: name and labels, and the value.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let mut help = None;
        let mut current = String::new();
        for line in text.lines() {
            if let Some(said) = line.strip_prefix("# HELP ") {
                help = said.split_once(' ');
            } else if let Some(said) = line.strip_prefix("# TYPE ") {
                let (name, kind) = said.split_once(' ').unwrap();
                let (of, help) = help.take().unwrap();
                assert_eq!(of, name, "help and type of one family stand together");
                let family = (kind.to_owned(), help.to_owned());
                assert!(families.insert(name.to_owned(), family).is_none(), "{name} twice");
                name.clone_into(&mut current);
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line}"));
                assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
            }
        }
        Self { families, samples }
    }

    /// The value of a series.
    pub fn of(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.samples))
    }

    /// The names of all series.
    fn series(&self) -> BTreeSet<&str> {
        self.samples.keys().map(String::as_str).collect()
    }
}

/// A listener of a server for those who watch.
pub async fn observed(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let face = http::observed_face(server.node.as_ref().unwrap(), server.http.clone());
    tokio::spawn(listeners::serve(listener, face, std::future::pending()));
    address
}

/// What is answered to a GET at an address.
async fn get(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Answer::parse(&answer)
}

pub async fn scrape(address: SocketAddr) -> Scrape {
    let answer = get(address, "/metrics").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Scrape::parse(&answer.body)
}

/// The figures once this holds of them.
async fn until(address: SocketAddr, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    let looking = async {
        loop {
            let told = scrape(address).await;
            if holds(&told) {
                return told;
            }
        }
    };
    timeout(PATIENCE, looking).await.expect("it never comes about")
}
