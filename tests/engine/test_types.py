"""The example of image types on a real engine: created, updated, and published to two registries by visibility."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.registry.pool import Registries
from tests.engine.conftest import OWN, Done, Lay, Place, RegistryContainer, container_output, docker

pytestmark = pytest.mark.timeout(600)

IN_ORDER = [
    "lab-run:debian-12",
    "lab-run:static",
    "lab-dev:debian-12",
    "lab-dev:debian-12-debug",
    "lab-analysis:debian-12",
]
LEAK = """\
dependencies: [../../lab-analysis]
image_sources:
  - {name: REPO/lab-leak, tags: [debian-12], visibility: public}
"""


@pytest.fixture(scope="module")
def lab(lay_once: Lay, repository_root: Path) -> Place:
    """A user with the example in a repository, with unique image names."""
    place = lay_once()
    example = repository_root / "examples/types"
    for path in sorted(example.rglob("*")):
        if path.is_file():
            text = path.read_text()
            for name in ("lab-run:", "lab-dev:"):
                text = text.replace(name, f"{place.repo}/{name}")
            target = place.root / path.relative_to(example)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace("name: lab-", f"name: {place.repo}/lab-"))
    return place


def types(place: Place, command: str, *words: str, code: int = 0, registry: str = "") -> Done:
    where = [] if command in {"list", "new"} else ["--registry", registry or place.host, "--platform", OWN]
    done = place.run("types", command, *words, "--repository", str(place.root), *where)
    assert done.code == code, done.told()
    return done


@pytest.fixture(scope="module")
def created(lab: Place) -> Done:
    return types(lab, "build", "--json", "--casa-version", "5.1")


def image(place: Place, host: str, name: str) -> RemoteImage:
    with Registries() as registries:
        return resolve(registries, ImageReference.parse(f"{host}/{place.repo}/{name}"), Platform.parse(OWN))


def write(place: Place, spot: str, manifest: str, dockerfile: str) -> None:
    folder = place.root / "share/docker" / spot
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "casa_distro_docker.yaml").write_text(manifest.replace("REPO", place.repo))
    (folder / "Dockerfile").write_text(dockerfile.replace("REPO", place.repo))


def test_example_is_created_in_dependency_order(lab: Place, created: Done) -> None:
    assert created.built == IN_ORDER
    again = types(lab, "build", "--json", "--casa-version", "5.1")
    assert (again.built, again.reused) == ([], IN_ORDER)


def test_example_images_run(lab: Place, created: Done) -> None:
    dev = f"{lab.repo}/lab-dev"
    for tag, title in (("5.1-debian-12", "stable"), ("debian-12", "stable"), ("debian-12-debug", "debug")):
        assert container_output(f"{dev}:{tag}") == f"hello from lab-dev, {title}\n"
        assert f"title = lab-dev, {title}" in container_output(f"{dev}:{tag}", "cat", "/etc/lab/settings.ini")
    settings = container_output(f"{dev}:debian-12", "cat", "/etc/lab/settings.ini")
    assert "disk = 80 %\nlog = %(message)s\n" in settings
    assert container_output(f"{lab.repo}/lab-analysis:debian-12") == "hello from lab-analysis\n"
    assert container_output(f"{lab.repo}/lab-analysis:debian-12", "ls", "/opt/lab") == "calibration.csv\n"


def test_list_and_plan_show_the_created_images(lab: Place, created: Done) -> None:
    listed = json.loads(types(lab, "list", "--json", f"{lab.repo}/lab-*").out)
    assert [one["image"].rpartition("/")[2] for one in listed["images"]] == IN_ORDER
    assert [one["visibility"] for one in listed["images"]] == ["public"] * 4 + ["private"]
    plan = types(lab, "plan", "--fail-if-build", "--casa-version", "5.1")
    assert "0 builds, 5 reused" in plan.out


def test_private_image_never_reaches_the_public_registry(
    lab: Place, created: Done, own_registry: Callable[..., RegistryContainer]
) -> None:
    public, private = own_registry(), own_registry()
    where = ["--public", f"{public.host}/open", "--private", private.host, "--casa-version", "5.1"]
    secret = image(lab, lab.host, "lab-analysis:debian-12")
    own = {secret.digest.hex, secret.manifest.config.digest.hex, secret.layers[-1].digest.hex}

    def stored(registry: RegistryContainer) -> set[str]:
        """Return the digests of all blobs on the registry's disk, whatever their names."""
        found = registry.shell("find /var/lib/registry -path '*/blobs/*' -name data").split()
        return {path.split("/")[-2] for path in found}

    shown = types(lab, "publish", "--dry-run", *where)
    assert f"{private.host}/{lab.repo}/lab-analysis:debian-12" in shown.out
    assert stored(public) == stored(private) == set()
    done = types(lab, "publish", "--json", *where)
    assert done.built == []
    assert not own & stored(public)
    assert own <= stored(private)
    names = set(public.shell("ls /var/lib/registry/docker/registry/v2/repositories/open/chainbuild-test/*").split())
    assert {"lab-run", "lab-dev"} <= names
    assert "lab-analysis" not in names
    assert image(lab, f"{public.host}/open", "lab-run:latest").digest == image(lab, lab.host, "lab-run:latest").digest

    # A private image is not published as the base of a public image either.
    write(lab, "lab-leak/debian-12", LEAK, "FROM REPO/lab-analysis:debian-12\nRUN true\n")
    try:
        created = types(lab, "build", "*/lab-leak", "--casa-version", "5.1")
        assert "lab-leak:debian-12 is public, but based on a private image" in created.err
        refused = types(lab, "publish", "*/lab-leak", *where, code=2)
        assert "is public, but based on a private image" in refused.err
        assert "--allow-private-base" in refused.err
        assert "lab-leak/debian-12/casa_distro_docker.yaml:3" in refused.err
        assert not own & stored(public)
        write(
            lab,
            "lab-leak/debian-12",
            LEAK,
            "FROM REPO/lab-run:debian-12\nCOPY --from=REPO/lab-analysis:debian-12 /opt /opt\n",
        )
        manifest = LEAK.replace("[../../lab-analysis]", "[../../lab-analysis, ../../lab-run]")
        write(
            lab,
            "lab-leak/debian-12",
            manifest,
            "FROM REPO/lab-run:debian-12\nCOPY --from=REPO/lab-analysis:debian-12 /opt /opt\n",
        )
        types(lab, "build", "*/lab-leak", "--casa-version", "5.1")
        types(lab, "publish", "*/lab-leak", *where, code=2)
        assert not own & stored(public)
        write(lab, "lab-leak/debian-12", LEAK, "FROM REPO/lab-analysis:debian-12\nRUN true\n")
        types(lab, "build", "*/lab-leak", "--casa-version", "5.1")
        types(lab, "publish", "*/lab-leak", *where, "--allow-private-base")
        assert secret.layers[-1].digest.hex in stored(public), "as it was allowed"
        refused = types(
            lab, "build", "*/lab-analysis", "--public", public.host, code=2, registry=f"{public.host}/chain"
        )
        assert "is private, but the chain registry" in refused.err
    finally:
        for path in sorted((lab.root / "share/docker/lab-leak").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (lab.root / "share/docker/lab-leak").rmdir()


def test_published_images_are_pulled_on_another_machine(
    lab: Place, created: Done, own_registry: Callable[..., RegistryContainer]
) -> None:
    both, elsewhere = own_registry(), own_registry()
    where = ["--public", f"{both.host}/open", "--private", f"{both.host}/closed", "--casa-version", "5.1"]
    types(lab, "publish", *where)
    shown = types(lab, "update", "--dry-run", *where, registry=elsewhere.host)
    assert "published as" in shown.out
    done = types(lab, "update", "--no-load", *where, registry=elsewhere.host)
    assert done.err.count("pulled ") == 5, done.told()
    again = types(lab, "update", "--json", "--no-load", *where, registry=elsewhere.host)
    assert (again.built, again.reused) == ([], IN_ORDER)
    before = image(lab, lab.host, "lab-analysis:debian-12").digest
    assert image(lab, elsewhere.host, "lab-analysis:debian-12").digest == before


def test_create_without_dependencies_requires_existing_base(
    lab: Place, own_registry: Callable[..., RegistryContainer]
) -> None:
    empty = own_registry()
    done = types(lab, "build", "--no-deps", "*/lab-analysis", registry=empty.host, code=4)
    assert "lab-dev:debian-12 is not in" in done.err
    assert types(lab, "update", registry=empty.host).err.count("was never built") == 5


def test_new_image_type_keeps_its_secret_out_of_layers(lab: Place, created: Done) -> None:
    """Follow the tutorial: create a type from an existing one and edit it; its secret is in no layer."""
    made = types(lab, "new", "lab-mine", "--from", "lab-run/debian-12")
    manifest, dockerfile = (Path(line) for line in made.out.split())
    assert manifest.parent == lab.home / ".config/casa-distro/docker/lab-mine/debian-12"
    manifest.write_text(manifest.read_text().replace("name: lab-mine", f"name: {lab.repo}/lab-mine"))
    secret = manifest.parent / "svn.secret"
    secret.write_text("hush-hush")
    plain = dockerfile.read_text()
    dockerfile.write_text(
        f"{plain}ENV CONF=/casa\nCOPY svn.secret $CONF/conf/\nUSER nobody\nRUN wc -c < /casa/conf/svn.secret > /tmp/length\n"
    )
    refused = types(lab, "build", "*/lab-mine", code=2)
    assert "the secret svn.secret would be stored in a layer of the image" in refused.err
    name = f"{lab.repo}/lab-mine:debian-12"
    done = types(lab, "build", "*/lab-mine", "--secret", f"id=svn,src={secret}")
    assert "svn.secret is mounted for the RUN instructions below" in done.err
    assert container_output(name, "cat", "/tmp/length") == "9\n"
    assert container_output(name, "sh", "-c", "cat /casa/conf/svn.secret 2>/dev/null || true") == ""
    assert "hush" not in docker("history", "--no-trunc", name).stdout

    dockerfile.write_text(f"{plain}COPY . /all/\nRUN --mount=type=secret,id=svn wc -c < /run/secrets/svn > /length\n")
    types(lab, "build", "*/lab-mine", "--secret", f"id=svn,src={secret}")
    assert container_output(name, "cat", "/length") == "9\n"
    assert (
        container_output(name, "sh", "-c", "ls -A /all; grep -rl hush-hush /all /root /etc || true") == "Dockerfile\n"
    )
    assert "hush" not in docker("history", "--no-trunc", name).stdout
