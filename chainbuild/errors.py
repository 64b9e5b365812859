"""The error classes: what failed, where, what to do next, and the exit code for scripts.

Everything that a user can cause or run into is a `ChainbuildError`. Any other exception is a bug in chainbuild and is
reported as such.
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
    """The machine is missing something: engine, buildx, QEMU, disk space, a free port."""
    REGISTRY = 4
    """A registry or an image in it: not found, wrong platform, login required, no answer."""
    NOT_PROVEN = 5
    """An image was built but failed its checks: a library or symbol version is missing, or a test failed."""
    WOULD_BUILD = 6
    """`plan --fail-if-build`: a step would be built."""
    DEADLINE = 7
    """`--deadline` stopped the run; the next run continues."""
    BUSY = 8
    """Another run needs what the command would remove."""
    STALE_INDEX = 9
    """`--fail-if-stale-index`: an index would keep an image of another platform that this tree does not produce."""
    OUTDATED = 10
    """`outdated --fail`: a package has an update."""
    BUG = 70
    INTERRUPTED = 130


class Problem(Struct, frozen=True, kw_only=True, order=True):
    """One mistake in the user's input, as a value: readers collect all problems and report them together.

    `path` is relative to the current folder if that is shorter; `line` counts from 1 (0: the whole file).
    """

    path: str = ""
    line: int = 0
    message: str
    hint: str = ""

    @property
    def where(self) -> str:
        """`path:line`, `path`, or an empty text, in the form that terminals make clickable."""
        return f"{self.path}:{self.line}" if self.path and self.line else self.path

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head}\n    {self.hint}" if self.hint else head


class ChainbuildError(Exception):
    """The base class of all errors. `hint` says what to do next."""

    exit_code = ExitCode.BUILD_FAILED

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return str(Problem(path=self.where, message=self.message, hint=self.hint))


class WrongUseError(ChainbuildError):
    """One or more problems in the command line, a tree, or a file. Nothing was started."""

    exit_code = ExitCode.WRONG_USE

    def __init__(self, problems: Iterable[Problem] | str, *, hint: str = "") -> None:
        if isinstance(problems, str):
            problems = (Problem(message=problems, hint=hint),)
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        return self.message


class NotReadyError(ChainbuildError):
    """The machine is not ready: no engine, no buildx, no QEMU, no disk space, a port in use."""

    exit_code = ExitCode.NOT_READY


class RegistryError(ChainbuildError):
    """A registry refused a request, does not have the content, or does not answer."""

    exit_code = ExitCode.REGISTRY


class NotFoundInRegistryError(RegistryError):
    """The registry answered clearly that a manifest, blob or repository does not exist.

    `chainbuild.registry.http.answers` decides which answers are clear. No other answer means that something does not exist.
    """


class DamagedContentError(RegistryError):
    """Content with a wrong digest or size, or that cannot be parsed: treated as missing, but never without a message."""


class LimitError(DamagedContentError):
    """Content that exceeds a limit of `chainbuild.limits`."""


class NotAnImageError(RegistryError):
    """The name refers to an artifact that is not an image."""


class RegistryBusyError(RegistryError):
    """The registry cannot answer now (429, 5xx), even after the retries."""


class LoginNeededError(RegistryError):
    """The registry requires credentials, or rejected those that it got."""


class UnreachableError(RegistryError):
    """The registry did not answer: no network, unknown host, connection refused, TLS failure, timeout."""


class BuildFailedError(ChainbuildError):
    """A Dockerfile failed to build. `log_tail` holds the last lines of the failed instruction.

    `emulator_crash` is the line with which QEMU reported its crash; empty if it did not crash. `line` is that of the failed
    instruction in the Dockerfile (0: unknown, or no instruction failed), and `debug` says how to get a shell there.
    """

    exit_code = ExitCode.BUILD_FAILED

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        hint: str = "",
        log_tail: tuple[str, ...] = (),
        log_path: Path | None = None,
        emulator_crash: str = "",
        line: int = 0,
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.log_tail = log_tail
        self.log_path = log_path
        self.emulator_crash = emulator_crash
        self.line = line
        self.debug = ""


class NotProvenError(ChainbuildError):
    """An image was built but failed its checks, and was therefore not tagged."""

    exit_code = ExitCode.NOT_PROVEN

    def __init__(self, message: str, *, where: str = "", hint: str = "", findings: tuple[str, ...] = ()) -> None:
        super().__init__(message, where=where, hint=hint)
        self.findings = findings


class BusyError(ChainbuildError):
    """A running run needs what this command would remove."""

    exit_code = ExitCode.BUSY


class StaleIndexError(ChainbuildError):
    """An index would mix images of different generations, and the user made that an error. The index is unchanged."""

    exit_code = ExitCode.STALE_INDEX


class InterruptedRunError(ChainbuildError):
    """Ctrl-C or SIGTERM. Finished steps stay finished."""

    exit_code = ExitCode.INTERRUPTED
