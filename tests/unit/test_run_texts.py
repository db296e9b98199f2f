"""Texts that came with a question are found again by what is in them."""

import hashlib
import os
import resource
import signal
from pathlib import Path

import pytest

from rlm_server.errors import LogError, SourceError
from rlm_server.protocol import FileSource, Overlay, TextSource, TreeSource
from rlm_server.runs.texts import Texts


def test_inline_texts_and_spools_come_back_as_they_were(tmp_path: Path) -> None:
    texts = Texts(tmp_path / "texts")
    spool = tmp_path / "spool"
    spool.write_text("spooled\n")
    asked = [
        TextSource(text="inline \u20ac", name="note"),
        FileSource(path=str(spool), origin="/a/b.txt", first_line=7),
        FileSource(path=str(spool), origin="rlm-buffer:*x*", name="x"),
        TreeSource(root="/tree"),
        FileSource(path="/a/real.txt"),
    ]
    kept = texts.keep_sources(asked)
    assert kept[0].hash == hashlib.sha256("inline \u20ac".encode()).hexdigest()
    assert [type(k).__name__ for k in kept[3:]] == ["TreeSource", "FileSource"]
    spool.unlink()
    again = texts.sources(kept, tmp_path / "own")
    assert again[0] == asked[0]
    assert [(s.origin, s.first_line, s.name) for s in again[1:3]] == [
        ("/a/b.txt", 7, None),
        ("rlm-buffer:*x*", 1, "x"),
    ]
    assert len({s.path for s in again[1:3]}) == 2
    assert Path(again[2].path).read_text() == "spooled\n"


def test_overlays_come_back_and_what_is_gone_is_said(tmp_path: Path) -> None:
    texts = Texts(tmp_path / "texts")
    spool = tmp_path / "spool"
    spool.write_text("unsaved")
    kept = texts.keep_overlays(
        [Overlay(path="/f", spool=str(spool)), Overlay(path="/g", spool="/nowhere")]
    )
    assert [overlay.path for overlay in kept] == ["/f"]
    [again] = texts.overlays(kept)
    assert Path(again.spool).read_text() == "unsaved"
    assert texts.remove_all_but(set()) == 0  # its run may be about to begin
    os.utime(again.spool, (0, 0))
    assert texts.remove_all_but({kept[0].hash}) == 0
    assert texts.remove_all_but(set()) == len("unsaved")
    with pytest.raises(SourceError, match="not kept any more"):
        texts.overlays(kept)


def test_nothing_stays_of_a_text_that_can_not_be_written(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then it is an error, as a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(LogError, match="can't be kept"):
            Texts(tmp_path).keep_question("long " * (1 << 20), limit=10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
