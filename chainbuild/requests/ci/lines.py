"""The command lines of the jobs of a workflow, and the secrets and variables that they need.

Jobs start in the top folder of the repository, so every path in them is relative to it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.ci.checkout import Checkout
from chainbuild.ci.pipeline import StoredValue, report_page
from chainbuild.ci.shell import BUILDER
from chainbuild.errors import WrongUseError
from chainbuild.host.folders import OWN_FOLDER
from chainbuild.model import BuildArg
from chainbuild.parsing.option_values import ProblemCollector
from chainbuild.patterns import regex
from chainbuild.requests.options import RunOptions
from chainbuild.values import replace

PROGRAM: Final = "chainbuild"
_VARIABLE: Final = regex(r"[A-Za-z_][A-Za-z0-9_]*")
_UNFIT: Final = regex(r"[^A-Z0-9]+")


class CommandLines(Struct, frozen=True, kw_only=True):
    """Complete command lines: the words of a command, and the flags that the user gave.

    `place` says where the tree and the registry are, `secrets` and `inputs` what goes into the builds, `renewal` when a step
    is built again, and `how` the rest. `state` is the folder `.chainbuild` of the tree, relative to the top folder.
    `names_builder`: the command lines name the builder of the job, because the project file names others.
    """

    place: tuple[str, ...]
    state: str
    secrets: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    renewal: tuple[str, ...] = ()
    how: tuple[tuple[str, ...], ...] = ()
    deadline: str
    names_builder: bool = False

    def plan(self, *words: str) -> tuple[str, ...]:
        """Return a command line that shows a plan."""
        return self._line(words, "default")

    def run(self, *words: str) -> tuple[str, ...]:
        """Return a command line that builds, and writes a report."""
        shown = ("--no-load", "--report", report_page(self.state), "--plain")
        return (*self._line(words, BUILDER), *self._how, "--deadline", self.deadline, *shown)

    def complete(self, *words: str) -> tuple[str, ...]:
        """Return a command line that only publishes what is built already."""
        return (*self.plan(*words), *self._how, "--no-load", "--plain")

    def check(self, *words: str) -> tuple[str, ...]:
        """Return a command line that fails if `complete` would build something."""
        return (*self.plan(*words), *self._how, "--no-load", "--dry-run", "--fail-if-build")

    def _line(self, words: Iterable[str], builder: str) -> tuple[str, ...]:
        builders = ("--builder", builder) if self.names_builder else ()
        return (PROGRAM, *words, *self.place, *self.inputs, *self.secrets, *self.renewal, *builders)

    @property
    def _how(self) -> tuple[str, ...]:
        return tuple(word for words in self.how for word in words)

    def only(self, *flags: str, inputs: bool = False) -> CommandLines:
        """Return the command lines for commands that have only these flags of `how`, and `inputs` only if it is true."""
        how = tuple(words for words in self.how if words[0] in flags)
        return replace(self, inputs=self.inputs if inputs else (), how=how, names_builder=False)

    @property
    def is_plain(self) -> bool:
        """True if no flag is given that not all commands have."""
        return not (self.inputs or self.how)


def read_lines(
    options: RunOptions, checkout: Checkout, deadline: str, secrets: Iterable[str], collector: ProblemCollector
) -> CommandLines:
    """Return the command lines; problems go to the collector.

    `secrets` are the values of `--secret` to use. Only paths in `options` that the repository contains are accepted.
    """

    def place(path: Path, flag: str) -> str:
        try:
            return checkout.place(path, flag)
        except WrongUseError as error:
            collector.problems += error.problems
            return "."

    root = place(options.root, "--root")
    inputs: tuple[str, ...] = ()
    if options.base_arg:
        inputs += ("--base-arg", options.base_arg)
    if options.context:
        inputs += ("--context", place(options.context, "--context"))
    for argument in options.build_args or ():
        if not isinstance(argument, BuildArg):
            inputs += ("--build-arg", argument)
    for text in options.build_contexts or ():
        name, _, source = text.partition("=")
        local = source and "://" not in source and not source.startswith("git@")
        source = place(Path(source), f"--build-context {name}") if local else source
        inputs += ("--build-context", f"{name}={source}")
    return CommandLines(
        place=(*(("--root", root) if root != "." else ()), "--registry", options.registry or ""),
        state=posixpath.normpath(posixpath.join(root, OWN_FOLDER)),
        secrets=tuple(word for secret in secrets for word in ("--secret", secret)),
        inputs=inputs,
        renewal=tuple(
            word
            for words in _given(("--refresh-after", options.refresh_after), ("--native", options.native))
            for word in words
        ),
        how=_given(
            ("--no-cache", options.no_cache or None),
            ("--jobs", options.jobs),
            ("--keep-going", options.keep_going),
            ("--strict", options.strict),
            ("--push", options.push),
            ("--tests", options.tests),
        ),
        deadline=deadline,
    )


def _given(*pairs: tuple[str, bool | int | str | None]) -> tuple[tuple[str, ...], ...]:
    """Return the flags that are given, each with its value."""
    words: list[tuple[str, ...]] = []
    for flag, value in pairs:
        if isinstance(value, bool):
            words.append((flag if value else f"--no-{flag.removeprefix('--')}",))
        elif value is not None:
            words.append((flag, str(value)))
    return tuple(words)


# Secrets and variables ------------------------------------------------------------------------------------------------


def given_secrets(texts: Sequence[str], collector: ProblemCollector) -> tuple[tuple[str, ...], tuple[StoredValue, ...]]:
    """Return the values of `--secret` that jobs use, and what the vendor has to store; problems go to the collector.

    Jobs read every secret from a variable: the one that the user named, or one that is named after the secret.
    """
    specs: dict[str, str] = {}
    stored: dict[str, StoredValue] = {}
    for text in texts:
        fields = dict(part.partition("=")[::2] for part in text.split(","))
        name = fields.get("id", "")
        if not name:
            collector.add("--secret: no id given", "Write it as in id=token,src=token.txt or id=token,env=TOKEN.")
            continue
        variable = fields.get("env") or _variable(name)
        _check_variable(variable, f"--secret {name}", collector)
        specs[name] = f"id={name},env={variable}"
        stored[name] = StoredValue(name=variable, use=f"the build secret {name!r}")
    return tuple(specs.values()), _distinct(stored.values(), collector)


def project_secrets(
    texts: Sequence[str], overrides: Iterable[str], checkout: Checkout, collector: ProblemCollector
) -> tuple[StoredValue, ...]:
    """Return what the vendor has to store for the secrets of a project file, except those that the command line overrides.

    The file says where a run finds a secret, so jobs write it there. Problems go to the collector.
    """
    overridden = {spec.partition(",")[0] for spec in overrides}
    stored: list[StoredValue] = []
    for text in texts:
        identity, _, source = text.partition(",")
        name, (kind, _, value) = identity.removeprefix("id="), source.partition("=")
        if identity in overridden:
            continue
        use = f"the build secret {name!r}"
        if kind == "env":
            _check_variable(value, f"secrets: {name}", collector)
            stored.append(StoredValue(name=value, use=use))
            continue
        try:
            path = checkout.place(Path(value), f"secrets: {name}")
        except WrongUseError as error:
            collector.add(
                error.problems[0].message, f"Use a variable instead, so that jobs have it: {name}: {{env: NAME}}."
            )
            continue
        stored.append(StoredValue(name=_variable(name), use=use, path=path))
    return _distinct(stored, collector)


def _distinct(stored: Iterable[StoredValue], collector: ProblemCollector) -> tuple[StoredValue, ...]:
    """Return each variable once. Two secrets whose own names give the same variable are a problem."""
    by_name: dict[str, StoredValue] = {}
    for value in stored:
        other = by_name.setdefault(value.name, value)
        if other.use != value.use and value.name.startswith("CHAINBUILD_SECRET_"):
            collector.add(
                f"{other.use} and {value.use} would both be stored as {value.name}", "Set env=NAME for one of them."
            )
    return tuple(by_name.values())


def _variable(name: str) -> str:
    return f"CHAINBUILD_SECRET_{_UNFIT.sub('_', name.upper())}"


def _check_variable(name: str, what: str, collector: ProblemCollector) -> None:
    if not _VARIABLE.fullmatch(name):
        collector.add(f"{what}: {name!r} is not the name of a variable", "Use ASCII letters, digits and '_'.")
