"""Other engines from the package index, each in a private environment of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

VERSIONS = {"rlms": "0.1.3", "dspy": "3.4.1"}

# What a contestant needs besides for its other sandbox: a Jupyter kernel, and Deno for Pyodide.
_BESIDES = {"rlms": ["ipython==9.18.1", "ipykernel==7.4.0"], "dspy": ["deno==2.9.8"]}

HOME = Path(__file__).parent.parent.parent / ".cache" / "rivals"


@cache
def rival_python(package: str) -> str | None:
    """The interpreter that has ``package``, installed when first asked for; None if it can't be."""
    wanted = [f"{package}=={VERSIONS[package]}", *_BESIDES[package]]
    home = HOME / "+".join(wanted)
    python = home / "bin" / "python"
    done = home / "installed"
    if not done.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", home], check=True, capture_output=True)
            pip = [python, "-m", "pip", "install", "--quiet", *wanted]
            subprocess.run(pip, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            print(
                f"{' '.join(wanted)} can't be installed and is left out: {error.stderr or error}"[
                    :500
                ]
            )
            return None
        done.touch()
    return str(python)
