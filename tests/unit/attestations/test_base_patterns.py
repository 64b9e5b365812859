"""Patterns of base images: what each matches, and names made up to look like an accepted one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.attestations.base_patterns import ImagePattern
from chainbuild.errors import WrongUseError
from chainbuild.references import ImageReference

SHA = "a" * 64
OTHER = "b" * 64


def matches(pattern: str, name: str, sha256: str = SHA) -> bool:
    return ImagePattern.parse(pattern).matches(ImageReference.parse(name), sha256)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("debian:bookworm-*", "debian:bookworm-slim"),
        ("debian:bookworm-*", "docker.io/library/debian:bookworm-slim"),
        ("docker.io/debian:*", "debian:12"),
        ("index.docker.io/library/debian", "debian"),
        ("debian", "debian:12"),
        ("debian:latest", "debian"),
        ("debian:*", f"debian@sha256:{OTHER}"),
        ("debian:12", f"debian:12@sha256:{OTHER}"),
        (f"debian@sha256:{SHA}", "debian:12"),
        (f"debian@sha256:{OTHER}", f"debian@sha256:{OTHER}"),
        ("ghcr.io/acme/*", "ghcr.io/acme/a/b:1"),
        ("ghcr.io/acme/*@sha256:*", "ghcr.io/acme/a:1"),
        ("ghcr.io/*/tools", "ghcr.io/acme/tools"),
        ("GHCR.io/acme/*", "ghcr.io/acme/a"),
        ("acme/*", "acme/tools:1"),
        ("localhost:5000/*", "localhost:5000/a:1"),
        ("[::1]:5000/*", "[::1]:5000/a:1"),
        ("*.example.com/base", "eu.example.com/base"),
        ("*", "evil.example.com:5000/x"),
        ("*@sha256:*", "evil.example.com/x:1"),
    ],
)
def test_pattern_matches_the_names_that_it_means(pattern: str, name: str) -> None:
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        # A port is no tag, and a host is no repository of Docker Hub.
        ("debian:*", "debian:12/evil"),
        ("debian:1?", "debian:12/evil:latest"),
        ("debian*", "debian.evil.com/x"),
        ("debian*", "debian-evil/x"),
        ("acme*/tools", "acme.evil.com/tools"),
        ("acme/*", "evil.com/acme/tools"),
        ("*/tools", "evil.com/tools"),
        ("docker.io/library/*", "docker.io.evil.com/library/debian"),
        ("registry.example.com/*", "registry.example.com.evil.com/x"),
        ("registry.example.com/*", "registry.example.com:444/x"),
        ("*.example.com/base", "evil.com:80/eu.example.com/base"),
        ("ghcr.io/acme/*", "ghcr.io/acme-evil/x"),
        ("ghcr.io/acme/*", "ghcr.io/acme"),
        ("ghcr.io/acme/a*", "ghcr.io/acme/a/b"),
        ("registryXexample.com/x", "registry.example.com/x"),
        # A name with a digest only was never `latest`, whatever the digest is.
        ("debian:latest", f"debian@sha256:{OTHER}"),
        ("debian:12*", f"debian@sha256:{OTHER}"),
        (f"debian@sha256:{OTHER}", "debian:12"),
        ("debian:Bookworm", "debian:bookworm"),
        ("debian:a.c", "debian:abc"),
    ],
)
def test_pattern_does_not_match_names_that_only_look_alike(pattern: str, name: str) -> None:
    assert not matches(pattern, name)


def test_pattern_of_a_digest_needs_a_known_digest() -> None:
    assert not matches("*@sha256:*", "debian:12", sha256="")


@pytest.mark.parametrize(
    "text", ["https://ghcr.io/acme/*", "Debian:12", "ghcr.io/", "a b", "debian:[0-9]", "debian@md5:*", "", "a:b:c", "@"]
)
def test_text_that_can_match_no_image_is_not_a_pattern(text: str) -> None:
    with pytest.raises(WrongUseError, match="not a pattern of image names") as caught:
        ImagePattern.parse(text)
    assert caught.value.problems[0].hint


@given(st.text(alphabet="ab.:/@*?-[]A1", max_size=12))
def test_texts_of_any_form_are_patterns_or_problems(text: str) -> None:
    with suppress(WrongUseError):
        assert ImagePattern.parse(text).matches(ImageReference.parse("debian:12"), SHA) in {True, False}
