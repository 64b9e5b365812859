"""Pairs of small build contexts that differ in one thing, and the step key that chainbuild gives each of them.

Images are placeholders (`IMAGE_A`, …) until a pair is written down, because a stage can have the name of an image only
if the image's name is a valid stage name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from chainbuild.context import ContextTree
from chainbuild.context.dockerignore import find_ignore
from chainbuild.dockerfile import find_facts, parse
from chainbuild.dockerfile.images import named_images, named_uses
from chainbuild.errors import WrongUseError
from chainbuild.model import BuildArg, ImageInput, Step, StepKind
from chainbuild.planning.decisions import ImageFacts
from chainbuild.planning.inputs import InputReader
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

HERE: Final = Platform.of_this_machine()
WHEN: Final = 1_577_836_800
"""The modification time of every file, so that times never differ."""
EXTRA: Final = "extra"
"""The named context that a pair may use."""
NAMES: Final = ("a", "b", "c.txt", "d.txt", "d/a", "d/b", "d/c.txt", "e/f/a", "e/f/b", "e/a")
FOLDERS: Final = ("d", "e", "e/f", "empty")
LINKS: Final = {"link": "a", "dlink": "d", "e/up": "../a", "abs": "/d/a", "gone": "nowhere", "d/in": "b"}
IMAGES: Final = {"IMAGE_A": ("V=a",), "IMAGE_B": ("W=c.txt", "PATH=/d"), "IMAGE_ON": ()}
ON_BUILD: Final = ("COPY a /on/", "ARG ON=b", "COPY ${ON} /on2/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An entry of a context: a file (content), a folder or a link (target)."""

    kind: str
    text: str = ""
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Everything that one build is made from. `moved` is the image to which a tag has moved."""

    lines: tuple[str, ...]
    files: Mapping[str, Entry]
    extra: Mapping[str, Entry]
    ignore: tuple[str, ...] = ()
    own_ignore: tuple[str, ...] | None = None
    args: Mapping[str, str]
    target: str | None = None
    moved: str = ""

    def dockerfile(self, images: Mapping[str, str]) -> bytes:
        """The Dockerfile with the real image names."""
        text = "\n".join(self.lines) + "\n"
        return re.sub("IMAGE_[A-Z]+", lambda match: images[match[0]], text).encode()

    @property
    def with_extra(self) -> bool:
        """True if the named context is passed."""
        return any(EXTRA in line for line in self.lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A case, a change to it, and the case after the change."""

    before: Case
    change: str
    after: Case

    def __str__(self) -> str:
        """A text that shows all differences."""
        shown = [f"change: {self.change}", "Dockerfile:", *(f"    {line}" for line in self.before.lines)]
        for name in ("files", "extra", "ignore", "own_ignore", "args", "target", "moved"):
            old, new = getattr(self.before, name), getattr(self.after, name)
            shown.append(f"{name}: {_short(old)}" + ("" if old == new else f"\n    after: {_short(new)}"))
        return "\n".join(shown)


def _short(value: object) -> str:
    if not isinstance(value, Mapping):
        return repr(value)
    entries = {name: f"{e.kind} {e.mode:o} {e.text!r}" if isinstance(e, Entry) else e for name, e in value.items()}
    return repr(entries)


# The strategy ---------------------------------------------------------------------------------------------------------

NAME = st.sampled_from(["a", "b", "c.txt", "d", "e"])
SOURCES = st.sampled_from(
    [
        "a",
        "b",
        "c.txt",
        "d",
        "d/",
        "d/a",
        "d/b",
        "*.txt",
        "d/*",
        "?",
        "[ab]",
        "[^a]",
        "e",
        "e/f",
        "e/*/a",
        "link",
        "dlink",
        "dlink/a",
        "abs",
        "e/up",
        ".",
        "./d/../a",
        "/a",
        "../b",
        "$V",
        "${V}",
        "${V:-a}",
        "${W-b}",
        "d/${W%.txt}",
        "${G:+a}",
        "${V%x}",
        "${V/a/b}",
        "'a'",
        '"$V"',
        "\\a",
        "*",
        "**",
        "d/**",
        "none*",
        "${PATH#*/}",
        "$G",
        "${N:-d}",
        "${TARGETSTAGE:-a}",
    ]
)
VARIABLES = st.sampled_from(
    [
        "ARG V=a",
        "ARG V",
        "ARG V=b W=$V",
        "ARG V=$W",
        "ARG W=b V=a",
        "ARG G",
        "ARG G=${V:-a}",
        "ENV V=b",
        "ENV V a",
        "ENV N=V",
        "ENV V=a W=$V",
        "ENV W=b V=${W:-a}",
        "ARG ${N}=b",
        "ARG N=V",
        "ENV V=",
        "ARG V=",
        "ARG TARGETARCH",
        "ENV G=${TARGETARCH:+b}",
        "ARG TARGETSTAGE",
        "ENV V='a'",
        'ENV V="a" W="b"',
        "ARG V=a\\\n  W=b",
        "ARG V=a # b",
        "ENV V=a\\ b V=b",
        "ENV PATH=/a",
    ]
)
IGNORES = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            "*.txt",
            "d",
            "d/*",
            "!d/a",
            "**/a",
            "!a",
            "e/**",
            "!e/f",
            "e/f/b",
            "*",
            "!*.txt",
            "/b",
            "[ab]",
            "# a",
            "link",
            "!d",
            " a ",
            "d/**",
            "**",
            "!**/b",
            "?.txt",
            "/!a",
        ]
    ),
    max_size=3,
).map(tuple)


