"""The configuration: one TOML file, its defaults, and the directories that rlm writes to."""

from __future__ import annotations

import math
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs

from rlm_server.errors import ConfigError
from rlm_server.protocol import Limits
from rlm_server.text import without_password

OFFLINE_MODEL = "offline/extractive"
"""The embedded model: always there, needs no key and no network."""


class Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Base of the file's tables: an unknown name in one is an error that names it."""

    def __repr__(self) -> str:
        """Name the fields with what was set, and mask what looks like a secret."""
        fields = ((f.name, getattr(self, f.name), f.default) for f in msgspec.structs.fields(self))
        shown = (f"{n}={_masked_all(n, v)!r}" for n, v, default in fields if v != default)
        return f"{type(self).__name__}({', '.join(shown)})"


Tier = Literal["local", "lan", "cloud"]
"""Where a deployment is: nearer ones are used before farther ones."""


class ModelConfig(Section):
    """``[models.NAME]``: a model, at one address or at several.

    Several servers that serve the same model are listed under one name, each with the settings
    in which it differs from the table::

        [models.qwen]
        model = "hosted_vllm/qwen3"
        slots = 8
        fallbacks = ["mini"]
        deployments = [
            {base-url = "http://127.0.0.1:8000/v1"},
            {base-url = "http://gpu.lan:8000/v1", slots = 32},
            {model = "openrouter/qwen/qwen3"},
        ]

    An entry with another provider than the table's takes over only slots, timeout, retries and
    window: a key, headers, parameters and prices belong to their provider.
    """

    model: str
    """litellm's id, such as ``openai/gpt-4.1-mini`` or ``ollama_chat/qwen3``."""
    base_url: str | None = None
    """Where the server is, if it isn't the provider's own; with ``/v1`` where it has one."""
    key_env: str | None = None
    """Environment variable that holds the key; default: the provider's usual one."""
    key_command: list[str] = []
    """Program and arguments that print the key on their first line, such as
    ``["pass", "show", "openai"]``; run without a shell, at the first call."""
    key_keyring: str | None = None
    """``"service/user"`` of the key in the desktop's keyring; needs the ``keyring`` package."""
    auth_host: str | None = None
    """Host under which Emacs's auth-source has the key; default: the provider's."""
    params: dict[str, Any] = {}
    """Further parameters of each call, such as ``temperature`` or ``num_ctx``."""
    headers: dict[str, str] = {}
    """Further HTTP headers of each call."""
    window: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Context window in tokens; default: what a vLLM server tells, or litellm knows."""
    input_price: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """US dollars for a million prompt tokens; default: what litellm knows."""
    output_price: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """US dollars for a million completion tokens; default: what litellm knows."""
    slots: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Calls in flight at once; default: 32, and for servers such as Ollama's 8, doubled up to four
    times as many while that brings more answers a second."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """Seconds for one call."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 3
    """Further tries after a passing fault."""
    tier: Tier | None = None
    """Default: by the address. Loopback is ``local``, a private address or a name without a dot
    is ``lan``, everything else ``cloud``."""
    transport: Literal["auto", "litellm", "http"] = "auto"
    """What carries the calls: ``http`` talks to an OpenAI-compatible server at ``base-url``
    directly, at a fraction of litellm's work; ``auto`` takes it where it can."""
    deployments: list[dict[str, Any]] = []
    """Where there are several servers: for each, what differs from this table."""
    fallbacks: list[str] = []
    """Names of other models that are asked, in this order, when no deployment can answer."""


class PoolConfig(Section):
    """``[pool]``: how calls are spread over the deployments of a model."""

    spill: Literal["any", "free", "never"] = "any"
    """Which deployments of farther tiers take calls when the nearer ones are all down, or their
    queue is too long: any, only those that cost nothing, or none."""
    spill_after: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    """Seconds of expected wait for a nearer tier beyond which the next one is used."""
    queue: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """Calls to one model that may wait for a slot; further ones are refused."""
    affinity: bool = True
    """Whether prompts that begin alike go to the same server, which then has the beginning in
    its prefix cache."""
    hedge: bool = False
    """Whether a call that takes longer than 95 % of its server's calls is made a second time on
    another server, and the first answer taken. Only where calls cost nothing, and never for
    a reply that is streamed."""
    health_seconds: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    """Between two looks at the health of servers that are in use; 0: never look."""


