//! The `oauth2` crate fetches tokens by Basic and by post.

use std::env;

use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AuthType, ClientId, ClientSecret, RequestTokenError, Scope, TokenResponse, TokenUrl, reqwest,
};

fn setting(name: &str) -> String {
    env::var(format!("TENMINT_{name}")).unwrap_or_else(|_| panic!("TENMINT_{name} is not set"))
}

fn check(name: &str, passed: bool, saw: &str) {
    if !passed {
        println!("not ok {name}: {saw}");
        std::process::exit(1);
    }
    println!("ok {name}");
}

/// A token, or the OAuth error code, or the kind of any other failure.
fn fetch(way: AuthType, secret: &str, scopes: &[&str]) -> Result<BasicTokenResponse, String> {
    let http = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(20))
        .build()
        .map_err(|error| error.to_string())?;
    BasicClient::new(ClientId::new(setting("CLIENT_ID")))
        .set_client_secret(ClientSecret::new(secret.to_owned()))
        .set_token_uri(TokenUrl::new(setting("TOKEN_URL")).map_err(|error| error.to_string())?)
        .set_auth_type(way)
        .exchange_client_credentials()
        .add_scopes(scopes.iter().map(|scope| Scope::new((*scope).to_owned())))
        .request(&http)
        .map_err(|error| match error {
            RequestTokenError::ServerResponse(answer) => match answer.error() {
                BasicErrorResponseType::InvalidClient => "invalid_client".to_owned(),
                BasicErrorResponseType::InvalidScope => "invalid_scope".to_owned(),
                other => other.to_string(),
            },
            RequestTokenError::Parse(error, _) => format!("parse error: {error}"),
            other => other.to_string(),
        })
}

fn scopes_of(token: &BasicTokenResponse) -> String {
    let mut scopes: Vec<_> =
        token.scopes().into_iter().flatten().map(|scope| scope.as_str()).collect();
    scopes.sort_unstable();
    scopes.join(" ")
}

fn main() {
    let secret = setting("CLIENT_SECRET");
    let wrong = setting("WRONG_SECRET");
    let bad = setting("BAD_SCOPE");
    let one = setting("ONE_SCOPE");
    let scope = setting("SCOPE");
    let mut all: Vec<_> = scope.split(' ').collect();
    all.sort_unstable();
    let scopes = |token: Result<BasicTokenResponse, String>| {
        token.map_or_else(|error| error, |token| scopes_of(&token))
    };
    let code = |token: Result<BasicTokenResponse, String>| {
        token.map_or_else(|error| error, |_| "no error".to_owned())
    };

    for (way, method) in [("Basic", AuthType::BasicAuth), ("post", AuthType::RequestBody)] {
        let saw = scopes(fetch(method.clone(), &secret, &[]));
        check(&format!("oauth2 by {way} gets every scope of the key"), saw == all.join(" "), &saw);
        let saw = scopes(fetch(method.clone(), &secret, &[&one]));
        check(&format!("oauth2 by {way} gets the scope it asks for"), saw == one, &saw);
        let saw = code(fetch(method.clone(), &wrong, &[]));
        let name = format!("oauth2 by {way} with a wrong secret sees invalid_client");
        check(&name, saw == "invalid_client", &saw);
        let saw = code(fetch(method, &secret, &[&bad]));
        let name = format!("oauth2 by {way} with a bad scope sees invalid_scope");
        check(&name, saw == "invalid_scope", &saw);
    }

    // the crate holds no token: its user asks again when `expires_in` has passed
    let first = fetch(AuthType::BasicAuth, &secret, &[&one]);
    let second = fetch(AuthType::BasicAuth, &secret, &[&one]);
    let (Ok(first), Ok(second)) = (first, second) else {
        check("oauth2 asks again", false, "no token");
        return;
    };
    let life = first.expires_in().map_or(0, |life| life.as_secs());
    check("oauth2 knows how long a token lives", life == 600, &life.to_string());
    let renewed = first.access_token().secret() != second.access_token().secret();
    check("oauth2 gets another token when it asks again", renewed, "the same one");
}
