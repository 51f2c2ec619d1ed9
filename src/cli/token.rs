//! `tenmint token`: what an app does, from a terminal. A standard OAuth client library does the
//! work, as it would there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{ClientId, ClientSecret, RequestTokenError, Scope, TokenResponse, TokenUrl};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::client::send;
use crate::cli::config::read_secret;
use crate::cli::output::Output;
use crate::error::{Error, Result};

/// Arguments of `tenmint token`. The API key is never an argument: others can read those.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The server
    #[arg(long, env = "TENMINT_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// A file that holds the API key, instead of `TENMINT_API_KEY`
    #[arg(long, env = "TENMINT_API_KEY_FILE", value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A scope to ask for; repeat it for several [default: all of the key]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The slug or URI of the API the token is for [default: the key's first]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
}

pub(super) async fn run(args: TokenArgs, output: &Output) -> Result<ExitCode> {
    let api_key = read_api_key(args.api_key_file.as_ref())?;
    let token_url = TokenUrl::new(format!("{}/oauth/token", args.url.trim_end_matches('/')))
        .map_err(|cause| Error::invalid("url", cause))?;
    // an empty id: the key says itself which one it is
    let client = BasicClient::new(ClientId::new(String::new()))
        .set_client_secret(ClientSecret::new(api_key.to_string()))
        .set_token_uri(token_url);
    let mut request =
        client.exchange_client_credentials().add_scopes(args.scope.into_iter().map(Scope::new));
    if let Some(audience) = args.audience {
        request = request.add_extra_param("audience", audience);
    }
    let token = request.request_async(&send).await.map_err(|cause| refusal(&cause, &args.url))?;
    show(&token, output)
        .map_err(|cause| Error::Setup(format!("the token could not be shown: {cause}")))?;
    Ok(ExitCode::SUCCESS)
}

fn read_api_key(file: Option<&PathBuf>) -> Result<Zeroizing<String>> {
    if let Some(path) = file {
        return read_secret(path);
    }
    std::env::var("TENMINT_API_KEY").map(Zeroizing::new).map_err(|_| {
        Error::invalid("api_key", "set `TENMINT_API_KEY`, or name a file with --api-key-file")
    })
}

fn show(token: &BasicTokenResponse, output: &Output) -> std::io::Result<()> {
    let scopes = token.scopes().into_iter().flatten().map(|scope| scope.as_str());
    let json = json!({
        "access_token": token.access_token().secret(),
        "token_type": "Bearer",
        "expires_in": token.expires_in().map(|lifetime| lifetime.as_secs()),
        "scope": scopes.collect::<Vec<_>>().join(" "),
    });
    output.secret(&json, token.access_token().secret(), token.access_token().secret())
}

type Refusal = RequestTokenError<
    crate::cli::client::NoAnswer,
    oauth2::StandardErrorResponse<oauth2::basic::BasicErrorResponseType>,
>;

fn refusal(cause: &Refusal, url: &str) -> Error {
    match cause {
        RequestTokenError::ServerResponse(refused) => Error::Conflict(
            "refused",
            format!(
                "{}: {}",
                refused.error().as_ref(),
                refused.error_description().map_or("the server says no more", String::as_str)
            ),
        ),
        RequestTokenError::Request(cause) => {
            Error::Setup(format!("the server {url} does not answer: {cause}"))
        }
        _ => Error::Setup(format!("what answers at {url} is no token endpoint")),
    }
}
