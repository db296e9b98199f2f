"""Further questions and steering over the protocol, with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from engine_harness import cell, final
from rpc_client import Client, initialize_params, start_server
from scripted_provider import Reply, ScriptedProvider


@asynccontextmanager
async def serving(
    home: Path, replies: list[str], more: str = ""
) -> AsyncIterator[tuple[Client, ScriptedProvider]]:
    """A server whose root model says these replies, and whose sub model says ``sub``."""
    left = list(replies)

    def script(request) -> Reply:
        return Reply(left.pop(0) if request.role == "root" else "sub")

    async with ScriptedProvider(script) as provider:
        (home / "config.toml").write_text(
            f'root = "scripted"\ndiscover = false\n{more}\n[models.scripted]\n'
            'model = "openai/scripted"\nkey-env = "SCRIPTED_KEY"\ninput-price = 0.0\n'
            f'output-price = 0.0\nbase-url = "{provider.url}"\n'
        )
        async with start_server(home, SCRIPTED_KEY="none") as (client, _):
            await client.request("initialize", initialize_params())
            yield client, provider


def question(**options) -> dict:
    source = {"kind": "text", "text": "alpha\nbeta\n"}
    return {
        "question": "What is in it?",
        "sources": [source],
        "options": {"noCache": True, **options},
    }


async def test_a_further_question_over_the_wire(tmp_path: Path) -> None:
    replies = [cell("context\nx = 41\nFINAL(x)"), final("str(x + 1)")]
    async with serving(tmp_path, replies) as (client, provider):
        run = await client.request("rlm/ask", question())
        run_id = run["runId"]
        await client.event(run_id, "runEnded")
        assert (await client.request("rlm/status"))["restingRuns"] == [run_id]
        # It isn't live, nor is it taken to be, though its server still holds the log.
        assert (await client.request("rlm/runs"))["runs"][0]["status"] == "done"
        listed = await client.request("rlm/variables", {"runId": run_id})
        assert {"x": "41"}.items() <= {v["name"]: v["preview"] for v in listed["variables"]}.items()
        page = await client.request(
            "rlm/inspect", {"runId": run_id, "name": "context", "start": 6, "length": 4}
        )
        assert (page["text"], page["characters"]) == ("beta", 11)
        done = await client.request("rlm/exec", {"runId": run_id, "code": "x += 1\nprint(x)"})
        assert (done["status"], done["output"], done["node"]) == ("ok", "42\n", "0.x1")
        more = await client.request("rlm/followUp", {"runId": run_id, "question": "And then?"})
        assert (more["runId"], more["log"]) == (run_id, run["log"])
        await client.until(lambda: len(client.of(run_id, "runEnded")) == 3)
        assert [e["text"] for e in client.of(run_id, "answer")] == ["41", "43"]
        assert [e["seq"] for e in client.of(run_id)] == list(range(len(client.of(run_id))))
        first = next(e for e in client.of(run_id) if e["seq"] == more["fromSeq"])
        assert first["kind"] == "followUp"
        assert "x += 1" in provider.requests[1].question


async def test_what_can_not_be_asked_further_is_said_with_its_kind(tmp_path: Path) -> None:
    endless = cell("print('on')\nwhile True: pass")
    async with serving(tmp_path, [final(), endless], "[sandbox]\nresting = 0") as (client, _):
        run_id = (await client.request("rlm/ask", question()))["runId"]
        await client.event(run_id, "runEnded")
        for method, more in (
            ("rlm/followUp", {"question": "?"}),
            ("rlm/variables", {}),
            ("rlm/exec", {"code": "1"}),
        ):
            error = await client.error(method, {"runId": run_id, **more})
            assert error["data"]["kind"] == "notResting", error
            assert "[sandbox]" in error["data"]["cure"]
        for method, more in (("rlm/note", {"text": "n"}), ("rlm/pause", {"paused": True})):
            error = await client.error(method, {"runId": run_id, **more})
            assert error["data"]["kind"] == "ended"
        run_id = (await client.request("rlm/ask", question()))["runId"]
        await client.event(run_id, "output")
        error = await client.error("rlm/followUp", {"runId": run_id, "question": "?"})
        assert error["data"]["kind"] == "busy"
        error = await client.error("rlm/variables", {"runId": run_id})
        assert error["data"]["kind"] == "busy"
        error = await client.error(
            "rlm/followUp", {"runId": "20260101-000000-abcdef", "question": "?"}
        )
        assert error["data"]["kind"] == "unknownRun"


async def test_steering_over_the_wire(tmp_path: Path) -> None:
    replies = [cell("context\nx = 1"), cell("import os"), cell("y = 2"), final("str(x)")]
    async with serving(tmp_path, replies) as (client, provider):
        run_id = (await client.request("rlm/ask", question(approve=True)))["runId"]
        wanted = await client.event(run_id, "approvalWanted", node="0.1")
        at = {"runId": run_id, "node": "0.1", "cell": wanted["cell"]}
        edit = {"decision": "edit", "code": "context\nx = 7\n"}
        assert (await client.request("rlm/approve", {**at, **edit}))["accepted"]
        assert not (await client.request("rlm/approve", {**at, **edit}))["accepted"]
        await client.event(run_id, "approvalWanted", node="0.2")
        assert (await client.request("rlm/pause", {"runId": run_id, "paused": True}))["paused"]
        await client.request("rlm/note", {"runId": run_id, "text": "No files, please."})
        reject = {
            "runId": run_id,
            "node": "0.2",
            "cell": 1,
            "decision": "reject",
            "reason": "no os",
        }
        assert (await client.request("rlm/approve", reject))["accepted"]
        await client.event(run_id, "cellDone", node="0.2", status="rejected")
        assert len(provider.requests) == 2
        await client.request("rlm/pause", {"runId": run_id, "paused": False})
        await client.event(run_id, "approvalWanted", node="0.3")
        last = {"runId": run_id, "node": "0.3", "cell": 1, "decision": "approve", "rest": True}
        assert (await client.request("rlm/approve", last))["accepted"]
        await client.event(run_id, "runEnded", status="done")
        assert client.of(run_id, "answer")[0]["text"] == "7"
        assert "Their reason: no os. Go on" in provider.requests[2].question
        assert "No files, please." in provider.requests[2].question
        assert len(client.of(run_id, "approvalWanted")) == 3


async def test_two_clients_see_the_further_question_of_one(tmp_path: Path) -> None:
    async with serving(tmp_path, [final("'1'"), final("'2'")]) as (client, _):
        run_id = (await client.request("rlm/ask", question()))["runId"]
        await client.event(run_id, "runEnded")
        before = len(client.of(run_id))
        # Attached while it rests: what comes is seen too, and nothing twice.
        attached = await client.request("rlm/attach", {"runId": run_id, "fromSeq": 0})
        assert not attached["live"]
        await client.until(lambda: len(client.of(run_id)) == 2 * before)
        await client.request("rlm/followUp", {"runId": run_id, "question": "More?"})
        await client.until(lambda: [e["text"] for e in client.of(run_id, "answer")][-1] == "2")
        await client.event(run_id, "followUp")
        assert len(client.of(run_id, "followUp")) == 1


async def test_a_resting_run_can_be_deleted_and_the_server_stops_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path, [final(), final()]) as (client, _):
        run_id = (await client.request("rlm/ask", question()))["runId"]
        await client.event(run_id, "runEnded")
        assert (await client.request("rlm/delete", {"runId": run_id}))["bytes"] > 0
        error = await client.error("rlm/followUp", {"runId": run_id, "question": "?"})
        assert error["data"]["kind"] == "unknownRun"
        again = (await client.request("rlm/ask", question()))["runId"]
        await client.event(again, "runEnded")
    assert not list((tmp_path / "cache/contexts").glob("*"))
    await asyncio.sleep(0)


async def test_variables_that_are_no_longer_kept_are_made_anew_for_ones_own_code(
    tmp_path: Path,
) -> None:
    replies = [cell("context\nx = 41\nFINAL(x)")]
    async with serving(tmp_path, replies) as (client, _):
        run_id = (await client.request("rlm/ask", question()))["runId"]
        await client.event(run_id, "runEnded")
    async with serving(tmp_path, []) as (client, provider):
        done = await client.request("rlm/exec", {"runId": run_id, "code": "x += 1\nprint(x)"})
        assert (done["status"], done["output"]) == ("ok", "42\n")
        # Who runs it sees it, though it has not followed the run before.
        assert (await client.event(run_id, "output"))["text"] == "42\n"
        listed = await client.request("rlm/variables", {"runId": run_id})
        assert {"x": "42"}.items() <= {v["name"]: v["preview"] for v in listed["variables"]}.items()
        assert not provider.requests
