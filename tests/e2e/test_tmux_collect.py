"""What is collected, listed, pruned and asked about, by the keys that a person presses."""

from __future__ import annotations

import re

from emacs_terminal import Terminal, models, needed, tree
from engine_harness import final
from scripted_provider import Reply

pytestmark = needed


async def test_collect_list_prune_and_ask(terminal: Terminal) -> None:
    root = tree(terminal.home)
    async with models(terminal, [Reply(final("'all is well'"))], price=1000.0) as provider:
        await terminal.start(root / "harbour.txt", SCRIPTED_KEY="none")
        await terminal.shows("harbour is old")
        terminal.keys("C-n", "C-Space", "C-n", "C-c", "r", "+")
        await terminal.shows("^Added harbour.txt .region.; collected in all: 1")
        terminal.keys("C-x", "C-f")
        await terminal.shows("^Find file")
        terminal.enter("docs")
        await terminal.shows("boats.txt")
        terminal.keys("C-c", "r", "+")
        await terminal.shows("collected in all: 2")
        await terminal.switch("scrap")
        terminal.type("scrap text")
        terminal.keys("C-c", "r", "+", "C-c", "r", "x")
        screen = await terminal.shows(r"In all: 3 files, .* about \$")
        assert re.search(r"^ +harbour\.txt +\d+ bytes +\d+ +region, line 2$", screen, re.M)
        assert re.search(r"^ +.*boats\.txt +\d+ bytes +\d+ +Dired$", screen, re.M)
        assert re.search(r"^ +scrap +10 bytes +2 +buffer$", screen, re.M)
        # Out with the scrap, first flagged, then executed; what is left costs less.
        terminal.keys("M-<", "C-s")
        await terminal.shows("^I-search")
        terminal.type("scrap")
        terminal.keys("Enter", "C-a", "d")
        await terminal.shows(r"^D +scrap")
        terminal.keys("x")
        screen = await terminal.shows(r"In all: 2 files, .* about \$")
        assert not re.search(r"^[ D] +scrap +10 bytes", screen, re.M)
        terminal.keys("M-<", "Space")
        await terminal.shows("^The keeper is called Odalys")
        # A question can be given up at each prompt, and what is collected stays.
        terminal.keys("a")
        await terminal.shows("^Ask about 2 collected things:")
        await terminal.quits("^Quit")
        terminal.keys("a")
        await terminal.shows("^Ask about 2 collected things:")
        terminal.enter("Well?")
        await terminal.shows(r"Ask about 2 files.*\? \(y or n\)")
        await terminal.quits("^Not asked")
        await terminal.command("nothing-is-left")
        await terminal.shows("^left: nil nil 0")
        assert not provider.requests
        terminal.keys("a")
        await terminal.shows("^Ask about 2 collected things:")
        terminal.enter("Well?")
        await terminal.shows(r"\(y or n\)")
        terminal.keys("y")
        await terminal.shows("^all is well")
    assert not list(terminal.home.glob("rlm-*")), "spool files are left"


async def test_a_collection_is_asked_again_in_another_emacs(terminal: Terminal) -> None:
    root = tree(terminal.home)
    await terminal.start(root)
    await terminal.shows("harbour.txt")
    terminal.keys("M-<", "C-c", "r", "+")
    await terminal.shows("^Added .*tree/? .Dired.")
    await terminal.command("rlm-save-collection")
    await terminal.shows("^Save the collection as")
    terminal.enter("the tree")
    await terminal.shows("^Saved as the tree")
    terminal.stop()
    await terminal.start(root / "other.txt")
    await terminal.command("rlm-load-collection")
    await terminal.shows("^Load collection")
    terminal.keys("Tab", "Enter")
    await terminal.shows("^The collection the tree: 1 things?")
    await terminal.ask("a", "What is the keeper called?", "Ask about collection the tree")
    await terminal.shows(r"^ ?done .*\? help")
    await terminal.shows(r"harbour\.txt:2 The keeper is called Odalys")