@st.composite
def instructions(draw: st.DrawFn, number: int, stages: tuple[str, ...]) -> str:
    """One line of a stage."""
    to, source = f"/o{number}/", draw(SOURCES)
    forms = [
        f"COPY {source} {to}",
        f"COPY {source} {draw(SOURCES)} {to}",
        f"ADD {source} {to}",
        f"COPY --link {source} {to}",
        f"COPY --chmod=750 {source} {to}",
        f"COPY --chown=1:2 {source} {to}",
        f'COPY ["{draw(NAME)}", "{to}"]',
        f"COPY \\\n  # a comment\n  {source} \\\n  {to}",
        f"COPY <<EOF {draw(NAME)} {to}\n$V ${{W:-b}}\nEOF",
        f"COPY <<'E' /h{number}\n$V\nE",
        f"copy {source} {to}",
        f"ONBUILD COPY {draw(NAME)} /on{number}/",
        f"COPY --from={EXTRA} {draw(NAME)} {to}",
        f"COPY --from={EXTRA} * {to}",
        f"COPY --from=IMAGE_A /p {to}",
        f"COPY --from=IMAGE_B:latest /p {to}",
    ]
    if stages:
        forms += [f"COPY --from={draw(st.sampled_from(stages))} / /s{number}/", f"COPY --from=0 / /z{number}/"]
    return draw(st.one_of(VARIABLES, st.sampled_from(forms), st.sampled_from(forms)))


@st.composite
def mounted(draw: st.DrawFn, number: int) -> str:
    """A stage that reads through a mount, which requires a RUN."""
    source = draw(st.sampled_from(["a", "d", "e", "", "link", "$V", "${V:-d}", "d/a"]))
    origin = draw(st.sampled_from(["", "", f"from={EXTRA},", "from=IMAGE_A,"]))
    place = f"source={source}," if source else ""
    return (
        f"FROM IMAGE_RUN AS r{number}\nARG V=b\nRUN --mount={origin}{place if 'IMAGE' not in origin else ''}target=/in"
        f" mkdir /out && cp -a /in /out/{number}"
    )


@st.composite
def dockerfile_lines(draw: st.DrawFn) -> tuple[str, ...]:
    """A whole Dockerfile of one to three stages."""
    lines = draw(
        st.lists(st.sampled_from(["ARG G=a", "ARG G", "ARG V=b", "ARG BASE=scratch", "ARG TARGETARCH"]), max_size=2)
    )
    stages: list[str] = []
    if draw(st.integers(0, 9)) == 0:
        lines.append(draw(mounted(0)))
        stages.append("r0")
    for number in range(draw(st.integers(1, 3))):
        base = draw(
            st.sampled_from(
                ["scratch", "scratch", "IMAGE_A", "IMAGE_B", "IMAGE_ON", "${BASE:-scratch}", *stages, *stages]
            )
        )
        name = draw(st.sampled_from(["", f"s{number}", f"S{number}", "IMAGE_A", "IMAGE_B"]))
        if name in stages:
            name = ""
        lines.append(f"FROM {base}{f' AS {name}' if name else ''}")
        for at in range(draw(st.integers(1, 4))):
            lines.append(draw(instructions(number * 10 + at, tuple(stages))))
        if name:
            stages.append(name.lower() if name.startswith("S") else name)
    if stages[:1] == ["r0"]:
        lines += ["FROM scratch", "COPY --from=r0 /out /"]
    return tuple(lines)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Entry]:
    """A context's entries; contents have one letter, so that sizes never differ."""
    chosen = draw(st.sets(st.sampled_from(NAMES), min_size=4))
    files = {"a": Entry(kind="file", text="A"), "d/a": Entry(kind="file", text="A")}
    files |= {
        name: Entry(
            kind="file", text=draw(st.sampled_from("AB")), mode=draw(st.sampled_from([0o644, 0o644, 0o755, 0o600]))
        )
        for name in sorted(chosen)
    }
    files |= {
        name: Entry(kind="link", text=LINKS[name]) for name in sorted(draw(st.sets(st.sampled_from(sorted(LINKS)))))
    }
    for name in draw(st.sets(st.sampled_from(FOLDERS))):
        files[name] = Entry(kind="dir", mode=draw(st.sampled_from([0o755, 0o711, 0o700])))
    return dict(sorted(files.items()))


