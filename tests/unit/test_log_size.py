"""A log grows with what is said and printed, never with the context or with the conversation."""

from pathlib import Path

from engine_harness import cell, final, play
from rlm_server.protocol import Output, ReplyDelta, TextSource

TURNS = 20
LINES = "".join(f"line {n}: {'words of the context ' * 3}\n" for n in range(14_000))


async def test_a_megabyte_over_twenty_turns_stays_under_twice_what_was_said(tmp_path: Path) -> None:
    assert len(LINES) > 1_000_000
    look = "\n".join(f"# Why this is looked at next: {'reasons ' * 12}" for _ in range(12))
    replies = [
        cell(f"{look}\nprint(context[{turn * 40_000}:{turn * 40_000 + 6_000}])")
        for turn in range(TURNS - 1)
    ]
    run = await play(
        tmp_path,
        [*replies, final()],
        sources=[TextSource(text=LINES, name="long.txt")],
    )
    assert run.end.status == "done"
    assert run.end.iterations == TURNS
    said = sum(len(e.text.encode()) for e in run.events if isinstance(e, ReplyDelta | Output))
    size = run.run.log.path.stat().st_size
    assert said > 130_000
    assert size < 2 * said, (size, said)
