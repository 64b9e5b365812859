"""The version that apt would install: cases in which the preferences and the lists of apt have rules of their own.

The random cases of tests/engine/test_apt_choices.py found them; apt says there what is right.
"""

from __future__ import annotations

import pytest

from chainbuild.outdated.apt_index import AptIndex, Release, Row, parse_packages, parse_release
from chainbuild.outdated.apt_phasing import Phasing, draw
from chainbuild.outdated.apt_policy import AptPolicy
from chainbuild.outdated.apt_settings import AptSource
from chainbuild.outdated.model import DEB, Finding, Installed, State
from chainbuild.values import replace
from tests.support.package_repositories import settings_of


def index(*rows: Row, arch: str = "amd64", suite: str = "stable", **fields: object) -> AptIndex:
    source = AptSource(uri="http://deb.test/debian", suite=suite, components=("main",))
    release = Release(**{"suite": suite, "files": {}, **fields})  # type: ignore[arg-type]
    return AptIndex(source=source, release=release, component="main", architecture=arch, table={"lib": rows})


def row(version: str, source: str = "", phased: int = 100, arch: str = "") -> Row:
    return version, source, phased, arch


def found(installed: str, *indices: AptIndex, arch: str = "amd64", held: bool = False, **files: str) -> Finding:
    settings = settings_of({name.replace("_", "."): text for name, text in files.items() if name != "machine"})
    if "machine" in files:
        settings = settings_of({"apt.conf": f'APT::Machine-ID "{files["machine"]}";'})
    policy = AptPolicy(settings, indices, "amd64")
    return policy.find(Installed(kind=DEB, name="lib", version=installed, arch=arch, held=held))


def pin(package: str, matches: str, priority: object) -> str:
    return f"Package: {package}\nPin: {matches}\nPin-Priority: {priority}\n"


# Architectures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "listed", "own", "state"),
    [
        ("all", "amd64", "", State.OUTDATED),
        ("amd64", "amd64", "all", State.OUTDATED),
        ("all", "arm64", "all", State.OUTDATED),
        ("all", "arm64", "", State.GONE),
        ("arm64", "arm64", "all", State.GONE),
        ("arm64", "all", "", State.GONE),
        ("arm64", "", "amd64", State.GONE),
        ("amd64", "", "amd64", State.OUTDATED),
    ],
)
def test_independent_package_is_one_of_the_native_architecture(arch: str, listed: str, own: str, state: State) -> None:
    assert found("1", index(row("2", arch=own), arch=listed), arch=arch).state is state


@pytest.mark.parametrize(
    ("package", "arch", "state"),
    [
        ("lib:amd64", "all", State.PINNED),
        ("lib:all", "all", State.OUTDATED),
        ("lib:any", "arm64", State.PINNED),
        ("lib", "arm64", State.OUTDATED),
        ("l*:arm64", "arm64", State.PINNED),
        ("LIB", "amd64", State.OUTDATED),
        ("L*", "amd64", State.PINNED),
        ("* other", "amd64", State.PINNED),
        ("* other", "arm64", State.OUTDATED),
    ],
)
def test_pin_of_a_package_is_for_an_architecture(package: str, arch: str, state: State) -> None:
    offer = index(row("2", arch="all" if arch == "all" else ""), arch="arm64" if arch == "arm64" else "amd64")
    assert found("1", offer, arch=arch, preferences=pin(package, "version *", -1)).state is state


# dpkg's database ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matches", ["release *", "release a=*", "release c=*"])
def test_pin_of_all_sources_is_for_the_installed_version_too(matches: str) -> None:
    finding = found("1", index(row("2")), preferences=pin("*", matches, 50))
    assert (finding.state, finding.candidate) == (State.OUTDATED, "2")


@pytest.mark.parametrize("matches", ["release a=now", "release now", "release c=now"])
def test_pin_of_installed_versions_keeps_them(matches: str) -> None:
    assert found("1", index(row("2")), preferences=pin("*", matches, 600)).state is State.PINNED
    assert found("1", index(row("2")), preferences=pin("lib", matches, 600)).state is State.PINNED


