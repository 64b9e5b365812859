"""The example of science and compat layers on a real engine: images, tags, reuse, interruption."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chainbuild.errors import ChainbuildError
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

from .conftest import OWN, Done, Lay, Place, container_output, eventually, kill

pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "science"
SCIENCE = ["nist-basic", "nist-plots", "nist-basic-2"]
COMPAT = ["nist-1.0", "nist-2.0"]


def git(root: Path, *words: str) -> str:
    argv = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def commit(place: Place, files: Mapping[str, str] | None = None) -> str:
    """Write files and commit the layers; return `COUNT-HASH`."""
    for name, text in (files or {}).items():
        (place.root / name).write_text(text)
    if not (place.root / ".git").exists():
        git(place.root, "init", "--quiet", "--initial-branch=main")
    git(place.root, "add", "science", "compat")
    git(place.root, "commit", "--quiet", "--allow-empty", "--message=x")
    return f"{git(place.root, 'rev-list', '--count', 'HEAD')}-{git(place.root, 'log', '-1', '--format=%h')}"


def lay_example(lay: Lay) -> Place:
    place = lay()
    for kind in ("science", "compat"):
        shutil.copytree(EXAMPLE / kind, place.root / kind)
    return place


def words(place: Place, command: str, *flags: str) -> list[str]:
    return ["science", command, "--repo", place.repo, "--registry", place.host, "--platform", OWN, *flags]


def build(place: Place, *flags: str, code: int = 0) -> Done:
    done = place.run(*words(place, "build", "--json", *flags))
    assert done.code == code, done.told()
    return done


def image(place: Place, name: str) -> RemoteImage:
    with Registries() as registries:
        return resolve(registries, ImageReference.parse(f"{place.host}/{place.repo}/{name}"), Platform.parse(OWN))


def names(place: Place) -> dict[str, str]:
    """Return the tags of the released images with their digests."""
    found: dict[str, str] = {}
    with Registries() as registries:
        for below in ("sci/nist-basic", "sci/nist-plots", "sci/nist-basic-2", "rel/nist"):
            name = ImageReference.parse(f"{place.host}/{place.repo}/{below}")
            client = registries.client(name)
            for tag in client.tags(name.repository):
                there = client.head(name.repository, tag)
                found[f"{below}:{tag}"] = str(there.digest) if there else ""
    return found


def identities(place: Place) -> dict[str, Any]:
    """Return the content of the final images, without the metadata of the build."""
    found = {}
    for name in ("rel/nist:1.0", "rel/nist:2.0"):
        config = image(place, name).config
        found[name] = ([str(one) for one in config.diff_ids], config.cmd, config.user, config.working_dir)
    return found


@pytest.fixture(scope="module")
def first(lay_once: Lay) -> tuple[Place, Done, str]:
    """The example, committed and built once."""
    place = lay_example(lay_once)
    state = commit(place)
    return place, build(place), state


def copy_of(first: tuple[Place, Done, str], tmp_path: Path) -> Place:
    """Return a copy of the user's tree with the same registry."""
    place = first[0]
    shutil.copytree(place.root, tmp_path / "tree", symlinks=True)
    return replace(place, root=tmp_path / "tree", home=tmp_path / "home")


def test_example_is_built_in_order(first: tuple[Place, Done, str]) -> None:
    place, done, _ = first
    assert done.built == [*SCIENCE, *COMPAT]
    assert git(place.root, "status", "--porcelain", "--", "science", "compat") == ""


def test_example_images_run(first: tuple[Place, Done, str]) -> None:
    place, _, state = first
    for version in ("1.0", "2.0"):
        local = f"{place.repo}/rel/nist:{version}"
        assert container_output(local) == f"welcome\nnotebook of nist:{version}-{state}\n"
        assert container_output(local, "sh", "-c", "id -un; pwd") == "idies\n/home/idies\n"
    assert container_output(f"{place.repo}/rel/nist:2.0", "constant", "e") == "1.602176634e-19 C\n"


def test_example_images_have_tags_and_version_labels(first: tuple[Place, Done, str]) -> None:
    place, _, state = first
    found = names(place)
    images = {"sci/nist-basic": "1.0", "sci/nist-plots": "1.0", "sci/nist-basic-2": "2.0"}
    expected = [f"{name}:{version}" for name, version in images.items()] + ["rel/nist:1.0", "rel/nist:2.0"]
    assert set(found) == {f"{name}{end}" for name in expected for end in ("", f"-{OWN}", f"-{state}")}
    assert all(found[name] == found[f"{name}-{state}"] for name in expected)
    labels = dict(image(place, "rel/nist:2.0").config.labels)
    assert {key: value for key, value in labels.items() if key.endswith(".version")} == {
        "org.sciserver.compat.version": f"nist:2.0-{state}",
        "org.sciserver.science.nist-basic.version": f"1.0-{state}",
        "org.sciserver.science.nist-plots.version": f"1.0-{state}",
        "org.sciserver.science.nist-basic-2.version": f"2.0-{state}",
    }


