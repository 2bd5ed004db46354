//! The wiring: what a gateway is made of, in which order it starts, and in which it stops. Knows no protocol.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use hub::profile::{Access as Entry, Certificate, Profile, Service, Warning};
use hub::rules::Presence as PresenceFacts;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::acceptor::Acceptor;
use crate::access::Access;
use crate::auth::{Auth, AuthConfig, Pace};
use crate::cluster::directory::{self, Directory};
use crate::cluster::passing::{self, Passing};
use crate::cluster::{self, Bus, Nodes};
use crate::embed::Program;
use crate::fanout::{Interest, Publisher};
use crate::gateway::Gateway;
use crate::http2::{Http2, Life};
use crate::kept::Kept;
use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::ops::{self, Health, Ops, Part, Phase, Port, State};
use crate::presence::Presence;
use crate::shard::admission::Admission;
use crate::shard::client_files::ClientFiles;
use crate::shard::front::{self, Shared};
use crate::shard::ids::NodeId;
use crate::shard::inbox::{Inbox, Message, Numbers, inbox};
use crate::shard::{self, Outside};
use crate::source::{self, Which};
use crate::supervisor::{self, Link, Standing};
use crate::upstream::{Files, Upstreams};

/// Threads of the backend runtime: brokers, the server API and key servers are mostly waiting.
const BACKEND_THREADS: usize = 2;

/// How long to wait when no connection of operators can be accepted, since no descriptor is left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How long those who left gather before others are told.
const TELL_GONE_EVERY: Duration = Duration::from_millis(20);

/// How long a node that starts waits for the bus, or for the news that it is away, before it takes clients.
const BUS_FIRST_TRY_MAX: Duration = Duration::from_secs(5);

/// Runs a gateway until a signal ends it.
///
/// # Errors
/// It cannot start: a setting that makes no sense, an address that is in use.
pub fn run(profile: Profile, files: &Files, warnings: &[Warning], shards: usize) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let logs = Arc::new(ops::logs::start(&profile.log, &profile.service.name, &metrics)?);
    end_on_panic(logs.clone());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let backend = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKEND_THREADS)
        .thread_name("backend")
        .enable_all()
        .build()
        .context("cannot start the backend runtime")?;
    let result = backend.block_on(until_signal(Arc::new(profile), files, metrics, shards));
    backend.shutdown_timeout(Duration::from_millis(100));
    logs.flush();
    result
}

async fn until_signal(
    profile: Arc<Profile>,
    files: &Files,
    metrics: Arc<Metrics>,
    shards: usize,
) -> anyhow::Result<()> {
    // Before anything else, so that no signal is missed while starting.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = start(profile, files, Program::default(), metrics, shards).await?;
    tokio::spawn(crate::memory::give_back());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("a second signal: ending at once");
        std::process::exit(130);
    });
    running.drain().await;
    Ok(())
}

/// A gateway that runs.
pub struct Running {
    gateway: Gateway,
    health: Arc<Health>,
    shared: Arc<Shared>,
    address: SocketAddr,
    /// What ends with it; taken by the first who ends it.
    to_end: Mutex<Option<ToEnd>>,
}

struct ToEnd {
    acceptor: Acceptor,
    source: source::Running,
    cluster: Option<(cluster::Running, directory::Running)>,
    threads: Threads,
    background: Background,
    /// What connections of HTTP/2 follow.
    life: watch::Sender<Life>,
}

/// The shards' threads.
struct Threads {
    inboxes: Arc<[Inbox]>,
    shards: Vec<std::thread::JoinHandle<()>>,
}

impl Threads {
    async fn end(mut self) {
        self.tell();
        let shards = std::mem::take(&mut self.shards);
        let joined = tokio::task::spawn_blocking(|| shards.into_iter().all(|shard| shard.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a shard panicked");
        }
    }

    fn tell(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.send(Message::End));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if !self.shards.is_empty() {
            self.tell();
        }
    }
}

