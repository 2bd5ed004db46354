//! The names of the directory's keys, and the scripts that change several of them at once. Every key holds the same hash tag, so that all are on one
//! server of a Redis Cluster. Those that operators look at have it there alone: elsewhere they are looked for by the socket's id.

use std::sync::atomic::{AtomicBool, Ordering};

use hub::names::{NamespaceId, RoomName, SocketId};
use redis::{Cmd, Script};

use crate::gateway::Gateway;

/// How long a node is taken for alive after it was heard last, in ms.
pub(super) const LEASE_MS: u64 = 10_000;

/// How long what a node wrote is kept without being written again, in seconds.
pub(super) const KEPT_SECS: u64 = 2 * 60 * 60;

/// Where operators find a socket.
pub(super) const SOCKET_PREFIX: &str = "ws:socket:";

/// The keys of one cluster.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    /// What holds the keys together, and is part of each.
    tag: String,
    /// Redis is a Redis Cluster.
    is_spread: AtomicBool,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let tag = format!("{{{prefix}}}:");
        Self { prefix: format!("roomcast:{tag}"), tag, is_spread: AtomicBool::new(false) }
    }

    /// Whether the Redis that was found is a Redis Cluster.
    pub(super) fn set_spread(&self, is_spread: bool) {
        self.is_spread.store(is_spread, Ordering::Relaxed);
    }

    /// What stands before every name.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn of(&self, kind: &str, name: &str) -> String {
        format!("{}{kind}{name}", self.prefix)
    }

    /// A hash: node to address.
    pub(super) fn nodes(&self) -> String {
        self.of("nodes", "")
    }

    /// Is there while the node is.
    pub(super) fn lease(&self, node: &str) -> String {
        self.of("lease:", node)
    }

    /// A list of the node's connections that others replaced.
    pub(super) fn kicks(&self, node: &str) -> String {
        self.of("kicks:", node)
    }

    /// Is there for a while once others were told that the node is gone.
    pub(super) fn reaped(&self, node: &str) -> String {
        self.of("reaped:", node)
    }

    /// Who tells that the node is gone.
    pub(super) fn reaper(&self, node: &str) -> String {
        self.of("reaper:", node)
    }

    /// A hash: the node's sockets, and what is known of each.
    pub(super) fn sockets(&self, node: &str) -> String {
        self.of("sockets:", node)
    }

    /// Which node asks the members that are no gateways.
    pub(super) fn peers_asker(&self) -> String {
        self.of("peers:", "asker")
    }

    /// A set: users with a socket of theirs.
    pub(super) fn peers_users(&self) -> String {
        self.of("peers:", "users")
    }

    /// When they were asked last, by the clock of Redis in ms: that is when the round began that has ended last.
    pub(super) fn peers_asked(&self) -> String {
        self.of("peers:", "asked")
    }

    /// A sorted set: users of whom it is to be told that they are gone, by when that is due.
    pub(super) fn owed(&self) -> String {
        self.of("owed", "")
    }

    /// A hash: the sockets in a room, each with its node and user.
    pub(super) fn room(&self, room: &str) -> String {
        self.of("room:", room)
    }

    /// A sorted set: a user's connections, by when each came.
    pub(super) fn claims(&self, user: &str) -> String {
        self.of("claims:", user)
    }

    /// The channel that has every node look at once.
    pub(super) fn wake_all(&self) -> String {
        self.of("wake", "")
    }

    /// The channel that has a node look at once.
    pub(super) fn wake(&self, node: &str) -> String {
        self.of("wake:", node)
    }

    /// What operators see of a socket.
    pub(super) fn socket(&self, id: SocketId) -> String {
        let tag = if self.is_spread.load(Ordering::Relaxed) { self.tag.as_str() } else { "" };
        format!("{SOCKET_PREFIX}{tag}{id}")
    }
}

/// A room with its namespace, as one text: no name holds a line's end.
pub(super) fn room_text(gateway: &Gateway, namespace: NamespaceId, room: &RoomName) -> String {
    format!("{}\n{room}", gateway.profile.rules.namespace_name(namespace))
}

/// The room that such a text means here.
pub(super) fn room_of(gateway: &Gateway, text: &str) -> Option<(NamespaceId, RoomName)> {
    let (namespace, room) = text.split_once('\n')?;
    Some((gateway.profile.rules.namespace(namespace)?, RoomName::parse(room).ok()?))
}

