"""Read the folder of an option: numbered Dockerfiles, args files and tests, and check their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.dockerfile import Dockerfile, base_arg_used, parse
from chainbuild.dockerfile.images import args_in_froms, base_arg_candidates, check_base_arg, find_base_image
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.numbered_names import NumberedName, has_numbered, numbered_names
from chainbuild.model import CHAIN_IMAGE
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

BASE: Final = CHAIN_IMAGE
STAGES: Final = ("minimize", "production")

_NEARLY = regex(r"[0-9]*[-_ ]?dockerfile([-_ ][^.~#]*)?", re.IGNORECASE)
_SETTING = regex(rb"\s*#+\s*chainbuild:\s*(?P<words>.*?)\s*")
_SETTING_IN_LINES = 20
_ARGS_FILE = regex(r"(?P<stem>.+)-args")


class Numbered(Struct, frozen=True, kw_only=True):
    """A parsed Dockerfile of an option. `base_arg` is the ARG that takes the image of the step before it.

    If `base_arg` is empty, the Dockerfile is the first one, and its FROM names the image `base` itself.
    """

    name: NumberedName
    path: Path
    facts: Dockerfile
    base_arg: str
    base: str = ""
    target: str | None = None
    """The stage to build; None: the last one."""

    @property
    def context(self) -> Path | None:
        """The build context of a Dockerfile that has a folder of its own; else None."""
        return self.path.parent if self.name.in_folder else None


class ChainFolder:
    """The folder that contains the options: reads files and collects problems."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.dockerfiles: list[Dockerfile] = []
        self._parsed: dict[Path, Dockerfile | None] = {}
        self._targets: dict[Path, str | None] = {}
        self.notes: list[str] = []
        """What was detected and could have been meant differently, for the user."""

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
        """Return a parsed Dockerfile; None if it cannot be read. Each is read once."""
        if path not in self._parsed:
            self._parsed[path] = self._parse(path)
        return self._parsed[path]

    def _parse(self, path: Path) -> Dockerfile | None:
        try:
            raw = limits.read_tree_file(path)
        except OSError as error:
            self.problem(path, f"cannot be read: {error.strerror}", "Make it a readable text file.")
            return None
        dockerfile = parse(raw, self.shown(path))
        self.problems.extend(dockerfile.problems)
        self.dockerfiles.append(dockerfile)
        self._targets[path] = _find_target(
            raw, dockerfile, lambda line, message, hint: self.problem(path, message, hint, line=line)
        )
        return dockerfile

    def target_of(self, path: Path) -> str | None:
        """Return the stage to build of a Dockerfile that was read; None: the last one."""
        return self._targets.get(path)


def _find_target(raw: bytes, facts: Dockerfile, problem: Callable[[int, str, str], None]) -> str | None:
    """Return the stage that a comment `# chainbuild: target NAME` names; None if there is none: the last stage is built.

    `problem` is called with the line, the message and the hint of each comment that cannot be followed.
    """
    target = None
    for number, line in enumerate(raw.split(b"\n")[:_SETTING_IN_LINES], start=1):
        comment = _SETTING.fullmatch(line)
        if comment is None:
            continue
        words = comment["words"].decode("utf-8", "replace").split()
        names = [stage.name for stage in facts.stages if stage.name]
        if len(words) != 2 or words[0] != "target":
            problem(number, f"unknown setting of a Dockerfile: {' '.join(words)!r}", "Use: target NAME.")
        elif words[1].lower() not in names:
            hint = perhaps_you_meant(words[1], names) + (f"Its stages: {', '.join(names)}." if names else "")
            problem(number, f"target: no such stage: {words[1]!r}", hint or "Name the stage: FROM … AS name.")
        else:
            target = words[1]
    return target


