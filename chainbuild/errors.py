"""One tree of errors: what failed, where, what to do next, and the exit code that says so to a script.

Everything that a user can cause or meet is a `ChainbuildError`. Any other exception is a bug of ours and is reported
as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

from msgspec import Struct


class ExitCode(IntEnum):
    """Every exit code of the command, each with one meaning (listed in docs/exit-codes.md)."""

    DONE = 0
    BUILD_FAILED = 1
    WRONG_USE = 2
    NOT_READY = 3
    """The machine lacks something: engine, buildx, QEMU, space, a free port."""
    REGISTRY = 4
    """A registry or an image in it: not found, not for that platform, needs a login, does not answer."""
    NOT_PROVEN = 5
    """An image was built but is not fit for its name: a library or symbol version is missing, a test failed."""
    WOULD_BUILD = 6
    """`plan --fail-if-build` found something to build."""
    DEADLINE = 7
    """`--deadline` stopped the run; the next run goes on."""
    BUSY = 8
    """Somebody else's run needs what would be taken away."""
    STALE_INDEX = 9
    """`--fail-if-stale-index`: an index would keep an image of another platform that the present tree does not give."""
    BUG = 70
    INTERRUPTED = 130


class Problem(Struct, frozen=True, kw_only=True, order=True):
    """One thing that is wrong in what a user wrote, as a value: readers collect them and tell them together.

    `path` is relative to where the user stands where that is shorter; `line` counts from 1 (0: the whole file).
    """

    path: str = ""
    line: int = 0
    message: str
    hint: str = ""

    @property
    def where(self) -> str:
        """`path:line`, `path`, or nothing: what a terminal makes clickable."""
        return f"{self.path}:{self.line}" if self.path and self.line else self.path

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head}\n    {self.hint}" if self.hint else head


class ChainbuildError(Exception):
    """The root of the tree. `hint` says what to do next."""

    exit_code = ExitCode.BUILD_FAILED

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return str(Problem(path=self.where, message=self.message, hint=self.hint))


class WrongUseError(ChainbuildError):
    """One or more problems in the command line, a tree, or a file; nothing was started."""

    exit_code = ExitCode.WRONG_USE

    def __init__(self, problems: Iterable[Problem] | str, *, hint: str = "") -> None:
        if isinstance(problems, str):
            problems = (Problem(message=problems, hint=hint),)
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        return self.message


class NotReadyError(ChainbuildError):
    """The machine cannot do it yet: no engine, no buildx, no QEMU, no space, a taken port."""

    exit_code = ExitCode.NOT_READY


class RegistryError(ChainbuildError):
    """A registry refused, does not have it, or does not answer."""

    exit_code = ExitCode.REGISTRY


class NotFoundInRegistryError(RegistryError):
    """The registry answered clearly that there is no such manifest, blob or repository.

    `chainbuild.registry.answers` decides what is clear. No other answer means that something does not exist.
    """


class DamagedContentError(RegistryError):
    """Content that fails its digest or its size, or cannot be parsed: as good as none, but never without a message."""


class LimitError(DamagedContentError):
    """Content that exceeds a limit of `chainbuild.limits`."""


class NotAnImageError(RegistryError):
    """The name points at an artifact that is not an image."""


class RegistryBusyError(RegistryError):
    """The registry answered that it cannot answer now (429, 5xx), and still did so after the retries."""


class LoginNeededError(RegistryError):
    """The registry wants credentials, or other ones than it got."""


class UnreachableError(RegistryError):
    """The registry did not answer: no network, no such host, connection refused, TLS failure, time out."""


class BuildFailedError(ChainbuildError):
    """A Dockerfile did not build. `log_tail` holds the last lines of the failing instruction."""

    exit_code = ExitCode.BUILD_FAILED

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        hint: str = "",
        log_tail: tuple[str, ...] = (),
        log_path: Path | None = None,
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.log_tail = log_tail
        self.log_path = log_path


class NotProvenError(ChainbuildError):
    """An image was built, but what it needs is not all in it; it does not get its name."""

    exit_code = ExitCode.NOT_PROVEN

    def __init__(self, message: str, *, where: str = "", hint: str = "", findings: tuple[str, ...] = ()) -> None:
        super().__init__(message, where=where, hint=hint)
        self.findings = findings


class BusyError(ChainbuildError):
    """A run that is still going on needs what this command would take away."""

    exit_code = ExitCode.BUSY


class StaleIndexError(ChainbuildError):
    """An index would mix generations, and the user asked that this is an error; the index was not changed."""

    exit_code = ExitCode.STALE_INDEX


class InterruptedRunError(ChainbuildError):
    """Ctrl-C or SIGTERM; what was finished stays finished."""

    exit_code = ExitCode.INTERRUPTED
