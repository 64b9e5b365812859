"""Patterns for missing paths: links, listed folders, folders of a package, single files."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.lists import ListWord, as_list, words_in
from chainbuild.minimize.packages import owned
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.trace.folders import TracedFolders, is_wide, pattern_of
from tests.support.elf_builder import plant

Files = Mapping[str, Any]


def packages(**files: str) -> dict[str, bytes]:
    """Return the records of Debian packages, each with its files, separated by spaces."""
    status = "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n" for name in files
    )
    lists = {
        f"/var/lib/dpkg/info/{name}.list": text.replace(" ", "\n").encode() + b"\n" for name, text in files.items()
    }
    return {"/var/lib/dpkg/status": status.encode(), **lists}


class Chooser:
    """Chooses patterns for missing paths of a chain's image; `packages` are those of the latest patterns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages: list[str] = []

    def __call__(
        self, chain: Files, missing: dict[str, str] | list[str], production: Files | None = None
    ) -> dict[str, list[str]]:
        there = Path(tempfile.mkdtemp(dir=self.folder))
        one, other = (
            RootFileSystem(plant(there / "chain", chain)),
            RootFileSystem(plant(there / "production", production or {})),
        )
        kinds = missing if isinstance(missing, dict) else dict.fromkeys(missing, "opened")
        found = TracedFolders(one, other, owned(one)).words(kinds)
        self.packages = [word.package for word in found]
        return {word.path: list(word.brings) for word in found}


@pytest.fixture
def words(tmp_path: Path) -> Chooser:
    return Chooser(tmp_path)


GIT = [f"/usr/share/git-core/{name}" for name in ("a", "b", "contrib/c", "d")]
CHAIN = {
    **dict.fromkeys(GIT, b""),
    "/usr/share/other/x": b"",
    **packages(git=" ".join(GIT), other="/usr/share/other/x"),
}


def test_folder_of_single_package_replaces_many_files(words: Chooser) -> None:
    assert words(CHAIN, GIT[:3]) == {"/usr/share/git-core": GIT[:3]}
    assert words.packages == ["deb:git:amd64"]


def test_few_files_are_listed_individually(words: Chooser) -> None:
    assert words(CHAIN, GIT[:2]) == {GIT[0]: [GIT[0]], GIT[1]: [GIT[1]]}


def test_folder_with_files_of_another_package_is_not_used(words: Chooser) -> None:
    chain = CHAIN | {"/usr/share/git-core/foreign": b""}
    assert list(words(chain, GIT[:3])) == GIT[:3], "a file of no package is not git's"


def test_highest_folder_without_package_is_below_system_folder(words: Chooser) -> None:
    files = [f"/srv/app/data/{name}" for name in "abc"]
    assert list(words(dict.fromkeys(files, b"") | {"/srv/app/run": b""}, files)) == ["/srv/app"]


def test_folder_with_compiled_modules_still_has_single_owner(words: Chooser) -> None:
    files = [f"/usr/share/app/{name}.py" for name in "abc"]
    chain = (
        dict.fromkeys(files, b"")
        | packages(app=" ".join(files))
        | {"/usr/share/app/__pycache__/a.cpython-311.pyc": b""}
    )
    assert list(words(chain, files)) == ["/usr/share/app"]


def test_listed_folder_of_several_packages_is_used(words: Chooser) -> None:
    folder = "/usr/lib/x86_64-linux-gnu/gstreamer-1.0"
    chain = {f"{folder}/a": b"", f"{folder}/b": b"", **packages(one=f"{folder}/a", two=f"{folder}/b")}
    assert words(chain, {folder: "listed", f"{folder}/a": "opened"}) == {folder: [folder, f"{folder}/a"]}
    assert words.packages == [""]


def test_link_on_path_brings_its_target(words: Chooser) -> None:
    chain = {"/usr/lib/jvm/default": "java-17", "/usr/lib/jvm/java-17/lib/modules": b""}
    path = "/usr/lib/jvm/default/lib/modules"
    assert words(chain, [path]) == {"/usr/lib/jvm/default": [path]}
    # If the production image has that link, only the file is needed.
    there = {"/usr/lib/jvm/default": "java-17", "/usr/lib/jvm/java-17/x": b""}
    assert words(chain, [path], there) == {"/usr/lib/jvm/java-17/lib/modules": [path]}


def test_link_to_system_folder_brings_no_folder(words: Chooser) -> None:
    chain = {"/opt/lib": "/usr/lib", "/usr/lib/a": b""}
    assert words(chain, ["/opt/lib/a"]) == {"/opt/lib": ["/opt/lib/a"], "/usr/lib/a": ["/opt/lib/a"]}


def test_link_to_file_is_used(words: Chooser) -> None:
    chain = {"/usr/bin/awk": "/etc/alternatives/awk", "/etc/alternatives/awk": "/usr/bin/mawk", "/usr/bin/mawk": b""}
    assert list(words(chain, ["/usr/bin/awk"])) == ["/usr/bin/awk"]


def test_pattern_inside_another_is_left_out(words: Chooser) -> None:
    chain = {f"/srv/app/{name}": b"" for name in ("a", "a-b", "a-b/c") if name != "a-b"} | {"/srv/app-2/x": b""}
    listed = {"/srv/app": "listed", "/srv/app/a-b/c": "opened", "/srv/app-2/x": "opened"}
    assert list(words(chain, listed)) == ["/srv/app", "/srv/app-2/x"]


@pytest.mark.parametrize(
    "folder",
    [
        "/",
        "/usr",
        "/usr/lib",
        "/usr/share",
        "/usr/local/share",
        "/usr/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/etc",
        "/etc/alternatives",
        "/var/lib",
        "/opt",
        "/srv",
        "/home",
        "/home/user",
        "/root",
        "/usr/share/doc",
        "/usr/share/fonts",
        "/usr/share/fonts/truetype",
        "/usr/lib/python3",
        "/usr/lib/python3/dist-packages",
        "/opt/venv/lib/python3.11",
        "/opt/venv/lib/python3.11/site-packages",
        "/usr/libexec",
        "/usr/lib/jvm",
        "/usr/lib/x86_64-linux-gnu/pkgconfig",
    ],
)
def test_system_folder_is_wide(folder: str) -> None:
    assert is_wide(folder)


@pytest.mark.parametrize(
    "folder",
    [
        "/usr/share/git-core",
        "/usr/lib/git-core",
        "/opt/app",
        "/srv/app",
        "/data",
        "/etc/app",
        "/var/lib/app",
        "/usr/lib/app/share",
        "/usr/lib/x86_64-linux-gnu/x",
        "/home/user/data",
        "/root/data",
        "/usr/share/fonts/truetype/dejavu",
    ],
)
def test_program_folder_is_not_wide(folder: str) -> None:
    assert not is_wide(folder)


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12)
_ODD = st.sampled_from(["a b", "a,b", "a[b]", "a*", "a?", "a\nb", "a\\", "\udcff", "a\\,b", "!", "é", "\u2028"])


@given(st.lists(st.one_of(_NAMES, _ODD), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)))
def test_pattern_matches_its_path_after_list_and_line_parsing(path: str) -> None:
    written = as_list([ListWord(text=pattern_of(path)), ListWord(text="/other")])
    assert "\n" not in written
    written.encode("utf-8")
    first, second = words_in(written)
    assert fnmatch.fnmatchcase(path, first.text)
    assert second.text == "/other"
