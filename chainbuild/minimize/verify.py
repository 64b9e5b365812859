"""Prove that every ELF file of a root file system finds what it needs, in the versions that it needs.

Each file is checked by the rules of the loader that runs it, with only the files of the image. Files that a loader
never handles (objects, kernel modules, cores, debug symbols, static programs) and files for machines for which the
image has no loader are counted and not checked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chainbuild.minimize.abi import Abi, abi_of
from chainbuild.minimize.elf import Elf, ElfProblem, ElfReader
from chainbuild.minimize.layout import same_content
from chainbuild.minimize.loader import Loader, Process, is_secure, runs_or_loads
from chainbuild.minimize.notices import Notice, rows
from chainbuild.minimize.pack import best_version
from chainbuild.minimize.packages import owned
from chainbuild.minimize.root import RootFileSystem, base, join, parent, shown, size_of
from chainbuild.minimize.search import Found, Search, SearchSettings, asker_of, is_musl

VERIFY_SCHEMA = "chainbuild.verify/1"
_LEFT = ("/proc", "/sys", "/dev", "/usr/lib/debug", "/usr/lib/modules", "/lib/modules")
_PACKAGE_FOLDERS = ("site-packages", "dist-packages")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A problem with `path`: `kind` is `library`, `version`, `interpreter` or `damaged`.

    `subject` is the library name, the version with its library, or the interpreter.
    """

    severity: str
    kind: str
    path: str
    subject: str
    message: str
    searched: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class VerifyResult:
    """The findings for a root, and the counts; `size` is in bytes, as in `root.size_of`."""

    findings: list[Finding] = field(default_factory=list)
    checked: int = 0
    static: int = 0
    foreign: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    size: int = 0
    """Bytes of the root's regular files; hard links count once."""
    owners: dict[str, str] = field(default_factory=dict)
    """The key of the package that owns each path with a finding, if any."""

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    def document(self) -> dict[str, Any]:
        """Return the report, `chainbuild.verify/1`."""
        return {
            "schema": VERIFY_SCHEMA,
            "ok": not self.errors,
            "errors": rows(self._notices("error")),
            "warnings": rows(self._notices("warning")),
            "findings": [
                {
                    "severity": finding.severity,
                    "kind": finding.kind,
                    "path": finding.path,
                    "subject": finding.subject,
                    "message": finding.message,
                    "searched": list(finding.searched),
                }
                for finding in self.findings
            ],
            "elf": {"checked": self.checked, "static": self.static, "foreign": dict(sorted(self.foreign.items()))},
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
        }

    def _notices(self, severity: str) -> Iterator[Notice]:
        for finding in self.findings:
            if finding.severity == severity:
                yield Notice(
                    kind=finding.kind,
                    text=finding.message,
                    path=finding.path,
                    package=self.owners.get(finding.path, ""),
                )


def verify(host: str, *, baseline: str | None = None, library_path: str = "") -> VerifyResult:
    """Verify the root file system at `host`.

    A finding that `baseline` has too, for an identical file, is a problem of that image itself: a warning.
    """
    start = time.monotonic()
    verdict = _Inspection(host, library_path).verdict()
    if baseline is not None and verdict.errors:
        own = _Inspection(baseline, library_path)
        baseline_findings = {(finding.kind, finding.path, finding.subject) for finding in own.verdict().findings}
        verdict.findings = [_against(finding, baseline_findings, host, baseline) for finding in verdict.findings]
    verdict.findings.sort(key=lambda finding: (finding.severity, finding.path, finding.kind, finding.subject))
    if verdict.findings:
        ownership = owned(RootFileSystem(host))
        verdict.owners = {finding.path: ownership.owner(finding.path) for finding in verdict.findings}
    verdict.size = size_of(RootFileSystem(host))
    verdict.seconds = time.monotonic() - start
    return verdict


def _against(finding: Finding, baseline_findings: set[tuple[str, str, str]], host: str, baseline: str) -> Finding:
    same = (finding.kind, finding.path, finding.subject) in baseline_findings
    if (
        finding.severity != "error"
        or not same
        or not same_content(RootFileSystem(host).host + finding.path, baseline + finding.path)
    ):
        return finding
    message = f"{finding.message} (as in the production image itself)"
    return Finding(
        severity="warning",
        kind=finding.kind,
        path=finding.path,
        subject=finding.subject,
        message=message,
        searched=finding.searched,
    )


