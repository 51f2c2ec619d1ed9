//! `tenmint init`: an installation, once.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::config::Config;
use crate::cli::output::{Output, SecretSink, lost_secret, no_place};
use crate::clock::Clock;
use crate::error::Result;
use crate::model::secret::PlainSecret;
use crate::service::init::{CreateInstallation, CreatedInstallation, create_installation};

/// Arguments of `tenmint init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The URL that clients reach the service under: a bare origin like `https://auth.example.com`
    #[arg(long, env = "TENMINT_ISSUER", value_name = "URL")]
    issuer: String,
    /// The URI of the first API that takes tokens [default: urn:tenmint:SLUG:api]
    #[arg(long, value_name = "URI")]
    audience: Option<String>,
    /// The slug of the first organization
    #[arg(long, default_value = "default", value_name = "SLUG")]
    organization: String,
    /// What tokens are signed with: ES256, RS256 or EdDSA
    #[arg(long, default_value = "ES256", value_name = "NAME")]
    algorithm: String,
    /// What the text of an API key starts with
    #[arg(long, default_value = "tm", value_name = "LETTERS")]
    api_key_prefix: String,
    /// How long a token lives
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    token_lifetime: i64,
}

pub(super) async fn run(config: &Config, args: InitArgs, output: &Output) -> Result<ExitCode> {
    let ask = CreateInstallation {
        issuer: args.issuer,
        organization: args.organization,
        audience: args.audience,
        algorithm: args.algorithm,
        api_key_prefix: args.api_key_prefix,
        token_lifetime: args.token_lifetime,
        ..CreateInstallation::default()
    };
    let clock = Clock::system();
    let sink = output.open_secret().map_err(|cause| no_place(&cause))?;
    let created = create_installation(&config.database, &config.keys_dir, &clock, &ask).await?;
    show(created, output, sink)?;
    Ok(ExitCode::SUCCESS)
}

fn show(created: CreatedInstallation, output: &Output, sink: SecretSink) -> Result<()> {
    let CreatedInstallation { installation, org, audience, api_key } = created;
    let id = api_key.api_key.id;
    let text = api_key.text.map(PlainSecret::reveal).unwrap_or_default();
    let json = json!({
        "issuer": installation.issuer.as_str(),
        "organization": org.id,
        "organization_slug": org.slug.as_str(),
        "audience": audience.uri.as_str(),
        "algorithm": installation.algorithm.name(),
        "api_key": {"id": id, "api_key": text},
    });
    let people = format!(
        "issuer        {}\norganization  {} ({})\naudience      {}\napi key id    {id}\napi key       {text}\n",
        installation.issuer, org.id, org.slug, audience.uri
    );
    output.secret(sink, &json, (&people, &text)).map_err(|cause| lost_secret(&id, &cause))
}
