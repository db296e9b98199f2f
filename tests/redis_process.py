"""A real Redis server on a free loopback port, for tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed; .ci/setup does it"
)


@contextmanager
def redis_server(directory: Path, port: int | None = None) -> Iterator[int]:
    """Start a server that keeps nothing on disk; gives its port."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    process = subprocess.Popen(
        [*command, "--dir", str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        for line in process.stdout:
            if "ready to accept" in line.lower():
                break
        else:
            raise AssertionError("redis-server did not start")
        yield port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
