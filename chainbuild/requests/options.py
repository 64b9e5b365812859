"""The options of a run as the user gave them. None, False or empty means that an option was not given.

The commands build these values. `RunOptions.merged` is the only place where the project file and the command line meet, and
the readers of this package parse the texts and apply the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import BuildArg
from chainbuild.project.location import find_project
from chainbuild.references import Platform
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.project.model import Project

T = TypeVar("T")


class RunArguments(NamedTuple):
    """The six arguments of a run; None: not given."""

    platform: str | None = None
    repo: str | None = None
    tag: str | None = None
    base: str | None = None
    option: str | None = None
    production: str | None = None


def check_arguments(arguments: RunArguments, overrides: RunArguments) -> None:
    """Check that all six arguments are present and that no flag repeats one. Errors: `WrongUseError`."""
    missing = [name.upper() for name, value in arguments._asdict().items() if value is None]
    if missing:
        raise WrongUseError(
            f"Missing argument{'s' * (len(missing) > 1)}: {' '.join(missing)}",
            hint="Give all six arguments, or none to use chainbuild.yaml. See chainbuild build --help.",
        )
    duplicates = [name for name, value in overrides._asdict().items() if value is not None]
    if duplicates:
        raise WrongUseError(
            Problem(message=f"--{name}: {name.upper()} is already given as an argument", hint="Remove the flag.")
            for name in duplicates
        )


class SessionOptions(Struct, frozen=True, kw_only=True):
    """The options that a session is opened with: the folder, the chain registry and the builders."""

    root: Path = Path()
    registry: str | None = None
    port: int | None = None
    builders: Sequence[str] | None = None
    no_cache: bool = False

    def of_project(self) -> Self:
        """Return the options with the registry, port and builders of the project around the folder, unless they are given.

        Inside a project, the folder becomes the project's. Errors: `WrongUseError` with every problem of these settings.
        """
        path = find_project(self.root) if self.root.is_dir() else None
        if path is None:
            return self
        # Imported late: most folders are in no project, and importing its reader takes time.
        from chainbuild.project.reader import read_registry_settings

        settings = read_registry_settings(path)
        return replace(
            self,
            root=path.parent,
            registry=self.registry or settings.registry,
            port=self.port or settings.port,
            builders=_merged_builders(settings.builders, self.builders or ()),
        )


class CommonOptions(SessionOptions, frozen=True, kw_only=True):
    """The options that all kinds of runs share."""

    platform: str | None = None
    context: Path | None = None
    build_args: Sequence[str | BuildArg] | None = None
    """As text if given on the command line, as values if set by the project file."""
    build_contexts: Sequence[str] | None = None
    secrets: Sequence[str] | None = None
    refresh: bool = False
    refresh_after: str | None = None
    refresh_outdated: str | None = None
    """`all` or `security`."""
    rebase: bool = False
    deadline: str | None = None
    jobs: int | None = None
    keep_going: bool | None = None
    strict: bool | None = None
    load: bool | None = None
    push: bool | None = None
    tests: bool | None = None
    native: str | None = None
    """`auto`, `off`, `check` or `check:N%`: for all steps, whatever the project file says."""
    native_steps: Mapping[str, str] = {}
    """The modes of single steps, by a pattern of `option/name`; set by the project file."""
    replace_index: bool = False
    fail_if_stale_index: bool = False

    def with_renewal(self, refresh: bool, after: str | None, outdated: str | None, rebase: bool) -> Self:
        """Return the options with those of when to build a step again, or rebase it."""
        return replace(self, refresh=refresh, refresh_after=after, refresh_outdated=outdated, rebase=rebase)


class RunOptions(CommonOptions, frozen=True, kw_only=True):
    """The options of a run of options, or of a project with its options and layers."""

    repo: str | None = None
    tag: str | None = None
    base: str | None = None
    option: str | None = None
    production: str | None = None
    base_arg: str | None = None
    first: int | None = None
    only: int | None = None
    until: int | None = None
    layer: str | None = None
    """Build only this layer of the project and its bases."""
    alone: bool = False
    """Build only this layer, on its bases as they are in the registry."""

    def with_arguments(self, arguments: RunArguments) -> RunOptions:
        """Return the options with these arguments."""
        return replace(self, **arguments._asdict())

    def merged(self, project: Project) -> RunOptions:
        """Return the options with the settings of the project file where an option was not given."""
        return replace(
            self,
            root=project.root,
            platform=self.platform or ",".join(project.platforms) or None,
            repo=self.repo or project.repo,
            tag=self.tag or project.tag,
            base=self.base or _text(project.base),
            option=self.option or ",".join(project.options) or None,
            production=self.production or _text(project.production),
            registry=self.registry or project.registry,
            port=self.port or project.port,
            builders=_merged_builders(project.builders, self.builders or ()),
            base_arg=self.base_arg or project.base_arg,
            context=self.context or project.context,
            build_args=_by_name(project.build_args, self.build_args or (), _argument_name),
            build_contexts=_by_name(project.build_contexts, self.build_contexts or (), _context_name),
            secrets=_by_name(project.secrets, self.secrets or (), _secret_name),
            refresh_after=self.refresh_after or project.refresh_after,
            deadline=self.deadline or project.deadline,
            jobs=self.jobs or project.jobs,
            keep_going=project.keep_going if self.keep_going is None else self.keep_going,
            strict=project.strict if self.strict is None else self.strict,
            load=project.load if self.load is None else self.load,
            push=project.push if self.push is None else self.push,
            tests=project.tests if self.tests is None else self.tests,
            native=self.native or project.native,
            native_steps={} if self.native else project.native_steps,
        )


def as_kind(kind: Callable[..., T], options: CommonOptions, **own: Any) -> T:
    """Return the options of another kind of run: those that all kinds share, changed and completed by `own`."""
    return kind(**{name: getattr(options, name) for name in CommonOptions.__struct_fields__} | own)


def _text(image: object) -> str | None:
    return str(image) if image else None


# Lists: an entry of the command line replaces the entry with the same name in the file --------------------------------


def _by_name(in_file: Iterable[T], given: Iterable[T], name: Callable[[T], str]) -> tuple[T, ...]:
    given = tuple(given)
    taken = {name(item) for item in given}
    return (*(item for item in in_file if name(item) not in taken), *given)


def _merged_builders(in_file: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """Return the given builders and the file's builders for other platforms; one for all replaces these."""
    if any("=" not in text for text in given):
        return tuple(given)
    return _by_name(in_file, given, _builder_name)


def _builder_name(text: str) -> str:
    name, equals, _ = text.partition("=")
    try:
        return Platform.parse(name).oci if equals else ""
    except WrongUseError:
        return name


def _argument_name(argument: str | BuildArg) -> str:
    return argument.name if isinstance(argument, BuildArg) else argument.partition("=")[0]


def _context_name(text: str) -> str:
    return text.partition("=")[0]


def _secret_name(text: str) -> str:
    return dict(part.partition("=")[::2] for part in text.split(",")).get("id", "")
