"""A server that is killed at any point: its runs go on, and nothing in their logs is paid twice.

A call counts as paid when the provider has sent its whole answer. What was sent and did not come
into the log before the kill can't be known afterwards, and is asked again: kills are made at points
where there is nothing of that kind, where the sums must be equal, and at any other points, where
they must differ by exactly those calls. After the kill just those calls are asked that the log has
no answer to, each once. Kept answers are off: only the log counts. What was shown is in the log, so
that what was lost had not been shown: it was on its way.

20 points by default; as many as ``RLM_KILLS`` says, in shares that can go on beside each other.
"""

import asyncio
import json
import os
import random
from pathlib import Path

import pytest

from engine_harness import cell, final
from rpc_client import Client, initialize_params, start_server
from scripted_provider import Reply, ScriptedProvider

KILLS = int(os.environ.get("RLM_KILLS", "20"))
SHARES = 4
ROOTS, SUBS = 4, 50
PROGRAM = [
    cell("first = llm_query_batched([f'part {n}' for n in range(25)])\nprint(first[:3])"),
    cell("second = []\nfor n in range(10):\n    second.append(llm_query(f'step {n}'))\nprint(n)"),
    cell("import random\nthird = llm_query_batched([f'last {n}' for n in range(15)])"),
    final("' '.join(first + second + third) + f' {random.random()}'"),
]
DONE = ("replyDone", "subcallDone")


class Provider(ScriptedProvider):
    """Answers by what is asked; after ``most`` answers it is silent."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.most = ROOTS + SUBS
        self.promised = 0

    def answer(self, request) -> Reply:
        if self.promised >= self.most:
            return Reply(silent=True)
        self.promised += 1
        if request.role == "sub":
            return Reply(f"<{request.question}>")
        turn = sum(message["role"] == "assistant" for message in request.messages)
        return Reply(PROGRAM[turn], chunk=40)

    @property
    def paid(self) -> int:
        return sum(request.sent.is_set() for request in self.requests)


def configure(home: Path, provider: ScriptedProvider) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        'root = "scripted"\ndiscover = false\n[models.scripted]\nmodel = "openai/scripted"\n'
        f'base-url = "{provider.url}"\ninput-price = 1.0\noutput-price = 2.0\n'
        "[cache]\nenabled = false\n"
    )


async def begin(client: Client) -> tuple[str, Path]:
    await client.request("initialize", initialize_params())
    source = {"kind": "text", "text": "alpha\nbeta\n", "name": "greek.txt"}
    result = await client.request("rlm/ask", {"question": "What?", "sources": [source]})
    return result["runId"], Path(result["log"])


def done(client: Client) -> int:
    return sum(event["kind"] in DONE for event in client.events)


def logged(log: Path) -> list[str]:
    """Answers that are whole in a log, as ``named`` calls them."""
    events = [json.loads(line) for line in whole_lines(log)]
    roots = sum(event["kind"] == "replyDone" for event in events)
    subs = [event["answer"] for event in events if event["kind"] == "subcallDone"]
    return [*subs, *(f"root {turn}" for turn in range(roots))]


def named(request) -> str:
    """What a call is known by: its answer, and which one it is of the root's."""
    if request.role == "sub":
        return f"<{request.question}>"
    return f"root {sum(message['role'] == 'assistant' for message in request.messages)}"


EVERY = sorted(
    [f"root {turn}" for turn in range(ROOTS)]
    + [f"<part {n}>" for n in range(25)]
    + [f"<step {n}>" for n in range(10)]
    + [f"<last {n}>" for n in range(15)]
)
"""All that is to be asked, each once."""


def whole_lines(log: Path) -> list[bytes]:
    return [line for line in log.read_bytes().split(b"\n")[:-1] if line]


async def undisturbed(home: Path) -> tuple[str, float, int]:
    """Answer, cost and number of events of a run that nobody kills."""
    async with Provider() as provider:
        configure(home, provider)
        async with start_server(home) as (client, _):
            run_id, log = await begin(client)
            end = await client.event(run_id, "runEnded")
            assert end["status"] == "done", end
        assert provider.paid == ROOTS + SUBS
        [answer] = [e["text"] for e in client.of(run_id, "answer")]
        return answer.rpartition(" ")[0], end["usage"]["cost"], len(whole_lines(log))


async def kill_when_all_is_logged(client: Client, process, provider: Provider) -> None:
    await client.until(lambda: done(client) == provider.most)
    process.kill()
    await process.wait()


async def kill_after(client: Client, process, events: int) -> None:
    await client.until(lambda: len(client.events) >= events)
    process.kill()
    await process.wait()


