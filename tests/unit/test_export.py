"""Runs in other forms: whatever a run says, its page, script and log stay what they are."""

import ast
import asyncio
import json
import re
import subprocess
import warnings
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine_harness import Played, ScriptedModels, cell, final, play, played, resume
from rlm_server.config import Config
from rlm_server.errors import ExportError
from rlm_server.protocol import ChildStarted, Provenance, TextSource
from rlm_server.runs.export import export, export_to
from rlm_server.runs.export.items import Lost, Step, Verdict
from rlm_server.runs.export.story import tell

EVIL = (
    "</pre></details><script>alert(1)</script><img src=x onerror=alert(2)>\u202eevil\x1b[2J\n"
    "```\n# A heading\n~~~\n<b onclick=x>bold</b> ![i](http://127.0.0.1/x.png) [l](javascript:x)\n"
)


@pytest.fixture
async def run(tmp_path: Path) -> Played:
    """A run with a child run, sub-calls, an error, a reply without code, and hostile texts."""
    child = cell("print(rlm_query('What of it? ' + EVIL, context[:9]))")
    replies = [
        cell("EVIL = context[-len(context)//2:]\nprint(llm_query_batched(['one', EVIL]))"),
        "Only words. " + EVIL,
        cell("1/0"),
        child,
        cell("print(context)"),  # the child's
        final("'In the child: greek'"),  # the child's
        final("'See greek.txt:2, and ' + EVIL"),
    ]
    played = await play(
        tmp_path,
        replies,
        sources=[TextSource(text="alpha\nbeta\ngamma\n" + EVIL, name="greek.txt")],
        sub=lambda prompt: EVIL,
        config=Config(max_depth=2, depth_models=["root"]),
    )
    assert played.end.status == "done", played.end
    assert played.of(ChildStarted)
    return played


def text_of(run: Played, form: str) -> str:
    return "".join(export(run.run.log.path, form))  # type: ignore[arg-type]


