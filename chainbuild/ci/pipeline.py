"""A workflow before it has a vendor's syntax: its jobs, machines, names of secrets, and comments."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import yaml
from msgspec import Struct

from chainbuild.ci.actions import with_versions
from chainbuild.ci.checkout import Checkout
from chainbuild.ci.install import Installation
from chainbuild.ci.jobs import Job, JobGraph, JobKind
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.text import escaped
from chainbuild.trust.keyring import SIGNING_KEY, TRUSTED_KEYS

PLAN: Final = "plan"
"""The job of pull requests."""
MARGIN: Final = 1800
"""Seconds between a run's deadline and its job's timeout: for the setup of the machine, and for a step that runs longer."""
NIGHT: Final = "17 3 * * *"
"""When nightly jobs run (crontab(5)): not on the hour, when vendors are busiest."""
REFRESH: Final = "CHAINBUILD_REFRESH_OUTDATED"
"""The variable of `--refresh-outdated`, which only the build jobs of a nightly run have."""
INDEX_MINUTES: Final = 30
RELEASE_MINUTES: Final = 120
_LOGS: Final = "logs"
_UNFIT: Final = regex(r"[^A-Z0-9]+")


class _Dumper(yaml.SafeDumper):
    """Safe YAML that is easy to read: scripts as blocks, no aliases, indented lists."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


class Runner(Struct, frozen=True, kw_only=True):
    """A machine: its labels at the vendor, whether the vendor hosts it, and the architectures to emulate.

    `emulates` are the OCI names of architectures, comma-separated, which QEMU's binfmt images use, too.
    """

    labels: tuple[str, ...]
    hosted: bool = True
    emulates: str = ""


class Login(Struct, frozen=True, kw_only=True):
    """A registry that jobs log in to, and the variables with the user and the password."""

    host: str
    user: str
    password: str


def login_to(host: str) -> Login:
    """Return the login of a registry other than the chain registry."""
    name = _UNFIT.sub("_", host.upper()).strip("_")
    return Login(host=host, user=f"CHAINBUILD_{name}_USER", password=f"CHAINBUILD_{name}_PASSWORD")


def report_page(state: str) -> str:
    """Return the page that a build job writes about its run: among the logs, to which it links. `state` as in `Pipeline`."""
    return f"{state}/{_LOGS}/report.html"


class StoredValue(Struct, frozen=True, kw_only=True):
    """A value that the vendor stores under a name, and what it is for. `path`: the file that jobs write it to, if any."""

    name: str
    use: str
    path: str = ""


class ReleaseCheck(Struct, frozen=True, kw_only=True):
    """A release plan, and the commands that check it in pull requests."""

    path: str
    commands: tuple[tuple[str, ...], ...]


class Vendor(Struct, frozen=True, kw_only=True):
    """A CI vendor. `limit` is the timeout of hosted jobs in seconds; `deadline` is below it, in the form users type."""

    name: str
    title: str
    path: str
    """The path of its workflow file in a repository."""
    limit: float
    deadline: str
    native: Mapping[str, str]
    """Its machines by the OCI platform that they run natively; always includes `linux/amd64`."""
    hosted: str
    """A pattern of the labels of hosted machines; other machines are self-hosted and have no `limit`."""
    many_labels: bool = True
    """True if a job can request a machine with several labels."""
    own_registry: str = ""
    """The vendor's own registry, for which jobs have a login without any secret."""
    knows_branch: bool = False
    """True if the vendor knows the default branch, so that workflows do not name it."""
    schedules: str = ""
    """Where users add a schedule, if the workflow file cannot have one."""
    store: str
    """Where users store secrets and variables."""
    write: Callable[[Pipeline], dict[str, Any]]
    """Returns the workflow as the data of its YAML file."""

    def runner(self, platform: Platform) -> Runner:
        """Return the vendor's machine for a platform: a native machine, else one that emulates it."""
        if platform.oci in self.native:
            return Runner(labels=(self.native[platform.oci],))
        return Runner(labels=(self.native["linux/amd64"],), emulates=platform.architecture)


