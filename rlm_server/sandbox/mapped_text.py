"""A real ``str`` whose characters are a mapped file: any size, opened at once, no private memory.

Runs inside the sandbox: standard library only.

CPython keeps instances of ``str`` subclasses in two parts: a header, and a pointer to the
characters. So the pointer and the length of a one-character string can be aimed at a mapping that
holds text in the interpreter's own form: 1, 2 or 4 bytes a character, whichever is the narrowest
that fits, ended by NULs. No flag is touched, because the one character is of the right kind. The
layout is checked on that character before anything is written, and the whole trick is tried out
before it is used; where it fails, the text is copied.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .documents import Document, Documents, cut_out

HEADER = 4096
MAGIC = b"RLMCTX01"
_FIELDS = struct.Struct("<8sBB6xQ")  # magic, bytes a character, whether all ASCII, characters
_SEEDS = {(1, True): "a", (1, False): "\xe9", (2, False): "\u20ac", (4, False): "\U0001f600"}
_ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}

_item = str.__getitem__
_immortal: list[Any] = []  # freeing one would hand the mapping to the interpreter's allocator


class Context(str):
    """The whole text, a ``str`` in every respect, with its documents."""

    documents: Documents

    def __getitem__(self, which: Any) -> Any:
        """Slice as any text does; a path gives that document."""
        if isinstance(which, str):
            return self.documents[which]
        if type(which) is slice:
            start, end, _ = which.indices(len(self))
            cut_out(start, end)
        return _item(self, which)

    def paths(self) -> list[str]:
        """Return the paths of all documents, in order."""
        return self.documents.paths()

    keys = paths  # so that it is a mapping of documents too

    def values(self) -> Documents:
        """Return the documents."""
        return self.documents

    def items(self) -> Iterator[tuple[str, Document]]:
        """Yield each path with its document."""
        return self.documents.items()

    def get(self, path: str, default: Any = None) -> Any:
        """Return the document of this path, or the default."""
        return self.documents.get(path, default)

    def __repr__(self) -> str:
        if len(self) <= 10_000:
            return str.__repr__(self)
        return (
            f"<context of {len(self):,} characters in {len(self.documents):,} documents, "
            f"beginning {self[:200]!r}>"
        )


def open_context(
    text_fd: int, index_fd: int, part: tuple[int, int] | None = None
) -> tuple[Context, bool]:
    """Make the context of its two open files; the flag says whether it had to be copied.

    With ``part``, the context is what stands between these two offsets. Raises ValueError where
    the file is not of the agreed form.
    """
    size = os.fstat(text_fd).st_size
    magic, width, is_ascii, length = _FIELDS.unpack(os.pread(text_fd, _FIELDS.size, 0))
    if magic != MAGIC or width not in _ENCODINGS or HEADER + length * width + 4 > size:
        raise ValueError("the context file is damaged")
    with open(index_fd, "rb", closefd=False) as file:
        index = file.read()
    if part is not None:
        start, end = part
        return _part(text_fd, index, width, bool(is_ascii), start, min(end, length))
    if supported() and length > 1:
        address = _map(text_fd, size) + HEADER
        text = _aimed(Context, address, length, width, bool(is_ascii))
        text.documents = Documents(text, index, _aim_at(address) if is_ascii else None)
        return text, False
    with open(text_fd, "rb", closefd=False) as file:
        file.seek(HEADER)
        text = Context(file.read(length * width).decode(_ENCODINGS[width], "surrogatepass"))
    text.documents = Documents(text, index, None)
    return text, True


def _part(
    text_fd: int, index: bytes, width: int, is_ascii: bool, start: int, end: int
) -> tuple[Context, bool]:
    """Make the context of a part of the text; only ASCII can be used where it lies.

    A part of a wider text may need a narrower form, which is the interpreter's to find.
    """
    if is_ascii and supported() and end - start > 1:
        address = _map(text_fd, os.fstat(text_fd).st_size) + HEADER + start
        text = _aimed(Context, address, end - start, 1, True)
        text.documents = Documents(text, index, _aim_at(address))
        return text, False
    with open(text_fd, "rb", closefd=False) as file:
        file.seek(HEADER + start * width)
        raw = file.read((end - start) * width)
    text = Context(raw.decode(_ENCODINGS[width], "surrogatepass"))
    text.documents = Documents(text, index, None)
    return text, True


def _aim_at(address: int) -> Callable[[int, int], Document]:
    """Return a function that makes documents of mapped ASCII text."""

    def aim(start: int, end: int) -> Document:
        document: Document = _aimed(Document, address + start, end - start, 1, True)
        return document

    return aim


_works: bool | None = None


def supported() -> bool:
    """Tell whether this interpreter passes the self-test; tried once."""
    global _works
    if _works is None:
        try:
            _works = _self_test()
        except Exception:
            _works = False
    return _works


def _self_test() -> bool:
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    for (width, is_ascii), seed in _SEEDS.items():
        expected = f"{seed}bc def\nx=42 {seed}" * 50
        raw = expected.encode(_ENCODINGS[width], "surrogatepass") + b"\0" * 8
        memory = mmap.mmap(-1, len(raw), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.write(raw)
        held = ctypes.c_char.from_buffer(memory)
        _immortal.append((memory, held))
        text = _aimed(Document, ctypes.addressof(held), len(expected), width, is_ascii)
        same = (
            text == expected
            and expected == text
            and hash(text) == hash(expected)
            and text[3:] == expected[3:]
            and text.split() == expected.split()
            and text.find("x=42") == expected.find("x=42")
            and text.encode() == expected.encode()
            and text.upper() + text == expected.upper() + expected
            and {text: 1}[expected] == 1
        )
        if not same:
            return False
    return True


def _map(fd: int, size: int) -> int:
    """Map a file read-only and shared, so that it counts as nobody's private memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "the context can't be mapped")
    return int(address)


def _aimed(kind: type[Any], address: int, length: int, width: int, is_ascii: bool) -> Any:
    """Make a string of this class whose characters are those at the address."""
    seed_text = _SEEDS[width, is_ascii]
    seed = kind(seed_text)
    base = id(seed)
    at_length = object.__basicsize__
    at_data = str.__basicsize__ - 8
    # Python 3.11 and older have a third field between the cached UTF-8 and the characters.
    at_utf8 = at_data - 8 if sys.version_info >= (3, 12) else at_data - 16
    data = ctypes.c_size_t.from_address(base + at_data).value
    if ctypes.c_ssize_t.from_address(base + at_length).value != 1:
        raise RuntimeError("unknown layout of str: length")
    if ctypes.string_at(data, width) != seed_text.encode(_ENCODINGS[width]):
        raise RuntimeError("unknown layout of str: characters")
    if is_ascii and ctypes.c_size_t.from_address(base + at_utf8).value != data:
        raise RuntimeError("unknown layout of str: cached UTF-8")
    _immortal.append(seed)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(seed))
    ctypes.c_ssize_t.from_address(base + at_length).value = length
    ctypes.c_ssize_t.from_address(base + at_length + 8).value = -1  # the hash is not yet known
    ctypes.c_size_t.from_address(base + at_data).value = address
    if is_ascii:
        ctypes.c_ssize_t.from_address(base + at_utf8 - 8).value = length
        ctypes.c_size_t.from_address(base + at_utf8).value = address
    return seed
