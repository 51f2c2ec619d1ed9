//! Who gets through a handshake, and who does not.

use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tenmint::http::tls::{Tls, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Authority, PATIENCE, Secured, connect, exchange};
use crate::server::{Engine, Setup, basic};

/// The start of a `ClientHello` that goes on for 512 bytes.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test]
async fn a_client_that_checks_the_certificate_fetches_a_token_by_tls_1_2_and_1_3() {
    let secured = Secured::start().await;
    let key = secured.server.api_key("chat").await;
    let credential = basic(&key.id.to_string(), &key.text);
    let headers = [
        ("Authorization", credential.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let form = b"grant_type=client_credentials";
    let request = secured.server.request("POST", "/oauth/token", &headers, form);
    for version in [&TLS12, &TLS13] {
        for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
            let mut client = secured.authority.client(&[version]);
            client.alpn_protocols.clone_from(&protocols);
            let mut stream = connect(&Arc::new(client), secured.server.address).await.unwrap();
            let answer = exchange(&mut stream, &request).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json()["scope"], "chat");
            let (_, session) = stream.get_ref();
            assert_eq!(session.protocol_version(), Some(version.version));
            let chosen = session.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(chosen, protocols.first().cloned());
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_larger_than_every_buffer_arrives_whole() {
    let secured = Secured::start().await;
    let request = secured.server.request("GET", "/v1/openapi.json", &[], b"");
    let mut stream = connect(&secured.client(), secured.server.address).await.unwrap();
    let answer = exchange(&mut stream, &request).await;
    assert!(answer.body.len() > 100_000);
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn a_client_that_trusts_somebody_else_speaks_to_nobody() {
    let secured = Secured::start().await;
    let stranger = Arc::new(Authority::new().client(rustls::DEFAULT_VERSIONS));
    let refused = connect(&stranger, secured.server.address).await.unwrap_err();
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let secured = Secured::start().await;
    let request = secured.server.request("GET", "/healthz", &[], b"");
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(secured.authority.client(&[version]));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = connect(&client, secured.server.address).await.unwrap();
            assert_eq!(exchange(&mut stream, &request).await.status, 200);
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    }
}

#[tokio::test]
async fn a_client_without_a_common_protocol_is_told_so() {
    let secured = Secured::start().await;
    let mut client = secured.authority.client(rustls::DEFAULT_VERSIONS);
    client.alpn_protocols = vec![b"h2".to_vec()];
    let refused = connect(&Arc::new(client), secured.server.address).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");

    // TLS 1.1 with one suite and no extensions
    let mut hello = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x02".to_vec();
    hello.extend([7; 32]);
    hello.extend(b"\x00\x00\x02\xc0\x13\x01\x00");
    let answer = secured.server.exchange(&hello).await;
    assert!(answer.starts_with("\x15\x03\x03\0\x02\x02"), "a fatal alert: {answer:?}");
}

#[tokio::test]
async fn plain_http_at_a_tls_port_ends_at_once_and_gets_no_answer_in_http() {
    let secured = Secured::start().await;
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\r\n\r\n\r\n",
    ] {
        let answer = secured.server.exchange(request.as_bytes()).await;
        assert!(!answer.contains("HTTP"), "{request:?}: {answer}");
    }
    let stream = connect(&secured.client(), secured.server.address).await;
    assert!(stream.is_ok(), "the others are served");
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut() {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.head = Duration::from_millis(500);
    setup.limits.idle = Duration::from_millis(500);
    let secured = Secured::of(setup).await;
    for start in [b"".as_slice(), b"\x16", HALF_A_HELLO] {
        let mut stream = TcpStream::connect(secured.server.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{start:?} holds its connection");
    }
    // and behind a handshake a head has the same time
    for start in ["", "GET /healthz HTTP/1.1\r\n"] {
        let mut stream = connect(&secured.client(), secured.server.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{start:?} holds its connection");
    }
}

#[tokio::test]
async fn bytes_that_trickle_in_do_not_prolong_a_handshake() {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.head = Duration::from_millis(500);
    let secured = Secured::of(setup).await;
    let mut stream = TcpStream::connect(secured.server.address).await.unwrap();
    stream.write_all(HALF_A_HELLO).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let trickle = async {
        // each read is given up soon and followed by one more byte
        while timeout(Duration::from_millis(100), reading.read(&mut [0])).await.is_err() {
            if writing.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    assert!(timeout(PATIENCE, trickle).await.is_ok(), "the handshake goes on for ever");
}

#[tokio::test]
async fn a_stop_waits_for_a_request_over_tls_and_for_no_handshake() {
    let mut setup = Setup::on(Engine::Sqlite);
    // nothing but the two below decides when it has stopped
    setup.limits.drain = Duration::from_hours(1);
    let mut secured = Secured::of(setup).await;
    let mut half = TcpStream::connect(secured.server.address).await.unwrap();
    half.write_all(HALF_A_HELLO).await.unwrap();
    let body = "grant_type=client_credentials";
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nAuthorization: {}\r\n\r\n",
        body.len(),
        basic("", &secured.server.administrator.text)
    );
    let mut stream = connect(&secured.client(), secured.server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // the interim answer proves that the request is being served
    let mut first = [0; 25];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    let address = secured.server.address;
    let stopping = tokio::spawn(async move { secured.server.stop().await });
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(exchange(&mut stream, body.as_bytes()).await.status, 200);
    stopping.await.unwrap();
}

#[test]
fn a_pair_of_files_is_taken_in_each_form_and_refused_with_what_to_do() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.certify();
    let (_, other_key) = authority.certify();
    let files = TlsFiles {
        certificate: directory.path().join("chain.pem"),
        private_key: directory.path().join("secret.key"),
    };
    let loaded = |chain: &str, key: &str| {
        std::fs::write(&files.certificate, chain).unwrap();
        std::fs::write(&files.private_key, key).unwrap();
        Tls::load(files.clone()).map(drop).map_err(|cause| cause.to_string())
    };
    let pkcs8 = key.serialize_pem();
    let chain = format!("# the server\n{certificate}# the authority\n{}", authority.pem());
    assert_eq!(loaded(&chain, &pkcs8), Ok(()));
    assert_eq!(loaded(&chain, &sec1(&key.serialize_der())), Ok(()));
    assert_eq!(loaded(&chain, &format!("{certificate}{pkcs8}")), Ok(()));
    let encrypted = pkcs8.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (chain, key, fault) in [
        ("", pkcs8.as_str(), "chain.pem` holds no certificate in PEM"),
        (&pkcs8, &pkcs8, "chain.pem` holds no certificate in PEM"),
        (&certificate[..200], &pkcs8, "chain.pem` holds no certificate in PEM"),
        (&chain, "", "secret.key` holds no private key in PEM"),
        (&chain, &chain, "secret.key` holds no private key in PEM"),
        (&chain, &encrypted, "not encrypted"),
        (&chain, &pkcs8[..100], "secret.key` holds no private key in PEM"),
        (
            &chain,
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
            "is none that",
        ),
        (&chain, &other_key.serialize_pem(), "is not the one of the first certificate"),
        (&authority.pem(), &pkcs8, "is not the one of the first certificate"),
    ] {
        let found = loaded(chain, key).unwrap_err();
        assert!(found.contains(fault), "{fault}: {found}");
        let told = key.lines().any(|line| line.len() > 20 && found.contains(line));
        assert!(!told, "the key is told: {found}");
    }
    std::fs::remove_file(&files.private_key).unwrap();
    let missing = Tls::load(files.clone()).unwrap_err().to_string();
    assert!(missing.contains("secret.key` cannot be read: No such file"), "{missing}");
}

/// The key of a PKCS#8 document of P-256 as RFC 5915 writes it, which is its last part.
fn sec1(pkcs8: &[u8]) -> String {
    use base64::Engine as _;
    let start = pkcs8.windows(2).position(|pair| pair == b"\x30\x6b").unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(&pkcs8[start..]);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n", lines.join("\n"))
}
