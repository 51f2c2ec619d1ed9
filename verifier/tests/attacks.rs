//! Attacks on a verifier of JWTs, each one that has worked on some verifier before.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{
    AUDIENCE, Forge, ISSUER, NOW, ORG, claims, encode, header, join, refused, verifier_of, with,
};
use ring::hmac;
use serde_json::{Value, json};
use tenmint_verifier::{
    Action, Algorithm, InvalidToken, JwkSet, Resource, ResourceFilter, Verifier, VerifyError,
};

#[test]
fn a_good_token_is_good() {
    let forge = Forge::new();
    let token = forge.try_header(header()).unwrap();
    assert_eq!((token.claims().iss.as_str(), token.claims().exp), (ISSUER, NOW + 600));
    let ed25519 = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": "ed"});
    assert!(forge.verifier().verify_held(&forge.sign_ed25519(ed25519, claims())).is_ok());
}

#[test]
fn an_unsigned_token_is_refused_in_every_spelling() {
    let forge = Forge::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "null"] {
        let unsigned = join(&with(header(), "alg", json!(alg)).to_string(), &claims().to_string());
        for token in [format!("{unsigned}."), format!("{unsigned}.AA"), unsigned] {
            assert!(forge.verifier().verify_held(&token).is_err(), "{token}");
        }
    }
}

#[test]
fn the_public_key_is_no_secret_for_hmac() {
    let forge = Forge::new();
    let spki_head = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let spki = [spki_head.as_slice(), forge.point()].concat();
    let pem = |end: &str| {
        let text = STANDARD.encode(&spki);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----{end}").into_bytes()
    };
    let secrets: [Vec<u8>; 8] = [
        Vec::new(),
        forge.point().to_vec(),
        forge.point()[1..].to_vec(),
        forge.point()[1..33].to_vec(),
        spki.clone(),
        pem("\n"),
        pem(""),
        forge.es256_jwk().to_string().into_bytes(),
    ];
    for secret in secrets {
        for alg in ["HS256", "hs256", "ES256"] {
            let header = with(header(), "alg", json!(alg)).to_string();
            let signed = join(&header, &claims().to_string());
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
            let token = format!("{signed}.{}", encode(tag));
            assert!(forge.verifier().verify_held(&token).is_err(), "{alg} {secret:?}");
        }
    }
}

#[test]
fn the_key_says_its_algorithm_and_the_token_does_not() {
    let forge = Forge::new();
    for (alg, kid) in [("EdDSA", "es"), ("RS256", "es"), ("ES384", "es"), ("ES256", "ed")] {
        let header = json!({"typ": "at+jwt", "alg": alg, "kid": kid});
        assert_eq!(forge.try_header(header), refused(InvalidToken::WrongAlgorithm), "{alg} {kid}");
    }
    let narrow = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .algorithms([Algorithm::Rs256])
        .clock(|| NOW)
        .with_keys(JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap())
        .unwrap();
    let token = forge.sign(header(), claims());
    assert_eq!(narrow.verify_held(&token), refused(InvalidToken::WrongAlgorithm));
}

#[test]
fn a_key_on_another_curve_is_no_key() {
    let forge = Forge::new();
    for crv in ["P-384", "secp256k1", "p-256", "Ed25519", ""] {
        let jwk = with(forge.es256_jwk(), "crv", json!(crv));
        assert_eq!(skipped(&jwk), 1, "{crv}");
    }
    // a point that is not on the curve
    let jwk = with(forge.es256_jwk(), "y", json!(encode([7; 32])));
    let verifier = verifier_of(&json!({"keys": [jwk]}));
    let token = forge.sign(header(), claims());
    assert_eq!(verifier.verify_held(&token), refused(InvalidToken::BadSignature));
}

#[test]
fn only_a_signature_of_two_full_numbers_counts() {
    let forge = Forge::new();
    let order = b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
    let good = forge.sign(header(), claims());
    let signed = good.rsplit_once('.').unwrap().0;
    let zero = [0; 32];
    let forgeries: [Vec<u8>; 7] = [
        Vec::new(),
        vec![0; 64],
        [zero.as_slice(), order].concat(),
        [order.as_slice(), order].concat(),
        vec![0xff; 64],
        vec![0; 63],
        vec![0; 65],
    ];
    for signature in forgeries {
        let token = format!("{signed}.{}", encode(signature));
        assert_eq!(forge.verifier().verify_held(&token), refused(InvalidToken::BadSignature));
    }
    let der = forge.sign_der(header(), claims());
    assert_eq!(forge.verifier().verify_held(&der), refused(InvalidToken::BadSignature));
}

