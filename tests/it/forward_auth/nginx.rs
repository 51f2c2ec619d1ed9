//! A real nginx with the sample of the documentation, between a caller, tenmint and an API.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenmint::http::listener::{self, Face, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep, timeout};

use crate::api::{good, key};
use crate::cli::free_address;
use crate::forward_auth::{guarded, told};
use crate::server::{Answer, Server, on_both_engines};

const ALPHA: &str = "/projects/alpha";
/// What does not come about within this is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program; `None` where there is none to test with.
pub fn program() -> Option<String> {
    let program = std::env::var("TENMINT_TEST_NGINX").ok();
    assert!(program.is_some() || std::env::var("CI").is_err(), "no nginx: set TENMINT_TEST_NGINX");
    program
}

/// nginx in a directory of its own, stopped at the end.
pub struct Nginx {
    child: Child,
    address: String,
    directory: TempDir,
}

impl Nginx {
    /// With the sample, between tenmint and an API.
    async fn start(program: &str, server: &Server, gateway: &str, api: SocketAddr) -> Self {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gateways/nginx.conf");
        let mut text = std::fs::read_to_string(sample).unwrap();
        let address = free_address();
        let (tenmint, api) = (server.address.to_string(), api.to_string());
        for (ours, theirs) in [
            ("listen 127.0.0.1:8000;", format!("listen {address};")),
            ("server 127.0.0.1:8080;", format!("server {tenmint};")),
            ("server 127.0.0.1:9000;", format!("server {api};")),
            ("tm_KEY_OF_THE_GATEWAY", gateway.to_owned()),
        ] {
            assert_eq!(text.matches(ours).count(), 1, "the sample has one `{ours}`");
            text = text.replace(ours, &theirs);
        }
        Self::run(program, tempfile::tempdir().unwrap(), address, text).await
    }

    /// With these settings, at this address among others.
    pub async fn run(program: &str, directory: TempDir, address: String, text: String) -> Self {
        // what a packaged nginx has elsewhere
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};\n"));
        let http = format!("http {{\naccess_log off;\n{}", places.concat());
        let text = text.replacen("http {\n", &http, 1);
        let alone = "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\n";
        std::fs::write(directory.path().join("nginx.conf"), format!("{alone}{text}")).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(directory.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut nginx = Self { child, address, directory };
        let up = timeout(PATIENCE, async {
            while TcpStream::connect(&nginx.address).await.is_err() {
                assert!(
                    nginx.child.try_wait().unwrap().is_none(),
                    "nginx stopped: {}",
                    nginx.log()
                );
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(up.await.is_ok(), "nginx does not start");
        nginx
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("error.log")).unwrap_or_default()
    }

    /// The answer to a request with a body.
    async fn send(
        &self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}{length}\r\n{body}"
        );
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        Answer::parse(&String::from_utf8_lossy(&answer))
    }

