"""How a job installs chainbuild: what is found in a repository, and that everything is pinned."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from chainbuild.ci.checkout import Checkout
from chainbuild.ci.install import by_command, by_image, find_installation
from chainbuild.errors import WrongUseError
from chainbuild.references import ImageReference
from tests.support.workflows import PINNED
from tests.support.world.trees import write_files

SOURCE = {"tools/cb/pyproject.toml": '[project]\nname = "chainbuild"\n', "tools/cb/requirements-run.lock": ""}
DEPENDENCIES = sorted(
    {
        re.split(r"[^\w.-]", text)[0].replace("-", "_").replace(".", "_")
        for text in importlib.metadata.requires("chainbuild") or ()
        if "extra" not in text
    }
)
WHEELS = {f"wheels/{name}-1.0-py3-none-any.whl": name for name in ("chainbuild", *DEPENDENCIES)}


def find(root: Path, files: Mapping[str, str | None], *submodules: str) -> str:
    """Return the commands of the installation and the reason for it."""
    write_files(root, files)
    found = find_installation(Checkout(top=root, branch="main", submodules=submodules))
    return "\n".join([*found.commands, found.why])


def test_requirements_with_hashes_are_preferred(tmp_path):
    told = find(tmp_path, {"ci/requirements.txt": PINNED, **WHEELS, **SOURCE}, "tools/cb")
    assert "--require-hashes --requirement ./ci/requirements.txt" in told
    assert "which pins chainbuild and all that it needs with hashes" in told


@pytest.mark.parametrize("text", ["chainbuild==0.2.0\n", "chainbuild\n", PINNED.replace("chainbuild", "chainbuild-x")])
def test_requirements_without_hashes_are_not_used(text, tmp_path):
    with pytest.raises(WrongUseError, match="does not say how a job installs chainbuild"):
        find(tmp_path, {"requirements.txt": text})


def test_wheels_are_pinned_by_their_hashes(tmp_path):
    told = find(tmp_path, WHEELS | {"other/typer-2.0-py3-none-any.whl": ""})
    assert "--no-index --find-links ./wheels --require-hashes" in told
    for name in ("chainbuild", *DEPENDENCIES):
        assert f"'{name}==1.0 --hash=sha256:{hashlib.sha256(name.encode()).hexdigest()}'" in told


def test_missing_and_duplicate_wheels_are_problems(tmp_path):
    path = "wheels/typer-1.0-py3-none-any.whl"
    with pytest.raises(WrongUseError, match="wheels has a wheel of chainbuild, but none of typer"):
        find(tmp_path, {name: text for name, text in WHEELS.items() if name != path})
    with pytest.raises(WrongUseError, match="wheels has wheels of several versions of typer"):
        find(tmp_path, WHEELS | {"wheels/typer-1.1-py3-none-any.whl": ""})


def test_source_is_installed_with_its_lock(tmp_path):
    told = find(tmp_path, SOURCE, "tools/cb")
    assert "--require-hashes --requirement ./tools/cb/requirements-run.lock" in told
    assert "--no-deps --no-build-isolation ./tools/cb" in told
    older = {"tools/cb/requirements-run.lock": None, "tools/cb/requirements.lock": ""}
    assert "--requirement ./tools/cb/requirements.lock" in find(tmp_path, older, "tools/cb")


def test_image_with_wheels_needs_a_digest():
    pinned = ImageReference.parse("quay.io/acme/wheels@sha256:" + "0" * 64)
    assert f"docker create {pinned} none" in "\n".join(by_image(pinned).commands)
    with pytest.raises(WrongUseError, match="has no digest"):
        by_image(ImageReference.parse("quay.io/acme/wheels:1"))


def test_command_with_pipx_installs_pipx_first():
    assert [line.split()[0] for line in by_command(["pipx", "install", "a b"]).commands] == ["command", "pipx"]
    assert by_command(["uv", "tool", "install", "x y"]).commands == ("uv tool install 'x y'",)
