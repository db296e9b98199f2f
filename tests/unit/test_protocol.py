"""One vocabulary: Emacs draws every event, and the manual tells every method and event."""

import re
import typing
from pathlib import Path

import msgspec
import pytest

from rlm_server import protocol
from rlm_server.doors import jsonrpc

ROOT = Path(__file__).parent.parent.parent
EVENTS = [kind.__struct_config__.tag for kind in typing.get_args(protocol.AnyEvent)]
METHODS = sorted(set(re.findall(r'"(rlm/\w+)"', Path(jsonrpc.__file__).read_text())))
FIELDS = sorted(
    {
        (kind.__name__, field.encode_name)
        for kind in vars(protocol).values()
        if isinstance(kind, type) and issubclass(kind, protocol.Wire)
        for field in msgspec.structs.fields(kind)
    }
)


@pytest.mark.parametrize("event", EVENTS)
def test_emacs_draws_every_event(event: str) -> None:
    elisp = "".join(path.read_text() for path in (ROOT / "elisp").glob("*.el"))
    assert f"(eql '{event})" in elisp


@pytest.mark.parametrize("name", [*EVENTS, *METHODS])
def test_the_manual_tells_every_method_and_event(name: str) -> None:
    assert name in (ROOT / "elisp" / "rlm.org").read_text()


def test_names_on_the_wire_are_camel_case() -> None:
    assert all(re.fullmatch(r"[a-z][a-zA-Z]*", name) for _, name in FIELDS)


def test_every_struct_says_what_it_is() -> None:
    for kind in vars(protocol).values():
        if isinstance(kind, type) and issubclass(kind, protocol.Wire):
            assert kind.__doc__, kind


def test_sources_are_told_apart_by_their_kind() -> None:
    sources = [
        {"kind": "text", "text": "a"},
        {"kind": "file", "path": "/b"},
        {"kind": "tree", "root": "/c"},
    ]
    body = msgspec.json.encode({"question": "q", "sources": sources})
    decoded = msgspec.json.decode(body, type=protocol.AskParams)
    assert [type(source).__name__ for source in decoded.sources] == [
        "TextSource",
        "FileSource",
        "TreeSource",
    ]
