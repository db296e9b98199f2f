"""The JSON-RPC door: what each method does, for one connection."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from contextlib import aclosing

import msgspec
from pygls.exceptions import JsonRpcException, JsonRpcInvalidRequest

from rlm_server import __version__
from rlm_server.doors.rpc import Handler, P, Server, Then
from rlm_server.doors.steering import SteeringMethods
from rlm_server.doors.watches import Watches
from rlm_server.doors.wire import MAX_BODY, TooLong, Wire
from rlm_server.engine.doctor import examine
from rlm_server.engine.notes import notes_path
from rlm_server.engine.run import Run
from rlm_server.engine.service import Engine
from rlm_server.protocol import (
    PROTOCOL_VERSION,
    AcceptNotesParams,
    AcceptNotesResult,
    AskParams,
    AskResult,
    AttachParams,
    AttachResult,
    CancelParams,
    CancelResult,
    CostsParams,
    CostsResult,
    DeleteParams,
    DeleteResult,
    DoctorResult,
    Estimate,
    EstimateParams,
    ExportParams,
    ExportResult,
    ForkParams,
    InitializeParams,
    InitializeResult,
    KeysParams,
    KeysResult,
    LimitsParams,
    LimitsResult,
    MarkParams,
    MarkResult,
    ReflectParams,
    ReflectResult,
    RerunParams,
    ResumeParams,
    RunsParams,
    RunsResult,
    StatusResult,
    Watched,
    WatchParams,
)
from rlm_server.sandbox import last

logger = logging.getLogger(__name__)

STARTED = time.monotonic()

STRANGERS_BODY = 1 << 16
"""Bytes of a message from a client that has not shown the token."""

STRANGERS_SECONDS = 10.0
"""How long a client may take to show it."""


class NotAuthenticated(JsonRpcException):
    """The first request on a TCP connection must be ``initialize`` with the right token."""

    CODE = -32001
    MESSAGE = "Not authenticated. Send initialize with the content of the server's token file."


class Empty(msgspec.Struct):
    """Parameters of methods that take none; whatever a client sends is ignored."""


class Session:
    """One connection: answers its requests and sends it the events of the runs it follows."""

    def __init__(self, engine: Engine, wire: Wire, *, token: str | None = None) -> None:
        """Open a session; with a token, nothing is done before it was given."""
        self._engine = engine
        self._wire = wire
        self._token = token
        self._trusted = token is None
        if not self._trusted:
            wire.max_body = STRANGERS_BODY
        self._shutdown = False
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._done = asyncio.Event()
        self._server = Server(wire)
        self._watches = Watches(engine.durable, self._tell_watched, self._follow)
        self._server.register("initialize", InitializeParams, self._initialize)
        for method in ("initialized", "exit"):
            self._server.register(method, Empty, self._exit if method == "exit" else _ignore)
        self._register("shutdown", Empty, self._shut_down)
        self._register("rlm/keys", KeysParams, self._keys)
        self._register("rlm/estimate", EstimateParams, self._estimate)
        self._register("rlm/ask", AskParams, self._ask)
        self._register("rlm/cancel", CancelParams, self._cancel)
        self._register("rlm/limits", LimitsParams, self._limits)
        self._register("rlm/attach", AttachParams, self._attach)
        self._register("rlm/runs", RunsParams, self._runs)
        self._register("rlm/export", ExportParams, self._export)
        self._register("rlm/resume", ResumeParams, self._resume)
        self._register("rlm/fork", ForkParams, self._fork)
        self._register("rlm/rerun", RerunParams, self._rerun)
        self._register("rlm/watch", WatchParams, self._watches.watch)
        self._register("rlm/delete", DeleteParams, self._delete)
        self._register("rlm/mark", MarkParams, self._mark)
        self._register("rlm/reflect", ReflectParams, self._reflect)
        self._register("rlm/acceptNotes", AcceptNotesParams, self._accept_notes)
        self._register("rlm/status", Empty, self._status)
        self._register("rlm/costs", CostsParams, self._costs)
        self._register("rlm/doctor", Empty, self._doctor)
        SteeringMethods(engine, self._follow_on).register(self._register)

    async def run(self) -> None:
        """Serve until the client goes away or sends ``exit``."""
        reading = asyncio.create_task(self._read())
        leaving = asyncio.create_task(self._done.wait())
        patience = asyncio.get_running_loop().call_later(STRANGERS_SECONDS, self._turn_away)
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
            tasks = (reading, leaving, *self._followed.values())
            for task in tasks:
                task.cancel()
            self._server.protocol.cancel_all()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._watches.close()
            self._wire.close()

    def _turn_away(self) -> None:
        """End the connection of a client that has not shown the token."""
        if not self._trusted:
            self._done.set()

    async def _read(self) -> None:
        while True:
            try:
                body = await self._wire.read()
            except TooLong as error:
                self._server.protocol.refuse(None, JsonRpcInvalidRequest(str(error)))
                continue
            if body is None:
                return
            self._server.protocol.receive(body)
            # A client that asks without reading the answers is not read from either.
            await self._wire.drain()

    def _register(self, method: str, params_type: type[P], handler: Handler[P]) -> None:
        async def guarded(params: P) -> object:
            if not self._trusted:
                raise NotAuthenticated
            if self._shutdown:
                raise JsonRpcInvalidRequest("the server is shutting down")
            return await handler(params)

        self._server.register(method, params_type, guarded)

    async def _initialize(self, params: InitializeParams) -> InitializeResult:
        if self._token is not None:
            if not hmac.compare_digest(self._token.encode(), (params.token or "").encode()):
                raise NotAuthenticated
            self._trusted = True
            self._wire.max_body = MAX_BODY
        if params.protocol_version != PROTOCOL_VERSION:
            raise JsonRpcInvalidRequest(
                f"This server (rlm {__version__}) speaks protocol {PROTOCOL_VERSION}, the client "
                f"{params.protocol_version}. Install the same version of both; in Emacs, "
                "M-x rlm-install-server."
            )
        models = self._engine.models
        logger.info("client %s connected", params.client_info and params.client_info.name)
        return InitializeResult(
            protocol_version=PROTOCOL_VERSION,
            server_version=__version__,
            pid=os.getpid(),
            root_model=models.root,
            sub_model=models.sub,
            keys_wanted=models.keys_wanted(),
            isolation=isolation.mode if (isolation := last()) else None,
            log_directory=str(self._engine.log_directory),
        )

    async def _keys(self, params: KeysParams) -> KeysResult:
        return KeysResult(accepted=self._engine.models.add_keys(params.keys))

    async def _estimate(self, params: EstimateParams) -> Estimate:
        return await self._engine.estimate(params)

    async def _ask(self, params: AskParams) -> Then:
        return self._started(await self._engine.ask(params))

    async def _cancel(self, params: CancelParams) -> CancelResult:
        return CancelResult(cancelled=self._engine.cancel(params.run_id, params.node))

    async def _limits(self, params: LimitsParams) -> LimitsResult:
        return LimitsResult(changed=self._engine.set_limits(params.run_id, params.limits))

    async def _attach(self, params: AttachParams) -> Then:
        summary = self._engine.summary(params.run_id)
        result = AttachResult(
            run=summary,
            live=self._engine.is_live(params.run_id),
            last_seq=await self._engine.last_seq(params.run_id),
        )
        return Then(result, lambda: self._follow(params.run_id, params.from_seq))

    async def _runs(self, params: RunsParams) -> RunsResult:
        return await self._engine.runs(params)

    async def _resume(self, params: ResumeParams) -> Then:
        return self._started(await self._engine.durable.resume(params))

    async def _fork(self, params: ForkParams) -> Then:
        return self._started(await self._engine.durable.fork(params))

    async def _rerun(self, params: RerunParams) -> Then:
        return self._started(await self._engine.durable.rerun(params))

    def _tell_watched(self, told: Watched) -> None:
        self._server.protocol.tell("rlm/watched", told)

    def _started(self, run: Run) -> Then:
        """Answer with a run that has begun; its events follow, from the first."""
        result = AskResult(run_id=run.run_id, log=str(run.log.path))
        return Then(result, lambda: self._follow(run.run_id, 0))

    async def _delete(self, params: DeleteParams) -> DeleteResult:
        return DeleteResult(bytes=await self._engine.delete(params.run_id))

    async def _export(self, params: ExportParams) -> ExportResult:
        return await self._engine.export(params)

    async def _mark(self, params: MarkParams) -> MarkResult:
        return MarkResult(mark=await self._engine.mark(params))

    async def _reflect(self, params: ReflectParams) -> ReflectResult:
        return await self._engine.reflection.propose(params.model)

    async def _accept_notes(self, params: AcceptNotesParams) -> AcceptNotesResult:
        accepted = await asyncio.to_thread(
            self._engine.reflection.accept, params.proposal, params.changes
        )
        return AcceptNotesResult(path=str(notes_path()), accepted=len(accepted))

    async def _status(self, _: Empty) -> StatusResult:
        models = self._engine.models
        return StatusResult(
            server_version=__version__,
            pid=os.getpid(),
            seconds=time.monotonic() - STARTED,
            models_ready=models.prepared,
            isolation=last(),
            live_runs=self._engine.live_runs(),
            resting_runs=self._engine.resting_runs(),
            resting_memory=self._engine.resting_memory,
            models=models.list(),
        )

    async def _costs(self, params: CostsParams) -> CostsResult:
        return await self._engine.models.costs.report(params.months)

    async def _doctor(self, _: Empty) -> DoctorResult:
        return DoctorResult(rows=await examine(self._engine))

    async def _shut_down(self, _: Empty) -> None:
        self._shutdown = True

    async def _exit(self, _: Empty) -> None:
        self._done.set()

    def _follow(self, run_id: str, from_seq: int) -> None:
        """Send a run's events from now on; at the pace at which the client reads them."""

        async def pump() -> None:
            try:
                # Closed at once, so that a run whose client has left is not taken to be watched.
                async with aclosing(self._engine.follow(run_id, from_seq)) as lines:
                    async for line in lines:
                        self._server.protocol.event(line)
                        await self._wire.drain()
            except ConnectionError:
                return  # the client has gone
            except Exception:
                logger.exception("run %s can't be followed", run_id)

        if run_id in self._followed:
            self._followed[run_id].cancel()  # or each event would come twice
        self._followed[run_id] = task = asyncio.create_task(pump(), name=f"follow {run_id}")
        task.add_done_callback(lambda done: self._forget(run_id, done))

    def _follow_on(self, run_id: str, from_seq: int) -> None:
        """The same, unless this client has followed the run all the time."""
        if run_id not in self._followed:
            self._follow(run_id, from_seq)

    def _forget(self, run_id: str, task: asyncio.Task[None]) -> None:
        if self._followed.get(run_id) is task:
            del self._followed[run_id]


async def _ignore(_: Empty) -> None:
    """Take a notification that needs nothing done."""
