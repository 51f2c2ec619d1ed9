//! Line by line: what becomes of good lines and of bad ones, and of a file that comes again.

use serde_json::{Value, json};
use tenmint::error::Error;
use tenmint::model::api_key::{EditApiKey, RotateApiKey};
use tenmint::model::space::CreateSpace;
use tenmint::service::audit::AuditFilter;
use tenmint::service::call::{Call, Idempotency};

use super::*;
use crate::server::{AUDIENCE, on_both_engines};

/// A call under an `Idempotency-Key`.
fn once(server: &Server) -> Call {
    let known = Idempotency {
        key: "one".to_owned(),
        route: "POST /v1/keys/import".to_owned(),
        hash: String::new(),
    };
    Call { idempotency: Some(known), ..server.call() }
}

on_both_engines! {
    async fn an_imported_key_gets_tokens_with_the_text_that_its_client_has(server: Server) {
        let base64 = "LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564=";
        let file = format!(
            "\u{feff}name,digest,scopes,audiences,expires_at,description\r\n\
             billing,{},read:a/* write:a/*,{AUDIENCE},2030-01-01,\"what, it \"\"is\"\"\"\r\n\
             mail,sha256:{base64},chat,,,",
            sha256("a text of the old service").to_uppercase(),
        );
        let report = imported(&server, CSV, &file).await;
        assert_eq!(report.told(), ["2 created", "3 created"]);
        let billing = key(&report, 2, "a text of the old service");
        let claims = server.token(&billing, "").await.claims();
        assert_eq!(claims["scope"], "read:a/* write:a/*");
        assert_eq!(claims["client_id"], billing.id.to_string());
        let by_key_alone = server.post("", &[("Authorization", "Bearer foo")]).await;
        assert_eq!(by_key_alone.outcome(), "200", "`foo` is the text of that base64");
        let shown = server.shown(&billing.id).await;
        assert_eq!(shown.description, "what, it \"is\"");
        assert_eq!(shown.expires_at.unwrap().to_string(), "2030-01-01T00:00:00Z");
        assert_eq!((shown.prefix, shown.audiences.len()), (None, 1));
        let wrong = Key { text: "another text".to_owned(), ..billing };
        assert_eq!(server.token(&wrong, "").await.outcome(), "401 invalid_client");
    }

    async fn a_bad_line_is_refused_with_its_reason_and_spoils_no_other(server: Server) {
        let lines = [
            json!({"name": "one", "digest": sha256("one"), "scopes": ["chat"]}).to_string(),
            String::new(),
            json!({"name": "", "digest": "x", "scopes": ["no/such"], "colour": "red"}).to_string(),
            json!({"name": "", "digest": "x", "scopes": ["No"]}).to_string(),
            "{".to_owned(),
            json!({"name": "old", "digest": sha256("old"), "expires_at": "2027-01-15T08:00:00Z"})
                .to_string(),
            json!({"name": "lost", "digest": sha256("lost"), "audiences": ["urn:nobody"]}).to_string(),
            json!({"name": "lost", "digest": sha256("lost"), "space": "nowhere"}).to_string(),
            json!({"name": "lost", "digest": sha256("lost"), "owner": "usr_0123456789abcdef"})
                .to_string(),
            json!({"name": "lost", "digest": sha256("lost"), "owner": "bot_0123456789abcdef"})
                .to_string(),
            json!({"name": "lost", "digest": sha256("lost"), "owner": "somebody"}).to_string(),
            json!({"name": "lost", "digest": sha256("lost"), "key_type": "user"}).to_string(),
            json!({"name": "again", "digest": sha256("one"), "scopes": ["chat"]}).to_string(),
            json!({"name": "one", "digest": sha256("one"), "scopes": ["chat"]}).to_string(),
            json!({"name": "two", "digest": sha256("two"), "allow": ["0.0.0.0/0"]}).to_string(),
        ];
        let mut file = lines.join("\n").into_bytes();
        file.extend_from_slice(b"\n{\"name\": \"\xFF\"}\n");
        file.extend_from_slice("x".repeat(20_000).as_bytes());
        let report = import(&server.service, &server.call(), JSON, file).await.unwrap();
        assert_eq!(
            report.told(),
            [
                "1 created",
                "3 refused invalid_request: colour, name, digest, scopes",
                "4 refused invalid_request: name, digest, scopes",
                "5 refused invalid_request: ",
                "6 refused invalid_request: expires_at",
                "7 refused invalid_request: audiences",
                "8 refused not_found: space",
                "9 refused not_found: owner",
                "10 refused not_found: owner",
                "11 refused invalid_request: owner",
                "12 refused invalid_request: key_type",
                "13 refused digest_in_use: name",
                "14 unchanged",
                "15 created",
                "16 refused invalid_request: ",
                "17 refused invalid_request: ",
            ]
        );
        assert_eq!(report.counts(), [16, 2, 0, 1, 13]);
        assert_eq!(report.id(13), report.id(1));
        assert_eq!(report.id(14), report.id(1));
        assert!(!report.lines[13].warnings.is_empty(), "everybody is let in");
        assert_eq!(listed(&server).await.len(), 2);
    }

    async fn every_bad_field_of_a_line_is_told_at_once(server: Server) {
        let names = json!({"name": "n", "digest": sha256("n"), "space": "nowhere", "owner": "nobody",
            "audiences": ["urn:nobody", "urn:nowhere"], "expires_at": "2001-01-01"});
        let with = |more: Value| {
            let (mut line, more) = (names.clone(), more.as_object().unwrap().clone());
            line.as_object_mut().unwrap().extend(more);
            line.to_string()
        };
        let report = imported(&server, JSON, &[
            with(json!({})),
            with(json!({"scopes": ["No"], "quota_limit": "many"})),
            with(json!({"key_type": "user", "owner": null, "digest": "x"})),
            json!({"name": "n", "digest": sha256("n"), "scopes": ["chat talk"]}).to_string(),
            json!({"name": "n", "digest": sha256("n"), "scopes": ["chat"], "owner": server.call()
                .actor.credential.owner, "expires_at": "2001-01-01"}).to_string(),
        ].join("\n")).await;
        assert_eq!(report.told(), [
            "1 refused invalid_request: space, audiences, audiences, owner, expires_at",
            "2 refused invalid_request: quota_limit, scopes, space, audiences, audiences, owner, expires_at",
            "3 refused invalid_request: digest, space, audiences, audiences, key_type, expires_at",
            "4 refused invalid_request: scopes",
            "5 refused invalid_request: expires_at",
        ]);
        let csv = "name,digest,space,owner,audiences,expires_at,scopes,quota_limit\n\
                   n,x,nowhere,nobody,urn:nobody,2001-01-01,No,many";
        assert_eq!(imported(&server, CSV, csv).await.told(), [
            "2 refused invalid_request: quota_limit, digest, scopes, space, audiences, owner, expires_at",
        ]);
    }

    async fn a_file_that_is_no_import_is_refused_as_a_whole(server: Server) {
        for file in ["", "nmae,digest\na,b", "name\na", "\"name,digest\n", "name,digest,digest\n"] {
            let refused = import(&server.service, &server.call(), CSV, file).await;
            assert!(matches!(refused, Err(Error::Invalid(_))), "{file}");
        }
        let nothing = imported(&server, JSON, "").await;
        assert_eq!((nothing.summary.status, nothing.counts()), (ImportEnd::Done, [0; 5]));
    }

    async fn a_file_may_come_again(server: Server) {
        let file = file_of("again", 150);
        let first = imported(&server, CSV, &file).await;
        assert_eq!(first.counts(), [150, 150, 0, 0, 0]);
        let second = imported(&server, CSV, &file).await;
        assert_eq!(second.counts(), [150, 0, 0, 150, 0]);
        assert!((2..152).all(|line| first.id(line) == second.id(line)));
        let atomic = imported(&server, ATOMIC, &file).await;
        assert_eq!((atomic.summary.status, atomic.counts()), (ImportEnd::Done, [150, 0, 0, 150, 0]));
        assert_eq!(listed(&server).await.len(), 150);
    }

    async fn a_line_that_says_something_else_is_refused(server: Server) {
        let ask = CreateSpace { slug: Some("alpha".to_owned()), name: None };
        server.service.create_space(&server.call(), ask).await.unwrap();
        let line = json!({
            "name": "one", "digest": sha256("one"), "description": "d", "scopes": ["chat", "talk"],
            "audiences": [AUDIENCE], "allow": ["10.0.0.0/8"], "block": ["10.1.0.0/16"],
            "quota_limit": 10, "expires_at": "2030-01-01",
        });
        let first = imported(&server, JSON, &line.to_string()).await;
        let id = first.id(1);
        for (field, value) in [
            ("name", json!("two")),
            ("description", json!(null)),
            ("scopes", json!(["chat"])),
            ("scopes", json!(null)),
            ("audiences", json!(null)),
            ("allow", json!(["10.0.0.0/9"])),
            ("block", json!(null)),
            ("quota_limit", json!(11)),
            ("expires_at", json!("2030-01-02")),
            ("expires_at", json!("2020-01-01")),
            ("space", json!("alpha")),
        ] {
            let mut line = line.clone();
            line[field] = value;
            let report = imported(&server, JSON, &line.to_string()).await;
            assert_eq!(report.told(), [format!("1 refused digest_in_use: {field}")]);
            assert_eq!(report.id(1), id);
        }
        let mut same = line.clone();
        same["scopes"] = json!(["talk", "chat"]);
        same["digest"] = json!(format!("sha256:{}", sha256("one")));
        let report = imported(&server, JSON, &same.to_string()).await;
        assert_eq!(report.told(), ["1 unchanged"], "the order of scopes says nothing");
        let ask = EditApiKey { name: Some("renamed".to_owned()), ..EditApiKey::default() };
        server.service.edit_api_key(&server.call(), &id, ask).await.unwrap();
        let report = imported(&server, JSON, &line.to_string()).await;
        assert_eq!(report.told(), ["1 refused digest_in_use: name"]);
        server.wind(Duration::from_hours(24 * 365 * 4)).await;
        same["name"] = json!("renamed");
        let report = imported(&server, JSON, &same.to_string()).await;
        assert_eq!(report.told(), ["1 unchanged"], "though the key has expired since");
    }

    async fn a_digest_is_one_keys_for_ever(server: Server) {
        let file = file_of("used", 3);
        let report = imported(&server, CSV, &file).await;
        server.revoke(&report.id(2)).await;
        let (_, stranger) = server.second_org("second").await;
        let theirs = import(&server.service, &server.call_of(&stranger), CSV, &file).await.unwrap();
        assert_eq!(theirs.counts(), [3, 0, 0, 0, 3]);
        for line in &theirs.lines {
            assert_eq!((line.id, line.code.as_deref()), (None, Some("digest_in_use")));
            assert_eq!(line.errors[0].message, "this digest is in use already");
        }
        let again = imported(&server, CSV, &file).await;
        assert_eq!(
            again.told(),
            ["2 refused digest_in_use: digest", "3 unchanged", "4 unchanged"]
        );
        assert_eq!(again.message(2), "the key of this digest is revoked, for ever");
        // the text of a key of our own is no key of somebody else either
        let own = server.api_key("chat").await;
        let line = json!({"name": "stolen", "digest": sha256(&own.text)}).to_string();
        let theirs = import(&server.service, &server.call_of(&stranger), JSON, &line).await.unwrap();
        assert_eq!(theirs.told(), ["1 refused digest_in_use: digest"]);
    }

    async fn an_imported_key_is_rotated_into_a_text_of_our_own(server: Server) {
        let report = imported(&server, CSV, &file_of("old", 1)).await;
        let old = key(&report, 2, "old-0");
        let ask = RotateApiKey { grace_period_seconds: Some(60), force: None };
        let rotated = server.service.rotate_api_key(&server.call(), &old.id, ask).await.unwrap();
        let new = Key::of(rotated.after);
        assert!(new.id == old.id && new.text.starts_with("tm_default_"));
        assert_eq!(server.shown(&new.id).await.prefix.unwrap(), new.text[..19]);
        assert_eq!(server.token(&old, "").await.outcome(), "200", "in its grace");
        server.wind(Duration::from_secs(61)).await;
        assert_eq!(server.token(&old, "").await.outcome(), "401 invalid_client");
        assert_eq!(server.token(&new, "").await.outcome(), "200");
        let again = imported(&server, CSV, &file_of("old", 1)).await;
        assert_eq!(again.told(), ["2 unchanged"]);
        assert_eq!(server.token(&old, "").await.outcome(), "401 invalid_client");
    }

    async fn a_dry_run_tells_all_and_stores_nothing(server: Server) {
        let file = format!(
            "{}again,{},chat\nover-0,{},chat\nbad,x,chat\n",
            file_of("over", 120),
            sha256("over-1"),
            sha256("over-0")
        );
        let call = Call { dry_run: true, ..server.call() };
        for ask in [CSV, ATOMIC] {
            let report = import(&server.service, &call, ask, &file).await.unwrap();
            assert_eq!(report.counts(), [123, 0, 120, 1, 2]);
            assert!(report.lines.iter().all(|line| line.id.is_none()));
            let told = report.told();
            assert_eq!(
                told[120..],
                [
                    "122 refused digest_in_use: digest",
                    "123 unchanged",
                    "124 refused invalid_request: digest"
                ]
            );
        }
        assert!(listed(&server).await.is_empty());
        let real = imported(&server, CSV, &file).await;
        assert_eq!(real.counts(), [123, 120, 0, 1, 2], "a dry run is right");
    }

    async fn the_audit_says_who_brought_each_key_and_holds_no_digest(server: Server) {
        let file = format!("{}bad,x,chat\n", file_of("told", 2));
        let report = imported(&server, CSV, &file).await;
        let (call, filter) = (server.call(), |object: String| AuditFilter {
            org: Some(server.org.id),
            object: Some(object),
            ..AuditFilter::default()
        });
        let of = async |object: String| {
            let filter = filter(object);
            let entries = server.service.list_audit(&call.actor, &filter, (10, None)).await;
            let (entries, _) = entries.unwrap();
            assert_eq!(entries.len(), 1);
            serde_json::to_value(&entries[0]).unwrap()
        };
        let key = of(report.id(2).to_string()).await;
        assert_eq!((&key["action"], &key["outcome"]), (&json!("api_key.import"), &json!("done")));
        assert_eq!(key["actor"], json!(call.actor.credential.owner));
        assert_eq!(key["after"]["name"], "told-0");
        assert_eq!(key["after"]["import"], json!(report.summary.import));
        let whole = of(report.summary.import.to_string()).await;
        assert_eq!((&whole["action"], &whole["outcome"]), (&json!("import.end"), &json!("done")));
        assert_eq!((&whole["after"]["created"], &whole["after"]["refused"]), (&json!(2), &json!(1)));
        for text in [key.to_string(), whole.to_string()] {
            assert!(!text.contains("digest") && !text.contains(&sha256("told-0")[..12]), "{text}");
        }
    }

    async fn a_request_that_is_repeated_imports_once(server: Server) {
        let file = file_of("once", 2);
        let first = import(&server.service, &once(&server), CSV, &file).await.unwrap();
        assert_eq!(first.counts(), [2, 2, 0, 0, 0]);
        let second = import(&server.service, &once(&server), CSV, &file).await.unwrap();
        assert_eq!((second.summary.status, second.counts()), (ImportEnd::Done, [2, 0, 0, 2, 0]));
        let other = import(&server.service, &once(&server), CSV, file_of("other", 2)).await.unwrap();
        assert_eq!(other.summary.status, ImportEnd::Failed);
        assert_eq!(other.summary.code.as_deref(), Some("idempotency_key_reused"));
        assert_eq!((other.counts(), listed(&server).await.len()), ([2, 0, 2, 0, 0], 2));
    }

    async fn what_has_come_is_not_kept_waiting_for_what_comes_slowly(server: Server) {
        let mut running = Running::begin(&server.service, server.call(), CSV);
        running.send(&file_of("slow", 1)).await;
        let line = running.lines(1).await.remove(0);
        let slow = Key { id: line.id.unwrap(), text: "slow-0".to_owned() };
        assert_eq!(server.token(&slow, "").await.outcome(), "200", "while the file is being sent");
        running.send(&format!("slow-1,{},chat", sha256("slow-1"))).await;
        assert_eq!(running.end().await.unwrap().counts(), [2, 2, 0, 0, 0]);
    }

    async fn other_nodes_follow_an_import(server: Server) {
        let other = other_node(&server).await;
        let file = file_of("many", 400);
        assert_eq!(imported(&server, CSV, &file).await.summary.created, 400);
        assert_eq!(indexed(&server.mint), (401, 401));
        assert_eq!(indexed(&other.mint), (1, 1), "not told yet");
        other.follower.catch_up().await.unwrap();
        assert_eq!(indexed(&other.mint), (401, 401));
        let late = other_node(&server).await;
        assert_eq!(indexed(&late.mint), (401, 401));
    }

    async fn an_import_that_breaks_off_keeps_what_it_reported(server: Server) {
        let mut running = Running::begin(&server.service, server.call(), CSV);
        running.send(&file_of("part", 250)).await;
        let reported = running.lines(90).await;
        running.bytes.send(Err(Error::invalid("", "the body breaks off"))).await.unwrap();
        let report = running.end().await.unwrap();
        assert_eq!(report.summary.status, ImportEnd::Failed);
        assert_eq!(report.summary.detail.as_deref(), Some("``: the body breaks off"));
        let created = reported.len() + report.lines.len();
        assert!((90..=250).contains(&created), "{created}");
        assert_eq!(listed(&server).await.len(), created);
        let again = imported(&server, CSV, &file_of("part", 250)).await;
        assert_eq!(again.counts(), [250, 250 - created as u64, 0, created as u64, 0]);
    }
}
