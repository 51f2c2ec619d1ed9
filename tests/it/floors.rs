//! The house stands on floors: which room may use which, and who alone names a crate.

use std::path::{Path, PathBuf};

/// Each room, the rooms it may use, and the crates that it and no other room names.
const ROOMS: [(&str, &[&str], &[&str]); 6] = [
    ("model", &[], &["chrono", "crc32fast"]),
    ("store", &["model"], &["sqlx"]),
    ("mint", &["model"], &["crypto_bigint", "crypto_primes", "getrandom", "hashbrown", "pkcs1"]),
    ("service", &["model", "store", "mint"], &[]),
    (
        "http",
        &["model", "mint", "service"],
        &["axum", "hyper", "hyper_rustls", "tokio_rustls", "tower_http", "tower_service"],
    ),
    (
        "cli",
        &["model", "service", "http"],
        &["clap", "clap_complete", "oauth2", "percent_encoding", "rustix", "toml"],
    ),
];
/// What every room may use: the words for failure, the time, and what is counted.
const GROUND: [&str; 3] = ["clock", "error", "figures"];

fn source_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file, without its comments.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

fn room_of<'p>(path: &'p Path, source: &Path) -> Option<&'p str> {
    let inside = path.strip_prefix(source).unwrap();
    let first = inside.components().next()?.as_os_str().to_str()?;
    ROOMS.iter().any(|(room, ..)| *room == first).then_some(first)
}

/// The words behind each `crate::` and in front of each `::`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn each_room_uses_only_the_floors_below_it_and_names_only_its_own_crates() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for path in source_files(&source) {
        let Some(room) = room_of(&path, &source) else { continue };
        let code = code(&path);
        let (_, may_use, own) = ROOMS.iter().find(|(known, ..)| *known == room).unwrap();
        for (other, _, crates) in ROOMS {
            let used = code.contains(&format!("crate::{other}::"))
                || code.contains(&format!("crate::{{{other}"));
            if used && other != room && !may_use.contains(&other) {
                breaches.push(format!("{}: {room} uses {other}", path.display()));
            }
            for name in crates {
                if names_crate(&code, name) && !own.contains(name) {
                    breaches.push(format!("{}: {room} names {name}", path.display()));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_room_of_the_table_exists_and_every_module_has_a_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(source.join("lib.rs")).unwrap();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let name = line.trim_end_matches(';');
        let known = ROOMS.iter().any(|(room, ..)| *room == name) || GROUND.contains(&name);
        assert!(known, "`{name}` is on no floor");
    }
    for (room, ..) in ROOMS {
        assert!(source.join(room).join("mod.rs").exists(), "there is no room `{room}`");
    }
}
