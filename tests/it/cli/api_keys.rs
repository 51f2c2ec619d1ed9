//! `tenmint keys`.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use super::{Live, at_a_terminal, each, stderr, stdout};

#[test]
fn a_key_is_made_used_changed_renewed_and_ended() {
    for live in Live::on_each_engine() {
        let (id, first) = live.api_key(&["--scopes", "read:projects/alpha/*,chat", "--rpm", "100"]);
        assert!(live.token(&first, &["--scope", "chat"]).status.success());
        let shown = live.json(&["keys", "show", &id]);
        assert_eq!(shown["scopes"], serde_json::json!(["read:projects/alpha/*", "chat"]));
        assert_eq!(
            (&shown["quota"]["limit"], &shown["quota"]["window"]),
            (&100.into(), &60.into())
        );
        assert_eq!(shown.get("api_key"), None, "the text is shown once");

        let edited = live.json(&["keys", "edit", &id, "-s", "chat", "-n", "renamed"]);
        assert_eq!((&edited["name"], &edited["scopes"][0]), (&"renamed".into(), &"chat".into()));
        let refused = live.token(&first, &["--scope", "read:projects/alpha/*"]);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));

        let second = live.text(&["keys", "rotate", &id, "--force", "-o", "secret"]);
        assert_eq!(live.token(&first, &[]).status.code(), Some(6));
        assert!(live.token(second.trim(), &[]).status.success());

        let fresh = live.json(&["keys", &id, "--refresh", "-f"]);
        assert_eq!(fresh["replaces"], *id);
        let third = fresh["api_key"].as_str().unwrap();
        assert!(live.token(third, &[]).status.success());
        live.json(&["keys", "revoke", fresh["id"].as_str().unwrap(), "-f"]);
        let revoked = live.token(third, &[]);
        assert!(stderr(&revoked).contains("the API key was revoked"), "{}", stderr(&revoked));
        live.json(&["keys", "delete", &id, "--force"]);
        assert!(!each(&live.json(&["keys"]), "id").contains(&id));
        assert!(each(&live.json(&["keys", "list", "--all"]), "id").contains(&id));
    }
}

#[test]
fn addresses_and_quota_are_set_and_cleared_by_themselves() {
    let live = Live::start();
    let (id, text) =
        live.api_key(&["-s", "chat", "--allow", "10.0.0.0/8", "--block", "10.1.0.0/16"]);
    assert_eq!(live.token(&text, &[]).status.code(), Some(6), "not from this address");
    let cleared = live.json(&["keys", "ip-filter", &id, "--allow", "none"]);
    assert_eq!(
        (cleared["allow"].clone(), cleared["block"][0].clone()),
        (Value::Array(vec![]), "10.1.0.0/16".into())
    );
    assert!(live.token(&text, &[]).status.success());
    let set = live.json(&["keys", "quota", &id, "--rpm", "1", "--window", "3600"]);
    assert_eq!((&set["quota"]["limit"], &set["quota"]["window"]), (&1.into(), &3600.into()));
    assert!(live.token(&text, &[]).status.success());
    assert_eq!(live.token(&text, &[]).status.code(), Some(5), "the quota is spent");
    assert_eq!(live.json(&["keys", "quota", &id, "--rpm", "none"])["quota"], Value::Null);
    assert!(live.token(&text, &[]).status.success());
    let (code, said) = live.refusal(&["keys", "ip-filter", &id]);
    assert_eq!(code, 2);
    assert!(said.contains("say what to change"), "{said}");
}

#[test]
fn flags_do_what_subcommands_do() {
    let live = Live::start();
    let created = live.json(&["keys", "--create", "--name", "app", "--scopes", "chat,models"]);
    let id = created["id"].as_str().unwrap();
    assert_eq!(live.json(&["keys", id])["name"], "app");
    assert!(each(&live.json(&["keys"]), "id").contains(&id.to_owned()));
    let filtered = live.json(&["keys", id, "--ip-filter", "--block", "10.0.0.0/8"]);
    assert_eq!(filtered["block"][0], "10.0.0.0/8");
    assert_eq!(
        live.json(&["keys", id, "--quota", "--rpm", "5", "--window", "1"])["quota"]["limit"],
        5
    );
    let rotated = live.text(&["keys", id, "--rotate", "-f", "-o", "secret"]);
    assert!(live.token(rotated.trim(), &[]).status.success());
    let fresh = live.json(&["keys", id, "--refresh", "--grace-period-seconds", "60"]);
    assert_eq!(fresh["replaces"], id);
    assert_eq!(live.json(&["keys", id, "--revoke", "-f"])["status"], "revoked");
    assert_ne!(live.json(&["keys", id, "--delete", "-f"])["deleted_at"], Value::Null);
    let service = live.json(&["keys", "--create-service-key", "--name", "bot", "--scopes", "chat"]);
    assert_eq!(service["key_type"], "service");
    let (code, said) = live.refusal(&["keys", id, "--rotate", "--revoke"]);
    assert!(code == 2 && said.contains("one action at a time"), "{said}");
}

