"""A small SQLite file: read at once on the event loop, written in batches by one thread."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rlm_server.errors import RlmError

logger = logging.getLogger(__name__)

READ_WAIT = 0.2
WRITE_WAIT = 10.0
"""Seconds to wait for other processes' locks; reads are on the event loop and rarely wait."""

GATHER = 0.05
"""Seconds in which writes are gathered, so that a busy run pays for few transactions."""

MOST_WAITING = 20_000
"""Writes that are kept while another process locks the file."""

Statement = tuple[str, Sequence[Any]]


class DatabaseError(RlmError):
    """The file can't be used; whoever needs it says what that means."""

    kind = "database"


class Database:
    """One file, shared with other processes. Reads only from one thread.

    What goes wrong is said once, as a warning, and then the file is left alone: ``broken`` tells
    why, reads find nothing, and writes are dropped. Where another process merely locks it, they
    are kept for the next time that something is written, or waited for.
    """

    def __init__(self, path: Path, schema: str, *, version: int, cure: str) -> None:
        """Prepare; the file is opened, or made, when it is first used."""
        self.path = path
        self.broken = ""
        self.publishing = threading.Lock()
        """Held, for a moment, while what was written becomes what is read and ``after`` is called:
        who holds it sees one or the other, never both or none."""
        self._schema = schema
        self._version = version
        self._cure = cure
        self._reader: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._waiting: list[tuple[Sequence[Statement], Callable[[], None]]] = []
        self._job: Future[None] | None = None
        self._hurry = threading.Event()

    def read(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query; none where the file can't be read."""
        return self.look(query, arguments) or []

    def look(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]] | None:
        """Rows of a query; None where the file can't be read, now or at all."""
        if self.broken:
            return None
        try:
            if self._reader is None:
                self._reader = self._open(READ_WAIT)
            return self._reader.execute(query, arguments).fetchall()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return None

    def write(
        self, statements: Sequence[Statement], *, after: Callable[[], None] = lambda: None
    ) -> None:
        """Let the statements be executed within ``GATHER`` seconds, in order, in one transaction.

        ``after`` is called in the writing thread as soon as what was written can be read, or
        has been given up.
        """
        if self.broken or len(self._waiting) >= MOST_WAITING:
            after()
            return
        with self._lock:
            self._waiting.append((statements, after))
            self._begin()

    def _begin(self) -> None:
        """Let what waits be written, unless that has begun."""
        if self._job is None:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.path.stem)
            self._hurry.clear()
            self._job = self._thread.submit(self._write_all)

    def flush(self) -> None:
        """Wait until all is written, or another process locks the file. Blocks, as ``close``."""
        with self._lock:
            if self._waiting:
                self._begin()
        while job := self._job:
            self._hurry.set()
            job.result()

    def close(self) -> None:
        """Write what waits and close the file. Blocks: call it in a thread."""
        self.flush()
        if self._waiting:
            logger.warning("%s is locked: the last of it was not written", self.path)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _write_all(self) -> None:
        while True:
            self._hurry.wait(GATHER)
            with self._lock:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._job = None
                    return
            afters = [after for _, after in batch]
            if not self.broken and self._write_batch(
                [one for all_, _ in batch for one in all_], afters
            ):
                continue
            if self.broken:
                for after in afters:
                    after()
                continue
            with self._lock:  # locked by another process
                self._waiting = batch + self._waiting
                self._job = None
                return

    def _write_batch(
        self, statements: Sequence[Statement], afters: Sequence[Callable[[], None]]
    ) -> bool:
        """Write in one transaction, and tell that it can be read; False where that failed."""
        try:
            with contextlib.closing(self._open(WRITE_WAIT)) as connection:
                # At once: a transaction that begins by reading can't wait for a lock later.
                connection.execute("BEGIN IMMEDIATE")
                for statement, arguments in statements:
                    connection.execute(statement, arguments)
                with self.publishing:
                    connection.execute("COMMIT")
                    for after in afters:
                        after()
                return True
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return False

    def _open(self, wait: float) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the files beside it the same rights.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=wait, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            _use_wal(connection)
            if _version(connection) != self._version:
                self._make(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        """Make the tables; another process may be doing the same."""
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            found = _version(connection)
            if found == self._version:
                return
            if found:
                told = f"it has format {found}, this rlm writes {self._version}"
                raise sqlite3.DatabaseError(told)
            for statement in self._schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {self._version}")

    def _failed(self, error: Exception) -> None:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            logger.info("%s is locked by another process", self.path)
        elif not self.broken:
            self.broken = f"{self.path} can't be used: {error}"
            logger.warning("%s. %s", self.broken, self._cure)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let reading never wait for writing. It is kept in the file, and asked for at most once."""
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        # Two who do this at the same time don't wait for each other; one time is enough.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")
