"""rlm and its rivals, answering the same question with the same scripted replies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rivals import VERSIONS, rival_python

from rpc_client import initialize_params, server_environment

HERE = Path(__file__).parent
CONTEXT = "a line of text to look at\n" * 4000
ANSWER = str(len(CONTEXT))

RLM, RLMS, DSPY = "rlm", f"rlms {VERSIONS['rlms']}, local", f"dspy {VERSIONS['dspy']}, local"

_LAST = {
    RLM: 'answer["content"] = str(len(context))\nanswer["ready"] = True',
    RLMS: 'answer["content"] = str(len(context))\nanswer["ready"] = True',
    DSPY: "SUBMIT(answer=str(len(context)))",
}


@dataclass
class Told:
    """What the model server has measured of one run."""

    gaps: list[float]
    """Milliseconds from each reply to the next request of the root."""
    characters: int
    """Of all prompts of the root together."""
    subcalls: int


def contestants() -> list[str]:
    """Those that can be installed here, rlm first."""
    packages = {RLMS: "rlms", DSPY: "dspy"}
    return [RLM, *(name for name, package in packages.items() if rival_python(package))]


async def play(
    name: str, cells: Sequence[str], *, seconds: float = 0.0, slots: int | None = None
) -> Told:
    """Have a contestant run these cells, one a reply, and then answer.

    ``seconds`` is what a sub-call takes, ``slots`` how many rlm is told that the server takes at
    once; None is what it has by default.
    """
    style = "dspy" if name == DSPY else "fence"
    provider = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "turns_provider.py", style, str(seconds), *cells, _LAST[name],
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert provider.stdout
    try:
        port = int(await provider.stdout.readline())
        if name == RLM:
            await _play_rlm(port, len(cells) + 1, slots)
        else:
            await _play_rival(name.split()[0], port, len(cells) + 1)
        told = Told(**await ask_told(port))
        assert len(told.gaps) == len(cells), (name, len(told.gaps), len(cells))
        return told
    finally:
        provider.terminate()
        await provider.wait()


class Wire:
    """A client that looks for one thing in what it is sent, as quickly as that can be done."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    async def ask(self, method: str, params: object, wanted: bytes) -> bytes:
        """Send a request, and read until something matches what is wanted."""
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        body = json.dumps(request).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        tail = b""
        while not (found := re.search(wanted, tail)):
            more = await self._reader.read(1 << 16)
            assert more, tail.decode()
            tail = tail[-4096:] + more
        return found[0]


async def ask_told(port: int) -> dict[str, object]:
    """What a ``turns_provider`` has measured."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /told HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    told: dict[str, object] = json.loads(await reader.readexactly(length))
    writer.close()
    return told


async def _play_rlm(port: int, turns: int, slots: int | None) -> None:
    """Ask through the real server process, door and sandbox included."""
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        home = Path(name)
        wide = f"slots = {slots}\n" if slots else ""
        sandbox = f"[sandbox]\ncalls-at-once = {slots}\n" if slots else ""
        (home / "config.toml").write_text(
            f'root = "timing"\ndiscover = false\n{sandbox}[models.timing]\n{wide}'
            f'model = "hosted_vllm/timing"\nbase-url = "http://127.0.0.1:{port}/v1"\n'
        )
        (home / "context.txt").write_text(CONTEXT)
        params = {
            "question": "How long is it?",
            "sources": [{"kind": "file", "path": str(home / "context.txt")}],
            "options": {"limits": {"iterations": turns + 5, "subcalls": 10_000}, "direct": False},
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rlm_server", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, env=server_environment(home), cwd=HERE.parent.parent,
        )  # fmt: skip
        assert process.stdin
        assert process.stdout
        wire = Wire(process.stdout, process.stdin)
        await wire.ask("initialize", initialize_params(), rb'"id":\d+,"result"')
        # What it imports in the background, the rivals have imported before they ask.
        while b"true" not in await wire.ask("rlm/status", {}, rb'"modelsReady":\w+'):
            await asyncio.sleep(0.05)
        end = await wire.ask("rlm/ask", params, rb'"kind":"runEnded".*?"status":"\w+"')
        assert b'"status":"done"' in end, end
        process.stdin.close()
        while await process.stdout.read(1 << 16):
            pass
        await process.wait()


async def _play_rival(package: str, port: int, turns: int) -> None:
    python = rival_python(package)
    assert python
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as home:
        process = await asyncio.create_subprocess_exec(
            python, HERE / "rival_runs.py", package, f"http://127.0.0.1:{port}/v1", str(turns),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, cwd=home,
            env={**os.environ, "OPENAI_API_KEY": "none", "DSPY_CACHEDIR": home},
        )  # fmt: skip
        out, err = await process.communicate(CONTEXT.encode())
    assert process.returncode == 0, err.decode()[-2000:]
    assert ANSWER in out.decode(), out.decode()[-500:]
