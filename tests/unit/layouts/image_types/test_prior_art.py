"""The bugs of the tool that this layout replaces: each test fails if one of them comes back."""

from __future__ import annotations

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.references import ImageReference
from chainbuild.registry.images import resolve
from tests.support.world import AMD64, CHAIN

from .shelf import PRIVATE, PUBLIC, Shelf


def test_build_order_follows_dependencies_not_the_alphabet(shelf: Shelf) -> None:
    """Bug: the order mixed dependencies and names, which is no order: c before b, b before a, a before c."""
    shelf.type("a/x", "FROM c:x", dependencies=["../../c"])
    shelf.type("b/x")
    shelf.type("c/x")
    shelf.type("0/x", "FROM z:x", name="zero", dependencies=["../../z"])
    shelf.type("z/x", "FROM a:x", dependencies=["../../a"])
    shelf.create()
    order = list(shelf.look().relations.order)
    assert order == ["b:x", "c:x", "a:x", "z:x", "zero:x"]
    assert [name for name in shelf.built if name != "b:x"] == ["c:x", "a:x", "z:x", "zero:x"]


@pytest.mark.timeout(60)
def test_dependency_cycle_is_reported(shelf: Shelf) -> None:
    shelf.type("a/x", "FROM b:x", dependencies=["../../b"])
    shelf.type("b/x", "FROM c:x", dependencies=["../../c"])
    shelf.type("c/x", "FROM a:x", dependencies=["../../a"])
    (problem,) = shelf.problems()
    assert "in a cycle: a:x on b:x on c:x on a:x" in problem.message
    with pytest.raises(WrongUseError, match="in a cycle: a:x on b:x on c:x on a:x"):
        shelf.plan("a")


def test_unmatched_dependency_is_reported(shelf: Shelf) -> None:
    shelf.type("a/x", dependencies=["../../nothing"])
    (problem,) = shelf.problems()
    assert problem.message.startswith("dependency '../../nothing' matches nothing")


def test_unmatched_from_is_reported(shelf: Shelf) -> None:
    shelf.type("dev/x")
    shelf.type("a/x", "FROM dev:y", dependencies=["../../dev"])
    assert [problem.message for problem in shelf.problems()] == ["FROM dev:y: dev has no tag 'y' here"]
    shelf.type("a/x", "FROM dev:x")
    (problem,) = shelf.problems()
    assert problem.message.endswith("has no dependency on dev/x")


def test_visibility_decides_the_registry(shelf: Shelf) -> None:
    shelf.type("a/x", visibility="private")
    shelf.type("b/x", visibility="public")
    shelf.create()
    shelf.publish()
    assert (shelf.tags(PRIVATE), shelf.tags(PUBLIC)) == ({"a:x", "a:x-amd64"}, {"acme/b:x", "acme/b:x-amd64"})


def test_shadowed_type_is_not_built(shelf: Shelf) -> None:
    shelf.type("a/x", "FROM debian:1\nRUN mine")
    shelf.type("a/x", "FROM debian:1\nRUN theirs", root=shelf.built_in)
    shelf.create("a")
    assert shelf.built == ["a:x"]
    (order,) = shelf.driver.orders
    assert order.dockerfile.read_text() == "FROM debian:1\nRUN mine\n"
    assert [one.path for one in shelf.look().catalogue.shadowed] == [shelf.built_in / "a/x"]


def test_literal_percent_sign_in_template_is_kept(shelf: Shelf) -> None:
    text = "FROM %(base)s\nRUN date +%Y-%m-%d && echo 100% && printf '%s %%\\n' %(base)s\n"
    shelf.type(
        "a/x", dockerfile=None, files={"Dockerfile.template": text}, template_files_parameters={"base": "debian:1"}
    )
    raw = shelf.look().catalogue.images["a:x"].raw
    assert raw == b"FROM debian:1\nRUN date +%Y-%m-%d && echo 100% && printf '%s %%\\n' debian:1\n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("dockerfile", ["from debian:1", "\n\n# FROM x\nfrom\tdebian:1 as a", "ARG A\nfRoM debian:1"])
def test_lower_case_from_is_read(shelf: Shelf, dockerfile: str) -> None:
    shelf.type("a/x", dockerfile)
    assert shelf.actions() == {"a:x": "build"}


@pytest.mark.timeout(60)
def test_dockerfile_without_from_is_reported(shelf: Shelf) -> None:
    shelf.type("a/x", "# nothing")
    (problem,) = shelf.problems()
    assert problem.path.endswith("a/x/Dockerfile")
    with pytest.raises(WrongUseError, match="a/x/Dockerfile"):
        shelf.plan("a")


def test_secret_file_is_never_copied_into_image(shelf: Shelf) -> None:
    shelf.type("a/x", "FROM debian:1\nCOPY . /root/", files={"svn.secret": "hush", "code": "x"})
    shelf.create()
    image = resolve(shelf.registries, ImageReference.parse(f"{CHAIN}/a:x"), AMD64)
    content = shelf.fake.host(CHAIN).blobs["a", str(image.layers[-1].digest)]
    assert b"code" in content
    assert b"hush" not in content


def test_recursive_parameter_is_reported(shelf: Shelf) -> None:
    """Bug: a parameter that uses itself, directly or not, was expanded forever."""
    shelf.type("a/x", template_files_parameters={"a": "x%(a)s"})
    (problem,) = shelf.problems()
    assert problem.message == "parameters use each other in a cycle: a uses a"
