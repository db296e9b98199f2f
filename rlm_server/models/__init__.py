"""Model calls: which models there are, what they cost, and asking them."""

from rlm_server.models.account import Account
from rlm_server.models.calls import Completion, Listener, Message, Part, most_tokens
from rlm_server.models.fate import Fate, add
from rlm_server.models.pool import Priority
from rlm_server.models.registry import Models
from rlm_server.models.thoughts import without_thoughts

__all__ = [
    "Account",
    "Completion",
    "Fate",
    "Listener",
    "Message",
    "Models",
    "Part",
    "Priority",
    "add",
    "most_tokens",
    "without_thoughts",
]