class Pipeline(Struct, frozen=True, kw_only=True):
    """Everything that a vendor's module needs. Arguments are raw; the lines of `shell` quote them."""

    graph: JobGraph
    group: str
    """The name of what is built: two workflows of the same group must not run at the same time."""
    plans: tuple[tuple[str, ...], ...]
    """The command lines that show the plan of a pull request."""
    release: ReleaseCheck | None = None
    checkout: Checkout
    history: bool = False
    """True if jobs need all commits, not only the newest."""
    logins: tuple[Login, ...]
    """The logins of all jobs: the chain registry first."""
    installation: Installation
    secrets: tuple[StoredValue, ...] = ()
    """The build secrets."""
    variables: tuple[StoredValue, ...] = ()
    """The values of build args that come from the environment."""
    state: str
    """The folder `.chainbuild` of the tree, relative to the top folder of the repository."""
    deadline_seconds: float
    limit: float
    runners: Mapping[str, Runner]
    """By the name of the platform."""
    nightly: str = ""
    """Which updates of packages cause a rebuild every night: `all`, or those for `security`; empty: nothing runs then."""
    made_by: str = ""
    """The command that generates this workflow, for a comment."""

    def logins_of(self, job: Job) -> tuple[Login, ...]:
        """Return the logins that a job needs: that of the chain registry, and those of the registries that it pushes to."""
        return (self.logins[0], *(login for login in self.logins[1:] if login.host in job.hosts))

    @property
    def logs(self) -> str:
        """The folder of the logs of steps, and of reports."""
        return f"{self.state}/{_LOGS}"

    @property
    def shown_plan(self) -> str:
        """The file that the plan of a pull request is written to; no build context contains it."""
        return f"{self.state}/plan.txt"

    @property
    def plan_runner(self) -> Runner:
        """The machine of the plan of pull requests, which needs no emulation."""
        first = next(iter(self.runners.values()))
        return Runner(labels=first.labels, hosted=first.hosted)

    def runner(self, job: Job) -> Runner:
        """Return the machine of a job: for several platforms, that of the first one. Only build jobs emulate."""
        machines = [self.runners[platform.name] for platform in job.platforms]
        first = machines[0]
        emulates: list[str] = []
        if job.kind is JobKind.BUILD:
            for platform, machine in zip(job.platforms, machines, strict=True):
                foreign = machine.emulates or (platform.architecture if machine.labels != first.labels else "")
                emulates += [foreign] if foreign and foreign not in emulates else []
        return Runner(labels=first.labels, hosted=first.hosted, emulates=",".join(emulates))

    def minutes(self, job: Job) -> int:
        """Return the timeout of a job in minutes."""
        if job.kind is not JobKind.BUILD:
            return INDEX_MINUTES if job.kind is JobKind.INDEX else RELEASE_MINUTES
        seconds = self.deadline_seconds + MARGIN
        return math.ceil((min(seconds, self.limit) if self.runner(job).hosted else seconds) / 60)


def document(vendor: Vendor, pipeline: Pipeline) -> str:
    """Return the text of the workflow file."""
    body = yaml.dump(
        vendor.write(pipeline), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True, indent=2
    )
    # YAML ends a comment at more characters than \n.
    header = "".join(f"# {escaped(line)}".rstrip() + "\n" for line in _header(vendor, pipeline))
    return f"{header}\n{with_versions(body)}"


def _header(vendor: Vendor, pipeline: Pipeline) -> Iterator[str]:
    """Yield the comments at the head of the file: how it was made, what to store at the vendor, and notes."""
    yield f"{vendor.title}: {vendor.path}. Generated by chainbuild. To update it, run in the top folder of the repository:"
    yield pipeline.made_by
    yield ""
    yield f"Secrets and variables ({vendor.store}):"
    branch = "the default branch" if vendor.knows_branch else pipeline.checkout.branch
    signing = StoredValue(name=SIGNING_KEY, use=f"secret, only for {branch}: the key that signs records")
    trusted = StoredValue(
        name=TRUSTED_KEYS, use="variable, optional: public keys to trust beside those of chainbuild.yaml"
    )
    secrets = [
        StoredValue(name=item.name, use=f"secret: {item.use}")
        for item in (*_logins(vendor, pipeline), *pipeline.secrets)
    ]
    variables = [StoredValue(name=item.name, use=f"variable: {item.use}") for item in pipeline.variables]
    for item in (signing, *secrets, trusted, *variables):
        yield f"  {item.name}: {item.use}"
    yield ""
    yield from textwrap.wrap(f"Jobs install chainbuild {pipeline.installation.why}.", 118)
    for note in pipeline.graph.notes:
        yield from textwrap.wrap(f"Note: {note}.", 118)


def _logins(vendor: Vendor, pipeline: Pipeline) -> Iterator[StoredValue]:
    for login in pipeline.logins:
        if login.host != vendor.own_registry:
            yield StoredValue(name=login.user, use=f"the user for {login.host}")
            yield StoredValue(name=login.password, use=f"the password or token for {login.host}")
