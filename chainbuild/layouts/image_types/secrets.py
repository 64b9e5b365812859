"""Secret files (`*.secret`) that a Dockerfile copies: mount them in its RUN instructions instead, or report them.

`COPY svn.secret /etc/svn.secret` becomes `RUN --mount=type=secret,id=svn,target=/etc/svn.secret …` in every RUN below it, also
in those of the images that are based on the image. The file of the tree is not edited, and no line number changes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, find_facts, parse
from chainbuild.dockerfile.facts import declared_args
from chainbuild.dockerfile.model import Instruction
from chainbuild.dockerfile.rewrite import Edit, add_run_flags, apply_edits, edits_for
from chainbuild.dockerfile.stages import references, resolve_stages
from chainbuild.dockerfile.words import split_instruction
from chainbuild.errors import Problem
from chainbuild.layouts.image_types.relations import Relations
from chainbuild.layouts.image_types.roots import shown
from chainbuild.layouts.image_types.tree import Catalogue, Image
from chainbuild.patterns import regex
from chainbuild.references import Platform

SECRETS: Final = "*.secret"
ALLOW: Final = "--allow-secret-files"
_SUFFIX: Final = SECRETS.removeprefix("*")
_TARGET: Final = regex(r"[/$][A-Za-z0-9_./${}-]*")
"""The paths that can be written into a `--mount`; it expands variables as COPY does."""


class SecretMount(Struct, frozen=True, kw_only=True):
    """A secret that RUN instructions get as a file: its id, and the path of the file."""

    id: str
    target: str

    @property
    def flag(self) -> str:
        """The flag of a RUN. Every user can read the file, as one that was copied."""
        return f"--mount=type=secret,id={self.id},target={self.target},mode=0444,required=true"


class MountedSecrets(Struct, frozen=True, kw_only=True):
    """A Dockerfile without the copies of secret files.

    `mounts` are those of its last stage, which images based on it get, too. `lines` are those of the copies, by file name.
    """

    text: bytes
    mounts: tuple[SecretMount, ...] = ()
    lines: tuple[tuple[str, int], ...] = ()


def is_secret(path: str) -> bool:
    """Return whether a path is that of a secret file."""
    return fnmatchcase(posixpath.basename(path), SECRETS)


class SecretFiles:
    """The secret files of a run: `ids` are the secrets that the user gives; `allowed`: files may be copied into layers."""

    def __init__(
        self,
        catalogue: Catalogue,
        relations: Relations,
        ids: frozenset[str],
        *,
        allowed: bool,
        args: Mapping[str, str],
        build_platform: Platform,
    ) -> None:
        self._catalogue = catalogue
        self._relations = relations
        self._ids = ids
        self._allowed = allowed
        self._args = args
        self._build_platform = build_platform
        self._done: dict[tuple[str, str], MountedSecrets] = {}

    def mounted(self, image: Image, platform: Platform) -> MountedSecrets:
        """Return an image's Dockerfile, with mounts in place of the secret files that it copies."""
        if self._allowed or not self._ids:
            return MountedSecrets(text=image.raw)
        key = image.id, platform.oci
        if key not in self._done:
            # Images that read each other in a cycle have no further mounts.
            self._done[key] = MountedSecrets(text=image.raw)
            self._done[key] = _mount_secrets(
                image,
                self._ids,
                lambda name: self._inherited(image, name, platform),
                args=self._args,
                platform=platform,
                build_platform=self._build_platform,
            )
        return self._done[key]

    def _inherited(self, image: Image, name: str, platform: Platform) -> tuple[SecretMount, ...]:
        """Return the mounts of the image that a FROM names."""
        reads = self._relations.reads_of(image.id, platform)
        read = next((read for read in reads if read.image and read.wanted.written == name), None)
        return self.mounted(self._catalogue.images[read.image], platform).mounts if read else ()

    def copied(self, image: Image, platform: Platform) -> tuple[str, ...]:
        """Return the paths of the secret files that would be in a layer of an image, although that is not allowed."""
        if self._allowed:
            return ()
        dockerfile = parse(self.mounted(image, platform).text, image.dockerfile.path)
        build_platform = self._build_platform
        facts = find_facts(dockerfile, args=self._args, target_platform=platform, build_platform=build_platform)
        return tuple(filter(is_secret, facts.sources.patterns))

    def problems(self, image: Image, paths: Iterable[str]) -> Iterator[Problem]:
        """Yield a problem for each secret file in a layer of an image, where everybody with the image could read it."""
        text = image.raw.decode("utf-8", "surrogateescape").split("\n")
        for path in paths:
            name = posixpath.basename(path)
            yield Problem(
                path=image.dockerfile.path,
                line=next((number for number, item in enumerate(text, 1) if name in item), 0),
                message=f"the secret {name} would be stored in a layer of the image",
                hint=f"{self._way_out(image, path)} To store it in the layer, use {ALLOW}.",
            )

    def _way_out(self, image: Image, path: str) -> str:
        name = posixpath.basename(path)
        secret = name.removesuffix(_SUFFIX)
        if _id_of(name, self._ids):
            return (
                f"It cannot be mounted there. Copy it to an absolute path that ends in /{name}, or read it with"
                f" RUN --mount=type=secret,id={secret}."
            )
        file = image.folder.path / path
        source = shown(file) if file.is_file() else "FILE"
        return f"Use --secret id={secret},src={source}: RUN instructions get the file as a mount, and no layer has it."


