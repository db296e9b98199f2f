from __future__ import annotations

import pytest

from rlm_server.sandbox.cite import NotFound, cite
from vocabulary_support import context, document

DOCS = {
    "a.md": "Intro.\nThe quick brown fox\njumps over the “lazy” dog, and then it\nrests.\n",
    "b.md": "x\n" * 50 + "A sandbox is a process that holds the namespace of one run only.\n",
}
CONTEXT = context(DOCS)


def test_to_the_letter() -> None:
    place = cite("brown fox\njumps", CONTEXT)
    assert (place, place.path, place.line) == ("a.md:2", "a.md", 2)
    assert (place.exact, place.score, place.text) == (True, 1.0, "brown fox\njumps")
    assert place.document[place.offset :].startswith("brown fox")
    assert cite('"rests."', CONTEXT).exact


@pytest.mark.parametrize(
    "quote", ["brown  fox jumps", "BROWN FOX JUMPS", 'over the "lazy" dog', "“… the ‘lazy’ dog …”"]
)
def test_but_for_white_space_case_and_quotes(quote: str) -> None:
    place = cite(quote, CONTEXT)
    assert place.path == "a.md"
    assert (place.exact, place.score) == (False, 1.0)


def test_a_few_words_may_differ() -> None:
    place = cite("the sandbox is the process which holds the namespace of one run", CONTEXT)
    assert place == "b.md:51"
    assert not place.exact
    assert 0.75 <= place.score < 1.0
    assert place.text.startswith("sandbox is a process")


def test_what_stands_nowhere_is_false_and_says_so() -> None:
    missing = cite("an elephant that holds the namespace quietly in Paris", CONTEXT)
    assert isinstance(missing, NotFound)
    assert not missing
    assert (missing.path, missing.line, missing.exact) == ("", 0, False)
    assert missing.startswith("not found: 'an elephant")
    assert "the likest place, b.md:51, agrees by" in missing
    assert 0 < missing.score < 0.75
    assert cite("zzz", CONTEXT) == "not found: 'zzz'"


def test_letters_that_grow_in_lower_case_do_not_move_the_place() -> None:
    text = "\u0130" * 300 + "\nthe ledger settles every reservation once\n"
    assert cite("the ledger settles each reservation once", document(text, "c")) == "c:2"


def test_looks_within_what_it_is_given() -> None:
    docs = CONTEXT.documents
    assert not cite("brown fox", docs["b.md"])
    assert cite("brown fox", [docs[1], docs[0]]) == "a.md:2"
    with pytest.raises(ValueError, match="empty"):
        cite(' "" ', CONTEXT)