def test_other_machine_reuses_every_layer(first: tuple[Place, Done, str], tmp_path: Path) -> None:
    place = copy_of(first, tmp_path)
    before = names(place)
    for path in sorted(place.root.rglob("*")):
        if ".git" not in path.parts:
            path.touch()
    done = build(place, "--no-cache", "--no-load")
    assert (done.built, done.reused) == ([], [*SCIENCE, *COMPAT])
    assert names(place) == before
    plan = place.run(*words(place, "plan", "--fail-if-build"))
    assert plan.code == 0, plan.told()


def test_plan_lists_final_images_first(first: tuple[Place, Done, str], tmp_path: Path) -> None:
    place = copy_of(first, tmp_path)
    commit(place, {"compat/common/welcome.txt": "good morning\n"})
    short = place.run(*words(place, "plan")).out
    assert f"{place.repo}/rel/nist:1.0" in short
    assert "sci/" not in short
    assert "0 science builds and 2 compat builds, 3 reused" in short
    with_layers = place.run(*words(place, "plan", "-v")).out
    assert with_layers.index("/rel/nist:2.0") < with_layers.index("/sci/nist-basic:1.0")
    merged = place.run(*words(place, "plan", "-vv")).out
    assert merged.index("FROM sci/nist-plots:1.0") < merged.index("RUN useradd") < merged.index("COPY notebook.html")
    assert "ENV SCISERVER_IMAGE=nist:1.0" in merged
    document = json.loads(place.run(*words(place, "plan", "--json", "--ref", "HEAD^")).out)
    assert [step["action"] for step in document["steps"]].count("build") == 2


def test_comment_change_in_science_layer_rebuilds_only_that_layer(
    first: tuple[Place, Done, str], tmp_path: Path
) -> None:
    """Catch a rebuild of later layers although the output of the changed layer is the same (early cut-off)."""
    place = copy_of(first, tmp_path)
    before = names(place)
    path = place.root / "science/nist-basic/Dockerfile"
    commit(place, {"science/nist-basic/Dockerfile": f"# only a comment\n{path.read_text()}"})
    done = build(place, "--no-load")
    assert done.built == ["nist-basic"]
    assert names(place)["rel/nist:2.0"] == before["rel/nist:2.0"]


def test_failed_layer_reports_its_line_and_releases_nothing(first: tuple[Place, Done, str], tmp_path: Path) -> None:
    place = copy_of(first, tmp_path)
    before = names(place)
    commit(
        place,
        {
            "science/nist-plots/Dockerfile": "FROM sci/nist-basic:1.0\nRUN echo changed\n",
            "compat/notebook/Dockerfile": "ENV A=1\nRUN exit 3\nCMD x\n",
        },
    )
    done = build(place, "--keep-going", "--no-load", code=1)
    assert set(done.built) == {"nist-plots", "nist-basic-2", *COMPAT}
    assert done.error["where"] == "compat/notebook/Dockerfile:2"
    assert names(place) == before


def test_orphan_is_reported_before_the_build(first: tuple[Place, Done, str], tmp_path: Path) -> None:
    place = copy_of(first, tmp_path)
    manifest = place.root / "science/nist-basic-2/sciserver-image.json"
    commit(place, {"science/nist-basic-2/sciserver-image.json": manifest.read_text().replace('"2.0"', '"2.1"')})
    done = build(place, code=2)
    assert "changed in place from nist:2.0 to nist:2.1" in done.error["message"]
    assert done.events("run_started") == []
    allowed = place.run(*words(place, "plan", "--allow-orphan", "nist:2.0"))
    assert allowed.code == 0, allowed.told()
    listed = json.loads(place.run("science", "orphans", "--json", "--repo", place.repo, "--registry", place.host).out)
    assert [(one["release"], one["heirs"]) for one in listed["orphans"]] == [("nist:2.0", ["1.0", "2.1"])]


JOINED = {
    "science/a/sciserver-image.json": '{"image": "a", "compat": "top"}',
    "science/a/Dockerfile": (
        "FROM debian:bookworm-slim\n"
        "RUN mkdir -m 700 /srv/deep && ln -s deep /srv/link && echo low > /srv/deep/file && echo base > /kept\n"
        'ENV PATH=/opt/bin:$PATH WHO=base\nENTRYPOINT ["/bin/cat"]\nCMD ["/kept"]\nEXPOSE 80\nVOLUME /data\nLABEL a=1 b=1\n'
    ),
    "science/b/sciserver-image.json": '{"image": "b", "compat": "top"}',
    "science/b/Dockerfile": "FROM sci/a:1.0\nRUN echo b > /b\n",
    "compat/low/sciserver-image.json": "{}",
    "compat/low/Dockerfile": (
        "ENV ONE=1 TWO='two words' THREE=$PATH\nENV WHO=\"$WHO and low\"\n"
        'COPY --link start.sh /usr/local/bin/start\nLABEL b=2 c="$ONE"\n'
    ),
    "compat/low/start.sh": '#!/bin/sh\ncat /srv/deep/file /srv/deep/note; echo "$WHO $SCISERVER_IMAGE"\n',
    "compat/top/sciserver-image.json": '{"includes": ["low"]}',
    "compat/top/Dockerfile": (
        'COPY --link --chown=7:7 note /srv/deep/note\nENV FOUR=$ONE$TWO\nEXPOSE 8888 53/udp\nVOLUME ["/more"]\n'
        "STOPSIGNAL SIGINT\nUSER 0\nENTRYPOINT start\n"
    ),
    "compat/top/note": "note\n",
}


