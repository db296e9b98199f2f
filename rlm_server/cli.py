"""The command line: serve (the default), or show and tidy what a server goes by."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_server import __version__
from rlm_server.config import config_path, load_config, show_config
from rlm_server.errors import RlmError

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
    try:
        if options.command == "config":
            return _show_config()
        if options.command == "doctor":
            return asyncio.run(_doctor())
        if options.command == "models":
            from rlm_server.doors.listing import models_command

            return asyncio.run(models_command(load_config()))
        if options.command == "cache":
            from rlm_server.doors.kept import cache_command

            return asyncio.run(cache_command(load_config(), options.action))
        if options.command == "costs":
            from rlm_server.doors.kept import costs_command

            return asyncio.run(costs_command(load_config()))
        return _serve(options.tcp, options.token_file, no_cache=options.no_cache)
    except RlmError as error:
        print(f"rlm-server: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlm-server", description="The engine of rlm. Editors start it without arguments."
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
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "doctor", "config", "models", "cache", "costs"],
        default="serve",
        help="serve: the default; doctor: try every part; config: print the effective one; "
        "models: list them with their servers, prices and health; cache: show, export (as JSON "
        "lines) or clear kept answers (clear takes prepared texts along); "
        "costs: what the last months cost",
    )
    parser.add_argument(
        "action", nargs="?", choices=["show", "export", "clear"], default="show", help="for cache"
    )
    return parser


def _serve(tcp: str | None, token_file: Path | None, *, no_cache: bool) -> int:
    from rlm_server.doors import serve
    from rlm_server.models.secret import keep_out_of_core_dumps

    keep_out_of_core_dumps()
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
