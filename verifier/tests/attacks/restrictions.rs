//! Claims that restrict, made such that a lenient reader would pass them over.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use serde_json::{Value, json};
use tenmint_verifier::{InvalidToken, Net, NewClaims, Quota, ScopeSet};

use crate::common::{AUDIENCE, Forge, ISSUER, NOW, ORG, claims, refused, with};

/// The claims with one more, as text: what is no JSON value can be tried too.
fn with_text(name: &str, value: &str) -> String {
    claims().to_string().replacen('{', &format!(r#"{{"{name}":{value},"#), 1)
}

#[test]
fn a_restriction_that_cannot_be_read_is_refused_and_never_passed_over() {
    let forge = Forge::new();
    let nobody = [json!(null), json!(true), json!(0), json!(1.5), json!([]), json!(["a"])];
    for name in ["space", "net", "quota"] {
        for value in nobody.iter().cloned().chain([json!({}), json!("")]) {
            let tried = forge.try_claims(with(claims(), name, value.clone()));
            assert_eq!(tried, refused(InvalidToken::BadClaims), "{name}: {value}");
        }
    }
}

#[test]
fn an_address_rule_that_cannot_be_read_is_refused() {
    let forge = Forge::new();
    for net in [
        json!("10.0.0.0/8"),
        json!(["10.0.0.0/8"]),
        json!({"allow": "10.0.0.0/8"}),
        json!({"allow": null, "block": ["10.0.0.0/8"]}),
        json!({"allow": [], "block": ["10.0.0.0/8"]}),
        json!({"allow": ["10.0.0.0/8"], "block": []}),
        json!({"allow": ["10.0.0.0/8", null]}),
        json!({"allow": ["10.0.0.0/8", 10]}),
        json!({"allow": [["10.0.0.0/8"]]}),
        json!({"allow": {"0": "10.0.0.0/8"}}),
        json!({"allow": ["10.0.0.0/8", ""]}),
        json!({"block": ["10.0.0.1/8"]}),
        json!({"block": ["10.0.0.0/33"]}),
        json!({"block": ["010.0.0.0/8"]}),
        json!({"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}),
        json!({"Block": ["10.0.0.0/8"]}),
    ] {
        let tried = forge.try_claims(with(claims(), "net", net.clone()));
        assert_eq!(tried, refused(InvalidToken::BadClaims), "{net}");
    }
}

#[test]
fn a_quota_that_cannot_be_read_is_refused() {
    let forge = Forge::new();
    for quota in [
        "100",
        r#"{"limit":100}"#,
        r#"{"window":60}"#,
        r#"{"limit":0,"window":60}"#,
        r#"{"limit":100,"window":0}"#,
        r#"{"limit":-1,"window":60}"#,
        r#"{"limit":100.0,"window":60}"#,
        r#"{"limit":1e2,"window":60}"#,
        r#"{"limit":"100","window":60}"#,
        r#"{"limit":null,"window":60}"#,
        r#"{"limit":18446744073709551616,"window":60}"#,
        r#"{"limit":100,"window":60,"burst":1}"#,
        "[100,60]",
    ] {
        let tried = forge.try_claims(with_text("quota", quota));
        assert_eq!(tried, refused(InvalidToken::BadClaims), "{quota}");
    }
}

#[test]
fn a_restriction_that_comes_twice_is_refused() {
    let forge = Forge::new();
    for (name, value) in [
        ("space", r#""spc_1","space":"spc_2""#),
        ("net", r#"{"allow":["10.0.0.0/8"]},"net":{"allow":["0.0.0.0/0"]}"#),
        ("net", r#"{"allow":["10.0.0.0/8"],"allow":["0.0.0.0/0"]}"#),
        ("net", r#"{"allow":["10.0.0.0/8"],"\u0061llow":["0.0.0.0/0"]}"#),
        ("net", r#"{"block":["10.0.0.0/8"]},"n\u0065t":{"allow":["0.0.0.0/0"]}"#),
        ("quota", r#"{"limit":1,"limit":1000,"window":60}"#),
    ] {
        let tried = forge.try_claims(with_text(name, value));
        assert_eq!(tried, refused(InvalidToken::BadClaims), "{value}");
    }
}

#[test]
fn a_token_without_restrictions_says_so() {
    let token = Forge::new().try_claims(claims()).unwrap();
    let said = token.claims();
    assert_eq!((&said.space, &said.net, said.quota), (&None, &None, None));
    assert_eq!(serde_json::to_value(said).unwrap(), claims(), "no null members");
}

#[test]
fn what_an_issuer_writes_is_what_a_verifier_reads() {
    let net = |allow: &[&str], block: &[&str]| {
        let [allow, block] = [allow, block].map(|l| l.iter().map(|text| text.parse().unwrap()));
        Net::from_lists(allow, block)
    };
    let nets = [
        None,
        net(&["10.0.0.0/8", "2001:db8::/32"], &["10.1.0.0/16", "192.0.2.1"]),
        net(&["::1"], &[]),
        net(&[], &["0.0.0.0/0", "::/0"]),
    ];
    let scope: ScopeSet = "read:a/*".parse().unwrap();
    for net in &nets {
        for (space, quota) in
            [(None, None), (Some("spc_1"), Quota::new(1, 1)), (None, Quota::new(u64::MAX, 60))]
        {
            let net = net.as_ref();
            let written = NewClaims { space, net, quota, ..plain(&scope) };
            let written: Value = serde_json::to_value(written).unwrap();
            assert!(written.as_object().unwrap().values().all(|member| !member.is_null()));
            let token = Forge::new().try_claims(&written).unwrap();
            let read = token.claims();
            assert_eq!((read.space.as_deref(), read.net.as_ref(), read.quota), (space, net, quota));
            assert_eq!(serde_json::to_value(read).unwrap(), written);
        }
    }
}

fn plain(scope: &ScopeSet) -> NewClaims<'_> {
    NewClaims {
        iss: ISSUER,
        sub: "bot_0000000000000000",
        aud: &[AUDIENCE],
        client_id: "key_0000000000000000",
        scope,
        org: ORG,
        iat: NOW,
        exp: NOW + 600,
        jti: "0",
        rev: 1,
        space: None,
        net: None,
        quota: None,
    }
}
