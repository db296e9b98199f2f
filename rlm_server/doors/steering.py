"""The JSON-RPC door's methods that steer a run, look at its variables, and ask it further."""

from __future__ import annotations

from collections.abc import Callable

from rlm_server.doors.rpc import Handler, P, Then
from rlm_server.engine.run import Run
from rlm_server.engine.service import Engine
from rlm_server.engine.steering import Decision
from rlm_server.errors import NotRestingError
from rlm_server.protocol import (
    ApproveParams,
    ApproveResult,
    ExecParams,
    ExecResult,
    FollowUpParams,
    FollowUpResult,
    InspectParams,
    InspectResult,
    NoteParams,
    NoteResult,
    PauseParams,
    PauseResult,
    VariablesParams,
    VariablesResult,
)

Register = Callable[[str, type[P], Handler[P]], None]
Follow = Callable[[str, int], None]


class SteeringMethods:
    """Those of one connection."""

    def __init__(self, engine: Engine, follow: Follow) -> None:
        """``follow`` sends a run's events from a number on, unless they are being sent."""
        self._engine = engine
        self._follow = follow

    def register(self, register: Register) -> None:  # type: ignore[type-arg]
        """Have each method answered."""
        register("rlm/followUp", FollowUpParams, self._follow_up)
        register("rlm/approve", ApproveParams, self._approve)
        register("rlm/pause", PauseParams, self._pause)
        register("rlm/note", NoteParams, self._note)
        register("rlm/exec", ExecParams, self._exec)
        register("rlm/variables", VariablesParams, self._variables)
        register("rlm/inspect", InspectParams, self._inspect)

    async def _follow_up(self, params: FollowUpParams) -> Then:
        await self._engine.settle(params.run_id)
        try:
            run, seq = await self._engine.follow_up(params)
        except NotRestingError:
            await self._revive(params.run_id)
            run, seq = await self._engine.follow_up(params)
        result = FollowUpResult(run_id=run.run_id, log=str(run.log.path), from_seq=seq)
        return Then(result, lambda: self._follow(run.run_id, seq))

    async def _approve(self, params: ApproveParams) -> ApproveResult:
        await self._engine.settle(params.run_id)
        steering = self._engine.steered(params.run_id).steering
        decision = Decision(params.decision, code=params.code, reason=params.reason)
        accepted = steering.decide(params.node, params.cell, decision, rest=params.rest)
        return ApproveResult(accepted=accepted)

    async def _pause(self, params: PauseParams) -> PauseResult:
        await self._engine.settle(params.run_id)
        steering = self._engine.live(params.run_id).steering
        steering.pause(params.paused)
        return PauseResult(paused=steering.paused)

    async def _note(self, params: NoteParams) -> NoteResult:
        await self._engine.settle(params.run_id)
        self._engine.live(params.run_id).note(params.node, params.text)
        return NoteResult()

    async def _exec(self, params: ExecParams) -> ExecResult:
        run = await self._steered(params.run_id)
        self._follow(run.run_id, run.next_seq)  # it may have been made anew since it was shown
        return await run.execute(params.node, params.code)

    async def _variables(self, params: VariablesParams) -> VariablesResult:
        namespace = (await self._steered(params.run_id)).namespace(params.node)
        return await namespace.variables()

    async def _inspect(self, params: InspectParams) -> InspectResult:
        namespace = (await self._steered(params.run_id)).namespace(params.node)
        return await namespace.inspect(params.name, params.start, params.length)

    async def _steered(self, run_id: str) -> Run:
        """A run that is live or rests; one that does no longer is made to rest again."""
        await self._engine.settle(run_id)
        try:
            return self._engine.steered(run_id)
        except NotRestingError:
            await self._revive(run_id)
            return self._engine.steered(run_id)

    async def _revive(self, run_id: str) -> None:
        """Raises NotRestingError where no run is to rest, and what ``revive`` does."""
        if not self._engine.config.sandbox.resting:
            self._engine.steered(run_id)
        await self._engine.durable.revive(run_id)
