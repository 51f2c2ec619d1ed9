//! `tenmint serve`: a node.

use std::cell::Cell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

use crate::cli::config::{Config, ObserveOverrides, Overrides};
use crate::cli::contexts;
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::http::listener::Face;
use crate::http::tls::Tls;
use crate::http::traces::{CollectorTask, Traces};
use crate::http::{self, HttpConfig, listener};
use crate::model::secret::PlainSecret;
use crate::service::Service;
use crate::service::init::{CreateInstallation, create_installation};
use crate::service::node::Node;

/// How often a node that waits for its database looks for it.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How seldom it says so: once a minute.
const TRIES_PER_LOG_LINE: u64 = 60;

/// Arguments of `tenmint serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, env = "TENMINT_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where to tell `/metrics`: a loopback or private address [default: nowhere]
    #[arg(long, env = "TENMINT_OBSERVE_LISTEN", value_name = "ADDRESS")]
    observe_listen: Option<String>,
    /// The collector to tell of requests, like `http://127.0.0.1:4318/v1/traces` [default: none]
    #[arg(long, env = "TENMINT_OBSERVE_TRACES", value_name = "URL")]
    observe_traces: Option<String>,
    /// Of how many requests, from 0 to 1 [default: 1]
    #[arg(long, env = "TENMINT_OBSERVE_TRACES_RATIO", value_name = "RATIO")]
    observe_traces_ratio: Option<String>,
    /// Addresses and CIDRs of the proxies that are believed about a caller's address
    #[arg(long, env = "TENMINT_TRUSTED_PROXIES", value_name = "LIST")]
    trusted_proxies: Option<String>,
    /// The header they write: `x-forwarded-for` or `forwarded`
    #[arg(long, env = "TENMINT_FORWARDING_HEADER", value_name = "NAME")]
    forwarding_header: Option<String>,
    /// The certificate chain to show, in PEM: makes it speak TLS
    #[arg(long, env = "TENMINT_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, env = "TENMINT_TLS_PRIVATE_KEY", value_name = "FILE")]
    tls_private_key: Option<PathBuf>,
    /// Where it appends what ends for ever, apart from the database
    #[arg(long, env = "TENMINT_REVOCATION_JOURNAL", value_name = "FILE")]
    revocation_journal: Option<PathBuf>,
    /// Set up what is missing and print a key to try, for a first look
    #[arg(long)]
    dev: bool,
}

impl ServeArgs {
    /// What these say of the configuration.
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            observe: ObserveOverrides {
                listen: self.observe_listen.clone(),
                traces: self.observe_traces.clone(),
                traces_ratio: self.observe_traces_ratio.clone(),
            },
            trusted_proxies: self.trusted_proxies.clone(),
            forwarding_header: self.forwarding_header.clone(),
            tls_certificate: self.tls_certificate.clone(),
            tls_private_key: self.tls_private_key.clone(),
            revocation_journal: self.revocation_journal.clone(),
            ..Overrides::default()
        }
    }
}

