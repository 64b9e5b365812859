"""Two releases of a small image: compared, planned, applied by digest, interrupted, resumed, rolled back."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import resolve
from chainbuild.registry.pool import Registries

from .conftest import OWN, PATIENCE, Done, Lay, Place, container_output, docker, kill, write_tree

pytestmark = pytest.mark.timeout(900)

NAMES = 150
"""Number of tags that the killed apply moves: enough to kill it in the middle."""
HOME = "/usr/local/lib/python3.11/dist-packages"


def tree(version: str, text: str) -> dict[str, str]:
    """Return a chain whose only step installs a package, a Python distribution, and a file of no package."""
    return {
        "tools/10-Dockerfile-greet": f"""\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}}
RUN set -e; mkdir -p /tmp/p/DEBIAN /tmp/p/usr/local/bin {HOME}/demo-{version}.dist-info; \\
    printf 'Package: greet\\nVersion: {version}\\nArchitecture: all\\nMaintainer: us <us@example.org>\\nDescription: x\\n' \\
        > /tmp/p/DEBIAN/control; \\
    printf '#!/bin/sh\\necho {text}\\n' > /tmp/p/usr/local/bin/greet; chmod 755 /tmp/p/usr/local/bin/greet; \\
    dpkg-deb --build /tmp/p /tmp/greet.deb; dpkg --install /tmp/greet.deb; rm -r /tmp/p /tmp/greet.deb; \\
    printf 'Name: demo\\nVersion: {version}\\n' > {HOME}/demo-{version}.dist-info/METADATA; \\
    echo {text} > /usr/local/lib/text
