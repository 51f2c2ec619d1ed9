//! `tenmint audiences`.

use serde_json::{Value, json};

use super::{Live, each};

#[test]
fn an_audience_is_registered_given_a_catalogue_and_used() {
    for live in Live::on_each_engine() {
        let uri = "https://other.example.com";
        let made = live.json(&[
            "audiences",
            "create",
            uri,
            "--slug",
            "other",
            "--actions",
            "chat",
            "--paths",
            "projects/{id}",
            "--token-type",
            "JWT",
            "--token-lifetime",
            "120",
        ]);
        assert_eq!((&made["uri"], &made["token_type"]), (&uri.into(), &"JWT".into()));
        assert_eq!(live.json(&["audiences", "show", "other"])["id"], made["id"]);
        assert!(each(&live.json(&["audiences", "list"]), "slug").contains(&"other".to_owned()));
        let (_, text) = live.api_key(&["-s", "chat:projects/a", "--endpoint", "other"]);
        let token = live.token(&text, &["--audience", "other", "-o", "json"]);
        let token: Value = serde_json::from_slice(&token.stdout).unwrap();
        assert_eq!(token["expires_in"], 120);
        let edited = live.json(&[
            "audiences",
            "edit",
            "other",
            "--no-catalogue",
            "--token-lifetime",
            "none",
        ]);
        assert_eq!((&edited["catalogue"], &edited["token_lifetime"]), (&json!(null), &json!(null)));
        let (code, _) = live.refusal(&["audiences", "create", uri]);
        assert_eq!(code, 4, "a URI is its own for ever");
    }
}