/// What goes on beside the shards, until this is dropped.
#[derive(Default)]
struct Background(Vec<JoinHandle<()>>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a gateway; the runtime that this is called on is its backend runtime.
///
/// # Errors
/// It cannot start: a setting that makes no sense, an address that is in use.
pub async fn start(
    profile: Arc<Profile>,
    files: &Files,
    program: Program,
    metrics: Arc<Metrics>,
    shards: usize,
) -> anyhow::Result<Running> {
    let program = Arc::new(program);
    let backend = tokio::runtime::Handle::current();
    let auth = Auth::new(auth_config(&profile), metrics.clone(), &backend)?;
    warn_about(&profile, &auth);
    let access = Access::new(&backend)?;
    let upstreams = Upstreams::start(&profile, files, &metrics, &backend)?;

    let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| inbox()).unzip();
    let nodes = Nodes::new(node_id()?);
    let cluster = cluster::Settings::of(&profile)?.map(|settings| {
        let directory = Directory::new(&settings, nodes.clone());
        (settings, Bus::default(), directory)
    });
    let port_for_nodes = match &cluster {
        Some((settings, ..)) => Some(passing::Port::open(&profile, settings.clone(), &nodes).await?),
        None => None,
    };
    let changes = cluster.as_ref().and_then(|(settings, ..)| settings.changes());
    let namespaces = Namespaces::new(profile.clone(), &program.names());
    let interest = Arc::new(Interest::new(namespaces.lasting().len()).noting(changes));
    let (bus, directory) = cluster.as_ref().map(|(_, bus, directory)| (bus.clone(), directory.clone())).unzip();
    let publisher = Publisher::new(inboxes.into(), interest).keeping(Kept::of(&profile)).in_cluster(bus);
    let gateway = Gateway {
        profile: profile.clone(),
        publisher,
        presence: Arc::new(Presence::new(profile.rules.offline_grace().as_millis() as u64)),
        metrics: metrics.clone(),
        acks: Arc::default(),
        namespaces,
        directory,
        left: Arc::new(Notify::new()),
    };
    let mut background = Background::default();
    let health = Arc::new(Health::new(&profile, metrics.clone()));
    let hearing = health.clone();
    let source = source::start(&gateway, move |which, standing| hear_source(&hearing, which, standing))?;
    let (told, mut is_tried) = watch::channel(false);
    let cluster = cluster.map(|(settings, bus, directory)| {
        let report = |part| -> supervisor::Report {
            let (hearing, told) = (health.clone(), told.clone());
            Arc::new(move |standing: &Standing| {
                hear(&hearing, part, standing);
                if part == Part::Bus && standing.link != Link::Connecting {
                    told.send_replace(true);
                }
            })
        };
        let directory = directory::start(settings.clone(), gateway.clone(), directory, report(Part::Directory));
        let bus = cluster::start(settings, gateway.clone(), program.clone(), bus, report(Part::Bus))?;
        anyhow::Ok((bus, directory))
    });
    let cluster = cluster.transpose()?;
    let ops = Ops::new(gateway.clone(), health.clone());
    let life = watch::Sender::new(Life::Serving);
    let answers = |port| {
        let (router, grpc) = (ops::router(&ops, port), ops::grpc(&ops, port));
        let http2 = Http2::new(router.clone(), grpc, profile.limits.timeouts, life.subscribe(), metrics.clone());
        (router, http2)
    };
    let Service { ops_port, grpc_port, .. } = profile.service;
    let others = [("OPS_PORT", ops_port, Port::Operators), ("GRPC_PORT", grpc_port, Port::Grpc)];
    for (variable, number, port) in others {
        if let Some(number) = number {
            let (router, http2) = answers(port);
            background.0.push(serve_operators(&profile, variable, number, router, http2).await?);
        }
    }
    let (router, http2) = answers(if ops_port.is_some() { Port::Clients } else { Port::Only });
    let shared = Arc::new(Shared {
        profile: profile.clone(),
        inboxes: gateway.publisher.inboxes().into(),
        node: nodes.own(),
        passing: port_for_nodes
            .is_some()
            .then(|| Arc::new(Passing::new(nodes.clone(), metrics.clone(), backend.clone()))),
        draining: AtomicBool::new(false),
        admission: Admission::new(shards),
        seats: Arc::default(),
        ops: router,
        http2,
        backend: backend.clone(),
        client_files: ClientFiles::of(&profile.endpoints)?,
        trusted_proxies: trusted_proxies(&profile)?,
        metrics: metrics.clone(),
        tls: tls(&profile)?,
        program: program.clone(),
    });
    let publishing = source.publishing();
    let outside = Outside { gateway: gateway.clone(), auth, access, upstreams, program, publishing, backend };
    let mut threads = Threads { inboxes: shared.inboxes.clone(), shards: Vec::new() };
    for (index, receiver) in receivers.into_iter().enumerate() {
        threads.shards.push(shard::spawn(index, outside.clone(), shared.clone(), receiver)?);
    }
    if let Some(port) = port_for_nodes {
        background.0.push(tokio::spawn(port.serve(shared.clone(), nodes)));
    }
    background.0.push(tokio::spawn(tell_gone(gateway.clone())));
    if cluster.is_some() {
        // Who comes hears what other nodes publish from then on. Where that takes longer, clients are served all the same.
        let _ = timeout(BUS_FIRST_TRY_MAX, is_tried.wait_for(|is_tried| *is_tried)).await;
    }
    let address = format!("{}:{}", bracketed(&profile.service.host), profile.service.port);
    let acceptor = match Acceptor::start(&address, &shared.inboxes) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            source.stop(Instant::now()).await;
            threads.end().await;
            return Err(error);
        }
    };
    health.enter(Phase::Serving);
    let address = acceptor.address;
    tracing::info!(%address, shards, profile = %profile.service.name, "listening");
    let to_end = Mutex::new(Some(ToEnd { acceptor, source, cluster, threads, background, life }));
    Ok(Running { gateway, health, shared, address, to_end })
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way to its clients.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The way out: not ready, no new sessions, deliveries in hand finished, connections closed at a steady pace, no listener, no threads.
    /// Happens once, whoever asks for it.
    pub async fn drain(&self) {
        let to_end = self.to_end.lock().take();
        let Some(ToEnd { acceptor, source, cluster, threads, background, life }) = to_end else { return };
        let Self { gateway, health, shared, .. } = self;
        let settings = &gateway.profile.drain;
        tracing::info!(delay = ?settings.delay, timeout = ?settings.timeout, "draining");
        health.enter(Phase::Draining);
        life.send_replace(Life::Draining);
        shared.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(settings.delay).await;
        let ended_by = Instant::now() + settings.timeout;
        // First the source: what it took while members are leaving would reach only some of them. What it has in hand still reaches all;
        // the rest waits in the queue for the next instance.
        source.stop(Instant::now() + settings.timeout / 4).await;
        // Half of the time for the connections.
        let spread = settings.timeout / 2;
        if let Some(passing) = &shared.passing {
            passing.leave(spread);
        }
        for inbox in gateway.publisher.inboxes() {
            inbox.send(Message::Drain { spread_ms: spread.as_millis() as u64 });
        }
        let closed_by = Instant::now() + spread + settings.timeout / 8;
        let (mut farewells_by, mut is_over) = (None, false);
        while Instant::now() < closed_by {
            let Numbers { sockets, to_drain, farewells, .. } = gateway.numbers().await;
            let websockets = shared.passing.as_ref().map_or(0, |passing| passing.websockets());
            if sockets + to_drain + websockets == 0 {
                // Who is between two polls asks again in a moment, here or by another node; who has gone for good is not waited for.
                let until = *farewells_by.get_or_insert_with(|| Instant::now() + settings.timeout / 8);
                // Two looks one after the other: the last answers are on their way between them.
                let was_over = std::mem::replace(&mut is_over, farewells == 0);
                if (was_over && is_over) || Instant::now() >= until {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        acceptor.stop();
        if let Some(passing) = &shared.passing {
            // Polls of other nodes' sessions come as long as anybody listens, and go back from here.
            passing.end(settings.timeout / 16).await;
        }
        if let Some((cluster, directory)) = cluster {
            directory.end(ended_by).await;
            cluster.end(ended_by).await;
        }
        threads.end().await;
        drop(background);
        life.send_replace(Life::Ended);
        tracing::info!("ended");
    }
}

/// Answers operators or backend services on a port of their own, which this variable sets, until the task is ended.
async fn serve_operators(
    profile: &Profile,
    variable: &str,
    port: u16,
    router: axum::Router,
    http2: Http2,
) -> anyhow::Result<JoinHandle<()>> {
    let address = format!("{}:{port}", bracketed(&profile.service.host));
    let listener = tokio::net::TcpListener::bind(&address)
        .await
        .with_context(|| format!("{variable}: cannot listen on {address}"))?;
    tracing::info!(address, "listening for {}", if variable == "GRPC_PORT" { "gRPC" } else { "operators" });
    let timeouts = profile.limits.timeouts;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(front::serve_router(stream, router.clone(), http2.clone(), timeouts));
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections of operators; trying again");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }))
}

/// Tells others about users who have been gone for the grace, where this node is on its own; else they may be on another one.
async fn tell_gone(gateway: Gateway) {
    let rules = &gateway.profile.rules;
    loop {
        if let Some(directory) = &gateway.directory {
            directory.until_refused().await;
        }
        let (gone, next_unix_ms) = gateway.presence.take_gone(unix_ms());
        for gone in gone {
            let Some(id) = &gone.user.id else { continue };
            let facts = PresenceFacts {
                id,
                rooms: &gone.rooms,
                last_seen_unix_ms: gone.last_seen_unix_ms,
                now_unix_ms: unix_ms(),
            };
            gateway.publisher.publish(rules.on_user_offline(&facts), None).await;
        }
        match next_unix_ms {
            Some(at) => tokio::time::sleep(Duration::from_millis(at.saturating_sub(unix_ms()).max(1))).await,
            None => {
                gateway.left.notified().await;
                // Where there is no grace, everyone who leaves would wake this.
                tokio::time::sleep(TELL_GONE_EVERY).await;
            }
        }
    }
}

/// Hands what a source says of itself to health.
fn hear_source(health: &Health, which: Which, standing: &Standing) {
    let part = match which {
        Which::Rabbitmq => Part::Rabbitmq,
        Which::Redis => Part::Redis,
    };
    hear(health, part, standing);
}

fn hear(health: &Health, part: Part, standing: &Standing) {
    health.set_concerns(part, standing.concerns.clone());
    let state = match standing.link.clone() {
        Link::Connecting => State::Connecting,
        Link::Connected => State::Connected,
        Link::Disconnected { reason } => State::Disconnected { reason },
        Link::Deaf { reason } => State::Deaf { reason },
    };
    health.set_state(part, state);
}

/// Half a gateway is worse than none: a panic anywhere ends the process, loudly.
fn end_on_panic(logs: Arc<ops::logs::Logs>) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("panic, ending the process: {panic}");
        usual(panic);
        logs.flush();
        std::process::abort();
    }));
}

