//! Two organizations: nothing of one is told in the other, by no id, place or cursor.

use serde_json::{Value, json};

use crate::api::{
    at, each, good, good_of, key_of, member, org_admin, other_org, text, told, user_key_in,
};
use crate::server::{Key, Server, on_both_engines};

/// One of each noun of an organization.
struct Things {
    api_key: String,
    bot: String,
    user: String,
    space: String,
    audience: String,
    role: String,
    gateway_policy: String,
}

impl Things {
    /// Makes them with the credential of an admin.
    async fn make(server: &Server, admin: &Key) -> Self {
        let new = async |path: &str, ask: Value| {
            text(&good_of(server, admin, "POST", path, ask).await, "id")
        };
        let role = json!({"name": "r", "level": "organization", "scopes": ["read:org/keys/*"]});
        let audience = json!({"uri": "https://there.example", "slug": "there"});
        let policy = json!({"name": "there", "audience": "there", "rules": [{"path": "/a"}]});
        Self {
            api_key: new("/v1/keys", json!({"name": "k", "scopes": ["chat"]})).await,
            bot: new("/v1/bots", json!({"name": "b"})).await,
            user: new("/v1/users", json!({"email": "eve@example.com"})).await,
            space: new("/v1/spaces", json!({"slug": "there"})).await,
            audience: new("/v1/audiences", audience).await,
            role: new("/v1/roles", role).await,
            gateway_policy: new("/v1/gateway-policies", policy).await,
        }
    }

    /// Each with an id of the same noun that is nobody's.
    fn beside_nobody(&self) -> Vec<(&str, &str, String)> {
        [
            ("keys", &self.api_key),
            ("bots", &self.bot),
            ("users", &self.user),
            ("spaces", &self.space),
            ("audiences", &self.audience),
            ("roles", &self.role),
            ("gateway-policies", &self.gateway_policy),
        ]
        .into_iter()
        .map(|(noun, id)| (noun, id.as_str(), format!("{}0123456789abcdef", &id[..4])))
        .collect()
    }
}

/// The answer with the id taken out, as if nobody had named one.
async fn nameless(
    server: &Server,
    key: &Key,
    (method, path, body): (&str, &str, &Value),
    id: &str,
) -> String {
    let body = serde_json::from_str(&body.to_string().replace("ID", id)).unwrap();
    let answer = server.api(key, method, &path.replace("ID", id), body).await;
    format!("{} {}", answer.status, answer.body.replace(id, "ID"))
}

