"""The same inputs give the same minimized layer, byte for byte: in two runs, checkouts and machines.

The build cache is not used (`--no-cache`), so that everything is really built twice. With the engine's builder a step
that is built again has files with other times; with `SOURCE_DATE_EPOCH` in the arguments of the minimize stage the
minimized layer is still the same.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.references import ImageReference
from chainbuild.registry.images import copy_image
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

from .conftest import OWN, Lay, Place, RegistryContainer, container_output, write_tree

pytestmark = pytest.mark.timeout(900)

STAGES = ["minimize", "production"]
AGAIN = ("--no-cache", "--refresh", "--from", "30")
"""Flags that rebuild the stages on the same image of the chain: step 30 only changes the configuration."""
EPOCH = 1_700_000_000
TOOLS = "RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*\n"
LINKS = (
    "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
    "RUN cd /usr/local/lib && mkdir -p many/deep/er \\\n"
    " && for name in z a 10 9 ü ' '; do echo $name > \"many/$name\"; done \\\n"
    " && ln many/z many/deep/hard && ln many/z /usr/local/bin/harder && ln -s ../z many/deep/soft \\\n"
    " && ln -s /usr/local/lib/many/z absolute \\\n"
    " && truncate -s 8M many/sparse && printf end >> many/sparse \\\n"
    " && cp /bin/true many/owned && chown 33:44 many/owned && chmod 4755 many/owned && chmod 1777 many/deep \\\n"
    " && touch -d 2001-02-03T04:05:06Z many/old && mkdir -p /opt/more && cp /bin/true /opt/more/\n"
)
TREE = {
    "tiny/25-Dockerfile-links": LINKS,
    f"tiny/minimize-{OWN}-args": "ADDITIONAL_FILES=/opt/more /etc/passwd\n",
    "tools/10-Dockerfile-python": f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\n{TOOLS}",
}


@pytest.fixture(scope="module")
def first(lay_once: Lay) -> Place:
    """The case `tiny` with files that are hard to reproduce, built once."""
    place = lay_once("tiny", TREE)
    # The image for the analysis already has Python, so that a build without cache does not install it each time.
    place.build("tools", "--until", "10")
    place.build("tiny", *tools_of(place), "--no-cache")
    return place


def tools_of(place: Place) -> tuple[str, str]:
    """Return the flag that replaces the image in which the stages' analysis runs."""
    return "--build-context", f"debian:bookworm-slim=docker-image://{place.name(f'v1-tools-10-python-{OWN}')}"


def layers(place: Place, tag: str = "v1") -> tuple[list[str], list[str]]:
    """Return the digests of the minimized image's layers, as stored and unpacked."""
    image = place.image(f"{tag}-tiny-minimized-{OWN}")
    return [str(layer.digest) for layer in image.layers], [str(one) for one in image.config.diff_ids]


def stages_again(place: Place, tag: str) -> None:
    """Build the minimized and the production image again, from the same image of the chain."""
    before = place.image(f"v1-tiny-30-runtime-{OWN}").config.diff_ids
    done = place.build("tiny", *tools_of(place), *AGAIN, tag=tag)
    assert done.built == ["30-runtime", *STAGES]
    assert place.image(f"{tag}-tiny-30-runtime-{OWN}").config.diff_ids == before


def elsewhere(place: Place, tmp_path: Path) -> Place:
    """Return another checkout on another machine: path, home, user, time zone, times of the files."""
    root = tmp_path / "a path" / "that is another"
    shutil.copytree(place.root, root, symlinks=True, ignore=shutil.ignore_patterns(".chainbuild"))
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, (number, EPOCH + 20_000_000 + number), follow_symlinks=False)
    environ = {"USER": "another", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "5"}
    return replace(place, root=root, home=tmp_path / "home", environ=environ)


def test_minimized_layer_is_identical_in_two_runs(first: Place) -> None:
    stages_again(first, "again")
    assert layers(first, "again") == layers(first)


def test_minimized_layer_is_identical_in_two_checkouts(first: Place, tmp_path: Path) -> None:
    other = elsewhere(first, tmp_path)
    stages_again(other, "elsewhere")
    assert layers(other, "elsewhere") == layers(first)


def test_minimized_layer_is_identical_on_two_machines(
    first: Place, tmp_path: Path, own_registry: Callable[..., RegistryContainer]
) -> None:
    """Use another registry with only the base: the chain itself is built again, at another time."""
    args = {f"tiny/minimize-{OWN}-args": f"ADDITIONAL_FILES=/opt/more /etc/passwd\nSOURCE_DATE_EPOCH={EPOCH}\n"}
    here = replace(first, root=tmp_path / "here")
    shutil.copytree(first.root, here.root, ignore=shutil.ignore_patterns(".chainbuild"))
    write_tree(here.root, args)
    # The builder has copied the same files before, for `first`, with other times, which it ignores on its own.
    here.build("tiny", *tools_of(first), tag="epoch")
    other = elsewhere(here, tmp_path)
    other.registry = own_registry().host
    other.base = other.production = f"{other.registry}/debian:bookworm-slim"
    tools = first.name(f"v1-tools-10-python-{OWN}")
    with Registries() as registries:
        copy_image(registries, ImageReference.parse(first.base), ImageReference.parse(other.base))
        copy_image(registries, tools, other.name(tools.tag or ""))
    time.sleep(1.1)  # file times have a resolution of a second
    done = other.build("tiny", *tools_of(other), "--no-cache", tag="epoch")
    assert done.built == ["10-base", "20-tool", "25-links", "30-runtime", *STAGES]
    chains = [place.image(f"epoch-tiny-30-runtime-{OWN}").config.diff_ids for place in (here, other)]
    assert chains[0] != chains[1], "what was built twice has other times: else this test shows nothing"
    assert layers(other, "epoch") == layers(here, "epoch")


def test_minimized_layer_keeps_modes_links_times_and_odd_names(first: Place) -> None:
    many = "/usr/local/lib/many"
    script = (
        f"cd {many} && stat -c '%n %a %u:%g %h' owned deep z && stat -c %Y old && stat -c %s sparse && tail -c 3 sparse"
        " && echo && readlink deep/soft ../absolute && test z -ef deep/hard && test z -ef /usr/local/bin/harder && ls"
    )
    told = container_output(
        first.image(f"v1-tiny-{OWN}").reference.pinned, "-c", script, entrypoint="/bin/sh"
    ).splitlines()
    assert told == [
        "owned 4755 33:44 1",
        "deep 1777 0:0 3",
        "z 644 0:0 3",
        "981173106",
        str((8 << 20) + 3),
        "end",
        "../z",
        f"{many}/z",
        *sorted(["z", "a", "10", "9", "ü", " ", "deep", "old", "owned", "sparse"], key=str.encode),
    ]
