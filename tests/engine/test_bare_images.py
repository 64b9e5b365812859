"""Production images without a shell, apt or /etc/passwd: `scratch`, and an image with only a C library."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import OTHER, OWN, Lay, Place, container_output

pytestmark = pytest.mark.timeout(1500)

STATIC = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends busybox-static \\
 && cp /bin/busybox /usr/local/bin/ \\
 && rm -rf /var/lib/apt/lists/*
ENTRYPOINT ["busybox", "echo"]
CMD ["hello"]
"""
DYNAMIC = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN cp /usr/bin/sort /usr/local/bin/tool
ENTRYPOINT ["/usr/local/bin/tool", "--version"]
"""
TEST = """\
#!/bin/sh
set -e
test ! -e /bin/sh
for program in /usr/local/bin/*; do "$program" --help 2>&1 | grep -q .; done
echo "tested by $(cat /proc/self/comm)"
"""
# Programs of Debian need the loader and the C library in their usual paths.
BARE = """\
FROM {base} AS base
RUN mkdir -p /bare/etc && cp -L --parents /lib64/ld-linux-x86-64.so.2 /lib/x86_64-linux-gnu/libc.so.6 /bare
FROM scratch
COPY --from=base /bare/ /
"""


@pytest.fixture(scope="module")
def bare_image(registry_host: str, base_images: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with only a C library: no shell, package manager, users or PATH."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "Dockerfile").write_text(BARE.format(base=base_images))
    name = f"{registry_host}/test/bare:1"
    argv = ["docker", "buildx", "build", "--platform", "linux/amd64", "--provenance=false", "--tag", name, "--push"]
    done = subprocess.run([*argv, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return name


@pytest.fixture(scope="module")
def on_scratch(lay_once: Lay) -> Place:
    """Chains whose production image is `scratch`."""
    return lay_once(
        files={
            "static/10-Dockerfile-tool": STATIC,
            "static/production-test": TEST,
            "dynamic/10-Dockerfile-tool": DYNAMIC,
            "dynamic/production-test": TEST,
        },
        production="scratch",
    )


@pytest.mark.parametrize("platform", [OWN, OTHER])
def test_static_program_runs_on_scratch(on_scratch: Place, platform: str) -> None:
    done = on_scratch.build("static", platform=platform)
    (tested,) = [one for one in done.events("verdict") if one["proof"] == "test"]
    assert tested["passed"]
    assert "with a shell from outside" in tested["summary"]
    image = on_scratch.image(f"v1-static-{platform}", platform)
    assert container_output(image.reference.pinned, platform=platform) == "hello\n"
    again = on_scratch.build("static", platform=platform)
    assert again.built == []


def test_dynamic_program_gets_c_library_of_the_chain(on_scratch: Place) -> None:
    on_scratch.build("dynamic")
    assert "GNU coreutils" in on_scratch.output(f"v1-dynamic-{OWN}")


@pytest.mark.skipif(OWN != "amd64", reason="the files of the bare image are those of amd64")
def test_dynamic_program_runs_on_image_with_only_a_c_library(lay: Lay, bare_image: str) -> None:
    place = lay(files={"dynamic/10-Dockerfile-tool": DYNAMIC, "dynamic/production-test": TEST}, production=bare_image)
    place.build("dynamic")
    assert "GNU coreutils" in place.output(f"v1-dynamic-{OWN}")


def test_scratch_base_is_built_and_reused(lay: Lay) -> None:
    place = lay(
        files={
            "opt/10-Dockerfile-file": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY note /usr/local/lib/\n",
            "note": "n\n",
        },
        production="scratch",
    )
    place.base = "scratch"
    place.build("opt")
    assert len(place.image(f"v1-opt-{OWN}").layers) == 1
    assert place.build("opt").built == []


def test_packages_for_scratch_are_rejected_before_the_build(lay: Lay) -> None:
    place = lay(
        files={
            "opt/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n",
            "opt/minimize-amd64-args": "\nPRODUCTION_PACKAGES=tini\n",
        },
        production="scratch",
    )
    done = place.build("opt", platform="amd64", code=2)
    (problem,) = done.error["problems"]
    assert (problem["path"], problem["line"]) == ("opt/minimize-amd64-args", 2)


def test_packages_for_image_without_apt_fail_with_hint(lay: Lay, nothing_image: str, tmp_path: Path) -> None:
    place = lay(
        files={
            "opt/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN touch /usr/local/lib/a\n",
            f"opt/production-{OWN}-args": "PRODUCTION_PACKAGES=tini\n",
        },
        production=nothing_image,
    )
    done = place.build("opt", code=1)
    assert "PRODUCTION_PACKAGES requires apt" in done.error["hint"]
