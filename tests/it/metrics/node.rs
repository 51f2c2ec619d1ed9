//! How a node stands: what it holds, how current it is, what waits to be recorded.

use std::time::Duration;

use sqlx::{AnyConnection, Connection};

use crate::metrics::{Scrape, observed, scrape, until};
use crate::server::{Engine, Server, Setup, on_both_engines};

/// The only series of a name with this in its labels.
fn the_one(told: &Scrape, name: &str, label: &str) -> f64 {
    let of_name = |series: &str| series.starts_with(&format!("{name}{{")) && series.contains(label);
    let found: Vec<f64> = told
        .samples
        .iter()
        .filter(|(series, _)| of_name(series))
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(found.len(), 1, "{name} {label}: {:#?}", told.samples);
    found[0]
}

on_both_engines! {
    async fn a_node_tells_how_current_it_is(server: Server) {
        let observed = observed(&server).await;
        let before = scrape(observed).await;
        let ages = |told: &Scrape| {
            ["tenmint_database_age_seconds", "tenmint_feed_lag_seconds"].map(|name| told.of(name))
        };
        assert_eq!((before.of("tenmint_ready"), ages(&before)), (1.0, [0.0; 2]));
        server.clock.wind(Duration::from_secs(90));
        let late = scrape(observed).await;
        assert_eq!((late.of("tenmint_ready"), ages(&late)), (1.0, [90.0; 2]));
        server.clock.wind(Duration::from_mins(5));
        assert_eq!(scrape(observed).await.of("tenmint_ready"), 0.0);
        server.wind(Duration::ZERO).await;
        let key = server.api_key("chat").await;
        server.revoke(&key.id).await;
        let after = scrape(observed).await;
        assert_eq!(after.of("tenmint_applied_revision"), before.of("tenmint_applied_revision") + 2.0);
        assert_eq!(after.of("tenmint_feed_revision"), after.of("tenmint_applied_revision"));
        server.mint.index().doubt();
        let in_doubt = scrape(observed).await;
        assert_eq!(ages(&in_doubt), [f64::INFINITY; 2]);
        assert_eq!(in_doubt.of("tenmint_ready"), 0.0);
    }

    async fn a_node_tells_what_it_holds_in_memory(server: Server) {
        let observed = observed(&server).await;
        let before = scrape(observed).await;
        server.api_key("chat").await;
        let after = scrape(observed).await;
        for name in ["tenmint_index_api_keys", "tenmint_index_secrets"] {
            assert_eq!(after.of(name), before.of(name) + 1.0, "{name}");
        }
        assert_eq!(after.of("tenmint_quota_counters"), 0.0);
        assert_eq!(after.of("tenmint_build_info{version=\"0.1.0\"}"), 1.0);
    }

    async fn signing_keys_are_told_by_state_and_age(server: Server) {
        let observed = observed(&server).await;
        server.wind(Duration::from_hours(48)).await;
        let told = scrape(observed).await;
        for (state, count) in [("published", 1.0), ("signing", 1.0), ("retiring", 0.0)] {
            assert_eq!(told.of(&format!("tenmint_signing_keys{{state=\"{state}\"}}")), count, "{state}");
        }
        for state in ["state=\"published\"", "state=\"signing\""] {
            for name in ["tenmint_signing_key_age_seconds", "tenmint_signing_key_state_age_seconds"] {
                assert_eq!(the_one(&told, name, state), 172_800.0, "{name} {state}");
            }
        }
    }

    async fn tokens_on_record_are_counted_with_their_batches(server: Server) {
        let observed = observed(&server).await;
        let key = server.api_key("chat").await;
        for _ in 0..5 {
            assert_eq!(server.token(&key, "").await.status, 200);
        }
        let told = scrape(observed).await;
        assert_eq!(told.of("tenmint_ledger_facts_total"), 5.0);
        assert_eq!(told.of("tenmint_ledger_batches_total"), 5.0);
        assert_eq!(told.of("tenmint_ledger_commit_duration_seconds_count"), 5.0);
        for nothing in [
            "facts_waiting", "lag_seconds", "failures_total", "spool_batches", "spool_bytes", "spooled_batches_total",
        ] {
            assert_eq!(told.of(&format!("tenmint_ledger_{nothing}")), 0.0, "{nothing}");
        }
        assert_eq!(told.of("tenmint_ledger_open"), 1.0);
    }

    async fn a_verifier_that_waits_for_the_feed_is_told(server: Server) {
        let observed = observed(&server).await;
        let key = server.api_key("chat").await;
        let heard = server.get("/oauth/revocations").await.header("etag").unwrap().to_owned();
        let waiting = async {
            let headers = [("If-None-Match", heard.as_str())];
            server.send("GET", "/oauth/revocations?wait=60", &headers, b"").await
        };
        let watching = async {
            until(observed, |told| told.of("tenmint_feed_waiting_verifiers") >= 1.0).await;
            server.revoke(&key.id).await;
        };
        let (answer, ()) = tokio::join!(waiting, watching);
        assert_eq!(answer.status, 200);
        assert_eq!(scrape(observed).await.of("tenmint_feed_waiting_verifiers"), 0.0);
    }
}

