"""What both kinds of clients are asked to do, and how they report: a line `ok WHAT` for each thing that held."""

import sys

TRANSPORTS = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": ["polling", "websocket"]}
DEADLINE_SECS = 20
BYTES = bytes([0, 1, 255])
VALUE = {"text": "€✈\"\\", "list": [1, -1.5, True, None, []], "bytes": BYTES, "deep": {"bytes": b""}}


def check(what, seen, wanted):
    """Reports that what was seen is what was wanted, or ends the program."""
    if seen != wanted:
        sys.exit(f"{what}: wanted {wanted!r}, saw {seen!r}")
    print(f"ok {what}", flush=True)