@st.composite
def changed_tree(draw: st.DrawFn, files: Mapping[str, Entry]) -> tuple[str, dict[str, Entry]]:
    """The tree with one entry changed, and a description of the change."""
    name = draw(st.sampled_from(sorted(files)))
    entry = files[name]
    plain = [other for other in sorted(files) if files[other].kind == "file"]
    what = draw(
        st.sampled_from(["content", "content", "content", "mode", "add", "remove", "target", "folder mode", "kind"])
    )
    if what == "content" and plain:
        name = draw(st.sampled_from(plain))
        return f"content of {name}", {**files, name: replace(files[name], text="B" if files[name].text == "A" else "A")}
    if what == "mode" and entry.kind == "file":
        return f"mode of {name}", {**files, name: replace(entry, mode=0o755 if entry.mode != 0o755 else 0o640)}
    if what == "folder mode":
        name = draw(st.sampled_from(FOLDERS))
        mode = 0o750 if name in files and files[name].mode != 0o750 else 0o701
        return f"mode of the folder {name}", {**files, name: Entry(kind="dir", mode=mode)}
    if what == "add":
        added = draw(st.sampled_from([*NAMES, "new", "d/new", "e/f/new.txt", "new.txt"]))
        return f"new {added}", {**files, added: Entry(kind="file", text="C")}
    if what == "target" and entry.kind == "link":
        return f"target of {name}", {**files, name: replace(entry, text="../b" if name.startswith("e/") else "b")}
    if what == "kind" and entry.kind == "file":
        return f"{name} becomes a link", {**files, name: Entry(kind="link", text="/b")}
    return f"no {name} any more", {other: files[other] for other in files if other != name}


CHANGES: Final = 5
"""Number of changes per case: the case's image is built once for all of them."""
VALUES = st.sampled_from(["a", "b", "c.txt", "d", ""])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Everything that a build is made from."""
    return Case(
        lines=draw(dockerfile_lines()),
        files=draw(trees()),
        extra=draw(trees()),
        ignore=draw(IGNORES),
        own_ignore=draw(st.none() | st.none() | IGNORES),
        args=draw(st.dictionaries(st.sampled_from("VWGN"), VALUES, max_size=2)),
    )


@st.composite
def changes(draw: st.DrawFn, before: Case) -> Pair:
    """A case with one change of it."""
    what = draw(st.sampled_from(["files"] * 8 + ["extra", "arg", "ignore", "own ignore", "image"]))
    after, change = before, ""
    if what == "files":
        change, files = draw(changed_tree(before.files))
        after = replace(before, files=files)
    elif what == "extra":
        change, files = draw(changed_tree(before.extra))
        change, after = f"{EXTRA}: {change}", replace(before, extra=files)
    elif what == "arg":
        name, value = draw(st.sampled_from("VWGN")), draw(VALUES)
        change, after = f"arg {name}={value}", replace(before, args={**before.args, name: value})
    elif what == "ignore":
        change, after = "ignore file", replace(before, ignore=draw(IGNORES))
    elif what == "own ignore":
        change, after = "ignore file of its own", replace(before, own_ignore=draw(st.none() | IGNORES))
    else:
        name = draw(st.sampled_from(sorted(IMAGES)))
        change, after = f"{name} moved", replace(before, moved=name)
    return Pair(before=before, change=change, after=after)


@st.composite
def families(draw: st.DrawFn) -> tuple[Pair, ...]:
    """Several pairs of one case."""
    before = draw(cases())
    return tuple(draw(changes(before)) for _ in range(CHANGES))


# On disk, and as a step -----------------------------------------------------------------------------------------------


def context_of(folder: Path) -> Path:
    """Return where a case's context is below its folder.

    BuildKit caches what it received by the last part of the path, so each case has its own.
    """
    return folder / f"context-{_unique(folder)}"


def extra_of(folder: Path) -> Path:
    """Return where a case's named context is below its folder."""
    return folder / f"{EXTRA}-{_unique(folder)}"