def test_compat_layer_of_files_is_joined_and_equals_the_build(lay: Lay) -> None:
    place = lay(files=JOINED)
    (place.root / "compat/low/start.sh").chmod(0o755)
    done = build(place)
    assert done.built == ["a", "b", "top", "a-1.0", "b-1.0"]
    how = {event["step"].rpartition("/")[2]: event["activity"] for event in done.events("step_started")}
    assert how == {"a": "build", "b": "build", "top": "build", "a-1.0": "join", "b-1.0": "join"}
    for name in ("a", "b"):
        joined, built = image(place, f"rel/{name}:1.0"), by_hand(place, name)
        assert joined.config.diff_ids == built.config.diff_ids
        assert runtime(joined) == runtime(built)
        history = json.loads(joined.config.raw)["history"]
        assert sum(not entry.get("empty_layer") for entry in history) == len(joined.layers)
    said = container_output(f"{place.repo}/rel/b:1.0")
    assert said == f"low\nnote\nbase and low {dict(image(place, 'rel/b:1.0').config.env)['SCISERVER_IMAGE']}\n"
    # Other content gives one build and two joins.
    (place.root / "compat/top/note").write_text("other\n")
    again = build(place)
    assert again.built == ["top", "a-1.0", "b-1.0"]
    assert "other" in container_output(f"{place.repo}/rel/a:1.0")
    (place.root / "science/b/Dockerfile").write_text("FROM sci/a:1.0\nRUN echo c > /b\n")
    assert build(place).built == ["b", "b-1.0"], "a new science image below it"


def by_hand(place: Place, name: str) -> RemoteImage:
    """Build the merged Dockerfile, as the plan shows it, with docker alone."""
    folder = place.root / f"by-hand-{name}"
    folder.mkdir()
    lines = place.run(*words(place, "plan", "-vv", "--refresh")).out.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("Dockerfile of") and f"/rel/{name}:" in line)
    end = lines.index("", start)
    (folder / "Dockerfile").write_text("".join(f"{line[2:]}\n" for line in lines[start + 1 : end]))
    shutil.copy(place.root / "compat/low/start.sh", folder / "start.sh")
    shutil.copy(place.root / "compat/top/note", folder / "note")
    base = image(place, f"sci/{name}:1.0").reference.pinned
    target = f"{place.host}/{place.repo}/rel/{name}:by-hand"
    argv = [
        "docker",
        "buildx",
        "build",
        "--provenance=false",
        "--build-context",
        f"sci/{name}:1.0=docker-image://{base}",
    ]
    argv += ["--output", f"type=registry,name={target}", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return image(place, f"rel/{name}:by-hand")


def runtime(found: RemoteImage) -> dict[str, Any]:
    """Return the runtime configuration of an image, without the metadata of the build."""
    config = dict(json.loads(found.config.raw)["config"])
    said = ("org.sciserver.", "io.github.chainbuild.")
    config["Labels"] = {key: text for key, text in config["Labels"].items() if not key.startswith(said)}
    config["Env"] = [text for text in config["Env"] if not text.startswith("SCISERVER_IMAGE=")]
    return {key: value for key, value in config.items() if value}


def test_rerun_after_kill_gives_same_images(first: tuple[Place, Done, str], lay: Lay) -> None:
    expected = identities(first[0])
    place = lay_example(lay)
    state = commit(place)
    process = place.start(*words(place, "build", "--no-load", "--plain"))
    eventually(lambda: _there(place, f"science-nist-basic-1.0-{OWN}"), "the first layer")
    kill(process, signal.SIGKILL)
    process.communicate()
    assert names(place) == {}, "no name before all images are there"
    done = build(place, "--no-load")
    assert "nist-basic" in done.reused
    assert set(done.built) | set(done.reused) == {*SCIENCE, *COMPAT}
    assert identities(place)["rel/nist:1.0"][1:] == expected["rel/nist:1.0"][1:]
    assert f"rel/nist:2.0-{state}" in names(place)
    assert list(place.temporary.glob("chainbuild-scratch-*")) == []


def _there(place: Place, tag: str) -> bool:
    with Registries() as registries:
        try:
            resolve(registries, place.name(tag), Platform.parse(OWN))
        except ChainbuildError:
            return False
    return True
