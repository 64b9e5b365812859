"""References to images and platforms: grammar tables and round trips."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.references import DOCKER_HUB, ChainRegistry, Digest, ImageReference, Platform

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian", ("docker.io", "library/debian", None, None)),
        ("debian:bookworm-slim", ("docker.io", "library/debian", "bookworm-slim", None)),
        ("team/app", ("docker.io", "team/app", None, None)),
        ("docker.io/debian", ("docker.io", "library/debian", None, None)),
        ("docker.io/library/debian:12", ("docker.io", "library/debian", "12", None)),
        ("index.docker.io/debian", ("docker.io", "library/debian", None, None)),
        ("registry-1.docker.io/team/app", ("docker.io", "team/app", None, None)),
        ("localhost/app", ("localhost", "app", None, None)),
        ("localhost:5000/app:1", ("localhost:5000", "app", "1", None)),
        ("ghcr.io/org/app/part:v1.2_3-x", ("ghcr.io", "org/app/part", "v1.2_3-x", None)),
        ("[::1]:5000/app", ("[::1]:5000", "app", None, None)),
        ("Host/app", ("Host", "app", None, None)),
        ("a__b/c--d/e.f", ("docker.io", "a__b/c--d/e.f", None, None)),
        (f"debian@{DIGEST}", ("docker.io", "library/debian", None, DIGEST)),
        (f"ghcr.io/a/b:1@{DIGEST}", ("ghcr.io", "a/b", "1", DIGEST)),
        ("app:" + "t" * 128, ("docker.io", "library/app", "t" * 128, None)),
    ],
)
def test_reference_parses_into_parts(text: str, expected: tuple[str, str, str | None, str | None]) -> None:
    found = ImageReference.parse(text)
    assert (found.registry, found.repository, found.tag, found.digest and str(found.digest)) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is not a repository name"),
        (":", "is not a tag"),
        (":tag", "is not a repository name"),
        ("app:", "is not a tag"),
        ("app:-x", "is not a tag"),
        ("app:" + "t" * 129, "is not a tag"),
        ("app:a b", "is not a tag"),
        ("app@", "is not a digest"),
        ("app@sha256:123", "is not a digest"),
        (f"app@sha256:{HEX.upper()}", "is not a digest"),
        ("App", "is not a repository name"),
        ("team/App", "is not a repository name"),
        ("a//b", "is not a repository name"),
        ("/a", "is not a repository name"),
        ("a/", "is not a repository name"),
        ("a..b", "is not a repository name"),
        ("-a", "is not a repository name"),
        ("a___b", "is not a repository name"),
        ("https://ghcr.io/a", "is not a"),
        ("bad_host.io/a", "is not a registry host"),
        ("ghcr.io/" + "a" * 256, "is not a repository name"),
        ("a b", "is not a repository name"),
        ("$(id)", "is not a repository name"),
        ("caf\u00e9", "is not a repository name"),
        ("app\n", "is not a repository name"),
        ("app:1\n", "is not a tag"),
    ],
)
def test_invalid_reference_names_wrong_part(text: str, part: str) -> None:
    with pytest.raises(WrongUseError, match=part) as caught:
        ImageReference.parse(text)
    assert all(problem.hint for problem in caught.value.problems)


def test_upper_case_repository_suggests_lower_case() -> None:
    with pytest.raises(WrongUseError, match="'team/app'"):
        ImageReference.parse("team/App")


COMPONENT = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}", fullmatch=True)
REPOSITORY = st.lists(COMPONENT, min_size=1, max_size=3).map("/".join)
HOST = st.from_regex(r"(localhost|[a-z0-9]{1,4}\.[a-z]{2,3})(:[0-9]{1,5})?", fullmatch=True)
TAG = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
A_DIGEST = st.none() | st.just(DIGEST)


@st.composite
def reference_texts(draw: st.DrawFn) -> str:
    host, tag, digest = draw(st.none() | st.just("docker.io") | HOST), draw(TAG), draw(A_DIGEST)
    text = f"{host}/" if host else ""
    text += draw(st.sampled_from(["", "library/"])) + draw(REPOSITORY)
    return text + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


@given(reference_texts())
def test_printed_reference_parses_back(text: str) -> None:
    try:
        found = ImageReference.parse(text)
    except WrongUseError:
        assume(False)
        raise
    assert ImageReference.parse(str(found)) == found
    assert ImageReference.parse(found.name) == ImageReference(found.registry, found.repository)
    assert ImageReference.parse(found.familiar_name) == ImageReference(found.registry, found.repository)


@given(st.text(max_size=30))
def test_any_text_is_a_reference_or_wrong_use(text: str) -> None:
    try:
        found = ImageReference.parse(text)
    except WrongUseError:
        return
    assert ImageReference.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("docker.io/library/debian:12", "debian:12"),
        ("docker.io/team/app", "team/app"),
        ("docker.io/library/a/b", "docker.io/library/a/b"),
        ("docker.io/a.b/c", "docker.io/a.b/c"),
        ("docker.io/localhost/c", "docker.io/localhost/c"),
        ("localhost:5000/library/a", "localhost:5000/library/a"),
    ],
)
def test_familiar_name_is_shortest_unambiguous_form(text: str, shown: str) -> None:
    if text == "docker.io/library/a/b":
        assert str(ImageReference.parse(text)) == "library/a/b"
    else:
        assert str(ImageReference.parse(text)) == shown


def test_reference_names_for_people_and_builders() -> None:
    named = ImageReference.parse("debian:12")
    pinned = named.with_digest(Digest(DIGEST))
    assert pinned.pinned == f"docker.io/library/debian@{DIGEST}"
    assert str(pinned) == f"debian:12@{DIGEST}"
    assert pinned.with_tag("13") == ImageReference(DOCKER_HUB, "library/debian", "13")
    assert (named.tag_or_latest, ImageReference.parse("debian").tag_or_latest) == ("12", "latest")
    with pytest.raises(ValueError, match="no digest"):
        _ = named.pinned
    with pytest.raises(WrongUseError, match="not a tag"):
        named.with_tag("a b")


def test_digest_is_validated() -> None:
    digest = Digest(DIGEST)
    assert (digest.hex, digest.short, str(digest)) == (HEX, "0123456789ab", DIGEST)
    assert Digest("sha512:" + HEX * 2).hex == HEX * 2
    for wrong in ("", HEX, "md5:" + HEX, DIGEST + "\n", "sha512:" + HEX):
        with pytest.raises(WrongUseError):
            Digest(wrong)


@pytest.mark.parametrize(
    ("text", "name", "oci"),
    [
        ("amd64", "amd64", "linux/amd64"),
        ("x86_64", "x86_64", "linux/amd64"),
        ("linux/amd64", "amd64", "linux/amd64"),
        ("linux/x86_64", "amd64", "linux/amd64"),
        ("AMD64 ", "amd64", "linux/amd64"),
        ("aarch64", "aarch64", "linux/arm64"),
        ("arm64", "arm64", "linux/arm64"),
        ("arm64/v8", "aarch64", "linux/arm64"),
        ("linux/arm64/v8", "aarch64", "linux/arm64"),
        ("armhf", "armhf", "linux/arm/v7"),
        ("linux/arm/v7", "armv7", "linux/arm/v7"),
        ("linux/arm/v6", "armv6", "linux/arm/v6"),
        ("i686", "i686", "linux/386"),
        ("riscv64", "riscv64", "linux/riscv64"),
    ],
)
def test_platform_parses_any_spelling(text: str, name: str, oci: str) -> None:
    found = Platform.parse(text)
    assert (found.name, found.oci) == (name, oci)
    assert found.spellings[0] == name
    assert Platform.parse(found.oci).same_as(found)
    assert Platform.from_oci(found.os, found.architecture, found.variant).oci == oci


@pytest.mark.parametrize("text", ["", "linux", "linux/", "windows/amd64", "amd65", "linux/amd64/v2", "arm64/v9", "a b"])
def test_unknown_platform_lists_known_ones(text: str) -> None:
    with pytest.raises(WrongUseError, match="unknown platform") as caught:
        Platform.parse(text)
    assert "Known platforms: aarch64, amd64" in str(caught.value)


def test_misspelled_platform_suggests_nearest() -> None:
    with pytest.raises(WrongUseError, match="Perhaps you meant 'aarch64'"):
        Platform.parse("aarhc64")


def test_this_machine_has_a_platform() -> None:
    assert Platform.of_this_machine().os == "linux"


def test_manifest_platform_is_never_refused() -> None:
    assert Platform.from_oci("linux", "arm64", "v8").name == "aarch64"
    assert Platform.from_oci("windows", "amd64").oci == "windows/amd64"
    assert Platform.from_oci("linux", "mips64").name == "mips64"


@pytest.mark.parametrize(
    ("registry", "name", "place"),
    [
        ("localhost:5000", "team/app", "localhost:5000/team/app"),
        ("localhost:5000", "debian", "localhost:5000/debian"),
        ("localhost:5000", "ghcr.io/org/app", "localhost:5000/ghcr.io/org/app"),
        ("localhost:5000", "localhost:5000/app", "localhost:5000/app"),
        ("ghcr.io/org", "team/app", "ghcr.io/org/team/app"),
        ("ghcr.io/org/", "localhost:5000/app:1", "ghcr.io/org/localhost-5000/app"),
        ("ghcr.io/org", "ghcr.io/other/app", "ghcr.io/other/app"),
    ],
)
def test_chain_registry_places_repositories(registry: str, name: str, place: str) -> None:
    chain = ChainRegistry.parse(registry)
    found = chain.place(ImageReference.parse(name))
    assert str(found) == place
    assert chain.holds(found)


@pytest.mark.parametrize("text", ["", "ghcr", "https://ghcr.io", "ghcr.io/Org", "ghcr.io//x", "a b.c", "-x.io"])
def test_invalid_registry_is_refused(text: str) -> None:
    with pytest.raises(WrongUseError):
        ChainRegistry.parse(text)
