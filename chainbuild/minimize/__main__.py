"""The command inside a build stage: `python3 -m chainbuild.minimize COMMAND`; see docs/stages.md.

Exit codes: 0 success, 1 problems (printed and in the report), 2 invalid usage.
"""

# A command: it prints, and its paths may contain bytes that are not valid text
# ruff: noqa: PTH112, PTH208, T201

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from chainbuild.minimize.discover import Environment, MinimizeArgs
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.explain import Explainer, removed, size_in_words
from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.lists import ListWord, words_in
from chainbuild.minimize.loader import Loader, Seed, close, elf_files, is_secure, runs_or_loads, top_folders
from chainbuild.minimize.page import page
from chainbuild.minimize.problems import errors, warnings
from chainbuild.minimize.pythons import document as python_document
from chainbuild.minimize.pythons import pythons
from chainbuild.minimize.report import MINIMIZE_SCHEMA, READABLE_SCHEMAS, minimize_report, saved
from chainbuild.minimize.root import RootFileSystem, shown
from chainbuild.minimize.sbom import image_sbom
from chainbuild.minimize.scripts import DEFAULT_PATH
from chainbuild.minimize.search import Search, SearchSettings
from chainbuild.minimize.startup import Runtime, startup
from chainbuild.minimize.trim import SWITCHES, Trim
from chainbuild.minimize.verify import verify
from chainbuild.minimize.whose import answers
from chainbuild.minimize.write import stamp, write_json

