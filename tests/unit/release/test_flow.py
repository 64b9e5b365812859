"""Create, apply, update and roll back release plans, with registries in memory.

Release plans follow casa_distro_admin (prior art). Each bug of prior art that a plan could repeat has a
test whose docstring describes the bug.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chainbuild.cli import run
from chainbuild.execution.backends import use_backends
from chainbuild.images.provenance import VISIBILITY_LABEL
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.http.transport import HttpRequest, HttpResponse, Transport
from chainbuild.registry.images import put_tag, resolve
from chainbuild.release.inspection import look_at, warnings_of
from tests.support.keys import store_record
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, THREE_STEPS, World
from tests.unit.comparison.layers import layer

PUBLIC = "ghcr.io/acme/atom"


class Releasing:
    """A built chain, and the commands that release it."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.capsys = capsys
        self.path = world.root / "release_plan.yaml"
        self.refuse: Callable[[HttpRequest], None] = lambda _: None
        world.fake.host("ghcr.io")
        self.world.transport = self._transport
        self.build("one")

    def _transport(self, host: str) -> Transport:
        real = self.world.fake.transport(host)
        outer = self

        class Watching:
            def send(self, request: HttpRequest) -> HttpResponse:
                outer.refuse(request)
                return real.send(request)

            def close(self) -> None:
                pass

        return Watching()

    def build(self, content: str, platforms: Sequence[Platform] = (AMD64, ARM64)) -> None:
        self.world.write({"src/setup.py": content, "stock/production-test": "#!/bin/sh\ntrue\n"})
        self.world.driver.content = None
        # Use real layers, so that images can be compared.
        self.world.base("first")
        self.world.run(self.world.graph(platforms))

    def __call__(self, *words: str, code: int = 0) -> str:
        found = run(["release", *words])
        told = self.capsys.readouterr()
        assert found == code, told.out + told.err
        return told.out + told.err

    def create(self, *more: str) -> None:
        self("create", "--to", f"{PUBLIC}:latest", "--to", f"{PUBLIC}:1", *more)

    def decide(self) -> None:
        text = self.path.read_text().replace("decision: open", "decision: release")
        self.path.write_text(re.sub(r"accepted:  # .*", "accepted: fine", text))

    def edit(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text, text
        self.path.write_text(text.replace(old, new))

    def released(self, tag: str) -> str | None:
        return self.world.fake.host("ghcr.io").tags.get(("acme/atom", tag))

    def reviewed(self) -> str:
        (row,) = re.findall(r"      amd64: (sha256:\w+)", self.path.read_text())
        return str(row)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Releasing]:
    made = World(tmp_path)
    # The fake builder adds no real layers, which comparing images needs.
    original = made.fake.add_image

    def add_image(name: str, platform: Any = "amd64", *, layers: Any = (b"layer",), **changes: Any) -> Any:
        packed = [raw if raw[:2] == b"\x1f\x8b" else layer({f"/opt/{raw[:4].hex()}": raw}) for raw in layers]
        return original(name, platform, layers=packed, **changes)

    monkeypatch.setattr(made.fake, "add_image", add_image)
    for name in ("fat:1", "slim:1"):
        made.external(name, name[:-2])
    made.write(THREE_STEPS)
    monkeypatch.chdir(tmp_path)
    releasing = Releasing(made, capsys)

    with use_backends(made.backends):
        yield releasing


# Creating -------------------------------------------------------------------------------------------------------------


def test_create_lists_built_images_with_open_decisions(release: Releasing) -> None:
    told = release("create", "--to", "ghcr.io/acme/{name}:{tag}")
    assert "1 image; 1 open decision" in told
    document = json.loads(release("show", "--json"))
    (image,) = document["images"]
    assert image["image"] == f"{REPOSITORY}:v1-stock"
    assert image["to"] == ["ghcr.io/acme/atom:v1-stock"]
    assert sorted(image["digests"]) == ["aarch64", "amd64"]
    assert image["replaces"] == {"ghcr.io/acme/atom:v1-stock": None}
    tested, traced = image["tests"]["amd64"][-2:]
    assert tested.startswith("stock/production test: passed")
    assert traced == "stock/production trace: 7 paths"
    assert [one["message"] for one in document["open"]] == [f"{REPOSITORY}:v1-stock: no decision yet"]
    assert "the plan already exists" in release("create", code=2)


