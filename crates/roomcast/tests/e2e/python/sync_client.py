"""The synchronous client of python-socketio against a gateway: `sync_client.py URL`."""

import queue
import sys

import socketio

from common import BYTES, DEADLINE_SECS, TRANSPORTS, VALUE, check


def talk(url, name, transports):
    client = socketio.Client(reconnection=False)
    came = queue.Queue()
    client.on("echo", lambda *data: came.put(list(data)))
    client.on("answered", lambda *data: came.put(("answered", list(data))))
    client.on("question", lambda data: {"asked": data, "bytes": BYTES})
    client.on("connect_error", lambda data: came.put(("refused", data)), namespace="/deny")
    client.on("disconnect", lambda reason: came.put(("gone", reason)))
    client.on("disconnect", lambda reason: came.put(("gone from /custom", reason)), namespace="/custom")
    client.connect(url, transports=transports, namespaces=["/", "/custom"], auth={"token": "t"}, wait_timeout=DEADLINE_SECS)
    if "websocket" in transports:
        check(f"{name}: the transport", client.transport(), "websocket")
    check(f"{name}: an answer with bytes", client.call("echo", VALUE, timeout=DEADLINE_SECS), VALUE)
    check(f"{name}: an answer in a second namespace", client.call("echo", "x", namespace="/custom", timeout=DEADLINE_SECS), "x")
    client.emit("echo", (VALUE, BYTES))
    check(f"{name}: an event with bytes", came.get(timeout=DEADLINE_SECS), [VALUE, BYTES])
    client.emit("ask", "who?")
    check(f"{name}: a question of the server's", came.get(timeout=DEADLINE_SECS), ("answered", [{"asked": "who?", "bytes": BYTES}]))
    for number in range(100):
        client.emit("echo", number)
    check(f"{name}: the order", [came.get(timeout=DEADLINE_SECS) for _ in range(100)], [[number] for number in range(100)])
    client.emit("bye", namespace="/custom")
    check(f"{name}: a namespace ended by the server", came.get(timeout=DEADLINE_SECS)[0], "gone from /custom")
    check(f"{name}: the other goes on", client.call("echo", 1, timeout=DEADLINE_SECS), 1)
    client.disconnect()


def is_refused(url, transports):
    client = socketio.Client(reconnection=False)
    why = queue.Queue()
    client.on("connect_error", why.put, namespace="/deny")
    try:
        client.connect(url, transports=transports, namespaces=["/deny"], wait_timeout=DEADLINE_SECS)
    except socketio.exceptions.ConnectionError:
        pass
    check("a refusal with its data", why.get(timeout=DEADLINE_SECS), {"message": "not authorized", "data": {"code": 42}})
    client.disconnect()


if __name__ == "__main__":
    for name, transports in TRANSPORTS.items():
        talk(sys.argv[1], name, transports)
    is_refused(sys.argv[1], ["websocket"])
