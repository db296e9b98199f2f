"""Deployments: a model at an address, from the configuration, a key, or a running server."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from rlm_server.config import OFFLINE_MODEL, Config, ModelConfig, Tier
from rlm_server.errors import ConfigError
from rlm_server.models.providers import PROVIDERS, Provider, provider_of
from rlm_server.models.slots import MODEST, WIDE, Range
from rlm_server.text import without_password

RESERVED = frozenset(
    {
        "api_base",
        "api_key",
        "base_url",
        "drop_params",
        "extra_headers",
        "max_retries",
        "max_tokens",
        "messages",
        "model",
        "n",
        "num_retries",
        "stream",
        "stream_options",
        "timeout",
        "tools",
    }
)
"""Call parameters that are rlm's own business and that ``params`` may not set."""

OLLAMA_WINDOW = 16_384
"""Tokens. Ollama cuts prompts silently at its own default of 4,096 on most machines, so a window
is always asked for; what a model can't hold of it, Ollama lowers by itself."""

ONE_PERSONS = frozenset({"ollama", "ollama_chat", "lm_studio", "llamafile"})
"""Providers whose servers answer few calls at once, and let others wait."""

Origin = Literal["embedded", "config", "environment", "local"]


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One model that can be called; the key is kept elsewhere."""

    name: str
    """Of several that serve one model, ``NAME#1`` and so on."""
    settings: ModelConfig
    source: Origin
    model_name: str = ""
    """The name that a run knows the model by, where it isn't the deployment's own."""

    @property
    def model(self) -> str:
        """The id that litellm knows it by."""
        return self.settings.model

    @property
    def provider(self) -> str:
        """The provider, by litellm's name."""
        return provider_of(self.model)

    @property
    def about(self) -> Provider:
        """What is known of the provider; nothing where it is not in our table."""
        return PROVIDERS.get(self.provider, Provider())

    @property
    def params(self) -> dict[str, Any]:
        """Further parameters of each call."""
        if self.provider != "ollama_chat":
            return self.settings.params
        return {"num_ctx": self.settings.window or OLLAMA_WINDOW} | self.settings.params

    @property
    def usual_slots(self) -> Range:
        """Calls at once where nothing is configured."""
        own = self.provider in ONE_PERSONS or (
            self.provider == "openai" and is_loopback(self.settings.base_url)
        )
        return MODEST if own else WIDE

    @property
    def window(self) -> int | None:
        """The context window in tokens, where the configuration or the server tells it."""
        return self.settings.window or self.params.get("num_ctx")

    @property
    def free(self) -> bool:
        """Whether calls cost nothing: the embedded model, and servers of one's own."""
        own = self.about.local or is_loopback(self.settings.base_url)
        priced = self.settings.input_price or self.settings.output_price
        return own and not priced

    @property
    def needs_key(self) -> bool:
        """Whether a call without a key is sure to be refused, or a key was spoken of."""
        if self.settings.key_env or self.settings.auth_host:
            return True
        return not self.about.local and not is_loopback(self.settings.base_url)

    @property
    def key_stored(self) -> bool:
        """Whether a command or a keyring has the key; it is got when it is first needed."""
        return bool(self.settings.key_command or self.settings.key_keyring)

    @property
    def key_envs(self) -> tuple[str, ...]:
        """Environment variables to look for the key in.

        A provider's usual variable is not tried for an address where the key would cross the
        network in the clear; name it as ``key-env`` if that is what you want.
        """
        if self.settings.key_env:
            return (self.settings.key_env,)
        url = self.settings.base_url
        if url and urlsplit(url).scheme != "https" and not is_loopback(url):
            return ()
        return self.about.key_envs

    @property
    def tier(self) -> Tier:
        """How near it is: as configured, else by its address."""
        if self.settings.tier:
            return self.settings.tier
        url = self.settings.base_url
        if url is None:
            return "local" if self.about.local else "cloud"
        return "local" if is_loopback(url) else "lan" if is_private(url) else "cloud"

    @property
    def address(self) -> str:
        """Where it is, for people: without a password or a key that the URL may hold."""
        return without_password(self.settings.base_url or "") or self.about.host or self.provider

    @property
    def auth_host(self) -> str:
        """The name under which auth-source would have the key; empty where unknown."""
        url = self.settings.base_url
        return self.settings.auth_host or (url and urlsplit(url).hostname) or self.about.host

    @property
    def setting(self) -> str:
        """The configuration's table, for messages that say what to change."""
        name = self.model_name or self.name
        bare = name.replace("-", "").replace("_", "").isalnum()
        table = f"[models.{name}]" if bare else f'[models."{name}"]'
        number = self.name.removeprefix(f"{name}#")
        return f"deployment {number} of {table}" if self.model_name else table

    def key_in(self, environ: Mapping[str, str]) -> str | None:
        """The key that the environment has for it."""
        found = (environ.get(variable, "").strip() for variable in self.key_envs)
        return next(filter(None, found), None)


