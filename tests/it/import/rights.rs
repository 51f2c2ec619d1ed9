//! Who may import what: nobody gives what the presented credential does not hold.

use serde_json::{Value, json};
use tenmint::error::Error;
use tenmint::model::api_key::{CreateApiKey, RotateApiKey};
use tenmint::model::bot::CreateBot;
use tenmint::model::space::CreateSpace;
use tenmint::model::user::CreateUser;

use super::*;
use crate::server::{AUDIENCE, asked, list, on_both_engines};

/// A key that may import, and what else it holds.
async fn importer(server: &Server, scopes: &str, ask: CreateApiKey) -> Call {
    let scopes = format!("admin:org/keys/* read:org/* {scopes}");
    let ask = CreateApiKey { scopes: Some(list(scopes.trim_end())), ..ask };
    server.call_of(&server.create(ask).await)
}

/// What becomes of one line with these fields.
async fn one(server: &Server, call: &Call, text: &str, fields: Value) -> Report {
    let mut line = json!({"name": text, "digest": sha256(text)});
    for (field, value) in fields.as_object().unwrap() {
        line[field] = value.clone();
    }
    import(&server.service, call, JSON, line.to_string()).await.unwrap()
}

async fn space(server: &Server, slug: &str) {
    let ask = CreateSpace { slug: Some(slug.to_owned()), name: None };
    server.service.create_space(&server.call(), ask).await.unwrap();
}

async fn person(server: &Server, call: &Call, email: &str) -> String {
    let ask = CreateUser {
        email: Some(email.to_owned()),
        role: Some("admin".to_owned()),
        ..CreateUser::default()
    };
    server.service.create_user(call, ask).await.unwrap().after.id.to_string()
}

