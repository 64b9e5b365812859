"""Run dpkg, the shell and other programs natively while the root of a foreign platform is made, instead of emulated.

Emulation costs most where thousands of short processes start: dpkg, dpkg-deb, and the shell and perl of maintainer
scripts. Their packages also exist for the machine's own architecture, from the same suite and with the same source
version, and behave the same. A folder of the root holds these programs while mmdebstrap runs:

- `PATH` begins with the folder, so dpkg, apt and scripts find the native programs first;
- dash and perl, whose paths are in the first line of scripts, are replaced in the root, and put back afterwards. dpkg can
  replace these files at any time, because nothing is mounted;
- dpkg has its architecture compiled in: the text is changed in the copy, and the result is checked by asking the copy.

What belongs to the foreign platform stays emulated: ldconfig, `uname`, and all programs that are not listed here. A
package whose version differs between the platforms stays emulated, too. perl stays emulated once the root has
perl modules in machine code other than perl-base's own.
"""

from __future__ import annotations

import re
import stat
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from chainbuild.distro import native_scripts as scripts
from chainbuild.host.package_data import shipped
from chainbuild.registry.http.transport import CHUNK

FOLDER: Final = "/.chainbuild-native"
"""The folder in the root. The native programs contain this text, too: a copy of one in the result is recognised by it."""
SEARCH_PATH: Final = f"{FOLDER}/bin"

# Packages of the list that are not needed, because apt runs on the machine, or whose programs are replaced.
_ELSEWHERE: Final = frozenset({"apt", "dash", "gpgv", "sqv"})
# Replaced in the root at their own paths.
_REPLACED: Final[Mapping[str, str]] = {"dash": "dash", "perl-base": "perl"}

# Wrappers of these make sure first that dash and perl are still replaced.
_WRAPPED: Final = ("dpkg", "dpkg-deb")
# Used by the scripts of this module, which change no other files.
_FOR_SCRIPTS: Final = ("dash", "ln", "mv", "touch")
_NEEDS_ARCHITECTURE: Final = ("dpkg", "dpkg-query", "dpkg-trigger", "dpkg-divert")
_LOADER: Final = re.compile(rb"/lib[0-9a-z]*/ld[A-Za-z0-9_.-]*\.so\.[0-9]+\0")
_OWN_LOADER: Final = f"{FOLDER}/ld".encode()


def _programs() -> dict[str, tuple[str, ...]]:
    """Return the programs by their packages: those whose output does not depend on the machine (no uname, arch or nproc)."""
    lines = shipped("utilities/native/programs").read_text("ascii").splitlines()
    listed = {package: tuple(names) for package, *names in map(str.split, lines)}
    return {package: names for package, names in listed.items() if package not in _ELSEWHERE}


def packages() -> tuple[str, ...]:
    """Return the packages with the programs that run natively."""
    return (*_programs(), *_REPLACED)


class NotUsableError(Exception):
    """The programs cannot run natively in a foreign root; the message says why."""


def versions(archives: Iterable[str]) -> dict[str, str]:
    """Return the source versions of packages, from the names of their files: `NAME_VERSION_ARCHITECTURE.deb`.

    A rebuild without a change of the source (`+b1`) does not count.
    """
    found = {}
    for name in archives:
        if name.endswith(".deb") and name.count("_") == 2:
            package, version, _ = name.split("_")
            found[package] = re.sub(r"\+b\d+$", "", version)
    return found


def unpack_programs(tar: Path, target: Path, archives: Iterable[str], architectures: Sequence[str]) -> None:
    """Lay the programs out in `target`, from the tar of a root of the machine's own architecture.

    `archives` are the names of the package files in it, `architectures` Debian's names of the roots to make.

    Errors: `NotUsableError`.
    """
    with tarfile.open(tar) as file:
        members = {_merged(member.name): member for member in file}
        libraries = next((path.parent for path in members if path.name == "libc.so.6"), None)
        if libraries is None:
            raise NotUsableError("the C library was not found")
        _unpack_libraries(file, members, libraries, target / "root/lib")
        found = {
            name: data
            for name in (*chain.from_iterable(_programs().values()), *_REPLACED.values())
            if (data := _program(file, members, name))
        }
    loaders = {match[0].rstrip(b"\0") for data in found.values() if (match := _LOADER.search(data))}
    if len(loaders) != 1:
        raise NotUsableError("the programs have no common loader")
    loader = loaders.pop()
    changed = ((name, _replaced(data, loader, _OWN_LOADER)) for name, data in found.items())
    contents = {name: data for name, data in changed if data}
    for missing in sorted({*_FOR_SCRIPTS, *_WRAPPED} - set(contents)):
        raise NotUsableError(f"the program {missing} was not found")
    (target / "root/ld").symlink_to(Path("lib", Path(loader.decode()).name))
    (target / "triplet").write_text(f"{libraries.name}\n", encoding="ascii")
    sources = versions(archives)
    lines = [f"{package} {sources[package]}\n" for package in packages() if package in sources]
    (target / "packages").write_text("".join(lines), encoding="ascii")
    _write_programs(target, contents, architectures)
    _write_scripts(target)
    for part in target.glob("*"):
        for folder in (part, *part.rglob("*")) if part.name.startswith(("root", "programs")) else ():
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o755)


