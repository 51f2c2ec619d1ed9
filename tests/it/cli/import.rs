//! `tenmint keys import`, against a server, and against one whose report is written here.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::thread::JoinHandle;

use ring::digest;

use super::{Home, Live, each, stderr, stdout};

/// Takes one import and answers a report, in chunks, before it has read all.
fn reporter(report: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut part = [0; 4096];
        // the last chunk of a body is an empty one
        while !asked.ends_with(b"0\r\n\r\n") {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "the body breaks off: {}", String::from_utf8_lossy(&asked));
            asked.extend_from_slice(&part[..read]);
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for chunk in report.as_bytes().chunks(7) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            stream.write_all(chunk).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        String::from_utf8(asked).unwrap()
    });
    (url, answering)
}

const FILE: &str = "name,digest\na,0\nb,1\nc,2\n";

fn import(url: &str, arguments: &[&str]) -> Output {
    let home = Home::new();
    std::fs::write(home.path().join("keys.csv"), FILE).unwrap();
    let mut command = home.command(&[&["keys", "import", "keys.csv"], arguments].concat());
    command.env("TENMINT_URL", url).env("TENMINT_API_KEY", "tm_secret").output().unwrap()
}

const REPORT: &str = r#"{"line":2,"status":"created","id":"key_1"}
{"line":3,"status":"refused","code":"invalid_request","errors":[{"field":"digest","message":"it is no SHA-256"}]}
{"line":4,"status":"unchanged","id":"key_2"}
{"status":"done","import":"imp_1","lines":3,"created":1,"accepted":0,"unchanged":1,"refused":1,"dry_run":false}
"#;

