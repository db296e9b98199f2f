"""What litellm raises, told in our own errors: one table, and the cure for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from rlm_server.errors import (
    ContextTooLongError,
    KeyRefusedError,
    ModelError,
    RateLimitedError,
    RefusedError,
    TransientError,
    UnreachableError,
)
from rlm_server.models.deployments import Deployment
from rlm_server.models.retry_after import seconds_of
from rlm_server.models.said import message_of
from rlm_server.text import clip, scrub

LONGEST = 400
"""Characters of a provider's own message that are shown."""


class Fault(msgspec.Struct, frozen=True):
    """Which error something becomes, what to say of it, and what to do about it.

    The texts may name ``{name}``, ``{model}``, ``{setting}`` (the configuration's table),
    ``{key}`` (where the key comes from), ``{address}``, ``{timeout}`` and ``{window}``.
    """

    kind: type[ModelError]
    what: str
    cure: str
    elsewhere: bool = False
    """Whether it is the deployment's own: another one that serves the model may answer."""


BAD_KEY = Fault(
    KeyRefusedError,
    "{name} refused the key",
    "Check {key}, and that it is meant for {address}.",
    elsewhere=True,
)
NOT_ALLOWED = Fault(
    RefusedError,
    "{name} does not allow this",
    "Check what {key} may do at {address}, or choose another model.",
    elsewhere=True,
)
NOT_FOUND = Fault(
    RefusedError,
    "{name} is not known at {address}",
    'Correct model = "{model}" in {setting}, and base-url if it is set (most need /v1).',
    elsewhere=True,
)
NO_MONEY = Fault(
    RefusedError,
    "{name} says that the account has no credit left",
    "Add credit to the account that {key} belongs to, or choose another model.",
    elsewhere=True,
)
BAD_REQUEST = Fault(
    RefusedError,
    "{name} refused the request",
    "Check params and headers in {setting}.",
)
POLICY = Fault(
    RefusedError,
    "{name} refused the content",
    "Leave out what it objects to, or choose another model than {model}.",
)
NO_PROVIDER = Fault(
    RefusedError,
    "{model} names no provider that litellm knows",
    'Write model = "PROVIDER/MODEL" in {setting}, such as openai/... or ollama_chat/...',
)
TOO_LONG = Fault(
    ContextTooLongError,
    "The prompt is longer than {name} takes",
    "Send less at once, or set window in {setting} to what the model really has ({window}).",
)
TOO_MANY = Fault(
    RateLimitedError,
    "{name} asks for fewer calls",
    "Lower slots in {setting}, or wait.",
)
PASSING = Fault(
    TransientError,
    "{name} failed",
    "Try again; if it goes on, look at the server at {address}.",
)
SLOW = Fault(
    TransientError,
    "{name} did not answer within {timeout} s",
    "Try again, raise timeout in {setting}, or look at the server at {address}.",
)
GARBLED = Fault(
    TransientError,
    "{name} sent what is no reply of a model",
    "Check that base-url in {setting} is the model server itself (most need /v1): {address}.",
)
CUT_OFF = Fault(
    ModelError,
    "{name} used up the tokens of its reply before it said anything, mostly by thinking",
    "Let it think less, or raise max_tokens, both in params of {setting}; limits of a run's tokens "
    "or money bound each reply too.",
)
BROKEN = Fault(
    TransientError,
    "The connection to {name} broke",
    "Try again; if it goes on, look at the server at {address}.",
)
GONE = Fault(
    UnreachableError,
    "Nothing answers for {name} at {address}",
    "Start that server, or correct base-url in {setting}.",
)
ODD = Fault(
    ModelError,
    "The call to {name} failed",
    "See the server's log; choose another model if it goes on.",
)

FAULTS: dict[str, Fault] = {
    "AuthenticationError": BAD_KEY,
    "PermissionDeniedError": NOT_ALLOWED,
    "NotFoundError": NOT_FOUND,
    "PaymentRequiredError": NO_MONEY,
    "BudgetExceededError": NO_MONEY,
    "BadRequestError": BAD_REQUEST,
    "InvalidRequestError": BAD_REQUEST,
    "UnprocessableEntityError": BAD_REQUEST,
    "UnsupportedParamsError": BAD_REQUEST,
    "ImageFetchError": BAD_REQUEST,
    "VectorStoreSearchError": BAD_REQUEST,
    "RejectedRequestError": POLICY,
    "ContentPolicyViolationError": POLICY,
    "GuardrailRaisedException": POLICY,
    "BlockedPiiEntityError": POLICY,
    "ModifyResponseException": POLICY,
    "SensitiveDataRouteException": POLICY,
    "LiteLLMUnknownProvider": NO_PROVIDER,
    "ContextWindowExceededError": TOO_LONG,
    "RateLimitError": TOO_MANY,
    "Timeout": SLOW,
    "InternalServerError": PASSING,
    "ServiceUnavailableError": PASSING,
    "BadGatewayError": PASSING,
    "MidStreamFallbackError": BROKEN,
    "APIConnectionError": BROKEN,
    "APIResponseValidationError": GARBLED,
    "JSONSchemaValidationError": GARBLED,
    "APIError": PASSING,
    "OpenAIError": PASSING,
    "ModelNotMappedError": ODD,
    "MockException": ODD,
}
"""By the name of litellm's exception class; a class that isn't here counts as its base."""