on_both_engines! {
    async fn an_id_of_another_organization_is_answered_like_one_that_nobody_has(server: Server) {
        let here = org_admin(&server).await;
        let (_, there) = other_org(&server, "other").await;
        let things = Things::make(&server, &there).await;
        let verbs = |noun: &str| -> Vec<(&str, String, Value)> {
            let at = |rest: &str| format!("/v1/{noun}/ID{rest}");
            let mut all = vec![("GET", at(""), Value::Null), ("PATCH", at(""), json!({"name": "x"}))];
            match noun {
                "keys" => all.extend([
                    ("DELETE", at(""), Value::Null),
                    ("POST", at("/rotate"), json!({})),
                    ("POST", at("/refresh"), json!({})),
                    ("POST", at("/revoke"), Value::Null),
                    ("GET", at("/usage"), Value::Null),
                ]),
                "audiences" => all.truncate(1),
                "gateway-policies" => {
                    all[1].2 = json!({"rules": [{"path": "/x"}]});
                    all.push(("DELETE", at(""), Value::Null));
                }
                "roles" => all.push(("DELETE", at(""), Value::Null)),
                _ => all.extend([
                    ("DELETE", at(""), Value::Null),
                    ("POST", at("/suspend"), Value::Null),
                    ("POST", at("/resume"), Value::Null),
                ]),
            }
            if noun == "spaces" {
                all.push(("GET", at("/members"), Value::Null));
            }
            if noun == "bots" || noun == "users" {
                let role = json!({"role": "read-only"});
                all.extend([
                    ("GET", "/v1/owners/ID/roles".to_owned(), Value::Null),
                    ("PUT", "/v1/owners/ID/role".to_owned(), role),
                    ("DELETE", "/v1/owners/ID/role".to_owned(), Value::Null),
                ]);
            }
            all
        };
        for (noun, theirs, nobodys) in things.beside_nobody() {
            for (method, path, body) in verbs(noun) {
                let ask = (method, path.as_str(), &body);
                let answer = nameless(&server, &here, ask, theirs).await;
                assert_eq!(answer, nameless(&server, &here, ask, &nobodys).await, "{method} {path}");
                assert!(answer.starts_with("404 "), "{method} {path}: {answer}");
                let known = nameless(&server, &there, ("GET", &format!("/v1/{noun}/ID"), &Value::Null), theirs).await;
                assert!(known.starts_with("200 "), "{method} {path} did it all the same: {known}");
            }
        }
    }

    async fn an_id_of_another_organization_in_a_body_or_query_is_nobodys(server: Server) {
        let here = org_admin(&server).await;
        let (_, there) = other_org(&server, "other").await;
        let things = Things::make(&server, &there).await;
        let mine = good_of(&server, &here, "POST", "/v1/bots", json!({"name": "mine"})).await;
        let role = format!("/v1/owners/{}/role", text(&mine, "id"));
        let new = |field: &str, value: Value| json!({"name": "x", "scopes": ["chat"], field: value});
        for (method, path, body, theirs) in [
            ("POST", "/v1/keys", new("bot", json!("ID")), &things.bot),
            ("POST", "/v1/keys", new("space", json!("ID")), &things.space),
            ("POST", "/v1/keys", new("audiences", json!(["ID"])), &things.audience),
            ("POST", "/v1/keys", new("org_role", json!("ID")), &things.role),
            ("POST", "/v1/bots", json!({"name": "x", "space": "ID"}), &things.space),
            ("PATCH", "/v1/organization", json!({"default_audience": "ID"}), &things.audience),
            ("PUT", role.as_str(), json!({"role": "ID"}), &things.role),
            ("GET", "/v1/keys?space=ID", Value::Null, &things.space),
            ("GET", "/v1/keys?owner=ID", Value::Null, &things.bot),
            ("GET", "/v1/bots?space=ID", Value::Null, &things.space),
            ("GET", "/v1/audit?object=ID", Value::Null, &things.api_key),
            ("GET", "/v1/audit?actor=ID", Value::Null, &things.bot),
        ] {
            let ask = (method, path, &body);
            let nobodys = format!("{}0123456789abcdef", &theirs[..4]);
            let answer = nameless(&server, &here, ask, theirs).await;
            assert_eq!(answer, nameless(&server, &here, ask, &nobodys).await, "{method} {path} {body}");
            let empty = answer.starts_with("200 ") && answer.contains("\"items\":[]");
            assert!(empty || answer.starts_with('4'), "{method} {path} {body}: {answer}");
        }
        for (path, slug) in [("/v1/spaces/ID", "there"), ("/v1/audiences/ID", "there"), ("/v1/gateway-policies/ID", "there"), ("/v1/audiences/ID", "https:%2F%2Fthere.example")] {
            let answer = nameless(&server, &here, ("GET", path, &Value::Null), slug).await;
            assert!(answer.starts_with("404 "), "{path} {slug}: {answer}");
        }
    }

    async fn another_organization_is_named_by_admins_of_the_account_alone(server: Server) {
        let here = org_admin(&server).await;
        let (org, there) = other_org(&server, "other").await;
        for path in ["/v1/keys?organization=ID", "/v1/organization?organization=ID", "/v1/users?organization=ID"] {
            let ask = ("GET", path, &Value::Null);
            let answer = nameless(&server, &here, ask, &text(&org, "id")).await;
            assert_eq!(answer, nameless(&server, &here, ask, "org_0123456789abcdef").await);
            assert!(answer.starts_with("404 "), "{answer}");
            assert!(nameless(&server, &here, ask, "other").await.starts_with("404 "));
            assert!(nameless(&server, &there, ask, "default").await.starts_with("404 "));
            good_of(&server, &there, "GET", &path.replace("ID", "other"), Value::Null).await;
            good(&server, "GET", &path.replace("ID", "other"), Value::Null).await;
        }
        let ask = json!({"name": "x", "scopes": ["chat"]});
        let answer = server.api(&here, "POST", "/v1/keys?organization=other", ask).await;
        assert_eq!(told(&answer), "404 not_found");
        for body in [json!({"name": "x", "organization": "other"}), json!({"name": "x", "org": "other"})] {
            assert_eq!(told(&server.api(&here, "POST", "/v1/keys", body).await), "400 invalid_request");
        }
    }

    async fn lists_hold_what_is_of_the_organization_alone(server: Server) {
        let here = org_admin(&server).await;
        let (_, there) = other_org(&server, "other").await;
        let things = Things::make(&server, &there).await;
        for noun in ["keys?status=all", "bots", "users", "spaces", "audiences", "roles", "gateway-policies", "audit", "usage"] {
            let page = server.api(&here, "GET", &format!("/v1/{noun}"), Value::Null).await;
            assert_eq!(page.status, 200, "{noun}");
            for (_, theirs, _) in things.beside_nobody() {
                assert!(!page.body.contains(theirs), "{noun}: {}", page.body);
            }
            assert!(!page.body.contains("other"), "{noun}: {}", page.body);
        }
    }

    async fn a_cursor_of_another_organization_leads_to_nothing_of_it(server: Server) {
        let here = org_admin(&server).await;
        let (_, there) = other_org(&server, "other").await;
        for n in 0..3 {
            let ask = json!({"name": format!("k{n}"), "scopes": ["chat"]});
            good_of(&server, &there, "POST", "/v1/keys", ask).await;
        }
        for path in ["/v1/keys?limit=1", "/v1/keys?limit=1&name=k", "/v1/audit?limit=1", "/v1/bots?limit=1"] {
            let first = good_of(&server, &there, "GET", path, Value::Null).await;
            let next = format!("{path}&cursor={}", text(&first, "next_cursor"));
            let theirs = each(&good_of(&server, &there, "GET", "/v1/keys?status=all", Value::Null).await, "id");
            let page = server.api(&here, "GET", &next, Value::Null).await;
            assert!(page.status == 200 || page.status == 400, "{page:?}");
            assert!(theirs.iter().all(|id| !page.body.contains(id.as_str())), "{path}");
        }
    }

    async fn no_token_names_an_audience_of_another_organization(server: Server) {
        let here = org_admin(&server).await;
        let (_, there) = other_org(&server, "other").await;
        Things::make(&server, &there).await;
        for form in ["resource=https://there.example", "audience=there", "resource=urn:tenmint:other:api"] {
            assert_eq!(server.token(&here, form).await.outcome(), "400 invalid_target", "{form}");
            assert_eq!(server.token(&there, form).await.outcome(), "200", "{form}");
        }
        let claims = server.token(&there, "").await.claims();
        assert_eq!(claims["aud"], "urn:tenmint:other:api");
        assert_ne!(claims["org"], server.org.id.to_string());
    }

    async fn a_person_of_two_organizations_is_two_members(server: Server) {
        let (org, there) = other_org(&server, "other").await;
        let ada = member(&server, "ada@example.com", "admin").await;
        let ask = json!({"email": "Ada@Example.com", "name": "A. L.", "role": "read-only"});
        let second = good_of(&server, &there, "POST", "/v1/users", ask).await;
        assert_eq!((text(&second, "id"), text(&second, "name").as_str()), (ada.clone(), "A. L."));
        let org = text(&org, "id").parse().unwrap();
        let key = user_key_in(&server, org, &ada, None).await;
        let held = good_of(&server, &key, "GET", "/v1/whoami", Value::Null).await;
        assert_eq!(held["scopes"], json!(["read:org/*"]), "a role holds where it is bound");
        good_of(&server, &there, "POST", &format!("/v1/users/{ada}/suspend"), Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client");
        let here = good(&server, "GET", &format!("/v1/users/{ada}"), Value::Null).await;
        assert_eq!((here["suspended_at"].clone(), here["name"].clone()), (Value::Null, json!("ada@example.com")));
    }

    async fn a_dry_run_does_not_tell_whether_another_organization_knows_a_person(server: Server) {
        let (_, there) = other_org(&server, "other").await;
        let ada = member(&server, "ada@example.com", "member").await;
        let would = async |email: &str| {
            let ask = json!({"email": email});
            text(&good_of(&server, &there, "POST", "/v1/users?dry_run=true", ask).await["after"], "id")
        };
        assert_ne!(would("ada@example.com").await, ada);
        assert_ne!(would("ada@example.com").await, would("ada@example.com").await, "as of anybody");
    }

    async fn an_idempotency_key_of_another_organization_is_another_one(server: Server) {
        let here = org_admin(&server).await;
        let (_, there) = other_org(&server, "other").await;
        let ask = json!({"name": "x", "scopes": ["chat"]});
        let headers = [("Idempotency-Key", "one")];
        let mut made = Vec::new();
        for key in [&here, &there] {
            let answer = server.api_with(&key.text, "POST", "/v1/keys", ask.clone(), &headers).await;
            made.push(key_of(&answer.json()));
        }
        assert_ne!(made[0].id, made[1].id);
        assert_eq!(told(&server.api(&here, "GET", &at(&made[1]), Value::Null).await), "404 not_found");
    }
}
