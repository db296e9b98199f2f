"""From the start of the server's process to its first reply, beside the start of Python itself."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import print_table

from rpc_client import initialize_params, start_server

RUNS = 7


async def first_reply() -> float:
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        started = time.perf_counter()
        async with start_server(Path(name)) as (client, _):
            await client.request("initialize", initialize_params())
            return time.perf_counter() - started


def python_start(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


async def main() -> None:
    replies, asyncios, litellms = [], [], []
    for _ in range(RUNS):
        replies.append(await first_reply())
        asyncios.append(python_start("import asyncio"))
    for _ in range(3):
        code = "import os; os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = 'True'; import litellm"
        litellms.append(python_start(code))
    floor = statistics.median(asyncios)
    rows = []
    for name, times in (
        ("python -c 'import asyncio'", asyncios),
        ("rlm-server, first reply", replies),
        ("python -c 'import litellm'", litellms),
    ):
        median = statistics.median(times)
        rows.append([name, f"{median:.2f}", f"{max(times):.2f}", f"{median / floor:.1f}"])
    print_table("Process start, s", ["", "median", "worst", "ratio to bare"], rows)


if __name__ == "__main__":
    asyncio.run(main())
