"""The sandbox: the process that runs the model's code and holds its namespace."""

from rlm_server.sandbox.cell import Batching
from rlm_server.sandbox.early import Sure, VoidError
from rlm_server.sandbox.isolation import choose, last, prepare
from rlm_server.sandbox.messages import (
    Call,
    CallReply,
    CellResult,
    Looked,
    ToolStub,
    rejected,
)
from rlm_server.sandbox.repl import Repl

__all__ = [
    "Batching",
    "Call",
    "CallReply",
    "CellResult",
    "Looked",
    "Repl",
    "Sure",
    "ToolStub",
    "VoidError",
    "choose",
    "last",
    "prepare",
    "rejected",
]
