"""Secret files that Dockerfiles copy: reported, mounted with `--secret`, or copied with `--allow-secret-files`."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.references import ImageReference
from chainbuild.registry.images import resolve
from tests.support.world import AMD64, CHAIN

from .shelf import Shelf

MOUNT = "--mount=type=secret,id=svn,target={},mode=0444,required=true"


@pytest.fixture
def login(tmp_path: Path) -> str:
    path = tmp_path / "login"
    path.write_text("hush")
    return f"id=svn,src={path}"


def text_of(shelf: Shelf, image: str, login: str) -> str:
    """Return the Dockerfile that the builder gets."""
    with shelf.laid("create", image, secrets=[login]) as (_, layout, _):
        (step,) = (step for step in layout.graph if layout.images[step.id].id == image)
        return step.read_dockerfile().decode()


def problem_of(shelf: Shelf, **words: object) -> tuple[str, str]:
    with pytest.raises(WrongUseError) as raised, shelf.laid("create", **words):
        pass
    (problem,) = raised.value.problems
    return f"{problem.path.rpartition('docker/')[2]}:{problem.line}: {problem.message}", problem.hint


def content_of(shelf: Shelf, image: str) -> bytes:
    """Return the last layer of an image."""
    found = resolve(shelf.registries, ImageReference.parse(f"{CHAIN}/{image}"), AMD64)
    return shelf.fake.host(CHAIN).blobs[image.partition(":")[0], str(found.layers[-1].digest)]


@pytest.mark.parametrize("line", ["COPY svn.secret /root/", "ADD ./svn.secret /root/", 'COPY ["svn.secret", "/root/"]'])
def test_copied_secret_file_is_reported_with_both_ways_out(shelf: Shelf, line: str) -> None:
    folder = shelf.type("a/x", f"FROM debian:1\n{line}", files={"svn.secret": "hush"})
    message, hint = problem_of(shelf)
    assert message == "a/x/Dockerfile:2: the secret svn.secret would be stored in a layer of the image"
    assert f"--secret id=svn,src={folder / 'svn.secret'}: RUN instructions get the file as a mount" in hint
    assert hint.endswith("To store it in the layer, use --allow-secret-files.")
    (folder / "svn.secret").unlink()
    assert "src=FILE" in problem_of(shelf)[1]


def test_secret_of_a_copy_is_mounted_in_the_instructions_below_it(shelf: Shelf, login: str) -> None:
    dockerfile = (
        "FROM debian:1\nENV CONF=/casa/conf\nRUN before\n"
        "COPY --chown=1 svn.secret \\\n     $CONF/svn.secret\n"
        "RUN svn \\\n && export\nCOPY svn \\\n   svn.secret \\\n   /usr/bin/\nUSER casa\nRUN --network=none more"
    )
    shelf.type("a/x", dockerfile, files={"svn.secret": "other", "svn": "program"})
    one, two = MOUNT.format("$CONF/svn.secret"), MOUNT.format("/usr/bin/svn.secret")
    assert text_of(shelf, "a:x", login) == (
        "FROM debian:1\nENV CONF=/casa/conf\nRUN before\n"
        "#\n#\n"
        f"RUN {one} svn \\\n && export\nCOPY svn \\\n    \\\n   /usr/bin/\nUSER casa\nRUN {one} {two} --network=none more\n"
    )
    shelf.create("a", secrets=[login])
    content = content_of(shelf, "a:x")
    assert b"program" in content
    assert not {b"hush", b"other"} & {word for word in (b"hush", b"other") if word in content}


def test_stages_and_images_above_get_the_mount_too(shelf: Shelf, login: str) -> None:
    shelf.type(
        "dev/x", "FROM debian:1 AS one\nCOPY svn.secret /c/\nRUN a\nFROM one AS two\nRUN b\nFROM debian:1\nRUN c"
    )
    shelf.type("run/x", "FROM debian:1\nCOPY svn.secret /c/svn.secret\nRUN a")
    shelf.type("app/x", "FROM run:x\nRUN a\nFROM debian:1\nCOPY --from=run:x /a /a\nRUN b", dependencies=["../../run"])
    shelf.type("top/x", "FROM app:x AS b\nRUN a\nFROM run:x\nRUN c", dependencies=["../../run", "../../app"])
    mount = MOUNT.format("/c/svn.secret")
    assert text_of(shelf, "dev:x", login).splitlines() == [
        *("FROM debian:1 AS one", "#", f"RUN {mount} a", "FROM one AS two", f"RUN {mount} b", "FROM debian:1", "RUN c")
    ]
    assert text_of(shelf, "app:x", login).splitlines()[1::3] == [f"RUN {mount} a", "RUN b"]
    assert text_of(shelf, "top:x", login).splitlines()[1::2] == ["RUN a", f"RUN {mount} c"]
    with shelf.laid("create", "top", secrets=[login]) as (_, layout, _):
        (note,) = layout.mounted
    assert note.endswith(
        "run/x/Dockerfile:2: svn.secret is mounted for the RUN instructions below, and is in no layer of run:x"
    )


@pytest.mark.parametrize(
    "line",
    [
        "COPY svn.secret /etc/login",
        "COPY svn.secret etc/",
        "ARG D=/d\nCOPY svn.secret $D/",
        'COPY ["svn.secret", "a", "/"]',
    ],
)
def test_secret_that_cannot_be_mounted_is_reported(shelf: Shelf, login: str, line: str) -> None:
    shelf.type("a/x", f"FROM debian:1\n{line}\nRUN a", files={"svn.secret": "x", "a": ""})
    message, hint = problem_of(shelf, secrets=[login])
    assert message.endswith("the secret svn.secret would be stored in a layer of the image")
    assert hint.startswith("It cannot be mounted there. Copy it to an absolute path that ends in /svn.secret, or")


def test_allowed_secret_file_is_copied(shelf: Shelf, login: str) -> None:
    shelf.type("a/x", "FROM debian:1\nCOPY svn.secret /root/", files={"svn.secret": "hush"})
    shelf.create("a", allow_secret_files=True, secrets=[login])
    assert b"hush" in content_of(shelf, "a:x")
    with pytest.raises(WrongUseError, match="would be stored in a layer"):
        shelf.publish("a")
    shelf.publish("a", allow_secret_files=True)


def test_only_images_with_the_secret_file_stop(shelf: Shelf, login: str) -> None:
    shelf.type("run/x")
    shelf.type("dev/x", "FROM run:x\nCOPY svn.secret /root/", dependencies=["../../run"])
    shelf.type("app/x", "FROM dev:x", dependencies=["../../dev"])
    shelf.type("other/x", dependencies=["../../app"])
    with shelf.laid("create") as (_, layout, _):
        assert sorted(layout.stopped) == ["app:x", "dev:x"]
    assert list(shelf.actions()) == ["run:x", "other:x"]
    assert list(shelf.actions(secrets=[login])) == ["run:x", "dev:x", "app:x", "other:x"]
    shelf.create(secrets=[login])
    assert shelf.built == ["run:x", "dev:x", "app:x", "other:x"]
    assert list(shelf.actions("app", no_deps=True)) == ["app:x"]
