//! Roles: defined by who holds them, bound at their place, changed for everybody at once.

use serde_json::{Value, json};
use tenmint::model::id::SpaceId;
use tenmint::model::owner::OwnerId;
use tenmint::model::role::{RoleBinding, RolePlace, RoleRef};
use tenmint::store::{Store, roles};

use crate::api::{
    at, call, each, fields, good, key, org_admin, outcome, outcome_of, text, with_role,
};
use crate::server::{Server, on_both_engines};

async fn bot(server: &Server) -> String {
    text(&good(server, "POST", "/v1/bots", json!({"name": "b", "org_role": "none"})).await, "id")
}

on_both_engines! {
    async fn a_defined_role_holds_for_everybody_it_is_bound_to_and_changes_at_once(server: Server) {
        let ask = json!({"name": "reader", "level": "organization", "scopes": ["read:projects/*", "read:org/keys/*"]});
        let role = text(&good(&server, "POST", "/v1/roles", ask).await, "id");
        let bot = bot(&server).await;
        for name in [role.as_str(), "reader"] {
            let bound = good(&server, "PUT", &format!("/v1/owners/{bot}/role"), json!({"role": name})).await;
            assert_eq!(text(&bound, "role"), role, "by id and by name");
        }
        let key = key(&server, json!({"bot": bot})).await;
        assert_eq!(server.token(&key, "").await.json()["scope"], "read:projects/* read:org/keys/*");
        let path = format!("/v1/roles/{role}");
        good(&server, "PATCH", &path, json!({"scopes": ["read:projects/a"]})).await;
        assert_eq!(server.token(&key, "").await.json()["scope"], "read:projects/a");
        assert_eq!(outcome(&server, "DELETE", &path, Value::Null).await, "409 role_in_use");
        good(&server, "DELETE", &format!("/v1/owners/{bot}/role"), Value::Null).await;
        assert_eq!(outcome(&server, "DELETE", &format!("/v1/owners/{bot}/role"), Value::Null).await, "404 not_found");
        good(&server, "DELETE", &path, Value::Null).await;
        assert_eq!(outcome(&server, "GET", &path, Value::Null).await, "404 not_found");
    }

    async fn a_role_of_an_organization_reaches_no_space_and_one_of_a_space_stays_in_it(server: Server) {
        let made = async |level: &str, scope: &str| {
            let ask = json!({"name": format!("{level} {scope}"), "level": level, "scopes": [scope]});
            outcome(&server, "POST", "/v1/roles", ask).await
        };
        for scope in ["read:org/*", "chat:models/*", "read:projects/*"] {
            assert_eq!(made("organization", scope).await, "201", "{scope}");
        }
        for scope in ["read:spaces/a", "read:spaces/*", "*:*", "read:*/a", "admin:installation/*", "read:space-management/a/*"] {
            assert_eq!(made("organization", scope).await, "400 invalid_request", "{scope}");
        }
        for scope in ["read:spaces/{space}/logs/*", "chat:spaces/{space}", "read:space-management/{space}/*"] {
            assert_eq!(made("space", scope).await, "201", "{scope}");
        }
        for scope in ["read:spaces/a/*", "read:spaces/*", "read:org/*", "*:*", "chat"] {
            assert_eq!(made("space", scope).await, "400 invalid_request", "{scope}");
        }
        assert_eq!(made("account", "read:org/*").await, "400 invalid_request");
    }

    async fn an_owner_holds_what_its_roles_in_many_spaces_hold(server: Server) {
        let ask = json!({"name": "logs", "level": "space", "scopes": ["read:spaces/{space}/logs/*"]});
        good(&server, "POST", "/v1/roles", ask).await;
        let bot = bot(&server).await;
        for number in 0..20 {
            good(&server, "POST", "/v1/spaces", json!({"slug": format!("s{number}")})).await;
            let (path, role) = (format!("/v1/spaces/s{number}/members/{bot}"), ["logs", "member"][number % 2]);
            good(&server, "PUT", &path, json!({"role": role})).await;
        }
        let key = key(&server, json!({"bot": bot})).await;
        let outcome_for = async |scope: &str| server.token(&key, &format!("scope={scope}")).await.outcome();
        for (scope, outcome) in [
            ("read:spaces/s0/logs/x read:spaces/s19/x", "200"),
            ("read:spaces/s18/logs/* write:spaces/s1/*", "200"),
            ("read:spaces/s18/x", "400 invalid_scope"),
            ("read:spaces/s20/x", "400 invalid_scope"),
        ] {
            assert_eq!(outcome_for(scope).await, outcome, "{scope}");
        }
        good(&server, "DELETE", "/v1/spaces/s19", Value::Null).await;
        assert_eq!(outcome_for("read:spaces/s19/x").await, "400 invalid_scope");
        good(&server, "PUT", &format!("/v1/owners/{bot}/role"), json!({"role": "admin"})).await;
        assert_eq!(server.token(&key, "").await.json()["scope"], "*:*", "which covers all the others");
    }

    async fn an_owner_has_five_hundred_roles_at_most(server: Server) {
        let bot = bot(&server).await;
        let (owner, organization) = (bot.parse::<OwnerId>().unwrap(), server.org.id);
        let places = (1..=499_u16).map(|number| {
            let [high, low] = number.to_be_bytes();
            let space = SpaceId::from_random([[high; 8], [low; 8]].concat().try_into().unwrap());
            RoleBinding { owner, place: RolePlace::Space { organization, space }, role: RoleRef::Member }
        });
        let store = Store::open(&server.database).await.unwrap();
        let mut write = store.begin().await.unwrap();
        roles::bind_all(&mut write, &places.collect::<Vec<_>>()).await.unwrap();
        write.commit().await.unwrap();
        for slug in ["last", "one-more"] {
            good(&server, "POST", "/v1/spaces", json!({"slug": slug})).await;
        }
        let bind = async |slug: &str, role: &str| {
            let path = format!("/v1/spaces/{slug}/members/{bot}");
            outcome(&server, "PUT", &path, json!({"role": role})).await
        };
        assert_eq!(bind("last", "member").await, "200");
        assert_eq!(bind("one-more", "member").await, "409 too_many_roles");
        assert_eq!(bind("last", "read-only").await, "200", "one in place of another is no more");
        good(&server, "DELETE", &format!("/v1/spaces/last/members/{bot}"), Value::Null).await;
        assert_eq!(bind("one-more", "member").await, "200");
    }

    async fn a_space_that_is_called_like_a_level_gives_no_role_beyond_it(server: Server) {
        for slug in ["account", "organization"] {
            good(&server, "POST", "/v1/spaces", json!({"slug": slug})).await;
            let bot = bot(&server).await;
            let path = format!("/v1/spaces/{slug}/members/{bot}");
            let bound = good(&server, "PUT", &path, json!({"role": "member"})).await;
            assert_eq!(text(&bound, "level"), "space", "{bound}");
            let key = key(&server, json!({"bot": bot})).await;
            assert_eq!(server.token(&key, &format!("scope=read:spaces/{slug}/x")).await.outcome(), "200");
            assert_eq!(server.token(&key, "scope=read:org/keys/*").await.outcome(), "400 invalid_scope");
            good(&server, "DELETE", &path, Value::Null).await;
            assert_eq!(outcome(&server, "DELETE", &format!("/v1/owners/{bot}/role"), Value::Null).await, "404 not_found");
        }
    }

    async fn a_role_of_a_space_holds_in_the_space_where_it_is_bound(server: Server) {
        for slug in ["alpha", "beta"] {
            good(&server, "POST", "/v1/spaces", json!({"slug": slug})).await;
        }
        let ask = json!({"name": "logs", "level": "space", "scopes": ["read:spaces/{space}/logs/*"]});
        good(&server, "POST", "/v1/roles", ask).await;
        let bot = bot(&server).await;
        good(&server, "PUT", &format!("/v1/spaces/alpha/members/{bot}"), json!({"role": "logs"})).await;
        let key = key(&server, json!({"bot": bot})).await;
        assert_eq!(server.token(&key, "").await.json()["scope"], "read:spaces/alpha/logs/*");
        let elsewhere = outcome(&server, "PUT", &format!("/v1/owners/{bot}/role"), json!({"role": "logs"})).await;
        assert_eq!(elsewhere, "400 invalid_request", "at its own level alone");
    }

    async fn a_key_whose_owner_holds_nothing_gets_no_token_whatever_it_asks_for(server: Server) {
        let bot = bot(&server).await;
        let role = format!("/v1/owners/{bot}/role");
        good(&server, "PUT", &role, json!({"role": "read-only"})).await;
        let key = key(&server, json!({"bot": bot, "scopes": ["read:org/*"]})).await;
        for asked in ["", "scope=read:org/*", "scope=read:org/keys/a"] {
            assert_eq!(server.token(&key, asked).await.status, 200, "{asked}");
        }
        good(&server, "DELETE", &role, Value::Null).await;
        for asked in ["", "scope=read:org/*", "scope=read:org/keys/a"] {
            assert_eq!(server.token(&key, asked).await.outcome(), "400 invalid_scope", "{asked}");
        }
    }

    async fn nobody_defines_edits_or_binds_a_role_beyond_what_it_holds(server: Server) {
        let admin = key(&server, json!({"scopes": ["read:org/*", "admin:org/roles/*", "admin:org/members/*", "chat"]})).await;
        let narrow = json!({"name": "chatter", "level": "organization", "scopes": ["chat:models/x"]});
        let role = text(&server.api(&admin, "POST", "/v1/roles", narrow).await.json(), "id");
        let wide = json!({"name": "models", "level": "organization", "scopes": ["models:x"]});
        assert_eq!(outcome_of(&server, &admin, "POST", "/v1/roles", wide.clone()).await, "403 forbidden");
        let wide = text(&good(&server, "POST", "/v1/roles", wide).await, "id");
        let bot = bot(&server).await;
        let place = format!("/v1/owners/{bot}/role");
        for (method, path, body, expected) in [
            ("PATCH", format!("/v1/roles/{role}"), json!({"scopes": ["models:x"]}), "403 forbidden"),
            ("PATCH", format!("/v1/roles/{wide}"), json!({"scopes": ["chat:x"]}), "403 forbidden"),
            ("PATCH", format!("/v1/roles/{wide}"), json!({"name": "renamed"}), "403 forbidden"),
            ("PUT", place.clone(), json!({"role": wide}), "403 forbidden"),
            ("PUT", place.clone(), json!({"role": "member"}), "403 forbidden"),
            ("PUT", place.clone(), json!({"role": "admin"}), "403 forbidden"),
            ("PUT", place.clone(), json!({"role": role}), "200"),
            ("PUT", place.clone(), json!({"role": "read-only"}), "200"),
        ] {
            assert_eq!(outcome_of(&server, &admin, method, &path, body.clone()).await, expected, "{method} {path} {body}");
        }
        good(&server, "PUT", &place, json!({"role": "admin"})).await;
        for (method, body) in [("PUT", json!({"role": "read-only"})), ("DELETE", Value::Null)] {
            assert_eq!(outcome_of(&server, &admin, method, &place, body).await, "403 forbidden", "nor takes away what stands above");
        }
    }

    async fn nobody_raises_oneself(server: Server) {
        for role in ["read-only", "member"] {
            let key = with_role(&server, role).await;
            let owner = text(&good(&server, "GET", &at(&key), Value::Null).await, "owner");
            for (method, path, body) in [
                ("PUT", format!("/v1/owners/{owner}/role"), json!({"role": "admin"})),
                ("PUT", format!("/v1/installation/admins/{owner}"), json!({"role": "admin"})),
                ("PATCH", format!("/v1/bots/{owner}"), json!({"grants": ["*:*"]})),
                ("PATCH", at(&key), json!({"scopes": ["*:*"]})),
            ] {
                assert_eq!(outcome_of(&server, &key, method, &path, body).await, "403 forbidden", "{method} {path}");
            }
        }
        let admin = org_admin(&server).await;
        let owner = text(&good(&server, "GET", &at(&admin), Value::Null).await, "owner");
        let place = format!("/v1/installation/admins/{owner}");
        assert_eq!(outcome_of(&server, &admin, "PUT", &place, json!({"role": "admin"})).await, "403 forbidden");
    }

    async fn the_name_of_a_role_is_unique_at_its_level_and_none_of_the_built_in_ones(server: Server) {
        let ask = |name: &str, level: &str| {
            let scope = if level == "space" { "read:spaces/{space}" } else { "read:projects/*" };
            json!({"name": name, "level": level, "scopes": [scope]})
        };
        assert_eq!(outcome(&server, "POST", "/v1/roles", ask("dev", "organization")).await, "201");
        assert_eq!(outcome(&server, "POST", "/v1/roles", ask("dev", "organization")).await, "409 name_taken");
        assert_eq!(outcome(&server, "POST", "/v1/roles", ask("dev", "space")).await, "201");
        for name in ["admin", "member", "read-only", "verifier", "none", "rol_0123456789abcdef", ""] {
            assert_eq!(fields(&call(&server, "POST", "/v1/roles", ask(name, "organization")).await), ["name"], "{name}");
        }
        let second = text(&good(&server, "POST", "/v1/roles", ask("ops", "organization")).await, "id");
        assert_eq!(outcome(&server, "PATCH", &format!("/v1/roles/{second}"), json!({"name": "dev"})).await, "409 name_taken");
        assert_eq!(fields(&call(&server, "POST", "/v1/roles", json!({})).await), ["name", "level", "scopes"]);
        assert_eq!(fields(&call(&server, "POST", "/v1/roles", json!({"name": "x", "level": "space", "scopes": []})).await), ["scopes"]);
        let list = good(&server, "GET", "/v1/roles?limit=2", Value::Null).await;
        assert_eq!(each(&list, "name"), ["ops", "dev"]);
        let built_in = json!({"role": "verifier"});
        let bot = bot(&server).await;
        good(&server, "PUT", &format!("/v1/owners/{bot}/role"), built_in).await;
    }
}
