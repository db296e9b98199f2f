"""What an OpenAI-compatible server's HTTP status and message mean, in our own errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from rlm_server.errors import ModelError
from rlm_server.models import faults
from rlm_server.models.deployments import Deployment
from rlm_server.models.faults import Fault, tell
from rlm_server.models.retry_after import seconds_of
from rlm_server.models.said import message_of
from rlm_server.text import clean, clip, scrub, without_password

POLICY_TEXT = re.compile(r"content_filter|content_policy_violation|content management policy", re.I)


def refusal(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    deployment: Deployment,
    *,
    secrets: Iterable[str],
) -> ModelError:
    """The error for an answer that isn't 200, without any secret in its message."""
    secrets = list(secrets)
    text = clean(body.decode("utf-8", "replace"))
    fault = _fault(status, text)
    said = " ".join((message_of(text) or text).split())
    # First scrubbed: of a key that is cut in two, none of the pieces would be found.
    detail = "" if fault is faults.SLOW else clip(scrub(said, secrets), faults.LONGEST)
    if 300 <= status < 400:
        place = without_password(headers.get("location", "nowhere"))
        detail = scrub(f"it redirects to {place}", secrets)
    asked = headers.get("retry-after")
    return tell(
        fault,
        deployment,
        detail=detail.replace("\n", " "),
        retry_after=seconds_of(asked, datetime.now(UTC)) if asked else None,
    )


def _fault(status: int, text: str) -> Fault:
    fault = faults.STATUS.get(status)
    if fault is None:
        kinds = {3: faults.NOT_FOUND, 4: faults.BAD_REQUEST}
        fault = kinds.get(status // 100, faults.PASSING)
    if fault is faults.BAD_REQUEST:
        if faults.TOO_LONG_TEXT.search(text):
            return faults.TOO_LONG
        if POLICY_TEXT.search(text):
            return faults.POLICY
    if fault is faults.TOO_MANY and faults.NO_MONEY_TEXT.search(text):
        return faults.NO_MONEY
    return fault
