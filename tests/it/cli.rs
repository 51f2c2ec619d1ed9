//! The program itself, as a person or a script runs it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::server::fresh_postgres;

/// A home for one installation, and the program run in it.
pub struct Home {
    directory: TempDir,
    pub database_url: Option<String>,
}

impl Home {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), database_url: None }
    }

    /// One home an engine.
    pub fn on_each_engine() -> Vec<Self> {
        let postgres = fresh_postgres().map(|url| Self { database_url: Some(url), ..Self::new() });
        [Some(Self::new()), postgres].into_iter().flatten().collect()
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenmint"));
        command.args(arguments).current_dir(self.path()).env_clear();
        if let Some(url) = &self.database_url {
            command.env("TENMINT_DATABASE_URL", url);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The JSON that a command prints to stdout, which must hold nothing else.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn init(&self, issuer: &str) -> Value {
        self.json(&["init", "--issuer", issuer, "--audience", "https://api.example.com"])
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `tenmint serve`, stopped at the end.
pub struct Serving {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    seen: String,
}

impl Serving {
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(&[&["serve"], arguments].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Self { child, log, seen: String::new() };
        serving.read_until("tenmint listens on");
        serving
    }

    fn read_until(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).unwrap();
            self.seen += &line;
            assert!(read > 0, "the server stopped: {}", self.seen);
            if line.contains(text) {
                return;
            }
        }
    }

    fn url(&self) -> String {
        let after = self.seen.split("tenmint listens on ").nth(1).unwrap();
        after.split(',').next().unwrap().to_owned()
    }

    /// Asks it to stop, and gives all that it wrote.
    fn stop(mut self) -> String {
        signal(&self.child, "TERM");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        std::mem::take(&mut self.seen) + &rest
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_script_sets_up_creates_a_key_and_fetches_a_token() {
    for home in Home::on_each_engine() {
        let address = free_address();
        let issuer = format!("http://{address}");
        let init = home.init(&issuer);
        assert!(init["organization"].as_str().unwrap().starts_with("org_"));
        assert!(init["api_key"]["id"].as_str().unwrap().starts_with("key_"));
        assert!(init["api_key"]["api_key"].as_str().unwrap().starts_with("tm_default_"));
        let created = home.json(&[
            "keys",
            "create",
            "--name",
            "app",
            "--scopes",
            "read:projects/alpha/*,chat",
            "--audience",
            "https://other.example.com",
            "--expires",
            "90d",
        ]);
        let serving = Serving::start(&home, &["--listen", &address]);
        let token = home
            .command(&["token", "--scope", "chat", "-o", "json"])
            .env("TENMINT_URL", &issuer)
            .env("TENMINT_API_KEY", created["api_key"].as_str().unwrap())
            .output()
            .unwrap();
        assert!(token.status.success(), "{}", stderr(&token));
        let token: Value = serde_json::from_slice(&token.stdout).unwrap();
        assert_eq!((&token["scope"], &token["expires_in"]), (&"chat".into(), &600.into()));
        let doctor = home.json(&["doctor"]);
        let checks: Vec<_> = doctor["findings"].as_array().unwrap().iter().collect();
        assert_eq!(checks.len(), 7);
        assert!(checks.iter().all(|finding| finding["ok"] == true), "{doctor}");
        serving.stop();
        let doctor = home.run(&["doctor"]);
        assert!(!doctor.status.success());
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(text.contains("FAIL  issuer") && text.contains("start `tenmint serve`"), "{text}");
    }
}

#[test]
fn a_key_made_or_revoked_beside_a_running_server_is_seen_by_it() {
    for home in Home::on_each_engine() {
        let address = free_address();
        home.init(&format!("http://{address}"));
        let _serving = Serving::start(&home, &["--listen", &address]);
        let created = home.json(&["keys", "create", "-n", "late", "--scopes", "chat"]);
        let (id, text) = (created["id"].as_str().unwrap(), created["api_key"].as_str().unwrap());
        let token = || {
            let mut command = home.command(&["token"]);
            command.env("TENMINT_URL", format!("http://{address}")).env("TENMINT_API_KEY", text);
            command.output().unwrap()
        };
        assert!(within_patience(|| token().status.success()), "the new key is never seen");
        home.json(&["keys", "revoke", id]);
        assert!(within_patience(|| stderr(&token()).contains("revoked")), "it goes on for ever");
    }
}

/// Looks again and again; each look takes some milliseconds.
fn within_patience(holds: impl Fn() -> bool) -> bool {
    (0..1_000).any(|_| holds())
}

#[test]
fn keys_are_listed_page_by_page_and_shown_without_their_text() {
    let home = Home::new();
    home.init("https://auth.example.com");
    let mut ids: Vec<String> = (0..5)
        .map(|n| {
            let name = format!("key-{n}");
            let created = home.json(&["keys", "create", "-n", &name, "--scopes", "chat"]);
            created["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.reverse();
    let first = home.json(&["keys", "list", "-l", "2"]);
    let second =
        home.json(&["keys", "list", "-l", "2", "-c", first["next_cursor"].as_str().unwrap()]);
    let third =
        home.json(&["keys", "list", "-l", "2", "-c", second["next_cursor"].as_str().unwrap()]);
    let page_ids = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|k| k["id"].as_str().unwrap().into()).collect()
    };
    let seen = [page_ids(&first), page_ids(&second), page_ids(&third)].concat();
    assert_eq!(seen[..5], ids, "from new to old, the administrator's key last");
    assert_eq!(third["next_cursor"], Value::Null);

    home.json(&["keys", "revoke", &ids[0]]);
    assert!(!page_ids(&home.json(&["keys", "list"])).contains(&ids[0]));
    assert!(page_ids(&home.json(&["keys", "list", "--all"])).contains(&ids[0]));
    let shown = home.json(&["keys", "show", &ids[0]]);
    assert_eq!(shown["status"], "revoked");
    assert_eq!(shown.get("api_key"), None);
    let table = String::from_utf8(home.run(&["keys", "list"]).stdout).unwrap();
    assert!(table.starts_with("ID "), "{table}");
    assert!(table.contains("key-3"));
}

#[test]
fn a_bad_argument_names_the_field_and_the_fix_and_exits_2() {
    let home = Home::new();
    home.init("https://auth.example.com");
    let create = |arguments: &[&str]| home.run(&[&["keys", "create"], arguments].concat());
    for (arguments, says) in [
        (&["-n", "x", "--scopes", "read"][..], "`read` needs a filter: write `read:*`"),
        (&["-n", "", "--scopes", "chat"], "`name`"),
        (&["-n", "x", "--scopes", "read:/a,chat"], "does not start with `/`"),
        (&["-n", "x", "--scopes", "chat", "--expires", "yesterday"], "`expires`"),
        (&["-n", "x", "--scopes", "chat", "--expires", "2020-01-01"], "an expiry lies ahead"),
        (&["-n", "x", "--scopes", "chat", "--description", "a\u{1b}[31m"], "no controls"),
        (&["-n", "x", "--scopes", "chat", "--audience", "nonsense"], "`audiences`: `nonsense`"),
        (
            &["-n", "x", "--scopes", "chat", "--audience", "https://auth.example.com/x"],
            "tenmint's own",
        ),
    ] {
        let output = create(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    let both = create(&["-n", "", "--scopes", "read"]);
    assert!(stderr(&both).contains("`name`") && stderr(&both).contains("`scopes`"), "all at once");
    assert_eq!(home.run(&["keys", "show", "key_0000000000000000"]).status.code(), Some(3));
    assert_eq!(home.run(&["keys", "show", "org_0000000000000000"]).status.code(), Some(2));
    assert_eq!(
        create(&["-n", "x", "--scopes", "chat", "--organization", "no"]).status.code(),
        Some(3)
    );
}

#[test]
fn an_installation_is_set_up_once() {
    for home in Home::on_each_engine() {
        home.init("https://auth.example.com");
        let again = home.run(&["init", "--issuer", "https://auth.example.com"]);
        assert_eq!(again.status.code(), Some(4));
        assert!(stderr(&again).contains("holds an installation already"));
        assert!(again.stdout.is_empty());
    }
}

#[test]
fn of_two_that_set_up_at_once_one_wins() {
    for home in Home::on_each_engine() {
        let start = || {
            let mut command = home.command(&["init", "--issuer", "https://auth.example.com"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let racing: Vec<Child> = (0..4).map(|_| start()).collect();
        let outputs: Vec<Output> =
            racing.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let won = outputs.iter().filter(|output| output.status.success()).count();
        let all: Vec<String> = outputs.iter().map(stderr).collect();
        assert_eq!(won, 1, "{all:#?}");
        let keys = home.json(&["signing-keys", "list"]);
        let keys = keys["items"].as_array().unwrap();
        let signing = keys.iter().filter(|key| key["state"] == "signing").count();
        assert_eq!((keys.len(), signing), (2, 1));
    }
}

#[test]
fn init_refuses_every_bad_field_at_once() {
    let home = Home::new();
    let output = home.run(&[
        "init",
        "--issuer",
        "https://auth.example.com/",
        "--organization",
        "No!",
        "--algorithm",
        "HS256",
        "--token-lifetime",
        "5",
        "--api-key-prefix",
        "T",
    ]);
    assert_eq!(output.status.code(), Some(2));
    for field in ["issuer", "organization", "algorithm", "token_lifetime", "api_key_prefix"] {
        assert!(stderr(&output).contains(&format!("`{field}`")), "{field}: {}", stderr(&output));
    }
    assert!(!home.path().join("data").exists(), "nothing was written");
}

#[test]
fn before_init_every_command_says_what_to_do() {
    let home = Home::new();
    for arguments in [&["keys", "list"][..], &["serve", "--listen", "127.0.0.1:0"], &["doctor"]] {
        let output = home.run(arguments);
        assert!(!output.status.success());
        let all = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(all.contains("tenmint init"), "{arguments:?}: {all}");
        assert!(!home.path().join("data").exists(), "{arguments:?} looks and creates nothing");
    }
}

#[cfg(unix)]
#[test]
fn the_master_key_is_private_and_refused_when_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    home.init("https://auth.example.com");
    let path = home.path().join("keys/master.key");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&home.path().join("data"))), (0o600, 0o700));
    for open in [0o640, 0o604] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(open)).unwrap();
        let output = home.run(&["keys", "list"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
    }
}

#[cfg(unix)]
#[test]
fn a_database_is_private_also_in_a_directory_that_is_not() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    let open = home.path().join("open to all [1]");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).unwrap();
    let directory = ["--data-dir", "open to all [1]"];
    home.json(&[&["init", "--issuer", "https://auth.example.com"][..], &directory].concat());
    assert!(home.run(&[&["keys", "list"][..], &directory].concat()).status.success());
    for entry in std::fs::read_dir(&open).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_secret_that_could_not_be_shown_is_said_to_be_lost() {
    let home = Home::new();
    home.init("https://auth.example.com");
    let mut command =
        home.command(&["keys", "create", "-n", "x", "--scopes", "chat", "-o", "secret"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("tenmint keys revoke key_"), "{}", stderr(&output));
}

#[test]
fn another_master_key_is_told_apart_from_the_right_one() {
    let home = Home::new();
    home.init("https://auth.example.com");
    let other = Home::new();
    other.init("https://auth.example.com");
    let keys = other.path().join("keys");
    let output = home.run(&["keys", "list", "--keys-dir", keys.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not the one of this database"), "{}", stderr(&output));
    let missing = home.run(&["keys", "list", "--keys-dir", "nowhere"]);
    assert!(stderr(&missing).contains("nowhere/master.key"), "{}", stderr(&missing));
}

#[test]
fn flags_stand_above_the_environment_above_the_file_above_the_defaults() {
    let home = Home::new();
    let made_in = |output: &Output, directory: &str| {
        assert!(output.status.success(), "{}", stderr(output));
        assert!(home.path().join(directory).join("tenmint.db").exists(), "{directory}");
    };
    let init = ["init", "--issuer", "https://auth.example.com"];
    made_in(&home.run(&init), "data");
    std::fs::write(home.path().join("tenmint.toml"), "data_dir = 'from-file'\n").unwrap();
    made_in(&home.run(&init), "from-file");
    let mut command = home.command(&init);
    made_in(&command.env("TENMINT_DATA_DIR", "from-env").output().unwrap(), "from-env");
    let mut command = home.command(&[&init[..], &["--data-dir", "from-flag"]].concat());
    made_in(&command.env("TENMINT_DATA_DIR", "from-env").output().unwrap(), "from-flag");

    let file = "database_url = 'sqlite:file/tenmint.db'\n";
    std::fs::write(home.path().join("tenmint.toml"), file).unwrap();
    std::fs::write(home.path().join("url"), "sqlite:env/tenmint.db\n").unwrap();
    let mut command = home.command(&init);
    made_in(&command.env("TENMINT_DATABASE_URL_FILE", "url").output().unwrap(), "env");
}

#[test]
fn a_configuration_that_is_wrong_is_refused_without_showing_its_secrets() {
    let home = Home::new();
    let file = home.path().join("tenmint.toml");
    std::fs::write(&file, "database_urll = 'postgres://user:hunter2@db/t'\n").unwrap();
    let output = home.run(&["keys", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("database_urll"), "{}", stderr(&output));
    std::fs::write(&file, "database_url = 'postgres://user:hunter2@127.0.0.1:1/t'\n").unwrap();
    let unreachable = home.run(&["keys", "list"]);
    assert_eq!(unreachable.status.code(), Some(5), "{}", stderr(&unreachable));
    for output in [&output, &unreachable] {
        assert!(!stderr(output).contains("hunter2"), "{}", stderr(output));
    }
    std::fs::remove_file(&file).unwrap();
    let missing = home.run(&["keys", "list", "--config", "nowhere.toml"]);
    assert!(stderr(&missing).contains("nowhere.toml"));
}

#[test]
fn secrets_may_come_from_files() {
    let home = Home::new();
    let address = free_address();
    let init = home.init(&format!("http://{address}"));
    let key_file = home.path().join("api-key");
    let text = init["api_key"]["api_key"].as_str().unwrap();
    std::fs::write(&key_file, format!("{text}\n")).unwrap();
    let url_file = home.path().join("database-url");
    let database = home.path().join("data/tenmint.db");
    std::fs::write(&url_file, format!("sqlite:{}\n", database.display())).unwrap();
    let mut listing = home.command(&["keys", "list", "--data-dir", "elsewhere"]);
    assert!(listing.env("TENMINT_DATABASE_URL_FILE", &url_file).status().unwrap().success());
    let _serving = Serving::start(&home, &["--listen", &address]);
    let mut command = home.command(&["token"]);
    command.env("TENMINT_API_KEY_FILE", &key_file).env("TENMINT_URL", format!("http://{address}"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim().split('.').count(), 3);
}

#[test]
fn a_refused_token_says_the_code_and_the_reason() {
    let home = Home::new();
    let address = free_address();
    home.init(&format!("http://{address}"));
    let token = |text: &str, arguments: &[&str]| {
        let mut command = home.command(&[&["token"], arguments].concat());
        command.env("TENMINT_URL", format!("http://{address}")).env("TENMINT_API_KEY", text);
        stderr(&command.output().unwrap())
    };
    assert!(token("x", &[]).contains("does not answer"), "no server yet");
    let _serving = Serving::start(&home, &["--listen", &address]);
    assert!(token("wrong", &[]).contains("invalid_client: the API key is not known"));
    let created = home.json(&["keys", "create", "-n", "x", "--scopes", "chat"]);
    let text = created["api_key"].as_str().unwrap().to_owned();
    let beyond = || token(&text, &["--scope", "read:a"]);
    assert!(within_patience(
        || beyond().contains("invalid_scope: the API key does not cover `read:a`")
    ));
    let nothing = home.run(&["token"]);
    assert!(stderr(&nothing).contains("TENMINT_API_KEY"));
}

#[test]
fn serve_dev_needs_nothing_and_is_safe_to_start_again() {
    let home = Home::new();
    let address = free_address();
    let first = Serving::start(&home, &["--dev", "--listen", &address]);
    let line = first.seen.lines().find(|line| line.contains("curl")).unwrap().trim().to_owned();
    assert_eq!(first.url(), format!("http://{address}"));
    let pasted = Command::new("sh").args(["-c", &line]).output().unwrap();
    let answer: Value = serde_json::from_slice(&pasted.stdout).unwrap();
    assert_eq!(answer["scope"], "read:projects/alpha/*");
    first.stop();
    let second = Serving::start(&home, &["--dev", "--listen", &address]);
    let again = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["access_token"].is_string());
    let log = second.stop();
    assert!(!log.contains("tm_default_"), "the key is shown once: {log}");
}

#[test]
fn no_secret_is_in_the_log_or_in_the_database() {
    for home in Home::on_each_engine() {
        let address = free_address();
        let init = home.init(&format!("http://{address}"));
        let text = init["api_key"]["api_key"].as_str().unwrap();
        let mut command = home.command(&["serve", "--listen", &address]);
        command.env("TENMINT_LOG", "trace").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Serving { child, log, seen: String::new() };
        serving.read_until("tenmint listens on");
        let url = format!("http://{address}/oauth/token");
        let in_path = format!("{url}/{text}");
        let user = format!(":{text}");
        let as_name = format!("{text}:");
        let form = "grant_type=client_credentials";
        let in_body = format!("client_id=x&client_secret={text}");
        let in_scope = format!("scope={text}");
        for arguments in [
            vec!["-u", &user, "-d", form, &url],
            vec!["-u", &as_name, "-d", form, &url],
            vec!["-d", form, "-d", &in_body, &url],
            vec!["-u", &user, "-d", form, "-d", &in_scope, &url],
            vec!["-u", &user, "-d", form, &in_path],
        ] {
            Command::new("curl").arg("-s").args(arguments).output().unwrap();
        }
        let log = serving.stop();
        let secret = &text[text.len() - 49..text.len() - 6];
        for window in [&secret[..12], &secret[15..27], &secret[31..]] {
            assert!(!log.contains(window), "a part of the secret is in the log");
            for entry in walk(home.path()) {
                let bytes = std::fs::read(&entry).unwrap();
                let found = bytes.windows(12).any(|here| here == window.as_bytes());
                assert!(!found, "a part of the secret is in {}", entry.display());
            }
        }
        for line in log.lines().filter(|line| line.starts_with('{')) {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "no JSON: {line}");
        }
    }
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
