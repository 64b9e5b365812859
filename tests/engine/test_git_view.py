"""Reading a hostile repository runs nothing that the repository defines, and gives the same results as git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.host.git import CommitRange, Git, find_repository, run_git
from chainbuild.images.provenance import tree_notes

from .conftest import write_tree


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in [name for name in os.environ if name.startswith("GIT_") and name != "GIT_CONFIG_NOSYSTEM"]:
        monkeypatch.delenv(name)
    folder = tmp_path / "tree"
    folder.mkdir()
    write_tree(folder, {"a": "one\n", "b": "1\n", "below/c": "1\n"})
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    write_tree(folder, {"a": "2\n"})
    commit(folder)
    # Files that git must compare by content: a file of another size, and a file with only another time.
    write_tree(folder, {"a": "three\n", "new": "x\n"})
    os.utime(folder / "b", (1, 1))
    return folder


def git(root: Path, *words: str, check: bool = True) -> str:
    argv = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *words]
    done = subprocess.run(argv, check=check, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    return done.stdout.strip()


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=x")


def look(root: Path) -> None:
    """Run every query that chainbuild makes about a tree."""
    tree_notes(root)
    here = Git(root)
    here.head()
    here.dirty(["."])
    for span in (*here.recent(), here.span("HEAD^..HEAD"), here.span("HEAD^...HEAD"), here.span("HEAD~1")):
        here.changed(span, ["."])
        here.before(span, "a")
        here.before(span, "nothing")
    here.untracked(["."])


Spoil = Callable[[Path, str], None]


def config(**settings: str) -> Spoil:
    """Return an attack by settings of the repository; `{}` is the attacker's program."""

    def spoil(root: Path, program: str) -> None:
        for name, value in settings.items():
            git(root, "config", name.replace("__", "."), value.replace("{}", program))

    return spoil


def attributes(line: str, **settings: str) -> Spoil:
    def spoil(root: Path, program: str) -> None:
        config(**settings)(root, program)
        (root / ".gitattributes").write_text(line + "\n", encoding="utf-8")
        (root / ".git" / "info").mkdir(exist_ok=True)
        (root / ".git" / "info" / "attributes").write_text(line + "\n", encoding="utf-8")

    return spoil


def hooks(root: Path, program: str) -> None:
    folder = root / ".git" / "hooks"
    folder.mkdir(exist_ok=True)
    for name in ("post-index-change", "post-checkout", "pre-commit", "reference-transaction", "fsmonitor-watchman"):
        (folder / name).write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")
        (folder / name).chmod(0o755)


def hooks_elsewhere(root: Path, program: str) -> None:
    hooks(root, program)
    (root / ".git" / "hooks").rename(root / "hooks")
    git(root, "config", "core.hooksPath", str(root / "hooks"))


def included(root: Path, program: str) -> None:
    write_tree(root, {"evil.cfg": f"[core]\n\tfsmonitor = {program}\n"})
    git(root, "config", "include.path", "../evil.cfg")
    git(root, "config", f"includeIf.gitdir:{root}/.path", "../evil.cfg")


def worktree_config(root: Path, program: str) -> None:
    git(root, "config", "extensions.worktreeConfig", "true")
    git(root, "config", "--worktree", "core.fsmonitor", program)


def submodule(root: Path, program: str) -> None:
    """Attack with the configuration of a submodule, which the outer git would use."""
    write_tree(root / "sub", {"x": "1\n"})
    git(root / "sub", "init", "--quiet")
    commit(root / "sub")
    git(root, "add", "sub")
    git(root, "commit", "--quiet", "--message=sub", "sub")
    write_tree(root / "sub", {"x": "two\n"})
    config(core__fsmonitor="{}", filter__f__clean="{}")(root / "sub", program)
    write_tree(root / "sub", {".gitattributes": "* filter=f\n"})
    git(root, "config", "submodule.recurse", "true")
    git(root, "config", "diff.ignoreSubmodules", "none")
    git(root, "config", "status.submoduleSummary", "true")


