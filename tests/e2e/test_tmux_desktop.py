"""What reaches a person outside of a run's buffer or by the mouse: notifications, and clicks."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emacs_terminal import EMACS, ROOT, SECONDS, Terminal, models, needed, tree
from engine_harness import final
from scripted_provider import Reply

pytestmark = needed


class Desktop:
    """A session bus with something that owns the name of the desktop's notifications."""

    def __init__(self, address: str, directory: Path) -> None:
        self.address = address
        self._directory = directory

    async def told(self) -> list[dict[str, object]]:
        """Wait until something was told; return it all."""
        async with asyncio.timeout(SECONDS):
            while not (text := (self._directory / "notes").read_text()):
                await asyncio.sleep(0.05)
        return [json.loads(line) for line in text.splitlines()]

    def click(self) -> None:
        """Click on the newest notification."""
        (self._directory / "click").touch()


@pytest.fixture
async def desktop(tmp_path: Path) -> AsyncIterator[Desktop]:
    if not shutil.which("dbus-daemon"):
        pytest.skip("dbus-daemon is not installed (Debian's dbus-daemon)")
    directory = tmp_path / "desktop"
    directory.mkdir()
    command = ["dbus-daemon", "--session", "--nofork", "--print-address"]
    bus = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert bus.stdout
    address = (await asyncio.to_thread(bus.stdout.readline)).strip()
    owner = subprocess.Popen(
        ["env", f"DBUS_SESSION_BUS_ADDRESS={address}", f"NOTES={directory}/notes",
         f"CLICK={directory}/click", EMACS, "-Q", "--batch",
         "-l", str(ROOT / "tests/elisp/notification_daemon.el")],
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            while not (directory / "notes").exists():
                assert owner.poll() is None
                await asyncio.sleep(0.05)
        yield Desktop(address, directory)
    finally:
        for process in (owner, bus):
            process.kill()
            process.wait()
        bus.stdout.close()


async def test_the_end_of_a_long_run_out_of_sight_is_told_by_the_desktop(
    terminal: Terminal, desktop: Desktop
) -> None:
    held = Reply(final("'all is <b>well</b>'"), wait=asyncio.Event())
    async with models(terminal, [held]):
        await terminal.start(
            tree(terminal.home) / "harbour.txt", "--eval", "(setq rlm-notify-seconds 0)",
            SCRIPTED_KEY="none", DBUS_SESSION_BUS_ADDRESS=desktop.address,
        )  # fmt: skip
        await terminal.ask("b", "Is 1 < 2?")
        await terminal.shows("^ ?running .*asking the model")
        await terminal.switch("harbour.txt")
        terminal.keys("C-x", "1")
        held.wait.set()
        assert await desktop.told() == [
            {
                "app": "rlm",
                "title": "rlm: Answered",
                "body": "Is 1 &lt; 2?",
                "actions": ["default", "Show"],
            }
        ]
        await terminal.switch("harbour.txt")  # taking keys, it hears of clicks
        desktop.click()
        await terminal.shows(r"^ ?done .*\? help")


def click(terminal: Terminal, screen: str, text: str) -> None:
    """Click on a text that the screen shows."""
    row, line = next((n, x) for n, x in enumerate(screen.splitlines(), 1) if text in x)
    at = f"0;{line.index(text) + 1};{row}"
    terminal.type(f"\x1b[<{at}M\x1b[<{at}m")


async def test_clicks_on_the_bar_and_on_the_mode_line(terminal: Terminal) -> None:
    held = Reply("I begin to think about it. " * 20, wait=asyncio.Event(), hold_after=8)
    terminal.columns = 150  # the bar is at the end of a long line
    async with models(terminal, [held]):
        await terminal.start(
            tree(terminal.home) / "harbour.txt", "-f", "xterm-mouse-mode", SCRIPTED_KEY="none"
        )
        await terminal.ask("b", "Which harbour?")
        bar = "of 20 iterations"
        screen = await terminal.shows(bar)
        click(terminal, screen, f"% {bar}")  # Emacs gives that sign a meaning in header lines
        await terminal.shows("^Limit to change")
        await terminal.quits("^Quit")
        click(terminal, screen, bar)
        await terminal.shows("^Limit to change")
        terminal.enter("Iterations (20)")
        await terminal.shows("^Iterations, now 20")
        terminal.enter("5")
        await terminal.shows("% of 5 iterations")
        await terminal.shows("Limits.*iterations 5, was 20")
        terminal.keys("C-x", "1", "C-x", "b")
        await terminal.shows("^Switch to buffer")
        terminal.enter("harbour.txt")
        click(terminal, await terminal.shows("^-UU.*harbour.txt.*rlm:1"), "rlm:1")
        await terminal.shows("Limits.*iterations 5, was 20")
        terminal.keys("k")
        await terminal.shows(r"^ ?cancelled ")
