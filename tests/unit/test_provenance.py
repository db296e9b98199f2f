"""What an answer is drawn from is told with it, and what it quotes is looked up."""

import asyncio
from pathlib import Path

import pytest

from engine_harness import Played, cell, play
from rlm_server.config import Config, ContextConfig
from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import Corpus
from rlm_server.engine import finding
from rlm_server.engine.coverage import Coverage
from rlm_server.engine.evidence import find_evidence
from rlm_server.engine.quotations import quotations
from rlm_server.engine.verify import _path_at_end, verify
from rlm_server.protocol import (
    Answer,
    Provenance,
    Quote,
    SubcallStarted,
    TextSource,
)

FILLER = "".join(f"line {n} of nothing in particular, only to be long\n" for n in range(2000))
LOG = FILLER + "The pump “failed” at noon,\n  and was replaced - twice.\n" + FILLER
NOTES = "# Notes\n\nNobody knows why the valve was left open.\n"
SOURCES = [TextSource(text=LOG, name="a/pump.log"), TextSource(text=NOTES, name="notes.md")]


async def drawn(tmp_path: Path, *cells: str, **options: object) -> tuple[Played, Provenance]:
    run = await play(tmp_path, list(map(cell, cells)), sources=SOURCES, **options)
    [told] = run.of(Provenance)
    return run, told


def done(content: str = "'Yes.'") -> str:
    return f"answer['content'] = {content}\nanswer['ready'] = True"


async def test_an_answer_says_how_much_of_the_context_was_read(tmp_path: Path) -> None:
    _, told = await drawn(
        tmp_path,
        "print(context['notes.md'])\nlen([line for line in context.splitlines()])",
        done(),
    )
    # The notes, and the head and the tail that the root model is shown.
    assert told.characters == len(f"===== a/pump.log =====\n{LOG}===== notes.md =====\n{NOTES}")
    assert told.read is not None
    assert 1200 <= told.read <= 1200 + len(NOTES)
    assert told.looked_through == told.characters
    assert told.documents == 2
    assert [bool(share) for share in told.strip] == [True] + [False] * 98 + [True]
    first, second, third = told.stretches
    assert (first.path, first.line) == ("a/pump.log", 1)
    assert (second.path, second.last_line) == ("a/pump.log", LOG.count("\n"))
    assert (third.path, third.line, third.last_line) == ("notes.md", 1, 3)


async def test_it_comes_before_the_answer(tmp_path: Path) -> None:
    run, _ = await drawn(tmp_path, "context", done("'x' * 40_000"))
    kinds = [type(event) for event in run.events]
    assert kinds.index(Provenance) == kinds.index(Answer) - 1


async def test_subcalls_tell_what_they_read_and_it_counts(tmp_path: Path) -> None:
    run, told = await drawn(
        tmp_path,
        "pump = context['a/pump.log']\n"
        "llm_query('Sum up:\\n' + pump[:30_000])\nllm_query('And:\\n' + context['notes.md'])",
        done(),
    )
    first, second = run.of(SubcallStarted)
    assert [one.path for one in first.holds] == ["a/pump.log"]
    assert first.holds[0].characters >= 29_900
    assert [one.path for one in second.holds] == ["notes.md"]
    assert told.read is not None
    assert 30_000 < told.read < 32_000


async def test_a_call_that_failed_has_read_nothing(tmp_path: Path) -> None:
    _, told = await drawn(
        tmp_path,
        "try: llm_query('Sum up:\\n' + context[:30_000])\nexcept SubcallError: pass",
        done(),
        sub=lambda prompt: ValueError("down"),
    )
    assert told.read is not None
    assert told.read < 1300


