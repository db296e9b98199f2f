"""Figures as people read them, the same in every exported form."""

from __future__ import annotations

from datetime import UTC, datetime

from rlm_server.protocol import Provenance, Quote, Usage


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


def share(part: int, whole: int) -> str:
    """A part as a percentage, which never says nothing or all where that is not so."""
    percent = 100 * part / whole if whole else 0.0
    if not part or percent < 0.1:
        return "less than 0.1 %" if part else "nothing"
    if percent < 10:
        return f"{percent:.1f} %".replace(".0 %", " %")
    return "over 99 %" if part < whole and percent > 99 else f"{percent:.0f} %"


def drawn(told: Provenance) -> str:
    """What an answer is drawn from, in a sentence; empty where a kept one was taken."""
    if told.read is None or not told.characters:
        return ""
    return (
        f"This answer is drawn from {share(told.read, told.characters)} of the context: models "
        f"have read {told.read:,} of {told.characters:,} characters, in "
        f"{count(told.documents, 'document')}; code has looked through "
        f"{share(told.looked_through, told.characters)}."
    )


def doubt(quote: Quote) -> str:
    """What is wrong with something that an answer quotes or names; empty where nothing is."""
    match quote.status:
        case "missing":
            return "there is no such place" if quote.kind == "place" else "not in the context"
        case "like":
            return f"not in the context, but something like it is in {quote.path}:{quote.line}"
        case "unchecked":
            return "not found where models have read; the rest was not looked through"
    return ""


def moment(time: float) -> str:
    """A point in time, in UTC, so that a page says the same everywhere."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
