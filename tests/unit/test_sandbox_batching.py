"""Sub-calls of loops as one batch: what is foreseen, and that programs can't tell."""

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

from rlm_server.config import SandboxConfig
from rlm_server.protocol import RunError
from rlm_server.sandbox import Batching, Call, CallReply, CellResult, foresight
from sandbox_support import PATIENCE, Bench, bench

PRELUDE = """
from fractions import Fraction
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
def goes_on():
    while True:
        yield note(n)
going = goes_on()
odd = Fraction(1, 3)
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
    'f"{run} {odd} {x}"', 'f"{run} {1 / len(str(x)[1:])}"', "mk(str(x)[1:])", 'f"{run} {log} {x}"',
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
        "next(going)", "p = list(zip(ys, going))", "p = n in going or x", "a, b = zip(going, 'ab')",
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


ALIASED = {
    "a list within a dict": """
memo = {"notes": []}
notes = memo["notes"]
for x in range(40):
    a = llm_query(f"{x} so far {len(notes)}")
    memo["notes"].append(a)
""",
    "an attribute": """
class Box: pass
box = Box(); box.items = []
items = box.items
for x in range(40):
    box.items.append(llm_query(f"{x} {len(items)}"))
""",
    "what a method keeps": """
notes = []
class State:
    def __init__(self, kept): self.kept = kept
    def add(self, a): self.kept.append(a)
state = State(notes)
for x in range(40):
    state.add(llm_query(f"{x} {len(notes)}"))
""",
    "what a method names": """
notes = []
class State:
    def add(self, a): notes.append(a)
state = State()
for x in range(40):
    state.add(llm_query(f"{x} {len(notes)}"))
""",
    "a default": """
def keep(a, kept=[]):
    kept.append(a); return kept
kept = keep("begin")
for x in range(40):
    keep(llm_query(f"{x} {len(kept)}"))
""",
    "a dict within a list": """
d = {}; box = [d]
for x in range(40):
    box[0][x] = llm_query(f"{x} {list(d.values())[-1:]}")
""",
    "an item that was put there": """
last = ["none"]; rows = []
for x in range(40):
    a = llm_query(f"{x} {last[0]}")
    rows.append(last)
    rows[-1][0] = a
""",
    "a function that re calls": r"""
import re
seen = []
def keep(m): seen.append(m[0]); return m[0]
for x in range(40):
    re.sub(r"\d+", keep, llm_query(f"{x} {seen[-1:]}"))
""",
    "a key": """
seen = []
def keep(m): seen.append(m); return m
for x in range(40):
    sorted([llm_query(f"{x} {seen[-1:]}")], key=keep)
""",
    "what showing an object does": """
seen = []
class Sly:
    def __str__(self): seen.append(1); return "sly"
sly = Sly()
for x in range(40):
    a = llm_query(f"{x} {len(seen)}")
    b = f"{sly}"
    str(sly)
""",
    "a method of an attribute": """
notes = []
class State:
    def add(self, a): notes.append(a)
class Box: pass
box = Box(); box.state = State()
for x in range(40):
    box.state.add(llm_query(f"{x} {len(notes)}"))
""",
    "a method of an item": """
notes = []
class State:
    def add(self, a): notes.append(a)
states = [State()]
for x in range(40):
    states[0].add(llm_query(f"{x} {len(notes)}"))
""",
    "a method called like one of texts": """
notes = []
class State:
    def count(self, a): notes.append(a)
state = State()
for x in range(40):
    state.count(llm_query(f"{x} {len(notes)}"))
""",
    "an operator": """
notes = []
class State:
    def __iadd__(self, a): notes.append(a); return self
state = State()
for x in range(40):
    a = llm_query(f"{x} {len(notes)}")
    state += a
""",
    "an operator of an item": """
notes = []
class State:
    def __lt__(self, a): notes.append(a); return True
states = [State()]
for x in range(40):
    a = llm_query(f"{x} {len(notes)}")
    b = states[0] < a
""",
    "a property": """
notes = []
class State:
    @property
    def last(self): notes.append(1); return 1
state = State()
for x in range(40):
    a = llm_query(f"{x} {len(notes)}")
    b = state.last
""",
    "a generator that goes on": """
