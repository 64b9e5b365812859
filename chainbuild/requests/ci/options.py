"""The options of `chainbuild ci` as the user gave them, and which of them a kind of run does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from chainbuild.parsing.option_values import ProblemCollector
from chainbuild.requests.options import RunOptions

_FLAGS: Final[Mapping[str, str]] = {
    "repo": "--repo",
    "tag": "--tag",
    "base": "--base",
    "option": "--option",
    "production": "--production",
    "base_arg": "--base-arg",
    "context": "--context",
    "build_args": "--build-arg",
    "build_contexts": "--build-context",
    "secrets": "--secret",
    "strict": "--strict",
    "push": "--push",
    "tests": "--tests",
    "allow_secret_files": "--allow-secret-files",
}
"""The flags that not all kinds of runs have, by field. Those that an environment may always set are not among them."""
_SCIENCE: Final = frozenset({"repo", "push"})
_ONLY_TYPES: Final = frozenset({"allow_secret_files"})
_TYPES: Final = _ONLY_TYPES | {"build_args", "secrets"}


class CiOptions(RunOptions, frozen=True, kw_only=True):
    """The options of the command, as the user gave them. `deadline` is that of each job."""

    vendor: str
    branch: str | None = None
    split: str | None = None
    install: str | None = None
    install_image: str | None = None
    runners: Sequence[str] | None = None
    nightly: str | None = None
    """`all` or `security`: rebuild what is outdated every night."""
    public: str | None = None
    private: str | None = None
    allow_secret_files: bool = False


def check_flags(options: CiOptions, *, project: bool, science: bool, types: bool, collector: ProblemCollector) -> None:
    """Report flags that nothing of what was found has; problems go to the collector."""
    fields = set(_SCIENCE if science else ()) | set(_TYPES if types else ())
    fields |= _FLAGS.keys() - _ONLY_TYPES if project else set()
    unset = CiOptions(vendor=options.vendor)
    for field, flag in _FLAGS.items():
        if field not in fields and getattr(options, field) not in ((), [], getattr(unset, field)):
            collector.add(f"{flag}: nothing that this workflow builds has this flag", "Remove it.")
