//! A private key that was made elsewhere.

use std::process::Command;

use serde_json::json;
use tenmint::error::Error;

use super::{DAY, header, kid, kids, pass, rotate, served, signed_by, withdraw};
use crate::server::on_both_engines;

/// What `openssl` writes.
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn made(algorithm: &str, option: &str) -> Vec<u8> {
    let mut arguments = vec!["genpkey", "-algorithm", algorithm];
    if !option.is_empty() {
        arguments.extend(["-pkeyopt", option]);
    }
    openssl(&arguments)
}

pub fn p256() -> Vec<u8> {
    made("EC", "ec_paramgen_curve:P-256")
}

on_both_engines! {
    async fn a_key_of_each_algorithm_that_openssl_makes_becomes_the_standby_and_signs(server: Server) {
        let keys = [
            (p256(), "ES256"),
            (made("ED25519", ""), "EdDSA"),
            (made("RSA", "rsa_keygen_bits:2048"), "RS256"),
        ];
        for (turn, (pem, algorithm)) in keys.iter().enumerate() {
            let old = kid(&server, "published").await;
            let name = format!("brought-{turn}");
            let imported = server.service.import_signing_key(pem, Some(&name)).await.unwrap().after;
            assert_eq!((imported.kid.as_str(), imported.algorithm), (name.as_str(), *algorithm));
            assert_eq!(kid(&server, "published").await, name);
            assert!(kids(&server, "retired").await.contains(&old), "one standby is enough");
            pass(&server, DAY).await;
            rotate(&server).await;
            let answer = server.token(&server.administrator, "").await;
            assert_eq!((signed_by(&answer), header(&answer.token())["alg"].clone()), (name.clone(), json!(algorithm)));
            assert_eq!(served(&server).await.first(), Some(&name));
        }
    }

    async fn a_text_that_is_no_private_key_of_ours_is_refused_and_not_shown(server: Server) {
        let sec1 = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
        let bad: [(&str, Vec<u8>); 7] = [
            ("empty", Vec::new()),
            ("no PEM", b"hunter2".to_vec()),
            ("SEC1", sec1),
            ("another curve", made("EC", "ec_paramgen_curve:P-384")),
            ("a short RSA key", made("RSA", "rsa_keygen_bits:1024")),
            ("an X25519 key", made("X25519", "")),
            ("cut", p256()[..120].to_vec()),
        ];
        for (what, pem) in bad {
            let refused = server.service.import_signing_key(&pem, None).await;
            let Err(Error::Invalid(fields)) = refused else { panic!("{what}: {refused:?}") };
            assert_eq!(&*fields[0].field, "private_key", "{what}");
            assert!(!fields[0].message.contains("hunter2"), "{fields:?}");
        }
        assert_eq!(kids(&server, "retired").await.len(), 0);
    }

    async fn a_key_or_a_kid_that_was_here_before_does_not_come_back(server: Server) {
        let pem = p256();
        let import = async |pem: &[u8], kid: &str| {
            let imported = server.service.import_signing_key(pem, Some(kid)).await;
            imported.map(|changed| changed.after.kid).map_err(|cause| cause.to_string())
        };
        assert_eq!(import(&pem, "first").await, Ok("first".to_owned()));
        withdraw(&server, "first").await;
        let known = Err("the signing key first is withdrawn here".to_owned());
        assert_eq!(import(&pem, "second").await, known, "under another name");
        assert_eq!(import(&p256(), "first").await, known, "another key under its name");
        for kid in ["", "a b", "a\"b", "é", &"x".repeat(129)] {
            assert!(import(&p256(), kid).await.is_err(), "{kid}");
        }
    }
}
