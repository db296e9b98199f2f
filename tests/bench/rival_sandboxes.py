"""rlm's sandbox beside those of ``rlms`` and ``dspy``, each step in a process of bounded time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rivals import HOME, VERSIONS, rival_python
from table import print_table

from sandbox_support import descendants

HERE = Path(__file__).parent
SANDBOXES = ("rlm", "rlms local", "rlms IPython", "dspy local", "dspy Deno")
NO_LIMIT = ("rlms local", "dspy Deno")  # these offer no time-out for a cell
BOUNDS = {"start": 90, "basics": 30, "stop": 6, "context": 30}  # seconds
SLOW = 10.0  # seconds for 100 MB, beyond which 1 GB is not tried
FREE = 12  # GB of free memory for 1 GB of context: some hold it six times over
STEP_ROWS = (
    ("first", "first start to the end of a first cell"),
    ("later", "a later start, the same"),
    ("cell", "an empty cell"),
    ("stop", "stopping a loop, time limit to idle"),
    ("call", "one call, there and back"),
)

# dspy's runner imports this one function from a server; where that can't be reached, it is ours.
LINES = """
export async function* readLines(reader) {
  const decoder = new TextDecoder(), chunk = new Uint8Array(1 << 16);
  let parts = [];
  for (let n; (n = await reader.read(chunk)) !== null; ) {
    const lines = decoder.decode(chunk.subarray(0, n), { stream: true }).split("\\n");
    for (const line of lines.slice(0, -1)) { yield parts.join("") + line; parts = []; }
    parts.push(lines.at(-1));
  }
  if (parts.join("")) yield parts.join("");
}
"""


class StepError(Exception):
    """A step that gave no figures; says why in one line."""


class HangError(StepError):
    """A step that did not end in its time."""


@dataclass
class Contestant:
    name: str
    python: str
    environment: dict[str, str]
    figures: dict[str, float] = field(default_factory=dict)  # seconds, and MB for memory
    notes: dict[str, str] = field(default_factory=dict)  # instead of, or after, a figure

    def measure(self, step: str, file: Path | None = None) -> tuple[dict[str, float], float]:
        """Run one step; return its figures and the peak of all its processes' memory in MB."""
        command = [self.python, str(HERE / "rival_snippets.py"), self.name, step]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                [*command, str(file)] if file else command,
                stdin=subprocess.PIPE, stdout=out, stderr=err, env=self.environment,
            )  # fmt: skip
            deadline = time.monotonic() + BOUNDS[step]
            peak = 0
            while process.poll() is None and time.monotonic() < deadline:
                done = os.fstat(out.fileno()).st_size > 0
                peak = max(peak, sum(map(_memory, descendants(process.pid) | {process.pid})))
                if done and not process.stdin.closed:
                    process.stdin.close()  # it waits for this, so that the end is always seen
                time.sleep(0.05)
            hangs = process.poll() is None
            if hangs:
                _kill(descendants(process.pid) | {process.pid})
            process.wait()
            if hangs:
                raise HangError(f"did not end in {BOUNDS[step]} s")
            out.seek(0)
            err.seek(0)
            said = out.read().decode(errors="replace").strip()
            if process.returncode or not said:
                raise StepError(_reason(err.read().decode(errors="replace"), process.returncode))
            return json.loads(said.splitlines()[-1]), peak / 1024


def _kill(processes: set[int]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)


def _memory(process: int) -> int:
    """The proportional share of memory of a process, in kB, mapped files included."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        if found := re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE):
            return int(found[1])
    return 0


def _reason(text: str, code: int) -> str:
    lines = [line for line in re.sub(r"\x1b\[\d*m", "", text).splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b|error", line)]
    return (telling or lines or [f"ended with {code}"])[-1].strip()[:160]


def _contestants(directory: Path, mode: str) -> list[Contestant]:
    found = []
    for name in SANDBOXES:
        environment = {**os.environ, "TMPDIR": str(directory), "RLM_BENCH_MODE": mode}
        package = name.split()[0]
        python = sys.executable if package == "rlm" else rival_python(package)
        if python is None:
            continue  # rival_python has said why
        if package == "dspy":
            environment |= {"DENO_DIR": str(HOME / "deno"), "DSPY_CACHEDIR": str(directory)}
        one = Contestant(name, python, environment)
        try:
            _prepare(one, directory)
        except StepError as error:
            print(f"{name} can't run here: {error}")
            continue
        found.append(one)
    return found


def _prepare(one: Contestant, directory: Path) -> None:
    """Start it once: files that a first start compiles or fetches are no part of the figures."""
    try:
        one.measure("start")
    except StepError as error:
        source = _imported_address(one) if one.name == "dspy Deno" else None
        if source is None or source.split("/")[2] not in str(error):
            raise
        print("dspy Deno: what its runner imports can't be reached; a line reader of ours is used")
        lines, names = directory / "lines.js", directory / "names.json"
        lines.write_text(LINES)
        names.write_text(json.dumps({"imports": {source: lines.as_uri()}}))
        one.environment["RLM_BENCH_IMPORT_MAP"] = str(names)
        one.measure("start")


def _imported_address(one: Contestant) -> str | None:
    """The address that dspy's runner imports its line reader from."""
    for runner in Path(one.python).parent.parent.glob(
        "lib/*/site-packages/dspy/primitives/runner.js"
    ):
        if found := re.search(r'readLines \} from "([^"]+)"', runner.read_text()):
            return found[1]
    return None