# Records --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priority", "state"),
    [
        ("50x", State.PINNED),
        ("50 # few", State.PINNED),
        ("+50", State.PINNED),
        ("5_0", State.PINNED),
        ("x", State.OUTDATED),
    ],
)
def test_priority_is_the_number_at_the_beginning(priority: str, state: State) -> None:
    assert found("1", index(row("2")), preferences=pin("*", "release a=stable", priority)).state is state


@pytest.mark.parametrize(
    ("matches", "state"),
    [
        ("release v=*", State.OUTDATED),
        ("release v=12*", State.PINNED),
        ("release 12*", State.PINNED),
        ("release l=*", State.OUTDATED),
        ("release n=*", State.OUTDATED),
        ("release a=rc,a=stable", State.PINNED),
        ('origin "deb.test"', State.PINNED),
        ('origin ""', State.OUTDATED),
    ],
)
def test_field_that_a_source_does_not_have_matches_nothing(matches: str, state: State) -> None:
    assert found("1", index(row("2"), version="12.5"), preferences=pin("*", matches, -1)).state is state


def test_any_component_is_also_that_of_a_flat_repository() -> None:
    flat = replace(index(row("2")), component="")
    assert found("1", flat, preferences=pin("*", "release c=main", -1)).state is State.OUTDATED
    assert found("1", flat, preferences=pin("*", "release c=*", -1)).state is State.PINNED


@pytest.mark.parametrize(
    ("matches", "state"),
    [
        ("version 2-1+B1", State.PINNED),
        ("version 2*", State.PINNED),
        ("version 2-?+b1", State.PINNED),
        ("source-version 2-1", State.PINNED),
        ("source-version 2-1+b1", State.OUTDATED),
        ("version 2-1", State.OUTDATED),
    ],
)
def test_pin_by_version_knows_the_source_version(matches: str, state: State) -> None:
    offer = index(row("2-1+b1", source="src (2-1)"))
    assert found("1", offer, preferences=pin("src:src", matches, -1)).state is state


def test_never_counts_before_other_general_pins() -> None:
    pins = pin("*", "release a=stable", 700) + "\n" + pin("*", "origin deb.test", "never")
    assert found("1", index(row("2")), preferences=pins).state is State.PINNED


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("a", True),
        ("b.pref", True),
        ("h:i", True),
        ("x.y.pref", True),
        (".hidden", False),
        (".pref", False),
        ("c.txt", False),
    ],
)
def test_name_decides_whether_apt_reads_a_file(name: str, is_read: bool) -> None:
    settings = settings_of({f"preferences.d/{name}": pin("*", "release *", 1)})
    assert bool(settings.pins) is is_read


# Sources --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "count"),
    [("no", 0), ("0", 0), ("Off", 0), ("disable", 0), ("without", 0), ("yes", 1), ("1", 1), ("x", 1)],
)
def test_source_is_disabled_by_every_word_for_no(value: str, count: int) -> None:
    text = f"Types: deb\nURIs: http://a\nSuites: b\nComponents: main\nEnabled: {value}\n"
    assert len(settings_of({"sources.list.d/a.sources": text}).sources) == count


@pytest.mark.parametrize(
    ("option", "field", "chosen"),
    [
        ("arch=arm64", "Architectures: arm64", ("arm64", "all")),
        ("arch-=arm64", "Architectures-Remove: arm64", ("amd64", "all")),
        ("arch+=i386", "Architectures-Add: i386", ("amd64", "arm64", "all")),
        ("arch=amd64 arch+=arm64", "Architectures: amd64\nArchitectures-Add: arm64", ("amd64", "arm64", "all")),
        ("arch-=all", "Architectures-Remove: all", ("amd64", "arm64")),
    ],
)
def test_source_changes_its_architectures(option: str, field: str, chosen: tuple[str, ...]) -> None:
    text = f"Types: deb\nURIs: http://a\nSuites: b\nComponents: main\n{field}\n"
    files = {"sources.list": f"deb [ {option} ] http://a b main", "sources.list.d/a.sources": text}
    for source in settings_of(files).sources:
        assert source.chosen(["amd64", "arm64", "all"]) == chosen


