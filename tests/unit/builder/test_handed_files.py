"""Files of an image that a step's Dockerfile takes from its context: a private copy of the context has them."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.errors import BuildFailedError
from chainbuild.execution.outcome import RunOutcome
from chainbuild.step_id import StepId
from tests.support.world import AMD64, STEP, World

TREE = {
    "stock/10-Dockerfile-base": STEP,
    "utilities/01-Dockerfile-minimize": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN tar -czf /minimized.tar.gz /opt\n",
    "utilities/02-Dockerfile-production": (
        "ARG PRODUCTION_IMAGE\nFROM ${PRODUCTION_IMAGE}\nADD ./minimized.tar.gz /\nCOPY helper.sh sub/ /h/\n"
    ),
    "utilities/helper.sh": "echo",
    "utilities/sub/more": "more",
    "utilities/unread": "nobody takes it",
    "utilities/.dockerignore": "*.md\n",
}
PRODUCTION = StepId.parse("amd64/stock/production")


def packed(*names: str) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return gzip.compress(raw.getvalue(), mtime=0)


class Sent:
    """What the builder of the production stage was sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.context = Path()

    def look(self, spec: BuildSpec) -> None:
        if spec.step == PRODUCTION and spec.image:
            self.context = spec.context
            self.files = {
                str(path.relative_to(spec.context)): path.read_bytes()
                for path in sorted(spec.context.rglob("*"))
                if path.is_file()
            }


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world whose minimize stage leaves a tarball: the chain's image, in which it is looked for, holds it."""
    made = World(tmp_path)
    made.write(TREE)
    os.chmod(tmp_path / "utilities/helper.sh", 0o755)
    base = made.fake.add_image("docker.io/library/fat:amd64", AMD64, layers=[packed("bin/sh")])
    made.fake.add_index("docker.io/library/fat:1", [base])
    return made


def run(world: World, minimized: bytes | None) -> tuple[Sent, RunOutcome]:
    sent = Sent()
    world.driver.during = sent.look
    empty = packed().decode("latin-1")
    layer = packed_file("minimized.tar.gz", minimized).decode("latin-1") if minimized is not None else empty
    world.driver.content = lambda spec: layer if spec.step.name == "minimize" else empty
    world.driver.encoding = "latin-1"
    return sent, world.run()


def packed_file(name: str, content: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def test_production_gets_a_private_context_with_the_tarball(world: World) -> None:
    tarball = packed("opt/a", "opt/b")
    sent, _ = run(world, tarball)
    assert sent.files == {
        ".dockerignore": b"*.md\n",
        "helper.sh": b"echo",
        "minimized.tar.gz": tarball,
        "sub/more": b"more",
    }
    assert sent.context != world.root / "utilities"
    assert not sent.context.exists()
    assert not (world.root / "utilities/minimized.tar.gz").exists()


def test_tarball_of_an_earlier_run_in_the_tree_gets_into_no_build(world: World) -> None:
    (world.root / "utilities/minimized.tar.gz").write_bytes(b"old")
    tarball = packed("opt/a")
    assert run(world, tarball)[0].files["minimized.tar.gz"] == tarball
    world.begin_again()
    (world.root / "utilities/minimized.tar.gz").write_bytes(b"another old one")
    assert run(world, tarball)[0].files == {}
    assert PRODUCTION in world.reused


def test_minimize_without_a_tarball_is_reported(world: World) -> None:
    sent, outcome = run(world, None)
    error = outcome.failures[PRODUCTION]
    assert isinstance(error, BuildFailedError)
    assert sent.files == {}
    assert "has no file /minimized.tar.gz" in error.message
    assert error.hint == "The stage before it must create /minimized.tar.gz in its image."
    assert world.tags().keys() == {"v1-stock-10-base-amd64", "v1-stock-minimized-amd64"}


def test_other_minimized_files_build_production_again(world: World) -> None:
    run(world, packed("opt/a"))
    world.begin_again()
    path = "utilities/01-Dockerfile-minimize"
    world.write({path: TREE[path] + "RUN more\n"})
    run(world, packed("opt/b"))
    assert PRODUCTION in world.driver.built
