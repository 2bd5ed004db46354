"""The asyncio client of python-socketio against a gateway: `async_client.py URL`."""

import asyncio
import sys

import socketio

from common import BYTES, DEADLINE_SECS, TRANSPORTS, VALUE, check


async def talk(url, name, transports):
    client = socketio.AsyncClient(reconnection=False)
    came = asyncio.Queue()

    async def put(*data):
        await came.put(list(data))

    async def answer(data):
        return {"asked": data, "bytes": BYTES}

    async def next_one():
        return await asyncio.wait_for(came.get(), DEADLINE_SECS)

    client.on("echo", put)
    client.on("answered", put)
    client.on("question", answer)
    await client.connect(url, transports=transports, namespaces=["/", "/custom"], auth={"token": "t"}, wait_timeout=DEADLINE_SECS)
    if "websocket" in transports:
        check(f"{name}: the transport", client.transport(), "websocket")
    check(f"{name}: an answer with bytes", await client.call("echo", VALUE, timeout=DEADLINE_SECS), VALUE)
    await client.emit("echo", (VALUE, BYTES))
    check(f"{name}: an event with bytes", await next_one(), [VALUE, BYTES])
    await client.emit("ask", "who?")
    check(f"{name}: a question of the server's", await next_one(), [{"asked": "who?", "bytes": BYTES}])
    # More than a poll's answer may hold for this client, all at once.
    answers = await asyncio.gather(*(client.call("echo", number, timeout=DEADLINE_SECS) for number in range(200)))
    check(f"{name}: 200 questions at once", answers, list(range(200)))
    check(f"{name}: an answer in a second namespace", await client.call("echo", "x", namespace="/custom", timeout=DEADLINE_SECS), "x")
    await client.disconnect()


async def main(url):
    for name, transports in TRANSPORTS.items():
        await talk(url, name, transports)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
