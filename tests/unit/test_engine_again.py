"""Runs that rest, and are resumed, in one server or in two."""

import asyncio

import pytest

from engine_harness import cell, final
from rlm_server.config import Config, SandboxConfig
from rlm_server.engine.steering import Decision
from rlm_server.errors import BusyError, LogError, NotResumableError
from rlm_server.protocol import (
    Answer,
    ApprovalWanted,
    AskOptions,
    CellDone,
    CellStarted,
    ForkParams,
    LimitOverrides,
    ReplyDone,
    ResumeParams,
)
from scripted_engine import ask, at_rest, engine, events, home

__all__ = ["home"]
pytestmark = pytest.mark.usefixtures("home")

MORE = LimitOverrides(iterations=9)


async def test_a_run_that_rests_makes_room_for_itself_when_it_is_resumed() -> None:
    config = Config(sandbox=SandboxConfig(rest_seconds=1e6))
    async with engine([cell("x = len(context)"), final("str(x)")], config) as server:
        run = await ask(server, iterations=1)
        assert server.resting_runs() == [run.run_id]
        again = await server.durable.resume(ResumeParams(run_id=run.run_id, limits=MORE))
        assert run.log.closed
        assert server.resting_runs() == []
        await at_rest(again)
        assert again.ended.status == "done"
        assert server.resting(run.run_id) is again
        assert (await again.execute("0", "print(x, context[:5])")).output == "17 alpha\n"
        server._resting._expire(run)  # whatever is left of the old one
        assert server.resting(run.run_id) is again
        assert server.directory(run.run_id).exists()
    assert again.log.closed
    assert not list(server.directory(run.run_id).parent.glob("*"))


async def test_what_can_not_be_resumed_keeps_its_variables() -> None:
    async with engine([final(), cell("x = 1")]) as server:
        done = await ask(server)
        with pytest.raises(NotResumableError):
            await server.durable.resume(ResumeParams(run_id=done.run_id))
        assert server.resting(done.run_id) is done
        short = await ask(server, iterations=1)
        own = asyncio.create_task(short.execute("0", "while True: pass"))
        while not any(isinstance(e, CellStarted) and e.by_user for e in events(short)):
            await short.log.grown(short.log.size)
        with pytest.raises(BusyError):
            await server.durable.resume(ResumeParams(run_id=short.run_id))
        short.cancel("0.x1")
        assert (await own).status == "cancelled"
        assert server.resting(short.run_id) is short


async def test_another_server_resumes_a_run_without_taking_its_files_away() -> None:
    async with engine([cell("x = len(context)")]) as first:
        run = await ask(first, iterations=1)
        async with engine([final("str(x)")]) as second:
            again = await second.durable.resume(ResumeParams(run_id=run.run_id, limits=MORE))
            await at_rest(again)
            assert again.ended.status == "done"
            assert second.directory(run.run_id) != first.directory(run.run_id)
        assert first.directory(run.run_id).exists()
        page = await run.namespace().inspect("context", 0, 5)
        assert page.text == "alpha"
        with pytest.raises(LogError, match="another server"):
            await run.execute("0", "x")


async def test_a_run_that_can_not_be_deleted_keeps_its_variables() -> None:
    async with engine([final(), final()]) as server:
        run = await ask(server)
        fork = await server.durable.fork(ForkParams(run_id=run.run_id, iteration=1, note="Again."))
        await at_rest(fork)
        with pytest.raises(LogError, match="is the beginning of"):
            await server.delete(run.run_id)
        assert server.resting(run.run_id) is run
        assert await server.delete(fork.run_id) > 0
        assert await server.delete(run.run_id) > 0
        assert server.resting_runs() == []
        assert run.log.closed


FENCED = """context
text = '''
```python
1
```
````
'''
FINAL(text.count("`"))"""


@pytest.mark.parametrize(
    ("reply", "code", "answer"),
    [
        (final(), FENCED, "10"),
        (final(), "context\nx = 1  # ```\r\nFINAL(x + 1)", "2"),
        ("No code at all", "context\nFINAL('some')", "some"),
        ("For example:\n```text\nan open block\n", "context\nFINAL('some')", "some"),
    ],
    ids=["fences", "newlines", "no code", "open block"],
)
async def test_a_fork_runs_the_code_that_was_edited_whatever_it_holds(
    reply: str, code: str, answer: str
) -> None:
    async with engine([reply]) as server:
        run = await ask(server, iterations=1)
        edit = ForkParams(run_id=run.run_id, iteration=1, code=code)
        fork = await server.durable.fork(edit)
        await at_rest(fork)
        assert fork.ended.status == "done", fork.ended
        [told] = [event for event in events(fork) if isinstance(event, Answer)]
        assert told.text == answer
        assert len(server.models.prompts) == 1  # the model was not asked


async def test_a_fence_in_edited_code_hides_nothing_of_it() -> None:
    code = "```repl\nx = 1\n```\nFINAL(x)\n"  # pasted with its fence
    async with engine([final(), final("'again'")]) as server:
        run = await ask(server)
        edit = ForkParams(run_id=run.run_id, iteration=1, code=code)
        fork = await server.durable.fork(edit)
        await at_rest(fork)
        [cell, *_] = [event for event in events(fork) if isinstance(event, CellStarted)]
        assert cell.code == code
        [done, *_] = [event for event in events(fork) if isinstance(event, CellDone)]
        assert "SyntaxError" in done.error


async def test_code_written_for_a_fork_needs_no_approval_but_that_of_the_model_does() -> None:
    async with engine([final(), final("x")]) as server:
        run = await ask(server)
        approving = AskOptions(approve=True)
        edit = ForkParams(run_id=run.run_id, iteration=1, code="x = 'mine'", options=approving)
        fork = await server.durable.fork(edit)
        async with asyncio.timeout(50):
            while not (waiting := [e for e in events(fork) if isinstance(e, ApprovalWanted)]):
                await fork.log.grown(fork.log.size)
        assert [event.node for event in waiting] == ["0.2"]
        assert fork.steering.decide("0.2", 1, Decision("approve"), rest=False)
        await at_rest(fork)
        [told] = [event for event in events(fork) if isinstance(event, Answer)]
        assert told.text == "mine"
        [first, _] = [event for event in events(fork) if isinstance(event, CellStarted)]
        assert not first.edited  # it is what its iteration shows


async def test_code_written_for_a_fork_that_was_stopped_before_it_ran_is_not_lost() -> None:
    async with engine([final(), final("x")]) as server:
        run = await ask(server)
        edit = ForkParams(run_id=run.run_id, iteration=1, code="x = 'mine'")
        fork = await server.durable.fork(edit)
        fork.steering.pause(True)
        await asyncio.sleep(0)  # so that it has begun
        fork.cancel("0")
        await at_rest(fork)
        assert not any(isinstance(event, ReplyDone) for event in events(fork))
        again = await server.durable.resume(ResumeParams(run_id=fork.run_id))
        await at_rest(again)
        [told] = [event for event in events(again) if isinstance(event, Answer)]
        assert told.text == "mine"
        assert len(server.models.prompts) == 2


@pytest.mark.parametrize("code", ["", " \n\n"])
async def test_code_that_is_none_is_refused(code: str) -> None:
    async with engine([final()]) as server:
        run = await ask(server)
        with pytest.raises(NotResumableError, match="code"):
            await server.durable.fork(ForkParams(run_id=run.run_id, iteration=1, code=code))
