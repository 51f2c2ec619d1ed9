//! `tenmint serve` with a collector: who names it, over TLS, and what it tells when it stops.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Collector, serve};
use crate::cli::{Home, Serving, stderr};
use crate::tls::Authority;

impl Collector {
    /// One that shows a certificate of an authority.
    async fn secured(authority: &Authority) -> Self {
        let (certificate, key) = authority.certify();
        let chain = rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain.unwrap()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self::at(format!("https://{}/v1/traces", listener.local_addr().unwrap()));
        let router = collector.router.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(serve(stream, router.clone()));
                }
            }
        });
        collector
    }
}

/// A GET that the program answers.
async fn ask(serving: &Serving) {
    let request = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let address = serving.url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_of_requests_where_flag_environment_or_file_say_so_and_else_nowhere() {
    let mut collector = Collector::start().await;
    let home = Home::new();
    home.init("http://127.0.0.1");
    let endpoint = collector.endpoint.clone();
    let serve = |arguments: &[&str]| {
        home.command(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat())
    };
    let mut told = async |command| {
        let serving = Serving::of(command);
        ask(&serving).await;
        let log = serving.stop();
        (collector.spans().len(), log.contains(&endpoint))
    };
    assert_eq!(told(serve(&[])).await, (0, false));
    assert_eq!(told(serve(&["--observe-traces", &endpoint])).await, (1, true));
    let by_environment = |name: &str, value: &str| {
        let mut command = serve(&[]);
        command.env(name, value);
        command
    };
    assert_eq!(told(by_environment("TENMINT_OBSERVE_TRACES", &endpoint)).await, (1, true));
    let file = format!("[observe]\ntraces = '{endpoint}'\n");
    std::fs::write(home.path().join("tenmint.toml"), file).unwrap();
    assert_eq!(told(serve(&[])).await, (1, true));
    assert_eq!(told(by_environment("TENMINT_OBSERVE_TRACES_RATIO", "0")).await, (0, true));
    assert_eq!(told(by_environment("TENMINT_OBSERVE_TRACES", "")).await, (0, false));

    for (flag, value, said) in [
        ("--observe-traces", "127.0.0.1:4318", "`observe.traces`: write the URL"),
        ("--observe-traces-ratio", "10%", "`observe.traces_ratio`: write a number"),
    ] {
        let refused = serve(&[flag, value]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_over_tls_is_told_where_its_authority_is_trusted() {
    let authority = Authority::new();
    let mut collector = Collector::secured(&authority).await;
    let home = Home::new();
    home.init("http://127.0.0.1");
    let endpoint = collector.endpoint.clone();
    for (trusted, count) in [(&authority, 1), (&Authority::new(), 0)] {
        let roots = home.path().join("roots.pem");
        std::fs::write(&roots, trusted.pem()).unwrap();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--observe-traces", &endpoint];
        let mut command = home.command(&arguments);
        command.env("SSL_CERT_FILE", &roots);
        let serving = Serving::of(command);
        ask(&serving).await;
        let log = serving.stop();
        assert_eq!(collector.spans().len(), count, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_once_that_a_collector_is_gone_and_the_node_serves_on() {
    let home = Home::new();
    home.init("http://127.0.0.1");
    let gone = format!("http://{}/v1/traces?key=hush", crate::cli::free_address());
    let arguments = ["--listen", "127.0.0.1:0", "--observe-traces", &gone];
    let mut serving = Serving::start(&home, &arguments);
    ask(&serving).await;
    let complaint = "the collector of traces does not take all spans";
    serving.read_until(complaint);
    ask(&serving).await;
    let log = serving.stop();
    assert_eq!(log.matches(complaint).count(), 1, "{log}");
    assert!(log.contains("has not taken the last spans"), "{log}");
    assert!(log.contains("/v1/traces") && !log.contains("hush"), "{log}");
}
