//! The unit of systemd: a node starts by what it says, and has no more rights than that takes.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::cli::{Serving, free_address};
use crate::deploy::file;

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let unit = file("systemd/tenmint.service");
    for line in [
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "StateDirectory=tenmint tenmint-journal",
        "UMask=0077",
        "LimitCORE=0",
    ] {
        assert!(unit.lines().any(|told| told == line), "{line}");
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tenmint.service");
    // the program has another place here
    std::fs::write(&path, unit.replace("/usr/local/bin/tenmint", env!("CARGO_BIN_EXE_tenmint")))
        .unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // units of the machine itself are none of ours
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tenmint.service")).collect();
    assert!(ours.is_empty(), "{said}");
}

/// What a unit says under this name, in its order.
fn told<'u>(unit: &'u str, name: &str) -> Vec<&'u str> {
    let said = unit.lines().filter_map(|line| line.split_once('='));
    said.filter(|(said, _)| *said == name).map(|(_, value)| value).collect()
}

/// What stands in for what only root may do, and only on a machine of its own: users and services are not made,
/// and files belong to whoever runs this.
const STAND_INS: &str = r#"set -euo pipefail
useradd() { :; }
systemctl() { :; }
runuser() { shift 3; "$@"; }
install() {
    local kept=()
    while (($#)); do
        case $1 in
            -o | -g) shift 2 ;;
            *) kept+=("$1"); shift ;;
        esac
    done
    command install "${kept[@]}"
}
"#;

/// A machine below a directory, with the repository once it is built.
struct Machine {
    root: TempDir,
    /// Where its node listens, and where it tells figures.
    addresses: [String; 2],
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let machine = Self { root, addresses: [free_address(), free_address()] };
        for directory in [
            "etc/systemd/system",
            "usr/local/bin",
            "var/lib",
            "repository/target/release",
            "repository/docs/deploy/systemd",
        ] {
            std::fs::create_dir_all(machine.path(directory)).unwrap();
        }
        let program = machine.path("repository/target/release/tenmint");
        symlink(env!("CARGO_BIN_EXE_tenmint"), program).unwrap();
        for name in ["systemd/tenmint.service", "systemd/tenmint.toml"] {
            let copy = machine.path("repository/docs/deploy").join(name);
            std::fs::write(copy, machine.here(&file(name))).unwrap();
        }
        // what lies about where root stands is none of the node's
        std::fs::write(machine.path("repository/tenmint.toml"), "not for a node").unwrap();
        machine
    }

    fn path(&self, place: &str) -> PathBuf {
        self.root.path().join(place)
    }

    fn read(&self, place: &str) -> String {
        std::fs::read_to_string(self.path(place)).unwrap_or_else(|cause| panic!("{place}: {cause}"))
    }

    fn mode(&self, place: &str) -> u32 {
        self.path(place).metadata().unwrap().permissions().mode() & 0o777
    }

    /// A text with its absolute places in this machine, and with its addresses.
    fn here(&self, text: &str) -> String {
        let root = self.root.path().display();
        let mut text = text
            .replace("127.0.0.1:8080", &self.addresses[0])
            .replace("127.0.0.1:9464", &self.addresses[1]);
        for place in ["/etc/", "/usr/local/bin/", "/var/lib/"] {
            text = text.replace(place, &format!("{root}{place}"));
        }
        text
    }

    /// Does what the top of the unit says, in the repository.
    fn set_up(&self) {
        let unit = file("systemd/tenmint.service");
        let top = unit.lines().map_while(|line| line.strip_prefix('#'));
        let commands: Vec<&str> = top.filter_map(|line| line.strip_prefix("   ")).collect();
        let script = STAND_INS.to_owned() + &self.here(&commands.join("\n"));
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).current_dir(self.path("repository"));
        let output = shell.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
        let said = crate::cli::stdout(&output) + &crate::cli::stderr(&output);
        assert!(output.status.success(), "{script}\n{said}");
    }

    /// Starts the node as systemd would, by the unit that is installed.
    fn start(&self) -> Serving {
        let unit = self.read("etc/systemd/system/tenmint.service");
        for name in told(&unit, "StateDirectory").iter().flat_map(|names| names.split(' ')) {
            std::fs::create_dir_all(self.path("var/lib").join(name)).unwrap();
        }
        let line = told(&unit, "ExecStart").concat();
        let mut words = line.split(' ');
        let environment = told(&unit, "Environment");
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir("/").env_clear();
        command.envs(environment.iter().map(|variable| variable.split_once('=').unwrap()));
        Serving::of(command)
    }
}

/// All files below a directory.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { [path].into() }).collect()
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-s", "-S", "-f"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", crate::cli::stderr(&output));
    crate::cli::stdout(&output)
}

#[test]
fn a_node_starts_by_what_the_unit_says() {
    let machine = Machine::new();
    machine.set_up();
    for (place, mode) in [
        ("etc/tenmint", 0o750),
        ("etc/tenmint/keys", 0o700),
        ("etc/tenmint/keys/master.key", 0o600),
        ("etc/tenmint/tenmint.toml", 0o640),
        ("var/lib/tenmint", 0o700),
        ("repository/administrator.key", 0o600),
    ] {
        assert_eq!(machine.mode(place), mode, "{place}: {:o}", machine.mode(place));
    }
    let to_be_read = files_below(&machine.path("etc"));
    let serving = machine.start();
    let [address, observed] = &machine.addresses;
    assert_eq!(curl(&[&format!("http://{observed}/readyz")]), r#"{"status":"ready"}"#);
    let administrator = format!(":{}", machine.read("repository/administrator.key").trim_end());
    let url = format!("http://{address}/oauth/token");
    let answer = curl(&["-u", &administrator, "-d", "grant_type=client_credentials", &url]);
    assert!(answer.contains("\"access_token\""), "{answer}");
    serving.stop();
    // `ProtectSystem=strict` leaves it no other places to write to than the state directories
    assert_eq!(files_below(&machine.path("etc")), to_be_read);
    for place in ["tenmint/tenmint.db", "tenmint-journal/revocations.journal"] {
        assert!(machine.path("var/lib").join(place).exists(), "{place}");
    }
}
