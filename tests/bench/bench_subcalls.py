"""Many sub-calls over real HTTP, each of 100 ms: as one batch, and in a loop written one by one.

rlm is measured as it comes, and with the slots of its one server configured; how many calls its
rivals make at once is fixed in them.
"""

from __future__ import annotations

import asyncio
import statistics

from contestants import DSPY, RLM, RLMS, contestants, play
from table import print_table

MANY = 1000
FEW = 50
SECONDS = 0.1
ROUNDS = 3

BATCH = (
    'found = llm_query_batched([f"SUBCALL {{n}}: is it so?" for n in range({})])\nprint(len(found))'
)
LOOP = """found = []
for n in range({}):
    found.append(llm_query(f"SUBCALL {{n}}: is it so?"))
print(len(found))"""


async def seconds_of(name: str, cell: str, calls: int, slots: int | None = None) -> float:
    times = []
    for _ in range(ROUNDS if calls == FEW else 1):
        told = await play(name, [cell], seconds=SECONDS, slots=slots)
        assert told.subcalls == calls, (name, told.subcalls)
        times.append(told.gaps[0] / 1000)
    return statistics.median(times)


async def main() -> None:
    names = contestants()
    many = BATCH.format(MANY)
    takes = {f"{RLM}, as it comes": await seconds_of(RLM, many, MANY)}
    for slots in (16, 128):
        takes[f"{RLM}, slots = {slots}"] = await seconds_of(RLM, many, MANY, slots)
    for name, at_once in ((RLMS, 16), (DSPY, 8)):
        if name in names:
            takes[f"{name}, {at_once} at once (fixed)"] = await seconds_of(name, many, MANY)
    own = takes[f"{RLM}, as it comes"]
    rows = [[name, f"{took:.2f}", f"{took / own:.1f}"] for name, took in takes.items()]
    print_table(f"{MANY:,} sub-calls of {SECONDS:g} s, s", ["", "s", "ratio to rlm"], rows)

    rows = []
    for name in names:
        batch = await seconds_of(name, BATCH.format(FEW), FEW)
        loop = await seconds_of(name, LOOP.format(FEW), FEW)
        rows.append([name, f"{batch:.2f}", f"{loop:.2f}", f"{loop / batch:.2f}"])
    title = f"{FEW} sub-calls of {SECONDS:g} s, s"
    print_table(title, ["", "as a batch", "in a loop", "ratio"], rows)


if __name__ == "__main__":
    asyncio.run(main())
