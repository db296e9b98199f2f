"""The limit of open files, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from rlm_server.models.open_files import allow_many
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
allow_many()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "after"), [(100, 300, 300), (100, 5000, 4096), (4500, 5000, 4500)]
)
def test_the_soft_limit_is_raised_but_never_lowered(soft: int, hard: int, after: int) -> None:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"({after}, {hard})"
