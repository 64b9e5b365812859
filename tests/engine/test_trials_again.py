"""`chainbuild test`: the tests of a build run again, for real, in the images of the chain registry."""

from __future__ import annotations

import json

import pytest

from .conftest import OWN, Done, Lay, Place, write_tree

pytestmark = pytest.mark.timeout(900)

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
TREE = {
    "chain/10-Dockerfile-one": STEP + "RUN mkdir -p /usr/local/lib/chain && echo one > /usr/local/lib/chain/one\n",
    "chain/one-test": "#!/bin/sh\ngrep -q one /usr/local/lib/chain/one\n",
    "chain/20-Dockerfile-two": STEP + "RUN echo two > /usr/local/lib/chain/two\n",
    "chain/production-test": "#!/bin/sh\nset -e\ncat /usr/local/lib/chain/*\ntest ! -e /gone\n",
}


@pytest.fixture(scope="module")
def place(lay_once: Lay) -> Place:
    """A built chain; each test restores the files that it changes."""
    place = lay_once(files=TREE)
    place.build("chain")
    return place


def again(place: Place, target: str, *words: str) -> Done:
    return place.run("test", target, *words, "--registry", place.host)


def verdicts(done: Done) -> dict[str, bool]:
    return {str(event["step"]).rpartition("/")[2]: event["passed"] for event in done.events("verdict")}


def test_option_is_retested_by_arguments_or_last_run(place: Place) -> None:
    for words in ((OWN, place.repo, "v1"), ()):
        done = again(place, "chain", *words, "--json")
        assert done.code == 0, done.told()
        assert verdicts(done) == {"10-one": True, "production": True}
        assert done.steps("step_finished") == ["10-one", "production"]
    plain = again(place, "chain", "--plain")
    assert "one-test passed" in plain.err
    assert "tested" in plain.err


def test_failing_retest_is_recorded_and_run_by_the_next_build(place: Place) -> None:
    stricter = "#!/bin/sh\necho looking for three\ngrep three /usr/local/lib/chain/one\n"
    write_tree(place.root, {"chain/one-test": stricter})
    done = again(place, "chain", "--json")
    assert done.code == 5, done.told()
    assert verdicts(done) == {"10-one": False, "production": True}
    assert "looking for three" in done.error["findings"]
    told = place.run("inspect", f"{place.host}/{place.repo}:v1-chain-10-one-{OWN}", "--registry", place.host, "--json")
    (crumb,) = json.loads(told.out)["trail"]
    assert crumb["record"]["verdicts"]["test"].startswith("failed sha256:")
    failed = place.build("chain", code=5)
    assert failed.built == ["10-one"], "only its test is run"
    write_tree(place.root, {"chain/one-test": TREE["chain/one-test"]})
    assert again(place, "chain", "--json").code == 0
    fine = place.build("chain")
    assert (fine.built, fine.reused) == ([], ["10-one", "20-two", "minimize", "production"])


def test_image_is_tested_with_test_of_its_step_or_given_test(place: Place) -> None:
    name = f"{place.host}/{place.repo}"
    for tag, step in ((f"v1-chain-{OWN}", "production"), (f"v1-chain-10-one-{OWN}", "10-one")):
        done = again(place, f"{name}:{tag}", "--json")
        assert done.code == 0, done.told()
        assert verdicts(done) == {step: True}
    missing = again(place, f"{name}:v1-chain-20-two-{OWN}")
    assert missing.code == 2, missing.told()
    assert "chain/two-test" in missing.err
    write_tree(place.root, {"mine": "#!/bin/sh\ntest -e /etc/os-release\n", "other": "#!/bin/sh\nexit 3\n"})
    assert again(place, place.base, "--with", "mine", "--plain").code == 0
    other = again(place, place.base, "--with", "other", "--plain")
    assert other.code == 5, other.told()
    assert "the test other failed" in other.err


def test_missing_images_are_reported_together(place: Place) -> None:
    done = again(place, "chain", OWN, place.repo, "v2")
    assert done.code == 4, done.told()
    assert "v2-chain-10-one" in done.err
    assert f"v2-chain-{OWN}" in done.err
