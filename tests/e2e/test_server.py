"""The server as a process: every message gets its answer, and a run is told as events."""

import asyncio
import json
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

import processes
from rpc_client import Client, initialize_params, server_environment, start_server

TREE = {
    "src/limits.py": "# Limits\nMAX_CALLS = 500  # the sub-call limit is decided here\n",
    "src/other.py": "def unrelated():\n    return 'nothing'\n",
    "README.md": "# A project\n\nIt has a sub-call limit.\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, text in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
async def server(tmp_path: Path):
    async with start_server(tmp_path) as (client, process):
        await client.request("initialize", initialize_params())
        yield client, process


def ask(tree: Path, **more: object) -> dict:
    return {
        "question": "Where is the sub-call limit decided?",
        "sources": [{"kind": "tree", "root": str(tree)}],
        **more,
    }


async def test_initialize_tells_what_the_server_is(tmp_path: Path) -> None:
    async with start_server(tmp_path) as (client, process):
        result = await client.request("initialize", initialize_params())
    assert result["rootModel"] == "offline/extractive"
    assert result["pid"] == process.pid
    assert {"name", "host"} == set(result["keysWanted"][0])


async def test_another_protocol_version_is_refused_with_the_cure(tmp_path: Path) -> None:
    async with start_server(tmp_path) as (client, _):
        error = await client.error("initialize", {"protocolVersion": 99})
    assert "rlm-install-server" in error["message"]


async def test_a_question_about_a_tree_is_answered_with_evidence(server, tree: Path) -> None:
    client, _ = server
    run_id = (await client.request("rlm/ask", ask(tree)))["runId"]
    end = await client.event(run_id, "runEnded")
    assert end["status"] == "done", end
    answer = client.of(run_id, "answer")[-1]
    assert "src/limits.py:2" in answer["text"]
    [evidence] = [e for e in answer["evidence"] if e["path"] == "src/limits.py" and e["line"] == 2]
    assert evidence["quote"] == "MAX_CALLS = 500  # the sub-call limit is decided here"
    assert evidence["location"]["uri"] == (tree / "src/limits.py").as_uri()
    assert [e["seq"] for e in client.of(run_id)] == list(range(len(client.of(run_id))))
    kinds = {e["kind"] for e in client.of(run_id)}
    assert {"runStarted", "contextReady", "iterationStarted", "replyDelta", "cellStarted"} <= kinds
    assert {"output", "cellDone", "subcallStarted", "subcallDone", "progress"} <= kinds


async def test_where_the_question_itself_stands_is_no_answer(server, tree: Path) -> None:
    client, _ = server
    (tree / "notes.txt").write_text("To ask:\nWhere is the sub-call limit decided?\n")
    run_id = (await client.request("rlm/ask", ask(tree)))["runId"]
    await client.event(run_id, "runEnded")
    text = client.of(run_id, "answer")[-1]["text"]
    assert "src/limits.py" in text
    assert "notes.txt" not in text


async def test_without_subcalls_the_embedded_model_still_cites_the_right_lines(
    server, tree: Path
) -> None:
    client, _ = server
    run_id = (await client.request("rlm/ask", ask(tree, options={"limits": {"subcalls": 0}})))[
        "runId"
    ]
    await client.event(run_id, "runEnded")
    for evidence in client.of(run_id, "answer")[-1]["evidence"]:
        lines = (tree / evidence["path"]).read_text().splitlines()
        assert lines[evidence["line"] - 1].strip() == evidence["quote"]
        assert evidence["quote"] in client.of(run_id, "answer")[-1]["text"]


async def test_the_log_holds_exactly_what_was_sent(server, tree: Path) -> None:
    client, _ = server
    result = await client.request("rlm/ask", ask(tree))
    await client.event(result["runId"], "runEnded")
    logged = [json.loads(line) for line in Path(result["log"]).read_text().splitlines()]
    assert logged == client.of(result["runId"])


async def test_the_reply_comes_before_the_first_event(server, tree: Path) -> None:
    client, _ = server
    request = client.post("rlm/ask", ask(tree))
    await client.until(lambda: client.events)
    first = next(i for i, m in enumerate(client.messages) if m.get("method") == "rlm/events")
    reply = next(i for i, m in enumerate(client.messages) if m.get("id") == request)
    assert reply < first


async def test_attach_replays_a_finished_run_from_any_event(server, tree: Path) -> None:
    client, _ = server
    run_id = (await client.request("rlm/ask", ask(tree)))["runId"]
    await client.event(run_id, "runEnded")
    before = client.of(run_id)
    client.events.clear()
    result = await client.request("rlm/attach", {"runId": run_id, "fromSeq": 3})
    assert result["run"]["status"] == "done"
    assert not result["live"]
    await client.event(run_id, "runEnded")
    assert client.of(run_id) == before[3:]
    runs = (await client.request("rlm/runs"))["runs"]
    assert [run["runId"] for run in runs] == [run_id]


async def test_a_run_is_exported_to_a_file(server, tree: Path, tmp_path: Path) -> None:
    client, _ = server
    run_id = (await client.request("rlm/ask", ask(tree)))["runId"]
    await client.event(run_id, "runEnded")
    page = tmp_path / "page.html"
    wanted = {"runId": run_id, "format": "html", "path": str(page)}
    result = await client.request("rlm/export", wanted)
    assert result == {"path": str(page), "bytes": page.stat().st_size}
    assert "src/limits.py:2" in page.read_text()
    assert (await client.error("rlm/export", {**wanted, "path": "page.html"}))["code"] == -32016
    assert (await client.error("rlm/export", {**wanted, "format": "pdf"}))["code"] == -32602


async def test_a_mark_stands_in_the_list_and_can_be_taken_back(server, tree: Path) -> None:
    client, _ = server
    run_id = (await client.request("rlm/ask", ask(tree)))["runId"]
    await client.event(run_id, "runEnded")
    params = {"runId": run_id, "good": False, "reason": " wrong file "}
    mark = (await client.request("rlm/mark", params))["mark"]
    assert (mark["good"], mark["reason"]) == (False, "wrong file")
    [run] = (await client.request("rlm/runs"))["runs"]
    assert run["mark"] == mark
    assert (await client.request("rlm/mark", {**params, "good": None}))["mark"] is None
    [run] = (await client.request("rlm/runs"))["runs"]
    assert run["mark"] is None


BAD_REQUESTS = [
    ("rlm/ask", {"question": 5, "sources": []}, -32602),
    ("rlm/ask", {"question": "", "sources": []}, -32602),
    ("rlm/ask", None, -32602),
    ("rlm/ask", {"question": "q", "sources": [], "unknown": 1}, -32602),
    ("rlm/ask", [1, 2], -32602),
    ("rlm/attach", {"runId": "../../etc/passwd"}, -32012),
    ("rlm/cancel", {"runId": "20260101-000000-abcdef"}, -32012),
    ("rlm/limits", {"runId": "20260101-000000-abcdef", "limits": {}}, -32012),
    ("rlm/limits", {"runId": "20260101-000000-abcdef", "limits": {"cost": -1}}, -32602),
    ("rlm/mark", {"runId": "20260101-000000-abcdef", "good": True}, -32012),
    ("rlm/mark", {"runId": "20260101-000000-abcdef", "good": 2}, -32602),
    ("rlm/acceptNotes", {"proposal": "none", "changes": [0]}, -32019),
    ("rlm/export", {"runId": "../x", "format": "html", "path": "/tmp/x"}, -32012),
    ("rlm/nothing", {}, -32601),
    ("rlm/ask", {"jsonrpc": "2.0", "id": 9, "method": "x"}, -32602),
]


async def test_a_bad_request_is_answered_with_its_code(server) -> None:
    client, _ = server
    answered = [
        (method, params, (await client.error(method, params))["code"])
        for method, params, _ in BAD_REQUESTS
    ]
    assert answered == BAD_REQUESTS


MALFORMED = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"jsonrpc":"1.0","id":1}', b'{"jsonrpc":"2.0"}',
    b'{"jsonrpc":"2.0","id":{},"method":"x"}', b"[" * 100_000,
]  # fmt: skip