def _steps(one: Contestant) -> None:
    try:
        found, peak = one.measure("basics")
        one.figures |= found | {"memory": peak}
    except StepError as error:
        print(f"{one.name}: no starts, cells and calls: {error}")
    try:
        found, _ = one.measure("stop")
        one.figures["stop"] = found["stop"]
        if found["lost"]:
            one.notes["stop"] = "session lost"
    except HangError:
        one.notes["stop"] = "hangs"
        why = "offers no time-out" if one.name in NO_LIMIT else "its time-out did not work"
        print(f"{one.name}: a loop was still running after {BOUNDS['stop']} s: {why}")
    except StepError as error:
        print(f"{one.name}: no interrupt: {error}")


def _context(one: Contestant, megabytes: int, file: Path) -> None:
    if megabytes > 100 and one.figures.get("100 MB", SLOW) >= SLOW:
        print(f"{one.name}: {megabytes} MB not tried: 100 MB were not done in {SLOW:.0f} s")
        return
    try:
        found, peak = one.measure("context", file)
        one.figures |= {f"{megabytes} MB": found["context"], f"{megabytes} MB memory": peak}
    except StepError as error:
        one.notes[f"{megabytes} MB"] = "fails"
        print(f"{one.name}: no context of {megabytes} MB: {error}")


def _free() -> float:
    """Free memory in GB."""
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"MemAvailable:\s+(\d+)", text)
    return int(found[1]) / (1 << 20) if found else 0.0


def bench_rivals(directory: Path, mode: str, largest: int) -> None:
    """Print rlm's figures in this isolation mode and its rivals', each with its ratio to rlm's."""
    contestants = _contestants(directory, mode)
    for one in contestants:
        _steps(one)
    sizes = [size for size in (10, 100, 1024) if size <= largest]
    for megabytes in sizes:
        if megabytes > 100 and _free() < FREE:
            print(f"{megabytes} MB not tried: {_free():.0f} GB of memory are free, not {FREE}")
            break
        file = directory / f"rivals-{megabytes}.txt"
        line = "a line of a context with error and warning\n"
        block = line * ((1 << 20) // len(line) + 1)
        with file.open("w") as stream:
            for _ in range(megabytes):
                stream.write(block[: 1 << 20])
        for one in contestants:
            _context(one, megabytes, file)
        file.unlink()
    versions = ", ".join(f"{name} {version}" for name, version in VERSIONS.items())
    heads = [f"rlm {mode}" if one.name == "rlm" else one.name for one in contestants]
    rows = [_row(what, key, 1000, contestants) for key, what in STEP_ROWS]
    rows += [
        _row(f"{size} MB on disk to its length", f"{size} MB", 1000, contestants) for size in sizes
    ]
    print_table(f"Beside {versions}: ms, and the ratio to rlm", ["", *heads], rows)
    rows = [_row("starts, cells and calls", "memory", 1, contestants)]
    rows += [_row(f"{size} MB of context", f"{size} MB memory", 1, contestants) for size in sizes]
    print_table("Peak memory of all processes, MB, and the ratio to rlm", ["", *heads], rows)


def _row(what: str, key: str, scale: int, contestants: list[Contestant]) -> list[str]:
    base = next((one.figures.get(key) for one in contestants if one.name == "rlm"), None)
    cells = [what]
    for one in contestants:
        figure, note = one.figures.get(key), one.notes.get(key, "")
        if figure is None:
            cells.append(note or "-")
            continue
        ratio = f" ({figure / base:,.2f})" if base and one.name != "rlm" else ""
        digits = 0 if figure * scale >= 100 else 2
        cells.append(f"{figure * scale:,.{digits}f}{ratio}{', ' + note if note else ''}")
    return cells