#[test]
fn what_cannot_be_undone_is_not_done_where_nobody_can_be_asked() {
    let live = Live::start();
    let (id, text) = live.api_key(&["-s", "chat"]);
    for action in ["revoke", "rotate", "delete"] {
        let (code, said) = live.refusal(&["keys", action, &id]);
        assert!(code == 2 && said.contains("hint: say `--force`"), "{action}: {said}");
    }
    assert!(live.token(&text, &[]).status.success());
    for action in ["revoke", "rotate", "delete"] {
        live.json(&["keys", action, &id, "--dry-run"]);
    }
    assert!(live.token(&text, &[]).status.success(), "a dry run asks nobody and does nothing");
}

#[cfg(target_os = "linux")]
#[test]
fn a_person_is_asked_and_only_a_yes_is_one() {
    let live = Live::start();
    let (id, text) = live.api_key(&["-s", "chat"]);
    let revoke = live.command(&["keys", "revoke", &id]);
    let question = "cannot be undone. [y/N] \u{1b}[K";
    for answer in ["n\n", "\n", "yess\n", "\u{4}"] {
        let (code, said) = at_a_terminal(&revoke, &[(question, answer)]);
        assert!(code == Some(1) && said.contains("nothing was changed"), "{answer:?}: {said}");
    }
    assert!(live.token(&text, &[]).status.success());
    let (code, said) = at_a_terminal(&revoke, &[(question, "y\n")]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(live.token(&text, &[]).status.code(), Some(6));
}

#[test]
fn a_dry_run_shows_field_by_field_what_would_change() {
    let live = Live::start();
    let (id, _) = live.api_key(&["-s", "chat"]);
    let table = live.text(&["keys", "edit", &id, "-n", "new name", "--dry-run"]);
    assert_eq!(table, "FIELD  BEFORE  AFTER\nname   app     new name\n");
    let csv = live.text(&["keys", "edit", &id, "-n", "new name", "--dry-run", "-o", "csv"]);
    assert_eq!(csv, "field,before,after\nname,app,new name\n");
    let json = live.json(&["keys", "revoke", &id, "--dry-run"]);
    assert_eq!(json["dry_run"], true);
    assert_eq!(live.json(&["keys", &id])["name"], "app");
    let count = each(&live.json(&["keys"]), "id").len();
    let (code, said) = live.refusal(&["keys", "create", "-n", "x", "--dry-run", "-o", "secret"]);
    assert!(code == 2 && said.contains("this makes no secret"), "{said}");
    live.text(&["keys", "create", "-n", "x", "-s", "chat", "--dry-run"]);
    assert_eq!(each(&live.json(&["keys"]), "id").len(), count);
}

#[test]
fn keys_are_listed_page_by_page_and_without_their_texts() {
    for live in Live::on_each_engine() {
        let mut ids: Vec<String> = (0..5).map(|_| live.api_key(&["-s", "chat"]).0).collect();
        ids.reverse();
        let first = live.json(&["keys", "list", "-l", "2"]);
        let after = first["next_cursor"].as_str().unwrap();
        let second = live.json(&["keys", "list", "-l", "2", "-c", after]);
        let third = live.json(&["keys", "--after", second["next_cursor"].as_str().unwrap()]);
        let seen = [each(&first, "id"), each(&second, "id"), each(&third, "id")].concat();
        assert_eq!(seen[..5], ids, "from new to old, the administrator's last");
        assert_eq!(third["next_cursor"], Value::Null);
        assert_eq!(each(&live.json(&["keys", "list", "-l", "500"]), "id").len(), 6);
        let table = live.run(&["keys", "list", "-l", "2"]);
        let (lines, notes) = (stdout(&table), stderr(&table));
        assert!(lines.starts_with("ID  "), "{lines}");
        let headings: Vec<&str> = lines.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(headings, ["ID", "NAME", "PREFIX", "SCOPES", "ACTIVE", "LAST_USED", "EXPIRES"]);
        assert_eq!(lines.lines().count(), 3);
        assert!(notes.contains("more: --cursor "), "{notes}");
    }
}

#[test]
fn a_list_is_narrowed_by_everything_it_knows() {
    let live = Live::start();
    live.json(&["spaces", "create", "alpha"]);
    let space = live.json(&["keys", "create-service", "-n", "In Space", "--space", "alpha"]);
    let (plain, _) = live.api_key(&["-s", "chat", "--expires", "90d"]);
    live.json(&["keys", "revoke", &plain, "-f"]);
    let id = space["id"].as_str().unwrap().to_owned();
    for arguments in [
        &["--name", "in s"][..],
        &["--space", "alpha"],
        &["--owner", space["owner"].as_str().unwrap()],
        &["--key-type", "service", "-n", "in"],
    ] {
        let found = live.json(&[&["keys", "list"], arguments].concat());
        assert_eq!(each(&found, "id"), std::slice::from_ref(&id), "{arguments:?}");
    }
    assert_eq!(each(&live.json(&["keys", "list", "-s", "revoked"]), "id"), [plain]);
    let nobody = live.run(&["keys", "list", "--status", "expired"]);
    assert_eq!((stdout(&nobody), stderr(&nobody)), (String::new(), "nothing to show\n".to_owned()));
}

#[test]
fn the_secret_alone_is_on_stdout_and_never_anywhere_else() {
    let live = Live::start();
    let output = live.run(&["keys", "create", "-n", "x", "-s", "chat", "-o", "secret", "-v"]);
    let text = stdout(&output);
    assert!(text.starts_with("tm_default_") && text.ends_with('\n') && text.lines().count() == 1);
    let said = stderr(&output);
    assert!(
        said.contains(&format!("> POST {}/v1/keys\n< 201 Created, request ", live.url)),
        "{said}"
    );
    for secret in [text.trim(), live.administrator.as_str()] {
        assert!(!said.contains(secret), "{said}");
    }
    let (code, said) = live.refusal(&["keys", "list", "-o", "secret"]);
    assert!(code == 2 && said.contains("this makes no secret"), "{said}");
    for form in ["csv", "jsonl", "parquet", "x.csv"] {
        let (code, said) = live.refusal(&["keys", "create", "-n", "x", "-o", form]);
        assert!(code == 2 && said.contains("would be lost"), "{form}: {said}");
    }
}

#[test]
fn no_argument_of_a_running_command_holds_the_key() {
    let live = Live::start();
    // it waits for the import on stdin
    let mut command = live.command(&["keys", "import", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut arguments = Vec::new();
    let path = format!("/proc/{}/cmdline", child.id());
    std::fs::File::open(path).unwrap().read_to_end(&mut arguments).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let secret = live.administrator.as_bytes();
    assert!(!arguments.windows(secret.len()).any(|window| window == secret));
}

#[cfg(target_os = "linux")]
#[test]
fn a_secret_that_could_not_be_shown_is_said_to_be_lost() {
    let live = Live::start();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = live.command(&["keys", "create", "-n", "x", "-s", "chat", "-o", "secret"]);
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("tenmint keys revoke key_"), "{}", stderr(&output));
}

#[test]
fn a_repeat_under_one_key_makes_one_and_says_that_the_text_is_gone() {
    let live = Live::start();
    let create = ["keys", "create", "-n", "once", "-s", "chat", "--idempotency-key", "mine"];
    let first = live.json(&create);
    let (code, said) = live.refusal(&create);
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains(first["id"].as_str().unwrap()) && said.contains("shown before"),
        "{said}"
    );
    assert_eq!(each(&live.json(&["keys", "list", "--name", "once"]), "id").len(), 1);
}

#[test]
fn a_rotation_within_a_grace_period_has_to_be_meant() {
    let live = Live::start();
    let (id, _) = live.api_key(&["-s", "chat"]);
    let rotate = ["keys", "rotate", &id, "-f", "--grace-period-seconds", "600"];
    live.json(&rotate);
    let (code, _) = live.refusal(&rotate);
    assert_eq!(code, 4);
    live.json(&[&rotate[..], &["--during-grace"]].concat());
}

#[test]
fn a_warning_goes_to_stderr_beside_the_result() {
    let live = Live::start();
    let (id, _) = live.api_key(&["-s", "chat,models"]);
    let output = live.run(&["keys", "edit", &id, "-s", "chat", "-o", "json"]);
    assert!(stderr(&output).starts_with("warning: "), "{}", stderr(&output));
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
}
