//! A PostgreSQL that may be broken: of this test alone, on a port of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ring::rand::{SecureRandom, SystemRandom};
use tempfile::TempDir;

/// A running cluster, stopped at the end.
pub struct Postgres {
    directory: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// A new one; `None` where nobody asked for tests on PostgreSQL.
    pub fn start() -> Option<Self> {
        if std::env::var("TENMINT_TEST_POSTGRES").is_err() {
            assert!(std::env::var("CI").is_err(), "no PostgreSQL: set TENMINT_TEST_POSTGRES");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("chmod").arg("755").arg(directory.path()));
        let home = directory.path().join("postgres");
        fs::create_dir(&home).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&home));
        }
        let mut started = Self { directory, programs: programs(), port: 0 };
        let mut initdb = started.program("initdb");
        initdb.args(["-U", "tenmint", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
        run(initdb.arg("--no-sync"));
        // below the ports that the system gives to clients, which could take it meanwhile
        let is_started = (0..20).any(|_| {
            started.port = 20_000 + some_number() % 10_000;
            started.try_to_start_again()
        });
        assert!(is_started, "{:?}", fs::read_to_string(home.join("log")));
        Some(started)
    }

    pub fn url(&self) -> String {
        format!("postgres://tenmint@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends all connections, and the server.
    pub fn stop(&self) {
        run(self.pg_ctl().args(["-m", "fast", "-w", "stop"]));
    }

    /// Ends it at once, as a crash does: it recovers when it starts again.
    pub fn crash(&self) {
        run(self.pg_ctl().args(["-m", "immediate", "-w", "stop"]));
    }

    pub fn start_again(&self) {
        assert!(self.try_to_start_again(), "it does not start");
    }

    /// It keeps its connections, takes new ones, and answers nothing.
    pub fn freeze(&self) {
        // it first, so that no process of it is born meanwhile
        self.signal("STOP", &[self.pid()]);
        self.signal("STOP", &self.children());
    }

    pub fn thaw(&self) {
        self.signal("CONT", &self.children());
        self.signal("CONT", &[self.pid()]);
    }

    fn try_to_start_again(&self) -> bool {
        let home = self.home();
        // what is acknowledged outlives a crash of the server without it, if not one of the machine
        let options = format!(
            "-p {} -k '{}' -c listen_addresses=127.0.0.1 -c fsync=off",
            self.port,
            home.display()
        );
        let mut start = self.pg_ctl();
        start.arg("-l").arg(home.join("log")).args(["-o", &options, "-w", "-s", "start"]);
        start.status().unwrap().success()
    }

    fn pg_ctl(&self) -> Command {
        self.program("pg_ctl")
    }

    /// A program on its data, as who may run PostgreSQL, which refuses root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("-D").arg(self.home().join("data")).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("postgres")
    }

    fn pid(&self) -> String {
        let file = fs::read_to_string(self.home().join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().to_owned()
    }

    fn children(&self) -> Vec<String> {
        let found = Command::new("pgrep").args(["-P", &self.pid()]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn signal(&self, name: &str, pids: &[String]) {
        // a connection may have ended since
        let _ =
            Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.home().join("data/postmaster.pid").exists() {
            self.thaw();
            let _ = self.pg_ctl().args(["-m", "immediate", "-w", "stop"]).status();
        }
    }
}

/// Where the newest version has them, which Debian keeps out of the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin")).max_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).unwrap_or_default();
        version.to_string_lossy().parse::<u32>().unwrap_or(0)
    });
    // elsewhere they are in the path
    newest.unwrap_or_default()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

fn some_number() -> u16 {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u16::from_be_bytes(bytes)
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
