"""The parts of `script/release` that need no git: versions, the changelog, and what the release workflow asks."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from script import release

TODAY = date(2026, 12, 1)
ROOT = Path(release.__file__).resolve().parent.parent
CHANGELOG = """\
# Changelog

## [Unreleased]

### Added

- A flag
  on two lines, see [its page](docs/flag.md).
- Another flag, see [the format](https://example.org/format).

## [0.2.0] - 2026-11-26

### Fixed

- A fault.
"""
PREPARED = CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [0.3.0]\n")


@pytest.mark.parametrize(
    "text", ["", "1", "0.3", "0.3.0.1", "00.3.0", "0.3.x", "0.3.0rc1", "-1.0.0", "0.3.0\n", "٣.0.0"]
)
def test_malformed_version_is_rejected(text: str) -> None:
    with pytest.raises(release.ReleaseError, match="use three numbers such as"):
        release.parse_version(text)


def test_version_with_a_v_is_rejected_with_the_fix() -> None:
    with pytest.raises(release.ReleaseError, match=r"leave out the v: 0\.3\.0$"):
        release.parse_version("v0.3.0")


def test_versions_compare_by_number() -> None:
    assert release.parse_version("0.10.0") > release.parse_version("0.9.9")


def test_unreleased_entries_move_under_the_version() -> None:
    text = release.with_release(CHANGELOG, "0.3.0", TODAY)
    assert text == CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [0.3.0] - 2026-12-01\n")
    assert release.newest_version(text) == ("0.3.0", "2026-12-01")


@pytest.mark.parametrize("written", ["", " - 2026-11-26", " - 2026-12-01"])
def test_prepared_section_gets_the_date(written: str) -> None:
    text = release.with_release(PREPARED.replace("## [0.3.0]", f"## [0.3.0]{written}"), "0.3.0", TODAY)
    assert text == PREPARED.replace("## [0.3.0]", "## [0.3.0] - 2026-12-01")


@pytest.mark.parametrize(
    ("changelog", "message"),
    [
        (CHANGELOG.replace("## [Unreleased]\n", ""), r'has no section "\[Unreleased\]": add the line'),
        (CHANGELOG.replace("- A", "A"), r"has no entry under \[Unreleased\]: describe"),
        (PREPARED.replace("## [0.3.0]", "- late\n\n## [0.3.0]"), r"under both \[Unreleased\] and \[0\.3\.0\]: move"),
        (PREPARED.replace("- A", "A"), r"has no entry under \[0\.3\.0\]: describe"),
    ],
    ids=["no-heading", "no-entry", "both", "prepared-empty"],
)
def test_unfit_changelog_is_rejected_with_the_fix(changelog: str, message: str) -> None:
    with pytest.raises(release.ReleaseError, match=message):
        release.with_release(changelog, "0.3.0", TODAY)


def test_version_is_replaced_and_nothing_else() -> None:
    text = '"""A package."""\n\n__version__ = "0.2.0"\nOTHER = "0.2.0"\n'
    assert release.with_version(text, "0.3.0") == text.replace('__version__ = "0.2.0"', '__version__ = "0.3.0"')
    with pytest.raises(release.ReleaseError, match="has no line __version__"):
        release.read_version("VERSION = 1\n")


def test_notes_join_lines_and_complete_links() -> None:
    notes = release.release_notes(
        release.with_release(CHANGELOG, "0.3.0", TODAY), "0.3.0", "https://forge/blob/v0.3.0/"
    )
    assert notes == (
        "### Added\n\n"
        "- A flag on two lines, see [its page](https://forge/blob/v0.3.0/docs/flag.md).\n"
        "- Another flag, see [the format](https://example.org/format).\n"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "chainbuild").mkdir()
    (tmp_path / release.MODULE).write_text('__version__ = "0.2.0"\n')
    (tmp_path / release.CHANGELOG).write_text(CHANGELOG)
    return tmp_path


def test_check_accepts_a_tag_that_agrees(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["--check", "v0.2.0"], root) == 0
    assert capsys.readouterr().err == "the tag, the package and the changelog have version 0.2.0\n"


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("v0.3.0", 'has version "0.2.0", the tag is v0.3.0'),
        ("v0.3.0", "the newest section of CHANGELOG.md is [0.2.0], the tag is v0.3.0"),
        ("0.2.0", "release tags look like v0.3.0"),
        ("v0.2", "is not a version"),
    ],
)
def test_check_rejects_a_tag_that_differs(
    root: Path, capsys: pytest.CaptureFixture[str], tag: str, message: str
) -> None:
    assert release.main(["--check", tag], root) == 2
    assert message in capsys.readouterr().err


def test_check_rejects_a_section_without_a_date(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / release.CHANGELOG).write_text(CHANGELOG.replace(" - 2026-11-26", ""))
    assert release.main(["--check", "v0.2.0"], root) == 2
    assert "has no date" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["0.3.0", "--check", "v0.3.0"], ["--check", "v0.3.0", "--dry-run"]])
def test_unclear_arguments_are_rejected(root: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        release.main(arguments, root)
    assert caught.value.code == 2


def test_this_project_has_one_version() -> None:
    """The package and the newest section of the changelog agree, so the next tag can be made."""
    version = release.read_version((ROOT / release.MODULE).read_text())
    assert release.check_agreement(ROOT, f"v{version}") == version
    assert release.release_notes((ROOT / release.CHANGELOG).read_text(), version).startswith("### ")
