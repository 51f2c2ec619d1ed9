//! `tenmint token`: what an app does, from a terminal. A standard OAuth client library does the
//! work, as it would there.

use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Args;
use http::StatusCode;
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    ClientId, ClientSecret, RequestTokenError, Scope, StandardErrorResponse, TokenResponse,
    TokenUrl,
};
use serde_json::json;

use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::output::{Output, written};
use crate::cli::server::ServerArgs;
use crate::http::client::{NoAnswer, send};

/// Arguments of `tenmint token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// Scopes to ask for [default: all of the key]
    #[arg(
        long,
        visible_alias = "scopes",
        short = 's',
        value_delimiter = ',',
        value_name = "SCOPES"
    )]
    scope: Vec<String>,
    /// The API the token is for, by slug or URI [default: the key's first]
    #[arg(long, visible_alias = "endpoint", value_name = "AUDIENCE")]
    audience: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: TokenArgs, output: &Output) -> Result<ExitCode> {
    let server = args.server.server()?;
    let token_url = TokenUrl::new(format!("{}/oauth/token", server.url))
        .map_err(|cause| Failure::usage(format!("`{}` is no URL: {cause}", server.url)))?;
    // an empty id: the key says itself which one it is
    let client = BasicClient::new(ClientId::new(String::new()))
        .set_client_secret(ClientSecret::new(server.api_key.to_string()))
        .set_token_uri(token_url);
    let mut request =
        client.exchange_client_credentials().add_scopes(args.scope.into_iter().map(Scope::new));
    if let Some(audience) = args.audience {
        request = request.add_extra_param("audience", audience);
    }
    // the library keeps no status of what it cannot read
    let status = OnceLock::new();
    let ask = async |asked| {
        let answer = send(asked).await?;
        let _first = status.set(answer.status());
        Ok(answer)
    };
    let token = request.request_async(&ask).await;
    let token = token.map_err(|cause| refusal(&cause, status.get().copied(), &server.url))?;
    written(show(&token, output))?;
    Ok(ExitCode::SUCCESS)
}

fn show(token: &BasicTokenResponse, output: &Output) -> std::io::Result<()> {
    let scopes = token.scopes().into_iter().flatten().map(|scope| scope.as_str());
    let json = json!({
        "access_token": token.access_token().secret(),
        "token_type": "Bearer",
        "expires_in": token.expires_in().map(|lifetime| lifetime.as_secs()),
        "scope": scopes.collect::<Vec<_>>().join(" "),
    });
    let text = token.access_token().secret();
    output.secret(output.open_secret()?, &json, (text, text))
}

type Refusal = RequestTokenError<NoAnswer, StandardErrorResponse<BasicErrorResponseType>>;

fn refusal(cause: &Refusal, status: Option<StatusCode>, url: &str) -> Failure {
    match cause {
        RequestTokenError::ServerResponse(refused) => {
            let code = refused.error().as_ref();
            let why = refused.error_description().map_or("the server says no more", String::as_str);
            Failure::new(exit_of(code), format!("{code}: {why}"))
        }
        RequestTokenError::Request(cause) => {
            let message = format!("the server {url} does not answer: {cause}");
            Failure::new(Exit::Unavailable, message)
        }
        _ => match status.filter(|status| !status.is_success()) {
            // mostly a proxy with nobody behind it
            Some(status) => {
                let message = format!("{url} answers `{status}`, and not as tenmint");
                Failure::new(Exit::of_status(status), message)
            }
            None => {
                Failure::new(Exit::Failed, format!("what answers at {url} is no token endpoint"))
            }
        },
    }
}

/// What a code of RFC 6749, section 5.2 means.
fn exit_of(code: &str) -> Exit {
    match code {
        "invalid_request" | "invalid_scope" | "invalid_target" => Exit::Invalid,
        "invalid_client" | "unauthorized_client" => Exit::NotAllowed,
        "temporarily_unavailable" => Exit::Unavailable,
        _ => Exit::Failed,
    }
}
