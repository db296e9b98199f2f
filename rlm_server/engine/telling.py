"""Telling the answer of a run: in pieces, with its evidence, and as a value where it is typed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from rlm_server.context.corpus import Corpus
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.evidence import find_evidence
from rlm_server.engine.typed import AnswerType, as_json
from rlm_server.protocol import MAX_EVENT_TEXT, Answer, Evidence, Provenance
from rlm_server.text import clean_all, pieces

logger = logging.getLogger(__name__)


Examine = Callable[[str, list[Evidence]], dict[str, Any]]
"""Gives the fields of ``Provenance`` for an answer and its evidence; blocks."""


async def tell_answer(
    emitter: Emitter,
    text: str,
    *,
    partial: bool,
    corpus: Corpus | None,
    answer_type: AnswerType | None = None,
    examine: Examine | None = None,
) -> None:
    """Emit the answer of a run. One that fits its type is told as JSON, any other as it is.

    Before it comes what ``examine`` says that it is drawn from, if there is a corpus.
    """
    value, wrong = answer_type.read(text or None) if answer_type else (None, ["not typed"])
    if not wrong:
        value = clean_all(value)
        text = as_json(value)
    evidence = await _find_evidence(text, corpus)
    if corpus is not None and examine is not None:
        await _tell_provenance(emitter, text, evidence, examine)
    *early, last = pieces(text, MAX_EVENT_TEXT)
    for piece in early:
        emitter.emit(Answer, text=piece, partial=partial, evidence=[], more=True, typed=not wrong)
    emitter.emit(
        Answer,
        text=last,
        partial=partial,
        evidence=evidence,
        typed=not wrong,
        value=value if not (early or wrong) and _portable(value) else msgspec.UNSET,
    )


def _portable(value: Any) -> bool:
    """Whether every reader can take a value: integers beyond 64 bits are too much for some."""
    if isinstance(value, dict):
        return all(map(_portable, value.values()))
    if isinstance(value, list):
        return all(map(_portable, value))
    return not isinstance(value, int) or -(2**63) <= value < 2**63


async def _find_evidence(text: str, corpus: Corpus | None) -> list[Evidence]:
    if corpus is None:
        return []
    try:
        return await asyncio.to_thread(find_evidence, text, corpus)
    except Exception:
        logger.exception("the evidence of an answer can't be found")
        return []


async def _tell_provenance(
    emitter: Emitter, text: str, evidence: list[Evidence], examine: Examine
) -> None:
    try:
        emitter.emit(Provenance, **await asyncio.to_thread(examine, text, evidence))
    except Exception:
        logger.exception("an answer can't be examined")
