"""Speech: how a run speaks to its root models, by their profiles and what their sub models take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from rlm_server.config import ProfileConfig
from rlm_server.context.corpus import Corpus
from rlm_server.context.part import Part
from rlm_server.engine.history import CHARACTERS_A_TOKEN, SHARE, History
from rlm_server.engine.profile import Profile, Profiles
from rlm_server.engine.prompt import opening, prompt_file
from rlm_server.errors import ConfigError
from rlm_server.models import Models


class Speech:
    """The beginnings of conversations in one run."""

    def __init__(
        self,
        configured: Mapping[str, ProfileConfig],
        models: Models,
        subs: Sequence[str],
        named: str | None,
    ) -> None:
        """``subs`` are the sub models by depth; ``named`` is the question's own profile, if any.

        Raises ConfigError for profiles that can't be used.
        """
        self.beside = ""
        """What is told beside the question, after all that is the same for many runs."""
        self._profiles = Profiles(configured)
        self._models = models
        self._subs = subs
        self._named = self._profiles.named(named) if named else None

    def profile(self, model: str, depth: int = 0) -> Profile:
        """That of a root model; the question's own holds for the run itself, not for children."""
        if self._named and depth == 0:
            return self._named
        return self._profiles.choose(self._models.model_id(model))

    def system(self, model: str, depth: int = 0) -> str:
        """The system prompt: the same for all runs of these models, so that providers cache it.

        Raises ConfigError where the profile's own file can't be read.
        """
        profile = self.profile(model, depth)
        text = _own_file(profile.prompt_file) if profile.prompt_file else prompt_file("root")
        return _assembled(text, profile, self.sub_characters(depth))

    def begin(
        self, model: str, question: str, context: Corpus | Part, *, depth: int = 0, task: str = ""
    ) -> History:
        """The conversation with a root model, as it begins."""
        told = "\n\n".join(filter(None, (self.beside, task)))
        messages = opening(self.system(model, depth), question, context, told)
        room = self.profile(model, depth).history_characters
        return History(messages, self._models.window(model), room)

    def sub_characters(self, depth: int = 0) -> int:
        """What one prompt of a sub-call may have: by the sub model's profile and its window."""
        sub = self._subs[min(depth, len(self._subs) - 1)]
        size = self._profiles.choose(self._models.model_id(sub)).sub_characters
        if window := self._models.window(sub):
            size = min(size, int(window * CHARACTERS_A_TOKEN * SHARE))
        return max(1000, _rounded(size))


def _rounded(size: int) -> int:
    """Two digits that mean something, so that the prompt is the same for like windows."""
    unit = 10 ** max(0, len(str(size)) - 2)
    return int(size // unit * unit)


@lru_cache(maxsize=64)
def _assembled(text: str, profile: Profile, characters: int) -> str:
    values = {
        "{fence}": profile.fence,
        "{answer}": prompt_file(f"answer-{profile.answer}").strip(),
        "{batch}": f"{profile.batch:,}",
        "{advice}": profile.advice.strip(),
        "{characters}": f"{characters:,}",
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text.strip() + "\n"


def _own_file(name: str) -> str:
    try:
        return Path(name).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The prompt {name} can't be read: {error}.", cure="Correct prompt-file."
        ) from error
