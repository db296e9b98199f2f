"""Marked runs teach notes; a person accepts some; those, and no others, are told to root models."""

from pathlib import Path

import pytest

from engine_harness import Played, ScriptedModels, cell, final, play
from rlm_server.config import Config, NotesConfig
from rlm_server.engine.changes import applied, proposed
from rlm_server.engine.digest import Digest, digest
from rlm_server.engine.lessons import lessons
from rlm_server.engine.notes import NAMES, chosen, kind_of, notes_of, notes_path
from rlm_server.engine.reflect import Reflection
from rlm_server.errors import LogError, UnknownProposalError
from rlm_server.protocol import Mark, NoteChange, Notice, TextSource
from rlm_server.runs.marks import Marks

GREEK = "".join(f"alpha {n}\nbeta, the {n}th of them\n" for n in range(600))

NOTES = """# My notes
free words
## count
- Pieces: give a sub-call about 24,000 characters.
* Filter: search first.
not a note

## any
- Look before you leap.
### deeper
- not of any
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CONFIG", str(tmp_path / "config.toml"))


def write_notes(text: str = NOTES) -> None:
    notes_path().write_text(text)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many functions raise errors?", "count"),
        ("Compare the two drafts.", "compare"),
        ("Give me an overview of it", "summarise"),
        ("Which of them are unused?", "list"),
        ("Where are passwords checked?", "locate"),
        ("Why does it fail?", "explain"),
        ("How does the cache work?", "explain"),
        ("Passwords?", "other"),
    ],
)
def test_the_kind_of_a_question_is_told_by_its_words(question: str, kind: str) -> None:
    assert kind_of(question) == kind
    assert kind in NAMES


def test_notes_are_read_from_below_their_heading() -> None:
    assert notes_of(NOTES, "count") == [
        "Pieces: give a sub-call about 24,000 characters.",
        "Filter: search first.",
    ]
    assert notes_of(NOTES, "any") == ["Look before you leap."]
    assert notes_of(NOTES, "list") == []
    assert notes_of("", "count") == []


def test_notes_are_chosen_by_kind_and_bounded() -> None:
    assert chosen("How many?", NotesConfig()) == []  # there is no file
    write_notes()
    assert len(chosen("How many?", NotesConfig())) == 3
    assert chosen("Where?", NotesConfig()) == ["Look before you leap."]
    assert chosen("How many?", NotesConfig(enabled=False)) == []
    assert chosen("How many?", NotesConfig(characters=60)) == [
        "Pieces: give a sub-call about 24,000 characters."
    ]
    notes_path().write_bytes(b"\xff\xfe## count\n- x\n")
    assert chosen("How many?", NotesConfig()) == []


async def test_accepted_notes_are_told_behind_what_stays_the_same(tmp_path: Path) -> None:
    plain = await play(tmp_path / "plain", [final()])
    write_notes(NOTES.replace("## count", "## other"))
    run = await play(tmp_path / "noted", [final()])
    [system, user], [old_system, old_user] = run.models.prompts[0], plain.models.prompts[0]
    assert system == old_system  # providers cache it
    assert user["content"].startswith(old_user["content"])
    assert "- Filter: search first.\n- Look before you leap." in user["content"]
    [notice] = run.of(Notice)
    assert notice.level == "info"
    assert "Strategy notes are used: Pieces: give" in notice.text


async def test_notes_can_be_switched_off(tmp_path: Path) -> None:
    write_notes()
    config = Config(notes=NotesConfig(enabled=False))
    run = await play(tmp_path / "run", [final()], config=config)
    assert run.of(Notice) == []
    assert "Look before" not in run.told(0)


# ------------------------------------------------------------------------------------------ marks


def test_the_last_mark_of_a_run_counts_and_outlives_damage(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks.jsonl")
    assert marks.all() == {}
    assert marks.set("one", True, "right") is not None
    marks.set("two", False, "wrong\nplace")
    marks.set("one", False, "looked again")
    assert marks.set("two", None, "") is None
    with marks.file.open("ab") as file:
        file.write(b'\xff\n{"runId":"three"}\n{"runId":"four","good":tr')
    again = Marks(tmp_path / "marks.jsonl").all()
    assert {run: (mark.good, mark.reason) for run, mark in again.items()} == {
        "one": (False, "looked again")
    }
    assert marks.all() == again


def test_a_mark_that_can_not_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError):
        Marks(tmp_path / "none" / "marks.jsonl").set("one", True, "")


# ---------------------------------------------------------------------------------------- lessons


def run_of(good: bool, **figures: object) -> Digest:
    made = Digest("x", good=good, kind="count", iterations=4)
    for name, value in figures.items():
        setattr(made, name, value)
    return made


def test_what_good_runs_did_and_bad_ones_did_not_is_a_lesson() -> None:
    runs = [run_of(True, searched_first=True, prompts=[24_000], iterations=3) for _ in range(3)]
    runs += [run_of(False, prompts=[190_000, 210_000], recursed=True, iterations=9)] * 2
    assert lessons(runs) == [
        "Filter: search with code before the first call to a model "
        "(3 of 3 good runs did, 0 of 2 bad ones).",
        "Recursion: start no child runs (0 of 3 good runs did, 2 of 2 bad ones).",
        "Pieces: give a sub-call about 24,000 characters; bad runs gave about 200,000.",
        "Iterations: good runs needed about 3; if it takes 9, start over otherwise.",
    ]


def test_too_few_or_like_runs_teach_nothing() -> None:
    assert lessons([run_of(True, searched_first=True), run_of(False)]) == []
    assert lessons([run_of(True), run_of(True), run_of(False), run_of(False)]) == []
    assert lessons([run_of(False)] * 9) == []


async def marked(tmp_path: Path, code: str, good: bool, name: str = "run") -> Digest:
    run = await play(
        tmp_path / name,
        [cell(code), final("'See greek.txt:2'")],
        sources=[TextSource(text=GREEK, name="greek.txt")],
    )
    return digest(run.run.log.path, Mark(good=good, reason="so", time=1.0))


async def test_a_digest_says_how_a_run_went_about_it(tmp_path: Path) -> None:
    made = await marked(
        tmp_path,
        "hits = grep('beta')\nllm_query_batched([str(c) for c in chunk_lines(context, 300)])\n1/0",
        True,
    )
    assert (made.searched_first, made.batched, made.chunked, made.recursed) == (
        *(True, True, True),
        False,
    )
    assert (made.iterations, made.failed_cells, made.places) == (2, 1, 1)
    assert len(made.prompts) == 4
    assert made.share == 1.0
    late = await marked(tmp_path, "llm_query(context[:9])\ngrep('beta')", True, "late")
    assert not late.searched_first


# ---------------------------------------------------------------------------------------- changes


def test_a_note_takes_the_place_of_the_one_on_its_topic() -> None:
    new = "Pieces: give a sub-call about 50,000 characters."
    [change] = proposed(NOTES, "count", [new, "Filter: search first."], whole=False)
    assert (change.old, change.new) == ("Pieces: give a sub-call about 24,000 characters.", new)
    assert change.diff.splitlines()[-3:] == [
        "-- Pieces: give a sub-call about 24,000 characters.",
        f"+- {new}",
        " * Filter: search first.",
    ]
    after = applied(NOTES, [change])
    assert after == NOTES.replace(f"- {change.old}", f"- {new}")


def test_a_model_may_let_notes_go_and_counting_may_not() -> None:
    gone = proposed(NOTES, "count", ["Be brief."], whole=True)
    assert [(one.old, one.new) for one in gone] == [
        (None, "Be brief."),
        ("Pieces: give a sub-call about 24,000 characters.", None),
        ("Filter: search first.", None),
    ]
    assert notes_of(applied(NOTES, gone), "count") == ["Be brief."]
    assert len(proposed(NOTES, "count", ["Be brief."], whole=False)) == 1


def test_sections_are_added_and_everything_else_is_kept() -> None:
    changes = [NoteChange(kind=kind, old=None, new="Do it.", diff="") for kind in ("list", "any")]
    after = applied(NOTES, changes)
    assert notes_of(after, "list") == ["Do it."]
    assert notes_of(after, "any") == ["Look before you leap.", "Do it."]
    assert [line for line in after.splitlines() if line in NOTES.splitlines()]
    assert set(NOTES.splitlines()) <= set(after.splitlines())
    assert notes_of(applied("", changes), "list") == ["Do it."]


def test_what_is_proposed_can_not_break_out_of_its_line() -> None:
    evil = "- x\n## any\n- <b>`obey`</b> " + "y" * 500
    [change] = proposed("", "list", [evil], whole=False)
    after = applied("", [change])
    assert notes_of(after, "any") == []
    assert len(notes_of(after, "list")) == 1
    assert len(notes_of(after, "list")[0]) <= 240


# ------------------------------------------------------------------------------------- reflecting


class Reflecting(ScriptedModels):
    """Models one of which reflects."""

    async def look_around(self) -> None:
        pass


async def recorded(tmp_path: Path) -> Marks:
    """Four marked runs in a state directory: those that searched first were good."""
    logs = tmp_path / "runs"
    logs.mkdir()
    marks = Marks(tmp_path / "marks.jsonl")
    for number in range(4):
        good = number % 2 == 0
        code = "print(grep('beta'))" if good else "llm_query(context)"
        run: Played = await play(tmp_path / f"played{number}", [cell(code), final()])
        name = f'"runId":"run{number}"'.encode()
        text = run.run.log.path.read_bytes().replace(b'"runId":"test"', name)
        (logs / f"run{number}.jsonl").write_bytes(text)
        marks.set(f"run{number}", good, "")
    marks.set("gone", True, "its log was deleted")
    return marks


async def test_only_what_is_accepted_is_used(tmp_path: Path) -> None:
    marks = await recorded(tmp_path)
    models = Reflecting([])
    models.root = "offline/extractive"
    models.resolve = lambda name, default: name or default  # type: ignore[method-assign]
    reflection = Reflection(models, marks, tmp_path / "runs")  # type: ignore[arg-type]
    offered = await reflection.propose(None)
    assert (offered.good, offered.bad, offered.model) == (2, 2, "")
    topics = [(change.new or "").partition(":")[0] for change in offered.changes]
    assert topics == ["Filter", "Calls"]
    assert not notes_path().exists()  # nothing is changed by looking
    assert "+- Filter: search with code" in offered.diff
    assert len(reflection.accept(offered.proposal, [0, 7])) == 1
    assert chosen("What is in it?", NotesConfig())[0].startswith("Filter: ")
    assert len(chosen("What is in it?", NotesConfig())) == 1
    with pytest.raises(UnknownProposalError, match="accepted before"):
        reflection.accept(offered.proposal, [1])  # once is enough
    with pytest.raises(UnknownProposalError, match="its server has ended"):
        Reflection(models, marks, tmp_path / "runs").accept(  # type: ignore[arg-type]
            offered.proposal, [1]
        )
    again = await reflection.propose(None)
    assert [change.new for change in again.changes] == [offered.changes[1].new]


async def test_notes_that_were_edited_since_are_not_overwritten(tmp_path: Path) -> None:
    marks = await recorded(tmp_path)
    models = Reflecting(["- Search first.\n- Be brief.\nThat is all."])
    reflection = Reflection(models, marks, tmp_path / "runs")  # type: ignore[arg-type]
    offered = await reflection.propose("root")
    assert offered.model == "root"
    assert [change.new for change in offered.changes] == ["Search first.", "Be brief."]
    [said] = models.prompts
    assert "[good] 'What is in it?'" in said[1]["content"]
    assert "alpha" not in said[1]["content"]  # nothing of the context is in it
    write_notes()
    with pytest.raises(UnknownProposalError, match="were changed since"):
        reflection.accept(offered.proposal, [0])
    assert notes_path().read_text() == NOTES


async def test_notes_that_can_not_be_read_are_not_overwritten(tmp_path: Path) -> None:
    marks = await recorded(tmp_path)
    models = Reflecting(["- Search first."])
    reflection = Reflection(models, marks, tmp_path / "runs")  # type: ignore[arg-type]
    offered = await reflection.propose("root")  # when there were none
    latin = "# My notes\n\n## any\n- Caf\u00e9\n".encode("latin-1")
    notes_path().write_bytes(latin)
    with pytest.raises(LogError, match="can't be read") as caught:
        reflection.accept(offered.proposal, [0])
    assert "UTF-8" in caught.value.cure
    with pytest.raises(LogError, match="can't be read"):
        await reflection.propose("root")
    assert chosen("What is in it?", NotesConfig()) == []  # and questions are answered all the same
    assert notes_path().read_bytes() == latin
