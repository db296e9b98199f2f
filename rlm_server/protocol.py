"""The one vocabulary: every message that crosses a border between server, client and run log.

Names are camelCase on the wire. Positions, ranges and ``Location`` have LSP's meaning: lines and
characters count from 0, a range's end is exclusive, a location's ``uri`` is a ``file:`` URI.
Times are seconds since the epoch, durations seconds, money US dollars, sizes bytes unless a
name says characters or tokens. A cost of ``null`` means unknown, never free.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

PROTOCOL_VERSION = 2

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Wire(msgspec.Struct, rename="camel", kw_only=True):
    """Base of everything on the wire: keyword-only, camelCase."""


class Strict(Wire, forbid_unknown_fields=True):
    """Base of what a client sends: an unknown field is a mistake and is answered with -32602."""


# ---------------------------------------------------------------------------------------- places


class Position(Wire):
    """A place in a document, as in LSP."""

    line: Count
    """Line, counted from 0."""
    character: Count
    """Character within the line, counted from 0, in Unicode code points."""


class Range(Wire):
    """A span of a document, as in LSP; the end is exclusive."""

    start: Position
    end: Position


class Location(Wire):
    """A span of a document that exists outside the run, as in LSP."""

    uri: str
    """``file:`` URI of the document, or ``rlm-buffer:NAME`` for text that no file holds."""
    range: Range


class Evidence(Wire):
    """A place that the answer names and that really stands in the context."""

    location: Location
    path: str
    """The document's path as the model sees it, relative to its root where there is one."""
    line: int
    """First line of the place, counted from 1, as people and the answer's text count."""
    quote: str
    """The text of that line, at most 200 characters."""


# --------------------------------------------------------------------------------------- sources


class TextSource(Strict, tag_field="kind", tag="text"):
    """A short text sent inline; clients spool anything over 64 kB to a file instead."""

    text: str
    name: str = "text"
    """What the model and the trajectory call it."""


class FileSource(Strict, tag_field="kind", tag="file"):
    """One file, or a part of a buffer that the client spooled to a file."""

    path: str
    """Absolute path to read."""
    name: str | None = None
    """What the model and the trajectory call it; default: the path's last part."""
    origin: str | None = None
    """Absolute path of the file that the text came from, where ``path`` is only a spool file;
    ``rlm-buffer:NAME`` for a buffer that no file holds."""
    first_line: Annotated[int, msgspec.Meta(ge=1)] = 1
    """The line of ``origin`` that the text begins with, counted from 1."""


class TreeSource(Strict, tag_field="kind", tag="tree"):
    """All text files below a directory, less what ignore files and the globs leave out."""

    root: str
    """Absolute path of the directory; symbolic links that lead out of it are not followed."""
    name: str | None = None
    """A prefix for the documents' paths; needed only where several trees are asked about."""
    include: list[str] = []
    """Gitignore-style globs, relative to the root; when given, only matching files are read."""
    exclude: list[str] = []
    """Gitignore-style globs, relative to the root; matching files are left out."""
    respect_ignore_files: bool = True
    """Whether ``.gitignore`` and ``.ignore`` files, also nested ones, are honoured."""


Source = TextSource | FileSource | TreeSource


class Overlay(Strict):
    """Unsaved text that stands in for a file's content wherever a source reaches that file."""

    path: str
    """Absolute path of the file."""
    spool: str
    """Absolute path of a file that holds the unsaved text as UTF-8."""


# --------------------------------------------------------------------------------------- options


class Limits(Strict):
    """What a run may use; whatever is reached first ends it with the best answer so far."""

    iterations: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Replies of the root model."""
    seconds: Seconds = 1800.0
    """Wall time of the run."""
    cell_seconds: Seconds = 300.0
    """Wall time of one cell, the sub-calls that it waits for included."""
    subcalls: Count = 500
    """Calls to the sub model."""
    tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Prompt and completion tokens of all calls together; null: no limit."""
    cost: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """US dollars for all calls together; null: no limit. A model of unknown price can't be used
    under a cost limit."""


class LimitOverrides(Strict):
    """Limits of one question; null: as configured. Units as in ``Limits``."""

    iterations: Annotated[int, msgspec.Meta(ge=1)] | None = None
    seconds: Seconds | None = None
    cell_seconds: Seconds | None = None
    subcalls: Count | None = None
    tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cost: Annotated[float, msgspec.Meta(ge=0)] | None = None


class AskOptions(Strict):
    """How a question is to be answered; what is left out comes from the configuration."""

    root_model: str | None = None
    """Name of a configured model, or a litellm model id."""
    sub_model: str | None = None
    """The same, for sub-calls; default: the configured one, else the root model."""
    max_depth: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None
    """How deep ``rlm_query`` may start child runs: at 1, it is a plain sub-call."""
    limits: LimitOverrides = msgspec.field(default_factory=LimitOverrides)
    no_cache: bool = False
    """Neither use kept answers nor keep new ones."""
    fresh: bool = False
    """Ask anew, whatever answers are kept; the new ones take their place."""
    schema: dict[str, Any] | None = None
    """JSON Schema that the answer has to fit; null: the answer is text."""
    no_notes: bool = False
    """Leave out what earlier runs have taught, though it is accepted."""
    profile: str | None = None
    """Name of the profile by which the root model is spoken to; null: by the model's name."""
    direct: bool | None = None
    """Whether a text that fits goes straight to the model, without code; null: as its profile
    says."""
    speculate: bool | None = None
    """Whether work may be done before it is sure to be needed, which never changes a result; null:
    as configured."""
    approve: bool = False
    """Whether each piece of code waits for ``rlm/approve`` before it runs."""


