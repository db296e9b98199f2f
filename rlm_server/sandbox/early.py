"""A cell that begins before it is sure to be run: what its caller has to know of it."""

from __future__ import annotations

import asyncio

Sure = asyncio.Future[bool]
"""Whether the cell was to run; false undoes it."""


class VoidError(Exception):
    """The cell was not to run, and never happened."""

    def __init__(self, *, kept: bool) -> None:
        """``kept`` says whether the variables of earlier cells are still there."""
        super().__init__("the cell was undone")
        self.kept = kept
