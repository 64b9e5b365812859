"""The only place that runs git: on a view of a repository in which the repository cannot name programs, or outside of any.

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotReadyError
from chainbuild.scratch import scratch_folder

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
        "core.repositoryformatversion", "core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode",
        "core.autocrlf", "core.eol", "core.safecrlf", "core.checkstat", "core.trustctime", "core.sparsecheckout",
        "core.sparsecheckoutcone", "extensions.objectformat", "extensions.refstorage",
    }
)  # fmt: skip
_SECTION: Final = re.compile(r"\s*\[\s*([A-Za-z0-9.-]+)\s*(\"(?:[^\"\\]|\\.)*\")?\s*\]\s*(.*)")
_SETTING: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)\s*(?:=\s*\"?([A-Za-z0-9]+)\"?)?\s*(?:[#;].*)?")

# Set here, over the user's own configuration: what would write, ask, fetch, or start something for a mere look.
_OVERRIDES: Final = (
    "core.quotePath=false", "core.fsmonitor=false", f"core.hooksPath={os.devnull}", "core.pager=cat",
    "core.untrackedCache=false", "diff.ignoreSubmodules=dirty", "log.showSignature=false",
    "submodule.recurse=false", "status.submoduleSummary=false", "protocol.allow=never", "credential.helper=",
)  # fmt: skip
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
            ["git", *arguments], cwd="/", env=environ | dict(variables), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_REMOTE_SECONDS, check=False,
        )  # fmt: skip
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
