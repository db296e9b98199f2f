"""Runs in the forms that others read: an HTML page, Markdown, a script, the log of ``rlms``."""

from __future__ import annotations

import contextlib
import os
import tempfile
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
    """Write a run to a file of its user's only, all of it or nothing; return the bytes.

    Raises ExportError.
    """
    real = path.resolve()
    if real.parent == log.resolve().parent and real.suffix == log.suffix:
        raise ExportError("A run can't be exported among the logs.", cure="Name another file.")
    part: Path | None = None
    try:
        # A name that nobody can foresee: others may write in that directory too.
        number, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        part = Path(name)
        with os.fdopen(number, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(export(log, form))
        size = part.stat().st_size
        part.replace(path)
    except OSError as error:
        raise ExportError(
            f"The run can't be exported to {path}: {error.strerror or error}.",
            cure="Name a file in a directory that can be written.",
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):  # it has its name by now, if all went well
                part.unlink()
    return size
