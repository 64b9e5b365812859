"""Dependencies by FROM, as BuildKit reads it: which references of a Dockerfile are layers of the tree."""

from __future__ import annotations

import pytest

from chainbuild.dockerfile import parse
from chainbuild.errors import WrongUseError
from chainbuild.layouts.science.from_lines import LayerImages, Reader
from chainbuild.layouts.science.manifests import describe
from chainbuild.references import ImageReference
from tests.support.world import AMD64, ARM64

from .grove import Grove

REPO = ImageReference.parse("quay.io/me/test")
DIGEST = "sha256:" + "a" * 64


def reader(*, allowed: tuple[str, ...] = ()) -> Reader:
    layers = [
        describe(f'{{"image": "{image}", "version": "{version}"}}'.encode(), f"science/{target}", [])
        for target, image, version in (("nist", "basic", "1.0"), ("other", "other", "2.10"))
    ]
    found = Reader(
        [layer for layer in layers if layer], repo=REPO, released=REPO, allowed=allowed, build_platform=AMD64
    )
    learnt = "FROM containers.repo.sciserver.org/compute-images/sci/other:2.10"
    found.learn([parse(learnt.encode(), "learnt")], AMD64)
    return found


def read(text: str, **how: tuple[str, ...]) -> LayerImages:
    return reader(**how).read(parse(text.encode(), "science/x/Dockerfile"), AMD64)


@pytest.mark.parametrize(
    "text",
    [
        "FROM sci/nist:1.0",
        "from sci/nist:1.0",
        "FrOm   sci/nist:1.0   aS   base",
        "FROM --platform=linux/amd64 sci/nist:1.0",
        "FROM --platform=$BUILDPLATFORM sci/nist:1.0 AS tools\nFROM scratch\nCOPY --from=tools /a /a",
        "# escape=`\nFROM `\n  sci/nist:1.0",
        "FROM \\\n  sci/nist:1.0",
        "ARG BASE=sci/nist:1.0\nFROM $BASE",
        "ARG VERSION=1.0\nARG BASE=sci/nist\nFROM ${BASE}:${VERSION}",
        "ARG TAG\nFROM sci/nist:${TAG:-1.0}",
        "FROM scratch\nCOPY --from=sci/nist:1.0 /a /a",
        "FROM scratch\nRUN --mount=type=bind,from=sci/nist:1.0,target=/x true",
        "FROM debian:1 AS one\nFROM sci/nist:1.0\nCOPY --from=one / /",
        "FROM containers.repo.sciserver.org/compute-images/sci/nist:1.0",
        "FROM quay.io/me/test/sci/nist:1.0",
        "FROM localhost:5000/deep/er/sci/nist:1.0",
        "FROM docker.io/sci/nist:1.0",
        f"FROM sci/nist:1.0@{DIGEST}",
        f"FROM sci/nist@{DIGEST}",
    ],
)
def test_reference_to_layer_of_the_tree_is_found(text: str) -> None:
    found = read(text)
    assert found.targets == ("nist",)
    assert (found.problems, found.old) == ((), ())


@pytest.mark.parametrize(
    "text",
    [
        "FROM debian:1",
        "FROM nist:1.0",
        "FROM quay.io/nist:1.0",
        "FROM basic/nist:1.0",
        "FROM quay.io/somebody/sci/else:1.0",
        "FROM quay.io/somebody/rel/basic:1.0",
        "FROM quay.io/me/test/sci/nist/deeper:1.0",
        "FROM scratch",
        "FROM sci/nist:1.0 AS unused\nFROM scratch",
        "FROM debian:1 AS sci\nFROM sci",
    ],
)
def test_reference_to_other_image_is_external(text: str) -> None:
    found = read(text)
    assert found.targets == ()
    assert (found.problems, found.old) == ((), ())


def test_reference_keeps_its_spelling_and_is_replaced_as_context() -> None:
    (base,) = read("FROM containers.repo.sciserver.org/compute-images/sci/nist:1.0").bases
    assert base.built_here
    assert (base.wanted.name, base.wanted.as_context) == (
        "containers.repo.sciserver.org/compute-images/sci/nist:1.0",
        True,
    )


