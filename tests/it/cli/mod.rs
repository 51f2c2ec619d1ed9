//! The program itself, as a person or a script runs it. `setup` is the life of a node; the other
//! files mirror the commands that talk to one.

mod api_keys;
mod audiences;
mod contexts;
mod gateway_policies;
mod import;
mod ledger;
mod migration;
mod orgs;
mod output;
mod owners;
mod reference;
mod refusals;
mod setup;
mod signing_keys;
mod spaces;
mod usage;
mod waiting;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tenmint::clock::Clock;
use tenmint::service::Service;
use tenmint::store::DatabaseUrl;

use crate::server::fresh_postgres;

/// A server that has not ended by then hangs: it has ten seconds, and the machine may be busy.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

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
        [Some(Self::new()), Self::on_postgres()].into_iter().flatten().collect()
    }

    /// One on PostgreSQL, where there is a cluster.
    pub fn on_postgres() -> Option<Self> {
        fresh_postgres().map(|url| Self { database_url: Some(url), ..Self::new() })
    }

    /// A new one on the same engine.
    pub fn another(&self) -> Self {
        self.database_url.as_ref().and_then(|_| Self::on_postgres()).unwrap_or_else(Self::new)
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program, with this directory as the home of whoever runs it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenmint"));
        command.args(arguments).current_dir(self.path()).env_clear().env("HOME", self.path());
        if let Some(url) = &self.database_url {
            command.env("TENMINT_DATABASE_URL", url);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The JSON that a command prints to stdout, which must hold nothing else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        parsed(arguments, &self.run(&[arguments, &["-o", "json"]].concat()))
    }

    pub fn init(&self, issuer: &str) -> Value {
        self.json(&["init", "--issuer", issuer, "--audience", "https://api.example.com"])
    }

    /// The use cases on its installation, beside the program.
    pub async fn service(&self) -> Service {
        let url = self.database_url.as_deref().map(|url| DatabaseUrl::parse(url).unwrap());
        let url = url.unwrap_or_else(|| DatabaseUrl::in_directory(&self.path().join("data")));
        Service::open(&url, &self.path().join("keys"), Clock::system()).await.unwrap()
    }
}

fn parsed(arguments: &[&str], output: &Output) -> Value {
    assert!(output.status.success(), "{arguments:?}: {}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `tenmint serve`, stopped at the end.
pub struct Serving {
    pub child: Child,
    /// What it writes, line by line. Somebody always reads: a server whose pipe is full waits for ever.
    lines: Receiver<String>,
    seen: String,
}

impl Serving {
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::of(home.command(&[&["serve"], arguments].concat()))
    }

    pub fn of(command: Command) -> Self {
        Self::until(command, "tenmint listens on")
    }

    /// One that has no database yet.
    pub fn waiting(command: Command) -> Self {
        Self::until(command, "tenmint waits for the database")
    }

    fn until(mut command: Command, text: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (give, lines) = channel();
        thread::spawn(move || {
            let lines = log.lines().map_while(Result::ok);
            lines.map(|line| give.send(line + "\n")).take_while(Result::is_ok).for_each(drop);
        });
        let mut serving = Self { child, lines, seen: String::new() };
        serving.read_until(text);
        serving
    }

    /// Reads what it writes up to a line with this text.
    pub fn read_until(&mut self, text: &str) {
        loop {
            let line = self.lines.recv();
            let line = line.unwrap_or_else(|_| panic!("the server stopped: {}", self.seen));
            self.seen += &line;
            if line.contains(text) {
                return;
            }
        }
    }

    pub fn url(&self) -> String {
        let after = self.seen.split("tenmint listens on ").nth(1).unwrap();
        after.split(',').next().unwrap().to_owned()
    }

    /// The address that it tells behind this text.
    pub fn address_behind(&mut self, text: &str) -> String {
        if !self.seen.contains(text) {
            self.read_until(text);
        }
        self.seen.split(text).nth(1).unwrap().lines().next().unwrap().to_owned()
    }

    /// What it wrote until it served.
    pub fn seen(&self) -> &str {
        &self.seen
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Asks it to stop, and gives all that it wrote.
    pub fn stop(mut self) -> String {
        signal(&self.child, "TERM");
        let (give_up, mut rest) = (Instant::now() + STOPS_WITHIN, String::new());
        loop {
            match self.lines.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(line) => rest += &line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not stop: {rest}"),
            }
        }
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

/// An address that nothing listens at. Below the ports that the system gives to whoever asks for any, or
/// another test could be given it before it is used.
pub fn free_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 10_000;
    loop {
        let number = first + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.0.0.1:{}", 10_000 + number % 10_000);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// An installation that is served, and the program that talks to it as its administrator.
pub struct Live {
    pub home: Home,
    pub serving: Serving,
    pub url: String,
    /// The text of the administrator's key.
    pub administrator: String,
}

impl Live {
    pub fn start() -> Self {
        Self::in_home(Home::new())
    }

    pub fn on_each_engine() -> Vec<Self> {
        Home::on_each_engine().into_iter().map(Self::in_home).collect()
    }

    pub fn in_home(home: Home) -> Self {
        Self::in_home_at(home, &format!("http://{}", free_address()))
    }

    /// At the address of this URL, which is the issuer.
    pub fn in_home_at(home: Home, url: &str) -> Self {
        let init = home.init(url);
        let administrator = init["api_key"]["api_key"].as_str().unwrap().to_owned();
        let address = url.split("://").nth(1).unwrap();
        let serving = Serving::start(&home, &["--listen", address]);
        Self { home, serving, url: url.to_owned(), administrator }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_with(&self.administrator, arguments)
    }

    /// The program with another API key.
    pub fn command_with(&self, api_key: &str, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env_remove("TENMINT_DATABASE_URL");
        command.env("TENMINT_URL", &self.url).env("TENMINT_API_KEY", api_key);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The JSON that a command prints to stdout, which must hold nothing else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        parsed(arguments, &self.run(&[arguments, &["-o", "json"]].concat()))
    }

    /// What a command prints to stdout.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// The exit code of a command that fails, and what it says. It prints nothing to stdout.
    pub fn refusal(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", stdout(&output));
        (output.status.code().unwrap(), stderr(&output))
    }

    /// A new API key: its id and its text.
    pub fn api_key(&self, arguments: &[&str]) -> (String, String) {
        let created = self.json(&[&["keys", "create", "-n", "app"], arguments].concat());
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        (text("id"), text("api_key"))
    }

    /// What `tenmint token` answers to an API key.
    pub fn token(&self, api_key: &str, arguments: &[&str]) -> Output {
        self.command_with(api_key, &[&["token"], arguments].concat()).output().unwrap()
    }
}

/// The texts of one member of all items of a list.
pub fn each(list: &Value, member: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item[member].as_str().unwrap_or_default().to_owned()).collect()
}

/// The program at a terminal, where each answer is typed once its question is there.
#[cfg(target_os = "linux")]
pub fn at_a_terminal(command: &Command, answers: &[(&str, &str)]) -> (Option<i32>, String) {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).env_clear().env("PATH", "/usr/bin:/bin");
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut seen = String::new();
    let mut byte = [0];
    for (question, answer) in answers {
        while !seen.ends_with(question) {
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "never asked: {seen}");
            seen.push(byte[0].into());
        }
        std::io::Write::write_all(&mut stdin, answer.as_bytes()).unwrap();
    }
    stdout.read_to_string(&mut seen).unwrap();
    (child.wait().unwrap().code(), seen)
}
