//! What a token may say, where a key and its owner differ, and under many requests at once.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tenmint::clock::Clock;
use tenmint::mint::{
    Caller, Change, ClientCredential, IssuedToken, KeyPair, Mint, Refused, Signer, TokenRequest,
    Unrecorded,
};
use tenmint::model::api_key::{ApiKeySecret, IndexedApiKey};
use tenmint::model::audience::{Audience, TokenType};
use tenmint::model::id::{ApiKeyId, AudienceId, BotId, OrgId};
use tenmint::model::installation::{ApiKeyPrefix, Installation, TokenLifetime};
use tenmint::model::ip_rules::IpRules;
use tenmint::model::org::Org;
use tenmint::model::owner::{IndexedOwner, OwnerId};
use tenmint::model::secret::{Pepper, PlainSecret};
use tenmint::model::signing_key::Kid;
use tenmint::model::time::Timestamp;
use tenmint_verifier::{Algorithm, Scope, ScopeSet};

use crate::server::on_both_engines;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A mint with one key, whose owner may have other grants than the key has scopes.
fn mint_of(scopes: Option<&str>, grants: &str) -> Mint {
    let installation = Installation {
        issuer: "https://auth.example.com".parse().unwrap(),
        api_key_prefix: ApiKeyPrefix::default(),
        algorithm: Algorithm::EdDsa,
        token_lifetime: TokenLifetime::default(),
    };
    let pepper = Pepper::new(&[7; 32]);
    let serve_for = std::time::Duration::from_mins(5);
    let mint = Mint::new(installation, pepper.clone(), serve_for, Clock::wound(NOW)).unwrap();
    let made = KeyPair::generate(Algorithm::EdDsa).unwrap();
    mint.replace_signer(Signer::new(Some((&Kid::from_random([1; 16]), made.key_pair)), &[]));

    let (org, audience) = (OrgId::from_random([1; 16]), AudienceId::from_random([1; 16]));
    let owner = OwnerId::Bot(BotId::from_random([1; 16]));
    let mut filled = mint.index().begin_to_fill(1, 1);
    filled.put(Change::Org(Org {
        id: org,
        slug: "default".parse().unwrap(),
        name: "default".to_owned(),
        created_at: NOW,
        default_audience: Some(audience),
        bootstrapped_at: Some(NOW),
        suspended_at: None,
    }));
    filled.put(Change::Audience(Audience {
        id: audience,
        org,
        slug: "api".parse().unwrap(),
        uri: "https://api.example.com".parse().unwrap(),
        catalogue: None,
        token_lifetime: None,
        token_type: TokenType::AccessToken,
        created_at: NOW,
        shared_at: None,
        raw_keys: None,
    }));
    filled.put(Change::Owner(IndexedOwner {
        owner,
        org,
        grants: Some(grants.parse().unwrap()),
        roles: None,
        is_account_admin: false,
        suspended_at: None,
    }));
    filled.put(Change::ApiKey(IndexedApiKey {
        id: ApiKeyId::from_random([1; 16]),
        org,
        owner,
        scopes: scopes.map(|scopes| scopes.parse().unwrap()),
        audiences: Vec::new(),
        space: None,
        ip_rules: IpRules::default(),
        quota: None,
        quota_counter: ApiKeyId::from_random([1; 16]),
        expires_at: None,
        revoked_at: None,
        secrets: vec![ApiKeySecret { digest: pepper.digest(b"text"), expires_at: None }],
    }));
    mint.index().replace(filled, 1, NOW);
    mint
}

fn issue(mint: &Mint, scope: Option<&str>) -> Result<String, Refused> {
    let request = TokenRequest {
        client: ClientCredential {
            client_id: None,
            texts: vec![PlainSecret::new("text".to_owned())],
        },
        scope: scope.map(str::to_owned),
        ..TokenRequest::default()
    };
    mint.issue(&request, Caller::default(), NOW)
        .map(|unrecorded| token_of(unrecorded).scope.to_string())
}

/// The token of a mint that records nothing: nobody waits.
fn token_of(unrecorded: Unrecorded<'_, IssuedToken>) -> IssuedToken {
    match pin!(unrecorded).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(token) => token.unwrap(),
        Poll::Pending => panic!("it waits for a record"),
    }
}

