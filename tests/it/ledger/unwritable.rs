//! A disk that takes no more, and one that can only be read: nothing is lost or doubled, and the node goes on
//! by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use sqlx::{AnyConnection, Connection};
use tenmint::model::token_id::TokenId;

use crate::answer::{Answer, ask};
use crate::cli::{Home, Serving, free_address, stderr, stdout};
use crate::ledger::failures::{break_inserts, mend_inserts};
use crate::ledger::{self, hold_to_record};
use crate::server::{Engine, basic, management_request, token_request};

const ROUNDS: usize = 3;

/// The system lets no file of the server grow, as a disk that is full would not.
#[tokio::test]
async fn a_full_disk_loses_and_doubles_no_record_and_the_node_recovers_by_itself() {
    let home = Home::new();
    let (node, command) = Node::of(&home);
    let serving = Serving::of(without_signal(&command));
    let received = node.hold_through(|is_full| limit_files(&serving, is_full.then_some(1)));
    drop(serving);
    hold_to_record(&home, &received).await;
}

#[tokio::test]
async fn a_disk_without_room_loses_and_doubles_no_record_and_the_node_recovers_by_itself() {
    recovers_from("full").await;
}

/// As on a disk that the system has made read-only after an error.
#[tokio::test]
async fn a_file_that_can_only_be_read_loses_and_doubles_no_record_and_the_node_recovers_by_itself()
{
    recovers_from("read-only").await;
}

#[tokio::test]
async fn no_token_leaves_whose_record_is_not_synced() {
    recovers_from("unsynced").await;
}

async fn recovers_from(trouble: &str) {
    let home = Home::new();
    let (node, mut command) = Node::of(&home);
    let disk = BadDisk::in_directory(home.path());
    disk.lies_under(&mut command);
    let serving = Serving::of(command);
    let received = node.hold_through(|is_bad| disk.has(is_bad.then_some(trouble)));
    drop(serving);
    hold_to_record(&home, &received).await;
}

/// The database takes no batch, and the spool takes none either. What went to the spool before a kill is
/// recorded by the next run.
#[tokio::test]
async fn on_postgresql_no_token_leaves_that_neither_the_database_nor_the_spool_holds() {
    let Some(home) = Home::on_postgres() else { return };
    let (node, mut command) = Node::of(&home);
    let disk = BadDisk::in_directory(home.path());
    disk.lies_under(&mut command);
    let serving = Serving::of(command);
    let mut received = vec![ledger::received(&node.token())];
    sqlx::any::install_default_drivers();
    let url = home.database_url.as_deref().unwrap();
    let mut tables = AnyConnection::connect(url).await.unwrap();
    break_inserts(&mut tables, Engine::Postgres).await;
    received.push(ledger::received(&node.token()));
    for trouble in ["read-only", "full", "unsynced"] {
        disk.has(Some(trouble));
        for _ in 0..3 {
            let refused = node.token();
            assert_eq!(refused.outcome(), "503 temporarily_unavailable", "{trouble}");
            assert!(refused.header("retry-after").is_some());
        }
        assert_eq!(node.ask("GET /readyz HTTP/1.0\r\n\r\n").status, 503);
        disk.has(None);
        received.push(ledger::received(&until_it_succeeds(|| node.token())));
    }
    drop(serving);
    let ledger = home.service().await.read_ledger().await.unwrap();
    assert_eq!(ledger::all_in(&ledger).await.len(), 1, "the spool holds the others");
    mend_inserts(&mut tables, Engine::Postgres).await;
    let serving = Serving::start(&home, &["--listen", &node.address]);
    received.push(ledger::received(&node.token()));
    drop(serving);
    hold_to_record(&home, &received).await;
}

/// What an auditor is given on a disc.
#[test]
fn a_backup_is_verified_and_searched_where_nothing_can_be_written() {
    let home = Home::new();
    let (node, command) = Node::of(&home);
    let serving = Serving::of(command);
    let received = ledger::received(&node.token()).to_string();
    let backup = home.run(&["backup", "disc"]);
    assert!(backup.status.success(), "{}", stderr(&backup));
    drop(serving);
    let disk = BadDisk::in_directory(home.path());
    disk.has(Some("read-only"));
    let on_disc = |arguments: &[&str]| {
        let mut command = home.command(&[arguments, &["--data-dir", "disc"]].concat());
        disk.lies_under(&mut command);
        command.output().unwrap()
    };
    let verified = on_disc(&["ledger", "verify"]);
    assert!(verified.status.success() && stderr(&verified).contains("1 token"), "{verified:?}");
    let found = on_disc(&["ledger", "find", "--jti", &received]);
    assert!(stdout(&found).contains(&received), "{}", stderr(&found));
    let refused = stderr(&on_disc(&["signing-keys", "rotate"]));
    assert!(refused.contains("readonly"), "{refused}");
}

