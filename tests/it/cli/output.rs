//! `--output`: what each form holds, and where it goes.

use super::{Home, Live, each, stderr, stdout};

#[test]
fn csv_holds_all_pages_and_no_formula() {
    let live = Live::start();
    for number in 0..20 {
        live.api_key(&["-s", "chat,models", "--description", &format!("=cmd|{number}")]);
    }
    let csv = live.text(&["keys", "-o", "csv"]);
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("id,name,prefix,scopes,status,last_use_used_at,"));
    let rows: Vec<&str> = lines.collect();
    assert_eq!(rows.len(), 21, "a table has 15");
    assert_eq!(rows.iter().filter(|row| row.contains(",'=cmd|")).count(), 20);
    assert!(rows[0].contains(",chat models,active,"), "{}", rows[0]);
    assert_eq!(live.text(&["keys", "-o", "csv", "-l", "3"]).lines().count(), 4);
    let table = live.text(&["keys"]);
    assert_eq!(table.lines().count(), 16);
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let live = Live::start();
    let path = live.home.path().join("keys.json");
    let output = live.run(&["keys", "-o", "keys.json"]);
    assert_eq!(stdout(&output), "");
    let list = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(each(&list, "id").len(), 1);
    let mut unknown = live.command_with("wrong", &["keys", "-o", "keys.json"]);
    assert_eq!(unknown.output().unwrap().status.code(), Some(6));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(&path).unwrap()).unwrap(),
        list
    );
    let left: Vec<_> = std::fs::read_dir(live.home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("new")), "{left:?}");
    let (code, said) = live.refusal(&["keys", "-o", "nowhere/keys.csv"]);
    assert!(code == 1 && said.contains("could not be written"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_file_with_a_secret_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let live = Live::start();
    live.text(&["keys", "create", "-n", "x", "-s", "chat", "-o", "new.json"]);
    let path = live.home.path().join("new.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let made: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(live.token(made["api_key"].as_str().unwrap(), &[]).status.success());
}

#[test]
fn parquet_is_written_where_the_build_has_it_and_refused_elsewhere() {
    let live = Live::start();
    let output = live.run(&["keys", "-o", "keys.parquet"]);
    let path = live.home.path().join("keys.parquet");
    if cfg!(feature = "parquet") {
        assert!(output.status.success(), "{}", stderr(&output));
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    } else {
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("--features parquet"), "{}", stderr(&output));
        assert!(!path.exists());
    }
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let live = Live::start();
    for form in ["table", "json", "jsonl", "csv"] {
        let script = format!("\"$0\" keys list -o {form} | true; exit ${{PIPESTATUS[0]}}");
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_tenmint")]);
        shell.env("TENMINT_URL", &live.url).env("TENMINT_API_KEY", &live.administrator);
        let output = shell.output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{form}");
    }
}

#[test]
fn a_form_that_a_command_does_not_have_is_refused_before_anything_is_done() {
    let home = Home::new();
    for (arguments, says) in [
        (&["doctor", "-o", "csv"][..], "this is no list"),
        (&["context", "list", "-o", "x.json"], "stdout alone"),
        (&["keys", "list", "-o", "xml"], "write `table`"),
        (&["token", "-o", "csv"], "would be lost"),
    ] {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_secret_that_has_no_place_to_go_is_not_made() {
    let live = Live::start();
    let (id, text) = live.api_key(&["-s", "chat"]);
    std::fs::create_dir(live.home.path().join("place.json")).unwrap();
    for place in ["nowhere/key.json", "place.json"] {
        for arguments in [
            &["keys", "rotate", &id, "-f", "-o", place][..],
            &["keys", "create", "-n", "lost", "-o", place],
        ] {
            let (code, said) = live.refusal(arguments);
            assert_eq!(code, 1, "{said}");
        }
    }
    assert!(live.token(&text, &[]).status.success(), "it was not rotated");
    assert_eq!(each(&live.json(&["keys", "list", "-n", "lost"]), "id").len(), 0);
}
