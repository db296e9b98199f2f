"""A real Emacs in a real terminal, driven by the keys that a person presses.

Every test has an Emacs, a server and directories of its own, waits for what the screen shows, and
never for a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from engine_harness import cell, final
from processes import alive, descendants, gone
from scripted_provider import Reply, ScriptedProvider

ROOT = Path(__file__).parents[2]
EMACS = os.environ.get("EMACS", "emacs")
EMACS_30 = ROOT / ".cache/emacs-30/emacs"
"""Unpacked by .ci/emacs30, where that could be done."""
SECONDS = 15
"""How long the screen may take to show what is waited for."""

ENDLESS = 'print("begun", len(context))\nwhile True: pass'

pytestmark = [
    pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed"),
    pytest.mark.skipif(not shutil.which(EMACS), reason="Emacs is not installed"),
    pytest.mark.timeout(120),
]

INIT = """
(setq inhibit-startup-screen t make-backup-files nil auto-save-default nil create-lockfiles nil
      large-file-warning-threshold nil enable-recursive-minibuffers t
      rlm-server-command (list (getenv "RLM_SERVER_PYTHON") "-m" "rlm_server"))
(global-set-key (kbd "C-c r") 'rlm-command-map)
(defun pid () (interactive)
  (write-region (format "%d" (process-id (rlm-rpc-process))) nil "~/pid" nil 'silent))
(defun nothing-is-left () (interactive)
  (message "left: %S %S %S" (rlm-client-live-buffers) rlm-context--spools rlm-client--asking))
"""


class Terminal:
    """Emacs in a terminal of 100 columns and 40 lines."""

    def __init__(self, home: Path, emacs: str) -> None:
        self.home = home
        self.emacs = emacs
        self._tmux = ["tmux", "-L", f"rlm-{uuid4().hex}", "-f", "/dev/null"]

    async def start(self, *arguments: str | Path, **environ: str) -> None:
        """Start Emacs with command line arguments and further environment."""
        (self.home / "init.el").write_text(INIT)
        environ = {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "TERM": "screen-256color",
            "LANG": "C.UTF-8",
            "RLM_STATE": str(self.home / "state"),
            "RLM_CACHE": str(self.home / "cache"),
            "RLM_CONFIG": str(self.home / "config.toml"),
            "RLM_SERVER_PYTHON": sys.executable,
            **environ,
        }
        emacs = [self.emacs, "-Q", "-nw", "-L", str(ROOT / "elisp"), "-l", "rlm"]
        command = [*emacs, "-l", str(self.home / "init.el"), *map(str, arguments)]
        line = ["env", *(f"{name}={value}" for name, value in environ.items()), *command]
        place = ["-x", "100", "-y", "40", "-c", str(self.home)]
        self._run("new-session", "-d", *place, shlex.join(line))
        await self.shows("^-UU")

    def stop(self) -> None:
        """End Emacs and its terminal."""
        self._run("kill-server")

    def pid(self) -> int:
        """Process id of Emacs."""
        return int(self._run("display-message", "-p", "#{pane_pid}"))

    def keys(self, *keys: str) -> None:
        """Press keys, named as tmux names them."""
        self._run("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type text as it is."""
        self._run("send-keys", "-l", text)

    def screen(self) -> str:
        """What the screen shows."""
        return self._run("capture-pane", "-p")

    async def shows(self, pattern: str) -> str:
        """Wait until the screen shows a match for a regular expression; return the screen."""
        try:
            async with asyncio.timeout(SECONDS):
                while not re.search(pattern, screen := self.screen(), re.MULTILINE):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"the screen never showed {pattern!r}:\n{self.screen()}")
        return screen

    async def command(self, name: str) -> None:
        """Press M-x and enter the name of a command."""
        self.keys("M-x")
        await self.shows("^M-x")
        self.type(name)
        self.keys("Enter")

    async def ask(self, key: str, question: str, about: str = "Ask about") -> None:
        """Press C-c r and a key, and enter a question when asked for it."""
        self.keys("C-c", "r", key)
        await self.shows(f"^{about}")
        self.type(question)
        self.keys("Enter")

    async def server(self) -> int:
        """Process id of the server that Emacs is connected to."""
        file = self.home / "pid"
        await self.command("pid")
        async with asyncio.timeout(SECONDS):
            while not file.exists() or not (text := file.read_text()):
                await asyncio.sleep(0.05)
        return int(text)

    def transcripts(self) -> list[str]:
        """The saved transcripts, oldest first."""
        directory = self.home / ".emacs.d/rlm/transcripts"
        return [path.read_text() for path in sorted(directory.glob("*.org"))]

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=False, timeout=20
        )
        return done.stdout


EMACSES = {"emacs": EMACS} | ({"emacs-30": str(EMACS_30)} if EMACS_30.exists() else {})


@pytest.fixture(params=EMACSES.values(), ids=EMACSES)
async def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Terminal]:
    made = Terminal(tmp_path, request.param)
    (tmp_path / "config.toml").write_text("discover = false\n")
    yield made
    pids = descendants(made.pid()) if made.screen() else []
    made.stop()
    await gone(pids)


@asynccontextmanager
async def models(terminal: Terminal, script, price: float = 0.0) -> AsyncIterator[ScriptedProvider]:
    """Let the default model be one that follows a script."""
    async with ScriptedProvider(script) as provider:
        (terminal.home / "config.toml").write_text(
            'root = "scripted"\ndiscover = false\n[models.scripted]\nmodel = "openai/scripted"\n'
            f'key-env = "SCRIPTED_KEY"\nbase-url = "{provider.url}"\n'
            f"input-price = {price}\noutput-price = {price}\n"
        )
        yield provider


def tree(home: Path) -> Path:
    """Make a small tree."""
    root = home / "tree"
    (root / "docs").mkdir(parents=True)
    (root / "harbour.txt").write_text("The harbour is old.\nThe keeper is called Odalys.\n")
    (root / "docs/boats.txt").write_text("Boats are green.\nThe boats leave at dawn.\n")
    (root / "other.txt").write_text("The boats leave at noon, says this one.\n")
    return root


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
    assert "[[file:" + str(file) + "::3]" in terminal.transcripts()[0]
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
        assert "** Cancelled" in terminal.transcripts()[0]
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
        assert "** Interrupted" in terminal.transcripts()[0]
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
        terminal.type("The second question")
        terminal.keys("Enter")
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
        await terminal.shows("^answer two")
        assert "answer one" not in terminal.screen()
        terminal.keys("C-x", "b")
        await terminal.shows("^Switch to buffer")
        terminal.type("*rlm: number one*")
        terminal.keys("Enter")
        await terminal.shows("^answer one")
    one, two = sorted(terminal.transcripts(), key=lambda text: "number two" in text)
    assert "answer one" in one
    assert "answer two" not in one
    assert "answer two" in two


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
        terminal.keys("C-g")
        await terminal.shows("^Quit")
        for refusal in ("C-g", "n"):
            await terminal.ask("d", "Dear?")
            screen = await terminal.shows(r"Ask about .*\? \(y or n\)")
            assert "1 file" in screen
            assert re.search(r"about \$0\.\d+ for one\s+reading", screen.replace("\\\n", ""))
            terminal.keys(refusal)
            await terminal.shows("^Not asked")
            assert "*rlm: Dear?*" not in terminal.screen()
        await terminal.command("nothing-is-left")
        await terminal.shows("^left: nil nil 0")
        assert not provider.requests
        await terminal.ask("d", "Dear?")
        await terminal.shows(r"\(y or n\)")
        terminal.keys("y")
        await terminal.shows("^all is well")
        assert len(provider.requests) == 1
