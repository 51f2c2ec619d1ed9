//! `tenmint serve` with a certificate, and the programs that talk to it: the command line, the
//! doctor, and an API that verifies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Authority;
use crate::cli::{Home, Live, Serving, free_address, stderr, stdout};
use crate::protected_api::Api;

/// A node that speaks TLS with what its `tenmint.toml` names.
struct SecuredNode {
    live: Live,
    authority: Authority,
    /// What clients trust.
    roots: PathBuf,
}

impl SecuredNode {
    fn start() -> Self {
        let (home, authority) = (Home::new(), Authority::new());
        authority.write_to(home.path());
        let roots = home.path().join("roots.pem");
        std::fs::write(&roots, authority.pem()).unwrap();
        let table = "[tls]\ncertificate = 'server.pem'\nprivate_key = 'server.key'\n";
        std::fs::write(home.path().join("tenmint.toml"), table).unwrap();
        let live = Live::in_home_at(home, &format!("https://{}", free_address()));
        Self { live, authority, roots }
    }

    fn home(&self) -> &Path {
        self.live.home.path()
    }
}

#[test]
fn the_command_line_and_the_doctor_trust_a_private_authority_that_ssl_cert_file_names() {
    let node = SecuredNode::start();
    assert_eq!(node.live.serving.url(), node.live.url);
    let token = || node.live.command(&["token"]);
    let output = token().env("SSL_CERT_FILE", &node.roots).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let created = node
        .live
        .command(&["keys", "create", "-n", "app", "-s", "chat"])
        .env("SSL_CERT_FILE", &node.roots)
        .output()
        .unwrap();
    assert!(created.status.success(), "{}", stderr(&created));
    let doctor = || node.live.home.command(&["doctor"]);
    let output = doctor().env("SSL_CERT_FILE", &node.roots).output().unwrap();
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("answers as itself") && text.contains("ok    certificate"), "{text}");

    // without it nobody is trusted who is not known to the machine
    let stranger = node.home().join("stranger.pem");
    std::fs::write(&stranger, Authority::new().pem()).unwrap();
    let output = token().env("SSL_CERT_FILE", &stranger).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("invalid peer certificate"), "{}", stderr(&output));
    let output = doctor().env("SSL_CERT_FILE", &stranger).output().unwrap();
    let text = stdout(&output);
    assert!(text.contains("FAIL  issuer") && text.contains("SSL_CERT_FILE"), "{text}");
}

#[test]
fn an_api_verifies_the_tokens_of_an_issuer_whose_authority_it_is_told() {
    let node = SecuredNode::start();
    let trusting = |arguments: &[&str]| {
        let mut command = node.live.command(arguments);
        let output = command.env("SSL_CERT_FILE", &node.roots).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    };
    let whoami: serde_json::Value =
        serde_json::from_str(&trusting(&["whoami", "-o", "json"])).unwrap();
    let org = whoami["organization"].as_str().unwrap();
    let api = Api::trusting(&node.live.url, org, &node.roots);
    let token = trusting(&["token"]);
    assert_eq!(api.send("GET", "/whoami", Some(&token)).0, 200);
    assert_eq!(api.send("GET", "/whoami", None).0, 401);
}

#[test]
fn a_certificate_is_read_anew_when_it_changes_or_the_process_is_asked_to() {
    let mut node = SecuredNode::start();
    let key = node.home().join("server.key");
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        .unwrap();
    let serving = &mut node.live.serving;
    // by itself
    serving.read_until("the new certificate cannot be used");
    std::fs::write(&key, good).unwrap();
    serving.read_until("the certificate was read anew");
    // and when it is asked
    node.authority.write_to(node.live.home.path());
    serving.signal("HUP");
    serving.read_until("the certificate was read anew");
    let output = node.live.command(&["token"]).env("SSL_CERT_FILE", &node.roots).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let log = node.live.serving.stop();
    assert_eq!(log.matches("the new certificate cannot be used").count(), 1, "{log}");
    assert!(!log.contains("c2VjcmV0"), "{log}");
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of_and_a_missing_one_is_refused() {
    let home = Home::new();
    let files = Authority::new().write_to(home.path());
    home.init("https://127.0.0.1:1");
    let start = |key: &str| {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--tls-private-key", key];
        let mut command = home.command(&arguments);
        command.env("TENMINT_TLS_CERTIFICATE", "server.pem");
        command
    };
    for (mode, is_warned) in [(0o640, false), (0o644, true)] {
        std::fs::set_permissions(&files.private_key, PermissionsExt::from_mode(mode)).unwrap();
        let log = Serving::of(start("server.key")).stop();
        assert_eq!(log.contains("every user of this machine can read"), is_warned, "{log}");
    }
    let refused = start("nowhere.key").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("`nowhere.key` cannot be read"), "{}", stderr(&refused));
    let half = home.run(&["serve", "--tls-certificate", "server.pem"]);
    assert!(stderr(&half).contains("`tls.private_key`: say"), "{}", stderr(&half));
}
