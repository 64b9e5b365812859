"""The `atom` option, built on `stock` from a replacement for Atom's sources."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import CASES, OWN, Done, Lay, Place, container_output, docker

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

SOURCE = CASES / "atom-source"
STEPS = ["10-redis", "20-source", "30-c", "40-cpp", "50-python", "60-cli", "70-environment"]

WRITER = """
from atom import Element
Element("camera").entry_write("frames", {"number": 42, "name": "left"}, serialization="msgpack")
"""
READER = """
from atom import Element
(entry,) = Element("viewer").entry_read_n("camera", "frames", 1)
print(entry["number"], entry["name"])
"""
PROGRAM = """\
#include <atomcpp/element.h>
int main() { atom::Element("camera").entryWrite("notes", "text", "written by C++"); }
"""


@pytest.fixture(scope="module")
def atom(stocked: Place) -> tuple[Place, Done]:
    """The result of building `stock,atom`."""
    return stocked, stocked.build("stock,atom", "--build-context", f"atom-source={SOURCE}")


@pytest.fixture
def nucleus(atom: tuple[Place, Done]) -> Iterator[list[str]]:
    """The arguments with which a container shares the socket of a container with redis."""
    place, _ = atom
    name = f"chainbuild-test-{uuid.uuid4().hex[:12]}"
    shared = ["--pull", "missing", "--network", "none", "--volume", f"{name}:/shared"]
    image = place.image(f"v1-atom-{OWN}").reference.pinned
    server = ["redis-server", "--port", "0", "--unixsocket", "/shared/redis.sock", "--save", ""]
    try:
        started = docker("run", "--detach", "--name", name, *shared, image, *server)
        assert started.returncode == 0, started.stderr
        yield shared
    finally:
        docker("rm", "--force", name)
        docker("volume", "rm", name)


def test_atom_steps_build_on_stock_result_and_pass_their_tests(atom: tuple[Place, Done]) -> None:
    place, done = atom
    assert [step for step in done.built if step[:2].isdigit()] == STEPS
    config = place.image(f"v1-atom-{OWN}").config
    assert config.cmd == ("/usr/local/bin/wait_for_nucleus.sh",)
    environment = dict(config.env)
    assert environment["ATOM_NUCLEUS_SOCKET"] == "/shared/redis.sock"
    assert environment["ATOM_NUCLEUS_HOST"] == ""
    assert environment["ATOM_LOG_DIR"] == "/var/log/atom/"
    # Neither the sources nor the compilers are in the result.
    said = place.output(f"v1-atom-{OWN}", "sh", "-c", "ls -d /usr/src/atom; command -v cc; echo end")
    assert said == "end\n"


def test_atom_element_reads_entries_of_another_container(atom: tuple[Place, Done], nucleus: list[str]) -> None:
    place, _ = atom
    image = place.image(f"v1-atom-{OWN}").reference.pinned
    wait = ["wait_for_nucleus.sh", "python3", "-c"]
    for script, said in ((WRITER, ""), (READER, "42 left\n")):
        done = docker("run", "--rm", *nucleus, image, *wait, script)
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    listed = docker(
        "run", "--rm", *nucleus, image, "redis-cli", "-s", "/shared/redis.sock", "xlen", "stream:camera:frames"
    )
    assert listed.stdout == "1\n"


def test_cpp_program_built_on_atom_image_writes_entry(atom: tuple[Place, Done], nucleus: list[str]) -> None:
    place, _ = atom
    image = place.image(f"v1-atom-{OWN}").reference.pinned
    dockerfile = f"""\
FROM {image} AS compiled
RUN apt-get update && apt-get install -y --no-install-recommends g++ libc6-dev
COPY <<'CPP' /program.cc
{PROGRAM}CPP
RUN c++ /program.cc -o /program -I/usr/local/include -L/usr/local/lib -latomcpp -latom -lhiredis
FROM {image}
COPY --from=compiled /program /usr/local/bin/program
"""
    name = f"{place.repo}-program:1"
    built = subprocess.run(
        ["docker", "buildx", "build", "--builder", "default", "--load", "--quiet", "--tag", name, "-"],
        input=dockerfile,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = docker("run", "--rm", *nucleus, name, "wait_for_nucleus.sh", "program")
    assert done.returncode == 0, done.stderr
    read = "from atom import Element; print(Element('viewer').entry_read_n('camera', 'notes', 1)[0]['text'])"
    done = docker("run", "--rm", *nucleus, image, "python3", "-c", read)
    assert done.stdout == "b'written by C++'\n", done.stderr


def test_container_without_nucleus_exits_and_reports_socket(atom: tuple[Place, Done]) -> None:
    place, _ = atom
    image = place.image(f"v1-atom-{OWN}").reference.pinned
    done = docker("run", "--rm", "--pull", "missing", "--env", "ATOM_NUCLEUS_TIMEOUT=1", image)
    assert done.returncode == 1
    assert "no redis at socket /shared/redis.sock" in done.stderr
    assert "ATOM_NUCLEUS_HOST" in done.stderr
    # The script handles the signal, so a container stops without being killed.
    script = "wait_for_nucleus.sh & child=$!; sleep 1; kill -TERM $child; wait $child; echo $?"
    assert container_output(image, "-c", script, entrypoint="sh") == "143\n"


def test_source_context_change_rebuilds_only_from_source_step(atom: tuple[Place, Done]) -> None:
    place, _ = atom
    again = place.build("stock,atom", "--build-context", f"atom-source={SOURCE}")
    assert again.built == []
    other = place.run("plan", *place.words("stock,atom", "--build-context", f"atom-source={place.root}", "--json"))
    assert other.code == 0, other.told()
    actions = {step["step"]: step["action"] for step in json.loads(other.out)["steps"]}
    assert actions[f"{OWN}/atom/10-redis"] == "reuse"
    assert actions[f"{OWN}/atom/20-source"] == "build"


def source_only(lay: Lay, root: Path) -> Place:
    """Return a tree with only the step that fetches the sources."""
    return lay(files={"atom/20-Dockerfile-source": (root / "atom" / "20-Dockerfile-source").read_bytes()})


def last_lines(done: Done) -> list[str]:
    """Return the last lines of a failed step's output, as they are shown in their frame."""
    assert done.code == 1, done.told()
    return [line.strip()[2:] for line in done.err.splitlines() if line.strip().startswith(("│", "▸"))]


def test_unreachable_upstream_error_suggests_build_context(lay: Lay, repository_root: Path) -> None:
    place = source_only(lay, repository_root)
    # No machine has a program on this port.
    away = "http://127.0.0.1:1/atom.git"
    done = place.run(*place.words("atom", "--plain", "--build-arg", f"ATOM_URL={away}"))
    (told,) = (line for line in last_lines(done) if "cannot fetch" in line)
    assert told.endswith(f" of {away}: give Atom's sources with --build-context atom-source=DIR")
    # With the context nothing is fetched, so the URL does not matter.
    context = ["--build-context", f"atom-source={SOURCE}", "--build-arg", f"ATOM_URL={away}"]
    assert place.build("atom", "--until", "20", *context).built == ["20-source"]


def test_wrong_source_folder_is_reported(lay: Lay, repository_root: Path) -> None:
    place = source_only(lay, repository_root)
    done = place.run(*place.words("atom", "--plain", "--build-context", f"atom-source={SOURCE / 'languages'}"))
    assert last_lines(done) == [
        "atom-source has no languages/c/Makefile: give the top of Atom's sources with --build-context atom-source=DIR"
    ]
