"""Screens of a terminal, as tmux captures them with their colours, as one SVG that moves."""

from __future__ import annotations

import re
from html import escape
from typing import NamedTuple

CELL, LINE, SIZE = 8.4, 18, 14
"""Width and height of a character's cell, and the size of the type, in pixels."""

SGR = re.compile(r"\x1b\[([0-9;]*)m")
OTHER = re.compile(r"\x1b[()][A-Z0-9]|\x1b\[[0-9;?]*[A-HJKSTfhlnsu]|[\x0e\x0f]")
BASIC = [
    *("#000000", "#a60000", "#006800", "#6f5500", "#0031a9", "#721045", "#005e8b", "#c0c0c0"),
    *("#595959", "#cc0000", "#22863a", "#b08800", "#3548cf", "#a0132f", "#1a7f9c", "#ffffff"),
]
"""The colours that a terminal may choose itself."""


class Style(NamedTuple):
    """How characters look."""

    ink: str = "#000000"
    paper: str = "#ffffff"
    bold: bool = False
    slanted: bool = False
    underlined: bool = False
    reverse: bool = False

    def colours(self) -> tuple[str, str]:
        """Of ink and paper, as they are seen."""
        return (self.paper, self.ink) if self.reverse else (self.ink, self.paper)


def colour(number: int) -> str:
    """One of a terminal's 256 colours."""
    if number < 16:
        return BASIC[number]
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    steps = (0, 95, 135, 175, 215, 255)
    number -= 16
    return "#" + "".join(f"{steps[number // by % 6]:02x}" for by in (36, 6, 1))


def styled(style: Style, codes: list[int]) -> Style:
    """A style after the codes of an escape sequence."""
    flags = {
        1: {"bold": True},
        3: {"slanted": True},
        4: {"underlined": True},
        7: {"reverse": True},
        22: {"bold": False},
        23: {"slanted": False},
        24: {"underlined": False},
        27: {"reverse": False},
        39: {"ink": Style().ink},
        49: {"paper": Style().paper},
    }
    rest = iter(codes or [0])
    for code in rest:
        if code == 0:
            style = Style()
        elif code in flags:
            style = style._replace(**flags[code])
        elif code in (38, 48):
            kind = next(rest)
            found = (
                colour(next(rest))
                if kind == 5
                else "#" + "".join(f"{next(rest):02x}" for _ in range(3))
            )
            style = style._replace(**{"ink" if code == 38 else "paper": found})
        elif 30 <= code % 60 <= 37 or 40 <= code % 60 <= 47:
            name = "ink" if code % 10 == code % 60 - 30 or code % 60 < 40 else "paper"
            style = style._replace(**{name: colour(code % 10 + (8 if code >= 90 else 0))})
    return style


def runs(screen: str) -> list[list[tuple[Style, str]]]:
    """Each line of a screen as pieces that look alike."""
    style, lines = Style(), []
    for line in OTHER.sub("", screen).split("\n"):
        pieces: list[tuple[Style, str]] = []
        parts = SGR.split(line)
        for number, part in enumerate(parts):
            if number % 2:
                style = styled(style, [int(code or 0) for code in part.split(";")])
            elif part:
                pieces.append((style, part))
        lines.append(pieces)
    return lines


def drawn(pieces: list[tuple[Style, str]]) -> str:
    """A line, as SVG at the top left."""
    papers, texts, column = [], [], 0
    for style, text in pieces:
        ink, paper = style.colours()
        x, width = round(column * CELL, 1), round(len(text) * CELL, 1)
        if paper != Style().paper:
            papers.append(f'<rect x="{x}" width="{width}" height="{LINE}" fill="{paper}"/>')
        if text.strip():
            lead = len(text) - len(text.lstrip())
            word = text.strip()
            looks = f' fill="{ink}"' if ink != Style().ink else ""
            looks += ' font-weight="bold"' if style.bold else ""
            looks += ' font-style="italic"' if style.slanted else ""
            looks += ' text-decoration="underline"' if style.underlined else ""
            texts.append(
                f'<text x="{round((column + lead) * CELL, 1)}" y="{LINE - 4.5}" '
                f'textLength="{round(len(word) * CELL, 1)}"{looks}>{escape(word)}</text>'
            )
        column += len(text)
    return "".join(papers + texts)


def film(frames: list[tuple[str, float]], columns: int, rows: int) -> str:
    """An SVG that shows each screen for its number of seconds, again and again.

    A line that stands in several frames is in the file once. Where nothing moves, the last frame
    is seen.
    """
    whole = sum(seconds for _, seconds in frames)
    names: dict[str, str] = {}
    groups, rules, begun = [], [], 0.0
    for number, (screen, seconds) in enumerate(frames):
        uses = []
        for row, pieces in enumerate(runs(screen)[:rows]):
            if line := drawn(pieces):
                name = names.setdefault(line, f"l{len(names)}")
                uses.append(f'<use href="#{name}" y="{row * LINE}"/>')
        groups.append(f'<g class="f" id="f{number}">{"".join(uses)}</g>')
        start, end = 100 * begun / whole, 100 * (begun + seconds) / whole
        before = f"0%,{start:.3f}%{{visibility:hidden}}" if number else ""
        rules.append(
            f"@keyframes k{number}{{{before}{start + (0.001 if number else 0):.3f}%,{end:.3f}%"
            f"{{visibility:visible}}{min(end + 0.001, 100):.3f}%,100%{{visibility:"
            f"{'visible' if number == len(frames) - 1 else 'hidden'}}}}}"
            f"#f{number}{{animation-name:k{number}}}"
        )
        begun += seconds
    width, height = round(columns * CELL) + 16, rows * LINE + 16
    lines = "".join(f'<g id="{name}">{line}</g>' for line, name in names.items())
    last = f"#f{len(frames) - 1}{{visibility:visible}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-size="{SIZE}" xml:space="preserve" '
        'font-family="DejaVu Sans Mono,Menlo,Consolas,monospace">'
        f"<style>.f{{visibility:hidden;animation:{whole:.2f}s step-end infinite}}"
        f"{last}{''.join(rules)}</style>"
        f'<rect width="{width}" height="{height}" rx="6" fill="#fff" stroke="#999"/>'
        f"<defs>{lines}</defs>"
        f'<g transform="translate(8,8)">{"".join(groups)}</g></svg>\n'
    )
