//! The `tenmint` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tenmint::cli::run()
}
