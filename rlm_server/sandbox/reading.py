"""Which parts of the context the code looks at, and which of them a printed text or prompt holds.

What code cuts out of the context (a slice, a line that was found, a piece, a document) is noted by
its place, which costs a tenth of a microsecond. Where a text goes to a model, its lines are looked
up among those: from the first characters of a line to the place in the context, from there as far
as the two agree. So a text is traced whatever was done to get it, as long as its lines are whole,
and the cost does not depend on the size of the context.

Runs inside the sandbox: standard library only. The code can lie to it; it is for people who want
to know what an answer rests on, not for protection.
"""

from __future__ import annotations

import ast
import re

from . import documents
from .nodes import walk
from .stretches import Stretches

KEY = 48
"""Characters of a line by which it is looked up."""

_SHORTEST = 4  # characters of a key
_CERTAIN = 12  # characters that have to agree, unless it is a whole line
_PENDING = 4096  # places noted before they are sorted in
_KNOWN = 1 << 16  # lines that can be looked up
_INNER = 2048  # characters between two lines of a long stretch that can be looked up
_SAMPLES = 16  # lines of a stretch that can be looked up
_LINES = 4000  # lines of a text that are looked up
_SEARCHED = 2_000_000  # characters of context that one cell's texts are searched for in
_LOOSELY = 16_000_000  # the same where code uses the context as a whole: its cuts are not noted
_NEARBY = 500_000  # characters of the largest document that is searched where it is named
_SEARCHABLE = 16_000_000  # characters of the largest context that is searched
_WORTH = 20  # characters of a line that is searched for
_SENT = 512  # stretches that are told of one text or cell

_PATIENCE = 32  # lines of a text that are looked up one by one where none is found
_SKIP = 4000  # characters that are passed over at once then, at most

_BEFORE = re.compile(r"[\s>*|•\-\['\"(]*")
_NUMBER = re.compile(r"[\s\['\"(]*\d+ ?[:.)|\]\t-] ?")
_PATH = re.compile(r"[\w@+~][\w./@+~-]*")
_PLACE = re.compile(r"[^\n]{0,300}?[:\-]\d+[:\-] ?")

_cut = str.__getitem__


