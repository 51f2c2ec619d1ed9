//! `/v1/gateway-policies`.

use serde_json::{Value, json};
use tenmint::mint::forward_auth::Gateway;
use tenmint::service::Service;
use tenmint::service::node::{Node, NodeConfig};

use crate::api::{audited, call, each, fields, good, good_of, key, outcome, outcome_of, text};
use crate::forward_auth::policy;
use crate::server::on_both_engines;

const AT: &str = "/v1/gateway-policies";

on_both_engines! {
    async fn a_policy_is_made_shown_changed_and_deleted(server: Server) {
        let rules = json!([{"methods": ["GET"], "path": "/v1/{id}/{*rest}", "action": "chat", "resource": "models/{id}"}, {"path": "/health"}]);
        let made = policy(&server, "api", rules.clone()).await;
        assert!(text(&made, "id").starts_with("gwp_"));
        let audience = good(&server, "GET", "/v1/audiences/default", Value::Null).await;
        assert_eq!((&made["audience"], &made["organization"]), (&audience["id"], &json!(server.org.id.to_string())));
        let mut shown = rules;
        shown[1]["resource"] = json!("health");
        assert_eq!(made["rules"], shown);
        for name in ["api", &text(&made, "id")] {
            assert_eq!(good(&server, "GET", &format!("{AT}/{name}"), Value::Null).await, made);
        }
        assert_eq!(outcome(&server, "POST", AT, json!({"name": "api", "audience": "default", "rules": [{"path": "/a"}]})).await, "409 name_taken");
        server.register("https://other.example").await;
        let edited = good(&server, "PATCH", &format!("{AT}/api"), json!({"audience": "https://other.example"})).await;
        assert_eq!((&edited["rules"], edited["audience"] == made["audience"]), (&made["rules"], false));
        let would = good(&server, "DELETE", &format!("{AT}/api?dry_run=true"), Value::Null).await;
        assert_eq!((&would["dry_run"], &would["after"]), (&json!(true), &edited));
        good(&server, "DELETE", &format!("{AT}/api"), Value::Null).await;
        assert_eq!(outcome(&server, "GET", &format!("{AT}/api"), Value::Null).await, "404 not_found");
        let audited = audited(&server, &format!("object={}", text(&made, "id"))).await;
        let actions: Vec<String> = audited.iter().map(|entry| text(entry, "action")).collect();
        assert_eq!(actions, ["gateway_policy.delete", "gateway_policy.edit", "gateway_policy.create"]);
        assert_eq!(audited[0]["before"], edited);
    }

    async fn a_list_goes_from_new_to_old_page_by_page(server: Server) {
        for number in 0..5 {
            policy(&server, &format!("p{number}"), json!([{"path": "/a"}])).await;
        }
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = good(&server, "GET", &format!("{AT}?limit=2{cursor}"), Value::Null).await;
            names.extend(each(&page, "name"));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(names, ["p4", "p3", "p2", "p1", "p0"]);
    }

    async fn another_node_knows_policies_from_its_start_and_follows_their_changes(server: Server) {
        policy(&server, "old", json!([{"path": "/a"}])).await;
        let keys_dir = server.directory.path().join("keys");
        let service = Service::open(&server.database, &keys_dir, server.clock.clone()).await.unwrap();
        let node = Node::start(service, NodeConfig::in_directory(server.directory.path())).await.unwrap();
        let needed = async |name: &str| {
            node.follower.catch_up().await.unwrap();
            let guarding = node.mint.guarding(Gateway::Private("default"), name, server.clock.now()).unwrap();
            guarding.map(|guarding| guarding.needed("GET", "/a").is_ok())
        };
        assert_eq!((needed("old").await, needed("new").await), (Some(true), None));
        policy(&server, "new", json!([{"path": "/b"}])).await;
        good(&server, "PATCH", &format!("{AT}/old"), json!({"rules": [{"path": "/{id}/b"}]})).await;
        assert_eq!((needed("old").await, needed("new").await), (Some(false), Some(false)));
        good(&server, "DELETE", &format!("{AT}/old"), Value::Null).await;
        assert_eq!((needed("old").await, needed("new").await), (None, Some(false)));
        // made and deleted between two looks
        policy(&server, "brief", json!([{"path": "/a"}])).await;
        good(&server, "DELETE", &format!("{AT}/brief"), Value::Null).await;
        policy(&server, "brief", json!([{"path": "/a"}])).await;
        assert_eq!(needed("brief").await, Some(true), "the name is another one's");
        node.stop().await;
    }

    async fn every_bad_field_is_told_at_once(server: Server) {
        let ask = json!({"name": "A b", "audience": "nobody", "rules": [{"path": "a"}, {"path": "/{id}", "action": "*", "resource": "{x}"}]});
        let told = fields(&call(&server, "POST", AT, ask).await);
        assert_eq!(told, ["name", "rules[0].path", "rules[1].resource", "rules[1].action", "audience"]);
        assert_eq!(fields(&call(&server, "POST", AT, json!({})).await), ["name", "audience", "rules"]);
        for (rules, field) in [
            (json!([]), "rules"),
            (vec![json!({"path": "/a"}); 33].into(), "rules"),
            (json!([{"path": "/a", "paths": "/b"}]), "rules"),
            (json!("/a"), "rules"),
            (json!([{"path": "/a/../b"}]), "rules[0].path"),
            (json!([{"path": "/a", "methods": ["get"]}]), "rules[0].methods"),
        ] {
            let ask = json!({"name": "a", "audience": "default", "rules": rules});
            assert_eq!(fields(&call(&server, "POST", AT, ask).await), [field], "{rules}");
        }
    }

    async fn only_admins_change_policies_and_readers_see_them(server: Server) {
        let made = policy(&server, "api", json!([{"path": "/a"}])).await;
        let at = format!("{AT}/{}", text(&made, "id"));
        let ask = json!({"name": "b", "audience": "default", "rules": [{"path": "/a"}]});
        let edit = json!({"rules": [{"path": "/b"}]});
        for (role, seen, change) in [("read-only", "200", "403 forbidden"), ("admin", "200", "200"), ("verifier", "404 not_found", "404 not_found")] {
            let key = key(&server, json!({"name": role, "org_role": role})).await;
            assert_eq!(outcome_of(&server, &key, "GET", &at, Value::Null).await, seen, "{role}");
            assert_eq!(outcome_of(&server, &key, "PATCH", &at, edit.clone()).await, change, "{role}");
            let made = if role == "admin" { "201" } else { "403 forbidden" };
            assert_eq!(outcome_of(&server, &key, "POST", AT, ask.clone()).await, made, "{role}");
            let gone = format!("{AT}/b");
            let expected = match role { "admin" => "200", _ => "404 not_found" };
            assert_eq!(outcome_of(&server, &key, "DELETE", &gone, Value::Null).await, expected, "{role}");
        }
        let (_, theirs) = server.second_org("other").await;
        for name in [text(&made, "id"), "api".to_owned()] {
            let at = format!("{AT}/{name}");
            for (method, ask) in [("GET", Value::Null), ("PATCH", edit.clone()), ("DELETE", Value::Null)] {
                assert_eq!(outcome_of(&server, &theirs, method, &at, ask).await, "404 not_found", "{method}");
            }
        }
        assert_eq!(good_of(&server, &theirs, "GET", AT, Value::Null).await["items"], json!([]));
        let ask = json!({"name": "api", "audience": text(&made, "audience"), "rules": [{"path": "/a"}]});
        let refused = server.api(&theirs, "POST", AT, ask).await;
        assert_eq!(fields(&refused), ["audience"], "an audience of somebody else");
    }
}
