"""Runs that go on, fork, and are asked again, by the keys that a person presses."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from emacs_terminal import SECONDS, Terminal, models, needed
from engine_harness import cell, final
from scripted_provider import Reply, Request, ScriptedProvider

pytestmark = needed

PROGRAM = [
    cell("x = llm_query('Sum up: ' + context.documents[0])\nprint('got', x)"),
    final("'so: ' + x"),
]


def script(request: Request) -> Reply:
    """A program that makes one sub-call about the file, and answers with what came of it."""
    if request.role == "sub":
        return Reply("of " + ("alpha" if "alpha" in request.question else "beta"))
    return Reply(PROGRAM[turn(request)])


def turn(request: Request) -> int:
    return sum(message["role"] == "assistant" for message in request.messages)


def paid(provider: ScriptedProvider) -> Counter[str]:
    """How often each role was asked and had its whole answer."""
    return Counter(request.role for request in provider.requests if request.sent.is_set())


def logs(terminal: Terminal) -> list[Path]:
    return list((terminal.home / "state/runs").glob("*.jsonl"))


async def asked_about(terminal: Terminal, text: str = "alpha\n") -> Path:
    """Ask about a file with this text; return the file."""
    file = terminal.home / "doc.txt"
    file.write_text(text)
    await terminal.start(file, SCRIPTED_KEY="none")
    await terminal.shows(text.strip())
    await terminal.ask("b", "What?")
    return file


async def test_kill_9_and_on_without_paying_twice(terminal: Terminal) -> None:
    code = "x = llm_query('first')\nprint('begun', x)\ny = llm_query('second')\nFINAL(x + y)"
    answers = [Reply(silent=True), Reply("two")]

    def answer(request: Request) -> Reply:
        if request.role == "root":
            return Reply("Now.\n\n" + cell("context\n" + code))
        return Reply("one ") if "first" in request.question else answers.pop(0)

    async with models(terminal, answer) as provider:
        await asked_about(terminal)
        await terminal.shows("^begun one")
        async with asyncio.timeout(SECONDS):
            await provider.arrived(3)
        os.kill(await terminal.server(), signal.SIGKILL)
        await terminal.shows(r"^\*\* Interrupted")
        terminal.keys("C-u", "c")
        await terminal.shows("^Limit to change")
        await terminal.quits("^Quit")
        assert len(provider.requests) == 3
        terminal.keys("c")
        await terminal.shows("^one two")
        await terminal.shows(r"^ ?done .*\? help")
        assert paid(provider) == {"root": 1, "sub": 2}
        assert len(logs(terminal)) == 1
    (transcript,) = await terminal.transcripts("one two")
    assert transcript.count("** Iteration 1") == 1
    assert "/Resumed on" in transcript
    assert "** Interrupted" not in transcript


async def test_a_limit_is_raised_where_it_has_ended_a_run(terminal: Terminal) -> None:
    async with models(terminal, script, more="[limits]\niterations = 1\n") as provider:
        await asked_about(terminal)
        await terminal.shows(r"^\*\* Stopped by a limit")
        terminal.keys("C-x", "1", "C-c", "r", "R")
        await terminal.shows(r"^  What\? .* limit ")
        for answers in ((), ("Enter",)):
            terminal.keys("C-x", "1", "r")
            await terminal.shows(r"^Stopped: the limit of 1 iteration is reached\. Limit to raise")
            for key in answers:
                terminal.keys(key)
                await terminal.shows(r"^Iterations, now 1 \(default 2\):")
            await terminal.quits("^Quit")
        assert len(provider.requests) == 2
        terminal.keys("r")
        await terminal.shows("^Stopped: .*Limit to raise")
        terminal.keys("Enter")
        await terminal.shows("^Iterations, now 1")
        terminal.keys("Enter")
        await terminal.shows("^so: of alpha")
        await terminal.shows(r"^ ?done .*\? help")
        assert paid(provider) == {"root": 2, "sub": 1}


async def test_fork_with_edited_code(terminal: Terminal) -> None:
    async with models(terminal, script) as provider:
        await asked_about(terminal)
        await terminal.shows("^so: of alpha")
        await terminal.shows(r"^ ?done .*\? help")
        # Each prompt can be quit; nothing is begun then.
        terminal.keys("M->", "f")
        await terminal.shows("^Fork at iteration")
        await terminal.quits("^Quit")
        for what, prompt in {"": "", "another limit": "Limit to change", "a note": "Note"}.items():
            await fork_at(terminal, "2")
            if what:
                terminal.enter(what)
                await terminal.shows(f"^{prompt}")
            await terminal.quits("^Quit")
        await fork_at(terminal, "2")
        terminal.enter("other code")
        await terminal.shows(r"\*rlm fork: What\?\*")
        terminal.keys("C-c", "C-k")
        await terminal.shows(r"\*rlm: What\?\*")
        assert len(logs(terminal)) == 1
        assert paid(provider) == {"root": 2, "sub": 1}
        await fork_at(terminal, "2")
        terminal.enter("other code")
        await terminal.shows(r"\*rlm fork: What\?\*")
        await terminal.shows(r"^answer\[\"content\"\] = 'so: ' \+ x")
        terminal.keys("C-x", "h", "C-w")
        terminal.type("FINAL('forked: ' + x)")
        terminal.keys("C-c", "C-c")
        await terminal.shows("^forked: of alpha")
        await terminal.shows(r"^ ?done .*\? help")
        # Nothing had to be asked: what is shared is in the log, and the code was given.
        assert paid(provider) == {"root": 2, "sub": 1}
        assert len(logs(terminal)) == 2


async def fork_at(terminal: Terminal, iteration: str) -> None:
    """Press f outside of all iterations, and say which one is meant."""
    terminal.keys("M->", "f")
    await terminal.shows("^Fork at iteration")
    terminal.enter(iteration)
    await terminal.shows(f"^Fork at iteration {iteration} with:")


async def test_run_again_after_the_file_has_changed(terminal: Terminal) -> None:
    async with models(terminal, script) as provider:
        file = await asked_about(terminal)
        await terminal.shows("^so: of alpha")
        await terminal.shows(r"^ ?done .*\? help")
        file.write_text("beta\n")
        terminal.keys("R")
        screen = await terminal.shows(r"^-so: of alpha\n\+so: of beta")
        assert "Changes of the answer" in screen
        await terminal.shows(r"^ ?done .*\? help")
        # The program ran without the root model: only the changed sub-call was paid.
        assert paid(provider) == {"root": 2, "sub": 2}
        terminal.keys("R")  # here nothing has changed
        await terminal.shows("^It is the same as before")
        assert paid(provider) == {"root": 2, "sub": 2}


async def test_a_watched_run_is_asked_again_when_its_file_changes(terminal: Terminal) -> None:
    async with models(terminal, script) as provider:
        file = await asked_about(terminal)
        await terminal.shows("^so: of alpha")
        await terminal.shows(r"^ ?done .*\? help")
        terminal.keys("w")
        await terminal.shows("^Budget in dollars")
        await terminal.quits("^Quit")
        terminal.keys("M-:")
        await terminal.shows("^Eval:")
        terminal.enter("(list 'watched rlm-durable--watched)")
        await terminal.shows(r"^\(watched nil\)")
        terminal.keys("w")
        await terminal.shows("^Budget in dollars")
        terminal.keys("Enter")
        await terminal.shows(rf"^Watching .*{file.name}")
        file.write_text("beta\n")
        await terminal.shows(r"^-so: of alpha\n\+so: of beta")
        assert paid(provider) == {"root": 2, "sub": 2}
        terminal.keys("C-u", "w")
        await terminal.shows("^No longer watching")
        assert len(logs(terminal)) == 2
