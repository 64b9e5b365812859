"""The image of native tools: its step, its list of versions, the flags of a RUN, and the log of a check."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.dockerfile import parse
from chainbuild.dockerfile.rewrite import add_run_flags
from chainbuild.errors import DamagedContentError
from chainbuild.execution.options import ExecutionOptions
from chainbuild.native.check import Comparison, parse_log
from chainbuild.native.roots import Root
from chainbuild.native.runs import ENTRIES, Use, native_runs
from chainbuild.native.tools import IMAGES, TRIPLETS, Tools, parse_versions, tools_graph
from chainbuild.planning.decisions import Renewal
from chainbuild.references import ChainRegistry, Platform
from tests.support.world import AMD64, ARM64, CHAIN, World

TRIXIE = Root(distribution="debian", suite="trixie")
RISCV64 = Platform.parse("riscv64")


# Versions -------------------------------------------------------------------------------------------------------------


def test_versions_are_native_or_emulated() -> None:
    text = "native binutils 2.40-2\nemulated gcc 12.2.0-14+deb12u1 the cross package is made from 12.2.0-14\n"
    native, emulated = parse_versions(text)
    assert native == {"binutils": "2.40-2"}
    assert emulated == {"gcc": "12.2.0-14+deb12u1 the cross package is made from 12.2.0-14"}
    tools = Tools(image="x", platform=ARM64, native=native, emulated=emulated)
    assert tools.text(frozenset(Use)) == "binutils 2.40-2"
    assert tools.missing(frozenset(Use)) == "gcc 12.2.0-14+deb12u1 (the cross package is made from 12.2.0-14)"
    assert parse_versions("") == ({}, {})


def test_tools_without_versions_have_no_text() -> None:
    tools = Tools(image="x", platform=ARM64, emulated={"gcc": "12"})
    assert (tools.text(frozenset(Use)), tools.missing(frozenset(Use))) == ("", "gcc 12")
    assert (
        Tools(image="x", platform=ARM64, native={"binutils": "1", "gcc": "2"}).text(frozenset(Use))
        == "binutils 1, gcc 2"
    )


def test_tools_are_for_compilers_or_packages() -> None:
    tools = Tools(image="x", platform=ARM64, native={"gcc": "14", "dpkg": "1.22"}, emulated={"apt": "3 old", "as": "1"})
    assert (tools.text([Use.COMPILERS]), tools.missing([Use.COMPILERS])) == ("gcc 14", "")
    assert (tools.text([Use.PACKAGES]), tools.missing([Use.PACKAGES])) == ("dpkg 1.22", "apt 3 (old)")
    assert tools.offered(frozenset(Use)) == frozenset(Use)
    assert Tools(image="x", platform=ARM64, native={"gcc": "14"}).offered(frozenset(Use)) == {Use.COMPILERS}
    assert tools.text([]) == tools.missing([]) == ""


@pytest.mark.parametrize(
    "line", ["native", "native gcc", "native gcc ", "Native gcc 1", "x gcc 1", "", " native a 1", "native  1"]
)
def test_other_lines_of_versions_are_damage(line: str) -> None:
    with pytest.raises(DamagedContentError, match="list of versions"):
        parse_versions(f"native a 1\n{line}\nnative b 2")


@given(st.text(max_size=100) | st.text(st.sampled_from("native emulated\n"), max_size=60))
def test_any_versions_are_read_or_damage(text: str) -> None:
    try:
        native, emulated = parse_versions(text)
    except DamagedContentError:
        return
    assert all([*native, *native.values(), *emulated, *emulated.values()])


# Flags ----------------------------------------------------------------------------------------------------------------


NATIVE = {"gcc": "14.2.0-19", "apt": "3.0.3"}


@pytest.mark.parametrize("oci", TRIPLETS)
@pytest.mark.parametrize("log", ["", "chainbuild-native-0123"])
@pytest.mark.parametrize("uses", [{Use.COMPILERS}, {Use.PACKAGES}, set(Use)])
def test_flags_can_be_written_and_are_not_added_twice(oci: str, log: str, uses: set[Use]) -> None:
    image = f"{CHAIN}/chainbuild/native@sha256:{'0' * 64}"
    flags = Tools(image=image, platform=Platform.parse(oci), native=NATIVE).flags(uses, log, 5)
    specs = [flag for flag in flags if flag.endswith(f"target=/usr/lib/gcc/{TRIPLETS[oci]}/specs")]
    entries = [flag.rpartition("target=")[2] for flag in flags if "source=/tools/entry," in flag]
    assert len(specs) == (Use.COMPILERS in uses)
    assert entries == (list(ENTRIES) if Use.PACKAGES in uses else [])
    assert len(flags) == 1 + len(specs) * (2 if log else 1) + len(entries)
    written = add_run_flags(b"FROM debian\nRUN make\n", {2: flags})
    assert written == f"FROM debian\nRUN {' '.join(flags)} make\n".encode()
    again = native_runs(parse(written, "Dockerfile"), args={}, platform=ARM64, build_platform=AMD64)
    assert uses.isdisjoint(again.get(2, ()))


def test_tools_that_are_emulated_have_no_flags() -> None:
    compilers = Tools(image="x", platform=ARM64, native={"gcc": "14"})
    assert compilers.flags([Use.PACKAGES]) == Tools(image="x", platform=ARM64).flags(frozenset(Use)) == ()
    assert compilers.flags(frozenset(Use)) == compilers.flags([Use.COMPILERS])


def test_flags_of_a_check_mount_its_log() -> None:
    *_, log = Tools(image="x", platform=ARM64, native={"gcc": "14"}).flags([Use.COMPILERS], "some-id", 5)
    assert log == "--mount=type=cache,id=some-id,target=/.chainbuild-native-check/5-some-id"


# The step -------------------------------------------------------------------------------------------------------------


def test_tools_are_one_step_on_the_distributions_image() -> None:
    graph = tools_graph(ChainRegistry(CHAIN), Root(distribution="ubuntu", suite="noble"), RISCV64, AMD64)
    (step,) = graph
    assert str(step.id) == "riscv64/native/ubuntu-noble-on-amd64"
    assert str(step.reference) == f"{CHAIN}/chainbuild/native:ubuntu-noble-on-amd64-riscv64"
    (image,) = step.images
    assert (str(image.source), image.platform) == ("ubuntu:noble", AMD64)


def test_tools_of_an_unsupported_distribution_do_not_exist() -> None:
    assert set(IMAGES) == {"debian", "ubuntu"}
    with pytest.raises(KeyError):
        tools_graph(ChainRegistry(CHAIN), Root(distribution="alpine"), ARM64, AMD64)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.external("debian:trixie-slim", "trixie")
    made.external("debian:forky-slim", "forky")
    return made


def key(world: World, root: Root = TRIXIE, platform: Platform = ARM64, own: Platform = AMD64) -> str:
    (decision,) = world.planned(tools_graph(ChainRegistry(CHAIN), root, platform, own)).plan.decisions
    assert decision.components is not None
    return decision.components.key


def test_keys_of_tools_differ_by_root_and_platforms(world: World) -> None:
    forky = Root(distribution="debian", suite="forky")
    keys = {key(world), key(world, forky), key(world, own=ARM64, platform=AMD64), key(world, platform=RISCV64)}
    assert len(keys) == 4
    assert key(world) == key(world)


def test_tools_are_reused_when_their_root_image_moves(world: World) -> None:
    from chainbuild.native.tools import TOLERANCE

    graph = tools_graph(ChainRegistry(CHAIN), TRIXIE, ARM64, AMD64)
    options = ExecutionOptions(renewal=Renewal(), tolerance={step.id: TOLERANCE for step in graph})
    assert world.build(graph, options).succeeded
    world.begin_again()
    world.external("debian:trixie-slim", "a point release")
    assert world.build(graph, options).succeeded
    assert world.driver.built == []
    assert world.build(graph, ExecutionOptions()).succeeded
    assert len(world.driver.built) == 1


# The log of a check ---------------------------------------------------------------------------------------------------


def test_log_has_a_line_for_each_start() -> None:
    text = "equal cc1 a.c\nequal as -\nvaries cc1 b.c\nemulated real-ld x\nunchecked cc1 -\ndiffers cc1 c.c\n"
    found = parse_log(f"{text}\n equal cc1\nequals\nequally x\nEqual x\n")
    assert found == Comparison(equal=2, varies=1, emulated=1, unchecked=1)


@given(st.text(max_size=200))
def test_any_log_is_read(text: str) -> None:
    assert parse_log(text).equal >= 0


@pytest.mark.parametrize(
    ("comparison", "text"),
    [
        (Comparison(), "nothing was compared"),
        (Comparison(equal=1), "1 output compared, all equal"),
        (Comparison(equal=2, varies=3), "2 outputs compared, all equal, 3 that vary"),
        (Comparison(emulated=1), "nothing was compared, 1 emulated"),
        (
            Comparison(equal=2, varies=1, emulated=4, unchecked=5),
            "2 outputs compared, all equal, 1 that vary, 4 emulated, 5 not in the sample",
        ),
    ],
)
def test_comparison_says_what_was_compared(comparison: Comparison, text: str) -> None:
    assert comparison.text == text