class FollowUpOptions(Strict):
    """How a further question is to be answered; null: as the one before."""

    root_model: str | None = None
    sub_model: str | None = None
    limits: LimitOverrides = msgspec.field(default_factory=LimitOverrides)
    approve: bool | None = None
    schema: dict[str, Any] | None = None
    """JSON Schema that this answer has to fit; null: it is text, whatever the one before was."""


# ------------------------------------------------------------------------------ requests, results


class ClientInfo(Wire):
    """Who is connecting, as in LSP."""

    name: str
    version: str | None = None


class InitializeParams(Wire):
    """``initialize``: the first request of a connection. Unknown fields are LSP's and ignored."""

    protocol_version: int = PROTOCOL_VERSION
    client_info: ClientInfo | None = None
    process_id: int | None = None
    """Process id of the client; only logged."""
    token: str | None = None
    """Content of the token file; needed on TCP."""


class DeploymentInfo(Wire):
    """One server or service that answers for a model, as it is now."""

    name: str
    address: str
    """Its URL, or the provider's host."""
    tier: Literal["local", "lan", "cloud"]
    health: Literal["untried", "ok", "limited", "trying", "down", "no key"]
    """``limited``: it asked for fewer calls; ``down``: left out for a while after failures;
    ``trying``: back on probation, with one call."""
    slots: int
    """Calls that it gets at once; fewer than configured after it asked for fewer."""
    in_flight: int
    latency: float | None
    """Seconds that calls take now, the slow ones weighing more; null before the first."""
    calls: int = 0
    """Calls answered since the server started."""
    detail: str = ""
    """What its health check told, such as the work that others gave it."""


Role = Literal["root", "sub", "embedding"]


class ModelInfo(Wire):
    """One model that a run may name."""

    name: str
    """Name in the configuration."""
    model: str
    """litellm's model id, or ``offline/extractive``."""
    provider: str
    source: Literal["embedded", "config", "environment", "local"]
    """How it was found: built in, in the configuration file, by a key, or by a running server."""
    window: int | None
    """Context window in tokens; null where unknown."""
    input_price: float | None
    """US dollars for a million prompt tokens; null where unknown."""
    output_price: float | None
    """US dollars for a million completion tokens; null where unknown."""
    key: Literal["none needed", "present", "missing"]
    """Whether the key it needs is there; the key itself never crosses a border."""
    health: Literal["untried", "ok", "limited", "trying", "down", "no key"] = "untried"
    """That of its best deployment."""
    slots: int = 0
    """Calls that all its deployments together take at once."""
    in_flight: int = 0
    waiting: int = 0
    """Calls that wait for a slot."""
    latency: float | None = None
    """Seconds, of its fastest deployment."""
    fallbacks: list[str] = []
    """Models that are asked when this one can't answer."""
    roles: list[Role] = []
    """What it is used for unless a question says otherwise."""
    deployments: list[DeploymentInfo] = []


class KeyWanted(Wire):
    """A model for which the server has no key, and where a client may look for one."""

    name: str
    """Name of the model in the configuration, to be used as key in ``rlm/keys``."""
    host: str
    """The host under which auth-source has it, such as ``api.openai.com``."""


IsolationMode = Literal["full", "base", "seatbelt", "none"]


class Isolation(Wire):
    """How the model's code is contained on this machine, found out by trying."""

    mode: IsolationMode
    """``full``: namespaces, Landlock and seccomp; ``base``: Landlock and seccomp; ``seatbelt``:
    macOS; ``none``: not at all, because the configuration says so."""
    checkpoints: bool
    """Whether a killed cell leaves the variables of earlier cells alone."""
    mapped: bool
    """Whether the context is mapped rather than copied."""
    canaries: dict[str, str]
    """What was tried from inside, and what came of it: ``open``, or the error that stopped it."""
    limits: list[str]
    """What this mode does not promise."""
    refused: dict[str, str]
    """The stronger modes that did not pass, and why."""


class InitializeResult(Wire):
    """Answer to ``initialize``."""

    protocol_version: int
    server_version: str
    pid: int
    root_model: str
    """Name of the model that a question goes to unless it says otherwise."""
    sub_model: str
    keys_wanted: list[KeyWanted]
    isolation: IsolationMode | None
    """How the model's code is contained; null where that is not found out yet."""
    log_directory: str
    """Where run logs stand."""
    capabilities: dict[str, bool] = {}
    """For LSP clients, which expect the field."""


