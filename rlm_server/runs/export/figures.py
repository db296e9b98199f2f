"""Figures as people read them, the same in every exported form."""

from __future__ import annotations

from datetime import UTC, datetime

from rlm_server.protocol import Usage


def cost(dollars: float | None) -> str:
    """US dollars; None is unknown, never free."""
    if dollars is None:
        return "unknown cost"
    if dollars == 0:
        return "no cost"
    return f"${dollars:.5f}" if dollars < 0.01 else f"${dollars:,.2f}"


def seconds(time: float) -> str:
    """A duration."""
    if time < 60:
        return f"{time:.2f} s" if time < 10 else f"{time:.0f} s"
    return f"{int(time) // 60}:{int(time) % 60:02} min"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def used(usage: Usage) -> str:
    """Tokens and cost."""
    tokens = usage.prompt_tokens + usage.completion_tokens
    return f"{count(tokens, 'token')}, {cost(usage.cost)}"


def moment(time: float) -> str:
    """A point in time, in UTC, so that a page says the same everywhere."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