async def killed_and_resumed(home: Path, kill, most: int, cut: int) -> tuple[dict, str, int, int]:
    """The end, the answer, the calls paid in all, and those of them that the kill has lost."""
    async with Provider() as provider:
        provider.most = most
        configure(home, provider)
        async with start_server(home) as (client, process):
            run_id, log = await begin(client)
            await kill(client, process, provider)
        for request in provider.requests:
            await request.closed.wait()
        shown = [json.dumps(event) for event in client.of(run_id)]
        assert shown == [json.dumps(json.loads(line)) for line in whole_lines(log)[: len(shown)]]
        if cut:
            os.truncate(log, max(len(log.read_bytes()) - cut, len(whole_lines(log)[0]) + 1))
        known, before = logged(log), len(provider.requests)
        lost = provider.paid - len(known)
        provider.most, provider.promised = ROOTS + SUBS + lost, provider.paid
        async with start_server(home) as (client, _):
            await client.request("initialize", initialize_params())
            [run] = (await client.request("rlm/runs", {}))["runs"]
            if run["status"] == "done":  # it was faster than the kill
                await client.request("rlm/attach", {"runId": run_id})
            else:
                assert run["status"] == "interrupted"
                result = await client.request("rlm/resume", {"runId": run_id})
                assert result["runId"] == run_id
            end = await client.event(run_id, "runEnded")
            events = client.of(run_id)
            assert [event["seq"] for event in events] == list(range(len(events)))
            answer = "".join(event["text"] for event in client.of(run_id, "answer"))
        asked = [named(request) for request in provider.requests[before:]]
        assert sorted([*known, *asked]) == EVERY
        return end, answer.rpartition(" ")[0], provider.paid, lost


@pytest.mark.timeout(60 + 20 * KILLS)
@pytest.mark.parametrize("share", range(SHARES))
async def test_killed_anywhere_a_run_ends_as_if_it_had_not_been(tmp_path: Path, share: int) -> None:
    answer, cost, count = await undisturbed(tmp_path / "undisturbed")
    chance = random.Random(7 + share)
    told = []
    for number in range(share, KILLS, SHARES):
        home = tmp_path / str(number)
        if number % 2:
            most, cut = chance.randrange(ROOTS + SUBS), 0
            place = f"when {most} answers are logged"
            kill = kill_when_all_is_logged
        else:
            most, cut = ROOTS + SUBS, chance.choice((0, 0, chance.randrange(1, 3000)))
            after = chance.randrange(1, count - 1)
            place = f"after {after} events, {cut} bytes torn off"

            async def kill(client: Client, process, _, after: int = after) -> None:
                await kill_after(client, process, after)

        end, text, paid, lost = await killed_and_resumed(home, kill, most, cut)
        assert end["status"] == "done", (place, end)
        assert text == answer, place
        assert paid == ROOTS + SUBS + lost, (place, paid, lost)
        assert number % 2 == 0 or lost == 0, (place, lost)
        assert end["usage"]["cost"] == pytest.approx(cost), place
        told.append((place, lost))
    print(f"{len(told)} kills, {sum(lost for _, lost in told)} answers lost in flight")


async def test_a_changed_context_can_not_be_resumed_and_the_cure_is_told(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("alpha\n")
    async with Provider() as provider:
        provider.most = 3
        configure(tmp_path, provider)
        async with start_server(tmp_path) as (client, process):
            await client.request("initialize", initialize_params())
            asked = {"question": "What?", "sources": [{"kind": "file", "path": str(source)}]}
            run_id = (await client.request("rlm/ask", asked))["runId"]
            await client.until(lambda: done(client) == 3)
            process.kill()
        provider.most = 100
        async with start_server(tmp_path) as (client, _):
            await client.request("initialize", initialize_params())
            source.write_text("beta\n")
            error = await client.error("rlm/resume", {"runId": run_id})
            assert error["data"]["kind"] == "contextChanged"
            assert "rlm-rerun" in error["data"]["cure"]
            elsewhere = tmp_path / "elsewhere" / "a.txt"  # as on another machine
            elsewhere.parent.mkdir()
            elsewhere.write_text("alpha\n")
            there = [str(elsewhere)]
            both = {"runId": run_id, "places": there * 2}
            assert str(source) in (await client.error("rlm/resume", both))["data"]["cure"]
            await client.request("rlm/resume", {"runId": run_id, "places": there})
            assert (await client.event(run_id, "runEnded"))["status"] == "done"
            error = await client.error("rlm/resume", {"runId": run_id})
            assert error["data"]["kind"] == "notResumable"


async def test_two_servers_do_not_resume_the_same_run(tmp_path: Path) -> None:
    async with Provider() as provider:
        provider.most = 3
        configure(tmp_path, provider)
        async with start_server(tmp_path) as (client, _):
            run_id, _ = await begin(client)
            await client.until(lambda: done(client) == 3)
            async with start_server(tmp_path) as (other, _):
                await other.request("initialize", initialize_params())
                [run] = (await other.request("rlm/runs", {}))["runs"]
                assert run["status"] == "running"
                error = await other.error("rlm/resume", {"runId": run_id})
                assert "another server" in error["message"]
            error = await client.error("rlm/resume", {"runId": run_id})
            assert error["data"]["kind"] == "notResumable"
            await client.request("rlm/cancel", {"runId": run_id})
            await client.event(run_id, "runEnded")
    await asyncio.sleep(0)