class KeysParams(Strict):
    """``rlm/keys``: hands over secrets found by the client; they are kept in memory only."""

    keys: dict[str, str]
    """Secret by the name of the model."""


class KeysResult(Wire):
    """Answer to ``rlm/keys``."""

    accepted: list[str]
    """Names of the models that now have a key."""


class EstimateParams(Strict):
    """``rlm/estimate``: what a question would read and could cost; nothing is paid."""

    sources: list[Source]
    overlays: list[Overlay] = []
    options: AskOptions = msgspec.field(default_factory=AskOptions)


class Estimate(Wire):
    """Answer to ``rlm/estimate``."""

    documents: int
    bytes: int
    tokens: int
    """Estimated tokens of the whole context, at 4 bytes a token."""
    left_out: dict[str, int]
    """Files left out, counted by reason."""
    root_model: str
    sub_model: str
    free: bool
    """True where neither model costs money."""
    cost: float | None
    """Estimated US dollars if sub-calls read the whole context once; null: unknown price."""
    cost_limit: float | None


class AskParams(Strict):
    """``rlm/ask``: starts a run. Answered at once; everything after that is an event."""

    question: Annotated[str, msgspec.Meta(min_length=1)]
    sources: list[Source]
    overlays: list[Overlay] = []
    options: AskOptions = msgspec.field(default_factory=AskOptions)
    project: str | None = None
    """Name of the project that the question belongs to, for lists of runs."""


class AskResult(Wire):
    """Answer to ``rlm/ask``."""

    run_id: str
    log: str
    """Absolute path of the run's log."""


class CancelParams(Strict):
    """``rlm/cancel``: stops a run with the best answer so far."""

    run_id: str
    node: str | None = None
    """Null or ``"0"``: the whole run. A child run's node: that child. An iteration's node: only
    the cell that runs in it."""


class CancelResult(Wire):
    """Answer to ``rlm/cancel``."""

    cancelled: bool
    """False where the run had ended already."""


class LimitsParams(Strict):
    """``rlm/limits``: raises or lowers limits of a run while it goes on."""

    run_id: str
    limits: LimitOverrides
    """What is null stays as it is. A limit that is below what is used already ends the run at
    its next step, with the best answer so far."""


class LimitsResult(Wire):
    """Answer to ``rlm/limits``; the limits as they are now come as a ``limitsChanged`` event."""

    changed: bool
    """False where the run had ended already."""


class FollowUpParams(Strict):
    """``rlm/followUp``: a further question to a run that has ended and rests.

    Its variables, its context and its conversation are still there. The question has limits of
    its own, on the ledger of the run; numbers of events and iterations go on.
    """

    run_id: str
    question: Annotated[str, msgspec.Meta(min_length=1)]
    options: FollowUpOptions = msgspec.field(default_factory=FollowUpOptions)


class FollowUpResult(Wire):
    """Answer to ``rlm/followUp``; events follow, to all who follow the run."""

    run_id: str
    log: str
    from_seq: int
    """Number of the first event of the further question."""


class ApproveParams(Strict):
    """``rlm/approve``: decides about a piece of code that waits."""

    run_id: str
    cell: int
    node: str
    """As in ``approvalWanted``."""
    decision: Literal["approve", "edit", "reject"]
    code: Annotated[str, msgspec.Meta(max_length=16_384)] = ""
    """For ``edit``: what runs in its place; the model is told so."""
    reason: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    """For ``reject``: why; the model is told it."""
    rest: bool = False
    """Whether all further code of the run may go without approval."""


class ApproveResult(Wire):
    """Answer to ``rlm/approve``."""

    accepted: bool
    """False where that code doesn't wait, or no longer."""


class PauseParams(Strict):
    """``rlm/pause``: begin nothing new, or go on.

    What is under way goes on: a cell, a call to a model. The next one waits, and time stands still.
    """

    run_id: str
    paused: bool


class PauseResult(Wire):
    """Answer to ``rlm/pause``."""

    paused: bool


class NoteParams(Strict):
    """``rlm/note``: tells the root model something with its next message."""

    run_id: str
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]
    node: str = "0"
    """A child run's node: that child's model."""


class NoteResult(Wire):
    """Answer to ``rlm/note``: it was taken."""


class ExecParams(Strict):
    """``rlm/exec``: runs code of the user's own in a run's namespace, between cells or at rest."""

    run_id: str
    code: Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]
    node: str = "0"
    """A child run's node: in that child's namespace."""


class ExecResult(Wire):
    """Answer to ``rlm/exec``, when the code has ended."""

    node: str
    """The node of its events, such as ``0.x1``; ``rlm/cancel`` stops it."""
    status: CellStatus
    error: str
    output: str
    """What it printed, clipped in the middle beyond 16,384 characters."""
    output_characters: int
    seconds: float


class VariablesParams(Strict):
    """``rlm/variables``: lists the variables that the code of a run has made."""

    run_id: str
    node: str = "0"
    """A child run's node: those of that child."""


class Variable(Wire):
    """A variable in a run's namespace."""

    name: str
    type: str
    length: int | None
    """How many items or characters it has, where that can be told."""
    bytes: int
    """Estimated size in memory, with what it holds."""
    preview: str
    """The beginning of its text, at most 200 characters."""


