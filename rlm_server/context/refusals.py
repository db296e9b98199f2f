"""What to say when the sources hold no text: the reason, and what the person can do."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_server.config import ContextConfig
from rlm_server.context.reasons import LeftOuts
from rlm_server.errors import SourceError
from rlm_server.protocol import FileSource, Source, TextSource

_FILE = {
    "gone": ("does not exist", "Check its name; save the buffer if it was never saved."),
    "binary": ("is not a text file", "Convert it to text first, and ask about that."),
    "unreadable": ("can't be read", "Check its permissions."),
    "not a file": ("is not a file", "Name a text file, or a directory as a tree."),
    "symlink": ("is a link that leads nowhere", "Check where the link points."),
}


def nothing_to_read(
    sources: Sequence[Source], left: LeftOuts, config: ContextConfig
) -> SourceError:
    """Make the error for sources that gave no text."""
    if not sources:
        return SourceError("No sources were given.", cure="Name a file, a directory or a text.")
    source = sources[0]
    if len(sources) == 1 and isinstance(source, FileSource) and left.first:
        return _file(source, left.first[0].reason, config)
    if left.counts:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(left.counts.items()))
        limits = " ([context] max-tree-file-bytes)" if "too large" in left.counts else ""
        return SourceError(
            f"The sources hold no text; left out: {counts}{limits}.",
            cure="Check what was named, the include and exclude globs, and the ignore files.",
        )
    kind = "The text is" if all(isinstance(s, TextSource) for s in sources) else "The sources are"
    return SourceError(f"{kind} empty.", cure="Ask about something that holds text.")


def _file(source: FileSource, reason: str, config: ContextConfig) -> SourceError:
    path = source.origin or source.path
    if reason == "too large":
        return SourceError(
            f"{path} is larger than {in_words(config.max_file_bytes)} ([context] max-file-bytes).",
            cure="Ask about a part of it, or raise the limit.",
        )
    what, cure = _FILE.get(reason, ("can't be used", "Name another file."))
    return SourceError(f"{path} {what}.", cure=cure)


def in_words(size: int) -> str:
    """Write a number of bytes for people."""
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}".replace(".0 ", " ")
    return f"{size} bytes"
