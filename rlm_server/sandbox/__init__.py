"""The sandbox: the process that runs the model's code and holds its namespace."""

from rlm_server.sandbox.isolation import Isolation, choose, prepare
from rlm_server.sandbox.messages import Call, CallReply, CellResult
from rlm_server.sandbox.repl import Repl

ISOLATION = "sandbox"
"""Stands where no run has shown yet how code is contained; see ``Repl.isolation``."""

__all__ = [
    "ISOLATION",
    "Call",
    "CallReply",
    "CellResult",
    "Isolation",
    "Repl",
    "choose",
    "prepare",
]
