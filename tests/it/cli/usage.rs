//! `tenmint usage` and `tenmint audit`.

use super::{Live, each, stderr, stdout};

#[test]
fn usage_tells_tokens_and_refusals_of_a_key_and_of_all() {
    for live in Live::on_each_engine() {
        let (id, text) = live.api_key(&["-s", "chat"]);
        live.token(&text, &[]);
        live.token(&text, &["--scope", "models"]);
        let report = live.json(&["usage", &id]);
        assert_eq!(
            (&report["totals"]["issued"], &report["items"][0]["issued"]),
            (&1.into(), &1.into())
        );
        let table = live.run(&["usage", &id, "--by", "day"]);
        let row = stdout(&table).lines().nth(1).unwrap().to_owned();
        assert!(row.ends_with("1       0    1        scope_beyond_key=1"), "{row}");
        assert!(stderr(&table).starts_with("1 issued, 1 refused, the last use at "));
        assert_eq!(live.json(&["usage", "--since", "12h"])["totals"]["issued"], 1);
        let csv = live.text(&["usage", "-o", "csv"]);
        assert!(csv.starts_with("from,issued,introspected,refused,reasons\n"), "{csv}");
    }
}

#[test]
fn the_audit_tells_what_was_done_and_what_was_refused() {
    for live in Live::on_each_engine() {
        let (id, _) = live.api_key(&["-s", "chat"]);
        live.json(&["keys", "revoke", &id, "-f"]);
        live.refusal(&["keys", "create", "-n", "", "-s", "chat"]);
        let actions = each(&live.json(&["audit", "-l", "3"]), "action");
        assert_eq!(actions, ["api_key.create", "api_key.revoke", "role.bind"]);
        assert_eq!(each(&live.json(&["audit", "--since", "1h", "-l", "3"]), "action"), actions);
        assert!(each(&live.json(&["audit", "--until", "1h"]), "action").is_empty());
        let refused = live.json(&["audit", "--outcome", "invalid_request", "--action", "api_key."]);
        assert_eq!(each(&refused, "outcome"), ["invalid_request"]);
        let of_key = live.text(&["audit", "--object", &id, "-o", "jsonl"]);
        assert_eq!(of_key.lines().count(), 2);
        for line in of_key.lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(entry["user_agent"], concat!("tenmint/", env!("CARGO_PKG_VERSION")));
        }
        assert!(live.run(&["audit", "--installation"]).status.success());
    }
}
