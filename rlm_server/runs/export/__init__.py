"""Runs in the forms that others read: an HTML page, Markdown, a script, the log of ``rlms``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rlm_server.errors import ExportError
from rlm_server.protocol import ExportFormat
from rlm_server.runs.export import html, markdown, python, rlms
from rlm_server.runs.export.story import tell

_WRITERS = {"markdown": markdown.write, "python": python.write, "rlms": rlms.write}


def export(log: Path, form: ExportFormat) -> Iterator[str]:
    """Yield a run in this form, as its log is now. Raises OSError."""
    if form == "html":
        return html.write(lambda: tell(log))
    return _WRITERS[form](tell(log))


def export_to(log: Path, form: ExportFormat, path: Path) -> int:
    """Write a run to a file, all of it or nothing; return the bytes. Raises ExportError."""
    if path.resolve() == log.resolve():
        raise ExportError("A run can't be exported over its own log.", cure="Name another file.")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(export(log, form))
        size = part.stat().st_size
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise ExportError(
            f"The run can't be exported to {path}: {error.strerror or error}.",
            cure="Name a file in a directory that can be written.",
        ) from error
    return size
