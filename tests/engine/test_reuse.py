"""Nothing is built twice: on this or another machine, after a change, a failure, a deadline or damage."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.records.tags import index_tag
from chainbuild.references import ChainRegistry
from chainbuild.registry.images import copy_image, is_intact
from chainbuild.registry.pool import Registries
from chainbuild.values import replace
from tests.support.keys import signing_key

from .conftest import OWN, Done, Lay, Place, RegistryContainer, write_tree

pytestmark = pytest.mark.timeout(900)

STEPS = ["10-one", "20-two", "30-three", "40-four"]
STAGES = ["minimize", "production"]


@pytest.fixture(scope="module")
def first(lay_once: Lay, nothing_image: str) -> tuple[Place, Done]:
    """The case `steps`, built once by one user."""
    place = lay_once("steps", production=nothing_image)
    return place, place.build("chain")


def copy_of(place: Place, to: Path) -> Place:
    """Return a copy of the user's tree with the same registry; changes do not affect the original."""
    shutil.copytree(place.root, to / "tree", symlinks=True)
    shutil.rmtree(to / "tree" / ".chainbuild", ignore_errors=True)
    return replace(place, root=to / "tree", home=to / "home")


def test_unchanged_chain_is_built_only_once(first: tuple[Place, Done]) -> None:
    place, done = first
    assert done.built == [*STEPS, *STAGES]
    assert set(done.reasons.values()) == {"never built"}
    again = place.build("chain")
    assert (again.built, again.reused) == ([], [*STEPS, *STAGES])
    assert set(again.reasons.values()) == {"unchanged"}
    assert again.events("run_finished")[0]["results"] == done.events("run_finished")[0]["results"]
    plan = place.run("plan", *place.words("chain", "--fail-if-build"))
    assert plan.code == 0, plan.told()


def test_new_tag_needs_no_build(first: tuple[Place, Done]) -> None:
    place, _ = first
    done = place.build("chain", tag="v2")
    assert (done.built, done.reused) == ([], [*STEPS, *STAGES])
    assert {f"v2-chain-{name}-{OWN}" for name in STEPS} <= set(place.tags())
    assert place.image(f"v2-chain-{OWN}").digest == place.image(f"v1-chain-{OWN}").digest


def another_machine(place: Place, tmp_path: Path) -> Place:
    """Return the tree of another user on another machine: path, home, times, group rights, order in the folder."""
    elsewhere = copy_of(place, tmp_path / "another" / "user's place")
    elsewhere.environ = {"USER": "somebody", "LOGNAME": "somebody", "TZ": "Pacific/Auckland", "LC_ALL": "C"}
    for number, path in enumerate(sorted(elsewhere.root.rglob("*"))):
        os.utime(path, (number, 10_000_000 + number), follow_symlinks=False)
    return elsewhere


def test_other_machine_reuses_every_step(first: tuple[Place, Done], tmp_path: Path) -> None:
    elsewhere = another_machine(first[0], tmp_path)
    # Without the build cache a step that is not reused is really built.
    done = elsewhere.build("chain", "--no-cache")
    assert (done.built, done.reused) == ([], [*STEPS, *STAGES])


def test_changed_step_rebuilds_itself_and_later_steps(first: tuple[Place, Done], tmp_path: Path) -> None:
    place = copy_of(first[0], tmp_path)
    (place.root / "context" / "three" / "content").write_text("other content of three\n", encoding="utf-8")
    planned = place.run("plan", *place.words("chain"))
    assert "file context/three/content changed" in planned.out
    done = place.build("chain", tag="middle")
    assert done.reused == STEPS[:2]
    assert done.built == [*STEPS[2:], *STAGES]
    assert done.reasons["30-three"] == "file context/three/content changed"
    assert done.reasons["40-four"].startswith("parent ")
    assert "30-three" in done.reasons["production"]
    # After the change is undone, the earlier images are reused.
    (place.root / "context" / "three" / "content").write_text("content of three\n", encoding="utf-8")
    assert place.build("chain", tag="middle").built == []


def test_changed_comment_rebuilds_no_later_step(first: tuple[Place, Done], tmp_path: Path) -> None:
    place = copy_of(first[0], tmp_path)
    dockerfile = place.root / "chain" / "10-Dockerfile-one"
    dockerfile.write_text(f"# another comment\n{dockerfile.read_text(encoding='utf-8')}", encoding="utf-8")
    done = place.build("chain", tag="comment")
    assert done.built == ["10-one"]
    assert done.reused == [*STEPS[1:], *STAGES]
    assert done.reasons["10-one"] == "Dockerfile changed (line 1)"


