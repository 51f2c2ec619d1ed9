//! What an API takes in with this crate: few crates, and as many as the README says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::collections::BTreeSet;
use std::process::Command;

/// The crates that a build with these features compiles, this one included.
fn crates(features: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "tenmint-verifier", "-e", "normal,build"])
        .args(["--prefix", "none", "--no-default-features", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    text.lines().map(|line| line.split(" (").next().unwrap().to_owned()).collect()
}

#[test]
fn the_core_stays_within_twenty_five_crates() {
    let core = crates("");
    assert!(core.len() <= 25, "{core:?}");
    for kept_out in ["tokio ", "hyper ", "rustls ", "axum-core ", "jsonwebtoken "] {
        assert!(!core.iter().any(|name| name.starts_with(kept_out)), "{kept_out}");
    }
}

#[test]
fn no_feature_brings_a_second_crypto_library() {
    let all = crates("remote,raw-keys,axum,metrics,tracing,testing");
    for kept_out in ["aws-lc-rs ", "openssl-sys ", "openssl ", "rsa ", "p256 ", "native-tls "] {
        assert!(!all.iter().any(|name| name.starts_with(kept_out)), "{kept_out}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_readme_counts_right() {
    let (core, readme) = (crates("").len(), include_str!("../README.md"));
    assert!(readme.contains(&format!("| {core} in all |")), "{core} in all");
    let all = crates("remote,axum").len();
    assert!(readme.contains(&format!("| {all} in all |")), "remote and axum: {all} in all");
    for feature in ["remote", "raw-keys", "axum", "metrics", "tracing", "testing"] {
        let more = crates(feature).len() - core;
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{feature}`")));
        assert!(row.unwrap().contains(&format!("| + {more}")), "{feature} + {more}");
    }
}
