"""What git says of a tree. Nothing is ever written, and no program that the tree names is started.

What git says of a tree: where it stands, what has changed, and what a file was before. Nothing is ever written.

Every question is one call of git, on a view in which the tree cannot name programs (`git_view`). A folder that is no git
tree, or a machine without git, is an answer and no error; a revision that cannot be found is one.

The only place that runs git: on a view of a repository in which the repository cannot name programs, or outside of any.

A repository's configuration may name programs that git runs while it only looks: file system monitors, hooks, external
diffs, text converters, clean and process filters, signature checkers, transports, pagers, commands inside of submodules.
A tree is untrusted, so git never sees that configuration. It gets a git directory of chainbuild's own, which leads to the
objects, references and index of the repository, and a configuration of the few settings that decide whether a file counts
as changed. What is not on that list does not exist, whatever a later git may add.

The user's own configuration (`~/.gitconfig`) is the user's, and counts. Nothing is ever written into the repository, and
nothing is fetched.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.host.folders import scratch_folder

EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree without files, which every git knows: what a first commit is compared with."""

Runner = Callable[[Sequence[str]], str | None]
"""Runs git with these arguments; its stdout, or None if it failed."""


class Head(Struct, frozen=True, kw_only=True):
    """The commit that a tree is at: its short hash, and how many commits there are up to it."""

    short: str
    count: int


class CommitRange(Struct, frozen=True, kw_only=True):
    """From what to what a tree is compared: commits, or trees; `newer` is None for the files as they lie there."""

    older: str
    newer: str | None
    said: str = ""

    @property
    def open(self) -> bool:
        """Return whether edits that no one has committed are in it."""
        return self.newer is None


class Git:
    """The git tree that a folder is in. Paths are relative to the folder."""

    def __init__(self, root: Path, run: Runner | None = None) -> None:
        self._run = run or (lambda arguments: run_git(root, arguments))

    def head(self) -> Head | None:
        """Return where the tree stands; None if it is no git tree, or has no commit yet."""
        said = self._run(["log", "-1", "--format=%h"])
        count = self._run(["rev-list", "--count", "HEAD"]) if said else None
        if not said or not count:
            return None
        return Head(short=said.strip(), count=int(count))

    def dirty(self, paths: Sequence[str]) -> bool:
        """Return whether anything below these paths is not as it was committed; a file that git does not know is so."""
        return bool(self._run(["status", "--porcelain", "--", *paths]))

    def span(self, text: str) -> CommitRange:
        """Return what `REV`, `A..B` or `A...B` means. A single revision goes to the files as they lie there.

        `HEAD^` of a first commit is the tree without files. Errors: `WrongUseError`.
        """
        if "..." in text:
            older, newer = (part or "HEAD" for part in text.split("...", 1))
            base = self._run(["merge-base", self.commit(older, text), self.commit(newer, text)])
            if not base:
                raise WrongUseError(f"{text!r}: the two have no commit in common", hint="Use two dots.")
            return CommitRange(older=base.strip(), newer=self.commit(newer, text), said=text)
        if ".." in text:
            older, newer = (part or "HEAD" for part in text.split("..", 1))
            return CommitRange(older=self.commit(older, text), newer=self.commit(newer, text), said=text)
        return CommitRange(older=self.commit(text, text), newer=None, said=text)

    def recent(self) -> tuple[CommitRange, ...]:
        """Return the last commit with the edits since, then the edits alone. Empty outside a git tree."""
        head = self._run(["rev-parse", "--verify", "--quiet", "HEAD"])
        if not head:
            return ()
        return CommitRange(older=self._before("HEAD") or EMPTY_TREE, newer=None), CommitRange(
            older=head.strip(), newer=None
        )

    def commit(self, text: str, whole: str) -> str:
        """Return the full hash of a revision. Errors: `WrongUseError`."""
        found = None if text.startswith("-") else self._run(["rev-parse", "--verify", "--quiet", f"{text}^{{commit}}"])
        if found:
            return found.strip()
        shallow = (self._run(["rev-parse", "--is-shallow-repository"]) or "").strip() == "true"
        for end in ("^", "~", "~1", "^1"):
            child = text.removesuffix(end)
            if child == text:
                continue
            there = self._run(["rev-parse", "--verify", "--quiet", f"{child}^{{commit}}"])
            if there and not shallow and self._before(there.strip()) is None:
                return EMPTY_TREE
        said = f"{whole!r}: " if whole != text else ""
        hint = "This clone has only its newest commits: git fetch --unshallow." if shallow else "See git log."
        raise WrongUseError(f"{said}git knows no revision {text!r} here", hint=hint)

    def _before(self, commit: str) -> str | None:
        """Return the first parent; None for a first commit (or the last one that a shallow clone has)."""
        found = self._run(["rev-parse", "--verify", "--quiet", f"{commit}^1"])
        return found.strip() if found else None

    def changed(self, span: CommitRange, paths: Sequence[str]) -> tuple[str, ...]:
        """Return the files below these paths that differ, those that went away with them."""
        ends = [span.older, *([span.newer] if span.newer else [])]
        how = ("--name-only", "--no-ext-diff", "--no-textconv", "--no-renames", "--relative", "-z")
        said = self._run(["diff", *how, *ends, "--", *paths])
        if said is None:
            raise WrongUseError(f"git cannot compare {span.said or span.older}", hint="See git diff.")
        return tuple(_entries(said))

    def untracked(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return the files below these paths that git does not know and is not told to ignore."""
        said = self._run(["ls-files", "--others", "--exclude-standard", "-z", "--", *paths])
        return tuple(_entries(said or ""))

    def before(self, span: CommitRange, path: str) -> bytes | None:
        """Return what a file was at the older end; None if it was not there.

        Errors: `WrongUseError` if it was there, but this clone does not have its content.
        """
        name = f"{span.older}:./{path}"
        content = self._run(["cat-file", "blob", name])
        if content is None and self._run(["rev-parse", "--verify", "--quiet", name]):
            raise WrongUseError(
                f"{path}: this clone does not have its content at {span.older[:12]}",
                hint="It is a partial clone, and nothing is fetched here: git fetch --refetch --no-filter.",
            )
        return None if content is None else content.encode("utf-8", "surrogateescape")


def _entries(text: str) -> Iterator[str]:
    return (entry for entry in text.split("\0") if entry)


_SECONDS: Final = 120.0
"""Longer than git needs for a big tree on a slow disk."""
_REMOTE_SECONDS: Final = 30.0
_LARGEST_ANSWER: Final = 8 << 20
"""Bytes of a server's list of references that are read: some have a hundred thousand."""
_LARGEST_FILE: Final = 1 << 20
"""Bytes of a file of the git directory that is read here."""

# Settings of a repository that change what counts as a change or how its objects are stored, and no more.
_SETTINGS: Final = frozenset(
    {
        "core.repositoryformatversion",
        "core.filemode",
        "core.symlinks",
        "core.ignorecase",
        "core.precomposeunicode",
        "core.autocrlf",
        "core.eol",
        "core.safecrlf",
        "core.checkstat",
        "core.trustctime",
        "core.sparsecheckout",
        "core.sparsecheckoutcone",
        "extensions.objectformat",
        "extensions.refstorage",
    }
)
_SECTION: Final = re.compile(r"\s*\[\s*([A-Za-z0-9.-]+)\s*(\"(?:[^\"\\]|\\.)*\")?\s*\]\s*(.*)")
_SETTING: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)\s*(?:=\s*\"?([A-Za-z0-9]+)\"?)?\s*(?:[#;].*)?")

