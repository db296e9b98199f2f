from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest

from context_support import make, nobody
from rlm_server.context import walk
from rlm_server.context.walk import Found, Omitted, Walk
from rlm_server.protocol import TreeSource


def walked(root: Path, **options: object) -> tuple[list[str], dict[str, str]]:
    """Give the files found, in order, and the reason of each that is left out."""
    items = list(Walk(TreeSource(root=str(root), **options)))  # type: ignore[arg-type]
    found = [item.path for item in items if isinstance(item, Found)]
    return found, {item.path: item.reason for item in items if isinstance(item, Omitted)}


def test_files_and_directories_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    paths = ["a", "b/a", "b/c/d", "b/z", "b.txt", "c", "é", "Z"]
    random.Random(1).shuffle(paths)
    make(tmp_path, dict.fromkeys(paths, "x"))
    assert walked(tmp_path) == (["Z", "a", "b/a", "b/c/d", "b/z", "b.txt", "c", "é"], {})


def test_a_large_directory_is_sorted_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "_SORT_AT_ONCE", 3)
    make(tmp_path, {f"{number * 7 % 23:02}": "" for number in range(23)})
    assert walked(tmp_path)[0] == [f"{number:02}" for number in range(23)]


def test_what_version_control_keeps_is_left_out(tmp_path: Path) -> None:
    kept = [".git/HEAD", "a/.hg/x", ".svn/x", ".jj/x", "CVS/x", "_darcs/x", ".bzr/x"]
    make(tmp_path, {**dict.fromkeys(kept, "x"), "sub/.git": "gitdir: ../x", "docs/CVS": "a file"})
    found, omitted = walked(tmp_path)
    assert found == ["docs/CVS"]
    assert omitted == dict.fromkeys(
        [".git/", "a/.hg/", ".svn/", ".jj/", "CVS/", "_darcs/", ".bzr/", "sub/.git"],
        "version control",
    )


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    make(tmp_path, {"outside/secret": "x", "root/a/x": "x"})
    (root / "file").symlink_to(outside / "secret")
    (root / "directory").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "a/loop").symlink_to(".")
    (root / "self").symlink_to("self")
    (root / "dangling").symlink_to("nothing")
    (root / "inside").symlink_to("a/x")
    found, omitted = walked(root)
    assert found == ["a/x"]
    assert omitted == dict.fromkeys(
        ["file", "directory", "up", "a/loop", "self", "dangling", "inside"], "symlink"
    )


def test_a_link_stands_in_for_a_file_that_only_the_globs_pass_over(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    make(root, {"README.md": "x", "secret.md": "x", "docs/guide.md": "x", ".gitignore": "secret*"})
    make(outside, {"other.md": "x"})
    (root / "docs/index.md").symlink_to("../README.md")
    (root / "docs/hidden.md").symlink_to("../secret.md")
    (root / "docs/other.md").symlink_to(outside / "other.md")
    items = list(Walk(TreeSource(root=str(root), include=["docs/*.md"])))
    found = [item for item in items if isinstance(item, Found)]
    assert found == [
        Found("docs/guide.md", str(root / "docs/guide.md")),
        Found("docs/index.md", str(root / "README.md")),
    ]
    assert Omitted("docs/hidden.md", "symlink") in items
    assert Omitted("docs/other.md", "symlink") in items


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    make(tmp_path, {"real/x": ""})
    (tmp_path / "link").symlink_to("real")
    assert walked(tmp_path / "link")[0] == ["x"]


def test_pipes_and_sockets_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    assert walked(tmp_path) == ([], {"pipe": "not a file", "socket": "not a file"})


def test_include_takes_directories_whole_and_exclude_wins(tmp_path: Path) -> None:
    make(tmp_path, {"src/a.c": "", "src/gen/b.c": "", "src/t/x.txt": "", "x.py": "", "y.c": ""})
    found, omitted = walked(tmp_path, include=["src/", "*.py", "!*.txt"], exclude=["gen/"])
    assert found == ["src/a.c", "x.py"]
    assert omitted == {
        "src/gen/": "excluded",
        "src/t/x.txt": "not included",
        "y.c": "not included",
    }


def test_a_directory_without_permission_is_left_out_and_said_so() -> None:
    with nobody() as root:
        make(root, {"closed/x": "", "open/x": ""})
        (root / "closed").chmod(0)
        assert walked(root) == (["open/x"], {"closed/": "unreadable"})


def test_a_directory_that_goes_meanwhile_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, {"a": "", "b/x": "", "c": ""})
    found: list[str] = []
    for item in Walk(TreeSource(root=str(tmp_path))):
        if item.path == "a":
            (tmp_path / "b/x").unlink()
            (tmp_path / "b").rmdir()
        found.append(item.path)
        if item.path == "b/":
            assert item == Omitted("b/", "gone")
    assert found == ["a", "b/", "c"]
