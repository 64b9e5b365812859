"""`types new` creates an image type."""

from __future__ import annotations

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.layouts.image_types.template import new_type, write_new

from .shelf import Shelf


@pytest.fixture
def lab(shelf: Shelf) -> Shelf:
    shelf.type(
        "dev/x", sources=[{"name": "lab-dev", "tags": ["latest", "x-1"], "visibility": "public"}], root=shelf.built_in
    )
    return shelf


@pytest.mark.parametrize(
    ("name", "system", "spot"), [("torch", "", "torch/x"), ("torch/y", "", "torch/y"), ("torch", "y", "torch/y")]
)
def test_new_type_can_be_created(lab: Shelf, name: str, system: str, spot: str) -> None:
    new = new_type(lab.look().catalogue, lab.user, name, "dev/x", system)
    assert [path.parent for path in write_new(new)] == [lab.user / spot] * 2
    kind, _, where = spot.partition("/")
    image = lab.look().catalogue.images[f"{kind}:{where}"]
    assert (image.is_public, image.spot) == (False, spot)
    lab.create(kind)
    assert lab.built == ["lab-dev:x-1", f"{kind}:{where}"]


@pytest.mark.parametrize(
    ("name", "below", "system", "told"),
    [
        ("torch", "dev/z", "", "--from dev/z: no such image type"),
        ("torch", "dev", "", "Perhaps you meant 'dev/x'"),
        ("Torch", "dev/x", "", "Repository names are lower case: 'torch'"),
        ("torch:1", "dev/x", "", "invalid name of an image type"),
        ("torch", "dev/x", "../../up", "invalid name of a system"),
        ("torch/../../x", "dev/x", "", "invalid name of a system"),
        ("../torch", "dev/x", "", ""),
        ("torch/y", "dev/x", "z", "give different systems"),
        ("lab-dev/x-1", "dev/x", "", "is already an image of"),
        ("", "dev/x", "", ""),
    ],
)
def test_invalid_arguments_of_new_type_are_rejected(lab: Shelf, name: str, below: str, system: str, told: str) -> None:
    with pytest.raises(WrongUseError) as raised:
        new_type(lab.look().catalogue, lab.user, name, below, system)
    assert told in str(raised.value)
    assert not lab.user.exists()


def test_existing_type_is_not_overwritten(lab: Shelf) -> None:
    (lab.user / "torch/x").mkdir(parents=True)
    with pytest.raises(WrongUseError, match="already exists"):
        new_type(lab.look().catalogue, lab.user, "torch", "dev/x")
