//! `tenmint users`, `bots` and `roles`: who owns keys, and what they hold.

use super::{Live, each};

#[test]
fn a_user_is_added_given_a_role_suspended_and_removed() {
    for live in Live::on_each_engine() {
        let user =
            live.json(&["users", "create", "Ada@Example.com", "-n", "Ada", "--role", "member"]);
        assert_eq!(user["email"], "ada@example.com");
        let id = user["id"].as_str().unwrap();
        assert_eq!(live.json(&["users", "edit", id, "-n", "Ada L."])["name"], "Ada L.");
        live.json(&["roles", "bind", id, "admin"]);
        assert_eq!(each(&live.json(&["roles", "of", id]), "role"), ["admin"]);
        assert_ne!(live.json(&["users", "suspend", id])["suspended_at"], serde_json::Value::Null);
        live.json(&["users", "resume", id]);
        assert_eq!(each(&live.json(&["users", "list"]), "id"), [id]);
        live.json(&["users", "delete", id, "--force"]);
        assert_eq!(live.refusal(&["users", "show", id]).0, 3);
    }
}

#[test]
fn a_bot_owns_keys_that_stop_with_it() {
    let live = Live::start();
    let bot = live.json(&["bots", "create", "-n", "worker", "--grants", "chat"]);
    let id = bot["id"].as_str().unwrap();
    let (_, text) = live.api_key(&["--bot", id, "-s", "chat"]);
    assert!(live.token(&text, &[]).status.success());
    live.json(&["bots", "suspend", id]);
    assert_eq!(live.token(&text, &[]).status.code(), Some(6));
    live.json(&["bots", "resume", id]);
    assert!(live.token(&text, &[]).status.success());
    assert_eq!(live.json(&["bots", "edit", id, "-n", "other"])["name"], "other");
    assert!(each(&live.json(&["bots", "list"]), "id").contains(&id.to_owned()));
    live.json(&["bots", "delete", id, "-f"]);
    assert_eq!(live.token(&text, &[]).status.code(), Some(6));
}

#[test]
fn a_role_is_defined_bound_changed_and_deleted_when_nobody_has_it() {
    let live = Live::start();
    let role = live.json(&[
        "roles",
        "create",
        "-n",
        "chatter",
        "--level",
        "organization",
        "-s",
        "chat:models/*",
    ]);
    let id = role["id"].as_str().unwrap();
    let bot = live.json(&["bots", "create", "-n", "worker"]);
    let bot = bot["id"].as_str().unwrap();
    live.json(&["roles", "bind", bot, id]);
    let edited = live.json(&["roles", "edit", id, "-s", "chat:models/*,chat:others/*"]);
    assert_eq!(edited["scopes"].as_array().unwrap().len(), 2);
    assert_eq!(live.refusal(&["roles", "delete", id, "-f"]).0, 4);
    live.json(&["roles", "bind", bot, "read-only"]);
    live.json(&["roles", "delete", id, "-f"]);
    assert_eq!(each(&live.json(&["roles", "list"]), "id"), Vec::<String>::new());
}

#[test]
fn a_key_says_what_it_may_do_and_is_refused_the_rest() {
    let live = Live::start();
    let (id, text) = live.api_key(&["-s", "read:org/*"]);
    let run = |arguments: &[&str]| live.command_with(&text, arguments).output().unwrap();
    let me = run(&["whoami", "-o", "json"]);
    let me: serde_json::Value = serde_json::from_slice(&me.stdout).unwrap();
    assert_eq!((&me["api_key"], &me["is_account_admin"]), (&id.into(), &false.into()));
    assert!(run(&["keys", "list"]).status.success());
    assert_eq!(run(&["keys", "create", "-n", "x", "-s", "chat"]).status.code(), Some(6));
    assert_eq!(run(&["spaces", "create", "x"]).status.code(), Some(6));
}