#[test]
fn refused_lines_are_shown_with_their_reasons_and_exit_4() {
    let (url, asked) = reporter(REPORT);
    let output = import(&url, &["--all-or-nothing", "--dry-run", "--idempotency-key", "mine"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let table = stdout(&output);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(
        rows[1].starts_with("3     refused  invalid_request  `digest`: it is no SHA-256"),
        "{table}"
    );
    assert_eq!(stderr(&output), "1 created, 1 unchanged, 1 refused\n");
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("POST /v1/keys/import?atomic=true&dry_run=true HTTP/1.1\r\n"),
        "{asked}"
    );
    let head = asked.to_lowercase();
    for line in
        ["content-type: text/csv", "idempotency-key: mine", "authorization: bearer tm_secret"]
    {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {asked}");
    }
    assert!(asked.contains(FILE), "{asked}");
}

#[test]
fn tools_get_every_line_and_scripts_the_summary() {
    let (url, _asked) = reporter(REPORT);
    let csv = stdout(&import(&url, &["-o", "csv"]));
    assert_eq!(csv.lines().count(), 4);
    assert_eq!(csv.lines().nth(1), Some("2,created,key_1,,,"));
    let (url, _asked) = reporter(REPORT);
    let output = import(&url, &["-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["summary"]["created"], &json["refused"][0]["line"]), (&1.into(), &3.into()));
}

#[test]
fn an_import_without_a_bad_line_is_well() {
    let report = r#"{"status":"done","created":3,"unchanged":0,"refused":0}"#;
    let (url, _asked) = reporter(report);
    let output = import(&url, &[]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), "3 created\n".to_owned()));
}

#[test]
fn an_import_that_broke_off_exits_by_its_cause() {
    for (code, exit) in [
        ("idempotency_key_reused", 4),
        ("unavailable", 5),
        ("forbidden", 6),
        ("invalid_request", 2),
        ("internal", 1),
    ] {
        let report = format!(r#"{{"status":"failed","code":"{code}","created":0,"refused":0}}"#);
        let (url, _asked) = reporter(Box::leak(report.into_boxed_str()));
        assert_eq!(import(&url, &[]).status.code(), Some(exit), "{code}");
    }
}

#[test]
fn a_report_that_breaks_off_leaves_the_outcome_open() {
    let (url, _asked) = reporter("{\"line\":2,\"status\":\"created\",\"id\":\"key_1\"}\n");
    let output = import(&url, &[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("what was imported is not known"), "{}", stderr(&output));
}

#[test]
fn what_is_piped_in_is_sent_as_it_comes() {
    let (url, asked) = reporter(REPORT);
    let home = Home::new();
    let mut command = home.command(&["keys", "import", "-"]);
    command.env("TENMINT_URL", url).env("TENMINT_API_KEY", "x");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let line = "{\"name\":\"a\",\"digest\":\"0\"}\n";
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..10_000 {
        stdin.write_all(line.as_bytes()).unwrap();
    }
    drop(stdin);
    child.wait().unwrap();
    let asked = asked.join().unwrap();
    assert!(asked.to_lowercase().contains("\r\ncontent-type: application/x-ndjson\r\n"));
    // a byte that no chunk can cut in two
    assert_eq!(asked.matches('}').count(), 10_000);
}

#[test]
fn a_file_that_is_not_there_is_told_before_anything_is_sent() {
    let home = Home::new();
    let mut command = home.command(&["keys", "import", "nowhere.csv"]);
    command.env("TENMINT_URL", "http://127.0.0.1:9").env("TENMINT_API_KEY", "x");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`nowhere.csv` cannot be read"), "{}", stderr(&output));
}

/// The SHA-256 of a text in hex, as another service hands its keys over.
fn sha256(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[test]
fn imported_keys_work_as_they_are_and_a_repeat_changes_nothing() {
    for live in Live::on_each_engine() {
        let file = format!(
            "name,digest,scopes\none,{},chat\nbad,nonsense,chat\n,{},chat\ntwo,{},chat\n",
            sha256("old-one"),
            sha256("nameless"),
            sha256("old-two")
        );
        std::fs::write(live.home.path().join("keys.csv"), file).unwrap();
        let import = ["keys", "import", "keys.csv"];
        let dry = live.run(&[&import[..], &["--dry-run"]].concat());
        assert_eq!(dry.status.code(), Some(4));
        assert!(stderr(&dry).contains("2 accepted, 2 refused; a dry run"), "{}", stderr(&dry));
        let whole = live.run(&[&import[..], &["--all-or-nothing"]].concat());
        assert!(stderr(&whole).contains("nothing was stored"), "{}", stderr(&whole));
        assert_eq!(live.token("old-one", &[]).status.code(), Some(6));

        let output = live.run(&import);
        assert_eq!(output.status.code(), Some(4));
        assert_eq!(stderr(&output), "2 created, 2 refused\n");
        let rows: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
        assert_eq!(rows.len(), 3, "{rows:#?}");
        assert!(rows[1].starts_with("3 ") && rows[1].contains("`digest`"), "{}", rows[1]);
        assert!(rows[2].starts_with("4 ") && rows[2].contains("`name`"), "{}", rows[2]);
        for text in ["old-one", "old-two"] {
            assert!(live.token(text, &["--scope", "chat"]).status.success(), "{text}");
        }
        assert_eq!(stderr(&live.run(&import)), "2 unchanged, 2 refused\n");
        assert_eq!(each(&live.json(&["keys", "list", "--name", "t"]), "name"), ["two"]);
        let table = live.text(&["keys", "list", "--name", "two"]);
        assert!(table.contains("imported"), "{table}");
    }
}

#[test]
fn ten_thousand_lines_go_through_as_json_lines() {
    let live = Live::start();
    let line = |n: usize| {
        format!(
            "{{\"name\":\"k{n}\",\"digest\":\"{}\",\"scopes\":[\"chat\"]}}\n",
            sha256(&n.to_string())
        )
    };
    let lines: String = (0..10_000).map(line).collect();
    std::fs::write(live.home.path().join("keys.jsonl"), lines).unwrap();
    let output = live.run(&["keys", "import", "keys.jsonl", "-o", "report.jsonl"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), "10000 created\n".to_owned()));
    let report = std::fs::read_to_string(live.home.path().join("report.jsonl")).unwrap();
    assert_eq!(report.lines().count(), 10_000);
    assert!(live.token("9999", &[]).status.success());
}

#[test]
fn an_import_that_is_refused_as_a_whole_says_why() {
    let live = Live::start();
    std::fs::write(live.home.path().join("keys.csv"), "nmae,digest\nx,y\n").unwrap();
    let (code, said) = live.refusal(&["keys", "import", "keys.csv"]);
    assert!(code == 2 && said.contains("`nmae`: there is no such column"), "{said}");
    let (_, reader) = live.api_key(&["-s", "read:org/*"]);
    let refused = live.command_with(&reader, &["keys", "import", "keys.csv"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(6), "{}", stderr(&refused));
}
