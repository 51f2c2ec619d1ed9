//! The life of a node: set up, served, examined, and what it refuses to start on.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::{Home, Live, Serving, free_address, stderr, stdout};

#[test]
fn a_script_sets_up_creates_a_key_and_fetches_a_token() {
    for live in Live::on_each_engine() {
        assert!(live.administrator.starts_with("tm_default_"));
        let other = "https://other.example.com";
        live.json(&["audiences", "create", other]);
        let scopes = "read:projects/alpha/*,chat";
        let (_, text) = live.api_key(&["-s", scopes, "--audience", other, "--expires", "90d"]);
        let token = live.token(&text, &["--scope", "chat", "-o", "json"]);
        assert!(token.status.success(), "{}", stderr(&token));
        let token: Value = serde_json::from_slice(&token.stdout).unwrap();
        assert_eq!((&token["scope"], &token["expires_in"]), (&"chat".into(), &600.into()));
        let doctor = live.home.json(&["doctor"]);
        let checks: Vec<_> = doctor["findings"].as_array().unwrap().iter().collect();
        assert_eq!(checks.len(), 7);
        assert!(checks.iter().all(|finding| finding["ok"] == true), "{doctor}");
        let Live { home, serving, .. } = live;
        serving.stop();
        let doctor = home.run(&["doctor"]);
        assert!(!doctor.status.success());
        let text = stdout(&doctor);
        assert!(text.contains("FAIL  issuer") && text.contains("start `tenmint serve`"), "{text}");
    }
}

#[test]
fn a_key_made_or_revoked_on_one_node_is_seen_by_another() {
    for live in Live::on_each_engine().into_iter().filter(|live| live.home.database_url.is_some()) {
        let other = Serving::start(&live.home, &["--listen", "127.0.0.1:0"]);
        let (id, text) = live.api_key(&["-s", "chat"]);
        let token = || {
            let mut command = live.command_with(&text, &["token"]);
            command.env("TENMINT_URL", other.url()).output().unwrap()
        };
        assert!(within_patience(|| token().status.success()), "the new key is never seen");
        live.json(&["keys", "revoke", &id, "-f"]);
        assert!(within_patience(|| stderr(&token()).contains("revoked")), "it goes on for ever");
    }
}

