//! The face for terminals. Each command is an adapter: arguments in, a use case or a request to a
//! server, output.

mod api;
mod api_keys;
mod audiences;
mod audit;
mod backup;
mod bots;
mod completions;
mod config;
mod context_file;
mod contexts;
mod doctor;
mod failure;
mod flag_style;
mod gateway_policies;
mod import;
mod import_report;
mod init;
mod installation;
mod keyring;
mod ledger;
mod master_key;
mod migrate;
mod migration;
mod orgs;
mod output;
mod prompt;
mod recover;
pub mod reference;
mod roles;
mod serve;
mod server;
mod session;
mod signing_keys;
mod spaces;
mod token;
mod usage;
mod users;
mod values;
mod whoami;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::cli::config::{Config, Overrides};
use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::output::{Form, Gives, Output};
use crate::cli::session::{Session, SessionArgs};
use crate::clock::Clock;
use crate::error;
use crate::service::Service;
use crate::service::node::NodeConfig;

/// An OAuth 2.0 token service: an API key in, a ten-minute token out.
#[derive(Debug, Parser)]
#[command(name = "tenmint", version, about, arg_required_else_help = true)]
struct Cli {
    /// The form of the result: `table`, `json`, `jsonl`, `csv`, `parquet`, `secret`, or a file whose
    /// ending says it
    #[arg(short, long, global = true, default_value = "table", value_name = "FORM")]
    output: Form,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, list, change and end API keys
    Keys(WithServer<api_keys::KeysCommand>),
    /// Create, list and change organizations
    Orgs(WithServer<orgs::OrgsCommand>),
    /// Create, list, change and end spaces
    Spaces(WithServer<spaces::SpacesCommand>),
    /// Register, list and change the APIs that take tokens
    Audiences(WithServer<audiences::AudiencesCommand>),
    /// Say what requests need that come to an API through a gateway
    GatewayPolicies(WithServer<gateway_policies::GatewayPoliciesCommand>),
    /// Lead an API from raw keys to tokens
    Migration(WithServer<migration::MigrationCommand>),
    /// Add, list, change and remove users
    Users(WithServer<users::UsersCommand>),
    /// Create, list, change and end bots
    Bots(WithServer<bots::BotsCommand>),
    /// Define roles, and say who has which
    Roles(WithServer<roles::RolesCommand>),
    /// Tell how many tokens there were, and how often none
    Usage(AskingServer<usage::UsageArgs>),
    /// Tell who did what to which object
    Audit(AskingServer<audit::AuditArgs>),
    /// Look after the installation as a whole
    Installation(WithServer<installation::InstallationCommand>),
    /// Fetch a token, as an app does
    Token(token::TokenArgs),
    /// Say which API key is used, and what it may do
    Whoami(SessionArgs),
    /// Keep a server and an API key for it, which is read from stdin or a prompt
    Login(contexts::LoginArgs),
    /// Forget a server and the API key for it
    Logout(contexts::LogoutArgs),
    /// Choose between servers
    #[command(subcommand)]
    Context(contexts::ContextCommand),
    /// Print what a shell needs to complete commands
    Completions(completions::CompletionsArgs),
    /// Set an installation up, once
    Init(OnNode<init::InitArgs>),
    /// Bring the tables of the database up to date with this version
    Migrate(OnNode<migrate::MigrateArgs>),
    /// Serve tokens
    Serve(OnNode<serve::ServeArgs>),
    /// Check what tenmint needs, and say what to do
    Doctor(OnNode<doctor::DoctorArgs>),
    /// Make a new administrator's key, where the last one is lost
    Recover(OnNode<recover::RecoverArgs>),
    /// Copy the embedded database, while a node serves
    Backup(OnNode<backup::BackupArgs>),
    /// Search, verify and export the record of every token
    Ledger(OnNodeWith<ledger::LedgerCommand>),
    /// Put another master key in the place of the one there is
    MasterKey(OnNodeWith<master_key::MasterKeyCommand>),
    /// List, rotate, withdraw and import the signing keys
    SigningKeys(OnNodeWith<signing_keys::SigningKeysCommand>),
}

/// Commands that talk to a server.
#[derive(Debug, Args)]
struct WithServer<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    session: SessionArgs,
}

/// A command that talks to a server.
#[derive(Debug, Args)]
struct AskingServer<A: Args> {
    #[command(flatten)]
    args: A,
    #[command(flatten)]
    session: SessionArgs,
}

/// A command on the machine and the database of a node.
#[derive(Debug, Args)]
struct OnNode<A: Args> {
    #[command(flatten)]
    args: A,
    #[command(flatten)]
    node: NodeArgs,
}

/// Commands on the database of a node.
#[derive(Debug, Args)]
struct OnNodeWith<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    node: NodeArgs,
}

/// Where a node has what it needs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Node")]
struct NodeArgs {
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
}

/// The page `docs/configuration.md`, out of the code.
pub fn configuration_page() -> String {
    config::page()
}

