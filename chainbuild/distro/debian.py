"""Debian and Ubuntu as sources of base images: what a name and the flags ask for, and what this machine has for it."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chainbuild.errors import NotReadyError, Problem, WrongUseError
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.oci import canonical

INPUTS_LABEL: Final = "org.chainbuild.bootstrap.inputs"
CERTIFICATES_LABEL: Final = "org.chainbuild.bootstrap.certificates"
"""Names the CA certificates of the build machine that an image has, separated by commas."""
# Part of the inputs: raised when the recipe below changes what comes out of the same request.
_RECIPE: Final = 3

_EXTRA_CERTIFICATES: Final = Path("/usr/local/share/ca-certificates")
_RELEASES: Final = {
    "debian": {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"},
    "ubuntu": {"20.04": "focal", "22.04": "jammy", "24.04": "noble", "26.04": "resolute"},
}
# Suites that have neither updates nor security of their own.
_ROLLING: Final = frozenset({"sid", "unstable", "experimental", "devel"})
# Packages of the distribution's own image that `mmdebstrap --variant=minbase` does not choose by itself. In bookworm
# init-system-helpers depends on `usrmerge | usr-is-merged`; the first one would bring perl.
_ALWAYS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {("debian", "bookworm"): ("usr-is-merged",)}
CA_CERTIFICATES: Final = "ca-certificates"
_SUITE: Final = re.compile(r"[a-z][a-z0-9-]*")
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")

_APT: Final = ('Acquire::Languages "none"',)
# Settings of the machine's apt without which its mirror would be refused inside containers, too.
_INHERITED: Final = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")

Variant = Literal["slim", "full"]


class PackageRequest(Struct, frozen=True, kw_only=True):
    """What is to be made, checked: the inputs that decide an image, without the platform."""

    distribution: str
    suite: str
    variant: Variant
    include: tuple[str, ...]
    sources: tuple[str, ...]
    """Lines of sources.list."""
    apt: tuple[str, ...]
    certificates: tuple[tuple[str, bytes], ...]
    """CA certificates of the build machine that go into the image: file name and content."""

    @property
    def mirror_needs_certificates(self) -> bool:
        """Whether apt in the image could not check its mirror: it uses TLS, and the image has no CA certificates."""
        return CA_CERTIFICATES not in self.include and any(" https://" in line for line in self.sources)

    @property
    def command(self) -> str:
        """The command that makes the image, for its history."""
        always = _ALWAYS.get((self.distribution, self.suite), ())
        words = [f"chainbuild bootstrap {self.distribution} {self.suite}"]
        words += [f"--package {package}" for package in self.include if package not in always]
        words += ["--machine-certificates"] if self.certificates else []
        return " ".join(words)

    def inputs(self, platform: Platform) -> str:
        """The digest of everything that decides the image, but for the state of the mirror."""
        document = {
            "recipe": _RECIPE,
            "platform": platform.oci,
            "suite": [self.distribution, self.suite],
            "variant": self.variant,
            "include": sorted(self.include),
            "sources": list(self.sources),
            "apt": list(self.apt),
            "certificates": {name: hashlib.sha256(data).hexdigest() for name, data in self.certificates},
        }
        return hashlib.sha256(canonical(document)).hexdigest()


# ---- the request ------------------------------------------------------------------------------------------------------


def read_request(
    reference: ImageReference,
    *,
    include: Sequence[str] = (),
    variant: Variant | None = None,
    suite: str | None = None,
    certificates: bool = False,
) -> PackageRequest:
    """Return what a name and the flags ask for, on this machine. Errors: `WrongUseError`, `NotReadyError`.

    `certificates`: put the machine's own CA certificates into the image. Only a package that reads them (ca-certificates)
    makes them count there.
    """
    problems = [
        Problem(message=f"{package!r} is not a package's name", hint="As in --package git,curl.")
        for package in include
        if not _PACKAGE.fullmatch(package)
    ]
    machine = _os_release()
    try:
        distribution, found, slim = parse_name(reference, suite, machine.get("ID", ""))
    except WrongUseError as error:
        raise WrongUseError([*error.problems, *problems]) from error
    if problems:
        raise WrongUseError(problems)
    _need_tools()
    if machine.get("ID") != distribution:
        raise NotReadyError(
            f"this machine is {machine.get('PRETTY_NAME', 'no Debian')}: its mirror has no {distribution} packages",
            hint=f"Bootstrap on a {distribution} machine, or in a container of one.",
        )
    return PackageRequest(
        distribution=distribution,
        suite=found,
        variant=variant or ("slim" if slim else "full"),
        include=tuple(sorted({*_ALWAYS.get((distribution, found), ()), *include})),
        sources=sources_for(found, machine.get("VERSION_CODENAME", ""), _apt_targets(machine)),
        apt=(*_APT, *_inherited_settings()),
        certificates=_certificates() if certificates else (),
    )


def parse_name(reference: ImageReference, suite: str | None, machine: str) -> tuple[str, str, bool]:
    """The distribution, the suite, and whether slim, that a name means. Errors: `WrongUseError`."""
    name = reference.familiar_name
    tag = reference.tag or ""
    slim = tag.endswith("-slim")
    if suite is None:
        if name not in _RELEASES or not tag:
            raise WrongUseError(
                f"{reference} does not say which distribution it is made of",
                hint="Name debian:bookworm-slim or the like, or give --suite.",
            )
        suite = tag.removesuffix("-slim")
    distribution = name if name in _RELEASES else machine
    suite = _RELEASES.get(distribution, {}).get(suite, suite)
    if not _SUITE.fullmatch(suite) or suite == "latest":
        raise WrongUseError(f"{suite!r} is not a suite of {distribution}", hint="As in bookworm, trixie, noble.")
    # One's own base has no -slim in its name by custom, and wants none of the manuals.
    return distribution, suite, slim or name not in _RELEASES


def sources_for(suite: str, own_suite: str, targets: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """The lines of sources.list for a suite from the machine's own `(URI, suite, origin)`s: same mirrors, other suite.

    Errors: `NotReadyError` where the machine's apt names no mirror of its own distribution.
    """
    lines: list[str] = []
    rolling = suite in _ROLLING
    for pocket in ("", "-updates", "-security"):
        if pocket and rolling:
            continue
        for uri, release, _ in targets:
            # Debian's old name for security, before bullseye, is not supported: those releases are archived.
            if release == own_suite + pocket:
                line = f"deb {uri.rstrip('/')} {suite}{pocket} main"
                if line not in lines:
                    lines.append(line)
    if not lines:
        raise NotReadyError(
            "apt names no mirror of this machine's own release", hint="See: apt-get update; apt-get indextargets"
        )
    return tuple(lines)


# ---- the machine --------------------------------------------------------------------------------------------------------


def _os_release() -> dict[str, str]:
    import platform

    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _certificates() -> tuple[tuple[str, bytes], ...]:
    """Return the CA certificates that the machine's administrator added (update-ca-certificates(8))."""
    paths = sorted(_EXTRA_CERTIFICATES.rglob("*.crt"))
    return tuple((str(path.relative_to(_EXTRA_CERTIFICATES)), path.read_bytes()) for path in paths)