STATUS: dict[int, Fault] = {
    401: BAD_KEY,
    402: NO_MONEY,
    403: NOT_ALLOWED,
    404: NOT_FOUND,
    408: SLOW,
    504: SLOW,
    413: TOO_LONG,
    422: BAD_REQUEST,
    429: TOO_MANY,
}
"""By HTTP status, where litellm has no class of its own for it and raises ``APIError``."""

CAUSES: dict[str, Fault] = {
    "ConnectionRefusedError": GONE,
    "gaierror": GONE,
    "ClientConnectorError": GONE,
    "ClientPayloadError": BROKEN,
    "ServerDisconnectedError": BROKEN,
    "ConnectionResetError": BROKEN,
    "RemoteProtocolError": BROKEN,
    "JSONDecodeError": GARBLED,
}
"""By the class of an underlying cause, which tells more than litellm's ``InternalServerError``."""

TOO_LONG_TEXT = re.compile(
    r"maximum context length|context.window|context_length_exceeded|prompt is too long"
    r"|input is too long|exceeds? the (?:available )?context",
    re.IGNORECASE,
)
NO_MONEY_TEXT = re.compile(r"insufficient_quota|exceeded your current quota|credit balance", re.I)
GARBLED_TEXT = re.compile(
    r"empty or invalid response|unable to get json|invalid response object", re.IGNORECASE
)
ASIDES = re.compile(r"Traceback \(most|Original exception:")
PREFIXES = re.compile(r"^(?:(?:litellm\.)?\w*(?:Error|Timeout|Exception|Limit)\b(?: -|:)\s*)+")


def translate(
    error: BaseException, deployment: Deployment, *, secrets: Iterable[str]
) -> ModelError:
    """The error of ours for one that litellm raised, without any secret in its message."""
    fault = _fault(error)
    detail = "" if fault in (BROKEN, GONE, SLOW) else _detail(error, secrets)
    return tell(fault, deployment, detail=detail, retry_after=retry_after(error))


def tell(
    fault: Fault, deployment: Deployment, *, detail: str = "", retry_after: float | None = None
) -> ModelError:
    """A fault as an error that names the deployment and its settings."""
    names = _names(deployment)
    message = fault.what.format_map(names) + (f": {detail}" if detail else "")
    message += "" if message.endswith((".", "!", "?")) else "."
    error = fault.kind(message, cure=fault.cure.format_map(names))
    error.elsewhere = fault.elsewhere
    error.late = int(fault is SLOW)
    if isinstance(error, RateLimitedError):
        error.retry_after = retry_after
    return error


def retry_after(error: BaseException, now: datetime | None = None) -> float | None:
    """Seconds that the provider asks to wait, from its Retry-After header, or None."""
    for link in _chain(error):
        for headers in (
            getattr(link, "litellm_response_headers", None),
            getattr(getattr(link, "response", None), "headers", None),
        ):
            if headers and (value := headers.get("retry-after")):
                return seconds_of(str(value), now or datetime.now(UTC))
    return None


def _fault(error: BaseException) -> Fault:
    text = str(error)
    named = next((FAULTS[k.__name__] for k in type(error).__mro__ if k.__name__ in FAULTS), ODD)
    if named is BAD_REQUEST and TOO_LONG_TEXT.search(text):
        return TOO_LONG
    if named is TOO_MANY and NO_MONEY_TEXT.search(text):
        return NO_MONEY
    if named not in (PASSING, BROKEN):
        return named
    if GARBLED_TEXT.search(text):
        return GARBLED
    for link in _chain(error):
        for kind in type(link).__mro__:
            if kind.__name__ in CAUSES:
                return CAUSES[kind.__name__]
    return STATUS.get(getattr(error, "status_code", 0), named)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, the nearest first."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _detail(error: BaseException, secrets: Iterable[str]) -> str:
    """What the provider itself said, in one line; scrubbed before a cut could part a secret."""
    text = ASIDES.split(PREFIXES.sub("", str(error)))[0].strip()
    found = re.search(r"\{.*\}", text, re.DOTALL)
    if found:
        text = message_of(found[0]) or text
    return clip(scrub(" ".join(text.split()), secrets), LONGEST).replace("\n", " ")


def _names(deployment: Deployment) -> dict[str, object]:
    settings = deployment.settings
    keys = " or ".join(f"${name}" for name in deployment.key_envs)
    return {
        "name": deployment.name,
        "model": deployment.model,
        "setting": deployment.setting,
        "key": keys or f"the key of {deployment.name} (key-env in {deployment.setting})",
        "address": deployment.address,
        "timeout": f"{settings.timeout:g}",
        "window": f"now {settings.window:,}" if settings.window else "now unset",
    }
