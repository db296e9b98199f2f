"""``rlm-server ask``: one question from a shell, its answer on standard output."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from contextlib import aclosing
from pathlib import Path

import msgspec

from rlm_server.engine.service import Engine
from rlm_server.errors import SchemaError, SourceError
from rlm_server.protocol import (
    Answer,
    AnyEvent,
    AskOptions,
    AskParams,
    FileSource,
    Notice,
    Provenance,
    RunEnded,
    Source,
    TextSource,
    TreeSource,
)
from rlm_server.runs.export import figures


async def ask_command(engine: Engine, asked: Namespace, options: AskOptions) -> int:
    """Ask, print the answer, and return the exit status: 0 only for an answer that is complete.

    Notices, and what there is of an answer that isn't, go to standard error. Raises RlmError.
    """
    if asked.schema:
        options.schema = await asyncio.to_thread(_read_schema, asked.schema)
    sources = [await asyncio.to_thread(_source, path) for path in asked.paths]
    run = await engine.ask(
        AskParams(question=asked.question, sources=sources, options=options, project=asked.project)
    )
    text, typed, end = "", False, None
    drawn: Provenance | None = None
    async with aclosing(engine.follow(run.run_id, 0)) as lines:
        async for line in lines:
            event = msgspec.json.decode(line, type=AnyEvent)
            if isinstance(event, Notice):
                print(f"{event.level}: {event.text}", file=sys.stderr)
            elif isinstance(event, Answer):
                text, typed = text + event.text, event.typed
            elif isinstance(event, Provenance):
                drawn = event
            elif isinstance(event, RunEnded):
                end = event
                break  # it rests now, for questions that nobody here can ask
    if drawn is not None:
        tell_provenance(drawn)
    if end is not None and end.status == "done" and typed == (asked.schema is not None):
        print(text)
        return 0
    if text:
        print(text, file=sys.stderr)
    print(f"rlm-server: {end.reason if end else 'The run has no end.'}", file=sys.stderr)
    return 1


def tell_provenance(told: Provenance) -> None:
    """Say on standard error what the answer is drawn from, and what of it can't be found."""
    if sentence := figures.drawn(told):
        print(sentence, file=sys.stderr)
    for quote in told.quotes:
        if doubt := figures.doubt(quote):
            print(f"warning: {doubt}: {' '.join(quote.text.split())}", file=sys.stderr)


def _source(path: str) -> Source:
    """What a path on the command line means; ``-`` is standard input."""
    if path == "-":
        return TextSource(text=sys.stdin.read(), name="stdin")
    absolute = Path(path).absolute()
    if absolute.is_dir():
        return TreeSource(root=str(absolute))
    if not absolute.exists():
        raise SourceError(f"There is no {path}.", cure="Name files and directories that exist.")
    return FileSource(path=str(absolute))


def _read_schema(path: Path) -> dict[str, object]:
    """Raises SchemaError."""
    try:
        schema = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path} can't be read as JSON: {error}.", cure="Check it.") from error
    if not isinstance(schema, dict):
        raise SchemaError(f"{path} holds no JSON Schema.", cure="It has to be a JSON object.")
    return schema
