"""Check the parts of a new project file before it is written: which build context has the files, and what would fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts import layers, numbered
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest
from chainbuild.layouts.numbered import NumberedRequest
from chainbuild.model import Graph, Step
from chainbuild.planning.inputs import InputReader
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.values import replace

_ANY: Final = ImageReference("docker.io", "library/image", "latest")
"""An image in place of those that are not known yet: the checks do not read it."""
_PARENTS: Final = 3
"""How many folders above a tree may be its build context."""


class CheckedPart(Struct, frozen=True, kw_only=True):
    """The context that a part needs (None: the default), and what is wrong with the part."""

    context: Path | None = None
    problems: tuple[Problem, ...] = ()


class PartChecker:
    """Checks options and layers of a tree without a registry. Folders are scanned once."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._native = Platform.of_this_machine()
        self._inputs = InputReader(self._native)

    def check_layer(self, layer: LayerFolder) -> CheckedPart:
        """Check a layer on any base image, unless it is `FROM scratch`."""
        request = LayerRequest(
            root=self._root,
            layers=(layer,),
            platforms=(self._native,),
            registry=ChainRegistry("localhost"),
            build_platform=self._native,
            environ=os.environ,
        )
        around = [folder for folder in layer.folder.parents if folder == self._root or self._root in folder.parents]
        return self._checked(lambda: layers.read(request).graph, around)

    def check_options(self, options: Sequence[str], base: str, base_arg: str = "") -> CheckedPart:
        """Check the chain of the options on the base image that its first Dockerfile names, or on any (empty)."""
        request = NumberedRequest(
            root=self._root,
            platforms=(self._native,),
            repo=_ANY,
            repository=_ANY,
            tag="v1",
            base=ImageReference.parse(base) if base else _ANY,
            options=tuple(options),
            production=_ANY,
            build_platform=self._native,
            base_arg=base_arg,
            environ=os.environ,
        )
        folders = [(self._root / option).resolve() for option in options]
        around = [folders[0], *folders[0].parents[:_PARENTS], *self._root.parents[:_PARENTS]]
        return self._checked(lambda: numbered.read(request), around)

    def _checked(self, read: Callable[[], Graph], contexts: Iterable[Path]) -> CheckedPart:
        """Check the files of a graph's steps in their own contexts, and in others if files are missing there."""
        try:
            graph = read()
        except WrongUseError as error:
            return CheckedPart(problems=error.problems)
        missing = self._missing(graph)
        problems = self._problems(graph)
        if not missing:
            return CheckedPart(problems=problems)
        for context in dict.fromkeys(contexts):
            moved = [replace(step, context=context) if step.context_can_change else step for step in graph]
            if not self._missing(moved):
                return CheckedPart(context=context, problems=self._problems(moved))
        return CheckedPart(problems=problems)

    def _missing(self, steps: Iterable[Step]) -> int:
        return sum(source.missing for step in steps for source in self._inputs.check(step, {}).sources)

    def _problems(self, steps: Iterable[Step]) -> tuple[Problem, ...]:
        return self._inputs.problems([self._inputs.check(step, {}) for step in steps])
