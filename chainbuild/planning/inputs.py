"""What decides a step's result, read from where it is: the Dockerfile, the ignore file, the context, the args."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.builder.build_spec import shown_path
from chainbuild.context import ContentDigests, ContextFile, ContextTree
from chainbuild.context.dockerignore import IgnoreFile, find_ignore, parse_ignore
from chainbuild.context.files import sent_digest
from chainbuild.dockerfile import Dockerfile, Facts, LocalSources, ParentConfig, arg_counts, find_facts, parse
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.package_data import minimize_program
from chainbuild.model import UNKNOWN, Step, StepKind
from chainbuild.planning.missing_sources import Checked, RequiredSource, Submodules, is_there, problems_of
from chainbuild.planning.planner import ImageFacts
from chainbuild.records.keys import Components
from chainbuild.references import Platform
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.context.remote import RemoteContent

REGISTRY_DATA = "registry"
OWN_DATA = (REGISTRY_DATA, ".chainbuild")
_LAYOUT = "oci-layout://"
# Stands before the name of an image that is given as an arg, while a Dockerfile is only read.
_GIVEN = "chainbuild.invalid/"
_ALL = LocalSources(patterns=(".",), everything=True)
# What the program itself does to a production image after its build; the number moves when that changes.
_FINISH = "2"


class InputReader:
    """Reads steps; folders are scanned once, however many steps share them. Thread-safe.

    It holds what it saw: `fresh` gives one that looks again.
    """

    def __init__(
        self,
        build_platform: Platform,
        digests: ContentDigests | None = None,
        remotes: RemoteContent | None = None,
    ) -> None:
        self._build_platform = build_platform
        self._digests = digests or ContentDigests()
        self._remotes = remotes
        self._trees: dict[Path, ContextTree] = {}
        self._submodules = Submodules()
        self._lock = threading.Lock()

    def with_fresh_inputs(self) -> InputReader:
        """A reader that looks at everything again; contents of files that did not change are not read again."""
        return InputReader(self._build_platform, self._digests, self._remotes and self._remotes.fresh())

    def components(self, step: Step, images: Mapping[str, ImageFacts]) -> Components:
        """The components of a step's key, given the facts of its image inputs by name.

        Errors: `WrongUseError` where a file of the context cannot be read.
        """
        raw = step.dockerfile.read_bytes() if step.text is None else step.text
        facts = self._facts(step, raw, images)
        unused = _unused_contexts(step, facts)
        files = {name: _in_words(file) for name, file in self._files(step, facts)}
        program = {"finish": _FINISH, "proof": self._program()} if step.kind is StepKind.PRODUCE else {}
        if facts.build_platform_counts:
            program["build platform"] = self._build_platform.oci
        if step.identity:
            program["name"] = step.identity
        return Components(
            dockerfile=raw.decode("utf-8", "surrogateescape"),
            platform=step.platform.oci,
            target=step.target or "",
            args={arg.name: arg.value for arg in step.args if arg_counts(arg.name, facts)},
            images={name: image.identity for name, image in images.items() if name not in unused},
            contexts={
                name: _layout_digest(spec)
                for name, spec in step.contexts
                if not Path(spec).is_absolute() and name not in unused
            },
            files=files,
            remotes=self._remote_identities(step, facts, unused),
            secrets=tuple(sorted({secret.id for secret in step.secrets}.intersection(facts.secrets))),
            facts=program,
        )

    def _facts(self, step: Step, raw: bytes, images: Mapping[str, ImageFacts]) -> Facts:
        args = {arg.name: arg.value for arg in step.args}
        parents: dict[tuple[str, str], ParentConfig] = {}
        for wanted in step.images:
            there = images.get(wanted.name)
            # An input that is no step's is called by its own name; the others need any name that nothing else has.
            name = wanted.written if wanted.as_context else f"{_GIVEN}{wanted.name.lower()}"
            if not wanted.as_context:
                args[wanted.name] = name
            if there is None:
                continue
            parents[name, wanted.platform.oci] = ParentConfig(env=there.env, onbuild=there.on_build)
            if wanted.asked:
                # A named context stands for the image under its normal name.
                parents[normal_context_name(name), wanted.platform.oci] = parents[name, wanted.platform.oci]
        return find_facts(
            parse(raw, str(step.dockerfile)),
            args=args,
            target=step.target,
            target_platform=step.platform,
            build_platform=self._build_platform,
            contexts=_context_names(step),
            parents=parents,
        )

    def check(self, step: Step, images: Mapping[str, ImageFacts]) -> Checked:
        """What the step cannot do without, and whether it is there. `images` has the facts of those that are known."""
        try:
            raw = step.dockerfile.read_bytes() if step.text is None else step.text
        except OSError:
            return Checked()  # told by whoever reads its components
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
                    missing=pattern in missing,
                    ignored=pattern in ignored,
                )
                sources.append(source)
                warnings += [
                    f"{path}:{line}: {source.instruction} {pattern}: the submodule {one} in it is not checked out (git"
                    f" submodule update --init {one})"
                    for one in self._submodules.below(root, pattern)
                ]
        return Checked(sources=tuple(sources), warnings=tuple(warnings))

    def problems(self, checked: Sequence[Checked]) -> tuple[Problem, ...]:
        """A problem for each source of these steps that is missing."""
        return problems_of(checked, self._submodules)

    def sent(self, step: Step, images: Mapping[str, ImageFacts]) -> str:
        """Return a digest of what the step's builder is sent, as it is in the file system now.

        It also holds the time of each entry's last change, so it moves more often than the key. Errors: as `components`.
        """
        raw = step.dockerfile.read_bytes() if step.text is None else step.text
        files = self._files(step, self._facts(step, raw, images))
        return sent_digest(step.context, [*files, ("", ContextFile(path="", kind="file", mode=0, digest=_sha256(raw)))])

    def context_files(self, step: Step, images: Mapping[str, ImageFacts]) -> tuple[ContextFile, ...]:
        """The entries of the step's own context that it can read. Errors: as `components`."""
        raw = step.dockerfile.read_bytes() if step.text is None else step.text
        files = self._files(step, self._facts(step, raw, images))
        # The names of other contexts' files have "//" in them.
        return tuple(file for name, file in files if name == file.path)

    def _files(self, step: Step, facts: Facts) -> list[tuple[str, ContextFile]]:
        """Every file that the step can read, by its name in the key. Errors: `WrongUseError`."""
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
                    ignore, own = without_own_data(ignore, root)
                    problems += _taken_in(step, sources, own)
                with self._lock:
                    found = self._tree(root).select(ignore, sources)
                problems += found.problems
                handed = {file.name for file in step.handed} if not prefix else set[str]()
                # One that lies in the tree, of an earlier run say, does not get into the build.
                files += [(prefix + file.path, file) for file in found.files if file.path not in handed]
        problems += _unknown_images(step, facts)
        if problems:
            raise WrongUseError(problems)
        return files

    def _remote_identities(self, step: Step, facts: Facts, unused: frozenset[str]) -> dict[str, str]:
        """The identities of what the step takes from the network, by address."""
        wanted = {remote.url: remote.checksum for remote in facts.remotes if remote.certain}
        wanted |= {spec: "" for name, spec in step.contexts if name not in unused and is_remote(spec)}
        unknown = {
            remote.url: f"{UNKNOWN}what it stands for is not certain" for remote in facts.remotes if not remote.certain
        }
        if not wanted:
            return unknown
        with self._lock:
            if self._remotes is None:
                # Late: few steps take anything from the network.
                from chainbuild.context.remote import RemoteContent

                self._remotes = RemoteContent()
        return unknown | {
            address: self._remotes.identity(address, checksum, lambda name: _secret(step, name))
            for address, checksum in wanted.items()
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
    """The instructions that take files, by their lines."""
    return {
        found.line: "RUN --mount" if found.keyword == "RUN" else found.keyword
        for stage in dockerfile.stages
        for found in stage.instructions
        if found.keyword in {"COPY", "ADD", "RUN"}
    }


def _origin(step: Step, shown: str, line: int) -> tuple[str, int]:
    """Where people find a line of a step's Dockerfile, which may be a generated one."""
    for first, path in reversed(step.origins):
        if 0 < first <= line:
            return path, line - first + 1
    return shown, line


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _context_names(step: Step) -> tuple[str, ...]:
    """The names of the user's contexts: places, and images that were asked for."""
    return (*(name for name, _ in step.contexts), *(image.name for image in step.images if image.asked))


def _unused_contexts(step: Step, facts: Facts) -> frozenset[str]:
    """The contexts that the build does not read: what they are decides nothing."""
    used = {normal_context_name(name) for name, _ in facts.named_sources}
    return frozenset(name for name in _context_names(step) if normal_context_name(name) not in used)


def _unknown_images(step: Step, facts: Facts) -> list[Problem]:
    """Images that nobody has looked for: only the ONBUILD triggers of what the step stands on name or need them."""
    known = {image.written for image in step.images}
    trigger = "a trigger (ONBUILD) of this FROM's image"
    return [
        Problem(
            path=step.shown or shown_path(step.dockerfile),
            line=use.line,
            message=f"{trigger} {'needs this stage on' if use.place else 'reads'} {use.reference}",
            hint=f"Pin it with --build-context {use.reference}=docker-image://{use.reference}.",
        )
        for use in facts.images
        if use.reference not in known and not use.reference.startswith(_GIVEN)
    ]


def _in_words(file: ContextFile) -> str:
    """`kind mode content`, as `Components` has it."""
    content = " ".join(part for part in (file.digest, file.target, file.attributes) if part)
    return f"{file.kind} {file.mode:o} {content}"


def _ignore_for(step: Step, prefix: str, root: Path) -> IgnoreFile:
    """The ignore file that counts for a context.

    A named context of the user's is taken whole, whatever its own says: in doubt, hash more. The stages' program has one
    that leaves out what Python makes beside it.
    """
    if not prefix:
        return find_ignore(step.context, step.dockerfile)
    return find_ignore(root) if root == minimize_program() else IgnoreFile()


def without_own_data(ignore: IgnoreFile, root: Path) -> tuple[IgnoreFile, tuple[str, ...]]:
    """The ignore file with what chainbuild itself writes into a tree, and what of that it does not ignore already.

    Those files change with every run: no key that holds them is ever met again.
    """
    there = [name for name in OWN_DATA if (root / name).is_dir()]
    # Up to version 0.1 a tree held the data of its registry.
    if not (root / REGISTRY_DATA / "docker" / "registry" / "v2").is_dir():
        there = [name for name in there if name != REGISTRY_DATA]
    own = tuple(name for name in there if _gets_in(ignore, root, name))
    if not own:
        return ignore, ()
    # A folder that was ignored already and is brought back in part: builders want the second line then.
    added = parse_ignore("".join(f"/{name}\n/{name}/**\n" for name in own).encode())
    return replace(ignore, patterns=(*ignore.patterns, *added.patterns)), own


def _gets_in(ignore: IgnoreFile, root: Path, name: str) -> bool:
    """Whether anything in a folder is not ignored: `name/*` ignores it as well, and `!name/x` brings some of it back."""
    try:
        return any(not ignore.ignores(f"{name}/{entry}") for entry in os.listdir(root / name))  # noqa: PTH208
    except OSError:
        return not ignore.ignores(name)


def _taken_in(step: Step, sources: LocalSources, own: tuple[str, ...]) -> list[Problem]:
    """A COPY of the whole context would put the registry's data and the logs into the image."""
    if sources.doubts:
        return []
    taken = own if sources.everything else tuple(name for name in own if _is_source(name, sources))
    if not taken:
        return []
    named = " and ".join(f"{name}/" for name in taken)
    if sources.everything:
        message = f"it copies the whole context, and with it {named}, where chainbuild keeps data of its own"
        hint = f"Add to .dockerignore the lines: {', '.join(taken)}."
    else:
        message = f"it copies files below {named}, where chainbuild keeps data of its own that changes with every run"
        hint = "Keep your files in another folder."
    return [Problem(path=shown_path(step.dockerfile), message=message, hint=hint)]


def _is_source(name: str, sources: LocalSources) -> bool:
    return any(fnmatchcase(name, pattern.partition("/")[0]) for pattern in sources.patterns)


def is_remote(spec: str) -> bool:
    """Return whether a named context is at an address of the network."""
    return spec.startswith(("http://", "https://", "git://", "ssh://", "git@", "github.com/"))


def _secret(step: Step, name: str) -> str | None:
    """The value of one of the step's secrets; None if it has none of that name, or it cannot be read."""
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


def _layout_digest(spec: str) -> str:
    """What an `oci-layout://FOLDER[:TAG][@DIGEST]` holds, instead of where it lies; the words where it cannot be read."""
    if not spec.startswith(_LAYOUT):
        return spec
    place, _, digest = spec.removeprefix(_LAYOUT).partition("@")
    folder, _, tag = place.partition(":")
    if digest:
        return digest
    try:
        raw = (Path(folder) / "index.json").read_bytes()
    except OSError:
        return spec
    return f"sha256:{hashlib.sha256(raw).hexdigest()}:{tag or 'latest'}"


def _readable(step: Step, facts: Facts, local: Mapping[str, Path]) -> Iterator[tuple[str, Path, LocalSources]]:
    """The contexts that the build can read from: what stands before their files' names, the folder, the sources."""
    yield "", step.context, facts.sources
    for name, sources in facts.named_sources:
        if name in local:
            # Paths hold no "//": no file of the main context can be called so.
            yield f"{name}://", local[name], sources
