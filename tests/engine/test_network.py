"""Remote content of ADD and of contexts is queried at plan time, as BuildKit does in every build."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import OWN, Lay, Place

pytestmark = pytest.mark.timeout(600)

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"


@dataclass
class Site:
    """A web server on this machine for the files of a folder."""

    folder: Path
    address: str
    server: http.server.ThreadingHTTPServer

    def put(self, name: str, text: str) -> None:
        """Write a file, always with the same date."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        import os

        os.utime(path, (1_577_836_800, 1_577_836_800))

    def commit(self, text: str) -> None:
        """Commit a file to the repository `r.git`, which is served as files."""
        work = self.folder / "work"

        def git(*arguments: str, folder: Path = work) -> None:
            who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
            subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

        if not work.exists():
            work.mkdir()
            git("init", "--initial-branch=main", ".")
            git("clone", "--bare", ".", str(self.folder / "r.git"))
        (work / "f").write_text(text, encoding="utf-8")
        git("add", "f")
        git("commit", "--message", text)
        git("push", str(self.folder / "r.git"), "main")
        git("update-server-info", folder=self.folder / "r.git")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Site(folder=folder, address=f"http://127.0.0.1:{server.server_port}", server=server)
    server.shutdown()
    server.server_close()


def built(place: Place, *flags: str) -> list[str]:
    return place.build("opt", "--until", "10", *flags).built


def made(place: Place) -> str:
    return place.output(f"v1-opt-10-a-{OWN}", "cat", "/made").strip()


def test_changed_content_of_added_url_is_rebuilt(lay: Lay, site: Site) -> None:
    """Catch a change with the same date and size; on the commit before, the first answer was reused forever."""
    salt = time.time_ns()
    site.put("f", "AAAA")
    place = lay(files={"opt/10-Dockerfile-a": f"{STEP}RUN echo {salt}\nADD {site.address}/f /made\n"})
    assert built(place) == ["10-a"]
    assert built(place) == []
    site.put("f", "BBBB")
    assert f"remote content {site.address}/f changed" in place.run("plan", *place.words("opt", "--until", "10")).out
    assert built(place) == ["10-a"]
    assert made(place) == "BBBB"
    site.put("f", "AAAA")
    assert built(place) == []


def test_new_commits_on_remote_branches_are_rebuilt(lay: Lay, site: Site) -> None:
    salt = time.time_ns()
    site.commit("one")
    lines = f"RUN echo {salt}\nADD {site.address}/r.git#main /added\nCOPY --from=src f /made\n"
    place = lay(files={"opt/10-Dockerfile-a": STEP + lines})
    flags = ("--build-context", f"src={site.address}/r.git#main")
    assert built(place, *flags) == ["10-a"]
    assert built(place, *flags) == []
    site.commit("two")
    assert built(place, *flags) == ["10-a"]
    assert made(place) == "two"
    assert place.output(f"v1-opt-10-a-{OWN}", "cat", "/added/f").strip() == "two"


def test_unreachable_url_is_reported_and_step_is_not_reused(lay: Lay, site: Site) -> None:
    site.put("f", "AAAA")
    place = lay(files={"opt/10-Dockerfile-a": f"{STEP}ADD {site.address}/f /made\n"})
    assert built(place) == ["10-a"]
    site.server.shutdown()
    site.server.server_close()
    plan = place.run("plan", *place.words("opt", "--until", "10"))
    assert f"could not query {site.address}/f" in plan.out
    assert "refuses connections" in plan.out
    assert place.build("opt", "--until", "10", "--no-cache", code=1).built == ["10-a"]


def test_selected_step_builds_on_the_parent_image_of_the_plan(lay: Lay) -> None:
    """Catch the newest record being used although it belongs to an edit of the first step that was undone."""
    salt = time.time_ns()
    good, bad = (f"{STEP}RUN echo {text} {salt} > /made\n" for text in ("good", "bad"))
    place = lay(files={"opt/10-Dockerfile-a": good, "opt/20-Dockerfile-b": f"{STEP}RUN cp /made /copied\n"})
    place.build("opt", "--until", "20")
    first = place.root / "opt" / "10-Dockerfile-a"
    first.write_text(bad, encoding="utf-8")
    place.build("opt", "--until", "10", tag="dev")
    first.write_text(good, encoding="utf-8")
    (place.root / "opt" / "20-Dockerfile-b").write_text(f"{STEP}RUN cp /made /copied2\n", encoding="utf-8")
    done = place.build("opt", "--only", "20")
    assert (done.built, done.reused) == (["20-b"], ["10-a"])
    assert place.output(f"v1-opt-20-b-{OWN}", "cat", "/copied2").startswith("good")
    # If these inputs were never built, the image of this TAG is used, not a newer image of another TAG.
    first.write_text(f"{STEP}RUN echo other {salt} > /made\n", encoding="utf-8")
    (place.root / "opt" / "20-Dockerfile-b").write_text(f"{STEP}RUN cp /made /copied3\n", encoding="utf-8")
    done = place.build("opt", "--only", "20")
    assert f"image of v1-opt-10-a-{OWN}, built 20" in done.reasons["10-a"]
    assert place.output(f"v1-opt-20-b-{OWN}", "cat", "/copied3").startswith("good")
    done = place.build("opt", "--only", "20", tag="v3")
    assert "newest image, built 20" in done.reasons["10-a"]
    assert any("newest image of any TAG" in event["text"] for event in done.events("message"))


def test_other_repo_with_push_reuses_every_step(lay: Lay, nothing_image: str) -> None:
    """Catch a step key that includes REPO: existing images are only tagged again and pushed."""
    place = lay("steps", production=nothing_image)
    first = place.build("chain")
    other = f"{place.host}-pushed/lab/robot"
    place.repo = other
    words = place.words("chain", "--json", "--push")
    done = place.run(*words)
    assert done.code == 0, done.told()
    assert done.built == []
    assert len(done.reused) == len(first.built)
    assert any(event["text"] == f"pushed {other}:v1-chain-{OWN}" for event in done.events("message"))
