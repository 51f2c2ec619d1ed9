//! A plain listener under an `https` issuer: a proxy in front of it has to say that a request came
//! over TLS. A real nginx does with the settings of the documentation.

use std::path::Path;
use std::sync::Arc;

use tenmint::http::client_ip::TrustedProxies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Authority, connect, exchange};
use crate::cli::free_address;
use crate::forward_auth::nginx::{Nginx, program};
use crate::server::{Engine, Server, Setup, basic};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A server under an `https` issuer that believes a proxy on this machine.
async fn behind_a_proxy(header: &str) -> Server {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.installation.issuer = String::from("https://auth.example.com");
    setup.trusted_proxies = TrustedProxies::parse(&["127.0.0.1".to_owned()], header).unwrap();
    setup.start().await.unwrap()
}

#[tokio::test]
async fn a_request_that_a_proxy_took_over_plain_http_gets_no_token_and_no_page() {
    for (header, plain, secure) in [
        (
            "x-forwarded-for",
            &[("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "http")][..],
            &[("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "https")][..],
        ),
        (
            "forwarded",
            &[("Forwarded", "for=192.0.2.9;proto=http")],
            &[("Forwarded", "for=192.0.2.9;proto=https")],
        ),
    ] {
        let server = behind_a_proxy(header).await;
        let credential = basic("", &server.administrator.text);
        let with = |lines: &[(&'static str, &'static str)]| {
            [&[("Authorization", credential.as_str())], lines].concat()
        };
        let refused = server.post("", &with(plain)).await;
        assert_eq!(refused.outcome(), "400 invalid_request");
        assert!(refused.description().contains("https"), "{}", refused.description());
        assert_eq!(server.post("", &with(secure)).await.status, 200);
        // asked on this machine, by nobody's proxy
        assert_eq!(server.post("", &with(&[])).await.status, 200);

        let bearer = format!("Bearer {}", server.administrator.text);
        let page = |lines: &[(&'static str, &'static str)]| {
            let all = [&[("Authorization", bearer.as_str())], lines].concat();
            String::from_utf8(server.request("GET", "/v1/whoami", &all, b"")).unwrap()
        };
        let refused = server.send_bytes(page(plain).as_bytes()).await;
        assert_eq!((refused.status, &refused.json()["code"]), (403, &"https_required".into()));
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert!(refused.header("x-request-id").is_some());
        assert_eq!(server.send_bytes(page(secure).as_bytes()).await.status, 200);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(server.send("GET", path, plain, b"").await.status, 200);
        }
    }
}

#[tokio::test]
async fn over_tls_and_under_an_http_issuer_nothing_has_to_be_said() {
    let plain = [("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "http")];
    let proxies = TrustedProxies::parse(&["127.0.0.1".to_owned()], "x-forwarded-for").unwrap();
    let mut setup = Setup::on(Engine::Sqlite);
    setup.trusted_proxies = proxies.clone();
    let server = setup.start().await.unwrap();
    let path = "/.well-known/jwks.json";
    assert_eq!(server.send("GET", path, &plain, b"").await.status, 200);

    let mut setup = Setup::on(Engine::Sqlite);
    setup.installation.issuer = String::from("https://auth.example.com");
    setup.trusted_proxies = proxies;
    let secured = super::Secured::of(setup).await;
    let request = secured.server.request("GET", path, &plain, b"");
    let mut stream = connect(&secured.client(), secured.server.address).await.unwrap();
    assert_eq!(exchange(&mut stream, &request).await.status, 200);
}

/// The sample of the documentation, for these addresses and this certificate.
fn sample(server: &Server, (secure, plain): (&str, &str)) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let page = std::fs::read_to_string(page).unwrap();
    let sample = page.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
    let mut text = sample.to_owned();
    for (ours, theirs) in [
        ("listen 443 ssl;", format!("listen {secure} ssl;")),
        ("listen 80;", format!("listen {plain};")),
        ("server 127.0.0.1:8080;", format!("server {};", server.address)),
        ("/etc/ssl/auth.example.com.pem", "server.pem".to_owned()),
        ("/etc/ssl/auth.example.com.key", "server.key".to_owned()),
    ] {
        assert_eq!(text.matches(ours).count(), 1, "the sample has one `{ours}`");
        text = text.replace(ours, &theirs);
    }
    format!("events {{}}\nhttp {{\n{text}}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_with_the_settings_of_the_documentation_ends_tls_for_a_node() {
    let Some(program) = program() else { return };
    let server = behind_a_proxy("x-forwarded-for").await;
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write_to(directory.path());
    let (secure, plain) = (free_address(), free_address());
    let text = sample(&server, (&secure, &plain));
    let _nginx = Nginx::run(&program, directory, secure.clone(), text).await;

    let credential = basic("", &server.administrator.text);
    // a caller who claims something is overruled
    let claims = [("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "10.9.9.9")];
    let headers = [&[("Authorization", credential.as_str()), FORM], &claims[..]].concat();
    let request =
        server.request("POST", "/oauth/token", &headers, b"grant_type=client_credentials");
    let client = Arc::new(authority.client(rustls::DEFAULT_VERSIONS));
    let mut stream = connect(&client, secure.parse().unwrap()).await.unwrap();
    let answer = exchange(&mut stream, &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    // what comes in the clear gets as far as nginx
    let mut stream = TcpStream::connect(&plain).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}