def test_create_lists_results_only(release: Releasing) -> None:
    """Steps, copied bases, aliases and earlier releases in the same registry are not results."""
    release.world.fake.add_image(f"{CHAIN}/other:amd64", "amd64")
    release("create", "--to", f"{CHAIN}/team/released:1")
    release.decide()
    release("apply")
    release("create", "--force")
    assert re.findall(r"^  (\S+):$", release.path.read_text(), re.MULTILINE) == [f"{REPOSITORY}:v1-stock"]


def test_unmatched_pattern_is_reported_with_nearest_name(release: Releasing) -> None:
    """Bug of casa: an unmatched dependency or pattern was silently ignored."""
    told = release("create", "nothing*", f"{REPOSITORY}:v1-stok", code=2)
    assert "no image matches 'nothing*'" in told
    assert f"Perhaps you meant '{REPOSITORY}:v1-stock'" in told
    assert not release.path.exists()


@pytest.mark.parametrize("to", ["{repo}", "{nonsense}:1", "a b:1", "{repo}@sha256:" + "a" * 64])
def test_invalid_target_is_rejected_without_requests(release: Releasing, to: str) -> None:
    asked = len(release.world.fake.log)
    release("create", "--to", to, code=2)
    assert len(release.world.fake.log) == asked


def test_percent_sign_in_release_name_is_kept(release: Releasing) -> None:
    """Bug of casa: a literal % broke templates."""
    release("create", "--name", "100 % done %(name)s {tag}")
    assert json.loads(release("show", "--json"))["release"] == "100 % done %(name)s {tag}"


# Applying -------------------------------------------------------------------------------------------------------------


def test_apply_with_open_decision_is_refused(release: Releasing) -> None:
    release.create()
    told = release("apply", code=2)
    assert "release_plan.yaml:8: team/atom:v1-stock: no decision yet" in told
    assert not release.world.fake.host("ghcr.io").manifests


def test_apply_dry_run_reports_problems_and_moves_no_tags(release: Releasing) -> None:
    """Bug of SciServer: the dry run printed its actions without checking whether they are possible."""
    release.create()
    assert "no decision yet" in release("apply", "--dry-run", code=2)
    release.decide()
    told = release("apply", "--dry-run")
    assert "2 tags would move" in told
    assert not release.world.fake.host("ghcr.io").manifests
    assert not (release.world.root / ".chainbuild" / "releases").exists()


def test_apply_releases_reviewed_digest_with_attachments(release: Releasing) -> None:
    from chainbuild.images.attachments import attach_bill, attached_bill

    name = ImageReference(CHAIN, REPOSITORY, "v1-stock-amd64")
    image = resolve(release.world.registries, name, AMD64)
    attach_bill(release.world.registries, image.reference, b"{}")
    release.create()
    release.decide()
    assert "2 tags moved" in release("apply")
    there = resolve(release.world.registries, ImageReference.parse(f"{PUBLIC}:latest"), AMD64)
    assert str(there.digest) == release.reviewed() == str(image.digest)
    assert release.released("latest") == release.released("1")
    assert attached_bill(release.world.registries, there.reference) == b"{}"
    assert "Nothing to move." in release("apply")


def test_apply_pushes_manifests_before_the_first_tag(release: Releasing) -> None:
    release.create()
    release.decide()
    release.world.fake.log.clear()
    release("apply")
    puts = [path for method, path in release.world.fake.log if method == "PUT" and "/acme/atom/" in path]
    names = [index for index, path in enumerate(puts) if path.endswith(("manifests/latest", "manifests/1"))]
    assert names == [len(puts) - 2, len(puts) - 1]


def test_image_changed_since_review_is_refused_until_reviewed(release: Releasing) -> None:
    release.create()
    release.decide()
    before = release.reviewed()
    release.build("two")
    told = release("apply", code=2)
    assert re.search(r"release_plan.yaml:\d+: team/atom:v1-stock: amd64 is \w{12} now, but \w{12} was reviewed", told)
    assert release.released("latest") is None
    assert "decision set to open" in release("update")
    assert release.reviewed() != before
    assert "no decision yet" in release("apply", code=2)
    release.decide()
    release("apply")


