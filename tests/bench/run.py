"""Run every benchmark of this directory, one after the other; each prints its own tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    # The benchmarks use the tests' own clients and providers.
    search = os.pathsep.join([str(HERE.parent), str(HERE.parent.parent)])
    environment = {**os.environ, "PYTHONPATH": search}
    wanted = [HERE / f"bench_{name}.py" for name in sys.argv[1:]]
    failed = []
    for script in wanted or sorted(HERE.glob("bench_*.py")):
        print(f"\n== {script.stem} ==", flush=True)
        # Each in a process of its own: what one has imported or left behind changes no other.
        if subprocess.run([sys.executable, script], env=environment, check=False).returncode:
            failed.append(script.stem)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