async def test_what_child_runs_read_counts_where_it_stands(tmp_path: Path) -> None:
    _, told = await drawn(
        tmp_path,
        "rlm_query('What?', context['a/pump.log'][50_000:90_000])",
        "print(context[1000:4000])",
        done("'of the child'"),
        done(),
        config=Config(max_depth=2, depth_models=["root"]),
    )
    places = {(stretch.path, stretch.line): stretch.characters for stretch in told.stretches}
    edge = LOG[:50_000].count("\n") + 1
    assert places["a/pump.log", edge] == 600  # what the child was shown to begin with
    printed = LOG[:51_000].count("\n") + 1
    assert 2900 <= places["a/pump.log", printed] <= 3000
    assert told.read is not None
    assert 1200 + 1200 + 2900 <= told.read <= 1200 + 1200 + 3100


async def test_a_child_with_a_text_of_its_own_counts_by_what_that_holds(tmp_path: Path) -> None:
    _, told = await drawn(
        tmp_path,
        "rlm_query('What?', 'Look:\\n' + context['a/pump.log'][50_000:60_000].upper().lower()\n"
        "          + context['a/pump.log'][70_000:75_000])",
        "print(context[:400])",
        done("'of the child'"),
        done(),
        config=Config(max_depth=2, depth_models=["root"]),
    )
    assert told.read is not None
    # What upper().lower() has left as it was is found as well.
    assert 5_000 + 1200 <= told.read <= 15_000 + 1200 + 100


async def test_a_child_that_is_too_deep_reads_what_its_prompt_takes_along(tmp_path: Path) -> None:
    run, told = await drawn(tmp_path, "rlm_query('What?', context['notes.md'])", done())
    [call] = run.of(SubcallStarted)
    assert [(one.path, one.characters) for one in call.holds] == [("notes.md", len(NOTES))]
    assert told.read is not None


async def test_what_the_sandbox_makes_up_stays_within_the_context(tmp_path: Path) -> None:
    _, told = await drawn(
        tmp_path,
        "import gc\n"
        "for one in gc.get_objects():\n"
        "    if type(one).__name__ == 'Reading':\n"
        "        one.held_by = lambda *a, **k: [(-5, 10), (7, 10**18), (9, 3)]\n"
        "context",
        done(),
    )
    assert told.read == told.characters


# -------------------------------------------------------------------------------------- quotations


@pytest.mark.parametrize(
    ("answer", "quoted"),
    [
        ('He wrote "the pump has failed again" there.', ["the pump has failed again"]),
        ("“the pump\nhas failed again”", ["the pump\nhas failed again"]),
        ("«the pump has failed»; „the pump has failed“", ["the pump has failed"] * 2),
        ('a so-called "pump", 5" wide, and 7" high, in all', []),
        ('It\'s "unclosed and goes on\n\nin another paragraph"', []),
        ("> the pump has failed\n> again, they say\n\nand more", None),
        ("See `grep -n pump file.log` and `pump`.", ["grep -n pump file.log"]),
        ("```python\nx = 'my own code here'\n```", []),
        ("In pump.log:5:\n```\nthe pump has failed\n```\nmore", ["the pump has failed"]),
        ("pump.log:5\n    the pump has failed\n    again\n\nmore", ["the pump has failed\nagain"]),
        ("    indented code of my own here", []),
        ('"one two three" ' * 300, ["one two three"] * 100),
    ],
)
def test_quotations_are_found(answer: str, quoted: list[str] | None) -> None:
    found = quotations(answer)
    if quoted is None:
        quoted = ["the pump has failed\nagain, they say"]
    assert [one.text for one in found] == quoted
    for one in found:
        there = answer[one.start : one.end]
        assert there.split()[0] == one.text.split()[0]
        assert there.split()[-1] == one.text.split()[-1]


def test_hostile_answers_take_no_long() -> None:
    for sign in ('"', "`", "“", "> ", "    ", "```\n", "a:1\n    ", "...", "«"):
        assert len(quotations(sign * 100_000)) <= 100


@pytest.fixture
async def corpus(tmp_path: Path):
    directory = tmp_path / "corpus"
    corpus = await build_corpus(
        SOURCES,
        [],
        directory=directory,
        config=ContextConfig(),
        on_progress=lambda documents, size: None,
    )
    yield corpus
    corpus.close()


