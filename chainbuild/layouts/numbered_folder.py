"""An option's folder as it is: numbered Dockerfiles, args files, tests, and everything that is wrong with their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, base_arg_used, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import CHAIN_IMAGE
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

BASE: Final = CHAIN_IMAGE
STAGES: Final = ("minimize", "production")

_NUMBERED = re.compile(r"(?P<number>[0-9]+)-Dockerfile-(?P<descriptor>[A-Za-z0-9][A-Za-z0-9_.-]*)")
_NEARLY = re.compile(r"[0-9]*[-_ ]?dockerfile([-_ ][^.~#]*)?", re.IGNORECASE)
_ARGS_FILE = re.compile(r"(?P<stem>.+)-args")
# What editors and merges leave beside a file.
LEFT_OVER: Final = (".dockerignore", ".bak", ".orig", ".rej", ".swp", ".tmp", "~")


class Numbered(Struct, frozen=True, kw_only=True):
    """A Dockerfile of an option, read."""

    number: int
    prefix: str
    descriptor: str
    path: Path
    shown: str
    facts: Dockerfile


class ChainFolder:
    """The folder around the options: reads files and collects what is wrong on the way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.dockerfiles: list[Dockerfile] = []

    def shown(self, path: Path) -> str:
        """The path as people see it: relative to the root."""
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return str(path)

    def problem(self, path: Path | None, message: str, hint: str, line: int = 0) -> None:
        """Keep a problem."""
        shown = self.shown(path) if path else ""
        self.problems.append(Problem(path=shown, line=line, message=message, hint=hint))

    def read_dockerfile(self, path: Path) -> Dockerfile | None:
        """A Dockerfile's content; None where it cannot be read."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            self.problem(path, f"cannot be read: {error.strerror}", "A Dockerfile is a readable text file.")
            return None
        dockerfile = parse(raw, self.shown(path))
        self.problems.extend(dockerfile.problems)
        self.dockerfiles.append(dockerfile)
        return dockerfile


def read_option(tree: ChainFolder, name: str, platforms: Iterable[Platform]) -> tuple[Numbered, ...]:
    """The numbered Dockerfiles of an option, in order; everything that is wrong with the folder goes to the tree."""
    folder = tree.root / name
    if not folder.is_dir():
        _missing_option(tree, name, folder)
        return ()
    found: list[Numbered] = []
    names = sorted(entry.name for entry in folder.iterdir())
    for file_name in names:
        match = _numbered(file_name)
        if match:
            facts = tree.read_dockerfile(folder / file_name)
            if facts:
                found.append(
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
                "Rename it (as in 10-Dockerfile-base), or move it out of the option's folder.",
            )
    if not any(_numbered(file_name) for file_name in names):
        tree.problem(
            folder,
            "no numbered Dockerfiles in this folder",
            "An option's Dockerfiles are named NN-Dockerfile-<descriptor>, as in 10-Dockerfile-base.",
        )
    found.sort(key=lambda item: (item.number, item.path.name))
    _check_descriptors(tree, found)
    _check_args_files(tree, folder, names, found, platforms)
    _check_tests(tree, folder, names, found)
    for item in found:
        _check_base_argument(tree, item)
    return tuple(found)


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
    hint += f"Here are: {', '.join(present)}." if present else "No folder here has numbered Dockerfiles."
    tree.problem(None, f"option {name!r}: there is no folder {str(folder)!r}", hint)


def _check_descriptors(tree: ChainFolder, found: Iterable[Numbered]) -> None:
    seen: dict[str, Numbered] = {}
    for item in found:
        if item.descriptor in STAGES:
            tree.problem(
                item.path,
                f"the descriptor {item.descriptor!r} is the name of a stage",
                "Give the Dockerfile another descriptor: args files of that name belong to the stage.",
            )
        elif item.descriptor in seen:
            tree.problem(
                item.path,
                f"the descriptor {item.descriptor!r} is taken by {seen[item.descriptor].shown}",
                "A descriptor names one Dockerfile of an option: its args file and its image are found by it.",
            )
        seen.setdefault(item.descriptor, item)


def _check_args_files(
    tree: ChainFolder, folder: Path, names: Iterable[str], found: Iterable[Numbered], platforms: Iterable[Platform]
) -> None:
    """Every `*-args` file must be one that a Dockerfile or stage takes on some platform."""
    takers = [item.descriptor for item in found] + list(STAGES)
    for file_name in names:
        match = _ARGS_FILE.fullmatch(file_name)
        if not match:
            continue
        taker, spelled = _taker_of(match["stem"], takers)
        platform_known = _is_platform(spelled)
        if taker in takers and platform_known:
            continue
        known = [f"{name}-{platform.name}-args" for name in takers for platform in platforms]
        hint = perhaps_you_meant(file_name, known)
        what = f"no Dockerfile here has the descriptor {taker!r}" if platform_known else "no platform is named so"
        tree.problem(
            folder / file_name,
            f"no step takes this args file: {what}",
            f"{hint}It is <descriptor>-<platform>-args; descriptors here: {', '.join(takers)}.",
        )


def _check_tests(tree: ChainFolder, folder: Path, names: Iterable[str], found: Iterable[Numbered]) -> None:
    """Every `*-test` file must be one that a Dockerfile or production has."""
    takers = [*(item.descriptor for item in found), "production"]
    for file_name in names:
        taker = file_name.removesuffix("-test")
        if taker == file_name or taker in takers:
            continue
        hint = perhaps_you_meant(taker, takers, lambda near: repr(f"{near}-test"))
        tree.problem(
            folder / file_name,
            f"no step has this test: no Dockerfile here has the descriptor {taker!r}",
            f"{hint}It is <descriptor>-test or production-test; descriptors here: {', '.join(takers)}.",
        )


def _check_base_argument(tree: ChainFolder, item: Numbered) -> None:
    if not base_arg_used(item.facts, BASE):
        tree.problem(
            item.path,
            f"no FROM uses ARG {BASE}, so the step would not stand on the one before",
            f"Begin the file with: ARG {BASE} and FROM ${{{BASE}}}.",
            line=item.facts.stages[0].line if item.facts.stages else 1,
        )


def _numbered(file_name: str) -> re.Match[str] | None:
    """The parts of a numbered Dockerfile's name; what is only named after one (an ignore file, a backup) is none."""
    return None if file_name.endswith(LEFT_OVER) else _NUMBERED.fullmatch(file_name)


def _taker_of(stem: str, takers: Iterable[str]) -> tuple[str, str]:
    """The descriptor and the platform in an args file's name; both may hold a `-`."""
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
