"""Several platforms and options in one command: in parallel, with QEMU, and with one index for all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import copy_image, put_index, read_index, resolve
from chainbuild.registry.pool import Registries

from .conftest import OTHER, OWN, Done, Lay, Place, RegistryContainer, container_output, gives

pytestmark = pytest.mark.timeout(900)

BOTH = ("amd64", "aarch64")
# Steps without a RUN: these tests do not check emulation.
COPYING = (
    "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG FRUIT=none\nCOPY file /usr/local/share/copied\nLABEL fruit=${FRUIT}\n"
)


@pytest.fixture(scope="module")
def tiny(lay_once: Lay) -> tuple[Place, Done]:
    """The case `tiny`, built for both platforms in one command."""
    place = lay_once("tiny")
    return place, place.build("tiny", platform=",".join(BOTH), load=True)


def test_platforms_are_both_built_and_run(tiny: tuple[Place, Done]) -> None:
    place, done = tiny
    assert sorted(done.built) == sorted(["10-base", "20-tool", "30-runtime", "minimize", "production"] * 2)
    for platform in BOTH:
        expected = gives("tiny")["output"][platform]
        assert place.output(f"v1-tiny-{platform}", platform=platform).strip() == expected
        assert container_output(f"{place.repo}:v1-tiny-{platform}", platform=platform).strip() == expected
        config = place.image(f"v1-tiny-{platform}", platform).config
        assert config.platform.name == platform
        assert config.working_dir == gives("tiny")["config"]["WorkingDir"]


def test_platforms_are_built_in_parallel(tiny: tuple[Place, Done]) -> None:
    _, done = tiny
    order = [
        (event["event"], event["step"]) for event in done.objects if event["event"] in {"step_started", "step_finished"}
    ]
    first_end = next(number for number, (event, _) in enumerate(order) if event == "step_finished")
    assert {step for event, step in order[:first_end]} == {f"{platform}/tiny/10-base" for platform in BOTH}


def test_index_lists_both_platforms(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    with Registries() as registries:
        index = read_index(registries, place.name("v1-tiny"))
    assert index is not None
    assert {platform.name: index.child(platform).digest for platform in index.platforms} == {  # type: ignore[union-attr]
        platform: place.image(f"v1-tiny-{platform}", platform).digest for platform in BOTH
    }
    # Both images were proven without emulation.
    verdicts = {event["step"]: event["passed"] for event in tiny[1].events("verdict")}
    assert verdicts == {f"{platform}/tiny/production": True for platform in BOTH}


def test_index_keeps_platforms_unless_replaced(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny

    def platforms() -> set[str]:
        with Registries() as registries:
            index = read_index(registries, place.name("v1-tiny"))
        assert index is not None
        return {platform.name for platform in index.platforms}

    done = place.build("tiny", platform=OWN)
    assert done.built == []
    assert platforms() == set(BOTH)
    place.build("tiny", "--replace-index", platform=OWN)
    assert platforms() == {OWN}
    place.build("tiny", platform=OTHER)
    assert platforms() == set(BOTH)


def test_failure_on_one_platform_does_not_stop_the_other(lay: Lay, nothing_image: str) -> None:
    place = lay(
        files={
            "one/10-Dockerfile-a": COPYING,
            "one/20-Dockerfile-b": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG HOW=true\nRUN ${HOW}\n",
            f"one/b-{OTHER}-args": "HOW=false\n",
            "one/30-Dockerfile-c": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY file /usr/local/share/c\n",
            "file": "content",
        },
        production=nothing_image,
    )
    stopped = place.build("one", platform=",".join(BOTH), code=1)
    assert f"{OTHER}/one/20-b" in {event["step"] for event in stopped.events("step_failed")}
    done = place.build("one", "--keep-going", platform=",".join(BOTH), code=1)
    assert [event["step"] for event in done.events("step_failed")] == [f"{OTHER}/one/20-b"]
    assert {event["step"] for event in done.events("step_skipped")} == {
        f"{OTHER}/one/{name}" for name in ("30-c", "minimize", "production")
    }
    results = done.events("run_finished")[0]["results"]
    assert [result["platform"] for result in results] == [OWN]
    assert f"v1-one-{OWN}" in place.tags()
    assert f"v1-one-{OTHER}" not in place.tags()


def test_options_build_on_each_other_and_push_to_other_registry(
    lay: Lay, base_images: str, own_registry: Callable[..., RegistryContainer]
) -> None:
    there = own_registry()
    place = lay(
        "steps",
        {
            "low/10-Dockerfile-a": COPYING + "ENV LOW=yes\n",
            f"low/a-{OWN}-args": "FRUIT=plum\n",
            "high/10-Dockerfile-b": (
                "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
                "RUN test -s /usr/local/share/copied && echo $LOW > /usr/local/share/high\n"
            ),
            "file": "content of the low option\n",
        },
    )
    mine = place.repo
    place.repo = f"{there.host}/{mine}"
    done = place.build("low,high", "--push")
    assert done.built == ["10-a", "minimize", "production", "10-b", "minimize", "production"]
    assert {event["name"] for event in done.events("run_finished")[0]["results"]} == {f"v1-low-{OWN}", f"v1-high-{OWN}"}
    pushed = {name: ImageReference.parse(f"{place.repo}:{name}") for name in ("v1-low", "v1-high")}
    with Registries() as registries:
        for name, reference in pushed.items():
            result = resolve(registries, reference.with_tag(f"{name}-{OWN}"), Platform.parse(OWN))
            index = read_index(registries, reference)
            assert index is not None
            assert [child.digest for child in index.images] == [result.digest]
            assert result.config.label("fruit") == "plum"
    high = str(pushed["v1-high"])
    assert container_output(high, "cat", "/usr/local/share/copied", "/usr/local/share/high") == (
        "content of the low option\nyes\n"
    )
    # A platform that only REPO's registry has stays in its index.
    with Registries() as registries:
        low = pushed["v1-low"]
        base = resolve(registries, ImageReference.parse(base_images), Platform.parse(OTHER))
        copy_image(registries, base.reference, low.with_tag("other"))
        put_index(registries, low, {Platform.parse(OTHER): base.descriptor}, merge=True)
    again = place.build("low,high", "--push")
    assert again.built == []
    with Registries() as registries:
        index = read_index(registries, pushed["v1-low"])
    assert index is not None
    assert {platform.name for platform in index.platforms} == set(BOTH)


def test_builder_can_be_set_per_platform(lay: Lay) -> None:
    place = lay(files={"one/10-Dockerfile-a": COPYING, "file": "content"})
    done = place.build("one", "--builder", f"{OWN}=default", "--until", "10", platform=",".join(BOTH))
    assert done.built == ["10-a", "10-a"]
    wrong = place.build(
        "one", "--builder", f"{OTHER}=no-such-builder", "--refresh", "--until", "10", platform=",".join(BOTH), code=3
    )
    assert "no-such-builder" in wrong.error["message"]
    assert wrong.built == []
