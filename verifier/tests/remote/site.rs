//! An issuer on loopback that answers whatever it is told to, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// What the site answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and never the end.
    Hang(Vec<u8>),
}

impl Answer {
    pub(crate) fn ok(headers: &str, body: &str) -> Self {
        Self::status("200 OK", headers, body)
    }

    pub(crate) fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
        Self::Bytes([head.as_bytes(), body.as_bytes()].concat())
    }
}

/// The documents of an issuer, and the heads of the requests for them.
struct Pages {
    metadata: Answer,
    jwks: Answer,
    /// Who asks for what comes next waits until there is one that was not served yet.
    feed: watch::Sender<(u64, Answer)>,
    served: u64,
    /// What other paths answer, by how the head of a request starts.
    others: Vec<(&'static str, Answer)>,
    heads: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) origin: String,
    pages: Arc<Mutex<Pages>>,
    hits: watch::Receiver<usize>,
}

impl Site {
    /// A site that serves its metadata, and hangs when asked for keys.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({"issuer": origin, "jwks_uri": format!("{origin}/jwks.json")});
        let metadata = Answer::ok("", &metadata.to_string());
        let feed = watch::Sender::new((0, Answer::status("404 Not Found", "", "")));
        let jwks = Answer::Hang(Vec::new());
        let pages =
            Pages { metadata, jwks, feed, served: 0, others: Vec::new(), heads: Vec::new() };
        let pages = Arc::new(Mutex::new(pages));
        let (counter, hits) = watch::channel(0);
        tokio::spawn(serve(listener, Arc::clone(&pages), counter));
        Self { origin, pages, hits }
    }

    pub(crate) fn set_metadata(&self, answer: Answer) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).metadata = answer;
    }

    pub(crate) fn set_jwks(&self, answer: Answer) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).jwks = answer;
    }

    /// Names a feed in the metadata, and answers with this one.
    pub(crate) fn set_feed(&self, answer: Answer) {
        let origin = &self.origin;
        let metadata = json!({"issuer": origin, "jwks_uri": format!("{origin}/jwks.json"),
            "revocation_feed_uri": format!("{origin}/feed")});
        self.set_metadata(Answer::ok("", &metadata.to_string()));
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.feed.send_modify(|(number, feed)| {
            *number += 1;
            *feed = answer;
        });
    }

    /// Answers requests whose head starts like this, in lower case, from now on.
    pub(crate) fn set_other(&self, start: &'static str, answer: Answer) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.others.insert(0, (start, answer));
    }

    /// The heads of the requests so far that start like this.
    pub(crate) fn requests(&self, start: &str) -> Vec<String> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.heads.iter().filter(|head| head.starts_with(start)).cloned().collect()
    }

    /// The heads of the requests for the feed so far.
    pub(crate) fn feed_requests(&self) -> Vec<String> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.heads.iter().filter(|head| head.starts_with("get /feed")).cloned().collect()
    }

    /// The heads of the requests for keys so far.
    pub(crate) fn key_requests(&self) -> Vec<String> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.heads.iter().filter(|head| head.starts_with("get /jwks.json ")).cloned().collect()
    }

    pub(crate) fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    /// Waits until that many requests have come.
    pub(crate) async fn hit(&self, count: usize) {
        self.hits.clone().wait_for(|hits| *hits >= count).await.unwrap();
    }
}

async fn serve(listener: TcpListener, pages: Arc<Mutex<Pages>>, hits: watch::Sender<usize>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&pages), hits.clone()));
    }
}

async fn answer(mut stream: TcpStream, pages: Arc<Mutex<Pages>>, hits: watch::Sender<usize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // one who speaks TLS says other things, and hangs up
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let (answer, mut feed, served) = {
        let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.heads.push(head.clone());
        let is_metadata = head.starts_with("get /.well-known/oauth-authorization-server ");
        let other = pages.others.iter().find(|(start, _)| head.starts_with(start));
        let answer = match other {
            Some((_, answer)) => answer.clone(),
            None if is_metadata => pages.metadata.clone(),
            None => pages.jwks.clone(),
        };
        (answer, pages.feed.subscribe(), pages.served)
    };
    hits.send_modify(|hits| *hits += 1);
    let answer = if head.starts_with("get /feed") {
        let is_new = |(number, _): &(u64, Answer)| *number > served;
        let news = timeout(wait_of(&head), feed.wait_for(is_new)).await;
        match news.map(|gone| gone.is_err()) {
            Ok(true) => return,
            Err(_) if head.contains("wait=") => Answer::status("304 Not Modified", "", ""),
            _ => {
                let (number, answer) = feed.borrow().clone();
                pages.lock().unwrap_or_else(PoisonError::into_inner).served = number;
                answer
            }
        }
    } else {
        answer
    };
    match answer {
        Answer::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Answer::Hang(bytes) => {
            drop(stream.write_all(&bytes).await);
            std::future::pending::<()>().await;
        }
    }
}

/// How long the head of a request wants its answer to be held back.
fn wait_of(head: &str) -> Duration {
    let wait = head.split_once("wait=").and_then(|(_, rest)| rest.split_once(' '));
    Duration::from_secs(wait.map_or(0, |(seconds, _)| seconds.parse().unwrap()))
}
