"""Write records of packages of which files were kept, so that scanners of the production image still find them.

They have the format of distroless images: for each package, a control paragraph and the checksums of its files in
`/var/lib/dpkg/status.d`. dpkg itself does not read that folder, so the production image's own database stays correct
and `apt-get install` works; scanners (Trivy, Syft, Grype, Clair) read both. A package that the production image has in
the same version is already in its database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainbuild.minimize.packages import DPKG, Ownership
from chainbuild.minimize.root import FileTree, Node, RootFileSystem
from chainbuild.minimize.sbom import Digests

_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """A file that is written for a package, and why."""

    node: Node
    reason: str
    source: str = ""


def kept_packages(ownership: Ownership, sources: dict[str, str]) -> dict[str, list[str]]:
    """Map each package to its paths in the result; `sources` maps result paths to paths in the chain's image."""
    kept: dict[str, list[str]] = {}
    for where in sorted(sources):
        key = ownership.owner(sources[where])
        if key:
            kept.setdefault(key, []).append(where)
    return dict(sorted(kept.items()))


def records(
    chain: RootFileSystem,
    laid: FileTree,
    ownership: Ownership,
    provided_packages: Ownership,
    kept: dict[str, list[str]],
    digests: Callable[[str], Digests | None],
) -> dict[str, StepRecord]:
    """Return the records to write, by path in the result: paragraphs, checksums and licences of the Debian packages.

    `laid` is the result without them: nothing in it is replaced, and its links are followed. `provided_packages` are
    the production image's packages; `digests` returns the checksums of a file of the result. If the result has no
    os-release(5), the chain's is added, because scanners need the distribution to identify the packages.
    """
    result: dict[str, StepRecord] = {}
    for key, paths in kept.items():
        package = ownership.packages[key]
        provided = provided_packages.packages.get(key)
        if package.kind != "deb" or (provided is not None and provided.version == package.version):
            continue
        name = package.name
        if f"{DPKG}/status.d/{name}" in result:  # the same package for another architecture
            name = f"{package.name}.{package.arch}"
        why = f"record of the package {package.name}, some of whose files are kept"
        lines = []
        for path in paths:
            sums = digests(path)
            if sums is not None and "\n" not in path:
                lines.append(f"{sums.md5}  {path[1:]}\n")
        for path, text in (
            (f"{DPKG}/status.d/{name}", f"{package.control}\n"),
            (f"{DPKG}/status.d/{name}.md5sums", "".join(lines)),
        ):
            data = text.encode("utf-8", "surrogateescape")
            _lay(result, laid, path, StepRecord(node=Node(kind="file", data=data, size=len(data)), reason=why))
        licence = f"/usr/share/doc/{package.name}/copyright"
        source = chain.resolve(licence)
        node = None if source is None else chain.entry(source)
        if source is not None and node is not None and node.kind == "file":
            _lay(result, laid, licence, StepRecord(node=node, reason=f"licence of {package.name}", source=source))
    if result and not any(laid.is_file(path) for path in _OS_RELEASE):
        source = next((path for path in map(chain.resolve, _OS_RELEASE) if path is not None), None)
        node = None if source is None else chain.entry(source)
        if source is not None and node is not None and node.kind == "file":
            why = "the distribution of the packages, which the production image does not specify"
            _lay(result, laid, _OS_RELEASE[0], StepRecord(node=node, reason=why, source=source))
    return result


def _lay(result: dict[str, StepRecord], laid: FileTree, path: str, record: StepRecord) -> None:
    where = laid.place(path)
    if where is not None and where not in result and laid.entry(where) is None:
        result[where] = record