async def test_malformed_messages_get_an_error_and_the_server_lives(server) -> None:
    client, _ = server
    for body in MALFORMED:
        before = len(client.messages)
        client.send_raw(body)
        await client.until(lambda before=before: len(client.messages) > before)
        reply = client.messages[before]
        assert reply["error"]["code"] in (-32700, -32600), (body[:60], reply)
        assert await client.request("rlm/status"), body[:60]


async def test_stray_text_between_messages_is_passed_over(server) -> None:
    client, _ = server
    client.send_raw(b"", header=b"hello\nContent-Type: text\n" + b"x" * 10_000 + b"\n")
    assert await client.request("rlm/status")


async def test_a_message_beyond_the_limit_is_refused_and_read_past(server) -> None:
    client, _ = server
    before = len(client.messages)
    client.send_raw(b" " * ((64 << 20) + 1))
    await client.until(lambda: len(client.messages) > before)
    assert "67,108,864" in client.messages[before]["error"]["message"]
    assert await client.request("rlm/status")


async def test_an_unknown_model_is_answered_with_those_there_are(server, tree: Path) -> None:
    client, _ = server
    error = await client.error("rlm/ask", ask(tree, options={"rootModel": "nonsense"}))
    assert error["code"] == -32021
    assert error["data"]["kind"] == "unknownModel"
    assert "offline/extractive" in error["message"]
    assert (await client.request("rlm/runs"))["runs"] == []