class VariablesResult(Wire):
    """Answer to ``rlm/variables``."""

    variables: list[Variable]
    """At most 1,000 of them, as they were made."""
    count: int
    """How many there are."""
    memory: int
    """Bytes in use, all variables together."""
    memory_limit: int
    """Bytes that may be in use; 0: no limit is known."""


class InspectParams(Strict):
    """``rlm/inspect``: shows a variable's value, a page at a time."""

    run_id: str
    name: str
    node: str = "0"
    start: Count = 0
    """First character of the page."""
    length: Annotated[int, msgspec.Meta(ge=1, le=16_384)] = 16_384
    """Most characters of the page."""


class InspectResult(Wire):
    """Answer to ``rlm/inspect``."""

    name: str
    type: str
    text: str
    """The page: of a text itself, of anything else as Python writes it."""
    start: int
    characters: int
    """Length of the whole."""


class AttachParams(Strict):
    """``rlm/attach``: replays a run's events from its log, and follows it while it lives."""

    run_id: str
    from_seq: Count = 0


class Mark(Wire):
    """What a person thinks of a run."""

    good: bool
    reason: str
    time: float
    """When it was said."""


class MarkParams(Strict):
    """``rlm/mark``: says that a run was good or bad, so that ``rlm/reflect`` can learn from it."""

    run_id: str
    good: bool | None
    """Null takes the mark back."""
    reason: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class MarkResult(Wire):
    """Answer to ``rlm/mark``."""

    mark: Mark | None


class ReflectParams(Strict):
    """``rlm/reflect``: proposes strategy notes from marked runs; nothing is changed."""

    model: str | None = None
    """Name of the model that proposes; default: the root model. The embedded one counts."""


class NoteChange(Wire):
    """A proposed change of one note."""

    kind: str
    """Kind of question that it is for."""
    old: str | None
    """The note that goes; null: none."""
    new: str | None
    """The note that comes; null: none."""
    diff: str
    """This change alone as a unified diff."""


class ReflectResult(Wire):
    """Answer to ``rlm/reflect``."""

    proposal: str
    """Names it for ``rlm/acceptNotes``."""
    path: str
    """The file of the notes."""
    good: int
    """Runs that are marked good."""
    bad: int
    model: str
    """Who proposes; empty where it was done by counting."""
    changes: list[NoteChange]
    diff: str
    """All of them as one unified diff."""


class AcceptNotesParams(Strict):
    """``rlm/acceptNotes``: makes changes of a proposal."""

    proposal: str
    changes: list[Count]
    """Their numbers, from 0."""


class AcceptNotesResult(Wire):
    """Answer to ``rlm/acceptNotes``."""

    path: str
    accepted: int


class RunSummary(Wire):
    """A run as it stands in lists."""

    run_id: str
    question: str
    started: float
    status: RunStatus
    root_model: str
    project: str | None
    iterations: int
    subcalls: int
    cost: float | None
    seconds: float
    log: str
    bytes: int = 0
    """Size of the log."""
    parent_run_id: str | None = None
    """The run that it shares its beginning with."""
    forked_at: int | None = None
    """The first iteration that is its own, where it shares a beginning."""
    rerun_of: str | None = None
    """The run whose program it ran again."""
    mark: Mark | None = None
    """What a person thinks of it; null: not said."""


class AttachResult(Wire):
    """Answer to ``rlm/attach``; the events follow as notifications."""

    run: RunSummary
    live: bool
    last_seq: int


RunsOrder = Literal["started", "question", "status", "rootModel", "project", "cost", "seconds"]
"""Fields of ``RunSummary`` that lists can be sorted by."""


class RunsParams(Strict):
    """``rlm/runs``: the newest runs, live ones included."""

    limit: Annotated[int, msgspec.Meta(ge=1)] = 100
    offset: Count = 0
    """So many of the newest that match are passed over."""
    project: str | None = None
    """Only runs of this project."""
    status: RunStatus | None = None
    """Only runs in this state."""
    text: str = ""
    """Only runs whose question, project, model or id holds these words, each of them."""
    fork_of: str | None = None
    """Only runs that share their beginning with this one."""
    sort: RunsOrder = "started"
    """By what they are sorted, on all pages; of equal ones the newest comes first."""
    ascending: bool = False


class RunsResult(Wire):
    """Answer to ``rlm/runs``, newest first unless it was wanted otherwise."""

    runs: list[RunSummary]
    total: int = 0
    """How many match, on all pages."""


class ResumeParams(Strict):
    """``rlm/resume``: lets a run that was cut short go on from where it stopped."""

    run_id: str
    limits: LimitOverrides = msgspec.field(default_factory=LimitOverrides)
    """In place of those that it had; what was used before counts."""
    places: list[str] = []
    """Where its files and directories are on this machine, if elsewhere than when it was asked:
    absolute paths, one for each, in the order of the sources."""


