//! The commands of README and docs, run as they stand there.
//!
//! A block that is marked `sh` runs in a directory of its own, one block after the other in one
//! shell; `sh background` starts something that stays. What is built already is not built again,
//! and the ports of the text become free ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::free_address;

struct Block {
    background: bool,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced
        .filter_map(|block| {
            let (mark, text) = block.split_once('\n')?;
            let background = mark == "sh background";
            (background || mark == "sh").then(|| Block { background, text: text.to_owned() })
        })
        .collect()
}

/// The pages whose commands a newcomer follows.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        pages.push(entry.unwrap().path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages
}

/// The same commands with the programs that the tests have built.
fn localized(text: &str) -> String {
    let program = env!("CARGO_BIN_EXE_tenmint");
    let example = Path::new(program).with_file_name("examples/protected_api");
    text.replace("target/release/tenmint", program)
        .replace(
            "cargo run --release -p tenmint-verifier --all-features --example protected_api",
            &example.display().to_string(),
        )
        .replace("cargo run --release --", program)
}

/// One script of all blocks of a page. A thing in the background is up when its port answers.
fn script(blocks: &[Block]) -> String {
    let mut script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n\
        export TENMINT_LISTEN=127.0.0.1:8080 TENMINT_URL=http://127.0.0.1:8080\n"
        .to_owned();
    for block in blocks {
        // the line that runs these very tests
        if block.text.trim() == "tests/run" {
            continue;
        }
        let text = localized(&block.text);
        if block.background {
            let lines: Vec<&str> = text.trim().lines().collect();
            let (last, before) = lines.split_last().unwrap();
            let listens =
                if last.contains("protected_api") { "127.0.0.1:8081" } else { "127.0.0.1:8080" };
            script += &before.join("\n");
            script += &format!(
                "\n{last} >background.log 2>&1 &\n\
                 for _ in $(seq 500); do for scheme in http https; do \
                 curl -s -k -o /dev/null $scheme://{listens}/healthz && break 2; done; done\n"
            );
        } else {
            script += &text;
            if text.starts_with("KEY=") {
                // a person is slower than the server's next look; a script is not
                script += &format!(
                    "for _ in $(seq 500); do TENMINT_API_KEY=$KEY {} token >/dev/null 2>&1 && break; done\n",
                    env!("CARGO_BIN_EXE_tenmint")
                );
            }
        }
    }
    script.replace("127.0.0.1:8080", &free_address()).replace("127.0.0.1:8081", &free_address())
}

#[test]
fn every_command_of_readme_and_docs_works_as_it_stands() {
    let arguments = ["build", "-q", "-p", "tenmint-verifier", "--example", "protected_api"];
    let built = Command::new(env!("CARGO")).args(arguments).arg("--all-features").status();
    assert!(built.unwrap().success());
    let (mut commands, mut failed) = (0, String::new());
    for page in pages() {
        let blocks = blocks(&std::fs::read_to_string(&page).unwrap());
        if blocks.is_empty() {
            continue;
        }
        commands += blocks.len();
        let home = tempfile::tempdir().unwrap();
        let script = script(&blocks);
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).current_dir(home.path()).env_remove("TENMINT_API_KEY");
        // a context that a page makes is not for whoever runs the tests
        shell.env("XDG_CONFIG_HOME", home.path());
        let output = shell.output().unwrap();
        if !output.status.success() {
            failed += &format!(
                "{}\n{script}\n{}\n{}\n",
                page.display(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert!(commands >= 6, "the search finds no commands any more");
}

#[test]
fn the_readme_is_a_signpost_and_every_page_it_points_to_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    assert!(readme.lines().count() <= 120);
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let is_mark = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
        assert!(!text.lines().any(is_mark), "{}: a merge is not finished", page.display());
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(there.exists(), "{}: {target}", page.display());
            if !heading.is_empty() {
                let named = headings(&std::fs::read_to_string(there).unwrap());
                assert!(named.iter().any(|named| named == heading), "{}: {target}", page.display());
            }
        }
    }
}

/// The names by which a link finds the headings of a page.
fn headings(text: &str) -> Vec<String> {
    let named = |line: &str| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        heading
            .replace(' ', "-")
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
            .collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(named).collect()
}

#[test]
fn every_test_that_the_page_about_security_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let source: String = rust_files(&["tests/it", "src"].map(|folder| root.join(folder)))
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let named = page.split('*').filter(|word| word.contains('_') && is_name(word));
    let (mut count, mut missing) = (0, Vec::new());
    for name in named {
        count += 1;
        if !source.contains(&format!("fn {name}(")) {
            missing.push(name);
        }
    }
    assert!(count > 20, "the search finds no names any more");
    assert!(missing.is_empty(), "docs/security.md names {missing:?}");
}

fn is_name(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn rust_files(folders: &[PathBuf]) -> Vec<PathBuf> {
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let below = if folders.is_empty() { Vec::new() } else { rust_files(&folders) };
    files.into_iter().chain(below).filter(|path| path.extension() == Some("rs".as_ref())).collect()
}

/// A page that is made out of the code: `TENMINT_WRITE_DOCS=1` renews it.
pub fn check_generated_page(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("TENMINT_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/{name} is old: TENMINT_WRITE_DOCS=1 cargo test --test it docs"
    );
}

#[test]
fn the_page_of_the_configuration_is_the_one_of_the_program() {
    check_generated_page("configuration.md", &tenmint::cli::configuration_page());
}
