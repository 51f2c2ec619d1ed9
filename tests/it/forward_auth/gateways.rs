//! Who asks, and how: gateways with and without a key, and the three ways of telling a request.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tenmint::http::{self, listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::api::{good, good_of, key};
use crate::forward_auth::{Held, ask, checked, gateway, guarded, policy, told};
use crate::server::{Answer, Key, Server, on_both_engines};

const ALPHA: &str = "/projects/alpha";

/// Somebody who may read `projects/alpha`, by its token.
async fn reader(server: &Server) -> String {
    server.token(&server.api_key("read:projects/alpha").await, "").await.token()
}

/// What is answered to these headers, besides the credential of a reader.
async fn with(server: &Server, token: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let bearer = format!("Bearer {token}");
    let all: Vec<_> = headers.iter().copied().chain([("Authorization", bearer.as_str())]).collect();
    told(&ask(server, "GET", target, &all).await)
}

/// A listener for gateways alone.
async fn private_listener(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let face = http::private_face(server.node.as_ref().unwrap(), http::HttpConfig::default());
    tokio::spawn(listener::serve(listener, face, std::future::pending()));
    address
}

/// What a listener answers to a request without body.
async fn send_to(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    Answer::parse(&String::from_utf8_lossy(&answer))
}

on_both_engines! {
    async fn nothing_is_believed_before_the_gateway_has_shown_its_key(server: Server) {
        let gateway = guarded(&server).await;
        let token = reader(&server).await;
        let weak = server.api_key("introspect:org/keys/*").await;
        let revoked = self::gateway(&server).await;
        server.revoke(&revoked.id).await;
        let elsewhere = key(&server, json!({"name": "gateway", "org_role": "verifier", "allow": ["192.0.2.1"]})).await;
        let here = key(&server, json!({"name": "gateway", "org_role": "verifier", "allow": ["127.0.0.1"]})).await;
        let of_gateway = server.token(&gateway, "audience=management").await.token();
        let of_api = server.token(&gateway, "").await.token();
        for (keys, expected) in [
            (vec![], "403 unknown_gateway"),
            (vec![""], "403 unknown_gateway"),
            (vec!["nonsense"], "403 unknown_gateway"),
            (vec![&revoked.text], "403 unknown_gateway"),
            (vec![&elsewhere.text], "403 unknown_gateway"),
            (vec![&of_api], "403 unknown_gateway"),
            (vec![&gateway.text, &gateway.text], "403 unknown_gateway"),
            (vec![&weak.text], "403 gateway_forbidden"),
            (vec![&token], "403 unknown_gateway"),
            (vec![&*here.text], "200"),
            (vec![&*of_gateway], "200"),
            (vec![&*gateway.text], "200"),
        ] {
            let mut headers: Vec<_> = keys.iter().map(|key| ("Tenmint-Gateway-Key", *key)).collect();
            headers.extend([("X-Original-Method", "GET"), ("X-Original-URI", ALPHA), ("X-Forwarded-For", "192.0.2.1")]);
            assert_eq!(with(&server, &token, "/forward-auth?policy=api", &headers).await, expected, "{keys:?}");
            // whatever it says: what it is told of the request, or of the policy, is not looked at
            headers.retain(|(name, _)| *name == "Tenmint-Gateway-Key");
            let denied = with(&server, &token, "/forward-auth?policy=none", &headers).await;
            let expected = if expected == "200" { "403 unknown_policy" } else { expected };
            assert_eq!(denied, expected, "{keys:?}");
        }
    }

    async fn a_policy_of_somebody_else_is_no_policy(server: Server) {
        let gateway = guarded(&server).await;
        let token = reader(&server).await;
        let (_, theirs) = server.second_org("other").await;
        good_of(&server, &theirs, "POST", "/v1/audiences", json!({"uri": "https://theirs.example", "slug": "theirs"})).await;
        let ask = json!({"name": "theirs", "audience": "theirs", "rules": [{"path": "/{*all}"}]});
        good_of(&server, &theirs, "POST", "/v1/gateway-policies", ask).await;
        good(&server, "POST", "/v1/audiences", json!({"uri": "https://second.example", "slug": "second"})).await;
        let ask = json!({"name": "second", "audience": "second", "rules": [{"path": "/{*all}"}]});
        good(&server, "POST", "/v1/gateway-policies", ask).await;
        let only = key(&server, json!({"name": "gateway", "org_role": "verifier", "audiences": ["default"]})).await;
        let held = Held::get(ALPHA, &token);
        let unknown = held.asked(&server, &gateway, "nothing").await;
        for (gateway, policy) in [(&gateway, "theirs"), (&theirs, "api"), (&only, "second"), (&gateway, ""), (&gateway, "API")] {
            let answer = held.asked(&server, gateway, policy).await;
            assert_eq!((answer.status, &answer.body), (unknown.status, &unknown.body), "{policy}");
            assert_eq!(told(&answer), "403 unknown_policy");
        }
        assert_eq!(told(&held.asked(&server, &only, "api").await), "200");
        assert_eq!(told(&held.asked(&server, &gateway, "api&policy=api").await), "403 unknown_policy", "said twice");
        let target = "/forward-auth?policy=api&org=other";
        let headers = [("Tenmint-Gateway-Key", gateway.text.as_str()), ("X-Original-Method", "GET"), ("X-Original-URI", ALPHA)];
        assert_eq!(with(&server, &token, target, &headers).await, "200", "the key says the organization");
    }

    async fn a_request_is_told_once_or_the_same_each_time(server: Server) {
        let gateway = guarded(&server).await;
        let token = reader(&server).await;
        let nginx = [("X-Original-URI", ALPHA), ("X-Original-Method", "GET")];
        let traefik = [("X-Forwarded-Uri", ALPHA), ("X-Forwarded-Method", "GET")];
        for (headers, expected) in [
            (nginx.to_vec(), "200"),
            (traefik.to_vec(), "200"),
            ([nginx, traefik].concat(), "200"),
            ([&nginx[..], &[("X-Forwarded-Uri", "/projects/beta")]].concat(), "403 request_not_told"),
            ([&traefik[..], &[("X-Original-URI", "/projects/alpha?")]].concat(), "403 request_not_told"),
            ([&nginx[..], &[("X-Forwarded-Method", "POST")]].concat(), "403 request_not_told"),
            ([&nginx[..], &nginx[..1]].concat(), "403 request_not_told"),
            ([&nginx[..], &nginx[1..]].concat(), "403 request_not_told"),
            (nginx[..1].to_vec(), "403 request_not_told"),
            (nginx[1..].to_vec(), "403 request_not_told"),
            (vec![("X-Original-URI", ALPHA), ("X-Original-Method", "")], "403 request_not_told"),
            (vec![("X-Original-URI", ""), ("X-Original-Method", "GET")], "403 path_not_canonical"),
            (vec![("X-Original-URI", "/\u{e9}"), ("X-Original-Method", "GET")], "403 path_not_canonical"),
            (vec![("X_Original_URI", ALPHA), ("X-Original-Method", "GET")], "403 request_not_told"),
            (vec![], "403 request_not_told"),
        ] {
            let key = [("Tenmint-Gateway-Key", gateway.text.as_str())];
            let headers = [&key[..], &headers].concat();
            assert_eq!(with(&server, &token, "/forward-auth?policy=api", &headers).await, expected, "{headers:?}");
        }
    }

    async fn a_gateway_that_keeps_the_request_puts_the_policy_before_its_path(server: Server) {
        let gateway = guarded(&server).await;
        let key = server.api_key("read:projects/* write:projects/beta").await;
        let token = server.token(&key, "").await.token();
        let bearer = format!("Bearer {token}");
        let headers = [("Tenmint-Gateway-Key", gateway.text.as_str()), ("Authorization", bearer.as_str())];
        for (method, target, expected) in [
            ("GET", "/forward-auth/api/projects/alpha", "200"),
            ("GET", "/forward-auth/api/projects/alpha?policy=none&org=other", "200"),
            ("HEAD", "/forward-auth/api/projects/alpha", "200"),
            ("POST", "/forward-auth/api/projects/alpha", "403 insufficient_scope"),
            ("POST", "/forward-auth/api/projects/beta", "200"),
            ("PROPFIND", "/forward-auth/api/projects/beta", "200"),
            ("GET", "/forward-auth/none/projects/alpha", "403 unknown_policy"),
            ("GET", "/forward-auth/api/", "403 no_rule"),
            ("GET", "/forward-auth/api", "403 request_not_told"),
            ("GET", "/forward-auth/api?/projects/alpha", "403 request_not_told"),
            ("GET", "/forward-auth/api//projects/alpha", "403 path_not_canonical"),
            ("GET", "/forward-auth/api/projects/../alpha", "403 path_not_canonical"),
            ("GET", "/forward-auth/api/projects%2Falpha", "403 path_not_canonical"),
            ("GET", "/forward-auth/%61pi/projects/alpha", "403 unknown_policy"),
            ("GET", "/forward-auth//projects/alpha", "403 unknown_policy"),
            ("GET", "/forward-auth/", "403 unknown_policy"),
            ("GET", "/forward-auth", "403 unknown_policy"),
        ] {
            assert_eq!(told(&ask(&server, method, target, &headers).await), expected, "{method} {target}");
        }
        let other = [&headers[..], &[("X-Original-URI", "/projects/beta")]].concat();
        assert_eq!(told(&ask(&server, "GET", "/forward-auth/api/projects/alpha", &other).await), "403 request_not_told");
    }

    async fn any_method_is_taken_and_no_body_is_read(server: Server) {
        let gateway = guarded(&server).await;
        let token = reader(&server).await;
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
            let head = format!(
                "{method} /forward-auth?policy=api HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000000\r\nTenmint-Gateway-Key: {}\r\n\
                 X-Original-Method: GET\r\nX-Original-URI: {ALPHA}\r\nAuthorization: Bearer {token}\r\n\r\n", gateway.text);
            // the body never comes
            assert_eq!(server.send_bytes(head.as_bytes()).await.status, 200, "{method}");
        }
    }

    async fn a_policy_holds_from_the_answer_that_changed_it(server: Server) {
        let gateway = guarded(&server).await;
        let token = reader(&server).await;
        let asked = async |path: &str| told(&Held::get(path, &token).asked(&server, &gateway, "api").await);
        assert_eq!(asked(ALPHA).await, "200");
        let at = "/v1/gateway-policies/api";
        good(&server, "PATCH", &format!("{at}?dry_run=true"), json!({"rules": [{"path": "/x"}]})).await;
        assert_eq!(asked(ALPHA).await, "200");
        good(&server, "PATCH", at, json!({"rules": [{"path": "/v2/{id}", "resource": "projects/{id}"}]})).await;
        assert_eq!((asked(ALPHA).await, asked("/v2/alpha").await), ("403 no_rule".to_owned(), "200".to_owned()));
        good(&server, "DELETE", at, Value::Null).await;
        assert_eq!(asked("/v2/alpha").await, "403 unknown_policy");
        policy(&server, "api", json!([{"path": "/projects/{id}"}])).await;
        assert_eq!(asked(ALPHA).await, "200");
    }

    async fn without_the_database_it_decides_as_long_as_the_operator_allows(server: Server) {
        let gateway = guarded(&server).await;
        let token = reader(&server).await;
        // nothing compares the index with the database meanwhile
        server.clock.wind(Duration::from_secs(299));
        assert_eq!(told(&Held::get(ALPHA, &token).asked(&server, &gateway, "api").await), "200");
        server.clock.wind(Duration::from_secs(2));
        let answer = Held::get(ALPHA, &token).asked(&server, &gateway, "api").await;
        assert_eq!((told(&answer).as_str(), answer.header("retry-after")), ("403 unavailable", Some("2")));
        let private = private_listener(&server).await;
        let headers = [("X-Original-Method", "GET"), ("X-Original-URI", ALPHA), ("Authorization", &*format!("Bearer {token}"))];
        let target = "/forward-auth?policy=api&org=default";
        assert_eq!(told(&send_to(private, "GET", target, &headers).await), "403 unavailable");
    }

    async fn a_private_listener_needs_no_key_and_serves_nothing_else(server: Server) {
        guarded(&server).await;
        server.second_org("other").await;
        let token = reader(&server).await;
        let private = private_listener(&server).await;
        let bearer = format!("Bearer {token}");
        let nginx = [("Authorization", bearer.as_str()), ("X-Original-Method", "GET"), ("X-Original-URI", ALPHA)];
        for (target, expected) in [
            ("/forward-auth?policy=api&org=default", "200"),
            ("/forward-auth?policy=api&org=other", "403 unknown_policy"),
            ("/forward-auth?policy=api&org=nobody", "403 unknown_policy"),
            ("/forward-auth?policy=api", "403 unknown_policy"),
            ("/forward-auth?org=default", "403 unknown_policy"),
            ("/forward-auth?policy=api&org=default&org=other", "403 unknown_policy"),
        ] {
            assert_eq!(told(&checked(send_to(private, "GET", target, &nginx).await, &nginx)), expected, "{target}");
        }
        let envoy = &nginx[..1];
        for (method, target, expected) in [
            ("GET", "/forward-auth/default/api/projects/alpha?org=other", "200"),
            ("PUT", "/forward-auth/default/api/projects/alpha", "403 insufficient_scope"),
            ("GET", "/forward-auth/other/api/projects/alpha", "403 unknown_policy"),
            ("GET", "/forward-auth/api/projects/alpha", "403 unknown_policy"),
            ("GET", "/forward-auth/default", "403 unknown_policy"),
        ] {
            assert_eq!(told(&checked(send_to(private, method, target, envoy).await, envoy)), expected, "{method} {target}");
        }
        for path in ["/oauth/token", "/oauth/introspect", "/v1/keys", "/v1/whoami", "/healthz", "/.well-known/jwks.json", "/", "/forward-authx"] {
            assert_eq!(send_to(private, "GET", path, envoy).await.status, 404, "{path}");
        }
        good(&server, "POST", "/v1/organizations/other/suspend", Value::Null).await;
        assert_eq!(told(&send_to(private, "GET", "/forward-auth?policy=api&org=other", &nginx).await), "403 unknown_policy");
    }

    async fn a_key_that_ends_is_no_gateway_any_more(server: Server) {
        let gateway: Key = guarded(&server).await;
        let token = reader(&server).await;
        let held = Held::get(ALPHA, &token);
        assert_eq!(told(&held.asked(&server, &gateway, "api").await), "200");
        server.revoke(&gateway.id).await;
        assert_eq!(told(&held.asked(&server, &gateway, "api").await), "403 unknown_gateway");
    }
}