/// A node that is asked while its disk is broken.
struct Node {
    address: String,
    id: String,
    api_key: String,
}

impl Node {
    fn of(home: &Home) -> (Self, Command) {
        let init = home.init("https://auth.example.com");
        let field = |name: &str| init["api_key"][name].as_str().unwrap().to_owned();
        let address = free_address();
        let command = home.command(&["serve", "--listen", &address]);
        let (id, api_key) = (field("id"), field("api_key"));
        (Self { address, id, api_key }, command)
    }

    fn token(&self) -> Answer {
        self.ask(&token_request(&basic(&self.id, &self.api_key)))
    }

    fn ask(&self, request: &str) -> Answer {
        ask(&self.address, request).unwrap()
    }

    fn create(&self) -> Answer {
        let body = json!({"name": "app", "scopes": ["chat"]}).to_string();
        self.ask(&management_request("POST", "/v1/keys", &self.api_key, &body))
    }

    /// Breaks the disk and mends it, a few times. The tokens that were received.
    fn hold_through(&self, set_broken: impl Fn(bool)) -> Vec<TokenId> {
        let mut received = Vec::new();
        for round in 0..ROUNDS {
            received.push(ledger::received(&self.token()));
            set_broken(true);
            for _ in 0..3 {
                let refused = self.token();
                assert_eq!(refused.outcome(), "503 temporarily_unavailable", "round {round}");
                assert!(refused.header("retry-after").is_some());
            }
            let refused = self.create();
            assert_eq!(refused.status, 503, "{refused:?}");
            assert!(refused.header("retry-after").is_some(), "{refused:?}");
            assert_eq!(self.ask("GET /healthz HTTP/1.0\r\n\r\n").status, 200);
            assert_eq!(self.ask("GET /readyz HTTP/1.0\r\n\r\n").status, 503);
            set_broken(false);
            received.push(ledger::received(&until_it_succeeds(|| self.token())));
            assert_eq!(self.create().status, 201, "no connection is left in a state of before");
            assert_eq!(self.ask("GET /readyz HTTP/1.0\r\n\r\n").status, 200);
        }
        let path = "/v1/keys?name=app&limit=200";
        let listed = self.ask(&management_request("GET", path, &self.api_key, ""));
        assert_eq!(listed.status, 200, "{listed:?}");
        let made = listed.json()["items"].as_array().unwrap().len();
        assert_eq!(made, ROUNDS, "each that was answered 201, and none that was refused");
        received
    }
}

/// A library between a server and its disk: the kernel makes nothing read-only that somebody writes to.
struct BadDisk {
    library: PathBuf,
    flag: PathBuf,
}

impl BadDisk {
    fn in_directory(directory: &Path) -> Self {
        let (source, library) = (directory.join("bad_disk.c"), directory.join("bad_disk.so"));
        std::fs::write(&source, include_str!("bad_disk.c")).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        assert!(compile.status().unwrap().success());
        Self { library, flag: directory.join("trouble") }
    }

    fn lies_under(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("TENMINT_TEST_DISK", &self.flag);
    }

    /// What is wrong with it from now on.
    fn has(&self, trouble: Option<&str>) {
        let Some(trouble) = trouble else { return std::fs::remove_file(&self.flag).unwrap() };
        // moved there, so that it is never seen empty
        let made = self.flag.with_extension("new");
        std::fs::write(&made, trouble).unwrap();
        std::fs::rename(made, &self.flag).unwrap();
    }
}

/// The same command, without the signal that the system ends a process by whose file may not grow: then
/// writing fails.
fn without_signal(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(command.get_program());
    shell.args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

/// Up to where files of the server may be written.
fn limit_files(serving: &Serving, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Pid::from_child(&serving.child).into(), Resource::Fsize, limit).unwrap();
}

/// A node tries again by itself, four times a second.
fn until_it_succeeds(request: impl Fn() -> Answer) -> Answer {
    loop {
        let answer = request();
        match answer.status {
            200 | 201 => return answer,
            503 => {}
            _ => panic!("{answer:?}"),
        }
    }
}
