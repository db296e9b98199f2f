"""The index over all logs: lists of runs are taken from it, and it from the logs, at any time."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from rlm_server.protocol import RunsParams, RunsResult, RunSummary
from rlm_server.runs.log import in_use
from rlm_server.runs.place import RUN_ID, log_path
from rlm_server.runs.summary import summarise

logger = logging.getLogger(__name__)

VERSION = 3
EVERY = 1 << 40
"""A limit that leaves nothing out."""
LOCK_SECONDS = 10.0
"""What another process may keep the index locked, before a list does without it."""
_SCHEMA = """
CREATE TABLE run (
    id TEXT PRIMARY KEY, modified INTEGER NOT NULL, size INTEGER NOT NULL, started REAL NOT NULL,
    project TEXT, parent TEXT, status TEXT NOT NULL, question TEXT NOT NULL,
    rootModel TEXT NOT NULL, cost REAL, seconds REAL NOT NULL, words TEXT NOT NULL,
    summary BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX state ON run (id, modified, size);
CREATE INDEX newest ON run (started DESC, id DESC);
"""
_BROKEN = (sqlite3.Error, OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError)
_decoder = msgspec.json.Decoder(RunSummary)


class Index:
    """One for a state directory, shared by all its servers. Methods block, from any thread."""

    def __init__(self, directory: Path, file: Path) -> None:
        """``directory`` has the logs; ``file`` is made when it is first needed."""
        self.directory = directory
        self.file = file
        self._lock = threading.Lock()

    def find(self, wanted: RunsParams, live: Collection[str]) -> RunsResult:
        """The newest runs that match; ``live`` are those that go on in this server."""
        with self._lock:
            try:
                return self._find(wanted, live)
            except _BROKEN as error:
                if _is_locked(error):
                    logger.info("%s is locked by another process", self.file)
                    return self._find(wanted, live, file=":memory:")
                logger.warning("%s is made anew: %s", self.file, error)
                self._discard()
            try:
                return self._find(wanted, live)
            except _BROKEN as error:
                logger.warning("%s can't be used: %s", self.file, error)
                return self._find(wanted, live, file=":memory:")

    def refresh(self) -> None:
        """Take over what has changed, so that the next list need not wait for it.

        Damage that no list would come upon, such as a row that is not found, is looked for as well.
        """
        with self._lock, contextlib.suppress(*_BROKEN), self._open(str(self.file)) as database:
            if database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                logger.warning("%s is made anew: it is damaged", self.file)
                self._discard()
        self.find(RunsParams(limit=1), ())

    def forks(self, run_id: str) -> list[str]:
        """The runs that share the beginning of this one."""
        found = self.find(RunsParams(limit=EVERY, fork_of=run_id), ())
        return sorted(run.run_id for run in found.runs)

    def _find(
        self, wanted: RunsParams, live: Collection[str], *, file: str | None = None
    ) -> RunsResult:
        where, arguments = _conditions(wanted, list(live))
        with self._open(file or str(self.file)) as database:
            self._update(database)
            # The conditions are words of ours; what a client sends goes as arguments.
            count = f"SELECT count(*) FROM run {where}"  # noqa: S608
            page = f"SELECT id, summary FROM run {where} ORDER BY {_order(wanted)}"  # noqa: S608
            [total] = database.execute(count, arguments).fetchone()
            rows = database.execute(
                f"{page} LIMIT ? OFFSET ?", [*arguments, wanted.limit, wanted.offset]
            ).fetchall()
        runs = [self._summary(run_id, encoded, live) for run_id, encoded in rows]
        return RunsResult(runs=runs, total=total)

    def _summary(self, run_id: str, encoded: bytes, live: Collection[str]) -> RunSummary:
        summary = _decoder.decode(encoded)
        if summary.run_id != run_id:
            raise sqlite3.DatabaseError("a row is damaged")
        summary.log = str(log_path(self.directory, summary.run_id))
        if summary.run_id in live or (
            summary.status == "interrupted" and in_use(Path(summary.log))
        ):
            summary.status = "running"
        return summary

    def _update(self, database: sqlite3.Connection) -> None:
        """Read the logs that are new or have changed, forget those that are gone."""
        known = {
            row[0]: (row[1], row[2])
            for row in database.execute("SELECT id, modified, size FROM run")
        }
        found = self._logs(known)
        changed = [run_id for run_id, state in found.items() if known.get(run_id) != state]
        gone = [(run_id,) for run_id in known.keys() - found.keys()]
        if not changed and not gone:
            return
        database.execute("BEGIN IMMEDIATE")
        database.executemany("DELETE FROM run WHERE id = ?", gone)
        for run_id in changed:
            summary = summarise(log_path(self.directory, run_id))
            if summary is None:
                database.execute("DELETE FROM run WHERE id = ?", (run_id,))
            else:
                database.execute(
                    "INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    _row(summary, *found[run_id]),
                )
        database.execute("COMMIT")

    def _logs(self, known: Collection[str]) -> dict[str, tuple[int, int]]:
        """When each log was changed, and its size."""
        found: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                run_id = entry.name.removesuffix(".jsonl")
                if run_id not in known and not RUN_ID.fullmatch(run_id):
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    continue
                found[run_id] = (status.st_mtime_ns, status.st_size)
        return found

    @contextlib.contextmanager
    def _open(self, file: str) -> Iterator[sqlite3.Connection]:
        if file != ":memory:":
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(file, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = OFF")  # it can be made anew at any time
            [version] = database.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                database.execute("BEGIN IMMEDIATE")
                database.execute("DROP TABLE IF EXISTS run")
                for statement in _SCHEMA.split(";"):  # a script would end the transaction
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
                database.execute("COMMIT")
            yield database
        finally:
            database.close()

    def _discard(self) -> None:
        for ending in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.file.with_name(self.file.name + ending).unlink()


def _is_locked(error: Exception) -> bool:
    """Whether nothing is wrong but that another process uses the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _row(summary: RunSummary, modified: int, size: int) -> tuple[Any, ...]:
    words = (summary.question, summary.project or "", summary.root_model, summary.run_id)
    return (
        *(summary.run_id, modified, size, summary.started, summary.project),
        *(summary.parent_run_id, summary.status, summary.question, summary.root_model),
        *(summary.cost, summary.seconds),
        *("\n".join(words).casefold(), msgspec.json.encode(summary)),
    )


def _order(wanted: RunsParams) -> str:
    """How rows are sorted, as SQL; the names of columns are those that the protocol allows."""
    way = "ASC" if wanted.ascending else "DESC"
    if wanted.sort == "started":
        return f"started {way}, id {way}"
    # As in Emacs: what is unknown is more than any number.
    return f"{wanted.sort} IS NULL {way}, {wanted.sort} {way}, started DESC, id DESC"


def _conditions(wanted: RunsParams, live: list[str]) -> tuple[str, list[Any]]:
    """The rows that match, as SQL and its arguments."""
    terms: list[str] = []
    arguments: list[Any] = []
    if wanted.project is not None:
        terms.append("project = ?")
        arguments.append(wanted.project)
    if wanted.fork_of is not None:
        terms.append("parent = ?")
        arguments.append(wanted.fork_of)
    for word in wanted.text.casefold().split():
        terms.append("instr(words, ?) > 0")
        arguments.append(word)
    if wanted.status is not None:
        marks = ", ".join("?" * len(live))
        if wanted.status == "running":
            terms.append(f"id IN ({marks})")
        else:
            terms.append(f"status = ? AND id NOT IN ({marks})")
            arguments.append(wanted.status)
        arguments += live
    return ("WHERE " + " AND ".join(terms) if terms else "", arguments)