ENV GREETING={text}
CMD ["greet"]
""",
        "tools/greet-test": "#!/bin/sh\ngreet\n",
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Releases:
    """A user whose chain was built and released once."""

    place: Place
    public: str

    @property
    def plan(self) -> Path:
        return self.place.root / "release_plan.yaml"

    def run(self, *words: str, code: int = 0) -> Done:
        where = [] if words[0] in {"show", "page"} else ["--registry", self.place.host]
        done = self.place.run("release", *words, *where)
        assert done.code == code, done.told()
        return done

    def decide(self) -> None:
        text = self.plan.read_text().replace("decision: open", "decision: release")
        self.plan.write_text(re.sub(r"accepted:  # .*", "accepted: fine", text))

    def digest(self, tag: str) -> str | None:
        name = ImageReference.parse(f"{self.public}:{tag}")
        with Registries() as registries:
            there = registries.client(name).head(name.repository, tag)
        return str(there.digest) if there else None

    def says(self, tag: str) -> str:
        """Return the output of a container of a released image."""
        name = ImageReference.parse(f"{self.public}:{tag}")
        with Registries() as registries:
            return container_output(resolve(registries, name, Platform.parse(OWN)).reference.pinned).strip()


@pytest.fixture(scope="module")
def releases(lay_once: Lay) -> Iterator[Releases]:
    """Release 1 is published, and the image for release 2 is built."""
    place = lay_once(files=tree("1.0", "hello"))
    public = f"{place.host}/{place.repo}-public/tools"
    made = Releases(place=place, public=public)
    place.build("tools")
    made.run("create", f"{place.repo}:v1-*", "--name", "one", "--to", f"{public}:1", "--to", f"{public}:latest")
    made.decide()
    made.run("apply")
    write_tree(place.root, tree("1.1", "goodbye"))
    place.build("tools")
    yield made
    docker("image", "rm", "--force", *docker("image", "ls", "--quiet", public).stdout.split())


def moved_lines(journal: Path) -> list[bytes]:
    """Return the lines of a journal about moved tags."""
    return [line for line in journal.read_bytes().splitlines() if b'"moved"' in line]


def test_diff_of_two_releases_lists_changed_packages_and_files(releases: Releases) -> None:
    place = releases.place
    words = [f"{releases.public}:latest", f"{place.repo}:v1-tools", "--registry", place.host]
    found = json.loads(place.run("diff", *words, "--json").out)
    assert found["packages"] == [{"name": "greet", "kind": "changed", "before": "1.0", "after": "1.1"}]
    assert found["python"] == [{"name": "demo", "kind": "changed", "before": "1.0", "after": "1.1"}]
    assert [one["name"] for one in found["configuration"]] == ["ENV GREETING"]
    files = {one["name"]: one for one in found["files"]}
    assert files["/usr/local/bin/greet"]["owner"] == "deb:greet:all"
    assert "owner" not in files["/usr/local/lib/text"]
    assert not [name for name in files if name.startswith(("/usr/share", "/etc", "/bin"))], "and nothing else"
    assert found["steps"][0]["name"] == "tools/10-greet"
    assert found["steps"][0]["words"][0].startswith("Dockerfile changed (line")
    told = place.run("diff", *words)
    assert "~ greet 1.0 → 1.1" in told.out, told.told()
    same = place.run("diff", words[0], f"{releases.public}:1", *words[2:])
    assert "no difference" in same.out
    # The images of steps have the database of dpkg, results have the records of minimize: both are read.
    step = place.run("diff", place.base, f"{place.repo}:v1-tools-10-greet-{OWN}", "--registry", place.host)
    assert "+ greet added (1.1)" in step.out, step.told()


def test_apply_publishes_reviewed_image_and_rejects_changed_image(releases: Releases) -> None:
    assert releases.says("latest") == "hello"
    assert releases.digest("1") == releases.digest("latest")
    refused = releases.run("apply", code=2)
    assert re.search(rf"release_plan.yaml:\d+: .*: {OWN} is \w+ now, but \w+ was reviewed", refused.err), refused.told()


def test_killed_apply_is_resumed_and_rollback_restores_tags(releases: Releases) -> None:
    first = releases.digest("latest")
    names = "".join(f"      - {releases.public}:n{number}\n" for number in range(NAMES))
    text = releases.plan.read_text()
    last = f"      - {releases.public}:latest\n"
    text = text.replace(f"      - {releases.public}:1\n", f"      - {releases.public}:2  # fixed\n").replace(
        last, last + names
    )
    releases.plan.write_text(text.replace("release: one", "release: two  # ours"))
    assert "decision set to open" in releases.run("update").err
    text = releases.plan.read_text()
    for kept in ("  # fixed\n", "release: two  # ours\n", "greet 1.0 → 1.1", "demo 1.0 → 1.1", "10-greet test: passed"):
        assert kept in text
    releases.decide()
    assert f"{NAMES + 2} tags would move" in releases.run("apply", "--dry-run").out
    process = releases.place.start("release", "apply", "--registry", releases.place.host)
    folder = releases.place.root / ".chainbuild" / "releases"
    limit = time.monotonic() + PATIENCE
    while not any(b"tools:n1" in line for path in folder.glob("*.jsonl") for line in moved_lines(path)):
        assert time.monotonic() < limit, "the first name never moved"
        time.sleep(0.01)
    kill(process, signal.SIGKILL)
    process.communicate()
    moved = [name for name in ("2", "latest", *(f"n{number}" for number in range(NAMES))) if releases.digest(name)]
    assert 0 < len(moved) - 1 < NAMES + 1, "it was in the middle"
    assert releases.digest("latest") == first, "what moves comes last"
    done = releases.run("apply")
    told = re.search(rf"resuming the run that stopped at .*: (\d+) of {NAMES + 2} names had moved", done.err)
    assert told, done.told()
    assert len(moved) - 1 <= int(told[1]) <= len(moved)
    assert releases.digest("latest") == releases.digest("2") == releases.digest(f"n{NAMES - 1}") != first
    assert releases.says("latest") == "goodbye"
    assert "already up to date" in releases.run("update").out
    rolled = releases.run("rollback")
    assert "1 tag moved" in rolled.out, rolled.told()
    assert releases.digest("latest") == first
    assert releases.says("latest") == "hello"
    assert "1 tag moved" in releases.run("apply").out


def test_unreachable_registry_leaves_tags_unchanged(releases: Releases) -> None:
    """Catch a partial release: all registries are queried before the first tag moves."""
    before = releases.digest("latest")
    text = releases.plan.read_text()
    here, gone = f"{releases.public}:new", "localhost:1/acme/tools:1"
    edited = text.replace(f"      - {releases.public}:2  # fixed\n", f"      - {here}\n      - {gone}\n")
    edited = edited.replace("    replaces:\n", f"    replaces:\n      {here}: nothing\n      {gone}: nothing\n")
    assert edited != text
    releases.plan.write_text(edited)
    try:
        refused = releases.run("apply", code=4)
        assert "localhost:1" in refused.err
        assert (releases.digest("latest"), releases.digest("new")) == (before, None)
    finally:
        releases.plan.write_text(text)


def test_publish_writes_page_and_plan(releases: Releases) -> None:
    done = releases.run("page", "-o", "public")
    page = (releases.place.root / done.out.strip()).read_text()
    assert "greet 1.0 → 1.1" in page
    assert (releases.place.root / "public" / "release_plan.yaml").read_text() == releases.plan.read_text()
