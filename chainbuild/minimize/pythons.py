"""Find the Python environments of a root file system and the modules to import in each; nothing is run.

An environment is an interpreter with its own folder of packages: an installed one (`/usr/bin/python3.11`), or a virtual
environment (PEP 405). Its modules are the extension modules of the standard library (for an installed one), and the
top-level modules of its package folders: those in the records of its distributions (`top_level.txt`, `RECORD`), and any
other files there. For a namespace package (PEP 420), its own parts are imported.
"""

# Paths here are strings of an image, which may contain bytes that are not valid text

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from chainbuild.minimize.root import MAX_HOPS, RootFileSystem, base, join, parent

SKIPPED = frozenset(
    {"__init__", "__main__", "benchmarks", "conftest", "doc", "docs", "example", "examples", "setup", "test", "tests"}
)
"""Top-level names in a package folder that do not count as modules: bundled tests, examples and scripts."""
STARTS = "encodings"
"""A standard library module without which no interpreter starts; imported if an environment has no other modules."""

_INTERPRETER = re.compile(r"python3(?P<minor>\.[0-9]+t?)?")
_SETTINGS = "pyvenv.cfg"
_RECORD_LIMIT = 32 << 20
_OF_TESTS = re.compile(r"_?xx.*|_test.*|_ctypes_test")
_TAG = re.compile(r"\.cpython-(?P<major>[0-9])(?P<minor>[0-9]+)")
_VERSION = re.compile(r"/python3\.(?P<minor>[0-9]+)")
_SETTINGS_VERSION = re.compile(r"^version(?:_info)?\s*=\s*(?P<version>3\.[0-9]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Python:
    """A Python environment.

    `start` is the path that runs it; `missing` is the target of that path if it does not exist. `folders` contain its
    modules, the standard library's first; `modules` are the names to import, sorted.
    """

    start: str
    missing: str = ""
    folders: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class _Places:
    interpreters: list[str] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)


def pythons(tree: RootFileSystem, python_path: str = "") -> tuple[Python, ...]:
    """Return the environments of `tree`, sorted by path; `python_path` is the image's `PYTHONPATH`, which applies to all.

    An environment without modules has only `STARTS`. Names that are not valid text are skipped: they cannot be
    imported.
    """
    places = _search(tree)
    more = tuple(path for path in python_path.split(":") if path.startswith("/") and tree.is_folder(path))
    environments = [
        *(_installed(tree, path, more) for path in places.interpreters),
        *(_virtual(tree, path, more) for path in places.environments),
    ]
    return tuple(
        sorted(
            (environment for environment in environments if environment is not None),
            key=lambda environment: environment.start,
        )
    )


def document(environments: Iterable[Python]) -> list[dict[str, Any]]:
    """Return the environments as rows of a report."""
    return [asdict(environment) for environment in environments]


def _search(tree: RootFileSystem) -> _Places:
    """Find interpreters and virtual environments by name in one walk, without reading files."""
    places = _Places()
    for path, entry in tree.scan():
        if entry.is_dir(follow_symlinks=False):
            continue
        if entry.name == _SETTINGS:
            places.environments.append(parent(path))
        elif (
            _INTERPRETER.fullmatch(entry.name) and base(parent(path)) == "bin" and entry.is_file(follow_symlinks=False)
        ):
            places.interpreters.append(path)
    return places


def _installed(tree: RootFileSystem, start: str, more: tuple[str, ...]) -> Python | None:
    home = parent(parent(start))
    if tree.is_file(join(home, _SETTINGS)) or tree.read(start, 4) != b"\x7fELF":
        return None  # a copy in a virtual environment, or a script
    version = _INTERPRETER.fullmatch(base(start))
    libraries = _libraries(tree, home, base(start) if version and version["minor"] else None)
    packages = [join(folder, name) for folder in libraries for name in ("site-packages", "dist-packages")]
    if home == "/usr":  # Debian's folders
        packages += ["/usr/lib/python3/dist-packages"]
        packages += [f"/usr/local/lib/{base(folder)}/dist-packages" for folder in libraries]
    extensions = [join(folder, "lib-dynload") for folder in libraries]
    return _python(tree, start, "", [*libraries, *extensions], packages, more)


def _virtual(tree: RootFileSystem, home: str, more: tuple[str, ...]) -> Python | None:
    settings = (tree.read(join(home, _SETTINGS)) or b"").decode("utf-8", "replace")
    version = _SETTINGS_VERSION.search(settings)
    libraries = _libraries(tree, home, f"python{version['version']}" if version else None)
    packages = [join(folder, "site-packages") for folder in libraries]
    if not any(tree.is_folder(folder) for folder in packages):
        return None  # test data, not an environment
    start = next(
        (join(home, name) for name in ("bin/python", "bin/python3") if tree.entry(join(home, name)) is not None),
        join(home, "bin/python"),
    )
    return _python(tree, start, _missing_end(tree, start), [], packages, more)


