"""Remove kept files on request: each switch gives up something that is documented.

A rule decides by a single path and its content; files that match `ADDITIONAL_FILES` are never removed. Links to removed
files are removed too, and so are folders that contained nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields

from chainbuild.minimize.root import RootFileSystem, base, join, parent
from chainbuild.minimize.select import Kept, KeptFiles

_HEADERS = (".h", ".hh", ".hpp", ".hxx", ".h++", ".inl", ".ipp", ".tcc", ".tpp", ".cuh", ".pxd", ".pxi")
_PACKAGES = re.compile(r"(?P<home>.*/(?:site|dist)-packages)/(?P<rest>.+)")
_STANDARD = re.compile(r"/usr(?:/local)?/lib/python3\.\d+/(?P<rest>.+)")
_STANDARD_TESTS = re.compile(
    r"(?:test|idlelib/idle_test|lib2to3/tests|unittest/test|tkinter/test|ctypes/test|distutils/tests|sqlite3/test)/.+"
)
_TESTS_FOLDER = re.compile(r"(?P<package>[^/]+)/(?:.*/)?(?P<name>tests?)/.+")
_IMPORTS_TESTS = re.compile(
    rb"^[ \t]*(?:from[ \t]+[\w.]*\btests?\b[\w.]*[ \t]+import\b|import[ \t][^\n#]*\btests?\b"
    rb"|from[ \t]+[\w.]+[ \t]+import[ \t][^\n#]*\btests?\b)",
    re.MULTILINE,
)
_PIP = re.compile(r"pip(?:/.+|-[^/]+\.(?:dist|egg)-info(?:/.+)?)")
_PIP_PROGRAM = re.compile(r"/.*/bin/pip(?:3(?:\.\d+)?)?")
_TRANSLATION = re.compile(r".*/(?:locale/(?P<a>[^/]+)/(?:.+/)?[^/]+\.(?:mo|po)|translations/[^/]*?_(?P<b>\w+)\.qm)")
_SYSTEM_LOCALE = re.compile(r"/usr/(?:share|lib)/locale/(?P<a>[^/]+)/.+")
_ARCHIVES = (b"!<arch>\n", b"!<thin>\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trim:
    """The switches; if all are off, everything is kept. `strip` is applied when files are written (see `strip`)."""

    strip: bool = False
    drop_headers: bool = False
    drop_static: bool = False
    drop_bytecode: bool = False
    drop_pip: bool = False
    drop_tests: bool = False
    drop_locales: bool = False


SWITCHES = tuple(switch.name for switch in fields(Trim))
"""The names of the switches, as in `Trim`; build arguments have them in upper case."""


@dataclass(kw_only=True, slots=True)
class Trimmed:
    """The removed files, each with its switch and bytes; and the test folders that stay, each with the file that imports it."""

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    spared: dict[str, str] = field(default_factory=dict)


def trim(chain: RootFileSystem, selection: KeptFiles, arguments: Trim, additional: Iterable[str] = ()) -> Trimmed:
    """Remove from `selection` the files for `arguments`, except those that match the patterns in `additional`."""
    trimmed = Trimmed()
    rules = _rules(chain, selection, arguments, trimmed)
    if not rules:
        return trimmed
    patterns = (pattern if pattern.startswith("/") else f"/{pattern}" for pattern in additional)
    safe = frozenset(path for pattern in patterns for path in chain.glob(pattern))
    for path, kept in list(selection.kept.items()):
        if kept.node.kind == "dir" or _inside(path, safe):
            continue
        for switch, takes in rules:
            if takes(path, kept):
                trimmed.files[path] = (switch, kept.node.size if kept.node.kind == "file" else 0)
                break
    _remove_links(chain, selection, trimmed, safe)
    for path in trimmed.files:
        del selection.kept[path]
    _remove_empty_folders(selection, trimmed, safe)
    selection.dangling[:] = [pair for pair in selection.dangling if pair[0] in selection.kept]
    return trimmed


_Rule = Callable[[str, Kept], bool]


def _rules(chain: RootFileSystem, selection: KeptFiles, arguments: Trim, trimmed: Trimmed) -> list[tuple[str, _Rule]]:
    rules: list[tuple[str, _Rule]] = []
    if arguments.drop_headers:
        rules.append(("drop_headers", _is_header))
    if arguments.drop_static:
        rules.append(("drop_static", lambda path, _: path.endswith(".a") and chain.read(path, 8) in _ARCHIVES))
    if arguments.drop_bytecode:
        rules.append(("drop_bytecode", lambda path, _: _source_of(path) in selection.kept))
    if arguments.drop_pip:
        rules.append(("drop_pip", lambda path, kept: _is_pip(chain, path, kept)))
    if arguments.drop_tests:
        spared = _packages_that_import_tests(chain, selection)
        rules.append(("drop_tests", lambda path, _: _is_test(path, spared, trimmed)))
    if arguments.drop_locales:
        rules.append(("drop_locales", _is_translation))
    return rules


def _inside(path: str, tops: frozenset[str]) -> bool:
    while tops:
        if path in tops:
            return True
        if path == "/":
            break
        path = parent(path)
    return False


def _is_header(path: str, _: Kept) -> bool:
    parts = path.split("/")
    if path.startswith(("/usr/local/include/", "/opt/venv/include/")):
        return True
    if path.startswith("/usr/local/lib/") and (
        (path.endswith(".pc") and "pkgconfig" in parts) or (path.endswith(".cmake") and "cmake" in parts)
    ):
        return True
    return "include" in parts[:-1] and path.endswith(_HEADERS)


def _source_of(path: str) -> str:
    """Return the source file of the byte code `path` in a `__pycache__` (PEP 3147); empty for any other file."""
    folder, name = parent(path), base(path)
    if not name.endswith(".pyc") or base(folder) != "__pycache__" or "." not in name[:-4]:
        return ""
    stem = re.sub(r"\.opt-\w+$", "", name[:-4]).rpartition(".")[0]
    return join(parent(folder), f"{stem}.py")


def _is_pip(chain: RootFileSystem, path: str, kept: Kept) -> bool:
    inside = _PACKAGES.fullmatch(path)
    if inside is not None and _PIP.fullmatch(inside["rest"]):
        return True
    standard = _STANDARD.fullmatch(path)
    if standard is not None and standard["rest"].startswith("ensurepip/"):
        return True
    if _PIP_PROGRAM.fullmatch(path) is None:
        return False
    return kept.node.kind == "file" and b"from pip._internal" in (chain.read(path, 4096) or b"")


def _is_test(path: str, spared: dict[str, str], trimmed: Trimmed) -> bool:
    standard = _STANDARD.fullmatch(path)
    inside = _PACKAGES.fullmatch(path)
    if standard is not None and inside is None:
        return _STANDARD_TESTS.fullmatch(standard["rest"]) is not None
    folder = None if inside is None else _TESTS_FOLDER.fullmatch(inside["rest"])
    if inside is None or folder is None:
        return False
    package = join(inside["home"], folder["package"])
    if package in spared:
        trimmed.spared[package] = spared[package]
        return False
    return True


def _packages_that_import_tests(chain: RootFileSystem, selection: KeptFiles) -> dict[str, str]:
    """Return the Python packages that import a `test` or `tests` module from outside such folders, and the importing file."""
    having: set[str] = set()
    sources: dict[str, list[str]] = {}
    for path, kept in selection.kept.items():
        inside = _PACKAGES.fullmatch(path) if kept.node.kind == "file" else None
        if inside is None or "/" not in inside["rest"]:
            continue
        package = join(inside["home"], inside["rest"].partition("/")[0])
        if _TESTS_FOLDER.fullmatch(inside["rest"]):
            having.add(package)
        elif path.endswith(".py"):
            sources.setdefault(package, []).append(path)
    importers: dict[str, str] = {}
    for package in sorted(having):
        for path in sorted(sources.get(package, ())):
            if _IMPORTS_TESTS.search(chain.read(path, 4 << 20) or b""):
                importers[package] = path
                break
    return importers


def _is_translation(path: str, _: Kept) -> bool:
    match = _TRANSLATION.fullmatch(path) or _SYSTEM_LOCALE.fullmatch(path)
    if match is None:
        return False
    language = match["a"] or match.groupdict().get("b") or ""
    return not re.match(r"(?:en|C|POSIX)(?:$|[_.@-])", language)


def _remove_links(chain: RootFileSystem, selection: KeptFiles, trimmed: Trimmed, safe: frozenset[str]) -> None:
    """Remove links, and links to links, whose target was removed."""
    for path, kept in list(selection.kept.items()):
        if kept.node.kind == "link" and path not in trimmed.files and not _inside(path, safe):
            target = chain.resolve(path)
            if target in trimmed.files:
                trimmed.files[path] = (trimmed.files[target][0], 0)


def _remove_empty_folders(selection: KeptFiles, trimmed: Trimmed, safe: frozenset[str]) -> None:
    held: dict[str, int] = {}
    for path in selection.kept:
        held[parent(path)] = held.get(parent(path), 0) + 1
    todo = {parent(path) for path in trimmed.files}
    while todo:
        folder = todo.pop()
        kept = selection.kept.get(folder)
        if kept is None or kept.node.kind != "dir" or held.get(folder) or _inside(folder, safe):
            continue
        del selection.kept[folder]
        above = parent(folder)
        held[above] = held.get(above, 0) - 1
        todo.add(above)
