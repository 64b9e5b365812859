"""Python distributions: pages of indices, wheels that suit, and the version that an installer would choose."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from chainbuild.comparison.contents import Entry, LayeredRoot
from chainbuild.outdated.fetching import Fetcher, Store
from chainbuild.outdated.model import PYPI, Finding, Installed, SourceError, State
from chainbuild.outdated.python_index import (
    DEFAULT,
    File,
    PythonIndex,
    PythonPolicy,
    PythonSettings,
    parse_page,
    read_python_settings,
    versions_of,
)
from tests.support.package_repositories import Mirror, project_page

INDEX = "https://index.test/simple"
SETTINGS = PythonSettings(indices=(INDEX,), machine="x86_64")
PLACE = "/usr/local/lib/python3.11/site-packages"
PYTHON = (3, 11)


def settings_of(files: dict[str, str], env: dict[str, str]) -> PythonSettings:
    root = LayeredRoot([[(path, Entry(kind="file", data=text.encode())) for path, text in files.items()]])
    return read_python_settings(root, env.items(), "arm64", has_musl=False)


def test_index_is_that_of_the_image() -> None:
    conf = "[global]\nindex-url = https://a/simple/\nextra-index-url =\n    https://b/simple\n    https://c/simple\n"
    assert settings_of({}, {}).indices == (DEFAULT,)
    assert settings_of({"/etc/pip.conf": conf}, {}).indices == (
        "https://a/simple",
        "https://b/simple",
        "https://c/simple",
    )
    assert settings_of({"/etc/pip.conf": conf}, {"PIP_INDEX_URL": INDEX}).indices[0] == INDEX
    assert settings_of({"/etc/pip.conf": "not\nini"}, {}).indices == (DEFAULT,)
    assert settings_of({}, {}).machine == "aarch64"


@given(st.text(max_size=100))
def test_settings_never_raise(text: str) -> None:
    settings_of({"/etc/pip.conf": text}, {"PIP_EXTRA_INDEX_URL": text})


# Pages ----------------------------------------------------------------------------------------------------------------


def test_page_in_html_has_the_same_files_as_in_json() -> None:
    html = b"""<html><a href="../x-1.0.tar.gz#sha256=0" data-requires-python="&gt;=3.9">x</a>
    <a href="https://files/x-2.0-py3-none-any.whl" data-yanked="">x</a><a>no</a></html>"""
    assert parse_page(html, INDEX) == (
        File(name="x-1.0.tar.gz", requires_python=">=3.9"),
        File(name="x-2.0-py3-none-any.whl", is_yanked=True),
    )


@given(st.binary(max_size=200))
def test_page_that_is_none_is_an_error_of_the_source_at_most(raw: bytes) -> None:
    with suppress(SourceError):
        assert isinstance(parse_page(raw, INDEX), tuple)


BROKEN = (b"<![\x00", b'<a href="http://[x">', b"{", b"{}", b'{"files": [1]}', b'{"files": [{}]}', b'{"files": 1}')


@pytest.mark.parametrize("raw", BROKEN)
def test_damaged_page_is_an_error_of_the_source(raw: bytes) -> None:
    with pytest.raises(SourceError, match="not a page of an index"):
        parse_page(raw, INDEX)


@pytest.mark.parametrize(
    ("name", "suits"),
    [
        ("x-1.0.tar.gz", True),
        ("x-1.0-py3-none-any.whl", True),
        ("x-1.0-py2.py3-none-any.whl", True),
        ("x-1.0-py2-none-any.whl", False),
        ("x-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("x-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", False),
        ("x-1.0-cp311-cp311-manylinux_2_17_aarch64.whl", False),
        ("x-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("x-1.0-cp311-cp311-macosx_11_0_arm64.whl", False),
        ("x-1.0-cp38-abi3-manylinux_2_17_x86_64.whl", True),
        ("x-1.0-cp312-abi3-manylinux_2_17_x86_64.whl", False),
        ("x-1.0-py311-none-any.whl", True),
        ("x-1.0-py312-none-any.whl", False),
        ("x-1.0.exe", False),
        ("x-one.tar.gz", False),
        ("x.whl", False),
    ],
)
def test_file_counts_if_it_can_be_installed(name: str, suits: bool) -> None:
    assert bool(versions_of([File(name=name)], PYTHON, SETTINGS)) is suits


def test_file_for_another_python_or_yanked_does_not_count() -> None:
    files = [
        File(name="x-3.tar.gz", requires_python=">=3.12"),
        File(name="x-2.tar.gz", is_yanked=True),
        File(name="x-1.tar.gz", requires_python=">=3.11.4,<4"),
        File(name="x-0.tar.gz", requires_python="what"),
    ]
    assert versions_of(files, PYTHON, SETTINGS) == (Version("1"), Version("0"))


# The choice -----------------------------------------------------------------------------------------------------------


def found(version: str, *files: str, others: tuple[Installed, ...] = (), **more: bytes) -> Finding:
    own = Installed(kind=PYPI, name="My.Lib", version=version, place=PLACE)
    pages = {f"{INDEX}/my-lib/": project_page(*files)} if files else {}
    pages |= {f"https://index.test/pypi/my-lib/{version}/json": content for content in more.values()}
    index = PythonIndex(Fetcher(Mirror(files=pages), Store(lambda: Path("/proc/none"))))
    return PythonPolicy(index, SETTINGS, (own, *others)).find(own)


def sdists(*versions: str) -> tuple[str, ...]:
    return tuple(f"my_lib-{version}.tar.gz" for version in versions)


def test_newer_version_is_an_update() -> None:
    finding = found("1.9", *sdists("1.10", "1.9"))
    assert (finding.state, finding.candidate, finding.origin) == (State.OUTDATED, "1.10", "index.test")
    assert finding.security is None


def test_pre_release_is_only_an_update_of_a_pre_release() -> None:
    assert found("1.0", *sdists("1.0", "2.0rc1")).state is State.CURRENT
    assert found("2.0b1", *sdists("1.0", "2.0rc1")).candidate == "2.0rc1"


def test_requirement_of_another_distribution_limits_the_version() -> None:
    other = Installed(kind=PYPI, name="app", version="1", place=PLACE, requires=("my_lib<2 ; python_version > '3'",))
    finding = found("1.0", *sdists("1.0", "1.5", "2.0"), others=(other,))
    assert (finding.state, finding.candidate) == (State.OUTDATED, "1.5")
    finding = found("1.5", *sdists("1.5", "2.0"), others=(other,))
    assert (finding.state, finding.candidate, finding.note) == (State.PINNED, "2.0", "app requires <2")


@pytest.mark.parametrize(
    "requirement", ["my_lib<2 ; extra == 'x'", "my_lib<2 ; python_version < '3'", "my_lib", "other<2", "my lib < what"]
)
def test_requirement_that_does_not_apply_does_not_limit(requirement: str) -> None:
    elsewhere = Installed(kind=PYPI, name="b", version="1", place="/opt/venv/lib/python3.11/x", requires=("my_lib<2",))
    other = Installed(kind=PYPI, name="app", version="1", place=PLACE, requires=(requirement,))
    assert found("1.5", *sdists("2.0"), others=(other, elsewhere)).state is State.OUTDATED


@pytest.mark.parametrize(
    ("vulnerabilities", "security"),
    [
        ([{"id": "A", "fixed_in": ["1.1"]}], True),
        ([{"id": "A", "fixed_in": ["3.0"]}], False),
        ([{"id": "A", "fixed_in": ["1.1"], "withdrawn": "2024-01-01T00:00:00Z"}], False),
        ([], False),
        ([{"fixed_in": "1.1"}, 1, {"fixed_in": ["odd"]}], False),
        ("none", None),
    ],
)
def test_update_that_fixes_a_vulnerability_is_for_security(vulnerabilities: object, security: bool | None) -> None:
    data = json.dumps({"vulnerabilities": vulnerabilities}).encode()
    assert found("1.0", *sdists("2.0"), data=data).security is security


def test_other_states_of_distributions() -> None:
    assert found("1.0", *sdists("1.0")).state is State.CURRENT
    assert found("2.0", *sdists("1.0")).state is State.AHEAD
    assert found("1.0").state is State.GONE
    assert found("odd", *sdists("1.0")).state is State.UNKNOWN
    own = Installed(kind=PYPI, name="x", version="1", place=PLACE, from_url=True)
    index = PythonIndex(Fetcher(Mirror(), Store(lambda: Path("/proc/none"))))
    assert PythonPolicy(index, SETTINGS, (own,)).find(own).state is State.UNKNOWN