# Set here, over the user's own configuration: what would write, ask, fetch, or start something for a mere look.
_OVERRIDES: Final = (
    "core.quotePath=false",
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.pager=cat",
    "core.untrackedCache=false",
    "diff.ignoreSubmodules=dirty",
    "log.showSignature=false",
    "submodule.recurse=false",
    "status.submoduleSummary=false",
    "protocol.allow=never",
    "credential.helper=",
)
_KEPT_VARIABLES: Final = ("GIT_CONFIG_", "GIT_EXEC_PATH")


class Repository(Struct, frozen=True, kw_only=True):
    """Where a repository is: `git` is the work tree's own git directory, `common` the one that linked work trees share."""

    top: Path
    git: Path
    common: Path


def run_git(folder: Path, arguments: Sequence[str]) -> str | None:
    """Run git for the repository around a folder; return its stdout, or None if there is none or git fails.

    Bytes that are no UTF-8 become surrogates. Errors: `NotReadyError` if git does not end.
    """
    repository = find_repository(folder)
    if repository is None:
        return None
    settings = [word for one in _OVERRIDES for word in ("-c", one)]
    with scratch_folder() as place:
        _make_view(repository, place)
        argv = ["git", "-C", str(folder), "--no-pager", "--no-optional-locks", "--literal-pathspecs", *settings]
        try:
            done = subprocess.run(
                [*argv, *arguments],
                env=_environment(repository, place),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=_SECONDS,
                check=False,
            )
        except OSError:
            return None
        except subprocess.TimeoutExpired:
            raise NotReadyError(
                f"git {arguments[0]} did not finish within {_SECONDS:.0f} s",
                where=str(folder),
                hint="Look for a file in its .git folder that is no regular file, or for a hanging file system.",
            ) from None
    return done.stdout if done.returncode == 0 else None


