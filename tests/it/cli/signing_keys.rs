//! `tenmint signing-keys` on the database of a node, while another process serves.

use std::process::Command;

use serde_json::Value;

use crate::cli::{Home, Serving, free_address, stderr};
use crate::nodes::send;

fn state_of(home: &Home, kid: &str) -> String {
    let listed = home.json(&["signing-keys", "list"]);
    let all = listed["items"].as_array().unwrap();
    let found = all.iter().find(|key| key["kid"] == kid).unwrap_or_else(|| panic!("{all:?}"));
    found["state"].as_str().unwrap().to_owned()
}

fn kid_of(home: &Home, state: &str) -> String {
    let listed = home.json(&["signing-keys", "list"]);
    let all = listed["items"].as_array().unwrap();
    let found = all.iter().find(|key| key["state"] == state).unwrap();
    found["kid"].as_str().unwrap().to_owned()
}

/// The `kid` of a token that the server gives now.
fn signed_by(home: &Home, address: &str, api_key: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let mut token = home.command(&["token"]);
    token.env("TENMINT_URL", format!("http://{address}")).env("TENMINT_API_KEY", api_key);
    let output = token.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let header = URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_that_is_withdrawn_while_no_node_runs_does_not_come_back_with_an_older_backup() {
    let home = Home::new();
    let address = free_address();
    home.init(&format!("http://{address}"));
    let leaked = kid_of(&home, "signing");
    let withdraw = || {
        let withdrawn = home.run(&["signing-keys", "withdraw", &leaked]);
        assert!(withdrawn.status.success(), "{}", stderr(&withdrawn));
        stderr(&withdrawn)
    };
    let restore = |copy: &str| {
        std::fs::remove_dir_all(home.path().join("data")).unwrap();
        std::fs::rename(home.path().join(copy), home.path().join("data")).unwrap();
    };
    let serves_it = || {
        let node = Serving::start(&home, &["--listen", &address]);
        let jwks = send(&address, "GET", "/.well-known/jwks.json", "", "").body;
        node.stop();
        jwks.contains(&leaked)
    };
    for copy in ["first", "second"] {
        assert!(home.run(&["backup", copy]).status.success());
    }
    assert!(withdraw().contains("in no journal of revocations"), "no node has run");
    restore("first");
    assert!(serves_it(), "nothing knew better, and it was said");
    assert!(!withdraw().contains("journal"));
    restore("second");
    assert!(!serves_it());
    assert_eq!(state_of(&home, &leaked), "withdrawn");
}

#[test]
fn an_operator_rotates_withdraws_and_imports_while_the_node_serves() {
    for home in Home::on_each_engine() {
        let address = free_address();
        let init = home.init(&format!("http://{address}"));
        let api_key = init["api_key"]["api_key"].as_str().unwrap();
        let serving = Serving::start(&home, &["--listen", &address]);
        let (first, second) = (kid_of(&home, "signing"), kid_of(&home, "published"));
        let rotated = home.run(&["signing-keys", "rotate"]);
        assert!(rotated.status.success(), "{}", stderr(&rotated));
        let note = stderr(&rotated);
        assert!(note.starts_with(&format!("note: {second} signs from ")), "{note}");
        assert_eq!(signed_by(&home, &address, api_key), first);
        let withdrawn = home.run(&["signing-keys", "withdraw", &first]);
        assert!(withdrawn.status.success(), "{}", stderr(&withdrawn));
        assert!(stderr(&withdrawn).contains("note: every token that it signed is void"));
        assert_eq!(state_of(&home, &first), "withdrawn");
        // the serving process polls
        assert!((0..100).any(|_| signed_by(&home, &address, api_key) == second), "never follows");
        let pem = home.path().join("signing.pem");
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "ED25519", "-out"])
            .arg(&pem)
            .status();
        assert!(made.unwrap().success());
        let import = ["signing-keys", "import", pem.to_str().unwrap(), "--kid", "brought"];
        let imported = home.json(&import);
        assert_eq!(imported["items"][0]["kid"], "brought", "{imported}");
        assert_eq!(kid_of(&home, "published"), "brought");
        let again = home.run(&import);
        assert_eq!(again.status.code(), Some(4), "{}", stderr(&again));
        for (arguments, code) in [
            (vec!["signing-keys", "withdraw", "nobody"], 3),
            (vec!["signing-keys", "rotate", "--algorithm", "none"], 2),
            (vec!["signing-keys", "import", "nowhere.pem"], 1),
            (vec!["signing-keys", "import", pem.to_str().unwrap(), "--kid", "a b"], 2),
        ] {
            let refused = home.run(&arguments);
            assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {}", stderr(&refused));
        }
        serving.stop();
    }
}
