"""Child runs: a REPL of their own over a part of the context, one ledger, nesting, cancelling."""

import asyncio
from pathlib import Path

import pytest

from engine_harness import Played, cell, final, play, prepare
from rlm_server.config import Config
from rlm_server.context.build import build_corpus
from rlm_server.engine import child
from rlm_server.protocol import (
    AskOptions,
    CellDone,
    ChildDone,
    ChildStarted,
    IterationStarted,
    Notice,
    SubcallDone,
    SubcallStarted,
    TextSource,
    TreeSource,
)
from rlm_server.sandbox import Call

DEEP = Config(max_depth=5)
DONE = final('"ok"')


def by_question(replies: dict[str, list[str]]):
    """Replies of the models by a word of the question they were asked; each list in order."""

    def reply(messages) -> str:
        asked = messages[1]["content"].partition("\n")[0]
        word = next(word for word in replies if word in asked)
        turn = sum(message["role"] == "assistant" for message in messages)
        return replies[word][turn]

    return reply


async def play_tree(tmp_path: Path, replies: dict[str, list[str]], **options) -> Played:
    script = by_question(replies)
    played = prepare(tmp_path, [], config=options.pop("config", DEEP), **options)

    async def say(name, messages):
        if len(messages) == 2 and "The context holds" not in messages[1]["content"]:
            return played.models.answer_sub(messages[1]["content"])
        played.models.prompts.append(list(messages))
        said = script(messages)
        if isinstance(said, Exception):
            raise said
        return await said if asyncio.iscoroutine(said) else said

    played.models._say = say
    await asyncio.wait_for(played.run.start(), 50)
    return played


async def test_a_child_has_a_repl_of_its_own_over_what_it_was_given(tmp_path: Path) -> None:
    run = await play_tree(
        tmp_path,
        {
            "What is in it": [cell('x = rlm_query("second?", context[6:10])'), final("x")],
            "second": [cell("x = 1\nprint(context)"), final('context + str("llm_query" and x)')],
        },
    )
    assert (run.end.status, run.answer) == ("done", "beta1")
    [started], [done] = run.of(ChildStarted), run.of(ChildDone)
    assert (started.node, started.depth, started.characters) == ("0.1.1", 1, 4)
    assert (done.status, done.answer, done.iterations) == ("done", "beta1", 2)
    assert {e.node for e in run.of(IterationStarted)} == {"0.1", "0.2", "0.1.1.1", "0.1.1.2"}