async def check(corpus: Corpus, answer: str, question: str = "What failed?") -> list[Quote]:
    def work() -> list[Quote]:
        return verify(answer, question, corpus, find_evidence(answer, corpus), [])

    return await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("quote", "status", "line"),
    [
        ("and was replaced - twice", "found", 2002),
        ('The pump "failed" at noon, and was replaced — TWICE.', "found", 2001),
        ("The pump “failed” … was replaced", "found", 2001),
        ("The pump “failed” at night, and was replaced twice", "like", 2001),
        ("The pump was stolen by a heron of unusual size", "missing", None),
        ("The pump “failed” … was never replaced by anybody", "missing", None),
    ],
)
async def test_a_quotation_is_looked_up(
    corpus: Corpus, quote: str, status: str, line: int | None
) -> None:
    [told] = await check(corpus, f"It says:\n\n> {quote}\n\nas I said.")
    assert (told.status, told.line, told.kind) == (status, line, "quote")
    if line is not None:
        assert told.path == "a/pump.log"
        assert told.location
        assert told.location.range.start.line == line - 1


async def test_words_of_the_question_are_no_quotation(corpus: Corpus) -> None:
    assert await check(corpus, 'You ask "what failed there?"', "Say: What failed there?") == []


@pytest.mark.parametrize(
    ("line", "path", "ending"),
    [
        ("see a-b/c_d/é.log", "a-b/c_d/é.log", "log"),
        ("C:\\x\\y.LOG", "\\x\\y.LOG", "log"),
        ("(a.tar.gz", "a.tar.gz", "gz"),
        ("none", "", ""),
        ("./.log", "", ""),
        ("a.much-too", "", ""),
        ("a.morethan8", "", ""),
        ("a.log ", "", ""),
        ("", "", ""),
    ],
)
def test_a_path_is_found_at_the_end_of_a_line(line: str, path: str, ending: str) -> None:
    assert _path_at_end(line) == (path, ending)


def test_a_long_word_is_looked_at_once() -> None:
    """Quadratic work, here 10^12 steps, would never end."""
    assert _path_at_end("a." * 1_000_000 + "!") == ("", "")


async def test_places_that_are_not_there_are_told(corpus: Corpus) -> None:
    answer = "See a/pump.log:2001, pump.log:99999, b/none.log:3, at 12:30, on host.example:80, 3:1."
    told = await check(corpus, answer)
    assert [answer[one.start : one.end] for one in told] == ["pump.log:99999", "b/none.log:3"]
    assert {(one.kind, one.status) for one in told} == {("place", "missing")}


async def test_a_corpus_that_is_too_large_leaves_quotations_unchecked(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["line 7 of nothing", "was replaced", "stands nowhere at all"]
    monkeypatch.setattr(finding, "BLOCK", 5000)
    found, everywhere = finding.find_all(texts, corpus, [], budget=20_000)
    assert (set(found), everywhere) == ({"line 7 of nothing"}, False)
    notes = next(d for d in corpus.documents if d.path == "notes.md")
    found, everywhere = finding.find_all(["valve was left"], corpus, [(notes.start, notes.end)], 1)
    assert set(found) == {"valve was left"}


async def test_what_stands_across_two_blocks_is_found(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "BLOCK", 997)
    monkeypatch.setattr(finding, "OVERLAP", 200)
    for text in ("at noon, and was replaced", "why the valve", "line 1999 of nothing"):
        found, everywhere = finding.find_all([text], corpus, [])
        assert everywhere
        assert text in found


async def test_what_a_prompt_holds_is_counted_once(tmp_path: Path) -> None:
    corpus = await build_corpus(
        SOURCES, [], directory=tmp_path / "corpus", config=ContextConfig(),
        on_progress=lambda documents, size: None,
    )  # fmt: skip
    coverage = Coverage()
    coverage.begin(corpus)
    first = corpus.documents[0]
    [held] = coverage.held(corpus, [(first.start, first.start + 10)] * 512)
    corpus.close()
    assert (held.path, held.characters) == (first.path, 10)
