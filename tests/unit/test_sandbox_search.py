from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.sandbox.bm25 import search
from vocabulary_support import context, document

FILLER = "some other line about nothing much\n" * 40
DOCS = {
    "pool.py": FILLER + "def take(self):\n    # connections time out after a while\n" + FILLER,
    "cache.py": FILLER + "the cache keeps answers\n" + FILLER + "caching is off by default\n",
    "notes.md": FILLER,
}


def test_the_best_passage_comes_first_with_its_place() -> None:
    found = search("When does a connection time out?", 3, context(DOCS))
    best = found[0]
    assert best.path == "pool.py"
    assert best.line <= 42 <= best.last_line
    assert "connections time out" in best.text
    assert best.startswith(f"pool.py:{best.line}\n")
    assert best.document[best.offset :].startswith(best.text.partition("\n")[0])
    assert best.score > found[-1].score or len(found) == 1


def test_words_are_found_with_their_usual_endings() -> None:
    found = search("caches", 5, context(DOCS))
    assert {passage.path for passage in found} == {"cache.py"}
    assert len(found) == 2


def test_rare_words_count_more_than_common_ones() -> None:
    text = ("alpha beta\n" * 30 + "\n" * 20) * 3 + "gamma\n"
    assert search("alpha gamma", 1, document(text))[0].text.endswith("gamma")


def test_passages_share_no_line() -> None:
    found = search("line", 50, document("a line\n" * 100))
    spans = sorted((p.line, p.last_line) for p in found)
    assert all(one[1] < other[0] for one, other in pairwise(spans))


def test_few_words_and_none() -> None:
    assert search("unheard", 5, context(DOCS)) == []
    assert search("what is it", 5, document("it is\n"))  # common words are better than none
    with pytest.raises(ValueError, match="no words"):
        search("?!", 5, context(DOCS))


def test_long_lines_are_cut() -> None:
    found = search("needle", 5, document("x " * 100_000 + "needle" + " y" * 100_000))
    assert [len(passage.text) <= 4000 for passage in found] == [True]
    assert "needle" in found[0].text


@given(st.text(st.sampled_from("ab\u0130 \n"), max_size=300), st.integers(1, 3))
def test_every_passage_stands_where_it_says(text: str, k: int) -> None:
    found = search("a ab", k, document(text))
    assert len(found) <= k
    for passage in found:
        assert passage.line == 1 + text.count("\n", 0, passage.offset)
        assert text[passage.offset :].startswith(passage.text)
