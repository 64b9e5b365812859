"""After an interruption at any point, a rerun gives the same images as an uninterrupted run.

`POINTS` kills are spread over a whole run by the number of its events, from the first (the registry starts) to the
last (the index, the local store).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chainbuild.local_registry.ports import ask
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import copy_image, resolve
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

from .conftest import (
    OWN,
    Done,
    Lay,
    Place,
    RegistryContainer,
    descendants,
    docker,
    eventually,
    session_of,
)

pytestmark = pytest.mark.timeout(900)

POINTS = 7
TAGS = ["v1-chain-10-one", "v1-chain-20-two", "v1-chain-30-three", "v1-chain-40-four", "v1-chain-minimized", "v1-chain"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Undisturbed:
    """The result of an uninterrupted run: the contents of every image, and the number of events."""

    place: Place
    identities: dict[str, tuple[object, ...]]
    events: int


def identities(place: Place) -> dict[str, tuple[object, ...]]:
    """Return layers and runtime configuration of each image of the repository. The registry must be up.

    Labels are left out: they contain the digests of the steps, which include dates.
    """
    found: dict[str, tuple[object, ...]] = {}
    for tag in TAGS:
        config = place.image(f"{tag}-{OWN}").config
        found[tag] = (config.diff_ids, config.env, config.entrypoint, config.cmd, config.working_dir, config.user)
    return found


def another(place: Place, name: str) -> Place:
    """Return another repository of the same user, with a registry of its own in which nothing is built."""
    data = place.home / "registries" / name
    return replace(place, repo=f"{place.repo}/{name}", environ={**place.environ, "CHAINBUILD_REGISTRY_DATA": str(data)})


def build_words(place: Place, *more: str) -> list[str]:
    """Return the arguments of a run that builds: every RUN has a unique salt that does not change its result."""
    return place.words("chain", "--json", "--build-arg", f"SALT={place.repo}", *more)


def complete(place: Place) -> Done:
    done = place.run(*build_words(place))
    assert done.code == 0, done.told()
    assert done.events("run_finished")[0]["succeeded"]
    return done


def assert_nothing_is_left(place: Place, *sessions: int) -> None:
    """Assert that no process, temporary file, or registry container, lease or mark is left."""
    eventually(lambda: not any(session_of(session) for session in sessions), f"no process left of {sessions}")
    assert list(place.temporary.iterdir()) == []
    if place.registry is None:
        assert ask(place.host) == "nothing"
        listed = docker("ps", "--all", "--quiet", "--filter", f"name=chainbuild-registry-{place.port}-")
        assert listed.stdout.strip() == ""
        leases = place.leases
        assert {path.name for path in leases.iterdir()} <= {"mutex", "both-loopbacks.yml"}


def close(process: subprocess.Popen[str]) -> str:
    """Close the pipe, wait for the end of the process, and return its stderr."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.wait(timeout=300)
    said = process.stderr.read()
    process.stderr.close()
    return said


