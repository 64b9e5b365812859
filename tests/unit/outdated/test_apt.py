"""apt: settings, verified lists, and the version that apt would install."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.outdated.apt_index import AptIndex, Release, parse_packages, read_indices, read_release
from chainbuild.outdated.apt_pins import matches
from chainbuild.outdated.apt_policy import AptPolicy
from chainbuild.outdated.apt_settings import AptSettings, AptSource, read_apt_conf
from chainbuild.outdated.fetching import Fetcher, Store
from chainbuild.outdated.model import DEB, Finding, Installed, SourceError, SourceState, State
from tests.support.package_repositories import Mirror, apt_key, apt_keyring, apt_suite, deb, settings_of

URI = "http://deb.test/debian"
KEYRING = "/usr/share/keyrings/archive.gpg"
NOW = 1_700_000_000.0
SOURCE = AptSource(uri=URI, suite="stable", components=("main",), keyrings=(KEYRING,))


# Settings -------------------------------------------------------------------------------------------------------------


def test_one_line_sources_have_options_and_skip_source_packages() -> None:
    text = "# a comment\ndeb-src http://a x y\n"
    text += f"deb [arch=amd64,arm64 signed-by={KEYRING} trusted=yes] {URI} stable main contrib # more\n"
    (source,) = settings_of({"sources.list": text}).sources
    assert source == AptSource(
        uri=URI,
        suite="stable",
        components=("main", "contrib"),
        architectures=("amd64", "arm64"),
        keyrings=(KEYRING,),
        trusted=True,
    )


def test_deb822_sources_multiply_uris_and_suites() -> None:
    text = f"""# Debian
Types: deb deb-src
URIs: {URI} http://other
# a comment between fields
Suites: stable stable-updates
Components: main
Signed-By: {KEYRING}

Types: deb
URIs: http://off
Suites: x
Enabled: no
"""
    sources = settings_of({"sources.list.d/debian.sources": text}).sources
    assert [source.name for source in sources] == [
        f"{URI} stable",
        f"{URI} stable-updates",
        "http://other stable",
        "http://other stable-updates",
    ]


def test_deb822_source_holds_its_key() -> None:
    lines = str(apt_key("archive")).strip().split("\n")
    key = "\n".join(f" {line or '.'}" for line in lines)
    text = f"Types: deb\nURIs: {URI}\nSuites: stable\nComponents: main\nSigned-By:\n{key}\n"
    settings = settings_of({"sources.list.d/own.sources": text})
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": [deb("a", "1")]}))
    assert read_release(fetcher(mirror), settings.sources[0], settings, NOW).is_verified


def test_files_that_apt_does_not_read_are_ignored() -> None:
    line = f"deb {URI} stable main\n"
    files = {"sources.list.d/a.list.save": line, "sources.list.d/b.txt": line, "sources.list.d/c d.list": line}
    assert settings_of(files).sources == ()


def test_wrong_lines_are_all_reported_with_their_place() -> None:
    files = {
        "sources.list": "deb http://a\nwhat\n",
        "sources.list.d/x.sources": "Types: deb\nSuites: a\n",
        "preferences": "Package: x\nPin: release a=b\n",
    }
    assert [problem.partition(":")[0].removeprefix("/etc/apt/") for problem in settings_of(files).problems] == [
        "sources.list",
        "sources.list",
        "sources.list.d/x.sources",
        "preferences",
    ]


def test_apt_conf_is_flattened() -> None:
    text = """
