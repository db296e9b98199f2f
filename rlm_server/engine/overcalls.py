"""The over-call guard: some models make thousands of tiny sub-calls unless they are stopped."""

from __future__ import annotations

from collections import Counter

from rlm_server.engine.emitter import Emitter
from rlm_server.engine.profile import Profile
from rlm_server.protocol import Notice, RunError
from rlm_server.sandbox import CallReply


class OverCalls:
    """Refuses the sub-calls of one reply beyond what the model's profile allows."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._made: Counter[str] = Counter()

    def refuse(self, node: str, profile: Profile, characters: int) -> CallReply | None:
        """What a further sub-call of the iteration ``node`` gets; None where it may be made.

        ``characters`` is what one prompt may have.
        """
        most = profile.most_calls
        self._made[node] += 1
        if most is None or self._made[node] <= most:
            return None
        if self._made[node] == most + 1:
            text = (
                f"The code of one reply made {most:,} sub-calls, the most that the profile "
                f"{profile.name} allows; the model is told to make fewer and larger ones."
            )
            self._emitter.emit(Notice, node, level="warning", text=text)
        message = (
            f"The code of this reply has made {most:,} sub-calls, the most that one may make. Put "
            f"more text into each prompt, up to {characters:,} characters, or go on in the next "
            "reply with what is left."
        )
        return CallReply(text="", error=RunError(kind="limit", message=message))
