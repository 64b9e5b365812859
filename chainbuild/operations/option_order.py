"""The order of options: what their Dockerfiles and the tree's README files say about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.images import find_base_image
from chainbuild.errors import WrongUseError
from chainbuild.layouts.numbered_names import numbered_names
from chainbuild.patterns import regex
from chainbuild.references import ImageReference, Platform
from chainbuild.toposort import topological_order

_README: Final = regex(r"(?i)readme(\.(md|rst|txt))?")
_ITEM: Final = regex(r"\s*(?:\||[-*+]|[0-9]+[.)])\s*(?P<word>[^|]*)")
_WORD: Final = regex(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PATH: Final = regex(r"(?<![\w.}$/-])/(?:[A-Za-z0-9_.-]+/)*[A-Za-z0-9_.-]+")
_MAKES: Final = regex(
    r"(?:mkdir(?: -p)?|-m venv|virtualenv|--prefix[= ]|-o|git clone .*?) ?(?P<path>/[A-Za-z0-9_./-]+)"
)
_SYSTEM: Final = ("/usr", "/etc", "/tmp", "/var", "/bin", "/lib", "/dev", "/proc", "/root", "/sys", "/sbin", "/run")  # noqa: S108


class OptionOrder(Struct, frozen=True, kw_only=True):
    """Options in build order, and the reasons. `sure` is False if nothing says which of some options comes first."""

    options: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    sure: bool = True


def order_of(root: Path, options: Sequence[str]) -> OptionOrder:
    """Return the options in the order in which they build on each other."""
    if len(options) < 2:
        return OptionOrder(options=tuple(options))
    below: dict[str, set[str]] = {option: set() for option in options}
    reasons: list[str] = []
    for option, other, reason in _dependencies(root, options):
        # What was found first counts: FROM lines, then commands of a README, then paths.
        if option not in _reachable(below, other):
            if other not in below[option]:
                reasons.append(reason)
            below[option].add(other)
    listed, readme = _listed(root, options)
    rank = {option: f"{index:04}" for index, option in enumerate([*listed, *sorted(set(options) - set(listed))])}
    names = {f"{rank[option]} {option}": option for option in options}
    keys = {option: key for key, option in names.items()}
    order = topological_order({keys[option]: [keys[other] for other in bases] for option, bases in below.items()})
    ordered = tuple(names[key] for key in order)
    if listed and listed == tuple(option for option in ordered if option in listed):
        reasons.append(f"{readme} lists {', '.join(listed)}")
    sure = len(listed) == len(options) or all(first in _reachable(below, second) for first, second in pairwise(ordered))
    return OptionOrder(options=ordered, reasons=tuple(reasons), sure=sure)


def _reachable(below: Mapping[str, set[str]], option: str) -> set[str]:
    """Return the option and everything that it depends on."""
    todo, seen = [option], {option}
    while todo:
        new = below[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def _dependencies(root: Path, options: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield pairs of an option and one that it depends on, with the reason."""
    texts = {option: _Texts(root / option) for option in options}
    for option in options:
        for reference in texts[option].bases:
            for other in options:
                if other != option and _names(reference, Path(other).name):
                    yield option, other, f"{option} is FROM {reference}"
    yield from _built_on(root, options)
    for option in options:
        for other in options:
            shared = sorted(texts[option].uses & texts[other].makes - texts[option].makes)
            if other != option and shared:
                yield option, other, f"{option} uses {shared[0]}, which {other} makes"


def _built_on(root: Path, options: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield what the commands of README files build on what: lines with an option, and with the image of another one."""
    names = {Path(option).name: option for option in options}
    for path, text in _readme_texts(root, options):
        for line in text.splitlines():
            words = line.replace("`", " ").split()
            built = {names[word] for word in words if word in names}
            bases = {names[name] for word in words if ":" in word for name in names if _is_image_of(word, name)}
            if len(built) == len(bases) == 1 and built != bases:
                option, other = built.pop(), bases.pop()
                yield option, other, f"{path} builds {option} on {other}"


def _is_image_of(word: str, option: str) -> bool:
    try:
        return _names(ImageReference.parse(word), option)
    except WrongUseError:
        return False


def _names(reference: ImageReference, option: str) -> bool:
    """Return whether the tag of an image is one of an option's: `TAG-OPTION`, or with more after it."""
    return f"-{option}-" in f"-{reference.tag or ''}-"


class _Texts:
    """What the Dockerfiles of an option say: their base images, and the paths that they make and use."""

    def __init__(self, folder: Path) -> None:
        self.bases: list[ImageReference] = []
        self.makes: set[str] = set()
        self.uses: set[str] = set()
        for name in numbered_names(folder):
            try:
                raw = limits.read_head(folder / name.file, limits.TREE_FILE)
            except OSError:
                continue
            self._read(raw)

    def _read(self, raw: bytes) -> None:
        dockerfile, native = parse(raw, ""), Platform.of_this_machine()
        base = find_base_image(dockerfile, args={}, platform=native, build_platform=native)
        with suppress(WrongUseError):  # the layout reports it
            self.bases += [ImageReference.parse(base.reference)] if base and base.reference else []
        text = raw.decode("utf-8", "replace")
        for stage in dockerfile.stages:
            for instruction in stage.instructions:
                if instruction.keyword in {"COPY", "ADD", "WORKDIR"}:
                    self.makes |= set(_outside_system(instruction.words[-1:]))
        self.makes |= set(_outside_system(match["path"] for match in _MAKES.finditer(text)))
        self.uses |= set(_outside_system(match[0] for match in _PATH.finditer(text)))


def _outside_system(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths with at least two parts that no base image has, and the folders around them."""
    for path in paths:
        parts = path.rstrip("/").split("/")
        if path.startswith("/") and not path.startswith(_SYSTEM):
            yield from ("/".join(parts[:count]) for count in range(3, len(parts) + 1))


def _listed(root: Path, options: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the options in the order of the table or list of a README that has the most of them, and that README."""
    best: tuple[tuple[str, ...], str] = ((), "")
    for path, text in _readme_texts(root, options):
        for block in _blocks(text):
            names = {Path(option).name: option for option in options}
            found = tuple(dict.fromkeys(names[word] for word in block if word in names))
            if len(found) > max(1, len(best[0])):
                best = (found, path)
    return best


def _readme_texts(root: Path, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the README files around the options: their paths, for messages, and their texts."""
    for path in _readmes(root, options):
        try:
            text = limits.read_head(path, limits.TREE_FILE).decode("utf-8", "replace")
        except OSError:
            continue
        yield path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name, text


def _readmes(root: Path, options: Sequence[str]) -> Iterator[Path]:
    folders = dict.fromkeys([root, *((root / option).parent for option in options), root.parent])
    for folder in folders:
        try:
            yield from sorted(path for path in folder.iterdir() if _README.fullmatch(path.name) and path.is_file())
        except OSError:
            continue


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the tables and lists of a text: for each, the first word of each row or item."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        item = _ITEM.match(line)
        word = _WORD.search(item["word"]) if item else None
        if word:
            block.append(word[0])
        elif block and not (item or line.startswith((" ", "\t"))):
            yield block
            block = []
