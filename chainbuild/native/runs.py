"""Choose the RUN instructions that get native tools: those that may compile or install something, on the step's platform."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Final

from chainbuild.dockerfile.evaluation import foreign_frontend
from chainbuild.dockerfile.model import Dockerfile, Instruction
from chainbuild.dockerfile.stages import resolve_stages
from chainbuild.dockerfile.words import csv_fields
from chainbuild.patterns import regex
from chainbuild.references import Platform

MOUNTED: Final = "/.chainbuild-native"
"""Where the tools are mounted; `utilities/native` has the same paths in it."""
CHECKED: Final = "/.chainbuild-native-check"

ENTRIES: Final = tuple(f"/usr/local/sbin/{name}" for name in ("apt-get", "apt", "dpkg"))
"""Where native package tools are mounted: in PATH, before the folder of the image's own ones."""


class Use(StrEnum):
    """What native tools are used for."""

    COMPILERS = "compilers"
    PACKAGES = "packages"


_PLACES: Final[Mapping[Use, tuple[str, ...]]] = {
    Use.COMPILERS: (f"{MOUNTED}/", f"{CHECKED}/", "/usr/lib/gcc/"),
    Use.PACKAGES: (f"{MOUNTED}/", *ENTRIES),
}

# Commands that start no compiler. All others may, so that scripts and build tools nobody has heard of are covered.
_HARMLESS_NAMES: Final = (
    ": [ [[ addgroup adduser apt apt-cache apt-get apt-key apt-mark aptitude awk basename base64 break cat cd chgrp "
    "chmod chown chpasswd command continue cp curl cut date debconf-set-selections dirname dpkg dpkg-query done echo "
    "esac exit export false fc-cache fi find getent git gpg grep groupadd groupmod gunzip gzip hash head id install "
    "ldconfig ln localedef locale-gen ls md5sum mkdir mktemp mv printf pwd read readlink realpath return rm rmdir sed "
    "service set sha256sum sha512sum shift sleep sort stat strip sync tail tar tee test touch tr true type umask "
    "uname uniq unset unxz unzip update-alternatives update-ca-certificates update-locale useradd usermod wc wget "
    "which whoami xz zip zstd"
)
_HARMLESS: Final = frozenset(_HARMLESS_NAMES.split())
# Words in front of a command.
_LEADING: Final = frozenset(
    (
        "!",
        "(",
        "{",
        "builtin",
        "do",
        "else",
        "env",
        "exec",
        "if",
        "nice",
        "nohup",
        "sudo",
        "then",
        "time",
        "while",
        "until",
    )
)
_ASSIGNMENT: Final = regex(r"[A-Za-z_][A-Za-z0-9_]*=\S*")
_SEPARATOR: Final = regex(r"&&|\|\||[;\n|&]|\$\(|`")
_PACKAGE_TOOLS: Final = frozenset({"apt", "apt-get", "aptitude", "dpkg"})
_ENTERED: Final = frozenset(entry.rpartition("/")[2] for entry in ENTRIES)
_REMOVING: Final = frozenset({"remove", "purge", "autoremove", "autopurge", "-r", "-P", "--purge"})
# GCC reads a file of this name; a Dockerfile that writes one would write into the mounted one.
_SPECS: Final = regex(r"dumpspecs|/specs\b")


def native_runs(
    dockerfile: Dockerfile,
    *,
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
    contexts: frozenset[str] = frozenset(),
    target: str | None = None,
) -> Mapping[int, frozenset[Use]]:
    """Return the uses of native tools by the first lines of RUN instructions, when the Dockerfile is built for `platform`.

    A stage for another platform is left alone, and so is a Dockerfile whose frontend is not Docker's.
    """
    if foreign_frontend(dockerfile, args):
        return {}
    graph = resolve_stages(
        dockerfile,
        args=args,
        target=target,
        target_platform=platform,
        build_platform=build_platform,
        contexts=contexts,
        parents={},
    )
    stages = (graph.stages[index] for index in graph.reachable)
    runs = {
        found.line: _uses(found)
        for stage in stages
        if stage.platform == platform.oci and not stage.replaced_by
        for found in stage.stage.instructions
        if found.keyword == "RUN" and found.pieces
    }
    without = {Use.COMPILERS} if writes_specs(dockerfile) else set[Use]()
    return {line: uses - without for line, uses in runs.items() if uses - without}


def writes_specs(dockerfile: Dockerfile) -> bool:
    """Return whether an instruction mentions a specs file of GCC."""
    return any(_SPECS.search(_text(found)) for stage in dockerfile.stages for found in stage.instructions)


def _uses(run: Instruction) -> frozenset[Use]:
    commands = _started(run)
    compiles = not _HARMLESS.issuperset(commands)
    uses = {Use.PACKAGES} if compiles or _ENTERED.intersection(commands) else set[Use]()
    if compiles and not _removes_compilers(run):
        uses.add(Use.COMPILERS)
    return frozenset(use for use in uses if not _is_in_the_way(run, _PLACES[use]))


def may_compile(run: Instruction) -> bool:
    """Return whether a RUN starts a command that may start a compiler."""
    return not _HARMLESS.issuperset(_started(run))


def _started(run: Instruction) -> Collection[str]:
    """Return the names of the commands that a RUN starts."""
    return [run.words[0].rpartition("/")[2]] if run.json and run.words else list(_commands(_text(run)))


def _text(found: Instruction) -> str:
    return "\n".join((found.rest, *(document.content for document in found.heredocs)))


def _commands(text: str) -> Iterator[str]:
    for part in _SEPARATOR.split(_joined(text)):
        words = part.split()
        for word in words:
            if word in _LEADING or _ASSIGNMENT.fullmatch(word) or word.startswith("<<"):
                continue
            if word.startswith("-") and len(word) > 1:
                continue
            if word.startswith(("#", ")", "}")):
                break
            name = word.strip("\"'(){}").rpartition("/")[2]
            if name == "command" and not {"-v", "-V"} & set(words):
                continue
            yield "-exec" if name == "find" and any(option.startswith(("-exec", "-ok")) for option in words) else name
            break


def _joined(text: str) -> str:
    return text.replace("\\\n", " ")


def _removes_compilers(run: Instruction) -> bool:
    """Return whether a RUN removes packages that it does not install itself.

    dpkg does not remove a folder with a mounted file in it. In a RUN that also installs the packages, the folder is new
    and BuildKit removes it with the mount.
    """
    removed, installed, removes = set[str](), set[str](), False
    for part in _SEPARATOR.split(_joined(_text(run))):
        words = [word.strip("\"'(){}") for word in part.split()]
        tool = next((at for at, word in enumerate(words) if word.rpartition("/")[2] in _PACKAGE_TOOLS), len(words))
        arguments = frozenset(words[tool + 1 :])
        packages = {
            word
            for word in arguments - _REMOVING
            if (word[:1].isalnum() or word[:1] == "$") and not set(word) & set(">:")
        }
        if "install" in arguments:
            installed |= packages
        elif arguments & _REMOVING:
            removes = True
            removed |= packages
    return removes and (not installed or not removed <= installed)


def _is_in_the_way(run: Instruction, places: Collection[str]) -> bool:
    """Return whether a mount of the instruction's own covers the places of the tools."""
    for mount in run.flag_values("mount"):
        for start, end in csv_fields(mount):
            name, _, value = mount[start:end].partition("=")
            if name.lower() in {"target", "dst", "destination"}:
                path = value.rstrip("/")
                if any(place.startswith(f"{path}/") or path.startswith(place) for place in places):
                    return True
    return False
