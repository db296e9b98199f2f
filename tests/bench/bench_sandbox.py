"""What the sandbox costs: starting, cells, stopping, calls, and contexts of up to a gigabyte.

``python bench_sandbox.py [LARGEST-CONTEXT-IN-MB]``; the default is 1024. The last column is the
ratio to the figure that the row names, because absolute times are this machine's only. Then the
same of ``rlms`` and ``dspy`` beside rlm's, as far as they can run here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rival_sandboxes import bench_rivals
from table import print_table

from rlm_server.config import ContextConfig, SandboxConfig
from rlm_server.context.build import build_corpus
from rlm_server.protocol import FileSource
from rlm_server.sandbox import Repl, isolation, launch
from rlm_server.sandbox.pool import pool
from sandbox_support import corpus_files, descendants, echo

ROUNDS = 30
HEADS = ("what", "median ms", "ratio", "to")
Row = tuple[str, str, str, str]


def quiet(stream: str, text: str) -> None:
    """Take output and do nothing with it."""


async def timed(action: Callable[[], Awaitable[object]], rounds: int = ROUNDS) -> float:
    """Return the median seconds of some rounds."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await action()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def row(what: str, seconds: float, base: float, name: str) -> Row:
    return what, f"{seconds * 1000:,.2f}", f"{seconds / base:,.2f}", name


async def bench_starts(files: object) -> list[Row]:
    """A cold start, a start from the zygote, and a warm one, each to the end of a first cell."""

    def python() -> None:
        subprocess.run([launch.interpreter(), "-I", "-S", "-c", "pass"], check=True)

    bare = await timed(lambda: asyncio.to_thread(python))
    rows = [("python -I -S -c pass", f"{bare * 1000:,.2f}", "1.00", "itself")]

    async def start(config: SandboxConfig) -> None:
        repl = await Repl.start(files, config=config, on_call=echo)  # type: ignore[arg-type]
        await repl.run("x = 1", timeout=10, on_output=quiet)
        started.append(time.perf_counter())
        await repl.close()

    started: list[float] = []
    for mode in ("full", "base"):
        cold = SandboxConfig(isolation=mode, warm=0)  # type: ignore[arg-type]
        try:
            begun = time.perf_counter()
            await isolation.choose(cold)
            rows.append(
                row(f"{mode}: self-test, once", time.perf_counter() - begun, bare, "python")
            )
        except Exception as error:
            print(f"{mode} is not possible here: {error}")
            continue
        pool.close()
        started.clear()
        begun = time.perf_counter()
        await start(cold)
        rows.append(row(f"{mode}: zygote and first cell", started[0] - begun, bare, "python"))
        for warm in (0, 2):
            config = SandboxConfig(isolation=mode, warm=warm)  # type: ignore[arg-type]
            await isolation.prepare(config)
            seconds = []
            for _ in range(ROUNDS):
                await asyncio.sleep(0.1)  # what is warm has to have become so
                started.clear()
                begun = time.perf_counter()
                await start(config)
                seconds.append(started[0] - begun)
            name = f"{mode}: {'warm' if warm else 'from the zygote'} to the end of a first cell"
            rows.append(row(name, statistics.median(seconds), bare, "python"))
    return rows


async def bench_cells(files: object) -> list[Row]:
    """Cells with and without checkpoint, interrupts, and calls."""
    rows: list[Row] = []
    for gate in (True, False):
        launch.overrides["gate"] = gate
        config = SandboxConfig(isolation="base", warm=0)
        repl = await Repl.start(files, config=config, on_call=echo)  # type: ignore[arg-type]
        try:

            async def cell(code: str = "x = 1", seconds: float = 30.0, repl: Repl = repl) -> None:
                await repl.run(code, timeout=seconds, on_output=quiet)

            once = await timed(cell)
            if gate:
                with_checkpoint = once
                rows.append(row("cell", once, once, "itself"))
                rows += await _stops(cell, once)
                hundred = await timed(lambda: cell("for _ in range(100): llm_query('x')"))
                call = (hundred - once) / 100
                rows.append(row("one call, there and back", max(call, 1e-6), once, "cell"))
                batch = await timed(lambda: cell("llm_query_batched(['x' * 10_000] * 1000)"), 5)
                rows.append(row("1,000 calls of 10 kB", batch, once, "cell"))
            else:
                rows.append(row("cell without checkpoint", once, with_checkpoint, "cell"))
        finally:
            await repl.close()
            launch.overrides.clear()
    return rows