def _mount_secrets(
    image: Image,
    ids: Collection[str],
    below: Callable[[str], tuple[SecretMount, ...]],
    *,
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
) -> MountedSecrets:
    """Return the Dockerfile of an image with the secrets `ids` mounted where it copies their files.

    `below` returns the mounts of the image that a FROM names. Copies that cannot be replaced stay as they are.
    """
    dockerfile = image.dockerfile
    graph = resolve_stages(
        dockerfile,
        args=args,
        target=None,
        target_platform=platform,
        build_platform=build_platform,
        contexts=frozenset(),
        parents={},
    )
    edits: list[Edit] = []
    lines: list[tuple[str, int]] = []
    runs: dict[tuple[SecretMount, ...], set[int]] = {}
    mounts: dict[int, tuple[SecretMount, ...]] = {}
    for resolved in graph.stages:
        origin = resolved.origin
        current = mounts.get(origin.index, ()) if origin.kind == "stage" else below(origin.name)
        for instruction in resolved.stage.instructions:
            if instruction.keyword == "RUN" and current:
                runs.setdefault(current, set()).add(instruction.line)
            copies = tuple(_copies(instruction, ids, dockerfile))
            if copies:
                edits += _removal(image.raw, instruction, dockerfile.escape)
                lines += [(word, instruction.line) for word, _ in copies]
                current = tuple(dict.fromkeys((*current, *(mount for _, mount in copies))))
        mounts[resolved.stage.index] = current
    text = apply_edits(image.raw, edits)
    for mounted, numbers in runs.items():
        text = add_run_flags(text, dict.fromkeys(numbers, tuple(mount.flag for mount in mounted)))
    last = graph.stages[-1].stage.index if graph.stages else 0
    return MountedSecrets(text=text, mounts=mounts.get(last, ()), lines=tuple(lines))


def _copies(
    instruction: Instruction, ids: Collection[str], dockerfile: Dockerfile
) -> Iterator[tuple[str, SecretMount]]:
    """Yield the secret files that a COPY or ADD names, with their mounts; nothing if one of them cannot be mounted."""
    if instruction.keyword not in {"COPY", "ADD"} or instruction.flag("from") is not None:
        return
    *sources, destination = instruction.words or ("",)
    words = [word for word in sources if is_secret(word)]
    # Words of the JSON form have no places of their own, so such a copy can only be removed as a whole.
    if instruction.json and len(words) < len(sources):
        return
    mounts = [_mount(word, destination, ids, dockerfile) for word in words]
    yield from ((word, mount) for word, mount in zip(words, mounts, strict=True) if mount and None not in mounts)


def _mount(word: str, destination: str, ids: Collection[str], dockerfile: Dockerfile) -> SecretMount | None:
    name = posixpath.basename(word)
    secret = _id_of(name, ids)
    # Otherwise, the destination may be a file of another name or an existing folder, which only the image can tell.
    target = destination + name if destination.endswith("/") else destination
    is_file = posixpath.basename(target) == name
    # An ARG has its value in its stage only, but the file is there for the stages and the images above, too.
    args = references(destination, dockerfile.escape) & declared_args(dockerfile)
    if not secret or not is_file or args or not _TARGET.fullmatch(target):
        return None
    return SecretMount(id=secret, target=target)


def _id_of(name: str, ids: Collection[str]) -> str:
    """Return the id of the secret with a file's content: `svn` or `svn.secret` for `svn.secret`; empty if there is none."""
    return next((known for known in (name.removesuffix(_SUFFIX), name) if known in ids), "")


def _removal(raw: bytes, instruction: Instruction, escape: str) -> Iterator[Edit]:
    """Yield the edits that remove the secret files that an instruction copies, or all of it if there are no other files."""
    if not all(map(is_secret, instruction.words[:-1])):
        text = instruction.text
        spans = list(split_instruction(text, escape).rest_words())[:-1]
        yield from edits_for(instruction, [span for span in spans if is_secret(text[slice(*span)])])
        return
    at = 0
    for number, line in enumerate(raw.decode("utf-8", "surrogateescape").split("\n"), 1):
        if instruction.line <= number <= instruction.end_line:
            yield Edit(at, at + len(line), "#")
        at += len(line) + 1
