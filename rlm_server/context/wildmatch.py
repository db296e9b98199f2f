"""Git's patterns as regular expressions: what one line of an ignore file means.

Written out here, and compared with git itself in the tests, for two reasons: a pattern must match
the very path and not what lies below it (``!logs/`` must not bring ``logs/x.log`` back), and a
hostile pattern must not take exponential time, hence the atomic groups.
"""

from __future__ import annotations

import re

_STAR = "*"
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r" \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class BadPatternError(ValueError):
    """The pattern can match nothing: an unclosed bracket, or a backslash at its end."""


def translate(pattern: str, *, name_only: bool) -> str:
    """Give the regular expression, for a full match, of a pattern without ``!`` and last ``/``.

    ``name_only``: the pattern is compared with the last part of a path. Otherwise with the path
    from the ignore file's directory on, where ``*`` stops at a slash and ``**`` does not.
    Raises BadPatternError.
    """
    sections: list[tuple[str, list[str]]] = [("", [])]
    at, prefix = 0, True
    while at < len(pattern):
        body = sections[-1][1]
        if pattern[at] == "*":
            after = at
            while after < len(pattern) and pattern[after] == "*":
                after += 1
            # Git compares the literal prefix first, so "a**" crosses slashes as "/**" does.
            boundary = prefix or pattern[at - 1] == "/"
            if name_only or after - at == 1 or not boundary:
                body.append(_STAR)
            elif after == len(pattern):
                sections.append((".*", []))
            elif pattern[after] == "/":
                sections.append(("(?:.*/)?", []))
                after += 1
            elif pattern.startswith("\\/", after):
                sections.append((".*", []))
            else:
                body.append(_STAR)
            at, prefix = after, False
            continue
        prefix = prefix and pattern[at] not in "?[\\"
        atom, at = _atom(pattern, at)
        body.append(atom)
    return _join(sections)


def _join(sections: list[tuple[str, list[str]]]) -> str:
    """Join what stands between ``**``; the leftmost match of all but the last is as good as any."""
    parts = []
    for number, (lead, body) in enumerate(sections):
        last = number == len(sections) - 1
        if not lead or last:
            parts.append(lead + _body(body))
        else:
            lazy = "(?:.*?/)??" if lead.startswith("(") else ".*?"
            parts.append(f"(?>{lazy}{_body(body)})")
    return "".join(parts)


def _body(atoms: list[str]) -> str:
    """Join what stands between ``*``; again the leftmost match of all but the last will do."""
    runs: list[list[str]] = [[]]
    for atom in atoms:
        if atom == _STAR:
            runs.append([])
        else:
            runs[-1].append(atom)
    texts = ["".join(run) for run in runs]
    if len(texts) == 1:
        return texts[0]
    middle = "".join(f"(?>[^/]*?{text})" for text in texts[1:-1] if text)
    return f"{texts[0]}{middle}[^/]*{texts[-1]}"


def _atom(pattern: str, at: int) -> tuple[str, int]:
    """Translate what matches one character, and say where the pattern goes on."""
    character = pattern[at]
    if character == "?":
        return "[^/]", at + 1
    if character == "[":
        return _bracket(pattern, at + 1)
    if character == "\\":
        at += 1
        if at == len(pattern):
            raise BadPatternError(pattern)
        character = pattern[at]
    return re.escape(character), at + 1


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """Translate a set from behind its opening bracket, with git's rules for the odd ones."""
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    items: list[str] = []
    previous = ""
    while True:
        character = _at(pattern, at)
        if character == "-" and previous and pattern[at + 1 : at + 2] not in ("", "]"):
            character, at = _literal(pattern, at + 1)
            if previous <= character:
                items.append(f"{re.escape(previous)}-{re.escape(character)}")
            previous = ""
        elif (
            character == "["
            and pattern[at + 1 : at + 2] == ":"
            and (named := _class(pattern, at + 2))
        ):
            items.append(_CLASSES[named])
            at += len(named) + 3
            previous = ""
        else:
            character, at = _literal(pattern, at)
            items.append(re.escape(character))
            previous = character
        at += 1
        if _at(pattern, at) == "]":
            break
    inside = "".join(items)
    if negated:
        return f"[^/{inside}]", at + 1
    return (f"(?!/)[{inside}]" if inside else "(?!)"), at + 1


def _class(pattern: str, at: int) -> str:
    """Read the name of a class such as ``[:alpha:]``; empty where it isn't one after all."""
    end = pattern.find("]", at)
    if end < 0:
        raise BadPatternError(pattern)
    if end == at or pattern[end - 1] != ":":
        return ""
    name = pattern[at : end - 1]
    if name not in _CLASSES:
        raise BadPatternError(pattern)
    return name


def _literal(pattern: str, at: int) -> tuple[str, int]:
    """Read one character of a set, behind a backslash or not."""
    if _at(pattern, at) == "\\":
        at += 1
    return _at(pattern, at), at


def _at(pattern: str, at: int) -> str:
    if at >= len(pattern):
        raise BadPatternError(pattern)
    return pattern[at]
