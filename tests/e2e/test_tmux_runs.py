"""The list of runs, by the keys that a person presses."""

from __future__ import annotations

from emacs_terminal import Terminal, needed, tree

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