def test_target_tag_moved_since_review_is_refused(release: Releasing) -> None:
    release.create()
    release.decide()
    release.world.fake.add_image(f"{PUBLIC}:latest", "amd64")
    told = release("apply", code=2)
    assert re.search(r"ghcr.io/acme/atom:latest is \w{12} now, but was missing when the plan was reviewed", told)
    assert release.released("1") is None


def test_missing_digest_is_refused_with_its_line(release: Releasing) -> None:
    release.create()
    release.decide()
    release.edit(release.reviewed(), "sha256:" + "0" * 64)
    told = release("apply", code=2)
    assert "no longer has sha256:0000" in told
    assert "release_plan.yaml:12" in told


def test_added_or_removed_platform_is_reported(release: Releasing) -> None:
    release.create()
    release.decide()
    text = release.path.read_text()
    release.path.write_text(re.sub(r"      aarch64: sha256.*\n", "", text))
    assert "aarch64 was added since the plan was reviewed" in release("apply", code=2)
    release.path.write_text(text)
    release("apply")
    fewer = release.world.fake
    images = [resolve(release.world.registries, ImageReference(CHAIN, REPOSITORY, "v1-stock-amd64"), AMD64)]
    fewer.add_index(f"{CHAIN}/{REPOSITORY}:v1-stock", images)
    assert "aarch64 is missing now" in release("apply", code=2)
    release("update")
    assert "what it replaces has aarch64, and this does not" in release("show")


def test_test_failed_since_review_cannot_be_accepted(release: Releasing) -> None:
    release.create()
    release.decide()
    place = ImageReference(CHAIN, REPOSITORY)
    record = release.world.records.last(place, "stock-production-amd64").record
    assert record is not None
    document = record.as_json() | {"verdicts": dict(record.verdicts) | {"test": "failed sha256:" + "1" * 64}}
    store_record(release.world.registries, place.with_tag(record.key), json.dumps(document).encode())
    assert "amd64: the test of stock/production failed (new since the plan was reviewed)" in release("apply", code=2)
    release("update")
    release.decide()
    assert "amd64: the test of stock/production failed" in release("apply", code=2)
    release.edit("decision: release", "decision: skip")
    assert "no image is to be released" in release("apply", code=2)


def test_warning_needs_a_reason_that_update_keeps(release: Releasing) -> None:
    release.world.write({"stock/production-test": None})
    (release.world.root / "stock" / "10-Dockerfile-base").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN two\n")
    release.world.run(release.world.graph((AMD64,)))
    release.create()
    assert "amd64: no test was run in it" in release("show")
    release.edit("decision: open", "decision: release")
    assert "amd64: no test was run in it" in release("apply", code=2)
    release.edit("accepted:  # the reason why it is fine", "accepted: it is a font  # Ann")
    release("update")
    assert "accepted: it is a font  # Ann" in release.path.read_text()
    release("apply")


def test_private_image_has_a_warning(release: Releasing) -> None:
    """The visibility of an image type counts in release plans too."""
    labels = {VISIBILITY_LABEL: "private"}
    release.world.fake.add_image(f"{CHAIN}/secret:1", "amd64", labels=labels)
    look = look_at(release.world.records, ImageReference.parse(f"{CHAIN}/secret:1"), ())
    assert [text for text in warnings_of(look) if "private" in text] == [
        "amd64: it is private (its label org.casa-distro.visibility): not everybody may have it"
    ]


# Interrupted ----------------------------------------------------------------------------------------------------------


def stop_at(release: Releasing, name: str, error: BaseException) -> None:
    def refuse(request: HttpRequest) -> None:
        if request.method == "PUT" and request.url.endswith(name):
            raise error

    release.refuse = refuse


def go_on(release: Releasing) -> None:
    release.refuse = lambda _: None


