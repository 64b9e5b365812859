"""Find the files of the chain's image that production lacks, and the packages that own them.

The missing files of a failed import are parsed from messages of loaders, of the system and of Python, without I/O. Then
they are looked up natively in the chain's image, with their packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import asdict

from chainbuild.builder.build_spec import BuildDriver, BuildSpec
from chainbuild.errors import ChainbuildError
from chainbuild.events import Emit
from chainbuild.host.folders import scratch_folder
from chainbuild.host.package_data import PROGRAM, minimize_program, proof_path
from chainbuild.model import Step
from chainbuild.patterns import regex
from chainbuild.values import convert

Kind = Literal["library", "module", "path"]
_MOST_LETTERS: Final = 20_000

# glibc: `libGL.so.1: cannot open shared object file: No such file or directory`, after a program's name and a colon if the
# program itself needs it. musl: `Error loading shared library libGL.so.1: No such file or directory (needed by …)`.
_GLIBC = regex(r"(?P<name>[^\s:'\"()]+): cannot open shared object file: No such file")
_MUSL = regex(r"Error loading shared library (?P<name>[^\s:'\"()]+): No such file")
_MODULE = regex(r"No module named '?(?P<name>[\w.]+)'?")
# The format of Python's own errors and of most programs: `[Errno 2] No such file or directory: '/usr/share/x'`.
_PATH = regex(r"No such file or directory: b?(?P<quote>['\"])(?P<name>/[^\n]*?)(?P=quote)")

_PACKAGES: Final = {"deb": "the Debian package", "apk": "the Alpine package", "pypi": "the Python distribution"}


class MissingObject(Struct, frozen=True, kw_only=True):
    """A missing object: `library` is a name that a loader looked for, or its path; `module` a dotted name; `path` absolute."""

    kind: Kind
    name: str


class Raised(Struct, frozen=True, kw_only=True):
    """An exception: its type and message, and the missing module or file if it has a field for that."""

    type: str
    message: str
    module: str = ""
    file: str = ""

    def __str__(self) -> str:
        """Return the exception on one line, as at the end of a Python traceback."""
        first = next((line.strip() for line in self.message.splitlines() if line.strip()), "")
        kind = " ".join(self.type.split())
        return f"{kind}: {first}" if first else kind


def missing_files(errors: Iterable[Raised], said: str = "") -> tuple[MissingObject, ...]:
    """Return what is missing, the first cause first. `errors` are the raised exception and its causes.

    `said` is the printed output: a loader that ends the process raises no exception.
    """
    missing: dict[MissingObject, None] = {}
    for error in reversed(tuple(errors)):
        if error.module:
            missing.setdefault(MissingObject(kind="module", name=error.module))
        if error.file.startswith("/"):
            missing.setdefault(MissingObject(kind="path", name=error.file))
        missing.update(dict.fromkeys(in_words(error.message)))
    missing.update(dict.fromkeys(in_words(said)))
    return tuple(missing)


def in_words(text: str) -> Iterator[MissingObject]:
    """Yield the objects that a text reports as missing, in order by kind."""
    text = text[-_MOST_LETTERS:]
    for pattern in (_GLIBC, _MUSL):
        for match in pattern.finditer(text):
            yield MissingObject(kind="library", name=match["name"])
    for match in _MODULE.finditer(text):
        name = match["name"].strip(".")
        if all(part.isidentifier() for part in name.split(".")):
            yield MissingObject(kind="module", name=name)
    for match in _PATH.finditer(text):
        yield MissingObject(kind="path", name=match["name"])


class Question(Struct, frozen=True, kw_only=True):
    """A file to look for, as in `minimize/whose.py`. `folders` are for Python modules."""

    kind: Literal["library", "path", "module", "folder"]
    name: str
    folders: tuple[str, ...] = ()


def package_title(kind: str, name: str, version: str) -> str:
    """Return a package as people write it: `the Debian package curl 7.88`."""
    return f"{_PACKAGES.get(kind, kind)} {name} {version}".rstrip() if name else "no package"


class Owned(Struct, frozen=True, kw_only=True):
    """A file of the chain's image and its package, if any."""

    path: str
    kind: str = ""
    package: str = ""
    version: str = ""
    type: str = ""
    """The type after following links: `file`, `dir`, `special`, or empty if the target is missing."""

    def __str__(self) -> str:
        return f"{self.path}, of {package_title(self.kind, self.package, self.version)}"


def whose(
    builder: BuildDriver, emit: Emit, step: Step, image: str, questions: Iterable[Question], contexts: Mapping[str, str]
) -> tuple[tuple[Owned, ...], ...]:
    """Return the files of a pinned image that match each question, at most a few each.

    `contexts` replace the images that the proof's Dockerfile names, pinned. Errors: those of a build.
    """
    requests = [asdict(question) for question in questions]
    with scratch_folder() as scratch:
        context, out = scratch / "context", scratch / "out"
        context.mkdir()
        out.mkdir()
        (context / "questions.json").write_text(json.dumps(requests), encoding="ascii")
        spec = BuildSpec(
            step=step.id,
            dockerfile=proof_path(),
            shown=proof_path().name,
            context=context,
            platform=step.platform,
            args=(("IMAGE", image), ("PRODUCTION_IMAGE", "scratch")),
            contexts=(*contexts.items(), (PROGRAM, str(minimize_program()))),
            target="whose",
            export=out,
        )
        builder.build(spec, emit)
        return read_whose((out / "whose.json").read_bytes())


class _Answer(Struct, frozen=True, kw_only=True):
    files: tuple[Owned, ...]


def read_whose(raw: bytes) -> tuple[tuple[Owned, ...], ...]:
    """Return the files for each question from the document `chainbuild.whose/1`."""
    try:
        answers = convert(json.loads(raw)["answers"], tuple[_Answer, ...])
        return tuple(answer.files for answer in answers)
    except (ValueError, KeyError, TypeError) as error:
        raise ChainbuildError(f"the search in the chain's image returned no valid answer ({error!r})") from error
