"""What a tool may be called in the REPL."""

from __future__ import annotations

import builtins
import keyword
import re

from rlm_server.errors import ConfigError

TAKEN = frozenset(
    {
        "Document",
        "FINAL",
        "FINAL_VAR",
        "SHOW_VARS",
        "SubcallAnswer",
        "SubcallError",
        "SubcallFailure",
        "ToolError",
        "answer",
        "chunk_code",
        "chunk_headings",
        "chunk_lines",
        "chunk_tokens",
        "cite",
        "context",
        "forget",
        "grep",
        "history",
        "llm_query",
        "llm_query_batched",
        "map_reduce",
        "memory_status",
        "rlm_query",
        "rlm_query_batched",
        "search",
    }
)
"""Names that the model's code finds there already; a test compares them with a real REPL's."""

LONGEST = 64


def check_name(name: str, where: str) -> None:
    """Raise ConfigError for a name that can't be that of a function in the REPL."""
    fit = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    if not fit or name.startswith("_") or len(name) > LONGEST:
        raise ConfigError(
            f"{where} can't be offered as {name!r}.",
            cure="Use letters, digits and underscores, and a letter first.",
        )
    if name in TAKEN or hasattr(builtins, name):
        raise ConfigError(
            f"{where} is called like something that is in the REPL already: {name}.",
            cure="Give the table another name.",
        )


def fit_name(*parts: str) -> str:
    """A name made of parts that may hold anything."""
    return re.sub(r"\W", "_", "_".join(parts), flags=re.ASCII)
