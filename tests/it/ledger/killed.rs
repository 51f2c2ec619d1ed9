//! Kill -9 under load: every token that a client received is on record, once, and the chain holds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenmint::model::token_id::TokenId;

use crate::answer::ask;
use crate::cli::{Home, Serving, free_address};
use crate::kill::{engine, rounds, some_time};
use crate::ledger::{self, hold_to_record};
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
        let (recorded, chains) = hold_to_record(&home, &received).await;
        assert!(received.len() > rounds * CLIENTS / 2, "{} tokens", received.len());
        println!(
            "{}: {rounds} rounds, {} tokens received, {recorded} on record, {chains} chains",
            engine(&home),
            received.len(),
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
                while let Some(answer) =
                    ask(&address, &request).filter(|answer| answer.status == 200)
                {
                    received.lock().unwrap().push(ledger::received(&answer));
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
