"""The packages that sandboxed code may import: installed ahead, into a directory of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rlm_server.config import cache_dir
from rlm_server.errors import SandboxError
from rlm_server.sandbox.launch import interpreter

_CURE = "Run `python -m rlm_server.sandbox` once."


def directory_for(packages: Sequence[str]) -> Path | None:
    """Return the directory that holds these packages, None where none are wanted.

    Raises SandboxError where they have not been prepared.
    """
    if not packages:
        return None
    place = _place(packages)
    if not place.is_dir():
        listed = ", ".join(packages)
        raise SandboxError(f"The packages {listed} are not prepared for the sandbox.", cure=_CURE)
    return place


def prepare(packages: Sequence[str]) -> Path:
    """Install the packages, as wheels only: nothing of theirs is run. Raises SandboxError."""
    place = _place(packages)
    if place.is_dir():
        return place
    building = place.with_suffix(f".{os.getpid()}")
    try:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"),
                *("--no-compile", "--target", str(building), *packages),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
        )
        # The sandbox can't write here, so the byte code has to be there beforehand.
        subprocess.run(
            [interpreter(), "-I", "-m", "compileall", "-q", str(building)],
            check=False,
            stdout=subprocess.DEVNULL,
        )
        building.chmod(0o755)
        building.rename(place)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SandboxError(f"The packages can't be installed: {error}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return place


def _place(packages: Sequence[str]) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = "\n".join([version, *sorted(packages)])
    return cache_dir() / f"packages-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
