"""One sandbox of rlm's or a rival's, measured in a process of its own, by that package's Python.

``python rival_snippets.py SANDBOX STEP [FILE]`` prints one JSON object of seconds. A sandbox here
is ``start(context)``, ``run(code)``, which returns the output, and ``close()``.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 0.5  # seconds, for a loop that has to be stopped
CALLS = 100
ROUNDS = 30


class Rlm:
    """rlm's own, as the server uses it; the isolation mode is in the environment."""

    def __init__(self) -> None:
        from rlm_server.config import SandboxConfig
        from rlm_server.sandbox import isolation

        self.loop = asyncio.new_event_loop()
        self.config = SandboxConfig(isolation=os.environ["RLM_BENCH_MODE"])  # type: ignore[arg-type]
        self.loop.run_until_complete(isolation.choose(self.config))
        self.limit = 60.0
        self.place = Path(tempfile.mkdtemp(prefix="corpus-"))

    def settle(self) -> None:
        """Give what the server keeps warm between runs the time to become so."""
        self.loop.run_until_complete(asyncio.sleep(0.2))

    def start(self, context: str | None) -> None:
        self.loop.run_until_complete(self._start(context))

    async def _start(self, context: str | None) -> None:
        from rlm_server.config import ContextConfig
        from rlm_server.context.build import build_corpus
        from rlm_server.protocol import FileSource
        from rlm_server.sandbox import Repl
        from sandbox_support import corpus_files, echo

        files: Any
        if context:
            files = await build_corpus(
                [FileSource(path=context)],
                [],
                directory=self.place,
                config=ContextConfig(),
                on_progress=lambda documents, size: None,
            )
        else:
            files = corpus_files(Path(tempfile.mkdtemp(prefix="none-")), {"a.txt": "text\n"})
        self.repl = await Repl.start(files, config=self.config, on_call=echo)

    def run(self, code: str) -> str:
        said: list[str] = []
        self.loop.run_until_complete(
            self.repl.run(
                code, timeout=self.limit, on_output=lambda stream, text: said.append(text)
            )
        )
        return "".join(said)

    def close(self) -> None:
        self.loop.run_until_complete(self.repl.close())


class Rlms:
    """The environments of ``rlms``, with its own handler before a model that answers at once."""

    def __init__(self, name: str) -> None:
        from rlm.clients.base_lm import BaseLM
        from rlm.core.lm_handler import LMHandler
        from rlm.core.types import ModelUsageSummary, UsageSummary

        class Stub(BaseLM):  # type: ignore[misc]
            def completion(self, prompt: object) -> str:
                return "x"

            async def acompletion(self, prompt: object) -> str:
                return "x"

            def get_usage_summary(self) -> object:
                return UsageSummary(model_usage_summaries={})

            def get_last_usage(self) -> object:
                return ModelUsageSummary(1, 1, 1)

        self.address = LMHandler(Stub("stub")).start()
        self.limit: float | None = None
        self.options: dict[str, Any] = {}
        if name == "local":
            from rlm.environments.local_repl import LocalREPL as Maker
        else:
            from rlm.environments.ipython_repl import IPythonREPL as Maker

            self.options["kernel_mode"] = "subprocess"
        self.make, self.stops = Maker, name != "local"

    def start(self, context: str | None) -> None:
        text = Path(context).read_text() if context else "text"
        if self.limit and self.stops:
            self.options["cell_timeout"] = self.limit
        self.repl = self.make(self.address, context_payload=text, **self.options)

    def run(self, code: str) -> str:
        return self.repl.execute_code(code).stdout

    def close(self) -> None:
        self.repl.cleanup()


class Dspy:
    """The interpreters that ``dspy.RLM`` takes, with one tool."""

    def __init__(self, name: str) -> None:
        from dspy.primitives.local_interpreter import LocalInterpreter
        from dspy.primitives.python_interpreter import PythonInterpreter

        self.make = LocalInterpreter if name == "local" else PythonInterpreter
        self.name, self.limit = name, None

    def start(self, context: str | None) -> None:
        options = {"execution_timeout": self.limit} if self.limit and self.name == "local" else {}
        self.repl = self.make(tools={"llm_query": lambda prompt: "x"}, **options)
        names = os.environ.get("RLM_BENCH_IMPORT_MAP")
        if names and self.name != "local":
            self.repl.deno_command.insert(2, f"--import-map={names}")
        self.variables = {"context": Path(context).read_text()} if context else {}

    def run(self, code: str) -> str:
        variables, self.variables = self.variables, {}
        return str(self.repl.execute(code, variables))

    def close(self) -> None:
        self.repl.shutdown()


def seconds(action: Callable[[], object], rounds: int = 1) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def first_cell(box: Any, context: str | None = None) -> str:
    box.start(context)
    return box.run("print(len(context))" if context else "print(1)")


def basics(box: Any) -> dict[str, float]:
    """Starts, cells and calls."""
    found = {"first": seconds(lambda: first_cell(box))}
    later = []
    for _ in range(3):
        box.close()
        if isinstance(box, Rlm):
            box.settle()
        later.append(seconds(lambda: first_cell(box)))
    found["later"] = statistics.median(later)
    found["cell"] = seconds(lambda: box.run("pass"), ROUNDS)
    loop = f"for _ in range({CALLS}): answer = llm_query('x')\nprint(answer)"
    assert "x" in box.run(loop)
    found["call"] = max(seconds(lambda: box.run(loop), 3) - found["cell"], 0) / CALLS
    return found


def stop(box: Any) -> dict[str, Any]:
    """A loop stopped, from its time limit to the end of the next cell, or to the session's."""
    if isinstance(box, Rlm):
        first_cell(box)
        box.limit = LIMIT
    else:
        box.limit = LIMIT
        first_cell(box)
    box.run("kept = 'kept'")
    begun = time.perf_counter()
    lost = False
    try:
        box.run("while True: pass")
        lost = "kept" not in box.run("print(kept)")
    except Exception as error:
        if "timeout" not in str(error).lower():
            raise
        lost = True
    return {"stop": time.perf_counter() - begun - LIMIT, "lost": lost}


def context(box: Any, file: str) -> dict[str, float]:
    """From a file on disk to its length, said by a first cell."""
    begun = time.perf_counter()
    said = first_cell(box, file)
    taken = time.perf_counter() - begun
    assert said.strip() == str(Path(file).stat().st_size), said[:200] or "the cell said nothing"
    return {"context": taken}


def main(name: str, step: str, file: str | None = None) -> None:
    family, _, kind = name.partition(" ")
    box = Rlm() if family == "rlm" else {"rlms": Rlms, "dspy": Dspy}[family](kind)
    if step == "start":
        found: object = {"first": seconds(lambda: first_cell(box))}
    elif step == "basics":
        found = basics(box)
    elif step == "stop":
        found = stop(box)
    else:
        found = context(box, str(file))
    print(json.dumps(found), flush=True)
    sys.stdin.read()  # as long as its memory is looked at
    try:
        box.close()
    finally:
        os._exit(0)  # a rival's threads may not end


if __name__ == "__main__":
    main(*sys.argv[1:])
