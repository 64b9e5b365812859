"""Failures are reported completely, with place, fix and the right exit code, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chainbuild.local_registry.ports import ask
from tests.support.elf_builder import AMD64, ARM64, library

from .conftest import CASES, OTHER, OWN, Lay, descendants, docker, free_port, push_files

pytestmark = pytest.mark.timeout(900)

BAD = sorted(path.parent for path in (CASES / "bad").glob("*/told.json"))


@pytest.mark.parametrize("case", BAD, ids=[case.name for case in BAD])
def test_bad_tree_reports_all_problems_and_starts_nothing(case: Path, lay: Lay) -> None:
    place = lay(f"bad/{case.name}", managed=True)
    asked: dict[str, Any] = json.loads((case / "told.json").read_bytes())
    words = {
        "platform": "amd64",
        "repo": place.repo,
        "tag": "v1",
        "base": place.base,
        "option": "chain",
        "production": place.production,
    } | asked.get("words", {})
    done = place.run(*words.values(), "--registry-port", str(place.port), *asked.get("flags", ()))
    assert done.code == 2, done.told()
    assert [text for text in asked["told"] if text not in done.err] == [], done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    as_json = place.run(*words.values(), "--registry-port", str(place.port), *asked.get("flags", ()), "--json")
    assert as_json.code == 2
    assert as_json.error["exit_code"] == 2
    assert all(problem["message"] for problem in as_json.error["problems"])
    # No registry, lease, log or temporary file was created.
    assert ask(place.host) == "nothing"
    assert not (place.leases).exists()
    assert not (place.root / ".chainbuild").exists()
    assert not (place.root / "registry").exists()
    assert list(place.temporary.iterdir()) == []


FAILING = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN echo fine
RUN for number in $(seq 1 300); do echo "line $number of the output"; done; sleep 1; \\
    echo "the reason is this" >&2; exit 42
"""


