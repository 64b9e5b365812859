"""A workflow before a vendor's syntax: its jobs, their commands, and the text around the YAML.

The text of a workflow: what it is and how it was made, then its YAML.

Lines of shell that the vendors' workflows have in common. Every word in them is checked and quoted.

A workflow before it is any vendor's: jobs, machines and the command lines that the jobs run.
"""

from __future__ import annotations

import math
import shlex
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import yaml
from msgspec import Struct

from chainbuild.ci.jobs import Job, JobGraph, JobKind
from chainbuild.errors import ExitCode
from chainbuild.references import ChainRegistry, Platform


class _Dumper(yaml.SafeDumper):
    """Safe YAML for people: scripts as they are written, nothing by reference, lists set in."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def document(vendor: Vendor, pipeline: Pipeline) -> str:
    """The whole file."""
    body = yaml.dump(
        vendor.write(pipeline), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True, indent=2
    )
    notes = [line for note in pipeline.graph.notes for line in textwrap.wrap(f"Note: {note}.", 118)]
    header = [f"{vendor.title}: {vendor.path}. Written by chainbuild; change the tree or the words, and run it again:"]
    return "".join(f"# {line}\n" for line in [*header, pipeline.made_by, *notes]) + "\n" + body


DEADLINE: Final = int(ExitCode.DEADLINE)
BINARIES: Final = "$HOME/.local/bin"
"""Where pipx puts commands."""
USER: Final = "CHAINBUILD_REGISTRY_USER"
PASSWORD: Final = "CHAINBUILD_REGISTRY_PASSWORD"  # noqa: S105  # the name of the variable


CREATE_BUILDER: Final = "docker buildx create --name chainbuild --driver docker-container --bootstrap --use"
"""Makes a builder that gives layers reproducible times, which the engine's own builder does not."""


def emulate(architecture: str) -> tuple[str, ...]:
    """What lets the machine run programs of that architecture, where there is one."""
    return (f"docker run --privileged --rm tonistiigi/binfmt --install {architecture}",) if architecture else ()


def command(words: Iterable[str]) -> str:
    """A command line, quoted."""
    return shlex.join(words)


def lines(*parts: str) -> str:
    """A script; one of several lines ends in a newline, so that YAML shows it as it is."""
    return "\n".join(parts) + ("\n" if len(parts) > 1 else "")


def login(host: str, *, user: str = USER, password: str = PASSWORD) -> str:
    """Log in with a name and a password out of these variables; neither is ever in an argument that others see."""
    return f'printf \'%s\' "${password}" | docker login {shlex.quote(host)} --username "${user}" --password-stdin'


def have_pipx(install: str) -> tuple[str, ...]:
    """What makes sure of pipx on Debian and Ubuntu, where the install command is one of pipx."""
    if not install.startswith("pipx "):
        return ()
    return ("command -v pipx > /dev/null || { sudo apt-get update && sudo apt-get install --yes pipx; }",)


MARGIN: Final = 1800
"""Seconds between a run's deadline and the end of its job: for the machine's set-up, and a step that takes longer."""
INDEX_MINUTES: Final = 30
BRANCH: Final = "main"


class Runner(Struct, frozen=True, kw_only=True):
    """A machine: how the vendor calls it, whether the vendor runs it, and what has to be emulated on it ("": nothing).

    `emulates` is the architecture's OCI name, which is also what QEMU's binfmt images call it.
    """

    labels: tuple[str, ...]
    hosted: bool = True
    emulates: str = ""


class Vendor(Struct, frozen=True, kw_only=True):
    """What there is to know of a vendor. `limit` ends hosted jobs (seconds); `deadline` is below it, as people type it."""

    name: str
    title: str
    path: str
    """Where its workflow lies in a repository."""
    limit: float
    deadline: str
    native: Mapping[str, str]
    """Its machines by the OCI platforms that they run natively; `linux/amd64` is always among them."""
    hosted: str
    """A pattern of the labels of its own machines; others are the user's and have no `limit`."""
    many_labels: bool = True
    """Whether a job can ask for a machine with several labels."""
    write: Callable[[Pipeline], dict[str, Any]]
    """The workflow as the plain data that its YAML holds."""

    def runner(self, platform: Platform) -> Runner:
        """The vendor's machine for a platform: one of its own kind, else an emulating one."""
        if platform.oci in self.native:
            return Runner(labels=(self.native[platform.oci],))
        return Runner(labels=(self.native["linux/amd64"],), emulates=platform.architecture)


class Pipeline(Struct, frozen=True, kw_only=True):
    """Everything that a vendor's module writes down. All words are checked: none needs more than `shlex.quote`."""

    graph: JobGraph
    repo: str
    tag: str
    base: str
    options: Mapping[str, str]
    """What the user typed for each option: the path of its folder."""
    production: str
    registry: ChainRegistry
    root: str
    """The tree's folder in the repository; "" for its top."""
    deadline: str
    deadline_seconds: float
    limit: float
    install: str
    """The shell command that installs chainbuild, quoted."""
    runners: Mapping[str, Runner]
    """By the platform's name."""
    variables: tuple[str, ...] = ()
    """What args files take from the environment."""
    made_by: str = ""
    """The command that writes this workflow again."""

    def runner(self, job: Job) -> Runner:
        """The machine of a job; nothing is emulated where nothing is built."""
        runner = self.runners[job.platforms[0].name]
        if job.kind is JobKind.INDEX:
            return Runner(labels=runner.labels, hosted=runner.hosted)
        return runner

    def minutes(self, job: Job) -> int:
        """When the vendor is to end a job."""
        if job.kind is JobKind.INDEX:
            return INDEX_MINUTES
        seconds = self.deadline_seconds + MARGIN
        return math.ceil((min(seconds, self.limit) if self.runner(job).hosted else seconds) / 60)

    def build(self, job: Job) -> tuple[str, ...]:
        """The command line of a job that builds."""
        until = ("--until", str(job.until)) if job.until is not None else ()
        return ("chainbuild", *self._words(job), *until, "--deadline", self.deadline, "--no-load", "--plain")

    def index(self, job: Job) -> tuple[tuple[str, ...], ...]:
        """The command lines of a job that completes an index: it fails where it would have to build."""
        words = self._words(job)
        return ("chainbuild", "plan", *words, "--fail-if-build"), ("chainbuild", *words, "--no-load", "--plain")

    def _words(self, job: Job) -> tuple[str, ...]:
        platforms = ",".join(platform.name for platform in job.platforms)
        base = str(job.base) if job.base else self.base
        words = (platforms, self.repo, self.tag, base, self.options[job.option], self.production)
        return (*words, *(("--root", self.root) if self.root else ()), "--registry", str(self.registry))