class ForkParams(Strict):
    """``rlm/fork``: a new run that shares what came before an iteration of another one."""

    run_id: str
    iteration: Annotated[int, msgspec.Meta(ge=1)]
    """The first that is the new run's own."""
    code: str | None = None
    """Runs in that iteration in place of what the model wrote, and waits for no approval; null:
    the model is asked."""
    options: AskOptions = msgspec.field(default_factory=AskOptions)
    """What is given takes the place of the parent's; limits count what was used before."""
    note: str = ""
    """What the model is told before it goes on."""


class RerunParams(Strict):
    """``rlm/rerun``: runs the program of a run again, about its sources as they are now."""

    run_id: str
    limits: LimitOverrides = msgspec.field(default_factory=LimitOverrides)


class WatchParams(Strict):
    """``rlm/watch``: runs a run's program again whenever what it is about changes."""

    run_id: str
    budget: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """US dollars for all that the watching may cost; null: no limit but those of each run."""
    stop: bool = False
    """No longer watch the run."""


class WatchResult(Wire):
    """Answer to ``rlm/watch``; each run that it starts is told as ``rlm/watched``."""

    watching: bool
    places: list[str]
    """Files and directories that are looked at."""


class Watched(Wire):
    """``rlm/watched``, a notification: what a watched run is about has changed."""

    run_id: str
    """The watched run."""
    new_run_id: str | None
    """The run that answers anew; its events follow. Null where there is none any more."""
    log: str
    reason: str
    """Why there is none: the budget is used up, or what went wrong."""


class DeleteParams(Strict):
    """``rlm/delete``: removes the logs of runs that have ended, for good."""

    run_id: str


class DeleteResult(Wire):
    """Answer to ``rlm/delete``."""

    bytes: int
    """What is freed, texts that came with the question and that no other run needs included."""


ExportFormat = Literal["html", "markdown", "python", "rlms"]
"""``html``: one page that needs nothing else; ``python``: all code of the run as one script;
``rlms``: the log of the reference engine, for its visualiser."""


class ExportParams(Strict):
    """``rlm/export``: writes a run, live or past, to a file in a form that others read."""

    run_id: str
    format: ExportFormat
    path: str
    """Absolute path of the file; one that is there is replaced."""


class ExportResult(Wire):
    """Answer to ``rlm/export``, once the file is written."""

    path: str
    bytes: int


class StatusResult(Wire):
    """Answer to ``rlm/status``."""

    server_version: str
    pid: int
    seconds: float
    """Since the server started."""
    models_ready: bool
    """Whether what the models need has been imported: aiohttp, and litellm for some."""
    isolation: Isolation | None
    """Null before it was found out, and where the model's code can't be contained."""
    live_runs: list[RunSummary]
    resting_runs: list[str]
    """Ids of the runs that have ended and can be asked further, the last used one last."""
    resting_memory: int
    """Bytes that their variables take."""
    models: list[ModelInfo]


class CostsParams(Strict):
    """``rlm/costs``: what models have cost, by month, project and model."""

    months: Annotated[int, msgspec.Meta(ge=1)] = 12
    """How many months, the latest first; those without calls don't count."""


class CostRow(Wire):
    """What one model has cost in one month for one project."""

    month: str
    """Such as ``2026-11``, by the server's local time."""
    project: str | None
    model: str
    runs: int
    calls: int
    cached_calls: int
    """Those of them that were answered by kept answers."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: float | None
    """US dollars; null where a part of it is unknown."""
    known_cost: float
    """US dollars, without the calls of unknown price."""
    unknown_calls: int


class CostsResult(Wire):
    """Answer to ``rlm/costs``."""

    month: str
    """The present one."""
    spent: float
    """US dollars that are known to be spent in it."""
    unknown_calls: int
    """Its calls of unknown price."""
    limit: float | None
    """US dollars that a month may cost; null: no limit."""
    project_limits: dict[str, float]
    """The same, by project."""
    rows: list[CostRow]
    """The latest month first, in it the dearest first."""
    problem: str = ""
    """Why nothing is noted, where the file can't be used."""


class DoctorRow(Wire):
    """One part of the doctor's report."""

    part: str
    status: Literal["ok", "warning", "failure"]
    detail: str
    cure: str = ""
    """What to do, where the status isn't ok."""


class DoctorResult(Wire):
    """Answer to ``rlm/doctor``."""

    rows: list[DoctorRow]


class ErrorData(Wire):
    """``data`` of a JSON-RPC error reply."""

    kind: str
    """Stable name of the error, as in ``errors.py``."""
    cure: str


# ---------------------------------------------------------------------------------------- events

RunStatus = Literal["running", "done", "limit", "cancelled", "failed", "interrupted"]
"""``done``: answered. ``limit``: a limit ended it. ``interrupted``: its log has no end, because
the server died."""


class Usage(Wire):
    """What calls have used, of one call or of everything below a node."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """The part of the prompt tokens that was not read anew: the provider had it in its prefix
    cache, or the whole answer came from rlm's own cache and cost nothing."""
    cost: float | None = 0.0
    """US dollars; null once anything of unknown price is in it."""


