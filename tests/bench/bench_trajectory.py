"""The promise of performance: a run of 2 MB streams into a buffer while Emacs stays at hand.

The events of a run of 500 iterations come at 200 a second into a real Emacs on a terminal, which
has the package byte-compiled. Promised: showing them keeps Emacs busy for less than 5 % of the
time, beside what receiving and dropping them takes; no block is longer than 16 ms outside of
garbage collection; a piece costs as much in the last part as in the first; a transcript of 10 MB
opens within a second and folds within 50 ms; and (require 'rlm) takes less than 60 ms. What is
promised and not kept is marked, and makes the benchmark fail.

Beside it, what clients do otherwise: inserting each piece and showing it at once, and comint,
the streaming buffer that comes with Emacs. No client for language models is in Debian.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_emacs import ITERATIONS, RUN, record
from table import print_table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RATE = 200
PART = 2_000
"""Events at real pace, at the beginning and at the end; those between come faster."""
NEWER = ROOT / ".cache/emacs-30/emacs"


def compiled(home: Path, emacs: str) -> Path:
    """Copy the package and compile it with this Emacs; return its directory."""
    place = Path(tempfile.mkdtemp(prefix="elisp-", dir=home))
    for file in (ROOT / "elisp").glob("*.el"):
        shutil.copy(file, place)
    files = [str(file) for file in sorted(place.glob("*.el"))]
    command = [emacs, "-Q", "--batch", "-L", str(place), "-f", "batch-byte-compile", *files]
    subprocess.run(command, check=True, capture_output=True)
    return place


def play(home: Path, emacs: str, package: Path, way: str) -> dict[str, Any]:
    """Let the run stream into an Emacs under tmux; return what it measured."""
    result = home / f"{package.name}-{way}.json"
    variables = {
        "HOME": home, "TERM": "screen-256color", "LANG": "C.UTF-8", "BENCH_WAY": way,
        "BENCH_LOG": home / "state" / "runs" / f"{RUN}.jsonl", "BENCH_RESULT": result,
        "BENCH_RATE": RATE, "BENCH_PART": PART,
    }  # fmt: skip
    command = ["env", *(f"{key}={value}" for key, value in variables.items())]
    command += [emacs, "-Q", "-nw", "-L", str(package), "-l", str(HERE / "bench-trajectory.el")]
    tmux = ["tmux", "-L", f"rlm-bench-{os.getpid()}-{way}"]
    size = ["-x", "120", "-y", "40"]
    subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", *size, *command], check=True)
    try:
        deadline = time.monotonic() + 600
        while not result.exists():
            if time.monotonic() > deadline:
                raise SystemExit(subprocess.check_output([*tmux, "capture-pane", "-p"], text=True))
            time.sleep(0.1)
        return json.loads(result.read_text())  # type: ignore[no-any-return]
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


def loading(emacs: str, package: Path) -> float:
    """Milliseconds that (require 'rlm) takes, the least of five."""
    form = "(let ((begun (float-time))) (require 'rlm) (princ (* 1000 (- (float-time) begun))))"
    command = [emacs, "-Q", "--batch", "-L", str(package), "--eval", form]
    return min(float(subprocess.check_output(command, text=True)) for _ in range(5))


def within(value: float, most: float, text: str) -> tuple[str, bool]:
    """Text for a figure, marked if it is more than was promised, and whether it was kept."""
    return (text.format(value) + ("" if value <= most else " (!)"), value <= most)


def measure(home: Path, emacs: str) -> tuple[list[list[str]], list[str], bool]:
    """Rows of the streaming table, the row of the other one, and whether all was kept."""
    package = compiled(home, emacs)
    rows, single, kept = [], [], True
    for way, label in (("rlm", "rlm"), ("naive", "insert and show"), ("comint", "comint")):
        got = play(home, emacs, package, way)
        first, last = got["first"], got["last"]
        busy = within(max(first["busy"], last["busy"]) - got["receive"], 5, "{:.1f}")
        block = within(max(first["block"], last["block"]), 16, "{:.1f}")
        flat = within(last["chunk"] / first["chunk"], 1.3, "{:.2f}")
        rows.append([
            f"Emacs {got['version']}, {label}", busy[0], f"{got['receive']:.1f}",
            f"{first['chunk']:.2f}",
            f"{last['chunk']:.2f}", flat[0], f"{max(first['p99'], last['p99']):.1f}", block[0],
            str(first["over"] + last["over"]), f"{max(first['gc'], last['gc']):.0f}",
            f"{got['size'] / 1e6:.1f}",
        ])  # fmt: skip
        if way == "rlm":
            transcript = got["transcript"]
            promised = [
                within(loading(emacs, package), 60, "{:.0f}"),
                within(transcript["open"], 1000, "{:.0f}"),
                within(transcript["cycle"], 50, "{:.0f}"),
                within(transcript["fold"], 50, "{:.0f}"),
            ]
            single = [f"Emacs {got['version']}", *(text for text, _ in promised)]
            kept = all(ok for _, ok in [busy, block, flat, *promised])
    return rows, single, kept


def main() -> int:
    if not shutil.which("tmux"):
        print("tmux is not installed; the benchmark of streaming is left out.")
        return 0
    emacses = [os.environ.get("EMACS", "emacs")]
    if NEWER.exists():
        emacses.append(str(NEWER))
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        home = Path(name)
        events = record(home)
        measured = [measure(home, emacs) for emacs in emacses]
    heads = ["", "busy, %", "receiving, %", "first, ms a piece", "last", "ratio",
             "block p99, ms", "longest, ms", "over 16 ms", "longest GC, ms",
             "buffer, MB"]  # fmt: skip
    print_table(
        f"{RATE} of {events:,} events a second, {ITERATIONS} iterations, parts of {PART:,} at "
        "the beginning and the end; (!) is more than promised",
        heads, [row for rows, _, _ in measured for row in rows],
    )  # fmt: skip
    heads = ["", "require 'rlm, ms", "open 10 MB, ms", "fold in it, ms", "fold 2 MB to 2, ms"]
    print_table("Loading, opening and folding", heads, [row for _, row, _ in measured])
    return 0 if all(kept for _, _, kept in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
