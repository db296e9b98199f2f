"""What transports have in common: passing pieces on, and judging a reply."""

from __future__ import annotations

from rlm_server.models.calls import Part, Request
from rlm_server.models.deployments import Deployment
from rlm_server.models.faults import GARBLED, POLICY, tell
from rlm_server.text import clean


class ListenerError(Exception):
    """The listener failed, not the model; what it raised goes through as it is."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def pass_on(request: Request, part: Part, text: str) -> None:
    """Hand a streamed piece on. Raises ListenerError."""
    if not text or request.delta is None:
        return
    try:
        request.delta(part, text)
    except Exception as error:
        raise ListenerError(error) from None


def check_text(text: str, finish: str | None, deployment: Deployment) -> None:
    """Raise ModelError for a reply with nothing in it."""
    if text.strip():
        return
    if finish == "content_filter":
        raise tell(POLICY, deployment)
    raise tell(GARBLED, deployment, detail="an empty reply")


def text_of(content: object) -> str:
    """A piece of text, fit for every JSON parser; anything else is none."""
    return clean(content) if isinstance(content, str) else ""


def secrets_of(request: Request) -> list[str]:
    """What must not be in a message: the key, and headers, which may hold another."""
    key = [request.key.reveal()] if request.key else []
    return [*key, *request.deployment.settings.headers.values()]
