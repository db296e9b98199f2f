"""The doctor: tries each part, and says for each that fails what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rlm_server.config import OFFLINE_MODEL, cache_dir, config_path, state_dir
from rlm_server.engine.run import Run
from rlm_server.engine.service import Engine
from rlm_server.errors import RlmError, SandboxError
from rlm_server.protocol import AskOptions, AskParams, DoctorRow, LimitOverrides, TextSource
from rlm_server.runs.log import RunLog
from rlm_server.sandbox import choose

_LITTLE_SPACE = 1 << 30


async def examine(engine: Engine) -> list[DoctorRow]:
    """Examine every part; takes a few seconds, costs nothing, leaves nothing behind."""
    await engine.models.warm()
    rows = [_python(), _configuration(), _directory("run logs", state_dir(), "RLM_STATE")]
    rows += [_directory("prepared contexts", cache_dir(), "RLM_CACHE"), _litellm(engine)]
    rows += [await _isolation(engine), *_models(engine)]
    rows += [await _kept_answers(engine), *await _tools(engine), await _self_test(engine)]
    return rows


def _python() -> DoctorRow:
    version = ".".join(map(str, sys.version_info[:3]))
    return DoctorRow(part="Python", status="ok", detail=f"{version} at {sys.executable}")


def _configuration() -> DoctorRow:
    path = config_path()
    # A file that can't be used ends the server's start with its own message.
    detail = str(path) if path.exists() else f"{path} does not exist; defaults are used"
    return DoctorRow(part="configuration", status="ok", detail=detail)


def _directory(part: str, path: Path, variable: str) -> DoctorRow:
    if not os.access(path, os.W_OK):
        cure = f"Make it writable, or set {variable} to another directory."
        return DoctorRow(part=part, status="failure", detail=f"{path} is read-only", cure=cure)
    free = shutil.disk_usage(path).free
    detail = f"{path}, {free / (1 << 30):.1f} GiB free"
    if free < _LITTLE_SPACE:
        cure = f"Free some space, or set {variable} to another directory."
        return DoctorRow(part=part, status="warning", detail=detail, cure=cure)
    return DoctorRow(part=part, status="ok", detail=detail)


def _litellm(engine: Engine) -> DoctorRow:
    if engine.models.ready:
        return DoctorRow(part="litellm", status="ok", detail="imported")
    return DoctorRow(
        part="litellm",
        status="failure",
        detail="can't be imported; only the embedded model works",
        cure="Install the server again: M-x rlm-install-server.",
    )


async def _isolation(engine: Engine) -> DoctorRow:
    part = "isolation of the model's code"
    try:
        isolation = await choose(engine.config.sandbox)
    except SandboxError as error:
        return DoctorRow(part=part, status="failure", detail=error.message, cure=error.cure)
    stopped = sum(outcome != "open" for outcome in isolation.canaries.values())
    detail = f"{isolation.mode}; {stopped} of {len(isolation.canaries)} attempts to get out failed"
    if isolation.limits:
        detail += "; note: " + "; ".join(isolation.limits)
    if isolation.mode == "none":
        cure = 'Take isolation = "none" out of [sandbox] in the configuration.'
        return DoctorRow(part=part, status="failure", detail=detail, cure=cure)
    return DoctorRow(part=part, status="ok", detail=detail)


def _models(engine: Engine) -> list[DoctorRow]:
    models = engine.models
    rows = []
    for info in models.list():
        uses = [
            role for role, name in (("root", models.root), ("sub", models.sub)) if name == info.name
        ]
        detail = f"{info.model} ({info.source}), key {info.key}"
        if uses:
            detail += f"; the default {' and '.join(uses)} model"
        missing = info.key == "missing"
        cure = "Put its key into the environment or auth-source, or set key-env for it."
        rows.append(
            DoctorRow(
                part=f"model {info.name}",
                status="warning" if missing else "ok",
                detail=detail,
                cure=cure if missing else "",
            )
        )
    if models.root == OFFLINE_MODEL:
        rows.append(
            DoctorRow(
                part="a model that reasons",
                status="warning",
                detail="none is configured; the embedded one only finds and quotes",
                cure="Start Ollama, set a provider's key, or write [models.NAME] into "
                f"{config_path()}.",
            )
        )
    return rows


async def _kept_answers(engine: Engine) -> DoctorRow:
    part = "kept answers"
    store = engine.models.cache.store
    if store is None:
        return DoctorRow(part=part, status="ok", detail="not enabled")
    try:
        stats = await store.stats()
    except RlmError as error:
        return DoctorRow(part=part, status="warning", detail=error.message, cure=error.cure)
    return DoctorRow(part=part, status="ok", detail=f"{stats.entries:,} in {stats.place}")


async def _tools(engine: Engine) -> list[DoctorRow]:
    """Nothing where none are configured."""
    if engine.toolbox.empty:
        return []
    problems = await engine.toolbox.find()
    names = [info.name for info in engine.toolbox.infos]
    detail = f"{len(names)}: {', '.join(names)}" if names else "none can be offered"
    part = "tools of the model's code"
    cure = "Correct the table in the configuration; rlm-server tools lists what there is."
    return [
        DoctorRow(part=part, status="ok" if names else "warning", detail=detail, cure=""),
        *(DoctorRow(part=part, status="failure", detail=each, cure=cure) for each in problems),
    ]


async def _self_test(engine: Engine) -> DoctorRow:
    """Ask the embedded model a small question through the whole loop."""
    part = "question through the whole loop"
    params = AskParams(
        question="Where does the lighthouse stand?",
        sources=[
            TextSource(text="A mill stands by the river.\nThe lighthouse stands on a cliff.\n")
        ],
        options=AskOptions(
            root_model=OFFLINE_MODEL, sub_model=OFFLINE_MODEL, limits=LimitOverrides(seconds=30)
        ),
    )
    with tempfile.TemporaryDirectory(prefix="rlm-doctor-") as name:
        directory = Path(name)
        try:
            log = RunLog(directory / "run.jsonl")
            run = Run(
                "doctor",
                params,
                config=engine.config,
                models=engine.models,
                isolation=await choose(engine.config.sandbox),
                log=log,
                directory=directory / "context",
            )
            await run.start()
        except (RlmError, OSError) as error:
            return DoctorRow(part=part, status="failure", detail=str(error), cure="See above.")
        text = await asyncio.to_thread(log.path.read_text, "utf-8")
    if run.ended is None or run.ended.status != "done" or "cliff" not in text:
        reason = run.ended.reason if run.ended else "it did not end"
        cure = "The server's messages tell more: M-x rlm-status, or run rlm-server doctor."
        return DoctorRow(part=part, status="failure", detail=reason, cure=cure)
    seconds = run.ended.seconds
    return DoctorRow(part=part, status="ok", detail=f"answered in {seconds:.1f} s")
