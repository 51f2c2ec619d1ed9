//! `tenmint migration`.

use serde_json::{Value, json};

use super::{Live, stdout};

/// The rules of the default audience, as `scope mode share`.
fn rules(live: &Live) -> Vec<String> {
    let audience = live.json(&["audiences", "show", "default"]);
    let rules = audience["raw_keys"]["rules"].as_array().cloned().unwrap_or_default();
    let told = |rule: &Value| {
        let text = |name: &str| rule[name].as_str().unwrap().to_owned();
        format!("{} {} {}", text("scope"), text("mode"), rule["share"])
    };
    rules.iter().map(told).collect()
}

#[test]
fn an_api_is_led_to_tokens_step_by_step_and_back() {
    for live in Live::on_each_engine() {
        assert!(rules(&live).is_empty());
        let step = |arguments: &[&str]| live.json(&[&["migration"], arguments].concat());
        let link = "https://example.com/tokens";
        let warned = step(&["warn", "default", "--sunset", "2027-06-01", "--link", link]);
        assert_eq!(warned["raw_keys"]["sunset_at"], "2027-06-01T00:00:00Z");
        assert_eq!(rules(&live), ["*:* warn 100"]);

        step(&["require-tokens", "default", "--share", "5"]);
        assert_eq!(rules(&live), ["*:* warn 100", "*:* deny 5"], "a canary beside the warning");
        step(&["require-tokens", "default", "--share", "30"]);
        assert_eq!(rules(&live), ["*:* warn 100", "*:* deny 30"], "a larger one in its place");
        let writes = ["require-tokens", "default", "--scope", "write:*"];
        step(&writes);
        assert_eq!(rules(&live), ["*:* warn 100", "*:* deny 30", "write:* deny 100"]);
        let denied = step(&["require-tokens", "default"]);
        assert_eq!(rules(&live), ["write:* deny 100", "*:* deny 100"]);
        assert_eq!(denied["raw_keys"]["link"], link, "what was told stays told");

        step(&["warn", "default", "--sunset", "none"]);
        assert_eq!(rules(&live), ["write:* deny 100", "*:* warn 100"]);
        step(&["allow-raw", "default", "--scope", "write:*"]);
        assert_eq!(rules(&live), ["*:* warn 100"]);
        let allowed = step(&["allow-raw", "default"]);
        assert_eq!(allowed["raw_keys"], json!(null));
    }
}

#[test]
fn a_step_shows_what_it_would_change_and_what_is_wrong_with_it() {
    let live = Live::start();
    let dry = live.run(&["migration", "require-tokens", "default", "--dry-run"]);
    assert!(dry.status.success() && stdout(&dry).contains("raw_keys"), "{}", stdout(&dry));
    assert!(rules(&live).is_empty(), "a dry run changes nothing");
    for (arguments, code) in [
        (vec!["default", "--scope", "read"], 2),
        (vec!["default", "--share", "0"], 2),
        (vec!["default", "--share", "101"], 2),
        (vec!["default", "--link", "example.com"], 2),
        (vec!["default", "--sunset", "soon"], 2),
        (vec!["nowhere"], 3),
    ] {
        let (exit, told) = live.refusal(&[vec!["migration", "warn"], arguments].concat());
        assert_eq!(exit, code, "{told}");
    }
    assert!(rules(&live).is_empty());
}

#[test]
fn the_way_is_shown_by_api_and_by_key() {
    let live = Live::start();
    let apis = live.run(&["migration", "status"]);
    let shown = stdout(&apis);
    assert!(shown.starts_with("AUDIENCE") && shown.contains("not_watched"), "{shown}");
    let shown = stdout(&live.run(&["migration", "status", "default"]));
    let heading: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
    for column in ["FIRST_RAW", "LAST_RAW", "RAW_CALLS", "FIRST_TOKEN", "LAST_TOKEN", "TOKEN_CALLS"]
    {
        assert!(heading.contains(&column), "{shown}");
    }
    assert!(shown.contains(" no ") && !shown.contains("false"), "{shown}");
    let keys = live.json(&["migration", "status", "default"]);
    let first = &keys["items"][0];
    assert_eq!(
        (&first["reason"], &first["safe_to_require_tokens"]),
        (&json!("not_watched"), &json!(false))
    );
    let own = live.run(&["migration", "status", "--api-key", first["id"].as_str().unwrap()]);
    assert!(own.status.success(), "{own:?}");
    let switched = live.run(&["migration", "require-tokens", "default", "--share", "1"]);
    let told = String::from_utf8_lossy(&switched.stderr);
    assert!(told.contains("no API key came raw"), "{told}");
    for (arguments, code) in [
        (vec!["--locked-out"], 2),
        (vec!["default", "--api-key", "key_0123456789abcdef"], 2),
        (vec!["--api-key", "key_0123456789abcdef"], 3),
        (vec!["default", "--days", "0"], 2),
        (vec!["nowhere"], 3),
    ] {
        let (exit, told) = live.refusal(&[vec!["migration", "status"], arguments].concat());
        assert_eq!(exit, code, "{told}");
    }
}
