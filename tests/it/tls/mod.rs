//! TLS at the listener: with whom it speaks, whom it cuts, what it does when the certificate changes,
//! and whom it refuses where a proxy ends TLS instead.

mod handshakes;
mod program;
mod proxies;
mod renewal;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tenmint::http::tls::{Tls, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::{Answer, Engine, Server, Setup};

/// What does not come about within this is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority of a test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut ask = CertificateParams::new(Vec::new()).unwrap();
        ask.distinguished_name.push(DnType::CommonName, "an authority");
        ask.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(ask, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Its own certificate, which a client has to trust.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A new certificate for this machine, and its key, in PEM.
    pub fn certify(&self) -> (String, KeyPair) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut ask = CertificateParams::new(names).unwrap();
        ask.distinguished_name.push(DnType::CommonName, "a server");
        let key = KeyPair::generate().unwrap();
        let certificate = ask.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key)
    }

    /// The same in two files of a directory.
    pub fn write_to(&self, directory: &Path) -> TlsFiles {
        let files = TlsFiles {
            certificate: directory.join("server.pem"),
            private_key: directory.join("server.key"),
        };
        let (certificate, key) = self.certify();
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.private_key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that trusts it and nobody else.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
        ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

/// A server that speaks TLS, and who certified it.
struct Secured {
    authority: Authority,
    files: TlsFiles,
    tls: Arc<Tls>,
    server: Server,
    _directory: TempDir,
}

impl Secured {
    async fn start() -> Self {
        Self::of(Setup::on(Engine::Sqlite)).await
    }

    async fn of(mut setup: Setup) -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
        let files = authority.write_to(directory.path());
        let tls = Arc::new(Tls::load(files.clone()).unwrap());
        setup.tls = Some(tls.clone());
        let server = setup.start().await.unwrap();
        Self { authority, files, tls, server, _directory: directory }
    }

    fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.authority.client(rustls::DEFAULT_VERSIONS))
    }
}

async fn connect(
    client: &Arc<ClientConfig>,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let shaken = TlsConnector::from(client.clone()).connect(ServerName::from(address.ip()), stream);
    timeout(PATIENCE, shaken).await.expect("a handshake ends")
}

/// What comes back until the connection closes.
async fn exchange(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> Answer {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    Answer::parse(&String::from_utf8_lossy(&answer))
}
