"""Past runs that are asked again: forked at an iteration, or their program run on changed files."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from engine_harness import cell, final
from rpc_client import Client, initialize_params, server_environment, start_server
from scripted_provider import Reply, ScriptedProvider

PROGRAM = [
    cell(
        "notes = llm_query_batched(['Sum up:\\n' + d for d in context.documents])\nprint(notes[:5])"
    ),
    cell("more = llm_query('All of it: ' + ' '.join(notes))\nprint(more)"),
    final("more + '!'"),
]


class Models(ScriptedProvider):
    """Answers by place in the conversation, and by what is asked."""

    def __init__(self, program=PROGRAM) -> None:
        super().__init__(self.answer)
        self.program = program

    def answer(self, request) -> Reply:
        if request.role == "sub":
            return Reply(f"<{request.question.partition(chr(10))[2].strip() or request.question}>")
        turn = sum(message["role"] == "assistant" for message in request.messages)
        return Reply(self.program[turn], chunk=200)

    @property
    def roles(self) -> list[str]:
        return [request.role for request in self.requests]


@asynccontextmanager
async def served(home: Path, models: Models, more: str = ""):
    (home / "config.toml").write_text(
        'root = "scripted"\ndiscover = false\n'
        f'[models.scripted]\nmodel = "openai/scripted"\nbase-url = "{models.url}"\n'
        "input-price = 1.0\noutput-price = 2.0\n"
        f'[models.other]\nmodel = "openai/other"\nbase-url = "{models.url}"\n'
        f"input-price = 1.0\noutput-price = 2.0\n[cache]\nenabled = false\n{more}"
    )
    async with start_server(home) as (client, _):
        await client.request("initialize", initialize_params())
        yield client


def write_tree(home: Path, count: int) -> Path:
    tree = home / "tree"
    tree.mkdir()
    for number in range(count):
        (tree / f"{number:04}.txt").write_text(f"text {number}\n")
    return tree


async def ask(client: Client, tree: Path, **limits: object) -> str:
    asked = {
        "question": "What is it?",
        "sources": [{"kind": "tree", "root": str(tree)}],
        "options": {"limits": limits},
    }
    run_id = (await client.request("rlm/ask", asked))["runId"]
    end = await client.event(run_id, "runEnded")
    assert end["status"] == "done", end
    return run_id


async def ended(client: Client, method: str, **params: object) -> tuple[str, dict, str]:
    run_id = (await client.request(method, params))["runId"]
    end = await client.event(run_id, "runEnded")
    return run_id, end, "".join(event["text"] for event in client.of(run_id, "answer"))


async def test_a_fork_shares_its_beginning_and_pays_for_what_is_its_own(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 3)
    async with Models() as models, served(tmp_path, models) as client:
        parent = await ask(client, tree)
        models.requests.clear()
        code = "more = llm_query('Otherwise: ' + notes[0])\nprint(more)"
        fork, end, answer = await ended(
            client, "rlm/fork", runId=parent, iteration=2, code=code, note="Be brief."
        )
        assert end["status"] == "done"
        assert answer == "<Otherwise: <text 0>>!"
        assert models.roles == ["sub", "root"]
        last = models.requests[-1].messages
        assert code in last[4]["content"]
        assert "The person who asked adds: Be brief." in last[3]["content"]

        own = (tmp_path / "state" / "runs" / f"{fork}.jsonl").read_bytes()
        assert b"Sum up" not in own  # it is in its parent's log, once
        forked = json.loads(own.partition(b"\n")[0])
        assert (forked["kind"], forked["parentRunId"]) == ("runForked", parent)
        events = client.of(fork)
        assert [event["seq"] for event in events] == list(range(len(events)))
        assert sum(event["kind"] == "subcallDone" for event in events) == 3 + 1
        assert end["usage"]["cost"] < client.of(parent, "runEnded")[0]["usage"]["cost"] * 1.2

        [listed] = (await client.request("rlm/runs", {"limit": 1}))["runs"]
        assert (listed["runId"], listed["parentRunId"], listed["status"]) == (fork, parent, "done")
        error = await client.error("rlm/delete", {"runId": parent})
        assert fork in error["message"]
        # A fork of the fork, in a server that knows nothing of either.
    async with Models() as models, served(tmp_path, models) as client:
        other, end, answer = await ended(
            client, "rlm/fork", runId=fork, iteration=3, options={"rootModel": "other"}
        )
        assert (end["status"], answer) == ("done", "<Otherwise: <text 0>>!")
        assert models.roles == ["root"]
        assert models.requests[0].body["model"] == "other"
        assert [event["seq"] for event in client.of(other)] == list(range(len(client.of(other))))
        error = await client.error("rlm/fork", {"runId": other, "iteration": 9})
        assert error["data"]["kind"] == "notResumable"
        (tree / "0001.txt").write_text("changed\n")
        error = await client.error("rlm/fork", {"runId": other, "iteration": 2})
        assert error["data"]["kind"] == "contextChanged", error
        for run in (other, fork, parent):
            assert (await client.request("rlm/delete", {"runId": run}))["bytes"] > 0
        assert (await client.request("rlm/runs", {}))["runs"] == []


async def test_a_fork_goes_on_with_a_larger_budget(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 3)
    async with Models() as models, served(tmp_path, models) as client:
        limits = {"iterations": 1}
        asked = {"question": "What?", "sources": [{"kind": "tree", "root": str(tree)}]}
        run = await client.request("rlm/ask", {**asked, "options": {"limits": limits}})
        assert (await client.event(run["runId"], "runEnded"))["status"] == "limit"
        paid = len(models.requests)
        more = {"limits": {"iterations": 5, "subcalls": 4}}
        _, end, answer = await ended(
            client, "rlm/fork", runId=run["runId"], iteration=1, options=more
        )
        assert end["status"] == "done", end
        assert len(models.requests) == paid + 7  # nothing is before the first iteration
        assert answer.startswith("<All of it: <text 0>")


async def test_of_a_thousand_files_one_that_changed_is_paid_for(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 1000)
    program = [
        PROGRAM[0],
        final("str(len(notes)) + ' ' + str(sorted(notes)[:2]) + notes[500]"),
    ]
    async with Models(program) as models, served(tmp_path, models) as client:
        run_id = await ask(client, tree, subcalls=2000)
        assert models.roles.count("sub") == 1000
        models.requests.clear()
        (tree / "0500.txt").write_text("something new\n")
        again, end, answer = await ended(client, "rlm/rerun", runId=run_id)
        assert end["status"] == "done", end
        assert models.roles == ["sub"]  # of 1,001 calls
        assert answer.endswith("<something new>")
        [diff] = client.of(again, "answerDiff")
        assert (diff["originalRunId"], diff["same"]) == (run_id, False)
        assert "-1000 ['<text 0>', '<text 100>']<text 500>" in diff["diff"]
        assert "<something new>" in diff["diff"]
        [listed] = (await client.request("rlm/runs", {"limit": 1}))["runs"]
        assert listed["rerunOf"] == run_id
        cached = sum(event["cached"] for event in client.of(again, "subcallDone"))
        assert (cached, end["subcalls"]) == (999, 1000)

        models.requests.clear()
        _, end, _ = await ended(client, "rlm/rerun", runId=again)
        assert (models.roles, end["usage"]["cost"]) == ([], 0.0)
        assert client.of(end["runId"], "answerDiff")[0]["same"]


async def test_a_run_that_had_a_limit_raised_is_run_again_with_that(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 3)
    async with Models() as models, served(tmp_path, models) as client:
        asked = {"question": "What?", "sources": [{"kind": "tree", "root": str(tree)}]}
        options = {"limits": {"iterations": 1, "subcalls": 40}}
        run = (await client.request("rlm/ask", {**asked, "options": options}))["runId"]
        assert (await client.event(run, "runEnded"))["status"] == "limit"
        more = {"runId": run, "limits": {"iterations": 5, "subcalls": 30}}
        await client.request("rlm/resume", more)
        await client.until(lambda: len(client.of(run, "runEnded")) > 1)
        assert client.of(run, "runEnded")[-1]["status"] == "done"
        again, end, _ = await ended(client, "rlm/rerun", runId=run)
        assert end["status"] == "done", end
        [started] = client.of(again, "runStarted")
        assert (started["limits"]["iterations"], started["limits"]["subcalls"]) == (5, 40)


async def test_where_a_cell_fails_the_model_is_asked(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 2)
    program = [
        cell("first = context.documents[1]\nprint(len(context.documents))"),
        final("str(first) + llm_query('Sum up:\\n' + first)"),
    ]
    async with Models(program) as models, served(tmp_path, models) as client:
        run_id = await ask(client, tree)
        (tree / "0001.txt").unlink()
        models.requests.clear()
        models.program = [program[0], final("'only ' + str(context.documents[0])")]
        again, end, answer = await ended(client, "rlm/rerun", runId=run_id)
        assert (end["status"], answer) == ("done", "only text 0\n")
        assert models.roles == ["root"]
        assert "IndexError" in models.requests[0].messages[-1]["content"]
        [notice] = client.of(again, "notice")
        assert notice["text"].startswith("The code fails on the text as it is now.")


async def test_an_answer_written_by_hand_is_written_anew_when_outputs_change(
    tmp_path: Path,
) -> None:
    tree = write_tree(tmp_path, 2)
    program = [cell("print(context.documents[1])"), final('"It says text 1."')]
    async with Models(program) as models, served(tmp_path, models) as client:
        run_id = await ask(client, tree)
        models.requests.clear()
        _, end, answer = await ended(client, "rlm/rerun", runId=run_id)
        assert (models.roles, answer) == ([], "It says text 1.")
        (tree / "0001.txt").write_text("text one\n")
        models.program = [program[0], final('"It says text one."')]
        _, end, answer = await ended(client, "rlm/rerun", runId=run_id)
        assert (models.roles, answer, end["status"]) == (["root"], "It says text one.", "done")


async def test_a_watched_run_asks_itself_again_within_its_budget(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 3)
    async with Models() as models, served(tmp_path, models) as client:
        run_id = await ask(client, tree)
        models.requests.clear()
        answer = await client.request("rlm/watch", {"runId": run_id, "budget": 0.1})
        assert answer == {"watching": True, "places": [str(tree)]}

        def told() -> list[dict]:
            return [m["params"] for m in client.messages if m.get("method") == "rlm/watched"]

        (tree / "0001.txt").write_text("changed once\n")
        [first] = await client.until(told)
        assert first["runId"] == run_id
        end = await client.event(first["newRunId"], "runEnded")
        assert end["status"] == "done", end
        assert models.roles == ["sub", "sub"]  # of the file, and of all notes
        assert "changed once" in client.of(first["newRunId"], "answerDiff")[0]["diff"]

        await client.request("rlm/watch", {"runId": run_id, "budget": 0.0})
        (tree / "0001.txt").write_text("changed twice\n")
        await client.until(lambda: len(told()) == 3)
        assert (await client.event(told()[1]["newRunId"], "runEnded"))["usage"]["cost"] == 0.0
        assert len(models.roles) == 2  # nothing is paid
        assert told()[2]["newRunId"] is None
        assert "budget" in told()[2]["reason"]
        answer = await client.request("rlm/watch", {"runId": run_id, "stop": True})
        assert answer == {"watching": False, "places": []}


async def test_what_is_no_part_of_the_text_asks_nothing(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 2)
    (tree / ".gitignore").write_text("*.tmp\n")
    async with Models() as models, served(tmp_path, models) as client:
        run_id = await ask(client, tree)
        models.requests.clear()
        await client.request("rlm/watch", {"runId": run_id})
        (tree / "x.tmp").write_text("no part of it")
        (tree / "0000.txt").write_text("text 0\n")  # as it was
        (tree / "0001.txt").write_text("other\n")
        await client.until(lambda: [m for m in client.messages if m.get("method") == "rlm/watched"])
        error = await client.error("rlm/watch", {"runId": "20200101-000000-000000"})
        assert error["data"]["kind"] == "unknownRun"


async def test_the_command_line_forks_and_runs_again(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 2)
    async with Models() as models:
        async with served(tmp_path, models) as client:
            run_id = await ask(client, tree)
        (tmp_path / "code.py").write_text("more = 'by hand'\n")
        at = ("--at", "2", "--code", str(tmp_path / "code.py"))
        status, out, told = await command(tmp_path, "fork", run_id, *at)
        assert (status, out) == (0, "by hand!\n"), told
        (tree / "0001.txt").write_text("changed\n")
        status, out, told = await command(tmp_path, "rerun", run_id)
        assert (status, out) == (0, "<All of it: <text 0> <changed>>!\n")
        assert "-<All of it: <text 0> <text 1>>!" in told
        status, _, told = await command(tmp_path, "resume", run_id)
        assert (status, "has its answer" in told) == (1, True)


async def test_the_command_line_prints_no_answer_that_is_not_complete(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 1)
    async with Models(["It may be a text.", "It may be a number."]) as models:
        async with served(tmp_path, models) as client:
            asked = {"question": "What?", "sources": [{"kind": "tree", "root": str(tree)}]}
            options = {"limits": {"iterations": 1}}
            run = await client.request("rlm/ask", {**asked, "options": options})
            await client.event(run["runId"], "runEnded")
        status, out, told = await command(tmp_path, "resume", "last", "--iterations", "2")
        assert (status, out) == (1, "")
        assert "\nIt may be a number.\n" in told
        assert "limit: Stopped: the limit of 2 iterations is reached." in told


async def command(home: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rlm_server", *arguments, env=server_environment(home),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    out, told = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), told.decode()


FURTHER = [
    cell("x = llm_query('Sum up:\\n' + context[:6])\nprint(x)"),
    final("x"),
    cell("y = x + ' and ' + llm_query('Sum up:\\nmore')\nprint(y)"),
    final("y"),
    final("f'{x}, {y}, {mine}'"),
]


async def further(client: Client, run_id: str, question: str) -> tuple[dict, str]:
    before = len(client.of(run_id, "runEnded"))
    asked = {"runId": run_id, "question": question}
    seq = (await client.request("rlm/followUp", asked))["fromSeq"]
    await client.until(lambda: len(client.of(run_id, "runEnded")) > before)
    text = "".join(e["text"] for e in client.of(run_id, "answer") if e["seq"] >= seq)
    return client.of(run_id, "runEnded")[-1], text


async def test_a_run_that_rests_no_more_is_asked_further_all_the_same(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 1)
    async with Models(FURTHER) as models:
        async with served(tmp_path, models) as client:
            run_id = await ask(client, tree)
        assert models.roles == ["root", "sub", "root"]
        log = tmp_path / "state" / "runs" / f"{run_id}.jsonl"
        whole = log.read_bytes()
        async with served(tmp_path, models) as client:
            end, answer = await further(client, run_id, "And what more?")
            assert (end["status"], answer) == ("done", "<text 0> and <more>"), end
            mine = {"runId": run_id, "code": "mine = y.upper()"}
            assert (await client.request("rlm/exec", mine))["status"] == "ok"
        assert log.read_bytes().startswith(whole)
        assert models.roles == ["root", "sub", "root", "root", "sub", "root"]
        async with served(tmp_path, models) as client:
            end, answer = await further(client, run_id, "All together?")
            assert end["status"] == "done", end
            assert answer == "<text 0>, <text 0> and <more>, <TEXT 0> AND <MORE>"
            assert len(models.roles) == 7
            await client.request("rlm/attach", {"runId": run_id})
            numbers = [json.loads(line)["seq"] for line in log.read_bytes().splitlines()]
            assert numbers == list(range(len(numbers)))
        async with served(tmp_path, models) as client:  # a fork of it knows its variables too
            forked = {"runId": run_id, "iteration": 5, "code": "FINAL(mine.lower())"}
            fork = (await client.request("rlm/fork", forked))["runId"]
            own = (await client.event(fork, "runForked"))["seq"]
            await client.until(lambda: client.of(fork, "runEnded")[-1]["seq"] > own)
            assert client.of(fork, "runEnded")[-1]["status"] == "done"
            assert client.of(fork, "answer")[-1]["text"] == "<text 0> and <more>"
            assert len(models.roles) == 7
