//! The whole way: an API key, a token, and an API that verifies it locally. The API is the example
//! of the verifier crate, run as a process of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cli::{Live, stdout};

pub struct Api {
    child: Child,
    url: String,
}

impl Api {
    fn start(issuer: &str, org: &str) -> Self {
        Self::of(issuer, org, None)
    }

    /// One that trusts these authorities to say who the issuer is.
    pub fn trusting(issuer: &str, org: &str, roots: &Path) -> Self {
        Self::with(issuer, org, &[("SSL_CERT_FILE", roots.as_os_str())])
    }

    /// One that takes raw keys too, where it has a key of its own to ask with.
    fn of(issuer: &str, org: &str, own_key: Option<&str>) -> Self {
        let own_key = own_key.map(|key| ("OWN_API_KEY", OsStr::new(key)));
        Self::with(issuer, org, own_key.as_slice())
    }

    fn with(issuer: &str, org: &str, more: &[(&str, &OsStr)]) -> Self {
        let arguments = ["build", "-q", "-p", "tenmint-verifier", "--example", "protected_api"];
        let built = Command::new(env!("CARGO")).args(arguments).arg("--all-features").status();
        assert!(built.unwrap().success());
        let program =
            Path::new(env!("CARGO_BIN_EXE_tenmint")).with_file_name("examples/protected_api");
        let mut child = Command::new(program)
            .env("ISSUER", issuer)
            .env("AUDIENCE", "https://api.example.com")
            .env("ORG", org)
            .env("LISTEN", "127.0.0.1:0")
            .envs(more.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, url }
    }

    /// The status, the challenge and the body of a request.
    pub fn send(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String, String) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-i", "--path-as-is", "-X", method, &format!("{}{path}", self.url)]);
        if let Some(token) = token {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let challenge = head.lines().find_map(|line| line.strip_prefix("www-authenticate: "));
        (status, challenge.unwrap_or_default().to_owned(), body.to_owned())
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A token of a new key, as the command line fetches it.
fn token(live: &Live, arguments: &[&str]) -> String {
    let (_, text) = live.api_key(arguments);
    stdout(&live.token(&text, &[])).trim().to_owned()
}

#[test]
fn an_api_takes_the_tokens_it_should_and_no_others() {
    let live = Live::start();
    let org = live.json(&["whoami"])["organization"].as_str().unwrap().to_owned();
    let api = Api::start(&live.url, &org);
    let reader = token(&live, &["-s", "read:projects/alpha,read:projects/alpha/*"]);

    for path in ["/projects/alpha", "/projects/alpha/logs", "/projects/alpha/a/b/c", "/whoami"] {
        assert_eq!(api.send("GET", path, Some(&reader)).0, 200, "{path}");
    }
    let whoami: Value = serde_json::from_str(&api.send("GET", "/whoami", Some(&reader)).2).unwrap();
    assert_eq!((&whoami["org"], &whoami["iss"]), (&org.into(), &live.url.as_str().into()));

    let (status, challenge, _) = api.send("PUT", "/projects/alpha", Some(&reader));
    assert_eq!(status, 403);
    assert!(challenge.contains("insufficient_scope") && challenge.contains("write:projects/alpha"));
    for path in [
        "/projects/alphabet",
        "/projects/beta",
        "/projects/alpha%2fx",
        "/projects/ALPHA",
        "/projects/alpha%00",
    ] {
        assert_eq!(api.send("GET", path, Some(&reader)).0, 403, "{path}");
    }
    for path in [
        "/projects/alpha/../beta",
        "/projects/alpha/%2e%2e/beta",
        "/projects/alpha//beta",
        "/projects/alpha/./x",
        "/projects/..",
        "/projects/%2e",
    ] {
        let status = api.send("GET", path, Some(&reader)).0;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }

    let (status, challenge, _) = api.send("GET", "/whoami", None);
    assert_eq!(status, 401);
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error="), "{challenge}");
    let (status, challenge, _) = api.send("GET", "/whoami", Some("nonsense"));
    assert_eq!(status, 401);
    assert!(challenge.contains("invalid_token"), "{challenge}");
    assert_eq!(api.send("GET", &format!("/whoami?access_token={reader}"), None).0, 401);
    live.json(&["audiences", "create", "https://other.example.com", "--slug", "other"]);
    let elsewhere = token(&live, &["-s", "*:*", "--audience", "other"]);
    assert_eq!(api.send("GET", "/whoami", Some(&elsewhere)).0, 401, "for another audience");

    live.serving.stop();
    assert_eq!(api.send("GET", "/projects/alpha", Some(&reader)).0, 200, "without the issuer");
}

#[test]
fn an_api_on_its_way_to_tokens_takes_keys_as_they_are_until_it_is_told_not_to() {
    let live = Live::start();
    let org = live.json(&["whoami"])["organization"].as_str().unwrap().to_owned();
    let (_, own_key) = live.api_key(&["--org-role", "verifier"]);
    let (_, key) = live.api_key(&["-s", "read:projects/alpha"]);
    let (_, elsewhere) = live.api_key(&["-s", "read:projects/alpha", "--allow", "192.0.2.1"]);
    let api = Api::of(&live.url, &org, Some(&own_key));
    let status = |text: &str| api.send("GET", "/projects/alpha", Some(text)).0;
    assert_eq!(status(&key), 200);
    assert_eq!(api.send("PUT", "/projects/alpha", Some(&key)).0, 403);
    assert_eq!(status(&elsewhere), 401, "the address of the caller counts");
    assert_eq!(live.json(&["usage"])["totals"]["introspected"], 1);
    live.json(&["migration", "require-tokens", "default"]);
    // two seconds at most, which a loaded machine may stretch
    let refused = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        status(&key) == 401
    });
    assert!(refused, "the switch was not heard");
    let (_, challenge, _) = api.send("GET", "/projects/alpha", Some(&key));
    assert!(challenge.contains("exchange it for a token"), "{challenge}");
    let token = stdout(&live.token(&key, &[])).trim().to_owned();
    assert_eq!(status(&token), 200);
}

#[test]
fn an_api_of_another_organization_refuses_the_token() {
    let live = Live::start();
    let api = Api::start(&live.url, "org_0000000000000000");
    let all = token(&live, &["-s", "*:*"]);
    assert_eq!(api.send("GET", "/projects/alpha", Some(&all)).0, 403);
}
