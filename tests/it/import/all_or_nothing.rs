//! All or nothing: whatever ends an import, there is all of it or none of it, for everybody.

use tenmint::error::Error;
use tenmint::model::access::Actor;
use tenmint::model::id::OrgId;
use tenmint::model::time::Timestamp;
use tenmint::service::audit::AuditFilter;
use tenmint::store::Store;
use tenmint::store::changes::Subject;
use tenmint::store::{api_keys, imports, owners};

use super::*;
use crate::server::on_both_engines;

/// Longer than a dead import is taken for a living one.
const DEAD_AFTER: Duration = Duration::from_secs(16);

/// What is in the tables: keys and bots, whether somebody sees them or not.
async fn rows(server: &Server) -> (i64, i64) {
    let store = Store::open(&server.database).await.unwrap();
    let mut read = store.read().await.unwrap();
    let api_keys = api_keys::count(&mut read).await.unwrap();
    (api_keys, owners::count_bots(&mut read).await.unwrap())
}

async fn bots(server: &Server, actor: &Actor, org: OrgId) -> usize {
    server.service.list_bots(actor, (org, None), (200, None)).await.unwrap().items.len()
}

/// The number of the revision that the next change would be.
async fn next_revision(server: &Server) -> i64 {
    let store = Store::open(&server.database).await.unwrap();
    let write = store.begin().await.unwrap();
    write.revision()
}

/// The code of a conflict.
fn code_of<T>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Conflict(code, _)) => code,
        Err(cause) => panic!("{cause}"),
        Ok(_) => "ok",
    }
}

