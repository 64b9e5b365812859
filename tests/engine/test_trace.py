"""The traced proof: files that the tests use in the chain's image are in the production image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from chainbuild.values import replace

from .conftest import OTHER, OWN, Done, Lay, Place, write_tree

pytestmark = pytest.mark.timeout(900)

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
TEST = """#!/bin/sh
set -e
# A data file by a path that is made at run time, relative to a folder that is entered.
kind=colours
cd /usr/share
cat ./$kind/table >/dev/null
# A program that executes a helper, in another process.
/usr/local/bin/greet &
wait $!
# A folder of plugins that is listed, and read in several processes.
ls /srv/plugins | while read -r name; do cat "/srv/plugins/$name" & done >/dev/null
wait
# What the test itself makes, and takes away again.
mkdir /srv/made && echo made >/srv/made/file && cat /srv/made/file >/dev/null && rm -r /srv/made
# Probes: for what is nowhere, and for what the chain alone has.
cat /etc/greet.conf 2>/dev/null || true
if [ -e /usr/share/compiler/specs ]; then :; fi
"""
TREE = {
    "tools/10-Dockerfile-data": (
        f"{STEP}"
        "RUN mkdir -p /usr/share/colours /usr/share/compiler /usr/libexec/greet /srv/plugins \\\n"
        " && echo red >/usr/share/colours/table && echo blue >/usr/share/colours/unused \\\n"
        " && echo specs >/usr/share/compiler/specs \\\n"
        " && for n in 1 2 3 4; do echo $n >/srv/plugins/plugin-$n; done \\\n"
        " && printf '#!/bin/sh\\necho hello\\n' >/usr/libexec/greet/say && chmod 755 /usr/libexec/greet/say \\\n"
        " && printf '#!/bin/sh\\nexec /usr/libexec/greet/say\\n' >/usr/local/bin/greet && chmod 755 /usr/local/bin/greet\n"
    ),
    "tools/production-test": TEST,
}
MISSING = {
    "/srv/plugins": "listed",
    "/srv/plugins/plugin-1": "opened",
    "/srv/plugins/plugin-2": "opened",
    "/srv/plugins/plugin-3": "opened",
    "/srv/plugins/plugin-4": "opened",
    "/usr/libexec/greet/say": "executed",
    "/usr/share/colours/table": "opened",
}
LINE = "ADDITIONAL_FILES=/srv/plugins /usr/libexec/greet/say /usr/share/colours/table"


@pytest.fixture(scope="module")
def refused(lay_once: Lay) -> tuple[Place, Done]:
    """A chain whose production image lacks files that its test uses."""
    place = lay_once(files=TREE)
    return place, place.build("tools", code=5)


def traced(done: Done) -> dict[str, Any]:
    """Return the verdict of the traced proof."""
    (verdict,) = (event for event in done.events("verdict") if event["proof"] == "trace")
    return verdict


def copy_of(place: Place, tmp_path: Path, files: dict[str, str]) -> Place:
    """Return a copy of the user's tree with these files."""
    shutil.copytree(place.root, tmp_path / "tree")
    write_tree(tmp_path / "tree", files)
    return replace(place, root=tmp_path / "tree", home=tmp_path / "home")


def test_missing_files_fail_the_build_with_fix(refused: tuple[Place, Done]) -> None:
    place, done = refused
    assert traced(done)["passed"] is False
    paths = {line.partition(",")[0]: line for line in done.error["findings"]}
    assert set(paths) == set(MISSING), done.told()
    assert "of no package: executed by /usr/local/bin/greet (production-test)" in paths["/usr/libexec/greet/say"]
    assert LINE in done.error["hint"]
    assert f"v1-tools-{OWN}" not in place.tags()


def test_changed_test_that_uses_fewer_files_passes(refused: tuple[Place, Done], tmp_path: Path) -> None:
    place = copy_of(refused[0], tmp_path, {"tools/production-test": "#!/bin/sh\ntest ! -e /usr/share/compiler\n"})
    # The test fails in the chain's image, so the production image is not at fault.
    done = place.build("tools", tag="less")
    verdict = traced(done)
    assert verdict["passed"] is True
    (warning,) = (
        one["text"] for event in done.events("step_warnings") for one in event["warnings"] if one["kind"] == "trace"
    )
    assert warning.startswith("production-test fails (exit code 1) in the chain's image, so it proves nothing")


