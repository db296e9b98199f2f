"""The sandbox: the process that runs the model's code and holds its namespace."""

from rlm_server.sandbox.messages import Call, CallReply, CellResult
from rlm_server.sandbox.repl import ISOLATION, Repl

__all__ = ["ISOLATION", "Call", "CallReply", "CellResult", "Repl"]
