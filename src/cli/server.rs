//! Which server a command talks to, and with which API key: what flags say, over the environment,
//! over the context. A key goes to the server it was meant for and to no other.

use std::path::PathBuf;

use clap::Args;
use http::Uri;
use zeroize::Zeroizing;

use crate::cli::config::read_secret;
use crate::cli::context_file::{Context, ContextFile, Contexts};
use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::keyring;

/// The server where only a key is given: the one of a first look.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Where the server and the API key come from. A key is never an argument: others can read those.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerArgs {
    /// The server, instead of the one of the context [env: `TENMINT_URL`]
    #[arg(long, global = true, value_name = "URL", conflicts_with = "context")]
    pub(super) url: Option<String>,
    /// The context, instead of the current one [env: `TENMINT_CONTEXT`]
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// A file that holds the API key, instead of `TENMINT_API_KEY` [env: `TENMINT_API_KEY_FILE`]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
}

/// What the environment says of the same. Clap would not tell it from a flag.
#[derive(Debug, Default)]
pub(super) struct Environment {
    url: Option<String>,
    context: Option<String>,
    api_key: Option<Zeroizing<String>>,
    api_key_file: Option<PathBuf>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            url: variable("TENMINT_URL"),
            context: variable("TENMINT_CONTEXT"),
            api_key: variable("TENMINT_API_KEY").map(Zeroizing::new),
            api_key_file: variable("TENMINT_API_KEY_FILE").map(PathBuf::from),
        }
    }
}

