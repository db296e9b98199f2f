"""What tracing costs: what is read of a context, by size of the context, in the REPL's process.

Everything is measured with and without the tracing in one process, over a mapped text as cells
have it. A cell that looks for something and prints it, and a prompt with a piece of the text, are
what an iteration and a sub-call add; 2,000 prompts are those of a whole gigabyte cut into pieces.
"""

from __future__ import annotations

import ast
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from table import print_table

from rlm_server.context.mapped import MappedWriter
from rlm_server.engine.finding import find_all
from rlm_server.sandbox import documents
from rlm_server.sandbox.chunks import chunk_tokens
from rlm_server.sandbox.grep import grep
from rlm_server.sandbox.mapped_text import Context, open_context
from rlm_server.sandbox.reading import Reading

SIZES = {"1 MB": 1 << 20, "100 MB": 100 << 20, "1 GB": 1 << 30}
LINE = "{:010d} some words of a line in a long log, which says as much as most do\n"
CELL = "hits = grep('7777 some', limit=20)\nprint(hits)\ncontext[100:300]"
TIMES = 30


def make(directory: Path, size: int) -> Context:
    writer = MappedWriter(directory / "text.bin")
    number = 0
    while writer.characters < size:
        writer.write("".join(LINE.format(n) for n in range(number, number + 10_000)))
        number += 10_000
    writer.finish()
    index = f'{{"documents": [{{"path": "a.log", "start": 0, "end": {writer.characters}}}]}}'
    (directory / "documents.json").write_text(index)
    with (
        (directory / "text.bin").open("rb") as text,
        (directory / "documents.json").open("rb") as entries,
    ):
        return open_context(text.fileno(), entries.fileno())[0]


def milliseconds(work: Callable[[], object], times: int = TIMES) -> float:
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent)


def slices(context: Context) -> float:
    """Microseconds that a slice of 200 characters takes."""

    def work() -> None:
        for at in range(0, 500_000, 500):
            context[at : at + 200]

    return milliseconds(work)


def measure(context: Context) -> list[str]:
    documents.watch(*[lambda start, end: None] * 2)
    bare = slices(context)
    reading = Reading(context)
    watched = slices(context)
    reading.looked_at()

    with contextlib.redirect_stdout(io.StringIO()):  # it tells where it stops
        hits = grep("7777 some", context, limit=20)
    printed = str(hits) + context[100:300]
    tree = ast.parse(CELL)

    def cell() -> None:
        reading.begin(tree)
        reading.cut_out(100, 300)
        reading.held_by(printed[:4000], printed=True)
        reading.looked_at()

    strange = "\n".join(f"words number {n} that stand nowhere in the log" for n in range(80))

    def own_words() -> None:
        reading.begin(tree)
        reading.held_by(strange, printed=True)
        reading.looked_at()

    pieces = chunk_tokens(context, 20_000)
    prompts = [f"What goes wrong here?\n{piece}" for piece in pieces[:2000]]
    began = time.perf_counter()
    held = sum(end - start for prompt in prompts for start, end in reading.held_by(prompt))
    a_prompt = 1000 * (time.perf_counter() - began) / len(prompts)
    share = held / sum(map(len, prompts))
    return [
        f"{bare:.2f}", f"{watched:.2f}", f"{milliseconds(cell):.2f}",
        f"{milliseconds(own_words):.2f}", f"{a_prompt:.2f}", f"{share:.1%}",
    ]  # fmt: skip


def verify(directory: Path, size: int) -> str:
    """Seconds to look up ten quotations that stand nowhere, which is the longest way."""
    from rlm_server.context.corpus import Corpus, Document
    from rlm_server.context.mapped import Lines

    length = (directory / "text.bin").stat().st_size
    entries = [Document("a.log", "file:///a.log", 0, size, 1, length, "utf-8")]
    corpus = Corpus(
        directory, entries, hash="", lines=Lines(), left_out=[], left_out_counts={},
        release=lambda: None,
    )  # fmt: skip
    quotes = [f"the {n}th quotation of ten that nobody has ever said" for n in range(10)]
    began = time.perf_counter()
    _, everywhere = find_all(quotes, corpus, [])
    spent = time.perf_counter() - began
    corpus.close()
    return f"{spent:.2f}{'' if everywhere else ', of 256 MB'}"


def main() -> None:
    wanted = sys.argv[1:] or list(SIZES)
    rows = []
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="rlm-bench-") as directory:
            context = make(Path(directory), SIZES[name])
            row = measure(context)
            rows.append([name, *row, verify(Path(directory), len(context))])
    print_table(
        "Tracing what is read: ms, but slices in µs and quotations in s",
        ["context", "slice, untraced", "traced", "a cell", "words of its own", "a prompt of 80 kB",
         "traced of it", "10 quotations"],
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