fn auth_config(profile: &Profile) -> AuthConfig {
    let auth = &profile.auth;
    AuthConfig {
        jwt_secret: auth.secret.as_ref().map(|secret| secret.reveal().to_owned()),
        jwt_public_key: auth.public_key.clone(),
        jwks_url: auth.jwks_url.clone(),
        jwt_algorithms: auth.algorithms.clone(),
        leeway: auth.leeway,
        user_claims: auth.user_claims.clone(),
        claims_kept: profile.rules.claims_used().clone(),
        pace: Pace::default(),
    }
}

fn warn_about(profile: &Profile, auth: &Auth) {
    match profile.auth.access {
        Entry::Open => {
            tracing::warn!("access is open: every client gets in, and names itself");
        }
        Entry::Token | Entry::TokenOrAnonymous if !auth.has_keys() => {
            tracing::warn!("no key is set: every token is refused");
        }
        Entry::Token | Entry::TokenOrAnonymous => {}
    }
}

fn tls(profile: &Profile) -> anyhow::Result<Option<tokio_rustls::TlsAcceptor>> {
    let files = profile
        .service
        .tls
        .as_ref()
        .map(|Certificate { chain, key }| crate::tls::Files { certificate: chain.into(), key: key.into() });
    files.map(crate::tls::acceptor).transpose()
}

fn trusted_proxies(profile: &Profile) -> anyhow::Result<Vec<crate::addresses::Network>> {
    let parse = |text: &String| text.parse().map_err(|error: String| anyhow::anyhow!("TRUSTED_PROXIES: {error}"));
    profile.service.trusted_proxies.iter().map(parse).collect()
}

fn node_id() -> anyhow::Result<NodeId> {
    let mut bytes = [0; 3];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the operating system has no randomness: {error}"))?;
    Ok(NodeId(bytes))
}

/// An IPv6 address as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
