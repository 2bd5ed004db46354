"""A synchronous client and an asyncio one in one room of the profile `demo`: `room.py URL`."""

import asyncio
import queue
import sys

import socketio

from common import DEADLINE_SECS, TRANSPORTS, check

ROOM = {"room": "lobby"}


async def talk(url, name, transports):
    one, came = socketio.Client(reconnection=False), queue.Queue()
    one.on("message", came.put)
    await asyncio.to_thread(one.connect, url, transports=transports, wait_timeout=DEADLINE_SECS)
    other, heard = socketio.AsyncClient(reconnection=False), asyncio.Queue()
    other.on("message", heard.put)
    await other.connect(url, transports=transports, wait_timeout=DEADLINE_SECS)
    wanted = {"success": True, "room": "lobby"}
    check(f"{name}: joined", await asyncio.to_thread(one.call, "join", ROOM, timeout=DEADLINE_SECS), wanted)
    check(f"{name}: joined by an asyncio client", await other.call("join", ROOM, timeout=DEADLINE_SECS), wanted)
    await other.emit("say", {**ROOM, "data": "hello ✈"})
    word = await asyncio.to_thread(came.get, timeout=DEADLINE_SECS)
    check(f"{name}: the room's word", word["data"], "hello ✈")
    check(f"{name}: the room's word to an asyncio client", (await asyncio.wait_for(heard.get(), DEADLINE_SECS))["data"], "hello ✈")
    await other.disconnect()
    await asyncio.to_thread(one.disconnect)


async def main(url):
    for name in ["websocket", "upgrade", "polling"]:
        await talk(url, name, TRANSPORTS[name])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