def _merged(name: str) -> Path:
    """Return a member's path with /bin, /sbin and /lib below /usr."""
    path = Path(name.removeprefix("./"))
    return Path("usr") / path if path.parts[:1] and path.parts[0] in {"bin", "sbin", "lib"} else path


def _unpack_libraries(
    file: tarfile.TarFile, members: Mapping[Path, tarfile.TarInfo], libraries: Path, target: Path
) -> None:
    """Copy the libraries and the modules of perl-base; links stay links."""
    for path, member in members.items():
        inner = path.relative_to(libraries) if libraries in path.parents else Path()
        if not inner.parts or (len(inner.parts) > 1 and inner.parts[0] != "perl-base"):
            continue
        place = target / inner
        place.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            # A link to an absolute path leads out of the folder.
            place.symlink_to(Path(member.linkname).name if member.linkname.startswith("/") else member.linkname)
        elif member.isreg() and (source := file.extractfile(member)):
            place.write_bytes(source.read())
            place.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)


def _program(file: tarfile.TarFile, members: Mapping[Path, tarfile.TarInfo], name: str) -> bytes:
    """Return a program in machine code that needs a loader; empty if there is none of that name."""
    member = members.get(Path("usr/bin", name))
    source = file.extractfile(member) if member and (member.isreg() or member.islnk()) else None
    data = source.read() if source else b""
    return data if data.startswith(b"\x7fELF") and _LOADER.search(data) else b""


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """Return data with the only text `old`, which ends with a zero byte, replaced. The size stays; empty if it cannot."""
    if len(new) > len(old) or data.count(old + b"\0") != 1:
        return b""
    return data.replace(old + b"\0", new.ljust(len(old) + 1, b"\0"))


def with_architecture(data: bytes, own: str, other: str) -> bytes:
    """Return a program of dpkg for another architecture; empty if its name has no room where the own one is."""
    old, new = (b"\0" + name.encode() for name in (own, other))
    return _replaced(data, old, new)


def _write_programs(target: Path, contents: Mapping[str, bytes], architectures: Sequence[str]) -> None:
    """Write the programs by package. What cannot have a foreign architecture's name is left out for that one."""
    for name in _FOR_SCRIPTS:
        _write(target / "root/x" / name, contents[name])
    for package, names in _programs().items():
        for name in names:
            if name not in contents or name in _NEEDS_ARCHITECTURE:
                continue
            _write(target / "programs" / package / ("x" if name in _WRAPPED else "bin") / name, contents[name])
    for package, name in _REPLACED.items():
        if name in contents:
            _write(target / "programs" / package / "replace" / name, contents[name])
    own = _own_architecture(contents["dpkg"])
    for architecture in architectures:
        changed = {
            name: with_architecture(contents[name], own, architecture)
            for name in _NEEDS_ARCHITECTURE
            if name in contents
        }
        for name, data in changed.items() if all(changed.values()) else ():
            place = target / f"programs-{architecture}/dpkg" / ("x" if name in _WRAPPED else "bin") / name
            _write(place, data)


def _own_architecture(dpkg: bytes) -> str:
    """Return the architecture that is compiled into dpkg, from its version: `1.21.22 (amd64)`."""
    match = re.search(rb"\0[0-9][0-9A-Za-z.~+-]* \(([a-z0-9-]+)\)\0", dpkg)
    if match is None:
        raise NotUsableError("dpkg's architecture was not found")
    return match[1].decode()


def _write_scripts(target: Path) -> None:
    for name, text in scripts.inside(FOLDER, _WRAPPED).items():
        _write(target / "root" / name, text.encode())
    for name, text in scripts.outside(FOLDER).items():
        _write(target / name, text.encode())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o755)


def shown_packages(target: Path, architecture: str) -> str:
    """Return for the log how the packages of a root were installed."""
    try:
        used = (target / "out" / f"used-{architecture}").read_text(encoding="ascii").split()
    except OSError:
        return "with emulation only"
    left = [package for package in packages() if package not in used]
    return "with native programs" + (f", except for {', '.join(left)}" if left else "")


def has_traces(tar: Path) -> bool:
    """Return whether a native program, or the path of one, is in a tar of a root."""
    needle, rest = FOLDER.encode(), b""
    with tar.open("rb") as file:
        while chunk := file.read(CHUNK):
            if needle in rest + chunk:
                return True
            rest = chunk[-len(needle) :]
    return False
