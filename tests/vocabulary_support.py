"""Texts and documents as the model's code has them, without a process around them."""

from __future__ import annotations

import json

from rlm_server.sandbox.documents import Document, Documents, located
from rlm_server.sandbox.mapped_text import Context


def document(text: str, path: str = "a.txt", first_line: int = 1, start: int = 0) -> Document:
    return located(Document(text), path, first_line, start)


def context(documents: dict[str, str]) -> Context:
    """The documents joined as the context room does it."""
    text, index = "", []
    for path, content in documents.items():
        if len(documents) > 1:
            text += f"===== {path} =====\n"
        index.append({"path": path, "start": len(text), "end": len(text) + len(content)})
        text += content
        if len(documents) > 1 and not content.endswith("\n"):
            text += "\n"
    made = Context(text)
    made.documents = Documents(made, json.dumps({"documents": index}).encode(), None)
    return made
