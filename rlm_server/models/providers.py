"""What is known of each provider: its key's variable, its host, and a model to begin with."""

from __future__ import annotations

import msgspec


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One of litellm's providers."""

    key_envs: tuple[str, ...] = ()
    """Environment variables that usually hold its key, the first found counts."""
    host: str = ""
    """Where its service is, and the name under which auth-source usually has its key."""
    default: str | None = None
    """litellm id of the model that is offered once a key is found."""
    local: bool = False
    """A server of one's own: needs no key and costs nothing."""


PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        key_envs=("OPENAI_API_KEY",), host="api.openai.com", default="openai/gpt-5.4-mini"
    ),
    "anthropic": Provider(
        key_envs=("ANTHROPIC_API_KEY",),
        host="api.anthropic.com",
        default="anthropic/claude-sonnet-5-5",
    ),
    "gemini": Provider(
        key_envs=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        host="generativelanguage.googleapis.com",
        default="gemini/gemini-3.8-flash",
    ),
    "openrouter": Provider(
        key_envs=("OPENROUTER_API_KEY",),
        host="openrouter.ai",
        default="openrouter/openai/gpt-5.4-mini",
    ),
    "deepseek": Provider(
        key_envs=("DEEPSEEK_API_KEY",),
        host="api.deepseek.com",
        default="deepseek/deepseek-v4-flash",
    ),
    "groq": Provider(key_envs=("GROQ_API_KEY",), host="api.groq.com"),
    "mistral": Provider(key_envs=("MISTRAL_API_KEY",), host="api.mistral.ai"),
    "xai": Provider(key_envs=("XAI_API_KEY",), host="api.x.ai"),
    "cohere_chat": Provider(key_envs=("COHERE_API_KEY",), host="api.cohere.com"),
    "together_ai": Provider(key_envs=("TOGETHERAI_API_KEY",), host="api.together.xyz"),
    "fireworks_ai": Provider(key_envs=("FIREWORKS_API_KEY",), host="api.fireworks.ai"),
    "cerebras": Provider(key_envs=("CEREBRAS_API_KEY",), host="api.cerebras.ai"),
    "perplexity": Provider(key_envs=("PERPLEXITYAI_API_KEY",), host="api.perplexity.ai"),
    "litellm_proxy": Provider(key_envs=("LITELLM_PROXY_API_KEY",)),
    "ollama_chat": Provider(local=True),
    "ollama": Provider(local=True),
    "hosted_vllm": Provider(local=True),
    "lm_studio": Provider(local=True),
    "llamafile": Provider(local=True),
    "offline": Provider(local=True),
}
"""Providers by litellm's prefix. Others work too, once configured under ``[models.NAME]``."""


def provider_of(model: str) -> str:
    """The prefix of a litellm id; ``openai`` where it has none, as in litellm."""
    prefix, slash, _ = model.partition("/")
    return prefix if slash else "openai"
