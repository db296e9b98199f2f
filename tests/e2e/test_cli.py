"""The command line: what it prints, and its exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rpc_client import server_environment


def rlm_server(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlm_server", *arguments],
        env=server_environment(home), stdin=subprocess.DEVNULL, capture_output=True, text=True,
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
    with (tmp_path / "in").open() as regular_file:
        result = subprocess.run(
            [sys.executable, "-m", "rlm_server"], env=server_environment(tmp_path),
            stdin=regular_file, capture_output=True, text=True, check=False, timeout=50,
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