async def _stops(cell: Callable[..., Awaitable[None]], once: float) -> list[Row]:
    rows = []
    for name, code in (
        ("stopping a loop", "while True: pass"),
        ("stopping a loop in C", "sum(range(10 ** 13))"),
        (
            "stopping a loop that swallows",
            "import time\nwhile True:\n  try: time.sleep(1e-3)\n  except BaseException: pass",
        ),
    ):
        seconds = await timed(lambda code=code: cell(code, 0.05), 10) - 0.05  # type: ignore[misc]
        rows.append(row(f"{name}, deadline to idle", seconds, once, "cell"))
    died = await timed(lambda: cell("import os; os._exit(1)"), 10)
    rows.append(row("a cell that exits, to idle", died, once, "cell"))
    return rows


async def bench_contexts(directory: Path, largest: int) -> list[Row]:
    """Files on disk to the first result, cold and again; then four children on the largest."""
    rows: list[Row] = []
    block = "".join(f"line {n} of a context with error and warning\n" for n in range(20_000))
    for megabytes in (10, 100, 1024):
        if megabytes > largest:
            print(f"a context of {megabytes} MB was not asked for")
            continue
        source = directory / f"{megabytes}.txt"
        with source.open("w") as file:
            for _ in range(megabytes * (1 << 20) // len(block) + 1):
                file.write(block)
        plain = await timed(lambda source=source: asyncio.to_thread(source.read_text), 1)  # type: ignore[misc]
        place = directory / f"corpus-{megabytes}"
        place.mkdir()
        begun = time.perf_counter()
        corpus = await build_corpus(
            [FileSource(path=str(source))],
            [],
            directory=place,
            config=ContextConfig(),
            on_progress=lambda documents, size: None,
        )
        config = SandboxConfig()
        repl = await Repl.start(corpus, config=config, on_call=echo)
        await repl.run("context[:9]", timeout=60, on_output=quiet)
        cold = time.perf_counter() - begun
        await repl.close()
        begun = time.perf_counter()
        repl = await Repl.start(corpus, config=config, on_call=echo)
        await repl.run("context[:9]", timeout=60, on_output=quiet)
        again = time.perf_counter() - begun
        private = _private(repl)
        rows.append(row(f"{megabytes} MB: prepared and a first cell", cold, plain, "read_text"))
        rows.append(
            row(f"{megabytes} MB: prepared before, {private} MB private", again, plain, "read_text")
        )
        scan = "context.count('error')"
        begun = time.perf_counter()
        await repl.run(scan, timeout=60, on_output=quiet)
        one = time.perf_counter() - begun
        rows.append(row(f"{megabytes} MB: a scan in the sandbox", one, plain, "read_text"))
        await repl.close()
        if megabytes == min(largest, 1024):
            rows += await _children(corpus, config, scan, one)
        corpus.close()
        source.unlink()
    return rows


async def _children(corpus: object, config: SandboxConfig, scan: str, one: float) -> list[Row]:
    begun = time.perf_counter()
    repls = await asyncio.gather(
        *(Repl.start(corpus, config=config, on_call=echo) for _ in range(4))  # type: ignore[arg-type]
    )
    await asyncio.gather(*(r.run(scan, timeout=120, on_output=quiet) for r in repls))
    seconds = time.perf_counter() - begun
    private = _private(repls[0])
    await asyncio.gather(*(repl.close() for repl in repls))
    return [row(f"four children scan the same, {private} MB private", seconds, one, "one scan")]


def _private(repl: Repl) -> int:
    """Return the private memory of all sandboxes in MB."""
    total = 0
    for process in descendants(os.getpid()):
        try:
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Dirty", "Private_Clean")):
                    total += int(line.split()[1])
        except OSError:
            continue  # it has just ended
    return total >> 10


async def possible_mode() -> str:
    """The strongest isolation mode that this machine can do."""
    try:
        await isolation.choose(SandboxConfig(isolation="full", warm=0))
    except Exception as error:
        print(f"the rivals stand beside base: full is not possible here: {error}")
        return "base"
    return "full"


async def main(largest: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="rlm-bench-"))
    try:
        files = corpus_files(directory, {"a.txt": "text\n" * 1000})
        print_table("Starting", HEADS, await bench_starts(files))
        print_table("Cells", HEADS, await bench_cells(files))
        print_table("Contexts", HEADS, await bench_contexts(directory, largest))
        pool.close()
        bench_rivals(directory, await possible_mode(), largest)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024))
