"""What the tests in a terminal share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emacs_terminal import EMACSES, Terminal
from processes import descendants, gone


@pytest.fixture(params=EMACSES.values(), ids=EMACSES)
async def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Terminal]:
    made = Terminal(tmp_path, request.param)
    (tmp_path / "config.toml").write_text("discover = false\n")
    yield made
    pids = descendants(made.pid()) if made.screen() else []
    made.stop()
    await gone(pids)
