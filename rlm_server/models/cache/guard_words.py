"""Words that the semantic cache's guard goes by: what negates, decides, opposes, means the same."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATIONS = _words("not no never none nothing nobody nowhere neither nor without cannot non hardly")

DECISIVE = _words(
    "only except unless excluding always every both by from into onto before after than over under "
    "above below until since least most more less where when why who whose whom how many much "
    "should must may"
)
"""Words that change what is asked, and must be in both questions as often."""

NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        # "one" is mostly a pronoun.
        ("zero", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}

STOP = _words(
    "a an the this that these those it its is are was were be been being am do does did done has "
    "have had can could will would shall might i me my we us our you your they them their he she "
    "his her what which there here of in on at to for with about as and or if so then also please "
    "tell show give let s t re ve ll d m just exactly actually any some all each such like get got "
    "one ones"
)
"""Words that carry nothing that the others don't."""

OPPOSITES = tuple(
    (_words(left), _words(right))
    for left, right in (
        ("add insert append create", "remove delete drop subtract"),
        ("enable activate allow permit", "disable deactivate forbid deny prevent block"),
        ("start begin open", "stop end finish close quit"),
        ("increase raise grow up", "decrease lower reduce shrink down"),
        ("first earliest oldest", "last latest newest"),
        ("minimum min smallest lowest shortest", "maximum max largest highest longest"),
        ("read load import input", "write save export output"),
        ("encode encrypt compress serialize pack", "decode decrypt decompress deserialize unpack"),
        ("client", "server"),
        ("parent", "child"),
        ("true success succeed pass", "false failure fail"),
        ("push send upload", "pull receive download"),
        ("lock acquire", "unlock release"),
        ("install", "uninstall"),
        ("public", "private"),
        ("left", "right"),
        ("advantage pro strength", "disadvantage con weakness"),
        ("fast faster fastest", "slow slower slowest"),
        ("old", "new"),
        ("inside internal", "outside external"),
    )
)

SAME = tuple(
    _words(group)
    for group in (
        "set configur defin specif",
        "delet remov eras",
        "find locat",
        "function routine",
        "error exception failur",
        "creat make build generat",
        "start begin",
        "stop end finish",
        "display print list",
        "use employ utiliz",
        "big large",
        "chang modif alter edit",
        "call invok",
        "check verif validat",
        "return giv",
        "purpos goal aim",
        "explain describ",
        "file document",
        "folder directory",
        "argument parameter",
        "fix repair solv resolv",
        "summar overview outlin",
        "handl process treat",
        "happen occur",
        "store sav keep kept",
        "reason caus",
        "work function operat",
        "fast quick",
        "main central principal",
    )
)
"""Stems of words that mean the same in a question about a text."""
