//! `tenmint orgs` and `tenmint installation`.

use super::{Live, each};

#[test]
fn an_organization_is_made_bootstrapped_suspended_and_resumed() {
    for live in Live::on_each_engine() {
        let created = live.json(&["orgs", "create", "acme", "-n", "Acme"]);
        assert_eq!((&created["slug"], &created["name"]), (&"acme".into(), &"Acme".into()));
        let (code, _) = live.refusal(&["keys", "create", "-n", "x", "--organization", "acme"]);
        assert_eq!(code, 4, "not bootstrapped");
        live.json(&["orgs", "bootstrap", "acme", "--audience", "https://acme.example.com"]);
        let key = live.json(&["keys", "create", "-n", "x", "-s", "chat", "--organization", "acme"]);
        assert_eq!(key["organization"], created["id"]);
        let text = key["api_key"].as_str().unwrap();
        assert!(live.token(text, &[]).status.success());
        live.json(&["orgs", "suspend", "acme"]);
        assert_eq!(live.token(text, &[]).status.code(), Some(6));
        live.json(&["orgs", "resume", "acme"]);
        assert!(live.token(text, &[]).status.success());
        assert_eq!(each(&live.json(&["orgs", "list"]), "slug").len(), 2);
        assert_eq!(live.json(&["orgs", "show", "acme"])["id"], created["id"]);
        assert_eq!(live.json(&["orgs", "show"])["slug"], "default");
        assert_eq!(live.json(&["orgs", "edit", "acme", "-n", "New"])["name"], "New");
    }
}

#[test]
fn the_environment_names_the_organization_where_one_is_meant() {
    let live = Live::start();
    live.json(&["orgs", "create", "acme"]);
    let run = |arguments: &[&str]| {
        live.command(arguments).env("TENMINT_ORGANIZATION", "acme").output().unwrap()
    };
    let shown = run(&["orgs", "show", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["slug"], "acme");
    assert!(run(&["orgs", "list"]).status.success(), "it is of no one organization");
    assert!(run(&["whoami"]).status.success());
}

#[test]
fn the_installation_is_shown_and_its_admins_are_listed() {
    let live = Live::start();
    assert_eq!(live.json(&["installation", "show"])["issuer"], *live.url);
    let me = live.json(&["whoami"])["owner"].as_str().unwrap().to_owned();
    assert_eq!(each(&live.json(&["installation", "admins"]), "owner"), [me]);
    let user = live.json(&["users", "create", "ada@example.com"]);
    let id = user["id"].as_str().unwrap();
    live.json(&["roles", "bind", id, "admin", "--account"]);
    assert_eq!(each(&live.json(&["installation", "admins"]), "owner").len(), 2);
    live.json(&["installation", "suspend-user", id]);
    live.json(&["installation", "resume-user", id]);
    live.json(&["roles", "unbind", id, "--account"]);
}
