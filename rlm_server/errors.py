"""Every error that rlm raises on purpose: when it is raised, and what a person can do about it.

The tree::

    RlmError
    ├── ConfigError            the configuration file can't be used as it is
    ├── SourceError            nothing can be asked of the sources as they are
    ├── UnknownRunError        no run has this id
    ├── LogError               a run's log can't be written
    ├── ExportError            a run can't be written in another form
    ├── SchemaError            the JSON Schema of an answer can't be used, or no answer fitted it
    ├── NotResumableError      the run can't go on: it has its answer, or its log does not tell how
    ├── ContextChangedError    what the run is about is not what it was
    ├── UnknownProposalError   a proposal of notes can't be accepted any more
    ├── ClosingError           the server is stopping
    ├── NotRestingError        a run that has ended is no longer kept
    ├── BusyError              the run is at something else
    ├── EndedError             the run has ended, and what was asked of it needs a live one
    ├── SandboxError           the REPL process can't start, or is gone
    ├── ToolError              a call of a tool failed
    └── ModelError             a call to a model failed
        ├── UnknownModelError      no model of this name is configured
        ├── NoKeyError             the model needs a key and none was found
        ├── RefusedError           the provider said no (bad request, policy, no credit)
        │   └── KeyRefusedError        it doesn't take the key
        ├── ContextTooLongError    the prompt does not fit the model's window
        ├── RateLimitedError       the provider asks for fewer calls
        ├── TransientError         a passing fault; the call may succeed when tried again
        ├── UnreachableError       nothing answers at the model's address
        └── BudgetError            the month's cost limit leaves no room for the call
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_server.protocol import Usage


class RlmError(Exception):
    """Base of all errors with a message fit for a person.

    ``code`` is the JSON-RPC error code (application range -32099..-32000), ``kind`` the stable
    name on the wire, ``cure`` one sentence that says what to do.
    """

    code = -32000
    kind = "internal"

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message} {self.cure}".strip()


class ConfigError(RlmError):
    """The configuration file is unreadable, is not TOML, or names something that doesn't exist."""

    code = -32010
    kind = "config"


class SourceError(RlmError):
    """The sources give no text to ask about, or exceed a limit that the message names."""

    code = -32011
    kind = "source"


class UnknownRunError(RlmError):
    """No live run and no log has the id that was given."""

    code = -32012
    kind = "unknownRun"


class ExportError(RlmError):
    """The file that a run is to be exported to can't be written."""

    code = -32016
    kind = "export"


class SchemaError(RlmError):
    """The JSON Schema of an answer can't be used, or the model gave no answer that fits it."""

    code = -32017
    kind = "schema"


class NotResumableError(RlmError):
    """The run can't go on: it is going on or has its answer, or its log lacks what is needed."""

    code = -32017
    kind = "notResumable"


class ContextChangedError(RlmError):
    """The sources give another text than when the run began; its record says nothing about it."""

    code = -32018
    kind = "contextChanged"


class UnknownProposalError(RlmError):
    """Notes were proposed too long ago, or have been changed since."""

    code = -32019
    kind = "unknownProposal"


class ClosingError(RlmError):
    """The server is stopping and takes no more questions."""

    code = -32015
    kind = "closing"


class SandboxError(RlmError):
    """The REPL process could not be started, or broke the protocol, or is gone."""

    code = -32013
    kind = "sandbox"


class NotRestingError(RlmError):
    """The run has ended and its variables are no longer kept: ask anew."""

    code = -32016
    kind = "notResting"


class BusyError(RlmError):
    """A cell is running, or a question is being answered: wait for its end, or cancel it."""

    code = -32017
    kind = "busy"


class EndedError(RlmError):
    """The question is answered already; ask a further one (``rlm/followUp``)."""

    code = -32018
    kind = "ended"


class LogError(RlmError):
    """A run's log can't be written; the run stops, since what isn't logged isn't shown."""

    code = -32014
    kind = "log"


class ToolError(RlmError):
    """A tool was called wrongly, failed, took too long, or is not offered; the code may go on."""

    code = -32030
    kind = "tool"


class ModelError(RlmError):
    """A call to a model failed; subclasses say how."""

    code = -32020
    kind = "model"
    elsewhere = False
    """Whether the fault is the deployment's alone, such as its key: another one may answer."""
    late = 0
    """1 for a try that was given up before anything came; it may have to be paid."""
    used: Usage | None = None
    """What a try has used though its reply was no good."""


class UnknownModelError(ModelError):
    """The name is not among the configured models; the message lists those that are."""

    code = -32021
    kind = "unknownModel"


class NoKeyError(ModelError):
    """The model needs a key, and neither the environment nor the client gave one."""

    code = -32022
    kind = "noKey"
    elsewhere = True


class RefusedError(ModelError):
    """The provider refused: bad key (401, 403), bad request (400, 422), unknown model (404)."""

    code = -32023
    kind = "refused"


class KeyRefusedError(RefusedError):
    """The provider doesn't take the key (401): a wrong one, or one that has expired."""


class ContextTooLongError(ModelError):
    """The prompt is longer than the model's window."""

    code = -32024
    kind = "contextTooLong"


class RateLimitedError(ModelError):
    """The provider answered 429; ``retry_after`` is in seconds where it said so."""

    code = -32025
    kind = "rateLimited"

    def __init__(self, message: str, *, cure: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, cure=cure)
        self.retry_after = retry_after


class TransientError(ModelError):
    """A server error, a broken stream, a time-out or a garbled reply: worth another try."""

    code = -32026
    kind = "transient"


class UnreachableError(ModelError):
    """The connection was refused, or the host is unknown."""

    code = -32027
    kind = "unreachable"


class BudgetError(ModelError):
    """The month's cost limit leaves no room for the call, or can't be kept; nothing was paid."""

    code = -32028
    kind = "budget"
