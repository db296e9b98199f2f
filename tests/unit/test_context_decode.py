from __future__ import annotations

import codecs
import random
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.context.decode import (
    byte_order_mark,
    decoded,
    guess,
    is_binary,
    without_surrogates,
)

FRENCH = "Où êtes-vous allé, garçon ? Le café était très bon — « déjà vu ».\n" * 20
RUSSIAN = "Привет, как дела? Это проверка кодировки.\n" * 20
JAPANESE = "これは日本語の文章です。漢字とかなを使います。\n" * 20


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.text(), st.lists(st.integers(0, 1000), max_size=5))
def test_text_is_the_same_however_it_is_cut(text: str, cuts: list[int]) -> None:
    expected = text.replace("\r\n", "\n")
    for encoding in ("utf-8", "utf-16-le", "utf-32-be"):
        chunks = pieces(text.encode(encoding), cuts)
        assert "".join(decoded(chunks, encoding)) == expected


@given(st.binary(), st.binary())
def test_no_bytes_make_it_fail_or_leave_surrogates(head: bytes, more: bytes) -> None:
    data = head + more
    mark = byte_order_mark(data)
    encoding = mark[0] if mark else guess(data, data)
    "".join(decoded([head, more], encoding)).encode()
    is_binary(data)


def test_only_returns_before_newlines_go() -> None:
    chunks = [b"a\r", b"\nb\rc\r", b"\r", b"\n", b"\r"]
    assert "".join(decoded(chunks, "utf-8")) == "a\nb\rc\r\n\r"


@pytest.mark.parametrize(
    ("text", "encoding", "guessed"),
    [
        (FRENCH, "cp1252", "cp1252"),
        ("int x; /* Größe */\n" * 50, "iso8859-1", "cp1252"),
        ("plain words\n" * 1000 + "one é only\n", "iso8859-1", "cp1252"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8-r", "koi8-r"),
        (JAPANESE, "cp932", "cp932"),
        (JAPANESE, "euc_jp", "euc_jp"),
        ("这是一个中文的句子，用来测试编码。\n" * 20, "gb18030", "gb18030"),
    ],
)
def test_the_encoding_of_text_is_guessed(text: str, encoding: str, guessed: str) -> None:
    data = text.encode(encoding)
    assert not is_binary(data)
    assert guess(data, data) == guessed
    assert "".join(decoded([data], guessed)) == text


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        ("# -*- coding: koi8-r -*-", "koi8-r"),
        ('<?xml version="1.0" encoding="iso-8859-5"?>', "iso8859-5"),
        ("Content-Type: text/plain; charset=cp866", "cp866"),
    ],
)
def test_a_file_may_name_its_encoding(line: str, encoding: str) -> None:
    data = f"{line}\nда\n".encode(encoding)
    assert guess(data, data) == encoding


@pytest.mark.parametrize("name", ["rot13", "unicode_escape", "utf-7", "no-such-thing", "ascii"])
def test_a_file_cannot_name_what_is_no_legacy_encoding(name: str) -> None:
    data = f"coding: {name}\n".encode() + b"caf\xe9, and more words to make it plain\n"
    assert guess(data, data) == "cp1252"


def test_utf8_with_a_few_broken_places_is_utf8() -> None:
    data = RUSSIAN.encode() + b"\xd0" + RUSSIAN.encode() + b"\xff\xfe"
    assert guess(data, data) == "utf-8"
    text = "".join(decoded([data], "utf-8"))
    assert text.count("\ufffd") == 3
    assert text.count("Привет") == 40


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain\ttext\r\n",
        b"\x1b[31mred\x1b[0m\x0c\n" * 9,
        b"\x01",
        RUSSIAN.encode("koi8-r"),
        JAPANESE.encode("cp932"),
        codecs.BOM_UTF16_LE + JAPANESE.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + FRENCH.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + FRENCH.encode("utf-32-le"),
        codecs.BOM_UTF8 + FRENCH.encode(),
    ],
)
def test_text_is_no_binary(data: bytes) -> None:
    assert not is_binary(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a\0b",
        codecs.BOM_UTF8 + b"a\0b",
        b"%PDF-1.4\nall ascii from here on\n",
        b"\x89PNG\r\n\x1a\n",
        zlib.compress(random.Random(1).randbytes(5000)).replace(b"\0", b""),
        codecs.BOM_UTF16_LE + random.Random(2).randbytes(4000),
        codecs.BOM_UTF32_LE + random.Random(3).randbytes(4000),
        bytes(range(1, 256)) * 40,
    ],
)
def test_data_is_binary(data: bytes) -> None:
    assert is_binary(data)


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    assert without_surrogates("a\ud800b\ud83d\ude00") == "a\ufffdb\U0001f600"
    assert without_surrogates("wholly fine é") == "wholly fine é"
