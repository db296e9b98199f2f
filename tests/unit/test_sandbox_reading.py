"""What of the context was printed, sent and looked through, traced whatever the code did to it."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_server.sandbox import Call, CallReply
from rlm_server.sandbox.stretches import Stretches
from sandbox_support import Bench, bench

WORDS = [
    *("amber", "birch", "cedar", "delta", "ember", "fjord"),
    *("grove", "heron", "inlet", "jetty", "knoll", "larch"),
]


def document(name: str, lines: int) -> str:
    chosen = random.Random(name)
    made = (f"{name} {n} " + " ".join(chosen.choices(WORDS, k=8)) for n in range(1, lines + 1))
    return "".join(line + "\n" for line in made)


DOCUMENTS = {f"d{n}.txt": document(f"d{n}", 400) for n in range(3)}
WHOLE = "".join(f"===== {path} =====\n{text}" for path, text in DOCUMENTS.items())
D1 = WHOLE.index("===== d1.txt =====\n") + len("===== d1.txt =====\n")


class Traced(Bench):
    """A REPL, and what its calls held."""

    def __init__(self, bench: Bench, calls: list[Call]) -> None:
        super().__init__(bench.repl)
        self.calls = calls

    async def read(self, code: str) -> str:
        """Run a cell, and return the text of the context that it printed."""
        result = await self.run(code, show=4000)
        assert result.status == "ok", result
        self.looked_at = result.looked_at
        return "".join(WHOLE[start:end] for start, end in result.read)

    async def sent(self, code: str) -> list[str]:
        """Run a cell, and return for each call the text of the context that its prompt held."""
        self.calls.clear()
        await self.ok(code)
        return ["".join(WHOLE[start:end] for start, end in call.holds) for call in self.calls]


@pytest.fixture
async def repl(tmp_path: Path):
    calls: list[Call] = []

    async def on_call(call: Call) -> CallReply:
        calls.append(call)
        return CallReply("understood")

    async with bench(tmp_path, DOCUMENTS, on_call=on_call) as one:
        yield Traced(one, calls)


def close_to(read: str, wanted: str) -> bool:
    return wanted in read and len(read) <= len(wanted) + 60


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("print(context[{d1}:{d1}+900])", WHOLE[D1 : D1 + 900]),
        ("context[{d1}+5:{d1}+905]", WHOLE[D1 + 5 : D1 + 905]),  # its repr
        ("print(context['d1.txt'][:700])", DOCUMENTS["d1.txt"][:700]),
        ("print(context.documents[1][200:900])", DOCUMENTS["d1.txt"][200:900]),
        ("print(chunk_lines(context['d1.txt'], 20)[0])", document("d1", 20)),
        ("for line in context.splitlines()[402:412]: print('-', line)", document("d1", 10)),
        ("import re\nprint(re.search('d1 7 .*', context)[0])", document("d1", 7).splitlines()[6]),
        ("lines = context['d1.txt'].split('\\n')\nprint('\\n'.join(lines[:9]))", document("d1", 9)),
    ],
)
async def test_what_is_printed_is_read(repl: Traced, code: str, wanted: str) -> None:
    assert close_to(await repl.read(code.replace("{d1}", str(D1))), wanted.rstrip("\n"))


async def test_hits_are_read_and_the_rest_only_looked_through(repl: Traced) -> None:
    read = await repl.read("print(grep(r'^d1 (7|20) '))")
    lines = DOCUMENTS["d1.txt"].splitlines()
    assert lines[6] in read
    assert lines[19] in read
    assert len(read) < len(lines[6]) + len(lines[19]) + 20
    seen = sum(end - start for start, end in repl.looked_at)
    assert seen == sum(map(len, DOCUMENTS.values()))


async def test_passages_are_read_where_they_are_printed(repl: Traced) -> None:
    read = await repl.read("print(search('d2 300', k=1))")
    assert "d2 300 " in read
    assert len(read) < 1500


async def test_what_a_cell_does_not_print_is_not_read(repl: Traced) -> None:
    assert await repl.read("x = [c.upper() for c in chunk_lines(context, 50)]\nprint(len(x))") == ""
    assert sum(end - start for start, end in repl.looked_at) > 0.9 * len(WHOLE)


async def test_what_is_cut_out_of_the_output_is_not_read(repl: Traced) -> None:
    read = await repl.read("print(context)")
    assert 3500 < len(read) < 4400
    assert WHOLE[:2000] in read
    assert WHOLE[-1000:] in read


async def test_prompts_tell_what_they_hold(repl: Traced) -> None:
    pieces = await repl.sent(
        "chunks = chunk_lines(context['d0.txt'], 100)\n"
        "llm_query_batched([f'What is it?\\n{c}\\nSay it in a word.' for c in chunks])"
    )
    assert len(pieces) == 4
    assert all(map(close_to, sorted(pieces), sorted(document_pieces("d0", 100))))


def document_pieces(name: str, lines: int) -> Iterator[str]:
    every = iter(document(name, 400).splitlines(keepends=True))
    while piece := "".join(itertools.islice(every, lines)):
        yield piece


async def test_files_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    head = "".join(f"# line {n} of a licence that all of them begin with\n" for n in range(30))
    files = {f"{n}.py": head + document(f"f{n}", 100) for n in range(50)}
    held: list[int] = []

    async def on_call(call: Call) -> CallReply:
        held.append(sum(end - start for start, end in call.holds))
        return CallReply("yes")

    async with bench(tmp_path, files, on_call=on_call) as repl:
        await repl.ok("llm_query_batched(['Judge this:\\n' + d for d in context.documents])")
    assert len(held) == 50
    assert sum(held) > 0.99 * sum(map(len, files.values()))


async def test_numbered_and_quoted_lines_are_found_in_prompts(repl: Traced) -> None:
    [held] = await repl.sent(
        "some = context['d2.txt'].splitlines()[30:60]\n"
        "llm_query('Judge:\\n' + '\\n'.join(f'{n}: {line}' for n, line in enumerate(some, 31)))"
    )
    wanted = document("d2", 60).splitlines()[30:]
    assert all(line in held for line in wanted)
    assert len(held) < 1.1 * sum(map(len, wanted)) + 60


async def test_lines_are_found_in_the_document_that_is_named(tmp_path: Path) -> None:
    files = {f"src/{n}.py": "".join(f"x = {n}\n" * 3) + f"y{n} = 5\n" for n in range(2000)}
    held: list[list[tuple[int, int]]] = []

    async def on_call(call: Call) -> CallReply:
        held.append(call.holds)
        return CallReply("yes")

    async with bench(tmp_path, files, on_call=on_call) as repl:
        await repl.ok(
            "lines = {d.path: str(d).split('\\n') for d in context.documents}\n"
            "llm_query('From src/1500.py:\\n1: ' + lines['src/1500.py'][3])"
        )
        [[(start, end)]] = held
        assert "y1500 = 5" in await repl.ok(f"print(context[{start}:{end}])")


async def test_texts_of_earlier_cells_are_found(repl: Traced) -> None:
    await repl.ok("kept = context['d1.txt'][:3000]")
    [held] = await repl.sent("llm_query('Sum this up: ' + kept)")
    assert len(held) > 2900
    assert held[-2000:] in DOCUMENTS["d1.txt"][:3000]


async def test_the_text_of_a_child_run_is_traced(repl: Traced) -> None:
    [held] = await repl.sent(
        "parts = [context['d0.txt'][:500], context['d2.txt'][:500]]\n"
        "rlm_query('What?', 'Mixed:\\n' + '\\n'.join(parts))"
    )
    assert DOCUMENTS["d0.txt"][:500] in held
    assert DOCUMENTS["d2.txt"][:500] in held
    assert len(held) < 1010


async def test_words_of_ones_own_are_not_read(repl: Traced) -> None:
    assert await repl.read("print('amber birch\\nfjord is a word of it\\n' * 20)") == ""
    assert await repl.sent("llm_query('Tell me of amber and birch, and of what is between.')") == [
        ""
    ]


async def test_a_killed_cell_leaves_the_tracing_intact(repl: Traced) -> None:
    died = await repl.run("import os\nprint(context[:100])\nos._exit(3)")
    assert (died.status, died.read) == ("died", [])
    assert close_to(await repl.read("print(context['d1.txt'][:700])"), document("d1", 400)[:690])


async def test_code_that_breaks_the_tracing_breaks_nothing_else(repl: Traced) -> None:
    await repl.ok(
        "import gc\n"
        "for one in gc.get_objects():\n"
        "    if type(one).__name__ == 'Reading':\n"
        "        one._lines, one._pending = None, [(1, 9)]"
    )
    result = await repl.run("print(context[:100])\nanswer['ready'] = True")
    assert (result.status, result.ready) == ("ok", True)


def test_stretches_are_merged_and_bounded() -> None:
    some = Stretches(8)
    some.update([(5, 9), (0, 3), (3, 4), (8, 12), (7, 7), (20, 15)])
    assert some.all() == [(0, 4), (5, 12)]
    assert some.total() == 11
    for at in range(0, 10_000, 10):
        some.add(at, at + 1)
    assert len(some.all()) <= 8
    assert some.all()[-1][1] == 9991


def test_stretches_are_those_of_a_set() -> None:
    chosen = random.Random(1)
    some, expected = Stretches(), set()
    for _ in range(3000):
        start = chosen.randrange(10_000)
        end = start + chosen.randrange(20)
        some.add(start, end)
        expected.update(range(start, end))
    assert some.total() == len(expected)
    assert all(one[1] < two[0] for one, two in itertools.pairwise(some.all()))