CellStatus = Literal["ok", "error", "timeout", "cancelled", "died", "limit", "rejected"]
"""``died``: the REPL process ended, and its variables with it unless ``kept``. ``rejected``: a
person did not let it run."""


class RunError(Wire):
    """Why a run, a call or a source failed."""

    kind: str
    """Stable name of the error, as in ``errors.py``."""
    message: str
    cure: str = ""


class LeftOut(Wire):
    """A file that is not in the context."""

    path: str
    reason: str
    """Such as ``ignored``, ``binary``, ``unreadable``, ``too large``, ``gone``, ``excluded``."""


class Event(Wire, tag_field="kind"):
    """Base of all events of a run. Each is one line of the run's log before it is sent."""

    run_id: str
    seq: int
    """Number of the event in its run, from 0, without gaps."""
    time: float
    node: str
    """The node it belongs to: ``"0"`` is the run, ``"0.2"`` its second iteration, ``"0.2.5"``
    that iteration's fifth sub-call. Where that is a child run, ``"0.2.5.1"`` is the child's first
    iteration, and so on to any depth."""


class KeptText(Wire, tag_field="kind", tag="kept"):
    """A text that came with a question: the server keeps it under its hash for a resume."""

    hash: str
    """SHA-256 of its bytes, in hexadecimal."""
    name: str | None = None
    origin: str | None = None
    """As in ``FileSource``; null where the text came inline."""
    first_line: int = 1


KeptSource = FileSource | TreeSource | KeptText


class KeptOverlay(Wire):
    """Unsaved text that stood in for a file's content."""

    path: str
    hash: str
    """SHA-256 of its bytes, in hexadecimal."""


class RunStarted(Event, tag="runStarted"):
    """First event of a run."""

    question: str
    root_model: str
    sub_model: str
    limits: Limits
    max_depth: int
    server_version: str
    isolation: IsolationMode
    isolation_limits: list[str]
    """What this mode does not promise."""
    project: str | None
    profile: str = "default"
    """Name of the profile by which the root model is spoken to."""
    sources: list[KeptSource] = []
    """What the question is about; texts that came along are named by what is in them."""
    overlays: list[KeptOverlay] = []
    options: AskOptions = msgspec.field(default_factory=AskOptions)
    """As they were given; ``limits`` has them with what is configured."""
    question_hash: str = ""
    """By which the whole question is kept, where it is too long for an event."""
    seed: int = 0
    """What random numbers in cells begin with."""
    rerun_of: str | None = None
    """The run whose program is run again."""
    notes: list[str] = []
    """Strategy notes that the model is told where it is to write code, also when it goes on."""
    protocol_version: int = PROTOCOL_VERSION


class ContextProgress(Event, tag="contextProgress"):
    """Sources are being read."""

    documents: int
    """Documents read so far."""
    bytes: int


class ContextReady(Event, tag="contextReady"):
    """All sources are read; a client may delete its spool files now."""

    documents: int
    bytes: int
    characters: int
    tokens: int
    """Estimated, at 4 bytes a token."""
    hash: str
    """SHA-256 of paths and texts, in hexadecimal."""
    left_out: list[LeftOut]
    """At most 100 of them."""
    left_out_counts: dict[str, int]
    """All of them, counted by reason."""


class IterationStarted(Event, tag="iterationStarted"):
    """The root model is being asked."""

    iteration: int
    """Counted from 1."""
    direct: bool = False
    """Whether the model is given the whole text, to answer without code."""
    opening: str = ""
    """Where a conversation begins: hash of what the model is told, to see later if it changed."""


class ReplyDelta(Event, tag="replyDelta"):
    """More of the root model's reply; the parts of one reply, in order, make its whole."""

    part: Literal["prose", "code", "fence", "reasoning"]
    """Code is what stood between fences, a fence a line (or two) around it, which need not be
    shown. All parts but the reasoning, joined, are the reply as the model gave it."""
    text: str
    """At most 16,384 characters, as all texts in events."""


class ReplyDone(Event, tag="replyDone"):
    """The root model's reply has ended."""

    model: str
    usage: Usage
    seconds: float
    cells: int
    """Code blocks found in it."""
    characters: int | None = None
    """Length of the reply, which is the end of what was streamed; before it stands what broke
    off and was asked for again. Null in logs of earlier versions."""
    cached: bool = False
    """Whether it is an answer kept from an earlier run."""


class CellStarted(Event, tag="cellStarted"):
    """A code block of the reply runs."""

    cell: int
    """Number of the block in the reply, from 1."""
    code: str
    """What runs, clipped in the middle beyond 16,384 characters."""
    edited: bool = False
    """Whether a person has put it in the place of the model's."""
    by_user: bool = False
    """Whether it is the user's own, run by ``rlm/exec``."""


class Output(Event, tag="output"):
    """What the running cell printed."""

    cell: int
    stream: Literal["stdout", "stderr", "value"]
    """``value``: the repr of the cell's last expression."""
    text: str


