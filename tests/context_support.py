"""What the tests of the context share: making trees, building, and being nobody."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlm_server.config import ContextConfig
from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import Corpus, Document
from rlm_server.protocol import Overlay, Source


def make(root: Path, files: dict[str, str | bytes]) -> None:
    """Write files, and the directories they are in."""
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


async def build(
    *sources: Source,
    directory: Path,
    overlays: Sequence[Overlay] = (),
    config: ContextConfig | None = None,
) -> Corpus:
    """Build a corpus, with no interest in progress."""
    return await build_corpus(
        sources,
        overlays,
        directory=directory,
        config=config or ContextConfig(),
        on_progress=lambda documents, count: None,
    )


def text_of(corpus: Corpus, document: Document) -> str:
    """Give a document's whole text."""
    return corpus.head(document.end)[document.start :]


@contextlib.contextmanager
def nobody() -> Iterator[Path]:
    """Give a directory of one's own, without the privileges of root, for which all is allowed.

    Nothing can be imported meanwhile where the interpreter is in root's home.
    """
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        directory = Path(tempfile.mkdtemp())
        yield directory
    finally:
        if root:
            os.seteuid(0)
        for path, _, _ in os.walk(directory):
            Path(path).chmod(0o700)
        shutil.rmtree(directory)
