"""Entries in a SQLite file of one's own, bounded in size, shared by all servers of a user."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec

from rlm_server.models.cache.entry import Entry, Kept, Stats, read_entry
from rlm_server.models.database import Database, DatabaseError, Statement

VERSION = 1
SCHEMA = """
CREATE TABLE entry (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL, hits INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX entry_by_use ON entry (used, size);
CREATE TABLE question (
    id INTEGER PRIMARY KEY, scope BLOB NOT NULL, embedder TEXT NOT NULL, text TEXT NOT NULL,
    answer TEXT NOT NULL, run TEXT NOT NULL, created REAL NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX question_by_scope ON question (scope, embedder)
"""

CURE = "Answers are not kept meanwhile. Remove it with rlm-server cache clear."
OVERHEAD = 300
"""Bytes of a row beside its value, roughly."""
TOUCHES = 256
"""Uses of entries that are noted before they are written."""

_PUT = """INSERT INTO entry (key, value, size, created, used) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, size = excluded.size,
created = excluded.created, used = excluded.used"""
_TRIM = """DELETE FROM entry WHERE (SELECT total(size) FROM entry) > ? AND key IN (
SELECT key FROM (SELECT key, sum(size) OVER (ORDER BY used DESC, key) AS sum FROM entry)
WHERE sum > ?)"""


def cache_database(path: Path) -> Database:
    """The cache's file, which also holds the semantic cache's questions."""
    return Database(path, SCHEMA, version=VERSION, cure=CURE)


class SqliteStore:
    """A ``CacheStore`` in a file. Turns are not taken across processes: at worst both ask."""

    def __init__(
        self,
        database: Database,
        *,
        max_bytes: int,
        ttl: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``ttl`` in seconds; the size may pass ``max_bytes`` by a twentieth for each process."""
        self._database = database
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._clock = clock
        self._unwritten: dict[bytes, Entry] = {}
        self._touched: dict[bytes, tuple[float, int]] = {}
        self._grown = max_bytes  # so that the first entry of a process looks at the size

    @property
    def broken(self) -> str:
        """Why the file can't be used; empty while it can."""
        return self._database.broken

    async def get(self, key: bytes) -> Entry | None:
        """See ``CacheStore``; about 20 µs on the event loop."""
        entry = self._unwritten.get(key) or self._read(key)
        now = self._clock()
        if entry is None or entry.created + self._ttl < now:
            return None
        self._touched[key] = (now, self._touched.get(key, (0.0, 0))[1] + 1)
        if len(self._touched) >= TOUCHES:
            self._database.write(self._touches())
        return entry

    async def put(self, key: bytes, entry: Entry) -> None:
        """See ``CacheStore``; written soon, readable at once."""
        value = msgspec.json.encode(entry)
        size = len(value) + OVERHEAD
        if self.broken or size > self._max_bytes // 4:
            return
        self._unwritten[key] = entry
        now = self._clock()
        statements = [*self._touches(), (_PUT, (key, value, size, entry.created, now))]
        self._grown += size
        if self._grown >= self._max_bytes // 20:
            self._grown = 0
            statements += self._trims(now)
        self._database.write(statements, after=lambda: self._written(key, entry))

    def turn(self, key: bytes) -> AbstractAsyncContextManager[Entry | None]:
        """See ``CacheStore``: always one's own turn."""
        return contextlib.nullcontext()

    async def clear(self) -> int:
        """See ``CacheStore``. A file that can't be used is removed."""
        count = len(self._database.read("SELECT 1 FROM entry"))
        if not self.broken:
            self._database.write([("DELETE FROM entry", ()), ("DELETE FROM question", ())])
            await asyncio.to_thread(self._database.flush)
        if self.broken:
            await asyncio.to_thread(self._remove)
        return count

    async def export(self) -> AsyncIterator[Kept]:
        """See ``CacheStore``."""
        for key, value in self._rows("SELECT key, value FROM entry ORDER BY created"):
            if entry := read_entry(value):
                yield Kept(key=key.hex(), entry=entry)

    async def stats(self) -> Stats:
        """See ``CacheStore``."""
        ((entries, size, hits),) = self._rows(
            "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(hits), 0) FROM entry"
        )
        return Stats(place=str(self._database.path), entries=entries, bytes=size, hits=hits)

    async def close(self) -> None:
        """See ``CacheStore``."""
        if self._touched:
            self._database.write(self._touches())
        await asyncio.to_thread(self._database.close)

    def _read(self, key: bytes) -> Entry | None:
        rows = self._database.read("SELECT value FROM entry WHERE key = ?", (key,))
        return read_entry(rows[0][0]) if rows else None

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        rows = self._database.read(query)
        if self.broken:
            raise DatabaseError(f"{self.broken}.", cure=CURE)
        return rows

    def _touches(self) -> list[Statement]:
        touched, self._touched = self._touched, {}
        update = "UPDATE entry SET used = ?, hits = hits + ? WHERE key = ?"
        return [(update, (used, hits, key)) for key, (used, hits) in touched.items()]

    def _trims(self, now: float) -> list[Statement]:
        upper, lower = int(self._max_bytes * 0.95), int(self._max_bytes * 0.85)
        expired = "DELETE FROM entry WHERE created < ?"
        old = "DELETE FROM question WHERE created < ?"
        limit = now - self._ttl
        return [(expired, (limit,)), (old, (limit,)), (_TRIM, (upper, lower))]

    def _written(self, key: bytes, entry: Entry) -> None:
        """Called in the writing thread; a younger entry that waits stays."""
        if self._unwritten.get(key) is entry:
            del self._unwritten[key]

    def _remove(self) -> None:
        self._database.close()
        for suffix in ("", "-wal", "-shm"):
            path = self._database.path.with_name(self._database.path.name + suffix)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise DatabaseError(f"{path} can't be removed: {error}.") from error