def test_reason_names_changed_arg_or_file_mode(first: tuple[Place, Done], tmp_path: Path) -> None:
    place = copy_of(first[0], tmp_path)
    write_tree(place.root, {f"chain/four-{OWN}-args": "SALT=pepper\n"})
    # The newest record of the step may have another parent; the change of the user is reported first.
    assert place.build("chain", "--until", "40").reasons["40-four"].startswith('arg SALT added ("pepper")')
    write_tree(place.root, {f"chain/four-{OWN}-args": "SALT=sugar\n"})
    assert place.build("chain", "--until", "40").reasons["40-four"] == 'arg SALT changed from "pepper" to "sugar"'
    (place.root / "context" / "four" / "content").chmod(0o755)
    done = place.build("chain", "--until", "40")
    assert done.reasons["40-four"] == "file context/four/content mode changed from 644 to 755"
    assert done.built == ["40-four"]


def test_from_until_and_only_select_steps(lay: Lay, nothing_image: str) -> None:
    place = lay("steps", production=nothing_image)
    refused = place.build("chain", "--from", "20", code=2)
    assert "10-one is not in the chain registry" in refused.error["message"]
    assert place.build("chain", "--until", "20").built == STEPS[:2]
    # The first step changes, but --from uses its image as it is.
    (place.root / "context" / "one" / "content").write_text("changed\n", encoding="utf-8")
    done = place.build("chain", "--from", "30", "--until", "30")
    assert (done.reused, done.built) == (STEPS[:2], ["30-three"])
    assert "--from 30" in done.reasons["10-one"]
    done = place.build("chain", "--only", "40")
    assert (done.reused, done.built) == (STEPS[:3], ["40-four"])
    assert place.output(f"v1-chain-40-four-{OWN}", "cat", "/srv/one") == "content of one\n"
    assert f"v1-chain-{OWN}" not in place.tags()


def test_deadline_skips_slow_steps_and_next_run_continues(lay: Lay, nothing_image: str) -> None:
    slow = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG SALT\nRUN sleep 4; echo $SALT > /slow\n"
    place = lay("steps", {"chain/20-Dockerfile-slow": slow}, production=nothing_image)
    (place.root / "chain" / "20-Dockerfile-two").unlink()
    # A unique salt: a step in the build cache of an earlier session takes no time.
    salt = uuid.uuid4().hex
    place.build("chain", "--until", "20", "--build-arg", f"SALT={salt}1")
    # Step 20 is known to take more than four seconds, which is more than the deadline.
    done = place.build("chain", "--until", "40", "--build-arg", f"SALT={salt}2", "--deadline", "4s", code=7)
    assert "20-slow" not in done.built
    assert {"20-slow", "30-three", "40-four"} <= set(done.steps("step_skipped"))
    (text,) = [event["text"] for event in done.events("message") if "the next run continues" in event["text"]]
    assert f"{OWN}/chain/20-slow" in text
    rest = place.build("chain", "--until", "40", "--build-arg", f"SALT={salt}2", "--deadline", "2h")
    assert rest.built[-3:] == ["20-slow", "30-three", "40-four"]