EMBEDDED = Deployment(
    name=OFFLINE_MODEL, settings=ModelConfig(model=OFFLINE_MODEL), source="embedded"
)
"""The model that is always there."""


def configured(config: Config) -> dict[str, list[Deployment]]:
    """The models of the configuration, each with the deployments that serve it.

    Raises ConfigError for one that can't be used.
    """
    models = {}
    for name, settings in config.models.items():
        for fallback in settings.fallbacks:
            if fallback == name or not (fallback in config.models or ad_hoc(fallback)):
                raise ConfigError(
                    f"[models.{name}] falls back to {fallback!r}, which is no other model.",
                    cure="Name another [models.NAME], or PROVIDER/MODEL.",
                )
        models[name] = _members(Deployment(name=name, settings=settings, source="config"))
        for deployment in models[name]:
            _check(deployment)
    return models


def as_model(deployment: Deployment) -> Deployment:
    """A deployment of several, under the name of the model that they serve."""
    if not deployment.model_name:
        return deployment
    return msgspec.structs.replace(deployment, name=deployment.model_name, model_name="")


def _members(model: Deployment) -> list[Deployment]:
    """The deployments that serve a model: itself, or those listed in its table."""
    entries = model.settings.deployments
    if not entries:
        return [model]
    return [
        Deployment(
            name=f"{model.name}#{number}",
            settings=_merged(model, entry, number),
            source=model.source,
            model_name=model.name,
        )
        for number, entry in enumerate(entries, 1)
    ]


KEPT_ACROSS_PROVIDERS = ("slots", "timeout", "retries", "window", "fallbacks")


def _merged(model: Deployment, entry: Mapping[str, Any], number: int) -> ModelConfig:
    """An entry of ``deployments``, with the table's settings where it has none of its own."""
    table = msgspec.to_builtins(model.settings)
    if provider_of(str(entry.get("model", model.model))) != model.provider:
        # A key, its headers, parameters and prices must not go to somebody else's server.
        table = {name: table[name] for name in KEPT_ACROSS_PROVIDERS}
    merged = {**table, **entry, "deployments": []}
    try:
        if entry.keys() & {"deployments", "fallbacks"}:
            raise msgspec.ValidationError("deployments and fallbacks belong to the table")
        return msgspec.convert(merged, ModelConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"Deployment {number} of {model.setting} can't be used: {error}.",
            cure="It takes the settings of a model's table.",
        ) from error


def _check(deployment: Deployment) -> None:
    if deployment.settings.transport == "http" and not deployment.settings.base_url:
        raise ConfigError(
            f'{deployment.setting} has transport = "http" and no base-url.',
            cure="Set base-url to an OpenAI-compatible server, or leave transport out.",
        )
    service, _, user = (deployment.settings.key_keyring or "s/u").rpartition("/")
    if not (service and user):
        raise ConfigError(
            f"{deployment.setting} has key-keyring = {deployment.settings.key_keyring!r}.",
            cure='Write it as "SERVICE/USER".',
        )
    if taken := sorted(RESERVED & deployment.settings.params.keys()):
        raise ConfigError(
            f"{deployment.setting} params can't set {', '.join(taken)}.",
            cure="Use the table's own settings, such as base-url, key-env or headers.",
        )


def offered() -> list[Deployment]:
    """A default deployment of each provider that has one, in order of preference."""
    models = [about.default for about in PROVIDERS.values() if about.default]
    return [
        Deployment(name=model, settings=ModelConfig(model=model), source="environment")
        for model in models
    ]


def ad_hoc(model: str) -> Deployment | None:
    """A deployment for a bare litellm id; None where its provider is not in our table."""
    prefix, slash, rest = model.partition("/")
    if not slash or not rest or prefix not in PROVIDERS or prefix == "offline":
        return None
    local = PROVIDERS[prefix].local
    chat = f"ollama_chat/{rest}" if prefix == "ollama" else model
    return Deployment(
        name=model, settings=ModelConfig(model=chat), source="local" if local else "environment"
    )


@lru_cache(256)
def is_loopback(url: str | None) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname if url else None
    if not host:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(256)
def is_private(url: str) -> bool:
    """Whether an address is in a private network; names are not looked up."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa"))