def ask_remote(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str, str]:
    """Run git outside every repository, for a question to a server; return its exit code, stdout and stderr.

    It never prompts, and speaks HTTP, git and SSH only. `variables` may hold secrets, which are on no command line.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10",
        "GIT_CEILING_DIRECTORIES": "/",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd="/",
            env=environ | dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_REMOTE_SECONDS,
            check=False,
        )
    except OSError:
        return 1, "", "there is no git command"
    except subprocess.TimeoutExpired:
        return 1, "", f"no answer within {_REMOTE_SECONDS:.0f} s"
    out, err = done.stdout[:_LARGEST_ANSWER], done.stderr[:4096]
    return done.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def find_repository(folder: Path) -> Repository | None:
    """Return the repository that a folder is in; None if it is in none."""
    folder = Path(os.path.realpath(folder))
    for top in (folder, *folder.parents):
        entry = top / ".git"
        git = entry if entry.is_dir() else _target(entry)
        if git is None:
            continue
        common = _line(git / "commondir")
        shared = Path(os.path.normpath(git / common)) if common else git
        if (git / "HEAD").is_file() and (shared / "objects").is_dir() and (shared / "refs").is_dir():
            return Repository(top=top, git=git, common=shared)
    return None


def _target(entry: Path) -> Path | None:
    """Return the git directory that a `.git` file names (gitrepository-layout(5))."""
    line = _line(entry)
    if not line.startswith("gitdir:"):
        return None
    git = Path(os.path.normpath(entry.parent / line.removeprefix("gitdir:").strip()))
    return git if git.is_dir() else None


def _line(path: Path) -> str:
    return _read(path).partition(b"\n")[0].decode("utf-8", "surrogateescape").strip()


def _read(path: Path) -> bytes:
    """Return the content of a small regular file; nothing if it is missing or anything else. Never waits."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        return file.read() if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_FILE else b""


# ---- the view ---------------------------------------------------------------------------------------------------------


def _make_view(repository: Repository, place: Path) -> None:
    """Fill a git directory: links to data, a copy of HEAD, and a configuration of chainbuild's own."""
    # git takes a HEAD that is a link for a reference by itself.
    (place / "HEAD").write_bytes(_read(repository.git / "HEAD"))
    (place / "config").write_text(view_config(_read(repository.common / "config")), encoding="utf-8")
    (place / "info").mkdir()
    (place / "objects").mkdir()
    links = {name: repository.common / name for name in ("refs", "packed-refs", "reftable", "shallow")}
    links |= {name: repository.git / name for name in ("logs", *_shared_indexes(repository.git))}
    _copy(repository.git / "index", place / "index")
    # The attributes too: they only name drivers, and no driver is defined.
    links |= {f"info/{name}": repository.common / "info" / name for name in ("exclude", "attributes")}
    for name, target in links.items():
        if target.exists():
            (place / name).symlink_to(target)


def _copy(source: Path, target: Path) -> None:
    """Copy a regular file, if it is one. git refreshes the index even for a mere look, and must not do that in place."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with os.fdopen(handle, "rb") as file:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            with target.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)


def _shared_indexes(git: Path) -> Iterator[str]:
    yield from (path.name for path in git.glob("sharedindex.*"))


def view_config(raw: bytes) -> str:
    """Return the configuration for the view: what is on the list above, of a repository's own configuration."""
    lines = ["[core]", "bare = false"]
    for name, value in _settings(raw.decode("utf-8", "replace")).items():
        section, _, key = name.partition(".")
        lines += [f"[{section}]", f"{key} = {value}"]
    return "\n".join(lines) + "\n"


def _settings(text: str) -> Mapping[str, str]:
    """Read the settings on the list (git-config(1), "Syntax"); the last one of a name counts."""
    found: dict[str, str] = {}
    section, continued = "", False
    for line in text.splitlines():
        was_continued, continued = continued, line.endswith("\\")
        if was_continued:
            continue
        match = _SECTION.fullmatch(line)
        if match:
            # A setting with a subsection is none of these.
            section = "" if match[2] else match[1].lower()
            line = match[3]  # noqa: PLW2901 - a setting may follow on the same line
        setting = _SETTING.fullmatch(line)
        if setting and not continued:
            name = f"{section}.{setting[1].lower()}"
            if name in _SETTINGS:
                found[name] = setting[2] or "true"
    return found


def _environment(repository: Repository, place: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_KEPT_VARIABLES)
    }
    return kept | {
        "GIT_DIR": str(place),
        "GIT_WORK_TREE": str(repository.top),
        "GIT_OBJECT_DIRECTORY": str(repository.common / "objects"),
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
