"""A look at the variables between two cells: without effect, and bounded in time and size."""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from rlm_server.errors import SandboxError
from rlm_server.sandbox.frames import FrameError
from rlm_server.sandbox.messages import Look, Looked
from rlm_server.sandbox.worker import Worker

LOOK_SECONDS = 3.0


async def look(
    worker: Worker,
    name: str | None,
    start: int,
    length: int,
    *,
    trusting: bool = True,
    keep: bool = False,
) -> Looked:
    """Have variables described; where there are checkpoints, in a fork that is thrown away.

    With ``keep``, that fork becomes the namespace, which ends the threads that earlier cells have
    left. Raises SandboxError where nothing came of it; ``worker.usable`` tells then whether the
    variables are still there.
    """
    checkpoints = worker.started.checkpoints
    token = secrets.token_hex(8)
    order = Look(token, name, start, length, trusting=trusting and checkpoints)
    looked: Looked | None = None
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await worker.begin(msgspec.json.encode(order))
            looked = await _answer(worker, token)
        problem = looked.error
    except TimeoutError:
        problem = f"describing it took longer than {LOOK_SECONDS:g} seconds"
    except (EOFError, FrameError) as error:
        problem = str(error) or "the REPL process ended"
    finally:
        if looked is not None and (keep or not looked.forked):
            worker.commit()
        elif not (await worker.undo()).kept:
            problem = "the variables are lost, since the REPL process ended"
            looked = None
    if looked is None or problem:
        raise SandboxError(f"Nothing can be shown: {problem}.")
    return looked


async def _answer(worker: Worker, token: str) -> Looked:
    """The answer; whatever else the process says is passed over, calls of models included."""
    while True:
        message = await worker.frames.get()
        if isinstance(message, Looked) and message.token == token:
            return message
