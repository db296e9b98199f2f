"""The tree walk: which files below a directory are asked about, and why the others are not.

Nothing outside the root is reached: symbolic links are not followed, but for a link to a file
inside the root that only an include glob kept from being read under its own name.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import NamedTuple

from rlm_server.context.ignorefiles import REPOSITORY_MARKS, Ignores, Rules, above
from rlm_server.context.reasons import Reason, reason_of
from rlm_server.protocol import TreeSource

VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".jj", "CVS", "_darcs", ".bzr"})
_SORT_AT_ONCE = 8192


class Found(NamedTuple):
    """A regular file to be read."""

    path: str
    """Relative to the root, as the file system has it."""
    real: str
    """Absolute path without any link, to be opened."""


class Omitted(NamedTuple):
    """A file, or with a slash at its end a whole directory, that is not to be read."""

    path: str
    reason: Reason


class _Directory(NamedTuple):
    path: str
    """Relative to the root, with a slash at the end; empty for the root."""
    ignores: Ignores
    included: bool
    """Whether an include glob took it as a whole."""


class Walk:
    """One walk through a tree, in the order of names, files and directories mixed."""

    def __init__(self, source: TreeSource, checkpoint: Callable[[], None] = lambda: None) -> None:
        """Take the source; ``checkpoint`` is called at every step and may raise."""
        self._checkpoint = checkpoint
        self._root = os.path.realpath(source.root)
        self._prefix = self._root.rstrip("/") + "/"
        self._respect = source.respect_ignore_files
        self._include = Rules(source.include) if source.include else None
        self._exclude = Rules(source.exclude)
        self._base = ""
        self._passed_over: set[str] = set()
        self._links: list[Found] = []

    def __iter__(self) -> Iterator[Found | Omitted]:
        """Walk; whatever can't be read on the way is told and passed over."""
        ignores = Ignores()
        if self._respect:
            ignores, self._base = above(self._root)
        top = _Directory("", ignores, included=self._include is None)
        stack = [self._enter(top)]
        while stack:
            self._checkpoint()
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif isinstance(item, _Directory):
                stack.append(self._enter(item))
            else:
                yield item
        yield from self._linked()

    def _enter(self, directory: _Directory) -> Iterator[Found | Omitted | _Directory]:
        """List one directory."""
        absolute = self._prefix + directory.path
        try:
            with os.scandir(absolute) as listing:
                entries = list(listing)
        except OSError as error:
            yield Omitted(directory.path, reason_of(error))
            return
        if self._respect:
            repository = any(entry.name in REPOSITORY_MARKS for entry in entries)
            base = len(self._base) + len(directory.path)
            ignores = directory.ignores.enter(absolute, base, repository=repository)
            directory = directory._replace(ignores=ignores)
        for entry in _by_name(entries):
            try:
                item = self._look(directory, entry)
            except OSError as error:
                item = Omitted(directory.path + entry.name, reason_of(error))
            if item is not None:
                yield item

    def _look(
        self, directory: _Directory, entry: os.DirEntry[str]
    ) -> Found | Omitted | _Directory | None:
        """Decide about one entry of a directory; None: to be decided at the end."""
        name = entry.name
        path = directory.path + name
        is_directory = entry.is_dir(follow_symlinks=False)
        shown = path + "/" if is_directory else path
        if name in VERSION_CONTROL and (is_directory or name == ".git"):
            return Omitted(shown, "version control")
        if directory.ignores.ignored(self._base + path, name, is_directory):
            return Omitted(shown, "ignored")
        if self._exclude.verdict(path, name, is_directory):
            return Omitted(shown, "excluded")
        included = directory.included
        if self._include is not None:
            verdict = self._include.verdict(path, name, is_directory)
            included = included if verdict is None else verdict
        if is_directory:
            return _Directory(shown, directory.ignores, included)
        if not included:
            self._passed_over.add(path)
            return Omitted(path, "not included")
        if entry.is_symlink():
            self._links.append(Found(path, entry.path))
            return None
        if not entry.is_file(follow_symlinks=False):
            return Omitted(path, "not a file")
        return Found(path, self._prefix + path)

    def _linked(self) -> Iterator[Found | Omitted]:
        """Decide about the links, now that it is known what was reached without them."""
        for path, link in self._links:
            target = os.path.realpath(link)
            inside = target.removeprefix(self._prefix)
            if inside in self._passed_over and os.path.isfile(target):  # noqa: PTH113
                yield Found(path, target)
            else:
                yield Omitted(path, "symlink")


def _by_name(entries: list[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """Sort by name, a piece at a time, since sorting lets no other thread run."""
    name = attrgetter("name")
    pieces = [
        sorted(entries[at : at + _SORT_AT_ONCE], key=name)
        for at in range(0, len(entries), _SORT_AT_ONCE)
    ]
    return heapq.merge(*pieces, key=name) if len(pieces) > 1 else iter(pieces[0] if pieces else [])
