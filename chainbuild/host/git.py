"""Run git on an untrusted tree: its state, changed files and earlier contents. Nothing is written.

Every query is one call of git. A folder that is no git tree, or a machine without git, gives an empty result; a revision
that cannot be found is an error.

A repository's configuration may name programs that git runs even for read-only commands: file system monitors, hooks,
external diffs, text converters, clean and process filters, signature checkers, transports, pagers, commands inside of
submodules. Trees are untrusted, so git never sees that configuration. It gets a git directory created by chainbuild, which
points to the objects, references and index of the repository, with a configuration of the few settings that decide whether
a file has changed. Other settings, including those of later versions of git, are not passed on.

The user's own configuration (`~/.gitconfig`) is trusted and applies. Nothing is ever written into the repository, and
nothing is fetched. This is the only module that runs git.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.host.folders import scratch_folder
from chainbuild.patterns import regex

EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The empty tree, which exists in every repository; a first commit is compared with it."""

Runner = Callable[[Sequence[str]], str | None]
"""Run git with these arguments; return its stdout, or None if it failed."""


class Head(Struct, frozen=True, kw_only=True):
    """The current commit of a tree: its short hash, and the number of commits up to it."""

    short: str
    count: int


class CommitRange(Struct, frozen=True, kw_only=True):
    """The two ends of a comparison, commits or trees; `newer` is None for the working tree."""

    older: str
    newer: str | None
    said: str = ""

    @property
    def open(self) -> bool:
        """Return whether it includes uncommitted edits."""
        return self.newer is None


