//! The keyring of the desktop, through `secret-tool` of libsecret. A key goes there and comes back
//! through pipes, never as an argument. It is filed under the URL too: a file of contexts that
//! somebody changed does not send it elsewhere.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use zeroize::Zeroizing;

use crate::cli::context_file::ClearKey;
use crate::error::{Error, Result};

const PROGRAM: &str = "secret-tool";

/// Keeps a key.
pub(super) fn store(name: &str, url: &str, api_key: &ClearKey) -> Result<()> {
    let label = format!("--label=tenmint {name}");
    run(&["store", &label], name, url, api_key.0.as_bytes()).and_then(|output| {
        if output.status.success() { Ok(()) } else { Err(failed("keeps nothing", &output)) }
    })
}

/// Finds a key.
pub(super) fn find(name: &str, url: &str) -> Result<ClearKey> {
    let output = run(&["lookup"], name, url, b"")?;
    let text = String::from_utf8(output.stdout.clone()).ok().map(Zeroizing::new);
    let text = text.filter(|text| output.status.success() && !text.is_empty());
    text.map(ClearKey).ok_or_else(|| {
        let what = format!("has no API key for the context `{name}`");
        failed(&what, &output)
    })
}

/// Forgets a key; one that is not there is forgotten already.
pub(super) fn forget(name: &str, url: &str) -> Result<()> {
    run(&["clear"], name, url, b"").map(drop)
}

fn run(action: &[&str], name: &str, url: &str, input: &[u8]) -> Result<Output> {
    let attributes = ["service", "tenmint", "context", name, "url", url];
    let started = Command::new(PROGRAM)
        .args(action)
        .args(attributes)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let finished = started.and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // one that reads nothing says why by itself
            let _ = stdin.write_all(input);
        }
        child.wait_with_output()
    });
    finished.map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => Error::Setup(format!(
            "there is no keyring: `{PROGRAM}` of libsecret is missing\n\
             hint: install it, or `tenmint login` without `--keyring`"
        )),
        _ => Error::Setup(format!("`{PROGRAM}` cannot be run: {cause}")),
    })
}

fn failed(what: &str, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
    Error::Setup(format!("the keyring {what}{said}\nhint: `tenmint login` keeps a new one"))
}