class SpeculationConfig(Section):
    """``[speculation]``: what is done before it is sure to be needed; no result depends on it."""

    cells: bool = True
    """Whether the first code block of a reply begins to run while the reply goes on; it is undone
    where the reply breaks off. Not under a limit of tokens or cost."""
    loops: bool = True
    """Whether the sub-calls of a loop are made as one batch, where its turns are proved not to
    depend on each other. A loop that fails may have made calls for turns that it did not reach."""


class ContextConfig(Section):
    """``[context]``: what is read."""

    max_bytes: Annotated[int, msgspec.Meta(ge=1)] = 4 << 30
    """All sources together."""
    max_file_bytes: Annotated[int, msgspec.Meta(ge=1)] = 4 << 30
    """One file that was named itself."""
    max_tree_file_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 << 20
    """One file that a tree was found to hold; larger ones are left out, and that is said."""
    cache_bytes: Annotated[int, msgspec.Meta(ge=0)] = 4 << 30
    """Prepared texts over a megabyte that are kept, so that asking again reads nothing again; those
    not used for longest make room. 0: none are kept."""


class SandboxConfig(Section):
    """``[sandbox]``: what the model's code may use."""

    memory: Annotated[int, msgspec.Meta(ge=64 << 20)] = 2 << 30
    """Bytes of private memory of a process; the context itself is mapped and does not count.
    While a cell runs there are two processes that share what they can."""
    scratch: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 << 20
    """Bytes of all files that the code may keep in its own directory."""
    output: Annotated[int, msgspec.Meta(ge=1024)] = 64 << 20
    """Bytes that one cell may print before it is stopped."""
    calls_at_once: Annotated[int, msgspec.Meta(ge=1)] = 128
    """Sub-calls of one run in flight."""
    cpu_seconds: Annotated[int, msgspec.Meta(ge=1)] = 600
    """Processor time of one cell, all its threads together."""
    threads: Annotated[int, msgspec.Meta(ge=8)] = 128
    """Threads and processes of one sandbox; kept in ``full`` isolation by an ordinary user, and
    elsewhere bounded by the memory that threads need."""
    isolation: Literal["auto", "full", "base", "seatbelt", "none"] = "auto"
    """How the code is contained: ``auto`` takes the strongest that passes its self-test and
    refuses to run anything where none does; ``none`` contains nothing."""
    warm: Annotated[int, msgspec.Meta(ge=0, le=16)] = 2
    """Sandboxes that are started before they are needed, at about 5 MB each."""
    resting: Annotated[int, msgspec.Meta(ge=0)] = 4
    """Runs that have ended whose variables are kept for further questions; those not used for
    longest make room. 0: none are kept."""
    rest_seconds: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    """How long they are kept after their last use."""
    rest_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 2 << 30
    """Memory of all of them together, beyond which the number kept is less."""
    packages: list[str] = []
    """What the code may import beside the standard library, as pip would be told, for instance
    ``["numpy"]``; prepared ahead by ``python -m rlm_server.sandbox``."""


class CacheConfig(Section):
    """``[cache]``: answers that are kept, so that what was paid once is not paid again."""

    enabled: bool = True
    """Whether models' answers are kept and used again; false also turns ``semantic`` off."""
    url: str | None = None
    """``redis://HOST:PORT/DB`` of a store shared with others; default: a file of one's own."""
    max_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 512 << 20
    """Size of the answers in the file; those not used for longest make room. A Redis server
    has a bound of its own (``maxmemory``)."""
    ttl: Annotated[int, msgspec.Meta(ge=1)] = 30 * 86_400
    """Seconds that an answer is kept: what a name like ``gpt-4.1`` stands for changes."""
    semantic: bool = False
    """Whether a whole question may be answered by the kept answer of a similar one."""
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.90
    """Cosine similarity from which questions may count as the same; see the manual's table."""
    embedding_model: str | None = None
    """Name of a configured model that compares questions, or litellm's id of one, such as
    ``ollama/all-minilm``."""


class ToolConfig(Section):
    """``[tools.NAME]``: a Python function that the model's code may call as ``NAME``.

    It runs in the server, with all that you may do: anything that the code, and so whoever wrote
    the texts that the model has read, passes to it, it must be safe to be called with.
    """

    python: str
    """``"MODULE:FUNCTION"``, or ``"FILE.py:FUNCTION"`` with a whole path."""
    description: str = ""
    """What the model is told of it, in one line; default: the first line of its docstring."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Seconds for one call."""


