"""Read the folder of an option: numbered Dockerfiles, args files and tests, and check their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, base_arg_used, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import CHAIN_IMAGE
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

BASE: Final = CHAIN_IMAGE
STAGES: Final = ("minimize", "production")

_NUMBERED = regex(r"(?P<number>[0-9]+)-Dockerfile-(?P<descriptor>[A-Za-z0-9][A-Za-z0-9_.-]*)")
_NEARLY = regex(r"[0-9]*[-_ ]?dockerfile([-_ ][^.~#]*)?", re.IGNORECASE)
_ARGS_FILE = regex(r"(?P<stem>.+)-args")
# Files that editors and merges create next to a file.
LEFT_OVER: Final = (".dockerignore", ".bak", ".orig", ".rej", ".swp", ".tmp", "~")


class Numbered(Struct, frozen=True, kw_only=True):
    """A parsed Dockerfile of an option."""

    number: int
    prefix: str
    descriptor: str
    path: Path
    shown: str
    facts: Dockerfile


class ChainFolder:
    """The folder that contains the options: reads files and collects problems."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.dockerfiles: list[Dockerfile] = []

    def shown(self, path: Path) -> str:
        """Return the path for messages: relative to the root."""
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return str(path)

    def problem(self, path: Path | None, message: str, hint: str, line: int = 0) -> None:
        """Record a problem."""
        shown = self.shown(path) if path else ""
        self.problems.append(Problem(path=shown, line=line, message=message, hint=hint))

    def read_dockerfile(self, path: Path) -> Dockerfile | None:
        """Return a parsed Dockerfile; None if it cannot be read."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            self.problem(path, f"cannot be read: {error.strerror}", "Make it a readable text file.")
            return None
        dockerfile = parse(raw, self.shown(path))
        self.problems.extend(dockerfile.problems)
        self.dockerfiles.append(dockerfile)
        return dockerfile


def read_option(tree: ChainFolder, name: str, platforms: Iterable[Platform]) -> tuple[Numbered, ...]:
    """Return the numbered Dockerfiles of an option, in order; problems of the folder go to the tree."""
    folder = tree.root / name
    if not folder.is_dir():
        _missing_option(tree, name, folder)
        return ()
    results: list[Numbered] = []
    names = sorted(entry.name for entry in folder.iterdir())
    for file_name in names:
        match = _numbered(file_name)
        if match:
            facts = tree.read_dockerfile(folder / file_name)
            if facts:
                results.append(
                    Numbered(
                        number=int(match["number"]),
                        prefix=match["number"],
                        descriptor=match["descriptor"],
                        path=folder / file_name,
                        shown=tree.shown(folder / file_name),
                        facts=facts,
                    )
                )
        elif _NEARLY.fullmatch(file_name):
            tree.problem(
                folder / file_name,
                "looks like a Dockerfile but is not named NN-Dockerfile-<descriptor>, so it would not be built",
                "Rename it, for example to 10-Dockerfile-base, or move it out of the option's folder.",
            )
    if not any(_numbered(file_name) for file_name in names):
        tree.problem(
            folder,
            "no numbered Dockerfiles in this folder",
            "Name an option's Dockerfiles NN-Dockerfile-<descriptor>, for example 10-Dockerfile-base.",
        )
    results.sort(key=lambda item: (item.number, item.path.name))
    _check_descriptors(tree, results)
    _check_args_files(tree, folder, names, results, platforms)
    _check_tests(tree, folder, names, results)
    for item in results:
        _check_base_argument(tree, item)
    return tuple(results)


def _missing_option(tree: ChainFolder, name: str, folder: Path) -> None:
    try:
        present = sorted(
            entry.name
            for entry in tree.root.iterdir()
            if entry.is_dir() and any(_numbered(child.name) for child in entry.iterdir())
        )
    except OSError:
        present = []
    hint = perhaps_you_meant(name, present)
    hint += f"Available: {', '.join(present)}." if present else "No folder here has numbered Dockerfiles."
    tree.problem(None, f"option {name!r}: no such folder: {str(folder)!r}", hint)


def _check_descriptors(tree: ChainFolder, result: Iterable[Numbered]) -> None:
    seen: dict[str, Numbered] = {}
    for item in result:
        if item.descriptor in STAGES:
            tree.problem(
                item.path,
                f"the descriptor {item.descriptor!r} is the name of a stage",
                "Choose another descriptor: args files with this name belong to the stage.",
            )
        elif item.descriptor in seen:
            tree.problem(
                item.path,
                f"duplicate descriptor {item.descriptor!r}, used by {seen[item.descriptor].shown}",
                "Choose another descriptor: it selects the args file and names the image.",
            )
        seen.setdefault(item.descriptor, item)


def _check_args_files(
    tree: ChainFolder, folder: Path, names: Iterable[str], result: Iterable[Numbered], platforms: Iterable[Platform]
) -> None:
    """Check that a Dockerfile or stage uses every `*-args` file on some platform."""
    takers = [item.descriptor for item in result] + list(STAGES)
    for file_name in names:
        match = _ARGS_FILE.fullmatch(file_name)
        if not match:
            continue
        taker, spelled = _taker_of(match["stem"], takers)
        platform_known = _is_platform(spelled)
        if taker in takers and platform_known:
            continue
        valid = [f"{name}-{platform.name}-args" for name in takers for platform in platforms]
        hint = perhaps_you_meant(file_name, valid)
        what = f"no Dockerfile has the descriptor {taker!r}" if platform_known else "unknown platform"
        tree.problem(
            folder / file_name,
            f"no step uses this args file: {what}",
            f"{hint}Name it <descriptor>-<platform>-args; descriptors: {', '.join(takers)}.",
        )


def _check_tests(tree: ChainFolder, folder: Path, names: Iterable[str], result: Iterable[Numbered]) -> None:
    """Check that every `*-test` file belongs to a Dockerfile or to production."""
    takers = [*(item.descriptor for item in result), "production"]
    for file_name in names:
        taker = file_name.removesuffix("-test")
        if taker == file_name or taker in takers:
            continue
        hint = perhaps_you_meant(taker, takers, lambda near: repr(f"{near}-test"))
        tree.problem(
            folder / file_name,
            f"no step uses this test: no Dockerfile has the descriptor {taker!r}",
            f"{hint}Name it <descriptor>-test or production-test; descriptors: {', '.join(takers)}.",
        )


def _check_base_argument(tree: ChainFolder, item: Numbered) -> None:
    if not base_arg_used(item.facts, BASE):
        tree.problem(
            item.path,
            f"no FROM uses ARG {BASE}, so the step would not be based on the one before",
            f"Begin the file with: ARG {BASE} and FROM ${{{BASE}}}.",
            line=item.facts.stages[0].line if item.facts.stages else 1,
        )


def _numbered(file_name: str) -> re.Match[str] | None:
    """Match the name of a numbered Dockerfile; names with an added suffix (ignore files, backups) do not match."""
    return None if file_name.endswith(LEFT_OVER) else _NUMBERED.fullmatch(file_name)


def _taker_of(stem: str, takers: Iterable[str]) -> tuple[str, str]:
    """Return the descriptor and the platform in the name of an args file; both may contain a `-`."""
    for taker in takers:
        if stem.startswith(f"{taker}-") and _is_platform(stem.removeprefix(f"{taker}-")):
            return taker, stem.removeprefix(f"{taker}-")
    return stem.rpartition("-")[0], stem.rpartition("-")[2]


def _is_platform(spelled: str) -> bool:
    try:
        Platform.parse(spelled)
    except WrongUseError:
        return False
    return True
