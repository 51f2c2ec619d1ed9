//! The face for terminals. Each command is an adapter: arguments in, a use case, output.

mod api_keys;
mod client;
mod config;
mod doctor;
mod init;
mod output;
mod serve;
mod signing_keys;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::cli::config::{Config, Overrides};
use crate::cli::output::{Format, Output};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::service::Service;

/// An OAuth 2.0 token service: an API key in, a ten-minute token out.
#[derive(Debug, Parser)]
#[command(name = "tenmint", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct GlobalArgs {
    /// Read this file instead of ./tenmint.toml
    #[arg(long, global = true, env = "TENMINT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the embedded database [default: ./data]
    #[arg(long, global = true, env = "TENMINT_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory of the master key [default: ./keys]
    #[arg(long, global = true, env = "TENMINT_KEYS_DIR", value_name = "DIR")]
    keys_dir: Option<PathBuf>,
    /// `postgres://...` or `sqlite:PATH`, instead of the embedded database
    #[arg(
        long,
        global = true,
        env = "TENMINT_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: Option<String>,
    /// A file that holds the URL of the database
    #[arg(long, global = true, env = "TENMINT_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    /// What to print
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set an installation up, once
    Init(init::InitArgs),
    /// Serve tokens
    Serve(serve::ServeArgs),
    /// Create, list, show and revoke API keys
    #[command(subcommand)]
    Keys(api_keys::KeysCommand),
    /// Fetch a token with the API key in `TENMINT_API_KEY`
    Token(token::TokenArgs),
    /// Look at the signing keys
    #[command(subcommand)]
    SigningKeys(signing_keys::SigningKeysCommand),
    /// Check what tenmint needs, and say what to do
    Doctor(doctor::DoctorArgs),
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.output);
    let result = runtime(&cli.command).and_then(|runtime| {
        let result = runtime.block_on(dispatch(cli, &output));
        // what still waits for a lock or a disk must not hold the exit
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|cause| output.failure(&cause))
}

/// Threads are for the server; a command that asks one thing starts faster without.
fn runtime(command: &Command) -> Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build().map_err(|cause| Error::Setup(format!("cannot start: {cause}")))
}

async fn dispatch(cli: Cli, output: &Output) -> Result<ExitCode> {
    let global = cli.global;
    match cli.command {
        Command::Init(args) => init::run(&global.config(None)?, args, output).await,
        Command::Serve(args) => {
            let config = global.config(args.listen.clone())?;
            serve::run(config, &args, output).await
        }
        Command::Keys(command) => api_keys::run(&global.service().await?, command, output).await,
        Command::Token(args) => token::run(args, output).await,
        Command::SigningKeys(command) => {
            signing_keys::run(&global.service().await?, command, output).await
        }
        Command::Doctor(args) => doctor::run(global.config(None), &args, output).await,
    }
}

impl GlobalArgs {
    fn config(&self, listen: Option<String>) -> Result<Config> {
        Config::load(Overrides {
            file: self.config.clone(),
            data_dir: self.data_dir.clone(),
            keys_dir: self.keys_dir.clone(),
            database_url: self.database_url.clone(),
            database_url_file: self.database_url_file.clone(),
            listen,
        })
    }

    async fn service(&self) -> Result<Service> {
        let config = self.config(None)?;
        Service::open(&config.database, &config.keys_dir, Clock::system()).await
    }
}
