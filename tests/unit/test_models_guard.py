"""The guard of the semantic cache: it stops whatever could turn an answer into a wrong one."""

import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlm_server.models.cache.guard import difference, stem
from rlm_server.models.cache.guard_words import DECISIVE, NEGATIONS, NUMBERS, STOP


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is foo thread-safe?", "Is foo not thread-safe?"),
        ("Is foo thread-safe?", "Isn't foo thread-safe?"),
        ("Does it work with locks?", "Does it work without locks?"),
        ("Which options are used?", "Which options are unused?"),
        ("Is it a blocking call?", "Is it a non-blocking call?"),
        ("Rename foo to bar", "Rename bar to foo"),
        ("Does the parser call the lexer?", "Does the lexer call the parser?"),
        ("Which functions call parse?", "Which functions are called by parse?"),
        ("What does a.py do?", "What does b.py do?"),
        ("What is 17*23?", "What is 17*24?"),
        ("Explain lines 10-20", "Explain lines 110-120"),
        ("Summarise chapter two", "Summarise chapter three"),
        ("What does read_file return?", "What does read_line return?"),
        ("What does readFile do?", "What does readfile do?"),
        ("What does the -v option do?", "What does the -q option do?"),
        ("Is HTTP supported?", "Is FTP supported?"),
        ('Where is "alpha" set?', 'Where is "beta" set?'),
        ("Replace 'a' with 'b'", "Replace 'b' with 'a'"),
        ("How is the cache enabled?", "How is the cache disabled?"),
        ("What happens before the commit?", "What happens after the commit?"),
        ("Where is the timeout used?", "Why is the timeout used?"),
        ("What is the first error?", "What is the last error?"),
        ("What does the reader do?", "What does the writer do?"),
        ("Which tests fail only on Linux?", "Which tests fail on Linux?"),
        ("Who wrote the letter to Anna?", "Who wrote the letter to Clara?"),
        ("What is rlm-run for?", "What is rlm-runs for?"),
        ("List the contributors.", "List the contributors and their affiliations."),
        ("Which modules have tests?", "Which modules lack tests?"),
        (
            "Summarise the arguments of the plaintiff and the damages that were claimed.",
            "Summarise the arguments of the defendant and the damages that were awarded.",
        ),
        (
            "In the report on the northern factories, who signed the letter to the board?",
            "In the report on the northern factories, who received the letter to the council?",
        ),
        ("List emails that Alice sent to Bob.", "List emails that Carol sent to Dave Miller."),
        ("Which functions are in a.py?", "Which methods are in a.py?"),
        ("Which arguments does it take?", "Which options does it take?"),
        ("Where is the main file?", "Where is the key file?"),
        ("Which class handles user logins?", "Which function handles admin logins?"),
        (
            "Of the plaintiff's arguments about the contract, which were accepted?",
            "Which arguments about the contract did the defendant make that were accepted?",
        ),
    ],
)
def test_what_means_something_else_is_stopped(one: str, other: str) -> None:
    assert difference(one, other)
    assert difference(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How does the cache work?", "how does the cache work"),
        ("Where is the timeout set?", "Where is the timeout configured?"),
        ("What does read_file return?", "Please tell me what read_file returns."),
        ("Which errors are raised by parse()?", "What exceptions are raised by parse()?"),
        ("Summarise chapter 2.", "Summarise chapter two"),
        ("What doesn't work on Windows?", "What does not work on Windows?"),
        ("What is the purpose of this module?", "What is the goal of the module?"),
    ],
)
def test_what_means_the_same_passes(one: str, other: str) -> None:
    assert difference(one, other) == ""


BENCH = Path(__file__).parent.parent / "bench"
PAIRS, MORE = (
    tomllib.loads((BENCH / name).read_text("utf-8"))
    for name in ("semantic_pairs.toml", "semantic_more.toml")
)
DIFFERENT = {
    f"{name}: {kind}": group["pairs"]
    for name, groups in (("pairs", PAIRS), ("more", MORE))
    for kind, group in groups.items()
    if not group["same"]
}


@pytest.mark.parametrize("pairs", DIFFERENT.values(), ids=DIFFERENT)
def test_of_our_pairs_with_different_answers_none_passes(pairs: list[list[str]]) -> None:
    assert [(one, other) for one, other in pairs if not difference(one, other)] == []


def test_of_our_pairs_nearly_all_near_duplicates_pass() -> None:
    pairs = PAIRS["near-duplicate"]["pairs"]
    assert sum(not difference(one, other) for one, other in pairs) >= 0.9 * len(pairs)
    assert sum(len(group["pairs"]) for group in PAIRS.values()) >= 200


WORDS = """cache parser lexer answer model budget thread socket letter harbour not 12 a_b x.py"""
words = st.sampled_from(WORDS.split())
questions = st.lists(words, min_size=1, max_size=7).map(" ".join)
names = st.text(string.ascii_lowercase, min_size=4, max_size=9)
letters = st.text(min_size=0, max_size=40)


@given(letters)
def test_every_question_equals_itself(question: str) -> None:
    assert difference(question, question) == ""


@given(letters | questions, letters | questions)
def test_it_does_not_matter_which_came_first(one: str, other: str) -> None:
    assert bool(difference(one, other)) == bool(difference(other, one))


@given(questions)
def test_case_edges_and_politeness_do_not_matter(question: str) -> None:
    assert difference(question, f"Please tell me: {question}?") == ""


@given(questions, st.sampled_from(["not", "never", "without", "no"]), st.data())
def test_a_negation_more_is_always_stopped(question: str, word: str, data: st.DataObject) -> None:
    parts = question.split()
    place = data.draw(st.integers(0, len(parts)))
    assert difference(question, " ".join([*parts[:place], word, *parts[place:]]))


@given(st.integers(0, 10**6), st.integers(0, 10**6), questions)
def test_other_numbers_are_always_stopped(one: int, other: int, rest: str) -> None:
    assume(one != other)
    assert difference(f"{rest} in line {one}", f"{rest} in line {other}")


@given(names, names, questions)
def test_other_identifiers_paths_and_quotes_are_always_stopped(
    one: str, other: str, rest: str
) -> None:
    assume(one != other)
    for form in ("{}_id", "src/{}.py", '"{}"', "`{}`", "{}()", "--{}", "{}Name"):
        assert difference(f"{rest} {form.format(one)}", f"{rest} {form.format(other)}")


@given(names, names, st.sampled_from(["rename {} to {}", "does {} use {}?", "{} instead of {}"]))
def test_swapped_names_are_always_stopped(one: str, other: str, form: str) -> None:
    known = DECISIVE | NEGATIONS | STOP | NUMBERS.keys()
    assume(stem(one) != stem(other) and not {one, other} & known)
    assume({stem(one), stem(other)}.isdisjoint({"renam", "use", "us", "instead", "ren"}))
    assert difference(form.format(one, other), form.format(other, one))
