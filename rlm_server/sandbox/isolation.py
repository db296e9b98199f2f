"""Chooses how code is contained, by trying; what can't be enforced is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.protocol import Isolation, IsolationMode
from rlm_server.sandbox import launch, packages
from rlm_server.sandbox.messages import ToolStub
from rlm_server.sandbox.plain_worker import PlainWorker
from rlm_server.sandbox.pool import pool
from rlm_server.sandbox.selftest import Verdict, try_out
from rlm_server.sandbox.worker import CorpusFiles, Worker

_LIMITS = {
    "full": [],
    "base": [
        "files outside can't be opened, but their names and sizes can be asked for",
        "scratch space is watched four times a second, not capped by the kernel",
    ],
    "seatbelt": [
        "this mode has not been tested",
        "memory is not limited by the system",
        "scratch space is limited for each file only",
    ],
    "none": ["nothing is contained: the model's code may do whatever this user may"],
}
_WITHOUT_CHECKPOINTS = (
    "a cell that has to be killed takes the variables of earlier cells along, "
    "and its processor time is not limited"
)
_TWICE = "a cell and its checkpoint may each use the memory limit"


_known: dict[str, Isolation] = {}


def last() -> Isolation | None:
    """Return the isolation that was chosen last, None before the first."""
    return next(reversed(_known.values()), None)


async def choose(config: SandboxConfig) -> Isolation:
    """Return the strongest isolation that passes its self-test; tried once per server.

    Raises SandboxError where none does and the configuration does not allow ``none``.
    """
    key = f"{config.isolation} {json.dumps(launch.overrides)}"
    if key not in _known:
        _known[key] = await _choose(config)
    return _known[key]


async def prepare(config: SandboxConfig) -> Isolation:
    """Choose the isolation and start the warm sandboxes, so that the first run need not wait."""
    isolation = await choose(config)
    if _zygote_works():
        place = packages.directory_for(config.packages)
        pool.fill(launch.request(config, isolation.mode, place), config.warm)
    return isolation


async def open_worker(
    mode: str, corpus: CorpusFiles, config: SandboxConfig, tools: Sequence[ToolStub] = ()
) -> Worker:
    """Start a process of this mode that has the corpus open; raises SandboxError."""
    request = launch.request(config, mode, packages.directory_for(config.packages))
    if not _zygote_works():
        return await PlainWorker.start(corpus, config, request, tools)
    from rlm_server.sandbox.linux_worker import LinuxWorker

    return await LinuxWorker.start(pool.take(request, config.warm), corpus, config, tools)


async def _open(mode: str, config: SandboxConfig, corpus: CorpusFiles) -> Worker:
    return await open_worker(mode, corpus, config)


def _zygote_works() -> bool:
    return sys.platform == "linux"


def _candidates(config: SandboxConfig) -> list[IsolationMode]:
    if config.isolation != "auto":
        return [config.isolation]
    return ["seatbelt"] if sys.platform == "darwin" else ["full", "base"]


async def _choose(config: SandboxConfig) -> Isolation:
    refused: dict[str, str] = {}
    # The trial needs no packages, and nothing should wait in the pool for another.
    modest = msgspec.structs.replace(config, packages=[], warm=0)
    for mode in _candidates(config):
        try:
            verdict = await try_out(partial(_open, mode, modest), modest)
        except SandboxError as error:
            refused[mode] = error.message
            continue
        if mode == "none" or not verdict.holes:
            return _isolation(mode, verdict, refused)
        refused[mode] = "open from inside: " + ", ".join(verdict.holes)
    reasons = "; ".join(f"{mode}: {reason}" for mode, reason in refused.items())
    raise SandboxError(
        f"The model's code can't be contained on this machine ({reasons}).",
        cure="If you accept that it can do whatever you can, set isolation to none in [sandbox].",
    )


def _isolation(mode: IsolationMode, verdict: Verdict, refused: dict[str, str]) -> Isolation:
    limits = list(_LIMITS[mode])
    limits.append(_TWICE if verdict.checkpoints else _WITHOUT_CHECKPOINTS)
    return Isolation(
        mode=mode,
        checkpoints=verdict.checkpoints,
        mapped=verdict.mapped,
        canaries=verdict.canaries,
        limits=limits,
        refused=refused,
    )