class CellDone(Event, tag="cellDone"):
    """The cell has ended."""

    cell: int
    status: CellStatus
    error: str
    """Last line of the traceback, or what happened, such as the reason of a person who rejected it;
    empty where all is well."""
    seconds: float
    output_characters: int
    """True length of what it printed, also where only a part was sent."""
    kept: bool = True
    """Whether the variables of earlier cells are still there."""
    undone: bool = False
    """Whether it is as if the cell had never run: its process had to be killed."""
    early: bool = False
    """Whether it began before its reply had ended."""
    in_vain: int = 0
    """Sub-calls that were made ahead of its loops and that its code did not come to."""


class SubcallStarted(Event, tag="subcallStarted"):
    """A sub-call was made by the cell, of a model or of a tool; it may still wait for a slot."""

    subcall: int
    """Number of the sub-call in its iteration, from 1."""
    model: str
    prompt: str
    """The prompt, clipped in the middle beyond 4,096 characters."""
    prompt_characters: int
    """The prompt's true length."""
    prompt_hash: str = ""
    """Names the whole prompt, and the model where the code names one; empty in logs of earlier
    versions."""
    tool: str = ""
    """Name of the tool that is called in place of a model; ``prompt`` has its arguments and the
    answer its result, both as JSON."""
    holds: list[Held] = []
    """What of the context the prompt holds, as far as it can be traced; the most first, at most
    8 documents."""


class SubcallDelta(Event, tag="subcallDelta"):
    """A piece of an answer too long for one event; ``SubcallDone`` holds the last piece."""

    text: str


class SubcallDone(Event, tag="subcallDone"):
    """A sub-call has ended."""

    status: Literal["ok", "error", "cancelled"]
    answer: str
    """The answer, or its last piece where ``SubcallDelta`` events came before."""
    error: RunError | None
    usage: Usage
    seconds: float
    cached: bool = False
    """Whether it is an answer kept from an earlier run."""
    hedged: bool = False
    """Whether a second server was asked too, since the first was slow."""


class ChildStarted(Event, tag="childStarted"):
    """A sub-call that is a run of its own, with a REPL over a part of the context, has begun.

    Events of its iterations follow, below its node.
    """

    subcall: int
    """Number of the sub-call in its iteration, from 1."""
    depth: int
    """1 for a child of the run itself."""
    model: str
    question: str
    """Clipped in the middle beyond 4,096 characters."""
    documents: int
    characters: int
    prompt_hash: str = ""
    """Names the whole question, its text, and the model where the code names one; empty in logs
    of earlier versions."""


class ChildDelta(Event, tag="childDelta"):
    """A piece of a child run's answer too long for one event; ``ChildDone`` has the last one."""

    text: str


class ChildDone(Event, tag="childDone"):
    """A child run has ended."""

    status: RunStatus
    answer: str
    """The answer, or the best so far; its last piece where ``ChildDelta`` events came before."""
    error: RunError | None
    usage: Usage
    """Of everything below the child's node."""
    iterations: int
    seconds: float


class SemanticHit(Event, tag="semanticHit"):
    """The question is answered by the kept answer to a similar one; ``fresh`` asks anew.

    The answer and the run's end follow.
    """

    original_question: str
    original_run_id: str
    original_time: float
    """When it was answered."""
    similarity: float
    """Cosine of the questions; 1.0 for the same words."""


class Notice(Event, tag="notice"):
    """Something that the person at the screen should know: a retry, a refusal, feedback."""

    level: Literal["info", "warning", "error"]
    text: str


class LimitsChanged(Event, tag="limitsChanged"):
    """The run's limits were changed while it goes on."""

    limits: Limits
    """All of them, as they are from now on."""


class Progress(Event, tag="progress"):
    """Totals of the run so far."""

    iteration: int
    subcalls_started: int
    subcalls_done: int
    usage: Usage
    seconds: float


class Held(Wire):
    """What a prompt holds of one document of the context."""

    path: str
    characters: int


class Stretch(Wire):
    """A part of a document that models have read."""

    path: str
    line: int
    """Its first line, counted from 1."""
    last_line: int
    characters: int
    location: Location


class Quote(Wire):
    """What an answer quotes, or a place that it names, and whether that stands in the context."""

    text: str
    """As the answer has it, clipped in the middle beyond 300 characters."""
    start: Count
    """Where it stands in the whole answer, in characters."""
    end: Count
    kind: Literal["quote", "place"]
    """``place``: of the form ``path:line``; of these only the missing ones are listed."""
    status: Literal["found", "like", "missing", "unchecked"]
    """``found``: but for white space, case, and the kind of quotes and dashes; ``like``: only
    something like it stands there; ``unchecked``: the context is too large to look everywhere."""
    path: str = ""
    line: int | None = None
    """Where it, or what is like it, begins, counted from 1; null where it stands nowhere."""
    location: Location | None = None


