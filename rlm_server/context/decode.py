"""Bytes to text: which encoding a file has, whether it is text at all, and its decoding.

UTF-8 wherever the bytes are UTF-8, else the byte order mark, else the encoding that the file
itself names in its first lines, else a guess; what can't be decoded becomes U+FFFD. Nothing here
ever fails.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

SAMPLE = 64 << 10
"""Bytes at the beginning of a file that decide whether it is text."""

_GUESS = 16 << 10
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGIC = (
    b"%PDF-",
    b"\x89PNG\r\n",
    b"GIF8",
    b"\xff\xd8\xff",
    b"\x1f\x8b\x08",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04",
    b"\x7fELF",
    b"P4\n",
    b"P5\n",
    b"P6\n",
)
_SUFFIXES = (
    ".7z .a .avi .bin .bmp .bz2 .class .db .deb .dll .dylib .eln .eot .exe .flac .gif .gz .ico"
    " .iso .jar .jpeg .jpg .lz4 .m4a .mkv .mo .mov .mp3 .mp4 .npy .npz .o .odt .ogg .otf .pbm .pdf"
    " .pickle .png .pyc .pyd .pyo .rar .rpm .so .sqlite .tar .tgz .tif .tiff .ttf .wasm .wav .webm"
    " .webp .whl .woff .woff2 .xls .xlsx .docx .pptx .xz .zip .zst"
)
BINARY_SUFFIXES = frozenset(_SUFFIXES.split())
"""Endings of names that tell, without opening a file, that it is hardly text."""
# Backspace, tab, newline, vertical tab, form feed, return and escape do occur in texts.
_CONTROLS = bytes({*range(32), 127} - {8, 9, 10, 11, 12, 13, 27})
_DECLARED = re.compile(rb"(?:coding|charset)[:=][ \t]*[\"']?([-\w.]+)")
_DECLARABLE = re.compile(r"iso8859|cp\d|koi8|mac|shift_jis|euc|gb|big5|johab|tis|kz|ptcp|hp_roman")
_WESTERN = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœÀÁÂÄÅÆÇÈÉÊËÍÎÑÓÔÖØÚÜŒ€£©®°§·«»¡¿‘’“”–—…•"
_WESTERN_BYTES = bytes(range(128)) + _WESTERN.encode("cp1252")
_GUESSABLE = [
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "iso8859_2",
    "iso8859_5", "iso8859_7", "koi8_r", "koi8_u", "cp866", "cp932", "euc_jp", "gb18030", "big5",
    "cp949", "mac_roman", "tis_620",
]  # fmt: skip


def byte_order_mark(head: bytes) -> tuple[str, int] | None:
    """Give the encoding that a byte order mark names, and the mark's length."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding, len(mark)
    return None


def is_binary(head: bytes) -> bool:
    """Say whether bytes from the beginning of a file are something else than text."""
    head = head[:SAMPLE]
    mark = byte_order_mark(head)
    if mark is not None and mark[0] != "utf-8":
        return _is_garbage(head[mark[1] : 4096].decode(mark[0], "replace"))
    if b"\0" in head or head.startswith(_MAGIC):
        return True
    controls = len(head) - len(head.translate(None, _CONTROLS))
    # Compressed data has one control byte in ten, texts in any encoding nearly none.
    return controls * 25 > len(head) + 50


def guess(head: bytes, sample: bytes) -> str:
    """Guess the encoding of bytes that are not UTF-8 as a whole.

    ``head`` is the file's beginning, ``sample`` some bytes from where it stopped being UTF-8.
    """
    sample = sample[:_GUESS]
    return _declared(head, sample) or _broken_utf8(sample) or _western(sample) or _other(sample)


def decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[str]:
    r"""Decode piece by piece; "\r\n" becomes "\n", a "\r" alone stays, no surrogate comes out."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    held = ""
    for chunk in chunks:
        text = held + decoder.decode(chunk)
        held = "\r" if text.endswith("\r") else ""
        yield _cleaned(text[:-1] if held else text)
    yield _cleaned(held + decoder.decode(b"", final=True))


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which no encoder and no JSON reader accepts, by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _is_garbage(text: str) -> bool:
    """Say whether characters that a byte order mark promised are none: one in ten is odd."""
    odd = sum(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text)
    return odd * 10 > len(text)


def _cleaned(text: str) -> str:
    return text.replace("\r\n", "\n") if "\r" in text else text


def _declared(head: bytes, sample: bytes) -> str | None:
    """Read an encoding from the file's own first lines, if it fits the bytes."""
    for match in _DECLARED.finditer(head[:1024]):
        try:
            name = codecs.lookup(match[1].decode("ascii")).name
            if _DECLARABLE.match(name):
                codecs.getincrementaldecoder(name)().decode(sample)
                return name
        except (LookupError, UnicodeError):
            continue
    return None


def _broken_utf8(sample: bytes) -> str | None:
    """Recognise UTF-8 with a few broken places: most of its non-ASCII characters are whole."""
    text = sample.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    whole = len(text) - len(text.encode("ascii", "ignore")) - broken
    return "utf-8" if whole > broken else None


def _western(sample: bytes) -> str | None:
    """Recognise Western European text: few bytes beyond ASCII, and all of them common there."""
    foreign = len(sample.translate(None, _WESTERN_BYTES))
    high = len(sample) - len(sample.decode("ascii", "ignore"))
    return "cp1252" if foreign == 0 and high * 5 < len(sample) else None


def _other(sample: bytes) -> str:
    """Let charset-normalizer guess; latin-1, which takes any byte, where it can't."""
    import charset_normalizer  # takes 50 ms, and most questions never need it

    best = charset_normalizer.from_bytes(sample, cp_isolation=_GUESSABLE).best()
    return codecs.lookup(best.encoding).name if best is not None else "iso8859-1"
