//! A certificate that is replaced while the node serves.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Secured, connect, exchange};

/// The certificate that a new connection is shown.
async fn shown(secured: &Secured, client: &Arc<ClientConfig>) -> Vec<u8> {
    let stream = connect(client, secured.server.address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_go_on() {
    let secured = Secured::start().await;
    let client = secured.client();
    let mut old = connect(&client, secured.server.address).await.unwrap();
    let before = shown(&secured, &client).await;

    secured.authority.write_to(secured.files.certificate.parent().unwrap());
    secured.tls.look();
    assert_eq!(shown(&secured, &client).await, before, "it may be half written");
    secured.tls.look();
    let after = shown(&secured, &client).await;
    assert_ne!(after, before, "a session of before is not resumed");
    secured.tls.look();
    assert_eq!(shown(&secured, &client).await, after);

    let request = secured.server.request("GET", "/healthz", &[], b"");
    assert_eq!(exchange(&mut old, &request).await.status, 200);
}

#[tokio::test]
async fn a_pair_that_is_broken_or_does_not_match_leaves_the_old_one_in_use() {
    let secured = Secured::start().await;
    let client = secured.client();
    let before = shown(&secured, &client).await;
    let good = std::fs::read(&secured.files.certificate).unwrap();
    let (other, _) = secured.authority.certify();
    for certificate in ["", "nonsense", &other] {
        std::fs::write(&secured.files.certificate, certificate).unwrap();
        secured.tls.look();
        secured.tls.look();
        secured.tls.read_anew();
        assert_eq!(shown(&secured, &client).await, before);
    }
    std::fs::remove_file(&secured.files.private_key).unwrap();
    std::fs::write(&secured.files.certificate, good).unwrap();
    secured.tls.read_anew();
    assert_eq!(shown(&secured, &client).await, before);

    secured.authority.write_to(secured.files.certificate.parent().unwrap());
    secured.tls.read_anew();
    assert_ne!(shown(&secured, &client).await, before);
}

#[tokio::test]
async fn a_request_that_has_begun_is_answered_over_a_renewal() {
    let secured = Secured::start().await;
    let mut stream = connect(&secured.client(), secured.server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    stream.flush().await.unwrap();
    secured.authority.write_to(secured.files.certificate.parent().unwrap());
    secured.tls.read_anew();
    stream.write_all(b"Connection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
