"""The vocabulary as the model's code meets it, in a real sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlm_server.protocol import RunError
from rlm_server.sandbox import Call, CallReply
from sandbox_support import bench

DOCS = {
    "src/pool.py": "import os\n\nclass Pool:\n    def take(self):\n        return None\n",
    "docs/guide.md": "# Guide\n\nThe pool hands out connections.\n\n## Limits\n\nAt most ten.\n",
    "notes.txt": "nothing here\n" * 50,
}


async def test_the_helpers_find_places(tmp_path: Path) -> None:
    async with bench(tmp_path, DOCS) as b:
        assert await b.ok("grep('class|Limits')") == (
            "src/pool.py:3: class Pool:\ndocs/guide.md:5: ## Limits\n"
        )
        assert (await b.ok("print(search('connections of a pool', k=1)[0].path)")) == (
            "docs/guide.md\n"
        )
        assert await b.ok("cite('hands  out connections')") == "docs/guide.md:3\n"
        out = await b.ok("c = cite('a purple elephant')\nprint(bool(c))\nprint(c)")
        assert out.startswith("False\nnot found: 'a purple elephant'")
        assert await b.ok("[p.place for p in chunk_headings(context['docs/guide.md'])]") == (
            "['docs/guide.md:1', 'docs/guide.md:5']\n"
        )


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("grep(['a', 'b'])", "join several by |"),
        ("map_reduce(['a'], lambda item: f'Is it {item}?')", "the items are put below it"),
        ("map_reduce('Is it?', ['a'])", "have to be lists"),
    ],
)
async def test_wrong_use_is_told(tmp_path: Path, code: str, told: str) -> None:
    async with bench(tmp_path, DOCS) as b:
        assert told in (await b.run(code)).error


async def test_a_path_or_a_pattern_stands_for_documents(tmp_path: Path) -> None:
    async with bench(tmp_path, DOCS) as b:
        assert await b.ok("grep('Limits', 'docs/guide.md')") == "docs/guide.md:5: ## Limits\n"
        assert await b.ok("grep('class|Limits', within='*.py')") == "src/pool.py:3: class Pool:\n"
        assert await b.ok("len(grep('Limits', 'The Limits * of it'))") == "1\n"
        assert await b.ok("search('pool', 5, 'src/pool.py')[0].path") == "'src/pool.py'\n"


async def test_a_name_of_the_context_does_not_matter_to_the_helpers(tmp_path: Path) -> None:
    async with bench(tmp_path, DOCS) as b:
        await b.ok("context = 'something else'")
        assert await b.ok("grep('Pool:')") == "src/pool.py:3: class Pool:\n"


async def test_the_context_is_a_mapping_and_a_text(tmp_path: Path) -> None:
    async with bench(tmp_path, DOCS) as b:
        out = await b.ok(
            "d = context.documents\n"
            "print(context['notes.txt'] == d['notes.txt'] == d[2], context[0], context[:5])\n"
            "print('notes.txt' in d, 'other' in d, d[0] in d, 'class Pool' in context)\n"
            "print(d.glob('*.py').paths(), d.glob('docs/**/*.md').paths(), len(d.glob('*')))\n"
            "print(d.get('other'), sorted(dict(d)), [p for p, _ in d.items()] == d.paths())"
        )
        assert out.splitlines() == [
            "True = =====",
            "True False True True",
            "['src/pool.py'] ['docs/guide.md'] 3",
            "None ['docs/guide.md', 'notes.txt', 'src/pool.py'] True",
        ]
        missing = await b.run("context['pool.py']")
        assert (
            missing.error
            == "KeyError: \"no document has the path 'pool.py'; there is src/pool.py\""
        )
        assert "documents.py" not in missing.output


async def test_only_the_models_own_variables_are_listed(tmp_path: Path) -> None:
    async with bench(tmp_path, DOCS) as b:
        assert await b.ok("print(SHOW_VARS())") == "answer: dict, 2 long\n"
        await b.ok("x = [1, 2]\ngrep = 5")
        assert await b.ok("SHOW_VARS()") == "grep: int\nanswer: dict, 2 long\nx: list, 2 long\n"
        assert "Forgot grep" in await b.ok("forget('grep')")
        assert "src/pool.py:3" in await b.ok("grep('class')")


async def test_memory_is_told_and_given_back(tmp_path: Path) -> None:
    async with bench(tmp_path, DOCS) as b:
        await b.ok("big = ['x' * 1000 + str(n) for n in range(30_000)]; other = b'y' * 5_000_000")
        status = await b.ok("memory_status()")
        assert "2.1 GB used" in status
        lines = status.splitlines()
        assert lines[1].startswith("big: list, 3")
        assert lines[2] == "other: bytes, 5.0 MB"
        await b.ok("forget('big', 'oth*')")
        assert "big" not in await b.ok("memory_status()")
        assert (await b.run("forget('big')")).error == (
            "NameError: forget: there is no variable 'big'"
        )


async def test_history_lists_earlier_cells(tmp_path: Path) -> None:
    async with bench(tmp_path, DOCS) as b:
        await b.ok("print('one')")
        await b.run("1 / 0")
        await b.ok("print('x' * 10_000)")
        out = await b.ok("for c in history: print(c.number, c.code, c.error, len(c.output) < 5000)")
        assert out.splitlines() == [
            "1 print('one')  True",
            "2 1 / 0 ZeroDivisionError: division by zero True",
            "3 print('x' * 10_000)  True",
        ]
        assert await b.ok("history[0].output") == "'one\\n'\n"


# --------------------------------------------------------------------------------------- calls


class Script:
    """Answers calls with what is next, and keeps the prompts."""

    def __init__(self, *replies: str | None) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []

    async def __call__(self, call: Call) -> CallReply:
        self.prompts.append(call.prompt)
        reply = self.replies.pop(0)
        if reply is None:
            return CallReply("", RunError(kind="down", message="The server is down."))
        return CallReply(reply)


SCHEMA = "{'type': 'object', 'properties': {'n': {'type': 'integer'}}, 'required': ['n']}"


async def test_a_schema_gives_a_value(tmp_path: Path) -> None:
    script = Script('```json\n{"n": 3}\n```')
    async with bench(tmp_path, on_call=script) as b:
        assert await b.ok(f"llm_query('How many?', schema={SCHEMA})['n'] + 1") == "4\n"
    assert script.prompts[0].startswith("How many?\n\nReply with JSON only")
    assert '"required": ["n"]' in script.prompts[0]


async def test_what_does_not_fit_is_asked_for_once_more(tmp_path: Path) -> None:
    script = Script('{"n": "three"}', 'Sorry: {"n": 3}', "none", "{}")
    async with bench(tmp_path, on_call=script) as b:
        assert await b.ok(f"llm_query('How many?', schema={SCHEMA})") == "{'n': 3}\n"
        assert '- $.n has to be integer, not "three"' in script.prompts[1]
        failed = await b.run(f"llm_query('How many?', schema={SCHEMA})")
        assert failed.error == "SubcallError: the reply does not fit the schema: $ has no 'n'"
        assert "asking.py" not in failed.output


async def test_a_batch_is_checked_one_by_one(tmp_path: Path) -> None:
    async def on_call(call: Call) -> CallReply:
        if call.prompt.startswith("down"):
            return CallReply("", RunError(kind="down", message="The server is down."))
        if call.prompt.startswith("late"):
            return CallReply('{"n": 2}' if "Your last reply" in call.prompt else "two")
        return CallReply("[]" if call.prompt.startswith("never") else '{"n": 1}')

    async with bench(tmp_path, on_call=on_call) as b:
        out = await b.ok(
            f"r = llm_query_batched(['good', 'down', 'late', 'never'], schema={SCHEMA})\n"
            "print(r[0], r[2], [type(x).__name__ for x in r])\nprint(r[1].error, '|', r[3].error)"
        )
        assert out.splitlines() == [
            "{'n': 1} {'n': 2} ['dict', 'SubcallFailure', 'dict', 'SubcallFailure']",
            "The server is down. | the reply does not fit the schema: $ has to be object, not []",
        ]


async def test_an_unknown_keyword_costs_no_call(tmp_path: Path) -> None:
    script = Script()
    async with bench(tmp_path, on_call=script) as b:
        failed = await b.run("llm_query('x', schema={'type': 'string', 'contains': {}})")
        assert failed.error.startswith("ValueError: schema: 'contains' is not supported")
    assert script.prompts == []


async def test_map_reduce_through_the_channel(tmp_path: Path) -> None:
    async def on_call(call: Call) -> CallReply:
        count = call.prompt.count("<item ")
        return CallReply(json.dumps({str(n + 1): "Spam" for n in range(count)}))

    async with bench(tmp_path, on_call=on_call) as b:
        out = await b.ok(
            "map_reduce(range(50), 'Spam?', labels=['spam', 'ham'], reduce=lambda r: "
            "{l: r.count(l) for l in set(r)})"
        )
        assert out == "{'spam': 50}\n"


@pytest.mark.parametrize("name", ["grep", "search", "cite", "map_reduce", "chunk_code", "forget"])
async def test_help_says_how(tmp_path: Path, name: str) -> None:
    async with bench(tmp_path) as b:
        assert len(await b.ok(f"print({name}.__doc__)")) > 60


@pytest.mark.parametrize("letter", ["a", "\u20ac"], ids=["ascii", "wide"])
async def test_searching_copies_no_more_than_a_block(tmp_path: Path, letter: str) -> None:
    text = f"{letter} line of the context that says little\n" * 100_000 + "the needle\n"
    async with bench(tmp_path, {"big.txt": text, "small.txt": "x\n"}) as b:
        out = await b.ok(
            "import tracemalloc\n"
            "for look in (lambda: grep('needle'), lambda: search('the needle'),\n"
            "             lambda: cite('the  needle'), lambda: chunk_lines(context),\n"
            "             lambda: chunk_headings(context), lambda: chunk_tokens(context)):\n"
            "    tracemalloc.start()\n"
            "    found = look()\n"
            "    print(bool(found), tracemalloc.get_traced_memory()[1] < len(context) // 4)\n"
            "    tracemalloc.stop()"
        )
    assert out.splitlines() == ["True True"] * 6
