from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from context_support import make
from rlm_server.context.walk import Found, Omitted, Walk
from rlm_server.protocol import TreeSource

# Hypothesis draws names and patterns of the same few letters, so that they meet often.
NAMES = st.text(alphabet="ab.", min_size=1, max_size=3).filter(lambda n: n not in (".", ".."))
ODD_NAMES = st.sampled_from(["a b", "a ", "#a", "!a", "[a]", "a\\", "*", "a-b", "logs", "x.log"])
PATHS = st.lists(NAMES | ODD_NAMES, min_size=1, max_size=4).map("/".join)
PLAIN = r"a b ab . * ** ? / / ! # \ - logs .log /**/ **/ /** *. \* **\/"
SETS = r"[ab] [!a] [^b] [a-b] [ ] []a] [[:alpha:]] [[:x:]] [b-a] [\]] [a [!-a] [[:] [a-] [/]"
PARTS = st.sampled_from([*PLAIN.split(), *SETS.split(), " ", "\r"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=6).map("".join)
FILES = st.lists(PATTERNS, max_size=5)


def git(directory: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout


def found(root: Path, **options: object) -> list[str]:
    walk = Walk(TreeSource(root=str(root), **options))  # type: ignore[arg-type]
    return [item.path for item in walk if isinstance(item, Found)]


def omitted(root: Path, **options: object) -> dict[str, str]:
    walk = Walk(TreeSource(root=str(root), **options))  # type: ignore[arg-type]
    return {item.path: item.reason for item in walk if isinstance(item, Omitted)}


def git_files(root: Path) -> list[str]:
    listed = git(root, "ls-files", "-z", "--others", "--cached", "--exclude-standard")
    return listed.split("\0")[:-1]


@settings(
    max_examples=int(os.environ.get("RLM_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    paths=st.lists(PATHS, min_size=1, max_size=12),
    ignore=FILES,
    nested=st.dictionaries(st.integers(0, 11), FILES, max_size=2),
    exclude=FILES,
)
def test_the_files_of_a_tree_are_those_that_git_lists(
    tmp_path_factory: pytest.TempPathFactory,
    paths: list[str],
    ignore: list[str],
    nested: dict[int, list[str]],
    exclude: list[str],
) -> None:
    root = tmp_path_factory.mktemp("tree")
    git(root, "init", "-q")
    for path in paths:
        try:
            make(root, {path: "text"})
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # the path of an earlier file
    directories = [d for d in root.rglob("*") if d.is_dir() and ".git" not in d.parts]
    if directories:
        for number, lines in nested.items():
            (directories[number % len(directories)] / ".gitignore").write_text("\n".join(lines))
    (root / ".gitignore").write_text("\n".join(ignore))
    (root / ".git/info/exclude").write_text("\n".join(exclude))

    assert sorted(found(root)) == sorted(git_files(root))


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.log", ["x.log", "a/x.log"], ["x.log.txt"]),
        ("/x", ["x"], ["a/x"]),
        ("/x", ["x/deep"], ["a/x"]),
        ("a/x", ["a/x"], ["b/a/x"]),
        ("build/", ["build/x", "a/build/x"], ["src/build"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["xx"]),
        ("a/**", ["a/x", "a/b/x"], ["b/a/x"]),
        ("a/**/x", ["a/x", "a/b/x", "a/b/c/x"], ["a/xx"]),
        ("[[:digit:]]x", ["1x"], ["ax"]),
        ("[!a]x", ["bx"], ["ax", "b/x"]),
        (r"\#x", ["#x"], ["x"]),
        ("x ", ["x"], ["x y"]),
        ("x\\ ", ["x "], ["x"]),
        ("[a", [], ["[a", "a"]),
        ("x\\", [], ["x", "x\\"]),
        ("#x", [], ["#x"]),
    ],
)
def test_a_pattern_takes_what_git_takes(
    tmp_path: Path, pattern: str, matching: list[str], other: list[str]
) -> None:
    for path in (*matching, *other):
        make(tmp_path, {path: ""})
    (tmp_path / ".gitignore").write_text(pattern + "\n")
    assert sorted(found(tmp_path)) == sorted([*other, ".gitignore"])


def test_a_directory_given_back_does_not_give_back_its_files(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.log", "a/.gitignore": "!logs/", "a/logs/x.log": ""})
    assert "a/logs/x.log" not in found(tmp_path)


def test_a_hostile_pattern_takes_no_time(tmp_path: Path) -> None:
    stars = "*a" * 40
    make(tmp_path, {"a" * 250: "", "/".join("a" * 120): ""})
    (tmp_path / ".ignore").write_text(f"{stars}b\n/{stars}b\n{'**/a/' * 40}b\n" + "**/*a*a*/" * 20)
    assert len(found(tmp_path)) == 3


def test_an_ignored_directory_is_one_item_and_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, {".gitignore": "out/\n", **{f"out/{n}/x": "" for n in range(5)}})
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert omitted(tmp_path) == {"out/": "ignored"}
    assert listed == [f"{tmp_path}/"]


def test_ignore_outranks_gitignore_and_counts_without_a_repository(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.a\n", ".ignore": "!x.a\n*.b\n", "x.a": "", "y.a": ""})
    make(tmp_path, {"d/x.b": "", "d/.gitignore": "!x.b"})
    assert sorted(found(tmp_path)) == [".gitignore", ".ignore", "d/.gitignore", "x.a"]


def test_ignore_files_count_for_nothing_where_that_is_asked(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*\n", "x": ""})
    assert found(tmp_path, respect_ignore_files=False) == [".gitignore", "x"]


def test_the_ignore_files_above_count_up_to_the_repository(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "never\n", "repo/.gitignore": "/a/b/x\n*.o\n"})
    make(tmp_path, {"repo/a/.gitignore": "!keep.o\n", "repo/.git/info/exclude": "secret\n"})
    for name in ("x", "y", "never", "m.o", "keep.o", "secret"):
        make(tmp_path, {f"repo/a/b/{name}": ""})
    assert found(tmp_path / "repo/a/b") == ["keep.o", "never", "y"]


def test_nothing_above_counts_outside_of_a_repository(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "x\n", "a/x": ""})
    assert found(tmp_path / "a") == ["x"]


def test_a_tree_that_is_ignored_itself_was_asked_for_by_name(tmp_path: Path) -> None:
    make(tmp_path, {".git/HEAD": "", ".gitignore": "build/\n*.o\n", "build/a/x.o": ""})
    assert found(tmp_path / "build/a") == ["x.o"]


def test_a_repository_within_the_tree_has_rules_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, {".git/HEAD": "", ".gitignore": "*.o\n", ".ignore": "*.tmp\n"})
    make(tmp_path, {"sub/.git/info/exclude": "mine\n"})
    make(tmp_path, {f"sub/{name}": "" for name in ("x.o", "x.tmp", "mine")})
    assert found(tmp_path) == [".gitignore", ".ignore", "sub/x.o"]


def test_a_linked_worktree_uses_the_exclude_file_of_its_repository(tmp_path: Path) -> None:
    main, linked = tmp_path / "main", tmp_path / "linked"
    main.mkdir()
    git(main, "init", "-q")
    commit = ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x", "--allow-empty"]
    git(main, *commit)
    git(main, "worktree", "add", "-q", str(linked))
    (main / ".git/info/exclude").write_text("secret\n")
    make(linked, {"secret": "", "plain": ""})
    assert found(linked) == ["plain"] == git_files(linked)


def test_ignore_files_that_cannot_be_read_have_no_lines(tmp_path: Path) -> None:
    make(tmp_path, {"rules": "x\n", "a/x": "", "b/x": "", "c/x": "", "c/.ignore/y": ""})
    (tmp_path / "a/.gitignore").symlink_to("../rules")  # git does not follow it either
    os.mkfifo(tmp_path / "b/.gitignore")
    assert found(tmp_path) == ["a/x", "b/x", "c/.ignore/y", "c/x", "rules"]


def test_lines_may_end_as_on_windows_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    make(tmp_path, {"x": "", "y": "", "z": ""})
    (tmp_path / ".gitignore").write_bytes(b"\xef\xbb\xbfx\r\ny\r\n")
    assert found(tmp_path) == [".gitignore", "z"]


def test_names_and_patterns_of_any_bytes_meet(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.o")).write_text("")
    (tmp_path / os.fsdecode(b"\xfe.o")).write_text("")
    (tmp_path / ".gitignore").write_bytes(b"\xff.o\n")
    assert found(tmp_path) == [".gitignore", os.fsdecode(b"\xfe.o")]
