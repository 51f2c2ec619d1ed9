//! TLS of a listener: a certificate and its private key out of two files, which are read anew when
//! they change. Who gets TLS is said in `tenmint.toml`; connections are made in
//! [`listener`](super::listener).
//!
//! The text of a private key is wiped once it was read, and no fault tells any of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::{Accept, TlsAcceptor};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of an answer that wait in memory for a client that is slow to take them; 64 KiB unless said.
const MAX_WAITING_BYTES: usize = 16 * 1024;

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain in PEM, the certificate of the server first.
    pub certificate: PathBuf,
    /// Its key in PEM, not encrypted: PKCS#8, PKCS#1 or SEC1.
    pub private_key: PathBuf,
}

/// What a listener shows who it is with. New connections take what was read last.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    seen: Mutex<FileStamps>,
}

/// The files as they were at the last look, and as they were when they were last read.
#[derive(Debug, Clone, Copy)]
struct FileStamps {
    at_last_look: Stamps,
    when_read: Stamps,
}

type Stamps = [Option<Stamp>; 2];

/// What tells a file from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the two files.
    ///
    /// # Errors
    /// [`Error::Setup`] where they cannot be read or do not belong together.
    pub fn load(files: TlsFiles) -> Result<Self> {
        // before they are read: what changes meanwhile is seen at the next look
        let stamps = files.stamps();
        let current = files.read()?;
        if files.key_is_open() {
            tracing::warn!(
                private_key = %files.private_key.display(),
                "every user of this machine can read the private key: `chmod o=` it"
            );
        }
        let seen = FileStamps { at_last_look: stamps, when_read: stamps };
        Ok(Self { files, current: RwLock::new(current), seen: Mutex::new(seen) })
    }

    /// The handshake of a connection.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Accept<S> {
        let config = self.current.read().clone();
        TlsAcceptor::from(config).accept_with(stream, |session| {
            session.set_buffer_limit(Some(MAX_WAITING_BYTES));
        })
    }

    /// Looks whether the files have changed, and reads them if so. They are written one after the
    /// other, so they are read once they are found the same twice.
    pub fn look(&self) {
        let stamps = self.files.stamps();
        let is_due = {
            let mut seen = self.seen.lock();
            let rests = seen.at_last_look == stamps;
            seen.at_last_look = stamps;
            rests && seen.when_read != stamps
        };
        if is_due {
            self.read_anew();
        }
    }

    /// Reads the files. A pair that cannot be used leaves the one before in use.
    pub fn read_anew(&self) {
        let stamps = self.files.stamps();
        let read = self.files.read();
        // also where it failed: the same pair is no better at the next look
        *self.seen.lock() = FileStamps { at_last_look: stamps, when_read: stamps };
        match read {
            Ok(config) => {
                *self.current.write() = config;
                tracing::info!("the certificate was read anew: new connections get it");
            }
            Err(cause) => tracing::error!(
                %cause,
                "the new certificate cannot be used: new connections get the one before"
            ),
        }
    }

    /// Looks every two seconds, and reads at each hang-up; for ever.
    pub async fn follow(self: Arc<Self>, mut hangups: Signal) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = looks.tick() => false,
                _ = hangups.recv() => true,
            };
            let tls = self.clone();
            // files can lie on a network that hangs
            let done = spawn_blocking(move || if is_asked { tls.read_anew() } else { tls.look() });
            drop(done.await);
        }
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Arc<ServerConfig>> {
        let (chain, key) = (self.read_chain()?, self.read_key()?);
        // the causes of ring say nothing that helps
        let key = any_supported_type(&key).map_err(|_| {
            Error::Setup(format!(
                "the private key `{}` is none that is known: it takes RSA, ECDSA and Ed25519",
                self.private_key.display()
            ))
        })?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|cause| self.misfit(&cause))?;
        server_config(certified).map(Arc::new).map_err(|cause| self.misfit(&cause))
    }

    fn misfit(&self, cause: &rustls::Error) -> Error {
        let (certificate, key) = (self.certificate.display(), self.private_key.display());
        Error::Setup(match cause {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                "the private key `{key}` is not the one of the first certificate in `{certificate}`"
            ),
            cause => format!("the certificate `{certificate}` cannot be used: {cause}"),
        })
    }

    fn read_chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        let text = read_file("certificate", &self.certificate)?;
        let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            Error::Setup(format!("`{}` holds no certificate in PEM", self.certificate.display()))
        })
    }

    fn read_key(&self) -> Result<Zeroizing<PrivateKeyDer<'static>>> {
        let text = read_file("private key", &self.private_key)?;
        PrivateKeyDer::from_pem_slice(&text).map(Zeroizing::new).map_err(|_| {
            Error::Setup(format!(
                "`{}` holds no private key in PEM: it takes PKCS#8, PKCS#1 or SEC1, not encrypted",
                self.private_key.display()
            ))
        })
    }

    fn stamps(&self) -> Stamps {
        [&self.certificate, &self.private_key].map(|path| Stamp::of(path))
    }

    /// Whether users beyond the owner and the group may read the key.
    fn key_is_open(&self) -> bool {
        use std::os::unix::fs::PermissionsExt;
        let found = std::fs::metadata(&self.private_key);
        found.is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { modified: found.modified().ok()?, bytes: found.len() })
    }
}

/// Wiped when it is dropped, since it can hold a key.
fn read_file(what: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    std::fs::read(path).map(Zeroizing::new).map_err(|cause| {
        Error::Setup(format!("the {what} `{}` cannot be read: {cause}", path.display()))
    })
}

/// TLS 1.2 and 1.3 with the suites that rustls holds safe. The key of its tickets is of its own, so
/// that nobody resumes past a certificate that was replaced.
fn server_config(certified: CertifiedKey) -> std::result::Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new()?;
    // who comes back takes one, and each costs its bytes on the wire
    config.send_tls13_tickets = 1;
    Ok(config)
}
