"""Steps that nobody can reuse are built in one solve: the same images and records as with one call for each step."""

from __future__ import annotations

import os
import signal
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chainbuild.values import replace

from .conftest import LINKS, OTHER, OWN, Done, Lay, Place

pytestmark = pytest.mark.timeout(900)

NUMBERS = range(10, 110, 10)
NAMES = [f"{number}-s{number}" for number in NUMBERS]
ALONE = "--deadline=9h"
"""Steps that were never timed are built one at a time before a deadline."""


def dockerfile(number: int, *more: str) -> str:
    """Return a step whose result is the same each time, whatever its salt is."""
    folder = "/usr/local/share/steps"
    return (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG SALT=none\n"
        + "".join(f"{line}\n" for line in more)
        + f"RUN --mount=type=bind,source=context/{number},target=/mnt mkdir -p {folder}"
        f" && cp /mnt/content {folder}/{number} && cp /mnt/content /srv/{number} && echo salt $SALT"
        f" && touch -h -d @0 {folder}/* /srv/* {folder} /usr/local/share /usr/local /srv\n"
        f"ENV STEP={number}\n"
    )


def tree(**changed: str) -> dict[str, str]:
    """Return ten steps; `changed` has other Dockerfiles, by `s` and the step's number."""
    files = {f"chain/{number}-Dockerfile-s{number}": dockerfile(number) for number in NUMBERS}
    files |= {f"context/{number}/content": f"content {number}\n" for number in NUMBERS}
    return files | {f"chain/{name[1:]}-Dockerfile-{name}": text for name, text in changed.items()}


def words(place: Place, *flags: str, platform: str = OWN) -> list[str]:
    salt = ("--build-arg", f"SALT={place.repo}")
    return place.words("chain", "--json", "--no-load", "--until", "100", *salt, *flags, platform=platform)


def build(place: Place, *flags: str, code: int = 0) -> Done:
    done = place.run(*words(place, *flags))
    assert done.code == code, done.told()
    return done


def is_one_solve(done: Done, names: list[str]) -> bool:
    """Return whether each of these steps began before the image of the one before it was finished."""
    return all_linked(done.objects, names)


def all_linked(objects: list[dict[str, Any]], names: list[str]) -> bool:
    events = [one for one in objects if "event" in one and "step" in one]
    times = {(one["event"], one["step"].rpartition("/")[2]): one["at"] for one in events}
    return all(times["step_started", above] < times["step_finished", below] for below, above in pairwise(names))


def identities(place: Place, platform: str = OWN) -> list[tuple[object, ...]]:
    configs = [place.image(f"v1-chain-{name}-{platform}", platform).config for name in NAMES]
    return [(config.diff_ids, config.env, config.working_dir, config.user, config.cmd) for config in configs]


def elsewhere(place: Place, name: str) -> Place:
    """Return the same tree with another repository, with nothing in it and another salt."""
    return replace(place, repo=f"{place.repo}/{name}", registry=f"{place.registry}/{name}")


def test_ten_steps_in_one_solve_equal_ten_calls(lay: Lay) -> None:
    place = lay(files=tree())
    done = build(place)
    assert done.built == NAMES
    assert is_one_solve(done, NAMES) is LINKS
    single = elsewhere(place, "single")
    alone = build(single, ALONE)
    assert alone.built == NAMES
    assert not is_one_solve(alone, NAMES)
    assert identities(place) == identities(single)
    for below, above in pairwise(NAMES):
        images = [place.image(f"v1-chain-{name}-{OWN}") for name in (below, above)]
        layers = [[layer.digest for layer in image.layers] for image in images]
        assert layers[1][: len(layers[0])] == layers[0]
    again = build(place)
    assert again.built == []
    assert again.reused == NAMES
    # Every step has its own time, which is not that of the whole solve.
    seconds = {event["step"]: event["seconds"] for event in done.events("step_finished")}
    assert max(seconds.values()) < done.events("run_finished")[0]["seconds"]


def test_kills_during_a_solve_lose_at_most_one_finished_step(lay: Lay) -> None:
    place = lay(files=tree())
    build(elsewhere(place, "whole"))
    expected = identities(elsewhere(place, "whole"))
    for started in (2, 4, 6, 8, 10):
        killed = elsewhere(place, f"killed-{started}")
        process = killed.start(*words(killed))
        assert process.stdout is not None
        begun = 0
        for line in process.stdout:
            begun += '"step_started"' in line
            if begun == started:
                process.send_signal(signal.SIGKILL)
                break
        _ended(process)
        done = build(killed)
        # Of the steps that had begun, one was running, and the image of the one below it was on its way.
        assert len(done.reused) >= started - 2, done.told()
        assert done.built == NAMES[len(done.reused) :]
        assert identities(killed) == expected