class Page(HTMLParser):
    """What a browser would make of a page, as far as safety goes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.policy = ""
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on") or name in ("src", "style")]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if href := given.get("href"):
            self.links.append(href)
        if given.get("id"):
            self.ids.add(given["id"] or "")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_holds_hostile_text_as_text(run: Played) -> None:
    page = Page(text_of(run, "html"))
    assert page.open == []  # every element is closed where it was opened
    assert not {"script", "img", "b", "iframe", "link", "object"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert "⟨U+202E⟩evil⟨U+001B⟩[2J" in page.text
    assert "\u202e" not in page.text
    assert page.policy.startswith("default-src 'none'; style-src 'sha256-")


async def test_the_page_links_the_answer_to_its_evidence(run: Played) -> None:
    page = Page(text_of(run, "html"))
    inner = [link for link in page.links if link.startswith("#")]
    assert inner
    assert {link[1:] for link in inner} <= page.ids
    assert all(link.startswith(("#", "file:///")) for link in page.links)


async def test_the_page_marks_what_is_not_in_the_context(tmp_path: Path) -> None:
    answer = (
        "It says “alpha beta gamma” and “delta <b>never</b> came”, see greek.txt:2 and x.txt:9."
    )
    run = await play(tmp_path, [cell("print(context[:5])"), final(repr(answer))])
    text = text_of(run, "html")
    assert re.findall(r"<mark title=[^>]*>(.*?)</mark>", text) == [
        "delta &lt;b&gt;never&lt;/b&gt; came",
        "x.txt:9",
    ]
    assert "This answer is drawn from 100 % of the context" in text
    assert Page(text).tags.count("rect") == len("alpha\nbeta\ngamma\n")
    markdown = text_of(run, "markdown")
    assert "- **not in the context**: `delta <b>never</b> came`" in markdown
    assert "This answer is drawn from 100 % of the context" in markdown


async def test_the_page_tells_everything_in_its_place(run: Played) -> None:
    text = text_of(run, "html")
    page = Page(text)
    for said in ("What is in it?", "greek.txt:2", "ZeroDivisionError", "Child run 1", "Sub-call 2"):
        assert said in page.text, said
    assert page.text.index("See greek.txt:2") < page.text.index("How it went")
    # The child's iterations stand within the child's element.
    child = text[text.index("Child run 1</summary>") :]
    before = child[: child.index("Child run 1, iteration 1")]
    assert before.count("<details>") == 1
    assert "</details>" not in before


async def test_markdown_can_not_be_broken_out_of(run: Played) -> None:
    text = text_of(run, "markdown")
    outside, fence = [], ""
    for line in text.split("\n"):
        mark = re.match(r"(`{3,}|~{3,})(.*)", line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            outside.append(line)
    assert fence == ""
    prose = "\n".join(outside)
    assert not re.search(r"<[A-Za-z/!]|!\[|\]\((?!https?:)", prose)
    heads = [line for line in outside if line.startswith("#")]
    assert not [head for head in heads if "A heading" in head]
    assert "## Answer" in heads
    assert "## Iteration 5" in heads


async def test_the_script_compiles_and_holds_every_cell(run: Played) -> None:
    script = text_of(run, "python")
    tree = ast.parse(script)
    code = [ast.unparse(node) for node in tree.body]
    assert "1 / 0" in code
    assert any(line.startswith("answer['content'] = 'See greek.txt:2") for line in code)
    assert "print(context)" not in code  # a child's, which has another context
    assert "# print(context)" in script


@pytest.mark.parametrize(
    "code",
    [
        "from __future__ import annotations",
        "if context:\n    global x\n    x = 1",
        "print('unclosed",
        "return 5",
        "x = '''\n# %% Iteration 9, cell 1\n'''",
        "'\\d'",
        "# a\x0cb",
    ],
)
async def test_the_script_compiles_whatever_the_cells_hold(tmp_path: Path, code: str) -> None:
    run = await play(tmp_path, [cell("x = 5"), cell(code), final()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # the model's, about its own strings
        warnings.simplefilter("ignore", DeprecationWarning)  # the same until Python 3.12
        compile(text_of(run, "python"), "script", "exec", dont_inherit=True)


async def test_long_code_is_whole_in_the_script(tmp_path: Path) -> None:
    code = "x = [\n" + "".join(f"    {number},\n" for number in range(4000)) + "]"
    run = await play(tmp_path, [cell("y = 1") + cell(code), final()])
    assert code in text_of(run, "python")
    assert code in text_of(run, "markdown")


# ------------------------------------------------------------------- the reference engine's format


def number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_call(call: dict[str, object]) -> None:
    """What the visualiser does with a sub-call: three figures as badges, two texts."""
    assert number(call["prompt_tokens"])
    assert number(call["completion_tokens"])
    assert number(call["execution_time"])  # toFixed is called on it
    assert isinstance(call["prompt"], str | dict)
    assert isinstance(call["response"], str)
    for iteration in (call.get("metadata") or {}).get("iterations", []):  # type: ignore[attr-defined]
        check_iteration(iteration)


def check_iteration(line: dict[str, object]) -> None:
    """What the visualiser does with an iteration; what isn't there would stop it.

    It maps over ``prompt`` and joins the contents, takes the length of ``response``, tells a
    final answer by whether it is null (so it has to be there), and makes a date of the time.
    """
    assert isinstance(line["iteration"], int)
    assert re.match(r"\d{4}-\d\d-\d\dT", str(line["timestamp"]))
    assert isinstance(line["prompt"], list)
    assert line["prompt"]
    for message in line["prompt"]:
        assert message["role"] in ("system", "user", "assistant")
        assert isinstance(message["content"], str)
    assert isinstance(line["response"], str)
    assert line["final_answer"] is None or isinstance(line["final_answer"], str)
    assert line["iteration_time"] is None or number(line["iteration_time"])
    for block in line["code_blocks"]:  # type: ignore[attr-defined]
        assert isinstance(block["code"], str)
        result = block["result"]
        assert isinstance(result["stdout"], str)
        assert isinstance(result["stderr"], str)  # not empty: an error
        assert isinstance(result["locals"], dict)
        assert number(result["execution_time"])
        for call in result["rlm_calls"]:
            check_call(call)


async def test_the_visualisers_parser_finds_everything(run: Played) -> None:
    head, *lines = map(json.loads, text_of(run, "rlms").splitlines())
    assert head["type"] == "metadata"
    for name in ("root_model", "backend", "environment_type"):
        assert isinstance(head[name], str)
    assert number(head["max_depth"])
    assert number(head["max_iterations"])
    for line in lines:
        assert line["type"] == "iteration"
        check_iteration(line)
    asked = re.search(r'original query: "([^"]+)"', lines[0]["prompt"][0]["content"])
    assert asked
    assert asked[1] == "What is in it?"
    assert [line["final_answer"] is not None for line in lines] == [False] * 4 + [True]
    assert lines[-1]["final_answer"] == run.answer
    calls = [c for line in lines for b in line["code_blocks"] for c in b["result"]["rlm_calls"]]
    assert len(calls) == 3
    assert len(calls[2]["metadata"]["iterations"]) == 2
    assert lines[2]["code_blocks"][0]["result"]["stderr"].endswith("division by zero\n")


REFERENCE = """
import json, sys
from rlm.core.types import (CodeBlock, REPLResult, RLMChatCompletion, RLMIteration, RLMMetadata)
head, *lines = [json.loads(line) for line in sys.stdin]

