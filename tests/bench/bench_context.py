"""What it takes to prepare a context: a file read for the first time, and again.

Usage: bench_context.py [SIZE], the file's size in bytes; by default a gigabyte, or less where the
disk has less than ten times that left.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from table import print_table

from rlm_server.config import ContextConfig
from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import Corpus
from rlm_server.context.state import RACY_SECONDS
from rlm_server.context.store import Store
from rlm_server.protocol import FileSource

DEFAULT_BYTES = 1_000_000_000
AGAIN = 5
LINE = "A line of plain text with the number {:012d}, as long as lines of text usually are.\n"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        directory = Path(name)
        room = shutil.disk_usage(directory).free // 10
        size = int(sys.argv[1]) if len(sys.argv) > 1 else min(DEFAULT_BYTES, room)
        rows = asyncio.run(measure(directory, size))
    print_table(f"A context of {size / 1e6:,.0f} MB", ("", "ms", "MB/s"), rows)
    return 0


async def measure(directory: Path, size: int) -> list[tuple[str, str, str]]:
    """Measure everything, in milliseconds; of what is done again, the best time."""
    store = Store(directory / "prepared", 5 * size)
    rows = []

    def row(title: str, seconds: float, *, rate: bool = True) -> None:
        speed = f"{size / 1e6 / seconds:,.0f}" if rate else ""
        rows.append((title, f"{seconds * 1000:,.1f}", speed))

    file = directory / "text"
    for title, last in (("ASCII", ""), ("with emoji at the end", "🙂\n")):
        write(file, size, last)
        # A file that has just been written is not trusted to be unchanged.
        time.sleep(RACY_SECONDS + 0.1)
        row(f"{title}: cat FILE >/dev/null", timed(lambda: cat(file)))
        row(f"{title}: prepared cold", await prepared(file, directory, store))
        again = [await prepared(file, directory, store) for _ in range(AGAIN)]
        row(f"{title}: prepared again", min(again), rate=False)
        store.clear()
    return rows


async def prepared(file: Path, directory: Path, store: Store) -> float:
    """Prepare a file and look at both ends of it; give the seconds that took."""
    started = time.perf_counter()
    corpus: Corpus = await build_corpus(
        [FileSource(path=str(file))],
        [],
        directory=directory / "run",
        config=ContextConfig(),
        on_progress=lambda documents, count: None,
        store=store,
    )
    corpus.head(100)
    corpus.tail(100)
    seconds = time.perf_counter() - started
    corpus.close()
    return seconds


def write(file: Path, size: int, last: str) -> None:
    """Write lines of text, and ``last`` at the end."""
    written = number = 0
    end = last.encode()
    with file.open("wb") as stream:
        while written < size - len(end):
            lines = "".join(LINE.format(number + i) for i in range(10_000)).encode()
            number += 10_000
            written += stream.write(lines[: size - len(end) - written])
        stream.write(end)


def cat(file: Path) -> None:
    subprocess.run(["cat", file], stdout=subprocess.DEVNULL, check=True)


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
