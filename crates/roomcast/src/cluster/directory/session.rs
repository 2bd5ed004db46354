//! One connection to the directory's Redis: the node enters itself, renews its lease, sees who else is there, and writes what changes.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::keys::{self, LEASE_MS};
use super::{Inner, Shared};
use crate::cluster::nodes::NodeInfo;
use crate::redis_link::{To, ask, lost, refused, together};
use crate::shard::ids::NodeId;
use crate::shard::inbox::{ConnectionKey, Message};
use crate::supervisor::{Link, Stop};

/// How often the lease is renewed and the others are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The least between two looks, however often somebody wants one.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What health says of a node that others do not reach.
const NO_ADDRESS: &str =
    "other nodes cannot pass requests on to this one: it is not known yet at which address they reach it";

/// After a longer pause between two looks nobody is taken for dead until one full lease has passed: the others may have found Redis away, too.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How often all is written once more, so that it does not run out.
const WRITE_AGAIN_EVERY: Duration = Duration::from_secs(keys::KEPT_SECS / 4);

/// How a node stands in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is in it.
    Held,
    /// Nothing is known of it.
    Forgotten,
    /// The others are told, or are being told, that it is gone.
    Reaped,
}

/// What a look saw.
struct Look {
    standing: Standing,
    kicks: Vec<String>,
    /// Nodes whose lease ran out.
    dead: Vec<String>,
}

/// Connects, enters the node, and keeps it there until told to stop.
///
/// # Errors
/// The connection cannot be had, or was lost; or the others took this node for dead.
pub(super) async fn run(shared: &Arc<Shared>, stop: Stop) -> anyhow::Result<()> {
    let directory = &shared.directory.0;
    let nodes = directory.nodes.clone();
    let woken = move |push: redis::PushInfo| {
        if push.kind == redis::PushKind::Message {
            nodes.look_now();
        }
    };
    let found = shared.settings.server.connect(To::Owner(directory.keys.prefix()), woken).await?;
    directory.keys.set_spread(found.cluster.is_some());
    let mut connection = found.connection;
    for (script, code) in directory.scripts.all() {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(code);
        let hash: String = load.query_async(&mut connection).await.map_err(refused).context("cannot load a script")?;
        if hash != script.get_hash() {
            bail!("Redis gives a script another name than its hash");
        }
    }
    enter(shared, &mut connection).await?;
    *directory.connection.write() = Some(connection.clone());
    shared.link.send_replace(Link::Connected);
    let (due, dead) = watch::channel(None);
    let looking = look_on(shared, connection.clone(), due);
    let telling = tell_on(shared, connection.clone(), dead);
    let writing = super::write::run(shared, connection.clone(), stop);
    let again = write_again(shared);
    let asking = super::peers::ask_on(shared, connection.clone());
    tokio::select! {
        result = looking => return result,
        result = telling => return result,
        result = asking => return result,
        result = writing => result?,
        () = again => {}
    }
    leave(shared, &mut connection).await
}

/// The node is in the directory from here on: under its old name where what it wrote is still there.
async fn enter(shared: &Shared, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let directory = &shared.directory.0;
    let is_new = directory.entered.load(Ordering::Relaxed) == 0;
    let standing = if is_new { Standing::Forgotten } else { look(shared, connection, 0).await?.standing };
    if standing != Standing::Held {
        directory.entered.fetch_add(1, Ordering::Relaxed);
        let name = shared.directory.name();
        let mut pipe = redis::pipe();
        pipe.atomic().hset(directory.keys.nodes(), &name, address(directory)).ignore();
        pipe.pset_ex(directory.keys.lease(&name), 1, LEASE_MS).ignore();
        together::<()>(&pipe, connection).await?;
        tracing::debug!(name, ?standing, "entered the directory");
    }
    for channel in [directory.keys.wake_all(), directory.keys.wake(&shared.directory.name())] {
        match connection.subscribe(channel).await {
            Ok(()) => {}
            // Without it, what others want is seen at the next look.
            Err(error) if error.code() == Some("NOPERM") => {}
            Err(error) => return Err(lost(error)),
        }
    }
    wake_all(shared, connection).await?;
    look(shared, connection, 0).await?;
    if standing == Standing::Forgotten {
        shared.gateway.presence.put_back_left(directory.news.take_gone_lately());
    }
    directory.news.up(standing != Standing::Held, shared.gateway.presence.users());
    if standing == Standing::Reaped {
        // The others were told that everybody here is gone.
        shared.gateway.publisher.inboxes().iter().for_each(|inbox| inbox.send(Message::TellAnew));
    }
    Ok(())
}

/// Where others reach this node; empty while that is not known.
fn address(directory: &Inner) -> String {
    directory.nodes.address().map_or_else(String::new, |address| address.to_string())
}

