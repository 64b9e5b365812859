"""The view of real git repositories: one commit, many, edits, untracked files, no repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.host.git import EMPTY_TREE, Git, Head

from .conftest import write_tree


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in [name for name in os.environ if name.startswith("GIT_") and name != "GIT_CONFIG_NOSYSTEM"]:
        monkeypatch.delenv(name)
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def git(root: Path, *words: str) -> str:
    argv = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path, files: dict[str, str], *, remove: tuple[str, ...] = ()) -> str:
    if not (root / ".git").exists():
        git(root, "init", "--quiet", "--initial-branch=main")
    for name in remove:
        (root / name).unlink()
    write_tree(root, dict(files))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=x")
    return git(root, "rev-parse", "HEAD")


def test_head_without_repository_or_commit_is_none(root: Path) -> None:
    assert Git(root).head() is None
    assert Git(root).recent() == ()
    git(root, "init", "--quiet")
    assert Git(root).head() is None
    assert Git(root).recent() == ()


def test_parent_of_the_only_commit_is_the_empty_tree(root: Path) -> None:
    commit(root, {"science/a/Dockerfile": "FROM x"})
    here = Git(root)
    assert here.head() == Head(short=git(root, "rev-parse", "--short", "HEAD"), count=1)
    for text in ("HEAD^", "HEAD~1", "HEAD^..HEAD"):
        span = here.span(text)
        assert span.older == EMPTY_TREE
        assert here.changed(span, ("science", "compat")) == ("science/a/Dockerfile",)
    last, edits = here.recent()
    assert here.changed(last, ("science", "compat")) == ("science/a/Dockerfile",)
    assert here.before(last, "science/a/Dockerfile") is None
    assert here.changed(edits, ("science", "compat")) == ()
    assert here.before(edits, "science/a/Dockerfile") == b"FROM x"


def test_revision_and_range_list_changed_files(root: Path) -> None:
    first = commit(root, {"science/a/x": "1", "science/b/x": "1", "other": "1"})
    second = commit(root, {"science/a/x": "2"}, remove=("science/b/x",))
    third = commit(root, {"compat/c/x": "1", "science/a b/ü": "1"})
    here = Git(root)
    paths = ("science", "compat")
    assert here.changed(here.span(f"{first}..{second}"), paths) == ("science/a/x", "science/b/x")
    assert here.changed(here.span(f"{second}.."), paths) == ("compat/c/x", "science/a b/ü")
    assert here.changed(here.span("HEAD"), paths) == ()
    (root / "science/a/x").write_text("edited")
    assert here.changed(here.span("HEAD"), paths) == ("science/a/x",), "a single revision goes to the files as they are"
    assert here.changed(here.span(f"{third}^..{third}"), paths) == ("compat/c/x", "science/a b/ü")
    assert here.before(here.span(second), "science/b/x") is None
    assert here.before(here.span(first), "science/b/x") == b"1"
    git(root, "checkout", "--quiet", "-f", "-b", "side", first)
    commit(root, {"science/d/x": "1"})
    assert here.changed(here.span("main...side"), paths) == ("science/d/x",)


def test_tree_below_repository_root_uses_its_own_paths(root: Path) -> None:
    commit(root, {"deep/science/a/x": "1", "science/z/x": "1"})
    commit(root, {"deep/science/a/x": "2", "science/z/x": "2"})
    here = Git(root / "deep")
    span = here.span("HEAD^")
    assert here.changed(span, ("science", "compat")) == ("science/a/x",)
    assert here.before(span, "science/a/x") == b"1"


def test_dirty_reports_edits_and_untracked_files(root: Path) -> None:
    commit(root, {"science/a/x": "1", ".gitignore": "*.log\n"})
    here = Git(root)
    assert not here.dirty(("science", "compat"))
    write_tree(root, {"elsewhere": "1", "science/a/x.log": "ignored", ".chainbuild/logs/x": "1"})
    assert not here.dirty(("science", "compat"))
    assert here.untracked(("science", "compat")) == ()
    write_tree(root, {"science/new/sciserver-image.json": "{}"})
    assert here.dirty(("science", "compat"))
    assert here.untracked(("science", "compat")) == ("science/new/sciserver-image.json",)
    (root / "science/new/sciserver-image.json").unlink()
    (root / "science/a/x").write_text("2")
    assert here.dirty(("science", "compat"))


def test_unknown_revision_is_rejected(root: Path) -> None:
    commit(root, {"science/a/x": "1"})
    for text in ("nothing", "HEAD^^", "a..HEAD", "--help"):
        with pytest.raises(WrongUseError, match="git finds no revision"):
            Git(root).span(text)


def test_shallow_clone_hints_at_unshallow(root: Path, tmp_path: Path) -> None:
    commit(root, {"science/a/x": "1"})
    commit(root, {"science/a/x": "2"})
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{root}", str(tmp_path / "clone"))
    with pytest.raises(WrongUseError) as caught:
        Git(tmp_path / "clone").span("HEAD^")
    assert "git fetch --unshallow" in caught.value.problems[0].hint
