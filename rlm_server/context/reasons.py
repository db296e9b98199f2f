"""Why a file is left out: the short, stable words, and how many files each applies to."""

from __future__ import annotations

import errno
from typing import Literal
from unicodedata import category

from rlm_server.context.decode import without_surrogates
from rlm_server.protocol import LeftOut

Reason = Literal[
    "binary",
    "excluded",
    "gone",
    "ignored",
    "not a directory",
    "not a file",
    "not included",
    "symlink",
    "too large",
    "unreadable",
    "version control",
]
"""``not included``: no include glob takes it. ``symlink``: it leads out of the tree, to nothing, to
a directory, or to a file that is there under its own name. ``not a file``: a socket, a device..."""

_SHOWN = 100
_BY_ERROR: dict[int | None, Reason] = {
    errno.ENOENT: "gone",
    errno.ENOTDIR: "gone",
    errno.ELOOP: "symlink",
    errno.EISDIR: "not a file",
    errno.ENXIO: "not a file",
}


def reason_of(error: OSError) -> Reason:
    """Say in one word why the system refused a file or directory."""
    return _BY_ERROR.get(error.errno, "unreadable")


def shown(path: str) -> str:
    """Make a path fit to be shown and to be sent: no line ends, controls or broken characters."""
    if path.isprintable():
        return path
    text = without_surrogates(path)
    return "".join("\ufffd" if category(c) in ("Cc", "Zl", "Zp") else c for c in text)


class LeftOuts:
    """All that was left out: the first hundred, and the number for each reason."""

    def __init__(self) -> None:
        self.first: list[LeftOut] = []
        self.counts: dict[str, int] = {}

    def add(self, path: str, reason: Reason) -> None:
        """Count one file or directory."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(self.first) < _SHOWN:
            self.first.append(LeftOut(path=shown(path), reason=reason))
