"""Keys from where people keep them: a command that prints one, or the desktop's keyring."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from rlm_server.errors import NoKeyError
from rlm_server.models.deployments import Deployment
from rlm_server.models.secret import Secret

WAIT_SECONDS = 10.0
"""For a program or a keyring to answer; it may have to ask for a passphrase."""

AGAIN_SECONDS = 60.0
"""Between two looks for a key in place of one that was refused: a program may ask a person."""


class KeySources:
    """Gets each key when it is first needed, and keeps it in memory only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """The clock is in seconds."""
        self._clock = clock
        self._looked_again: dict[str, float] = {}
        self._found: dict[str, Secret] = {}
        self._looking: dict[str, asyncio.Task[Secret]] = {}

    def found(self, deployment: Deployment) -> Secret | None:
        """The key, where it has been got already."""
        return self._found.get(deployment.name)

    async def get(self, deployment: Deployment) -> Secret:
        """The key. Raises NoKeyError; the next call tries again."""
        name = deployment.name
        if name in self._found:
            return self._found[name]
        if name not in self._looking:
            self._looking[name] = asyncio.create_task(self._look(deployment))
            self._looking[name].add_done_callback(lambda _: self._looking.pop(name))
        # Many calls may wait for one passphrase; one that is cancelled leaves it to the others.
        return await asyncio.shield(self._looking[name])

    async def get_newer(self, deployment: Deployment, refused: Secret) -> Secret:
        """The key after one was refused: looked for anew, at most once in a while.

        Calls that were refused together look together. Raises NoKeyError.
        """
        name = deployment.name
        if self._found.get(name) == refused and name not in self._looking:
            now = self._clock()
            if now - self._looked_again.get(name, -math.inf) < AGAIN_SECONDS:
                return refused
            self._looked_again[name] = now
            del self._found[name]
        return await self.get(deployment)

    async def _look(self, deployment: Deployment) -> Secret:
        command, service = deployment.settings.key_command, deployment.settings.key_keyring
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                text = await (_of_command(command) if command else _of_keyring(service or ""))
        except TimeoutError:
            failure = f"did not answer within {WAIT_SECONDS:g} s"
        except _NotFoundError as error:
            failure = str(error)
        else:
            self._found[deployment.name] = Secret(text)
            return self._found[deployment.name]
        source = f"{command[0]!r} of key-command" if command else "the keyring of key-keyring"
        raise NoKeyError(
            f"{deployment.name} needs a key, and {source} {failure}.",
            cure=f"Try it in a terminal, or correct {deployment.setting} in the configuration.",
        )


class _NotFoundError(Exception):
    """The message says what the source did; never what it printed."""


async def _of_command(command: Sequence[str]) -> str:
    """The first line that a program prints; what it says on standard error is nobody's business."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # so that all it started can be ended with it
        )
    except OSError as error:
        raise _NotFoundError(f"can't be started: {error.strerror}") from None
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise _NotFoundError(f"ended with status {process.returncode}")
    return _checked(printed.decode("utf-8", "replace").partition("\n")[0])


async def _of_keyring(place: str) -> str:
    """The password of ``SERVICE/USER``; looked up in a thread, since desktops may ask for it."""
    try:
        keyring: Any = await asyncio.to_thread(importlib.import_module, "keyring")
    except ImportError:
        raise _NotFoundError("can't be asked: rlm-server[keyring] is not installed") from None
    service, _, user = place.rpartition("/")
    try:
        found = await asyncio.to_thread(keyring.get_password, service, user)
    except Exception as error:  # whatever a desktop's service raises
        raise _NotFoundError(f"failed: {type(error).__name__}") from None
    if found is None:
        raise _NotFoundError("has no such entry")
    return _checked(found)


def _checked(text: str) -> str:
    if not text.strip():
        raise _NotFoundError("gave nothing")
    return text.strip()
