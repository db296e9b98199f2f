"""What a question is about: the words that count, and how code may spell them."""

from __future__ import annotations

import re

import msgspec

_STOP = """a about above actually after again all also although always am an and another any anyone
    anything are aren't around as ask asked at away be because been before being below between both
    but by can can't cannot come comes could did didn't different do does doesn't doing don't done
    down during each either else etc even ever every everything exactly explain explained far few
    find first following for found from further generally get gets getting give given gives go goes
    going good got had happen happened happens has have having he hence her here hers him his how
    however i if in inside instead into involved is isn't it it's its itself just kind know let
    like list look looks made main make makes many may me mean means meant might more most much must
    my named need needed needs never no nor not nothing now of off often on once one only onto
    or other others otherwise our out outside over own part per place please point possible present
    quite rather really regarding relevant right said same say says second see seem seems several
    shall she should show shown side since so some someone something soon still such take takes tell
    than that the their them then there these they thing things this those though through thus to
    too toward two under until up upon us use used user uses using usually various very via want
    wants was way ways we well were what what's whatever when where where's whether which while who
    whole whose why will with within without work working works would yes yet you your"""
STOP_WORDS = frozenset(_STOP.split())

_PLACE = """decide decided decides define defined defines definition declare declared declares
    implement implemented implements implementation set sets configured documented located
    stored computed calculated determined chosen written described code source"""
PLACE_WORDS = frozenset(_PLACE.split())
"""Words that ask for a place rather than say what it is about."""

KIND = re.compile(
    r"\b(?:which|what|in what|in which)\s+(?:files?|functions?|class(?:es)?|modules?|lines?"
    r"|variables?|commands?|options?|methods?|constants?|documents?|settings?)\b",
    re.IGNORECASE,
)

ASKS_FOR_PLACE = re.compile(
    KIND.pattern + r"|\bwhere\b|\b(?:defin|declar|decid|implement|configur)\w*",
    re.IGNORECASE,
)

ASKS_FOR_TESTS = re.compile(r"\btest(?:s|ed|ing)?\b", re.IGNORECASE)

SYNONYMS = {
    "maximum": "max",
    "minimum": "min",
    "directory": "dir",
    "configuration": "config",
    "parameter": "param",
    "argument": "arg",
    "initialize": "init",
    "temporary": "temp",
    "character": "char",
    "expression": "expr",
    "regular expression": "regexp",
    "environment": "env",
    "number": "num",
    "command line": "argv",
    "synchronous": "sync",
    "asynchronous": "async",
    "authentication": "auth",
    "database": "db",
    "utilities": "util",
}

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
DOTS = re.compile(r"(?<=\w)(?:\.|::|/|->|#)(?=\w)")
COMPOUND = re.compile(r"\w+(?:[-_]\w+)+|\w*[a-z][A-Z]\w*|\w*_\w+", re.UNICODE)
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[-_]+")
ENDINGS = (
    ("ies", "y", 3),
    ("sses", "ss", 3),
    ("ations", "at", 4),
    ("ation", "at", 4),
    ("ings", "", 4),
    ("ing", "", 4),
    ("edly", "", 4),
    ("ed", "", 4),
    ("ers", "", 4),
    ("er", "", 5),
    ("ly", "", 4),
    ("es", "", 4),
    ("s", "", 3),
    ("e", "", 4),
)


class Question(msgspec.Struct, frozen=True):
    """A question, taken apart."""

    text: str
    terms: dict[str, list[str]]
    """What it is about, in its order: a word or a compound, with its spellings in lower case."""
    place: bool
    """Whether it asks where something is defined or decided."""
    tests: bool
    """Whether it is about tests, which otherwise count less."""


def read_question(text: str) -> Question:
    """Take a question apart; without any word that counts, all of its words do."""
    plain = DOTS.sub(" ", KIND.sub(" ; ", text))
    compounds = [found for found in COMPOUND.findall(plain) if len(found) > 3]
    rest = COMPOUND.sub(" ; ", plain)
    terms: dict[str, list[str]] = {}
    for compound in compounds:
        _add_compound(terms, [part for part in HUMP.split(compound) if part])
    groups = [WORD.findall(run) for run in re.split(r"[^\w\s'’]+", rest)]
    for words in groups:
        _add_words(terms, words, STOP_WORDS | PLACE_WORDS)
    if not terms:
        for words in groups:
            _add_words(terms, words, STOP_WORDS)
    if not terms:
        for words in groups:
            _add_words(terms, words, frozenset())
    return Question(
        text=text,
        terms=terms,
        place=bool(ASKS_FOR_PLACE.search(text)),
        tests=bool(ASKS_FOR_TESTS.search(text)),
    )


def stem(word: str) -> str:
    """The part of a word that its inflections share, roughly."""
    for ending, instead, shortest in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= shortest:
            if ending == "s" and word.endswith(("ss", "us", "is")):
                return word
            root = word[: len(word) - len(ending)] + instead
            doubled = len(root) > 4 and root[-1] == root[-2] and root[-1] not in "lsz"
            return root[:-1] if doubled and ending in ("ing", "ed", "er", "ers") else root
    return word


def _add_words(terms: dict[str, list[str]], words: list[str], stop: frozenset[str]) -> None:
    """Add the words that count, and pairs of neighbours as code would join them."""
    previous = ""
    for word in (word.lower().replace("’", "'").removesuffix("'s") for word in words):
        if word in stop or (len(word) < 2 and not word.isdigit()):
            previous = ""
            continue
        if previous:
            _add_joined(terms, [previous, stem(word)], f"{previous} {word}")
        spellings = [stem(word)]
        if word in SYNONYMS:
            spellings.append(SYNONYMS[word])
        terms.setdefault(word, spellings)
        previous = stem(word) if word.endswith("s") else word


def _add_compound(terms: dict[str, list[str]], parts: list[str]) -> None:
    """Add an identifier or a hyphened word in all its spellings."""
    lowered = [part.lower() for part in parts]
    lowered[-1] = stem(lowered[-1]) if len(lowered[-1]) > 4 else lowered[-1]
    _add_joined(terms, lowered, "-".join(part.lower() for part in parts))


def _add_joined(terms: dict[str, list[str]], parts: list[str], name: str) -> None:
    spellings = [joint.join(parts) for joint in ("-", "_", "", ".", " ", "/")]
    terms.setdefault(name, list(dict.fromkeys(spellings)))