async def test_documents_go_by_reference_and_keep_paths_and_lines(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in "abcd":
        (tree / f"{name}.txt").write_text(f"first of {name}\nsecond of {name}\n")
    ask = 'print(rlm_query("inner", context.documents[1:3]))'
    look = (
        "d = context.documents\n"
        "FINAL(repr([(x.path, x.line_at(15), str(x)) for x in d]) + str(len(context)))"
    )
    run = await play_tree(
        tmp_path,
        {"What is in it": [cell(ask), DONE], "inner": [cell(look)]},
        sources=[TreeSource(root=str(tree))],
    )
    [done] = run.of(ChildDone)
    assert "('b.txt', 2, 'first of b\\nsecond of b\\n'), ('c.txt'" in done.answer
    assert run.of(ChildStarted)[0].documents == 2
    assert not (tmp_path / "context").exists()


@pytest.mark.parametrize("text", ["wide \u20ac characters\nsecond line\n", "caf\xe9\nsecond\n"])
async def test_a_part_of_wider_text_is_right_too(tmp_path: Path, text: str) -> None:
    run = await play_tree(
        tmp_path,
        {
            "What is in it": [cell('x = rlm_query("inner", context[:4])'), final("x")],
            "inner": [final("context[::-1]")],
        },
        sources=[TextSource(text=text)],
    )
    assert run.answer == text[:4][::-1]


async def test_a_text_of_the_models_own_is_a_context_too(tmp_path: Path) -> None:
    run = await play_tree(
        tmp_path,
        {
            "What is in it": [cell('x = rlm_query("inner", "made " * 3)'), final("x")],
            "inner": [final("context.upper()")],
        },
    )
    assert run.answer == "MADE MADE MADE "


async def test_depth_three_nests_and_adds_costs_up(tmp_path: Path) -> None:
    run = await play_tree(
        tmp_path,
        {
            "What is in it": [cell('x = rlm_query("one", context[:10])'), final("x")],
            "one": [cell('x = rlm_query("two", context[:5])'), final("x")],
            "two": [cell('x = llm_query("plain")'), final("context + x")],
        },
        prices={"root": (1.0, 0.0), "sub": (10.0, 0.0)},
    )
    assert run.answer == "alphasub-answer"
    assert [e.node for e in run.of(ChildStarted)] == ["0.1.1", "0.1.1.1.1"]
    [plain] = run.of(SubcallStarted)
    assert plain.node == "0.1.1.1.1.1.1"
    done = {e.node: e for e in run.of(ChildDone)}
    # Each call has 10 prompt tokens; children ask the sub model.
    assert done["0.1.1.1.1"].usage.cost == pytest.approx(3 * 10 * 10e-6)
    assert done["0.1.1"].usage.cost == pytest.approx(5 * 10 * 10e-6)
    assert run.end.usage.cost == pytest.approx(5 * 10 * 10e-6 + 2 * 10 * 1e-6)


async def test_costs_are_exact_where_a_child_fails(tmp_path: Path) -> None:
    run = await play_tree(
        tmp_path,
        {
            "What is in it": [cell('rlm_query_batched(["bad", "good"])'), DONE],
            "bad": [cell("len(context)")] * 3,
            "good": [DONE],
        },
        prices={"root": (1.0, 0.0), "sub": (1.0, 0.0)},
        iterations=3,
    )
    done = {e.node: (e.status, e.usage.cost) for e in run.of(ChildDone)}
    assert done["0.1.1"] == ("limit", pytest.approx(3 * 10e-6))
    assert done["0.1.2"] == ("done", pytest.approx(10e-6))
    assert run.end.usage.cost == pytest.approx(6 * 10e-6)


async def test_at_the_depth_limit_it_is_a_plain_call_and_that_is_said(tmp_path: Path) -> None:
    run = await play(
        tmp_path,
        [cell('print(rlm_query("what?", context[:5]))'), final()],
        sub=lambda prompt: f"<{prompt}>",
    )
    assert "what?" in run.told(1)
    assert "alpha" in run.told(1)
    assert run.of(ChildStarted) == []
    assert any("max-depth is 1" in e.text for e in run.of(Notice))


async def test_children_run_at_the_same_time(tmp_path: Path) -> None:
    both = asyncio.Barrier(2)

    async def meet() -> str:
        await asyncio.wait_for(both.wait(), 60)
        return DONE

    class Meeting(list):
        def __getitem__(self, turn):
            return meet()

    run = await play_tree(
        tmp_path,
        {"What is in it": [cell('rlm_query_batched(["a1", "a2"])'), DONE], "a": Meeting()},
    )
    assert [e.status for e in run.of(ChildDone)] == ["done", "done"]


async def test_children_begin_in_the_order_of_their_questions(tmp_path: Path) -> None:
    lengths = [2_000_000, 1, 700_000, 1, 1_500_000, 1, 300_000, 1]
    code = f"""
texts = ["x " * n for n in {lengths}]
FINAL(len(rlm_query_batched([f"Part {{n}}?" for n in range(8)], texts)))"""
    played = prepare(tmp_path, [], config=DEEP)
    script = by_question(
        {"What is in it": [cell(code), DONE], **{f"Part {n}": [DONE, DONE] for n in range(8)}}
    )

    async def say(name, messages):
        return script(messages)

    played.models._say = say
    await played.run.start()
    assert played.end.status == "done"
    started = played.of(ChildStarted)
    assert [event.question for event in started] == [f"Part {n}?" for n in range(8)]
    assert [event.subcall for event in started] == list(range(1, 9))


async def test_one_child_among_several_can_be_cancelled(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def wait_for_ever() -> str:
        started.set()
        return await asyncio.Future()

    class Waiting(list):
        def __getitem__(self, turn):
            return wait_for_ever()

    played = prepare(tmp_path, [], config=DEEP)
    script = by_question(
        {
            "What is in it": [
                cell('r = rlm_query_batched(["good", "stuck"])'),
                final("r[0] + r[1]"),
            ],
            "stuck": Waiting(),
            "good": [DONE],
        }
    )

    async def say(name, messages):
        said = script(messages)
        return await said if asyncio.iscoroutine(said) else said

    played.models._say = say
    task = played.run.start()
    await asyncio.wait_for(started.wait(), 60)
    assert not played.run.cancel("0.1.9")
    assert played.run.cancel("0.1.2")
    await asyncio.wait_for(task, 60)
    assert played.answer.startswith("ok[this call failed: The child run was cancelled")
    assert {e.node: e.status for e in played.of(ChildDone)} == {
        "0.1.1": "done",
        "0.1.2": "cancelled",
    }


async def test_cancelling_the_run_ends_its_children(tmp_path: Path) -> None:
    run = prepare(tmp_path, [], config=DEEP)
    script = by_question(
        {"What is in it": [cell('rlm_query("inner")')], "inner": [cell("while True: pass")]}
    )

    async def say(name, messages):
        return script(messages)

    run.models._say = say
    task = run.run.start()
    async with asyncio.timeout(60):
        while not any(
            type(e).__name__ == "CellStarted" and e.node == "0.1.1.1" for e in run.events
        ):
            await run.run.log.grown(run.run.log.size)
    run.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert run.end.status == "cancelled"
    assert [e.status for e in run.of(ChildDone)] == ["cancelled"]
    assert not (tmp_path / "context").exists()


async def test_a_cell_of_a_child_can_be_interrupted_alone(tmp_path: Path) -> None:
    run = prepare(tmp_path, [], config=DEEP)
    script = by_question(
        {
            "What is in it": [cell('x = rlm_query("inner")'), final("x")],
            "inner": [cell("while True: pass"), DONE],
        }
    )

    async def say(name, messages):
        return script(messages)

    run.models._say = say
    task = run.run.start()
    async with asyncio.timeout(60):
        while not run.run.cancel("0.1.1.1"):
            await run.run.log.grown(run.run.log.size)
    await asyncio.wait_for(task, 60)
    assert run.answer == "ok"
    assert [e.status for e in run.of(CellDone) if e.node == "0.1.1.1"] == ["cancelled"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("rlm_query_batched('one')", "takes a list of questions"),
        ("rlm_query_batched(['a'], [context, context])", "1 questions but 2 contexts"),
        ("rlm_query('a', 5)", "is a document, documents, or a text"),
        ("rlm_query('a', [])", "is empty"),
        ("rlm_query('a', ['one', 'two'])", "join their texts"),
        ("rlm_query('a', [context.documents[0], context.documents[2]])", "consecutive"),
        ("rlm_query('a', model='nonsense')", "no model nonsense"),
    ],
)
async def test_wrong_use_is_told(tmp_path: Path, code: str, told: str) -> None:
    sources = [TextSource(text=f"text {n}", name=f"{n}.txt") for n in range(3)]
    run = await play(tmp_path, [cell(code), final()], sources=sources, config=DEEP)
    assert told in run.told(1)
    assert run.end.status == "done"


async def test_children_count_against_the_limit_of_subcalls(tmp_path: Path) -> None:
    run = await play_tree(
        tmp_path,
        {"What is in it": [cell('print(rlm_query_batched(["a", "a", "a"]))'), DONE], "a": [DONE]},
        subcalls=2,
    )
    assert run.end.subcalls == 2
    assert [e.status for e in run.of(ChildDone)] == ["done", "done"]
    assert "2 sub-calls" in run.told(-1)
    assert run.of(SubcallDone) == []


async def test_each_depth_has_its_root_and_its_sub_model(tmp_path: Path) -> None:
    config = Config(max_depth=3, depth_models=["root-1"], depth_sub_models=["sub-1", "sub-2"])
    asking = 'x = llm_query("a"); y = rlm_query("{}?", "text"); z = llm_query("b")'
    replies = {
        "What is in it": [cell(asking.format("second")), DONE],
        "second": [cell(asking.format("third")), DONE],
        "third": [cell('x = llm_query("c"); y = rlm_query("d", "text")'), DONE],
    }
    run = await play_tree(tmp_path, replies, config=config)
    subs = [(e.node.count(".") // 2, e.model) for e in run.of(SubcallStarted)]
    assert sorted(set(subs)) == [(1, "sub"), (2, "sub-1"), (3, "sub-2")]
    assert [e.model for e in run.of(ChildStarted)] == ["root-1", "root-1"]
    assert run.end.status == "done"


async def test_the_sub_model_of_a_question_serves_all_depths(tmp_path: Path) -> None:
    config = Config(max_depth=2, depth_sub_models=["sub-1"])
    replies = {
        "What is in it": [cell('y = rlm_query("second?", "text")'), DONE],
        "second": [cell('x = llm_query("a")'), DONE],
    }
    run = await play_tree(
        tmp_path, replies, config=config, options=AskOptions(sub_model="sub-of-mine")
    )
    assert [e.model for e in run.of(SubcallStarted)] == ["sub-of-mine"]


async def test_a_large_part_is_named_without_being_read_at_once(tmp_path: Path) -> None:
    text = "é line of text\n" * 200_000
    corpus = await build_corpus(
        [TextSource(text=text)], [], directory=tmp_path / "corpus", config=Config().context,
        on_progress=lambda documents, size: None,
    )  # fmt: skip
    lengths, whole = list[int](), corpus.slice

    def watched(start: int, end: int) -> str:
        lengths.append(end - start)
        return whole(start, end)

    call = Call(1, "rlm_query", "q", None, span=(3, len(text) - 1))
    corpus.slice = watched  # type: ignore[method-assign]
    named = child._name(corpus, call)
    corpus.close()
    assert max(lengths) <= 1_000_000
    assert sum(lengths) == len(text) - 4
    assert named == child._name(corpus, Call(1, "rlm_query", "q", None, text=text[3:-1]))


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("span", [(-1000, 5), (3, 10**9), (5, 3)])
async def test_a_child_is_given_nothing_outside_of_the_context(
    tmp_path: Path, depth: int, span: tuple[int, int]
) -> None:
    code = f"""
call = {{"function": "rlm_query", "prompt": "q", "model": None, "span": {span}}}
[reply] = llm_query.__self__._channel.ask([call])
"""
    replies = [cell(code), final("reply['error']['message']")]
    played = await play(tmp_path, replies, config=Config(max_depth=depth - 1))
    assert "lies outside" in played.answer
    assert not played.of(SubcallStarted)
    assert not played.of(ChildStarted)
