"""Writes to a small SQLite file: gathered, in order, and there when somebody waits for them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rlm_server.models import database as module
from rlm_server.models.database import Database


def _database(directory: Path) -> Database:
    return Database(directory / "x.db", "CREATE TABLE t (n INTEGER)", version=1, cure="")


def test_writes_of_one_moment_are_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    class Counting(Database):
        def _open(self, wait: float) -> sqlite3.Connection:
            opened.append(wait)
            return super()._open(wait)

    monkeypatch.setattr(module, "GATHER", 3600.0)
    database = Counting(tmp_path / "x.db", "CREATE TABLE t (n INTEGER)", version=1, cure="")
    after: list[int] = []
    for n in range(200):
        database.write([("INSERT INTO t VALUES (?)", (n,))], after=lambda n=n: after.append(n))
    database.flush()  # does not wait for the hour to pass
    assert opened == [module.WRITE_WAIT]
    assert after == list(range(200))
    assert database.read("SELECT count(*), max(n) FROM t") == [(200, 199)]
    database.close()


def test_what_waits_is_written_when_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER", 3600.0)
    database = _database(tmp_path)
    database.write([("INSERT INTO t VALUES (7)", ())])
    database.close()
    again = _database(tmp_path)
    assert again.read("SELECT n FROM t") == [(7,)]
    again.close()