notes = []
def going():
    while True: notes.append(1); yield 1
going = going()
for x in range(40):
    a = llm_query(f"{x} {len(notes)}")
    for b in going: break
""",
    "a generator that is used up": """
notes = []
lists = [(notes.append(n) for n in range(3)) for m in range(40)]
for x in range(40):
    a = llm_query(f"{x} {len(notes)}")
    b = list(lists[x])
""",
    "a mapped function that is used up": """
notes = []
def note(a): notes.append(a); return a
noted = map(note, range(80))
for x in range(40):
    a = llm_query(f"{x} {len(notes)}")
    b = a in noted
""",
    "a method that is mapped": """
seen = []
for x in range(40):
    a = llm_query(f"{x} {seen[-1:]}")
    list(map(seen.append, [a]))
""",
}


async def prompts_of(directory: Path, program: str) -> list[Counter[str]]:
    """What a program asks, as it stands and with calls made ahead."""
    asked = []
    for ahead in (False, True):
        prompts = Counter[str]()

        async def answer(call: Call, prompts: Counter[str] = prompts) -> CallReply:
            prompts[call.prompt] += 1
            return CallReply(f"answer {zlib.crc32(call.prompt.encode())}")

        (directory / str(ahead)).mkdir()
        async with bench(directory / str(ahead), on_call=answer) as one:
            await one.repl.run(
                program, timeout=PATIENCE, on_output=lambda stream, text: None,
                batching=Batching(lambda line: None) if ahead else None,
            )  # fmt: skip
        asked.append(prompts)
    return asked


@pytest.mark.parametrize("name", ALIASED)
async def test_an_object_that_is_changed_under_another_name_is_seen(
    tmp_path: Path, name: str
) -> None:
    plain, ahead = await prompts_of(tmp_path, ALIASED[name])
    assert len(plain) == 40
    assert ahead == plain


@pytest.mark.parametrize("turn", [0, 3])
async def test_a_loop_that_fails_has_few_calls_in_vain(tmp_path: Path, turn: int) -> None:
    fails = f"""
def check(a, x):
    return [a][x == {turn}]
for x in range(100):
    check(llm_query(str(x)), x)
"""
    plain, ahead = await prompts_of(tmp_path, fails)
    assert sum(plain.values()) == turn + 1
    assert (ahead - plain).total() <= 2 << turn


CERTAIN = [
    "found = [llm_query(f'{x} {x:>3}') for x in range(50)]",
    "found = {str(x): llm_query(f'{x}') for x in range(50) if x >= 0}",
    "found = []\nfor x in range(50):\n    found.append(llm_query(f'{x}'))",
    "found = []\nfor x in range(50):\n    a = llm_query(f'{x}')\n    found.append((x, a))",
    "found = {}\nfor x in range(50):\n    found[x] = llm_query(f'{x}')",
]
PERHAPS = [
    "found = [llm_query(f'{x}').split()[5] for x in range(50)]",
    "found = {[x]: llm_query(f'{x}') for x in range(50)}",
    "found = []\nfor x in range(50):\n    found.append(int(llm_query(f'{x}')))",
    "found = []\nfor x in range(50):\n    found.append(llm_query(f'{x}'))\n    print(x, missing)",
]


@pytest.mark.parametrize("program", CERTAIN)
async def test_what_can_not_fail_goes_out_at_once(tmp_path: Path, program: str) -> None:
    prompts, all_are_there = set(), asyncio.Event()

    async def wait_for_all(call: Call) -> CallReply:
        prompts.add(call.prompt)
        if len(prompts) == 50:
            all_are_there.set()
        await all_are_there.wait()
        return CallReply("answer")

    async with bench(tmp_path, on_call=wait_for_all) as one:
        result = await one.repl.run(
            program, timeout=60, on_output=lambda stream, text: None,
            batching=Batching(lambda line: None),
        )  # fmt: skip
    assert result.status == "ok"


@pytest.mark.parametrize("program", PERHAPS)
async def test_what_may_fail_asks_few_in_vain(tmp_path: Path, program: str) -> None:
    plain, ahead = await prompts_of(tmp_path, program)
    assert plain.total() == 1
    assert (ahead - plain).total() <= 2


SAME = """
log = []
for x in range(3):
    log.append(llm_query("How likely is it?").strip())
    for y in range(2):
        log.append(llm_query("How likely is it?").strip())
