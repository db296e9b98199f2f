"""The log format of the reference engine, ``rlms``, which its visualiser opens.

JSON lines: one of metadata, then one for each iteration, with what that engine's ``RLMMetadata``,
``RLMIteration``, ``CodeBlock``, ``REPLResult`` and ``RLMChatCompletion`` are as dicts. Beyond
them a sub-call has ``prompt_tokens`` and ``completion_tokens``, which the visualiser shows. There,
every iteration repeats the whole conversation, so that logs grow quadratically; here it has the
question, and what came in since the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from rlm_server.protocol import FollowUp, RunStarted, Usage
from rlm_server.runs.export.items import Call, Cell, Item, Step, Verdict, joined
from rlm_server.text import clip, to_json

SHOWN = 8000
"""Characters of an earlier reply and its output that the next iteration repeats; the visualiser
shows no more of a message."""


def write(story: Iterable[Item]) -> Iterator[str]:
    """Yield the lines."""
    question, answered = "", False
    held: dict[str, Any] | None = None
    before: Step | None = None
    for item in story:
        if isinstance(item, RunStarted):
            question = item.question
            yield _line({"type": "metadata", "timestamp": _time(item.time), **_metadata(item)})
        elif isinstance(item, FollowUp):
            question = item.question
        elif isinstance(item, Step):
            if held:
                yield _line(held)
            held = {
                "type": "iteration",
                "iteration": item.number,
                "timestamp": _time(item.time),
                **_iteration(item, question, before),
            }
            before, answered = item, False
        elif isinstance(item, Verdict) and not answered:
            held = held or _nothing(item)
            held["final_answer"] = ("Answer so far: " if item.last.partial else "") + item.text
            answered = True
    if held:
        yield _line(held)


def _metadata(started: RunStarted) -> dict[str, Any]:
    return {
        "root_model": started.root_model,
        "max_depth": started.max_depth,
        "max_iterations": started.limits.iterations,
        "backend": "rlm-server",
        "backend_kwargs": {"model_name": started.root_model},
        "environment_type": started.isolation,
        "environment_kwargs": {"project": started.project, "run_id": started.run_id},
        "other_backends": [started.sub_model],
    }


def _iteration(step: Step, question: str, before: Step | None) -> dict[str, Any]:
    return {
        "prompt": [_asked(question), *(_since(before) if before else [])],
        "response": reply(step),
        "code_blocks": [_block(cell) for cell in step.cells],
        "final_answer": None,
        "iteration_time": step.duration(),
    }


def _nothing(verdict: Verdict) -> dict[str, Any]:
    """An iteration for an answer that took none, such as a kept one."""
    time = verdict.last.time
    empty = Step("0.1", 1, time)
    head = {"type": "iteration", "iteration": 1, "timestamp": _time(time)}
    return {**head, **_iteration(empty, "", None)}


def _asked(question: str) -> dict[str, str]:
    """The question, in the words by which the visualiser finds it."""
    return {
        "role": "user",
        "content": 'original query: "{}"'.format(question.replace('"', "'") or "(not in the log)"),
    }


def _since(step: Step) -> list[dict[str, str]]:
    printed = "\n\n".join(
        f"Output of block {cell.number}:\n" + "".join(text for _, text in cell.output)
        for cell in step.cells
    )
    told = printed or "\n".join(notice.text for notice in step.notices) or "(nothing was printed)"
    return [
        {"role": "assistant", "content": clip(reply(step), SHOWN)},
        {"role": "user", "content": clip(told, SHOWN)},
    ]


def reply(step: Step) -> str:
    """The reply as the model gave it, its reasoning left out."""
    parts = [(kind, text) for kind, text in step.parts if kind != "reasoning"]
    if any(kind == "fence" for kind, _ in parts):
        return "".join(text for _, text in parts)
    return "".join(
        f"```repl\n{text.rstrip()}\n```\n" if kind == "code" else text
        for kind, text in joined(parts)
    )


def _block(cell: Cell) -> dict[str, Any]:
    errors = "".join(text for stream, text in cell.output if stream == "stderr")
    if cell.status not in ("ok", "error"):
        errors += f"[{cell.status}] {cell.error}"
    return {
        "code": cell.code,
        "result": {
            "stdout": "".join(text for stream, text in cell.output if stream != "stderr"),
            "stderr": errors,
            "locals": {},
            "execution_time": cell.seconds,
            "rlm_calls": [_call(call) for call in cell.calls],
            "final_answer": None,
        },
    }


def _call(call: Call) -> dict[str, Any]:
    made: dict[str, Any] = {
        "root_model": call.model,
        "prompt": call.prompt,
        "response": call.answer or (call.error.message if call.error else ""),
        "usage_summary": _usage(call.model, call.usage),
        "execution_time": call.seconds,
        "prompt_tokens": call.usage.prompt_tokens,
        "completion_tokens": call.usage.completion_tokens,
    }
    if call.error:
        made["error"] = call.error.message
    if call.steps:
        made["metadata"] = _child(call)
    return made


def _child(call: Call) -> dict[str, Any]:
    """The trajectory of a child run, as that engine keeps it with the call."""
    iterations: list[dict[str, Any]] = []
    before = None
    for step in call.steps:
        head = {"type": "iteration", "iteration": step.number, "timestamp": _time(step.time)}
        iterations.append({**head, **_iteration(step, call.prompt, before)})
        before = step
    iterations[-1]["final_answer"] = call.answer or None
    return {
        "run_metadata": {
            "root_model": call.model,
            "max_depth": call.depth,
            "max_iterations": len(iterations),
            "backend": "rlm-server",
            "backend_kwargs": {"model_name": call.model},
            "environment_type": "child",
            "environment_kwargs": {"node": call.node},
            "other_backends": None,
        },
        "iterations": iterations,
    }


def _usage(model: str, usage: Usage) -> dict[str, Any]:
    cost = {} if usage.cost is None else {"total_cost": usage.cost}
    calls = {
        "total_calls": 1,
        "total_input_tokens": usage.prompt_tokens,
        "total_output_tokens": usage.completion_tokens,
        **cost,
    }
    return {"model_usage_summaries": {model: calls}, **cost}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _line(value: dict[str, Any]) -> str:
    return to_json(value).decode() + "\n"
