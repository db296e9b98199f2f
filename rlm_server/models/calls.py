"""What a call to a model is: the messages, what comes back, and who may carry it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol, TypedDict

import msgspec

from rlm_server.models.deployments import Deployment
from rlm_server.models.secret import Secret
from rlm_server.protocol import Usage

Part = Literal["text", "reasoning"]
"""What a streamed piece belongs to: the reply itself, or the model's thinking before it."""

CHARACTERS_PER_TOKEN = 4
"""Where a provider doesn't count, this is how tokens are estimated."""


DENSEST = 3
"""Characters of a token of ASCII text at least."""


class Message(TypedDict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Completion(msgspec.Struct, kw_only=True):
    """A model's whole reply."""

    text: str
    usage: Usage
    model: str
    """Name of the deployment that answered."""
    deployment: Deployment | None = None
    """Which of the model's deployments it was; None where none was asked."""
    seconds: float
    """From the call to the last character, waiting and retries included."""
    cached: bool = False
    hedged: bool = False
    """Whether a second server was asked too, since the first was slow."""


class Listener(Protocol):
    """Who follows a streamed call."""

    def delta(self, part: Part, text: str) -> None:
        """More of the reply has come."""

    def restarted(self, reason: str) -> None:
        """The reply broke off and is asked for again: what was streamed so far is void."""

    def notice(self, text: str) -> None:
        """Something a person should know, such as a wait before another try."""


class Request(msgspec.Struct, kw_only=True):
    """One try at one call, as a transport gets it."""

    deployment: Deployment
    key: Secret | None
    messages: Sequence[Message]
    delta: Callable[[Part, str], None] | None
    """Where given, the reply is streamed into it."""
    max_tokens: int | None = None


class Reply(msgspec.Struct, kw_only=True):
    """What a transport brings back; tokens are None where the provider didn't count them."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    """Prompt tokens that were in the provider's prefix cache."""
    written_tokens: int = 0
    """Prompt tokens that were put into it, where the provider charges for that."""
    cost: float | None = None
    """US dollars, where the provider reported them itself."""


class Vector(msgspec.Struct, kw_only=True):
    """What a transport brings back for a text that is to be compared with others."""

    numbers: list[float]
    prompt_tokens: int | None = None
    """None where the provider didn't count them."""


class Embedding(msgspec.Struct, kw_only=True):
    """The vector of a text: near those of texts that mean nearly the same."""

    numbers: list[float]
    usage: Usage


class Transport(Protocol):
    """Carries a request to a model; one try, no retries."""

    async def send(self, request: Request) -> Reply:
        """Ask once. Raises only ModelError; when cancelled, the connection is closed."""

    async def embed(self, request: Request) -> Vector:
        """Get the vector of the request's one message. Raises and is cancelled as ``send``."""

    async def close(self) -> None:
        """Close what is kept open between calls."""


def estimated_tokens(characters: int) -> int:
    """Tokens of a text of so many characters; at least one where there is any."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def most_tokens(texts: Iterable[str]) -> int:
    """Tokens of texts, where it is better to expect too many than too few.

    Three characters are one. Of others than ASCII a tokenizer may make as many tokens as they have
    bytes beyond the first; Chinese takes up to 1.5 a character, an emoji 2 to 3.
    """
    weight = 0
    for text in texts:
        more = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - len(text)
        weight += len(text) + 2 * more
    return weight // DENSEST + 1