def git_file(root: Path, program: str) -> None:
    """Attack with a `.git` file that points to a git directory inside the tree."""
    config(core__fsmonitor="{}")(root, program)
    (root / ".git").rename(root / "innocent")
    (root / ".git").write_text("gitdir: innocent\n", encoding="utf-8")
    git(root, "config", "core.worktree", str(root))


def promised(root: Path, program: str) -> None:
    """Attack with missing objects, which would be fetched by a transport of the repository's choice."""
    git(root, "config", "core.repositoryformatversion", "1")
    git(root, "config", "extensions.partialClone", "origin")
    git(root, "config", "remote.origin.url", f"ext::{program}")
    git(root, "config", "remote.origin.promisor", "true")
    git(root, "config", "remote.origin.uploadpack", program)
    git(root, "config", "protocol.ext.allow", "always")
    blob = git(root, "rev-parse", "HEAD:a")
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()


ATTACKS: dict[str, Spoil] = {
    "fsmonitor": config(core__fsmonitor="{}"),
    "hooks": hooks,
    "hooks elsewhere": hooks_elsewhere,
    "external diff": config(diff__external="{}"),
    "diff driver": attributes("* diff=d", diff__d__command="{}", diff__d__textconv="{}", diff__d__cachetextconv="true"),
    "clean filter": attributes("* filter=f", filter__f__clean="{}", filter__f__smudge="{}"),
    "process filter": attributes("* filter=f", filter__f__process="{}", filter__f__required="true"),
    "merge driver": attributes("* merge=m", merge__m__driver="{}"),
    "signature check": config(log__showSignature="true", gpg__program="{}", gpg__ssh__program="{}"),
    "pager": config(core__pager="{}", pager__log="{}", pager__status="{}", pager__diff="{}"),
    "editor and askpass": config(core__editor="{}", core__askPass="{}", sequence__editor="{}"),
    "ssh": config(core__sshCommand="{}", core__gitProxy="{}"),
    "credential helper": config(credential__helper="!{}"),
    "alias": config(alias__status="!{}", alias__log="!{}", alias__diff="!{}"),
    "alternate references": config(core__alternateRefsCommand="{}"),
    "included file": included,
    "configuration of the work tree": worktree_config,
    "submodule": submodule,
    "git file": git_file,
    "promised objects": promised,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_repository_runs_nothing(root: Path, tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "marker"
    ATTACKS[attack](root, f"touch {marker}")
    before = fingerprint(root)
    # A missing file cannot be compared.
    with pytest.raises(WrongUseError) if attack == "promised objects" else nullcontext():
        look(root)
    assert not marker.exists()
    assert fingerprint(root) == before


@pytest.mark.parametrize("attack", ["fsmonitor", "hooks", "clean filter", "process filter", "submodule", "git file"])
def test_hostile_repository_runs_its_programs_in_plain_git(root: Path, tmp_path: Path, attack: str) -> None:
    """Verify that the attacks are real: plain git runs their programs."""
    marker = tmp_path / "marker"
    ATTACKS[attack](root, f"touch {marker}")
    git(root, "status", "--porcelain", check=False)
    assert marker.exists()


def fingerprint(root: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file, to detect any write, even a refreshed index."""
    return {
        str(path.relative_to(root)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if not path.is_dir()
    }


def test_view_matches_git(root: Path) -> None:
    assert tree_notes(root) == {"commit": git(root, "rev-parse", "HEAD"), "dirty": "yes"}
    here = Git(root)
    assert here.changed(here.recent()[1], ["."]) == ("a",)
    assert here.untracked(["."]) == ("new",)
    assert here.before(here.span("HEAD^"), "a") == b"one\n"
    assert here.before(CommitRange(older="HEAD", newer=None), "nothing") is None
    git(root, "checkout", "--quiet", "a")
    (root / "new").unlink()
    assert tree_notes(root)["dirty"] == "no"
    assert tree_notes(root / "below") == tree_notes(root)


def test_view_respects_settings_that_affect_changes(root: Path) -> None:
    git(root, "checkout", "--quiet", "a")
    (root / "new").unlink()
    (root / "a").chmod(0o755)
    assert tree_notes(root)["dirty"] == "yes"
    git(root, "config", "core.fileMode", "false")
    assert tree_notes(root)["dirty"] == "no"
    (root / "a").unlink()
    git(root, "config", "core.autocrlf", "true")
    git(root, "checkout", "--quiet", "a")
    assert (root / "a").read_bytes() == b"2\r\n"
    os.utime(root / "a", (1, 1))
    assert tree_notes(root)["dirty"] == "no"


def test_partial_clone_with_missing_content_is_reported(root: Path, tmp_path: Path) -> None:
    git(root, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", f"file://{root}", str(tmp_path / "clone"))
    here = Git(tmp_path / "clone")
    assert here.changed(here.span("HEAD^..HEAD"), ["."]) == ("a",)
    with pytest.raises(WrongUseError, match="partial clone"):
        here.before(here.span("HEAD^"), "a")


def test_view_of_linked_worktree_matches_git(root: Path, tmp_path: Path) -> None:
    git(root, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    assert tree_notes(tmp_path / "side") == {"commit": git(root, "rev-parse", "HEAD"), "dirty": "no"}
    write_tree(tmp_path / "side", {"a": "other\n"})
    assert tree_notes(tmp_path / "side")["dirty"] == "yes"
    found = find_repository(tmp_path / "side")
    assert found is not None
    assert found.common == root / ".git"


def test_view_of_clone_with_shared_objects_matches_git(root: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--shared", str(root), str(tmp_path / "clone"))
    assert tree_notes(tmp_path / "clone") == {"commit": git(root, "rev-parse", "HEAD"), "dirty": "no"}


def test_view_of_packed_refs_and_split_index_matches_git(root: Path) -> None:
    git(root, "pack-refs", "--all")
    git(root, "gc", "--quiet")
    git(root, "update-index", "--split-index")
    assert tree_notes(root) == {"commit": git(root, "rev-parse", "HEAD"), "dirty": "yes"}
    assert Git(root).changed(Git(root).recent()[1], ["."]) == ("a",)


def test_view_of_sha256_repository_matches_git(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_tree(other, {"a": "1\n"})
    git(other, "init", "--quiet", "--object-format=sha256")
    commit(other)
    assert tree_notes(other) == {"commit": git(other, "rev-parse", "HEAD"), "dirty": "no"}


@pytest.mark.parametrize("name", ["HEAD", "config", "index", "packed-refs", "info/exclude", "commondir"])
def test_fifo_in_git_folder_does_not_block(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("chainbuild.host.git._SECONDS", 2.0)
    path = root / ".git" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    # The result does not matter as long as the calls return.
    with suppress(NotReadyError):
        tree_notes(root)
        Git(root).head()


@pytest.mark.parametrize("text", ["", "gitdir:", "gitdir: /nowhere", "gitdir: .", "x" * 5000, "gitdir: a\0b"])
def test_damaged_git_file_is_not_a_repository(tmp_path: Path, text: str) -> None:
    (tmp_path / ".git").write_text(text, encoding="utf-8")
    assert find_repository(tmp_path) is None
    assert run_git(tmp_path, ["status"]) is None


def test_paths_like_git_patterns_are_taken_literally(root: Path) -> None:
    """Catch a folder name that git interprets as a pattern."""
    write_tree(root, {":(top)": "x", "x*y": "x"})
    assert Git(root).untracked([":(top)"]) == (":(top)",)
    assert Git(root).untracked(["x*y"]) == ("x*y",)


def test_git_variables_of_a_calling_hook_are_ignored(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catch variables of a git hook that runs chainbuild: they point git to another repository."""
    write_tree(tmp_path / "other", {"x": "1\n"})
    git(tmp_path / "other", "init", "--quiet")
    commit(tmp_path / "other")
    commit_here = git(root, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert tree_notes(root)["commit"] == commit_here
