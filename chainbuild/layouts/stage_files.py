"""Read and check the Dockerfiles of the stages: a tree's own in `utilities/`, else the shipped ones.

An own stage is `Dockerfile-minimize` or `NN-Dockerfile-minimize`, and likewise `production`. minimize passes its result to
production in one of two ways: as the minimized image (production reads `MINIMIZED_IMAGE`), or as the file
`/minimized.tar.gz` in that image, which production takes from its context, as in the scripts that this layout comes from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.context.dockerignore import find_ignore
from chainbuild.dockerfile import Dockerfile, Facts, ParentConfig, find_facts, parse
from chainbuild.dockerfile.images import find_base_image
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.host.package_data import PROGRAM, proof_path, shipped
from chainbuild.layouts.numbered_folder import BASE, STAGES, ChainFolder
from chainbuild.layouts.numbered_names import LEFT_OVER
from chainbuild.model import HandedFile
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.values import replace

PRODUCTION: Final = "PRODUCTION_IMAGE"
MINIMIZED: Final = "MINIMIZED_IMAGE"
FOLDER: Final = "utilities"
TARBALL: Final = "minimized.tar.gz"
"""The file that an own production stage may take from its context instead of `MINIMIZED_IMAGE`."""
HANDED: Final = HandedFile(image=MINIMIZED, path=f"/{TARBALL}", name=TARBALL)

_NAME: Final = regex(r"(?:[0-9]+-)?Dockerfile-(?P<kind>minimize|production)")
_NEARLY: Final = regex(
    r"(?:[0-9]+[-_. ]*)?(?:dockerfile[-_. ]*(?P<after>minimi[sz]e|production)"
    r"|(?P<before>minimi[sz]e|production)[-_. ]*dockerfile)",
    re.IGNORECASE,
)
# Placeholder for an image that the chain provides. It is not a valid image (RFC 6761).
_GIVEN: Final = "chainbuild.invalid/"
_GIVEN_ARGS: Final = (BASE, PRODUCTION, MINIMIZED)


class StageFile(Struct, frozen=True, kw_only=True):
    """The Dockerfile of a stage. `own`: it belongs to the tree; `target` is its stage to build (None: the last)."""

    kind: str
    path: Path
    facts: Dockerfile
    own: bool
    target: str | None = None
    knows_lists: bool = False
    """True if it supports lists and their dependencies, as the shipped program does."""

    def line(self) -> int:
        """Return the line of the FROM of the stage that is built."""
        stages = self.facts.stages
        named = next((stage for stage in stages if self.target and stage.name == self.target.lower()), None)
        return (named or stages[-1]).line if stages else 1


class StageFiles(Struct, frozen=True, kw_only=True):
    """Both stages. `handed` are the files of minimize that production takes from its context."""

    minimize: StageFile
    production: StageFile
    handed: tuple[HandedFile, ...] = ()


def read_stage_files(
    tree: ChainFolder,
    *,
    platform: Platform,
    build_platform: Platform,
    contexts: Collection[str] = (),
    options: Collection[str] = (),
) -> StageFiles | None:
    """Find and read the stages of a tree; problems go to the tree. None if a stage cannot be read.

    `contexts` are the names of the user's named contexts. The stages are in `utilities/` of the tree, else next to the
    `options` if these are all in one folder.
    """
    own = _own_stages(tree, tree.root / FOLDER)
    around = {(tree.root / option).parent for option in options}
    if not own and len(around) == 1 and tree.root not in around:
        own = _own_stages(tree, around.pop() / FOLDER)
    results = {kind: _read(tree, kind, own.get(kind)) for kind in STAGES}
    minimize, production = results["minimize"], results["production"]
    if minimize is None or production is None:
        return None
    knows = uses_program(minimize.facts, platform=platform, build_platform=build_platform)
    minimize = replace(minimize, knows_lists=knows)
    checker = _Checker(tree, platform, build_platform, (PROGRAM, *contexts))
    handed = checker.check(minimize, production)
    return StageFiles(minimize=minimize, production=production, handed=(HANDED,) if handed else ())


def uses_program(dockerfile: Dockerfile, *, platform: Platform, build_platform: Platform) -> bool:
    """Return whether a minimize stage runs the shipped program, which supports lists with their dependencies."""
    facts = find_facts(
        dockerfile, args={}, target_platform=platform, build_platform=build_platform, contexts=(PROGRAM,)
    )
    return any(name == normal_context_name(PROGRAM) for name, _ in facts.named_sources)


def _own_stages(tree: ChainFolder, folder: Path) -> dict[str, Path]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        tree.problem(folder, f"cannot be read: {error.strerror}", "Make it a readable folder.")
        return {}
    results: dict[str, Path] = {}
    for name in names:
        path = folder / name
        match = _NAME.fullmatch(name)
        nearly = None if match or name.endswith(LEFT_OVER) else _NEARLY.fullmatch(name)
        if match:
            other = results.setdefault(match["kind"], path)
            if other is not path:
                message = f"the stage {match['kind']} has two Dockerfiles, {tree.shown(other)} and {tree.shown(path)}"
                tree.problem(path, message, "Remove one of the two files.")
        elif nearly:
            kind = "production" if (nearly["after"] or nearly["before"]).lower() == "production" else "minimize"
            message = (
                f"looks like the Dockerfile of the stage {kind}, but its name is different, so it would not be used"
            )
            hint = f"Rename it to Dockerfile-{kind} or NN-Dockerfile-{kind}, or move it out of {FOLDER}/."
            tree.problem(path, message, hint)
    return results


def _read(tree: ChainFolder, kind: str, own: Path | None) -> StageFile | None:
    default = shipped(f"{FOLDER}/Dockerfile-{kind}")
    path = own or default
    facts = tree.read_dockerfile(path)
    if facts is None:
        return None
    # In chainbuild's own repository, the shipped files are the tree's.
    is_own = path.resolve() != default.resolve()
    return StageFile(kind=kind, path=path, facts=facts, own=is_own, target=tree.target_of(path), knows_lists=not is_own)


class _Checker:
    """Checks that each stage reads its inputs, and that the two stages fit together."""

    def __init__(
        self, tree: ChainFolder, platform: Platform, build_platform: Platform, contexts: Collection[str]
    ) -> None:
        self.tree = tree
        self.platform = platform
        self.build_platform = build_platform
        self.contexts = contexts

    def check(self, minimize: StageFile, production: StageFile) -> bool:
        """Record problems. Return whether production takes the tarball from its context."""
        if minimize.own:
            self._check_minimize(minimize)
        if not production.own:
            if minimize.own:
                self._check_files_alone(minimize, production)
            return False
        facts = self._facts(production)
        by_image = self._uses(facts, MINIMIZED)
        tar_line = 0 if by_image else self._tar_line(production, facts, whole=minimize.own)
        if not self._is_sure(facts):
            return tar_line > 0
        if not self._uses(facts, PRODUCTION):
            self._wrong(
                production,
                f"{PRODUCTION} is never used: the result would not be based on the production image",
                f"Add ARG {PRODUCTION} before the first FROM, and FROM ${{{PRODUCTION}}} for the last stage.",
            )
        if tar_line:
            self._check_tarball(minimize, production, tar_line)
        elif not by_image:
            self._wrong(
                production,
                "it uses nothing that minimize collected: the result would not have the chain's files",
                f"Add ARG {MINIMIZED} and FROM ${{{MINIMIZED}}} AS minimized, and in the last stage"
                f" COPY --from=minimized / /; or ADD ./{TARBALL} / if minimize creates /{TARBALL}.",
            )
        return tar_line > 0

    def _check_minimize(self, minimize: StageFile) -> None:
        facts = self._facts(minimize)
        if self._is_sure(facts) and not self._uses(facts, BASE):
            self._wrong(
                minimize,
                f"{BASE} is never used: nothing of the chain would be collected",
                f"Add ARG {BASE} before the first FROM, and FROM ${{{BASE}}} AS chain; copy files with COPY --from=chain.",
            )

    def _check_files_alone(self, minimize: StageFile, production: StageFile) -> None:
        """Check that the minimized image has only files to keep, because the shipped production stage copies all of it."""
        lowest = find_base_image(
            minimize.facts,
            args=_markers(),
            platform=self.platform,
            build_platform=self.build_platform,
            target=minimize.target,
        )
        if lowest is not None and lowest.reference != "scratch":
            self._wrong(
                minimize,
                f"its image is based on {lowest.written}, and chainbuild's production stage copies all of it",
                "End it with FROM scratch and COPY --from=… of the files to keep, or add your own"
                f" {FOLDER}/{production.path.name}.",
            )

    def _check_tarball(self, minimize: StageFile, production: StageFile, line: int) -> None:
        if not minimize.own:
            self.tree.problem(
                production.path,
                f"{TARBALL}: chainbuild's minimize stage creates an image of files, not this archive",
                f"Add ARG {MINIMIZED} and FROM ${{{MINIMIZED}}} AS minimized, and replace this line with"
                f" COPY --from=minimized / /; or add {FOLDER}/Dockerfile-minimize that creates /{TARBALL}.",
                line=line,
            )
        ignore = find_ignore(production.path.parent, production.path)
        if ignore.ignores(TARBALL):
            self.tree.problem(
                production.path,
                f"{TARBALL} is excluded by the ignore file of {FOLDER}/",
                f"Add the line !{TARBALL} to it.",
                line=line,
            )

    def _facts(self, file: StageFile) -> Facts:
        markers = _markers()
        return find_facts(
            file.facts,
            args=markers,
            target=file.target,
            target_platform=self.platform,
            build_platform=self.build_platform,
            contexts=self.contexts,
            parents={(marker, self.platform.oci): ParentConfig() for marker in markers.values()},
        )

    def _tar_line(self, file: StageFile, facts: Facts, *, whole: bool) -> int:
        """Return the line that takes the tarball from the context, 0 if none does. `whole`: also as part of all files."""
        for pattern in facts.sources.patterns:
            if (whole and pattern in {".", "**"}) or (pattern != "**" and fnmatchcase(TARBALL, pattern)):
                return facts.source_lines.get(("", pattern)) or file.line()
        return 0

    @staticmethod
    def _uses(facts: Facts, arg: str) -> bool:
        return any(use.reference == _markers()[arg] for use in facts.images)

    @staticmethod
    def _is_sure(facts: Facts) -> bool:
        """Return whether the Dockerfile alone determines what is read."""
        return not (facts.foreign or facts.problems or any("not certain" in doubt for doubt in facts.doubts))

    def _wrong(self, file: StageFile, message: str, hint: str) -> None:
        self.tree.problem(file.path, message, hint, line=file.line())


def _markers() -> Mapping[str, str]:
    return {arg: f"{_GIVEN}{arg.lower()}" for arg in _GIVEN_ARGS}


def proof_dockerfile() -> Dockerfile:
    """Return the parsed Dockerfile of the proof."""
    return parse(proof_path().read_bytes(), "utilities/Dockerfile-verify")