@pytest.mark.parametrize("kind", ["interrupted", "refused"])
def test_apply_stopped_between_tags_is_resumed_with_message(release: Releasing, kind: str) -> None:
    """Bug of SciServer: images were pushed before later images were built, so a partial release stayed."""
    from chainbuild.errors import RegistryError

    release.create()
    release.decide()
    stop_at(release, "manifests/1", KeyboardInterrupt() if kind == "interrupted" else RegistryError("it is full"))
    told = release("apply", code=130 if kind == "interrupted" else 4)
    assert f"Stopped after 1 of 2 names had moved. Run the same command again to resume at {PUBLIC}:1." in told
    assert (release.released("latest") is None, release.released("1") is None) == (False, True)
    go_on(release)
    # A newer build in the chain registry is ignored, because half of the release is published.
    release.build("two")
    assert "1 tag would move" in release("apply", "--dry-run")
    told = release("apply")
    assert re.search(r"resuming the run that stopped at .*: 1 of 2 names had moved", told)
    assert release.released("latest") == release.released("1")
    assert "changed" not in told
    assert "was reviewed" in release("apply", code=2), "a new apply checks the current images"


def test_apply_stopped_before_tags_is_resumed(release: Releasing) -> None:
    release.create()
    release.decide()
    stop_at(release, release.reviewed(), KeyboardInterrupt())
    release("apply", code=130)
    assert release.released("latest") is None
    go_on(release)
    assert "2 tags moved" in release("apply")


def test_partial_release_can_be_rolled_back(release: Releasing) -> None:
    release.create()
    release.decide()
    release("apply")
    first = release.released("latest")
    release.build("two")
    release("update")
    release.edit(f"- {PUBLIC}:1\n", f"- {PUBLIC}:stable\n")
    put_tag(
        release.world.registries,
        ImageReference.parse(f"{PUBLIC}:stable"),
        resolve(release.world.registries, ImageReference.parse(f"{PUBLIC}:1"), AMD64).index_digest,  # type: ignore[arg-type]
    )
    release("update")
    release.decide()
    stop_at(release, "manifests/stable", KeyboardInterrupt())
    release("apply", code=130)
    go_on(release)
    assert (release.released("latest") == first, release.released("stable") == first) == (False, True)
    release("rollback")
    assert (release.released("latest"), release.released("stable")) == (first, first)
    assert "2 tags moved" in release("apply"), "the complete release is applied again"


def test_concurrent_apply_is_refused(release: Releasing) -> None:
    from chainbuild.release.applying import open_journal
    from chainbuild.release.reader import read_plan

    release.create()
    release.decide()
    with open_journal(read_plan(release.path), "apply"):
        assert "another process" in release("apply", code=8)


