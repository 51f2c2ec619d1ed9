//! The configuration: flags over `TENMINT_*` over `tenmint.toml` over defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::http::listener::Limits;
use crate::service::DatabaseUrl;

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "tenmint.toml";

/// What flags and environment say; each may be absent.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides {
    /// The file to read instead of `tenmint.toml`.
    pub(super) file: Option<PathBuf>,
    /// Where the embedded database lives.
    pub(super) data_dir: Option<PathBuf>,
    /// Where the master key lives.
    pub(super) keys_dir: Option<PathBuf>,
    /// The database, where it is not the embedded one.
    pub(super) database_url: Option<String>,
    /// A file that holds the URL of the database, since that can hold a password.
    pub(super) database_url_file: Option<PathBuf>,
    /// Where to listen.
    pub(super) listen: Option<String>,
}

/// The configuration of a node.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// The database.
    pub(super) database: DatabaseUrl,
    /// Where the master key lives.
    pub(super) keys_dir: PathBuf,
    /// Where to listen.
    pub(super) listen: String,
    /// What the listener allows.
    pub(super) limits: Limits,
    /// How long a node goes on issuing without its database.
    pub(super) serve_for: Duration,
    /// The file that was read, if there was one.
    pub(super) file: Option<PathBuf>,
}

/// `tenmint.toml`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_field_names,
    reason = "`_file` is how a secret in a file is named everywhere"
)]
struct File {
    data_dir: Option<PathBuf>,
    keys_dir: Option<PathBuf>,
    database_url: Option<String>,
    database_url_file: Option<PathBuf>,
    listen: Option<String>,
    max_connections: Option<u32>,
    #[serde(default)]
    store_outage: StoreOutage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreOutage {
    serve_for: Option<String>,
}

impl Config {
    /// Puts the sources together.
    ///
    /// # Errors
    /// [`Error::Setup`] for a file that cannot be read, [`Error::Invalid`] for a bad value.
    pub(super) fn load(overrides: Overrides) -> Result<Self> {
        let (path, file) = read_file(overrides.file.as_deref())?;
        let data_dir = overrides.data_dir.or(file.data_dir).unwrap_or_else(|| "data".into());
        // layer by layer, so that a file named in the environment stands above a URL in the file
        let url = match read_url(overrides.database_url, overrides.database_url_file)? {
            Some(url) => Some(url),
            None => read_url(file.database_url, file.database_url_file)?,
        };
        let database = match url {
            Some(url) => DatabaseUrl::parse(&url)?,
            None => DatabaseUrl::in_directory(&data_dir),
        };
        let serve_for = file.store_outage.serve_for.as_deref().unwrap_or("5m");
        let defaults = Limits::default();
        let max_connections = file.max_connections.unwrap_or(defaults.max_connections);
        Ok(Self {
            database,
            keys_dir: overrides.keys_dir.or(file.keys_dir).unwrap_or_else(|| "keys".into()),
            listen: overrides.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            limits: Limits { max_connections: max_connections.max(1), ..defaults },
            serve_for: parse_duration(serve_for)
                .ok_or_else(|| Error::invalid("store_outage.serve_for", "write `5m` or `0s`"))?,
            file: path,
        })
    }
}

fn read_url(url: Option<String>, file: Option<PathBuf>) -> Result<Option<Zeroizing<String>>> {
    match (url, file) {
        (Some(url), _) => Ok(Some(Zeroizing::new(url))),
        (None, file) => file.map(|path| read_secret(&path)).transpose(),
    }
}

/// Reads a secret from a file, without the line end behind it.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|cause| {
        Error::Setup(format!("the file `{}` cannot be read: {cause}", path.display()))
    })?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A file that is named must be there; the default one may be missing.
fn read_file(named: Option<&Path>) -> Result<(Option<PathBuf>, File)> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok((None, File::default()));
        }
        Err(cause) => {
            let message = format!("the configuration `{}` cannot be read: {cause}", path.display());
            return Err(Error::Setup(message));
        }
    };
    let file = toml::from_str(&text).map_err(|cause| {
        // the message alone: the whole error quotes the line, which can hold a password
        Error::Setup(format!(
            "the configuration `{}` is wrong: {}",
            path.display(),
            cause.message()
        ))
    })?;
    Ok((Some(path.to_owned()), file))
}

/// A number and `s`, `m`, `h` or `d`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(parse_duration("5m"), Some(Duration::from_mins(5)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for text in ["", "5", "m", "5w", "-5m", "5\u{e9}"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
