//! `tenmint login`, `logout` and `context`: servers by name, and the API key for each.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Uri;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::api::Api;
use crate::cli::context_file::{ClearKey, Context, ContextFile, Contexts};
use crate::cli::failure::{Failure, Result};
use crate::cli::output::Output;
use crate::cli::prompt;
use crate::cli::server::{Server, no_context, parse_url};
use crate::cli::{keyring, whoami};
use crate::error;

/// The name of the context of a first look.
const DEV: &str = "dev";

/// Arguments of `tenmint login`. The API key comes from stdin or a prompt, never as an argument.
#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The server [env: `TENMINT_URL`] [default: the one of the context]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What to call it [default: the name of the host; with its port, where another server has that]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Take the name from another server: the key that is kept for that one is lost
    #[arg(short, long)]
    force: bool,
    /// Keep the key in the keyring of the desktop (libsecret) instead of the file of contexts
    #[arg(long)]
    keyring: bool,
}

/// Arguments of `tenmint logout`.
#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    /// Which context to forget [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Commands on contexts.
#[derive(Debug, Subcommand)]
pub(super) enum ContextCommand {
    /// List the contexts
    List,
    /// Make a context the current one
    Use(NameArgs),
    /// Show a context [default: the current one]
    Show(MaybeNameArgs),
}

/// One context.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// One context, or the current one.
#[derive(Debug, Args)]
pub(super) struct MaybeNameArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Keeps the server and key of a first look, and makes it the current one where there is no other.
/// Says where it is kept, and how to use it.
///
/// # Errors
/// [`error::Error`]: there is no place for it, or it cannot be written.
pub(super) fn save_dev(url: &str, api_key: &str) -> error::Result<String> {
    let file = ContextFile::locate()?;
    let api_key = Some(ClearKey(Zeroizing::new(api_key.to_owned())));
    let context = Context { url: url.to_owned(), api_key };
    let (name, is_current) = file.update(|contexts| {
        let name = contexts.name_for(DEV, url)?;
        contexts.contexts.insert(name.clone(), context);
        let is_current = *contexts.current.get_or_insert_with(|| name.clone()) == name;
        Ok((name, is_current))
    })?;
    let hint = format!("\nhint: `tenmint context use {name}` makes it the current one");
    let hint = if is_current { "" } else { &hint };
    Ok(format!("kept as the context `{name}` in {}{hint}", file.path().display()))
}

impl Contexts {
    /// Whether a name is free for a server: nobody's, or its own already.
    fn is_free(&self, name: &str, url: &str) -> bool {
        self.contexts.get(name).is_none_or(|known| known.url == url)
    }

    /// A name for a server that does not take it from another one, whose key would be lost.
    fn name_for(&self, wanted: &str, url: &str) -> error::Result<String> {
        if self.is_free(wanted, url) {
            return Ok(wanted.to_owned());
        }
        let with_port = format!("{wanted}-{}", port_of(url));
        self.check_free(&with_port, url)?;
        Ok(with_port)
    }

    /// Refuses a name that is another server's.
    fn check_free(&self, name: &str, url: &str) -> error::Result<()> {
        if self.is_free(name, url) {
            return Ok(());
        }
        let known = self.contexts.get(name).map(|known| known.url.as_str()).unwrap_or_default();
        let message = format!("the context `{name}` is for {known}, whose key would be lost");
        Err(error::Error::Conflict("context_taken", message))
    }
}

pub(super) async fn login(args: LoginArgs, output: &Output) -> Result<ExitCode> {
    let file = ContextFile::locate()?;
    let (name, url) = args.name_and_url(&file)?;
    if url.starts_with("http://") && !is_local(&url) {
        output.note(&format!("warning: the API key travels to {url} in the clear; https hides it"));
    }
    let api_key = prompt::secret("API key: ", output)?;
    let server = Server { url: url.clone(), api_key: api_key.clone() };
    let (_, _, held) = Api::new(server, None)?.send(&whoami::request()).await?;
    let api_key = ClearKey(api_key);
    if args.keyring {
        keyring::store(&name, &url, &api_key)?;
    }
    let context = Context { url, api_key: (!args.keyring).then_some(api_key) };
    file.update(|contexts| {
        // somebody else may have logged in while the key was typed
        if !args.force {
            contexts.check_free(&name, &context.url)?;
        }
        contexts.contexts.insert(name.clone(), context);
        contexts.current = Some(name.clone());
        Ok(())
    })?;
    say_hello(&name, &held, output);
    Ok(ExitCode::SUCCESS)
}

fn say_hello(name: &str, held: &Value, output: &Output) {
    let text = |member| held.get(member).and_then(Value::as_str).unwrap_or_default();
    let words = format!(
        "logged in to `{name}` as {} of {} with {}",
        text("owner"),
        text("organization"),
        text("api_key")
    );
    output.result(&json!({"context": name, "whoami": held}), &words);
}

/// What to do about a name that is another server's.
fn taken(cause: error::Error) -> Failure {
    Failure::from(cause).hint("choose another `--context`, or take this one with `--force`")
}