def _python(
    tree: RootFileSystem, start: str, missing: str, libraries: list[str], packages: list[str], more: tuple[str, ...]
) -> Python | None:
    if not start.isprintable():
        return None
    homes = [folder for folder in dict.fromkeys((*packages, *more)) if tree.is_folder(folder)]
    version = next((match for folder in [*libraries, *homes] if (match := _VERSION.search(folder))), None)
    names = {name for folder in libraries for name in _extensions(tree, folder)}
    for home in homes:
        names.update(_modules(tree, home, version["minor"] if version else ""))
    return Python(
        start=start,
        missing=missing,
        folders=tuple(dict.fromkeys((*libraries, *homes))),
        modules=tuple(sorted(names)) or (STARTS,),
    )


def _libraries(tree: RootFileSystem, home: str, name: str | None) -> list[str]:
    """Return the folders below `home` that hold a standard library, or a virtual environment's folder in place of one.

    `name` is the name of these folders, if known, without the `t` of free-threaded interpreters.
    """
    return [
        folder
        for pattern in ("lib", "lib64")
        for folder in tree.glob(f"{home.rstrip('/')}/{pattern}/python3.*")
        if tree.is_folder(folder) and (name is None or base(folder) in (name, f"{name}t"))
    ]


def _missing_end(tree: RootFileSystem, path: str) -> str:
    """Return the final target of a path if it does not exist; empty if it exists."""
    target = path
    for _ in range(MAX_HOPS):
        where = tree.place(target)
        node = None if where is None else tree.entry(where)
        if where is None or node is None:
            return where or target
        if node.kind != "link":
            return ""
        target = node.target if node.target.startswith("/") else join(parent(where), node.target)
    return target


def _extensions(tree: RootFileSystem, folder: str) -> Iterator[str]:
    """Yield the extension modules of a standard library, except those that only its own tests need."""
    if base(folder) != "lib-dynload" or not tree.is_folder(folder):
        return
    for name in tree.names(folder):
        module = name.partition(".")[0]
        if name.endswith(".so") and _is_name(module) and not _OF_TESTS.fullmatch(module):
            yield module


def _modules(tree: RootFileSystem, home: str, minor: str) -> set[str]:
    """Return the modules to import from a package folder; `minor` is the interpreter's version, if known."""
    names = set[str]()
    for entry in tree.names(home):
        if entry.endswith((".dist-info", ".egg-info")):
            names.update(_recorded_modules(tree, join(home, entry), home, minor))
            continue
        path = join(home, entry)
        if tree.is_folder(path):
            if any(tree.is_file(join(path, f"__init__{ending}")) for ending in (".py", ".pyc")):
                names.add(entry)
        elif tree.is_file(path):
            names.add(_module_of(entry, minor))
    return {name for name in names if _is_wanted(name)}


def _recorded_modules(tree: RootFileSystem, record: str, home: str, minor: str) -> Iterator[str]:
    """Yield the modules in the record of a distribution, whether they exist or not."""
    if not tree.is_folder(record):
        return
    files = [path.split("/") for path in _paths(_text(tree, join(record, "RECORD")))]
    files = [parts for parts in files if parts[0] not in ("", "..", base(record)) and "__pycache__" not in parts]
    own = {tuple(parts[:-1]) for parts in files if parts[-1] in ("__init__.py", "__init__.pyc")}
    shared = set[str]()
    for parts in files:
        packages = [tuple(parts[:end]) for end in range(1, len(parts))]
        first = next((package for package in packages if package in own or _is_package(tree, home, package)), None)
        module = _module_of(parts[-1], minor)
        if first is not None:
            yield ".".join(first)
        elif module and module != "__init__":
            yield ".".join((*parts[:-1], module))
        if packages and packages[0] != first:
            shared.add(parts[0])
    if files and not any(parts[0].startswith("__editable__") for parts in files):
        return  # top_level.txt is no better: it may list modules that were never packaged
    for name in _text(tree, join(record, "top_level.txt")).split():
        if name not in shared:  # a namespace belongs to no distribution
            yield name.replace("/", ".")


def _paths(record: str) -> Iterator[str]:
    """Yield the first column of a RECORD file, which is CSV; stop at the first invalid line."""
    try:
        for row in csv.reader(record.splitlines()):
            if row and row[0]:
                yield row[0]
    except csv.Error:
        return


def _is_package(tree: RootFileSystem, home: str, package: tuple[str, ...]) -> bool:
    return tree.is_file(join(home, "/".join((*package, "__init__.py"))))


def _module_of(file: str, minor: str) -> str:
    """Return the module that a file provides to this interpreter; empty if none."""
    module, _, ending = file.partition(".")
    if ending in ("py", "pyc"):
        return module
    if ending != "so" and not ending.endswith(".so"):
        return ""
    tag = _TAG.match(f".{ending}")
    return "" if tag is not None and minor and tag["major"] == "3" and tag["minor"] != minor else module


def _is_wanted(name: str) -> bool:
    parts = name.split(".")
    return all(_is_name(part) for part in parts) and parts[0] not in SKIPPED and parts[-1] not in SKIPPED


def _is_name(name: str) -> bool:
    return name.isidentifier() and name.isprintable()


def _text(tree: RootFileSystem, path: str) -> str:
    return (tree.read(path, _RECORD_LIMIT) or b"").decode("utf-8", "surrogateescape")
