"""Small prepared contexts, and a REPL that records what it was told, for tests of the sandbox."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.sandbox import Call, CallReply, CellResult, Repl

PATIENCE = 20.0
"""Seconds; a time-out for cells that are not about time-outs."""


class Files(msgspec.Struct):
    text_path: Path
    index_path: Path
    part: tuple[int, int] | None = None


def corpus_files(directory: Path, documents: dict[str, str]) -> Files:
    """Write the documents as the context room does: headers between several, none for one."""
    text = ""
    index = []
    for path, content in documents.items():
        if len(documents) > 1:
            text += f"===== {path} =====\n"
        start = len(text)
        text += content
        index.append({"path": path, "start": start, "end": len(text), "firstLine": 1})
        if len(documents) > 1 and not content.endswith("\n"):
            text += "\n"
    widest = max(map(ord, text), default=0)
    width = 1 if widest < 256 else 2 if widest < 65536 else 4
    encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width]
    header = struct.pack("<8sBB6xQ", b"RLMCTX01", width, text.isascii(), len(text))
    text_path, index_path = directory / "text.bin", directory / "documents.json"
    text_path.write_bytes(header.ljust(4096, b"\0") + text.encode(encoding) + b"\0" * 8)
    index_path.write_text(json.dumps({"documents": index}))
    return Files(text_path, index_path)


async def echo(call: Call) -> CallReply:
    return CallReply(f"echo: {call.prompt}", model=call.model or "default")


class Bench:
    """A REPL, and everything that it printed while cells ran."""

    def __init__(self, repl: Repl) -> None:
        self.repl = repl
        self.printed: list[tuple[str, str]] = []

    async def run(self, code: str, seconds: float = PATIENCE, show: int = 8000) -> CellResult:
        return await self.repl.run(
            code,
            timeout=seconds,
            on_output=lambda stream, text: self.printed.append((stream, text)),
            show=show,
        )

    async def ok(self, code: str) -> str:
        """Run a cell that has to succeed and return its output."""
        result = await self.run(code)
        assert result.status == "ok", result
        return result.output


@asynccontextmanager
async def bench(
    directory: Path,
    documents: dict[str, str] | None = None,
    *,
    config: SandboxConfig | None = None,
    on_call: Callable[[Call], Awaitable[CallReply]] = echo,
) -> AsyncIterator[Bench]:
    """Start a REPL on these documents and close it afterwards."""
    if documents is None:
        documents = {"a.txt": "alpha\nbeta\n"}
    files = corpus_files(directory, documents)
    repl = await Repl.start(files, config=config or SandboxConfig(), on_call=on_call)
    try:
        yield Bench(repl)
    finally:
        await repl.close()


def living() -> set[int]:
    """Return all processes but those that are dead and not yet buried."""
    return {process for process, (_, state) in _processes().items() if state not in "ZX"}


def descendants(process: int) -> set[int]:
    """Return the living processes that a process has started, and they."""
    table = _processes()
    found: set[int] = set()
    pending = [process]
    while pending:
        above = pending.pop()
        for child, (parent, state) in table.items():
            if parent == above and state not in "ZX":
                found.add(child)
                pending.append(child)
    return found


def _processes() -> dict[int, tuple[int, str]]:
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            table[int(entry.name)] = (int(fields[1]), fields[0])
    return table
