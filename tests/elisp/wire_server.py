"""A server that plays recorded traffic, for the tests of rlm.el: over stdio, standard library.

    python wire_server.py FILE RUN...

It answers what a client asks before its runs begin, gives each question the next RUN as its id,
and once all have been asked writes the bytes of FILE, in pieces of every size.
"""

import json
import os
import sys
from pathlib import Path

FILE, RUNS = Path(sys.argv[1]), sys.argv[2:]
FREE = {"documents": 1, "bytes": 1, "tokens": 1, "leftOut": {}, "rootModel": "big"}
ANSWERS = {
    "initialize": {
        "protocolVersion": 2, "serverVersion": "0", "pid": os.getpid(), "rootModel": "big",
        "subModel": "small", "keysWanted": [], "isolation": "none", "logDirectory": "/",
        "capabilities": {},
    },
    "rlm/estimate": {**FREE, "subModel": "small", "free": True, "cost": 0.0, "costLimit": None},
}  # fmt: skip


def read():
    length = 0
    while (line := sys.stdin.buffer.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    return json.loads(sys.stdin.buffer.read(length)) if line else None


def send(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


while (message := read()) is not None:
    method = message["method"]
    result = ANSWERS.get(method, {})
    if method == "rlm/ask":
        result = {"runId": RUNS.pop(0), "log": "/none.jsonl"}
    if "id" in message:
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        send(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    if method == "rlm/ask" and not RUNS:
        data, size = FILE.read_bytes(), 1
        while data:
            send(data[:size])
            data, size = data[size:], size % 997 + 1