class McpConfig(Section):
    """``[mcp.NAME]``: an MCP server whose tools the model's code may call as ``NAME_TOOL``.

    The same holds as for Python functions: it does what it is asked to.
    """

    command: list[str] = []
    """Program and arguments that start it, without a shell; it is spoken to over pipes."""
    env: dict[str, str] = {}
    """Its environment, beside ``PATH``, ``HOME`` and the like: none of the server's keys."""
    url: str | None = None
    """Its address, where it runs already and speaks HTTP."""
    headers: dict[str, str] = {}
    """Further HTTP headers of each request, for instance with a token."""
    tools: list[str] | None = None
    """Names of those of its tools that are offered; default: all."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Seconds for one call."""


class CostsConfig(Section):
    """``[costs]``: what a calendar month may cost; beyond it, calls are refused."""

    monthly_limit: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """US dollars for all projects together; default: no limit."""
    project_limits: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = {}
    """US dollars by the project's name, kept beside the limit for all."""


class ProfileConfig(Section):
    """``[profiles.NAME]``: how models of a family are spoken to.

    What is left out comes from ``base``, else from the built-in profile of that name, else from
    ``default``::

        [profiles.qwen-coder]
        most-calls = 300

        [profiles.mine]
        base = "llama"
        match = ['my-finetune']
        direct-tokens = 20_000
    """

    base: str | None = None
    """Name of the profile that this one differs from."""
    match: list[str] | None = None
    """Regular expressions; the profile is for models in whose litellm id one of them is found,
    in capitals or not. The longest find decides."""
    weight: int | None = None
    """A profile of greater weight is taken before any of less; the built-in ones have 0 or 1."""
    fence: Literal["repl", "python"] | None = None
    """What the model is told to write behind the fence of a code block; both are understood."""
    answer: Literal["dict", "final"] | None = None
    """Whether the model is told to set ``answer`` or to call ``FINAL``; both are understood."""
    sub_characters: Annotated[int, msgspec.Meta(ge=1000)] | None = None
    """Characters that one prompt to this model as sub model may have; what its window takes is
    the most in any case."""
    batch: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Prompts that a batch is said to take."""
    most_calls: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Sub-calls that the code of one reply may make before it is told to make fewer, larger ones;
    default: as many as the limits allow."""
    direct_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """A context of up to so many tokens goes straight to the model, without code; 0: none."""
    history_characters: Annotated[int, msgspec.Meta(ge=10_000)] | None = None
    """Characters of a conversation beyond which its older part is summed up."""
    advice: str | None = None
    """A last paragraph of the system prompt; ``{characters}`` stands for the size of a sub-call."""
    prompt_file: str | None = None
    """A file to be used in place of the built-in system prompt."""


class NotesConfig(Section):
    """``[notes]``: what marked runs have taught, as far as a person has accepted it."""

    enabled: bool = True
    """Whether root models are told the notes for a question's kind."""
    characters: Annotated[int, msgspec.Meta(ge=0, le=20_000)] = 1500
    """Characters of them that a question takes along."""


class Config(Section):
    """The whole file; every field has a default, so an empty file is right."""

    root: str | None = None
    """Name of the root model; default: the best that is found."""
    sub: str | None = None
    """Name of the sub model; default: the root model."""
    depth_models: list[str] = []
    """Names of the models that are the root of child runs, for depth 1, 2, ...; where the list is
    too short, its last one, else the sub model."""
    depth_sub_models: list[str] = []
    """Names of the models that sub-calls of child runs go to, for depth 1, 2, ...; where the list
    is too short, its last one, else the sub model. A question's own sub model takes their place."""
    max_depth: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    """How deep ``rlm_query`` may start child runs; 1, the default, makes it a plain sub-call,
    because weaker models do worse with deeper runs."""
    discover: bool = True
    """Whether to look for keys in the environment and for a local Ollama or vLLM."""
    limits: Limits = msgspec.field(default_factory=Limits)
    models: dict[str, ModelConfig] = {}
    profiles: dict[str, ProfileConfig] = {}
    pool: PoolConfig = msgspec.field(default_factory=PoolConfig)
    speculation: SpeculationConfig = msgspec.field(default_factory=SpeculationConfig)
    context: ContextConfig = msgspec.field(default_factory=ContextConfig)
    sandbox: SandboxConfig = msgspec.field(default_factory=SandboxConfig)
    cache: CacheConfig = msgspec.field(default_factory=CacheConfig)
    costs: CostsConfig = msgspec.field(default_factory=CostsConfig)
    notes: NotesConfig = msgspec.field(default_factory=NotesConfig)
    tools: dict[str, ToolConfig] = {}
    mcp: dict[str, McpConfig] = {}