/// Runs the program.
pub fn run() -> ExitCode {
    let arguments = std::env::args_os().collect();
    let arguments = match flag_style::rewritten(arguments, Cli::command) {
        Ok(arguments) => arguments,
        Err(failure) => return Output::new(Form::default()).failure(&failure),
    };
    let Cli { output, command } = Cli::parse_from(arguments);
    let output = Output::new(output);
    let result = output.check(command.gives()).and_then(|()| {
        let runtime = runtime(&command)?;
        let result = runtime.block_on(dispatch(command, &output));
        // what still waits for a lock or a disk must not hold the exit
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|failure| output.failure(&failure))
}

/// Threads are for the server; a command that asks one thing starts faster without.
fn runtime(command: &Command) -> Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let cannot_start = |cause| Failure::new(Exit::Failed, format!("cannot start: {cause}"));
    builder.enable_all().build().map_err(cannot_start)
}

async fn dispatch(command: Command, output: &Output) -> Result<ExitCode> {
    let session = |args| Session::new(args, output);
    match command {
        Command::Keys(with) => api_keys::run(with.command, &session(with.session)?).await,
        Command::Orgs(with) => orgs::run(with.command, &session(with.session)?).await,
        Command::Spaces(with) => spaces::run(with.command, &session(with.session)?).await,
        Command::Audiences(with) => audiences::run(with.command, &session(with.session)?).await,
        Command::GatewayPolicies(with) => {
            gateway_policies::run(with.command, &session(with.session)?).await
        }
        Command::Migration(with) => migration::run(with.command, &session(with.session)?).await,
        Command::Users(with) => users::run(with.command, &session(with.session)?).await,
        Command::Bots(with) => bots::run(with.command, &session(with.session)?).await,
        Command::Roles(with) => roles::run(with.command, &session(with.session)?).await,
        Command::Usage(asking) => usage::run(asking.args, &session(asking.session)?).await,
        Command::Audit(asking) => audit::run(asking.args, &session(asking.session)?).await,
        Command::Installation(with) => {
            installation::run(with.command, &session(with.session)?).await
        }
        Command::Token(args) => token::run(args, output).await,
        Command::Whoami(args) => whoami::run(&session(args)?).await,
        Command::Login(args) => contexts::login(args, output).await,
        Command::Logout(args) => contexts::logout(args, output),
        Command::Context(command) => contexts::run(command, output),
        Command::Completions(args) => Ok(completions::run(&args, Cli::command(), output)),
        Command::Init(on) => {
            Ok(init::run(&on.node.config(Overrides::default())?, on.args, output).await?)
        }
        Command::Migrate(on) => {
            Ok(migrate::run(&on.node.config(Overrides::default())?, output).await?)
        }
        Command::Serve(on) => {
            let config = on.node.config(on.args.overrides())?;
            Ok(serve::run(config, &on.args, output).await?)
        }
        Command::Doctor(on) => {
            Ok(doctor::run(on.node.config(Overrides::default()), &on.args, output).await?)
        }
        Command::Recover(on) => {
            Ok(recover::run(&on.node.service().await?, &on.args, output).await?)
        }
        Command::Backup(on) => Ok(backup::run(&on.node.service().await?, &on.args, output).await?),
        Command::Ledger(on) => {
            let (service, node) = on.node.open().await?;
            ledger::run(&service, &node.ledger.directory, on.command, output).await
        }
        Command::MasterKey(on) => {
            Ok(master_key::run(&on.node.service().await?, on.command, output).await?)
        }
        Command::SigningKeys(on) => {
            let (service, node) = on.node.open().await?;
            signing_keys::run(service, &node.journal, on.command, output).await
        }
    }
}

impl Command {
    /// What it gives, which says what forms it has.
    fn gives(&self) -> Gives {
        match self {
            Self::Keys(with) => with.command.gives(),
            Self::Init(_) | Self::Token(_) | Self::Recover(_) => Gives::Secret,
            Self::Migrate(_)
            | Self::Serve(_)
            | Self::Doctor(_)
            | Self::Backup(_)
            | Self::MasterKey(_)
            | Self::Login(_)
            | Self::Logout(_)
            | Self::Context(_)
            | Self::Completions(_) => Gives::Words,
            _ => Gives::Rows,
        }
    }
}

impl NodeArgs {
    fn config(&self, overrides: Overrides) -> error::Result<Config> {
        Config::load(Overrides {
            file: self.config.clone(),
            data_dir: self.data_dir.clone(),
            keys_dir: self.keys_dir.clone(),
            database_url: self.database_url.clone(),
            database_url_file: self.database_url_file.clone(),
            ..overrides
        })
    }

    async fn service(&self) -> error::Result<Service> {
        Ok(self.open().await?.0)
    }

    async fn open(&self) -> error::Result<(Service, NodeConfig)> {
        let Config { database, keys_dir, node, .. } = self.config(Overrides::default())?;
        let service = Service::open(&database, &keys_dir, Clock::system()).await?;
        let schedule = node.schedule(&service);
        Ok((service.with_schedule(schedule), node))
    }
}
