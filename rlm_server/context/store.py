"""The store of prepared contexts: asked again about unchanged sources, nothing is read again.

``DIRECTORY/<hash>/`` holds a corpus, named by its content; ``DIRECTORY/keys/<hash>`` says which
corpus the sources had in one state. All of it is for the owner alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rlm_server.config import ContextConfig, cache_dir
from rlm_server.context.corpus import Corpus
from rlm_server.context.entry import About, install, last_use, open_entry, remove, size_of

logger = logging.getLogger(__name__)

KEEP_SECONDS = 30 * 86_400
"""Corpora that were not used for so long are removed."""
_STRAY_SECONDS = 3600
_NAME = re.compile(r"[0-9a-f]{64}")


class Store:
    """Kept corpora, for all processes of one person. Methods block: not for the event loop."""

    def __init__(
        self,
        directory: Path,
        limit: int,
        *,
        least: int = 1 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is made before there is something to keep.

        ``limit``: bytes of all corpora, of which those not used for longest make room.
        ``least``: bytes of the smallest that is kept; smaller ones are as soon built.
        """
        self.directory = directory
        self.limit = limit
        self.clock = clock
        self._least = least
        self._keys = directory / "keys"

    def find(self, key: str, directory: Path) -> Corpus | None:
        """Open the corpus of sources in a state, for a run whose files stand in ``directory``."""
        try:
            name = (self._keys / key).read_text()
        except (OSError, ValueError):
            return None
        if not _NAME.fullmatch(name):
            return None
        corpus = self._open(name, directory)
        if corpus is not None:
            with contextlib.suppress(OSError):
                os.utime(self._keys / key)
        return corpus

    def keep(self, corpus: Corpus, key: str | None) -> Corpus:
        """Keep a corpus that was built, and give it as the store has it.

        ``key``: the state of its sources, None where that can't be trusted. Where it can't be
        kept, it is given as it is, and goes when it is closed.
        """
        try:
            about = About.of(corpus)
            if not self._least <= about.text_bytes <= self.limit:
                return corpus
            kept = self._kept(corpus, about)
            if kept is not None and key is not None:
                self._note(key, about.name())
        except (OSError, ValueError) as error:
            logger.warning("The prepared context can't be kept in %s: %s", self.directory, error)
            return corpus
        return kept or corpus

    def entries(self) -> list[Path]:
        """List the kept corpora, those not used for longest first."""
        with contextlib.suppress(OSError):
            found = [path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)]
            return sorted(found, key=last_use)
        return []

    def size(self) -> int:
        """Count the bytes of all kept corpora."""
        return sum(size_of(path) for path in self.entries())

    def clear(self) -> int:
        """Remove all that nobody uses; give their number."""
        count = sum(remove(path) for path in self.entries())
        self.tidy()
        return count

    def tidy(self) -> None:
        """Remove what was not used for a month, and what removals and kills have left."""
        for path in self.entries():
            if self._age(path, last_use(path)) > KEEP_SECONDS:
                remove(path)
        with contextlib.suppress(OSError):
            for path in self.directory.glob(".*-*"):
                if self._age(path) > _STRAY_SECONDS:
                    path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        names = {path.name for path in self.entries()}
        with contextlib.suppress(OSError):
            for path in self._keys.iterdir():
                with contextlib.suppress(OSError, ValueError):
                    if path.read_text() not in names or self._age(path) > KEEP_SECONDS:
                        path.unlink()

    def _kept(self, corpus: Corpus, about: About) -> Corpus | None:
        """Install a corpus, unless that was done before, and open it. Raises OSError."""
        name = about.name()
        for path in (self.directory, self._keys):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        place, directory = self.directory / name, corpus.directory
        kept = self._open(name, directory)
        if kept is None:
            if place.exists() and not remove(place):
                return None  # damaged, and in use
            self.tidy()
            if not self._make_room(about.text_bytes + about.index_bytes):
                return None
            install(corpus, about, place)
            kept = self._open(name, directory)
        if kept is not None:
            corpus.close()
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return kept

    def _open(self, name: str, directory: Path) -> Corpus | None:
        """Open an entry, and make the run's own directory, which goes when that is closed."""

        def release() -> None:
            with contextlib.suppress(OSError):
                directory.rmdir()

        corpus = open_entry(self.directory / name, release)
        if corpus is not None:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError:
                corpus.close()
                return None
        return corpus

    def _make_room(self, wanted: int) -> bool:
        """Remove corpora until ``wanted`` more bytes are allowed; False where that can't be."""
        sizes = {path: size_of(path) for path in self.entries()}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total + wanted <= self.limit:
                break
            if remove(path):
                total -= size
        return total + wanted <= self.limit

    def _note(self, key: str, name: str) -> None:
        file, temporary = tempfile.mkstemp(prefix=".key-", dir=self.directory)
        with os.fdopen(file, "w") as stream:
            stream.write(name)
        Path(temporary).replace(self._keys / key)

    def _age(self, path: Path, used: float | None = None) -> float:
        """Seconds since a file was written, or since it was used; 0 where it is gone."""
        try:
            return self.clock() - (path.stat().st_mtime if used is None else used)
        except OSError:
            return 0.0


def open_store(config: ContextConfig) -> Store | None:
    """Give the store of this person's prepared contexts; None where it is switched off."""
    if config.cache_bytes == 0:
        return None
    return stored(config)


def stored(config: ContextConfig) -> Store:
    """Give the store even where it is switched off: earlier runs may have kept something."""
    return Store(cache_dir(make=False) / "prepared", config.cache_bytes)