def _need_tools() -> None:
    missing = [tool for tool in ("apt-get", "mmdebstrap", "arch-test") if not shutil.which(tool)]
    if "apt-get" in missing or sys.platform != "linux":
        raise NotReadyError(
            "bootstrap needs a Debian or Ubuntu machine", hint="Pull the base, or bootstrap it in a Debian container."
        )
    if missing:
        raise NotReadyError(
            f"bootstrap needs {' and '.join(missing)}", hint=f"apt-get install --yes {' '.join(missing)}"
        )


def _apt_targets(machine: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """The `(URI, suite, origin)` of the distribution's own package sources on this machine."""
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)\t$(RELEASE)\t$(ORIGIN)\t$(IDENTIFIER)"]
    text = _output(argv)
    if not text.strip():
        # Without package lists (a fresh container) apt tells nothing: have it fetch them, into a place of our own.
        with tempfile.TemporaryDirectory(prefix="chainbuild-apt-") as folder:
            place = ["-o", f"Dir::State::lists={folder}", "-o", "Debug::NoLocking=1"]
            _output(["apt-get", *place, "update"])
            text = _output([argv[0], *place, *argv[1:]])
    rows = [line.split("\t") for line in text.splitlines() if line.count("\t") == 3]
    found = [(uri, release, origin) for uri, release, origin, kind in rows if kind == "Packages"]
    return tuple(dict.fromkeys(row for row in found if row[2].lower() in {machine.get("ID", ""), ""}))


def _inherited_settings() -> tuple[str, ...]:
    lines = _output(["apt-config", "dump", *_INHERITED]).splitlines()
    return tuple(sorted(line.rstrip(";") for line in lines if line.split(" ")[0] in _INHERITED))


def _output(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    return done.stdout if done.returncode == 0 else ""
