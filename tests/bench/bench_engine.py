"""What an engine adds to an iteration, over a model without latency: rlm, `rlms` and `dspy`.

Each contestant answers the same question with the same 50 replies from the same server, which
measures the time from its reply to the next request. That is all that an engine costs: reading
the reply, running the cell, making the next prompt, sending it. With rlm that includes the
checkpoint before each cell, the sandbox, the log, the cache, the ledgers, and a client that is
sent every event; the rivals run the code in their own process (`rlms`) or in another one of the
same user (`dspy`), without a way back. The contestants take turns, so that what else the machine
does is the same for all.

Two lines say what can't be had for less: the requests with nothing around them, and the fork that a
way back is made of, in a process of a sandbox's size, with the cell and nothing around it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from contestants import RLM, ask_told, contestants, play
from table import print_table

from rlm_server.sandbox import launch

ITERATIONS = 50
ROUNDS = 5
CELL = 'print(len(context), "characters")'


async def bare_gaps() -> list[float]:
    """What a client takes that sends the same requests with nothing around them."""
    provider = await asyncio.create_subprocess_exec(
        sys.executable, Path(__file__).parent / "turns_provider.py", "fence", "0", CELL,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert provider.stdout
    port = int(await provider.stdout.readline())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    message = {"role": "user", "content": "x" * 1000}
    for number in range(ITERATIONS):
        messages = [message] * (2 * number + 1)
        body = json.dumps({"model": "timing", "messages": messages}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        json.loads(await reader.readexactly(length))
    writer.close()
    gaps = (await ask_told(port))["gaps"]
    provider.terminate()
    await provider.wait()
    assert isinstance(gaps, list)
    return gaps


async def fork_gaps() -> list[float]:
    """What a process of a sandbox's size takes that forks for each cell, and does nothing else."""
    process = await asyncio.create_subprocess_exec(
        launch.interpreter(), "-I", "-S", Path(__file__).parent / "bare_fork.py", launch.ROOM, CELL,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    gaps = []
    for _ in range(ITERATIONS + 1):
        begun = time.perf_counter()
        process.stdin.write(b".")
        await process.stdout.readexactly(1)
        gaps.append((time.perf_counter() - begun) * 1000)
    process.stdin.close()
    await process.wait()
    return gaps[1:]


async def main() -> None:
    names = contestants()
    bare = {"a bare client": bare_gaps, "a bare fork": fork_gaps}
    gaps: dict[str, list[list[float]]] = {name: [] for name in [*bare, *names]}
    for _ in range(ROUNDS):
        for name, measure in bare.items():
            gaps[name].append(await measure())
        for name in names:
            gaps[name].append((await play(name, [CELL] * ITERATIONS)).gaps)
    medians = {name: _median(rounds, 0, ITERATIONS) for name, rounds in gaps.items()}
    rows = [
        [
            name,
            f"{medians[name]:.2f}",
            f"{_median(rounds, 0, 10):.2f}",
            f"{_median(rounds, -10, ITERATIONS):.2f}",
            f"{medians[name] / medians[RLM]:.2f}",
        ]
        for name, rounds in gaps.items()
    ]
    title = f"One iteration of {ITERATIONS}, ms, medians over {ROUNDS} runs"
    print_table(title, ["", "all", "first ten", "last ten", "ratio to rlm"], rows)


def _median(rounds: list[list[float]], start: int, stop: int) -> float:
    return statistics.median(gap for gaps in rounds for gap in gaps[start:stop])


if __name__ == "__main__":
    asyncio.run(main())
