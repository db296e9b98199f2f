"""Profiles: how the models of a family are spoken to; data files, chosen by the model's name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from rlm_server.config import ProfileConfig
from rlm_server.errors import ConfigError

DEFAULT = "default"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One profile, complete; the fields are those of ``ProfileConfig``."""

    name: str
    fence: Literal["repl", "python"]
    answer: Literal["dict", "final"]
    sub_characters: int
    batch: int
    direct_tokens: int
    history_characters: int
    most_calls: int | None = None
    advice: str = ""
    prompt_file: str | None = None


class Profiles:
    """The built-in profiles, with those of the configuration in their place."""

    def __init__(self, configured: Mapping[str, ProfileConfig]) -> None:
        """Raises ConfigError for one that can't be used."""
        self._known = {
            **built_in(),
            **{name: _over(built_in().get(name), own) for name, own in configured.items()},
        }
        self._patterns = [
            (name, re.compile(pattern, re.IGNORECASE))
            for name, profile in self._known.items()
            for pattern in profile.match or []
            if _valid(name, pattern)
        ]
        for name in configured:
            self.named(name)

    def named(self, name: str) -> Profile:
        """The profile of this name. Raises ConfigError where there is none."""
        chain: list[str] = []
        merged = ProfileConfig()
        following: str | None = name
        while following is not None:
            if following not in self._known or following in chain:
                known = ", ".join(sorted(self._known))
                problem = "leads back to itself" if following in chain else "is unknown"
                raise ConfigError(
                    f"The profile {following[:80]!r} {problem}.", cure=f"There are {known}."
                )
            chain.append(following)
            own = self._known[following]
            merged = _over(own, merged)
            following = own.base or (DEFAULT if following != DEFAULT else None)
        return msgspec.convert({**_set(merged), "name": name}, Profile)

    def choose(self, model: str) -> Profile:
        """The profile for a model by its litellm id: the heaviest, then the longest find."""
        found = [
            (self._known[name].weight or 0, match.end() - match.start(), name)
            for name, pattern in self._patterns
            if (match := pattern.search(model))
        ]
        return self.named(max(found)[2] if found else DEFAULT)


@cache
def built_in() -> dict[str, ProfileConfig]:
    """The profiles that come with the program, by name."""
    directory = resources.files("rlm_server.engine").joinpath("profiles")
    return {
        Path(file.name).stem: msgspec.convert(tomllib.loads(file.read_text("utf-8")), ProfileConfig)
        for file in directory.iterdir()
        if file.name.endswith(".toml")
    }


def _set(profile: ProfileConfig) -> dict[str, object]:
    fields = msgspec.structs.asdict(profile).items()
    return {name: value for name, value in fields if value is not None}


def _over(base: ProfileConfig | None, own: ProfileConfig) -> ProfileConfig:
    """``own``, with what it leaves out taken from ``base``."""
    return msgspec.structs.replace(base, **_set(own)) if base else own


def _valid(name: str, pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"profiles.{name}.match: {pattern!r} is no regular expression: {error}.",
            cure="Correct it in the configuration.",
        ) from error
    return True