log
"""


async def test_answers_to_one_prompt_come_in_the_order_of_the_calls(tmp_path: Path) -> None:
    """Otherwise a run that is resumed, which answers in that order, would go on differently."""
    asked = 0

    async def count(call: Call) -> CallReply:
        nonlocal asked
        asked += 1
        return CallReply(f"answer {asked}")

    async with bench(tmp_path, on_call=count) as one:
        result = await one.repl.run(
            SAME, timeout=PATIENCE, on_output=lambda stream, text: None,
            batching=Batching(lambda line: None),
        )  # fmt: skip
    assert result.output.strip() == str([f"answer {n + 1}" for n in range(9)])


DOCUMENTS = {f"d{n}.txt": "".join(f"line {n} {m} of it\n" for m in range(50)) for n in range(6)}
BREAKS = """
for d in context.documents:
    if llm_query(d[:40]): break
"""
READS = [
    "for d in context.documents: a = llm_query(f'q {d}')",
    "found = [llm_query(f'q {p}') for p in chunk_lines(context, 20)]",
    "for n, p in enumerate(chunk_lines(context, 20)): a = llm_query(f'q {p}')",
    "for n in range(5): a = llm_query(context[n * 300 : n * 300 + 250])",
    BREAKS,
    "for d in context.documents:\n    a = llm_query(d[:40])\n    int(a)",
]


@pytest.mark.parametrize("program", READS)
async def test_what_is_only_foreseen_is_not_looked_at_but_known_in_prompts(
    tmp_path: Path, program: str
) -> None:
    told = []
    for ahead in (False, True):
        held: dict[str, object] = {}

        async def answer(call: Call, held: dict[str, object] = held) -> CallReply:
            held[call.prompt] = call.holds
            return CallReply("answer")

        (tmp_path / str(ahead)).mkdir()
        async with bench(tmp_path / str(ahead), DOCUMENTS, on_call=answer) as one:
            result = await one.repl.run(
                program, timeout=PATIENCE, on_output=lambda stream, text: None,
                batching=Batching(lambda line: None) if ahead else None,
            )  # fmt: skip
        told.append((result.looked_at, held))
    (looked_at, held), (also, more) = told
    assert also == looked_at
    assert all(held.values())
    assert {prompt: more[prompt] for prompt in held} == held


SLY = {
    "reversed of an own sequence": """
class Seq:
    def __len__(self): log.append("len"); return 3
    def __getitem__(self, n): log.append(n); return "abc"[n]
for x in reversed(Seq()): llm_query(x)
""",
    "a list that iterates itself": """
class Own(list):
    def __iter__(self): log.append("iter"); return list.__iter__(self)
for n, x in enumerate(Own("abc")): llm_query(x)
""",
    "elements that compare themselves": """
class Key:
    def __init__(self, name): self.name = name
    def __eq__(self, other): log.append(other); return self.name == other
keys = [Key("a"), Key("b"), Key("c")]
for x in "abc": llm_query(f"{x} {keys.index(x)}")
""",
    "keys that compare themselves": """
class Key:
    def __hash__(self): return hash("a")
    def __eq__(self, other): log.append(other); return other == "a"
d = {Key(): 1, "b": 2, "c": 3}
for x in "abc": llm_query(f"{x} {d[x]} {d.get(x)}")
""",
    "another llm_query": """
real = llm_query
class Query:
    def __eq__(self, other): log.append("eq"); return True
    def __call__(self, prompt): return real(prompt + "!")
llm_query = Query()
for x in "abc": llm_query(x)
""",
    "a property of documents": """
Document.tag = property(lambda self: (log.append(1), "t")[1])
for d in context.documents: llm_query(f"{d.tag} {d[:3]}")
""",
    "a method of documents": """
