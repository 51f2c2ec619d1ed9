//! The configuration: flags over `TENMINT_*` over `tenmint.toml` over defaults.

mod observe;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cli::config::observe::Observe;
use crate::error::{Error, Result};
use crate::http::HttpConfig;
use crate::http::client_ip::TrustedProxies;
use crate::http::listener::Limits;
use crate::http::tls::TlsFiles;
use crate::http::traces::TracesConfig;
use crate::model::signing_key_schedule::SHORTEST_PUBLICATION;
use crate::model::time::parse_duration;
use crate::service::DatabaseUrl;
use crate::service::ledger::LedgerConfig;
use crate::service::node::{JOURNAL_FILE, NodeConfig, SigningKeyConfig};

pub(super) use observe::ObserveOverrides;
pub(super) use settings::page;

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
    /// What it tells of itself.
    pub(super) observe: ObserveOverrides,
    /// Proxies that are believed, separated by commas.
    pub(super) trusted_proxies: Option<String>,
    /// The header that they write.
    pub(super) forwarding_header: Option<String>,
    /// The certificate chain to show.
    pub(super) tls_certificate: Option<PathBuf>,
    /// Its private key.
    pub(super) tls_private_key: Option<PathBuf>,
    /// The journal of revocations.
    pub(super) revocation_journal: Option<PathBuf>,
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
    /// Where gateways ask that show no key.
    pub(super) private_listen: Option<String>,
    /// Where figures are told.
    pub(super) observe_listen: Option<String>,
    /// Who is told of requests.
    pub(super) traces: Option<TracesConfig>,
    /// How the face for machines is set up, but for TLS.
    pub(super) http: HttpConfig,
    /// The files that make it speak TLS.
    pub(super) tls: Option<TlsFiles>,
    /// How a node issues and records.
    pub(super) node: NodeConfig,
    /// The file that was read, if there was one.
    pub(super) file: Option<PathBuf>,
}

