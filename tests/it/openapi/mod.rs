//! The OpenAPI document, and the page that is made of it: neither says what the service does not.

mod operation;
mod walk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tenmint::http::api::openapi::document;

/// What renews the committed copies.
const RENEW: &str = "TENMINT_WRITE_DOCS=1 cargo test --test it openapi";
/// The marks around the table of `docs/api.md`.
const TABLE: (&str, &str) = ("<!-- operations -->\n", "<!-- end of operations -->");

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a committed file holds, renewed first where that is asked for.
fn committed(path: &str, renewed: impl FnOnce() -> String) -> String {
    if std::env::var_os("TENMINT_WRITE_DOCS").is_some() {
        std::fs::write(in_project(path), renewed()).unwrap();
    }
    std::fs::read_to_string(in_project(path)).unwrap_or_default()
}

#[test]
fn the_committed_document_is_the_served_one() {
    let document = document();
    let pretty = || serde_json::to_string_pretty(&document).unwrap() + "\n";
    let committed = committed("docs/openapi.json", pretty);
    let committed: Value = serde_json::from_str(&committed).unwrap_or_default();
    assert!(committed == document, "docs/openapi.json is old: {RENEW}");
}

#[test]
fn the_page_has_every_operation_with_its_scope_and_plane() {
    let table = table(&document());
    let in_page = |page: &str| {
        let (before, rest) = page.split_once(TABLE.0).unwrap();
        let (found, after) = rest.split_once(TABLE.1).unwrap();
        (found.to_owned(), format!("{before}{}{table}{}{after}", TABLE.0, TABLE.1))
    };
    let page = std::fs::read_to_string(in_project("docs/api.md")).unwrap();
    let page = committed("docs/api.md", || in_page(&page).1);
    assert!(in_page(&page).0 == table, "the table of docs/api.md is old: {RENEW}");
}

fn table(document: &Value) -> String {
    let mut table = "| Operation | What it does | Scope | Plane |\n|---|---|---|---|\n".to_owned();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, told) in methods.as_object().unwrap() {
            let text = |field: &str| told[field].as_str().unwrap();
            let (method, scope) = (method.to_uppercase(), marked(text("x-tenmint-scope")));
            let (summary, plane) = (text("summary"), text("x-tenmint-plane"));
            table += &format!("| `{method} {path}` | {summary} | {scope} | {plane} |\n");
        }
    }
    table
}

/// The scopes of a sentence, each as code.
fn marked(text: &str) -> String {
    let mark = |word: &str| {
        let scope = word.trim_end_matches([',', ';']);
        let is_scope = scope.split_once(':').is_some_and(|(_, filter)| !filter.is_empty());
        if is_scope { format!("`{scope}`{}", &word[scope.len()..]) } else { word.to_owned() }
    };
    let words: Vec<String> = text.split_whitespace().map(mark).collect();
    if words.is_empty() { "any".to_owned() } else { words.join(" ") }
}

#[test]
fn the_page_tells_every_code_that_programs_can_meet() {
    let page = std::fs::read_to_string(in_project("docs/api.md")).unwrap();
    let codes = codes();
    assert!(codes.len() > 20, "the search finds no codes any more");
    for code in codes {
        assert!(page.contains(&format!("`{code}`")), "docs/api.md does not tell `{code}`");
    }
}

/// Every code that the management API can answer with, as the source names it.
fn codes() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    let errors = std::fs::read_to_string(in_project("src/error.rs")).unwrap();
    let arms = errors.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    codes.extend(arms.filter(|code| !code.contains(' ')).map(str::to_owned));
    for folder in ["src/service", "src/store", "src/http", "src/http/api"] {
        for entry in std::fs::read_dir(in_project(folder)).unwrap() {
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path()) else { continue };
            let conflicts = text.split("Conflict(").skip(1);
            let taken = text.split("taken(cause, ").skip(1);
            let statuses = text.split("StatusCode::").skip(1).map(|rest| {
                rest.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '_')
                    .trim_start_matches(',')
            });
            codes.extend(conflicts.chain(taken).chain(statuses).filter_map(|rest| {
                let (code, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
                Some(code.to_owned())
            }));
        }
    }
    // `tenmint init` alone meets it
    codes.remove("already_initialized");
    codes
}
