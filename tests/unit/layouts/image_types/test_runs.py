"""Plan, create and update image types: dependencies, reasons, tags, and images pulled instead of built."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chainbuild.errors import NotFoundInRegistryError, WrongUseError
from chainbuild.references import ImageReference
from chainbuild.registry.images import resolve
from chainbuild.step_id import StepId
from tests.support.world import AMD64, CHAIN
from tests.support.world.trees import write_files

from .shelf import Shelf


@pytest.fixture
def lab(shelf: Shelf) -> Shelf:
    """`app` based on `dev` based on `run`, and an independent `other`."""
    shelf.type("run/x", "FROM debian:1\nCOPY hello /bin/", tags=["latest", "x"], files={"hello": "hello\n"})
    shelf.type("dev/x", "FROM run:x\nRUN make", dependencies=["../../run"])
    shelf.type("app/x", "FROM dev:x\nRUN install", dependencies=["../../dev/x"], visibility="private")
    shelf.type("other/x")
    return shelf


def test_create_builds_missing_dependencies(lab: Shelf) -> None:
    assert lab.actions("app") == {"run:x": "build", "dev:x": "build", "app:x": "build"}
    lab.create("app")
    assert lab.built == ["run:x", "dev:x", "app:x"]
    assert lab.store.loaded == ["app:x"], "dependencies are not loaded into the local store"
    lab.create("app")
    assert lab.built == []


def test_existing_dependencies_are_reused_unchanged(lab: Shelf) -> None:
    lab.create("dev")
    lab.type("run/x", "FROM debian:1\nRUN changed", tags=["latest", "x"])
    assert lab.reasons("app") == {
        "run:x": "reused in spite of changes (a dependency)",
        "dev:x": "unchanged",
        "app:x": "never built",
    }
    assert lab.actions("dev", "run") == {"run:x": "build", "dev:x": "build"}


def test_dependency_that_no_dockerfile_reads_only_affects_the_order(lab: Shelf) -> None:
    lab.type("run/y")
    lab.type("about/x", dependencies=["../../run"])
    assert list(lab.actions("dev")) == ["run:x", "dev:x"]
    assert list(lab.actions("about")) == ["about:x"]
    assert list(lab.actions("about", "run/y")) == ["run:y", "about:x"]
    lab.create("dev")
    assert lab.built == ["run:x", "dev:x"]
    assert list(lab.actions("about", purpose="update")) == ["about:x"]


def test_no_deps_with_missing_dependency_is_an_error(lab: Shelf) -> None:
    with pytest.raises(NotFoundInRegistryError, match=f"{CHAIN}/dev:x is not in {CHAIN}") as raised:
        lab.plan("app", no_deps=True)
    assert raised.value.where.endswith("app/x/Dockerfile:1")
    lab.create("dev")
    lab.create("app", no_deps=True)
    assert lab.built == ["app:x"]
    assert lab.actions("app") == {"run:x": "reuse", "dev:x": "reuse", "app:x": "reuse"}, "the keys are equal"


def test_last_tag_is_built_and_other_tags_are_moving_aliases(lab: Shelf) -> None:
    lab.create("run")
    names = lab.fake.host(CHAIN).tags
    assert lab.tags(CHAIN) == {"run:x", "run:x-amd64", "run:latest"}
    assert names["run", "latest"] == names["run", "x"]
    assert lab.store.loaded == ["run:x", "run:latest"]
    before = names["run", "latest"]
    lab.type("run/x", "FROM debian:1\nRUN changed", tags=["latest", "newest", "x"])
    lab.create("run")
    assert names["run", "latest"] == names["run", "newest"] == names["run", "x"] != before


def test_create_for_two_platforms_builds_both(lab: Shelf) -> None:
    lab.create("dev", platform="amd64,aarch64")
    assert sorted(lab.built) == ["dev:x", "dev:x", "run:x", "run:x"]
    assert {"dev:x", "dev:x-amd64", "dev:x-aarch64"} <= lab.tags(CHAIN)
    assert sorted(one for one in lab.store.loaded if one.startswith("dev:")) in (
        ["dev:x", "dev:x-aarch64"],
        ["dev:x", "dev:x-amd64"],
    )


def test_stage_for_other_platform_uses_image_of_that_platform(lab: Shelf) -> None:
    text = "FROM --platform=linux/arm64 run:x AS far\nFROM debian:1\nCOPY --from=far /a /a"
    lab.type("cross/x", text, dependencies=["../../run"])
    plan = lab.plan("cross")
    assert [str(step.step.id) for step in plan.decisions] == [
        "amd64/types/run:x",
        "aarch64/types/run:x",
        "amd64/types/cross:x",
    ]
    assert plan.decisions[-1].step.needs == (StepId.parse("aarch64/types/run:x"),)


def test_build_context_has_rendered_templates_but_no_secrets(lab: Shelf) -> None:
    folder = lab.type(
        "tool/x",
        dockerfile=None,
        dependencies=["../../dev"],
        files={
            "Dockerfile.template": "FROM %(base)s\nCOPY . /opt/\n",
            "conf.ini.template": "a = 100 %\n",
            "start": "#!/bin/sh\n",
            "token.secret": "hush",
            "deep/other.secret": "hush",
            "layer-test": "#!/bin/sh\n",
        },
        template_files_parameters={"base": "dev:x"},
    )
    (folder / "start").chmod(0o755)
    (folder / "conf.ini.template").chmod(0o640)
    (folder / "layer-test").chmod(0o755)
    (folder / "link").symlink_to("start")
    with lab.laid("create", "tool") as (_, layout, _):
        step = tuple(layout.graph)[-1]
        found = sorted(str(path.relative_to(step.context)) for path in step.context.rglob("*") if not path.is_dir())
        assert found == ["Dockerfile", "conf.ini", "link", "start"]
        assert (step.context / "conf.ini").read_text() == "a = 100 %\n"
        assert oct((step.context / "conf.ini").stat().st_mode & 0o777) == "0o640"
        assert os.access(step.context / "start", os.X_OK)
        assert (step.context / "link").is_symlink()
        assert step.test == folder / "layer-test"
        context = step.context
    assert not context.exists()


def test_links_to_files_of_the_repository_are_replaced_by_the_files(shelf: Shelf) -> None:
    """casa-distro copies what links lead to: share/docker/TYPE/SYSTEM/svn -> ../../../scripts/svn."""
    share = shelf.repository.parent
    write_files(
        share,
        {
            "scripts/svn": "program",
            "scripts/more/deep": "deep",
            "login.secret": "hush",
            "scripts/all/token.secret": "hush",
        },
    )
    write_files(share.parent, {".git/config": "password"})
    write_files(shelf.home, {"private": "private"})
    folder = shelf.type("a/x", "FROM debian:1\nCOPY . /", root=shelf.repository, files={"own": "own"})
    links = {
        "svn": "../../../scripts/svn",
        "more": "../../../scripts/more",
        "all": "../../../scripts/all",
        "same": "own",
        "login": "../../../login.secret",
        "config": "../../../../.git/config",
        "outside": "../../../../../private",
        "around": "../..",
        "nowhere": "missing",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    with shelf.laid("create") as (_, layout, _):
        (step,) = layout.graph
        files = {name: step.context / name for name in links}
        kept = {name: str(path.readlink()) for name, path in files.items() if path.is_symlink()}
        assert kept == {name: links[name] for name in ("same", "config", "outside", "around", "nowhere")}
        assert files["svn"].read_text() == "program"
        assert (files["more"] / "deep").read_text() == "deep"
        assert list(files["all"].iterdir()) == []
        assert not files["login"].exists()
    with shelf.laid("create", allow_secret_files=True) as (_, layout, _):
        (step,) = layout.graph
        assert (step.context / "login").read_text() == "hush"
        assert (step.context / "all/token.secret").read_text() == "hush"


def test_missing_file_stops_only_the_images_that_need_it(shelf: Shelf) -> None:
    shelf.type("run/x")
    folder = shelf.type(
        "dev/x", "FROM run:x\nCOPY toul \\\n  svn /bin/\nCOPY b /", dependencies=["../../run"], files={"tool": ""}
    )
    shelf.type("app/x", "FROM dev:x", dependencies=["../../dev"])
    (folder / "svn").symlink_to("../../../scripts/svn")
    (folder / "b").symlink_to("/etc/passwd")
    assert list(shelf.actions()) == ["run:x"]
    with pytest.raises(WrongUseError) as raised:
        shelf.plan("app")
    problems = [(item.line, item.message.partition(" in ")[0], item.hint) for item in raised.value.problems]
    assert problems == [
        (2, "COPY svn: no such file or folder", "It is a link to ../../../scripts/svn, which does not exist."),
        (2, "COPY toul: no such file or folder", "Perhaps you meant 'tool'. Check the path."),
        (4, "COPY b: no such file or folder", "It is a link to /etc/passwd, which is not a part of the repository."),
    ]


def test_images_of_same_folder_get_their_own_templates(shelf: Shelf) -> None:
    shelf.type(
        "a/x",
        "FROM debian:1\nCOPY conf /",
        files={"conf.template": "%(level)s"},
        sources=[{"name": "a", "tags": [tag], "template_files_parameters": {"level": tag}} for tag in ("one", "two")],
    )
    with shelf.laid("create") as (_, layout, _):
        assert [(step.context / "conf").read_text() for step in layout.graph] == ["one", "two"]
    shelf.create()
    assert shelf.built == ["a:one", "a:two"]


def test_parameter_change_is_a_reason_to_build(lab: Shelf) -> None:
    def write(level: str) -> None:
        lab.type(
            "tool/x",
            "FROM debian:1\nCOPY conf.ini /etc/",
            files={"conf.ini.template": "level = %(level)s\n"},
            template_files_parameters={"level": level},
        )

    write("1")
    lab.create("tool")
    write("2")
    assert lab.reasons("tool") == {"tool:x": "file conf.ini changed"}


def test_undeclared_build_arg_is_rejected(lab: Shelf) -> None:
    lab.type("tool/x", "FROM debian:1\nARG LEVEL\nRUN $LEVEL")
    assert lab.actions("tool", build_args=["LEVEL=2"]) == {"tool:x": "build"}
    with pytest.raises(WrongUseError, match="no Dockerfile declares the arg LEVLE"):
        lab.request("create", "tool", build_args=["LEVLE=2"])


# Update ---------------------------------------------------------------------------------------------------------------


def test_update_rebuilds_image_with_its_dependencies(lab: Shelf) -> None:
    lab.create("app")
    lab.type("run/x", "FROM debian:1\nRUN changed", tags=["latest", "x"])
    assert lab.reasons("app", purpose="update") == {
        "run:x": "Dockerfile changed (line 2); file hello removed",
        "dev:x": "parent run-x: Dockerfile changed (line 2); file hello removed",
        "app:x": "parent run-x: Dockerfile changed (line 2); file hello removed",
    }
    found = lab.update("app")
    assert lab.built == ["run:x", "dev:x", "app:x"]
    assert found.never == ()


def test_update_rebuilds_images_on_moved_base(lab: Shelf) -> None:
    lab.create()
    lab.base("debian:1", "second")
    reasons = lab.reasons(purpose="update")
    assert reasons["run:x"].startswith("base image debian:1 moved from ")
    lab.update()
    assert sorted(lab.built) == ["app:x", "dev:x", "other:x", "run:x"]


def test_update_creates_no_new_images(lab: Shelf) -> None:
    lab.create("dev")
    found = lab.update()
    assert lab.built == []
    assert found.never == ("app:x", "other:x")
    assert lab.update("other").never == ("other:x",)


def other_machine(lab: Shelf) -> None:
    """Empty the chain registry and keep the other registries, as on another machine."""
    host = lab.fake.host(CHAIN)
    for held in (host.tags, host.manifests, host.blobs):
        held.clear()


def test_update_pulls_published_image_with_same_key(lab: Shelf) -> None:
    lab.create("app", "run", "dev")
    lab.publish("run", "dev", "app")
    other_machine(lab)
    shown = lab.update("app", pull=False)
    assert list(shown.published) == [StepId.parse("amd64/types/run:x")], "dependents are checked after it is pulled"
    lab.update("app")
    assert lab.built == []
    assert [text.split(" ")[1] for text in lab.messages if text.startswith("pulled ")] == ["run:x", "dev:x", "app:x"]
    assert lab.actions("app") == {"run:x": "reuse", "dev:x": "reuse", "app:x": "reuse"}
    assert "app:x" in lab.tags(CHAIN)


def test_published_image_with_other_key_is_not_pulled(lab: Shelf) -> None:
    lab.create("run", "dev")
    lab.publish("run", "dev")
    other_machine(lab)
    lab.type("dev/x", "FROM run:x\nRUN otherwise", dependencies=["../../run"])
    found = lab.update("dev")
    assert (list(found.published), lab.built, found.never) == ([StepId.parse("amd64/types/run:x")], [], ("dev:x",))


def test_update_with_unreachable_registry_builds_locally(lab: Shelf) -> None:
    lab.create("dev")
    lab.type("run/x", "FROM debian:1\nRUN changed", tags=["x"])
    lab.fake.host("public.example:5000").down = True
    lab.update("dev")
    assert lab.built == ["run:x", "dev:x"]
    assert any("could not query" in text for text in lab.messages)


# The example ----------------------------------------------------------------------------------------------------------


def test_example_types_are_created_and_published(shelf: Shelf, repository_root: Path) -> None:
    shelf.base("debian:bookworm-slim", "slim")
    words = {"repository": repository_root / "examples/types", "casa_version": "5.1"}
    assert list(shelf.actions(**words)) == [
        "lab-run:debian-12",
        "lab-run:static",
        "lab-dev:debian-12",
        "lab-dev:debian-12-debug",
        "lab-analysis:debian-12",
    ]
    shelf.create(**words)
    assert "lab-dev:5.1-debian-12" in shelf.tags(CHAIN)
    image = resolve(shelf.registries, ImageReference.parse(f"{CHAIN}/lab-analysis:debian-12"), AMD64)
    assert image.config.label("org.casa-distro.visibility") == "private"
    shelf.publish(**words)
    assert shelf.tags("private.example:5000") == {"lab-analysis:debian-12", "lab-analysis:debian-12-amd64"}
    assert "acme/lab-run:latest" in shelf.tags("public.example:5000")


def test_built_in_types_have_no_problems(shelf: Shelf, repository_root: Path) -> None:
    shelf.built_in = repository_root / "utilities" / "types"
    look = shelf.look()
    assert list(look.relations.order) == ["casa-run:debian-12", "casa-dev:debian-12"]
    assert json.loads(json.dumps(look.relations.loose)) == []