/// `tenmint.toml`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    migrate: Option<bool>,
    listen: Option<String>,
    max_connections: Option<u32>,
    failures_per_minute: Option<u32>,
    trusted_proxies: Option<Vec<String>>,
    forwarding_header: Option<String>,
    #[serde(default)]
    tls: TlsTable,
    #[serde(default)]
    forward_auth: ForwardAuth,
    #[serde(default)]
    observe: Observe,
    #[serde(default)]
    ledger: Ledger,
    revocation_journal: Option<PathBuf>,
    #[serde(default)]
    signing_keys: SigningKeys,
    #[serde(default)]
    store_outage: StoreOutage,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct TlsTable {
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Ledger {
    mode: Option<String>,
    keep: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct SigningKeys {
    rotate_every: Option<String>,
    publish_for: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct ForwardAuth {
    listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
        let keys_dir = overrides.keys_dir.or(file.keys_dir).unwrap_or_else(|| "keys".into());
        let journal = overrides.revocation_journal.or(file.revocation_journal);
        let journal = journal.unwrap_or_else(|| keys_dir.join(JOURNAL_FILE));
        let node = NodeConfig {
            migrate: file.migrate.unwrap_or(true),
            signing_keys: read_signing_keys(&file.signing_keys)?,
            journal,
            ..read_node(&data_dir, &file.ledger, &file.store_outage)?
        };
        let proxies = overrides.trusted_proxies.map(|list| words(&list));
        // the two only make sense together, so they come from one layer
        let trusted_proxies = match read_proxies(proxies, overrides.forwarding_header)? {
            Some(proxies) => proxies,
            None => read_proxies(file.trusted_proxies, file.forwarding_header)?.unwrap_or_default(),
        };
        let http = bounded(trusted_proxies, file.max_connections, file.failures_per_minute);
        let TlsTable { certificate, private_key } = file.tls;
        // a key belongs to its certificate, so these come from one layer too
        let tls = match read_tls(overrides.tls_certificate, overrides.tls_private_key)? {
            Some(files) => Some(files),
            None => read_tls(certificate, private_key)?,
        };
        let (observe_listen, traces) = file.observe.read(overrides.observe)?;
        Ok(Self {
            database,
            keys_dir,
            listen: overrides.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            private_listen: file.forward_auth.listen,
            observe_listen,
            traces,
            http,
            tls,
            node,
            file: path,
        })
    }
}

/// How the face for machines is set up, with these bounds where they are said.
fn bounded(
    trusted_proxies: TrustedProxies,
    max_connections: Option<u32>,
    failures_per_minute: Option<u32>,
) -> HttpConfig {
    let defaults = Limits::default();
    let max_connections = max_connections.unwrap_or(defaults.max_connections).max(1);
    let limits = Limits { max_connections, ..defaults };
    let http = HttpConfig { limits, trusted_proxies, ..HttpConfig::default() };
    match failures_per_minute {
        Some(most) => http.with_failures_per_minute(most),
        None => http,
    }
}

/// How a node issues and records, with this directory of its own.
fn read_node(directory: &Path, ledger: &Ledger, outage: &StoreOutage) -> Result<NodeConfig> {
    let defaults = NodeConfig::in_directory(directory);
    let mode = ledger.mode.as_deref().map(str::parse).transpose();
    let keep = ledger.keep.as_deref();
    let keep = keep.map(|text| duration("ledger.keep", text, "write `400d`")).transpose()?;
    let serve_for = outage.serve_for.as_deref().unwrap_or("5m");
    let mode = mode.map_err(|cause| Error::invalid("ledger.mode", cause))?.unwrap_or_default();
    Ok(NodeConfig {
        serve_for: duration("store_outage.serve_for", serve_for, "write `5m` or `0s`")?,
        ledger: LedgerConfig { mode, keep, ..defaults.ledger },
        ..defaults
    })
}

/// When signing keys take turns: no sooner than verifiers in the field can follow.
fn read_signing_keys(said: &SigningKeys) -> Result<SigningKeyConfig> {
    let rotate_every = match said.rotate_every.as_deref() {
        None => None,
        Some("never") => Some(None),
        Some(text) => {
            let example = "write `90d`, or `never` to rotate by command alone";
            Some(Some(duration("signing_keys.rotate_every", text, example)?))
        }
    };
    let (field, example) = ("signing_keys.publish_for", "write `24h`; 2 h is the least");
    let publish_for = said.publish_for.as_deref();
    let publish_for = publish_for.map(|text| duration(field, text, example)).transpose()?;
    if publish_for.is_some_and(|publish_for| publish_for < SHORTEST_PUBLICATION) {
        return Err(Error::invalid(field, example));
    }
    Ok(SigningKeyConfig { rotate_every, publish_for, retire_for: None })
}

fn duration(field: &'static str, text: &str, example: &'static str) -> Result<Duration> {
    parse_duration(text).ok_or_else(|| Error::invalid(field, example))
}

/// The proxies that one layer names, if it does.
fn read_proxies(
    proxies: Option<Vec<String>>,
    header: Option<String>,
) -> Result<Option<TrustedProxies>> {
    let proxies = proxies.filter(|proxies| !proxies.is_empty());
    let header = header.filter(|header| !header.is_empty());
    match (proxies, header) {
        (None, None) => Ok(None),
        (Some(proxies), Some(header)) => {
            TrustedProxies::parse(&proxies, &header).map(Some).map_err(Error::Invalid)
        }
        (Some(_), None) => Err(Error::invalid(
            "forwarding_header",
            "say beside `trusted_proxies` which header they write: `x-forwarded-for` or \
             `forwarded`",
        )),
        (None, Some(_)) => Err(Error::invalid(
            "trusted_proxies",
            "say beside `forwarding_header` which proxies are believed, like `10.0.0.0/8`: nobody \
             else's header is",
        )),
    }
}

/// The certificate and the key that one layer names, if it does.
fn read_tls(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<TlsFiles>> {
    let said = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
    match (said(certificate), said(key)) {
        (None, None) => Ok(None),
        (Some(certificate), Some(private_key)) => Ok(Some(TlsFiles { certificate, private_key })),
        (Some(_), None) => Err(Error::invalid(
            "tls.private_key",
            "say beside `tls.certificate` which file holds its private key",
        )),
        (None, Some(_)) => Err(Error::invalid(
            "tls.certificate",
            "say beside `tls.private_key` which file holds the certificate chain",
        )),
    }
}

/// What stands between commas, without the blanks around it.
fn words(list: &str) -> Vec<String> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
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

#[cfg(test)]
mod tests {
    use super::settings::SETTINGS;
    use super::*;

    #[test]
    fn every_field_of_the_file_is_a_setting_of_the_page() {
        let schema = schemars::schema_for!(File);
        let fields = schema.get("properties").unwrap().as_object().unwrap();
        let of_file: Vec<&str> = fields.keys().map(String::as_str).collect();
        let mut of_page: Vec<&str> =
            SETTINGS.iter().map(|setting| setting.key.split('.').next().unwrap()).collect();
        of_page.sort_unstable();
        // a table is one field, however many it holds
        of_page.dedup();
        assert_eq!(of_file, of_page);
    }

    #[test]
    fn a_certificate_and_its_key_come_together_from_one_layer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tenmint.toml");
        let loaded = |file: &str, certificate: Option<&str>, key: Option<&str>| {
            std::fs::write(&path, file).unwrap();
            let config = Config::load(Overrides {
                file: Some(path.clone()),
                tls_certificate: certificate.map(PathBuf::from),
                tls_private_key: key.map(PathBuf::from),
                ..Overrides::default()
            });
            let files = |tls: TlsFiles| [tls.certificate, tls.private_key];
            config.map(|config| config.tls.map(files)).map_err(|cause| cause.to_string())
        };
        let both = "[tls]\ncertificate = 'a.pem'\nprivate_key = 'a.key'";
        let files = |certificate: &str, key: &str| Ok(Some([certificate.into(), key.into()]));
        assert_eq!(loaded("", None, None), Ok(None));
        assert_eq!(loaded("[tls]", None, Some("")), Ok(None));
        assert_eq!(loaded(both, None, None), files("a.pem", "a.key"));
        assert_eq!(loaded(both, Some("b.pem"), Some("b.key")), files("b.pem", "b.key"));
        for (file, certificate, key, fault) in [
            ("[tls]\ncertificate = 'a.pem'", None, None, "`tls.private_key`: say"),
            ("[tls]\nprivate_key = 'a.key'", None, None, "`tls.certificate`: say"),
            (both, Some("b.pem"), None, "`tls.private_key`: say"),
            (both, None, Some("b.key"), "`tls.certificate`: say"),
            ("[tls]\nkey = 'a.key'", None, None, "unknown field `key`"),
        ] {
            let found = loaded(file, certificate, key).unwrap_err();
            assert!(found.contains(fault), "{file}: {found}");
        }
    }

    /// What is loaded of a file, a list of proxies in the environment, and the header there.
    fn load(file: &str, proxies: &str, header: &str) -> std::result::Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tenmint.toml");
        std::fs::write(&path, file).unwrap();
        let said = |text: &str| (text != "-").then(|| text.to_owned());
        let config = Config::load(Overrides {
            file: Some(path),
            trusted_proxies: said(proxies),
            forwarding_header: said(header),
            ..Overrides::default()
        });
        let trusted = config.map(|config| config.http.trusted_proxies.to_string());
        trusted.map_err(|cause| cause.to_string())
    }

    #[test]
    fn proxies_and_their_header_come_together_from_one_layer() {
        let file = "trusted_proxies = ['10.0.0.1', '::ffff:10.0.0.0/120']\n\
                    forwarding_header = 'Forwarded'";
        let of_file = "forwarded from 10.0.0.1 10.0.0.0/24";
        for (file, proxies, header, trusted) in [
            ("", "-", "-", "nobody"),
            ("trusted_proxies = []", "", "", "nobody"),
            (file, "-", "-", of_file),
            (file, "", "", of_file),
            (
                file,
                "192.0.2.1, 192.0.2.2,",
                "x-forwarded-for",
                "x-forwarded-for from 192.0.2.1 192.0.2.2",
            ),
        ] {
            assert_eq!(load(file, proxies, header).as_deref(), Ok(trusted), "{file} {proxies}");
        }
        for (file, proxies, header, fault) in [
            ("trusted_proxies = ['10.0.0.1']", "-", "-", "`forwarding_header`: say"),
            ("forwarding_header = 'forwarded'", "-", "-", "`trusted_proxies`: say"),
            (
                "trusted_proxies = []\nforwarding_header = 'forwarded'",
                "-",
                "-",
                "`trusted_proxies`: say",
            ),
            (file, "10.0.0.1", "-", "`forwarding_header`: say"),
            (file, "", "x-forwarded-for", "`trusted_proxies`: say"),
            ("", "10.0.0.1/8", "forwarded", "write `10.0.0.0/8`"),
            ("", "0.0.0.0/0", "forwarded", "every caller"),
            ("", "10.0.0.1", "x-real-ip", "`x-forwarded-for` or `forwarded`"),
        ] {
            let found = load(file, proxies, header).unwrap_err();
            assert!(found.contains(fault), "{file} {proxies} {header}: {found}");
        }
    }
}