async fn ledger(server: &Server) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let file = server.directory.path().join("ledger.db");
    let url = server.postgres.clone().unwrap_or_else(|| format!("sqlite://{}", file.display()));
    AnyConnection::connect(&url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_cannot_be_written_is_told_as_closed_with_a_lag_that_grows() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let observed = observed(&server).await;
    let key = server.api_key("chat").await;
    let mut tables = ledger(&server).await;
    let trigger = "CREATE TRIGGER full_disk BEFORE INSERT ON ledger_batches
        BEGIN SELECT RAISE(FAIL, 'the disk is full'); END";
    sqlx::query(trigger).execute(&mut tables).await.unwrap();
    assert_eq!(server.token(&key, "").await.status, 503);
    server.clock.wind(Duration::from_secs(30));
    let closed = scrape(observed).await;
    assert_eq!((closed.of("tenmint_ledger_open"), closed.of("tenmint_ready")), (0.0, 0.0));
    assert_eq!(closed.of("tenmint_ledger_lag_seconds"), 30.0);
    assert!(closed.of("tenmint_ledger_failures_total") >= 1.0);
    assert_eq!(closed.of("tenmint_ledger_facts_total"), 0.0);
    assert_eq!(closed.of("tenmint_token_refusals_total{reason=\"unavailable\"}"), 1.0);
    sqlx::query("DROP TRIGGER full_disk").execute(&mut tables).await.unwrap();
    until(observed, |told| told.of("tenmint_ledger_open") >= 1.0).await;
    let open = scrape(observed).await;
    // the token never left, and is on record
    assert_eq!(open.of("tenmint_ledger_facts_total"), 1.0);
    assert_eq!((open.of("tenmint_ledger_lag_seconds"), open.of("tenmint_ready")), (0.0, 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_the_spool_is_told_until_the_database_has_it() {
    let Some(server) = Setup::on(Engine::Postgres).start().await else { return };
    let observed = observed(&server).await;
    let key = server.api_key("chat").await;
    let mut tables = ledger(&server).await;
    for sql in [
        "CREATE FUNCTION full_disk() RETURNS trigger AS
         $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER full_disk BEFORE INSERT ON ledger_batches
         FOR EACH ROW EXECUTE FUNCTION full_disk()",
    ] {
        sqlx::query(sql).execute(&mut tables).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(server.token(&key, "").await.status, 200);
    }
    let spooled = scrape(observed).await;
    assert_eq!(spooled.of("tenmint_ledger_spool_batches"), 2.0);
    assert!(spooled.of("tenmint_ledger_spool_bytes") > 0.0);
    assert_eq!(spooled.of("tenmint_ledger_spooled_batches_total"), 2.0);
    assert_eq!(spooled.of("tenmint_ledger_facts_total"), 2.0);
    sqlx::query("DROP TRIGGER full_disk ON ledger_batches").execute(&mut tables).await.unwrap();
    server.node.as_ref().unwrap().ledger_keeper().unwrap().replay().await.unwrap();
    let replayed = scrape(observed).await;
    assert_eq!(replayed.of("tenmint_ledger_spool_batches"), 0.0);
    assert_eq!(replayed.of("tenmint_ledger_spool_bytes"), 0.0);
    assert_eq!(replayed.of("tenmint_ledger_spooled_batches_total"), 2.0);
}
