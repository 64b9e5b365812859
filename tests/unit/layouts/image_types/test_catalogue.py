"""The search path of image types, shadowing, and the images that they define."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.layouts.image_types.roots import search_order
from tests.support.world.trees import write_files

from .shelf import Shelf


def test_search_order_follows_documentation(shelf: Shelf) -> None:
    """The order: <repository>/share/docker, ~/.config/casa-distro/docker, ~/.casa-distro/docker, built-in types."""
    roots = [(root.what, root.folder) for root in search_order(None, shelf.environ)]
    assert roots[:3] == [("repository", shelf.repository), ("user", shelf.user), ("user (old)", shelf.old)]
    assert roots[3][0] == "built-in"


def test_repository_flag_wins_over_environment_and_default(tmp_path: Path) -> None:
    environ = {"HOME": "/home/me"}
    assert search_order(None, environ)[0].folder == Path("/home/me/casa_distro/share/docker")
    environ["CASA_DEFAULT_REPOSITORY"] = ""
    assert search_order(None, environ)[0].folder == Path("/home/me/casa_distro/share/docker")
    environ["CASA_DEFAULT_REPOSITORY"] = "/from/environment"
    assert search_order(None, environ)[0].folder == Path("/from/environment/share/docker")
    assert search_order(tmp_path, environ)[0].folder == tmp_path / "share/docker"


def test_missing_explicit_repository_is_reported(shelf: Shelf) -> None:
    shelf.type("a/x")
    with pytest.raises(WrongUseError, match=r"--repository .*no/such: no such folder: '.*no/such/share/docker'"):
        shelf.look(repository=shelf.home / "no/such")
    shelf.environ["CASA_DEFAULT_REPOSITORY"] = str(shelf.home / "gone")
    with pytest.raises(WrongUseError, match=r"CASA_DEFAULT_REPOSITORY=.*gone: no such folder"):
        shelf.look()
    del shelf.environ["CASA_DEFAULT_REPOSITORY"]
    assert list(shelf.look().catalogue.images) == ["a:x"], "the default repository may be missing"


def test_earlier_root_shadows_type_of_later_root(shelf: Shelf) -> None:
    places = [shelf.built_in, shelf.old, shelf.user, shelf.repository]
    for number, place in enumerate(places):
        folder = shelf.type("a/x", f"FROM debian:1\nENV PLACE={number}", root=place)
        catalogue = shelf.look().catalogue
        assert catalogue.images["a:x"].folder.path == folder
        assert {one.path for one in catalogue.shadowed} == {other / "a/x" for other in places[:number]}
        assert {one.shadowed_by for one in catalogue.shadowed} <= {folder}


def test_link_to_root_shadows_no_type(shelf: Shelf) -> None:
    shelf.type("a/x")
    shelf.old.parent.mkdir(parents=True)
    shelf.old.symlink_to(shelf.user)
    catalogue = shelf.look().catalogue
    assert (list(catalogue.images), catalogue.shadowed) == (["a:x"], ())


def test_manifest_too_deep_is_reported_unless_inside_a_type(shelf: Shelf) -> None:
    folder = shelf.type("a/x")
    (folder / "examples").mkdir()
    (folder / "examples" / "casa_distro_docker.yaml").write_text("image_sources: []\n")
    assert list(shelf.look().catalogue.images) == ["a:x"]
    shelf.type("b/systems/x")
    look = shelf.look()
    assert list(look.catalogue.images) == ["a:x"]
    (note,) = look.catalogue.notes
    assert note.path.endswith("b/systems/x/casa_distro_docker.yaml")
    assert note.message == "the folder is too deep: an image type is a folder TYPE/SYSTEM"


def test_type_without_systems_provides_all_its_images(shelf: Shelf) -> None:
    shelf.type("dev", sources=[{"name": "dev", "tags": ["one"]}, {"name": "dev", "tags": ["two"]}])
    shelf.type("run/x", "FROM dev:two", dependencies=["../../dev"])
    assert shelf.look().relations.below["run:x"] == ("dev:one", "dev:two")


def test_names_tags_and_aliases_are_rendered(shelf: Shelf) -> None:
    shelf.type(
        "a/x",
        dockerfile=None,
        files={"Dockerfile.template": "FROM %(base)s\n", "etc/nginx.conf.template": "listen %(port)s\n"},
        sources=[
            {
                "name": "lab-%(kind)s",
                "tags": ["latest", "%(casa_version)s-x", "x"],
                "template_files_parameters": {"kind": "dev", "base": "debian:%(number)s", "number": 1},
            }
        ],
    )
    image = shelf.look(casa_version="5.1").catalogue.images["lab-dev:x"]
    assert (image.aliases, image.tag) == (("latest", "5.1-x"), "x"), "the last tag is built, the others are aliases"
    assert image.raw == b"FROM debian:1\n"
    with shelf.laid("create") as (_, layout, _):
        (step,) = layout.graph
        assert sorted(path.name for path in step.context.rglob("*") if path.is_file()) == [
            "Dockerfile",
            "nginx.conf.template",
        ]
        assert (step.context / "etc/nginx.conf.template").read_text() == "listen %(port)s\n", "somebody else's"
        assert step.shown.endswith("a/x/Dockerfile.template")


def test_catalogue_problems_are_reported_together_with_lines(shelf: Shelf) -> None:
    shelf.type(
        "a/x",
        dockerfile=None,
        files={"Dockerfile.template": "FROM debian:1\nENV A=%(nme)s\n"},
        sources=[
            {
                "name": "ghcr.io/acme/a",
                "tags": ["ok", "not a tag", "%(casa_versio)s"],
                "template_files_parameters": {"name": "x", "a": "%(b)s", "b": "%(a)s"},
            }
        ],
    )
    shelf.type("b/x", dockerfile=None)
    shelf.type("c/x", files={"Dockerfile.template": "FROM debian:1\n"})
    told = {(problem.path.partition("docker/")[2], problem.line, problem.message) for problem in shelf.problems()}
    assert told == {
        ("a/x/Dockerfile.template", 2, "no such parameter: 'nme'"),
        ("a/x/casa_distro_docker.yaml", 2, "name: 'ghcr.io/acme/a' has a registry, a tag or a digest"),
        ("a/x/casa_distro_docker.yaml", 5, "tags: 'not a tag' is not a tag"),
        ("a/x/casa_distro_docker.yaml", 6, "no such parameter: 'casa_versio'"),
        ("a/x/casa_distro_docker.yaml", 9, "parameters use each other in a cycle: a uses b uses a"),
        ("b/x/casa_distro_docker.yaml", 0, "no Dockerfile in this folder"),
        ("c/x/Dockerfile.template", 0, "Dockerfile exists, too"),
    }


def test_duplicate_tag_is_a_problem_of_that_image_only(shelf: Shelf) -> None:
    shelf.type("a/x", name="lab", tags=["one"])
    shelf.type("b/x", root=shelf.repository, name="lab", tags=["one"])
    shelf.type("c/x")
    (problem,) = shelf.problems()
    assert re.match(r"lab:one is already an image of .*a/x/casa_distro_docker.yaml:\d", problem.message)
    assert shelf.actions("c") == {"c:x": "build"}
    with pytest.raises(WrongUseError, match="lab:one is already an image"):
        shelf.plan("lab")


def test_alias_of_two_images_is_not_set(shelf: Shelf) -> None:
    shelf.type("a/x", name="lab", tags=["latest", "new", "one"])
    shelf.type("b/x", name="lab", tags=["latest", "two"])
    shelf.type("c/x", name="lab", tags=["two", "three"])
    look = shelf.look()
    assert {name: image.aliases for name, image in look.catalogue.images.items()} == {
        "lab:one": ("new",),
        "lab:two": (),
        "lab:three": (),
    }
    assert [note.message.partition(" is already")[0] for note in look.catalogue.notes] == ["lab:latest", "lab:two"]
    assert shelf.problems() == ()


def test_home_without_image_types_is_reported(shelf: Shelf) -> None:
    with pytest.raises(WrongUseError, match="no image types found") as raised:
        shelf.look()
    assert str(shelf.user) in str(raised.value)


def test_repository_without_manifests_has_an_image_for_each_dockerfile(shelf: Shelf) -> None:
    """The layout before casa-distro had manifests: docker/TYPE/SYSTEM/Dockerfile is the image TYPE:SYSTEM."""
    folder = shelf.home / "old/docker"
    write_files(
        folder,
        {
            "dev-TEP/trunk/Dockerfile": "FROM cati/dev:x-1\nRUN make\n",
            "dev/x-1/Dockerfile": "FROM acme/base\nCOPY --from=cati/renamed:x / /\n",
            "base/Dockerfile.template": "FROM debian:1\n",
            "base/deep/er/Dockerfile": "FROM debian:1\n",
            ".hidden/x/Dockerfile": "FROM debian:1\n",
            "create_images": "docker build …\n",
        },
    )
    look = shelf.look(repository=folder.parent)
    assert look.relations.order == ("base:latest", "dev:x-1", "dev-tep:trunk")
    assert shelf.problems(repository=folder.parent) == ()
    assert look.relations.below["dev-tep:trunk"] == ("dev:x-1",)
    assert [image.is_public for image in look.catalogue.images.values()] == [False, False, False]
    shelf.base("renamed:x", "theirs", host="docker.io/cati/")
    assert list(shelf.actions("dev:*", repository=folder.parent)) == ["base:latest", "dev:x-1"]
    shelf.type("new/x", root=folder)
    assert list(shelf.look(repository=folder.parent).catalogue.images) == ["new:x"], "as soon as there is a manifest"


def test_unreadable_manifest_is_listed_under_the_name_of_its_folder(shelf: Shelf) -> None:
    shelf.type("run/x", "FROM debian:1")
    shelf.type("app/x", "FROM run:x", dependencies=["../../run"])
    shelf.type("other/x")
    (shelf.user / "run/x/casa_distro_docker.yaml").write_text("image_sources: [")
    assert list(shelf.look().catalogue.images) == ["app:x", "other:x", "run:x"]
    assert len(shelf.look().relations.problems["run:x"]) == 1
    assert shelf.actions("other") == {"other:x": "build"}
    with pytest.raises(WrongUseError, match=r"run/x/casa_distro_docker.yaml:1: "):
        shelf.plan("app")
