"""Ignore files: which paths of a tree its ``.gitignore`` and ``.ignore`` files leave out.

As in git, the last matching line of a file decides, and a file deeper in the tree outranks one
above it. As in other search tools, an ``.ignore`` file outranks every ``.gitignore``; both count
outside of a repository too. Names are compared by characters, with case. What git's index holds
and the user's global ignore file play no part.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rlm_server.context.wildmatch import BadPatternError, translate

IGNORE_FILES = (".gitignore", ".ignore")
REPOSITORY_MARKS = (".git", ".jj")
_MAX_BYTES = 1 << 20
_SPECIAL = re.compile(r"[*?\[\\]")


class _Line(NamedTuple):
    """One pattern of a file."""

    negated: bool
    directories: bool
    name_only: bool
    pattern: str


class _Globs:
    """Patterns of which any may match."""

    def __init__(self, lines: Iterable[_Line]) -> None:
        names: set[str] = set()
        name_patterns: list[str] = []
        path_patterns: list[str] = []
        for line in lines:
            if line.name_only and not _SPECIAL.search(line.pattern):
                names.add(line.pattern)
                continue
            try:
                text = translate(line.pattern, name_only=line.name_only)
            except BadPatternError:
                continue
            (name_patterns if line.name_only else path_patterns).append(text)
        self._names = frozenset(names)
        self._name = _any_of(name_patterns)
        self._path = _any_of(path_patterns)

    def match(self, path: str, name: str) -> bool:
        return (
            name in self._names
            or (self._name is not None and self._name.fullmatch(name) is not None)
            or (self._path is not None and self._path.fullmatch(path) is not None)
        )


class Rules:
    """The lines of one ignore file, or a list of globs given by the user."""

    def __init__(self, lines: Iterable[str]) -> None:
        parsed = [line for text in lines if (line := _parse(text)) is not None]
        # Lines of one sign in a row give one verdict whatever their order.
        self._groups: list[tuple[bool, _Globs, _Globs]] = []
        for negated, run in groupby(reversed(parsed), key=lambda line: line.negated):
            together = list(run)
            files = _Globs(line for line in together if not line.directories)
            self._groups.append((not negated, files, _Globs(together)))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def verdict(self, path: str, name: str, directory: bool) -> bool | None:
        """Say whether the last matching line takes the path (True) or gives it back (False).

        ``path`` is relative to where the lines stand, ``name`` its last part. None: no line
        matches.
        """
        for positive, files, directories in self._groups:
            if (directories if directory else files).match(path, name):
                return positive
        return None


class Ignores(NamedTuple):
    """The ignore files in force in a directory, deepest first; each with its path's length."""

    ignore: tuple[tuple[int, Rules], ...] = ()
    git: tuple[tuple[int, Rules], ...] = ()

    def ignored(self, path: str, name: str, directory: bool) -> bool:
        """Say whether a path, relative to where the first ``enter`` was, is left out."""
        for base, rules in self.ignore:
            verdict = rules.verdict(path[base:], name, directory)
            if verdict is not None:
                return verdict
        for base, rules in self.git:
            verdict = rules.verdict(path[base:], name, directory)
            if verdict is not None:
                return verdict
        return False

    def enter(self, directory: str, base: int, *, repository: bool) -> Ignores:
        """Add the ignore files that stand in a directory whose relative path has ``base`` letters.

        A repository of its own starts afresh with ``.gitignore``, as git does.
        """
        ignore, git = self
        if repository:
            exclude = _read(_exclude_file(directory))
            git = ((base, exclude),) if exclude else ()
        if rules := _read(os.path.join(directory, ".gitignore")):  # noqa: PTH118
            git = ((base, rules), *git)
        if rules := _read(os.path.join(directory, ".ignore")):  # noqa: PTH118
            ignore = ((base, rules), *ignore)
        return Ignores(ignore, git)


def above(root: str) -> tuple[Ignores, str]:
    """Collect the ignore files above a tree up to the repository's top.

    Gives them with the tree's path relative to that top, ending in a slash (empty where the tree
    is the top itself, or in no repository). A tree that its parents ignore was asked for by name,
    so then they don't count.
    """
    here = Path(root)
    top = next((d for d in (here, *here.parents) if _is_repository(d)), here)
    ignores, path = Ignores(), ""
    directory = top
    for part in here.relative_to(top).parts:
        ignores = ignores.enter(str(directory), len(path), repository=directory == top)
        if ignores.ignored(path + part, part, True):
            return Ignores(), ""
        path += part + "/"
        directory /= part
    return ignores, path


def _is_repository(directory: Path) -> bool:
    return any(os.path.lexists(directory / mark) for mark in REPOSITORY_MARKS)


def _any_of(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(patterns), re.DOTALL) if patterns else None


def _parse(text: str) -> _Line | None:
    text = _trim(text.removesuffix("\r"))
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text[negated:]
    directories = text.endswith("/")
    text = text[: len(text) - directories]
    name_only = "/" not in text
    text = text.removeprefix("/")
    return _Line(negated, directories, name_only, text) if text else None


def _trim(text: str) -> str:
    """Cut spaces at the end but those behind a backslash."""
    trimmed = text.rstrip(" ")
    backslashes = len(trimmed) - len(trimmed.rstrip("\\"))
    return text[: len(trimmed) + 1] if backslashes % 2 else trimmed


def _read(path: str) -> Rules | None:
    """Read an ignore file; one that can't be read, or is a link, has no lines."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                return None
            data = os.read(file, min(info.st_size, _MAX_BYTES))
        finally:
            os.close(file)
    except OSError:
        return None
    text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))
    return Rules(text.split("\n")) or None


def _exclude_file(directory: str) -> str:
    """Find ``info/exclude`` of the repository, also of a linked worktree or a submodule."""
    git = Path(directory, ".git")
    try:
        if git.is_file():
            git = git.parent / os.fsdecode(git.read_bytes()[:4096]).removeprefix("gitdir:").strip()
            common = git / "commondir"
            if common.is_file():
                git /= os.fsdecode(common.read_bytes()[:4096]).strip()
    except OSError:
        pass
    return str(git / "info" / "exclude")
