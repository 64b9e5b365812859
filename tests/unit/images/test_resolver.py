"""Images that a graph stands on: where they are looked for, in what order, and what is said where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chainbuild.errors import (
    BuildFailedError,
    ChainbuildError,
    LoginNeededError,
    NotFoundInRegistryError,
    NotReadyError,
    RegistryError,
    UnreachableError,
)
from chainbuild.events import Event, Message
from chainbuild.images.local_store import LocalImage
from chainbuild.images.resolver import ImageResolver, find_all
from chainbuild.model import ImageInput
from chainbuild.records.labels import TRAIL_LABEL
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, FakeStore, World

FAT = ImageReference.parse("fat:1")
OWN = ImageReference.parse("team/own:dev")


class Place:
    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.store = FakeStore()
        self.events: list[Event] = []
        self.handed: list[tuple[str, Platform, str]] = []
        self.refuses: ChainbuildError | None = None
        self.finder = ImageResolver(self.world.records, self.store, self.events.append, hand_over=self.hand_over)

    def vouched(self, name: str, platform: str = "amd64", **how: Any) -> RemoteImage:
        """An image of the chain registry that this user has signed for."""
        image = self.world.fake.add_image(name, platform, **how)
        self.world.records.vouch(ImageReference(image.reference.registry, image.reference.repository), image, "x")
        return image

    def hand_over(self, name: str, platform: Platform, destination: str) -> None:
        self.handed.append((name, platform, destination))
        if self.refuses:
            raise self.refuses
        self.world.fake.add_image(destination, platform, layers=[b"local"])

    def told(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def local(platform: Platform, number: int = 1) -> LocalImage:
    return LocalImage(id=f"sha256:{number:064x}", platform=platform, size=1, repo_digests=())


def test_own_registry_comes_first_and_is_pinned_by_index(place: Place) -> None:
    place.world.fake.add_image("localhost:5000/fat:1", "amd64", layers=[b"copy"])
    place.store.images["fat:1"] = local(AMD64)
    found = place.finder.find(FAT, AMD64)
    assert found.image.reference.registry == "docker.io"
    assert found.pinned == f"docker.io/library/fat@{found.image.index_digest}"
    assert place.told() == []
    assert place.handed == []


def test_image_without_index_is_pinned_by_itself(place: Place) -> None:
    found = place.finder.find(ImageReference.parse("fat:amd64"), AMD64)
    assert found.image.index_digest is None
    assert found.pinned.endswith(str(found.image.digest))


def test_chain_registry_copy_is_used_if_own_registry_is_down(place: Place) -> None:
    copy = place.vouched("localhost:5000/fat:1", layers=[b"copy"])
    place.world.fake.host("docker.io").down = True
    place.store.images["fat:1"] = local(AMD64)
    found = place.finder.find(FAT, AMD64)
    assert found.pinned == copy.reference.pinned
    assert place.told() == [f"fat:1: docker.io is unreachable; using the chain registry's copy ({copy.digest.short})"]
    assert place.handed == []


def test_copy_does_not_replace_an_image_reported_missing(place: Place) -> None:
    place.vouched("localhost:5000/fat:2", layers=[b"copy"])
    with pytest.raises(NotFoundInRegistryError, match="fat:2"):
        place.finder.find(ImageReference.parse("fat:2"), AMD64)


def test_bare_name_is_found_in_chain_registry_if_docker_hub_lacks_it(place: Place) -> None:
    labels = {TRAIL_LABEL: "[]"}
    built = place.vouched("localhost:5000/slc6-atlasos:1", layers=[b"ours"], labels=labels)
    found = place.finder.find(ImageReference.parse("slc6-atlasos:1"), AMD64)
    assert found.pinned == built.reference.pinned
    assert found.note.startswith("slc6-atlasos:1: docker.io does not have it; using the chain registry's image (")


def test_copy_that_no_trusted_key_signed_for_does_not_stand_in(place: Place) -> None:
    """Whoever can write to the chain registry must not choose the base while its own registry is away."""
    place.world.fake.add_image("localhost:5000/fat:1", "amd64", layers=[b"attack"])
    place.world.fake.host("docker.io").down = True
    with pytest.raises(UnreachableError, match="has an image of this name, but no trusted key has signed it"):
        place.finder.find(FAT, AMD64)
    labels = {TRAIL_LABEL: "[]"}
    place.world.fake.add_image("localhost:5000/slc6-atlasos:1", "amd64", layers=[b"attack"], labels=labels)
    place.world.fake.host("docker.io").down = False
    with pytest.raises(NotFoundInRegistryError):
        place.finder.find(ImageReference.parse("slc6-atlasos:1"), AMD64)


def test_copy_that_is_named_by_its_digest_needs_no_signature(place: Place) -> None:
    copy = place.world.fake.add_image("localhost:5000/fat:1", "amd64", layers=[b"copy"])
    place.world.fake.host("docker.io").down = True
    assert place.finder.find(FAT.with_digest(copy.digest), AMD64).image.digest == copy.digest


def test_local_image_is_copied_again_over_another_users_copy(place: Place) -> None:
    place.store.images["team/own:dev"] = local(AMD64)
    attack = place.world.fake.add_image(f"localhost:5000/team/own:k1-local-amd64-{1:064x}", "amd64", layers=[b"attack"])
    found = place.finder.find(OWN, AMD64)
    assert len(place.handed) == 1
    assert found.image.digest != attack.digest


@pytest.mark.parametrize("down", [True, False])
def test_local_image_is_copied_once(place: Place, down: bool) -> None:
    place.world.fake.host("docker.io").down = down
    place.store.images["team/own:dev"] = local(AMD64)
    found = place.finder.find(OWN, AMD64)
    again = place.finder.find(OWN, AMD64)
    destination = f"localhost:5000/team/own:k1-local-amd64-{1:064x}"
    assert place.handed == [("team/own:dev", AMD64, destination)]
    assert place.told() == ["team/own:dev: found only in the local image store (linux/amd64); copied to localhost:5000"]
    assert found.pinned == again.pinned
    assert found.pinned.startswith("localhost:5000/team/own@sha256:")
    place.store.images["team/own:dev"] = local(AMD64, 2)
    place.finder.find(OWN, AMD64)
    assert len(place.handed) == 2, "another image under that name"


def test_failed_copy_of_a_local_image_is_reported(place: Place) -> None:
    place.store.images["team/own:dev"] = local(AMD64)
    place.refuses = BuildFailedError("hand over team/own:dev: the build failed")
    with pytest.raises(BuildFailedError, match="hand over"):
        place.finder.find(OWN, AMD64)


def test_local_image_of_another_platform_keeps_the_registry_error(place: Place) -> None:
    place.world.fake.add_image("docker.io/team/own:dev", "amd64")
    place.store.images["team/own:dev"] = local(AMD64)
    place.refuses = BuildFailedError("no match for platform")
    with pytest.raises(NotFoundInRegistryError, match="exists, but not for aarch64; it has: amd64") as caught:
        place.finder.find(OWN, ARM64, "stock/10-Dockerfile-base:3")
    assert caught.value.where == "stock/10-Dockerfile-base:3"


def test_local_store_with_several_platforms_copies_the_right_image(place: Place) -> None:
    place.store.images["team/own:dev"] = local(AMD64)
    found = place.finder.find(OWN, ARM64)
    assert place.handed[0][1] == ARM64
    assert found.image.platform == ARM64


def test_unreachable_registry_has_a_hint(place: Place) -> None:
    place.world.fake.host("docker.io").down = True
    with pytest.raises(UnreachableError) as caught:
        place.finder.find(ImageReference.parse("debian:bookworm-slim"), ARM64)
    assert "chainbuild bootstrap debian:bookworm-slim --platform aarch64" in caught.value.hint
    assert caught.value.where == "image debian:bookworm-slim"


def test_name_of_no_distribution_gets_no_bootstrap_hint(place: Place) -> None:
    place.world.fake.host("docker.io").down = True
    with pytest.raises(UnreachableError) as caught:
        place.finder.find(ImageReference.parse("acme/tools:v2"), AMD64)
    assert "bootstrap" not in caught.value.hint
    assert "list: chainbuild images" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("debian:bookworm-slm", "Perhaps you meant debian:bookworm-slim."),
        ("debain:bookworm-slim", "Perhaps you meant debian:bookworm-slim."),
        ("ubuntu:24.4", "Perhaps you meant ubuntu:24.04."),
        ("debian", "Name a release, for example debian:bookworm-slim."),
        ("debian:latest", "Name a release, for example debian:bookworm-slim."),
    ],
)
def test_misspelled_distribution_gets_suggestion_and_no_bootstrap(place: Place, name: str, hint: str) -> None:
    place.world.fake.host("docker.io").down = True
    with pytest.raises(UnreachableError) as caught:
        place.finder.find(ImageReference.parse(name), AMD64)
    assert caught.value.hint.startswith(hint)
    assert "bootstrap" not in caught.value.hint


@pytest.mark.parametrize("name", ["ubuntu:16.04", "ubuntu:bionic", "debian:stretch-slim", "debian:9"])
def test_release_without_updates_is_no_misspelling(place: Place, name: str) -> None:
    place.world.fake.host("docker.io").down = True
    with pytest.raises(UnreachableError) as caught:
        place.finder.find(ImageReference.parse(name), AMD64)
    assert caught.value.hint.startswith("It is neither in localhost:5000")


def test_misspelled_tag_gets_suggestion_from_reachable_registry(place: Place) -> None:
    with pytest.raises(NotFoundInRegistryError) as caught:
        place.finder.find(ImageReference.parse("debian:bokworm-slim"), AMD64)
    assert caught.value.hint == "Perhaps you meant debian:bookworm-slim."


def test_unreachable_base_of_other_platforms_says_where_it_is(place: Place) -> None:
    copy = place.world.fake.add_image("localhost:5000/debian:12-slim-amd64", "amd64")
    place.world.fake.add_index("localhost:5000/debian:12-slim", [copy])
    place.store.images["debian:12-slim"] = local(AMD64)
    place.refuses = BuildFailedError("no match for platform")
    place.world.fake.host("docker.io").down = True
    with pytest.raises(UnreachableError) as caught:
        place.finder.find(ImageReference.parse("debian:12-slim"), ARM64)
    assert caught.value.message.startswith(
        "debian:12-slim is not available for aarch64: localhost:5000 has it only for amd64, the local image store has it"
        " only for amd64; "
    )
    assert "chainbuild bootstrap debian:12-slim --platform aarch64" in caught.value.hint


def test_engine_that_does_not_answer_is_the_error_of_all_images(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> LocalImage:
        raise NotReadyError("cannot reach a Docker Engine: no such file")

    monkeypatch.setattr(place.store, "find", find)
    with pytest.raises(NotReadyError, match="cannot reach a Docker Engine"):
        find_all(place.finder, [wanted("none:1"), wanted("nothing:2")])


def test_resolver_that_copies_nothing_finds_labels_of_local_image(place: Place) -> None:
    finder = ImageResolver(place.world.records, place.store, place.events.append, hand_over=None)
    place.store.images["team/own:dev"] = replace(local(AMD64), labels={TRAIL_LABEL: "[]"})
    found = finder.find_result(OWN, AMD64)
    assert found.image.config.label(TRAIL_LABEL) == "[]"
    assert found.image.layers == ()
    assert (place.handed, place.told()) == ([], [])
    with pytest.raises(NotFoundInRegistryError):
        finder.find_result(OWN, ARM64)


def test_resolver_that_copies_nothing_finds_pulled_image_by_digest(place: Place) -> None:
    image = place.world.fake.add_image("localhost:5000/team/own:v1-tools-amd64", "amd64")
    finder = ImageResolver(place.world.records, place.store, place.events.append, hand_over=None)
    digests = (f"localhost:5000/team/own@{image.digest}",)
    place.store.images["team/own:dev"] = replace(local(AMD64), repo_digests=digests)
    assert finder.find_result(OWN, AMD64).image.digest == image.digest


def test_login_error_has_its_command(place: Place) -> None:
    place.world.fake.host("ghcr.io").require("Basic x", 'Basic realm="ghcr"')
    with pytest.raises(LoginNeededError) as caught:
        place.finder.find(ImageReference.parse("ghcr.io/org/private:1"), AMD64)
    assert "docker login ghcr.io" in caught.value.hint


def test_chain_registry_image_is_not_searched_elsewhere(place: Place) -> None:
    place.store.images["localhost:5000/team/own:dev"] = local(AMD64)
    with pytest.raises(NotFoundInRegistryError) as caught:
        place.finder.find(ImageReference.parse("localhost:5000/team/own:dev"), AMD64)
    assert "chainbuild registry ls" in caught.value.hint


def test_digest_is_resolved(place: Place) -> None:
    first = place.finder.find(FAT, AMD64)
    assert first.image.index_digest is not None
    place.world.base("moved")
    fixed = FAT.with_digest(first.image.index_digest)
    assert place.finder.find(fixed, AMD64).image.digest == first.image.digest
    assert place.finder.find(FAT, AMD64).image.digest != first.image.digest


def wanted(name: str, platform: Platform = AMD64) -> ImageInput:
    return ImageInput(name=name, source=ImageReference.parse(name), platform=platform, origin=f"f:{len(name)}")


def test_missing_images_are_reported_at_once(place: Place) -> None:
    with pytest.raises(RegistryError) as caught:
        find_all(place.finder, [wanted("none:1"), wanted("fat:1"), wanted("nothing:2"), wanted("none:1")])
    text = str(caught.value)
    assert text.count("none:1 is not in") == 1
    assert text.count("nothing:2 is not in") == 1
    with pytest.raises(NotFoundInRegistryError, match="none:1"):
        find_all(place.finder, [wanted("fat:1"), wanted("none:1")])


def test_found_images_are_by_name_and_platform(place: Place) -> None:
    step = ImageInput(name="BASE_IMAGE", source=StepId.parse("amd64/stock/10-base"), platform=AMD64)
    found = find_all(place.finder, [wanted("fat:1"), wanted("fat:1", ARM64), step])
    assert set(found) == {("fat:1", "linux/amd64"), ("fat:1", "linux/arm64")}


# The empty image -------------------------------------------------------------------------------------------------------


def test_scratch_is_found_without_asking_any_registry(place: Place) -> None:
    """PRODUCTION=scratch was looked for on Docker Hub, which has no such image."""
    place.world.fake.log.clear()
    found = place.finder.find(ImageReference.parse("scratch"), ARM64)
    assert found.pinned == "scratch"
    assert found.image.layers == ()
    assert (found.image.config.platform, found.image.config.working_dir) == (ARM64, "/")
    assert dict(found.image.config.env)["PATH"].startswith("/usr/local/sbin:")
    for find in (place.finder.find_result, place.finder.find_at_hand):
        assert find(ImageReference.parse("docker.io/library/scratch"), AMD64).pinned == "scratch"
    assert place.world.fake.log == []


@pytest.mark.parametrize("name", ["scratch:latest", "team/scratch", "localhost:5000/scratch"])
def test_image_named_scratch_in_a_registry_is_not_scratch(place: Place, name: str) -> None:
    assert not ImageReference.parse(name).is_scratch
    with pytest.raises(NotFoundInRegistryError):
        place.finder.find(ImageReference.parse(name), AMD64)
