"""Sub-calls of loops as one batch: what is proved, and that no program can tell the difference."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_server.protocol import RunError
from rlm_server.sandbox import Batching, Call, CallReply, CellResult
from sandbox_support import Bench, bench

PRELUDE = """
run, n, s, out, log, p = {run}, 0, "", [], {{}}, "{run} p"
xs, ys = {xs!r}, list("pqrst")
d = {{x: i for i, x in enumerate(xs)}}
rows = [{{"t": x}} for x in xs]
shared = iter(xs)
def mk(x):
    "A prompt."
    if x: return f"{{run}} mk {{x}}"
    return f"{{run}} empty"
def note(x):
    out.append(x)
    return x
def count(x):
    global n
    n += 1
    return f"{{x}}{{n}}"
class Sly:
    def __str__(self):
        note("seen")
        return "sly"
sly = Sly()
"""

SHOW = "repr((run, n, s, out, log, xs, d, rows, list(shared)))"

ITERABLES = {
    "x": ["xs", "xs[1:]", "d", "range(len(xs))", "iter(xs)", "shared", "reversed(xs)", "'abc'",
          "(x for x in xs)", "sorted(xs)", "xs + ys", "list(d.values())", "map(str, xs)"],
    "i, x": ["enumerate(xs)", "zip(xs, ys)", "d.items()", "enumerate(zip(xs, ys))",
             "enumerate(shared)"],
}  # fmt: skip
PROMPTS = [
    'f"{run} {x}"', 'f"{run} " + str(x)', "mk(x)", 'f"{run} {n} {x}"', 'f"{run} {len(out)} {x}"',
    'f"{run} {s} {x}"', 'f"{run} {out[-1:]} {x}"', 'f"{run} same"', 'f"{run} {xs[0]} {x}"',
    'note(f"{run} {x}")', 'f"{run} {count(x)}"', 'f"{run} {rows[0].get(\'a\')} {x}"',
    'f"{run} {x!r:>6}"', '"%s %s" % (run, x)', '" ".join([str(run), *map(str, [x])])',
    'f"{run} {sly} {x}"', 'f"{run} {1 / len(str(x)[1:])}"', "mk(str(x)[1:])", 'f"{run} {log} {x}"',
    'f"{run} {[y for y in ys if y != x]}"', 'f"{run} {missing}"', 'f"{run} {d.get(x)} {x}"',
]  # fmt: skip
TESTS = ["x", "n > 1", "len(out) < 3", "'1' in s", "str(x) > 'b'", "x in d", "out", "True"]


@st.composite
def calls(draw: st.DrawFn) -> str:
    call = f"llm_query({draw(st.sampled_from(PROMPTS))})"
    around = ["{}", "{}", "{}", "note({})", "len({})", "{}.upper()", "int({}[-2:])", "({} or 1)"]
    return draw(st.sampled_from(around)).format(call)


@st.composite
def statements(draw: st.DrawFn, depth: int = 2, loop: bool = True) -> list[str]:
    """One statement, as its lines."""
    call, test = draw(calls()), draw(st.sampled_from(TESTS))
    simple = [
        f"out.append({call})", f"log[str(x)] = {call}", f"s = str({call})", f"s += str({call})",
        "n += 1", f"n = n + len(str({call}))", f"print(x, {call})", f"p = {call}; out.append(p)",
        f"p = {draw(st.sampled_from(PROMPTS))}", "out.append(llm_query(p))", "xs[:1] = [x]",
        f"a, b = {call}, {draw(calls())}", f"rows[0]['a'] = {call}", f"note({call})", "s = ''",
        f"rows[n % len(rows)]['t'] = {call}", "d.pop(x, None)", f"(s := str({call}))", "pass",
        f"out += [{call}]", f"x = {call}", "del p", f"out.append({call} if {test} else 0)",
        f"out.append({test} and {call})", f"out.append([{call} for x in ys[:2]])",
        "len(xs) < 9 and xs.append(x)", f"assert {test}", "mk = count", "llm = llm_query",
    ]  # fmt: skip
    if loop:
        simple += [f"if {test}: {word}" for word in ("break", "continue", "raise ValueError(x)")]
        simple += [f"if {call} > 'answer 5': break", f"if '3' in str({call}): continue"]
    if not depth or draw(st.integers(0, 3)):
        return [draw(st.sampled_from(simple))]
    body = [f"    {line}" for line in draw(statements(depth - 1, loop))]
    other = [f"    {line}" for line in draw(statements(depth - 1, loop))]
    caught = draw(st.sampled_from(["SubcallError", "Exception", "ZeroDivisionError"]))
    return draw(
        st.sampled_from(
            [
                [f"if {test}:", *body],
                [f"if str({call}) > 'answer 5':", *body, "else:", *other],
                ["try:", *body, f"except {caught}:", *other],
                ["try:", *body, "finally:", *other],
                ["for y in ys[:2]:", *body],
            ]
        )
    )


@st.composite
def programs(draw: st.DrawFn) -> str:
    target = draw(st.sampled_from(sorted(ITERABLES)))
    iterable = draw(st.sampled_from(ITERABLES[target]))
    call = draw(calls())
    if draw(st.integers(0, 2)) == 0:
        test = draw(st.sampled_from(["", "", f" if {draw(st.sampled_from(TESTS))}",
                                     f" if '3' not in str({draw(calls())})"]))  # fmt: skip
        inside = f"{call} for {target} in {iterable}{test}"
        forms = [f"[{inside}]", f"{{{inside}}}", f"{{x: {inside}}}", f"list({inside})",
                 f"any({inside})", f"dict(enumerate([{inside}]))", f"next({inside})",
                 f"[x + str({call}) for x in 'ab' for {target} in {iterable}{test}]"]  # fmt: skip
        return f"out.append({draw(st.sampled_from(forms))})"
    lines = [f"for {target} in {iterable}:"]
    for body in draw(st.lists(statements(), min_size=1, max_size=4)):
        lines += [f"    {line}" for line in body]
    if draw(st.integers(0, 3)) == 0:
        names = "global n, s, out, xs, mk"
        lines = ["def go():", f"    {names}", *(f"    {line}" for line in lines), "go()"]
    return "\n".join(lines)


@dataclass
class Asked:
    """The model behind a REPL: the n-th answer to a prompt is always the same."""

    prompts: Counter[str] = field(default_factory=Counter)

    async def __call__(self, call: Call) -> CallReply:
        self.prompts[call.prompt] += 1
        mark = zlib.crc32(f"{call.prompt} {self.prompts[call.prompt]}".encode())
        if mark % 11 == 0:
            return CallReply("", error=RunError(kind="test", message=f"refused {call.prompt}"))
        return CallReply(f"answer {mark % 100:02}")


@dataclass
class Contestant:
    asked: Asked
    bench: Bench
    ahead: bool
    lines: list[int] = field(default_factory=list)

    async def run(self, code: str) -> CellResult:
        return await self.bench.repl.run(
            code, timeout=20, on_output=lambda stream, text: None,
            batching=Batching(self.lines.append) if self.ahead else None,
        )  # fmt: skip

    async def play(self, run: int, xs: list[str], program: str) -> tuple[object, Counter[str]]:
        self.asked.prompts = Counter()
        await self.run(PRELUDE.format(run=run, xs=xs))
        result = await self.run(program)
        shown = await self.run(SHOW)
        cells = result.output.replace(f"cell {self.bench.repl.cells - 1}", "cell")
        return (result.status, result.error, cells, shown.output), self.asked.prompts


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Contestant, Contestant]]:
    with asyncio.Runner() as runner:
        made, contexts = [], []
        for ahead in (False, True):
            asked = Asked()
            directory = tmp_path / str(ahead)
            directory.mkdir()
            context = bench(directory, on_call=asked)
            made.append(Contestant(asked, runner.run(context.__aenter__()), ahead))
            contexts.append(context)
        yield runner, made[0], made[1]
        for context in contexts:
            runner.run(context.__aexit__(None, None, None))


def test_no_program_can_tell_whether_calls_were_made_ahead(
    pair: tuple[asyncio.Runner, Contestant, Contestant],
) -> None:
    runner, plain, ahead = pair
    runs = 0

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(xs=st.lists(st.sampled_from("abcde"), max_size=5), program=programs())
    def examples(xs: list[str], program: str) -> None:
        nonlocal runs
        runs += 1
        (seen, prompts) = runner.run(plain.play(runs, xs, program))
        (also, more) = runner.run(ahead.play(runs, xs, program))
        assert also == seen
        assert prompts <= more  # what was asked in vain, where a turn failed, is no surplus
        if seen[0] == "ok" and "except" not in program:  # type: ignore[index]
            assert prompts == more

    examples()
    assert len(ahead.lines) > 10  # it is not that nothing was ever made ahead