/// Looks again and again, and waits for nothing but Redis: the node's lease hangs on it. `due` is told which nodes are dead, once it is certain that they are.
async fn look_on(
    shared: &Shared,
    mut connection: MultiplexedConnection,
    due: watch::Sender<Option<Vec<String>>>,
) -> anyhow::Result<()> {
    let nodes = &shared.directory.0.nodes;
    let mut carried_out = 0;
    let mut last = Instant::now();
    let mut trusted_since = last;
    loop {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            // Whoever makes up ids of sessions has nodes looked for, too.
            () = nodes.wanted() => sleep_until(last + LOOK_PAUSE).await,
        }
        let Look { standing, kicks, dead } = look(shared, &mut connection, carried_out).await?;
        if standing != Standing::Held {
            bail!("the other nodes have lost sight of this one");
        }
        carried_out = kicks.len();
        kicks.iter().for_each(|place| kick(shared, place));
        let now = Instant::now();
        if now.duration_since(last) > PAUSE_MAX {
            trusted_since = now;
        }
        last = now;
        if now.duration_since(trusted_since) > Duration::from_millis(LEASE_MS) {
            due.send_replace(Some(dead));
        }
        let has_address = nodes.address().is_some();
        shared.concerns.send_if_modified(|concerns| {
            let before = concerns.len();
            concerns.retain(|concern| concern != NO_ADDRESS);
            let was_told = concerns.len() < before;
            concerns.extend((!has_address).then(|| NO_ADDRESS.to_owned()));
            was_told == has_address
        });
    }
}

/// Tells what is due, as long as that takes: until there is room for it, too.
async fn tell_on(
    shared: &Shared,
    mut connection: MultiplexedConnection,
    mut due: watch::Receiver<Option<Vec<String>>>,
) -> anyhow::Result<()> {
    // The sender ends with what has this broken off.
    while due.changed().await.is_ok() {
        let dead = due.borrow_and_update().clone();
        for node in dead.iter().flatten() {
            super::tell::node_gone(shared, &mut connection, node).await?;
        }
        super::tell::users_gone(shared, &mut connection).await?;
    }
    pending().await
}

/// Renews the lease and sees who is there. `carried_out` is how many of the kicks that were seen last are done.
async fn look(shared: &Shared, connection: &mut MultiplexedConnection, carried_out: usize) -> anyhow::Result<Look> {
    let directory = &shared.directory.0;
    let own = shared.directory.name();
    let secret = directory.nodes.secret().map_or_else(new_secret, |known| known.to_string());
    let mut cmd = keys::call(&directory.scripts.look, &directory.keys);
    cmd.arg(&own).arg(LEASE_MS).arg(secret).arg(carried_out).arg(address(directory));
    type Answer = (String, String, Vec<String>, Vec<(String, String, u8)>);
    let (standing, secret, kicks, listed): Answer = ask(connection, &cmd).await?;
    let (mut alive, mut dead) = (Vec::new(), Vec::new());
    for (name, address, lives) in listed {
        let Some(id) = NodeId::of_name(&name) else { continue };
        if lives == 1 {
            alive.push(NodeInfo { id, name, address: address.parse().ok() });
        } else if name != own {
            dead.push(name);
        }
    }
    // A node that entered itself anew may still stand there under its older name.
    alive.sort_by_key(|node| node.name.rsplit_once('.').and_then(|(_, times)| times.parse::<u32>().ok()));
    directory.nodes.seen(alive, secret);
    let standing = match standing.as_str() {
        "held" => Standing::Held,
        "reaped" => Standing::Reaped,
        "forgotten" => Standing::Forgotten,
        other => return Err(anyhow!("the directory answered {other:?}")),
    };
    Ok(Look { standing, kicks, dead })
}

/// Ends a connection whose user came again elsewhere.
fn kick(shared: &Shared, place: &str) {
    let mut parts = place.split('.').map(str::parse::<u32>);
    let (Some(Ok(shard)), Some(Ok(slot)), Some(Ok(generation))) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    if let Some(inbox) = shared.gateway.publisher.inboxes().get(shard as usize) {
        inbox.send(Message::Replaced(ConnectionKey { slot, generation }));
    }
}

async fn write_again(shared: &Shared) {
    loop {
        sleep(WRITE_AGAIN_EVERY).await;
        shared.directory.0.news.write_again(shared.gateway.presence.users());
    }
}

/// The node is gone from the directory. Where sockets still stand there, the others tell that they are gone, at once.
async fn leave(shared: &Shared, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let (keys, name) = (&shared.directory.0.keys, shared.directory.name());
    let left: usize = redis::cmd("HLEN").arg(keys.sockets(&name)).query_async(connection).await.map_err(lost)?;
    let mut pipe = redis::pipe();
    pipe.atomic().del(keys.lease(&name)).ignore();
    if left == 0 {
        pipe.hdel(keys.nodes(), &name).ignore();
        pipe.del(keys.kicks(&name)).ignore();
    }
    together::<()>(&pipe, connection).await?;
    wake_all(shared, connection).await
}

/// Somebody came or went: every node looks at once.
async fn wake_all(shared: &Shared, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(shared.directory.0.keys.wake_all()).arg("");
    match publish.query_async::<()>(connection).await {
        // Without it, they see it at their next look.
        Err(error) if error.code() != Some("NOPERM") => Err(lost(error)),
        _ => Ok(()),
    }
}

fn new_secret() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("the operating system had randomness at the start");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
