"""What the engine adds to an iteration, over a model without latency: beside a bare client, `rlms`.

Each contestant answers the same question with the same 50 replies from the same server, which
measures the time from its reply to the next request. That is all that an engine costs: reading
the reply, running the cell, making the next prompt, sending it.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from rivals import rival_python
from table import print_table

from rpc_client import initialize_params, start_server

ITERATIONS = 50
CONTEXT = "a line of text to look at\n" * 4000

RIVAL = """
import sys
from rlm import RLM
engine = RLM(backend="vllm", backend_kwargs={"model_name": "timing", "api_key": "none",
             "base_url": sys.argv[1]}, environment="local", max_iterations=int(sys.argv[2]) + 5)
print(engine.completion(sys.stdin.read(), root_prompt="How long is it?").response)
"""


async def ask_bare_client(port: int) -> None:
    """Send the same requests with nothing around them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    message = {"role": "user", "content": "x" * 2000}
    for number in range(ITERATIONS):
        body = json.dumps({"model": "timing", "messages": [message] * (2 * number + 1)}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        json.loads(await reader.readexactly(length))
    writer.close()


async def ask_rlm(port: int) -> None:
    """Ask through the real server process, door and sandbox included."""
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        home = Path(name)
        (home / "config.toml").write_text(
            f'root = "timing"\ndiscover = false\n[models.timing]\nmodel = "hosted_vllm/timing"\n'
            f'base-url = "http://127.0.0.1:{port}/v1"\n'
        )
        (home / "context.txt").write_text(CONTEXT)
        async with start_server(home) as (client, _):
            await client.request("initialize", initialize_params())
            params = {
                "question": "How long is it?",
                "sources": [{"kind": "file", "path": str(home / "context.txt")}],
                "options": {"limits": {"iterations": ITERATIONS + 5}},
            }
            run_id = (await client.request("rlm/ask", params))["runId"]
            end = await client.event(run_id, "runEnded")
            assert end["status"] == "done", end


async def ask_rival(port: int) -> None:
    python = rival_python("rlms")
    process = await asyncio.create_subprocess_exec(
        python, "-c", RIVAL, f"http://127.0.0.1:{port}/v1", str(ITERATIONS),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "OPENAI_API_KEY": "none"},
    )  # fmt: skip
    out, err = await process.communicate(CONTEXT.encode())
    assert process.returncode == 0, err.decode()[-2000:]
    assert str(len(CONTEXT)) in out.decode(), out.decode()[-500:]


async def gaps_of(port: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /gaps HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    gaps = json.loads(await reader.readexactly(length))
    writer.close()
    return gaps


async def main() -> None:
    provider = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).parent / "timing_provider.py"), str(ITERATIONS),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert provider.stdout
    port = int(await provider.stdout.readline())
    contestants = {"bare asyncio client": ask_bare_client, "rlm": ask_rlm}
    if rival_python("rlms"):
        contestants["rlms 0.1.3, local mode"] = ask_rival
    rows, floor = [], 0.0
    try:
        for name, ask in contestants.items():
            await ask(port)
            gaps = await gaps_of(port)
            median, late = statistics.median(gaps), statistics.median(gaps[-10:])
            floor = floor or median
            rows.append([name, f"{median:.2f}", f"{late:.2f}", f"{median / floor:.1f}"])
    finally:
        provider.terminate()
        await provider.wait()
    print_table(
        f"One iteration of {ITERATIONS}, ms", ["", "median", "last ten", "ratio to bare"], rows
    )


if __name__ == "__main__":
    asyncio.run(main())
