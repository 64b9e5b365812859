"""apk: settings, verified indices, and the version that `apk upgrade` would take."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.comparison.contents import Entry, LayeredRoot
from chainbuild.outdated.alpine import (
    ApkIndex,
    ApkPolicy,
    ApkSettings,
    Wish,
    parse_apk_index,
    read_apk_index,
    read_apk_settings,
    verified_index,
)
from chainbuild.outdated.apk_repositories import Repository
from chainbuild.outdated.fetching import Fetcher, Store
from chainbuild.outdated.model import APK, Finding, Installed, SourceError, SourceState, State
from tests.support.package_repositories import BUILDER, Mirror, apk_index, apk_public_key

ADDRESS = "https://alpine.test/v3.22/main"
URL = f"{ADDRESS}/x86_64/APKINDEX.tar.gz"


def settings_of(files: Mapping[str, str], platform: str = "linux/amd64") -> ApkSettings:
    rows = [(f"/etc/apk/{name}", Entry(kind="file", data=text.encode())) for name, text in files.items()]
    return read_apk_settings(LayeredRoot([rows]), platform)


def test_settings_have_repositories_tags_and_wishes() -> None:
    files = {
        "repositories": f"{ADDRESS}\n# x\n@edge https://alpine.test/edge/main\nwhat is this\n",
        "world": "busybox\nssl=3.1-r0\ncurl@edge\nzlib>1.2 lua~5.4@edge\n!gone\n",
        "keys/a.pub": "key",
    }
    settings = settings_of(files)
    assert settings.repositories == (
        Repository(address=ADDRESS),
        Repository(address="https://alpine.test/edge/main", tag="edge"),
    )
    assert settings.architecture == "x86_64"
    assert settings.problems == ("/etc/apk/repositories:4: not an address of a repository: what",)
    assert settings.keys == {"a.pub": b"key"}
    assert settings.wishes["ssl"] == Wish(name="ssl", operator="=", version="3.1-r0")
    assert settings.wishes["curl"] == Wish(name="curl", tag="edge")
    assert settings.wishes["lua"] == Wish(name="lua", operator="~", version="5.4", tag="edge")
    assert "gone" not in settings.wishes


def repositories_of(text: str, **files: str) -> list[tuple[str, str, str]]:
    settings = settings_of({"repositories": text, **files})
    return [(one.form, one.address, one.tag) for one in settings.repositories]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("https://x.test/edge/main/", [("v2", "https://x.test/edge/main", "")]),
        ("v3 @tag https://x.test/testing", [("v3", "https://x.test/testing", "tag")]),
        ("https://x.test/ main community", [("v2", "https://x.test/main", ""), ("v2", "https://x.test/community", "")]),
        ("https://x.test/own/Packages.adb", [("ndx", "https://x.test/own/Packages.adb", "")]),
        ("ndx https://x.test/APKINDEX.tar.gz", [("ndx", "https://x.test/APKINDEX.tar.gz", "")]),
        ("set a=https://x.test\nset b=main more\n${a} ${b}", [
            ("v2", "https://x.test/main", ""),
            ("v2", "https://x.test/more", ""),
        ]),
        ("set -default a=/one\nset -default a=/two\n${a}", [("v2", "/one", "")]),
        ("set a=/one\nset a=${a}/two\n${a}", [("v2", "/one/two", "")]),
        ("https://x.test/${APK_ARCH:3}", [("v2", "https://x.test/x86", "")]),
    ],
)  # fmt: skip
def test_repository_lines_of_apk_3_are_read(line: str, expected: list[tuple[str, str, str]]) -> None:
    """The cases are those of apk-tools' own test, test/unit/repoparser_test.c."""
    assert repositories_of(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "foo https://x.test/main",
        "v2 foobar main",
        "@tag",
        "v3",
        "https://${undefined}/main",
        "https://${open",
        "https://${APK_ARCH:}",
        "set -unknown a=b",
        "set APK_FOO=reserved",
        "set var-foo=bad",
        "set",
        "set a=" + "x" * 3000 + "\n/${a}${a}",
    ],
)
def test_wrong_repository_line_is_a_problem_with_its_line(line: str) -> None:
    settings = settings_of({"repositories": f"# first\n{line}\n/good\n"})
    assert [one.address for one in settings.repositories] == ["/good"]
    (problem,) = settings.problems
    assert problem.startswith(f"/etc/apk/repositories:{2 + line.count(chr(10))}: ")


def test_lists_of_equal_names_count_once() -> None:
    files = {
        "/etc/apk/repositories": "set -default mirror=/own\n",
        "/etc/apk/repositories.d/b.list": "/etc-b\n",
        "/lib/apk/repositories.d/b.list": "/lib-b\n",
        "/lib/apk/repositories.d/a.list": "set -default mirror=/theirs\n${mirror}\n",
        "/lib/apk/repositories.d/c.txt": "/no-list\n",
    }
    root = LayeredRoot([[(path, Entry(kind="file", data=text.encode())) for path, text in files.items()]])
    settings = read_apk_settings(root, "linux/amd64")
    assert [one.address for one in settings.repositories] == ["/own", "/etc-b"]


@given(st.text("set -default${}:=@/v2ndx ab\n", max_size=80))
def test_repositories_are_read_or_refused(text: str) -> None:
    assert isinstance(repositories_of(text), list)


def test_index_of_apk_3_is_reported_as_unsupported() -> None:
    for repository in (Repository(address=ADDRESS, form="v3"), Repository(address="/x.adb", form="ndx")):
        with pytest.raises(SourceError) as raised:
            read_apk_index(Fetcher(Mirror(files={}), Store(lambda: Path("/proc/none"))), repository, ApkSettings())
        assert raised.value.state is SourceState.UNSUPPORTED


