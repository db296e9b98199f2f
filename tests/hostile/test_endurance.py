"""A thousand sandboxes, one after another, leave nothing: no process, no descriptor, no file."""

import os
import resource
import sys
import tempfile
from pathlib import Path

import pytest

from processes import gone
from rlm_server.config import SandboxConfig
from rlm_server.sandbox import choose
from sandbox_support import bench, descendants

SANDBOXES = 1000 if os.environ.get("CI") else 100

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux shows of a process"),
    pytest.mark.timeout(600),
]


def scratch_directories() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("rlm-scratch-*")}


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_sandboxes_in_a_row_leak_nothing(tmp_path: Path) -> None:
    config = SandboxConfig(warm=0)
    await choose(config)

    async def one(number: int) -> None:
        directory = tmp_path / str(number)
        directory.mkdir()
        async with bench(directory, config=config) as b:
            await b.ok("open('x', 'w').write('x' * 1000)")

    for number in range(5):  # what is made once and kept is made now
        await one(-1 - number)
    before = descriptors(), descendants(os.getpid()), scratch_directories()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(SANDBOXES):
        await one(number)
    await gone(list(descendants(os.getpid()) - before[1]))
    assert descriptors() <= before[0]
    # Another server on this machine may be using some.
    assert len(scratch_directories() - before[2]) < SANDBOXES // 10
    # The highest memory ever used, in kB: what leaked would add up.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 30_000