def test_journal_with_damaged_last_line_is_resumed(release: Releasing) -> None:
    release.create()
    release.decide()
    stop_at(release, "manifests/1", KeyboardInterrupt())
    release("apply", code=130)
    go_on(release)
    (journal,) = (release.world.root / ".chainbuild" / "releases").glob("*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9] + b"\xff\n[]\n")
    assert "resuming the run that stopped" in release("apply")


# Rollback -------------------------------------------------------------------------------------------------------------


def second_release(release: Releasing) -> str:
    release.create()
    release.decide()
    release("apply")
    first = release.released("latest")
    assert first is not None
    release.build("two")
    release.edit(f"- {PUBLIC}:1\n", f"- {PUBLIC}:2\n")
    release("update")
    release.decide()
    release("apply")
    assert release.released("latest") != first
    return first


def test_rollback_restores_moved_tags_and_keeps_new_tags(release: Releasing) -> None:
    first = second_release(release)
    second = release.released("2")
    assert "1 tag would move" in release("rollback", "--dry-run")
    told = release("rollback")
    assert f"left unchanged, because they did not exist before this plan: {PUBLIC}:2" in told
    assert (release.released("latest"), release.released("2")) == (first, second)
    assert "Nothing to move." in release("rollback")


def test_applied_plan_keeps_the_replaced_digests(release: Releasing) -> None:
    first = second_release(release)
    text = release.path.read_text()
    assert "already up to date" in release("update")
    assert release.path.read_text() == text
    assert f"{PUBLIC}:latest: {first}" in text
    assert "1 tag moved" in release("rollback")


def test_rollback_of_foreign_or_missing_digest_is_refused(release: Releasing) -> None:
    first = second_release(release)
    host = release.world.fake.host("ghcr.io")
    mine = host.tags["acme/atom", "latest"]
    release.world.fake.add_image(f"{PUBLIC}:latest", "amd64")
    assert "which this plan did not set" in release("rollback", code=2)
    host.tags["acme/atom", "latest"] = mine
    host.forget(first)
    assert f"no longer has {first}" in release("rollback", code=2)


# Updating -------------------------------------------------------------------------------------------------------------


def test_update_refreshes_selected_images_and_keeps_comments(release: Releasing) -> None:
    release.create()
    release.edit("    digests:", "    # Bob looks at this one\n    note: for the school\n    digests:")
    release.build("two")
    release("update", "team/*")
    text = release.path.read_text()
    assert "    # Bob looks at this one\n    note: for the school\n    digests:" in text
    assert "no image matches 'other'" in release("update", "other", code=2)
    assert release.path.read_text() == text


def test_update_adds_named_image_to_the_plan(release: Releasing) -> None:
    release.create()
    text = release.path.read_text()
    release.path.write_text(text.partition("\n  team/atom")[0].replace("images:", "images: {}") + "\n")
    assert "written in braces" in release("update", "team/*", code=2)
    release.path.write_text(text.replace("team/atom:v1-stock", "team/atom:old"))
    told = release("update", code=2)
    assert "release_plan.yaml:12: team/atom:old: localhost:5000/team/atom:old is not in localhost:5000" in told
    release("update", "team/atom:v1-stock")
    assert [one["image"] for one in json.loads(release("show", "--json"))["images"]] == [
        "team/atom:old",
        "team/atom:v1-stock",
    ]


def test_plan_has_differences_to_the_replaced_image(release: Releasing) -> None:
    second_release(release)
    (image,) = json.loads(release("show", "--json"))["images"]
    difference = image["differences"]["amd64"]
    assert difference["to"].startswith(f"{PUBLIC}@sha256:")
    assert difference["steps"][0].startswith("stock/30-venv: file src/setup.py changed")
    assert "compressed" in difference["size"]
    assert "of no package" in difference["files"]


# Policies -------------------------------------------------------------------------------------------------------------


def write_policy(release: Releasing, rules: str) -> None:
    (release.world.root / "policy.yaml").write_text(f"schema: chainbuild.policy/1\n{rules}\n")


def test_create_with_policy_warns_of_what_violates_it(release: Releasing) -> None:
    write_policy(release, 'base-from: "fat:*"')
    release.create("--policy", "policy.yaml")
    assert "\npolicy: policy.yaml\n" in release.path.read_text()
    assert release.path.read_text().count("base-from: the base image slim:1") == 2
    release.decide()
    release("apply")
    assert release.released("1") is not None


def test_create_with_policy_of_errors_cannot_be_applied(release: Releasing) -> None:
    write_policy(release, "tests-passed: trial\nrelease: error")
    release.create("--policy", "policy.yaml")
    release.decide()
    told = release("apply", code=2)
    assert "tests-passed: trial did not pass on any step" in told
    assert release.released("1") is None


def test_apply_after_a_signature_was_lost_is_refused(release: Releasing) -> None:
    write_policy(release, "tests-passed: libraries")
    release.create("--policy", "policy.yaml")
    release.decide()
    tags = release.world.host.tags
    for place in [place for place in tags if place[1].endswith(".att")]:
        del tags[place]
    told = release("apply", "--dry-run", code=2)
    assert "no accepted key has signed its provenance (new since the plan was reviewed)" in told
    release("update")
    assert "no accepted key has signed its provenance" in release.path.read_text()


def test_plan_with_a_missing_policy_is_reported(release: Releasing) -> None:
    release.create()
    release.edit("images:", "policy: missing.yaml\nimages:")
    assert "missing.yaml: cannot be read" in release("update", code=2)


def test_apply_sends_signatures_and_attestations(release: Releasing) -> None:
    release.create()
    release.decide()
    release("apply")
    ends = {tag.rpartition(".")[2] for _, tag in release.world.fake.host("ghcr.io").tags if tag.startswith("sha256-")}
    assert {"sig", "att"} <= ends