#[test]
fn a_signature_does_not_carry_over_to_other_text() {
    let forge = Forge::new();
    let (a, b) = (forge.sign(header(), claims()), {
        let wide = with(claims(), "scope", json!("*:*"));
        forge.sign(header(), wide)
    });
    let (a, b): (Vec<_>, Vec<_>) = (a.split('.').collect(), b.split('.').collect());
    let spliced = [a[0], b[1], a[2]].join(".");
    assert_eq!(forge.verifier().verify_held(&spliced), refused(InvalidToken::BadSignature));
}

#[test]
fn each_token_has_one_spelling() {
    let forge = Forge::new();
    let good = forge.sign(header(), claims());
    let parts: Vec<&str> = good.split('.').collect();
    let mut spellings = vec![
        format!("{good}="),
        format!("{good}=="),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{}", parts[2]),
        good.replacen('.', "..", 1),
        good.replacen('.', "\u{2024}", 1),
        format!("{}%3D", good),
    ];
    // 64 bytes leave four unused bits in the last character: fifteen other ways to write them
    let (start, last) = good.split_at(good.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    spellings.extend((1..16).map(|bits| format!("{start}{}", &alphabet[at + bits..=at + bits])));
    for token in spellings {
        assert_eq!(
            forge.verifier().verify_held(&token),
            refused(InvalidToken::Malformed),
            "{token}"
        );
    }
    let standard = good.replace('-', "+").replace('_', "/");
    assert!(standard == good || forge.verifier().verify_held(&standard).is_err());
}

#[test]
fn a_header_that_asks_for_more_is_refused() {
    let forge = Forge::new();
    let evil = Forge::new();
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("b64", json!(false)),
        ("jwk", evil.es256_jwk()),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/chain.pem")),
        ("x5c", json!(["MIIB"])),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
    ] {
        let header = with(header(), name, value);
        assert_eq!(forge.try_header(&header), refused(InvalidToken::HeaderRefused), "{header}");
        let forged = evil.sign(&header, claims());
        assert!(forge.verifier().verify_held(&forged).is_err(), "{header}");
    }
}

#[test]
fn only_an_access_token_is_an_access_token() {
    let forge = Forge::new();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert!(forge.try_header(with(header(), "typ", json!(typ))).is_ok(), "{typ}");
    }
    for typ in ["JWT", "jwt", "", "at", "at+jwt ", "application/application/at+jwt", "dpop+jwt"] {
        let tried = forge.try_header(with(header(), "typ", json!(typ)));
        assert_eq!(tried, refused(InvalidToken::WrongType), "{typ}");
    }
    assert_eq!(forge.try_header(with(header(), "typ", None)), refused(InvalidToken::WrongType));
    for typ in [json!(null), json!(["at+jwt"]), json!(1)] {
        let tried = forge.try_header(with(header(), "typ", typ));
        assert_eq!(tried, refused(InvalidToken::Malformed));
    }
}

#[test]
fn plain_jwt_passes_where_the_api_says_so() {
    let forge = Forge::new();
    let keys = JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap();
    let lenient = Verifier::builder(ISSUER).audience(AUDIENCE).clock(|| NOW).accept_typ_jwt();
    let lenient = lenient.with_keys(keys).unwrap();
    let token = forge.sign(with(header(), "typ", json!("JWT")), claims());
    assert!(lenient.verify_held(&token).is_ok());
    let untyped = forge.sign(with(header(), "typ", None), claims());
    assert_eq!(lenient.verify_held(&untyped), refused(InvalidToken::WrongType));
}

#[test]
fn a_kid_is_a_name_and_nothing_else() {
    let forge = Forge::new();
    let kids =
        ["", "ES", "es ", "es\0", "../es", "/dev/null", "es' OR '1'='1", "e", "ess", "\u{455}s"];
    for kid in kids {
        let tried = forge.try_header(with(header(), "kid", json!(kid)));
        assert_eq!(tried, refused(InvalidToken::UnknownKey), "{kid}");
    }
    assert_eq!(forge.try_header(with(header(), "kid", None)), refused(InvalidToken::UnknownKey));
    for kid in [json!(null), json!(["es"]), json!({"es": 1}), json!(0)] {
        let tried = forge.try_header(with(header(), "kid", kid));
        assert_eq!(tried, refused(InvalidToken::Malformed));
    }
    let long = with(header(), "kid", json!("k".repeat(4000)));
    assert_eq!(forge.try_header(long), refused(InvalidToken::UnknownKey));
}

