"""Plays the server for the hostile suite: runs attacks in one mode, as whoever started it.

``python driver.py MODE [NAME...]`` prints a line of JSON for each attack and one at the end. It
needs no pytest, so that it can run as another user.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.sandbox import Call, CallReply, Repl, launch
from rlm_server.sandbox.pool import pool
from sandbox_support import corpus_files, descendants

sys.path.insert(0, str(Path(__file__).parent))
from attacks import ATTACKS, PRELUDE, STOPPED, Attack

SECRET = "sk-this-is-secret"


class World:
    """What is around the sandboxes: secrets, victims, listeners."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="rlm-hostile-"))
        self.base.chmod(0o755)
        self.home = self.base / "home"
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh" / "key").write_text(SECRET)
        self.victim = self.home / "victim"
        self.victim.write_text("alive")
        self.victim.chmod(0o666)
        self.home.chmod(0o777)
        text = "a line of the context\n" * 50_000
        self.context = corpus_files(self.base, {"context.txt": text})
        self._written = self.context.text_path.stat().st_mtime_ns
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.tcp.setblocking(False)
        self.local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.local.bind(str(self.base / "socket"))
        (self.base / "socket").chmod(0o777)
        self.local.setblocking(False)
        self.signals: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: self.signals.append(number))
        self.scratch: set[Path] = set()

    def prelude(self) -> str:
        return PRELUDE + (
            f"HOME, PORT, UX, SERVER = {str(self.home)!r}, {self.tcp.getsockname()[1]}, "
            f"{str(self.base / 'socket')!r}, {os.getpid()}\n"
        )

    def harm(self) -> list[str]:
        """Return what should not have happened out here."""
        found = []
        if self.victim.read_text() != "alive" or self.victim.stat().st_mode & 0o777 != 0o666:
            found.append("the victim was changed")
        if sorted(p.name for p in self.home.iterdir()) != [".ssh", "victim"]:
            found.append("the home directory was changed")
        if Path("/tmp/rlm-hostile").exists() or Path("/dev/shm/rlm-hostile").exists():
            found.append("a file was written outside")
        if self.context.text_path.stat().st_mtime_ns != self._written:
            found.append("the context was changed")
        if self.signals:
            found.append("the server was signalled")
        for listener in (self.tcp.accept, lambda: self.local.recv(10)):
            try:
                listener()
                found.append("the server was reached")
            except BlockingIOError:
                pass
        return found

    def left(self) -> list[str]:
        """Return the scratch directories that are still there."""
        return sorted(str(path) for path in self.scratch if path.exists())

    def close(self) -> None:
        self.tcp.close()
        self.local.close()
        shutil.rmtree(self.base)


class Pulse:
    """Measures how long the event loop was kept from its work, in what it takes to read a megabyte.

    That is in processor time: by the clock it would measure what else the machine does, and in
    seconds how fast the machine is.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        megabyte = msgspec.json.encode(["a line of the context"] * 44_000)
        self._unit = min(self._time_to_read(megabyte) for _ in range(9))

    def _time_to_read(self, data: bytes) -> float:
        begun = time.thread_time()
        for line in msgspec.json.decode(data):
            line.encode()
        return time.thread_time() - begun

    async def beat(self) -> None:
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, (time.thread_time() - begun) / self._unit)


def most_megabytes() -> int:
    """The most memory this process has had. ``getrusage`` would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


async def on_call(call: Call) -> CallReply:
    return CallReply("z" * (1 << 20) if call.prompt == "big" else f"echo: {call.prompt[:20]}")


async def play(attack: Attack, mode: str, world: World, pulse: Pulse) -> dict[str, object]:
    config = SandboxConfig(
        isolation=mode,  # type: ignore[arg-type]
        memory=256 << 20,
        scratch=32 << 20,
        output=4 << 20,
        cpu_seconds=1 if attack.name == "processor-time" else 60,
        calls_at_once=8,
        warm=1,
    )
    repl = await Repl.start(world.context, config=config, on_call=on_call)
    problems = []
    has_checkpoints = launch.overrides.get("gate", True)
    # Without, nobody counts processor time: what is left to prove is that the clock ends it.
    uncounted = attack.name == "processor-time" and not has_checkpoints
    try:
        ignore = lambda stream, text: None  # noqa: E731
        ready = await repl.run(world.prelude(), timeout=120, on_output=ignore)
        assert ready.status == "ok", ready
        world.scratch.add(Path(ready.output.split("scratch ", 1)[1].strip()))
        pulse.worst = 0.0
        seconds = 1.0 if uncounted else attack.seconds
        result = await repl.run(attack.code, timeout=seconds, on_output=ignore, show=4000)
        stall = pulse.worst
        for seconds in (attack.next_seconds, 120):
            after = await repl.run("print('keep', keep)", timeout=seconds, on_output=ignore)
            if "keep 123" in after.output:
                break
    finally:
        await repl.close()
    kept = "keep 123" in after.output or attack.name == "streams-gone"
    report = f"{result.status} | {result.error} | {result.output}"
    if not re.search(STOPPED if uncounted else attack.expect, report):
        problems.append("unexpected outcome")
    # Without, what a stopped cell keeps depends on how soon it ends: it has to be told truly.
    if attack.kept is not None and kept != attack.kept and has_checkpoints and mode != "none":
        problems.append(f"kept is {kept}")
    if result.kept and not kept and attack.kept is not None:
        problems.append("lost what was said to be kept")
    if SECRET in report:
        problems.append("the secret got out")
    if mode != "none":
        problems += world.harm()
    return {
        "name": attack.name,
        "problems": problems,
        "report": report[:600],
        "after": f"{after.status} | {after.error} | {after.output}"[:300],
        "seconds": round(result.seconds, 3),
        "stall": round(stall, 1),
    }


async def main(mode: str, names: list[str]) -> None:
    world = World()
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    begun = time.perf_counter()
    try:
        for attack in ATTACKS:
            if mode == "none" and attack.contained_only:
                continue
            if not names or attack.name in names:
                print(json.dumps(await play(attack, mode, world, pulse)), flush=True)
    finally:
        beating.cancel()
        pool.close()
    deadline = time.perf_counter() + 60
    while descendants(os.getpid()) and time.perf_counter() < deadline:
        await asyncio.sleep(0.02)
    while world.left() and time.perf_counter() < deadline:
        await asyncio.sleep(0.02)
    summary = {
        "end": True,
        "processes": len(descendants(os.getpid())),
        "scratch": world.left(),
        "megabytes": most_megabytes(),
        "seconds": round(time.perf_counter() - begun, 1),
        "user": os.getuid(),
        "isolation": Repl.isolation,
    }
    world.close()
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    os.environ["SOME_API_KEY"] = SECRET
    launch.overrides.update(json.loads(os.environ.get("RLM_HOSTILE", "{}")))
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
