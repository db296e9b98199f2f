"""A recorded run of 500 iterations into a real Emacs on a terminal: events a second, longest block.

The log goes through the real server and connection into the trajectory buffer, with redisplay.
Beside it, as the limit, the same events received and dropped.
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

from table import print_table

from rlm_server.engine.emitter import Emitter
from rlm_server.protocol import (
    Answer,
    CellDone,
    CellStarted,
    ContextReady,
    IterationStarted,
    Limits,
    Output,
    Progress,
    ReplyDelta,
    ReplyDone,
    RunEnded,
    RunStarted,
    SubcallDone,
    SubcallStarted,
    Usage,
)  # fmt: skip
from rlm_server.runs.log import RunLog

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RUN = "20260101-000000-abcdef"
ITERATIONS = 500
PROSE = "The model looks at a part of the context and says *what* it makes of it, at some length. "
CODE = "    part = llm_query(f'{question}: {chunks[i][:4000]}')  # one of them\n"
PRINTED = "[007] key=1234 value='something' elapsed=3.141\n"


def record(home: Path) -> int:
    """Write the log of a long run; return the number of its events."""
    log = RunLog(home / "state" / "runs" / f"{RUN}.jsonl")
    emitter = Emitter(RUN, log, on_failure=_fail, clock=lambda: 0.0)
    usage = Usage(prompt_tokens=1000, completion_tokens=100, cost=0.001)
    emitter.emit(RunStarted, question="How long does this take?", root_model="m", sub_model="m",
                 limits=Limits(), max_depth=1, server_version="0", isolation="full",
                 isolation_limits=[], project=None)  # fmt: skip
    emitter.emit(ContextReady, documents=1, bytes=1, characters=1, tokens=1, hash="0" * 64,
                 left_out=[], left_out_counts={})  # fmt: skip
    for number in range(1, ITERATIONS + 1):
        _iteration(emitter, number, usage)
    emitter.emit(Answer, text="It is done.", partial=False, evidence=[])
    last = emitter.emit(RunEnded, status="done", reason="Done.", error=None, usage=usage,
                        iterations=ITERATIONS, subcalls=0, seconds=1.0)  # fmt: skip
    log.close()
    return last.seq + 1


def _fail(error: Exception) -> None:
    raise error


def _iteration(emitter: Emitter, number: int, usage: Usage) -> None:
    node = f"0.{number}"
    emitter.emit(IterationStarted, node, iteration=number)
    for _ in range(8):
        emitter.emit(ReplyDelta, node, part="prose", text=PROSE)
    for _ in range(12):
        emitter.emit(ReplyDelta, node, part="code", text=CODE)
    emitter.emit(ReplyDone, node, model="m", usage=usage, seconds=0.1, cells=1)
    emitter.emit(CellStarted, node, cell=1, code=CODE * 12)
    for _ in range(8):
        emitter.emit(Output, node, cell=1, stream="stdout", text=PRINTED * 2)
    for subcall in (1, 2):
        child = f"{node}.{subcall}"
        emitter.emit(SubcallStarted, child, subcall=subcall, model="m", prompt=PROSE * 3,
                     prompt_characters=len(PROSE) * 3)  # fmt: skip
        emitter.emit(SubcallDone, child, status="ok", answer=PROSE * 3, error=None, usage=usage,
                     seconds=0.1)  # fmt: skip
    emitter.emit(CellDone, node, cell=1, status="ok", error="", seconds=0.1, output_characters=500)
    emitter.emit(Progress, iteration=number, subcalls_started=number, subcalls_done=number,
                 usage=usage, seconds=1.0)  # fmt: skip


def play(home: Path, *, draw: bool) -> dict[str, float]:
    """Play the run into an Emacs under tmux; return what it measured."""
    result = home / f"result-{draw}.json"
    name = f"rlm-bench-{os.getpid()}-{draw}"
    variables = {
        "RLM_STATE": home / "state", "RLM_CACHE": home / "cache", "RLM_CONFIG": home / "none",
        "RLM_SERVER_PYTHON": sys.executable, "BENCH_RUN": RUN, "BENCH_RESULT": result,
        "BENCH_DRAW": "1" if draw else "", "TERM": "screen-256color", "HOME": home,
    }  # fmt: skip
    emacs = [os.environ.get("EMACS", "emacs"), "-Q", "-nw", "-L", str(ROOT / "elisp")]
    command = ["env", *(f"{key}={value}" for key, value in variables.items()), *emacs]
    command += ["-l", str(HERE / "bench-emacs.el")]
    tmux = ["tmux", "-L", name]
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


def main() -> None:
    if not shutil.which("tmux"):
        print("tmux is not installed; the Emacs benchmark is left out.")
        return
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        home = Path(name)
        events = record(home)
        limit = play(home, draw=False)
        drawn = play(home, draw=True)
    rows = []
    for label, got in (("received and dropped", limit), ("received and drawn", drawn)):
        rows.append([
            label, f"{events / got['seconds']:,.0f}", f"{got['seconds'] / limit['seconds']:.1f}",
            f"{got['block']:.0f}", f"{got['gc']:.0f}", f"{got['size'] / 1e6:.1f}",
        ])  # fmt: skip
    title = f"{events:,} events of a run with {ITERATIONS} iterations into Emacs"
    heads = ["", "events/s", "time, ratio", "longest block, ms", "longest GC, ms", "buffer, MB"]
    print_table(title, heads, rows)


if __name__ == "__main__":
    main()