/// The scripts, by what they do. Beside the keys above they know `secret`, which all nodes of the cluster share; `user:USER`, a hash of the nodes where a user
/// is, each with the user's rooms there that presence follows; `seen:USER`, when the user was seen last; `peers:users`, a set of those who are
/// on members that are no gateways; `left:USER`, a hash of the rooms that a user
/// left, and when; and `owed`, a sorted set of the users of whom it is to be told that they are gone, by when that is due. Each takes the keys' prefix as its only key, and builds the others itself: they are on the same server.
pub(super) struct Scripts {
    pub(super) look: Script,
    pub(super) write_user: Script,
    pub(super) seen: Script,
    pub(super) claim: Script,
    pub(super) settle: Script,
    pub(super) settled: Script,
    pub(super) take_reaping: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            look: Script::new(LOOK),
            write_user: Script::new(WRITE_USER),
            seen: Script::new(SEEN),
            claim: Script::new(CLAIM),
            settle: Script::new(SETTLE),
            settled: Script::new(SETTLED),
            take_reaping: Script::new(TAKE_REAPING),
        }
    }
}

impl Scripts {
    pub(super) fn all(&self) -> [(&Script, &str); 7] {
        [
            (&self.look, LOOK),
            (&self.write_user, WRITE_USER),
            (&self.seen, SEEN),
            (&self.claim, CLAIM),
            (&self.settle, SETTLE),
            (&self.settled, SETTLED),
            (&self.take_reaping, TAKE_REAPING),
        ]
    }
}

/// A call of a script that Redis has loaded.
pub(super) fn call(script: &Script, keys: &Keys) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(script.get_hash()).arg(1).arg(keys.prefix());
    cmd
}

/// Renews the node's lease, and sees who else is there.
///
/// Arguments: node, lease in ms, secret to set where there is none, how many of the kicks were carried out, where others reach it. Gives: how the node stands (`held`,
/// `forgotten`, `reaped`), the secret, kicks, and of each node name, address and whether it lives. A lease that ran out is taken up again where nobody has begun to
/// tell the others.
const LOOK: &str = r"
local p, node = KEYS[1], ARGV[1]
local state = 'held'
if redis.call('HEXISTS', p..'nodes', node) == 0 then
  state = redis.call('EXISTS', p..'reaped:'..node) == 1 and 'reaped' or 'forgotten'
elseif redis.call('PEXPIRE', p..'lease:'..node, ARGV[2]) == 0 then
  if redis.call('EXISTS', p..'reaper:'..node) == 1 then state = 'reaped'
  else redis.call('SET', p..'lease:'..node, '1', 'PX', ARGV[2]) end