pub(super) async fn run(mut config: Config, args: &ServeArgs, output: &Output) -> Result<ExitCode> {
    start_log(args.dev)?;
    refuse_core_files();
    let listeners = Listeners::bind(&config).await?;
    config.http.limits = config.http.limits.within_descriptors(listeners.for_many());
    let address = listeners.public.address;
    config.http.tls = config.tls.take().map(Tls::load).transpose()?.map(Arc::new);
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    let clock = Clock::system();
    let telling = start_traces(&mut config, &clock)?;
    if args.dev {
        set_up_for_dev(&config, &format!("{scheme}://{address}"), &clock, output).await?;
    }
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let hangups = hangups(&config, args)?;
    let waiting = listeners.while_waiting(&config.http)?;
    let started = tokio::select! {
        started = start_node(&config, &clock, waiting, output) => started?,
        () = &mut stop => None,
    };
    let Some(mut node) = started else { return Ok(ExitCode::SUCCESS) };
    let issuer = node.service.installation().issuer.clone();
    start_work(&mut node, &config.http, hangups);
    tracing::info!(
        %address,
        %issuer,
        database = %config.database,
        api_keys = node.mint.index().len(),
        trusted_proxies = %config.http.trusted_proxies,
        tls = config.http.tls.is_some(),
        "serving"
    );
    output.note(&format!("tenmint listens on {scheme}://{address}, issuer {issuer}"));
    let has_failed = Cell::new(false);
    let stop = until_asked_or_failed(stop, node.failure(), &has_failed);
    serve(listeners.of_node(&node, config.http, output)?, stop).await;
    let told = async {
        if let Some(telling) = telling {
            telling.stop().await;
        }
    };
    tokio::join!(node.stop(), told);
    tracing::info!("stopped");
    Ok(if has_failed.get() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A listener that is bound, and to what.
struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

/// A face, and where it is served.
type Door = (TcpListener, Face);

impl Bound {
    async fn to(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(cannot_listen(address))?;
        let local = listener.local_addr().map_err(cannot_listen(address))?;
        let listener = listener.into_std().map_err(cannot_listen(address))?;
        Ok(Self { listener, address: local })
    }

    async fn if_asked(address: Option<&str>) -> Result<Option<Self>> {
        match address {
            Some(address) => Self::to(address).await.map(Some),
            None => Ok(None),
        }
    }

    /// This face there, for as long as the listener has no other.
    fn lend(&self, face: Face) -> Result<Door> {
        let listener = self.listener.try_clone().map_err(cannot_listen(self.address))?;
        Self { listener, ..*self }.serving(face)
    }

    fn serving(self, face: Face) -> Result<Door> {
        let listener = TcpListener::from_std(self.listener).map_err(cannot_listen(self.address))?;
        Ok((listener, face))
    }
}

fn cannot_listen(address: impl Display) -> impl FnOnce(std::io::Error) -> Error {
    move |cause| Error::Setup(format!("cannot listen on {address}: {cause}"))
}

/// Where a node listens: for everybody, and beside that for gateways and for those who watch.
struct Listeners {
    public: Bound,
    gateways: Option<Bound>,
    observers: Option<Bound>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self> {
        Ok(Self {
            public: Bound::to(&config.listen).await?,
            gateways: Bound::if_asked(config.private_listen.as_deref()).await?,
            observers: Bound::if_asked(config.observe_listen.as_deref()).await?,
        })
    }

    /// At how many of them anybody may take as many places as there are.
    fn for_many(&self) -> u32 {
        1 + u32::from(self.gateways.is_some())
    }

    /// What is served everywhere until there is a node.
    fn while_waiting(&self, http: &HttpConfig) -> Result<Vec<Door>> {
        let public = self.public.lend(http::waiting_face(http.limits, http.tls.clone()));
        let plain = |bound: &Bound| bound.lend(http::waiting_face(http.limits, None));
        let beside = self.gateways.iter().chain(&self.observers).map(plain);
        std::iter::once(public).chain(beside).collect()
    }

    /// What a node serves.
    fn of_node(self, node: &Node, http: HttpConfig, output: &Output) -> Result<Vec<Door>> {
        let mut doors = vec![self.public.serving(http::public_face(node, http.clone()))?];
        if let Some(bound) = self.gateways {
            let address = bound.address;
            output.note(&format!("gateways ask without a key on http://{address}/forward-auth"));
            doors.push(bound.serving(http::private_face(node, http.clone()))?);
        }
        if let Some(bound) = self.observers {
            output.note(&format!("figures are told on http://{}/metrics", bound.address));
            doors.push(bound.serving(http::observed_face(node, http))?);
        }
        Ok(doors)
    }
}

/// Begins to tell a collector of requests, where one is named.
fn start_traces(config: &mut Config, clock: &Clock) -> Result<Option<CollectorTask>> {
    let Some(traces) = config.traces.take() else { return Ok(None) };
    let (traces, telling) = Traces::start(traces, clock.clone())?;
    config.http.traces = Some(traces);
    Ok(Some(telling))
}

/// Starts a node. Where its database is out of reach, it waits for that, and serves meanwhile what a node
/// serves that waits.
async fn start_node(
    config: &Config,
    clock: &Clock,
    waiting: Vec<Door>,
    output: &Output,
) -> Result<Option<Node>> {
    let mut tries = 0_u64;
    let mut waiting = Some(waiting);
    let mut serving = None;
    let started = loop {
        let cause = match try_to_start(config, clock).await {
            Err(cause @ Error::Unavailable(_)) => cause,
            started => break started,
        };
        if tries.is_multiple_of(TRIES_PER_LOG_LINE) {
            let source = std::error::Error::source(&cause).map(ToString::to_string);
            tracing::error!(database = %config.database, source, "waiting for the database");
        }
        tries += 1;
        if let Some(doors) = waiting.take() {
            output.note(&format!("tenmint waits for the database {}", config.database));
            serving = Some(serve_until_dropped(doors));
        }
        sleep(TRY_EVERY).await;
    };
    if let Some((stopping, serving)) = serving {
        drop(stopping);
        // two faces at one listener would take turns
        drop(serving.await);
    }
    started.map(Some)
}

/// Serves in a task, until what comes with it is dropped.
fn serve_until_dropped(doors: Vec<Door>) -> (watch::Sender<()>, JoinHandle<()>) {
    let (stopping, mut stopped) = watch::channel(());
    let stop = async move { drop(stopped.changed().await) };
    (stopping, tokio::spawn(serve(doors, stop)))
}

async fn try_to_start(config: &Config, clock: &Clock) -> Result<Node> {
    let (database, keys_dir, clock) = (&config.database, &config.keys_dir, clock.clone());
    let service = if config.node.migrate {
        Service::open_to_serve(database, keys_dir, clock).await?
    } else {
        Service::open(database, keys_dir, clock).await?
    };
    Node::start(service, config.node.clone()).await
}

/// The work beside requests, until the node is stopped.
fn start_work(node: &mut Node, config: &HttpConfig, hangups: Option<Signal>) {
    node.follow();
    node.rotate_signing_keys();
    node.lease();
    node.write_usage();
    node.keep_ledger();
    if let (Some(tls), Some(hangups)) = (&config.tls, hangups) {
        node.work_on(tls.clone().follow(hangups));
    }
}

/// A core file would hold what a node holds in memory: the pepper, the signing keys, and the API keys of the
/// requests at that moment. A system that hands them to a program instead asks the same limit.
fn refuse_core_files() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(cause) = setrlimit(Resource::Core, none) {
        tracing::warn!(%cause, "core files cannot be switched off: see to it that none is kept");
    }
}

/// Ends when the node is asked to stop, or a part of it has failed, which is noted.
async fn until_asked_or_failed(
    asked: impl Future<Output = ()>,
    failure: impl Future<Output = ()>,
    has_failed: &Cell<bool>,
) {
    tokio::select! {
        () = asked => {}
        () = failure => {
            tracing::error!("a part of the node has failed: it stops, to be started anew");
            has_failed.set(true);
        }
    }
}

/// Serves on all listeners, until each has let its requests finish.
async fn serve(doors: Vec<Door>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(());
    let mut serving = JoinSet::new();
    for (listener, face) in doors {
        let mut stopped = stopped.clone();
        serving.spawn(listener::serve(listener, face, async move {
            // nothing is ever sent: it ends as the other end goes
            drop(stopped.changed().await);
        }));
    }
    stop.await;
    drop(stopping);
    while serving.join_next().await.is_some() {}
}

/// At the first start: an installation, and one key with a line to paste.
async fn set_up_for_dev(
    config: &Config,
    origin: &str,
    clock: &Clock,
    output: &Output,
) -> Result<()> {
    let ask = CreateInstallation {
        issuer: origin.to_owned(),
        api_key_name: "dev".to_owned(),
        ..CreateInstallation::default()
    };
    match create_installation(&config.database, &config.keys_dir, clock, &ask).await {
        Ok(created) => {
            let text = created.api_key.text.map(PlainSecret::reveal).unwrap_or_default();
            output.note(&format!(
                "organization {} ({})\nan API key, shown this once:\n\n  {text}\n\n\
                 try it:\n\n  curl -s -u :{text} -d grant_type=client_credentials \
                 --data-urlencode 'scope=read:projects/alpha/*' {origin}/oauth/token\n",
                created.org.id, created.org.slug
            ));
            keep_for_dev(origin, &text, output);
            Ok(())
        }
        Err(Error::Conflict("already_initialized", _)) => {
            output
                .note("the installation is set up already; `tenmint keys create` makes more keys");
            Ok(())
        }
        Err(cause) => Err(cause),
    }
}

/// So that `tenmint keys create` works at once; a first look goes on without.
fn keep_for_dev(origin: &str, api_key: &str, output: &Output) {
    match contexts::save_dev(origin, api_key) {
        Ok(kept) => output.note(&kept),
        Err(cause) => output.note(&format!("not kept as a context: {cause}")),
    }
}

/// Ends when the process is asked to stop.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: requests in flight finish");
    })
}

/// What asks for the certificate to be read anew, and from now on ends the process no more. Only a first
/// look without one ends with its terminal.
fn hangups(config: &Config, args: &ServeArgs) -> Result<Option<Signal>> {
    let is_heard = config.http.tls.is_some() || !args.dev;
    is_heard.then(|| signals(SignalKind::hangup())).transpose()
}

/// Signals of a kind, which end the process no more.
fn signals(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|cause| Error::Setup(format!("cannot wait for signals: {cause}")))
}

/// One JSON object a line to stderr; plainer for a person who tries things out.
fn start_log(dev: bool) -> Result<()> {
    let wanted = std::env::var("TENMINT_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|cause| Error::Setup(format!("`TENMINT_LOG` is no filter: {cause}")))?;
    // a log that cannot be written, as on a full disk, ends no request: it would be told to the same place
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    if dev {
        log.with_ansi(false).compact().init();
    } else {
        log.json().flatten_event(true).init();
    }
    std::panic::set_hook(Box::new(|panic| {
        // where it was, and not what it said: that can hold what a caller sent
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a bug: a task panicked");
    }));
    Ok(())
}