def test_proof_is_skipped_if_turned_off(refused: tuple[Place, Done], tmp_path: Path) -> None:
    files = {f"tools/production-{OWN}-args": "PROVE_TRACE=0\n", "tools/production-test": "#!/bin/sh\n"}
    place = copy_of(refused[0], tmp_path, files)
    done = place.build("tools", tag="off")
    assert [event["proof"] for event in done.events("verdict")] == ["libraries", "configuration", "test"]


def trace(place: Place, *words: str, code: int = 0) -> Done:
    done = place.run("minimize", "trace", "--registry", place.host, "tools", *words)
    assert done.code == code, done.told()
    return done


def test_trace_writes_the_fix_and_the_next_build_passes(refused: tuple[Place, Done], tmp_path: Path) -> None:
    place = copy_of(refused[0], tmp_path, {})
    words = (OWN, place.repo, "v1")
    told = trace(place, *words, code=5)
    assert f"add to tools/minimize-{OWN}-args: {LINE}" in told.out, told.told()
    (image,) = json.loads(trace(place, *words, "--json", code=5).out)["images"]
    assert {row["path"]: row["action"] for row in image["missing"]} == MISSING
    assert image["status"]["chain"] == "0"
    assert not (place.root / "tools" / f"minimize-{OWN}-args").exists()
    trace(place, *words, "--write")
    assert (place.root / "tools" / f"minimize-{OWN}-args").read_text(encoding="utf-8") == f"{LINE}\n"
    done = place.build("tools")
    verdict = traced(done)
    assert verdict["passed"] is True
    number, word = str(verdict["summary"]).split()
    assert (int(number) >= len(MISSING), word) == (True, "paths")
    again = place.build("tools")
    assert (again.built, again.events("verdict")) == ([], [])
    told = place.run("inspect", f"{place.host}/{place.repo}:v1-tools-{OWN}", "--registry", place.host)
    assert f"trace: {verdict['summary']}" in told.out, told.told()
    # Trace another command in the images of the last run: the other files that it opens are missing.
    other = trace(place, "--", "/bin/cat", "/usr/share/colours/unused", code=5)
    assert "/usr/share/colours/unused (opened by /bin/cat)" in other.out
    trace(place, "--", "/bin/cat", "/usr/share/colours/table")


def test_emulated_chain_is_traced_like_a_native_chain(lay: Lay) -> None:
    place = lay(files=TREE)
    done = place.build("tools", platform=OTHER, code=5)
    paths = {line.partition(",")[0] for line in done.error["findings"]}
    assert paths == set(MISSING), done.told()
    # Trace a command whose files are all present, in the image that failed the proof.
    trace(place, OTHER, place.repo, "v1", "--", "/bin/cat", "/etc/passwd")


def test_image_without_a_shell_is_traced(lay: Lay) -> None:
    tree = {
        "tools/10-Dockerfile-file": (
            f"{STEP}RUN apt-get update && apt-get install -y --no-install-recommends file"
            " && rm -rf /var/lib/apt/lists/* && mkdir /usr/share/colours && echo red >/usr/share/colours/table\n"
        ),
        "tools/20-Dockerfile-bare": f"{STEP}RUN rm -f /bin/bash /bin/dash /bin/sh\n",
        "tools/production-test": '#!/usr/bin/perl\nopen(my $table, "<", "/usr/share/" . "colours/table") or die;\n',
        f"tools/minimize-{OWN}-args": (
            "# What is kept\r\nKEEP_SURROUNDINGS=0\r\nADDITIONAL_FILES=?/usr/share/none,/usr/bin/file\r\n"
        ),
    }
    place = lay(files=tree)
    done = place.build("tools", code=5)
    (finding,) = done.error["findings"]
    table = "/usr/share/colours/table, of no package: opened by production-test (production-test)"
    assert finding == table, done.told()
    # A real program that opens data of another package through a link.
    told = trace(place, OWN, place.repo, "v1", "--", "/usr/bin/file", "/etc/adduser.conf", code=5)
    assert "the Debian package libmagic-mgc" in told.out, told.told()
    assert "magic.mgc (opened by /usr/bin/file)" in told.out
    trace(place, OWN, place.repo, "v1", "--write")
    content = (place.root / "tools" / f"minimize-{OWN}-args").read_bytes()
    start = b"# What is kept\r\nKEEP_SURROUNDINGS=0\r\nADDITIONAL_FILES=?/usr/share/none,/usr/bin/file"
    assert content == start + b",/usr/share/colours/table\r\n"
