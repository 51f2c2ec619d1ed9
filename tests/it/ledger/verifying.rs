//! Whatever is changed about the ledger, the first batch that it concerns is named.

use std::cell::Cell;
use std::time::Duration;

use tenmint::model::ledger::{ChainValue, Head, LedgerMode, Pruning};
use tenmint::service::ledger::last_chain::LastChain;
use tenmint::service::ledger::verify::{ChainReport, Fault};
use tenmint::store::Store;
use tenmint::store::ledger::LedgerStore;
use tokio::join;
use tokio::time::timeout;

use crate::ledger::{PATIENCE, all, next_run, next_run_in, reader, run, tables, token_of};
use crate::server::{Key, Server, on_both_engines};

const HOUR: Duration = Duration::from_hours(1);

async fn verified(server: &Server, noted: &[Head]) -> Vec<ChainReport> {
    server.service.verify_ledger(&reader(server).await, noted).await.unwrap()
}

async fn faults(server: &Server) -> Vec<Fault> {
    verified(server, &[]).await.into_iter().filter_map(|report| report.fault).collect()
}

/// So many batches, of one token each.
async fn batches(server: &Server, key: &Key, count: usize) {
    for _ in 0..count {
        assert_eq!(server.token(key, "").await.status, 200);
    }
}

async fn checkpoint(server: &Server) {
    server.node.as_ref().unwrap().ledger_keeper().unwrap().checkpoint().await.unwrap();
}

