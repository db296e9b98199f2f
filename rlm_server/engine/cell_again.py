"""A recorded cell is run anew for what it makes of the namespace; what came of it is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from rlm_server.engine.replay import Replay
from rlm_server.protocol import CellDone, Output
from rlm_server.runs.recorded import PastCell
from rlm_server.sandbox import CellResult, Repl
from rlm_server.sandbox.clip import Clip

SECONDS = 3600.0
"""What a cell that came to its end may take; its sub-calls cost no time now."""

LOOK_SECONDS = 0.02
"""How often it is looked whether a cell has come to where it was stopped."""

GRACE_SECONDS = 0.2
"""What a cell gets beyond what is known of it, before it is stopped there."""


class Run(Protocol):
    """Runs the cell's code."""

    def __call__(
        self, *, timeout: float, on_output: Callable[[str, str], None]
    ) -> Awaitable[CellResult]:
        """As ``Repl.run`` does, but for what is fixed already."""


async def run_again(
    repl: Repl,
    run: Run,
    past: PastCell,
    replay: Replay,
    tell: Callable[[str, str], None],
    show: int,
) -> CellResult:
    """Bring the namespace to where the recorded cell left it, and give the recorded result.

    ``tell`` takes a node and a text for the person at the screen. A cell that had to be killed
    never happened, so it is not run; one that an interrupt has stopped is stopped where it was.
    """
    done = past.done
    assert done is not None
    recorded = _recorded(past, done, show)
    if done.undone:
        await repl.skip(kept=done.kept)
        return recorded
    if not done.kept:
        await repl.forget()
    replay.running.add(past.started.node)
    try:
        result = await _run(repl, run, past, done, replay)
    finally:
        replay.running.discard(past.started.node)
    if result.status != done.status and done.status in ("ok", "error"):
        tell(
            past.started.node,
            f"Run anew, a cell ended otherwise than before ({result.error or result.status}). "
            "The model goes by what it was told then.",
        )
    recorded.answer, recorded.ready = result.answer, result.ready
    recorded.read, recorded.looked_at = result.read, result.looked_at
    return recorded


async def _run(repl: Repl, run: Run, past: PastCell, done: CellDone, replay: Replay) -> CellResult:
    printed = 0

    def count(stream: str, text: str) -> None:
        nonlocal printed
        printed += len(text)

    if done.status in ("ok", "error"):
        return await run(timeout=SECONDS, on_output=count)
    asked = replay.asked(past.started.node) + len(past.calls) - done.in_vain
    length = sum(len(output.text) for output in _before_its_end(past))

    def there() -> bool:
        return printed >= length and replay.asked(past.started.node) >= asked

    async def stop() -> None:
        while not there():  # noqa: ASYNC110 - two things to wait for, and soon over
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(GRACE_SECONDS)
        repl.interrupt()

    stopping = asyncio.create_task(stop(), name="stop a cell where it was stopped")
    try:
        return await run(timeout=max(1.0, done.seconds), on_output=count)
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


def _before_its_end(past: PastCell) -> list[Output]:
    """What a cell printed before it was stopped: without the traceback, which comes after."""
    printed = list(past.printed)
    while printed and printed[-1].stream == "stderr":
        printed.pop()
    return printed


def _recorded(past: PastCell, done: CellDone, show: int) -> CellResult:
    output = Clip(show)
    for piece in past.printed:
        output.add(piece.text)
    return CellResult(
        status=done.status,
        error=done.error,
        output=output.text(),
        output_characters=done.output_characters,
        seconds=done.seconds,
        kept=done.kept,
        undone=done.undone,
        answer=None,
        ready=False,
    )
