"""Records of packages of which files were kept, so that scanners of the production image still see them.

They are written as distroless images have them, a control paragraph and the checksums of the files for each package
in ``/var/lib/dpkg/status.d``. dpkg itself does not look there, so the production image's own database stays true and
``apt-get install`` works; scanners (Trivy, Syft, Grype, Clair) read both. A package that the production image has in
the same version is in its database already.
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
    """Something that is written for a package: what, and why."""

    node: Node
    reason: str
    source: str = ""


def kept_packages(ownership: Ownership, sources: dict[str, str]) -> dict[str, list[str]]:
    """By package the paths in the result that are of it; ``sources`` has for each path the chain's image's."""
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
    there: Ownership,
    kept: dict[str, list[str]],
    digests: Callable[[str], Digests | None],
) -> dict[str, StepRecord]:
    """What is to be written, by path in the result: paragraphs, checksums and licences of the Debian packages.

    ``laid`` is the result without them: nothing in it is replaced, and its links are followed. ``there`` is what the
    production image has of packages, ``digests`` gives the checksums of a file of the result. A result that says nowhere
    of which distribution it is gets the chain's os-release(5), without which scanners do not know whose the packages are.
    """
    result: dict[str, StepRecord] = {}
    for key, paths in kept.items():
        package = ownership.packages[key]
        known = there.packages.get(key)
        if package.kind != "deb" or (known is not None and known.version == package.version):
            continue
        name = package.name
        if f"{DPKG}/status.d/{name}" in result:  # the same package for another architecture
            name = f"{package.name}.{package.arch}"
        why = f"record of the package {package.name}, of which files are kept"
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
            why = "the distribution of the packages, which the production image does not say"
            _lay(result, laid, _OS_RELEASE[0], StepRecord(node=node, reason=why, source=source))
    return result


def _lay(result: dict[str, StepRecord], laid: FileTree, path: str, record: StepRecord) -> None:
    where = laid.place(path)
    if where is not None and where not in result and laid.entry(where) is None:
        result[where] = record