def test_concurrent_runs_of_the_same_step_succeed(lay: Lay) -> None:
    salt = str(time.time_ns())
    place = lay(
        files={
            "one/10-Dockerfile-both": (f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nRUN sleep 2; echo {salt} > /both\n"),
            "one/20-Dockerfile-after": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN cat /both > /after\n",
        }
    )
    words = place.words("one", "--json", "--until", "20", "--no-cache")
    runs = [place.start(*words) for _ in range(2)]
    for run in runs:
        out, err = run.communicate(timeout=300)
        assert run.returncode == 0, out + err
    assert place.output(f"v1-one-20-after-{OWN}", "cat", "/after").strip() == salt
    records = [tag for tag in place.tags(machine=True) if len(tag) == len("k1-") + 64]
    assert len(records) in {2, 3}  # the second step has two records if the images of the first step differ in a time
    done = place.build("one", "--until", "20")
    assert (done.built, len(done.reused)) == ([], 2)
    with Registries() as registries:
        for tag in (f"v1-one-10-both-{OWN}", f"v1-one-20-after-{OWN}"):
            image = place.image(tag)
            assert is_intact(registries, image.reference, image.platform)


def test_record_of_deleted_image_is_rebuilt(lay: Lay) -> None:
    place = lay("steps")
    place.build("chain", "--until", "30")
    before = place.identity(f"v1-chain-30-three-{OWN}")
    with Registries() as registries:
        image = place.image(f"v1-chain-20-two-{OWN}")
        client = registries.client(image.reference)
        assert client.delete_manifest(image.reference.repository, image.digest)
    done = place.build("chain", "--until", "30")
    assert done.reasons["20-two"] == "its image was deleted from the registry"
    assert (done.built, done.reused) == (["20-two"], ["10-one", "30-three"])
    assert place.identity(f"v1-chain-30-three-{OWN}") == before


def test_record_replaced_by_an_image_is_rebuilt(lay: Lay) -> None:
    place = lay("steps")
    place.build("chain", "--until", "20")
    (key,) = {tag for tag in place.tags(machine=True) if len(tag) == len("k1-") + 64 and tag in _keys(place, "20-two")}
    # Put an unrelated image in the place of the record.
    with Registries() as registries:
        # And in the place of the index, which would report the record without reading it.
        for tag in (key, index_tag(signing_key().public.id, "chain", OWN)):
            copy_image(registries, place.name(f"v1-chain-10-one-{OWN}"), place.name(tag))
        # And in the place of the copy that all repositories share.
        copies = ChainRegistry.parse(str(place.registry)).records
        copy_image(registries, place.name(f"v1-chain-10-one-{OWN}"), copies.with_tag(key))
    done = place.build("chain", "--until", "20")
    assert (done.built, done.reused) == (["20-two"], ["10-one"])


def _keys(place: Place, step: str) -> set[str]:

    with Registries() as registries:
        last = place.records(registries).last(place.name("any"), f"chain-{step}-{OWN}").record
        assert last is not None
        return {last.key}


def test_image_with_missing_layer_is_rebuilt(
    lay: Lay, nothing_image: str, own_registry: Callable[..., RegistryContainer]
) -> None:
    registry = own_registry()
    place = lay("steps", at=registry.host, production=nothing_image)
    place.build("chain", "--until", "30")
    before = place.identity(f"v1-chain-30-three-{OWN}")
    own_layer = place.image(f"v1-chain-20-two-{OWN}").layers[-1].digest
    folder = f"/var/lib/registry/docker/registry/v2/blobs/sha256/{own_layer.hex[:2]}/{own_layer.hex}"
    registry.shell(f"test -d {folder} && rm -rf {folder}")
    # The registry has the layer in memory until it restarts.
    registry.stop()
    registry.start()
    # The image is not checked until a step is built on it; a changed later step does that.
    (place.root / "context" / "four" / "content").write_text("changed\n", encoding="utf-8")
    done = place.build("chain", "--until", "40")
    assert done.built[-1] == "40-four"
    assert place.identity(f"v1-chain-30-three-{OWN}") == before
    with Registries() as registries:
        for tag in (f"v1-chain-20-two-{OWN}", f"v1-chain-30-three-{OWN}", f"v1-chain-40-four-{OWN}"):
            image = place.image(tag)
            assert is_intact(registries, image.reference, image.platform)


def test_moved_base_tag_is_pinned_during_run_and_rebuilt_later(lay: Lay) -> None:
    salt = str(time.time_ns())
    place = lay(
        files={
            "one/10-Dockerfile-wait": f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nRUN sleep 3; echo {salt} > /wait\n",
            "one/20-Dockerfile-after": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN cat /wait > /after\n",
        }
    )
    original, moving = place.base, f"{place.repo}-base:moving"
    there = place.name("any").with_tag("moving")
    there = type(there)(there.registry, f"{there.repository}-base", "moving")
    from chainbuild.references import ImageReference

    with Registries() as registries:
        copy_image(registries, ImageReference.parse(original), there)
    place.base = f"{place.host}/{moving}"
    process = place.start(*place.words("one", "--json", "--until", "20"))
    assert process.stdout is not None
    for line in process.stdout:
        if '"step_started"' in line:
            break
    # Move the tag while the first step is being built, to an image of another chain.
    other = lay(files={"two/10-Dockerfile-x": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo moved > /moved\n"})
    other.build("two", "--until", "10")
    with Registries() as registries:
        copy_image(registries, other.name(f"v1-two-10-x-{OWN}"), there)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert place.output(f"v1-one-20-after-{OWN}", "sh", "-c", "cat /after; test ! -e /moved").strip() == salt
    done = place.build("one", "--until", "20")
    assert done.built == ["10-wait", "20-after"]
    assert done.reasons["10-wait"].startswith("base image ")
    assert " moved from " in done.reasons["10-wait"]
    assert place.output(f"v1-one-20-after-{OWN}", "cat", "/moved") == "moved\n"


def test_refresh_rebuilds_unchanged_steps(lay: Lay) -> None:
    place = lay("steps")
    place.build("chain", "--until", "20")
    done = place.build("chain", "--until", "20", "--refresh")
    assert done.built[0] == "10-one"
    assert done.reasons["10-one"] == "--refresh"
    assert place.build("chain", "--until", "20", "--refresh-after", "1d").built == []
