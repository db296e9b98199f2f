"""Where the files of a past run are: as when it was asked, or elsewhere, on another machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from rlm_server.errors import NotResumableError
from rlm_server.protocol import FileSource, KeptOverlay, KeptSource, TreeSource


def places_of(sources: Sequence[KeptSource]) -> list[str]:
    """The files and directories that sources reach; texts that came along never change."""
    return [
        source.root if isinstance(source, TreeSource) else source.path
        for source in sources
        if isinstance(source, TreeSource | FileSource)
    ]


class Moved:
    """Finds what was in one place in another one."""

    def __init__(self, sources: Sequence[KeptSource], places: Sequence[str]) -> None:
        """``places`` has one for each file and directory of the sources, in their order.

        With none, nothing has moved. Raises NotResumableError where the numbers differ.
        """
        before = places_of(sources)
        if places and len(places) != len(before):
            raise NotResumableError(
                f"The run is about other files and directories than {len(places)}.",
                cure=f"Say where each of these is now, in this order: {', '.join(before) or '-'}.",
            )
        self._now = dict(zip(before, places, strict=False))

    def sources(self, sources: Sequence[KeptSource]) -> list[KeptSource]:
        """The sources where they are now."""
        return [self._source(source) for source in sources]

    def overlays(self, overlays: Sequence[KeptOverlay]) -> list[KeptOverlay]:
        """The overlays of the files where they are now."""
        return [replace(overlay, path=self._place(overlay.path)) for overlay in overlays]

    def _source(self, source: KeptSource) -> KeptSource:
        if isinstance(source, TreeSource):
            return replace(source, root=self._place(source.root))
        return (
            replace(source, path=self._place(source.path))
            if isinstance(source, FileSource)
            else source
        )

    def _place(self, path: str) -> str:
        for before, now in self._now.items():
            if Path(path).is_relative_to(before):
                return str(Path(now) / Path(path).relative_to(before))
        return path
