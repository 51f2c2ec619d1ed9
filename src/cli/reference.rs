//! The page `docs/cli.md`: all commands and their help, exit codes and variables, out of the code.

use std::fmt::Write;

use clap::{Command, CommandFactory};

use crate::cli::Cli;
use crate::cli::failure::Exit;

/// What stands above the commands.
const START: &str = include_str!("reference.md");

/// Variables that no flag of the same name has: those with one are in its help.
const VARIABLES: [(&str, &str); 8] = [
    ("TENMINT_URL", "the server, instead of the one of the context"),
    ("TENMINT_API_KEY", "the API key, instead of the one of the context"),
    ("TENMINT_API_KEY_FILE", "a file that holds the API key"),
    ("TENMINT_CONTEXT", "the context, instead of the current one"),
    ("TENMINT_ORGANIZATION", "the organization that is meant, for admins of the account"),
    ("XDG_CONFIG_HOME", "where `tenmint/contexts.json` is, instead of `~/.config`"),
    ("SSL_CERT_FILE", "certificates to trust, instead of those of the system"),
    ("TENMINT_LOG", "the filter of a server's log: `info`, or `tenmint=debug`"),
];

/// The page.
pub fn page() -> String {
    let mut program = Cli::command().mut_args(|argument| argument.hide_env_values(true));
    program.build();
    let mut page = START.to_owned();
    page += "\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n";
    for exit in Exit::ALL {
        let _ = writeln!(page, "| {} | {} |", exit.code(), exit.meaning());
    }
    page += "\n## Environment\n\n| Variable | Meaning |\n|---|---|\n";
    for (name, meaning) in VARIABLES {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page += "\nVariables of single flags stand in the help of the commands.\n\n## Commands\n";
    add(&mut page, &mut program);
    page
}

fn add(page: &mut String, command: &mut Command) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help = command.render_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(page, "\n### {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        add(page, below);
    }
}
