//! `tenmint spaces`.

use super::{Live, each};

#[test]
fn a_space_is_made_peopled_suspended_and_deleted() {
    for live in Live::on_each_engine() {
        let space = live.json(&["spaces", "create", "alpha", "-n", "Alpha"]);
        let id = space["id"].as_str().unwrap();
        assert_eq!(live.json(&["spaces", "show", "alpha"])["id"], id);
        assert_eq!(live.json(&["spaces", "edit", id, "-n", "New"])["name"], "New");
        let bot = live.json(&["bots", "create", "-n", "worker"]);
        let bot = bot["id"].as_str().unwrap();
        live.json(&["roles", "bind", bot, "member", "--space", "alpha"]);
        let members = live.json(&["spaces", "members", "alpha"]);
        assert!(each(&members, "owner").contains(&bot.to_owned()), "{members}");
        live.json(&["roles", "unbind", bot, "--space", id]);
        assert!(
            !each(&live.json(&["spaces", "members", "alpha"]), "owner").contains(&bot.to_owned())
        );
        live.json(&["spaces", "suspend", "alpha"]);
        live.json(&["spaces", "resume", "alpha"]);
        let (code, _) = live.refusal(&["spaces", "delete", "alpha"]);
        assert_eq!(code, 2, "nobody was asked");
        live.json(&["spaces", "delete", "alpha", "-f"]);
        assert_eq!(each(&live.json(&["spaces", "list"]), "slug"), Vec::<String>::new());
        let (code, _) = live.refusal(&["spaces", "create", "alpha"]);
        assert_eq!(code, 4, "a slug is never used again");
    }
}

#[test]
fn what_is_typed_as_a_name_never_reaches_another_path() {
    let live = Live::start();
    for name in ["../keys", "..", ".", "a/b", "a?limit=1", "a#b", "", "%2e%2e"] {
        let (code, said) = live.refusal(&["spaces", "show", name]);
        assert!(matches!(code, 2 | 3), "{name}: {code} {said}");
    }
}