/// Looks again and again; each look takes some milliseconds.
fn within_patience(holds: impl Fn() -> bool) -> bool {
    (0..1_000).any(|_| holds())
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
    for arguments in
        [&["signing-keys", "list"][..], &["serve", "--listen", "127.0.0.1:0"], &["doctor"]]
    {
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
        let output = home.run(&["signing-keys", "list"]);
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
    assert!(home.run(&[&["signing-keys", "list"][..], &directory].concat()).status.success());
    for entry in std::fs::read_dir(&open).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn another_master_key_is_told_apart_from_the_right_one() {
    let home = Home::new();
    home.init("https://auth.example.com");
    let other = Home::new();
    other.init("https://auth.example.com");
    let keys = other.path().join("keys");
    let output = home.run(&["signing-keys", "list", "--keys-dir", keys.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not the one of this database"), "{}", stderr(&output));
    let missing = home.run(&["signing-keys", "list", "--keys-dir", "nowhere"]);
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
    let output = home.run(&["signing-keys", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("database_urll"), "{}", stderr(&output));
    std::fs::write(&file, "database_url = 'postgres://user:hunter2@127.0.0.1:1/t'\n").unwrap();
    let unreachable = home.run(&["signing-keys", "list"]);
    assert_eq!(unreachable.status.code(), Some(5), "{}", stderr(&unreachable));
    for output in [&output, &unreachable] {
        assert!(!stderr(output).contains("hunter2"), "{}", stderr(output));
    }
    std::fs::remove_file(&file).unwrap();
    let missing = home.run(&["signing-keys", "list", "--config", "nowhere.toml"]);
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
    let mut listing = home.command(&["signing-keys", "list", "--data-dir", "elsewhere"]);
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
    let live = Live::start();
    let token = |text: &str, arguments: &[&str]| {
        let output = live.token(text, arguments);
        assert_eq!(output.stdout, b"");
        (output.status.code().unwrap(), stderr(&output))
    };
    let (code, said) = token("wrong", &[]);
    assert!(code == 6 && said.contains("invalid_client: the API key is not known"), "{said}");
    let (_, text) = live.api_key(&["-s", "chat"]);
    let (code, said) = token(&text, &["--scope", "read:a"]);
    let beyond = "invalid_scope: the API key does not cover `read:a`";
    assert!(code == 2 && said.contains(beyond), "{said}");
    let (code, said) = token(&text, &["--endpoint", "nowhere"]);
    assert!(code == 2 && said.contains("invalid_target"), "{said}");
    let nothing = live.home.run(&["token"]);
    assert_eq!(nothing.status.code(), Some(6));
    assert!(stderr(&nothing).contains("TENMINT_API_KEY"));
    let mut command = live.command(&["token", "--url", "http://127.0.0.1:9"]);
    let away = command.output().unwrap();
    assert!(away.status.code() == Some(5) && stderr(&away).contains("does not answer"));
}

#[test]
fn serve_dev_needs_nothing_and_is_safe_to_start_again() {
    let home = Home::new();
    let address = free_address();
    let first = Serving::start(&home, &["--dev", "--listen", &address]);
    let line = first.seen().lines().find(|line| line.contains("curl")).unwrap().trim().to_owned();
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
fn a_node_says_whom_it_trusts_and_does_not_start_on_half_of_it() {
    let home = Home::new();
    home.init("https://auth.example.com");
    let listen = ["--listen", "127.0.0.1:0"];
    let log = Serving::start(&home, &listen).stop();
    assert!(log.contains(r#""trusted_proxies":"nobody""#), "{log}");
    let file = home.path().join("tenmint.toml");
    std::fs::write(&file, "trusted_proxies = ['::ffff:10.0.0.5']\n").unwrap();
    for (arguments, code) in [(&["serve"][..], 2), (&["doctor", "--offline"], 1)] {
        let output = home.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("say beside `trusted_proxies` which header"), "{said}");
    }
    std::fs::write(&file, "trusted_proxies = ['::ffff:10.0.0.5']\nforwarding_header = 'forwarded'")
        .unwrap();
    let log = Serving::start(&home, &listen).stop();
    assert!(log.contains(r#""trusted_proxies":"forwarded from 10.0.0.5""#), "{log}");
}

#[test]
fn a_node_leaves_no_core_file() {
    let home = Home::new();
    home.init("https://auth.example.com");
    let serving = Serving::start(&home, &["--listen", "127.0.0.1:0"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{line}");
}

#[test]
fn two_listeners_together_leave_open_files_for_the_database() {
    let home = Home::new();
    home.init("https://auth.example.com");
    std::fs::write(home.path().join("tenmint.toml"), "forward_auth.listen = '127.0.0.1:0'")
        .unwrap();
    let serve = home.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 300; exec \"$0\" \"$@\""]).arg(serve.get_program());
    limited.args(serve.get_args()).current_dir(home.path()).env_clear().env("HOME", home.path());
    let log = Serving::of(limited).stop();
    // half each of what is left of 300 beside 128
    assert!(log.contains(r#""max_connections":86"#), "{log}");
}

#[test]
fn no_secret_is_in_the_log_or_in_the_database() {
    for home in Home::on_each_engine() {
        let address = free_address();
        let init = home.init(&format!("http://{address}"));
        let text = init["api_key"]["api_key"].as_str().unwrap();
        let mut command = home.command(&["serve", "--listen", &address]);
        command.env("TENMINT_LOG", "trace");
        let serving = Serving::of(command);
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
        // the one line that is for a person
        let is_greeting = |line: &&str| line.starts_with("tenmint listens on http://");
        assert_eq!(log.lines().filter(is_greeting).count(), 1, "{log}");
        for line in log.lines().filter(|line| !is_greeting(line)) {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "no JSON: {line}");
        }
    }
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