CLOSURE_SCHEMA = "chainbuild.closure/1"
_SHOWN_WARNINGS = 50
_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        for name in ("root", "production", "baseline"):
            folder = getattr(options, name, None)
            if folder is not None and not os.path.isdir(folder):
                parser.error(f"{folder}: no such folder")
        if options.command == "pack" and os.path.isdir(options.output) and os.listdir(options.output):
            parser.error(f"{options.output}: the output folder is not empty")
        if options.command in ("pack", "sbom") and not (os.environ.get("SOURCE_DATE_EPOCH") or "0").isdecimal():
            parser.error("SOURCE_DATE_EPOCH must be a number of seconds")
    except SystemExit as stop:
        return int(stop.code or 0)
    commands = {
        "pack": _pack,
        "verify": _verify,
        "closure": _closure,
        "explain": _explain,
        "removed": _removed,
        "sbom": _sbom,
        "html": _html,
        "stamp": _stamp,
        "whose": _whose,
    }
    return commands[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chainbuild.minimize", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="collect the files of the image at ROOT that a production image needs")
    _add_packing(packing)
    proving = commands.add_parser("verify", help="check that every ELF file of ROOT finds the libraries it needs")
    proving.add_argument("root", metavar="ROOT")
    proving.add_argument(
        "--baseline", metavar="ROOT2", help="the bare production image; its own faults are reported as warnings"
    )
    proving.add_argument("--report", metavar="FILE")
    proving.add_argument("--json", action="store_true", help="print the report as JSON")
    proving.add_argument("--library-path", default="", metavar="PATHS", help="the image's LD_LIBRARY_PATH")
    proving.add_argument("--python-path", default="", metavar="PATHS", help="the image's PYTHONPATH")
    proving.add_argument("--configuration", type=_settings, metavar="FILE", help="the image's configuration (JSON)")
    closing = commands.add_parser("closure", help="list the libraries that the ELF files at PATHS of ROOT need")
    closing.add_argument("root", metavar="ROOT")
    closing.add_argument("paths", nargs="*", metavar="PATHS", help="patterns inside ROOT (default: everything)")
    closing.add_argument("--library-path", default="", metavar="PATHS", help="the image's LD_LIBRARY_PATH")
    closing.add_argument("--each", action="store_true", help="also list the libraries of each file, as ldd does")
    closing.add_argument("--json", action="store_true", help="print JSON")
    listing = commands.add_parser("sbom", help="write an SPDX document about everything in ROOT")
    listing.add_argument("root", metavar="ROOT")
    listing.add_argument("--output", default="-", metavar="FILE")
    listing.add_argument("--name", default="image", help="name of the image in the document (default: image)")
    explaining = commands.add_parser("explain", help="explain why a file is in the result")
    explaining.add_argument("report", type=_report, metavar="REPORT", help="the report that pack wrote")
    explaining.add_argument("files", nargs="+", metavar="FILE", help="a path in either image, or a file name")
    listing = commands.add_parser("removed", help="list the files that were left out, by package")
    listing.add_argument("report", type=_report, metavar="REPORT", help="the report that pack wrote")
    listing.add_argument("--files", action="store_true", help="also list the largest files of each package")
    drawing = commands.add_parser("html", help="draw both images as an HTML page")
    drawing.add_argument("report", type=_report, metavar="REPORT", help="the report that pack wrote")
    drawing.add_argument("--output", default="-", metavar="FILE")
    drawing.add_argument("--title", default="Minimized image")
    stamping = commands.add_parser("stamp", help="print a digest of the file times and hard links of the tree at ROOT")
    stamping.add_argument("root", metavar="ROOT")
    owning = commands.add_parser("whose", help="report where files are in ROOT, and which packages own them")
    owning.add_argument("root", metavar="ROOT")
    owning.add_argument("--questions", required=True, metavar="FILE", help="the files to look for (JSON)")
    owning.add_argument("--output", default="-", metavar="FILE")
    return parser


def _add_packing(packing: argparse.ArgumentParser) -> None:
    packing.add_argument("root", metavar="ROOT")
    packing.add_argument("--production", required=True, metavar="ROOT2", help="the production image")
    packing.add_argument(
        "--output", required=True, metavar="DIR", help="folder to write the tree to; must be empty or missing"
    )
    packing.add_argument("--report", required=True, metavar="FILE")
    packing.add_argument(
        "--additional-lib-locations", default="", metavar="GLOBS", help="files whose libraries are kept"
    )
    packing.add_argument("--additional-files", default="", metavar="GLOBS", help="files to keep as they are")
    packing.add_argument("--library-path", default="", metavar="PATHS", help="the image's LD_LIBRARY_PATH")
    for name in SWITCHES:
        option = "--" + name.replace("_", "-")
        packing.add_argument(option, type=_switch, default=False, metavar="0|1", help="see docs/stages.md")
    for name, default in (("dlopen", False), ("plugins", True), ("surroundings", True), ("interpreters", False)):
        packing.add_argument(f"--keep-{name}", type=_switch, default=default, metavar="0|1", help="see docs/stages.md")
    packing.add_argument("--keep-data", default="", metavar="0|1|PACKAGES", help="see docs/stages.md")
    for name in ("lang", "lc-all", "time-zone"):
        packing.add_argument(f"--{name}", default="", metavar="VALUE", help="the image's LANG, LC_ALL or TZ")
    packing.add_argument("--package-records", type=_switch, default=True, metavar="0|1", help="see docs/stages.md")
    packing.add_argument("--keep-users", type=_switch, default=True, metavar="0|1", help="see docs/stages.md")
    packing.add_argument("--image-user", default="", metavar="USER", help="the image's USER")
    packing.add_argument("--sbom", metavar="FILE", help="write an SPDX document for the tree")
    packing.add_argument("--path", default=DEFAULT_PATH, metavar="PATHS", help="the image's PATH")


def _report(path: str) -> dict[str, Any]:
    """Read the report of a pack job from `path` (`-` for standard input)."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        document = json.loads(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error
    if not isinstance(document, dict) or document.get("schema") not in READABLE_SCHEMAS:
        raise argparse.ArgumentTypeError(f"{path}: not a report of pack ({MINIMIZE_SCHEMA})")
    return document


def _settings(path: str) -> dict[str, Any]:
    """Read an image's configuration from `path`: the `config` of an OCI image, plus its `architecture`."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise argparse.ArgumentTypeError(f"{path}: not an image configuration")
    return document


def _explain(options: argparse.Namespace) -> int:
    explainer = Explainer(options.report)
    for line in (line for file in options.files for line in explainer.explain(file)):
        print(line)
    return 0 if all(explainer.found(file) for file in options.files) else 1


def _removed(options: argparse.Namespace) -> int:
    for line in removed(options.report, files=options.files):
        print(line)
    return 0


def _tell(level: str, text: str, stream: TextIO | None = None) -> None:
    print(f"{level}: {text}", file=stream or sys.stderr)


def _texts(words: Iterable[ListWord]) -> tuple[str, ...]:
    return tuple(word.text for word in words if not word.taken_back)


def _switch(text: str) -> bool:
    """Return the value of an on/off build argument; an empty value is off."""
    values = dict.fromkeys(("", *_OFF), False) | dict.fromkeys(_ON, True)
    if text.strip().lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is not a switch (use 1 or 0)")
    return values[text.strip().lower()]


def _html(options: argparse.Namespace) -> int:
    text = page(options.report, options.title)
    if options.output == "-":
        sys.stdout.write(text)
    else:
        Path(options.output).write_text(text, encoding="utf-8")
    return 0


def _sbom(options: argparse.Namespace) -> int:
    document, unreadable = image_sbom(RootFileSystem(options.root), options.name, _epoch())
    write_json(document, options.output)
    for path in unreadable:
        _tell("error", f"{shown(path)} cannot be read")
    return 1 if unreadable else 0


def _epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH") or None
    return None if text is None else int(text)


def _pack(options: argparse.Namespace) -> int:
    data = [word for word in words_in(options.keep_data) if not word.taken_back]
    every = len(data) == 1 and data[0].text.lower() in _ON
    if len(data) == 1 and data[0].text.lower() in (*_ON, *_OFF):
        data = []
    locations, files = words_in(options.additional_lib_locations), words_in(options.additional_files)
    outcome = pack(
        Order(
            chain=options.root,
            production=options.production,
            output=options.output,
            library_locations=_texts(locations),
            additional_files=_texts(files),
            optional_locations=frozenset(word.text for word in locations if word.optional),
            optional_files=frozenset(word.text for word in files if word.optional),
            library_path=options.library_path,
            search_path=options.path or DEFAULT_PATH,
            epoch=_epoch(),
            package_records=options.package_records,
            users=options.keep_users,
            image_user=options.image_user,
            sbom=bool(options.sbom),
            arguments=MinimizeArgs(
                keep_dlopen=options.keep_dlopen,
                keep_plugins=options.keep_plugins,
                keep_surroundings=options.keep_surroundings,
                keep_interpreters=options.keep_interpreters,
                keep_data=_texts(data),
                optional_data=frozenset(word.text for word in data if word.optional),
                keep_all_data=every,
            ),
            environment=Environment(lang=options.lang, lc_all=options.lc_all, time_zone=options.time_zone),
            trim=Trim(**{name: getattr(options, name) for name in SWITCHES}),
        )
    )
    write_json(minimize_report(outcome), options.report)
    if outcome.sbom is not None:
        write_json(outcome.sbom, options.sbom)
    problems, notices = errors(outcome), warnings(outcome)
    for notice in notices[:_SHOWN_WARNINGS]:
        _tell("warning", notice.text)
    if len(notices) > _SHOWN_WARNINGS:
        _tell("warning", f"{len(notices) - _SHOWN_WARNINGS} more in the report")
    for notice in problems:
        _tell("error", notice.text)
    sizes = outcome.sizes
    print(
        f"minimized {size_in_words(sizes.chain)} to {size_in_words(sizes.minimized)} in {outcome.written.files} files:"
        f" {outcome.seeds} ELF files, {len(outcome.packing.brought)} libraries added,"
        f" {len(outcome.packing.from_production)} taken from the production image;"
        f" analysis {outcome.analysis_seconds:.1f} s, total {outcome.seconds:.1f} s"
    )
    for switch, sums in saved(outcome).items():
        print(f"{switch} saved {size_in_words(sums['bytes'])} in {sums['files']} files")
    return 1 if problems else 0


def _verify(options: argparse.Namespace) -> int:
    verdict = verify(options.root, baseline=options.baseline, library_path=options.library_path)
    report = verdict.document() | {
        "pythons": python_document(pythons(RootFileSystem(options.root), options.python_path))
    }
    if options.configuration is not None:
        started = startup(RootFileSystem(options.root), Runtime.read(options.configuration))
        report["configuration"] = started.document()
    if options.report:
        write_json(report, options.report)
    if options.json:
        write_json(report, "-")
    else:
        for finding in verdict.findings:
            _tell(finding.severity, finding.message, sys.stdout)
        for fault in report.get("configuration", {}).get("faults", ()):
            _tell("error", fault["text"], sys.stdout)
        foreign = sum(verdict.foreign.values())
        print(
            f"{verdict.checked} ELF files checked, {verdict.static} static or never loaded, {foreign} of other"
            f" machines; {len(verdict.errors)} errors, {len(verdict.findings) - len(verdict.errors)} warnings;"
            f" {verdict.seconds:.1f} s"
        )
    return 1 if verdict.errors or report.get("configuration", {}).get("faults") else 0


def _stamp(options: argparse.Namespace) -> int:
    print(stamp(options.root))
    return 0


def _whose(options: argparse.Namespace) -> int:
    questions = json.loads(Path(options.questions).read_text(encoding="utf-8"))
    write_json(answers(RootFileSystem(options.root), questions), options.output)
    return 0


def _closure(options: argparse.Namespace) -> int:
    start = time.monotonic()
    tree, reader = RootFileSystem(options.root), ElfReader()
    loader = Loader(Search(tree, reader, SearchSettings(library_path=options.library_path)))
    tops, nothing = top_folders(tree, options.paths or ["/*"])
    seeds = []
    for path, elf in elf_files(tree, reader, tops):
        node = tree.entry(path)
        if isinstance(elf, Elf) and runs_or_loads(elf):
            secure = node is not None and is_secure(node)
            seeds.append(Seed(path=path, elf=elf, reason="asked for", secure=secure))
    closure, processes = close(loader, seeds)
    seconds = time.monotonic() - start
    document = {
        "schema": CLOSURE_SCHEMA,
        "seeds": len(processes),
        "libraries": sorted(closure.files),
        "missing": [{"asker": asker, "name": name} for asker, name in sorted(closure.missing)],
        "nothing": nothing,
        "seconds": round(seconds, 4),
    }
    if options.each:
        document["each"] = {
            path: sorted({loaded.file for loaded in process.objects[1:]}) for path, process in sorted(processes.items())
        }
    if options.json:
        write_json(document, "-")
    else:
        for path in sorted(closure.files):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
