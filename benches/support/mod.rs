//! What the benches share: processes that are pinned to a core, and what they have used.

#![allow(dead_code, reason = "each bench uses what it measures with")]

pub(crate) mod aims;
pub(crate) mod many_keys;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Clock ticks a second of `/proc/PID/stat` on Linux.
const TICKS: f64 = 100.0;

/// A program on cores of its own, ended with the bench.
pub(crate) struct Pinned {
    pub(crate) child: Child,
}

impl Pinned {
    /// Starts a command on these cores, as `taskset` counts them.
    pub(crate) fn spawn(cores: &str, command: &Command) -> Self {
        Self::spawn_through(None, cores, command)
    }

    /// The same, run by another program, where one is given.
    pub(crate) fn spawn_through(through: Option<Command>, cores: &str, command: &Command) -> Self {
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", cores]);
        let mut pinned = match through {
            Some(through) => run_by(taskset, &run_by(through, command)),
            None => run_by(taskset, command),
        };
        pinned.stderr(Stdio::null());
        Self { child: pinned.spawn().expect("taskset, from util-linux") }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.expect("kill").success());
        self.child.wait().unwrap();
    }

    /// User and system time that its threads have used.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&self.child.id().to_string())
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// A command, run by another program.
fn run_by(mut through: Command, command: &Command) -> Command {
    through.arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        through.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        through.env(name, value.unwrap_or_default());
    }
    through
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time that this process has used.
pub(crate) fn own_processor_time() -> Duration {
    processor_time("self")
}

fn processor_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // the name of the program, in parentheses, may hold spaces
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    Duration::from_secs_f64(ticks / TICKS)
}

/// A PostgreSQL database that goes with the bench.
pub(crate) struct PostgresDatabase {
    cluster: String,
    name: String,
}

impl PostgresDatabase {
    /// A new one, where `TENMINT_TEST_POSTGRES` names a cluster.
    pub(crate) fn create(bench: &str) -> Option<Self> {
        let cluster = std::env::var("TENMINT_TEST_POSTGRES").ok()?;
        let database = Self { cluster, name: format!("{bench}_{}", std::process::id()) };
        database.psql(&format!("CREATE DATABASE {}", database.name));
        Some(database)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }

    fn psql(&self, sql: &str) {
        let url = format!("{}/postgres", self.cluster);
        let done = Command::new("psql").args([&url, "-qc", sql]).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        // a bench that failed says why, and leaves its database to be looked at
        if !std::thread::panicking() {
            self.psql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A loopback address that nobody listens on.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Asks again and again until a server gives any answer.
pub(crate) fn wait_for_answer(address: &str) {
    let give_up = Instant::now() + Duration::from_mins(1);
    let answers = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        stream.read_exact(&mut [0; 12])
    };
    while answers().is_err() {
        assert!(Instant::now() < give_up, "{address} does not answer");
        std::thread::yield_now();
    }
}

/// A call of the management API.
pub(crate) fn call(
    address: &str,
    api_key: &str,
    path: &str,
    ask: &serde_json::Value,
) -> serde_json::Value {
    let head = format!("Authorization: Bearer {api_key}\r\nContent-Type: application/json\r\n");
    post(address, path, &head, &ask.to_string())
}

/// Posts to a server, and gives the JSON of its answer.
pub(crate) fn post(address: &str, path: &str, head: &str, body: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or_default()
}