def _unique(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def write_case(case: Case, folder: Path, images: Mapping[str, str]) -> Path:
    """Write a case into a new folder; return the Dockerfile's path."""
    _write_tree(case.files, context_of(folder))
    _write_tree(case.extra, extra_of(folder))
    ignore = context_of(folder) / ".dockerignore"
    ignore.write_text("\n".join(case.ignore))
    os.utime(ignore, (WHEN, WHEN))
    dockerfile = folder / "Dockerfile"
    dockerfile.write_bytes(case.dockerfile(images))
    if case.own_ignore is not None:
        (folder / "Dockerfile.dockerignore").write_text("\n".join(case.own_ignore))
    return dockerfile


def _write_tree(files: Mapping[str, Entry], root: Path) -> None:
    root.mkdir(parents=True)
    for name, entry in files.items():
        path = root / name
        if _is_in_the_way(path, root):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "dir":
            path.mkdir(exist_ok=True)
        elif entry.kind == "link":
            path.symlink_to(entry.text)
        else:
            path.write_text(entry.text)
    for path in sorted(root.rglob("*"), reverse=True):
        found = files.get(str(path.relative_to(root)))
        if not path.is_symlink():
            path.chmod(found.mode if found else 0o755)
        os.utime(path, (WHEN, WHEN), follow_symlinks=False)


def _is_in_the_way(path: Path, root: Path) -> bool:
    """Return True if the path, or a folder above it, already exists as something else."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        return True
    return any(above.is_symlink() or above.is_file() for above in path.parents if above.is_relative_to(root))


def image_inputs(case: Case, images: Mapping[str, str]) -> tuple[ImageInput, ...]:
    """Return the image inputs of a case's step."""
    return named_images(
        parse(case.dockerfile(images), "Dockerfile"),
        given=(),
        args=case.args,
        platform=HERE,
        build_platform=HERE,
        contexts=(EXTRA,) if case.with_extra else (),
    )[0]


def step_of(case: Case, folder: Path, images: Mapping[str, str]) -> Step:
    """Return the step for a case on disk."""
    return Step(
        id=StepId("amd64", "o", "x"),
        kind=StepKind.BUILD,
        name="x",
        option="o",
        number=1,
        platform=HERE,
        dockerfile=folder / "Dockerfile",
        context=context_of(folder),
        args=tuple(BuildArg(name=name, value=value) for name, value in case.args.items()),
        images=image_inputs(case, images),
        contexts=((EXTRA, str(extra_of(folder))),) if case.with_extra else (),
        repository=ImageReference.parse("localhost:5000/x"),
        tag="x",
        target=case.target,
        parent="",
    )


def key_of(case: Case, folder: Path, images: Mapping[str, str]) -> str:
    """Return the step key of a case on disk.

    Errors: `WrongUseError` if the plan refuses the case.
    """
    step, facts = step_of(case, folder, images), image_facts(case, images)
    if missing_sources(step, facts):
        raise WrongUseError("a source is missing")
    return InputReader(HERE).components(step, facts).key


def image_facts(case: Case, images: Mapping[str, str]) -> dict[str, ImageFacts]:
    """Return the facts of the case's images, by the names of the image inputs."""
    real = {name: placeholder for placeholder, name in images.items()}
    facts = {}
    for image in image_inputs(case, images):
        placeholder = real.get(image.written.removesuffix(":latest"), "")
        state = 1 if placeholder and placeholder == case.moved else 0
        facts[image.name] = ImageFacts(
            identity=f"sha256:{placeholder}{state}",
            env=IMAGES.get(placeholder, ()),
            on_build=ON_BUILD if placeholder == "IMAGE_ON" else (),
        )
    return facts


def missing_sources(step: Step, facts: Mapping[str, ImageFacts]) -> tuple[str, ...]:
    """Return the sources that a builder will not find in any context."""
    found = InputReader(HERE)._facts(step, step.dockerfile.read_bytes(), facts)
    ignore = find_ignore(step.context, step.dockerfile)
    missing = ContextTree(step.context).select(ignore, found.sources).missing
    for name, sources in found.named_sources:
        for known, place in step.contexts:
            if known == name:
                missing += ContextTree(Path(place)).select(find_ignore(Path(place)), sources).missing
    return missing


def is_plannable(case: Case, images: Mapping[str, str]) -> bool:
    """Return True if the plan accepts the Dockerfile, as far as that is known without the files."""
    dockerfile = parse(case.dockerfile(images), "Dockerfile")
    facts = find_facts(
        dockerfile,
        args=case.args,
        target_platform=HERE,
        build_platform=HERE,
        contexts=(EXTRA,) if case.with_extra else (),
    )
    if dockerfile.problems or facts.problems:
        return False
    uses = named_uses(
        dockerfile,
        given=(),
        args=case.args,
        platform=HERE,
        build_platform=HERE,
        contexts=(EXTRA,) if case.with_extra else (),
    )
    return all(use.use.reference.removesuffix(":latest") in images.values() for use in uses.uses)