def test_source_of_other_targets_has_no_packages() -> None:
    text = "deb [target=Translations] http://a b main\ndeb [target=Packages,Translations] http://a c main\n"
    assert [source.has_packages for source in settings_of({"sources.list": text}).sources] == [False, True]


def test_release_needs_only_one_flag_for_automatic_upgrades() -> None:
    text = "Suite: x\n{}SHA256:\n 00 1 main/binary-amd64/Packages\n"
    only = parse_release(text.format("ButAutomaticUpgrades: yes\n"))[0]
    assert only.automatic_upgrades
    assert parse_release(text.format("NotAutomatic: True\n"))[0].not_automatic
    assert found("1", index(row("1")), index(row("2"), automatic_upgrades=True, suite="x")).state is not State.OUTDATED


def test_cleared_configuration_does_not_count() -> None:
    files = {
        "apt.conf.d/10": 'APT { Default-Release "x"; Machine-ID "y"; };',
        "apt.conf.d/20": "#clear APT::Default-Release;",
    }
    settings = settings_of(files)
    assert (settings.default_release, settings.phasing.machine) == ("", "y")


def test_list_of_an_architecture_names_only_other_ones() -> None:
    raw = b"Package: a\nVersion: 1\nArchitecture: amd64\n\nPackage: b\nVersion: 1\nArchitecture: all\nSource: s (2)\n"
    assert parse_packages(raw, "amd64") == {"a": [("1", "", 100, "")], "b": [("1", "s (2)", 100, "all")]}


# Phased updates -------------------------------------------------------------------------------------------------------

MACHINE = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(("text", "number"), [("x0p-2-1", 48), ("yx1p-2-1", 96), ("yyx2p-2-1", 90)])
def test_drawn_number_is_that_of_apt(text: str, number: int) -> None:
    assert draw(f"{text}-{MACHINE}") == number


def test_machine_id_decides_about_phased_updates() -> None:
    limit = draw(f"src-2-{MACHINE}")
    late, early = (index(row("2", source="src", phased=share)) for share in (limit - 1, limit))
    assert found("1", early, machine=MACHINE).state is State.OUTDATED
    finding = found("1", late, machine=MACHINE)
    assert finding.state is State.PINNED
    assert finding.note == f"phased to {limit - 1} %, and not yet for the image's machine id"
    assert found("1", late).state is State.OUTDATED


def test_security_update_is_not_phased() -> None:
    never = 'APT::Get::Never-Include-Phased-Updates "1";'
    updates, security = index(row("3", phased=10)), index(row("2"), suite="noble-security")
    assert found("1", updates, apt_conf=never).state is State.PINNED
    assert found("1", updates, security, apt_conf=never).candidate == "3"
    assert found("2", updates, security, apt_conf=never).state is State.PINNED


def test_phased_candidate_is_kept_back_even_if_an_older_update_exists() -> None:
    never = 'APT::Get::Never-Include-Phased-Updates "1";'
    offers = index(row("3", phased=10), row("2"))
    assert found("1", offers, apt_conf=never).state is State.PINNED
    finding = found("1", offers, apt_conf=never + 'APT::Get::Phase-Policy "1";')
    assert (finding.state, finding.candidate) == (State.OUTDATED, "2")


def test_settings_of_phasing_have_earlier_names() -> None:
    never, always = (f'{{}}::{word}-Include-Phased-Updates "true";' for word in ("Never", "Always"))
    assert settings_of({"apt.conf": never.format("Update-Manager")}).phasing == Phasing(never=True)
    both = never.format("APT::Get") + always.format("APT::Get")
    assert not settings_of({"apt.conf": both}).phasing.excludes(10, "src", "2")