def config_path() -> Path:
    """Where the configuration is: ``$RLM_CONFIG``, else the platform's place for it."""
    named = os.environ.get("RLM_CONFIG")
    return Path(named) if named else platformdirs.user_config_path("rlm") / "config.toml"


def state_dir(*, make: bool = True) -> Path:
    """Where run logs, costs and token files stand: ``$RLM_STATE``, else the platform's place.

    Made, with mode 0700, where it isn't there.
    """
    return _private(os.environ.get("RLM_STATE"), platformdirs.user_state_path("rlm"), make)


def cache_dir(*, make: bool = True) -> Path:
    """Where prepared contexts and kept answers stand: ``$RLM_CACHE``, else the platform's place.

    Made, with mode 0700, where it isn't there.
    """
    return _private(os.environ.get("RLM_CACHE"), platformdirs.user_cache_path("rlm"), make)


def load_config(path: Path | None = None) -> Config:
    """Read the configuration; a file that isn't there is an empty one.

    Raises ConfigError, with the name of the offending setting, for anything it can't use.
    """
    path = path or config_path()
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}.", cure="Check the file.") from error
    try:
        return msgspec.convert(_camel_limits(tomllib.loads(text)), Config)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path} is not a valid configuration: {error}.",
            cure="Correct it, or move it away to use the defaults.",
        ) from error


def show_config(config: Config) -> str:
    """The configuration as TOML, with what looks like a secret masked."""
    table = msgspec.to_builtins(config)
    if config.cache.url:
        table["cache"]["url"] = without_password(config.cache.url)
    table["limits"] = {_kebab(name): value for name, value in table["limits"].items()}
    for model in table["models"].values():
        for settings in (model, *model["deployments"]):
            settings.update({name: _masked_all(name, each) for name, each in settings.items()})
    for server in table["mcp"].values():
        server.update({name: _masked_all(name, each) for name, each in server.items()})
    return msgspec.toml.encode(_without_null(table)).decode()


def _camel_limits(table: dict[str, Any]) -> dict[str, Any]:
    """Let ``[limits]`` be written in kebab-case like the rest; on the wire it is camelCase."""
    limits = table.get("limits")
    if isinstance(limits, dict):
        table["limits"] = {_camel(name): value for name, value in limits.items()}
        for name, value in limits.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise msgspec.ValidationError(f"limits.{name} must be a finite number")
    return table


def _camel(name: str) -> str:
    first, *others = name.split("-")
    return first + "".join(word.capitalize() for word in others)


def _kebab(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)


_SECRETS = ("key", "token", "secret", "auth", "password", "cookie", "credential")


def _masked(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {inner: _masked(inner, each) for inner, each in value.items()}
    secret = any(word in name.lower() for word in _SECRETS) and not name.startswith("max_")
    return "********" if secret else value


def _masked_all(name: str, value: object) -> object:
    """A setting as a repr shows it: no headers' or parameters' secrets, no password in a URL."""
    if name in ("headers", "env") and isinstance(value, dict):
        return dict.fromkeys(value, "********")
    if name == "params" and isinstance(value, dict):
        return _masked(name, value)
    if name == "deployments" and isinstance(value, list):
        return [{key: _masked_all(key, each) for key, each in one.items()} for one in value]
    if isinstance(value, str):
        return without_password(value)
    return value


def _without_null(value: object) -> object:
    """TOML has no null: what isn't set is left out."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return value


def _private(override: str | None, default: Path, make: bool) -> Path:
    path = Path(override) if override else default
    if make:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path} can't be made: {error.strerror}.",
                cure="Set RLM_STATE and RLM_CACHE to directories that can be written.",
            ) from error
    return path