def read_option(
    tree: ChainFolder,
    name: str,
    platforms: Sequence[Platform],
    base_arg: str = "",
    *,
    accept_base: Callable[[str], bool] = lambda _: False,
) -> tuple[Numbered, ...]:
    """Return the numbered Dockerfiles of an option, in order; problems of the folder go to the tree.

    `base_arg` is the ARG that takes the base image in all of them; if empty, it is `BASE_IMAGE`, or detected. The first
    Dockerfile needs none if its FROM names an image that `accept_base` accepts.
    """
    folder = tree.root / name
    if not folder.is_dir():
        _missing_option(tree, name, folder)
        return ()
    names = numbered_names(folder)
    results: list[Numbered] = []
    for item in names:
        path = folder / item.file
        facts = tree.read_dockerfile(path)
        if facts is None:
            continue
        platform = platforms[0] if platforms else Platform.of_this_machine()
        target = tree.target_of(path)
        own = "" if results or base_arg_used(facts, base_arg or BASE) else _own_base(facts, platform, target)
        if own and accept_base(own):
            arg = ""
        else:
            own = ""
            arg = _named_base_arg(tree, facts, base_arg) if base_arg else find_base_arg(tree, path, facts, platform)
        results.append(Numbered(name=item, path=path, facts=facts, base_arg=arg, base=own, target=target))
    if not names:
        tree.problem(
            folder,
            "no numbered Dockerfiles in this folder",
            "Name an option's Dockerfiles NN-Dockerfile-<descriptor>, for example 10-Dockerfile-base.",
        )
    files = sorted(entry.name for entry in folder.iterdir())
    _check_names(tree, folder, names, files)
    _check_args_files(tree, folder, files, results, platforms)
    _check_tests(tree, folder, files, results)
    if not base_arg:
        _note_base_arguments(tree, folder, results)
    return tuple(results)


def _missing_option(tree: ChainFolder, name: str, folder: Path) -> None:
    try:
        present = sorted(entry.name for entry in tree.root.iterdir() if entry.is_dir() and has_numbered(entry))
    except OSError:
        present = []
    hint = perhaps_you_meant(name, present)
    hint += f"Available: {', '.join(present)}." if present else "No folder here has numbered Dockerfiles."
    tree.problem(None, f"option {name!r}: no such folder: {str(folder)!r}", hint)


def _check_names(tree: ChainFolder, folder: Path, names: Iterable[NumberedName], files: Iterable[str]) -> None:
    """Check that the name of every Dockerfile identifies a step, and that no two identify the same step."""
    known = tuple(names)
    for file_name in set(files) - {name.file.partition("/")[0] for name in known}:
        if _NEARLY.fullmatch(file_name):
            tree.problem(
                folder / file_name,
                "looks like a Dockerfile but is not named NN-Dockerfile-<descriptor>, so it would not be built",
                "Rename it, for example to 10-Dockerfile-base, or move it out of the option's folder.",
            )
    seen: list[NumberedName] = []
    for name in known:
        same = next((other for other in seen if _is_same_step(name, other)), None)
        duplicate = next((other for other in seen if name.taker == other.taker), None)
        if name.descriptor in STAGES:
            tree.problem(
                folder / name.file,
                f"the descriptor {name.descriptor!r} is the name of a stage",
                "Choose another descriptor: args files with this name belong to the stage.",
            )
        elif same:
            shown = f"{tree.shown(folder / same.file)} and {tree.shown(folder / name.file)}"
            tree.problem(
                folder / name.file,
                f"the step {same.step} has two Dockerfiles, {shown}",
                "Remove one of the two files, or change its number and descriptor.",
            )
        elif duplicate:
            tree.problem(
                folder / name.file,
                f"duplicate descriptor {name.taker!r}, used by {tree.shown(folder / duplicate.file)}",
                "Choose another descriptor: it selects the args file and names the image.",
            )
        seen.append(name)


def _is_same_step(name: NumberedName, other: NumberedName) -> bool:
    """Return whether two names identify the same step. Without a descriptor, the number alone identifies the step."""
    if name.number != other.number:
        return False
    return name.descriptor == other.descriptor or not (name.descriptor and other.descriptor)