impl LoginArgs {
    fn name_and_url(&self, file: &ContextFile) -> Result<(String, String)> {
        let known = file.load()?;
        let variable = || std::env::var("TENMINT_URL").ok().filter(|url| !url.is_empty());
        let url = match (&self.url, &self.context) {
            (Some(url), _) => Some(url.clone()),
            // a key for a server that has a name already
            (None, Some(name)) => known.contexts.get(name).map(|known| known.url.clone()),
            (None, None) => None,
        };
        let url = url.or_else(variable).ok_or_else(|| {
            Failure::usage("say which server")
                .hint("`tenmint login --url https://auth.example.com`")
        })?;
        let url = parse_url(&url)?;
        let name = match &self.context {
            Some(name) if self.force => name.clone(),
            Some(name) => known.check_free(name, &url).map(|()| name.clone()).map_err(taken)?,
            None => known.name_for(&host_of(&url), &url).map_err(taken)?,
        };
        Ok((name, url))
    }
}

fn host_of(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or(url);
    host.trim_matches(['[', ']']).to_owned()
}

fn port_of(url: &str) -> u16 {
    let uri: Option<Uri> = url.parse().ok();
    let default = if url.starts_with("http://") { 80 } else { 443 };
    uri.and_then(|uri| uri.port_u16()).unwrap_or(default)
}

/// Whether what is sent to a URL stays on this machine.
fn is_local(url: &str) -> bool {
    let host = host_of(url);
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

pub(super) fn logout(args: LogoutArgs, output: &Output) -> Result<ExitCode> {
    let file = ContextFile::locate()?;
    // whoever wants the key gone is not sent away
    if file.make_private()? {
        let path = file.path().display();
        output.note(&format!(
            "others could read the API keys in `{path}`: its mode is 0600 now; revoke the keys if \
             somebody may have"
        ));
    }
    let (name, context) = named(file.load()?, args.context)?;
    if context.api_key.is_none() {
        keyring::forget(&name, &context.url)?;
    }
    file.update(|contexts| {
        contexts.contexts.remove(&name);
        contexts.current.take_if(|current| *current == name);
        Ok(())
    })?;
    let words = format!("forgot `{name}`; the API key itself lives on until it is revoked");
    output.result(&json!({"context": name}), &words);
    Ok(ExitCode::SUCCESS)
}

/// The context of this name, or the current one.
fn named(mut contexts: Contexts, name: Option<String>) -> Result<(String, Context)> {
    let Some(name) = name.or(contexts.current) else {
        return Err(Failure::usage("no context is the current one").hint("name one"));
    };
    let context = contexts.contexts.remove(&name).ok_or_else(|| no_context(&name))?;
    Ok((name, context))
}

pub(super) fn run(command: ContextCommand, output: &Output) -> Result<ExitCode> {
    let file = ContextFile::locate()?;
    match command {
        ContextCommand::List => list(&file.load()?, output),
        ContextCommand::Use(NameArgs { name }) => {
            let known = file.update(|contexts| {
                let known = contexts.contexts.contains_key(&name);
                if known {
                    contexts.current = Some(name.clone());
                }
                Ok(known)
            })?;
            if !known {
                return Err(no_context(&name));
            }
            output.result(&json!({"context": name}), &format!("`{name}` is the current context"));
        }
        ContextCommand::Show(MaybeNameArgs { name }) => {
            let contexts = file.load()?;
            let current = contexts.current.clone();
            let (name, context) = named(contexts, name)?;
            let shown = body(&name, &context, current.as_deref());
            output.result(&shown, &output.fields(&shown, &[]));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(contexts: &Contexts, output: &Output) {
    let current = contexts.current.as_deref();
    let bodies = contexts.contexts.iter().map(|(name, context)| body(name, context, current));
    let lines = contexts.contexts.iter().map(|(name, context)| {
        let mark = if current == Some(name) { "*" } else { " " };
        format!("{mark} {name}  {}\n", context.url)
    });
    if contexts.contexts.is_empty() && !output.is_json() {
        output.note("there are no contexts\nhint: `tenmint login --url URL` makes one");
        return;
    }
    output.result(&json!({"items": bodies.collect::<Vec<_>>()}), &lines.collect::<String>());
}

/// A context without its key.
fn body(name: &str, context: &Context, current: Option<&str>) -> Value {
    let kept_in = if context.api_key.is_some() { "file" } else { "keyring" };
    json!({"context": name, "url": context.url, "api_key_in": kept_in, "current": current == Some(name)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_called_like_its_host() {
        assert_eq!(host_of("https://auth.example.com:8443"), "auth.example.com");
        assert_eq!(host_of("http://[::1]:8080"), "::1");
        assert!(
            is_local("http://127.0.0.1:8080")
                && is_local("http://[::1]")
                && is_local("http://localhost")
        );
        for (url, port) in [("http://a", 80), ("https://a/x", 443), ("http://[::1]:8080", 8080)] {
            assert_eq!(port_of(url), port);
        }
        assert!(!is_local("http://10.0.0.1") && !is_local("http://localhost.example.com"));
    }
}
