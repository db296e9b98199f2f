"""The reply parser: splits a root model's reply, as it streams in, into prose and code cells."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from typing import Literal, NamedTuple

CODE_LANGUAGES = frozenset(
    {"repl", "python", "python3", "py", "py3", "ipython", "ipython3", "tool_code"}
)

_OPENING = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*\{?([\w+#.-]*)")
_THOUGHT = ("</think>", "</thinking>")
_TRIPLE = ('"""', "'''")
_MAYBE_FENCE = re.compile(r"[ \t]*(?:`+|~+|\Z)")

Part = Literal["prose", "code", "fence"]
"""``fence``: the lines around a cell, which belong to neither."""


class Piece(NamedTuple):
    """A stretch of the reply, to be shown as it arrives."""

    part: Part
    text: str


class ReplyParser:
    """Feed it text in any portions; the pieces and cells do not depend on how it was cut.

    All pieces joined are the reply, with CRLF as one newline: a run can be resumed from them.

    A cell opens with a fence line that names Python and closes with a fence line of the same
    sign, at least as long, that stands outside any triple-quoted string of the cell. A cell that
    the reply leaves open ends with the reply.

    Some models think aloud first, often without saying that they begin to: what stands before the
    end of that is prose, fenced or not.
    """

    def __init__(self) -> None:
        self.cells: list[str] = []
        """Code of the closed cells, dedented."""
        self.other_fences: list[str] = []
        """Languages of fenced blocks that are not run; empty string where none was named."""
        self.unclosed = False
        """Whether the reply ended within a cell."""
        self.thought = False
        """Whether thinking aloud has ended, so that the cells before are none."""
        self.characters = 0
        """Length of all pieces so far."""
        self._line = ""
        self._held = ""
        self._fence = ""
        self._code: list[str] | None = None
        self._carry = ""
        self._inside = False
        self._quoted = False

    def feed(self, text: str) -> list[Piece]:
        """Take more of the reply; return what can be shown of it."""
        pieces: list[Piece] = []
        text = self._carry + text
        self._carry = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r").replace("\r\n", "\n")
        for portion in text.splitlines(keepends=True):
            self._take(portion, pieces)
        return self._merged(pieces)

    def close(self) -> list[Piece]:
        """End the reply; return the rest of what can be shown."""
        pieces: list[Piece] = []
        if self._carry:
            self._take(self._carry, pieces)
        if self._line:
            self._end_line(self._line, "", pieces)
            self._line = self._held = ""
        if self._code is not None:
            self.unclosed = True
            code = "".join(self._code).rstrip()
            # A closing fence that shares its line with code was meant as one all the same.
            self._add_cell(code.removesuffix(self._fence))
        return self._merged(pieces)

    def _merged(self, pieces: list[Piece]) -> list[Piece]:
        """Join neighbours of the same part."""
        merged: list[Piece] = []
        for piece in pieces:
            self.characters += len(piece.text)
            if merged and merged[-1].part == piece.part:
                merged[-1] = Piece(piece.part, merged[-1].text + piece.text)
            else:
                merged.append(piece)
        return merged

    def _take(self, portion: str, pieces: list[Piece]) -> None:
        ended = portion.endswith("\n")
        self._line += portion.removesuffix("\n")
        if ended:
            self._end_line(self._line, "\n", pieces)
            self._line = self._held = ""
        elif not _MAYBE_FENCE.match(self._line):
            # The start of this line rules a fence out, so what there is of it can be shown.
            self._show(self._line[len(self._held) :], pieces)
            self._held = self._line

    def _end_line(self, line: str, newline: str, pieces: list[Piece]) -> None:
        if not self.thought and self._ends_thought(line):
            self._show(line[len(self._held) :] + newline, pieces)
            self.thought, self._fence, self._code = True, "", None
            self._inside = self._quoted = False
            self.cells.clear()
            self.other_fences.clear()
        elif self._held:
            self._body(line + newline, line[len(self._held) :] + newline, pieces)
        elif self._fence:
            if _closes(line, self._fence) and not self._in_string():
                self._close_block(line + newline, pieces)
            else:
                self._body(line + newline, line + newline, pieces)
        elif (opening := _OPENING.match(line)) and "`" not in line[opening.end() :]:
            self._open_block(opening, line + newline, pieces)
        else:
            self._show(line + newline, pieces)

    def _ends_thought(self, line: str) -> bool:
        line = line.strip()
        if self._fence:
            return line in _THOUGHT and not self._in_string()
        return line.startswith(_THOUGHT) or line.endswith(_THOUGHT)

    def _open_block(self, opening: re.Match[str], line: str, pieces: list[Piece]) -> None:
        self._fence = opening[1]
        language = opening[2].lower()
        if language in CODE_LANGUAGES:
            self._code, self._inside, self._quoted = [], False, False
            pieces.append(Piece("fence", line))
        else:
            self.other_fences.append(language)
            self._show(line, pieces)

    def _close_block(self, line: str, pieces: list[Piece]) -> None:
        if self._code is not None:
            self._add_cell("".join(self._code))
            pieces.append(Piece("fence", line))
        else:
            self._show(line, pieces)
        self._fence = ""

    def _add_cell(self, code: str) -> None:
        self._code = None
        if code.strip():
            self.cells.append(textwrap.dedent(code).strip("\n") + "\n")

    def _body(self, whole: str, unshown: str, pieces: list[Piece]) -> None:
        if self._code is not None:
            self._code.append(whole)
            self._quoted = self._quoted or any(quotes in whole for quotes in _TRIPLE)
        self._show(unshown, pieces)

    def _show(self, text: str, pieces: list[Piece]) -> None:
        if text:
            pieces.append(Piece("code" if self._code is not None else "prose", text))

    def _in_string(self) -> bool:
        """Whether the cell so far ends within a triple-quoted string.

        Only a line with triple quotes can change that, so that nothing is parsed again without.
        """
        if self._code is not None and self._quoted:
            self._inside, self._quoted = self._parse(), False
        return self._inside

    def _parse(self) -> bool:
        code = "".join(self._code or [])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(textwrap.dedent(code))
        except SyntaxError as error:
            return "unterminated triple-quoted" in str(error.msg)
        except (ValueError, RecursionError, MemoryError):
            return False
        return False


def _closes(line: str, fence: str) -> bool:
    stripped = line.strip()
    return len(stripped) >= len(fence) and not stripped.strip(fence[0])
