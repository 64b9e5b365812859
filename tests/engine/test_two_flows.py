"""Three ways to build options give the same images: separate commands, CI jobs, and one command.

CI jobs share only the registry. The comparison covers every path with its kind, mode, owner and content, and the
runtime configuration. Times of files depend on the builder (see test_reproducible), so digests may differ.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import pytest

from chainbuild.records.labels import LABELS
from chainbuild.references import ImageReference
from chainbuild.registry.images import copy_image
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

from .conftest import OWN, Lay, Place, docker

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

OPTIONS = ("low", "mid", "high")
STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
FILES = {
    "low/10-Dockerfile-tools": (
        f"{STEP}ENV LOW_HOME=/usr/local/lib/low\nLABEL org.example.low=yes\n"
        "COPY shared/ /usr/local/lib/low/\n"
        "RUN chown 33:44 /usr/local/lib/low/run && chmod 4755 /usr/local/lib/low/run && cp /bin/true /usr/local/bin/low"
        " && mkdir -p /opt/compiler && head -c 100000 /dev/zero > /opt/compiler/big\n"
    ),
    "low/20-Dockerfile-links": (
        f"{STEP}RUN ln -s low /usr/local/lib/lower && ln /usr/local/lib/low/run /usr/local/bin/hard\n"
    ),
    "mid/10-Dockerfile-says": (
        f"{STEP}ARG WORD=none\nEXPOSE 8080/tcp\n"
        'RUN printf "%s" "$WORD from $LOW_HOME" > /usr/local/lib/says && cp /bin/false /opt/kept\n'
    ),
    f"mid/says-{OWN}-args": "WORD=some words\n",
    f"mid/minimize-{OWN}-args": "ADDITIONAL_FILES=/opt/kept\n",
    "high/10-Dockerfile-runs": (
        f"{STEP}WORKDIR /usr/local/lib/low\nUSER 1000:1000\nENV PATH=/usr/local/lib/low:$PATH\n"
        'ENTRYPOINT ["/usr/local/lib/low/run"]\nCMD ["now"]\n'
    ),
    "shared/run": '#!/bin/sh\necho "$(cat /usr/local/lib/says) $1"\n',
    "shared/deep/table": "1 2 3\n",
}
TOOLS = "RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*\n"
# Files that Docker itself adds to the root of a container.
NOT_OF_THE_IMAGE = frozenset(
    {
        ".dockerenv",
        "dev",
        "dev/console",
        "dev/pts",
        "dev/shm",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
        "proc",
        "sys",
    }
)


@pytest.fixture(scope="module")
def tools(lay_once: Lay) -> Place:
    """An image with Python for the analysis of the stages: without a cache it would be installed each time."""
    place = lay_once(files={"tools/10-Dockerfile-python": STEP + TOOLS})
    place.build("tools", "--until", "10")
    return place


@pytest.fixture(scope="module")
def in_one_command(lay_once: Lay) -> Place:
    """Flow 3: `low,mid,high` in one command."""
    place = lay_once(files=FILES)
    done = place.build(",".join(OPTIONS))
    assert len(done.events("run_finished")[0]["results"]) == len(OPTIONS)
    return place


@pytest.fixture(scope="module")
def by_hand(lay_once: Lay) -> Place:
    """Flow 1: each option by a separate command, on the image that the command before left in the registry."""
    place = lay_once(files=FILES)
    base = place.base
    for option in OPTIONS:
        place.base = base
        place.build(option)
        base = str(place.name(f"v1-{option}-{OWN}"))
    return place


@pytest.fixture(scope="module")
def by_job(lay_once: Lay, tools: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Flow 2: each option in its own checkout, home and process, without the build cache."""
    place = lay_once(files=FILES)
    python = place.name("python")
    with Registries() as registries:
        copy_image(registries, tools.name(f"v1-tools-10-python-{OWN}"), python)
    base = place.base
    for option in OPTIONS:
        machine = tmp_path_factory.mktemp(f"machine-{option}")
        job = replace(place, root=machine / "checkout", home=machine / "home", base=base)
        shutil.copytree(place.root, job.root)
        for other in OPTIONS:
            if other != option:
                shutil.rmtree(job.root / other)
        job.build(option, "--no-cache", "--no-load", "--build-context", f"debian:bookworm-slim=docker-image://{python}")
        base = str(job.name(f"v1-{option}-{OWN}"))
    return place


def tree_of(place: Place, option: str) -> dict[str, tuple[Any, ...]]:
    """Return every path of an image with its kind, mode, owner and content."""
    reference = place.image(f"v1-{option}-{OWN}").reference.pinned
    assert docker("pull", "--quiet", reference).returncode == 0
    made = docker("create", reference, "nothing")
    assert made.returncode == 0, made.stderr
    container = made.stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            found = dict(_entries(process.stdout))
        assert process.returncode == 0
    finally:
        docker("rm", "--force", container)
    return found


def _entries(stream: IO[bytes]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = member.name.rstrip("/")
            if path in NOT_OF_THE_IMAGE:
                continue
            content = ""
            if member.isreg():
                data = archive.extractfile(member)
                assert data is not None
                content = hashlib.sha256(data.read()).hexdigest()
            yield path, (member.type, oct(member.mode), member.uid, member.gid, member.linkname, content)


def config_of(place: Place, option: str) -> Mapping[str, Any]:
    """Return the runtime configuration of an image, and its labels without the trail, which has the steps' keys."""
    config = place.image(f"v1-{option}-{OWN}").config
    return {
        "platform": config.platform.oci,
        "env": dict(config.env),
        "entrypoint": config.entrypoint,
        "cmd": config.cmd,
        "working_dir": config.working_dir,
        "user": config.user,
        "ports": config.exposed_ports,
        "volumes": config.volumes,
        "stop_signal": config.stop_signal,
        "healthcheck": config.healthcheck,
        "labels": {key: value for key, value in config.labels if not key.startswith(LABELS)},
        "trail": [key for key, _ in config.labels if key.startswith(LABELS)],
    }


def test_flows_give_images_with_the_same_contents(in_one_command: Place, by_hand: Place, by_job: Place) -> None:
    for option in OPTIONS:
        expected = tree_of(in_one_command, option)
        for place in (by_hand, by_job):
            found = tree_of(place, option)
            differing = {path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)}
            assert differing == set(), option
            assert config_of(place, option) == config_of(in_one_command, option)


def test_compared_images_have_modes_links_and_configuration(in_one_command: Place) -> None:
    tree = tree_of(in_one_command, "high")
    assert tree["usr/local/lib/low/run"][1:4] == ("0o4755", 33, 44)
    assert tree["usr/local/lib/lower"][4] == "low"
    assert "usr/local/bin/hard" in tree
    assert "opt/kept" in tree, "what one option asked for holds for the next one"
    assert not any(path.startswith("opt/compiler") for path in tree)
    config = config_of(in_one_command, "high")
    assert config["labels"]["org.example.low"] == "yes"
    assert config["user"] == "1000:1000"
    assert config["ports"] == ("8080/tcp",)
    assert in_one_command.output(f"v1-high-{OWN}").strip() == "some words from /usr/local/lib/low now"


def test_trail_of_job_images_lists_every_step(by_job: Place, in_one_command: Place) -> None:
    for place in (by_job, in_one_command):
        name = str(ImageReference.parse(f"{place.host}/{place.repo}:v1-high-{OWN}"))
        told = place.run("inspect", name, "--registry", place.host)
        assert told.code == 0, told.told()
        for step in ("10-tools", "20-links", "10-says", "10-runs"):
            assert step in told.out
