"""The command line: serve (the default), or show and tidy what a server goes by."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rlm_server import __version__
from rlm_server.config import config_path, load_config, show_config
from rlm_server.core_dumps import keep_out_of_core_dumps
from rlm_server.doors.again import add_commands
from rlm_server.doors.past import add_runs, runs_command
from rlm_server.errors import RlmError
from rlm_server.protocol import ExportFormat

if TYPE_CHECKING:
    from rlm_server.engine.service import Engine


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status: 0, 1 for a failure, 2 for a wrong use."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if arguments is None:  # as a program; what calls this otherwise has keys of its own, or none
        keep_out_of_core_dumps()
    try:
        status = _run(options)
        print(end="", flush=True)  # while what goes wrong with it can still be told apart
        return status
    except RlmError as error:
        print(f"rlm-server: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads has enough, such as head; Python would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    """Run the command that was named; each imports what it needs."""
    match options.command:
        case "ask":
            return asyncio.run(_ask(options))
        case "config":
            return _show_config()
        case "doctor":
            return asyncio.run(_doctor())
        case "models":
            from rlm_server.doors.listing import models_command

            return asyncio.run(models_command(load_config()))
        case "cache":
            from rlm_server.doors.kept import cache_command

            return asyncio.run(cache_command(load_config(), options.action))
        case "costs":
            from rlm_server.doors.kept import costs_command

            return asyncio.run(costs_command(load_config()))
        case "mark":
            from rlm_server.doors.reflecting import mark_command

            good = {"good": True, "bad": False, "none": None}[options.mark]
            return mark_command(options.run, good, " ".join(options.reason))
        case "reflect":
            from rlm_server.doors.reflecting import reflect_command

            return asyncio.run(reflect_command(load_config(), options.model, accept=options.accept))
        case "tools":
            from rlm_server.doors.offering import tools_command

            return asyncio.run(tools_command(load_config()))
        case "export":
            from rlm_server.doors.exporting import export_command

            return export_command(options.run, options.format, options.output)
        case "resume" | "fork" | "rerun":
            return asyncio.run(_again(options))
        case "runs":
            return runs_command(options)
    return _serve(options.tcp, options.token_file, no_cache=options.no_cache)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlm-server",
        description="The engine of rlm. Editors start it without arguments.",
    )
    parser.add_argument("--version", action="version", version=f"rlm-server {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log every step to standard error")
    parser.add_argument(
        "--tcp", metavar="HOST:PORT", help="serve many clients on a loopback port (0: any free one)"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="where to write the token TCP clients send"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="neither use kept answers nor keep new ones"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="answer clients; what is done without a command")
    ask = commands.add_parser("ask", help="ask a question, and print its answer")
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument("paths", nargs="+", metavar="PATH", help="file or directory; -: what is piped")
    ask.add_argument("--schema", type=Path, metavar="FILE", help="JSON Schema of the answer")
    ask.add_argument("--model", metavar="NAME", help="root model")
    ask.add_argument("--sub-model", metavar="NAME", help="model for sub-calls")
    ask.add_argument("--profile", metavar="NAME", help="how the root model is spoken to")
    ask.add_argument("--project", metavar="NAME", help="project that it counts for in costs")
    ask.add_argument(
        "--direct", action=argparse.BooleanOptionalAction, default=None,
        help="send a text that fits straight to the model, or never; default: as its profile says",
    )  # fmt: skip
    commands.add_parser("doctor", help="try every part, and say what to do about what fails")
    commands.add_parser("config", help="print the effective configuration")
    commands.add_parser("models", help="list the models with their servers, prices and health")
    cache = commands.add_parser("cache", help="what answers and texts are kept")
    cache.add_argument(
        "action", nargs="?", choices=["show", "export", "clear"], default="show",
        help="show place and size, export answers as JSON lines, or clear answers and texts",
    )  # fmt: skip
    commands.add_parser("costs", help="what the last months cost")
    mark = commands.add_parser("mark", help="say that a run was good or bad, and why")
    mark.add_argument("run", metavar="RUN", help="its id or the beginning of it, a log, or last")
    mark.add_argument("mark", choices=["good", "bad", "none"], help="none: take the mark back")
    mark.add_argument("reason", nargs="*", metavar="REASON")
    reflect = commands.add_parser("reflect", help="what marked runs teach, as a diff of the notes")
    reflect.add_argument("--model", metavar="NAME", help="who proposes; default: the root model")
    reflect.add_argument("--accept", action="store_true", help="ask about each change")
    commands.add_parser("tools", help="list the tools that the model's code may call")
    export = commands.add_parser("export", help="a run in a form that others read")
    export.add_argument("run", metavar="RUN", help="its id or the beginning of it, a log, or last")
    export.add_argument(
        "--format", choices=get_args(ExportFormat), default="html",
        help="html: one page, the default; markdown; python: its code as one script; "
        "rlms: the log of the reference engine, for its visualiser",
    )  # fmt: skip
    export.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    add_commands(commands)
    add_runs(commands.add_parser("runs", help="list past runs, or remove old or large ones"))
    return parser


def _serve(tcp: str | None, token_file: Path | None, *, no_cache: bool) -> int:
    gc.disable()  # what is imported is no garbage; to look for some took a twelfth of the start
    from rlm_server.doors import serve
    from rlm_server.models.open_files import allow_many

    gc.freeze()
    gc.enable()
    allow_many()
    stdout = serve.guard_stdout()
    address = serve.parse_address(tcp) if tcp else None

    async def run() -> None:
        engine = _engine(no_cache=no_cache)
        warming = asyncio.create_task(engine.warm())
        try:
            if address:
                await serve.serve_tcp(engine, *address, token_file)
            else:
                await serve.serve_stdio(engine, stdout)
        finally:
            await engine.close()
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
        # Not by returning, which would wait for the thread that may still be importing litellm.
        sys.stderr.flush()
        os._exit(0)

    asyncio.run(run())
    return 0


async def _ask(options: argparse.Namespace) -> int:
    from rlm_server.doors.asking import ask_command
    from rlm_server.protocol import AskOptions

    asked = AskOptions(
        root_model=options.model,
        sub_model=options.sub_model,
        profile=options.profile,
        direct=options.direct,
    )
    engine = _engine(no_cache=options.no_cache)
    try:
        return await ask_command(engine, options, asked)
    finally:
        await engine.close()


async def _doctor() -> int:
    from rlm_server.engine.doctor import examine

    engine = _engine()
    try:
        rows = await examine(engine)
    finally:
        await engine.close()
    width = max(len(row.part) for row in rows)
    for row in rows:
        print(f"{row.status:8} {row.part:{width}}  {row.detail}")
        if row.cure:
            print(f"{'':8} {'':{width}}  → {row.cure}")
    return int(any(row.status == "failure" for row in rows))


async def _again(options: argparse.Namespace) -> int:
    from rlm_server.doors.again import again_command

    engine = _engine()
    try:
        return await again_command(engine, options)
    finally:
        await engine.close()


def _show_config() -> int:
    path = config_path()
    config = load_config(path)
    print(f"# {path}{'' if path.exists() else ' does not exist; these are the defaults'}")
    print(show_config(config), end="")
    return 0


def _engine(*, no_cache: bool = False) -> Engine:
    from rlm_server.engine.service import Engine
    from rlm_server.models import Models

    config = load_config()
    config.cache.enabled = config.cache.enabled and not no_cache
    return Engine(config, Models(config))
