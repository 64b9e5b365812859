"""Read everything that decides a step's result: its Dockerfile, ignore file, context, args and images."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.builder.build_spec import shown_path
from chainbuild.context import ContentDigests, ContextFile, ContextTree
from chainbuild.context.dockerignore import IgnoreFile, find_ignore, parse_ignore
from chainbuild.context.files import layout_digest, sent_digest
from chainbuild.dockerfile import Dockerfile, Facts, LocalSources, ParentConfig, arg_counts, find_facts, parse
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.package_data import minimize_program
from chainbuild.model import UNKNOWN, Step, StepKind
from chainbuild.planning.decisions import ImageFacts
from chainbuild.planning.missing_sources import Checked, RequiredSource, Submodules, is_there, problems_of
from chainbuild.records.keys import Components
from chainbuild.references import Platform
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.context.remote import RemoteContent

REGISTRY_DATA = "registry"
OWN_DATA = (REGISTRY_DATA, ".chainbuild")
# Prefix of the placeholder for an image that is passed as an arg, while a Dockerfile is analysed.
_GIVEN = "chainbuild.invalid/"
_ALL = LocalSources(patterns=(".",), everything=True)
# Version of the changes that chainbuild makes to a production image after its build. Raise it when they change.
_FINISH = "2"


class InputReader:
    """Reads the inputs of steps. Folders are scanned once, however many steps share them. Thread-safe.

    It caches what it has read; `with_fresh_inputs` returns a reader with an empty cache.
    """

    def __init__(
        self,
        build_platform: Platform,
        digests: ContentDigests | None = None,
        remotes: RemoteContent | None = None,
        of_builder: Callable[[Platform], Platform] | None = None,
    ) -> None:
        """`build_platform` is this machine's. `of_builder` returns that of the machine that builds for a platform."""
        self._build_platform = build_platform
        self._of_builder = of_builder or (lambda _: build_platform)
        self._digests = digests or ContentDigests()
        self._remotes = remotes
        self._trees: dict[Path, ContextTree] = {}
        self._submodules = Submodules()
        self._lock = threading.Lock()

    def with_fresh_inputs(self) -> InputReader:
        """Return a reader that scans everything again, without re-reading the content of unchanged files."""
        remotes = self._remotes and self._remotes.fresh()
        return InputReader(self._build_platform, self._digests, remotes, self._of_builder)

    def components(self, step: Step, images: Mapping[str, ImageFacts]) -> Components:
        """Return the components of a step's key. `images` maps each image input's name to its facts.

        Errors: `WrongUseError` if a file of the context cannot be read.
        """
        raw = step.read_dockerfile()
        facts = self._facts(step, raw, images)
        unused = _unused_contexts(step, facts)
        files = {name: _in_words(file) for name, file in self._files(step, facts)}
        program = {"finish": _FINISH, "proof": self._program()} if step.kind is StepKind.PRODUCE else {}
        if facts.build_platform_counts:
            program["build platform"] = self._of_builder(step.platform).oci
        if step.identity:
            program["name"] = step.identity
        return Components(
            dockerfile=raw.decode("utf-8", "surrogateescape"),
            platform=step.platform.oci,
            target=step.target or "",
            args={arg.name: arg.value for arg in step.args if arg_counts(arg.name, facts)},
            images={name: image.identity for name, image in images.items() if name not in unused},
            contexts={
                name: layout_digest(spec)
                for name, spec in step.contexts
                if not Path(spec).is_absolute() and name not in unused
            },
            files=files,
            remotes=self._remote_identities(step, facts, unused),
            secrets=tuple(sorted({secret.id for secret in step.secrets}.intersection(facts.secrets))),
            facts=program,
        )

    def facts(self, step: Step, images: Mapping[str, ImageFacts]) -> Facts:
        """Return what the step's Dockerfile reads and what it adds to an image's config."""
        return self._facts(step, step.read_dockerfile(), images)

    def _facts(self, step: Step, raw: bytes, images: Mapping[str, ImageFacts]) -> Facts:
        here = self._facts_on(self._build_platform, step, raw, images)
        # The builder is asked only if it makes a difference.
        there = self._of_builder(step.platform) if here.build_platform_counts else self._build_platform
        if there == self._build_platform:
            return here
        # Images are resolved and pinned for this machine, whichever builder reads them.
        return replace(self._facts_on(there, step, raw, images), images=here.images)

    def _facts_on(self, machine: Platform, step: Step, raw: bytes, images: Mapping[str, ImageFacts]) -> Facts:
        args = {arg.name: arg.value for arg in step.args}
        parents: dict[tuple[str, str], ParentConfig] = {}
        for image in step.images:
            known = images.get(image.name)
            # An external image keeps its own name; an image of a step gets a unique placeholder.
            name = image.written if image.as_context else f"{_GIVEN}{image.name.lower()}"
            if not image.as_context:
                args[image.name] = name
            if known is None:
                continue
            platform = machine.oci if image.on_builder else image.platform.oci
            parents[name, platform] = ParentConfig(env=known.env, onbuild=known.on_build)
            if image.asked:
                # A named context stands for the image under its normal name.
                parents[normal_context_name(name), platform] = parents[name, platform]
        return find_facts(
            parse(raw, str(step.dockerfile)),
            args=args,
            target=step.target,
            target_platform=step.platform,
            build_platform=machine,
            contexts=_context_names(step),
            parents=parents,
        )

    def check(self, step: Step, images: Mapping[str, ImageFacts]) -> Checked:
        """Check that the files the step requires exist. `images` has the facts of the images that are known so far."""
        try:
            raw = step.read_dockerfile()
        except OSError:
            return Checked()  # reported by whatever reads its components
        facts = self._facts(step, raw, images)
        shown = step.shown or shown_path(step.dockerfile)
        keywords = _keywords(parse(raw, shown))
        local = {name: Path(spec) for name, spec in step.contexts if Path(spec).is_absolute()}
        sources: list[RequiredSource] = []
        warnings: list[str] = []
        for prefix, root, taken in _readable(step, facts, local):
            ignore = IgnoreFile() if taken.past_ignore else _ignore_for(step, prefix, root)
            name = prefix.removesuffix("://")
            patterns = [pattern for pattern in taken.required if prefix or not _is_handed(step, pattern)]
            with self._lock:
                missing = set(self._tree(root).missing(ignore, patterns))
                ignored = {pattern for pattern in missing if is_there(self._tree(root), pattern)}
            for pattern in patterns:
                written = facts.source_lines.get((name, pattern), 0)
                path, line = _origin(step, shown, written)
                source = RequiredSource(
                    path=path,
                    line=line,
                    instruction=keywords.get(written, "COPY"),
                    pattern=pattern,
                    root=root,
                    context=name,
                    movable=not prefix and step.context_can_change,
                    missing=pattern in missing and not self._submodules.above(root, pattern),
                    ignored=pattern in ignored,
                )
                sources.append(source)
                warnings += [
                    f"{path}:{line}: {source.instruction} {pattern}: the submodule {submodule} in it is not checked out (git"
                    f" submodule update --init {submodule})"
                    for submodule in self._submodules.below(root, pattern)
                ]
        return Checked(sources=tuple(sources), warnings=tuple(warnings))

    def problems(self, checked: Sequence[Checked]) -> tuple[Problem, ...]:
        """Return a problem for each missing source of these steps."""
        return problems_of(checked, self._submodules)

    def sent(self, step: Step, images: Mapping[str, ImageFacts]) -> str:
        """Return a digest of what is sent to the step's builder, as it is in the file system now.

        It covers modification times as well, so it changes more often than the key. Errors: as `components`.
        """
        raw = step.read_dockerfile()
        files = self._files(step, self._facts(step, raw, images))
        return sent_digest(step.context, [*files, ("", ContextFile(path="", kind="file", mode=0, digest=_sha256(raw)))])

    def context_files(self, step: Step, images: Mapping[str, ImageFacts]) -> tuple[ContextFile, ...]:
        """Return the entries of its own context that the step can read. Errors: as `components`."""
        raw = step.read_dockerfile()
        files = self._files(step, self._facts(step, raw, images))
        # The names of other contexts' files have "//" in them.
        return tuple(file for name, file in files if name == file.path)

    def _files(self, step: Step, facts: Facts) -> list[tuple[str, ContextFile]]:
        """Return every file that the step can read, with its name in the key. Errors: `WrongUseError`."""
        files: list[tuple[str, ContextFile]] = []
        problems: list[Problem] = []
        local = {name: Path(spec) for name, spec in step.contexts if Path(spec).is_absolute()}
        for prefix, root, sources in _readable(step, facts, local):
            if sources:
                ignore = _ignore_for(step, prefix, root)
                problems += ignore.problems
                if sources.past_ignore:
                    ignore, sources = IgnoreFile(), replace(sources, past_ignore=False)  # noqa: PLW2901
                if not prefix:
                    ignore, exposed = without_own_data(ignore, root)
                    problems += _taken_in(step, sources, exposed)
                with self._lock:
                    selection = self._tree(root).select(ignore, sources)
                problems += selection.problems
                handed = {file.name for file in step.handed} if not prefix else set[str]()
                # A file of that name in the tree, for example from an earlier run, is replaced in the build.
                files += [(prefix + file.path, file) for file in selection.files if file.path not in handed]
        problems += _unknown_images(step, facts)
        if problems:
            raise WrongUseError(problems)
        return files

    def _remote_identities(self, step: Step, facts: Facts, unused: frozenset[str]) -> dict[str, str]:
        """Return the identity of everything that the step downloads, by address."""
        addresses = {remote.url: remote.checksum for remote in facts.remotes if remote.certain}
        addresses |= {spec: "" for name, spec in step.contexts if name not in unused and is_remote(spec)}
        unknown = {
            remote.url: f"{UNKNOWN}its value cannot be determined" for remote in facts.remotes if not remote.certain
        }
        if not addresses:
            return unknown
        with self._lock:
            if self._remotes is None:
                # Imported on demand: few steps use the network.
                from chainbuild.context.remote import RemoteContent

                self._remotes = RemoteContent()
        return unknown | {
            address: self._remotes.identity(address, checksum, lambda name: _secret(step, name))
            for address, checksum in addresses.items()
        }

    def _program(self) -> str:
        with self._lock:
            files = self._tree(minimize_program()).select(IgnoreFile(), _ALL).files
        text = " ".join(f"{file.path}={file.digest}" for file in files if file.path.endswith(".py"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def _tree(self, root: Path) -> ContextTree:
        if root not in self._trees:
            self._trees[root] = ContextTree(root, self._digests)
        return self._trees[root]


def _is_handed(step: Step, pattern: str) -> bool:
    return any(fnmatchcase(file.name, pattern) for file in step.handed)


def _keywords(dockerfile: Dockerfile) -> dict[int, str]:
    """Return the instructions that read files, by line number."""
    return {
        instruction.line: "RUN --mount" if instruction.keyword == "RUN" else instruction.keyword
        for stage in dockerfile.stages
        for instruction in stage.instructions
        if instruction.keyword in {"COPY", "ADD", "RUN"}
    }


def _origin(step: Step, shown: str, line: int) -> tuple[str, int]:
    """Return the source location of a line of a step's Dockerfile, which may be generated."""
    for first, path in reversed(step.origins):
        if 0 < first <= line:
            return path, line - first + 1
    return shown, line


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _context_names(step: Step) -> tuple[str, ...]:
    """Return the names of the user's named contexts: folders, addresses and images."""
    return (*(name for name, _ in step.contexts), *(image.name for image in step.images if image.asked))


def _unused_contexts(step: Step, facts: Facts) -> frozenset[str]:
    """Return the contexts that the build does not read, which therefore do not affect the key."""
    used = {normal_context_name(name) for name, _ in facts.named_sources}
    return frozenset(name for name in _context_names(step) if normal_context_name(name) not in used)


def _unknown_images(step: Step, facts: Facts) -> list[Problem]:
    """Return a problem for each unresolved image, which only an ONBUILD trigger of the parent image reads."""
    known = {image.written for image in step.images}
    trigger = "a trigger (ONBUILD) of this FROM's image"
    return [
        Problem(
            path=step.shown or shown_path(step.dockerfile),
            line=use.line,
            message=f"{trigger} {'requires this stage for' if use.place else 'reads'} {use.reference}",
            hint=f"Pin it with --build-context {use.reference}=docker-image://{use.reference}.",
        )
        for use in facts.images
        if use.reference not in known and not use.reference.startswith(_GIVEN)
    ]


def _in_words(file: ContextFile) -> str:
    """Return `kind mode content`, the format of `Components.files`."""
    content = " ".join(part for part in (file.digest, file.target, file.attributes) if part)
    return f"{file.kind} {file.mode:o} {content}"


def _ignore_for(step: Step, prefix: str, root: Path) -> IgnoreFile:
    """Return the ignore file that applies to a context.

    A user's named context is hashed whole, whatever its own ignore file says: in doubt, hash more. The folder of the stages'
    program has an ignore file for the files that Python generates in it.
    """
    if not prefix:
        return find_ignore(step.context, step.dockerfile)
    return find_ignore(root) if root == minimize_program() else IgnoreFile()


def without_own_data(ignore: IgnoreFile, root: Path) -> tuple[IgnoreFile, tuple[str, ...]]:
    """Return the ignore file extended by chainbuild's own data folders, and those of them that it did not ignore before.

    These files change with every run, so no key that covers them would ever match again.
    """
    names = [name for name in OWN_DATA if (root / name).is_dir()]
    # Up to version 0.1 a tree held the data of its registry.
    if not (root / REGISTRY_DATA / "docker" / "registry" / "v2").is_dir():
        names = [name for name in names if name != REGISTRY_DATA]
    exposed = tuple(name for name in names if _gets_in(ignore, root, name))
    if not exposed:
        return ignore, ()
    # Builders need the second pattern for a folder that was ignored and is re-included in part.
    added = parse_ignore("".join(f"/{name}\n/{name}/**\n" for name in exposed).encode())
    return replace(ignore, patterns=(*ignore.patterns, *added.patterns)), exposed


def _gets_in(ignore: IgnoreFile, root: Path, name: str) -> bool:
    """Return whether any entry of a folder is not ignored: `name/*` ignores them, `!name/x` re-includes some."""
    try:
        return any(not ignore.ignores(f"{name}/{entry}") for entry in os.listdir(root / name))  # noqa: PTH208
    except OSError:
        return not ignore.ignores(name)


def _taken_in(step: Step, sources: LocalSources, exposed: tuple[str, ...]) -> list[Problem]:
    """Report a COPY that would put the registry's data and the logs into the image."""
    if sources.doubts:
        return []
    taken = exposed if sources.everything else tuple(name for name in exposed if _is_source(name, sources))
    if not taken:
        return []
    named = " and ".join(f"{name}/" for name in taken)
    if sources.everything:
        message = f"copies the whole context including {named}, where chainbuild keeps its own data"
        hint = f"Add these lines to .dockerignore: {', '.join(taken)}."
    else:
        message = f"copies files from {named}, where chainbuild keeps its own data, which changes with every run"
        hint = "Keep your files in another folder."
    return [Problem(path=shown_path(step.dockerfile), message=message, hint=hint)]


def _is_source(name: str, sources: LocalSources) -> bool:
    return any(fnmatchcase(name, pattern.partition("/")[0]) for pattern in sources.patterns)


def is_remote(spec: str) -> bool:
    """Return whether a named context is a network address."""
    return spec.startswith(("http://", "https://", "git://", "ssh://", "git@", "github.com/"))


def _secret(step: Step, name: str) -> str | None:
    """Return the value of a step's secret; None if there is no such secret or it cannot be read."""
    for secret in step.secrets:
        if secret.id == name:
            fields = dict(part.partition("=")[::2] for part in secret.spec.split(","))
            source = fields.get("src") or fields.get("source")
            try:
                text = Path(source).read_text(encoding="utf-8") if source else os.environ.get(fields.get("env", name))
            except (OSError, UnicodeDecodeError):
                return None
            return text.strip() if text else None
    return None


def _readable(step: Step, facts: Facts, local: Mapping[str, Path]) -> Iterator[tuple[str, Path, LocalSources]]:
    """Yield each context that the build can read: the prefix of its file names, its folder, its sources."""
    yield "", step.context, facts.sources
    for name, sources in facts.named_sources:
        if name in local:
            # Paths contain no "//", so no file of the main context can have such a name.
            yield f"{name}://", local[name], sources
