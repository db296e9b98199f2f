"""Hostile code in every mode that this machine offers, as this user and, for root, as another.

Each mode and user plays in one process of its own, which runs all attacks one after another; the
tests look at what it reported, also those in other workers. Everything runs where ``CI`` is set,
else a subset that is quick.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import msgspec
import platformdirs
import pytest

from hostile.attacks import ATTACKS, Attack
from rlm_server.sandbox.launch import interpreter

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STRANGER = 54321
ALL = bool(os.environ.get("CI"))
CHOSEN = [attack for attack in ATTACKS if ALL or attack.fast]

SETTINGS = {
    "full": ("full", {}),
    "base": ("base", {}),
    "base-oldest-landlock": ("base", {"landlock": 1}),
    "base-without-checkpoints": ("base", {"gate": False}),
    "none": ("none", {}),
}
QUICK = {("full", "user"), ("base", "user"), ("full", "root"), ("base", "stranger")}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the suite knows Linux's modes"),
    pytest.mark.timeout(600),
]


def users() -> list[str]:
    return ["root", "stranger"] if os.getuid() == 0 else ["user"]


in_every_setting = pytest.mark.parametrize(
    ("setting", "user"),
    [(s, user) for s in SETTINGS for user in users() if ALL or (s, user) in QUICK],
)


def in_chroot() -> bool:
    """Whether / is no mount of its own: then the kernel grants nobody another root."""
    mounts = Path("/proc/self/mountinfo")
    return mounts.exists() and all(m.split()[4] != "/" for m in mounts.read_text().splitlines())


class Stage:
    """Copies of what the driver needs, where every user can read them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        site = directory / "site"
        site.mkdir()
        for package in (msgspec, platformdirs):
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, site / source.name)
        shutil.copytree(ROOT / "rlm_server", site / "rlm_server")
        shutil.copytree(HERE, site / "hostile")
        shutil.copy(ROOT / "tests" / "sandbox_support.py", site)
        self.python = self._interpreter()
        for path in directory.rglob("*"):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))

    def _interpreter(self) -> Path:
        """Return an interpreter that everybody can run; root's own may stand in a closed house."""
        own = Path(interpreter()).resolve()
        if all(parent.stat().st_mode & 0o001 for parent in own.parents):
            return own
        library = Path(os.__file__).parent
        copy = self.directory / "python"
        ignore = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "*.pyc", "*.a")
        shutil.copytree(library, copy / "lib" / library.name, ignore=ignore)
        (copy / "bin").mkdir()
        shutil.copy(own, copy / "bin" / own.name)
        return copy / "bin" / own.name

    def play(self, setting: str, user: str) -> dict[str, str]:
        """Let a mode and a user play; return what was printed, and why it failed if it did."""
        mode, overrides = SETTINGS[setting]
        drop = (
            {"user": STRANGER, "group": STRANGER, "extra_groups": []} if user == "stranger" else {}
        )
        try:
            done = subprocess.run(
                [self.python, "-I", "-c", self._program(), mode, *(a.name for a in CHOSEN)],
                env={"HOME": "/nonexistent", "RLM_HOSTILE": json.dumps(overrides)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=500,
                check=True,
                cwd="/",
                **drop,  # type: ignore[call-overload]
            )
        except subprocess.SubprocessError as problem:
            return {"failed": f"{problem}\n{getattr(problem, 'stderr', None)}"}
        return {"printed": done.stdout}

    def _program(self) -> str:
        site = self.directory / "site"
        return (
            f"import sys, runpy; sys.path[:0] = [{str(site)!r}]; "
            f"sys.argv[0] = {str(site / 'hostile' / 'driver.py')!r}; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="rlm-stage-"))
    directory.chmod(0o755)
    try:
        yield Stage(directory)
    finally:
        shutil.rmtree(directory)


Played = dict[str, dict[str, object]]


@pytest.fixture(scope="session")
def play(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], dict[str, str]]:
    """Lets a mode and a user play, once for all workers."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent

    @cache
    def play(setting: str, user: str) -> dict[str, str]:
        with (directory / f"hostile-{setting}-{user}").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if not (text := file.read()):
                text = json.dumps(stage.play(setting, user))
                file.write(text)
        return json.loads(text)

    return play


@pytest.fixture
def played(play: Callable[[str, str], dict[str, str]], setting: str, user: str) -> Played:
    if setting == "full" and in_chroot():
        pytest.skip("within a chroot there can be no full mode")
    report = play(setting, user)
    assert "printed" in report, report["failed"]
    lines = [json.loads(line) for line in report["printed"].splitlines()]
    return {str(line.get("name", "end")): line for line in lines}


@in_every_setting
def test_nothing_is_left_behind(played: Played, setting: str, user: str) -> None:
    end = played["end"]
    assert end["isolation"] == SETTINGS[setting][0]
    assert (end["processes"], end["scratch"]) == (0, [])
    assert int(str(end["megabytes"])) < 200
    assert (end["user"] == 0) == (user == "root")


@pytest.mark.parametrize("attack", CHOSEN, ids=lambda attack: attack.name)
@in_every_setting
def test_attack(played: Played, attack: Attack, setting: str) -> None:
    if setting == "none" and attack.contained_only:
        pytest.skip("nothing is contained in this mode")
    report = played[attack.name]
    assert report["problems"] == [], report
    # What replies of a megabyte cost at once, with ample room.
    assert float(str(report["stall"])) < 32, report


def test_there_are_enough_attacks() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 120