async def test_sources_that_hold_no_text_end_the_run_with_an_error(server, tmp_path: Path) -> None:
    client, _ = server
    empty = tmp_path / "empty"
    empty.mkdir()
    run_id = (await client.request("rlm/ask", ask(empty)))["runId"]
    end = await client.event(run_id, "runEnded")
    assert end["status"] == "failed"
    assert end["error"]["kind"] == "source"


async def test_estimate_says_what_would_be_read(server, tree: Path) -> None:
    client, _ = server
    estimate = await client.request("rlm/estimate", {"sources": ask(tree)["sources"]})
    assert estimate["documents"] == 3
    assert estimate["bytes"] == sum(len(text) for text in TREE.values())
    assert estimate["free"] is True


async def test_doctor_tries_every_part(server) -> None:
    client, _ = server
    rows = (await client.request("rlm/doctor"))["rows"]
    assert {row["status"] for row in rows} <= {"ok", "warning"}
    assert any(row["part"] == "question through the whole loop" for row in rows)
    assert all(row["cure"] for row in rows if row["status"] != "ok")


async def test_the_end_of_standard_input_ends_everything(tmp_path: Path, tree: Path) -> None:
    async with start_server(tmp_path) as (client, process):
        await client.request("initialize", initialize_params())
        await client.request("rlm/ask", ask(tree))
        children = processes.descendants(process.pid)
    assert process.returncode == 0
    await processes.gone(children)
    assert not list((tmp_path / "cache/contexts").glob("*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_everything_too(
    tmp_path: Path, tree: Path, number: signal.Signals
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    async with start_server(tmp_path, TMPDIR=str(scratch)) as (client, process):
        await client.request("initialize", initialize_params())
        await client.request("rlm/ask", ask(tree))
        children = processes.descendants(process.pid)
        process.send_signal(number)
        await client.ended()
        assert await process.wait() == 0
    await processes.gone(children)
    async with asyncio.timeout(60):
        while list(scratch.iterdir()):  # what was started since then ends after the server
            await asyncio.sleep(0.01)


async def test_shutdown_and_exit_end_the_server(tmp_path: Path) -> None:
    async with start_server(tmp_path) as (client, process):
        await client.request("initialize", initialize_params())
        await client.request("shutdown")
        assert (await client.error("rlm/status"))["code"] == -32600
        client.notify("exit")
        await asyncio.wait_for(process.wait(), 60)


async def test_a_killed_server_leaves_a_whole_log_and_no_process(tmp_path: Path) -> None:
    source = {"kind": "text", "text": "some text\n" * 1000}
    async with start_server(tmp_path) as (client, process):
        await client.request("initialize", initialize_params())
        result = await client.request("rlm/ask", {"question": "What text?", "sources": [source]})
        await client.event(result["runId"], "cellStarted")
        children = processes.descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        await client.ended()
        shown = client.of(result["runId"])
    logged = [json.loads(line) for line in Path(result["log"]).read_text().splitlines()]
    assert logged[: len(shown)] == shown
    await processes.gone(children)
    async with start_server(tmp_path) as (client, _):
        await client.request("initialize", initialize_params())
        [run] = (await client.request("rlm/runs"))["runs"]
        assert run["status"] in ("interrupted", "done")
        await client.request("rlm/attach", {"runId": run["runId"]})
        await client.until(lambda: len(client.of(run["runId"])) == len(logged))


async def test_two_runs_at_once_keep_apart(server, tree: Path) -> None:
    client, _ = server
    ids = [
        (await client.request("rlm/ask", ask(tree, question=question)))["runId"]
        for question in ("Where is the sub-call limit?", "What does unrelated return?")
    ]
    for run_id in ids:
        assert (await client.event(run_id, "runEnded"))["status"] == "done"
        seqs = [event["seq"] for event in client.of(run_id)]
        assert seqs == list(range(len(seqs)))


async def start_tcp(tmp_path: Path, *before: str) -> tuple[asyncio.subprocess.Process, int, Path]:
    token_file = tmp_path / "token"
    process = await asyncio.create_subprocess_exec(
        *before, sys.executable, "-m", "rlm_server", "--tcp", "127.0.0.1:0",
        "--token-file", str(token_file),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, env=server_environment(tmp_path),
    )  # fmt: skip
    assert process.stderr
    line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
    return process, int(line.split("127.0.0.1:")[1].split(",")[0]), token_file


async def test_tcp_serves_several_clients_and_only_with_the_token(
    tmp_path: Path, tree: Path
) -> None:
    process, port, token_file = await start_tcp(tmp_path)
    try:
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        first = Client(*await asyncio.open_connection("127.0.0.1", port))
        assert (await first.error("rlm/status"))["code"] == -32001
        assert (await first.error("initialize", initialize_params(token="wrong")))["code"] == -32001
        assert (await first.error("rlm/ask", ask(tree)))["code"] == -32001
        await first.request("initialize", initialize_params(token=token_file.read_text()))
        run_id = (await first.request("rlm/ask", ask(tree)))["runId"]
        await first.close()
        second = Client(*await asyncio.open_connection("127.0.0.1", port))
        await second.request("initialize", initialize_params(token=token_file.read_text()))
        await second.request("rlm/attach", {"runId": run_id})
        assert (await second.event(run_id, "runEnded"))["status"] == "done"
        await second.close()
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
    assert not token_file.exists()


async def test_a_server_under_nohup_goes_on_when_its_terminal_is_closed(tmp_path: Path) -> None:
    process, port, token_file = await start_tcp(tmp_path, "nohup")
    try:
        process.send_signal(signal.SIGHUP)
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        await client.request("initialize", initialize_params(token=token_file.read_text()))
        await client.close()
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("address", ["0.0.0.0:0", "example.org:80", "127.0.0.1", "127.0.0.1:x"])
async def test_only_a_loopback_address_is_served(tmp_path: Path, address: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rlm_server", "--tcp", address,
        stderr=asyncio.subprocess.PIPE, env=server_environment(tmp_path),
    )  # fmt: skip
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert b"127.0.0.1" in stderr
