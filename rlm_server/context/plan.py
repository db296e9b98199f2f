"""From sources to pieces: each file or text that is to be read, once, under the path it is shown.

A path is unique in the corpus: files of one name are told apart by the directories they are in.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from rlm_server.config import ContextConfig
from rlm_server.context.decode import without_surrogates
from rlm_server.context.reasons import LeftOuts, reason_of, shown
from rlm_server.context.walk import Omitted, Walk
from rlm_server.protocol import FileSource, Overlay, Source, TextSource, TreeSource

BUFFER = "rlm-buffer:"
"""Scheme of the URIs of texts that no file holds."""


class Piece(NamedTuple):
    """One document to be."""

    path: str
    """As the model sees it."""
    uri: str
    first_line: int = 1
    file: str = ""
    """Absolute path of what is to be read: the file itself, or a spool file in its stead."""
    text: str | None = None
    """The text itself, where it came with the question."""
    limit: int = 0
    """Bytes that the file may have."""
    spooled: bool = False
    """Whether the client wrote the file, as UTF-8."""
    follow: bool = False
    """Whether the file may be a symbolic link."""


class Plan:
    """All pieces of some sources, in their order."""

    def __init__(
        self,
        sources: Sequence[Source],
        overlays: Sequence[Overlay],
        config: ContextConfig,
        left: LeftOuts,
        *,
        checkpoint: Callable[[], None],
        own: Sequence[Path] = (),
    ) -> None:
        """Take the sources; nothing is looked at before the pieces are asked for.

        What is left out on the way is added to ``left``. ``checkpoint`` is called often and may
        raise. ``own``: files that are being written and so must not be read.
        """
        self._checkpoint = checkpoint
        self._sources = sources
        self._config = config
        self._left = left
        self._spools = {os.path.realpath(o.path): o.spool for o in overlays if _sane(o.path)}
        self._reached = {os.path.realpath(path) for path in own}
        self._paths: set[str] = set()
        self._labels = _labels(sources)

    def __iter__(self) -> Iterator[Piece]:
        """Give the pieces, walking through trees on the way."""
        for source, label in zip(self._sources, self._labels, strict=True):
            self._checkpoint()
            if isinstance(source, TextSource):
                path = self._unique(label)
                yield Piece(path, BUFFER + shown(source.name), text=source.text)
            elif isinstance(source, FileSource):
                yield from self._file(source, label)
            else:
                yield from self._tree(source, label)

    def _file(self, source: FileSource, label: str) -> Iterator[Piece]:
        if not _sane(source.path):
            self._left.add(source.path, "gone")
            return
        real = os.path.realpath(source.path)
        if not self._first(real):
            return
        spool = self._spools.get(real)
        yield Piece(
            self._unique(label),
            _uri(source.origin or source.path),
            source.first_line,
            file=spool or source.path,
            limit=self._config.max_file_bytes,
            spooled=spool is not None or source.origin is not None,
            follow=True,
        )

    def _tree(self, source: TreeSource, label: str) -> Iterator[Piece]:
        root = source.root
        try:
            mode = os.stat(root).st_mode if _sane(root) else None  # noqa: PTH116
        except OSError as error:
            self._left.add(root, reason_of(error))
            return
        if mode is None or not stat.S_ISDIR(mode):
            self._left.add(root, "gone" if mode is None else "not a directory")
            return
        prefix = f"{label}/" if label else ""
        limit = self._config.max_tree_file_bytes
        uri = _uri(root).rstrip("/") + "/"
        for item in Walk(source, self._checkpoint):
            if isinstance(item, Omitted):
                self._left.add(prefix + item.path or root, item.reason)
            elif self._first(item.real):
                path = self._unique(prefix + item.path)
                address = uri + quote_from_bytes(os.fsencode(item.path))
                spool = self._spools.get(item.real)
                if spool is None:
                    yield Piece(path, address, file=item.real, limit=limit)
                else:
                    yield Piece(path, address, file=spool, limit=limit, spooled=True, follow=True)

    def _first(self, real: str) -> bool:
        """Note a file as reached; False where it was before."""
        if real in self._reached:
            return False
        self._reached.add(real)
        return True

    def _unique(self, path: str) -> str:
        """Make a path fit to be shown, and unlike all others."""
        path = shown(path)
        unique, number = path, 2
        while unique in self._paths:
            unique, number = f"{path} ({number})", number + 1
        self._paths.add(unique)
        return unique


def _labels(sources: Sequence[Source]) -> list[str]:
    """Name each source: as the client says, else by as much of its path's end as is needed."""
    trees = [_absolute(s.root) for s in sources if isinstance(s, TreeSource)]
    files = [_told(s) for s in sources if isinstance(s, FileSource) and not s.name]
    tree_ends, file_ends = _ends(trees), _ends(files)
    labels = []
    for source in sources:
        if isinstance(source, TreeSource):
            end = tree_ends[_absolute(source.root)] if len(trees) > 1 else ""
            labels.append((source.name or end).rstrip("/"))
        elif isinstance(source, FileSource):
            labels.append(source.name or file_ends[_told(source)])
        else:
            labels.append(source.name)
    return labels


def _ends(paths: Sequence[str]) -> dict[str, str]:
    """Give each path its shortest end, in whole parts, that no other path has."""
    ends: dict[str, str] = {}
    left = {path: path.strip("/").split("/") for path in paths}
    length = 1
    while left:
        tails = {path: "/".join(parts[-length:]) for path, parts in left.items()}
        counts = Counter(tails.values())
        for path, tail in tails.items():
            if counts[tail] == 1 or length >= len(left[path]):
                ends[path] = tail
                del left[path]
        length += 1
    return ends


def _told(source: FileSource) -> str:
    """Give the path that a file goes by, which is not that of a spool file."""
    return _absolute((source.origin or source.path).removeprefix(BUFFER))


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100


def _uri(path: str) -> str:
    if path.startswith(BUFFER):
        return shown(path)
    path = _absolute(path if _sane(path) else without_surrogates(path))
    return "file://" + quote_from_bytes(os.fsencode(path))


def _sane(path: str) -> bool:
    """Say whether the system can have a file of this name at all."""
    try:
        return bool(os.fsencode(path)) and "\0" not in path
    except UnicodeEncodeError:
        return False
