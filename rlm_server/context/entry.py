"""An entry of the store: one kept corpus in a directory of its own, and who uses it.

Whoever has the corpus open holds a shared lock on a file in the directory. To remove an entry
takes an exclusive one, so that what is in use stays; the lock's file also tells the last use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from rlm_server import __version__
from rlm_server.context.corpus import INDEX, TEXT, Corpus, Document
from rlm_server.context.mapped import Lines
from rlm_server.protocol import LeftOut

READER = ("1", __version__, sys.byteorder)
"""How texts are read and kept; corpora of other readers are not used."""
ABOUT = "about.json"
LOCK = "lock"
SETTLED = "settled"
_SETTLE_SECONDS = 120
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class About(msgspec.Struct):
    """What a corpus is beside its two files."""

    reader: tuple[str, ...]
    hash: str
    documents: list[Document]
    left_out: list[LeftOut]
    left_out_counts: dict[str, int]
    offsets: list[int]
    newlines: list[int]
    text_bytes: int
    index_bytes: int
    boot: str
    """Start of the machine in which it was written: see ``_lost``."""

    @classmethod
    def of(cls, corpus: Corpus) -> About:
        """Describe a corpus. Raises OSError."""
        return cls(
            reader=READER,
            hash=corpus.hash,
            documents=corpus.documents,
            left_out=corpus.left_out,
            left_out_counts=corpus.left_out_counts,
            offsets=corpus.lines.offsets,
            newlines=corpus.lines.newlines,
            text_bytes=corpus.text_path.stat().st_size,
            index_bytes=corpus.index_path.stat().st_size,
            boot=_boot(),
        )

    def name(self) -> str:
        """Name the entry: the same for the same texts, origins and left-outs."""
        content = (self.reader, self.hash, self.documents, self.left_out, self.left_out_counts)
        return hashlib.sha256(msgspec.msgpack.encode(content)).hexdigest()


def install(corpus: Corpus, about: About, place: Path) -> None:
    """Make the entry ``place`` of a corpus, which keeps its own files too. Raises OSError.

    The directory gets its name when it is complete: what is cut short is never used. Where
    another process was faster, its entry stays.
    """
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        for name in (TEXT, INDEX):
            (new / name).hardlink_to(corpus.directory / name)
        (new / LOCK).touch(0o600)
        (new / ABOUT).write_bytes(msgspec.json.encode(about))
        with contextlib.suppress(FileExistsError):
            _rename(new, place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def open_entry(place: Path, release: Callable[[], None]) -> Corpus | None:
    """Open a kept corpus; None where there is none, or none that is whole.

    ``release`` is called when the corpus is closed.
    """
    lock = _locked(place, fcntl.LOCK_SH)
    if lock < 0:
        return None

    def close() -> None:
        with contextlib.suppress(OSError):
            _settle(place)
            os.utime(lock)
        os.close(lock)
        release()

    try:
        os.utime(lock)
        about = msgspec.json.decode((place / ABOUT).read_bytes(), type=About)
        if about.reader != READER or _lost(about, place) or _sizes(place) != _told(about):
            raise ValueError("a kept context is not whole")
        lines = Lines()
        lines.offsets, lines.newlines = about.offsets, about.newlines
        corpus = Corpus(
            place,
            about.documents,
            hash=about.hash,
            lines=lines,
            left_out=about.left_out,
            left_out_counts=about.left_out_counts,
            release=close,
        )
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        os.close(lock)
        return None
    return corpus


def remove(place: Path) -> bool:
    """Remove an entry that nobody uses; False where it is in use or can't be removed."""
    lock = _locked(place, fcntl.LOCK_EX)
    if lock < 0 and (place / LOCK).exists():
        return False
    try:
        # It is gone in one step; a removal that is cut short leaves nothing that is used.
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=place.parent))
        try:
            place.rename(old)
        finally:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        return False
    finally:
        if lock >= 0:
            os.close(lock)
    return True


def last_use(place: Path) -> float:
    """Say when an entry was opened or closed last, in seconds since 1970."""
    try:
        return (place / LOCK).stat().st_mtime
    except OSError:
        return 0.0


def size_of(place: Path) -> int:
    """Count the bytes of an entry's files."""
    return sum(_file_sizes(place))


def _file_sizes(place: Path) -> Iterator[int]:
    with contextlib.suppress(OSError), os.scandir(place) as files:
        for file in files:
            with contextlib.suppress(OSError):
                yield file.stat(follow_symlinks=False).st_size


def _locked(place: Path, kind: int) -> int:
    """Lock an entry without waiting; -1 where it isn't there, or others hold it."""
    try:
        lock = os.open(place / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
        # It may have been removed, or made anew, since it was opened.
        if os.path.samestat(os.fstat(lock), (place / LOCK).stat()):
            return lock
    except OSError:
        pass
    os.close(lock)
    return -1


def _sizes(place: Path) -> tuple[int, int]:
    return (place / TEXT).stat().st_size, (place / INDEX).stat().st_size


def _told(about: About) -> tuple[int, int]:
    return about.text_bytes, about.index_bytes


def _rename(new: Path, place: Path) -> None:
    """Name a directory. Raises FileExistsError where a full one has the name, and OSError."""
    try:
        new.rename(place)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(error.errno, str(error)) from error
        raise


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _lost(about: About, place: Path) -> bool:
    """Whether the machine may have gone down before the files were on the disk.

    They would have their sizes and hold zeros. To force a gigabyte to the disk takes seconds, so
    the system is left its time, and an entry is marked when that is over.
    """
    return about.boot != _boot() and not (place / SETTLED).exists()


def _settle(place: Path) -> None:
    if time.time() - (place / ABOUT).stat().st_mtime > _SETTLE_SECONDS:
        (place / SETTLED).touch(0o600)