end
if state == 'held' then redis.call('HSET', p..'nodes', node, ARGV[5]) end
redis.call('SET', p..'secret', ARGV[3], 'NX')
if tonumber(ARGV[4]) > 0 then redis.call('LTRIM', p..'kicks:'..node, ARGV[4], -1) end
local nodes, all = {}, redis.call('HGETALL', p..'nodes')
for i = 1, #all, 2 do
  nodes[#nodes + 1] = {all[i], all[i + 1], redis.call('EXISTS', p..'lease:'..all[i])}
end
return {state, redis.call('GET', p..'secret'), redis.call('LRANGE', p..'kicks:'..node, 0, -1), nodes}
";

/// Writes where a user is, and gives the rooms where the user is on each other node that is alive. When a user was seen last is known for a week.
///
/// Arguments: user, node, the user's rooms there (empty: gone), seconds that it is kept, ms until it is due to tell others of one who is gone, the user's id as
/// JSON, how many ms ago the user went, rooms that were left.
const WRITE_USER: &str = r"
local p, user, node = KEYS[1], ARGV[1], ARGV[2]
local elsewhere, all = {}, redis.call('HGETALL', p..'user:'..user)
for i = 1, #all, 2 do
  if all[i] ~= node and redis.call('EXISTS', p..'lease:'..all[i]) == 1 then elsewhere[#elsewhere + 1] = all[i + 1] end
end
if redis.call('SISMEMBER', p..'peers:users', user) == 1 then elsewhere[#elsewhere + 1] = '[]' end
if ARGV[3] ~= '' then
  redis.call('HSET', p..'user:'..user, node, ARGV[3])
  redis.call('EXPIRE', p..'user:'..user, ARGV[4])
else
  redis.call('HDEL', p..'user:'..user, node)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local text = string.format('%.0f', now - ARGV[7])
  redis.call('HSET', p..'left:'..user, '', ARGV[6])
  for i = 8, #ARGV do redis.call('HSET', p..'left:'..user, ARGV[i], text) end
  redis.call('EXPIRE', p..'left:'..user, 600)
  redis.call('ZADD', p..'owed', string.format('%.0f', now + ARGV[5]), user)
  redis.call('SET', p..'seen:'..user, text, 'EX', 604800)
end
return elsewhere
";

/// What is known of users. Arguments: this node, users. Gives of each: whether the user is on another node that is alive, when the user was seen last.
const SEEN: &str = r"
local p, seen = KEYS[1], {}
for i = 2, #ARGV do
  local is_there = redis.call('SISMEMBER', p..'peers:users', ARGV[i])
  for _, node in ipairs(redis.call('HKEYS', p..'user:'..ARGV[i])) do
    if node ~= ARGV[1] and redis.call('EXISTS', p..'lease:'..node) == 1 then is_there = 1 end
  end
  seen[#seen + 1] = {is_there, redis.call('GET', p..'seen:'..ARGV[i]) or ''}
end
return seen
";

/// A connection takes one of a user's places; those that came first must go where there are too many. Places of dead nodes do not count.
///
/// Arguments: user, node, place, how many there may be, how many µs ago it came, seconds that it is kept. When it came counts, and not when that is written here;
/// by the clock of Redis, so that those of the nodes need not be the same.
const CLAIM: &str = r"
local p, user, node = KEYS[1], ARGV[1], ARGV[2]
local key = p..'claims:'..user
local time = redis.call('TIME')
local at = time[1] * 1000000 + time[2] - ARGV[5]
redis.call('ZADD', key, string.format('%.0f', at), node..' '..ARGV[3])
redis.call('EXPIRE', key, ARGV[6])
local there = {}
for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  local of = string.match(member, '^[^ ]+')
  if of == node or redis.call('EXISTS', p..'lease:'..of) == 1 then there[#there + 1] = {of, member}
  else redis.call('ZREM', key, member) end
end
for i = 1, #there - ARGV[4] do
  local of, member = there[i][1], there[i][2]
  redis.call('ZREM', key, member)
  redis.call('RPUSH', p..'kicks:'..of, string.sub(member, #of + 2))
  redis.call('EXPIRE', p..'kicks:'..of, ARGV[6])
  redis.call('PUBLISH', p..'wake:'..of, '')
end
return #there
";

/// Finds users of whom it is due to tell that they are gone, and takes those who are back off the list. Whoever asks has five seconds to tell it: then
/// another node does.
///
/// Arguments: how many at most, whether there are members that are no gateways (1): then nobody is gone who was not looked for there since it was due. Gives of
/// each: user, score, rooms that were left and when, when the user was seen last.
const SETTLE: &str = r"
local p = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = now
if ARGV[2] == '1' then due = math.min(now, tonumber(redis.call('GET', p..'peers:asked') or '0')) end
local gone = {}
for _, user in ipairs(redis.call('ZRANGEBYSCORE', p..'owed', '-inf', string.format('%.0f', due), 'LIMIT', 0, ARGV[1])) do
  local is_there = redis.call('SISMEMBER', p..'peers:users', user) == 1
  for _, node in ipairs(redis.call('HKEYS', p..'user:'..user)) do
    if redis.call('EXISTS', p..'lease:'..node) == 1 then is_there = true end
  end
  if is_there then
    -- What was left lately is told, too, should the node die to which the user moved before it has written the rooms there.
    redis.call('ZREM', p..'owed', user)
  else
    local again = string.format('%.0f', now + 5000)
    redis.call('ZADD', p..'owed', again, user)
    gone[#gone + 1] = {user, again, redis.call('HGETALL', p..'left:'..user), redis.call('GET', p..'seen:'..user) or ''}
  end
end
return gone
";

/// It was told that a user is gone, unless the user came and went meanwhile. Arguments: user, score.
const SETTLED: &str = r"
local p = KEYS[1]
if redis.call('ZSCORE', p..'owed', ARGV[1]) == ARGV[2] then
  redis.call('ZREM', p..'owed', ARGV[1])
  redis.call('DEL', p..'left:'..ARGV[1])
end
return 0
";

/// Takes it on to tell that a node is gone, where it is and nobody else does. Arguments: the dead node, this node, ms that it is taken on for.
const TAKE_REAPING: &str = r"
local p, dead = KEYS[1], ARGV[1]
if redis.call('EXISTS', p..'lease:'..dead) == 1 or redis.call('HEXISTS', p..'nodes', dead) == 0 then return 0 end
if redis.call('GET', p..'reaper:'..dead) == ARGV[2] then
  redis.call('PEXPIRE', p..'reaper:'..dead, ARGV[3])
  return 1
end
return redis.call('SET', p..'reaper:'..dead, ARGV[2], 'NX', 'PX', ARGV[3]) and 1 or 0
";
