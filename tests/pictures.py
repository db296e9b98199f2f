"""Make the pictures of the README from a real run of the demo: `make pictures`.

The film is what tmux shows while the keys are pressed, as an SVG that moves by CSS alone. The
screenshot is Emacs in a window on a screen of its own (Xvfb); PICTURE_EMACS names an Emacs that
can draw one. Both ask the demo's question about this checkout's last commit, without a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emacs_terminal import EMACS, Terminal
from terminal_svg import film

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "elisp/pictures"
QUESTION = (ROOT / ".ci/question").read_text().strip()
WIDTH, HEIGHT = 100, 30

LOOKS = """
(setq inhibit-startup-screen t make-backup-files nil auto-save-default nil create-lockfiles nil
      ring-bell-function 'ignore frame-title-format "Emacs" use-dialog-box nil)
(menu-bar-mode -1)
(global-set-key (kbd "C-c r") 'rlm-command-map)
(load-theme 'modus-operandi t)
"""


def checkout(place: Path) -> Path:
    """What was committed last, without what lies around."""
    place.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)
    subprocess.run(["git", "init", "-q", place], check=True)  # a project, to Emacs
    return place


async def play(home: Path) -> list[tuple[str, float]]:
    """Press the keys; return each picture of the terminal and for how many seconds it is seen."""
    terminal = Terminal(home, EMACS)
    terminal.columns, terminal.rows = WIDTH, HEIGHT
    frames: list[tuple[str, float]] = []

    def capture() -> str:
        return terminal._run("capture-pane", "-p", "-e", "-N")

    def show(seconds: float) -> None:
        screen = capture()
        if frames and frames[-1][0] == screen:
            frames[-1] = (screen, frames[-1][1] + seconds)
        else:
            frames.append((screen, seconds))

    async def press(*keys: str, until: str, seconds: float) -> None:
        terminal.keys(*keys)
        await terminal.shows(until)
        await asyncio.sleep(0.3)  # colours come a little after the text
        show(seconds)

    (home / "looks.el").write_text(LOOKS)
    start = checkout(home / "rlm") / "README.md"
    try:
        await terminal.start("-l", home / "looks.el", start)
        await terminal.shows("^# rlm")
        show(1.5)
        await press("C-c", "r", "p", until="^Ask about", seconds=0.8)
        for end in range(6, len(QUESTION) + 6, 6):
            terminal.type(QUESTION[end - 6 : end])
            await terminal.shows(rf"{QUESTION[max(0, end - 12) : end].strip()[-5:]}".strip("?"))
            show(0.25)
        show(0.7)
        terminal.keys("Enter")
        for _ in range(2000):  # the built-in model is quick, where the machine is
            if (screen := capture()) != frames[-1][0]:
                frames.append((screen, 0.35))
            if "? help" in frames[-1][0] and "done" in frames[-1][0]:
                break
            await asyncio.sleep(0.02)
        await press("C-x", "1", until=r"done .*\? help", seconds=1.5)
        await press("a", until=r"^\*\* Answer", seconds=3.5)
        await press("M-<", "2", until=r"^\*\* Iteration 1", seconds=2.5)
        await press("3", until=r"^\*\*\* Sub-call", seconds=2.5)
        await press("o", until=r"^#\+begin_src python", seconds=2.5)
        terminal.keys("C-c", "C-c")
        await terminal.shows(r"^\*\* Your code 1")
        await terminal.shows("^/Ran")
        show(2.5)
        terminal.keys("a")
        terminal.keys("C-s")
        await terminal.shows("^I-search")
        terminal.type("Evidence")
        await press("Enter", "C-n", until=r"^\*\*\* Evidence", seconds=1.5)
        await press("Enter", until=r"^-UU", seconds=3.5)
    finally:
        terminal.stop()
    return frames


def screenshot(home: Path, file: Path) -> None:
    """A window of Emacs with the run, the answer, and the file that a line of evidence is in."""
    emacs = os.environ["PICTURE_EMACS"]
    code = f"""(progn {LOOKS} (tool-bar-mode -1) (scroll-bar-mode -1) (fringe-mode 8)
      (set-face-attribute 'default nil :family "DejaVu Sans Mono" :height 98)
      (set-frame-size nil 128 46)
      (add-hook 'rlm-after-run-functions (lambda (_)
        (run-at-time 1 nil (lambda ()
          (rlm-browse-fold 2) (goto-char (point-min)) (rlm-browse-next-code 1)
          (let ((first (selected-window)))
            (next-error 1 t) (select-window first) (enlarge-window 12)
            (goto-char (point-min)) (rlm-browse-next-code 1) (set-window-start nil (point-min)))
          (message nil)
          (run-at-time 2 nil (lambda () (write-region "" nil "~/drawn" nil 'silent))))))))"""
    (home / "shot.el").write_text(code)
    directory = checkout(home / "rlm")
    environ = {
        **os.environ,
        "HOME": str(home),
        "RLM_STATE": str(home / "state"),
        "RLM_CACHE": str(home / "cache"),
        "RLM_CONFIG": str(home / "config.toml"),
        "RLM_SERVER_PYTHON": sys.executable,
        "RLM_DEMO_DIR": str(directory),
        "RLM_DEMO_QUESTION": QUESTION,
        "LANG": "C.UTF-8",
    }
    (home / "config.toml").write_text("discover = false\n")
    with contextlib.ExitStack() as stack:
        read, write = os.pipe()
        screen = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1100x800x24", "-nolisten", "tcp"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        stack.callback(screen.terminate)
        display = f":{os.read(read, 10).decode().strip()}"
        command = [*shlex.split(emacs), "-Q", "-L", str(ROOT / "elisp"), "-l", "rlm-demo"]
        window = subprocess.Popen(
            [*command, "-l", str(home / "shot.el"), "-f", "rlm-demo-try"],
            env={**environ, "DISPLAY": display},
            cwd=directory,
        )
        stack.callback(window.terminate)
        for _ in range(600):
            if (home / "drawn").exists():
                break
            time.sleep(0.1)
        else:
            sys.exit("Emacs has drawn nothing.")
        shot = ["import", "-display", display, "-window", "root", "-trim", "-colors", "200"]
        subprocess.run([*shot, f"png8:{file}"], check=True)


def main() -> None:
    """Make what can be made here, and say what can't."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "config.toml").write_text("discover = false\n")
        frames = asyncio.run(play(Path(home)))
        (PICTURES / "film.svg").write_text(film(frames, WIDTH, HEIGHT))
    if "PICTURE_EMACS" in os.environ and shutil.which("Xvfb") and shutil.which("import"):
        with tempfile.TemporaryDirectory() as home:
            screenshot(Path(home), PICTURES / "run.png")
    else:
        print("No screenshot: that takes Xvfb, ImageMagick, and PICTURE_EMACS=emacs-gtk.")


if __name__ == "__main__":
    main()
