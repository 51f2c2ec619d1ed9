//! Discovery and JWKS: one document under two names, and every word of it is true.

use serde_json::{Value, json};
use tenmint::service::init::CreateInstallation;
use tenmint_verifier::{Algorithm, JwkSet};

use crate::server::{AUDIENCE, Engine, Setup, basic, on_both_engines};

const METADATA: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/.well-known/jwks.json";

on_both_engines! {
    async fn both_names_give_one_document(server: Server) {
        let metadata = server.get(METADATA).await;
        assert_eq!(metadata.body, server.get(OPENID).await.body);
        assert_eq!(metadata.json(), json!({
            "issuer": "http://127.0.0.1",
            "token_endpoint": "http://127.0.0.1/oauth/token",
            "jwks_uri": "http://127.0.0.1/.well-known/jwks.json",
            "revocation_feed_uri": "http://127.0.0.1/oauth/revocations",
            "raw_key_policy_uri": "http://127.0.0.1/oauth/raw-keys",
            "use_report_endpoint": "http://127.0.0.1/oauth/uses",
            "introspection_endpoint": "http://127.0.0.1/oauth/introspect",
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "revocation_endpoint": "http://127.0.0.1/oauth/revoke",
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }));
    }

    async fn every_endpoint_and_method_of_the_document_works(server: Server) {
        let document = server.get(METADATA).await.json();
        let key = server.api_key("chat").await;
        for (name, value) in document.as_object().unwrap() {
            if let Some(path) = value.as_str().and_then(|url| url.strip_prefix("http://127.0.0.1/")) {
                let path = format!("/{path}");
                let method = if name.ends_with("_endpoint") { "POST" } else { "GET" };
                let answer = server.send(method, &path, &[], b"").await;
                assert!(!matches!(answer.status, 404 | 405), "{name}: {answer:?}");
            }
        }
        for method in document["token_endpoint_auth_methods_supported"].as_array().unwrap() {
            let credential = basic(&key.id.to_string(), &key.text);
            let answer = match method.as_str().unwrap() {
                "client_secret_basic" => server.post("", &[("Authorization", &credential)]).await,
                "client_secret_post" => {
                    server.post(&format!("client_id={}&client_secret={}", key.id, key.text), &[]).await
                }
                other => panic!("`{other}` is advertised and not tested"),
            };
            assert_eq!(answer.status, 200, "{method}");
        }
        for endpoint in ["introspection_endpoint", "revocation_endpoint"] {
            let path = document[endpoint].as_str().unwrap().strip_prefix("http://127.0.0.1").unwrap();
            let admin = &server.administrator;
            let credential = basic(&admin.id.to_string(), &admin.text);
            let form = ("Content-Type", "application/x-www-form-urlencoded");
            for method in document[format!("{endpoint}_auth_methods_supported")].as_array().unwrap() {
                let answer = match method.as_str().unwrap() {
                    "client_secret_basic" => {
                        server.send("POST", path, &[form, ("Authorization", &credential)], b"token=a.b.c").await
                    }
                    "client_secret_post" => {
                        let body = format!("token=a.b.c&client_id={}&client_secret={}", admin.id, admin.text);
                        server.send("POST", path, &[form], body.as_bytes()).await
                    }
                    other => panic!("`{other}` is advertised and not tested"),
                };
                assert_eq!(answer.status, 200, "{endpoint}, {method}");
            }
        }
    }

    async fn the_documents_are_cached_and_open_to_every_origin(server: Server) {
        for path in [METADATA, OPENID, JWKS] {
            let answer = server.send("GET", path, &[("Origin", "https://app.example")], b"").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            let etag = answer.header("etag").unwrap();
            let weak = format!("W/{etag}");
            let several = format!("\"other\", {etag}");
            for known in [etag, "*", &weak, &several] {
                let again = server.send("GET", path, &[("If-None-Match", known)], b"").await;
                assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
                assert_eq!(again.header("etag"), Some(etag));
                assert_eq!(again.header("cache-control"), Some("public, max-age=300"));
            }
            let other = server.send("GET", path, &[("If-None-Match", "\"other\"")], b"").await;
            assert_eq!(other.status, 200);
            let head = server.send("HEAD", path, &[], b"").await;
            assert_eq!((head.status, head.body.as_str()), (200, ""));
            assert_eq!(server.send("POST", path, &[], b"").await.status, 405);
            let preflight = [
                ("Origin", "https://app.example"),
                ("Access-Control-Request-Method", "GET"),
                ("Access-Control-Request-Headers", "if-none-match"),
            ];
            let allowed = server.send("OPTIONS", path, &preflight, b"").await;
            assert_eq!(allowed.status, 200, "{allowed:?}");
            assert_eq!(allowed.header("access-control-allow-headers"), Some("if-none-match"));
            let queried = server.get(&format!("{path}?kid=anything")).await;
            assert_eq!(queried.body, answer.body, "a query changes nothing");
        }
    }

    async fn what_is_not_there_is_a_404_in_json(server: Server) {
        for path in ["/", "/.well-known/nothing", "/.well-known/", "/oauth", "/oauth/token/", "/v2"] {
            let answer = server.get(path).await;
            assert_eq!(answer.status, 404, "{path}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.json()["code"], "not_found");
        }
    }

    async fn each_key_of_the_jwks_says_all_that_a_strict_reader_asks(server: Server) {
        let jwks = server.get(JWKS).await;
        let keys = jwks.json()["keys"].as_array().unwrap().clone();
        assert_eq!(keys.len(), 2, "one that signs and one in reserve");
        for key in &keys {
            assert_eq!((&key["alg"], &key["use"], &key["kty"]), (&json!("ES256"), &json!("sig"), &json!("EC")));
            assert_eq!(key.as_object().unwrap().len(), 7, "no private member: {key}");
        }
        assert_ne!(keys[0]["kid"], keys[1]["kid"]);
        let set = JwkSet::parse(jwks.body.as_bytes()).unwrap();
        assert_eq!((set.len(), set.skipped()), (2, 0));
        let token = server.token(&server.administrator, "").await.token();
        assert!(kid_of(&token) == keys[0]["kid"], "the key that signs comes first");
    }

    async fn health_says_what_is_so(server: Server) {
        assert_eq!(server.get("/healthz").await.json(), json!({"status": "ok"}));
        assert_eq!(server.get("/readyz").await.json(), json!({"status": "ready"}));
        server.clock.correct(-31_000);
        assert_eq!(server.get("/readyz").await.json(), json!({"status": "degraded"}), "its clock is off");
        server.clock.correct(0);
        assert_eq!(server.get("/readyz").await.json(), json!({"status": "ready"}));
        server.clock.correct(31_000);
        server.clock.wind(std::time::Duration::from_mins(1));
        let degraded = server.get("/readyz").await;
        assert_eq!((degraded.status, degraded.json()), (200, json!({"status": "degraded"})));
        server.clock.wind(std::time::Duration::from_mins(5));
        let gone = server.get("/readyz").await;
        assert_eq!((gone.status, gone.json()), (503, json!({"status": "not_ready"})));
        assert_eq!(server.get("/healthz").await.status, 200, "alive all the same");
    }
}

fn kid_of(token: &str) -> Value {
    use base64::Engine;
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].clone()
}

#[tokio::test]
async fn each_algorithm_can_be_the_one_of_an_installation() {
    for algorithm in Algorithm::ALL {
        let mut setup = Setup::on(Engine::Sqlite);
        setup.installation =
            CreateInstallation { algorithm: algorithm.name().to_owned(), ..setup.installation };
        let server = setup.start().await.unwrap();
        let answer = server.token(&server.administrator, "").await;
        let token = server.verifier(AUDIENCE).await.verify_held(&answer.token()).unwrap();
        assert_eq!(token.claims().scope.as_str(), "*:*");
        let document = server.get(METADATA).await.json();
        assert_eq!(document["id_token_signing_alg_values_supported"], json!([algorithm.name()]));
        let keys = server.get(JWKS).await.json()["keys"].as_array().unwrap().clone();
        assert!(keys.iter().all(|key| key["alg"] == algorithm.name()));
    }
}