on_both_engines! {
    async fn all_of_a_good_file_goes_live_at_once(server: Server) {
        let other = other_node(&server).await;
        let report = imported(&server, ATOMIC, &file_of("all", 750)).await;
        assert_eq!((report.summary.status, report.counts()), (ImportEnd::Done, [750, 750, 0, 0, 0]));
        assert!(report.lines.iter().all(|line| line.status == ImportStatus::Accepted));
        let last = key(&report, 751, "all-749");
        assert_eq!(server.token(&last, "").await.claims()["scope"], "chat");
        assert_eq!(listed(&server).await.len(), 750);
        other.follower.catch_up().await.unwrap();
        other.follower.catch_up_with_imports().await.unwrap();
        assert_eq!(indexed(&other.mint), (751, 751));
        let late = other_node(&server).await;
        assert_eq!(indexed(&late.mint), (751, 751));
    }

    async fn one_bad_line_at_the_end_and_nothing_is_there(server: Server) {
        let (before, file) = (rows(&server).await, file_of("none", 250));
        let report = imported(&server, ATOMIC, &format!("{file}bad,x,chat\nlast,y,chat\n")).await;
        assert_eq!(report.summary.status, ImportEnd::Abandoned);
        assert_eq!(report.summary.code.as_deref(), Some("lines_refused"));
        assert_eq!(report.counts(), [252, 0, 250, 0, 2], "every bad line is told");
        assert_eq!(rows(&server).await, before);
        assert!(listed(&server).await.is_empty());
        let again = imported(&server, ATOMIC, &file).await;
        assert_eq!(again.counts(), [250, 250, 0, 0, 0], "its digests are free again");
    }

    async fn a_bad_line_at_the_start_does_not_keep_what_follows_from_being_checked(server: Server) {
        let before = next_revision(&server).await;
        let file = format!("{}once-3,{},chat\n", file_of("once", 150), sha256("once-3"));
        let file = file.replacen("once-0", "once\u{7}", 1);
        let report = imported(&server, ATOMIC, &file).await;
        assert_eq!(report.summary.status, ImportEnd::Abandoned);
        assert_eq!(report.counts(), [151, 0, 149, 1, 1]);
        assert_eq!(next_revision(&server).await, before + 1, "one change to begin, and no other");
    }

    async fn what_is_staged_is_seen_by_nobody(server: Server) {
        let mut running = Running::begin(&server.service, server.call(), ATOMIC);
        running.send(&file_of("hidden", 250)).await;
        let lines = running.lines(90).await;
        assert!(rows(&server).await.0 > 90, "they are there");
        let Call { actor, org, .. } = server.call();
        assert!(listed(&server).await.is_empty());
        let name = ListApiKeys { name: Some("hidden".to_owned()), limit: 9, ..ListApiKeys::default() };
        let named = server.service.list_api_keys(&actor, org, name).await.unwrap();
        assert!(named.items.is_empty() && named.next.is_none());
        let id = lines[0].id.unwrap();
        let shown = server.service.get_api_key(&actor, org, &id).await;
        assert!(matches!(shown, Err(Error::NotFound(_))));
        let revoked = server.service.revoke_api_key(&server.call(), &id).await;
        assert!(matches!(revoked, Err(Error::NotFound(_))));
        assert_eq!(bots(&server, &actor, org).await, 1, "the administrator's alone");
        let hidden = Key { id, text: "hidden-0".to_owned() };
        assert_eq!(server.token(&hidden, "").await.outcome(), "401 invalid_client");
        // neither a node that starts nor one that is told to read them finds any
        let late = other_node(&server).await;
        assert_eq!(indexed(&late.mint), (1, 1));
        let store = Store::open(&server.database).await.unwrap();
        let mut write = store.begin().await.unwrap();
        write.touched(Subject::ApiKey(id), server.clock.now()).await.unwrap();
        write.commit().await.unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&hidden, "").await.outcome(), "401 invalid_client");
        let report = running.end().await.unwrap();
        assert_eq!(report.counts(), [250, 250, 0, 0, 0]);
        assert_eq!(server.token(&hidden, "").await.outcome(), "200");
        assert_eq!(bots(&server, &actor, org).await, 200);
    }

    async fn an_import_that_died_leaves_nothing_and_can_come_again(server: Server) {
        let before = rows(&server).await;
        let file = file_of("dead", 250);
        let mut running = Running::begin(&server.service, server.call(), ATOMIC);
        running.send(&file).await;
        running.lines(180).await;
        running.importing.abort();
        assert!(running.importing.await.is_err(), "died before its end");
        assert!(rows(&server).await.0 > before.0 + 90);
        for ask in [ATOMIC, CSV] {
            let refused = import(&server.service, &server.call(), ask, &file).await;
            assert_eq!(code_of(refused), "import_running", "it may still live");
        }
        let late = other_node(&server).await;
        assert_eq!(indexed(&late.mint), (1, 1));
        server.wind(DEAD_AFTER).await;
        let again = imported(&server, ATOMIC, &file).await;
        assert_eq!(again.counts(), [250, 250, 0, 0, 0]);
        assert_eq!(rows(&server).await, (before.0 + 250, before.1 + 250));
    }

    async fn one_import_of_an_organization_goes_at_a_time(server: Server) {
        let (_, stranger) = server.second_org("second").await;
        let mut running = Running::begin(&server.service, server.call(), ATOMIC);
        running.send(&file_of("first", 250)).await;
        running.lines(90).await;
        let refused = import(&server.service, &server.call(), CSV, file_of("other", 1)).await;
        assert_eq!(code_of(refused), "import_running");
        let theirs = server.call_of(&stranger);
        let report = import(&server.service, &theirs, ATOMIC, file_of("other", 1)).await.unwrap();
        assert_eq!(report.summary.created, 1);
        // what is staged elsewhere is in use, whoever asks
        let report = import(&server.service, &theirs, CSV, file_of("first", 1)).await.unwrap();
        assert_eq!(report.told(), ["2 refused digest_in_use: digest"]);
        assert_eq!(running.end().await.unwrap().summary.created, 250);
    }

    async fn an_import_that_was_taken_for_dead_stores_nothing_more(server: Server) {
        let before = rows(&server).await;
        let mut running = Running::begin(&server.service, server.call(), ATOMIC);
        running.send(&file_of("late", 250)).await;
        running.lines(90).await;
        let store = Store::open(&server.database).await.unwrap();
        let ever = Timestamp::from_millis(i64::MAX);
        let running_ones = imports::list_dead(&mut *store.read().await.unwrap(), ever).await;
        let mut append = store.append().await.unwrap();
        let id = running_ones.unwrap().remove(0).id;
        assert!(imports::give_up(&mut append, &id, ever).await.unwrap());
        append.commit().await.unwrap();
        let report = running.end().await.unwrap();
        assert_eq!((report.summary.status, report.summary.import), (ImportEnd::Failed, id));
        assert_eq!(report.summary.code.as_deref(), Some("import_lost"));
        assert_eq!(rows(&server).await, before);
    }

    async fn an_import_that_is_not_read_to_its_end_is_given_up(server: Server) {
        let before = rows(&server).await;
        let mut running = Running::begin(&server.service, server.call(), ATOMIC);
        running.send(&file_of("gone", 250)).await;
        running.lines(90).await;
        drop(running.report);
        running.bytes.send(Ok(Bytes::from(file_of("more", 250)))).await.unwrap();
        let summary = running.importing.await.unwrap().unwrap();
        assert_eq!(summary.status, ImportEnd::Failed);
        assert_eq!(rows(&server).await, before);
    }

    async fn the_audit_says_what_was_staged_and_whether_it_went_live(server: Server) {
        let good = imported(&server, ATOMIC, &file_of("good", 1)).await;
        let bad = imported(&server, ATOMIC, &format!("{}bad,x,chat", file_of("bad", 250))).await;
        let Call { actor, org, .. } = server.call();
        for (report, outcome) in [(&good, "done"), (&bad, "lines_refused")] {
            let of = |object: String| AuditFilter {
                org: Some(org),
                object: Some(object),
                ..AuditFilter::default()
            };
            let import = of(report.summary.import.to_string());
            let (entries, _) = server.service.list_audit(&actor, &import, (9, None)).await.unwrap();
            assert_eq!((entries.len(), &*entries[0].outcome), (1, outcome));
            let key = of(report.id(2).to_string());
            let (entries, _) = server.service.list_audit(&actor, &key, (9, None)).await.unwrap();
            assert_eq!((entries.len(), &*entries[0].outcome), (1, "staged"));
        }
    }
}
