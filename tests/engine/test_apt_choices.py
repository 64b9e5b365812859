"""The versions that chainbuild takes for updates against those that apt would install, on random settings and sources.

apt runs on a folder of its own, with repositories that a server on localhost has. `CHAINBUILD_TEST_APT_CASES=FIRST:COUNT`
takes other cases.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from chainbuild.comparison.contents import Entry, LayeredRoot
from chainbuild.distro.debian_versions import debian_key
from chainbuild.outdated.alpine import ApkSettings
from chainbuild.outdated.apt_settings import read_apt_settings
from chainbuild.outdated.fetching import Store
from chainbuild.outdated.inventory import Inventory, installed_by_dpkg
from chainbuild.outdated.model import Finding, State
from chainbuild.outdated.python_index import PythonSettings
from chainbuild.outdated.sources import Sources
from tests.support.apt_cases import FOREIGN, NAMES, NATIVE, Case, random_case
from tests.support.package_repositories import Mirror

CASES = os.environ.get("CHAINBUILD_TEST_APT_CASES", "1:100")
_TABLE = re.compile(r"^(?: \*\*\*|    ) (\S+) -?\d+(?: \(phased \d+%\))?$|^ {7,}-?\d+ (http\S+)", re.MULTILINE)
CONFIGURATION = """
Dir "{folder}/";
Dir::State::status "{folder}/var/lib/dpkg/status";
Dir::Bin::methods "/usr/lib/apt/methods";
Dir::Bin::dpkg "/usr/bin/dpkg";
Dir::Bin::ischroot "/bin/false";
APT::Architecture "{native}";
APT::Architectures {{ "{native}"; "{foreign}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
"""


@dataclass(frozen=True)
class Choice:
    """What apt says about a package: the installed version, the candidate, those of sources, and what `upgrade` installs."""

    installed: str
    candidate: str
    available: frozenset[str]
    upgraded: str


class Apt:
    """apt in a folder of its own."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.folder = folder
        # The lists are as `apt-get update` leaves them, under its names.
        lists = {f"/var/lib/apt/lists/{uri[7:].replace('/', '_')}": raw for uri, raw in case.served().items()}
        contents: dict[str, str | bytes] = {**case.files, **lists}
        for path, content in contents.items():
            place = folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        for name in (
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder, native=NATIVE, foreign=FOREIGN))

    def run(self, *words: str) -> tuple[str, str]:
        """Return the output and the errors of a command of apt."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "APT_CONFIG": str(self.folder / "apt.conf")}
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout, done.stderr if done.returncode else ""

    def choices(self) -> dict[tuple[str, str], Choice]:
        """Return what apt says about each package; nothing if it rejects the settings."""
        names = [f"{name}:{arch}" for name in NAMES for arch in (NATIVE, FOREIGN)]
        tables, errors = self.run("apt-cache", "policy", *names)
        if errors:
            return {}
        upgraded, errors = self.run("apt-get", "-s", "-o", "Debug::NoLocking=1", "upgrade")
        self.errors = errors
        new = {match[1]: match[2] for match in re.finditer(r"^Inst (\S+) \[[^\]]*\] \((\S+) ", upgraded, re.MULTILINE)}
        found = {}
        for block in re.split(r"^(?=\S)", tables, flags=re.MULTILINE)[1:]:
            name, arch = block.partition(":\n")[0].partition(":")[::2]
            versions, version = set(), ""
            for match in _TABLE.finditer(block):
                version = match[1] or version
                if match[2]:
                    versions.add(version)
            values = dict(line.strip().split(": ") for line in block.splitlines()[1:3])
            found[name, arch or NATIVE] = Choice(
                values["Installed"],
                values["Candidate"],
                frozenset(versions),
                new.get(name if not arch or arch == NATIVE else f"{name}:{arch}", "" if not errors else "?"),
            )
        return found


def expected(choice: Choice, *, held: bool) -> tuple[State, str]:
    """Return the state and the version of an update that follow from what apt says."""
    installed = debian_key(choice.installed)
    if choice.candidate != "(none)" and debian_key(choice.candidate) > installed:
        if held:
            return State.HELD, choice.candidate
        if choice.upgraded in {choice.candidate, "?"}:
            return State.OUTDATED, choice.candidate
        return State.PINNED, ""
    if not choice.available:
        return State.GONE, ""
    if all(debian_key(version) < installed for version in choice.available):
        return State.AHEAD, ""
    return State.CURRENT, ""


def findings(case: Case) -> tuple[Finding, ...]:
    root = LayeredRoot([[(path, Entry(kind="file", data=text.encode())) for path, text in case.files.items()]])
    inventory = Inventory(
        packages=tuple(installed_by_dpkg(root)),
        architecture=NATIVE,
        apt=read_apt_settings(root),
        apk=ApkSettings(),
        python=PythonSettings(),
    )
    mirror = Mirror(files=dict(case.served()))
    return Sources(mirror, Store(lambda: Path("/proc/none"))).compare(inventory)


def differences(case: Case, choices: Mapping[tuple[str, str], Choice]) -> Iterator[str]:
    """Yield what chainbuild and apt see differently."""
    for finding in findings(case):
        package = finding.package
        choice = choices[package.name, FOREIGN if package.arch == FOREIGN else NATIVE]
        state, version = expected(choice, held=package.held)
        ours = finding.state, finding.candidate if finding.state in {State.OUTDATED, State.HELD} else ""
        if ours[0] is State.UNKNOWN and not choice.available:
            continue  # without any source
        same = {State.CURRENT, State.PINNED} if state is State.CURRENT else {state}
        # apt 2.6 keeps back a phased update of a security suite; apt 3.1 and chainbuild do not.
        if finding.note.startswith("phased") and (choice.upgraded == "?" or finding.security):
            continue
        if ours[0] not in same or ours[1] != version or choice.installed != package.version:
            yield f"{package.name}:{package.arch} {package.version}: {ours} {finding.note}; apt: {state, version} {choice}"


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")
def test_choices_of_random_cases_agree_with_apt(tmp_path: Path) -> None:
    first, count = map(int, CASES.split(":"))
    wrong: list[str] = []
    judged = 0
    for seed in range(first, first + count):
        case = random_case(seed)
        choices = Apt(tmp_path / str(seed), case).choices()
        shutil.rmtree(tmp_path / str(seed))
        if choices:
            judged += 1
            wrong += [f"{seed} {line}" for line in differences(case, choices)]
    assert judged > count / 2
    assert not wrong, f"{judged} cases\n" + "\n".join(wrong)
