//! `docs/cli.md` is made of the program, and is what is committed.

use std::path::Path;

#[test]
fn cli_docs_are_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let page = tenmint::cli::reference::page();
    if std::env::var("TENMINT_WRITE_DOCS").is_ok() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(page.lines()).find(|(committed, page)| committed != page);
    assert!(
        committed == page,
        "docs/cli.md is old, first at {differs:?}; renew it with \
         `TENMINT_WRITE_DOCS=1 cargo test --test it cli_docs`"
    );
}

#[test]
fn every_command_has_a_help_and_completions_know_it() {
    let page = tenmint::cli::reference::page();
    for command in
        ["keys ip-filter", "orgs bootstrap", "roles bind", "audit", "login", "context use"]
    {
        assert!(page.contains(&format!("\n### tenmint {command}\n")), "{command}");
    }
    let home = super::Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = super::stdout(&home.run(&["completions", shell]));
        assert!(script.contains("ip-filter") && script.contains("grace-period-seconds"), "{shell}");
        let flags = ["create-service", "rotate", "ip-filter"];
        let flag = |name: &str| match shell {
            "fish" => format!("-l {name} "),
            _ => format!("--{name}"),
        };
        assert!(flags.iter().all(|name| script.contains(&flag(name))), "{shell}: {flags:?}");
    }
}