class Git:
    """The git tree that contains a folder. Paths are relative to the folder."""

    def __init__(self, root: Path, run: Runner | None = None) -> None:
        self._run = run or (lambda arguments: run_git(root, arguments))

    def head(self) -> Head | None:
        """Return the current commit; None if this is no git tree or has no commit yet."""
        output = self._run(["log", "-1", "--format=%h"])
        count = self._run(["rev-list", "--count", "HEAD"]) if output else None
        if not output or not count:
            return None
        return Head(short=output.strip(), count=int(count))

    def dirty(self, paths: Sequence[str]) -> bool:
        """Return whether anything below these paths differs from the commit, including untracked files."""
        return bool(self._run(["status", "--porcelain", "--", *paths]))

    def span(self, text: str) -> CommitRange:
        """Return what `REV`, `A..B` or `A...B` means. A single revision is compared with the working tree.

        `HEAD^` of a first commit is the empty tree. Errors: `WrongUseError`.
        """
        if "..." in text:
            older, newer = (part or "HEAD" for part in text.split("...", 1))
            base = self._run(["merge-base", self.commit(older, text), self.commit(newer, text)])
            if not base:
                raise WrongUseError(f"{text!r}: the two revisions have no common commit", hint="Use two dots.")
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
        commit_hash = (
            None if text.startswith("-") else self._run(["rev-parse", "--verify", "--quiet", f"{text}^{{commit}}"])
        )
        if commit_hash:
            return commit_hash.strip()
        shallow = (self._run(["rev-parse", "--is-shallow-repository"]) or "").strip() == "true"
        for end in ("^", "~", "~1", "^1"):
            child = text.removesuffix(end)
            if child == text:
                continue
            child_hash = self._run(["rev-parse", "--verify", "--quiet", f"{child}^{{commit}}"])
            if child_hash and not shallow and self._before(child_hash.strip()) is None:
                return EMPTY_TREE
        prefix = f"{whole!r}: " if whole != text else ""
        hint = "This is a shallow clone; get older commits with: git fetch --unshallow." if shallow else "See git log."
        raise WrongUseError(f"{prefix}git finds no revision {text!r} here", hint=hint)

    def _before(self, commit: str) -> str | None:
        """Return the first parent; None for a first commit (or the last one that a shallow clone has)."""
        parent = self._run(["rev-parse", "--verify", "--quiet", f"{commit}^1"])
        return parent.strip() if parent else None

    def changed(self, span: CommitRange, paths: Sequence[str]) -> tuple[str, ...]:
        """Return the files below these paths that differ, including deleted ones."""
        ends = [span.older, *([span.newer] if span.newer else [])]
        how = ("--name-only", "--no-ext-diff", "--no-textconv", "--no-renames", "--relative", "-z")
        output = self._run(["diff", *how, *ends, "--", *paths])
        if output is None:
            raise WrongUseError(f"git cannot compare {span.said or span.older}", hint="Try it by hand with git diff.")
        return tuple(_entries(output))

    def untracked(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return the untracked files below these paths that are not ignored."""
        output = self._run(["ls-files", "--others", "--exclude-standard", "-z", "--", *paths])
        return tuple(_entries(output or ""))

    def before(self, span: CommitRange, path: str) -> bytes | None:
        """Return a file's content at the older end; None if it did not exist.

        Errors: `WrongUseError` if it existed, but this clone lacks its content.
        """
        name = f"{span.older}:./{path}"
        content = self._run(["cat-file", "blob", name])
        if content is None and self._run(["rev-parse", "--verify", "--quiet", name]):
            raise WrongUseError(
                f"{path}: this clone lacks its content at {span.older[:12]}",
                hint="This is a partial clone. Get the content with: git fetch --refetch --no-filter.",
            )
        return None if content is None else content.encode("utf-8", "surrogateescape")


def _entries(text: str) -> Iterator[str]:
    return (entry for entry in text.split("\0") if entry)


_SECONDS: Final = 120.0
"""The timeout in seconds: more than git needs for a big tree on a slow disk."""
_REMOTE_SECONDS: Final = 30.0
_LARGEST_ANSWER: Final = 8 << 20
"""The limit in bytes for a server's list of references, which may have a hundred thousand entries."""
_LARGEST_FILE: Final = 1 << 20
"""The limit in bytes for a file of the git directory."""

# Only those settings of a repository that define changes or the storage of objects.
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
_SECTION: Final = regex(r"\s*\[\s*([A-Za-z0-9.-]+)\s*(\"(?:[^\"\\]|\\.)*\")?\s*\]\s*(.*)")
_SETTING: Final = regex(r"\s*([A-Za-z][A-Za-z0-9-]*)\s*(?:=\s*\"?([A-Za-z0-9]+)\"?)?\s*(?:[#;].*)?")

# These override the user's configuration: anything that would write, prompt, fetch, or start a program.
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

    Bytes that are no UTF-8 become surrogates. Errors: `NotReadyError` if git does not finish.
    """
    repository = find_repository(folder)
    if repository is None:
        return None
    settings = [word for setting in _OVERRIDES for word in ("-c", setting)]
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
                hint="Check the .git folder for special files, and the file system for hangs.",
            ) from None
    return done.stdout if done.returncode == 0 else None


def ask_remote(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str, str]:
    """Run git outside of any repository to query a server; return its exit code, stdout and stderr.

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
        return 1, "", "no git command found"
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
    return read_small(path).partition(b"\n")[0].decode("utf-8", "surrogateescape").strip()


def read_small(path: Path) -> bytes:
    """Return the content of a small regular file; empty if it is missing or not a regular file. Never blocks."""
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
    # git interprets a HEAD that is a link as a symbolic reference.
    (place / "HEAD").write_bytes(read_small(repository.git / "HEAD"))
    (place / "config").write_text(view_config(read_small(repository.common / "config")), encoding="utf-8")
    (place / "info").mkdir()
    (place / "objects").mkdir()
    links = {name: repository.common / name for name in ("refs", "packed-refs", "reftable", "shallow")}
    links |= {name: repository.git / name for name in ("logs", *_shared_indexes(repository.git))}
    _copy(repository.git / "index", place / "index")
    # Attributes are safe: they only name drivers, and no driver is defined.
    links |= {f"info/{name}": repository.common / "info" / name for name in ("exclude", "attributes")}
    for name, target in links.items():
        if target.exists():
            (place / name).symlink_to(target)


def _copy(source: Path, target: Path) -> None:
    """Copy a regular file, if it is one. git refreshes the index even for read-only commands, and must not do that in place."""
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
    """Return the view's configuration: the allowed settings of the repository's configuration."""
    lines = ["[core]", "bare = false"]
    for name, value in _settings(raw.decode("utf-8", "replace")).items():
        section, _, key = name.partition(".")
        lines += [f"[{section}]", f"{key} = {value}"]
    return "\n".join(lines) + "\n"


def _settings(text: str) -> Mapping[str, str]:
    """Read the settings on the list (git-config(1), "Syntax"); the last value of a name applies."""
    settings: dict[str, str] = {}
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
                settings[name] = setting[2] or "true"
    return settings


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
