"""A run with a scripted model, and everything else real: corpus, REPL process, ledger, log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from rlm_server.config import Config
from rlm_server.context.store import Store
from rlm_server.engine.past import Past
from rlm_server.engine.run import Run
from rlm_server.errors import UnknownModelError
from rlm_server.models import Account, Completion, Fate, Listener, Message, Priority
from rlm_server.protocol import (
    AnyEvent,
    AskOptions,
    AskParams,
    FollowUpOptions,
    Isolation,
    LimitOverrides,
    Limits,
    RunEnded,
    Source,
    TextSource,
    Usage,
)
from rlm_server.runs.chain import events_of, numbers
from rlm_server.runs.log import RunLog
from rlm_server.runs.recorded import Record
from rlm_server.tools import Toolbox

ISOLATION = Isolation(
    mode="base", checkpoints=True, mapped=True, canaries={}, limits=[], refused={}
)

Scripted = str | Exception | Callable[[Sequence[Message]], Any]


class ScriptedModels:
    """Stands in for ``Models``: the root says its lines in order, the sub model one function."""

    root, sub, ready = "root", "sub", True
    semantic = None

    def __init__(
        self, replies: Sequence[Scripted], sub: Callable[[str], Any] = lambda prompt: "sub-answer"
    ) -> None:
        self.replies = list(replies)
        self.answer_sub = sub
        self.prompts: list[list[Message]] = []
        self.asked: list[tuple[str, Priority | None]] = []
        """The name and the priority of each call, in their order."""
        self.in_flight = 0
        self.prices: dict[str, tuple[float | None, float | None]] = {}
        self.windows: dict[str, int] = {}
        self.ids: dict[str, str] = {}

    def resolve(self, name: str | None, *, default: str) -> str:
        if not (name or default).startswith(("root", "sub")):
            raise UnknownModelError(f"no model {name}")
        return name or default

    def check(self, name: str) -> None:
        pass

    def price(self, name: str, prompt_tokens: int = 0) -> tuple[float | None, float | None]:
        return self.prices.get(name, (0.0, 0.0))

    def model_id(self, name: str) -> str:
        return self.ids.get(name, f"scripted/{name}")

    def window(self, name: str) -> int | None:
        return self.windows.get(name)

    def cost(self, name: str, usage: Usage) -> float | None:
        prompt, completion = self.price(name)
        if prompt is None or completion is None:
            return None
        return (usage.prompt_tokens * prompt + usage.completion_tokens * completion) / 1e6

    def charge(self, name: str, usage: Usage, account: Account) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def complete(
        self,
        name: str,
        messages: Sequence[Message],
        *,
        listener: Listener | None = None,
        max_tokens: int | None = None,
        priority: Priority | None = None,
        account: Account | None = None,
        fate: Fate | None = None,
    ) -> Completion:
        self.asked.append((name, priority))
        self.in_flight += 1
        fate = fate or Fate()
        fate.under_way += 1
        try:
            text = await self._say(name, messages)
        finally:
            self.in_flight -= 1
        if listener:
            for start in range(0, len(text), 7):
                listener.delta("text", text[start : start + 7])
        usage = Usage(prompt_tokens=10, completion_tokens=len(text) // 4)
        usage.cost = self.cost(name, usage)
        return Completion(text=text, usage=usage, model=name, seconds=0.0)

    async def _say(self, name: str, messages: Sequence[Message]) -> str:
        if name.startswith("root"):
            # The list is the engine's own and grows; what was asked is what it was then.
            self.prompts.append(list(messages))
            said = self.replies.pop(0) if self.replies else "I have nothing more to say."
            if callable(said):
                said = said(messages)
        else:
            said = self.answer_sub(messages[-1]["content"])
        if asyncio.iscoroutine(said):
            said = await said
        if isinstance(said, Exception):
            raise said
        return said


class Played:
    """A run that has been played, or is being played."""

    def __init__(self, run: Run, models: ScriptedModels) -> None:
        self.run = run
        self.models = models
        self.task: asyncio.Task[None] | None = None

    @property
    def events(self) -> list[AnyEvent]:
        lines = events_of(self.run.log.path)
        return [msgspec.json.decode(line, type=AnyEvent) for line in lines]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def event(self, kind: type, **fields: Any) -> Any:
        """Wait for the first event of a kind that has these fields."""
        async with asyncio.timeout(60):
            while True:
                size = self.run.log.size
                for event in self.of(kind):
                    if all(getattr(event, name) == value for name, value in fields.items()):
                        return event
                assert not self.run.log.closed, self.events
                await self.run.log.grown(size)

    async def ended(self) -> RunEnded:
        """Wait for the end of the first question."""
        assert self.task
        await asyncio.wait_for(asyncio.shield(self.task), 50)
        return self.end

    async def ask_on(self, question: str, **options: Any) -> None:
        """Ask a further question and wait for its end."""
        task = self.run.follow_up(question, FollowUpOptions(**options))
        await asyncio.wait_for(task, 50)

    @property
    def end(self) -> RunEnded:
        assert self.run.ended
        return self.run.ended

    @property
    def answer(self) -> str:
        return "".join(e.text for e in self.events if type(e).__name__ == "Answer")

    def told(self, turn: int) -> str:
        """What the root model was told before its reply number ``turn``, from 0."""
        return self.models.prompts[turn][-1]["content"]


def prepare(
    tmp_path: Path,
    replies: Sequence[Scripted],
    *,
    sub: Callable[[str], Any] = lambda prompt: "sub-answer",
    sources: Sequence[Source] = (TextSource(text="alpha\nbeta\ngamma\n", name="greek.txt"),),
    config: Config | None = None,
    store: Store | None = None,
    prices: dict[str, tuple[float | None, float | None]] | None = None,
    options: AskOptions | None = None,
    windows: dict[str, int] | None = None,
    ids: dict[str, str] | None = None,
    question: str = "What is in it?",
    toolbox: Toolbox | None = None,
    approve: bool = False,
    rest: bool = False,
    **limits: Any,
) -> Played:
    """Make a run that is not started yet; one that is to ``rest`` has to be closed."""
    models = ScriptedModels(replies, sub)
    models.prices = prices or {}
    models.windows = windows or {}
    models.ids = ids or {}
    options = msgspec.structs.replace(
        options or AskOptions(), limits=LimitOverrides(**limits), approve=approve
    )
    params = AskParams(question=question, sources=list(sources), options=options)
    run = Run(
        "test",
        params,
        config=config or Config(),
        models=models,  # type: ignore[arg-type]
        isolation=ISOLATION,
        log=RunLog(tmp_path / "test.jsonl"),
        directory=tmp_path / "context",
        store=store,
        toolbox=toolbox,
        rest=rest,
    )
    return Played(run, models)


def resume(
    tmp_path: Path,
    log: bytes,
    models: ScriptedModels,
    *,
    sources: Sequence[Source] = (TextSource(text="alpha\nbeta\ngamma\n", name="greek.txt"),),
    config: Config | None = None,
    limits: Limits | None = None,
    toolbox: Toolbox | None = None,
) -> Played:
    """Let a run go on whose log holds these bytes; it is not started yet."""
    path = tmp_path / "test.jsonl"
    path.write_bytes(log)
    run_log = RunLog(path, again=True)
    record = Record(events_of(path))
    past = Past(
        record=record,
        corpus=None,
        seq=numbers(path).free,
        limits=limits or record.limits or Limits(),
        seed=record.seed,
    )
    params = AskParams(question="What is in it?", sources=list(sources))
    run = Run(
        "test",
        params,
        config=config or Config(),
        models=models,  # type: ignore[arg-type]
        isolation=ISOLATION,
        log=run_log,
        directory=tmp_path / "context",
        past=past,
        toolbox=toolbox,
    )
    return Played(run, models)


async def play(tmp_path: Path, replies: Sequence[Scripted], **options: Any) -> Played:
    """Play a run to its end."""
    played = prepare(tmp_path, replies, **options)
    await asyncio.wait_for(played.run.start(), 50)
    return played


@asynccontextmanager
async def played(
    tmp_path: Path, replies: Sequence[Scripted], *, rest: bool = True, **options: Any
) -> AsyncIterator[Played]:
    """Start a run that rests when it has ended; close it at last."""
    made = prepare(tmp_path, replies, rest=rest, **options)
    task = made.run.start()
    made.task = task
    try:
        yield made
    finally:
        made.run.cancel(None)
        if made.run.steering.paused:
            made.run.steering.pause(False)
        await asyncio.wait({task}, timeout=50)
        await made.run.close()


def cell(code: str) -> str:
    """A reply with one cell."""
    return f"I run this.\n```repl\n{code}\n```\n"


def final(content: str = '"42"') -> str:
    """A reply that reads the context and answers."""
    return cell(f'context\nanswer["content"] = {content}\nanswer["ready"] = True')
