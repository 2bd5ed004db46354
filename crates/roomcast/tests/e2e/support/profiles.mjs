// Profiles of the tests' own: rooms that everyone may enter and talk in, over Socket.IO at `/socket.io` and JSON at `/ws`.

/** `endpoint` goes to both endpoints, `socketIo` and `json` to one; `limits` and `heartbeat` to their tables. */
export const rooms = ({ endpoint = "", socketIo = "", json = "", limits = "" } = {}) => `
[auth]
token     = "ignored"
anonymous = { query = "userId", guest = "guest-" }

[[endpoint]]
protocol = "socket.io"
${endpoint}
${socketIo}

[[endpoint]]
protocol = "json"
path     = "/ws"
envelope = "flat"
${endpoint}
${json}

[limits]
${limits}

[on.connect]
emit = { to = "self", event = "connected", data = { socketId = "{socket.id}" } }

[room.any]
name  = "{name}"
enter = true

[command.join]
args   = { room = "id" }
join   = "{args.room}"
answer = { ack = { success = true }, event = "joined", data = { room = "{room}" } }

[command.say]
args    = { room = "id", data = "any" }
require = { member = "{args.room}", code = "not_a_member" }
emit    = { to = "{args.room}", event = "message", data = { data = "{args.data}" } }
`;
