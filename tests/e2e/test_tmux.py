"""A real Emacs in a real terminal, driven by the keys that a person presses.

Every test has an Emacs, a server and directories of its own, waits for what the screen shows, and
never for a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal

from emacs_terminal import SECONDS, Terminal, models, needed, tree
from engine_harness import cell, final
from processes import alive, descendants, gone
from scripted_provider import Reply

pytestmark = needed

ENDLESS = 'print("begun", len(context))\nwhile True: pass'


async def test_a_region_with_unsaved_edits(terminal: Terminal) -> None:
    file = tree(terminal.home) / "harbour.txt"
    await terminal.start(file)
    await terminal.shows("harbour is old")
    terminal.keys("C-n", "C-n")
    terminal.type("Since today the keeper is called Imre.")
    terminal.keys("C-a", "C-Space", "C-e")
    await terminal.ask("a", "What is the keeper called?", "Ask about the region of harbour.txt")
    await terminal.shows(r"^ ?done .*\? help")
    screen = await terminal.shows(r"^- harbour\.txt:3 Since today")
    assert "Imre" in screen
    assert "Odalys" not in screen.split("** Answer")[1]
    # The evidence leads to the line in the buffer that is still not saved.
    terminal.keys("M->", "Up", "Enter")
    await terminal.shows(r"\*\*.*harbour\.txt +.*L3")
    assert "Imre" not in file.read_text()
    await terminal.transcripts(f"[[file:{file}::3]")
    assert not list(terminal.home.glob("rlm-*")), "spool files are left"


async def test_dired_marks(terminal: Terminal) -> None:
    root = tree(terminal.home)
    await terminal.start(root)
    await terminal.shows("harbour.txt")
    terminal.keys("M-<")
    for name in ("docs", "harbour.txt"):
        terminal.keys("C-s")
        await terminal.shows("^I-search")
        terminal.type(name)
        terminal.keys("Enter", "C-a", "m")
        await terminal.shows(rf"^\* .*{name}")
    await terminal.ask("a", "When do the boats leave?", "Ask about 2 marked files")
    await terminal.shows(r"^ ?done .*\? help")
    screen = await terminal.shows(r"^- docs/boats\.txt:2 The boats leave at dawn")
    assert "noon" not in screen


async def test_cancel_in_mid_cell(terminal: Terminal) -> None:
    async with models(terminal, lambda _: Reply("Now.\n\n" + cell(ENDLESS))):
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "What?")
        await terminal.shows("^begun")
        terminal.keys("k")
        await terminal.shows("^ ?cancelled")
        await terminal.shows(r"^\*\* Cancelled")
        await terminal.transcripts("** Cancelled")
        assert alive(await terminal.server())


async def test_cancel_in_mid_reply(terminal: Terminal) -> None:
    held = Reply("I begin to think about it. " * 20, wait=asyncio.Event(), hold_after=8)
    async with models(terminal, [held]) as provider:
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "What?")
        await terminal.shows("^I begin to think")
        terminal.keys("k")
        await terminal.shows("^ ?cancelled")
        async with asyncio.timeout(SECONDS):
            await provider.requests[0].closed.wait()


async def test_kill_9_of_the_server_in_mid_run(terminal: Terminal) -> None:
    replies = [Reply("Now.\n\n" + cell(ENDLESS)), Reply(final("'all is well'"))]
    async with models(terminal, replies):
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "The first question")
        await terminal.shows("^begun")
        pid = await terminal.server()
        below = descendants(pid)
        os.kill(pid, signal.SIGKILL)
        await terminal.shows("^ ?interrupted")
        await terminal.shows(r"^\*\* Interrupted")
        await terminal.shows("The server was killed by signal 9")
        await terminal.transcripts("** Interrupted")
        await gone(below)
        # The log is whole: every line of it is an event, and they have no gap.
        (log,) = (terminal.home / "state/runs").glob("*.jsonl")
        events = [json.loads(line) for line in log.read_text().splitlines()]
        assert [event["seq"] for event in events] == list(range(len(events)))
        assert {"cellStarted", "output"} <= {event["kind"] for event in events}
        # The next question works, with a new server.
        terminal.keys("C-x", "o")
        await terminal.ask("f", str(terminal.home / "tree/harbour.txt"), "Which file")
        await terminal.shows("^And which file")
        terminal.keys("C-a", "C-k", "Enter")
        await terminal.shows("^Ask about")
        terminal.enter("The second question")
        await terminal.shows("^all is well")
        # The first one is drawn again from its log.
        terminal.keys("C-c", "r", "o")
        await terminal.shows("^Run:")
        terminal.type("The fi")
        terminal.keys("Tab")
        await terminal.shows(r"^Run: The first question .*interrupted")
        terminal.keys("Enter")
        await terminal.shows(r"\*rlm: The first question\*")
        terminal.keys("g")
        await terminal.shows("The log of this run has no end: its server died")


async def test_two_runs_at_once(terminal: Terminal) -> None:
    goes = asyncio.Event()

    def script(request) -> Reply:
        name = "one" if "number one" in request.messages[1]["content"] else "two"
        return Reply(f"This is {name}.\n\n" + final(f"'answer {name}'"), wait=goes)

    async with models(terminal, script) as provider:
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "number one")
        await terminal.shows(r"\*rlm: number one\*")
        terminal.keys("C-x", "o")
        await terminal.ask("d", "number two")
        await terminal.shows(r"\*rlm: number two\*")
        async with asyncio.timeout(SECONDS):
            await provider.arrived(2)
        goes.set()
        assert "answer one" not in await terminal.shows("^answer two")
        await terminal.switch("*rlm: number one*")
        await terminal.shows("^answer one")
    one, two = await terminal.transcripts("answer one", "answer two")
    assert one != two


async def test_a_buffer_of_30_megabytes(terminal: Terminal) -> None:
    file = terminal.home / "large.txt"
    line = "nothing to be seen in this line, nor in the next one\n"
    file.write_text(line * (30_000_000 // len(line)) + "The keeper is called Odalys.\n")
    await terminal.start(file)
    await terminal.shows("nothing to be seen")
    terminal.type("unsaved ")
    await terminal.ask("b", "What is the keeper called?", "Ask about large.txt")
    await terminal.shows(r"^ ?done .*\? help")
    screen = await terminal.shows(r"^- large\.txt:\d{6} ")
    assert "The keeper is called Odalys." in screen
    assert file.stat().st_size > 29_000_000
    assert not list(terminal.home.glob("rlm-*")), "spool files are left"


async def test_every_prompt_can_be_quit(terminal: Terminal) -> None:
    async with models(terminal, [Reply(final("'all is well'"))], price=1000.0) as provider:
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        terminal.keys("C-c", "r", "d")
        await terminal.shows("^Ask about")
        await terminal.quits("^Quit")
        for refused in (terminal.quits, terminal.shows):
            await terminal.ask("d", "Dear?")
            screen = await terminal.shows(r"Ask about .*\? \(y or n\)")
            assert "1 file" in screen
            assert re.search(r"about \$0\.\d+ for one\s+reading", screen.replace("\\\n", ""))
            if refused == terminal.shows:
                terminal.keys("n")
            assert "*rlm: Dear?*" not in await refused("^Not asked")
        await terminal.command("nothing-is-left")
        await terminal.shows("^left: nil nil 0")
        assert not provider.requests
        await terminal.ask("d", "Dear?")
        await terminal.shows(r"\(y or n\)")
        terminal.keys("y")
        await terminal.shows("^all is well")
        assert len(provider.requests) == 1


async def test_approval_edit_note_and_follow_up(terminal: Terminal) -> None:
    replies = [
        cell("context\nx = 'theirs'"),
        cell("import os"),
        cell("FINAL(x)"),
        cell("FINAL(x + ', still there')"),
    ]
    async with models(terminal, [Reply(text) for text in replies]) as provider:
        approving = ("--eval", "(setq rlm-approve-code t)")
        await terminal.start(*approving, tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "What?")
        # What waits is seen in the header line, in the text and in the mode line.
        await terminal.shows(r"^ running \| code waits for you: C-c C-c runs it")
        await terminal.shows("^This code waits: C-c C-c runs it, e edits it")
        await terminal.shows(r"^-UUU.*\(rlm waits")
        terminal.keys("2")
        screen = await terminal.shows(r"^\*\* Iteration 1  \[waits for you\]\.\.\.")
        assert "This code waits" not in screen
        terminal.keys("4")
        await terminal.shows("^This code waits")
        # Edited, and run so.
        terminal.keys("e")
        await terminal.shows(r"\*rlm code: 0\.1\*")
        terminal.keys("M->")
        terminal.type("x = 'mine'")
        terminal.keys("C-c", "C-c")
        await terminal.shows(r"\[waits for you\]")
        await terminal.shows("^import os")
        # A note while it waits, and the code rejected; C-g at the prompt decides nothing.
        terminal.keys("i")
        await terminal.shows("^Note to the model")
        terminal.enter("No files, please.")
        await terminal.shows(r"\*Your note\*: No files")
        terminal.keys("C-c", "C-k")
        await terminal.shows("^Reject this code")
        await terminal.quits("^Quit")
        terminal.keys("C-c", "C-k")
        await terminal.shows("^Reject this code")
        terminal.enter("it needs no module")
        await terminal.shows(r"^FINAL\(x\)")
        terminal.keys("C-u", "C-c", "C-c")
        await terminal.shows(r"^ ?done .*\? help")
        await terminal.shows("^mine")
        # The model was told of all of it.
        told = "\n".join(request.question for request in provider.requests[1:])
        assert "x = 'mine'" in told
        assert "No files, please." in told
        assert "it needs no module" in told
        # A further question goes on in the same buffer, log and namespace.
        terminal.keys("r")
        await terminal.shows("^Ask about the same context")
        terminal.enter("And now?")
        await terminal.shows("^mine, still there")
        await terminal.shows(r"^ ?done .*iteration 4")
    (transcript,) = await terminal.transcripts("* And now?")
    assert "Edited*; this runs" in transcript
    assert "*Rejected*: it needs no module" in transcript
    assert transcript.index("* What?") < transcript.index("* And now?")
    (log,) = (terminal.home / "state/runs").glob("*.jsonl")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(len(events)))


async def test_variables_and_code_of_ones_own_after_the_end(terminal: Terminal) -> None:
    replies = [cell("context\nfound = ['a', 'b']\nFINAL(len(found))")]
    async with models(terminal, [Reply(text) for text in replies]):
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "How many?")
        await terminal.shows(r"^ ?done .*\? help")
        terminal.keys("x")
        await terminal.shows(r"\*rlm code\*")
        terminal.type("found.append('c'); print('now', len(found))")
        terminal.keys("C-c", "C-c")
        await terminal.shows("^now 3")
        terminal.keys("v")
        await terminal.shows(r"found +list +3")
        terminal.keys("C-s")
        terminal.type("found")
        terminal.keys("Enter", "Enter")
        await terminal.shows(r"^\['a', 'b', 'c'\]")
        await terminal.shows("list, 15 characters")


async def test_cancel_of_one_child_among_eight(terminal: Terminal) -> None:
    code = (
        "answers = rlm_query_batched([f'Part {n}?' for n in range(1, 9)])\n"
        "context\nFINAL(sum(str(a).startswith('part') for a in answers))"
    )
    flowing = asyncio.Event()

    def script(request) -> Reply:
        if "Question: Part" in str(request.messages[1]["content"]):
            return Reply(cell("context\nFINAL('part of it')"), wait=flowing)
        return Reply("All at once.\n\n" + cell(code))

    async with models(terminal, script, more="max-depth = 2\n") as provider:
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "How many parts?")
        async with asyncio.timeout(SECONDS):
            await provider.arrived(9)
        await terminal.shows("Child run 8")
        terminal.keys("C-r")
        terminal.enter("Child run 3")
        terminal.keys("K")
        await terminal.shows(r"Child run 3 \(cancelled")
        flowing.set()
        await terminal.shows(r"^ ?done .*\? help")
        terminal.keys("M->")  # the window stays at the child run
        await terminal.shows("^7$")
    (transcript,) = await terminal.transcripts(":RLM_STATUS: done\n")
    assert len(re.findall(r"Child run \d \(done", transcript)) == 7
    assert len(re.findall(r"Child run \d \(cancelled", transcript)) == 1


async def test_the_call_of_a_tool_is_seen(terminal: Terminal) -> None:
    (terminal.home / "shop.py").write_text("def price(item: str) -> int:\n    return 40\n")
    tool = f'[tools.price]\npython = "{terminal.home}/shop.py:price"\n'
    replies = [cell('context\nFINAL(price("a red boat") + 2)')]
    async with models(terminal, [Reply(text) for text in replies], more=tool):
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "What does it cost?")
        await terminal.shows(r"^ ?done .*\? help")
        await terminal.shows("^42$")
        terminal.keys("3")
        terminal.keys("M-<")
        await terminal.shows(r"^\*\*\* Tool price, call 1 \(")
        terminal.keys("C-s")
        terminal.type("Tool price")
        terminal.keys("Enter", "4", "C-u", "0", "C-l")
        await terminal.shows("a red boat")
        await terminal.shows("^40$")
