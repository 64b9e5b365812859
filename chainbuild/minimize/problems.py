"""Format the errors and warnings of a pack job; docs/stages.md lists the kinds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from chainbuild.minimize.explain import size_in_words
from chainbuild.minimize.ground import Opened
from chainbuild.minimize.job import MinimizeOutcome
from chainbuild.minimize.notices import Notice, fix_line
from chainbuild.minimize.root import base, shown
from chainbuild.minimize.verify import package_folder

_MOST_NAMES = 20
_MOST_PATHS = 4


def errors(outcome: MinimizeOutcome) -> list[Notice]:
    """Return the problems that make the result wrong; the stage fails with them."""
    return [
        *_patterns(outcome),
        *_packages(outcome),
        *outcome.layout.conflicts,
        *(Notice(kind="user", text=shown(text)) for text in outcome.users.conflicts),
        *outcome.written.problems,
    ]


def warnings(outcome: MinimizeOutcome) -> list[Notice]:
    """Return the problems to review; verify decides whether the image works with them."""
    return [
        *_libraries(outcome),
        *_interpreters(outcome),
        *_opened(outcome),
        *_data(outcome),
        *_left_out(outcome),
        *_users(outcome),
        *_unreadable(outcome),
    ]


def _patterns(outcome: MinimizeOutcome) -> Iterator[Notice]:
    for argument, pattern in outcome.selection.unmatched:
        near = outcome.nearest.get(pattern, ())
        hint = f"; nearest: {listed(near)}" if near else ""
        text = (
            f"{argument}: {shown(pattern)} matches nothing in the chain's image{hint};"
            f" write ?{shown(pattern)} if it may be missing"
        )
        yield Notice(kind="pattern", text=text, path=near[0] if near else "")


def _packages(outcome: MinimizeOutcome) -> Iterator[Notice]:
    package_names = sorted({package.name for package in outcome.ownership.packages.values()})
    for name in outcome.discovery.unknown_packages:
        near = difflib.get_close_matches(name, package_names)
        hint = f"; nearest: {listed(near)}" if near else ""
        text = f"KEEP_DATA: the chain's image has no package {shown(name)}{hint}; write ?{shown(name)} if it may be missing"
        yield Notice(kind="pattern", text=text)


def _users(outcome: MinimizeOutcome) -> Iterator[Notice]:
    for text, path in outcome.users.left:
        fix = fix_line("ADDITIONAL_FILES", [path]) if path else ""
        yield Notice(kind="user", text=text, path=path, package=outcome.owner(path) if path else "", fix=fix)


def _libraries(outcome: MinimizeOutcome) -> Iterator[Notice]:
    problems, owner = outcome.packing.problems, outcome.owner
    beside = {(package_folder(path), base(path)) for path in outcome.layout.placed}
    for where, missing in (("chain's image", problems.missing_in_chain), ("result", problems.missing_in_result)):
        for asker, name in sorted(missing):
            if (package_folder(asker), name) in beside and package_folder(asker):
                continue  # its program loads it first, as java does libjvm.so
            text = f"{shown(asker)} needs {shown(name)}: not in the {where}"
            yield Notice(kind="library", text=text, path=asker, package=owner(asker))
    for (asker, name, version), provided in sorted(problems.versions.items()):
        text = f"{shown(asker)} needs {shown(version)} of {shown(name)}; newest provided: {shown(provided)}"
        yield Notice(kind="version", text=text, path=asker, package=owner(asker))


def _interpreters(outcome: MinimizeOutcome) -> Iterator[Notice]:
    for path, name in sorted({**outcome.packing.problems.interpreters, **outcome.scripts}.items()):
        text = f"{shown(path)} needs the interpreter {shown(name)}, which the production image does not have"
        fix = "KEEP_INTERPRETERS=1" if path in outcome.scripts else ""
        yield Notice(kind="interpreter", text=text, path=path, package=outcome.owner(path), fix=fix)


def _opened(outcome: MinimizeOutcome) -> Iterator[Notice]:
    rows = [row for row in outcome.discovery.rows() if row.state == "left"]
    for row in rows:
        if row.kind in ("plugin", "nss", "surroundings"):
            size = f" ({size_in_words(row.bytes)})" if row.bytes else ""
            text = f"{shown(row.asker)} opens {shown(row.name)} ({row.why}), which is left out{size}"
            fix = fix_line("ADDITIONAL_FILES", [row.name]) if row.name.startswith("/") else ""
            yield Notice(kind=row.kind, text=text, path=row.file, package=outcome.owner(row.file), fix=fix)
    names = sorted({row.name for row in rows if row.kind == "dlopen"})
    if names:
        text = f"libraries named in program data are left out (KEEP_DLOPEN=1 keeps them): {listed(names, _MOST_NAMES)}"
        yield Notice(kind="dlopen", text=text, fix="KEEP_DLOPEN=1")


def _data(outcome: MinimizeOutcome) -> Iterator[Notice]:
    """Yield a warning for each package whose data is named and left out, the largest first."""
    by_package: dict[str, list[Opened]] = {}
    for opened in outcome.discovery.rows():
        if opened.kind == "data" and opened.state == "left":
            by_package.setdefault(opened.rule, []).append(opened)
    for owner, rows in sorted(by_package.items(), key=lambda row: (-sum(opened.bytes for opened in row[1]), row[0])):
        package = outcome.ownership.packages.get(owner)
        names = list(dict.fromkeys(opened.name for opened in rows))
        size = size_in_words(sum({opened.file: opened.bytes for opened in rows}.values()))
        of = f"the package {package.name}" if package is not None else "no package"
        text = f"files named in program data are left out: {listed(names, _MOST_PATHS)} of {of} ({size};"
        text += f" {rows[0].why.removeprefix('named in the data of ')} names {shown(names[0])})"
        fix = f"KEEP_DATA={package.name}" if package is not None else fix_line("ADDITIONAL_FILES", names)
        yield Notice(kind="data", text=text, path=rows[0].file, package=owner if package is not None else "", fix=fix)


def _left_out(outcome: MinimizeOutcome) -> Iterator[Notice]:
    selection = outcome.selection
    lines = [(path, f"{shown(path)} is left out: {why}") for path, why in sorted(outcome.layout.dropped.items())]
    lines += [(path, f"{shown(path)} is left out: a device, socket or pipe") for path in sorted(selection.special)]
    for path, text in lines:
        yield Notice(kind="left-out", text=text, path=path, package=outcome.owner(path))
    for path, target in selection.dangling:
        text = f"{shown(path)} links to {shown(target)}, which does not exist"
        yield Notice(kind="link", text=text, path=path, package=outcome.owner(path))
    for path, target in selection.too_wide:
        text = f"{shown(path)} links to {shown(target)}, a system folder, which is left out"
        yield Notice(kind="link", text=text, path=path, package=outcome.owner(path))


def _unreadable(outcome: MinimizeOutcome) -> Iterator[Notice]:
    for path, why in sorted(outcome.damaged.items()):
        yield Notice(kind="damaged", text=f"{shown(path)} is damaged: {why}", path=path, package=outcome.owner(path))
    for path, why in outcome.unreadable:
        yield Notice(kind="unreadable", text=f"{shown(path)} cannot be read: {why}", path=path)


def listed(names: Iterable[str], most: int = 3) -> str:
    """Format the first `most` names and the number of remaining ones."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more
