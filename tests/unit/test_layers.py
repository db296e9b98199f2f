"""The layers import downwards only, and what runs in the sandbox imports nothing of the rest."""

import ast
from pathlib import Path

import pytest

import rlm_server

ROOT = Path(rlm_server.__file__).parent
BASE = {"protocol", "config", "errors", "text", "sse"}
MAY_IMPORT = {
    "doors": {"engine", "models", "sandbox", "context", "runs", "tools"} | BASE,
    "engine": {"models", "sandbox", "context", "runs", "tools"} | BASE,
    "models": BASE,
    "tools": BASE,
    "sandbox": BASE,
    "context": BASE,
    "runs": BASE,
}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def imported(path: Path) -> set[str]:
    """Parts of rlm_server that a module imports, its own left out."""
    own = path.relative_to(ROOT).parts[0]
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    parts = {name.split(".")[1] for name in names if name.startswith("rlm_server.")}
    return parts - {own}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    assert imported(path) <= MAY_IMPORT[path.relative_to(ROOT).parts[0]]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_says_in_its_first_line_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_doors_know_the_wire(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] != "doors":
        assert "pygls" not in path.read_text()
