"""The Python environments of a root file system, and the modules that are to be imported in each; nothing is run.

An environment is an interpreter with its own folder of packages: an installed one (`/usr/bin/python3.11`), or a virtual
environment (PEP 405). Its modules are the extension modules of the standard library (for an installed one), and what
stands at the top of its folders of packages: what the records of its distributions name (`top_level.txt`, `RECORD`), and
what lies there besides. What a package shares with others (a namespace, PEP 420) is imported by its own parts.
"""

# Paths here are strings of an image, which may hold bytes that are no text

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from chainbuild.minimize.root import MAX_HOPS, RootFileSystem, base, join, parent

SKIPPED = frozenset(
    {"__init__", "__main__", "benchmarks", "conftest", "doc", "docs", "example", "examples", "setup", "test", "tests"}
)
"""Names at the top of a folder of packages that are nobody's module: tests, examples and scripts that came along."""
STARTS = "encodings"
"""A module of the standard library without which no interpreter starts: what is proven where nothing else is."""

_INTERPRETER = re.compile(r"python3(?P<minor>\.[0-9]+t?)?")
_SETTINGS = "pyvenv.cfg"
_LEFT = frozenset({"/proc", "/sys", "/dev"})
_RECORD_LIMIT = 32 << 20
_OF_TESTS = re.compile(r"_?xx.*|_test.*|_ctypes_test")
_TAG = re.compile(r"\.cpython-(?P<major>[0-9])(?P<minor>[0-9]+)")
_VERSION = re.compile(r"/python3\.(?P<minor>[0-9]+)")
_SETTINGS_VERSION = re.compile(r"^version(?:_info)?\s*=\s*(?P<version>3\.[0-9]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Python:
    """One environment.

    `start` is the path that runs it; `missing` is where that leads to when nothing is there. `folders` are where its
    modules lie, the standard library's first; `modules` are the names that are to be imported, sorted.
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
    """The environments of ``tree``, sorted by path; ``python_path`` is the image's ``PYTHONPATH``, which all of them have.

    One without modules has :data:`STARTS` alone. A name that is no text is no module's: nothing imports it.
    """
    places = _search(tree)
    more = tuple(path for path in python_path.split(":") if path.startswith("/") and tree.is_folder(path))
    found = [
        *(_installed(tree, path, more) for path in places.interpreters),
        *(_virtual(tree, path, more) for path in places.environments),
    ]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.start))


def document(found: Iterable[Python]) -> list[dict[str, Any]]:
    """The environments as a report has them."""
    return [asdict(one) for one in found]


def _search(tree: RootFileSystem) -> _Places:
    """Where interpreters and virtual environments are: one walk over names, which looks at no file."""
    places = _Places()
    todo = ["/"]
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(tree.host + folder))
        except OSError:
            continue
        in_bin = base(folder) == "bin"
        for entry in entries:
            path = join(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if path not in _LEFT:
                    todo.append(path)
            elif entry.name == _SETTINGS:
                places.environments.append(folder)
            elif in_bin and entry.is_file(follow_symlinks=False) and _INTERPRETER.fullmatch(entry.name):
                places.interpreters.append(path)
    return places


def _installed(tree: RootFileSystem, start: str, more: tuple[str, ...]) -> Python | None:
    home = parent(parent(start))
    if tree.is_file(join(home, _SETTINGS)) or tree.read(start, 4) != b"\x7fELF":
        return None  # the copy that a virtual environment may have, or a script
    version = _INTERPRETER.fullmatch(base(start))
    libraries = _libraries(tree, home, base(start) if version and version["minor"] else None)
    packages = [join(folder, name) for folder in libraries for name in ("site-packages", "dist-packages")]
    if home == "/usr":  # as Debian has it
        packages += ["/usr/lib/python3/dist-packages"]
        packages += [f"/usr/local/lib/{base(folder)}/dist-packages" for folder in libraries]
    extensions = [join(folder, "lib-dynload") for folder in libraries]
    return _python(tree, start, "", [*libraries, *extensions], packages, more)


def _virtual(tree: RootFileSystem, home: str, more: tuple[str, ...]) -> Python | None:
    settings = (tree.read(join(home, _SETTINGS)) or b"").decode("utf-8", "replace")
    said = _SETTINGS_VERSION.search(settings)
    libraries = _libraries(tree, home, f"python{said['version']}" if said else None)
    packages = [join(folder, "site-packages") for folder in libraries]
    if not any(tree.is_folder(folder) for folder in packages):
        return None  # somebody's test data
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
    version = next((found for folder in [*libraries, *homes] if (found := _VERSION.search(folder))), None)
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
    """The folders below ``home`` that hold a standard library, or what a virtual environment has instead of one.

    ``name`` is what they are called, where that is known, but for the ``t`` of interpreters without a global lock.
    """
    return [
        folder
        for pattern in ("lib", "lib64")
        for folder in tree.glob(f"{home.rstrip('/')}/{pattern}/python3.*")
        if tree.is_folder(folder) and (name is None or base(folder) in (name, f"{name}t"))
    ]


def _missing_end(tree: RootFileSystem, path: str) -> str:
    """What a path leads to in the end when nothing is there; empty when something is."""
    here = path
    for _ in range(MAX_HOPS):
        where = tree.place(here)
        node = None if where is None else tree.entry(where)
        if where is None or node is None:
            return where or here
        if node.kind != "link":
            return ""
        here = node.target if node.target.startswith("/") else join(parent(where), node.target)
    return here


def _extensions(tree: RootFileSystem, folder: str) -> Iterator[str]:
    """The extension modules of a standard library, but for those that only its own tests need."""
    if base(folder) != "lib-dynload" or not tree.is_folder(folder):
        return
    for name in tree.names(folder):
        module = name.partition(".")[0]
        if name.endswith(".so") and _is_name(module) and not _OF_TESTS.fullmatch(module):
            yield module


def _modules(tree: RootFileSystem, home: str, minor: str) -> set[str]:
    """What is imported of a folder of packages; ``minor`` is the interpreter's version, where it is known."""
    names = set[str]()
    for entry in tree.names(home):
        if entry.endswith((".dist-info", ".egg-info")):
            names.update(_recorded(tree, join(home, entry), home, minor))
            continue
        path = join(home, entry)
        if tree.is_folder(path):
            if any(tree.is_file(join(path, f"__init__{ending}")) for ending in (".py", ".pyc")):
                names.add(entry)
        elif tree.is_file(path):
            names.add(_module_of(entry, minor))
    return {name for name in names if _is_wanted(name)}


def _recorded(tree: RootFileSystem, record: str, home: str, minor: str) -> Iterator[str]:
    """What the record of a distribution says that it brings, whether it is there or not."""
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
        return  # top_level.txt says nothing better: it may name what was never packaged
    for name in _text(tree, join(record, "top_level.txt")).split():
        if name not in shared:  # a namespace is no module of anybody's
            yield name.replace("/", ".")


def _paths(record: str) -> Iterator[str]:
    """The first column of a RECORD file, which is CSV; what is no CSV ends it."""
    try:
        for row in csv.reader(record.splitlines()):
            if row and row[0]:
                yield row[0]
    except csv.Error:
        return


def _is_package(tree: RootFileSystem, home: str, package: tuple[str, ...]) -> bool:
    return tree.is_file(join(home, "/".join((*package, "__init__.py"))))


def _module_of(file: str, minor: str) -> str:
    """The module that a file is; empty for one that is none, or none of this interpreter's."""
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
