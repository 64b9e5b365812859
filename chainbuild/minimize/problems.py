"""The errors and warnings of a pack job, put into words; docs/stages.md lists the kinds."""

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
    """Return what makes the result wrong; the stage fails with it."""
    return [
        *_patterns(outcome),
        *_packages(outcome),
        *outcome.layout.conflicts,
        *(Notice(kind="user", text=shown(text)) for text in outcome.users.conflicts),
        *outcome.written.problems,
    ]


def warnings(outcome: MinimizeOutcome) -> list[Notice]:
    """Return what a person should look at; whether the image works for it is decided by verify."""
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
    known = sorted({package.name for package in outcome.ownership.packages.values()})
    for name in outcome.discovery.unknown_packages:
        near = difflib.get_close_matches(name, known)
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
                continue  # its program loads it before, as java does libjvm.so
            text = f"{shown(asker)} needs {shown(name)}: not in the {where}"
            yield Notice(kind="library", text=text, path=asker, package=owner(asker))
    for (asker, name, version), provided in sorted(problems.versions.items()):
        text = f"{shown(asker)} needs {shown(version)} of {shown(name)}; provided at most: {shown(provided)}"
        yield Notice(kind="version", text=text, path=asker, package=owner(asker))


def _interpreters(outcome: MinimizeOutcome) -> Iterator[Notice]:
    for path, name in sorted({**outcome.packing.problems.interpreters, **outcome.scripts}.items()):
        text = f"{shown(path)} needs the interpreter {shown(name)}, which the production image does not have"
        fix = "KEEP_INTERPRETERS=1" if path in outcome.scripts else ""
        yield Notice(kind="interpreter", text=text, path=path, package=outcome.owner(path), fix=fix)


def _opened(outcome: MinimizeOutcome) -> Iterator[Notice]:
    left = [one for one in outcome.discovery.rows() if one.state == "left"]
    for one in left:
        if one.kind in ("plugin", "nss", "surroundings"):
            size = f" ({size_in_words(one.bytes)})" if one.bytes else ""
            text = f"{shown(one.asker)} opens {shown(one.name)} ({one.why}), which is left out{size}"
            fix = fix_line("ADDITIONAL_FILES", [one.name]) if one.name.startswith("/") else ""
            yield Notice(kind=one.kind, text=text, path=one.file, package=outcome.owner(one.file), fix=fix)
    named = sorted({one.name for one in left if one.kind == "dlopen"})
    if named:
        text = f"named in the data of programs and left out (KEEP_DLOPEN=1 keeps them): {listed(named, _MOST_NAMES)}"
        yield Notice(kind="dlopen", text=text, fix="KEEP_DLOPEN=1")


def _data(outcome: MinimizeOutcome) -> Iterator[Notice]:
    """A line for each package of which data is named and left out, the largest first."""
    by_package: dict[str, list[Opened]] = {}
    for one in outcome.discovery.rows():
        if one.kind == "data" and one.state == "left":
            by_package.setdefault(one.rule, []).append(one)
    for owner, rows in sorted(by_package.items(), key=lambda row: (-sum(one.bytes for one in row[1]), row[0])):
        package = outcome.ownership.packages.get(owner)
        names = list(dict.fromkeys(one.name for one in rows))
        size = size_in_words(sum({one.file: one.bytes for one in rows}.values()))
        of = f"the package {package.name}" if package is not None else "no package"
        text = f"named in the data of programs and left out: {listed(names, _MOST_PATHS)} of {of} ({size};"
        text += f" {rows[0].why.removeprefix('named in the data of ')} names {shown(names[0])})"
        fix = f"KEEP_DATA={package.name}" if package is not None else fix_line("ADDITIONAL_FILES", names)
        yield Notice(kind="data", text=text, path=rows[0].file, package=owner if package is not None else "", fix=fix)


def _left_out(outcome: MinimizeOutcome) -> Iterator[Notice]:
    selection = outcome.selection
    lines = [(path, f"{shown(path)} is left out: {why}") for path, why in sorted(outcome.layout.dropped.items())]
    lines += [
        (path, f"{shown(path)} is left out: it is a device, socket or pipe") for path in sorted(selection.special)
    ]
    for path, text in lines:
        yield Notice(kind="left-out", text=text, path=path, package=outcome.owner(path))
    for path, target in selection.dangling:
        text = f"{shown(path)} links to {shown(target)}, which does not exist"
        yield Notice(kind="link", text=text, path=path, package=outcome.owner(path))
    for path, target in selection.too_wide:
        text = f"{shown(path)} links to {shown(target)}, a folder of the whole system, which is left out"
        yield Notice(kind="link", text=text, path=path, package=outcome.owner(path))


def _unreadable(outcome: MinimizeOutcome) -> Iterator[Notice]:
    for path, why in sorted(outcome.damaged.items()):
        yield Notice(kind="damaged", text=f"{shown(path)} is damaged: {why}", path=path, package=outcome.owner(path))
    for path, why in outcome.unreadable:
        yield Notice(kind="unreadable", text=f"{shown(path)} cannot be read: {why}", path=path)


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return the first `most` names for a line, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more