def test_layer_read_for_two_platforms_is_two_inputs() -> None:
    text = "FROM --platform=linux/arm64 sci/nist:1.0 AS a\nFROM sci/nist:1.0\nCOPY --from=a / /"
    found = read(text)
    assert found.problems == ()
    assert [(base.wanted.name, base.wanted.platform.oci, base.target) for base in found.bases] == [
        ("sci/nist:1.0 for linux/arm64", "linux/arm64", "nist"),
        ("sci/nist:1.0", "linux/amd64", "nist"),
    ]


def test_reference_by_digest_is_taken_from_repo() -> None:
    """A digest requests a specific build, not the layer's newest build. It is still taken from REPO."""
    (base,) = read(f"FROM containers.repo.sciserver.org/compute-images/sci/nist:1.0@{DIGEST}").bases
    assert (base.target, base.built_here) == ("nist", False)
    assert str(base.wanted.source) == f"quay.io/me/test/sci/nist:1.0@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "target", "version"),
    [
        ("FROM sci/nist:0.9", "nist", "0.9"),
        ("FROM sci/other:2.1", "other", "2.1"),
        ("FROM sci/nist:0.9-12-abcdef0", "nist", "0.9-12-abcdef0"),
        ("FROM quay.io/me/test/sci/gone:1.0", "gone", "1.0"),
        ("FROM containers.repo.sciserver.org/compute-images/sci/gone:1.0", "gone", "1.0"),
        ("FROM sci/gone:1.0", "gone", "1.0"),
        (f"FROM sci/nist:0.9@{DIGEST}", "nist", "0.9"),
    ],
)
def test_reference_to_version_without_layer_is_reported(text: str, target: str, version: str) -> None:
    found = read(text)
    assert found.bases == ()
    assert [(one.target, one.version) for one in found.old] == [(target, version)]
    problem = found.old[0].problem
    assert problem.where == "science/x/Dockerfile:1"
    assert problem.hint.count(";") >= 2, "three solutions"
    allowed = read(text, allowed=(f"{target}:{version}",))
    assert allowed.old == ()
    assert str(allowed.bases[0].wanted.source).startswith(f"quay.io/me/test/sci/{target}:{version}")


def test_old_version_can_be_allowed_by_image_name() -> None:
    assert read("FROM sci/nist:0.9", allowed=("basic:0.9",)).old == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM sci/nist", "sci/nist has no version"),
        ("FROM sci/nist:1.0-42-f90dbd6", "sci/nist:1.0-42-f90dbd6 is a specific build of the layer"),
        ("FROM rel/basic:1.0", "rel/basic:1.0 is a compat image"),
        ("FROM quay.io/me/test/rel/whatever:1.0", "quay.io/me/test/rel/whatever:1.0 is a compat image"),
        ("FROM $NOTHING", "FROM has no image"),
        ("FROM sci/NIST:1.0", "'sci/NIST' is not a repository name"),
    ],
)
def test_invalid_reference_is_reported_with_its_line(text: str, said: str) -> None:
    (problem,) = read(text).problems
    assert said in problem.message
    assert problem.where.startswith("science/x/Dockerfile:")


def test_from_with_platform_variable_depends_on_platform() -> None:
    text = "ARG TARGETARCH\nFROM sci/nist:1.0 AS amd64\nFROM sci/other:2.10 AS arm64\nFROM $TARGETARCH"
    dockerfile = parse(text.encode(), "science/x/Dockerfile")
    known = reader()
    assert known.read(dockerfile, AMD64).targets == ("nist",)
    assert known.read(dockerfile, ARM64).targets == ("other",)


def test_parent_is_the_last_from() -> None:
    assert read("FROM debian:1 AS a\nFROM sci/nist:1.0\nCOPY --from=other:1 / /\nCOPY --from=a / /").parent == (
        "sci/nist:1.0"
    )
    assert read("FROM scratch").parent == ""


def test_problems_of_all_dockerfiles_are_reported_together(grove: Grove) -> None:
    grove.science("a", "FROM sci/b")
    grove.science("b", "FROM rel/a:1.0")
    with pytest.raises(WrongUseError) as caught:
        grove.request()
    assert [one.where for one in caught.value.problems] == ["science/a/Dockerfile:1", "science/b/Dockerfile:1"]