def _check_args_files(
    tree: ChainFolder, folder: Path, names: Iterable[str], result: Iterable[Numbered], platforms: Iterable[Platform]
) -> None:
    """Check that a Dockerfile or stage uses every `*-args` file on some platform."""
    takers = [item.name.taker for item in result] + list(STAGES)
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
    takers = [*(item.name.taker for item in result), "production"]
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


def _own_base(facts: Dockerfile, platform: Platform, target: str | None) -> str:
    """Return the image that the FROM of a Dockerfile names, if no ARG takes it and no FROM sets a platform; else empty."""
    if base_arg_candidates(facts, platform=platform, target=target) or any(stage.platform for stage in facts.stages):
        return ""
    base = find_base_image(facts, args={}, platform=platform, build_platform=platform, target=target)
    return base.reference if base and not base.is_nothing else ""


def _named_base_arg(tree: ChainFolder, facts: Dockerfile, base_arg: str) -> str:
    """Return the ARG that the user named; a problem goes to the tree."""
    problem = check_base_arg(facts, base_arg)
    tree.problems += [problem] if problem else []
    return base_arg


def find_base_arg(tree: ChainFolder, path: Path, facts: Dockerfile, platform: Platform) -> str:
    """Return the ARG that takes the base image of a Dockerfile; a problem goes to the tree."""
    if base_arg_used(facts, BASE):
        return BASE
    candidates = base_arg_candidates(facts, platform=platform, target=tree.target_of(path))
    if len(candidates) == 1:
        return candidates[0].name
    line = facts.stages[0].line if facts.stages else 1
    if candidates:
        texts = " and ".join(f"{arg.name} (line {arg.line})" for arg in candidates)
        tree.problem(
            path,
            f"the base image can be any of the ARGs {texts}",
            "Choose one with --base-arg NAME, or with base-arg: in chainbuild.yaml.",
            line=line,
        )
    else:
        others = [arg.name for arg in args_in_froms(facts)]
        hint = f"Begin the file with: ARG {BASE} and FROM ${{{BASE}}}. For another ARG, use --base-arg NAME."
        if others:
            hint = f"If {' or '.join(others)} takes the image of the step before, use --base-arg {others[0]}."
        tree.problem(
            path,
            f"no FROM uses ARG {BASE}, so the step would not be based on the one before",
            f"{hint} The FROM of the first Dockerfile may also be BASE itself.",
            line=line,
        )
    return BASE


def _note_base_arguments(tree: ChainFolder, folder: Path, result: Iterable[Numbered]) -> None:
    """Note the ARGs that were detected, each with the Dockerfiles that use it."""
    files: dict[str, list[str]] = {}
    for item in result:
        if item.base_arg not in {BASE, ""}:
            files.setdefault(item.base_arg, []).append(item.name.file)
    for name, using in files.items():
        tree.notes.append(f"{tree.shown(folder)}: ARG {name} takes the base image, in {', '.join(using)}")


def _taker_of(stem: str, takers: Iterable[str]) -> tuple[str, str]:
    """Return the descriptor and the platform in the name of an args file; both may contain a `-`."""
    for taker in takers:
        if stem.startswith(f"{taker}-") and _is_platform(stem.removeprefix(f"{taker}-")):
            return taker, stem.removeprefix(f"{taker}-")
    return stem.rpartition("-")[0], stem.rpartition("-")[2]


def find_args_file(tree: ChainFolder, folder: Path, taker: str, platform: Platform) -> Path | None:
    """Return the args file of a step for a platform, if there is one; a second one becomes a problem."""
    names = [f"{taker}-{spelling}-args" for spelling in platform.spellings]
    present = [folder / name for name in names if (folder / name).exists()]
    if len(present) > 1:
        tree.problem(
            present[1],
            f"{present[0].name} is for the same platform, {platform.oci}",
            "Remove one of the two files.",
        )
    return present[0] if present else None


def _is_platform(spelled: str) -> bool:
    try:
        Platform.parse(spelled)
    except WrongUseError:
        return False
    return True
