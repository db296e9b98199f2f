"""What part of the context a child run is given."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rlm_server.sandbox.channel import Channel
from rlm_server.sandbox.chunks import chunk_lines
from rlm_server.sandbox.delegating import Delegating
from rlm_server.sandbox.reading import Reading
from vocabulary_support import context

CONTEXT = context({"a": "one\ntwo\n", "b": "three\nfour\n"})


def part(given: Any) -> Any:
    delegating = Delegating(cast("Channel", None), CONTEXT, cast("Reading", None))
    call = delegating._call("why?", given, None)
    return CONTEXT[slice(*call["span"])] if call.get("span") else call["text"]


def test_pieces_of_the_context_go_by_their_place() -> None:
    assert part(CONTEXT.documents["b"]) == "three\nfour\n"
    assert part(chunk_lines(CONTEXT, 1)[3]) == "four\n"
    assert part(list(chunk_lines(CONTEXT, 1)[2:4])) == "three\nfour\n"


def test_a_piece_of_another_text_is_not_taken_for_the_contexts() -> None:
    pieces = chunk_lines("made up\nby a cell\n", 1)
    assert part(pieces[1]) == "by a cell\n"
    assert part(chunk_lines("x\nfour\n", 1)[1]) == "four\n"
    with pytest.raises(ValueError, match="not the context's"):
        part(pieces)
