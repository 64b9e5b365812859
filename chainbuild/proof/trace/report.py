"""Read the report of a traced run (`chainbuild.trace/1`), as `minimize/trace/report.py` writes it, into values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.errors import ChainbuildError
from chainbuild.proof.chain_files import package_title
from chainbuild.values import convert


class TracedPackage(Struct, frozen=True, kw_only=True):
    """The package that owns a path in the chain's image; without a name if there is none."""

    kind: str = ""
    name: str = ""
    version: str = ""

    def __str__(self) -> str:
        """Return the package as part of a sentence."""
        return f"of {self.title}"

    @property
    def title(self) -> str:
        """Return the package as a heading."""
        return package_title(self.kind, self.name, self.version)


class TracedTest(Struct, frozen=True, kw_only=True):
    """The results of a test in the chain's image (`status`), and in the production image (`produced`, empty if not run there).

    A status is an exit code, `late`, `skipped` (it did not pass in the production image) or `none`. `paths` is the
    number of paths that count. If not `traced`, strace did not work, and `said` is its error output. `cut`: a limit was
    reached.
    """

    name: str
    status: str
    produced: str = ""
    traced: bool = True
    paths: int = 0
    cut: bool = False
    said: str = ""

    @property
    def passed(self) -> bool:
        """Return whether the test passed in the chain's image."""
        return self.status == "0"

    @property
    def ending(self) -> str:
        """Return how the test failed in the chain's image."""
        return _ending(self.status)

    @property
    def ending_in_production(self) -> str:
        """Return how the test failed in the production image."""
        return _ending(self.produced)


class MissingPath(Struct, frozen=True, kw_only=True):
    """A path of the chain's image that the production image lacks, and the tests and the program that used it.

    `action` is `opened`, `listed`, `entered` or `executed`.
    """

    path: str
    action: str = field(name="kind")
    program: str
    tests: tuple[str, ...]
    package: TracedPackage

    def __str__(self) -> str:
        """Return a line for people."""
        return (
            f"{self.path}, {self.package}: {self.action} by {self.program or self.tests[0]} ({', '.join(self.tests)})"
        )


class Addition(Struct, frozen=True, kw_only=True):
    """A value for `ADDITIONAL_FILES`: a pattern, its package, and the missing paths that it adds."""

    path: str
    pattern: str
    package: TracedPackage
    brings: tuple[str, ...]


class TraceReport(Struct, frozen=True, kw_only=True):
    """A trace: the number of different paths that count, the tests, the missing paths, and the values that add them."""

    paths: int
    tests: tuple[TracedTest, ...]
    missing: tuple[MissingPath, ...]
    additions: tuple[Addition, ...] = field(name="words")
    ignored: tuple[str, ...]

    def additions_for(self, missing: tuple[MissingPath, ...]) -> tuple[Addition, ...]:
        """Return the values that add any of these paths."""
        paths = {item.path for item in missing}
        return tuple(item for item in self.additions if not paths.isdisjoint(item.brings))

    def by_package(self) -> dict[TracedPackage, list[MissingPath]]:
        """Return the missing paths by package; those without a package come last."""
        groups: dict[TracedPackage, list[MissingPath]] = {}
        for path in sorted(self.missing, key=lambda path: (not path.package.name, path.package.name, path.path)):
            groups.setdefault(path.package, []).append(path)
        return groups


def _ending(status: str) -> str:
    return "times out" if status == "late" else f"fails (exit code {status})"


def read_trace_report(raw: bytes) -> TraceReport:
    """Read a report. Errors: `ChainbuildError` if it is malformed (a bug)."""
    try:
        document = limits.read_object(raw, "the report of the traced tests", "trace.json", has_file_names=True)
        rows = {key: [_with_package(row) for row in document[key]] for key in ("missing", "words")}
        return convert(document | rows, TraceReport)
    except (ValueError, KeyError, TypeError) as error:
        raise ChainbuildError(f"the traced tests returned no valid report ({error!r})") from error


def _with_package(row: Mapping[str, Any]) -> dict[str, Any]:
    package = {"kind": row["kind_of_package"], "name": row["package"], "version": row["version"]}
    return {**row, "package": package}