def _ended(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    process.wait(timeout=300)


def test_cut_off_within_a_solve_reuses_the_rest(lay: Lay) -> None:
    place = lay(files=tree())
    build(place)
    _write(place, tree(**{f"s{number}": dockerfile(number, "RUN true") for number in NUMBERS[3:]}))
    assert build(place).built == NAMES[3:]
    # The newest records are those of other Dockerfiles, and the third step has its old content.
    third = dockerfile(30).replace("mkdir -p", "true && mkdir -p")
    _write(place, tree(s30=third))
    done = build(place)
    assert done.built == ["30-s30"]
    assert done.reused == [name for name in NAMES if name != "30-s30"]


def test_step_in_the_middle_is_solved_with_those_after_it(lay: Lay) -> None:
    place = lay(files=tree())
    build(place)
    _write(place, tree(s60=dockerfile(60, "RUN echo other > /srv/other")))
    done = build(place)
    assert done.reused == NAMES[:5]
    assert done.built == NAMES[5:]
    assert is_one_solve(done, NAMES[5:]) is LINKS


@pytest.mark.parametrize("flags", [(), ("--keep-going",)])
def test_failure_in_a_solve_is_the_steps_own(lay: Lay, flags: tuple[str, ...]) -> None:
    # The image of the step before the failure takes longer to export than the failure takes to come.
    big = "RUN head -c 60000000 /dev/urandom > /srv/big"
    fails = dockerfile(50, "RUN echo the reason is this && exit 7")
    place = lay(files=tree(s40=dockerfile(40, big), s50=fails))
    done = build(place, *flags, code=1)
    assert done.steps("step_finished") == NAMES[:4]
    assert done.built == NAMES[:5]
    assert [event["step"] for event in done.events("step_failed")] == [f"{OWN}/chain/50-s50"]
    assert [event["step"].rpartition("/")[2] for event in done.events("step_skipped")] == NAMES[5:]
    assert "exited with code 7" in done.error["message"]
    assert "chain/50-Dockerfile-s50:4" in str(done.error)
    log = next((place.root / ".chainbuild" / "logs" / "latest").glob("*50-s50.log")).read_text(encoding="utf-8")
    assert "the reason is this" in log
    assert place.tags() == [f"v1-chain-{name}-{OWN}" for name in NAMES[:4]]
    (place.root / "chain" / "50-Dockerfile-s50").write_text(dockerfile(50), encoding="utf-8")
    again = build(place, *flags)
    assert again.reused == NAMES[:4]
    assert is_one_solve(again, NAMES[4:]) is LINKS


def test_secrets_and_literal_args_reach_a_linked_step(lay: Lay) -> None:
    run = 'RUN --mount=type=secret,id=token sha256sum < /run/secrets/token > /srv/sum && echo "$WORD" > /srv/word'
    place = lay(files=tree(s20=dockerfile(20, "ARG WORD", run)))
    secret = place.home / "secret"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text("hush-4711\n")
    word = '${STEP} %{x} $(y) "quoted"'
    done = build(place, "--secret", f"id=token,src={secret}", "--build-arg", f"WORD={word}")
    assert is_one_solve(done, NAMES) is LINKS
    assert place.output(f"v1-chain-100-s100-{OWN}", "cat", "/srv/word").strip() == word
    logs = place.root / ".chainbuild"
    assert not [path for path in logs.rglob("*") if path.is_file() and "hush-4711" in path.read_text(encoding="utf-8")]


def test_two_platforms_have_a_solve_each(lay: Lay) -> None:
    start = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
    copies = {f"s{number}": f"{start}ARG SALT\nCOPY context/{number}/content /srv/{number}\n" for number in NUMBERS}
    place = lay(files=tree(**copies))
    done = place.run(*words(place, platform=f"{OWN},{OTHER}"))
    assert done.code == 0, done.told()
    for platform in (OWN, OTHER):
        objects = [one for one in done.objects if str(one.get("step", "")).startswith(f"{platform}/")]
        assert all_linked(objects, NAMES) is LINKS
    assert [identity[1:] for identity in identities(place)] == [identity[1:] for identity in identities(place, OTHER)]


def test_interrupt_during_a_solve_keeps_finished_steps(lay: Lay) -> None:
    slow = 'RUN echo "the slow one, $SALT" && test -e /etc/no-such-file || sleep 300'
    place = lay(files=tree(s50=dockerfile(50, slow)))
    process = place.start(*words(place))
    assert process.stdout is not None
    seen = {"slow": False, "finished": 0}
    for line in process.stdout:
        seen["slow"] |= '"log_line"' in line and "the slow one" in line
        seen["finished"] += '"step_finished"' in line
        if seen["slow"] and seen["finished"] == 4:
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    (place.root / "chain" / "50-Dockerfile-s50").write_text(dockerfile(50), encoding="utf-8")
    assert build(place).reused == NAMES[:4]


def _write(place: Place, files: dict[str, str]) -> None:
    for name, text in files.items():
        path: Path = place.root / name
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
