"""Prepare a release, and check one: `script/release` and the release workflow run this file.

It needs git and nothing but Python's standard library, so the workflow can run it before it installs anything.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

CHANGELOG: Final = "CHANGELOG.md"
MODULE: Final = "chainbuild/__init__.py"
TESTS: Final = ("script/test", "--unit")
"""Set-up, linters, types, the documentation and the unit tests."""
UNRELEASED: Final = "## [Unreleased]\n"

_VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_ASSIGNMENT: Final = re.compile(r'^__version__ = "(?P<version>[^"\n]*)"$', re.MULTILINE)
_SECTION: Final = re.compile(
    r"^## \[(?P<version>[^]\n]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL
)
_FENCES: Final = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)


class ReleaseError(Exception):
    """A release that cannot be made.

    `problems` lists everything that is wrong, each with a way out. `code` is the exit code: 2 if the release was
    refused before anything changed, 1 if a step failed.
    """

    def __init__(self, *problems: str, code: int = 2) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.code = code


# Versions ---------------------------------------------------------------------------------------------------------------


def parse_version(text: str) -> tuple[int, int, int]:
    """Return the three numbers of a version such as `0.3.0`."""
    match = _VERSION.fullmatch(text)
    if match is None:
        hint = f"; leave out the v: {text[1:]}" if _VERSION.fullmatch(text[1:]) and text.startswith("v") else ""
        raise ReleaseError(f'"{text}" is not a version: use three numbers such as 0.3.0{hint}')
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def read_version(module: str) -> str:
    """Return `__version__` from the source text of the package."""
    match = _ASSIGNMENT.search(module)
    if match is None:
        raise ReleaseError(f'{MODULE} has no line __version__ = "…"')
    return match["version"]


def with_version(module: str, version: str) -> str:
    """Return the source text with another `__version__`."""
    return _ASSIGNMENT.sub(f'__version__ = "{version}"', module, count=1)


# The changelog ----------------------------------------------------------------------------------------------------------


def find_section(changelog: str, version: str) -> re.Match[str] | None:
    """Return the section of a version, or of `Unreleased`."""
    return next((section for section in _SECTION.finditer(changelog) if section["version"] == version), None)


def has_entries(section: re.Match[str] | None) -> bool:
    """Return whether a section has at least one list entry."""
    return section is not None and re.search(r"^- ", section["text"], re.MULTILINE) is not None


def newest_version(changelog: str) -> tuple[str, str | None]:
    """Return the version of the first released section, and its date if it has one."""
    for section in _SECTION.finditer(changelog):
        if section["version"] != "Unreleased":
            return section["version"], section["date"]
    raise ReleaseError(f'{CHANGELOG} has no section of a version: add one such as "## [0.1.0] - 2026-01-31"')


def with_release(changelog: str, version: str, today: date) -> str:
    """Return the changelog with the entries of `[Unreleased]` under the version and the date.

    A section that is already written for the version gets today's date.
    """
    unreleased, prepared = find_section(changelog, "Unreleased"), find_section(changelog, version)
    if unreleased is None:
        raise ReleaseError(f'{CHANGELOG} has no section "[Unreleased]": add the line "{UNRELEASED.strip()}"')
    heading = f"## [{version}] - {today.isoformat()}\n"
    if prepared is None:
        if not has_entries(unreleased):
            raise ReleaseError(f"{CHANGELOG} has no entry under [Unreleased]: describe what changed, and commit that")
        return changelog[: unreleased.start()] + UNRELEASED + "\n" + heading + changelog[unreleased.start("text") :]
    if has_entries(unreleased):
        raise ReleaseError(
            f"{CHANGELOG} has entries under both [Unreleased] and [{version}]: move them to one of the two, and commit"
        )
    if not has_entries(prepared):
        raise ReleaseError(f"{CHANGELOG} has no entry under [{version}]: describe what changed, and commit that")
    return changelog[: prepared.start()] + heading + changelog[prepared.start("text") :]


def release_notes(changelog: str, version: str, base: str = "") -> str:
    """Return the text of a version's section, with the lines of each paragraph and list entry joined.

    Forges show a single line break in release notes as a line break. `base` is the URL that relative links start at.
    """
    section = find_section(changelog, version)
    if section is None:
        raise ReleaseError(f"{CHANGELOG} has no section [{version}]")
    text = section["text"].strip()
    if not _FENCES.search(text):
        text = re.sub(r"(?<=\S)\n(?![\n#]|[ \t]*[-*|] )[ \t]*", " ", text)
    if base:
        text = re.sub(r"\]\((?!https?://|#)", lambda _: f"]({base.rstrip('/')}/", text)
    return text + "\n"


# Checks -----------------------------------------------------------------------------------------------------------------


def check_agreement(root: Path, tag: str) -> str:
    """Return the version of a tag if the package and the newest section of the changelog have the same one."""
    if not tag.startswith("v"):
        raise ReleaseError(f'"{tag}" is not the tag of a release: release tags look like v0.3.0')
    version = tag[1:]
    parse_version(version)
    problems = []
    package = read_version((root / MODULE).read_text(encoding="utf-8"))
    if package != version:
        problems.append(f'{MODULE} has version "{package}", the tag is {tag}: tag with script/release {package}')
    newest, released = newest_version((root / CHANGELOG).read_text(encoding="utf-8"))
    if newest != version:
        problems.append(f"the newest section of {CHANGELOG} is [{newest}], the tag is {tag}")
    elif released is None:
        problems.append(f"the section [{newest}] of {CHANGELOG} has no date: script/release adds it")
    if problems:
        raise ReleaseError(*problems)
    return version


def check_repository(root: Path, version: str) -> None:
    """Check that a release of the version can be made here, and report everything that prevents it."""
    problems = []
    branch = git(root, "branch", "--show-current")
    if branch != "main":
        problems.append(f'the current branch is "{branch or "(no branch)"}", not main: git switch main')
    changes = git(root, "status", "--porcelain").splitlines()
    if changes:
        listed = "".join(f"\n    {line}" for line in changes[:10])
        listed += f"\n    and {len(changes) - 10} more" if len(changes) > 10 else ""
        problems.append(f"the working tree has changes: commit or stash them{listed}")
    problems += _version_problems(root, version)
    if problems:
        raise ReleaseError(*problems)


def _version_problems(root: Path, version: str) -> list[str]:
    numbers = parse_version(version)
    tags = [tag[1:] for tag in git(root, "tag", "--list", "v*").splitlines() if _VERSION.fullmatch(tag[1:])]
    newest = max(tags, key=parse_version, default=None)
    if version in tags:
        return [f"the tag v{version} already exists: choose a version after {newest}"]
    if newest is not None and numbers < parse_version(newest):
        return [f"{version} is older than the newest tag, v{newest}: choose a version after {newest}"]
    current = read_version((root / MODULE).read_text(encoding="utf-8"))
    if numbers < parse_version(current):
        return [f"{version} is older than {MODULE}, which has {current}: choose {current} or a newer version"]
    return []


# The release ------------------------------------------------------------------------------------------------------------


def release(root: Path, version: str, *, dry_run: bool, today: date) -> None:
    """Check, test, write both files, commit and tag; with `dry_run` only check, and print what would change."""
    parse_version(version)
    check_repository(root, version)
    changed = _changes(root, version, today)
    if dry_run:
        _show(root, version, changed)
        return
    say(f"running {' '.join(TESTS)}")
    if subprocess.run([str(root / TESTS[0]), *TESTS[1:]], cwd=root, check=False).returncode:
        raise ReleaseError(f"{' '.join(TESTS)} failed; nothing was changed: fix it, commit, and try again", code=1)
    # Somebody may have committed while the tests ran.
    check_repository(root, version)
    changed = _changes(root, version, today)
    if changed:
        _commit(root, version, changed)
    try:
        git(root, "tag", "--annotate", "--message", f"chainbuild {version}", f"v{version}")
    except ReleaseError as error:
        raise ReleaseError(
            *error.problems, f"the release is committed but not tagged: run script/release {version} again", code=1
        ) from error
    say(f"committed and tagged v{version}; nothing was pushed. To publish:\n\n  {_push_command(root, version)}\n")


def _changes(root: Path, version: str, today: date) -> dict[str, str]:
    """Return the new text of each file that a release changes."""
    before = {name: (root / name).read_text(encoding="utf-8") for name in (CHANGELOG, MODULE)}
    after = {CHANGELOG: with_release(before[CHANGELOG], version, today), MODULE: with_version(before[MODULE], version)}
    return {name: text for name, text in after.items() if text != before[name]}


def _show(root: Path, version: str, changed: dict[str, str]) -> None:
    for name, text in changed.items():
        before = (root / name).read_text(encoding="utf-8").splitlines(keepends=True)
        sys.stdout.writelines(
            difflib.unified_diff(before, text.splitlines(keepends=True), f"a/{name}", f"b/{name}", n=2)
        )
    commit = f'\n  git commit --message "Release {version}" -- {" ".join(changed)}' if changed else ""
    say(f"dry run: nothing was changed. The release would run:\n\n  {' '.join(TESTS)}{commit}")
    say(f'  git tag --annotate --message "chainbuild {version}" v{version}')


def _commit(root: Path, version: str, changed: dict[str, str]) -> None:
    try:
        for name, text in changed.items():
            (root / name).write_text(text, encoding="utf-8")
        git(root, "commit", "--quiet", "--message", f"Release {version}", "--", *changed)
    except BaseException as error:
        # Also after Ctrl-C: a half-made release must not look like somebody's changes.
        git(root, "restore", "--staged", "--worktree", "--", *changed)
        if isinstance(error, ReleaseError):
            raise ReleaseError(*error.problems, "nothing was changed: fix this, and try again", code=1) from error
        raise


def _push_command(root: Path, version: str) -> str:
    remote = git(root, "config", "--default", "origin", "--get", "branch.main.remote")
    return f"git push --atomic {remote} main v{version}"


def git(root: Path, *arguments: str) -> str:
    """Run git in the repository and return what it printed."""
    argv = ["git", "-C", str(root), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise ReleaseError(f"git {arguments[0]} failed: {reason}", code=1)
    return done.stdout.rstrip()


def say(text: str) -> None:
    """Print a line for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# The command line -------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str], root: Path, today: date | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="script/release",
        description="Prepare a release: check, test, set the version, date the changelog, commit and tag. Pushes nothing.",
        epilog="Example: script/release 0.3.0 --dry-run",
    )
    parser.add_argument("version", nargs="?", metavar="VERSION", help="The version to release, for example 0.3.0.")
    parser.add_argument("--dry-run", action="store_true", help="Show what would change, and change nothing.")
    parser.add_argument(
        "--check", metavar="TAG", help="Check that a tag, the package and the changelog have the same version."
    )
    parser.add_argument("--notes", metavar="VERSION", help="Print the changelog's section of a version.")
    parser.add_argument("--base-url", default="", metavar="URL", help="With --notes: where relative links start.")
    options = parser.parse_args(arguments)
    chosen = [value for value in (options.version, options.check, options.notes) if value is not None]
    if len(chosen) != 1 or (options.dry_run and options.version is None):
        parser.error("give a VERSION, or one of --check and --notes")
    try:
        if options.check is not None:
            say(f"the tag, the package and the changelog have version {check_agreement(root, options.check)}")
        elif options.notes is not None:
            changelog = (root / CHANGELOG).read_text(encoding="utf-8")
            sys.stdout.write(release_notes(changelog, options.notes, options.base_url))
        else:
            release(root, options.version, dry_run=options.dry_run, today=today or datetime.now(UTC).date())
    except ReleaseError as error:
        for problem in error.problems:
            say(f"script/release: {problem}")
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parent.parent))
