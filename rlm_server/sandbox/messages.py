"""The messages between the server and the process that runs cells, and what callers see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from rlm_server.protocol import CellStatus, RunError, Usage

Stream = Literal["stdout", "stderr", "value"]
Status = CellStatus
Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
"""A number that every JSON parser keeps."""

Stretches = Annotated[list[tuple[int, int]], msgspec.Meta(max_length=512)]
"""Stretches of the context, in characters; the process joins them where there would be more."""


class Message(msgspec.Struct, tag_field="type", forbid_unknown_fields=True):
    """Base of everything on the channel."""


class Started(Message, tag="started"):
    """From the process: the context is there and cells may come."""

    copied: bool
    """True where the context had to be copied, because this interpreter can't map it."""

    checkpoints: bool
    """Whether a killed cell leaves the variables of earlier ones alone."""


class Fatal(Message, tag="fatal"):
    """From the process: it could not start."""

    error: str


class Restored(Message, tag="restored"):
    """From the process: the last cell never happened."""

    ending: int | None
    """Exit code of the cell's process, or minus the signal that ended it; None: unknown."""


class Output(Message, tag="output"):
    """From the process: the running cell printed this."""

    token: str
    stream: Stream
    text: str


class Call(Message, tag="call"):
    """From the process: the running cell asks for something."""

    id: Number
    function: Literal["llm_query", "rlm_query", "tool"]
    prompt: str
    """For ``rlm_query``, the question; for a tool, its arguments as JSON."""
    model: str | None
    token: str = ""
    span: tuple[int, int] | None = None
    """For ``rlm_query``: the part of the context, in characters; None: all of it, or ``text``."""
    text: str | None = None
    """For ``rlm_query``: a text that is no part of the context."""
    holds: Stretches = []
    """Stretches of the context that stand in the prompt, or in ``text``, in characters."""
    tool: str = ""
    """Name of the tool that is called."""


class Ahead(Message, tag="ahead"):
    """From the process: the sub-calls of a loop are made ahead of its turns."""

    token: str
    line: Number
    """Of the cell, in which the loop begins."""


class Done(Message, tag="done"):
    """From the process: the cell has ended."""

    token: str
    error: str
    """Last line of the traceback; empty where all is well."""
    answer: str | None
    ready: bool
    memory: bool = False
    """True where the cell ended with a MemoryError."""
    read: Stretches = []
    """Stretches of the context that stand in what it printed and the model is shown."""
    looked_at: Stretches = []
    """Stretches of the context that its code looked through."""
    in_vain: Number = 0
    """Sub-calls that were made ahead of its loops and that its code did not come to."""


class Seen(msgspec.Struct, forbid_unknown_fields=True):
    """One variable, as the process describes it."""

    name: str
    type: str
    length: int | None
    bytes: int
    text: str
    """The beginning of its text, or the part that was asked for."""
    characters: int = 0
    """Length of its whole text, where a part was asked for."""


class Looked(Message, tag="looked"):
    """From the process: the variables that were asked for."""

    token: str
    variables: list[Seen]
    count: int
    """How many there are."""
    memory: int
    memory_limit: int
    """Bytes in use and allowed; 0: not known."""
    forked: bool
    """Whether the process that says this may be thrown away."""
    error: str = ""
    """Why there is nothing to show."""


FromCell = Started | Fatal | Restored | Output | Call | Ahead | Done | Looked


class ToolStub(msgspec.Struct):
    """A function in the namespace whose calls the server answers."""

    name: str
    signature: str
    doc: str


class Setup(Message, tag="setup"):
    """To the process, first, together with the context's two open files."""

    calls_at_once: int
    part: tuple[int, int] | None = None
    """The part of the text that is the context, in characters; None: all of it."""
    tools: Sequence[ToolStub] = ()


class Prepare(Message, tag="prepare"):
    """To the process: a cell will come; split off the way back from it now, where that is safe."""


class Execute(Message, tag="execute"):
    """To the process: run this."""

    token: str
    """Unguessable; what the process says without it belongs to another cell and is dropped."""
    cell: int
    code: str
    early: bool = False
    """Whether the cell begins before it is sure to be run; ``Sure`` follows, or its end."""
    before: str = ""
    """The reply that the last cell stood in, where that was not whole when it began."""
    batch: bool = False
    """Whether the sub-calls of its loops may be made ahead."""
    spare: int = 0
    """Turns whose calls may be made ahead of other calls, without a limit being near."""
    reply: str = ""
    """The model's reply that the code stood in, for ``history``."""
    refused: bool = False
    """Whether the answer that was set before it was refused."""
    show: int = 8000
    """Characters of what it prints that the model is shown."""
    now: float = 0.0
    """Seconds since the epoch, at which the cell's clock begins."""
    seed: int = 0
    """What the namespace's random numbers begin with."""
    renew: bool = False
    """Whether ``answer`` is to be as at the beginning, for another question."""


class Look(Message, tag="look"):
    """To the process: describe variables, without calls."""

    token: str
    name: str | None
    """The variable to show; None: list all."""
    start: int
    length: int
    """The part of its text, in characters; of the list, most variables."""
    trusting: bool
    """Whether to call the variables' own ``repr``."""


class Sure(Message, tag="sure"):
    """To the process: the cell that began early was to run, and may change files."""

    token: str


class Reply(Message, tag="reply"):
    """To the process: the answer to a call."""

    id: int
    text: str
    error: dict[str, str] | None
    model: str
    usage: dict[str, float | None]
    cached: bool


class CallReply(msgspec.Struct):
    """What the server's callback gives for a call; ``error`` set where the call failed."""

    text: str
    error: RunError | None = None
    model: str = ""
    usage: Usage = msgspec.field(default_factory=Usage)
    cached: bool = False


class CellResult(msgspec.Struct):
    """How a cell went."""

    status: Status
    """``died``: the process ended by itself; ``limit``: it was stopped for using too much."""
    error: str
    """Last line of the traceback, or what happened; empty where all is well."""
    output: str
    """What it printed, its value and its traceback, clipped to head and tail."""
    output_characters: int
    """True length of the output."""
    seconds: float
    kept: bool
    """Whether the variables of earlier cells are still there."""
    undone: bool
    """Whether it is as if the cell had never run, what it did to files and variables included."""
    answer: str | None
    """What the answer is at the end of the cell; None where it is not set."""
    ready: bool
    """Whether the code said that this is the final answer."""
    read: list[tuple[int, int]] = []
    """Stretches of the context, in characters, that stand in what the model is shown."""
    looked_at: list[tuple[int, int]] = []
    """Stretches of the context that the code looked through."""
    in_vain: int = 0
    """Sub-calls that were made ahead of loops and that the code did not come to."""
    number: int = 0
    """The cell's number in its namespace: ``_result_N`` is its output."""
    edited: str = ""
    """What ran in the place of what the model wrote, if a person changed it."""


def rejected(reason: str) -> CellResult:
    """What became of a cell that a person did not let run."""
    return CellResult(
        status="rejected",
        error=reason,
        output="",
        output_characters=0,
        seconds=0.0,
        kept=True,
        undone=False,
        answer=None,
        ready=False,
    )
