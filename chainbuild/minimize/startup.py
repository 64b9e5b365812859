"""Check whether a container of a root file system can start with the image's configuration; nothing is run.

The rules are those of the runtimes: users as in `GetExecUser` of moby/sys, programs as `exec.LookPath` of Go finds them
with the container's PATH, folder and user, `#!` lines and formats as the kernel accepts them (execve(2)).
"""

# Paths here are strings of an image, which may contain bytes that are not valid text

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from chainbuild.minimize.abi import abi_of
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.root import Node, RootFileSystem, join, parent, shown
from chainbuild.minimize.scripts import interpreters_of
from chainbuild.minimize.users import Users, read_users

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that runtimes set if an image has none."""
_SHELL = ("/bin/sh", "-c")
_MADE = ("/proc", "/sys", "/dev", "/tmp", "/run", "/var/run")  # noqa: S108
_MOST_WORDS = 1000
_MOST_INTERPRETERS = 4
_LINE = 256  # BINPRM_BUF_SIZE of the kernel
_MOST_ID = (1 << 31) - 1
_MACHINES = {
    "amd64": {"amd64", "i386", "x32"},
    "386": {"i386"},
    "arm64": {"arm64", "armhf", "armel"},
    "arm": {"armhf", "armel"},
    "riscv64": {"riscv64"},
    "ppc64le": {"ppc64el"},
    "s390x": {"s390x"},
    "loong64": {"loong64"},
}
"""The machines (names in `abi`) whose programs an image of an architecture (OCI's name) can run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """The parts of an image's configuration that decide whether a container starts."""

    user: str = ""
    path: str = PATH
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = "/"
    shell: tuple[str, ...] = _SHELL
    healthcheck: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    architecture: str = ""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Runtime:
        """Read the `config` of an OCI image configuration, plus its `architecture`; values of other types are empty."""

        def texts(value: Any) -> tuple[str, ...]:
            return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

        def text(key: str) -> str:
            value = document.get(key)
            return value if isinstance(value, str) else ""

        env = dict(item.partition("=")[::2] for item in texts(document.get("Env")))
        check = document.get("Healthcheck")
        volumes = document.get("Volumes")
        return cls(
            user=text("User"),
            path=env.get("PATH", PATH),
            entrypoint=texts(document.get("Entrypoint")),
            cmd=texts(document.get("Cmd")),
            working_dir=join("/", text("WorkingDir").strip("/")),
            shell=texts(document.get("Shell")) or _SHELL,
            healthcheck=texts(check.get("Test")) if isinstance(check, dict) else (),
            volumes=tuple(sorted(str(item) for item in volumes)) if isinstance(volumes, dict) else (),
            architecture=text("architecture"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StartupFault:
    """Why a container cannot start, caused by `field` (an instruction's name).

    `kind` is `user`, `group`, `program`, `interpreter`, `permission`, `machine`, `format` or `folder`. `sought` are the
    paths at which another image may have the missing file, in the order of the lookup.
    """

    field: str
    kind: str
    text: str
    path: str = ""
    sought: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AbsentFile:
    """A path that the configuration names and the image lacks, which may be intended.

    `kind` is `argument` (a path among the arguments), `file` (relative to WORKDIR, if it is a file) or `folder` (a
    working directory or volume that is missing or empty).
    """

    field: str
    kind: str
    path: str


@dataclass(kw_only=True, slots=True)
class Startup:
    """The findings for a configuration; `summary` states what is started and by which user."""

    summary: str = ""
    faults: list[StartupFault] = field(default_factory=list)
    absent: list[AbsentFile] = field(default_factory=list)
    has_apt: bool = False

    def document(self) -> dict[str, Any]:
        """Return the part `configuration` of the report `chainbuild.verify/1`."""
        return {
            "summary": self.summary,
            "faults": [asdict(finding) for finding in self.faults],
            "absent": [asdict(finding) for finding in self.absent],
            "apt": self.has_apt,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Identity:
    uid: int = 0
    gids: frozenset[int] = frozenset({0})
    label: str = "root"


def startup(tree: RootFileSystem, runtime: Runtime) -> Startup:
    """Check the configuration against `tree`."""
    return _Check(tree, runtime).done()


class _Check:
    def __init__(self, tree: RootFileSystem, runtime: Runtime) -> None:
        self.tree, self.runtime = tree, runtime
        self.reader = ElfReader()
        self.result = Startup(has_apt=tree.is_file("/usr/bin/apt-get"))
        self.identity = _Identity()

    def done(self) -> Startup:
        runtime = self.runtime
        self.identity = self._identity(read_users(self.tree))
        words = [("ENTRYPOINT", word) for word in runtime.entrypoint] + [("CMD", word) for word in runtime.cmd]
        self._folders()
        self._command(words)
        match runtime.healthcheck:
            case ("CMD", *rest):
                self._command([("HEALTHCHECK", word) for word in rest])
            case ("CMD-SHELL", *_):
                self._program("HEALTHCHECK", runtime.shell[0])
        started = shown(words[0][1]) if words else "no command is set"
        self.result.summary = f"{started}, as {shown(self.identity.label)}"
        return self.result

    def _fault(self, field_: str, kind: str, text: str, path: str = "", sought: tuple[str, ...] = ()) -> None:
        fault = StartupFault(field=field_, kind=kind, text=f"{field_}: {text}", path=path, sought=sought)
        if fault not in self.result.faults:
            self.result.faults.append(fault)

    # User -----------------------------------------------------------------------------------------------------------

    def _identity(self, users: Users) -> _Identity:
        name, _, group = self.runtime.user.partition(":")
        user = users.users.get(name) or (users.user_of(int(name)) if _is_id(name) else None)
        if name and user is None and not _is_id(name):
            self._fault("USER", "user", f"the image has no user {shown(name)} (/etc/passwd)", "/etc/passwd")
        uid = user.uid if user is not None else int(name) if _is_id(name) else 0
        gids = {user.gid} if user is not None else {0}
        if user is not None:
            gids |= {entry.gid for entry in users.groups.values() if user.name in entry.members}
        if group:
            primary = users.groups.get(group) or (users.group_of(int(group)) if _is_id(group) else None)
            if primary is None and not _is_id(group):
                self._fault("USER", "group", f"the image has no group {shown(group)} (/etc/group)", "/etc/group")
            gids = {primary.gid if primary is not None else int(group) if _is_id(group) else 0}
        return _Identity(uid=uid, gids=frozenset(gids), label=self.runtime.user or "root")

    def _may_execute(self, path: str, node: Node) -> bool:
        """Return whether the user may execute the file and enter every folder above it."""
        above, folders = parent(path), []
        while above != "/":
            folders.append(above)
            above = parent(above)
        nodes = [node, *(entry for entry in map(self.tree.entry, folders) if entry is not None)]
        return all(self._has_bit(entry) for entry in nodes)

    def _has_bit(self, node: Node) -> bool:
        try:
            status = os.lstat(node.host)
            if "system.posix_acl_access" in os.listxattr(node.host, follow_symlinks=False):
                return True  # an access list may allow it
        except OSError:
            return True
        mode = status.st_mode
        if self.identity.uid == 0:
            return stat.S_ISDIR(mode) or bool(mode & 0o111)
        if status.st_uid == self.identity.uid:
            return bool(mode & 0o100)
        return bool(mode & (0o010 if status.st_gid in self.identity.gids else 0o001))

    # Command --------------------------------------------------------------------------------------------------------

    def _command(self, words: list[tuple[str, str]]) -> None:
        if not words:
            return
        self._program(*words[0])
        for field_, word in words[1:_MOST_WORDS]:
            for kind, path in self._paths_in(word):
                if self.tree.resolve(path) is None and not self._is_made(path):
                    absent = AbsentFile(field=field_, kind=kind, path=path)
                    if absent not in self.result.absent:
                        self.result.absent.append(absent)

    def _paths_in(self, word: str) -> Iterator[tuple[str, str]]:
        """Yield the paths that an argument may refer to: itself, the part after its `=`, a file of the working directory."""
        value = word.partition("=")[2] if word.startswith("-") else word
        if "\0" in word or len(word) > 4096 or "\n" in word or not value:
            return
        if value.startswith("/"):
            if value.strip("/"):
                yield "argument", value
        elif not word.startswith("-") and self.runtime.working_dir != "/":
            yield "file", join(self.runtime.working_dir, word)

    def _is_made(self, path: str) -> bool:
        """Return whether a runtime creates it: special file systems, volumes, the working directory."""
        folders = (*_MADE, *self.runtime.volumes)
        return path.rstrip("/") == self.runtime.working_dir or any(
            path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders if folder.strip("/")
        )

    def _program(self, field_: str, word: str, depth: int = 0, of: str = "") -> None:
        """Look up a program as a runtime does; `of` is the script whose interpreter it is, if any."""
        candidates = self._candidates(word)
        needs = f"{shown(of)} needs the interpreter {shown(word)}" if of else shown(word)
        problem = ""
        for path in candidates:
            real = self.tree.resolve(path)
            node = None if real is None else self.tree.entry(real)
            if real is None or node is None:
                continue
            if node.kind != "file":
                problem = problem or f"{needs}: {shown(path)} is not a file"
            elif not self._may_execute(real, node):
                problem = problem or f"{needs}: {shown(path)} is not executable for {shown(self.identity.label)}"
            else:
                self._content(field_, path, node, depth)
                return
        if problem:
            self._fault(field_, "permission", problem, candidates[0])
        else:
            kind = "interpreter" if of else "program"
            self._fault(
                field_,
                kind,
                f"{needs} is not in the image" if not of else needs + ", which is not in the image",
                of,
                tuple(candidates),
            )

    def _candidates(self, word: str) -> list[str]:
        if not word or "\0" in word:
            return []
        if word.startswith("/"):
            return [word]
        if "/" in word:
            return [join(self.runtime.working_dir, word)]
        folders = dict.fromkeys(path for path in self.runtime.path.split(":") if path.startswith("/"))
        return [join(folder.rstrip("/") or "/", word) for folder in list(folders)[:_MOST_WORDS]]

    def _content(self, field_: str, path: str, node: Node, depth: int) -> None:
        """Check whether the kernel can start an existing executable file."""
        start = self.tree.read(path, _LINE) or b""
        if start.startswith(b"#!"):
            names = interpreters_of(start)
            if not names:
                self._fault(field_, "format", f"{shown(path)} begins with #! but names no interpreter", path)
            elif depth >= _MOST_INTERPRETERS:
                self._fault(field_, "format", f"{shown(path)}: too many levels of script interpreters", path)
            else:
                for name in names:
                    self._program(field_, name, depth + 1, path)
            return
        elf = self.reader.read_node(node)
        if elf is None:
            text = f"{shown(path)} is neither a program nor a script that begins with #!"
            self._fault(field_, "format", text, path)
        elif not isinstance(elf, Elf):
            self._fault(field_, "format", f"{shown(path)} is damaged: {elf.message}", path)
        else:
            self._elf(field_, path, elf)

    def _elf(self, field_: str, path: str, elf: Elf) -> None:
        architecture = self.runtime.architecture
        machine = abi_of(elf).name
        able = _MACHINES.get(architecture)
        if able is not None and machine not in able:
            text = f"{shown(path)} is a program for {shown(machine)}, but the image is for {shown(architecture)}"
            self._fault(field_, "machine", text, path)
        elif elf.interpreter is not None and elf.executable and not self.tree.is_file(elf.interpreter):
            text = f"{shown(path)} needs the interpreter {shown(elf.interpreter)}, which is not in the image"
            self._fault(field_, "interpreter", text, path, (elf.interpreter,))

    # Folders --------------------------------------------------------------------------------------------------------

    def _folders(self) -> None:
        folders = [("WORKDIR", self.runtime.working_dir)] + [("VOLUME", path) for path in self.runtime.volumes]
        for field_, path in folders[:_MOST_WORDS]:
            if not path.startswith("/") or not path.strip("/"):
                continue
            node = self.tree.stat(path)
            if node is not None and node.kind != "dir":
                self._fault(field_, "folder", f"{shown(path)} is not a folder", path)
            elif node is None or not self.tree.names(self.tree.resolve(path) or path):
                self.result.absent.append(AbsentFile(field=field_, kind="folder", path=path))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MOST_ID