def without(line, *names):
    return {name: value for name, value in line.items() if name not in names}

def block(it):
    calls = [call(c) for c in it["result"]["rlm_calls"]]
    return CodeBlock(it["code"], REPLResult(**{**it["result"], "rlm_calls": calls}))

def call(it):
    made = RLMChatCompletion.from_dict(it)
    assert made.to_dict() == without(it, "prompt_tokens", "completion_tokens"), it
    return made

meta = without(head, "type", "timestamp")
assert RLMMetadata(**meta).to_dict() == meta
for line in lines:
    bare = without(line, "type", "iteration", "timestamp")
    made = RLMIteration(**{**bare, "code_blocks": [block(b) for b in line["code_blocks"]]})
    again = made.to_dict()
    for one, other in zip(again["code_blocks"], bare["code_blocks"], strict=True):
        for known, ours in zip(one["result"]["rlm_calls"], other["result"]["rlm_calls"]):
            assert known == without(ours, "prompt_tokens", "completion_tokens")
            ours.pop("prompt_tokens"), ours.pop("completion_tokens")
    assert again == bare
print(len(lines))
"""


async def test_the_reference_engines_own_types_take_it(run: Played) -> None:
    """With the package itself, where the benchmarks have installed it."""
    rivals = Path(__file__).parents[2] / ".cache" / "rivals"
    python = next((p.parent / "bin" / "python" for p in rivals.glob("rlms==*/installed")), None)
    if python is None:
        pytest.skip("rlms is not installed; `make bench` does that")
    done = subprocess.run(
        [python, "-c", REFERENCE], input=text_of(run, "rlms"), capture_output=True, text=True
    )
    assert done.stdout == "5\n", done.stderr


async def test_the_reference_log_does_not_grow_quadratically(tmp_path: Path) -> None:
    replies = [cell("print('x' * 3000)")] * 19
    run = await play(tmp_path, [*replies, final()])
    whole = len(text_of(run, "rlms"))
    assert whole < 4 * run.run.log.path.stat().st_size


# ------------------------------------------------------------------------------ logs in any state


def damaged(log: Path, lines: list[bytes]) -> Path:
    path = log.with_name("damaged.jsonl")
    path.write_bytes(b"".join(lines))
    return path


@pytest.mark.parametrize("form", ["html", "markdown", "python", "rlms"])
async def test_a_log_that_was_cut_off_anywhere_can_be_exported(run: Played, form: str) -> None:
    whole = run.run.log.path.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 60)):
        text = "".join(export(damaged(run.run.log.path, [whole[:size]]), form))  # type: ignore[arg-type]
        if form == "html":
            assert Page(text).open == []
        if form == "rlms":
            for line in text.splitlines():
                json.loads(line)


async def test_what_is_missing_of_a_log_is_told(run: Played) -> None:
    lines = run.run.log.path.read_bytes().splitlines(keepends=True)
    torn = [*lines[:10], b"\xff\x00 no event\n", *lines[12:], b'{"kind":"answer"']
    path = damaged(run.run.log.path, torn)
    assert list(tell(path))[-1] == Lost(events=2)
    assert "It is damaged: 2 events" in "".join(export(path, "html"))
    assert "It is damaged: 2 events" in "".join(export(path, "markdown"))


async def test_another_runs_lines_are_left_out(run: Played) -> None:
    lines = run.run.log.path.read_bytes().splitlines(keepends=True)
    strange = [line.replace(b'"runId":"test"', b'"runId":"strange"') for line in lines]
    mixed = [line for pair in zip(lines, strange, strict=True) for line in pair]
    page = "".join(export(damaged(run.run.log.path, mixed), "markdown"))
    own = "".join(export(run.run.log.path, "markdown"))
    assert page.partition("\n---\n")[0] == own.partition("\n---\n")[0]


async def test_further_questions_are_told_with_their_answers(tmp_path: Path) -> None:
    async with played(tmp_path, [final("'the first'"), final("'the <second>'")]) as run:
        await run.ended()
        await run.ask_on("And <then>?")
        page = Page(text_of(run, "html"))
        order = ["What is in it?", "the first", "And <then>?", "the <second>", "How it went"]
        places = [page.text.index(said) for said in order]
        assert places == sorted(places)
        assert page.text.count("And <then>?") == 2 + page.text.count("A further question")
        markdown = text_of(run, "markdown")
        assert "# And &lt;then>?" not in markdown
        assert re.search(r"^# And <\u200bthen>\?$", markdown, re.MULTILINE)
        first, second = map(json.loads, text_of(run, "rlms").splitlines()[1:])
        assert (first["final_answer"], second["final_answer"]) == ("the first", "the <second>")
        assert "And <then>?" in second["prompt"][0]["content"]
        assert "# Further question: And <then>?" in text_of(run, "python")
        told = run.of(Provenance)
        assert len(told) == 2


async def test_a_fork_is_told_with_the_beginning_that_it_shares(run: Played) -> None:
    lines = run.run.log.path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"iteration":3' in line)
    first = json.loads(lines[0])
    fork = {
        **{name: first[name] for name in ("question", "rootModel", "subModel", "limits")},
        **{name: first[name] for name in ("maxDepth", "serverVersion", "isolation", "project")},
        "kind": "runForked",
        "runId": "branch",
        "seq": at,
        "time": 1.0,
        "node": "0",
        "parentRunId": "test",
        "parentSeq": at - 1,
        "iteration": 3,
    }
    own = [line.replace(b'"runId":"test"', b'"runId":"branch"') for line in lines[at:]]
    for number, line in enumerate(own):
        seq = json.loads(line)["seq"]
        own[number] = line.replace(f'"seq":{seq},'.encode(), f'"seq":{seq + 1},'.encode(), 1)
    path = run.run.log.path.with_name("branch.jsonl")
    path.write_bytes(json.dumps(fork).encode() + b"\n" + b"".join(own))
    text = "".join(export(path, "markdown"))
    assert "A fork of test from iteration 3 on." in text
    assert [f"## Iteration {n}" in text for n in range(1, 6)] == [True] * 5
    assert "It is damaged" not in text


async def test_events_of_newer_servers_are_passed_over(run: Played) -> None:
    lines = run.run.log.path.read_bytes().splitlines(keepends=True)
    seq = len(lines)
    newer = f'{{"kind":"marvel","runId":"test","seq":{seq},"time":1,"node":"0"}}\n'.encode()
    assert list(tell(damaged(run.run.log.path, [*lines, newer]))) == list(tell(run.run.log.path))


async def test_a_live_log_is_told_as_far_as_it_goes(run: Played) -> None:
    lines = run.run.log.path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"kind":"cellStarted"' in line)
    told = list(tell(damaged(run.run.log.path, lines[: at + 1])))
    assert isinstance(told[-1], Step)
    assert told[-1].cells[0].status == "unfinished"
    assert not [item for item in told if isinstance(item, Verdict)]
    assert "no answer (yet)" in "".join(export(damaged(run.run.log.path, lines[: at + 1]), "html"))


# ------------------------------------------------------------------------------------------- files


async def test_a_file_is_written_whole_or_not_at_all(run: Played, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("before")
    size = export_to(run.run.log.path, "html", target)
    assert target.stat().st_size == size
    assert target.read_text().endswith("</html>\n")
    with pytest.raises(ExportError):
        export_to(run.run.log.path, "html", tmp_path / "none" / "page.html")
    with pytest.raises(ExportError):
        export_to(run.run.log.path, "html", run.run.log.path)
    assert not list(tmp_path.glob(".*.part"))


async def test_an_export_writes_through_no_link_and_is_its_users_only(tmp_path: Path) -> None:
    run = await play(tmp_path, [final()])
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    shared.mkdir()
    mine.write_text("mine")
    target = shared / "page.html"
    (shared / ".page.html.part").symlink_to(mine)
    target.symlink_to(mine)
    size = export_to(run.run.log.path, "html", target)
    assert mine.read_text() == "mine"
    assert not target.is_symlink()
    assert (target.stat().st_size, target.stat().st_mode & 0o777) == (size, 0o600)
    assert sorted(path.name for path in shared.iterdir()) == [".page.html.part", "page.html"]


async def test_no_log_is_exported_over(tmp_path: Path) -> None:
    run = await play(tmp_path, [final()])
    log = run.run.log.path
    other = log.with_name("20260101-000000-abcdef.jsonl")
    other.write_text("precious")
    link = tmp_path / "logs"
    link.symlink_to(tmp_path)
    for target in (log, other, link / other.name, log.with_name("new.jsonl")):
        with pytest.raises(ExportError, match="among the logs"):
            export_to(log, "rlms", target)
    assert other.read_text() == "precious"
    (tmp_path / "elsewhere").mkdir()
    assert export_to(log, "rlms", tmp_path / "elsewhere" / "run.jsonl") > 0


@pytest.mark.parametrize("form", ["html", "markdown", "python", "rlms"])
async def test_a_run_that_went_on_and_its_fork_are_told_once_in_every_form(
    tmp_path: Path, form: str
) -> None:
    first, second = cell("print('the first cell')"), "I think.\n" + cell("print('the second')")
    whole = await play(tmp_path / "whole", [first, second, final("context[:5]")])
    lines = whole.run.log.path.read_bytes().splitlines(keepends=True)
    half = next(n for n, line in enumerate(lines) if b'"node":"0.2"' in line and b"Delta" in line)
    (tmp_path / "again").mkdir()
    models = ScriptedModels([second, final("context[:5]")])
    resumed = resume(tmp_path / "again", b"".join(lines[: half + 1]), models)
    await asyncio.wait_for(resumed.run.start(), 50)
    assert resumed.end.status == "done"
    (tmp_path / "once").mkdir()
    # Cut short once more behind the end of the second cell, and resumed from there.
    lines = resumed.run.log.path.read_bytes().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if line.startswith(b'{"kind":"cellDone"'))
    again = resume(tmp_path / "once", b"".join(lines[:last]), ScriptedModels([]))
    await asyncio.wait_for(again.run.start(), 50)
    assert again.end.status == "done"
    path = again.run.log.path
    for told in path, fork_of(again):
        text = "".join(export(told, form))  # type: ignore[arg-type]
        for code in ("print('the first cell')", "print('the second')"):
            shown = escape(code) if form == "html" else code
            if form != "rlms":  # which has what was told to the model too
                assert text.count(shown) == 1, (form, code, told.stem)
        assert "damaged" not in text
        if form == "python":
            compile(text, "export", "exec")
        elif form == "rlms":
            found = [json.loads(line) for line in text.splitlines()]
            turns = [each["iteration"] for each in found if each.get("type") == "iteration"]
            assert turns == [1, 2, 3]
        else:
            assert text.count("Resumed here.") == (2 if told == path else 1)
            assert ("A fork of test from iteration 3 on." in text) == (told != path)


def fork_of(parent: Played) -> Path:
    """The log of a fork at the third iteration, which goes as its parent went."""
    lines = parent.run.log.path.read_bytes().splitlines(keepends=True)
    first = json.loads(lines[0])
    at = next(
        json.loads(line)["seq"]
        for line in lines
        if b'"kind":"iterationStarted"' in line and b'"iteration":3' in line
    )
    shared = ("question", "rootModel", "subModel", "limits", "maxDepth", "serverVersion")
    fork = {
        **{name: first[name] for name in (*shared, "isolation", "project")},
        "kind": "runForked", "runId": "branch", "seq": at, "time": 1.0, "node": "0",
        "parentRunId": "test", "parentSeq": at - 1, "iteration": 3,
    }  # fmt: skip
    own = []
    for line in lines[at:]:
        event = {**json.loads(line), "runId": "branch"}
        if event["kind"] != "runResumed":
            event["seq"] = at + 1 + len(own)
            own.append(json.dumps(event, separators=(",", ":")).encode() + b"\n")
    path = parent.run.log.path.with_name("branch.jsonl")
    path.write_bytes(json.dumps(fork, separators=(",", ":")).encode() + b"\n" + b"".join(own))
    return path
