"""Emacs in a terminal of its own, as a person sees it: keys in, the screen out."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from processes import state
from scripted_provider import ScriptedProvider

ROOT = Path(__file__).parents[1]
EMACS = os.environ.get("EMACS", "emacs")
EMACS_30 = ROOT / ".cache/emacs-30/emacs"
"""Unpacked by .ci/emacs30, where that could be done."""
SECONDS = 60
"""How long the screen may take to show what is waited for."""

needed = [
    pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed"),
    pytest.mark.skipif(not shutil.which(EMACS), reason="Emacs is not installed"),
    pytest.mark.timeout(400),
]
"""Marks of every test that uses a terminal."""

TRANSCRIPT_END = "# The end of the transcript.\n"
"""What a transcript has that is written to its end."""

FOR_TESTS = """(setq native-comp-deferred-compilation nil native-comp-jit-compilation nil
                     gc-cons-threshold 100000000)"""
"""In a home that is new, Emacs would compile its own libraries again, beside each test.

Half of what it takes to start would be to collect garbage, and much of what it does then.
"""

INIT = """
(setq inhibit-startup-screen t make-backup-files nil auto-save-default nil create-lockfiles nil
      large-file-warning-threshold nil enable-recursive-minibuffers t
      rlm-server-command (list (getenv "RLM_SERVER_PYTHON") "-m" "rlm_server"))
(global-set-key (kbd "C-c r") 'rlm-command-map)
(defun pid () (interactive)
  (write-region (format "%d" (process-id (rlm-rpc-process))) nil "~/pid" nil 'silent))
(defun nothing-is-left () (interactive)
  (message "left: %S %S %S" (rlm-run-live-buffers) rlm-context--spools rlm-client--asking))
"""


class Terminal:
    """Emacs in a terminal."""

    columns, rows = 100, 40

    def __init__(self, home: Path, emacs: str) -> None:
        self.home = home
        self.emacs = emacs
        self._tmux: list[str] = []

    async def start(self, *arguments: str | Path, **environ: str) -> None:
        """Start Emacs with command line arguments and further environment."""
        self._tmux = ["tmux", "-L", f"rlm-{uuid4().hex}", "-f", "/dev/null"]
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
        emacs = [self.emacs, "-Q", "-nw", "--eval", FOR_TESTS, "-L", str(ROOT / "elisp")]
        command = [*emacs, "-l", "rlm", "-l", str(self.home / "init.el"), *map(str, arguments)]
        line = ["env", *(f"{name}={value}" for name, value in environ.items()), *command]
        place = ["-x", str(self.columns), "-y", str(self.rows), "-c", str(self.home)]
        self._run("new-session", "-d", *place, f"exec {shlex.join(line)}")
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

    def enter(self, text: str) -> None:
        """Type text as it is, and press Enter."""
        self.type(text)
        self.keys("Enter")

    def screen(self) -> str:
        """What the screen shows now, which may be half drawn."""
        return self._run("capture-pane", "-p")

    async def shows(self, pattern: str) -> str:
        """Wait until the screen shows a match for a regular expression; return the screen.

        A screen counts that is drawn to its end: Emacs sleeps, and two looks in a row agree.
        """
        try:
            async with asyncio.timeout(SECONDS):
                while not self._drawn(screen := self.screen(), pattern):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"the screen never showed {pattern!r}:\n{self.screen()}")
        return screen

    def _drawn(self, screen: str, pattern: str) -> bool:
        return (
            re.search(pattern, screen, re.MULTILINE) is not None
            and state(self.pid()) == "S"
            and screen == self.screen()
        )

    async def quits(self, pattern: str) -> str:
        """Press C-g; return the screen that matches then."""
        self.keys("C-g")
        return await self.shows(pattern)

    async def command(self, name: str) -> None:
        """Press M-x and enter the name of a command."""
        self.keys("M-x")
        await self.shows("^M-x")
        self.enter(name)

    async def switch(self, buffer: str) -> None:
        """Show a buffer in the selected window."""
        self.keys("C-x", "b")
        await self.shows("^Switch to buffer")
        self.enter(buffer)

    async def ask(self, key: str, question: str, about: str = "Ask about") -> None:
        """Press C-c r and a key, and enter a question when asked for it."""
        self.keys("C-c", "r", key)
        await self.shows(f"^{about}")
        self.enter(question)

    async def server(self) -> int:
        """Process id of the server that Emacs is connected to."""
        file = self.home / "pid"
        file.unlink(missing_ok=True)
        await self.command("pid")
        async with asyncio.timeout(SECONDS):
            while not file.exists() or not (text := file.read_text()):
                await asyncio.sleep(0.05)
        return int(text)

    async def transcripts(self, *holding: str) -> list[str]:
        """Wait until as many transcripts are saved, each with one of the texts; in this order."""
        directory = self.home / ".emacs.d/rlm/transcripts"
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    saved = [path.read_text() for path in directory.glob("*.org")]
                    whole = [text for text in saved if text.endswith(TRANSCRIPT_END)]
                    found = [text for part in holding for text in whole if part in text]
                    if len(found) == len(saved) == len(holding):
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"no transcripts with {holding!r} were saved, only:\n{saved}")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=False, timeout=SECONDS
        )
        return done.stdout


EMACSES = {"emacs": EMACS} | ({"emacs-30": str(EMACS_30)} if EMACS_30.exists() else {})


@asynccontextmanager
async def models(
    terminal: Terminal, script, price: float = 0.0, more: str = ""
) -> AsyncIterator[ScriptedProvider]:
    """Let the default model be one that follows a script."""
    async with ScriptedProvider(script) as provider:
        (terminal.home / "config.toml").write_text(
            f'root = "scripted"\ndiscover = false\n{more}[models.scripted]\n'
            'model = "openai/scripted"\n'
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
