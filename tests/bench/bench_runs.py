"""10,000 runs in the state directory: their list in Emacs, and the start of the server among them.

The list is timed from the command to the drawn screen, in an Emacs on a terminal that is connected
already. Beside it stand what it can't do without: as many rows read with plain SQLite, each log
looked at by the file system, and as many rows put into a bare tabulated list.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import print_table

from log_support import write_runs
from rpc_client import initialize_params, start_server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RUNS = 10_000
STARTS = 7


def listed(home: Path, emacs: str) -> dict[str, float]:
    """List the runs in an Emacs under tmux; return what it measured, in seconds."""
    result = home / "result.json"
    result.unlink(missing_ok=True)
    variables = {
        "RLM_STATE": home / "state", "RLM_CACHE": home / "cache", "RLM_CONFIG": home / "none",
        "RLM_SERVER_PYTHON": sys.executable, "BENCH_RESULT": result, "HOME": home,
        "TERM": "screen-256color",
    }  # fmt: skip
    command = ["env", *(f"{key}={value}" for key, value in variables.items()), emacs]
    command += ["-Q", "-nw", "-L", str(ROOT / "elisp"), "-l", str(HERE / "bench-runs.el")]
    tmux = ["tmux", "-L", f"rlm-bench-runs-{os.getpid()}"]
    size = ["-x", "120", "-y", "40"]
    subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", *size, *command], check=True)
    try:
        deadline = time.monotonic() + 300
        while not result.exists():
            if time.monotonic() > deadline:
                raise SystemExit(subprocess.check_output([*tmux, "capture-pane", "-p"], text=True))
            time.sleep(0.1)
        return json.loads(result.read_text())
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


def read_plainly(home: Path, rows: int) -> float:
    """How long the newest rows take to be read from the index with nothing around."""
    started = time.perf_counter()
    with sqlite3.connect(home / "state" / "runs.db") as database:
        found = database.execute(
            "SELECT summary FROM run ORDER BY started DESC, id DESC LIMIT ?", [rows]
        ).fetchall()
    assert len(found) == rows
    return time.perf_counter() - started


def looked_at(home: Path) -> float:
    """How long it takes to ask the file system for each log's size."""
    started = time.perf_counter()
    with os.scandir(home / "state" / "runs") as entries:
        assert sum(entry.stat().st_size > 0 for entry in entries) == RUNS
    return time.perf_counter() - started


async def first_reply(home: Path) -> float:
    started = time.perf_counter()
    async with start_server(home) as (client, _):
        await client.request("initialize", initialize_params())
        return time.perf_counter() - started


async def starts(empty: Path, full: Path) -> tuple[list[float], list[float]]:
    """Seconds from the start of the server to its first reply, alternating."""
    without, among = [], []
    for _ in range(STARTS):
        without.append(await first_reply(empty))
        among.append(await first_reply(full))
    return without, among


def emacses() -> dict[str, str]:
    """The Emacsen that there are."""
    newer = ROOT / ".cache/emacs-30/emacs"
    return {"Emacs": os.environ.get("EMACS", "emacs")} | (
        {"Emacs 30": str(newer)} if newer.exists() else {}
    )


def show_lists(home: Path) -> None:
    for name, emacs in emacses().items():
        (home / "state" / "runs.db").unlink(missing_ok=True)
        got = listed(home, emacs)
        count = int(got["rows"])
        reads = [read_plainly(home, count) for _ in range(5)]
        looks = [looked_at(home) for _ in range(5)]
        rows = [
            ["each log looked at by the file system", f"{1000 * statistics.median(looks):.0f}", ""],
            [f"{count} rows read by SQLite", f"{1000 * statistics.median(reads):.0f}", ""],
            [f"{count} rows into a bare tabulated list", f"{1000 * got['bare']:.0f}", ""],
            [f"{RUNS:,} rows into a bare tabulated list", f"{1000 * got['bareAll']:.0f}", ""],
            ["rlm-runs", f"{1000 * got['warm']:.0f}", f"{1000 * got['worst']:.0f}"],
            ["rlm-runs, sorted by cost", f"{1000 * got['sorted']:.0f}", ""],
            ["rlm-runs, one word searched in all", f"{1000 * got['searched']:.0f}", ""],
            ["rlm-runs, no index yet", f"{1000 * got['cold']:.0f}", ""],
        ]
        version = f"{name} {got['version']}" if name == "Emacs" else f"Emacs {got['version']}"
        print_table(f"{RUNS:,} runs, {version}: ms until drawn", ["", "median", "worst"], rows)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        home, empty = Path(name) / "full", Path(name) / "empty"
        empty.mkdir()
        write_runs(home / "state" / "runs", RUNS)
        if shutil.which("tmux"):
            show_lists(home)
        else:
            print("tmux is not installed; the list in Emacs is left out.")
        without, among = asyncio.run(starts(empty, home))
    rows = [
        [f"{runs:,} runs", f"{statistics.median(times):.2f}", f"{max(times):.2f}"]
        for runs, times in ((0, without), (RUNS, among))
    ]
    rows[0].append("1.00")
    rows[1].append(f"{statistics.median(among) / statistics.median(without):.2f}")
    print_table("Start of the server to its first reply, s", ["", "median", "worst", "ratio"], rows)


if __name__ == "__main__":
    main()