Document.line_at = lambda self, offset: (log.append(1), 1)[1]
for d in context.documents: llm_query(f"{d.line_at(3)} {d[:3]}")
""",
}


@pytest.mark.parametrize("name", SLY)
async def test_foreseeing_runs_no_code_of_a_cell(tmp_path: Path, name: str) -> None:
    logs = []
    for ahead in (False, True):
        (tmp_path / str(ahead)).mkdir()
        async with bench(tmp_path / str(ahead), DOCUMENTS) as one:
            result = await one.repl.run(
                f"log = []\n{SLY[name]}\nlog", timeout=PATIENCE,
                on_output=lambda stream, text: None,
                batching=Batching(lambda line: None) if ahead else None,
            )  # fmt: skip
        logs.append((result.status, result.output))
    assert logs[0][0] == "ok"
    assert logs[1] == logs[0]


WATCHED = {
    "local variables": """
def go():
    seen, x = locals(), 0
    for x in range(3):
        llm_query(str(x))
        log.append(seen.get("x"))
go()
""",
    "the end of an object": """
class Kept:
    def __init__(self, n): self.n = n
    def __del__(self): log.append(self.n)
    def __str__(self): return str(self.n)
for x in map(Kept, range(3)):
    llm_query("one")
    log.append("asked")
kept = [Kept(n) for n in range(3)]
for x in [1, 2, 3]:
    kept.pop()
    llm_query(f"{x}")
""",
    "an object that goes with its last name": """
import weakref
class Plain: pass
def ended(ref): log.append("ended")
plain = Plain()
ref = weakref.ref(plain, ended)
for x in range(3):
    llm_query(f"{x}")
    plain = x
    log.append(x)
""",
}


@pytest.mark.parametrize("name", WATCHED)
async def test_code_that_watches_what_is_foreseen_sees_nothing_of_it(
    tmp_path: Path, name: str
) -> None:
    logs = []
    for ahead in (False, True):
        (tmp_path / str(ahead)).mkdir()
        async with bench(tmp_path / str(ahead)) as one:
            result = await one.repl.run(
                f"log = []\n{WATCHED[name]}\nlog", timeout=PATIENCE,
                on_output=lambda stream, text: None,
                batching=Batching(lambda line: None) if ahead else None,
            )  # fmt: skip
        logs.append((result.status, result.output))
    assert logs[0][0] == "ok"
    assert logs[1] == logs[0]


DATA_ONLY = """
from dataclasses import dataclass
@dataclass
class Finding:
    "What was found."
    text: str
    page: int = 0
def pages(text):
    for n in range(4):
        yield text + str(n)
total = sum(n for n in range(4))
"""


async def test_classes_without_methods_and_generators_that_are_used_up_leave_loops_batched(
    tmp_path: Path,
) -> None:
    lines = list[int]()
    code = "found = []\nfor p in list(pages('a')):\n    found.append(Finding(llm_query(p)))"
    async with bench(tmp_path) as one:
        for cell in (DATA_ONLY, code):
            result = await one.repl.run(
                cell, timeout=PATIENCE, on_output=lambda stream, text: None,
                batching=Batching(lines.append),
            )  # fmt: skip
    assert (result.status, lines) == ("ok", [2])


async def test_a_batched_loop_keeps_no_copy_of_what_it_goes_through(tmp_path: Path) -> None:
    line = "a plain line of text, no more\n"
    documents = {f"d{n}.txt": line * 4000 for n in range(300)}
    program = """
keep = []
for n, p in enumerate(chunk_tokens(context, 25_000)):
    a = llm_query(f"{n}")
    keep.append("x" * 100_000)
len(keep)
"""
    config = SandboxConfig(memory=100 << 20)
    lines = list[int]()
    async with bench(tmp_path, documents, config=config) as one:
        result = await one.repl.run(
            program, timeout=60, on_output=lambda stream, text: None,
            batching=Batching(lines.append),
        )  # fmt: skip
    assert (result.status, result.output.strip()) == ("ok", "600")
    assert lines == [3]


def test_foreseeing_is_given_up_where_it_takes_longer_than_it_may_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(foresight, "_work", lambda: now)
    patience = foresight.Patience()

    def calls() -> Iterator[dict[str, object]]:
        nonlocal now
        while not patience.over():
            now += 0.15
            yield {}

    foreseen = foresight.foreseen_calls(calls(), patience)
    assert len(list(foreseen)) == 2
    patience = foresight.Patience()
    foreseen = foresight.foreseen_calls(calls(), patience)
    assert next(foreseen) == {}
    patience.waited(0.3)
    assert len(list(foreseen)) == 3