def test_failing_run_shows_line_output_tail_and_log(lay: Lay) -> None:
    place = lay(files={"one/10-Dockerfile-good": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo good > /good\n"})
    (place.root / "one" / "20-Dockerfile-bad").write_text(FAILING, encoding="utf-8")
    (place.root / "one" / "30-Dockerfile-after").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n", encoding="utf-8")
    done = place.run(*place.words("one"))
    assert done.code == 1, done.told()
    assert done.out == ""
    assert "one/20-Dockerfile-bad:4" in done.err
    assert "exited with code 42" in done.err
    for shown in ("the reason is this", "line 300 of the output", "line 295 of the output"):
        assert shown in done.err
    assert "line 5 of the output\n" not in done.err
    log = next(Path(word) for word in done.err.split() if word.endswith(f"{OWN}-one-20-bad.log"))
    whole = log.read_text(encoding="utf-8")
    assert [number for number in range(1, 301) if f"line {number} of the output\n" not in whole] == []
    assert "the reason is this" in whole
    # Finished steps are tagged; the failed step and the steps that depend on it are not.
    assert place.tags() == [f"v1-one-10-good-{OWN}"]
    assert list(place.temporary.iterdir()) == []

    as_json = place.build("one", code=1)
    assert (as_json.built, as_json.reused) == (["20-bad"], ["10-good"])
    assert as_json.error["where"] == "one/20-Dockerfile-bad:4"
    # The order in which a builder forwards its two streams is undefined.
    assert {"the reason is this", "line 300 of the output"} <= set(as_json.error["log_tail"])
    assert Path(as_json.error["log_path"]).is_file()

    # After a fix the run continues with the failed step.
    (place.root / "one" / "20-Dockerfile-bad").write_text(FAILING.replace("exit 42", "exit 0"), encoding="utf-8")
    mended = place.build("one", "--until", "30")
    assert (mended.reused, mended.built) == (["10-good"], ["20-bad", "30-after"])


# QEMU prints its line about an uncaught signal for a crash of its own, and for that of the program. The builder ignores the
# id of a cache mount when it looks for a cached result, so the command has the name, too.
CRASHING = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN --mount=type=cache,id=REPO,target=/state echo "in the foreign step"; : REPO; touch /state/tries; \\
    [ "$(wc -c < /state/tries)" -ge TRIES ] || { echo -n x >> /state/tries; sh -c 'kill -SEGV $$'; }
"""
WHOLE_LINE = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped"


@pytest.mark.parametrize("tries", [1, 2])
def test_step_in_which_qemu_crashed_is_tried_once_more(lay: Lay, tries: int) -> None:
    place = lay()
    text = CRASHING.replace("REPO", place.repo).replace("TRIES", str(tries))
    (place.root / "one").mkdir()
    (place.root / "one" / "10-Dockerfile-crash").write_text(text, encoding="utf-8")
    done = place.build("one", "--until", "10", platform=OTHER, code=0 if tries == 1 else 1)
    crashed = f"QEMU crashed ({WHOLE_LINE}); trying once more"
    assert [event["text"] for event in done.objects if event.get("event") == "message" and "QEMU" in event["text"]] == [
        f"{OTHER}/one/10-crash: {crashed}"
    ]
    log = next((place.root / ".chainbuild").rglob(f"{OTHER}-one-10-crash.log")).read_text(encoding="utf-8")
    lines = [line for line in log.splitlines() if line.endswith("  in the foreign step") or crashed in line]
    assert [crashed in line for line in lines] == [False, True, False], log
    if tries == 1:
        name = f"{place.repo}:v1-one-10-crash-{OTHER}"
        seen = place.run("inspect", name, "--platform", OTHER, "--registry", place.host)
        assert WHOLE_LINE in seen.out, seen.told()
    else:
        assert "QEMU crashed twice while running" in done.error["message"]
        assert place.tags() == []


def test_missing_base_or_base_for_other_platform_is_reported(lay: Lay, registry_host: str) -> None:
    place = lay("steps")
    push_files(f"{registry_host}/{place.repo}-base:1", {"file": b""}, OTHER)
    place.base = f"{registry_host}/{place.repo}-base:1"
    place.production = f"{registry_host}/{place.repo}-base:2"
    done = place.build("chain", code=4)
    assert f"exists, but not for {OWN}; it has: {OTHER}" in done.error["message"]
    assert f"{place.repo}-base:2" in done.error["message"]
    assert done.built == []
    place.base = "localhost:9/no/registry:here"
    done = place.run(*place.words("chain"))
    assert done.code == 4
    assert "no/registry:here" in done.err
    assert "the local image store" in done.err
    assert place.tags(machine=True) == []


def test_unsupported_platform_is_reported_with_fix(lay: Lay, registry_host: str) -> None:
    inspected = docker("buildx", "inspect", "default").stdout
    missing = [name for name in ("s390x", "ppc64le", "riscv64") if f"linux/{name}" not in inspected]
    if not missing:
        pytest.skip("this machine runs every platform")
    place = lay("steps")
    push_files(f"{registry_host}/{place.repo}-base:1", {"file": b""}, missing[0])
    place.base = place.production = f"{registry_host}/{place.repo}-base:1"
    done = place.build("chain", platform=missing[0], code=3)
    assert f"linux/{missing[0]}" in done.error["message"]
    assert "qemu-user-static" in done.error["message"] + done.error["hint"]
    assert done.built == []


def test_unreachable_registry_is_reported(lay: Lay) -> None:
    place = lay("steps", at=f"localhost:{free_port()}")
    done = place.build("chain", code=4)
    assert f"{place.host.partition('/')[0]} refuses connections" in done.error["message"]
    assert done.built == []


def test_missing_docker_command_or_engine_is_reported(lay: Lay, tmp_path: Path) -> None:
    place = lay("steps")
    (tmp_path / "empty").mkdir()
    place.environ = {"PATH": str(tmp_path / "empty")}
    done = place.build("chain", code=3)
    assert "docker" in done.error["message"]
    assert "Traceback" not in done.err
    place.environ = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    done = place.build("chain", code=3)
    assert "cannot reach a Docker Engine" in done.error["message"]


UNPROVEN_STEP = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY lib/ /usr/local/lib/
"""
UNPROVEN_PRODUCTION = """\
ARG PRODUCTION_IMAGE
ARG MINIMIZED_IMAGE
FROM ${MINIMIZED_IMAGE} AS minimized
FROM ${PRODUCTION_IMAGE}
COPY --from=minimized / /
RUN rm /usr/local/lib/libgone.so.1
"""


def test_result_with_missing_libraries_is_not_tagged(lay: Lay) -> None:
    machine = {"amd64": AMD64, "aarch64": ARM64}[OWN]
    future = library("libfuture.so.1", "libc.so.6", machine=machine, needs={"libc.so.6": ["GLIBC_2.99"]})
    place = lay(
        files={
            "one/10-Dockerfile-libraries": UNPROVEN_STEP,
            "utilities/Dockerfile-production": UNPROVEN_PRODUCTION,
            "lib/libgone.so.1": library("libgone.so.1", machine=machine),
            "lib/libuser.so.1": library("libuser.so.1", "libgone.so.1", machine=machine),
            "lib/libfuture.so.1": future,
        }
    )
    done = place.build("one", code=5, load=True)
    assert done.error["error"] == "NotProvenError"
    findings = "\n".join(done.error["findings"])
    for name in ("libuser.so.1", "libgone.so.1", "libfuture.so.1", "GLIBC_2.99"):
        assert name in findings, findings
    (verdict,) = [one for one in done.events("verdict") if one["proof"] == "libraries"]
    assert (verdict["step"], verdict["passed"]) == (f"{OWN}/one/production", False)
    assert place.tags() == [f"v1-one-10-libraries-{OWN}", f"v1-one-minimized-{OWN}"]
    assert docker("image", "inspect", f"{place.repo}:v1-one-{OWN}").returncode != 0
    # The image is not recorded as built, so the next run checks it again and reports the same.
    again = place.run(*place.words("one"))
    assert again.code == 5, again.told()
    assert "GLIBC_2.99" in again.err
    assert "libgone.so.1" in again.err


def test_killed_builder_process_is_reported_as_build_failure(lay: Lay) -> None:
    """Catch a run that reports a bug, or hangs, if another process kills the build."""
    place = lay(files={"one/10-Dockerfile-slow": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN sleep 240\n"})
    process = place.start(*place.words("one", "--json"))

    def builds() -> list[int]:
        table = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
        mine = descendants(process.pid)
        pairs = (line.split(None, 1) for line in table.splitlines())
        return [int(pid) for pid, args in pairs if int(pid) in mine and "buildx" in args and "rawjson" in args]

    assert process.stdout is not None
    for line in process.stdout:
        if '"step_progress"' in line and "RUN sleep" in line:
            break
    killed = builds()
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "bug" not in err
