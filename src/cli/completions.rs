//! `tenmint completions`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};
use serde_json::json;

use crate::cli::flag_style;
use crate::cli::output::Output;

/// Arguments of `tenmint completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: ShellName,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &CompletionsArgs, mut command: Command, output: &Output) -> ExitCode {
    let shell = match args.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    command = flag_style::with_action_flags(command);
    generate(shell, &mut command, "tenmint", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.result(&json!({"script": script}), &script);
    ExitCode::SUCCESS
}
