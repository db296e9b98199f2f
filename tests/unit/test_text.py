"""Text that crosses a border: clipped honestly, and accepted by every JSON parser."""

import json

from hypothesis import given
from hypothesis import strategies as st

from rlm_server.text import clip, pieces, to_json

anything = st.text(st.characters(exclude_categories=[]))


@given(st.recursive(anything, lambda inner: st.lists(inner) | st.dictionaries(anything, inner)))
def test_json_is_readable_by_strict_parsers(value: object) -> None:
    encoded = to_json(value)
    decoded = json.loads(encoded)
    text = json.dumps(decoded, ensure_ascii=False)
    text.encode()
    assert "\0" not in text
    assert "\\u0000" not in text.replace("\\\\", "")


@given(st.text(), st.integers(10, 100))
def test_clipping_keeps_head_and_tail_and_tells_the_length(text: str, limit: int) -> None:
    clipped = clip(text, limit)
    if len(text) <= limit:
        assert clipped == text
    else:
        assert clipped.startswith(text[: limit * 2 // 3])
        assert clipped.endswith(text[-(limit - limit * 2 // 3) :])
        assert f"of {len(text):,} characters" in clipped


@given(st.text(), st.integers(1, 20))
def test_pieces_make_the_whole(text: str, size: int) -> None:
    assert "".join(pieces(text, size)) == text
    assert all(len(piece) <= size for piece in pieces(text, size))
