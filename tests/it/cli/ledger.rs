//! `tenmint ledger` on the database of a node.

use serde_json::Value;

use crate::cli::{Home, Serving, free_address, stderr, stdout};

#[test]
fn an_operator_finds_a_token_and_sees_that_nothing_was_changed_or_that_something_was() {
    for home in Home::on_each_engine() {
        let address = free_address();
        let init = home.init(&format!("http://{address}"));
        let id = init["api_key"]["id"].as_str().unwrap();
        assert!(!home.run(&["ledger", "find"]).status.success(), "there is none yet");
        let serving = Serving::start(&home, &["--listen", &address]);
        for _ in 0..3 {
            let mut token = home.command(&["token"]);
            token.env("TENMINT_URL", format!("http://{address}"));
            token.env("TENMINT_API_KEY", init["api_key"]["api_key"].as_str().unwrap());
            let output = token.output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
        }
        let found = home.json(&["ledger", "find", "--api-key", id, "--limit", "2"]);
        let items = found["items"].as_array().unwrap();
        assert_eq!((items.len(), &items[0]["api_key"]), (2, &Value::from(id)));
        let cursor = found["next_cursor"].as_str().unwrap();
        let rest = home.json(&["ledger", "find", "--api-key", id, "--cursor", cursor]);
        assert_eq!(rest["items"].as_array().unwrap().len(), 1);
        let jti = items[0]["jti"].as_str().unwrap();
        assert_eq!(home.json(&["ledger", "find", "--jti", jti])["items"][0], items[0]);
        let other = jti.replace(|c: char| c.is_ascii_digit(), "7");
        let missing = home.run(&["ledger", "find", "--jti", &other]);
        assert_eq!(missing.status.code(), Some(3), "{}", stderr(&missing));
        let verified = home.run(&["ledger", "verify"]);
        assert!(verified.status.success() && stderr(&verified).contains("3 tokens"));
        drop(serving);
        let head = "000001:7:".to_owned() + &"0".repeat(64);
        let verified = home.run(&["ledger", "verify", "--head", &head]);
        assert_eq!(verified.status.code(), Some(1));
        assert!(stderr(&verified).contains("chain 000001"), "{}", stderr(&verified));
        let all =
            found["items"].as_array().unwrap().iter().chain(rest["items"].as_array().unwrap());
        let all: Vec<&Value> = all.collect();
        let output = home.run(&["ledger", "export", "-o", "jsonl"]);
        let lines = stdout(&output);
        let mut exported: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // from old to new, where a search goes from new to old
        exported.reverse();
        assert_eq!(exported.iter().collect::<Vec<_>>(), all);
        finds_by_address_and_time(&home, all[2]["at"].as_str().unwrap());
        for wrong in [["--jti", "x"], ["--api-key", "x"], ["--address", "x"], ["--since", "x"]] {
            let refused = home.run(&[&["ledger", "find"], wrong.as_slice()].concat());
            assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
        }
    }
}

/// Three tokens of this machine are there, the oldest of them of a moment.
fn finds_by_address_and_time(home: &Home, oldest: &str) {
    let count = |arguments: &[&str]| {
        let found = home.json(&[&["ledger", "find"], arguments].concat());
        found["items"].as_array().unwrap().len()
    };
    let expected = [
        (["--address", "127.0.0.1"], 3),
        (["--address", "127.0.0.2"], 0),
        (["--since", oldest], 3),
        (["--since", "2099-01-01"], 0),
        (["--until", "2099-01-01"], 3),
        (["--until", oldest], 0),
    ];
    for (arguments, number) in expected {
        assert_eq!(count(&arguments), number, "{arguments:?}");
    }
}
