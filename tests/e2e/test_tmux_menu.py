"""The menu of a question, by the keys that a person presses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from emacs_terminal import Terminal, models, needed, tree
from engine_harness import final
from scripted_provider import Reply

pytestmark = needed


def project(home: Path) -> Path:
    root = tree(home)
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


async def menu(terminal: Terminal) -> str:
    await terminal.command("rlm")
    return await terminal.shows("e Estimate the cost")


async def read(terminal: Terminal, key: str, prompt: str, text: str) -> None:
    """Press a key of the menu, and enter a text when asked for it."""
    terminal.keys(key)
    await terminal.shows(f"^{prompt}")
    terminal.enter(text)


async def test_settings_are_shown_sent_and_remembered(terminal: Terminal) -> None:
    async with models(terminal, [Reply(final("'all is well'"))], price=1.0) as provider:
        await terminal.start(project(terminal.home) / "harbour.txt", SCRIPTED_KEY="none")
        screen = await menu(terminal)
        assert re.search(r"w About +project tree  \(or: buffer, files\)", screen)
        await read(terminal, "b", "US dollars at most", "0.25")
        await terminal.shows(r"b Cost, \$ +0\.25 ")
        await read(terminal, "i", "Replies of the root model", "7")
        await terminal.shows(r"i Iterations 7\b")
        terminal.keys("m")
        await terminal.shows(r"^Root model \(default the server's choice\)")
        terminal.type("scr")
        terminal.keys("Tab")
        await terminal.shows(r"^Root model .* scripted")
        terminal.keys("Enter")
        await terminal.shows("m Root model scripted")
        terminal.keys("w")
        await terminal.shows(r"w About +harbour\.txt ")
        terminal.keys("e")
        await terminal.shows(r"^1 file, 49 bytes, .* never more than \$0\.25")
        await read(terminal, "q", "Ask about harbour.txt", "Well?")
        await terminal.shows("q Question +Well\\?")
        terminal.keys("Enter")
        await terminal.shows(r"^Ask about 1 file, [\s\S]*0\.25\? \(y or n\)")
        terminal.keys("y")
        await terminal.shows("^all is well")
        assert "Well?" in provider.requests[0].messages[1]["content"]
        # What was set is remembered for the project, and the question is not.
        terminal.keys("C-x", "0")
        screen = await menu(terminal)
        assert re.search(r"b Cost, \$ +0\.25 ", screen)
        assert re.search(r"i Iterations 7\b", screen)
        assert "m Root model scripted" in screen
        assert re.search(r"q Question +is asked for", screen)
        # A set value is changed by entering another, and unset by entering none.
        terminal.keys("i")
        await terminal.shows(r"^Replies of the root model at most .* 7\b")
        terminal.keys("C-a", "C-k", "Enter")
        await terminal.shows("i Iterations as configured")
        terminal.keys("C-g")
    kept = terminal.home / ".emacs.d/rlm/settings.eld"
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_presets(terminal: Terminal) -> None:
    await terminal.start(project(terminal.home) / "harbour.txt")
    await menu(terminal)
    await read(terminal, "d", "Depth of child runs", "3")
    await terminal.shows(r"d Depth +3\b")
    terminal.keys("N")
    await terminal.shows("N No cache +on")
    await read(terminal, "P", "Save as preset", "deep one")
    await terminal.shows("^Preset deep one: maxDepth 3, noCache")
    terminal.keys("R")
    await terminal.shows("d Depth +as configured")
    terminal.keys("p")
    await terminal.shows("^Preset:")
    terminal.keys("Tab", "Enter")
    await terminal.shows(r"d Depth +3\b")
    await terminal.quits("harbour is old(?![\\s\\S]*d Depth)")
    await terminal.command("rlm-ask-with-preset")
    await terminal.shows("^Ask with preset:")
    terminal.keys("Tab", "Enter")
    await terminal.shows("^Ask about project tree:")
    terminal.enter("What is the keeper called?")
    await terminal.shows(r"harbour\.txt:2 The keeper is called Odalys")


async def test_every_prompt_of_the_menu_can_be_quit(terminal: Terminal) -> None:
    terminal.columns, terminal.rows = 80, 24
    await terminal.start(project(terminal.home) / "harbour.txt")
    screen = await menu(terminal)
    # All of it is seen in a terminal of the usual size.
    assert re.search(r"[?] Doctor$", screen, re.M)
    assert re.search(r"x List what is collected$", screen, re.M)
    assert not re.search(r"\\$", screen, re.M), "a line is broken"
    prompts = {
        "q": "Ask about",
        "m": "Root model",
        "s": "Sub model",
        "d": "Depth",
        "b": "US dollars",
        "t": "Seconds",
        "i": "Replies",
        "P": "Save as preset",
    }
    await read(terminal, "t", "Seconds", "100")
    await terminal.shows("t Seconds +100 ")
    for key, prompt in prompts.items():
        terminal.keys(key)
        await terminal.shows(f"^{prompt}")
        screen = await terminal.quits(r"e Estimate the cost(?![\s\S]*^" + prompt + ")")
        assert re.search("t Seconds +100 ", screen), key
    # What is wrong is said, and the old value stays.
    await read(terminal, "d", "Depth", "99")
    await terminal.shows("^This has to be a whole number from 1 to 10")
    await terminal.shows("d Depth +as configured")
    terminal.keys("Enter")
    await terminal.shows("^Ask about project tree:")
    await terminal.quits("^Quit")
    # What was set is there again for another try.
    assert re.search("t Seconds +100 ", await menu(terminal))
    terminal.keys("C-g")
    await terminal.command("nothing-is-left")
    await terminal.shows("^left: nil nil 0")
