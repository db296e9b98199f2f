"""The same cells find the same time and the same chance, so that a run can be replayed."""

from pathlib import Path

from rlm_server.config import SandboxConfig
from rlm_server.sandbox import Repl
from sandbox_support import PATIENCE, corpus_files, echo

WHATEVER = """
import datetime, os, random, secrets, time, uuid
print(time.time(), time.strftime("%F %T"), time.localtime()[:6], time.ctime(), time.time_ns())
print(datetime.datetime.now(), datetime.datetime.utcnow(), datetime.date.today())
print(random.random(), random.sample(range(100), 3), uuid.uuid4(), secrets.token_hex(4))
print({"some", "words", "in", "a", "set"}, os.urandom(3), random.SystemRandom().random())
"""


async def printed(directory: Path, *cells: tuple[str, float], seed: int = 7) -> list[str]:
    directory.mkdir()
    repl = await Repl.start(
        corpus_files(directory, {"a.txt": "x"}), config=SandboxConfig(), on_call=echo, seed=seed
    )
    try:
        return [
            (await repl.run(code, timeout=PATIENCE, on_output=lambda *_: None, now=now)).output
            for code, now in cells
        ]
    finally:
        await repl.close()


async def test_two_namespaces_find_the_same(tmp_path: Path) -> None:
    cells = [(WHATEVER, 1e9), ("import random; random.seed(3)", 1e9), (WHATEVER, 1e9 + 60)]
    one = await printed(tmp_path / "one", *cells)
    two = await printed(tmp_path / "two", *cells)
    assert one == two
    assert "1000000000.001" in one[0]
    assert "2001-09-09 01:47:40" in one[2]
    other = await printed(tmp_path / "other", *cells, seed=8)
    assert other[0] != one[0]
    assert other[2].splitlines()[:2] == one[2].splitlines()[:2]


async def test_a_killed_cell_takes_its_chance_back(tmp_path: Path) -> None:
    die = "import os, random; random.random(); os._exit(1)"
    look = ("import random; print(random.random())", 1e9)
    with_it = await printed(tmp_path / "one", look, (die, 1e9), look)
    without = await printed(tmp_path / "two", look, look)
    assert [with_it[0], with_it[2]] == without


async def test_waiting_and_looking_move_the_clock(tmp_path: Path) -> None:
    wait = "import time\nend = time.time() + 2\nn = 0\nwhile time.time() < end: n += 1\nprint(n)"
    sleep = "import time\nt = time.time()\ntime.sleep(0.01)\nprint(round(time.time() - t, 3))"
    measured = "import time\nt = time.monotonic()\ntime.sleep(0.02)\nprint(time.monotonic() > t)"
    got = await printed(tmp_path / "one", (wait, 1e9), (sleep, 1e9), (measured, 1e9))
    assert got == ["1999\n", "0.011\n", "True\n"]


async def test_dates_are_what_they_were(tmp_path: Path) -> None:
    code = """
import copy, datetime, pickle, sqlite3, tomllib, json
from datetime import date, datetime as dt, timedelta, timezone
d = dt(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
print(repr(d), repr(d.date()), repr(date(2020, 1, 2) + timedelta(1)), repr(d + timedelta(1)))
print(pickle.loads(pickle.dumps(d)) == d == copy.deepcopy(d), isinstance(d, date))
made = tomllib.loads("at = 2020-01-02T03:04:05Z\\nday = 2020-01-02")
print(isinstance(made["at"], dt), isinstance(made["day"], date), isinstance(made["day"], dt))
print(sqlite3.connect(":memory:").execute("select ?", (d,)).fetchone())
class Own(dt): pass
print(Own(2020, 1, 2), isinstance(d, Own), dt.strptime("2020", "%Y"), issubclass(dt, date))
"""
    [got] = await printed(tmp_path / "one", (code, 1e9))
    assert got.splitlines() == [
        "datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc) "
        "datetime.date(2020, 1, 2) datetime.date(2020, 1, 3) "
        "datetime.datetime(2020, 1, 3, 3, 4, 5, tzinfo=datetime.timezone.utc)",
        "True True",
        "True True False",
        "('2020-01-02 03:04:05+00:00',)",
        "2020-01-02 00:00:00 False 2020-01-01 00:00:00 True",
    ]
