"""Three ways to build the same chain: a shell loop as people write it, `docker buildx bake`, and chainbuild."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks import measure
from benchmarks.trees import OPTION, ChainTree
from chainbuild.references import Platform

LOOP = """\
#!/usr/bin/env bash
# Builds each Dockerfile on top of the last one: what is replaced by chainbuild.
set -euo pipefail
platform="$1" repo="$2" base="$3" bust="$4"
shift 4
for dockerfile in {option}/*-Dockerfile-*; do
    tag="$repo:$(basename "$dockerfile")-$platform"
    docker buildx build --platform "linux/$platform" --pull --push --provenance=false "$@" \\
        --build-arg "BASE_IMAGE=$base" --build-arg "BUST=$bust" --file "$dockerfile" --tag "$tag" .
    base="$tag"
done
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one run is to do: the registry's host, a repository there, the base, and the args."""

    endpoint: str
    repository: str
    base: str
    bust: str
    no_cache: bool = False
    """Whether the build cache counts as empty. chainbuild is not told: its step keys do not look at that cache."""

    @property
    def repo(self) -> str:
        """The repository with its host."""
        return f"{self.endpoint}/{self.repository}"


class Way(Protocol):
    """A way to build a chain."""

    name: str

    def prepare(self, tree: ChainTree) -> None:
        """Write into the tree what the way needs; not measured."""

    def seconds(self, tree: ChainTree, run: Run) -> float:
        """Build, and give the whole-process time."""


@dataclass(slots=True)
class ShellLoop:
    """A script that builds, pushes and pulls one Dockerfile after the other."""

    name: str = "shell loop"

    def prepare(self, tree: ChainTree) -> None:
        (tree.root / "build.sh").write_text(LOOP.format(option=OPTION))

    def seconds(self, tree: ChainTree, run: Run) -> float:
        flags = ["--no-cache"] if run.no_cache else []
        words = [_architecture(), run.repo, run.base, run.bust, *flags]
        return measure.seconds(["bash", "build.sh", *words], cwd=tree.root)


@dataclass(slots=True)
class Bake:
    """One bake file whose targets stand on each other (`contexts` with `target:`): one call, one solve."""

    name: str = "buildx bake"

    def prepare(self, tree: ChainTree) -> None:
        """The bake file is written for each run."""

    def seconds(self, tree: ChainTree, run: Run) -> float:
        path = tree.root / "docker-bake.json"
        path.write_text(json.dumps(_bake_file(tree, run), indent=1))
        flags = ["--no-cache"] if run.no_cache else []
        return measure.seconds(["docker", "buildx", "bake", "--file", path.name, "--push", *flags], cwd=tree.root)


@dataclass(slots=True)
class Chainbuild:
    """chainbuild, as far as the others go: the chain's steps, without the stages and the local store."""

    name: str = "chainbuild"
    flags: tuple[str, ...] = field(default=("--no-load",))

    def prepare(self, tree: ChainTree) -> None:
        """It takes the tree as it is."""

    def seconds(self, tree: ChainTree, run: Run) -> float:
        words = (Platform.of_this_machine().name, run.repository, "bench", run.base, OPTION, run.base)
        return measure.seconds(
            measure.chainbuild(
                *words,
                "--root",
                tree.root,
                "--registry",
                run.endpoint,
                "--build-arg",
                f"BUST={run.bust}",
                "--until",
                str(tree.numbers[-1]),
                *self.flags,
            ),
            cwd=tree.root,
        )


def _bake_file(tree: ChainTree, run: Run) -> dict[str, object]:
    targets: dict[str, object] = {}
    names = [path.name for path in map(tree.dockerfile, range(len(tree.sizes)))]
    for index, name in enumerate(names):
        parent = {"parent": f"target:{names[index - 1]}"} if index else {}
        targets[name] = {
            "context": ".",
            "dockerfile": f"{OPTION}/{name}",
            "contexts": parent,
            "args": {"BASE_IMAGE": "parent" if index else run.base, "BUST": run.bust},
            "tags": [f"{run.repo}:{name}-{_architecture()}"],
            "platforms": [f"linux/{_architecture()}"],
            "attest": ["type=provenance,disabled=true"],
        }
    return {"group": {"default": {"targets": names}}, "target": targets}


def _architecture() -> str:
    return Platform.of_this_machine().architecture


def written(tree: ChainTree, ways: tuple[Way, ...], into: Path) -> dict[str, ChainTree]:
    """A copy of the tree for each way, prepared."""
    copies: dict[str, ChainTree] = {}
    for way in ways:
        copy = ChainTree(root=into / way.name.replace(" ", "-"), sizes=tree.sizes, digits=tree.digits)
        copy.write()
        way.prepare(copy)
        copies[way.name] = copy
    return copies