#[test]
fn a_token_has_what_the_key_and_its_owner_both_have() {
    let mint = mint_of(Some("read:projects/* chat"), "*:projects/alpha/* chat");
    assert_eq!(issue(&mint, None).unwrap(), "read:projects/alpha/* chat");
    assert_eq!(issue(&mint, Some("read:projects/alpha/x")).unwrap(), "read:projects/alpha/x");
    let beyond = issue(&mint, Some("chat read:projects/beta"));
    assert_eq!(beyond, Err(Refused::ScopeBeyondKey(1)));
    assert_eq!(issue(&mint, Some("write:projects/alpha/x")), Err(Refused::ScopeBeyondKey(0)));
}

#[test]
fn a_key_without_scopes_has_all_that_its_owner_has() {
    let mint = mint_of(None, "read:a/b read:a/*");
    assert_eq!(issue(&mint, None).unwrap(), "read:a/*");
    assert_eq!(issue(&mint, Some("read:b")), Err(Refused::ScopeBeyondKey(0)));
}

#[test]
fn a_key_whose_owner_has_none_of_its_scopes_gets_no_token() {
    assert_eq!(issue(&mint_of(Some("read:a"), "read:b"), None), Err(Refused::NoScope));
}

#[test]
fn more_scope_than_a_token_holds_is_refused_rather_than_cut() {
    let rows: Vec<String> = (0..9).map(|n| format!("read:*/x{n}/*")).collect();
    let columns: Vec<String> = (0..9).map(|n| format!("read:y{n}/*/z")).collect();
    let mint = mint_of(Some(&rows.join(" ")), &columns.join(" "));
    assert_eq!(issue(&mint, None), Err(Refused::TooMuchScope), "81 scopes");
    assert_eq!(issue(&mint, Some("read:y1/x1/z")).unwrap(), "read:y1/x1/z");
    let long = "a".repeat(128);
    let key = format!("read:*/*/*/{long}/{long}/{long}/*");
    let owner = format!("read:{long}/{long}/{long}/*");
    assert_eq!(issue(&mint_of(Some(&key), &owner), None), Err(Refused::TooMuchScope), "too long");
}

#[test]
fn a_mint_without_keys_or_content_refuses_as_its_own_fault() {
    let mint = mint_of(Some("chat"), "chat");
    mint.replace_signer(Signer::default());
    assert_eq!(issue(&mint, None), Err(Refused::Unavailable));
    let mint = mint_of(Some("chat"), "chat");
    mint.index().doubt();
    assert_eq!(issue(&mint, None), Err(Refused::Unavailable));
}

fn any_scopes() -> impl Strategy<Value = String> {
    let action = prop_oneof![Just("read"), Just("write"), Just("*")];
    let filter = prop_oneof![
        Just("a"),
        Just("a/b"),
        Just("a/*"),
        Just("a/?"),
        Just("*"),
        Just("*/b"),
        Just("a/*/c"),
        Just("b/*")
    ];
    let scope = (action, filter).prop_map(|(action, filter)| format!("{action}:{filter}"));
    prop::collection::vec(scope, 1..5).prop_map(|scopes| scopes.join(" "))
}

fn covered(narrow: &str, wide: &str) -> bool {
    let wide: ScopeSet = wide.parse().unwrap();
    narrow.split(' ').all(|scope| wide.covers(&scope.parse::<Scope>().unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_token_is_within_the_request_the_key_and_the_owner(
        key in any_scopes(), owner in any_scopes(), asked in prop::option::of(any_scopes())
    ) {
        let mint = mint_of(Some(&key), &owner);
        let held = covered_by_both(&key, &owner, asked.as_deref());
        match issue(&mint, asked.as_deref()) {
            Ok(granted) => {
                prop_assert!(covered(&granted, &key) && covered(&granted, &owner), "{granted}");
                if let Some(asked) = &asked {
                    prop_assert_eq!(&granted, asked);
                }
            }
            Err(Refused::NoScope) => prop_assert!(asked.is_none()),
            Err(refused) => {
                prop_assert!(matches!(refused, Refused::ScopeBeyondKey(_)));
                prop_assert!(!held);
            }
        }
    }
}

fn covered_by_both(key: &str, owner: &str, asked: Option<&str>) -> bool {
    asked.is_none_or(|asked| covered(asked, key) && covered(asked, owner))
}

on_both_engines! {
    async fn many_requests_at_once_get_distinct_tokens(server: Server) {
        let server = Arc::new(server);
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let server = server.clone();
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    for _ in 0..25 {
                        let answer = server.token(&server.administrator, "").await;
                        ids.push(answer.claims()["jti"].as_str().unwrap().to_owned());
                    }
                    ids
                })
            })
            .collect();
        let mut ids = BTreeSet::new();
        for task in asking {
            ids.extend(task.await.unwrap());
        }
        assert_eq!(ids.len(), 200);
    }
}
