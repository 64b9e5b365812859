"""`script/release` in a real git repository. It needs no engine, but unit tests start no processes."""

from __future__ import annotations

import os
import subprocess
from datetime import date
from pathlib import Path

import pytest

from script import release

TODAY = date(2026, 12, 1)
CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A flag.\n\n## [0.2.0] - 2026-11-26\n\n### Fixed\n\n- A fault.\n"
)
PASSING = '#!/bin/sh\necho "$*" >> ../tests-ran\n'


def git(root: Path, *arguments: str) -> str:
    argv = ["git", "-C", str(root), *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository on main with version 0.2.0, one entry to release, and tests that pass."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "repository"
    (folder / "chainbuild").mkdir(parents=True)
    (folder / "script").mkdir()
    (folder / release.MODULE).write_text('__version__ = "0.2.0"\n')
    (folder / release.CHANGELOG).write_text(CHANGELOG)
    (folder / "script" / "test").write_text(PASSING)
    (folder / "script" / "test").chmod(0o755)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "user.name", "A Maintainer")
    git(folder, "config", "user.email", "maintainer@example.org")
    commit(folder)
    git(folder, "tag", "--annotate", "--message=chainbuild 0.2.0", "v0.2.0")
    return folder


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=Change something")


def state(root: Path) -> tuple[str, str, str]:
    return git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain"), git(root, "tag", "--list")


def refused(root: Path, version: str, capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """Return the output of the command; assert that it changed nothing."""
    before = state(root)
    assert release.main([version], root, TODAY) == code
    assert state(root) == before
    return capsys.readouterr().err


def test_release_commits_and_tags_after_the_tests(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = git(root, "rev-parse", "HEAD")
    assert release.main(["0.3.0"], root, TODAY) == 0
    assert (root.parent / "tests-ran").read_text() == "--unit\n"
    assert git(root, "rev-parse", "HEAD^") == before
    assert git(root, "log", "-1", "--format=%s") == "Release 0.3.0"
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "cat-file", "-t", "v0.3.0") == "tag"
    assert git(root, "rev-parse", "v0.3.0^{commit}") == git(root, "rev-parse", "HEAD")
    assert (root / release.MODULE).read_text() == '__version__ = "0.3.0"\n'
    assert "## [Unreleased]\n\n## [0.3.0] - 2026-12-01\n\n### Added\n" in (root / release.CHANGELOG).read_text()
    assert "nothing was pushed" in (err := capsys.readouterr().err)
    assert "git push --atomic origin main v0.3.0" in err
    assert release.main(["--check", "v0.3.0"], root) == 0


def test_dry_run_shows_the_change_and_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(root)
    assert release.main(["0.3.0", "--dry-run"], root, TODAY) == 0
    assert state(root) == before
    assert not (root.parent / "tests-ran").exists()
    out, err = capsys.readouterr()
    assert "+## [0.3.0] - 2026-12-01\n" in out
    assert '+__version__ = "0.3.0"\n' in out
    assert "dry run: nothing was changed" in err


def test_prepared_version_is_tagged(root: Path) -> None:
    (root / release.MODULE).write_text('__version__ = "0.3.0"\n')
    (root / release.CHANGELOG).write_text(release.with_release(CHANGELOG, "0.3.0", TODAY))
    commit(root)
    before = git(root, "rev-parse", "HEAD")
    assert release.main(["0.3.0"], root, TODAY) == 0
    assert git(root, "rev-parse", "v0.3.0^{commit}") == git(root, "rev-parse", "HEAD") == before


def test_problems_are_reported_together(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(root, "switch", "--quiet", "--create", "feature")
    (root / "new").write_text("")
    err = refused(root, "0.2.0", capsys)
    assert 'the current branch is "feature", not main: git switch main' in err
    assert "the working tree has changes: commit or stash them\n    ?? new" in err
    assert "the tag v0.2.0 already exists: choose a version after 0.2.0" in err


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.1.9", "0.1.9 is older than the newest tag, v0.2.0: choose a version after 0.2.0"),
        ("v0.3.0", "leave out the v: 0.3.0"),
        ("$(id)", '"$(id)" is not a version'),
    ],
)
def test_invalid_version_is_rejected(
    root: Path, capsys: pytest.CaptureFixture[str], version: str, message: str
) -> None:
    assert message in refused(root, version, capsys)


def test_version_older_than_the_package_is_rejected(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / release.MODULE).write_text('__version__ = "0.4.0"\n')
    commit(root)
    assert "0.3.0 is older than chainbuild/__init__.py, which has 0.4.0" in refused(root, "0.3.0", capsys)


def test_detached_head_is_rejected(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(root, "switch", "--quiet", "--detach")
    assert "not main" in refused(root, "0.3.0", capsys)


def test_failing_tests_leave_repository_unchanged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "script" / "test").write_text("#!/bin/sh\nexit 1\n")
    commit(root)
    assert "script/test --unit failed; nothing was changed" in refused(root, "0.3.0", capsys, code=1)


def test_failing_commit_leaves_repository_unchanged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hook = root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho the hook says no >&2\nexit 1\n")
    hook.chmod(0o755)
    err = refused(root, "0.3.0", capsys, code=1)
    assert "git commit failed: the hook says no" in err
    assert "nothing was changed" in err


def test_commit_made_during_the_tests_is_released(root: Path) -> None:
    (root / "script" / "test").write_text(
        f"#!/bin/sh\nsed -i 's/^- A flag/- Two flags/' {release.CHANGELOG}\ngit commit --quiet --all --message=x\n"
    )
    commit(root)
    assert release.main(["0.3.0"], root, TODAY) == 0
    assert "- Two flags." in git(root, "show", f"v0.3.0:{release.CHANGELOG}")
