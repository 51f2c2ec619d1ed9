//! Texts that two readers could read differently, and texts that are too much to read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use serde_json::json;
use tenmint_verifier::InvalidToken;

use crate::common::{Forge, claims, header, refused, with};

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
