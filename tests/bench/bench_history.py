"""How many characters of prompt are paid for over 20 turns that each print 100 kB."""

from __future__ import annotations

import asyncio

from contestants import RLM, contestants, play
from table import print_table

TURNS = 20
CELL = 'print("\\n".join(f"line {n}: " + "x" * 88 for n in range(1000)))'


async def main() -> None:
    found = {name: (await play(name, [CELL] * TURNS)).characters for name in contestants()}
    rows = [[n, f"{found[n]:,}", f"{found[n] / found[RLM]:.1f}"] for n in found]
    print_table(
        f"Prompt characters of {TURNS} turns that print 100 kB each",
        ["", "characters", "ratio to rlm"],
        rows,
    )


if __name__ == "__main__":
    asyncio.run(main())