// a comment
APT::Default-Release "stable"; # another
APT { Get { Never-Include-Phased-Updates "true"; }; };
Acquire::Check-Valid-Until false;
/* APT::Default-Release "sid"; */
DPkg::Post-Invoke { "rm -f x || true"; };
"""
    values: dict[str, str] = {}
    read_apt_conf(text, values)
    assert values["apt::default-release"] == "stable"
    assert values["apt::get::never-include-phased-updates"] == "true"
    settings = settings_of({"apt.conf.d/10own": text})
    assert (settings.default_release, settings.phasing.never, settings.ignores_dates) == ("stable", True, True)


WORDS = st.lists(
    st.sampled_from(
        ["deb ", "[", "]", "Types: deb\n", "URIs: a\n", "Suites: b\n", "\n", " ", "=", '"', "{", "}", ";", "x"]
    )
)


@given(WORDS.map("".join), st.text(max_size=50))
def test_apt_settings_never_raise(text: str, noise: str) -> None:
    names = ("sources.list", "sources.list.d/a.sources", "preferences", "apt.conf", "preferences.d/x")
    settings_of(dict.fromkeys(names, text + noise))


# Lists ----------------------------------------------------------------------------------------------------------------


def fetcher(mirror: Mirror, folder: Path | None = None) -> Fetcher:
    return Fetcher(mirror, store(folder))


def store(folder: Path | None) -> Store:
    return Store(lambda: folder or Path("/proc/none"))


def keys(*names: str) -> AptSettings:
    return AptSettings(keys={KEYRING: apt_keyring(*names)}, trusted=(KEYRING,))


def read(mirror: Mirror, source: AptSource = SOURCE, settings: AptSettings | None = None) -> Release:
    return read_release(fetcher(mirror), source, settings or keys(), NOW)


def problem_of(mirror: Mirror, source: AptSource = SOURCE, settings: AptSettings | None = None) -> SourceError:
    with pytest.raises(SourceError) as raised:
        read(mirror, source, settings)
    return raised.value


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize("ending", [".xz", ".gz", ""])
def test_signed_suite_gives_verified_versions(detached: bool, ending: str) -> None:
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": [deb("a", "1"), deb("b", "2")]}, detached=detached, ending=ending))
    release = read(mirror)
    (index,) = read_indices(fetcher(mirror), store(None), SOURCE, release, ["amd64", "arm64"])
    assert index.table == {"a": [("1", "", 100, "")], "b": [("2", "", 100, "")]}
    assert index.name == "stable/main"


def test_suite_signed_by_another_key_is_not_used() -> None:
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": []}, key="other"))
    assert problem_of(mirror).state is SourceState.UNVERIFIED
    assert read(mirror, settings=keys("archive", "other")).is_verified


def test_signed_by_limits_the_keys_of_a_source() -> None:
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": []}, key="other"))
    both = keys("archive", "other")
    only = AptSource(uri=URI, suite="stable", only=str(apt_key("archive").fingerprint))
    assert problem_of(mirror, only, both).state is SourceState.UNVERIFIED
    allowed = AptSource(uri=URI, suite="stable", only=f"{apt_key('other').fingerprint.upper()}!")
    assert read(mirror, allowed, both).is_verified


def test_changed_list_is_not_used() -> None:
    mirror = Mirror()
    files = apt_suite({"amd64": [deb("a", "1")]})
    files["dists/stable/InRelease"] = files["dists/stable/InRelease"].replace(b"Suite: stable", b"Suite: Stable")
    mirror.add(URI, files)
    assert problem_of(mirror).state is SourceState.UNVERIFIED


def test_unsigned_suite_counts_only_if_the_image_trusts_it() -> None:
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": []}, key=None))
    assert problem_of(mirror).reason == "it is not signed"
    trusting = AptSource(uri=URI, suite="stable", components=("main",), trusted=True)
    assert not read(mirror, trusting).is_verified


def test_expired_list_is_not_used_unless_the_image_ignores_dates() -> None:
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": []}, valid_until="Sun, 01 Jan 2023 00:00:00 UTC"))
    assert problem_of(mirror).state is SourceState.EXPIRED
    lenient = AptSource(uri=URI, suite="stable", keyrings=(KEYRING,), ignores_date=True)
    assert read(mirror, lenient).suite == "stable"


@pytest.mark.parametrize(
    ("uri", "state"),
    [
        ("http://deb.test/none", SourceState.MISSING),
        ("http://down.test/debian", SourceState.UNREACHABLE),
        ("file:///srv/debian", SourceState.UNSUPPORTED),
        ("cdrom:[Debian]", SourceState.UNSUPPORTED),
    ],
)
def test_source_that_cannot_be_read_says_why(uri: str, state: SourceState) -> None:
    mirror = Mirror(down={"down.test"})
    assert problem_of(mirror, AptSource(uri=uri, suite="stable")).state is state


def test_index_with_another_digest_is_not_used() -> None:
    mirror = Mirror()
    files = apt_suite({"amd64": [deb("a", "1")]})
    files["dists/stable/main/binary-amd64/Packages.xz"] += b"x"
    mirror.add(URI, files)
    with pytest.raises(SourceError, match="not what its signed list says"):
        read_indices(fetcher(mirror), store(None), SOURCE, read(mirror), ["amd64"])


def test_unchanged_lists_are_not_transferred_again(tmp_path: Path) -> None:
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": [deb("a", "1")]}))
    for _ in range(2):
        mirror.log.clear()
        client = fetcher(mirror, tmp_path / "cache")
        release = read_release(client, SOURCE, keys(), NOW)
        (index,) = read_indices(client, store(tmp_path / "cache"), SOURCE, release, ["amd64"])
    assert [status for _, status in mirror.log] == [304]
    assert client.received == 0
    assert dict(index.table) == {"a": [("1", "", 100, "")]}


def test_damaged_cache_is_fetched_again(tmp_path: Path) -> None:
    mirror = Mirror()
    mirror.add(URI, apt_suite({"amd64": [deb("a", "1")]}))
    read_release(fetcher(mirror, tmp_path / "cache"), SOURCE, keys(), NOW)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"\x93damaged")
    assert read_release(fetcher(mirror, tmp_path / "cache"), SOURCE, keys(), NOW).suite == "stable"


def test_flat_repository_has_no_components() -> None:
    files = apt_suite({"amd64": [deb("a", "1")]})
    packages = files["dists/stable/main/binary-amd64/Packages.xz"]
    suite = apt_suite({"amd64": [deb("a", "1")]}, more="Origin: flat")
    text = suite["dists/stable/InRelease"]
    flat = AptSource(uri="http://flat.test/repo", suite="/", trusted=True)
    mirror = Mirror()
    unsigned = text.partition(b"-----BEGIN PGP SIGNATURE")[0].partition(b"\n\n")[2]
    mirror.add(
        "http://flat.test/repo",
        {"InRelease": unsigned.replace(b"main/binary-amd64/", b""), "Packages.xz": packages},
    )
    release = read(mirror, flat)
    (index,) = read_indices(fetcher(mirror), store(None), flat, release, ["amd64"])
    assert "a" in index.table


@given(st.binary(max_size=300))
def test_parse_packages_never_raises(raw: bytes) -> None:
    assert isinstance(parse_packages(raw), dict)


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.from_regex(r"[0-9.]{1,5}", fullmatch=True))))
def test_parse_packages_reads_every_paragraph(rows: list[tuple[str, str]]) -> None:
    table = parse_packages("\n".join(deb(name, version, Source="x (1)") for name, version in rows).encode())
    found = [(name, version) for name, versions in table.items() for version, *_ in versions]
    assert sorted(found) == sorted(rows)


# The choice -----------------------------------------------------------------------------------------------------------


def index(
    versions: Iterable[str], *, suite: str = "stable", site: str = "deb.test", phased: int = 100, **fields: object
) -> AptIndex:
    source = AptSource(uri=f"http://{site}/debian", suite=suite, components=("main",))
    release = Release(suite=suite, codename=suite, files={}, **fields)  # type: ignore[arg-type]
    table = {"lib": [(version, "src", phased, "") for version in versions]}
    return AptIndex(source=source, release=release, component="main", architecture="amd64", table=table)


def found(
    installed: str, *indices: AptIndex, held: bool = False, complete: bool = True, name: str = "lib", **files: str
) -> Finding:
    settings = settings_of({key.replace("_", "."): text for key, text in files.items()})
    policy = AptPolicy(settings, indices, "amd64", complete=complete)
    return policy.find(Installed(kind=DEB, name=name, version=installed, arch="amd64", held=held))


def test_newer_version_is_an_update() -> None:
    finding = found("1.0", index(["1.1", "1.0"]))
    assert (finding.state, finding.candidate, finding.security) == (State.OUTDATED, "1.1", False)
    assert finding.change == "lib 1.0 → 1.1"


@pytest.mark.parametrize(
    ("pocket", "is_security"),
    [
        (index(["1.1"], suite="stable-security", label="Debian-Security"), True),
        (index(["1.1"], suite="noble-security", label="Ubuntu"), True),
        (index(["1.1"], suite="noble-updates", label="Ubuntu"), False),
    ],
)
def test_update_of_a_security_suite_is_for_security(pocket: AptIndex, is_security: bool) -> None:
    assert found("1.0", index(["1.0"]), pocket).security is is_security


def test_newer_update_includes_an_older_security_fix() -> None:
    finding = found("1.0", index(["1.2"]), index(["1.1"], suite="stable-security", label="Debian-Security"))
    assert (finding.candidate, finding.security) == ("1.2", True)


def test_fixed_version_needs_no_security_update() -> None:
    finding = found("1.1", index(["1.2"]), index(["1.1"], suite="stable-security", label="Debian-Security"))
    assert (finding.candidate, finding.security) == ("1.2", False)


def test_held_package_keeps_its_version() -> None:
    finding = found("1.0", index(["1.1"]), held=True)
    assert (finding.state, finding.candidate, finding.note) == (State.HELD, "1.1", "on hold")


@pytest.mark.parametrize(
    "pin",
    [
        "Package: lib\nPin: version 1.0*\nPin-Priority: 1001",
        "Package: lib\nPin: release a=stable\nPin-Priority: -1",
        "Package: l*\nPin: origin deb.test\nPin-Priority: -10",
        "Package: src:src\nPin: version 1.1\nPin-Priority: -1",
        "Package: /^li/\nPin: release n=stable\nPin-Priority: -5",
        "Package: *\nPin: release a=stable\nPin-Priority: 1",
    ],
)
def test_pinned_package_keeps_its_version(pin: str) -> None:
    finding = found("1.0", index(["1.1", "1.0"]), preferences=pin)
    assert (finding.state, finding.candidate, finding.note) == (State.PINNED, "1.1", "pinned by /etc/apt/preferences")


def test_first_pin_that_matches_counts() -> None:
    pins = "Package: lib\nPin: release a=stable\nPin-Priority: 500\n\nPackage: *\nPin: release *\nPin-Priority: -1\n"
    assert found("1.0", index(["1.1"]), preferences=pins).state is State.OUTDATED


def test_backports_are_not_taken_by_themselves() -> None:
    backports = index(["2.0~bpo"], suite="backports", not_automatic=True, automatic_upgrades=True)
    assert found("1.0", index(["1.0"]), backports).state is State.CURRENT
    assert found("2.0~alpha", index(["1.0"]), backports).candidate == "2.0~bpo"


def test_experimental_is_never_taken() -> None:
    assert found("1.0", index(["1.0"]), index(["9"], suite="rc", not_automatic=True)).state is State.CURRENT


def test_default_release_wins_over_newer_suites() -> None:
    stable, testing = index(["1.0"]), index(["2.0"], suite="testing")
    assert found("1.0", stable, testing).candidate == "2.0"
    assert found("1.0", stable, testing, apt_conf='APT::Default-Release "stable";').state is State.PINNED


def test_phased_update_counts_unless_the_image_excludes_it() -> None:
    phased = index(["1.1"], phased=20)
    assert found("1.0", phased, index(["1.0"])).note == "phased to 20 %"
    conf = 'APT::Get::Never-Include-Phased-Updates "true";'
    finding = found("1.0", phased, index(["1.0"]), apt_conf=conf)
    assert (finding.state, finding.note) == (State.PINNED, "phased to 20 %, and apt.conf excludes phased updates")


def test_package_of_no_source_is_gone_or_unknown() -> None:
    assert found("1.0", index(["1"]), name="other").state is State.GONE
    assert found("1.0", index(["1"]), name="other", complete=False).state is State.UNKNOWN


def test_package_that_is_newer_than_its_sources_is_ahead() -> None:
    finding = found("2.0", index(["1.0"]))
    assert (finding.state, finding.note) == (State.AHEAD, "the newest version of its sources is 1.0")


def test_version_that_is_none_is_ignored() -> None:
    assert found("1.0", index(["no version", "1.1"])).candidate == "1.1"


@pytest.mark.parametrize("pattern", ["/(a+)+$/", "/[[:digit:]]/", "/a{9}/", "/.*.*.*.*.*x/"])
def test_expression_that_may_take_long_is_reported(pattern: str) -> None:
    settings = settings_of({"preferences": f"Package: {pattern}\nPin: release *\nPin-Priority: 1"})
    assert len(AptPolicy(settings, (), "amd64").problems) == 1
    assert not matches(pattern, "aaaa")


@given(st.text(max_size=30), st.text(max_size=30))
def test_patterns_never_raise(pattern: str, text: str) -> None:
    assert matches(pattern, text) in {True, False}