#[test]
fn a_member_that_comes_twice_is_refused() {
    let forge = Forge::new();
    for extra in [r#","alg":"ES256"}"#, r#","kid":"es"}"#, r#","x":1,"x":1}"#, r#","\u0061lg":""}"#]
    {
        let header = header().to_string().replace('}', extra);
        assert_eq!(forge.try_header(&header), refused(InvalidToken::Malformed), "{header}");
    }
    for name in ["iss", "sub", "aud", "scope", "org", "exp", "iat", "jti", "rev", "client_id"] {
        let same = claims()[name].to_string();
        let claims = claims().to_string().replace('}', &format!(r#","{name}":{same}}}"#));
        assert_eq!(forge.try_claims(&claims), refused(InvalidToken::BadClaims), "{claims}");
    }
    let escaped = claims().to_string().replace('}', r#","\u006frg":"org_1"}"#);
    assert_eq!(forge.try_claims(escaped), refused(InvalidToken::BadClaims));
}

#[test]
fn text_that_is_not_one_json_object_is_refused() {
    let forge = Forge::new();
    let good = claims().to_string();
    let texts = [
        String::new(),
        "{}{}".to_owned(),
        format!("{good} 1"),
        format!("\u{feff}{good}"),
        format!("[{good}]"),
        good.replace(':', "="),
        good.replace('}', ",}"),
        good.replace('"', "'"),
        format!("{good}//"),
        "null".to_owned(),
        "1".to_owned(),
        format!("{{\"a\":{}}}", "[".repeat(3000)),
        format!("{{\"a\":{}{}}}", "[".repeat(3000), "]".repeat(3000)),
    ];
    for text in &texts {
        assert!(forge.try_claims(text).is_err(), "{text}");
        assert!(forge.try_header(text).is_err(), "{text}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_refused() {
    let forge = Forge::new();
    let header = header().to_string().into_bytes();
    let claims = claims().to_string().into_bytes();
    let broken = |text: &[u8]| {
        let at = text.iter().rposition(|byte| *byte == b'"').unwrap();
        [&text[..at], b"\xff", &text[at..]].concat()
    };
    let verify = |header: &[u8], claims: &[u8]| {
        forge.verifier().verify_held(&forge.sign_bytes(header, claims))
    };
    assert!(verify(&header, &claims).is_ok());
    assert_eq!(verify(&broken(&header), &claims), refused(InvalidToken::Malformed));
    assert_eq!(verify(&header, &broken(&claims)), refused(InvalidToken::Malformed));
    // in a claim that nobody reads, too
    let unread = [&claims[..claims.len() - 1], b",\"x\":\"\xff\"}"].concat();
    assert_eq!(verify(&header, &unread), refused(InvalidToken::Malformed));
}

#[test]
fn every_claim_is_required() {
    let forge = Forge::new();
    for name in claims().as_object().unwrap().keys() {
        let tried = forge.try_claims(with(claims(), name, None));
        assert_eq!(tried, refused(InvalidToken::BadClaims), "{name}");
    }
}

#[test]
fn every_claim_has_one_type() {
    let forge = Forge::new();
    let odd = [json!(null), json!(true), json!(-1), json!(1.5), json!([]), json!({}), json!([1])];
    for name in claims().as_object().unwrap().keys() {
        let other = if claims()[name].is_string() { json!(1) } else { json!("1") };
        for value in odd.iter().cloned().chain([other, json!("")]) {
            let tried = forge.try_claims(with(claims(), name, value.clone()));
            assert!(tried.is_err(), "{name}: {value}");
        }
        if name != "aud" {
            let many = json!([claims()[name]]);
            assert!(forge.try_claims(with(claims(), name, many)).is_err(), "{name} in an array");
        }
    }
    for number in ["1e99", "1e400", "1800000600.0", "18446744073709551616", "-0", "0x7fffffff"] {
        let text = claims().to_string().replace(&(NOW + 600).to_string(), number);
        assert!(forge.try_claims(&text).is_err(), "{number}");
    }
    assert_eq!(
        forge.try_claims(with(claims(), "nbf", json!("0"))),
        refused(InvalidToken::BadClaims)
    );
}

#[test]
fn a_scope_claim_is_canonical() {
    let forge = Forge::new();
    for scope in ["", " ", "read", "read:*  chat", " chat", "read:/a", "READ:a", "read:a/../b"] {
        let tried = forge.try_claims(with(claims(), "scope", json!(scope)));
        assert_eq!(tried, refused(InvalidToken::BadClaims), "{scope}");
    }
}

#[test]
fn an_issuer_is_compared_byte_by_byte() {
    let forge = Forge::new();
    for iss in [
        "https://auth.example.com/",
        "https://AUTH.example.com",
        "http://auth.example.com",
        "https://auth.example.com.evil.test",
        "https://auth.example.com:443",
        "auth.example.com",
    ] {
        let tried = forge.try_claims(with(claims(), "iss", json!(iss)));
        assert_eq!(tried, refused(InvalidToken::WrongIssuer), "{iss}");
    }
}

#[test]
fn an_audience_is_compared_byte_by_byte() {
    let forge = Forge::new();
    for aud in [
        json!("https://api.example.com/"),
        json!("https://API.example.com"),
        json!("https://api.example.co"),
        json!("https://api.example.com https://other.example"),
        json!([]),
        json!(["https://other.example"]),
        json!(["https://api.example.com.evil.test", "*", ".*"]),
    ] {
        let tried = forge.try_claims(with(claims(), "aud", aud.clone()));
        assert_eq!(tried, refused(InvalidToken::WrongAudience), "{aud}");
    }
    let several = json!(["https://other.example", AUDIENCE]);
    assert!(forge.try_claims(with(claims(), "aud", several)).is_ok());
}

#[test]
fn a_token_holds_from_iat_to_exp_give_or_take_ten_seconds() {
    let forge = Forge::new();
    let at = |name: &str, moment: u64| forge.try_claims(with(claims(), name, json!(moment)));
    assert!(at("exp", NOW - 9).is_ok());
    assert_eq!(at("exp", NOW - 10), refused(InvalidToken::Expired));
    assert_eq!(at("exp", 0), refused(InvalidToken::Expired));
    assert!(at("iat", NOW + 10).is_ok());
    assert_eq!(at("iat", NOW + 11), refused(InvalidToken::NotYetValid));
    assert!(at("nbf", NOW + 10).is_ok());
    assert_eq!(at("nbf", NOW + 11), refused(InvalidToken::NotYetValid));
    assert_eq!(at("nbf", u64::MAX), refused(InvalidToken::NotYetValid));
    assert!(at("exp", u64::MAX).is_ok());
}

#[test]
fn the_leeway_can_be_none() {
    let forge = Forge::new();
    let exact = Verifier::builder(ISSUER).audience(AUDIENCE).clock(|| NOW);
    let exact = exact.leeway(std::time::Duration::ZERO);
    let keys = JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap();
    let exact = exact.with_keys(keys).unwrap();
    let expiring = |exp: u64| forge.sign(header(), with(claims(), "exp", json!(exp)));
    assert!(exact.verify_held(&expiring(NOW + 1)).is_ok());
    assert_eq!(exact.verify_held(&expiring(NOW)), refused(InvalidToken::Expired));
}

#[test]
fn a_large_token_is_refused_before_it_is_read() {
    let forge = Forge::new();
    let padded = |size: usize| {
        let claims = with(claims(), "pad", json!("x".repeat(size)));
        forge.sign(header(), claims)
    };
    assert!(forge.verifier().verify_held(&padded(5000)).is_ok());
    let large = padded(6000);
    assert!(large.len() > 8 * 1024);
    for text in [large, ".".repeat(1_000_000), "A".repeat(1_000_000), "{".repeat(1_000_000)] {
        assert_eq!(forge.verifier().verify_held(&text), refused(InvalidToken::TooLarge));
    }
}

#[test]
fn a_text_of_other_than_three_parts_is_refused() {
    let forge = Forge::new();
    let good = forge.sign(header(), claims());
    let parts: Vec<&str> = good.split('.').collect();
    let encrypted = [parts[0], "", parts[1], parts[2], parts[2]].join(".");
    for text in ["", ".", "..", "...", "a", "a.b", parts[0], &encrypted, &".".repeat(8000)] {
        assert_eq!(forge.verifier().verify_held(text), refused(InvalidToken::Malformed), "{text}");
    }
}

#[test]
fn every_cut_and_every_flipped_bit_breaks_a_token() {
    let forge = Forge::new();
    let good = forge.sign(header(), claims());
    let verifier = forge.verifier();
    for end in 0..good.len() {
        assert!(verifier.verify_held(&good[..end]).is_err(), "cut at {end}");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        let text = String::from_utf8(bytes).unwrap();
        assert!(verifier.verify_held(&text).is_err(), "flipped at {at}");
    }
}

#[test]
fn a_weak_or_foreign_key_is_skipped_and_the_others_serve() {
    let forge = Forge::new();
    let es = forge.es256_jwk();
    let rsa = json!({"kty": "RSA", "kid": "rsa", "n": SOUND_MODULUS, "e": "AQAB"});
    assert_eq!(skipped(&rsa), 0);
    let odd = [
        with(rsa.clone(), "n", json!(ROCA_MODULUS)),
        with(rsa.clone(), "e", json!("AQ")),
        with(rsa.clone(), "e", json!("Ag")),
        with(rsa.clone(), "e", json!("AAEAAQ")),
        with(rsa.clone(), "e", json!("")),
        with(rsa.clone(), "n", json!(&SOUND_MODULUS[..171])),
        with(rsa.clone(), "d", json!("AQAB")),
        with(rsa.clone(), "alg", json!("HS256")),
        with(rsa.clone(), "alg", json!("RSA-OAEP")),
        with(rsa, "use", json!("enc")),
        with(es.clone(), "key_ops", json!(["sign"])),
        with(es.clone(), "key_ops", json!("verify")),
        with(es.clone(), "alg", json!("ES384")),
        with(es.clone(), "kid", None),
        with(es.clone(), "kid", json!("")),
        with(es.clone(), "x", json!("AA")),
        with(es.clone(), "kty", json!("oct")),
        json!({"kty": "oct", "kid": "oct", "k": "AAAA"}),
        json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({}),
        json!("es"),
        json!(null),
    ];
    for jwk in &odd {
        assert_eq!(skipped(jwk), 1, "{jwk}");
        let verifier = verifier_of(&json!({"keys": [jwk, es]}));
        assert!(verifier.verify_held(&forge.sign(header(), claims())).is_ok(), "{jwk}");
    }
}

#[test]
fn of_two_keys_with_one_name_the_first_counts() {
    let (forge, evil) = (Forge::new(), Forge::new());
    let verifier = verifier_of(&json!({"keys": [forge.es256_jwk(), evil.es256_jwk()]}));
    assert!(verifier.verify_held(&forge.sign(header(), claims())).is_ok());
    let forged = evil.sign(header(), claims());
    assert_eq!(verifier.verify_held(&forged), refused(InvalidToken::BadSignature));
}

#[test]
fn a_document_that_is_no_set_is_no_set() {
    let many = json!({"keys": vec![json!({}); 101]}).to_string();
    let twice = r#"{"keys":[],"keys":[]}"#;
    for document in ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":null}"#, twice, &many] {
        assert!(JwkSet::parse(document.as_bytes()).is_err(), "{document}");
    }
}

#[test]
fn a_token_of_another_organization_reaches_nothing() {
    let forge = Forge::new();
    let all = forge.try_claims(with(claims(), "scope", json!("*:*"))).unwrap();
    let alpha = Resource::new(["projects", "alpha"]).unwrap();
    assert!(all.allows(ORG, &Action::Read, &alpha));
    for org in ["org_1111111111111111", "", "*", "ORG_0000000000000000", "org_000000000000000"] {
        assert!(!all.allows(org, &Action::Read, &alpha), "{org}");
        let answer = all.require(org, &Action::Read, &alpha).unwrap_err();
        assert!(matches!(answer, VerifyError::InsufficientScope(_)));
    }
}

#[test]
fn a_filter_is_no_prefix() {
    let forge = Forge::new();
    let token = forge.try_header(header()).unwrap();
    let reads = |segments: &[&str]| {
        Resource::new(segments).is_ok_and(|resource| token.allows(ORG, &Action::Read, &resource))
    };
    assert!(reads(&["projects", "alpha", "logs"]));
    let traps: [&[&str]; 12] = [
        &["projects", "alpha"],
        &["projects", "alphabet"],
        &["projects", "alphabet", "logs"],
        &["projects", "alph", "a", "logs"],
        &["projects", "alpha/logs"],
        &["projects/alpha", "logs"],
        &["projects", "alpha", "..", "beta"],
        &["projects", "alpha", ".", "logs"],
        &["projects", "alpha", "", "logs"],
        &["Projects", "alpha", "logs"],
        &["projects", "%61lpha", "logs"],
        &["projects", "alpha\0", "logs"],
    ];
    for trap in traps {
        assert!(!reads(trap), "{trap:?}");
    }
    // what a router has not decoded stays text, and climbs nowhere
    assert!(reads(&["projects", "alpha", "%2e%2e", "beta"]));
    let text = Resource::new(["projects", "alpha", "%2e%2e", "a//b"]).unwrap();
    assert_eq!(text.as_str(), "projects/alpha/%252e%252e/a%2F%2Fb");
}

#[test]
fn a_filter_that_is_not_canonical_does_not_exist() {
    for text in [
        "projects/../admin",
        "projects/.",
        "projects//alpha",
        "/projects",
        "projects/",
        "projects/%2e%2e/x",
        "projects/%2E%2E/x",
        "projects/%2f",
        "projects/alpha*",
        "projects/**",
        "projects/?/x",
        "projects\\alpha",
        "projects/\u{ff0e}\u{ff0e}",
        "projects/%",
        "projects/%zz",
    ] {
        assert!(text.parse::<ResourceFilter>().is_err(), "{text}");
    }
}

#[test]
fn a_token_that_was_good_is_refused_once_it_has_expired() {
    static SECONDS: AtomicU64 = AtomicU64::new(NOW);
    let forge = Forge::new();
    let verifier = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .clock(|| SECONDS.load(Ordering::Relaxed))
        .with_keys(JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap())
        .unwrap();
    let text = forge.sign(header(), claims());
    assert!(verifier.verify_held(&text).is_ok());
    SECONDS.store(NOW + 610, Ordering::Relaxed);
    assert_eq!(verifier.verify_held(&text), refused(InvalidToken::Expired));
}

#[test]
fn one_look_at_a_token_decides_nothing_for_the_next() {
    let forge = Forge::new();
    let (verifier, text) = (forge.verifier(), forge.sign(header(), claims()));
    let logs = Resource::new(["projects", "alpha", "logs"]).unwrap();
    for _ in 0..2 {
        let token = verifier.verify_held(&text).unwrap();
        assert!(token.allows(ORG, &Action::Read, &logs));
        assert!(!token.allows(ORG, &Action::Write, &logs));
    }
}

fn skipped(jwk: &Value) -> usize {
    JwkSet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap().skipped()
}

/// 2048 bits with no structure; nobody needs to know its factors.
const SOUND_MODULUS: &str = "\
    rUXyPTsaEd9Yf9KAO6tsOY2INIp-7Y0U8G0_73AZZqDDgeiPOMDI_YcSuLwHbzeHudF54GwP1PX4EwxCN3MO36-9\
    Z_lhlpnP4ZiK2fBsFEoCW0E_ipoCHqZIp90Gg565Bbbm4wfUvtxRQxGT5sPzORorjx_x_UKil1XUwTqQKTHNRH41\
    uLbY_kQuPUNyBOUtsiIaWACKBabEZHFZwyTJhZuBDnZuydKGY8qCjdX0s7LksGzmB0HHqHzkLIIYBy6MNb-ZLcnp\
    xhZhLnaWps7MG3jlEGFzEdijws5vRH7U1XseL-uJQUw0PBAnxNHDhrvEzWE-MNjxat-Rt1hKImWx9Q";

/// 2048 bits with the fingerprint of CVE-2017-15361: `k * M + 65537^a mod M`.
const ROCA_MODULUS: &str = "\
    qjY76tJ_qLRngE_VqHXGPR4xlSXgr1uT7_Y2wNQrFJQurpavzFXGaOoSbT0-dSLVKBFGmuFXZf602ARvSVixloyv\
    NF17DvJ3JVA6xl2L8Lz5pfDvRVrStE6e1lT0-f2edEfNdPGIgXwK5mF6c11BRVUfmsWr91EIsGbh6xoi03LjesEx\
    Gyy7F0VvM6AvyeVV0Tq1jUAprlzb9HAHE507uphzCndPbL18cvkMIC49t01kYgcm9I2IuaWu8VMTfV7Dzm3Vgb2j\
    I_VPmf-d4-8WdoYyfHPniEM5ZAeZi4AJodCX5a4FC0LPrI6hjT6htZGX_ZzZ50vyTZwedeGviHYe8w";
