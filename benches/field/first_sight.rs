//! What an access token costs that an API has not seen before: the bare signature, and four
//! libraries that verify the same token, in one run. Nobody remembers a token here.
//!
//! A crate apart, with a lock of its own, since the peers bring a hundred crates, OpenSSL among them,
//! that tenmint keeps out.
//!
//! `cargo bench --manifest-path benches/field/Cargo.toml`
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

#[path = "../../verifier/tests/common/mod.rs"]
mod common;
#[path = "../../verifier/tests/common/jwt.rs"]
mod jwt;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use common::{AUDIENCE, Forge, ISSUER, ORG, claims, header, with};
use divan::{Bencher, Divan, black_box};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use huskarl_resource_server::core::Error;
use huskarl_resource_server::core::http::{HttpClient, HttpResponse, Idempotency};
use huskarl_resource_server::core::platform::MaybeSendBoxFuture;
use huskarl_resource_server::validator::rfc9068::Rfc9068Validator;
use jsonwebtoken::{Algorithm, DecodingKey, decode};
use jwt_authorizer::{Authorizer, JwtAuthorizer};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use tenmint_verifier::{Action, JwkSet, Resource, Verifier};
use tokio::runtime::{Builder, Runtime};

fn main() {
    // a machine may change its pace within seconds: in nine short rounds it does so for all of them
    let round = Divan::default().sample_count(2_000).config_with_args();
    (0..9).for_each(|_| round.main());
}

#[divan::bench]
fn ring_verifies_the_bare_signature(bencher: Bencher<'_, '_>) {
    let issuer = Issuer::new();
    let token = issuer.good();
    let (signed, signature) = token.text.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, issuer.forge.point());
    bencher.bench_local(|| key.verify(black_box(signed.as_bytes()), &signature).unwrap());
}

/// The only one that looks at the scope, too.
#[divan::bench]
fn tenmint_verifier_verifies_and_requires_a_scope(bencher: Bencher<'_, '_>) {
    let issuer = Issuer::new();
    let keys = JwkSet::parse(issuer.jwks().as_bytes()).unwrap();
    let verifier = Verifier::builder(ISSUER).audience(AUDIENCE).cache(0).with_keys(keys).unwrap();
    let resource = Resource::new(["projects", "alpha", "logs"]).unwrap();
    measure(bencher, &issuer, |token| {
        verifier
            .verify_held(&token.text)
            .is_ok_and(|token| token.require(ORG, &Action::Read, &resource).is_ok())
    });
}

/// Over ring, with one key that needs not be found.
#[divan::bench]
fn jsonwebtoken_decodes(bencher: Bencher<'_, '_>) {
    jwt::install();
    let issuer = Issuer::new();
    let key = DecodingKey::from_ec_der(issuer.forge.point());
    let mut validation = jsonwebtoken::Validation::new(Algorithm::ES256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    measure(bencher, &issuer, |token| decode::<Value>(&token.text, &key, &validation).is_ok());
}

/// `check_auth` is what its layer awaits once it has the token out of the request.
#[divan::bench]
fn jwt_authorizer_checks(bencher: Bencher<'_, '_>) {
    let (issuer, runtime) = (Issuer::new(), runtime());
    let validation = jwt_authorizer::Validation::new().iss(&[ISSUER]).aud(&[AUDIENCE]);
    let authorizer: JwtAuthorizer = JwtAuthorizer::from_jwks_text(&issuer.jwks());
    let authorizer: Authorizer =
        runtime.block_on(authorizer.validation(validation).build()).unwrap();
    measure(bencher, &issuer, |token| runtime.block_on(authorizer.check_auth(&token.text)).is_ok());
}

/// It takes the headers of a request, so finding the token in them is within the measure.
#[divan::bench]
fn huskarl_resource_server_validates(bencher: Bencher<'_, '_>) {
    let (issuer, runtime) = (Issuer::new(), runtime());
    let validator = Rfc9068Validator::builder()
        .issuer(ISSUER)
        .audience(AUDIENCE)
        .jwks_uri(format!("{ISSUER}/jwks").parse().unwrap())
        .jwks_source(Fetched(issuer.jwks().into()))
        .build();
    let validator = runtime.block_on(validator).unwrap();
    let uri = Uri::from_static("https://api.example.com/projects/alpha/logs");
    measure(bencher, &issuer, |token| {
        let validated = validator.validate_request(&token.headers, &Method::GET, &uri, None);
        matches!(runtime.block_on(validated).outcome, Ok(Some(_)))
    });
}

/// Times `accepts` with a good token, once it is clear that it checks what all of them must. What it
/// makes out of the token is dropped within the measure, as in a request.
fn measure(bencher: Bencher<'_, '_>, issuer: &Issuer, accepts: impl Fn(&Presented) -> bool) {
    for (wrong, token) in issuer.bad() {
        assert!(!accepts(&token), "{wrong} is accepted");
    }
    let token = issuer.good();
    bencher.bench_local(|| assert!(accepts(black_box(&token))));
}

/// For the two that are async. Entering it is within the measure, and nothing is subtracted: an API
/// that is there already does not pay for it, but neither library can be asked without one.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// A token, bare and in the headers of a request.
struct Presented {
    text: String,
    headers: HeaderMap,
}

impl Presented {
    fn new(text: String) -> Self {
        let bearer = format!("Bearer {text}").parse().unwrap();
        Self { text, headers: HeaderMap::from_iter([(AUTHORIZATION, bearer)]) }
    }
}

/// Signs by the clock of this machine, since not everybody here can be given another.
struct Issuer {
    forge: Forge,
    now: u64,
}

impl Issuer {
    #[expect(clippy::disallowed_methods, reason = "nobody here is given a clock")]
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Self { forge: Forge::new(), now }
    }

    /// What a server of tenmint publishes.
    fn jwks(&self) -> String {
        let key = with(self.forge.es256_jwk(), "alg", json!("ES256"));
        json!({"keys": [with(key, "use", json!("sig"))]}).to_string()
    }

    fn claims(&self) -> Value {
        let claims = with(claims(), "iat", json!(self.now));
        with(claims, "exp", json!(self.now + 600))
    }

    fn good(&self) -> Presented {
        Presented::new(self.forge.sign(header(), self.claims()))
    }

    /// Each of these differs in one thing from a good one.
    fn bad(&self) -> [(&'static str, Presented); 4] {
        let signed = |name, value| {
            Presented::new(self.forge.sign(header(), with(self.claims(), name, value)))
        };
        [
            ("another issuer", signed("iss", json!("https://other.example.com"))),
            ("another audience", signed("aud", json!("https://other.example.com"))),
            ("a token of yesterday", signed("exp", json!(self.now - 86_400))),
            ("another key", Presented::new(Forge::new().sign(header(), self.claims()))),
        ]
    }
}

/// The way to the keys, for a library that insists on fetching them.
struct Fetched(Bytes);

impl HttpClient for Fetched {
    fn execute(
        &self,
        _: Request<Bytes>,
        _: Idempotency,
    ) -> MaybeSendBoxFuture<'_, Result<HttpResponse, Error>> {
        let body = self.0.clone();
        Box::pin(async {
            Ok(HttpResponse { status: StatusCode::OK, headers: HeaderMap::new(), body })
        })
    }
}