class Up:
    """The managed registry of a user, started by hand to read its content."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> None:
        done = self._place.run("registry", "up", "--registry-port", str(self._place.port))
        assert done.code == 0, done.told()

    def __exit__(self, *_: object) -> None:
        done = self._place.run("registry", "down", "--registry-port", str(self._place.port))
        assert done.code == 0, done.told()


@pytest.fixture(scope="module")
def run_in(lay_once: Lay) -> str:
    """A base in which a RUN was executed: it has what the builder adds with a first RUN (an empty /dev)."""
    place = lay_once(files={"one/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN true\n"})
    place.build("one", "--until", "10")
    return str(place.name(f"v1-one-10-a-{OWN}"))


@pytest.fixture(scope="module")
def undisturbed(lay_once: Lay, run_in: str, nothing_image: str) -> Undisturbed:
    """The case `steps` on a managed registry, run from the first step to the last without interruption."""
    place = replace(lay_once("steps", managed=True, production=nothing_image), base=run_in)
    first = another(place, "undisturbed")
    done = complete(first)
    assert_nothing_is_left(first)
    with Up(first):
        found = identities(first)
    return Undisturbed(place=place, identities=found, events=len(done.objects))


def test_steps_of_the_case_are_reproducible(undisturbed: Undisturbed) -> None:
    """Verify what the comparisons below rely on: another real build gives the same contents."""
    place = another(undisturbed.place, "once-more")
    done = complete(place)
    assert len(done.built) == len(TAGS)
    with Up(place):
        assert identities(place) == undisturbed.identities


def test_rerun_after_kill_at_any_point_gives_same_images(undisturbed: Undisturbed) -> None:
    events = undisturbed.events
    reran: list[Place] = []
    for point in range(POINTS):
        while True:
            place = another(undisturbed.place, f"killed-{point}-{len(reran)}-{events}")
            process, seen = killed_after(place, 1 + events * point // POINTS)
            complete(place)
            assert_nothing_is_left(place, process.pid)
            reran.append(place)
            if process.returncode == -signal.SIGKILL:
                break
            # A run reports its progress by time, so a faster run has fewer events than the first one had.
            assert seen < events, f"a run with {seen} events was not killed"
            events = seen
    for place in reran:
        with Up(place):
            assert identities(place) == undisturbed.identities, place.repo


def killed_after(place: Place, events: int) -> tuple[subprocess.Popen[str], int]:
    """Start a run and kill it after a number of events. Returns its process, and how many events it had until its end."""
    process = place.start(*build_words(place))
    assert process.stdout is not None
    seen = 0
    for seen, _ in enumerate(process.stdout, start=1):
        if seen == events:
            process.send_signal(signal.SIGKILL)
            break
    # The builds are orphans now: their pipe for progress is closed when this process ends.
    close(process)
    return process, seen


SLOW = {
    "chain/20-Dockerfile-two": (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG SALT=none\n"
        'RUN echo "the slow one, $SALT" && test -e /etc/no-such-file || sleep 300\n'
    )
}


@pytest.mark.parametrize("how", ["ctrl-c", "sigint", "sigterm"])
def test_interrupt_during_a_step_stops_and_cleans_up(lay: Lay, nothing_image: str, how: str) -> None:
    place = lay("steps", SLOW, managed=True, production=nothing_image)
    process = place.start(*build_words(place))
    assert process.stdout is not None
    for line in process.stdout:
        if '"log_line"' in line and "the slow one" in line:
            break
    else:
        pytest.fail(f"it ended before: {line}")
    assert descendants(process.pid)
    if how == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
    else:
        process.send_signal(signal.SIGINT if how == "sigint" else signal.SIGTERM)
    # The command ends before the step would; the test does not check how long before.
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert '"exit_code":130' in out
    assert "Traceback" not in err
    assert_nothing_is_left(place, process.pid)
    # The builder has stopped too: the processes of its RUN are gone.
    eventually(lambda: not sleeping(), "the RUN has ended")
    # Finished steps stay finished.
    (place.root / "chain" / "20-Dockerfile-two").unlink()
    done = complete_to(place, "30")
    assert done.reused == ["10-one"]
    assert_nothing_is_left(place)


def complete_to(place: Place, number: str) -> Done:
    done = place.run(*build_words(place, "--until", number))
    assert done.code == 0, done.told()
    return done


def sleeping() -> list[str]:
    done = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.strip() == "sleep 300"]


def test_interrupt_before_the_first_step_leaves_nothing(lay: Lay, nothing_image: str) -> None:
    """Interrupt while the registry starts and the base is copied: a run holds the most resources then."""
    for delay in (0.3, 0.6, 0.9, 1.3, 1.8, 2.5):
        place = lay("steps", managed=True, production=nothing_image)
        process = place.start(*build_words(place, "--until", "10"))
        # The exact time does not matter: several are tried, and the result must hold for each.
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
        # 0: on a fast machine the last signals arrive too late.
        assert process.returncode in {0, 130, -signal.SIGTERM}, out + err
        assert "Traceback" not in err
        assert ask(place.host) == "nothing", f"after {delay} s: {out}{err}"
        leases = place.leases
        assert not leases.exists() or {path.name for path in leases.iterdir()} <= {"mutex", "both-loopbacks.yml"}, (
            out + err
        )
        assert list(place.temporary.iterdir()) == []
        assert session_of(process.pid) == []


BIG = {
    "chain/30-Dockerfile-three": (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG SALT=none\n"
        "RUN mkdir -p /usr/local/share/steps && echo $SALT \\\n"
        # 60 MB that do not compress and are the same each time.
        " && perl -e 'srand(7); print pack(\"N*\", map { int(rand(4294967296)) } 1 .. 250000) for 1 .. 60' > /srv/big \\\n"
        " && touch -h -d @0 /srv/big /srv /usr/local/share/steps"
        " /usr/local/share /usr/local\n"
    )
}


@pytest.fixture(scope="module")
def big(lay_once: Lay, run_in: str, nothing_image: str) -> tuple[Place, dict[str, tuple[object, ...]]]:
    """The case with one big layer, run without interruption, and its result."""
    place = replace(lay_once("steps", BIG, production=nothing_image), base=run_in)
    complete(place)
    return place, identities(place)


def test_registry_stop_during_push_fails_and_rerun_completes(
    big: tuple[Place, dict[str, tuple[object, ...]]], own_registry: Callable[..., RegistryContainer]
) -> None:
    registry = own_registry()
    place = replace(big[0], registry=registry.host, repo=f"{big[0].repo}/stopped")
    process = place.start(*build_words(place))
    assert process.stdout is not None
    stopper: threading.Thread | None = None
    lines = []
    for line in process.stdout:
        lines.append(line)
        pushing = "30-three" in line and '"step_progress"' in line and "pushing" in line
        if pushing and stopper is None:
            stopper = threading.Thread(target=registry.stop)
            stopper.start()
    err = close(process)
    assert stopper is not None, "".join(lines[-20:])
    stopper.join()
    assert process.returncode == 4, err + "".join(lines[-10:])
    assert "Traceback" not in err
    registry.start()
    done = complete(place)
    assert done.reused[:2] == ["10-one", "20-two"]
    assert identities(place) == big[1]
    assert_nothing_is_left(place, process.pid)


def test_full_registry_disk_fails_and_rerun_elsewhere_completes(
    big: tuple[Place, dict[str, tuple[object, ...]]], own_registry: Callable[..., RegistryContainer]
) -> None:
    with Registries() as registries:
        original = resolve(registries, ImageReference.parse(big[0].base), Platform.parse(OWN))
    # Room for twice the base of 30 to 45 MB, as it is stored twice while it arrives, but not for 60 MB more.
    registry = own_registry(2 * original.size // 1_000_000 + 8)
    place = replace(big[0], registry=registry.host, repo=f"{big[0].repo}/full", base=f"{registry.host}/base:1")
    with Registries() as registries:
        base = ImageReference.parse(place.base)
        copy_image(registries, original.reference, base)
        # The base of the stages, and the base where the builder pushes to: mounted, so it does not arrive again.
        for name in ("debian:bookworm-slim", f"{place.repo}:base"):
            copy_image(registries, base, ImageReference.parse(f"{registry.host}/{name}"))
    done = place.run(*build_words(place))
    assert done.code == 4, done.told()
    assert done.built[-1:] == ["30-three"], done.told()
    assert "Traceback" not in done.err
    assert "could not push the image" in done.error["message"]
    assert f"v1-chain-30-three-{OWN}" not in place.tags()
    # The next run continues where there is room.
    roomy = own_registry()
    moved = replace(place, registry=roomy.host, base=big[0].base)
    complete(moved)
    assert identities(moved) == big[1]
    assert_nothing_is_left(moved)


@pytest.mark.disturbs_engine
def test_engine_restart_during_build_fails_and_rerun_completes(undisturbed: Undisturbed) -> None:
    place = another(undisturbed.place, "restarted")
    process = place.start(*build_words(place))
    assert process.stdout is not None
    for line in process.stdout:
        if '"step_started"' in line and "20-two" in line:
            break
    restart_engine()
    out, err = process.communicate(timeout=300)
    assert process.returncode in {1, 3, 4}, out + err
    assert "Traceback" not in err
    # The registry of the tests starts again with the engine.
    eventually(
        lambda: ask(ImageReference.parse(place.production).registry) == "registry", "the production image's place"
    )
    done = complete(place)
    assert done.reused[:1] == ["10-one"]
    assert_nothing_is_left(place, process.pid)
    with Up(place):
        assert identities(place) == undisturbed.identities


@pytest.mark.disturbs_engine
def test_other_machine_with_empty_build_cache_reuses_every_step(undisturbed: Undisturbed, tmp_path: Path) -> None:
    place = another(undisturbed.place, "undisturbed")
    subprocess.run(["docker", "buildx", "prune", "--all", "--force"], capture_output=True, check=True)
    shutil.copytree(place.root, tmp_path / "tree", ignore=shutil.ignore_patterns(".chainbuild"))
    done = complete(replace(place, root=tmp_path / "tree", home=tmp_path / "home"))
    assert len(done.reused) == len(TAGS)
    assert done.built == []


def restart_engine() -> None:
    """Stop the engine as at a shutdown of the machine, and start it with the same command line."""
    found = subprocess.run(["pgrep", "--exact", "--oldest", "dockerd"], capture_output=True, text=True, check=True)
    pid = int(found.stdout)
    command, environ = (Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")[:-1] for name in ("cmdline", "environ"))
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the engine has stopped")
    if os.path.isdir("/run/systemd/system"):
        subprocess.run(["systemctl", "start", "docker"], check=True)
    else:
        # Forked: the process outlives the tests and is not a child of them.
        subprocess.run(
            ["setsid", "--fork", *(os.fsdecode(word) for word in command)],
            env=dict(os.fsdecode(pair).split("=", 1) for pair in environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    eventually(lambda: docker("version").returncode == 0, "the engine answers")
