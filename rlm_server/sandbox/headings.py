"""Headings of Markdown, Org and reStructuredText: where they are and what they say.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

from .spans import AtMargin, Span

_MARKDOWN = AtMargin(
    r" {0,3}(?:(?P<fence>`{3,}|~{3,})[^\n]*|\#{1,6}[ \t]+(?P<name>[^\n]*?\S)[ \t#]*$)"
    r"|(?P<under>\w[^\n]*)\n(?:={3,}|-{3,})[ \t]*$"
)
_ORG = AtMargin(r"\*+[ \t]+(?P<name>[^\n]*\S)")
_RST = AtMargin(
    r"(?:(?P<over>[=\-`:'\"~^_*+#<>.])(?P=over){2,}[ \t]*\n)?[ \t]?(?P<name>[^\s][^\n]*)\n"
    r"(?P<line>(?P<mark>[=\-`:'\"~^_*+#<>.])(?P=mark){2,})[ \t]*$"
)
_KINDS = {
    "md": "markdown",
    "markdown": "markdown",
    "org": "org",
    "rst": "rst",
}


def headings(span: Span) -> list[tuple[int, str]]:
    """Return the place in the text and the words of every heading, in order.

    The kind of text is told by the path's ending, or by what its lines look like.
    """
    kind = _KINDS.get(span.path.rpartition(".")[2].lower(), "")
    if kind == "org" or (not kind and _looks_like_org(span)):
        return [(start, match["name"]) for start, match in _ORG.finditer(span)]
    return _rst(span) if kind == "rst" else _markdown(span)


def _looks_like_org(span: Span) -> bool:
    """Stars begin list items in other texts, so there has to be something else of Org."""
    text = span.text
    if text.startswith("#+", span.start) or text.find("\n#+", span.start, span.end) >= 0:
        return True
    return text.find("\n** ", span.start, span.end) >= 0


def _markdown(span: Span) -> list[tuple[int, str]]:
    """Headings outside fenced blocks."""
    found: list[tuple[int, str]] = []
    fence = ""
    for start, match in _MARKDOWN.finditer(span):
        mark = match["fence"]
        if mark:
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
        elif not fence:
            found.append((start, match["name"] or match["under"]))
    return found


def _rst(span: Span) -> list[tuple[int, str]]:
    """Titles that a line of one mark stands under, at least as long as they are."""
    return [
        (start, match["name"].strip())
        for start, match in _RST.finditer(span)
        if len(match["line"]) >= len(match["name"].rstrip())
    ]