/// A server, and the API key for it.
#[derive(Clone)]
pub(super) struct Server {
    /// Its URL, without a slash at the end.
    pub(super) url: String,
    pub(super) api_key: Zeroizing<String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ServerArgs {
    /// Finds the server and the key.
    pub(super) fn server(&self) -> Result<Server> {
        self.choose(Environment::of_process(), || Ok(ContextFile::locate()?.load()?))
    }

    fn choose(
        &self,
        environment: Environment,
        load: impl FnOnce() -> Result<Contexts>,
    ) -> Result<Server> {
        // a context that a flag names is meant as a whole
        let environment = if self.context.is_some() { Environment::default() } else { environment };
        let url = self.url.clone().or(environment.url);
        let file = self.api_key_file.as_ref().or(environment.api_key_file.as_ref());
        let api_key = match file {
            Some(file) => Some(read_secret(file)?),
            None => environment.api_key,
        };
        if let (Some(url), Some(api_key)) = (&url, &api_key) {
            return Ok(Server { url: parse_url(url)?, api_key: api_key.clone() });
        }
        let name = self.context.clone().or(environment.context);
        let context = find(load()?, name)?;
        match (url, api_key, context) {
            (None, Some(api_key), None) => Ok(Server { url: DEFAULT_URL.to_owned(), api_key }),
            (None, Some(api_key), Some((_, context))) => {
                Ok(Server { url: parse_url(&context.url)?, api_key })
            }
            (url, None, Some((name, context))) => of_context(url, &name, &context),
            (_, None, None) => Err(Failure::new(Exit::NotAllowed, "there is no API key to show")
                .hint("`tenmint login --url URL`, or set `TENMINT_URL` and `TENMINT_API_KEY`")),
            (Some(url), Some(api_key), _) => Ok(Server { url: parse_url(&url)?, api_key }),
        }
    }
}

/// The context of this name, or the current one.
fn find(mut contexts: Contexts, name: Option<String>) -> Result<Option<(String, Context)>> {
    let is_named = name.is_some();
    let Some(name) = name.or(contexts.current) else { return Ok(None) };
    match contexts.contexts.remove(&name) {
        Some(context) => Ok(Some((name, context))),
        None if is_named => Err(no_context(&name)),
        None => Ok(None),
    }
}

/// There is no such context.
pub(super) fn no_context(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no context `{name}`"))
        .hint("`tenmint context list` says which there are")
}

/// The server of a context; the key of a context is for that server alone.
fn of_context(url: Option<String>, name: &str, context: &Context) -> Result<Server> {
    let own = parse_url(&context.url)?;
    if let Some(other) = url.map(|url| parse_url(&url)).transpose()?
        && other != own
    {
        let said = format!("the API key of the context `{name}` is for {own}, not for {other}");
        return Err(Failure::new(Exit::NotAllowed, said)
            .hint("set `TENMINT_API_KEY`, or take another `--context`"));
    }
    let api_key = match &context.api_key {
        Some(api_key) => api_key.clone(),
        None => keyring::find(name, &context.url)?,
    };
    Ok(Server { url: own, api_key: api_key.0 })
}

/// A URL of a server: http or https, without a slash at the end.
pub(super) fn parse_url(text: &str) -> Result<String> {
    let wrong = || {
        Failure::usage(format!(
            "`{}` is no URL of a server",
            text.split('@').next_back().unwrap_or(text)
        ))
        .hint("write it like `https://auth.example.com`")
    };
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.query().is_some() || authority.as_str().contains('@') || text.contains('#') {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use crate::cli::context_file::ClearKey;

    use super::*;

    fn contexts() -> Contexts {
        let context = |url: &str, key: &str| Context {
            url: url.to_owned(),
            api_key: Some(ClearKey(Zeroizing::new(key.to_owned()))),
        };
        let all = [
            ("dev", context("http://dev", "dev-key")),
            ("prod", context("https://prod", "prod-key")),
        ];
        Contexts {
            current: Some("dev".to_owned()),
            contexts: all.into_iter().map(|(name, context)| (name.to_owned(), context)).collect(),
        }
    }

    /// Server and key, of flags and environment as `url context`.
    fn chosen(flags: [&str; 2], environment: [&str; 3], contexts: Contexts) -> String {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let args = ServerArgs { url: said(flags[0]), context: said(flags[1]), api_key_file: None };
        let environment = Environment {
            url: said(environment[0]),
            context: said(environment[1]),
            api_key: said(environment[2]).map(Zeroizing::new),
            api_key_file: None,
        };
        match args.choose(environment, || Ok(contexts)) {
            Ok(server) => format!("{} {}", server.url, server.api_key.as_str()),
            Err(failure) => format!("{:?}: {failure}", failure.exit),
        }
    }

    #[test]
    fn flags_stand_above_the_environment_above_the_context() {
        let of = |flags, environment| chosen(flags, environment, contexts());
        assert_eq!(of(["", ""], ["", "", ""]), "http://dev dev-key");
        assert_eq!(of(["", ""], ["", "prod", ""]), "https://prod prod-key");
        assert_eq!(of(["", "prod"], ["http://env", "dev", "env-key"]), "https://prod prod-key");
        assert_eq!(of(["", ""], ["http://env", "", "env-key"]), "http://env env-key");
        assert_eq!(of(["http://flag/", ""], ["http://env", "", "env-key"]), "http://flag env-key");
        assert_eq!(of(["", ""], ["", "", "env-key"]), "http://dev env-key");
        assert_eq!(of(["http://dev/", ""], ["", "", ""]), "http://dev dev-key");
    }

    #[test]
    fn a_key_of_a_context_goes_to_its_own_server_alone() {
        let elsewhere = chosen(["http://evil", ""], ["", "", ""], contexts());
        assert!(
            elsewhere.starts_with("NotAllowed: the API key of the context `dev`"),
            "{elsewhere}"
        );
    }

    #[test]
    fn without_a_context_a_key_alone_goes_to_the_local_server_and_nothing_is_a_hint() {
        let of = |flags, environment| chosen(flags, environment, Contexts::default());
        assert_eq!(of(["", ""], ["", "", "env-key"]), "http://127.0.0.1:8080 env-key");
        assert!(of(["", ""], ["", "", ""]).contains("hint: `tenmint login"));
        assert!(of(["http://x", ""], ["", "", ""]).starts_with("NotAllowed"));
        assert!(of(["", "nope"], ["", "", ""]).starts_with("NotFound: there is no context `nope`"));
    }

    #[test]
    fn a_url_of_a_server_is_plain_and_never_shown_with_a_password() {
        for (text, url) in [
            ("https://auth.example.com", "https://auth.example.com"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("https://x/behind/", "https://x/behind"),
        ] {
            assert_eq!(parse_url(text).unwrap(), url);
        }
        for text in ["", "x", "ftp://x", "https://", "https://x?a=b", "https://x/#a", "/v1"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
        let refused = parse_url("https://me:hunter2@x").unwrap_err().to_string();
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
