"""``rlm-server tools``: which tools the model's code may call, and which can't be offered."""

from __future__ import annotations

from rlm_server.config import Config
from rlm_server.tools import Toolbox


async def tools_command(config: Config) -> int:
    """Print the tools; the exit status is 1 where one can't be offered."""
    toolbox = Toolbox(config)
    if toolbox.empty:
        print("No tools are configured: [tools.NAME] and [mcp.NAME] offer some.")
        return 0
    try:
        problems = await toolbox.find()
    finally:
        await toolbox.close()
    for info in toolbox.infos:
        print(f"{info.name}{info.signature}")
        print(f"    {info.doc or 'nothing is said of it'}  {info.source}")
    for problem in problems:
        print(f"failure: {problem}")
    return int(bool(problems))
