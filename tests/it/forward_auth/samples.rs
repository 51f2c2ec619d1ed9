//! The samples for Traefik and Envoy: what these gateways send by them, as their documentation says
//! it, and what they take of the answers.

use std::path::Path;

use crate::forward_auth::{ask, guarded, told};
use crate::server::on_both_engines;

/// All headers that tell an API who calls.
const IDENTITY: [&str; 8] =
    ["client-id", "subject", "organization", "space", "scope", "token-id", "audience", "raw-key"];

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gateways").join(name);
    std::fs::read_to_string(path).unwrap().to_ascii_lowercase()
}

/// What stands behind the one place where a sample says this.
fn said<'s>(sample: &'s str, before: &str) -> &'s str {
    let mut found = sample.split(before).skip(1);
    let (Some(behind), None) = (found.next(), found.next()) else { panic!("not one `{before}`") };
    behind.lines().next().unwrap().trim().trim_matches('"')
}

#[test]
fn every_sample_says_all_of_who_calls_and_nobody_else_does() {
    for name in IDENTITY {
        let name = format!("tenmint-{name}");
        let nginx = sample("nginx.conf");
        let variable = name.replace('-', "_");
        assert!(
            nginx.contains(&format!("auth_request_set ${variable} $upstream_http_{variable};")),
            "{name}"
        );
        assert!(nginx.contains(&format!("proxy_set_header {name} ${variable};")), "{name}");
        assert!(sample("traefik.yml").contains(&format!("          - {name}\n")), "{name}");
        assert!(sample("envoy.yaml").contains(&format!("- remove: {name}\n")), "{name}");
    }
    let envoy = sample("envoy.yaml");
    let place = |text: &str| envoy.find(text).unwrap_or_else(|| panic!("no `{text}`"));
    assert!(
        place("- remove: tenmint-client-id") < place("http_service:"),
        "taken away before, not after"
    );
    assert!(place("- prefix: tenmint-") < place("allowed_client_headers:"));
}

on_both_engines! {
    /// A GET to the address of the middleware, with the headers of the request that are left, and
    /// with those that Traefik adds.
    async fn traefik_is_answered_what_the_sample_asks(server: Server) {
        let gateway = guarded(&server).await;
        let token = server.token(&server.api_key("read:projects/*").await, "").await.token();
        let traefik = sample("traefik.yml");
        let target = said(&traefik, "address: \"http://127.0.0.1:8080").to_owned();
        let bearer = format!("Bearer {token}");
        let of = |method: &'static str, uri: &'static str| vec![
            ("Authorization", bearer.as_str()), ("Tenmint-Gateway-Key", gateway.text.as_str()), ("Tenmint-Subject", "usr_root"),
            ("X-Forwarded-Method", method), ("X-Forwarded-Uri", uri), ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "api.example.com"), ("Accept-Encoding", "gzip"),
        ];
        for (method, uri, expected) in [
            ("GET", "/projects/alpha?x=1", "200"),
            ("POST", "/projects/alpha", "403 insufficient_scope"),
            ("GET", "/projects/../alpha", "403 path_not_canonical"),
        ] {
            assert_eq!(told(&ask(&server, "GET", &target, &of(method, uri)).await), expected, "{method} {uri}");
        }
        for header in ["x-original-uri", "x-original-method", "x-forwarded-uri", "x-forwarded-method"] {
            assert!(traefik.contains(&format!("          {header}: \"\"\n")), "{header} is the caller's");
        }
        assert!(!traefik.contains("trustforwardheader:"), "a caller would say its path");
    }

    /// The method of the request, its path behind the prefix, and of its headers those that are
    /// allowed.
    async fn envoy_is_answered_what_the_sample_asks(server: Server) {
        let gateway = guarded(&server).await;
        let token = server.token(&server.api_key("read:projects/*").await, "").await.token();
        let envoy = sample("envoy.yaml");
        let prefix = said(&envoy, "path_prefix: ").to_owned();
        assert_eq!(said(&envoy, "- key: "), "tenmint-gateway-key");
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()), ("tenmint-gateway-key", gateway.text.as_str()),
            ("x-forwarded-for", "192.0.2.1"), ("x-envoy-internal", "true"), ("x-envoy-expected-rq-timeout-ms", "1000"),
        ];
        for (method, path, expected) in [
            ("GET", "/projects/alpha?policy=other", "200"),
            ("HEAD", "/projects/alpha", "200"),
            ("POST", "/projects/alpha", "403 insufficient_scope"),
            ("GET", "/projects/%61lpha", "403 path_not_canonical"),
        ] {
            let answer = ask(&server, method, &format!("{prefix}{path}"), &headers).await;
            assert_eq!(told(&answer), expected, "{method} {path}");
        }
    }
}