on_both_engines! {
    async fn an_import_needs_to_administer_all_keys(server: Server) {
        let (org, stranger) = server.second_org("second").await;
        for scopes in ["admin:org/keys/own/*", "write:org/keys/*", "admin:org/keys/?", "chat"] {
            let call = server.call_of(&server.api_key(scopes).await);
            let refused = import(&server.service, &call, CSV, file_of("no", 1)).await;
            let Err(Error::Forbidden(said)) = refused else { panic!("{scopes}") };
            assert_eq!(said, "this needs the scope `admin:org/keys/*`");
        }
        let elsewhere = Call { org: server.org.id, ..server.call_of(&stranger) };
        let refused = import(&server.service, &elsewhere, CSV, file_of("no", 1)).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))));
        let by_account_admin = Call { org, ..server.call() };
        let report = import(&server.service, &by_account_admin, CSV, file_of("yes", 1)).await;
        assert_eq!(report.unwrap().summary.created, 1);
    }

    async fn a_line_gives_no_more_than_the_importer_holds(server: Server) {
        server.register("https://other.example.com").await;
        let narrow = CreateApiKey {
            audiences: Some(vec![AUDIENCE.to_owned(), "management".to_owned()]),
            expires_at: Some("2030-01-01".to_owned()),
            allow: Some(vec!["127.0.0.0/8".to_owned()]),
            ..asked("chat")
        };
        let mut call = importer(&server, "read:a/*", narrow).await;
        call.actor.origin.address = Some([127, 0, 0, 1].into());
        let good = json!({"scopes": ["read:a/b"], "audiences": [AUDIENCE],
            "expires_at": "2029-01-01", "allow": ["127.0.0.1"]});
        for (number, (field, value, said)) in [
            ("scopes", json!(["read:b/c"]), "the scope `read:b/c` is beyond"),
            ("scopes", json!(["write:a/b"]), "the scope `write:a/b` is beyond"),
            ("audiences", json!(["https://other.example.com"]), "a key for these audiences is beyond"),
            ("audiences", json!(null), "a key for these audiences is beyond"),
            ("expires_at", json!("2031-01-01"), "an expiry after 2030-01-01T00:00:00Z is beyond"),
            ("expires_at", json!(null), "an expiry after 2030-01-01T00:00:00Z is beyond"),
            ("allow", json!(["10.0.0.1"]), "a key for these addresses is beyond"),
            ("allow", json!(null), "a key for these addresses is beyond"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut fields = good.clone();
            fields[field] = value;
            let report = one(&server, &call, &format!("beyond-{number}"), fields).await;
            assert_eq!(report.told(), ["1 refused forbidden: "]);
            assert!(report.message(1).starts_with(said), "{}", report.message(1));
        }
        let report = one(&server, &call, "within", good).await;
        assert_eq!(report.told(), ["1 created"]);
    }

    async fn a_key_without_an_owner_gets_a_bot_of_its_own(server: Server) {
        space(&server, "alpha").await;
        let call = server.call();
        let report = one(&server, &call, "own", json!({"scopes": ["chat"]})).await;
        let own = key(&report, 1, "own");
        assert_eq!(server.token(&own, "").await.claims()["scope"], "chat");
        let all = one(&server, &call, "all", json!({})).await;
        let claims = server.token(&key(&all, 1, "all"), "").await.claims();
        assert_eq!(claims["scope"], "read:org/*", "the organization read-only");
        let inside = one(&server, &call, "inside", json!({"space": "alpha"})).await;
        let claims = server.token(&key(&inside, 1, "inside"), "").await.claims();
        assert!(claims["scope"].as_str().unwrap().contains("write:spaces/alpha/*"), "{claims}");
        let bot = server.shown(&own.id).await.owner.to_string();
        let bot = server.service.get_bot(&call.actor, call.org, &bot).await.unwrap();
        assert_eq!((bot.name.as_str(), bot.space), ("own", None));
        let other = server.shown(&all.id(1)).await.owner;
        assert_ne!(other.to_string(), bot.id.to_string());
    }

    async fn a_line_names_a_bot_or_a_person_of_the_organization(server: Server) {
        let call = server.call();
        let ada = person(&server, &call, "ada@example.com").await;
        let (org, stranger) = server.second_org("second").await;
        let theirs = server.call_of(&stranger);
        let bob = person(&server, &theirs, "bob@example.com").await;
        let ask = CreateBot {
            name: Some("robot".to_owned()),
            grants: Some(list("chat")),
            ..CreateBot::default()
        };
        let robot = server.service.create_bot(&call, ask.clone()).await.unwrap().after.id.to_string();
        let foreign = server.service.create_bot(&theirs, ask).await.unwrap().after;
        assert_eq!(foreign.org, org);
        let report = one(&server, &call, "a", json!({"owner": "Ada@Example.com", "scopes": ["x"]}));
        let claims = server.token(&key(&report.await, 1, "a"), "").await.claims();
        assert_eq!((&claims["sub"], &claims["scope"]), (&json!(ada), &json!("x")));
        let report = one(&server, &call, "b", json!({"owner": ada, "key_type": "user"})).await;
        assert_eq!(server.token(&key(&report, 1, "b"), "").await.claims()["sub"], ada);
        let report = one(&server, &call, "c", json!({"owner": robot, "scopes": ["chat"]})).await;
        assert_eq!(server.token(&key(&report, 1, "c"), "").await.claims()["sub"], robot);
        for (fields, told, said) in [
            (
                json!({"owner": robot, "scopes": ["talk"]}),
                "1 refused invalid_request: scopes",
                "the owner of the key does not hold `talk`".to_owned(),
            ),
            (
                json!({"owner": robot, "key_type": "user"}),
                "1 refused invalid_request: key_type",
                "a `user` key names the person that owns it, a `service` key a bot or nobody"
                    .to_owned(),
            ),
            (
                json!({"owner": bob}),
                "1 refused not_found: owner",
                format!("there is no owner `{bob}` in the organization"),
            ),
            (
                json!({"owner": "bob@example.com"}),
                "1 refused not_found: owner",
                "there is no owner `bob@example.com` in the organization".to_owned(),
            ),
            (
                json!({"owner": foreign.id}),
                "1 refused not_found: owner",
                format!("there is no owner `{}` in the organization", foreign.id),
            ),
        ] {
            let report = one(&server, &call, "no", fields).await;
            assert_eq!((report.told(), report.message(1)), (vec![told.to_owned()], &*said));
        }
        let again = one(&server, &call, "c", json!({"scopes": ["chat"]})).await;
        assert_eq!(again.told(), ["1 refused digest_in_use: owner"]);
    }

    async fn no_line_names_an_admin_of_the_account_unless_one_imports(server: Server) {
        let root = server.shown(&server.administrator.id).await.owner.to_string();
        let call = importer(&server, "chat", asked("")).await;
        let fields = json!({"owner": root, "scopes": ["chat"]});
        let report = one(&server, &call, "a", fields.clone()).await;
        assert_eq!(report.told(), ["1 refused forbidden: owner"]);
        assert!(report.message(1).contains("admin of the account"), "{}", report.message(1));
        assert_eq!(one(&server, &server.call(), "a", fields).await.told(), ["1 created"]);
    }

    async fn a_key_in_a_space_needs_the_keys_of_that_space(server: Server) {
        space(&server, "alpha").await;
        space(&server, "beta").await;
        let (_, stranger) = server.second_org("second").await;
        let scopes = "admin:space-management/alpha/keys/* read:space-management/*/* \
            read:spaces/alpha read:spaces/alpha/* write:spaces/alpha write:spaces/alpha/* \
            write:space-management/alpha/keys/own/*";
        let call = importer(&server, scopes, asked("")).await;
        let report = one(&server, &call, "in-alpha", json!({"space": "alpha"})).await;
        assert_eq!(report.told(), ["1 created"]);
        let report = one(&server, &call, "in-beta", json!({"space": "beta", "scopes": ["read:spaces/alpha/x"]})).await;
        assert_eq!(report.told(), ["1 refused forbidden: owner"], "{:?}", report.lines);
        let report = one(&server, &server.call_of(&stranger), "foreign", json!({"space": "alpha"})).await;
        assert_eq!(report.told(), ["1 refused not_found: space"]);
        // the digest of a key in a space that the importer does not see is in use, and no more
        let blind = importer(&server, "", asked("")).await;
        let report = one(&server, &blind, "in-alpha", json!({})).await;
        assert_eq!(report.told(), ["1 refused digest_in_use: digest"]);
        assert_eq!((report.lines[0].id, report.message(1)), (None, "this digest is in use already"));
        server.service.suspend_space(&server.call(), "alpha", true).await.unwrap();
        let report = one(&server, &call, "late", json!({"space": "alpha"})).await;
        assert_eq!(report.told(), ["1 refused space_suspended: space"]);
    }

    async fn a_right_that_ends_ends_an_import(server: Server) {
        let ask = CreateApiKey { scopes: Some(list("admin:org/keys/* read:org/* chat")), ..asked("") };
        for (number, how) in ["revoke", "rotate", "suspend"].into_iter().enumerate() {
            let holder = server.create(ask.clone()).await;
            let mut running = Running::begin(&server.service, server.call_of(&holder), CSV);
            running.send(&file_of(&format!("ends-{number}"), 250)).await;
            running.lines(90).await;
            let call = server.call();
            match how {
                "revoke" => drop(server.revoke(&holder.id).await),
                "rotate" => {
                    let ask = RotateApiKey::default();
                    server.service.rotate_api_key(&call, &holder.id, ask).await.unwrap();
                }
                _ => {
                    let bot = server.shown(&holder.id).await.owner.to_string();
                    server.service.suspend_bot(&call, &bot, true).await.unwrap();
                }
            }
            running.send(&format!("more,{},chat\n", sha256(&format!("more-{number}")))).await;
            let report = running.end().await.unwrap();
            assert_eq!(report.summary.status, ImportEnd::Failed, "{how}");
            assert_eq!(report.summary.code.as_deref(), Some("unauthenticated"), "{how}");
            assert!(report.summary.created < 251, "{how}");
        }
    }

    async fn what_others_change_meanwhile_counts_for_the_next_lines(server: Server) {
        space(&server, "alpha").await;
        let ada = person(&server, &server.call(), "ada@example.com").await;
        let mut running = Running::begin(&server.service, server.call(), JSON);
        let line = |number: u32, field: &str, value: &str| {
            let text = format!("{field}-{number}");
            let line = json!({"name": text, "digest": sha256(&text), field: value});
            format!("{line}\n")
        };
        let both = |number| format!("{}{}", line(number, "space", "alpha"), line(number, "owner", &ada));
        running.send(&both(1)).await;
        let lines = running.lines(2).await;
        assert!(lines.iter().all(|line| line.status == ImportStatus::Created), "{lines:?}");
        server.service.delete_space(&server.call(), "alpha").await.unwrap();
        server.service.delete_user(&server.call(), &ada).await.unwrap();
        running.send(&both(2)).await;
        let report = running.end().await.unwrap();
        assert_eq!(report.told(), ["3 refused not_found: space", "4 refused not_found: owner"]);
    }
}
