"""The list of runs, by the keys that a person presses."""

from __future__ import annotations

import asyncio

from emacs_terminal import Terminal, models, needed, tree
from engine_harness import cell
from scripted_provider import Reply

pytestmark = needed


async def test_list_compare_export_and_delete(terminal: Terminal) -> None:
    await terminal.start(tree(terminal.home) / "harbour.txt")
    for question in ("What is the keeper called?", "How old is the harbour?"):
        await terminal.ask("b", question)
        await terminal.shows(r"^ ?done .*\? help")
        terminal.keys("C-x", "1", "C-x", "b")
        await terminal.shows("^Switch to buffer")
        terminal.enter("harbour.txt")
        await terminal.shows("^-UU.*harbour.txt")
    terminal.keys("C-x", "1", "C-c", "r", "R")
    await terminal.shows(r"^  How old .* done +\d\d-\d\d \d\d:\d\d offline/ext.* 0 +[0-9.]+ s$")
    # Each prompt can be quit; nothing changes then.
    terminal.keys("C-x", "1")
    for key, prompt in {"/": "Only runs with", "s": "Only runs that", "e": "Export as"}.items():
        terminal.keys(key)
        await terminal.shows(f"^{prompt}")
        await terminal.quits("^Quit")
    terminal.keys("M-<", "D")
    await terminal.shows("^Delete the log of")
    await terminal.quits("^Quit")
    terminal.keys("/")
    await terminal.shows("^Only runs with")
    terminal.enter("keeper")
    await terminal.shows(r"\(rlm runs 1 \(keeper\)\)")
    terminal.keys("/", "C-a", "C-k", "Enter")
    await terminal.shows(r"\(rlm runs 2\)")
    terminal.keys("M-<", "m", "m")
    await terminal.shows(r"^\* How old[\s\S]*^\* What is the keeper")
    terminal.keys("=")
    await terminal.shows(r"^Question: +How old.*Question: +What is the keeper")
    terminal.keys("C-x", "b")
    await terminal.shows("^Switch to buffer")
    terminal.type("*rlm runs*")
    terminal.keys("Enter", "C-x", "1", "U", "M-<")
    await terminal.shows("^  How old")
    terminal.keys("e")
    await terminal.shows("^Export as")
    terminal.enter("python")
    await terminal.shows("^Write it to")
    terminal.keys("Enter")
    await terminal.shows(r"^rlm: .*how-old-is-the-harbour\.py written")
    terminal.keys("D")
    await terminal.shows(r"^Delete the log of.*\(yes or no\)")
    terminal.enter("yes")
    await terminal.shows("^rlm: 1 run deleted, .* freed")
    await terminal.shows(r"\(rlm runs 1\)")
    assert len(list((terminal.home / "state/runs").glob("*.jsonl"))) == 1


async def test_every_key_for_one_run(terminal: Terminal) -> None:
    held = Reply("I begin to think about it. " * 20, wait=asyncio.Event(), hold_after=8)
    first, *rest = [
        cell("context\nx = 'the first'"),
        cell("FINAL(x + ', resumed')"),
        cell("FINAL('forked with a note')"),
        cell("context\nFINAL('asked again')"),
    ]

    async def to_the_list() -> None:
        terminal.keys("C-c", "r", "R", "C-x", "1", "M-<", "g")
        await terminal.shows(r"\(rlm runs \d\)")

    async with models(terminal, [Reply(first), held, *map(Reply, rest)]):
        await terminal.start(tree(terminal.home), SCRIPTED_KEY="none")
        await terminal.ask("d", "What is x?")
        await terminal.shows("^I begin to think")
        terminal.keys("k")
        await terminal.shows("^ ?cancelled")
        terminal.keys("C-x", "1", "C-c", "r", "R")
        await terminal.shows(r"^  What is x\? +cancelled")
        # Shown beside the list, and opened.
        terminal.keys("C-x", "1", "Space")
        await terminal.shows(r"^-UU.*\*rlm runs\*[\s\S]*^ ?cancelled")
        terminal.keys("C-x", "1", "Enter")
        await terminal.shows(r"^ ?cancelled")
        await to_the_list()
        # Resumed: it goes on from where it stopped.
        terminal.keys("r")
        await terminal.shows("^the first, resumed")
        await to_the_list()
        await terminal.shows(r"^  What is x\? +done")
        # Forked; each of its prompts can be quit.
        terminal.keys("f")
        await terminal.shows(r"^Fork at iteration \(default 1\):")
        await terminal.quits("^Quit")
        for answers in ([], ["a note"]):
            terminal.keys("f")
            await terminal.shows(r"^Fork at iteration \(default 1\):")
            terminal.type("2")
            terminal.keys("Enter")
            await terminal.shows("^Fork at iteration 2 with:")
            for answer in answers:
                terminal.type(answer)
                terminal.keys("Enter")
                await terminal.shows("^Note for the model:")
            await terminal.quits("^Quit")
        terminal.keys("f")
        await terminal.shows(r"^Fork at iteration \(default 1\):")
        terminal.type("2")
        terminal.keys("Enter")
        await terminal.shows("^Fork at iteration 2 with:")
        terminal.type("a note")
        terminal.keys("Enter")
        await terminal.shows("^Note for the model:")
        terminal.type("Say more.")
        terminal.keys("Enter")
        await terminal.shows("^forked with a note")
        await to_the_list()
        await terminal.shows(r"\(rlm runs 2\)")
        terminal.keys("M-<")  # point stays at its run where another one comes above it
        # Each format of export.
        for format, ending in (
            ("org", "org"),
            ("html", "html"),
            ("markdown", "md"),
            ("python", "py"),
            ("rlms", "jsonl"),
        ):
            terminal.keys("e")
            await terminal.shows("^Export as")
            terminal.enter(format)
            await terminal.shows("^Write it to")
            terminal.keys("C-a", "C-k")
            terminal.type(f"{terminal.home}/out.{ending}")
            terminal.keys("Enter")
            await terminal.shows(rf"^rlm: .*out\.{ending} written")
            text = (terminal.home / f"out.{ending}").read_text()
            assert "forked with a note" in text, format
            await to_the_list()
        # Replacing a file is asked about.
        terminal.keys("e")
        await terminal.shows("^Export as")
        terminal.keys("Enter")
        await terminal.shows("^Write it to")
        terminal.keys("C-a", "C-k")
        terminal.type(f"{terminal.home}/out.html")
        terminal.keys("Enter")
        await terminal.shows("^Replace .*out.html")
        await terminal.quits("^Quit")