    async fn bearer(&self, request: (&str, &str), text: &str) -> Answer {
        self.send(request, &[("Authorization", &format!("Bearer {text}"))], "").await
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An API that tells what reaches it.
async fn api() -> SocketAddr {
    async fn tell(request: Request<Body>) -> String {
        let (parts, body) = request.into_parts();
        let headers = parts.headers.iter();
        let headers: Vec<(&str, &str)> =
            headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        json!({"method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers, "body": body}).to_string()
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(tell);
    let face = Face::plain(router, Limits::default());
    tokio::spawn(listener::serve(listener, face, std::future::pending()));
    address
}

/// The values of a header that reached the API.
fn reached(answer: &Answer, name: &str) -> Vec<String> {
    let (_, body) = answer
        .body
        .split_once('{')
        .unwrap_or_else(|| panic!("the API was not reached: {answer:?}"));
    let body = format!("{{{}", &body[..=body.rfind('}').unwrap()]);
    let told: Value = serde_json::from_str(&body).unwrap();
    if name == "target" || name == "body" || name == "method" {
        return vec![told[name].as_str().unwrap().to_owned()];
    }
    let headers = told["headers"].as_array().unwrap().iter();
    headers
        .filter(|header| header[0] == name)
        .map(|header| header[1].as_str().unwrap().to_owned())
        .collect()
}

/// An nginx with the sample before an API; `None` where there is no nginx to test with.
async fn in_front_of(server: &Server) -> Option<Nginx> {
    let program = program()?;
    let gateway = guarded(server).await;
    Some(Nginx::start(&program, server, &gateway.text, api().await).await)
}

on_both_engines! {
    async fn nginx_lets_through_who_may_and_tells_the_api_who_it_is(server: Server) {
        let Some(nginx) = in_front_of(&server).await else { return };
        let key = server.api_key("read:projects/* write:projects/alpha").await;
        let token = server.token(&key, "").await.token();
        let spoofed = [
            ("Authorization", &*format!("Bearer {token}")),
            ("Tenmint-Client-Id", "key_of_somebody"), ("Tenmint-Subject", "usr_root"), ("tenmint-organization", "org_x"),
            ("Tenmint-Space", "spc_x"), ("Tenmint-Scope", "*:*"), ("Tenmint-Raw-Key", "allow"), ("Tenmint_Space", "spc_x"),
            ("Tenmint-Gateway-Key", "tm_x"), ("X-Original-URI", "/open"), ("X-Original-Method", "OPTIONS"),
            ("X-Forwarded-Uri", "/open"), ("X-Forwarded-Method", "OPTIONS"), ("X-Forwarded-For", "192.0.2.1"),
        ];
        let answer = nginx.send(("GET", "/projects/alpha?page=2&x=%2f..//"), &spoofed, "").await;
        assert_eq!(answer.status, 200, "{answer:?} {}", nginx.log());
        assert_eq!(reached(&answer, "target"), ["/projects/alpha?page=2&x=%2f..//"]);
        let claims = server.token(&key, "").await.claims();
        for (name, claim) in [("tenmint-client-id", "client_id"), ("tenmint-subject", "sub"), ("tenmint-organization", "org"), ("tenmint-scope", "scope"), ("tenmint-audience", "aud")] {
            assert_eq!(reached(&answer, name), [claims[claim].as_str().unwrap()], "{name}");
        }
        assert_eq!(reached(&answer, "tenmint-token-id").len(), 1);
        for name in ["tenmint-space", "tenmint_space", "tenmint-raw-key", "authorization"] {
            assert_eq!(reached(&answer, name), [""; 0], "{name}");
        }
        let most: Vec<String> = (0..64).map(|n| format!("read:projects/{n:02}-{}", "x".repeat(45))).collect();
        let most = server.api_key(&most.join(" ")).await;
        let path = format!("/projects/07-{}", "x".repeat(45));
        let large = nginx.bearer(("GET", &path), &server.token(&most, "").await.token()).await;
        assert!(large.status == 200 && reached(&large, "tenmint-scope")[0].len() > 3_900, "{large:?} {}", nginx.log());
        let body = "x".repeat(100_000);
        let posted = nginx.send(("POST", ALPHA), &spoofed[..1], &body).await;
        assert_eq!((posted.status, reached(&posted, "body")), (200, vec![body]), "{}", nginx.log());
        assert_eq!(nginx.bearer(("GET", "/projects/a%20b"), &token).await.status, 200);
    }

    async fn nginx_refuses_whom_tenmint_refuses_and_says_why(server: Server) {
        let Some(nginx) = in_front_of(&server).await else { return };
        let token = server.token(&server.api_key("read:projects/*").await, "").await.token();
        let nobody = nginx.send(("GET", ALPHA), &[], "").await;
        assert_eq!((told(&nobody).as_str(), nobody.header("www-authenticate")), ("401 no_token", Some("Bearer realm=\"api\"")));
        let wrong = nginx.bearer(("GET", ALPHA), "a.b.c").await;
        assert!(told(&wrong) == "401 invalid_token" && wrong.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{wrong:?}");
        for (method, path, expected) in [
            ("PUT", ALPHA, "403 insufficient_scope"),
            ("GET", "//projects/alpha", "403 path_not_canonical"),
            ("GET", "/projects/alpha/", "403 path_not_canonical"),
            ("GET", "/projects/../projects/alpha", "403 path_not_canonical"),
            ("GET", "/projects/%2e%2e/alpha", "403 path_not_canonical"),
            ("GET", "/x%2F..%2Fprojects/alpha", "403 path_not_canonical"),
            ("GET", "/projects/%61lpha", "403 path_not_canonical"),
            ("GET", "/", "403 no_rule"),
        ] {
            assert_eq!(told(&nginx.bearer((method, path), &token).await), expected, "{method} {path}");
        }
        let twice = format!("Bearer {token}");
        let twice = [("Authorization", twice.as_str()), ("Authorization", twice.as_str())];
        assert!(matches!(nginx.send(("GET", ALPHA), &twice, "").await.status, 400 | 401));
        assert_eq!(nginx.bearer(("GET", "/_tenmint"), &token).await.status, 404, "nobody asks by itself");
    }

    async fn nginx_tells_where_a_caller_is_and_no_caller_does(server: Server) {
        let Some(nginx) = in_front_of(&server).await else { return };
        for (allow, expected) in [("127.0.0.1", "200"), ("192.0.2.1", "401 wrong_address")] {
            let key = key(&server, json!({"scopes": ["read:projects/*"], "allow": [allow]})).await;
            let bearer = format!("Bearer {}", key.text);
            let headers = [("Authorization", bearer.as_str()), ("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.1")];
            let answer = nginx.send(("GET", ALPHA), &headers, "").await;
            assert_eq!(told(&answer), expected, "{allow}: {answer:?}");
        }
    }

    async fn nginx_leads_callers_from_raw_keys_to_tokens(server: Server) {
        let Some(nginx) = in_front_of(&server).await else { return };
        let key = server.api_key("read:projects/*").await;
        let allowed = nginx.bearer(("GET", ALPHA), &key.text).await;
        assert_eq!((allowed.status, allowed.header("deprecation"), reached(&allowed, "tenmint-raw-key")), (200, None, vec!["allow".to_owned()]));
        for (mode, expected) in [("warn", "200"), ("deny", "401 token_required")] {
            let raw_keys = json!({"rules": [{"scope": "*:*", "mode": mode}], "link": "https://example.com/tokens"});
            good(&server, "PATCH", "/v1/audiences/default", json!({"raw_keys": raw_keys})).await;
            let answer = nginx.bearer(("GET", ALPHA), &key.text).await;
            assert_eq!((told(&answer).as_str(), answer.header("deprecation")), (expected, Some("@1800000000")), "{answer:?}");
            assert_eq!(answer.header("link"), Some("<https://example.com/tokens>; rel=\"deprecation\""));
        }
    }

    async fn without_tenmint_nginx_lets_nobody_through(server: Server) {
        let mut server = server;
        let Some(nginx) = in_front_of(&server).await else { return };
        let token = server.token(&server.api_key("read:projects/*").await, "").await.token();
        assert_eq!(nginx.bearer(("GET", ALPHA), &token).await.status, 200);
        server.stop().await;
        assert_eq!(nginx.bearer(("GET", ALPHA), &token).await.status, 500);
    }
}