class Reading:
    """What is read of one context."""

    def __init__(self, context: str) -> None:
        self._context = context
        self._pending: list[tuple[int, int]] = []
        self._looked_at = Stretches()
        self._lines: dict[str, int] = {}
        self._documents: dict[str, tuple[int, int]] | None = None
        self._loose = False
        self._left = _SEARCHED
        self._left_near = _LOOSELY
        self._near: tuple[int, int] | None = None
        documents.watch(self.cut_out, self.look, self._learn)

    # ------------------------------------------------------------------------- what code looks at

    def cut_out(self, start: int, end: int) -> None:
        """Note that code has these characters now."""
        self._pending.append((start, end))
        if len(self._pending) >= _PENDING:
            self._sort_in()

    def look(self, start: int, end: int) -> None:
        """Note that code looks through these characters."""
        self._looked_at.add(start, end)

    def begin(self, code: str, tree: ast.AST) -> None:
        """A cell begins; using the context as a whole is looking through it."""
        self._left = _LOOSELY if self._loose else _SEARCHED
        self._left_near = _LOOSELY
        if "context" in code and _uses_whole(tree):
            self._loose, self._left = True, _LOOSELY
            self.look(0, len(self._context))

    def looked_at(self) -> list[tuple[int, int]]:
        """The stretches that code has looked through since this was last asked."""
        self._sort_in()
        seen, self._looked_at = self._looked_at, Stretches(_SENT)
        bounded = Stretches(_SENT)
        bounded.update(seen.all())
        return bounded.all()

    def _sort_in(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        if len(self._lines) > _KNOWN:
            self._lines.clear()
        last = (-1, -1)
        for start, end in dict.fromkeys(pending):
            self._looked_at.add(start, end)
            # A window that moves on by a little has mostly the same lines.
            if not (last[0] <= start < last[1] and (last[1] - start) * 2 > end - start):
                self._learn(start, end)
                last = (start, end)

    def _learn(self, start: int, end: int) -> None:
        """Let some lines of a stretch be looked up: the first ones, then one of each few kB."""
        text, at = self._context, start
        for sample in range(_SAMPLES):
            body = _BEFORE.match(text, at, min(end, at + 200))
            place = body.end() if body else at
            key = _key(text, place, end)
            if len(key) >= _SHORTEST:
                self._lines[key] = place
            step = at if sample < 3 else max(at, min(end, at + _INNER))
            at = text.find("\n", step, end) + 1
            if not at:
                return

    # ---------------------------------------------------------------------------- what texts hold

    def held_by(self, text: str, *, printed: bool = False) -> list[tuple[int, int]]:
        """The stretches of the context that stand in a text, as far as they can be traced."""
        self._sort_in()
        if printed and "\\n" in text:  # the repr of a text: its lines are not lines
            text = text.replace("\\n", "\n").replace("\\t", "\t")
        found = Stretches(_SENT)
        at, done, expected, misses, self._near = 0, 0, -1, 0, None
        for _ in range(_LINES):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            match = self._match(text, at, end, done, expected)
            if match is not None:
                place, first, last = match
                found.add(place, place + last - first)
                done = last
                expected = place + last - first
                if text[last - 1] != "\n":
                    expected += self._context.startswith("\n", expected)
                end = last - 1 if text[last - 1] == "\n" else text.find("\n", last)
                misses = 0
            else:
                misses += 1
                self._near = self._named(text, at, end) or self._near
                if misses > _PATIENCE:  # the stretches between are found from their later lines
                    end = text.find("\n", end + min(_SKIP, 20 * (misses - _PATIENCE)))
            at = end + 1
            if end < 0 or at >= len(text):
                break
        return found.all()

    def _match(
        self, text: str, at: int, end: int, done: int, expected: int
    ) -> tuple[int, int, int] | None:
        """Where in the context a line of a text stands: the place, and what agrees of the text."""
        if found := _PLACE.match(text, at, end):
            self._near = self._named(text, at, found.end()) or self._near
        for first in _beginnings(text, at, end):
            key = _key(text, first, end)
            if len(key) < _SHORTEST:
                continue
            place = self._place(text, first, end, key, expected)
            if place is not None:
                return self._extend(text, first, done, place)
        return None

    def _place(self, text: str, first: int, end: int, key: str, expected: int) -> int | None:
        if expected >= 0:  # most often the line after the last one
            body = _BEFORE.match(self._context, expected, expected + 200)
            near = body.end() if body else expected
            if self._context.startswith(key, near):
                return near
        place = self._lines.get(key)
        if place is not None and self._agrees(text, first, end, place):
            return place
        return self._search(text[first : min(end, first + 80)].rstrip())

    def _search(self, wanted: str) -> int | None:
        """Look for a line in the document that was named last, and in all of a small context."""
        place = -1
        size = self._near[1] - self._near[0] if self._near is not None else 0
        if self._near is not None and size <= min(_NEARBY, self._left_near):
            place = self._context.find(wanted, *self._near)
            self._left_near -= size
        worth = len(wanted) >= _WORTH and len(self._context) <= _SEARCHABLE
        if place < 0 and worth and self._left > 0:
            place = self._context.find(wanted)
            self._left -= len(self._context) if place < 0 else place
        return place if place >= 0 else None

    def _named(self, text: str, at: int, end: int) -> tuple[int, int] | None:
        """Where the document stands whose path is in a line; the last one, where several are."""
        if self._documents is None:
            every: documents.Documents | None = getattr(self._context, "documents", None)
            entries = every.entries() if every is not None else []
            self._documents = {one["path"]: (one["start"], one["end"]) for one in entries}
        for word in reversed(_PATH.findall(text, at, min(end, at + 400))):
            if place := self._documents.get(word) or self._documents.get(word.rstrip(".-")):
                return place
        return None

    def _agrees(self, text: str, first: int, end: int, place: int) -> bool:
        """Whether enough agrees not to be chance."""
        enough = min(end, first + _CERTAIN)
        return self._context.startswith(text[first:enough], place)

    def _extend(self, text: str, first: int, done: int, place: int) -> tuple[int, int, int]:
        """As far as text and context agree, forwards and, up to ``done``, backwards."""
        ahead = _common(text, first, self._context, place)
        line = text.rfind("\n", first, first + ahead) + 1
        if line and first + ahead - line < _CERTAIN and first + ahead < len(text):
            ahead = line - first  # the next lines begin alike by chance
        back = _common_before(text, first, self._context, place, min(first - done, place))
        return place - back, first - back, first + ahead


def _key(text: str, start: int, end: int) -> str:
    """The characters by which a line is looked up."""
    piece = _cut(text, slice(start, min(end, start + KEY)))
    return piece.partition("\n")[0].rstrip()


def _beginnings(text: str, at: int, end: int) -> list[int]:
    """Where a line of the context may begin within a line of a text."""
    body = _BEFORE.match(text, at, end)
    firsts = [body.end() if body else at]
    prefix = _PLACE.match(text, at, end) or _NUMBER.match(text, at, end)
    if prefix:
        body = _BEFORE.match(text, prefix.end(), end)
        firsts.append(body.end() if body else prefix.end())
    else:
        label = text.find(": ", at, min(end, at + 60))
        if label >= 0:
            firsts.append(label + 2)
    return firsts


def _common(one: str, at: int, other: str, place: int) -> int:
    """How many characters agree from two places on."""
    size, agreed = 256, 0
    most = min(len(one) - at, len(other) - place)
    while agreed < most:
        size = min(size, most - agreed)
        mine = _cut(one, slice(at + agreed, at + agreed + size))
        if other.startswith(mine, place + agreed):
            agreed += size
            size *= 4
        elif size == 1:
            break
        else:
            size = max(1, size // 4)
    return agreed


def _common_before(one: str, at: int, other: str, place: int, most: int) -> int:
    """How many characters agree before two places, at most so many."""
    size, agreed = 64, 0
    while agreed < most:
        size = min(size, most - agreed)
        mine = _cut(one, slice(at - agreed - size, at - agreed))
        if other.startswith(mine, place - agreed - size):
            agreed += size
            size *= 4
        elif size == 1:
            break
        else:
            size = max(1, size // 4)
    return agreed


def _uses_whole(tree: ast.AST) -> bool:
    """Whether code names the context otherwise than to slice it or to take its documents."""
    own = set()
    named = []
    for node in walk(tree):
        if isinstance(node, ast.Subscript) or (
            isinstance(node, ast.Attribute) and node.attr == "documents"
        ):
            own.add(id(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "len":
                own.update(id(argument) for argument in node.args)
        elif isinstance(node, ast.Name) and node.id == "context":
            named.append(node)
    return any(id(node) not in own for node in named)


def shown_of(text: str, limit: int) -> str:
    """What a model is shown of a printed text: head and tail, if it is long."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return f"{text[:head]}\n{text[len(text) - (limit - head) :]}"
