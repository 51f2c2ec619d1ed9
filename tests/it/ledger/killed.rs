//! Kill -9 under load: every token that a client received is on record, once, and the chain holds.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tenmint::model::token_id::TokenId;
use tenmint::service::ledger::search::Search;

use crate::cli::{Home, Serving, free_address};
use crate::kill::{engine, rounds, some_time};
use crate::server::{basic, token_request};

/// Clients that ask at once.
const CLIENTS: usize = 8;

#[tokio::test]
async fn every_token_that_a_client_received_is_on_record_once_after_kills() {
    for home in Home::on_each_engine() {
        let init = home.init("https://auth.example.com");
        let field = |name: &str| init["api_key"][name].as_str().unwrap().to_owned();
        let authorization = basic(&field("id"), &field("api_key"));
        let mut received = Vec::new();
        let rounds = rounds(&home);
        for _ in 0..rounds {
            received.extend(fetch_until_killed(&home, &authorization));
        }
        // a node that starts takes in what the last one left behind
        drop(Serving::start(&home, &["--listen", &free_address()]));
        let service = home.service().await;
        let ledger = service.read_ledger().await.unwrap();
        let mut recorded = BTreeMap::<TokenId, u32>::new();
        let give = |facts: Vec<tenmint::model::ledger::RecordedFact>| {
            facts.iter().for_each(|fact| *recorded.entry(fact.token_id).or_default() += 1);
            true
        };
        ledger.export(&Search::default(), give).await.unwrap();
        let lost = received.iter().filter(|id| !recorded.contains_key(id)).count();
        let twice = recorded.values().filter(|count| **count > 1).count();
        assert_eq!((lost, twice), (0, 0), "of {}", received.len());
        assert!(received.len() > rounds * CLIENTS / 2, "{} tokens", received.len());
        let reports = service.verify_ledger(&ledger, &[]).await.unwrap();
        assert!(reports.iter().all(|report| report.fault.is_none()), "{reports:?}");
        println!(
            "{}: {rounds} rounds, {} tokens received, {} on record, {} chains",
            engine(&home),
            received.len(),
            recorded.len(),
            reports.len(),
        );
    }
}

/// The ids of all tokens that were received before the server was killed, at a random moment.
fn fetch_until_killed(home: &Home, authorization: &str) -> Vec<TokenId> {
    let address = free_address();
    let serving = Serving::start(home, &["--listen", &address]);
    let request = token_request(authorization);
    let received = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(body) = answer_to(&address, &request) {
                    received.lock().unwrap().push(id_of(&body));
                }
            });
        }
        while received.lock().unwrap().len() < CLIENTS {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(some_time(60));
        drop(serving);
    });
    Arc::into_inner(received).unwrap().into_inner().unwrap()
}

/// The body of a whole answer that gave a token.
fn answer_to(address: &str, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).ok()?;
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.starts_with("HTTP/1.1 200") && body.ends_with('}')).then(|| body.to_owned())
}

fn id_of(body: &str) -> TokenId {
    let body: Value = serde_json::from_str(body).unwrap();
    let claims = body["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["jti"].as_str().unwrap().parse().unwrap()
}