class _Inspection:
    def __init__(self, host: str, library_path: str) -> None:
        self.tree = RootFileSystem(host)
        self.reader = ElfReader()
        self.loader = Loader(Search(self.tree, self.reader, SearchSettings(library_path=library_path)))
        self.after_ldconfig = Search(self.tree, self.reader, SearchSettings(library_path=library_path, fresh=True))
        self.result = VerifyResult()
        self.objects: dict[str, Elf] = {}
        self.by_name: dict[str, list[str]] = {}
        self.met: set[tuple[str, str]] = set()
        """Needs (file, name) that were met in the process of some program."""

    def verdict(self) -> VerifyResult:
        """Check all files."""
        self._collect()
        abis = self._abis()
        processes: list[tuple[str, Elf, Process]] = []
        for path, elf in sorted(self.objects.items()):
            abi = abi_of(elf)
            if abi.name not in abis:
                self.result.foreign[abi.name] += 1
                continue
            self.result.checked += 1
            node = self.tree.entry(path)
            process = self.loader.run(path, elf, secure=node is not None and is_secure(node))
            processes.append((path, elf, process))
            if elf.executable:
                absent = {(missing.asker.file, missing.name) for missing in process.missing}
                for loaded in process.objects:
                    self.met.update((loaded.file, name) for name in loaded.elf.needed)
                self.met -= absent
        reported: set[tuple[str, str, str]] = set()
        for executables in (True, False):
            for path, elf, process in processes:
                if elf.executable == executables:
                    self._judge(path, elf, process, reported)
        return self.result

    def _collect(self) -> None:
        for path, node in self.tree.walk("/", skip=_LEFT):
            elf = self.reader.read_node(node) if node.kind == "file" else None
            if elf is None:
                continue
            if isinstance(elf, ElfProblem):
                message = f"{shown(path)} is damaged: {elf.message}"
                self.result.findings.append(
                    Finding(severity="warning", kind="damaged", path=path, subject="", message=message)
                )
            elif runs_or_loads(elf):
                self.objects[path] = elf
                for name in {elf.soname or base(path), base(path)}:
                    self.by_name.setdefault(name, []).append(path)
            elif elf.interpreter is not None:
                self.objects[path] = elf
            else:
                self.result.static += 1

    def _abis(self) -> set[str]:
        """Return the interfaces that the image can run: those it has a loader for, otherwise that of most programs."""
        present: dict[str, Abi] = {}
        for elf in self.objects.values():
            abi = abi_of(elf)
            present[abi.name] = abi
        able = {
            name
            for name, abi in present.items()
            if any(self.tree.is_file(path) for path in (*abi.loaders, *([abi.musl_loader] if abi.musl else [])))
        }
        if able:
            return able
        programs = Counter(abi_of(elf).name for elf in self.objects.values() if elf.executable)
        return {programs.most_common(1)[0][0]} if programs else set()

    def _judge(self, path: str, elf: Elf, process: Process, reported: set[tuple[str, str, str]]) -> None:
        if elf.executable and elf.interpreter is not None and not process.interpreter_found:
            message = f"{shown(path)} needs the interpreter {shown(process.interpreter)}: not found"
            self.result.findings.append(
                Finding(severity="error", kind="interpreter", path=path, subject=process.interpreter, message=message)
            )
            return  # without an interpreter nothing is searched, and every library would be missing
        for missing in process.missing:
            asker = missing.asker.file
            own = asker == path
            key = ("library", asker, missing.name)
            if key in reported or (not elf.executable and (not own or (asker, missing.name) in self.met)):
                continue
            reported.add(key)
            where = ", ".join(shown(folder) for folder in missing.searched) or "no folder"
            by = "" if own else f" (loaded by {shown(path)})"
            message = f"{shown(asker)} needs {shown(missing.name)}{by}: not found in {where}"
            if missing.stopped_at:
                message += f"; {shown(missing.stopped_at)} exists but cannot be loaded as a library"
            severity = "error"
            beside = None if missing.asker.elf.executable else self._beside(asker, missing.name, elf)
            if beside is not None:
                severity, message = "warning", f"{message}; found only next to it, as {shown(beside)}"
            else:
                message += self._hint(missing.name, process, path, elf)
            self.result.findings.append(
                Finding(
                    severity=severity,
                    kind="library",
                    path=asker,
                    subject=missing.name,
                    message=message,
                    searched=missing.searched,
                )
            )
        for bad in process.bad_versions:
            asker = bad.asker.file
            key = ("version", asker, f"{bad.version} {bad.name}")
            if key in reported or (not elf.executable and asker != path):
                continue
            reported.add(key)
            highest = best_version(bad.version, bad.library.elf)
            provides = f"provides up to {highest}" if highest else "provides no version of that name"
            message = (
                f"{shown(asker)} needs {shown(bad.version)} of {shown(bad.name)};"
                f" {shown(bad.library.path)} {shown(provides)}"
            )
            self.result.findings.append(
                Finding(severity="error", kind="version", path=asker, subject=key[2], message=message)
            )

    def _hint(self, name: str, process: Process, path: str, elf: Elf) -> str:
        """Return a hint if the library would be found after running `ldconfig`."""
        if is_musl(process.interpreter):
            return ""
        result = self.after_ldconfig.find(name, process.abi, process.interpreter, asker_of(path, elf))
        if not isinstance(result, Found):
            return ""
        return f"; it is in {shown(parent(result.path))}, but not in ld.so.cache: run ldconfig"

    def _beside(self, path: str, name: str, elf: Elf) -> str | None:
        """Return another file of the same package that is the library `name`, which its program loads first."""
        home = package_folder(path)
        for candidate in self.by_name.get(name, ()):
            mine = self.objects[candidate]
            if home and candidate.startswith(home + "/") and abi_of(mine) == abi_of(elf):
                return candidate
        return None


def package_folder(path: str) -> str:
    """Return the folder of the package that a library belongs to; empty for one in a system folder.

    For Python it is the folder of all packages (their wheels share libraries by loading them first); below `/opt` and
    below a library folder it is the first folder there.
    """
    parts = [part for part in path.split("/") if part][:-1]
    for marker in _PACKAGE_FOLDERS:
        if marker in parts:
            return "/" + "/".join(parts[: parts.index(marker) + 1])
    if parts[:1] == ["opt"] and len(parts) > 1:
        return join("/opt", parts[1])
    for index, part in enumerate(parts):
        if part in ("lib", "lib64", "libexec", "share"):
            rest = parts[index + 1 :]
            depth = 2 if rest and rest[0].count("-") >= 2 and "linux" in rest[0] else 1
            if len(rest) >= depth:
                return "/" + "/".join(parts[: index + 1 + depth])
            return ""
    return ""
