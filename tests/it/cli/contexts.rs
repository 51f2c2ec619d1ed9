//! `tenmint login`, `logout` and `context`.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{Home, Live, Serving, at_a_terminal, each, free_address, stderr, stdout};

/// The program without anything in its environment but a home.
struct Person {
    home: Home,
}

impl Person {
    fn new() -> Self {
        Self { home: Home::new() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.home.run(arguments)
    }

    /// Logs in as the administrator.
    fn login(&self, live: &Live, arguments: &[&str]) -> Output {
        let all = [&["login", "--url", &live.url], arguments].concat();
        feed(&mut self.home.command(&all), &format!("{}\n", live.administrator))
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(".config/tenmint/contexts.json")
    }
}

/// Runs a command with something on its stdin.
fn feed(command: &mut Command, text: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_login_is_kept_privately_used_and_forgotten() {
    let live = Live::start();
    let person = Person::new();
    let before = person.run(&["keys"]);
    assert_eq!(before.status.code(), Some(6));
    assert!(stderr(&before).contains("hint: `tenmint login"), "{}", stderr(&before));
    let login = person.login(&live, &["--context", "work"]);
    assert!(login.status.success(), "{}", stderr(&login));
    assert!(stdout(&login).starts_with("logged in to `work` as bot_"), "{}", stdout(&login));
    let mode = std::fs::metadata(person.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(person.run(&["keys"]).status.success());
    assert!(person.run(&["token"]).status.success(), "it takes the context too");
    for shown in [&login, &person.run(&["context", "list"]), &person.run(&["context", "show"])] {
        assert!(!stdout(shown).contains("tm_default"), "{}", stdout(shown));
    }
    assert!(person.run(&["logout"]).status.success());
    assert_eq!(person.run(&["keys"]).status.code(), Some(6));
    assert!(!std::fs::read_to_string(person.file()).unwrap().contains("tm_default"));
}

#[test]
fn a_key_that_the_server_does_not_know_is_not_kept() {
    let live = Live::start();
    let person = Person::new();
    let mut command = person.home.command(&["login", "--url", &live.url]);
    assert_eq!(feed(&mut command, "wrong\n").status.code(), Some(6));
    let mut command = person.home.command(&["login", "--url", &live.url]);
    assert_eq!(feed(&mut command, "").status.code(), Some(2));
    assert!(!person.file().exists());
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_typed_at_the_prompt_is_not_shown() {
    let live = Live::start();
    let person = Person::new();
    let login = person.home.command(&["login", "--url", &live.url]);
    let answer = format!("{}\n", live.administrator);
    let (code, said) = at_a_terminal(&login, &[("API key: \u{1b}[K", &answer)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("logged in to `127.0.0.1`") && !said.contains("tm_default"), "{said}");
    assert!(person.run(&["keys"]).status.success());
}

#[test]
fn contexts_are_chosen_by_name_and_stand_below_flags_and_environment() {
    let live = Live::start();
    let other = Live::start();
    let person = Person::new();
    person.login(&live, &["--context", "one"]);
    person.login(&other, &["--context", "two"]);
    let list = person.run(&["context", "list"]);
    assert_eq!(stdout(&list), format!("  one  {}\n* two  {}\n", live.url, other.url));
    let orgs = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command =
            person.home.command(&[&["orgs", "show", "-o", "json"], arguments].concat());
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let org: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        org["id"].as_str().unwrap_or("refused").to_owned()
    };
    let id = |live: &Live| live.json(&["orgs", "show"])["id"].as_str().unwrap().to_owned();
    let (one, two) = (id(&live), id(&other));
    assert_eq!(orgs(&[], &[]), two);
    assert_eq!(orgs(&["--context", "one"], &[]), one);
    assert_eq!(orgs(&[], &[("TENMINT_CONTEXT", "one")]), one);
    let environment =
        [("TENMINT_URL", live.url.as_str()), ("TENMINT_API_KEY", &live.administrator)];
    assert_eq!(orgs(&[], &environment), one);
    assert_eq!(orgs(&["--context", "two"], &environment), two, "a flag stands above");
    assert_eq!(orgs(&[], &environment[..1]), "refused", "a key is for its own server alone");
    person.run(&["context", "use", "one"]);
    assert_eq!(orgs(&[], &[]), one);
    assert_eq!(person.run(&["context", "use", "three"]).status.code(), Some(3));
    assert_eq!(person.run(&["keys", "--context", "three"]).status.code(), Some(3));
}

#[test]
fn a_file_of_contexts_that_others_can_read_is_refused_with_the_fix() {
    let live = Live::start();
    let person = Person::new();
    person.login(&live, &[]);
    std::fs::set_permissions(person.file(), PermissionsExt::from_mode(0o644)).unwrap();
    for arguments in [&["keys"][..], &["context", "list"]] {
        let output = person.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("hint: `chmod 600 "), "{}", stderr(&output));
    }
    let environment = [("TENMINT_URL", &live.url), ("TENMINT_API_KEY", &live.administrator)];
    let output = person.home.command(&["keys"]).envs(environment).output().unwrap();
    assert!(output.status.success(), "what needs no context looks at none");
    let logout = person.run(&["logout"]);
    assert!(logout.status.success(), "{}", stderr(&logout));
    assert!(stderr(&logout).contains("others could read the API keys"), "{}", stderr(&logout));
    assert!(!std::fs::read_to_string(person.file()).unwrap().contains("tm_default"));
    let mode = std::fs::metadata(person.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_first_look_leaves_a_context_behind() {
    let home = Home::new();
    let address = free_address();
    let serving = Serving::start(&home, &["--dev", "--listen", &address]);
    assert!(serving.seen().contains("kept as the context `dev`"), "{}", serving.seen());
    let created = home.json(&["keys", "create", "-n", "mine", "-s", "chat"]);
    assert!(created["api_key"].is_string());
    assert_eq!(each(&home.json(&["context", "list"]), "context"), ["dev"]);
}

#[test]
fn a_login_takes_no_name_from_another_server_unless_forced() {
    let (live, other) = (Live::start(), Live::start());
    let person = Person::new();
    let port = other.url.rsplit(':').next().unwrap();
    let with_port = format!("127.0.0.1-{port}");
    for (server, name) in
        [(&live, "127.0.0.1"), (&other, &with_port), (&live, "127.0.0.1"), (&other, &with_port)]
    {
        let login = person.login(server, &[]);
        assert!(
            stdout(&login).starts_with(&format!("logged in to `{name}`")),
            "{}",
            stdout(&login)
        );
    }
    for name in ["127.0.0.1", &with_port] {
        assert!(person.run(&["keys", "--context", name]).status.success(), "{name}");
    }
    let taken = person.login(&other, &["--context", "127.0.0.1"]);
    assert_eq!(taken.status.code(), Some(4));
    let said = stderr(&taken);
    assert!(said.contains(&format!("the context `127.0.0.1` is for {}", live.url)), "{said}");
    assert!(said.contains("\nhint: choose another `--context`") && !said.contains("tm_"), "{said}");
    let list = person.run(&["context", "list"]);
    assert_eq!(stdout(&list), format!("  127.0.0.1  {}\n* {with_port}  {}\n", live.url, other.url));
    let forced = person.login(&other, &["--context", "127.0.0.1", "--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert!(stdout(&person.run(&["context", "show"])).contains(&other.url));
}

#[test]
fn a_second_first_look_leaves_the_key_of_the_first_alone() {
    let home = Home::new();
    let (first, second) = (free_address(), free_address());
    let serving = Serving::start(&home, &["--dev", "--listen", &first]);
    let elsewhere = ["--dev", "--listen", &second, "--data-dir", "data2", "--keys-dir", "keys2"];
    let other = Serving::start(&home, &elsewhere);
    let name = format!("dev-{}", second.rsplit(':').next().unwrap());
    let said = other.seen();
    assert!(said.contains(&format!("kept as the context `{name}`")), "{said}");
    assert!(said.contains(&format!("hint: `tenmint context use {name}`")), "{said}");
    assert!(!serving.seen().contains("tenmint context use"), "{}", serving.seen());
    assert_eq!(each(&home.json(&["context", "list"]), "context"), ["dev", &name]);
    for name in ["dev", &name] {
        assert!(home.run(&["keys", "--context", name]).status.success(), "{name}");
    }
}

/// A keyring that files each secret under its attributes, and what it was called with.
const KEYRING: &str = r#"#!/bin/sh
action=$1; shift
case $1 in --label=*) shift;; esac
file=$HOME/keyring/$(echo "$*" | tr -c 'a-z0-9\n' _)
echo "$action $*" >>"$HOME/calls"
case $action in
    store) mkdir -p "$HOME/keyring"; cat >"$file" ;;
    lookup) cat "$file" 2>/dev/null ;;
    clear) rm -f "$file" ;;
esac
"#;

#[test]
fn the_keyring_keeps_the_key_and_no_argument_shows_it() {
    let live = Live::start();
    let person = Person::new();
    let missing = person.login(&live, &["--keyring"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        stderr(&missing).contains("`secret-tool` of libsecret is missing"),
        "{}",
        stderr(&missing)
    );
    let tool = person.home.path().join("bin/secret-tool");
    std::fs::create_dir(tool.parent().unwrap()).unwrap();
    std::fs::write(&tool, KEYRING).unwrap();
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", tool.parent().unwrap().display());
    let with_keyring = |arguments: &[&str]| {
        let mut command = person.home.command(arguments);
        command.env("PATH", &path);
        command
    };
    let login = ["login", "--url", &live.url, "--context", "work", "--keyring"];
    let output = feed(&mut with_keyring(&login), &format!("{}\n", live.administrator));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!std::fs::read_to_string(person.file()).unwrap().contains("tm_default"));
    assert!(with_keyring(&["keys"]).output().unwrap().status.success());
    let shown = stdout(&with_keyring(&["context", "show"]).output().unwrap());
    assert!(shown.contains("keyring"), "{shown}");

    // somebody who changes the file gets the key sent nowhere else
    let evil =
        std::fs::read_to_string(person.file()).unwrap().replace(&live.url, "http://127.0.0.1:9");
    std::fs::write(person.file(), evil).unwrap();
    let output = with_keyring(&["keys"]).output().unwrap();
    assert!(
        stderr(&output).contains("has no API key for the context `work`"),
        "{}",
        stderr(&output)
    );

    assert!(with_keyring(&["logout"]).output().unwrap().status.success());
    let calls = std::fs::read_to_string(person.home.path().join("calls")).unwrap();
    assert!(calls.contains("store service tenmint context work url") && calls.contains("clear "));
    assert!(!calls.contains("tm_default"), "{calls}");
}
