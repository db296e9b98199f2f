"""The code blocks of a run, run, edited and forked by the keys that a person presses."""

from __future__ import annotations

from emacs_terminal import Terminal, models, needed, tree
from engine_harness import cell
from scripted_provider import Reply

pytestmark = needed


async def test_code_blocks_are_run_edited_and_forked(terminal: Terminal) -> None:
    replies = [
        cell("context\nx = 41\nprint('x is', x)"),
        cell("FINAL(f'the answer is {x}')"),
        cell("FINAL(f'this time it is {x}')"),
    ]
    async with models(terminal, [Reply(text) for text in replies]):
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "What is x?")
        await terminal.shows(r"^ ?done .*\? help")
        terminal.keys("C-x", "1")
        # As it stands.
        terminal.keys("M-<", "o")
        await terminal.shows("^x = 41")
        terminal.keys("C-c", "C-c")
        await terminal.shows(r"^\*\* Your code 1[\s\S]*^x is 41[\s\S]*^/Ran")
        # The mark is where it was; opened, and dropped.
        terminal.keys("C-u", "C-Space", "e")
        await terminal.shows("C-c C-c runs it, C-c C-f forks the run with it, C-c C-k drops it")
        await terminal.shows("^print.'x is', x.")
        terminal.keys("C-c", "C-k")
        await terminal.shows(r"\*rlm: What is x.*All|\*rlm: What is x")
        # Edited, and run so.
        terminal.keys("C-c", "'")
        await terminal.shows(r"\*rlm code: 0\.1\*")
        terminal.keys("M->")
        terminal.type("x += 1; print('now it is', x)")
        terminal.keys("C-c", "C-c")
        await terminal.shows(r"^\*\* Your code 2[\s\S]*^now it is 42[\s\S]*^/Ran")
        # The prompts of a fork can be quit; nothing is begun.
        terminal.keys("M-<", "t", "f")
        await terminal.shows("^Fork at iteration 1 with")
        await terminal.quits("^Quit")
        # Edited, and a fork begun with it: a sibling of its iteration.
        terminal.keys("M-<", "o", "e")
        await terminal.shows(r"\*rlm code: 0\.1\*")
        terminal.keys("M->")
        terminal.type("x = 1000")
        terminal.keys("C-c", "C-f")
        await terminal.shows("this time it is 1000")
        await terminal.shows(r"^ ?done .*\? help")
        terminal.keys("C-x", "1", "C-x", "b")
        await terminal.shows("^Switch to buffer")
        terminal.keys("Enter", "M-<", "3")
        await terminal.shows(
            r"^\*\* Iteration 1.*\n\*\* Fork at iteration 1 with other code \(done.*\.\.\.\n"
            r"\*\* Iteration 2"
        )
        terminal.keys("C-s")
        await terminal.shows("^I-search")
        terminal.type("Fork at")
        terminal.keys("Enter", "Tab")
        screen = await terminal.shows("^The fork in its own buffer")
        assert "this time it is 1000" in screen
        terminal.keys("C-s")
        await terminal.shows("^I-search")
        terminal.type("The fork")
        terminal.keys("Enter", "Enter")
        await terminal.shows(r"\*rlm: What is x.*<2>")


async def test_code_of_a_child_run_that_has_ended(terminal: Terminal) -> None:
    def script(request) -> Reply:
        if "Question: Which" in str(request.messages[1]["content"]):
            return Reply(cell("context\ny = 5\nFINAL('child says so')"))
        return Reply(cell("context\nFINAL(rlm_query('Which?'))"))

    async with models(terminal, script, more="max-depth = 2\n"):
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "Who?")
        await terminal.shows(r"^ ?done .*\? help")
        terminal.keys("C-x", "1", "M-<", "4", "C-s")
        # In the mode line: python-mode, which colours the code, speaks where the prompt was.
        await terminal.shows(r"\(rlm Isearch\)")
        terminal.type("y = 5")
        terminal.keys("Enter", "C-c", "C-c")
        await terminal.shows("^The variables of this child run are gone; use those of the run")
        await terminal.quits("^Quit")
        terminal.keys("C-c", "C-c")
        await terminal.shows("^The variables of this child run are gone")
        terminal.keys("y")
        await terminal.shows(r"^\*\* Your code 1[\s\S]*^y = 5")