class Provenance(Event, tag="provenance"):
    """What the answer that follows is drawn from, and whether it can be found there.

    Read is what models have seen: in prompts of sub-calls, and in what cells printed and was
    shown; parts of lines, and text that code has changed, are not traced.
    """

    characters: int
    """Length of the context."""
    read: int | None
    """Characters of it that models have read so far, child runs included; null where a kept
    answer was taken."""
    looked_through: int
    """Characters that code has looked through, or more."""
    documents: int
    """Documents of which something was read."""
    strip: list[int]
    """Percentage that was read of each hundredth of the context, or of each character where it has
    fewer than a hundred."""
    stretches: list[Stretch]
    """The longest that were read, at most 20, in their order."""
    quotes: list[Quote]
    """At most 100, in their order."""


class FollowUp(Event, tag="followUp"):
    """A further question begins, after ``runEnded``; its answer and another ``runEnded`` follow."""

    question: str
    root_model: str
    sub_model: str
    limits: Limits
    """Its own, which begin anew; the cost is counted on."""
    question_hash: str = ""
    """By which the whole question is kept, where it is too long for an event."""
    schema: dict[str, Any] | None = None
    """JSON Schema that the answer has to fit; null: it is text."""
    approve: bool | None = None
    """Whether its code waits for approval; null, in older logs: as it did before."""


class ApprovalWanted(Event, tag="approvalWanted"):
    """A piece of code waits for ``rlm/approve``; time stands still meanwhile.

    What is decided shows in the next event of that cell: ``cellStarted``, or ``cellDone`` with the
    status ``rejected``.
    """

    cell: int
    """Number of the block in the reply, from 1."""
    code: str
    """Clipped in the middle beyond 16,384 characters."""


class Paused(Event, tag="paused"):
    """The run begins nothing new, or goes on again."""

    paused: bool


class Note(Event, tag="note"):
    """A person has told the model something; it hears it with its next message."""

    text: str


class Answer(Event, tag="answer"):
    """The answer; one for each question, before ``runEnded``."""

    text: str
    """At most 16,384 characters an event: longer answers come as several, in order."""
    partial: bool
    """True where the run ended before the model said that it was ready."""
    evidence: list[Evidence]
    """Given with the last piece of the answer."""
    more: bool = False
    """True where another piece follows."""
    typed: bool = False
    """True where a schema was given and the answer fits it: the text of all pieces is its JSON
    then. False under a schema: the text is what there is, and does not fit."""
    value: Any | msgspec.UnsetType = msgspec.UNSET
    """What that JSON means, with the last piece; left out where there are several pieces, or an
    integer in it has more than 64 bits."""


class AnswerDiff(Event, tag="answerDiff"):
    """How the answer of a run that ran another's program differs from that one's."""

    original_run_id: str
    same: bool
    diff: str
    """A unified diff of the two; empty where they are the same, clipped like all texts."""


class RunResumed(Event, tag="runResumed"):
    """A run that was cut short goes on from its log; nothing of that is paid again."""

    iteration: int
    """The one that it goes on in; the next, where the last was whole."""
    void: list[tuple[int, int]]
    """Ranges of numbers, their ends included, of events that no longer count, such as the end
    that the run had come to, and half a reply that is asked for anew. Whoever follows the run
    from its beginning gets ``void`` events in their places."""
    root_model: str
    sub_model: str
    limits: Limits


class RunForked(Event, tag="runForked"):
    """First own event of a run that shares its beginning with another one.

    The events before it are those of the parent, whose log has them; they carry the fork's id
    where the fork is followed.
    """

    parent_run_id: str
    parent_seq: int
    """Number of the last event that is shared; the fork's own follow on it."""
    iteration: int
    """The first that is its own."""
    question: str
    root_model: str
    sub_model: str
    limits: Limits
    max_depth: int
    server_version: str
    isolation: IsolationMode
    project: str | None
    options: AskOptions = msgspec.field(default_factory=AskOptions)
    added_note: str = ""
    """What the person adds for the model to read."""
    given_reply: str = ""
    """The first reply of its own, where a person has written its code."""


class Void(Event, tag="void"):
    """Stands in the place of an event that no longer counts, or is lost; never in a log."""


class RunEnded(Event, tag="runEnded"):
    """Last event of a run, unless it is resumed."""

    """The question has ended; a ``followUp`` may come after it.

    Code that the user runs afterwards (``rlm/exec``) is followed by another one, which differs in
    the figures alone. They are those of the whole run.
    """

    status: RunStatus
    reason: str
    """One sentence for the person at the screen."""
    error: RunError | None
    usage: Usage
    iterations: int
    subcalls: int
    seconds: float


AnyEvent = (
    RunStarted
    | ContextProgress
    | ContextReady
    | IterationStarted
    | ReplyDelta
    | ReplyDone
    | CellStarted
    | Output
    | CellDone
    | SubcallStarted
    | SubcallDelta
    | SubcallDone
    | SemanticHit
    | ChildStarted
    | ChildDelta
    | ChildDone
    | Notice
    | LimitsChanged
    | Progress
    | Provenance
    | FollowUp
    | ApprovalWanted
    | Paused
    | Note
    | Answer
    | AnswerDiff
    | RunResumed
    | RunForked
    | Void
    | RunEnded
)

MAX_EVENT_TEXT = 16_384
"""Characters; keeps every event under 64 kB, which costs Emacs 28 about 1 ms."""