@pytest.mark.parametrize(
    ("platform", "architecture"),
    [
        ("linux/arm64/v8", "aarch64"),
        ("linux/arm64", "aarch64"),
        ("linux/arm/v7", "armv7"),
        ("linux/riscv64", "riscv64"),
    ],
)
def test_architecture_is_that_of_the_platform(platform: str, architecture: str) -> None:
    assert settings_of({}, platform).architecture == architecture
    assert settings_of({"arch": "own\n"}, platform).architecture == "own"


@given(st.text(max_size=200))
def test_settings_never_raise(text: str) -> None:
    settings_of({"repositories": text, "world": text, "arch": text})


def read(content: bytes, *keys: str) -> ApkIndex:
    settings = ApkSettings(architecture="x86_64", keys={key: apk_public_key(key) for key in keys})
    mirror = Mirror(files={URL: content})
    return read_apk_index(Fetcher(mirror, Store(lambda: Path("/proc/none"))), Repository(address=ADDRESS), settings)


def test_index_signed_by_a_key_of_the_image_is_used() -> None:
    index = read(apk_index({"busybox": "1.37.0-r19", "zlib": "1.3.1-r2"}), BUILDER)
    assert index.table == {"busybox": ["1.37.0-r19"], "zlib": ["1.3.1-r2"]}
    assert index.name == "v3.22/main"


@pytest.mark.parametrize("keys", [(), ("other.rsa.pub",)])
def test_index_signed_by_another_key_is_not_used(keys: tuple[str, ...]) -> None:
    with pytest.raises(SourceError) as raised:
        read(apk_index({"busybox": "1"}), *keys)
    assert raised.value.state is SourceState.UNVERIFIED
    assert BUILDER in raised.value.reason


def test_index_with_another_content_is_not_used() -> None:
    one, other = apk_index({"busybox": "1"}), apk_index({"busybox": "2"})
    start = one.index(b"\x1f\x8b", 2)
    with pytest.raises(SourceError, match="its signature is valid"):
        read(one[:start] + other[other.index(b"\x1f\x8b", 2) :], BUILDER)


@pytest.mark.parametrize("content", [b"", b"no gzip", apk_index({"a": "1"})[:200]])
def test_index_that_is_none_is_an_error_of_the_source(content: bytes) -> None:
    with pytest.raises(SourceError):
        read(content, BUILDER)


@given(st.binary(max_size=200))
def test_verified_index_accepts_no_noise(noise: bytes) -> None:
    with suppress(Exception):
        assert not verified_index(noise, {BUILDER: apk_public_key(BUILDER)})


@given(st.text(max_size=200))
def test_parse_apk_index_never_raises(text: str) -> None:
    assert isinstance(parse_apk_index(text), dict)


def found(installed: str, *versions: str, world: str = "lib", tag: str = "", complete: bool = True) -> Finding:
    settings = settings_of({"world": world})
    index = ApkIndex(address=ADDRESS, tag=tag, table={"lib": versions} if versions else {})
    policy = ApkPolicy(settings, [index], complete=complete)
    return policy.find(Installed(kind=APK, name="lib", version=installed, arch="x86_64"))


def test_newer_version_is_an_update_of_unknown_kind() -> None:
    finding = found("1.0-r1", "1.0-r2", "1.0-r0")
    assert (finding.state, finding.candidate, finding.security, finding.origin) == (
        State.OUTDATED,
        "1.0-r2",
        None,
        "v3.22/main",
    )


@pytest.mark.parametrize(
    ("world", "state", "candidate"),
    [
        ("lib=1.0-r1", State.PINNED, "2.0-r0"),
        ("lib<2", State.OUTDATED, "1.5-r0"),
        ("lib~1", State.OUTDATED, "1.5-r0"),
        ("lib~1.0", State.PINNED, "2.0-r0"),
        ("lib>1", State.OUTDATED, "2.0-r0"),
        ("lib>=1.5-r0", State.OUTDATED, "2.0-r0"),
    ],
)
def test_wish_limits_the_version(world: str, state: State, candidate: str) -> None:
    finding = found("1.0-r1", "2.0-r0", "1.5-r0", world=world)
    assert (finding.state, finding.candidate) == (state, candidate)


def test_tagged_repository_counts_only_for_wishes_with_its_tag() -> None:
    assert found("1.0-r1", "2.0-r0", tag="edge").state is State.GONE
    assert found("1.0-r1", "2.0-r0", tag="edge", world="lib@edge").state is State.OUTDATED


def test_tag_that_the_world_names_is_preferred_to_a_newer_version() -> None:
    stable = ApkIndex(address=ADDRESS, tag="", table={"lib": ["3.0-r0"]})
    edge = ApkIndex(address="https://alpine.test/edge/main", tag="edge", table={"lib": ["2.0-r0"]})
    package = Installed(kind=APK, name="lib", version="1.0-r1", arch="x86_64")
    for world, candidate in (("lib@edge", "2.0-r0"), ("lib", "3.0-r0"), ("lib>2.5@edge", "3.0-r0")):
        finding = ApkPolicy(settings_of({"world": world}), [stable, edge]).find(package)
        assert (finding.state, finding.candidate) == (State.OUTDATED, candidate), world


def test_other_states_of_packages() -> None:
    assert found("1.0-r1", "1.0-r1").state is State.CURRENT
    assert found("1.0-r1", "0.9-r1").state is State.AHEAD
    assert found("1.0-r1").state is State.GONE
    assert found("1.0-r1", complete=False).state is State.UNKNOWN
    assert found("odd version", "1.0").state is State.OUTDATED
