"""The command line: what it prints, and its exit status."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rpc_client import server_environment
from scripted_provider import ScriptedProvider


def rlm_server(home: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlm_server", *arguments],
        env=server_environment(home), input=text, capture_output=True, text=True,
        check=False, timeout=50,
    )  # fmt: skip


def test_doctor_examines_every_part_and_succeeds(tmp_path: Path) -> None:
    result = rlm_server(tmp_path, "doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "question through the whole loop" in result.stdout
    assert "→" in result.stdout


def test_config_prints_the_effective_one(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[models.x]\nmodel = "openai/x"\nslots = 3\n')
    result = rlm_server(tmp_path, "config")
    assert result.returncode == 0
    assert "slots = 3" in result.stdout
    assert "cell-seconds = 300.0" in result.stdout


@pytest.mark.parametrize("command", ["config", "doctor", "serve"])
def test_a_wrong_configuration_is_told_without_a_traceback(tmp_path: Path, command: str) -> None:
    (tmp_path / "config.toml").write_text("rooot = 1\n")
    result = rlm_server(tmp_path, command)
    assert result.returncode == 1
    assert "rooot" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_input_to_serve_from_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("")
    for name in ("/dev/null", tmp_path / "in"):
        with Path(name).open() as no_pipe:
            result = subprocess.run(
                [sys.executable, "-m", "rlm_server"], env=server_environment(tmp_path),
                stdin=no_pipe, capture_output=True, text=True, check=False, timeout=50,
            )  # fmt: skip
        assert result.returncode == 1
        assert "--tcp" in result.stderr


def test_models_lists_what_there_is_with_its_health(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'discover = false\n[models.qwen]\nmodel = "hosted_vllm/qwen3"\nslots = 8\nwindow = 32768\n'
        'deployments = [{base-url = "http://127.0.0.1:1/v1"}, '
        '{model = "openai/x", input-price = 2, output-price = 8}]\n'
    )
    result = rlm_server(tmp_path, "models")
    assert result.returncode == 0, result.stderr
    heads, model, first, second, embedded, *_ = result.stdout.splitlines()
    assert heads.split()[:4] == ["name", "model", "source", "tier"]
    assert "qwen  " in model
    assert "32,768" in model
    assert "local/cloud" in model
    assert "down (nothing answers)" in first
    assert "no key" in second
    assert embedded.startswith("offline/extractive")
    assert "Questions go to qwen, sub-calls to qwen." in result.stdout


def test_config_shows_no_secret_of_any_deployment(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[models.x]\nmodel = "openai/x"\nheaders = {x-api-key = "canary-1"}\n'
        'deployments = [{headers = {authorization = "canary-2"}, params = {token = "canary-3"}}]\n'
    )
    result = rlm_server(tmp_path, "config")
    assert result.returncode == 0, result.stderr
    assert "********" in result.stdout
    assert "canary" not in result.stdout


def recorded(home: Path, *run_ids: str) -> None:
    """Put a run with an answer and nothing else into the state directory, under each id."""
    (home / "state" / "runs").mkdir(parents=True)
    for run_id in run_ids:
        head = {"runId": run_id, "time": 1.0, "node": "0"}
        answer = {"text": f"It is {run_id}.", "partial": False, "evidence": []}
        events = [{"kind": "answer", "seq": 0, **head, **answer}]
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (home / "state" / "runs" / f"{run_id}.jsonl").write_text(lines)


def test_export_takes_ids_their_beginnings_logs_and_the_last(tmp_path: Path) -> None:
    old, new = "20260101-000000-aaaaaa", "20260102-000000-bbbbbb"
    recorded(tmp_path, old, new)
    for named, told in (
        ("last", new),
        (old, old),
        ("20260101", old),
        (str(tmp_path / "state" / "runs" / f"{old}.jsonl"), old),
    ):
        result = rlm_server(tmp_path, "export", named, "--format", "markdown")
        assert result.returncode == 0, result.stderr
        assert f"It is {told}." in result.stdout
    for named in ("2026", "none", "../x", ""):
        result = rlm_server(tmp_path, "export", named)
        assert (result.returncode, result.stdout) == (1, "")
        assert "There " in result.stderr


def test_export_writes_a_file(tmp_path: Path) -> None:
    recorded(tmp_path, "20260101-000000-aaaaaa")
    page = tmp_path / "page.html"
    result = rlm_server(tmp_path, "export", "last", "--output", str(page))
    assert (result.returncode, result.stdout) == (0, "")
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_the_last_run_is_never_a_log_without_one(tmp_path: Path) -> None:
    run_id = "20260101-000000-aaaaaa"
    recorded(tmp_path, run_id)
    (tmp_path / "state" / "runs" / "20260102-000000-bbbbbb.jsonl").touch()
    result = rlm_server(tmp_path, "export", "last", "--format", "markdown")
    assert (result.returncode, f"It is {run_id}." in result.stdout) == (0, True), result.stderr


@pytest.mark.parametrize("command", ["config", "models", "runs list", "export last", "costs"])
def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, command: str) -> None:
    recorded(tmp_path, "20260101-000000-aaaaaa")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "rlm_server", *command.split()],
            env=server_environment(tmp_path), stdin=subprocess.DEVNULL, stdout=writing,
            stderr=subprocess.PIPE, text=True, check=False, timeout=50,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")


async def ask(
    home: Path, provider: ScriptedProvider, *arguments: str, more: str = ""
) -> tuple[int, str, str]:
    """Run ``rlm-server ask`` with a scripted model; status, standard output, standard error."""
    (home / "config.toml").write_text(
        'discover = false\nroot = "m"\n'
        f'[models.m]\nmodel = "openai/m"\nbase-url = "{provider.url}"\nretries = 0\n' + more
    )
    (home / "poem.txt").write_text("The sea is calm tonight.\n")
    (home / "schema.json").write_text('{"type": "object", "required": ["word"]}')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rlm_server", "ask", "Which word?",
        *(str(home / one) if "." in one else one for one in arguments),
        env=server_environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(b"The piped sea.\n"), 50)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_ask_prints_the_answer_to_a_question_about_a_file(tmp_path: Path) -> None:
    async with ScriptedProvider(["```repl\nFINAL(context[4:7])\n```"]) as provider:
        status, out, err = await ask(tmp_path, provider, "poem.txt")
    assert (status, out) == (0, "sea\n")
    assert err.startswith("This answer is drawn from 100 % of the context: models have read 25 of")
    assert err.count("\n") == 1


async def test_ask_warns_of_quotations_that_are_not_there(tmp_path: Path) -> None:
    reply = """```repl\ncontext\nFINAL('It says "the moon is out tonight", poem.txt:7.')\n```"""
    async with ScriptedProvider([reply]) as provider:
        status, _, err = await ask(tmp_path, provider, "poem.txt")
    assert status == 0
    assert "warning: not in the context: the moon is out tonight" in err
    assert "warning: there is no such place: poem.txt:7" in err


async def test_ask_reads_standard_input_and_directories(tmp_path: Path) -> None:
    reply = "```repl\nFINAL(sorted(d.path for d in context.documents))\n```"
    async with ScriptedProvider([reply]) as provider:
        status, out, _ = await ask(tmp_path, provider, "-", "poem.txt")
    assert (status, out) == (0, '["poem.txt", "stdin"]\n')


async def test_ask_counts_for_a_project_and_keeps_its_limit(tmp_path: Path) -> None:
    more = "input-price = 1.0\noutput-price = 1.0\n[costs.project-limits]\nthesis = 0.001\n"
    async with ScriptedProvider(["```repl\nFINAL(context[4:7])\n```"]) as provider:
        status, _, err = await ask(tmp_path, provider, "poem.txt", "--project", "thesis", more=more)
        assert (status, provider.requests) == (1, [])
        assert "The limit of $0.001 a month for thesis leaves no room for a call of up to" in err
        status, _, _ = await ask(tmp_path, provider, "poem.txt", "--project", "essay", more=more)
        assert status == 0
    costs = rlm_server(tmp_path, "costs").stdout
    assert re.search(r"\d\d  essay +m +1 ", costs)
    assert "thesis: $0.0000 of $0.001 spent." in costs


async def test_ask_with_a_schema_prints_json_that_fits(tmp_path: Path) -> None:
    replies = ["```repl\nFINAL(context[4:7])\n```", '```repl\nFINAL({"word": context[4:7]})\n```']
    async with ScriptedProvider(replies) as provider:
        status, out, err = await ask(tmp_path, provider, "poem.txt", "--schema", "schema.json")
    assert (status, json.loads(out)) == (0, {"word": "sea"})
    assert "does not fit the schema" in err


async def test_ask_fails_clearly_where_no_answer_fits(tmp_path: Path) -> None:
    async with ScriptedProvider(["```repl\nFINAL(context[4:7])\n```"] * 9) as provider:
        status, out, err = await ask(tmp_path, provider, "poem.txt", "--schema", "schema.json")
    assert (status, out) == (1, "")
    assert "\nsea\n" in err
    assert "5 answers did not fit the schema" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["gone.txt"], "gone.txt."), (["poem.txt", "--schema", "poem.txt"], "as JSON")],
)
async def test_ask_says_what_it_can_not_use(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    async with ScriptedProvider([]) as provider:
        status, out, err = await ask(tmp_path, provider, *arguments)
    assert (status, out) == (1, "")
    assert told in err
    assert "Traceback" not in err


def test_marked_runs_become_notes_that_a_person_accepts(tmp_path: Path) -> None:
    recorded(tmp_path, *(f"2026010{n}-000000-aaaaaa" for n in range(1, 5)))
    for path in (tmp_path / "state" / "runs").iterdir():
        # Runs that called no model and named places.
        place = {"uri": "file:///a", "range": {"start": {"line": 0, "character": 0},
                                               "end": {"line": 1, "character": 0}}}  # fmt: skip
        event = json.loads(path.read_text())
        event["evidence"] = [{"location": place, "path": "a", "line": 1, "quote": "x"}]
        path.write_text(json.dumps(event) + "\n")
    assert "Nothing to change" in rlm_server(tmp_path, "reflect").stdout
    for n in range(1, 4):
        marked = rlm_server(tmp_path, "mark", f"2026010{n}", "good", "all", "of", "it")
        assert marked.returncode == 0, marked.stderr
    assert rlm_server(tmp_path, "mark", "none", "bad").returncode == 1
    shown = rlm_server(tmp_path, "reflect")
    assert "# 3 good and 0 bad runs, proposed by counting" in shown.stdout
    assert "+- Proof: name the places" in shown.stdout
    assert not (tmp_path / "notes.md").exists()
    accepted = rlm_server(tmp_path, "reflect", "--accept", text="n\ny\n")
    assert "1 of 2 accepted" in accepted.stdout, accepted.stdout
    assert (tmp_path / "notes.md").read_text().count("\n- ") == 1
    assert rlm_server(tmp_path, "mark", "last", "none").stdout.endswith("not marked any more.\n")
