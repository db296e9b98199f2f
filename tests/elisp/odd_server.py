"""A server that misbehaves as told, for the tests of rlm.el: over stdio, with the standard library.

    python odd_server.py REQUESTS [WORD...]

Every request is appended to the file REQUESTS, one line of JSON each. The words say what is odd:
``paid`` (questions cost money), ``keys`` (a key is wanted), ``old`` (another protocol version),
``deaf`` (status is never answered), ``dies`` (ends when a question is asked), ``early`` (events
come before the reply that names their run), ``refuses`` (questions are answered with an error),
``gap`` (one event is left out, and sent when it is asked for), ``balks`` (only when it is asked for
once more), ``noise`` (writes to stderr).
"""

import json
import os
import sys
from pathlib import Path

REQUESTS, WORDS = sys.argv[1], set(sys.argv[2:])
RUN = "20260101-000000-abcdef"


def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    sys.stdout.buffer.flush()


def read():
    length = 0
    while (line := sys.stdin.buffer.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    return json.loads(sys.stdin.buffer.read(length)) if line else None


def events():
    usage = {"promptTokens": 5, "completionTokens": 2, "cachedTokens": 0, "cost": 0.0}
    kinds = [
        {
            "kind": "runStarted",
            "question": "odd?",
            "rootModel": "odd",
            "subModel": "odd",
            "limits": {},
            "serverVersion": "0",
            "isolation": "none",
            "project": None,
            "protocolVersion": 2,
        },
        {"kind": "answer", "text": "odd answer", "partial": False, "evidence": [], "more": False},
        {
            "kind": "runEnded",
            "status": "done",
            "reason": "Done.",
            "error": None,
            "usage": usage,
            "iterations": 0,
            "subcalls": 0,
            "seconds": 0.1,
        },
    ]
    return [dict(event, runId=RUN, seq=seq, time=1e9, node="0") for seq, event in enumerate(kinds)]


def tell(first, but=()):
    for event in events()[first:]:
        if event["seq"] not in but:
            send({"method": "rlm/events", "params": {"events": [event]}})


def summary():
    return {
        "runId": RUN,
        "question": "odd?",
        "started": 1e9,
        "status": "done",
        "rootModel": "odd",
        "project": None,
        "iterations": 0,
        "subcalls": 0,
        "cost": 0.0,
        "seconds": 0.1,
        "log": "/odd.jsonl",
    }


def initialize(_):
    wanted = [{"name": "big", "host": "api.example.org"}] if "keys" in WORDS else []
    return {
        "protocolVersion": 0 if "old" in WORDS else 2,
        "serverVersion": "0",
        "pid": os.getpid(),
        "rootModel": "odd",
        "subModel": "odd",
        "keysWanted": wanted,
        "isolation": "none",
        "logDirectory": "/",
        "capabilities": {},
    }


def estimate(_):
    paid = "paid" in WORDS
    return {
        "documents": 3,
        "bytes": 1200000,
        "tokens": 300000,
        "leftOut": {"binary": 2},
        "rootModel": "big",
        "subModel": "small",
        "free": not paid,
        "cost": 0.12 if paid else 0.0,
        "costLimit": 1.0,
    }


def model(name, **more):
    unknown = {"window": None, "inputPrice": None, "outputPrice": None, "latency": None}
    state = {"key": "present", "health": "ok", "slots": 8, "inFlight": 0, "waiting": 0}
    place = {"name": name + "-1", "address": "odd.example", "tier": "cloud", "calls": 7}
    place |= {"health": "ok", "slots": 8, "inFlight": 0, "latency": None, "detail": "all well"}
    basics = {"name": name, "model": "odd/" + name, "provider": "odd", "source": "config"}
    return basics | unknown | state | {"fallbacks": [], "deployments": [place]} | more


def cost(month, project, name, dollars, **more):
    figures = {"runs": 1, "calls": 10, "cachedCalls": 4, "promptTokens": 1200}
    figures |= {"completionTokens": 30, "cachedTokens": 0, "unknownCalls": 0}
    basics = {"month": month, "project": project, "model": name, "cost": dollars}
    return basics | figures | {"knownCost": dollars or 0.0} | more


ANSWERS = {
    "initialize": initialize,
    "rlm/keys": lambda params: {"accepted": list(params["keys"])},
    "rlm/estimate": estimate,
    "rlm/ask": lambda _: {"runId": RUN, "log": "/odd.jsonl"},
    "rlm/attach": lambda _: {"run": summary(), "live": False, "lastSeq": 2},
    "rlm/runs": lambda params: {"runs": [] if "forkOf" in params else [summary()]},
    "rlm/cancel": lambda _: {"cancelled": False},
    "rlm/status": lambda _: {
        "serverVersion": "0",
        "pid": os.getpid(),
        "seconds": 1.0,
        "liveRuns": [],
        "modelsReady": True,
        "isolation": "none",
        "models": [
            model("free", inputPrice=0.0, outputPrice=0.0, window=128000, inFlight=3, waiting=2),
            model("dear", inputPrice=2.5, outputPrice=10.0, health="down", latency=1.25),
            model("odd"),
        ],
    },
    "rlm/costs": lambda _: {
        "month": "2026-02",
        "spent": 1.5,
        "unknownCalls": 3,
        "limit": 5.0,
        "projectLimits": {"boats": 2.0},
        "rows": [
            cost("2026-02", "boats", "dear", 1.5),
            cost("2026-02", None, "odd", None, unknownCalls=3),
            cost("2026-01", "boats", "dear", 0.25),
        ],
        "problem": "",
    },
}


def serve():
    if "noise" in WORDS:
        print("a word of complaint", file=sys.stderr, flush=True)
    while (message := read()) is not None:
        method, params = message["method"], message.get("params")
        with Path(REQUESTS).open("a") as file:
            file.write(json.dumps({"method": method, "params": params}) + "\n")
        if method == "exit" or (method == "rlm/ask" and "dies" in WORDS):
            return
        if method == "rlm/status" and "deaf" in WORDS:
            continue
        if method == "rlm/ask" and "early" in WORDS:
            tell(0)
        if method == "rlm/ask" and "refuses" in WORDS:
            data = {"kind": "noKey", "cure": "Set ODD_KEY."}
            send(
                {"id": message["id"], "error": {"code": -32022, "message": "No key.", "data": data}}
            )
            continue
        if method == "rlm/attach" and "balks" in WORDS:
            WORDS.remove("balks")
            send({"id": message["id"], "error": {"code": -32603, "message": "Not now."}})
            tell(2)
            continue
        send({"id": message["id"], "result": ANSWERS[method](params)})
        if method == "rlm/ask" and "early" not in WORDS and "deaf" not in WORDS:
            tell(0, but={1} if "gap" in WORDS else ())
        if method == "rlm/attach":
            tell(params["fromSeq"])


serve()
