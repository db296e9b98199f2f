"""Which models there are, in the order of preference, and the key of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from rlm_server.config import Config
from rlm_server.errors import NoKeyError, UnknownModelError
from rlm_server.models.deployments import (
    EMBEDDED,
    Deployment,
    ad_hoc,
    as_model,
    configured,
    offered,
)
from rlm_server.models.key_sources import KeySources
from rlm_server.models.prices import window_of
from rlm_server.models.secret import Secret
from rlm_server.protocol import KeyWanted, Role

KeyState = Literal["none needed", "present", "missing"]


class Catalogue:
    """All deployments: configured, by a key, on this machine, embedded, and named ad hoc."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        """Raises ConfigError for a model that can't be used as it is configured."""
        self._root = config.root
        self._sub = config.sub
        self._embedding = config.cache.embedding_model
        self._environ = environ
        self._members = configured(config)
        self._configured = {name: as_model(several[0]) for name, several in self._members.items()}
        self._offered = offered() if config.discover else []
        self._local: Sequence[Deployment] = ()
        self._windows: Mapping[str, int] = {}
        self._ad_hoc: dict[str, Deployment] = {}
        self._keys: dict[str, Secret] = {}
        self._sources = KeySources()

    def add_local(self, deployments: Sequence[Deployment]) -> None:
        """Take in the models that servers on this machine were found to have."""
        self._local = deployments

    def learn_windows(self, windows: Mapping[str, int]) -> None:
        """Take in the context windows that servers tell, in tokens, by deployment."""
        self._windows = windows

    def window(self, name: str) -> int | None:
        """The context window in tokens, of the least of a model's deployments; None: unknown."""
        known = (self._windows.get(each.name) or window_of(each) for each in self.able(name))
        return min(filter(None, known), default=None)

    def there(self) -> list[Deployment]:
        """Those that can be named, the preferred ones first."""
        keyed = [deployment for deployment in self._offered if self.key(deployment)]
        embedding = [d for d in self._ad_hoc.values() if d.name == self._embedding]
        there: dict[str, Deployment] = {}
        for deployment in (
            *self._configured.values(),
            *keyed,
            *self._local,
            EMBEDDED,
            *embedding,
        ):
            there.setdefault(deployment.name, deployment)
        return list(there.values())

    def find(self, name: str) -> Deployment:
        """The deployment of this name, or one made for a litellm id; else UnknownModelError."""
        if known := self._known(name):
            return known
        deployment = ad_hoc(name)
        if deployment is None:
            names = ", ".join(d.name for d in self.there())
            raise UnknownModelError(
                f"No model is called {name!r}. There are: {names}.",
                cure="Choose one of them, write PROVIDER/MODEL, or add it to the configuration "
                f'as [models."{name}"].',
            )
        self._ad_hoc[name] = deployment
        return deployment

    def _known(self, name: str) -> Deployment | None:
        """What has this name, the preferred one first; asked several times in each call."""
        if name in self._configured:
            return self._configured[name]
        offered = next((d for d in self._offered if d.name == name), None)
        if offered and self.key(offered):
            return offered
        here = next((d for d in (*self._local, EMBEDDED) if d.name == name), None)
        return here or offered or self._ad_hoc.get(name)

    @property
    def configured(self) -> Sequence[Deployment]:
        """All deployments of the configuration."""
        return [member for several in self._members.values() for member in several]

    def members_of(self, name: str) -> Sequence[Deployment]:
        """The deployments that serve the model of this name. Raises UnknownModelError."""
        return self._serving(self.find(name))

    def able(self, name: str) -> Sequence[Deployment]:
        """Those that serve a model and have their key; all of them where none has."""
        members = self.members_of(name)
        return [each for each in members if self._key_state(each) != "missing"] or members

    @property
    def root(self) -> str:
        """Name of the default root model: configured, else the best that there is."""
        if self._root:
            return self._root
        chat = [d for d in self.there() if d.name != self._embedding]
        ready = [d.name for d in chat if self.key_state(d) != "missing"]
        configured = [d.name for d in chat if d.name in self._configured]
        named = [name for name in configured if name in ready] or configured
        return (named or ready)[0]

    @property
    def sub(self) -> str:
        """Name of the default sub model."""
        return self._sub or self.root

    @property
    def embedding(self) -> str | None:
        """Name of the model that compares questions, where the configuration names one."""
        return self._embedding

    def roles(self, name: str) -> list[Role]:
        """What a model is used for unless a question says otherwise."""
        used: dict[Role, str | None] = {
            "root": self.root,
            "sub": self.sub,
            "embedding": self.embedding,
        }
        return [role for role, whose in used.items() if whose == name]

    # ------------------------------------------------------------------------------------ keys

    def key(self, deployment: Deployment) -> Secret | None:
        """Its key: handed over by a client, else from its command or keyring, else by environment.

        What a command or a keyring has is not there before ``fetch_key``.
        """
        if deployment.name in self._keys:
            return self._keys[deployment.name]
        if deployment.key_stored:
            return self._sources.found(deployment)
        found = deployment.key_in(self._environ)
        return Secret(found) if found else None

    async def fetch_key(self, deployment: Deployment) -> Secret | None:
        """Its key, got from where it is stored if need be. Raises NoKeyError where that fails."""
        key = self.key(deployment)
        if key is None and deployment.key_stored:
            return await self._sources.get(deployment)
        return key

    async def fetch_newer_key(
        self, deployment: Deployment, refused: Secret | None
    ) -> Secret | None:
        """Its key where a command or a keyring has another one than was refused, else None."""
        if deployment.name in self._keys or not deployment.key_stored or refused is None:
            return None
        try:
            found = await self._sources.get_newer(deployment, refused)
        except NoKeyError:
            return None  # that the old one was refused tells more
        return None if found == refused else found

    def key_state(self, deployment: Deployment) -> KeyState:
        """Whether it has the key that it needs; for several, whether one of them has."""
        states = {self._key_state(member) for member in self._serving(deployment)}
        return next(state for state in get_args(KeyState) if state in states)

    def _serving(self, model: Deployment) -> Sequence[Deployment]:
        return self._members.get(model.name) or [model]

    def _key_state(self, deployment: Deployment) -> KeyState:
        if deployment.key_stored or self.key(deployment):
            return "present"
        return "missing" if deployment.needs_key else "none needed"

    def check_key(self, deployment: Deployment) -> None:
        """Raise NoKeyError where a key is needed and missing."""
        if self.key_state(deployment) != "missing":
            return
        places = [f"${variable}" for variable in deployment.key_envs]
        places = places or [f"a variable that key-env in {deployment.setting} names"]
        if deployment.auth_host:
            places.append(f"auth-source under {deployment.auth_host}")
        raise NoKeyError(
            f"{deployment.name} needs a key, and none was found.",
            cure=f"Put it in {' or '.join(places)}, and restart the server.",
        )

    def keys_wanted(self) -> list[KeyWanted]:
        """The models whose key a client may have.

        Where nothing is configured and no key was found, these are the defaults of the
        providers, so that a key in auth-source is enough to begin.
        """
        candidates = self.configured
        if not candidates and not any(self.key(d) for d in self._offered):
            candidates = self._offered
        return [
            KeyWanted(name=d.name, host=d.auth_host)
            for d in candidates
            if d.auth_host and self.key_state(d) == "missing"
        ]

    def add_keys(self, keys: Mapping[str, str]) -> list[str]:
        """Keep keys, by the name of the model; returns the names that now have one."""
        configured = (member.name for member in self.configured)
        known = {*configured, *self._ad_hoc, *(d.name for d in self._offered)}
        accepted = [name for name, key in keys.items() if name in known and key.strip()]
        for name in accepted:
            self._keys[name] = Secret(keys[name].strip())
        return accepted
