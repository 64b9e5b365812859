"""Names of SIF files, and the images that patterns match."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.singularity.names import chosen, is_glob, matches, sif_name, split_words

CHAIN = ChainRegistry("localhost:5000")
REPOSITORIES = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)


def file_of(text: str, chain: ChainRegistry = CHAIN, platform: str = "") -> str:
    wanted = Platform.parse(platform) if platform else None
    return sif_name(ImageReference.parse(text), chain, platform=wanted).file


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("chainbuild/atom:v1-stock-amd64", "chainbuild_atom_v1-stock-amd64.sif"),
        ("localhost:5000/chainbuild/atom:v1", "chainbuild_atom_v1.sif"),
        ("localhost:5001/chainbuild/atom:v1", "localhost_5001_chainbuild_atom_v1.sif"),
        ("ghcr.io/org/tool:2", "ghcr.io_org_tool_2.sif"),
        ("debian", "debian_latest.sif"),
        (f"debian@sha256:{'ab' * 32}", "debian_digest-abababababab.sif"),
    ],
)
def test_file_name_has_underscores_for_slashes_and_colons(image: str, file: str) -> None:
    assert file_of(image) == file


def test_file_name_omits_host_and_path_of_chain_registry() -> None:
    chain = ChainRegistry.parse("ghcr.io/org")
    assert file_of("ghcr.io/org/chainbuild/atom:v1", chain) == "chainbuild_atom_v1.sif"
    assert file_of("ghcr.io/organic/atom:v1", chain) == "organic_atom_v1.sif"


def test_name_of_multi_platform_image_has_platform_and_valid_tag() -> None:
    assert file_of("team/tool:v1", platform="aarch64") == "team_tool_v1-aarch64.sif"
    longest = sif_name(ImageReference.parse("team/tool:" + "x" * 128), CHAIN, platform=Platform.parse("aarch64"))
    assert len(longest.tag) == 128
    assert longest.tag.endswith("-aarch64")


@given(repository=REPOSITORIES, tag=TAGS)
def test_file_name_needs_no_quotes(repository: str, tag: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+\.sif", file_of(f"{repository}:{tag}"))


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("chainbuild/*", ["chainbuild/atom:v1", "chainbuild/stock:v2-amd64"]),
        ("*:v1", ["chainbuild/atom:v1", "team/tool:v1"]),
        ("*-amd64", ["chainbuild/stock:v2-amd64"]),
        ("team/tool*", ["team/tool:v1"]),
        ("team/tool:l*", []),
        ("team/tool:latest*", ["team/tool:latest"]),
        ("team/t[no]ol:v?", ["team/tool:v1"]),
    ],
)
def test_pattern_matches_slashes_but_latest_only_if_named(pattern: str, meant: list[str]) -> None:
    names = ["chainbuild/atom:v1", "chainbuild/stock:v2-amd64", "team/tool:v1", "team/tool:latest"]
    assert is_glob(pattern)
    assert [name for name in names if matches(pattern, name)] == meant


@given(repository=REPOSITORIES, tag=TAGS, pattern=st.text(max_size=20))
def test_arbitrary_pattern_is_valid_and_name_matches_itself(repository: str, tag: str, pattern: str) -> None:
    name = f"{repository}:{tag}"
    matches(pattern, name)
    assert chosen((name,), (name,)) == (name,)
    assert chosen((), (name,)) == (name,)
    assert matches("*", name) is (tag != "latest")


def test_arguments_are_split_at_commas() -> None:
    assert split_words(["a:1,b:2", "b:2", ",c*,"]) == ("a:1", "b:2", "c*")