on_both_engines! {
    async fn a_ledger_as_it_was_recorded_has_no_fault(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 3).await;
        checkpoint(&server).await;
        batches(&server, &key, 2).await;
        let [report] = <[ChainReport; 1]>::try_from(verified(&server, &[]).await).unwrap();
        assert_eq!((report.batches, report.facts, report.unseen, report.dropped), (5, 5, 2, 0));
        assert_eq!((report.seen_at, report.fault), (Some(server.clock.now()), None));
        let head = report.head.unwrap();
        assert_eq!(verified(&server, &[head]).await[0].fault, None);
        let later = Head { number: 6, ..head };
        assert_eq!(verified(&server, &[later]).await[0].fault, Some(Fault::CutOff(later)));
        let other = Head { number: 4, ..head };
        assert_eq!(verified(&server, &[other]).await[0].fault, Some(Fault::Replaced(other)));
    }

    async fn a_head_from_a_log_counts_beside_a_checkpoint_of_the_same_batch(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 2).await;
        let before = verified(&server, &[]).await[0].head.unwrap();
        checkpoint(&server).await;
        assert_eq!(verified(&server, &[before]).await[0].fault, None);
        // whoever holds the master key seals anew, and tells the checkpoint so; the log cannot be told
        let other = Head { value: ChainValue::from_bytes([7; 32]), ..before };
        assert_eq!(verified(&server, &[other]).await[0].fault, Some(Fault::Replaced(other)));
    }

    async fn a_batch_that_was_changed_is_named(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 4).await;
        let mut tables = tables(&server).await;
        run(&mut tables, "UPDATE ledger_batches SET first_at = first_at - 1 WHERE number = 3").await;
        assert_eq!(faults(&server).await, [Fault::Changed(3)]);
        run(&mut tables, "UPDATE ledger_batches SET first_at = first_at + 1 WHERE number = 3").await;
        assert_eq!(faults(&server).await, []);
        run(&mut tables, "UPDATE ledger_batches SET body = (SELECT other.body FROM ledger_batches other
            WHERE other.number = 1) WHERE number = 2").await;
        assert_eq!(faults(&server).await, [Fault::Changed(2)]);
        run(&mut tables, "UPDATE ledger_chains SET started_at = started_at + 1").await;
        assert_eq!(faults(&server).await, [Fault::Changed(1)]);
    }

    async fn a_batch_that_was_taken_out_is_named(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 4).await;
        let mut tables = tables(&server).await;
        assert_eq!(run(&mut tables, "DELETE FROM ledger_batches WHERE number = 2").await, 1);
        assert_eq!(faults(&server).await, [Fault::Missing(2)]);
        run(&mut tables, "UPDATE ledger_batches SET number = number - 1 WHERE number = 3").await;
        assert_eq!(faults(&server).await, [Fault::Changed(2)], "the others do not close the gap");
    }

    async fn an_end_that_was_cut_off_is_known_by_the_last_checkpoint(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 3).await;
        let mut tables = tables(&server).await;
        run(&mut tables, "DELETE FROM ledger_batches WHERE number = 3").await;
        assert_eq!(faults(&server).await, [], "nobody had seen it");
        batches(&server, &key, 1).await;
        checkpoint(&server).await;
        run(&mut tables, "DELETE FROM ledger_batches WHERE number >= 2").await;
        assert!(matches!(faults(&server).await[..], [Fault::CutOff(Head { number: 4, .. })]));
    }

    async fn an_end_that_was_cut_off_with_its_checkpoint_is_known_by_the_directory_of_the_node(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 3).await;
        checkpoint(&server).await;
        run(&mut tables(&server).await, "DELETE FROM ledger_batches WHERE number >= 2").await;
        let store = Store::open(&server.database).await.unwrap();
        let mut append = store.append().await.unwrap();
        sqlx::query("DELETE FROM ledger_checkpoints").execute(&mut *append).await.unwrap();
        append.commit().await.unwrap();
        assert_eq!(faults(&server).await, [], "the database alone does not tell");
        let seen = LastChain::read(server.directory.path()).unwrap().unwrap().seen.unwrap();
        assert_eq!(verified(&server, &[seen]).await[0].fault, Some(Fault::CutOff(seen)));
        let next = next_run(&server, None).await;
        assert_eq!(faults(&server).await, [Fault::CutOff(seen)], "the next run remembers");
        next.stop().await;
    }

    async fn a_whole_run_that_was_taken_out_is_missed_by_the_one_after_it(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 2).await;
        let next = next_run(&server, None).await;
        assert_eq!(faults(&server).await, []);
        let mut tables = tables(&server).await;
        run(&mut tables, "DELETE FROM ledger_batches").await;
        assert!(matches!(faults(&server).await[..], [Fault::CutOff(Head { number: 2, .. })]));
        run(&mut tables, "DELETE FROM ledger_chains WHERE previous_chain IS NULL").await;
        assert_eq!(faults(&server).await, [Fault::NoBeginning]);
        next.stop().await;
    }

    async fn a_node_drops_by_itself_what_grew_old_also_one_that_records_nothing(server: Server) {
        let key = server.api_key("chat").await;
        for mode in [LedgerMode::Durable, LedgerMode::Off] {
            batches(&server, &key, 1).await;
            server.wind(Duration::from_hours(24)).await;
            let mut keeping = next_run_in(&server, mode, Some(Duration::from_hours(12))).await;
            keeping.keep_ledger();
            let dropped = async { while !all(&server).await.is_empty() {} };
            timeout(PATIENCE, dropped).await.expect("it is kept");
            keeping.stop().await;
        }
    }

    async fn a_look_at_a_ledger_that_is_being_dropped_finds_no_fault(server: Server) {
        let key = server.api_key("chat").await;
        for _ in 0..30 {
            batches(&server, &key, 1).await;
            server.wind(HOUR).await;
        }
        let keeping = next_run(&server, Some(HOUR)).await;
        let (keeper, now, done) = (keeping.ledger_keeper().unwrap(), server.clock.now(), Cell::new(false));
        let dropping = async {
            for hours in (0..30).rev() {
                keeper.prune(now - HOUR * hours).await.unwrap();
            }
            done.set(true);
        };
        let looking = async {
            while !done.get() {
                assert_eq!(faults(&server).await, []);
            }
        };
        join!(dropping, looking);
        assert_eq!(all(&server).await.len(), 1, "that of the last hour");
        keeping.stop().await;
    }

    async fn a_node_that_looked_before_another_dropped_some_drops_nothing(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 2).await;
        let store = LedgerStore::open_existing(&server.database).await.unwrap().unwrap();
        let chain = store.list_chains().await.unwrap()[0].id;
        let there = store.list_after(chain, 0, 2).await.unwrap();
        let up_to = |place: usize, facts| Pruning {
            head: there[place].head(),
            facts,
            pruned_at: server.clock.now(),
        };
        let seal = ChainValue::from_bytes([0; 32]);
        assert!(store.prune(0, &up_to(0, 1), seal).await.unwrap());
        assert!(!store.prune(0, &up_to(1, 2), seal).await.unwrap(), "the first would be counted twice, or never");
        assert!(store.prune(1, &up_to(1, 2), seal).await.unwrap());
    }

    async fn what_grew_old_is_dropped_and_the_rest_is_still_proven(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 2).await;
        server.wind(Duration::from_hours(24)).await;
        batches(&server, &key, 1).await;
        let keeping = next_run(&server, Some(Duration::from_hours(12))).await;
        let keeper = keeping.ledger_keeper().unwrap();
        for _ in 0..2 {
            keeper.prune(server.clock.now()).await.unwrap();
            let reports = verified(&server, &[]).await;
            let report = reports.iter().find(|report| report.head.is_some()).unwrap();
            assert_eq!((report.dropped, report.batches, &report.fault), (2, 1, &None));
        }
        assert_eq!(all(&server).await.len(), 1);
        batches(&server, &key, 1).await;
        assert_eq!(faults(&server).await, []);
        let head = verified(&server, &[]).await.iter().find_map(|report| report.head).unwrap();
        let dropped = Head { number: 1, ..head };
        let reports = verified(&server, &[dropped]).await;
        assert!(reports.iter().any(|report| report.unchecked == [dropped]), "{reports:?}");
        let mut tables = tables(&server).await;
        run(&mut tables, "UPDATE ledger_prunings SET facts = 1").await;
        assert_eq!(faults(&server).await, [Fault::PruningChanged]);
        run(&mut tables, "DELETE FROM ledger_prunings").await;
        assert_eq!(faults(&server).await, [Fault::Missing(1)]);
        keeping.stop().await;
    }

    async fn a_place_that_another_batch_has_begins_a_new_chain_and_loses_nothing(server: Server) {
        let key = server.api_key("chat").await;
        batches(&server, &key, 2).await;
        let mut tables = tables(&server).await;
        run(&mut tables, "INSERT INTO ledger_batches (chain, number, facts, first_at, last_at, value, filter, body)
            SELECT chain, 3, facts, first_at, last_at, value, filter, body FROM ledger_batches WHERE number = 2").await;
        let token = token_of(&server, &key).await;
        let ledger = reader(&server).await;
        assert!(ledger.find_token(super::id_of(&token)).await.unwrap().is_some(), "on record elsewhere");
        batches(&server, &key, 1).await;
        let reports = verified(&server, &[]).await;
        assert_eq!(reports.len(), 2);
        assert_eq!(reports.iter().map(|report| report.batches).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(faults(&server).await, [Fault::Changed(3)]);
    }
}
