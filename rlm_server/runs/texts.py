"""Texts that came with questions, kept by content, so that a run can be resumed without them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rlm_server.errors import LogError, SourceError
from rlm_server.protocol import (
    FileSource,
    KeptOverlay,
    KeptSource,
    KeptText,
    Overlay,
    Source,
    TextSource,
)

NEW_SECONDS = 600
"""How long a text is kept that no log names."""

HASH = 64
"""Characters of a hash, with which every text's name ends."""


class Texts:
    """The kept texts of one state directory. Methods block: not for the event loop."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made before there is something to keep."""
        self.directory = directory

    def keep_sources(self, sources: Sequence[Source]) -> list[KeptSource]:
        """Keep what a client will not keep, and say by what it is found again. Raises LogError."""
        return [self._kept(source) for source in sources]

    def keep_question(self, question: str, limit: int) -> str:
        """Keep a question that is too long for an event; give its hash, else an empty string."""
        return self._keep(question.encode("utf-8", "replace")) if len(question) > limit else ""

    def keep_further(self, question: str, limit: int, run_id: str) -> str:
        """Keep a further question of a run as ``keep_question`` does, for as long as the run."""
        data = question.encode("utf-8", "replace")
        if len(question) <= limit:
            return ""
        return self._install(owner(run_id) + hashlib.sha256(data).hexdigest(), data)

    def question(self, name: str) -> str:
        """Give a long question; an empty string where it was not kept."""
        return self._found(name).read_text("utf-8") if name else ""

    def keep_overlays(self, overlays: Sequence[Overlay]) -> list[KeptOverlay]:
        """Keep unsaved texts; those that are gone already are left out. Raises LogError."""
        found = ((overlay.path, self._keep_file(overlay.spool)) for overlay in overlays)
        return [KeptOverlay(path=path, hash=name) for path, name in found if name]

    def sources(self, kept: Sequence[KeptSource], directory: Path) -> list[Source]:
        """Give the sources as they were asked about; raises SourceError where a text is gone.

        What needs a file of its own gets one in ``directory``.
        """
        return [
            self._source(source, directory / f"spool-{number}")
            if isinstance(source, KeptText)
            else source
            for number, source in enumerate(kept)
        ]

    def overlays(self, kept: Sequence[KeptOverlay]) -> list[Overlay]:
        """Give the overlays as they were; raises SourceError where a text is gone."""
        return [Overlay(path=each.path, spool=str(self._found(each.hash))) for each in kept]

    def remove_all_but(self, wanted: set[str], owners: Collection[str] = ()) -> int:
        """Remove the texts that no run needs; give their bytes.

        ``wanted`` are names of texts, ``owners`` those of runs as ``owner`` gives them. The newest
        stay: the log that will name them may not be written yet.
        """
        removed = 0
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    needed = path.name in wanted or path.name[:-HASH] in owners
                    if not needed and time.time() - status.st_mtime > NEW_SECONDS:
                        path.unlink()
                        removed += status.st_size
        return removed

    def _kept(self, source: Source) -> KeptSource:
        if isinstance(source, TextSource):
            name = self._keep(source.text.encode("utf-8", "surrogatepass"))
            return KeptText(hash=name, name=source.name)
        if isinstance(source, FileSource) and source.origin and (n := self._keep_file(source.path)):
            return KeptText(
                hash=n, name=source.name, origin=source.origin, first_line=source.first_line
            )
        return source

    def _source(self, kept: KeptText, own: Path) -> Source:
        found = self._found(kept.hash)
        if kept.origin is None:
            text = found.read_bytes().decode("utf-8", "surrogatepass")
            return TextSource(text=text, name=kept.name or "text")
        # A file reached twice is read once, so that each text needs a name of its own.
        own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.unlink(missing_ok=True)
        shutil.copyfile(found, own)
        return FileSource(
            path=str(own), name=kept.name, origin=kept.origin, first_line=kept.first_line
        )

    def _found(self, name: str) -> Path:
        path = self.directory / name
        if not name.isalnum() or not path.exists():
            raise SourceError(
                "A text that came with the question is not kept any more.",
                cure="Ask the question again.",
            )
        return path

    def _keep_file(self, path: str) -> str | None:
        """Keep a file's bytes; None where it can't be read, which the run will tell."""
        try:
            with Path(path).open("rb") as file:
                name = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                return self._install(name, file.read())
        except (OSError, ValueError):
            return None

    def _keep(self, data: bytes) -> str:
        return self._install(hashlib.sha256(data).hexdigest(), data)

    def _install(self, name: str, data: bytes) -> str:
        place = self.directory / name
        if place.exists():
            with contextlib.suppress(OSError):
                os.utime(place)
            return name
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file, temporary = tempfile.mkstemp(prefix=".", dir=self.directory)
            try:
                with os.fdopen(file, "wb") as stream:
                    stream.write(data)
                Path(temporary).replace(place)
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise LogError(
                f"The question's text can't be kept in {self.directory}: {error}.",
                cure="Free some disk space, or set RLM_STATE to a directory that can be written.",
            ) from error
        return name


def owner(run_id: str) -> str:
    """What the name of a text begins with that one run has, in the midst of its log."""
    return run_id.replace("-", "")
